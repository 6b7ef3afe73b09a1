//! `herd generate`: shoppers against any collector.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use herd_spec::pipeline::Span;
use herd_spec::units::EventTime;
use herd_stage::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::load::{self, Pace, Parcel, Recorder, Tally, Target};
use crate::output::{self, Outcome};
use crate::shoppers::{Crowds, Faults, Planned, Profile, ProfileKind, Settings, Shape, Shoppers};

/// Drives a collector with generated shoppers: they look, put into the basket and buy, mostly the popular items.
///
/// Events are sent when they are due, whether or not earlier ones are answered, and latencies count from then. What a
/// collector refuses for now (503, 429) is sent again with the same event id.
#[derive(Args, Debug)]
pub struct Generate {
    /// The collector, e.g. http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Events a second, on average
    #[arg(long, default_value_t = 100.0, value_parser = positive)]
    pub rate: f64,
    /// How long, e.g. 30s or 10m; without it and without --events until Ctrl-C
    #[arg(long = "for", value_name = "TIME")]
    pub duration: Option<Span>,
    /// How many events
    #[arg(long, value_name = "N")]
    pub events: Option<u64>,
    /// The course of the load
    #[arg(long, value_enum, default_value_t)]
    pub profile: ProfileKind,
    /// Length of a day (diurnal) or of all steps
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub period: Span,
    /// Flash: when the first crowd comes
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub crowd_at: Span,
    /// Flash: from one crowd to the next
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub crowd_every: Span,
    /// Flash: how long a crowd stays
    #[arg(long, value_name = "TIME", default_value = "12s")]
    pub crowd_length: Span,
    /// Flash: events a second of a crowd, on top of the others [default: half the rate, at least 40]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub crowd_rate: Option<f64>,
    /// What events look like
    #[arg(long, value_enum, default_value_t)]
    pub shape: Shape,
    /// The same seed gives the same shoppers
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// People
    #[arg(long, default_value_t = 5_000)]
    pub users: u64,
    /// Items
    #[arg(long, default_value_t = 500)]
    pub items: u64,
    /// How much more popular the popular items are (Zipf's exponent)
    #[arg(long, default_value_t = 1.0)]
    pub skew: f64,
    /// Requests on their way at once, at most
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Events of a request, at most
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// How often a request that may yet succeed is tried
    #[arg(long, default_value_t = 10)]
    pub attempts: u32,
    /// A write key of the pipeline
    #[arg(long, env = "HERD_WRITE_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Percent of events that are sent twice
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub duplicates: f64,
    /// Percent of events that are invalid
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub invalid: f64,
    /// Half of the events happened up to this long before they are sent
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub disorder: Span,
    /// Writes every event that was sent to this file, a line of JSON each: kind, outcome, and the bytes
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// The report as JSON, and no progress bar
    #[arg(long)]
    pub json: bool,
}

/// Reads a number above 0.
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

/// Events a second of a crowd where nothing else is asked for.
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
    /// If the collector is not there or refuses everything, or the record cannot be written.
    pub async fn run(self, stop: CancellationToken) -> Outcome {
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
            .map(|Planned { at, body, kind, .. }| Ok(Parcel { at, body, kind }));
        let pace =
            Pace { connections: self.connections, batch: self.batch, timed: true, attempts: self.attempts };
        let bar = load::progress(expected, self.json);
        let report =
            load::run(source, target, pace, Arc::new(Tally::default()), recorder.clone(), bar, stop).await?;
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
