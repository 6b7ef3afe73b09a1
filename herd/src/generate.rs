//! `herd generate`: sends generated events to a collector.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use herd_spec::pipeline::Span;
use herd_spec::units::EventTime;
use herd_stage::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::load::{self, Counters, Pace, Recorder, ScheduledEvent, Target};
use crate::output::{self, CommandResult};
use crate::shoppers::{Crowds, Faults, GeneratedEvent, Profile, ProfileKind, Settings, Shape, Shoppers};

/// Sends events of generated shoppers to a collector: they view, add to cart and buy, mostly popular items.
///
/// The load is open loop: events are sent at their scheduled times whether or not earlier requests have been answered, and
/// latencies are measured from the scheduled time. Requests refused temporarily (503, 429) are retried with the same event ids.
#[derive(Args, Debug)]
pub struct Generate {
    /// URL of the collector, e.g. http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Mean rate in events per second
    #[arg(long, default_value_t = 100.0, value_parser = positive)]
    pub rate: f64,
    /// Duration, e.g. 30s or 10m [default: until Ctrl-C or --events]
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<Span>,
    /// Number of events
    #[arg(long, value_name = "N")]
    pub events: Option<u64>,
    /// Shape of the load over time
    #[arg(long, value_enum, default_value_t)]
    pub profile: ProfileKind,
    /// Length of a day (diurnal) or of all steps (steps)
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    pub period: Span,
    /// Profile flash: start of the first crowd
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub crowd_at: Span,
    /// Profile flash: time from one crowd to the next
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub crowd_every: Span,
    /// Profile flash: length of a crowd
    #[arg(long, value_name = "DURATION", default_value = "12s")]
    pub crowd_length: Span,
    /// Profile flash: additional events per second during a crowd [default: the rate, at least 150]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub crowd_rate: Option<f64>,
    /// Format of the events
    #[arg(long, visible_alias = "kind", value_enum, default_value_t)]
    pub shape: Shape,
    /// Seed of the random numbers; the same seed gives the same shoppers
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Number of users
    #[arg(long, default_value_t = 5_000)]
    pub users: u64,
    /// Number of items
    #[arg(long, default_value_t = 500)]
    pub items: u64,
    /// Exponent of the Zipf distribution of item popularity
    #[arg(long, default_value_t = 1.0)]
    pub skew: f64,
    /// Maximum number of concurrent requests
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Maximum number of events per request
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Maximum number of attempts per request
    #[arg(long, default_value_t = 10)]
    pub attempts: u32,
    /// Write key of the pipeline
    #[arg(long, env = "HERD_WRITE_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Percentage of events that are sent twice
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub duplicates: f64,
    /// Percentage of events that are invalid
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub invalid: f64,
    /// Out-of-order events: half of the events have a time up to this long before they are sent
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub disorder: Span,
    /// Records every sent event in this file, as one JSON line: kind, outcome and bytes
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Prints the report as JSON, without a progress bar
    #[arg(long)]
    pub json: bool,
}

/// Parses a number above 0.
pub fn positive(written: &str) -> Result<f64, String> {
    match written.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("write a number above 0".into()),
    }
}

fn percent(written: &str) -> Result<f64, String> {
    match written.trim_end_matches('%').parse::<f64>() {
        Ok(number) if (0.0..=50.0).contains(&number) => Ok(number),
        _ => Err("write a number from 0 to 50".into()),
    }
}

/// Default of `--crowd-rate`.
#[must_use]
pub fn crowd_rate(rate: f64) -> f64 {
    rate.max(150.0)
}

impl Generate {
    fn settings(&self, start: EventTime) -> Settings {
        let crowds = Crowds {
            first: self.crowd_at.0,
            every: self.crowd_every.0,
            length: self.crowd_length.0,
            rate: self.crowd_rate.unwrap_or_else(|| crowd_rate(self.rate)),
        };
        let profile = Profile { kind: self.profile, rate: self.rate, period: self.period.0, crowds };
        let faults = Faults {
            duplicates: self.duplicates / 100.0,
            invalid: self.invalid / 100.0,
            disorder: self.disorder.0,
        };
        let (seed, users, items, skew, shape) = (self.seed, self.users, self.items, self.skew, self.shape);
        Settings { seed, start, users, items, skew, profile, shape, faults }
    }

    /// Runs it.
    ///
    /// # Errors
    /// If the collector is unreachable or refuses all requests, or the record file is not writable.
    pub async fn run(self, stop: CancellationToken) -> CommandResult {
        let target = Arc::new(Target::new(&self.to, self.key.clone(), self.connections)?);
        let recorder = self.record.as_deref().map(Recorder::create).transpose()?.map(Arc::new);
        target.check().await?;
        let end = self.duration.map_or(Duration::MAX, |span| span.0);
        let limit = self.events.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let expected =
            self.events.or_else(|| self.duration.map(|span| (span.0.as_secs_f64() * self.rate) as u64));
        let source = Shoppers::new(self.settings(EventTime(SystemClock.now().0)))
            .take_while(move |planned| planned.at < end)
            .take(limit)
            .map(|GeneratedEvent { at, body, kind, .. }| Ok(ScheduledEvent { at, body, kind }));
        let pace =
            Pace { connections: self.connections, batch: self.batch, timed: true, attempts: self.attempts };
        let bar = load::progress(expected, self.json);
        let report =
            load::run(source, target, pace, Arc::new(Counters::default()), recorder.clone(), bar, stop)
                .await?;
        if let Some(recorder) = recorder {
            recorder.finish()?;
        }
        if self.json {
            output::json(&report)?
        } else {
            output::line(&report)?
        }
        Ok(())
    }
}
