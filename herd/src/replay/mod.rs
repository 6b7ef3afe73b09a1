//! `herd replay`: sends recorded events from a file to a collector.

mod columns;
mod delimiter;
mod events;
mod object;
mod row;
mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use herd_spec::units::EventTime;
use herd_stage::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::load::{self, Counters, Pace, ScheduledEvent, Target};
use crate::output::{self, CommandResult};
use crate::shoppers::Kind;

pub use columns::{Field, Mapping, MissingColumns};
pub use events::{EventReader, PlainEvent, RecordedEvent};
pub use row::Row;
pub use rows::{FileSummary, Rows, RowsError};

/// Sends the events of a file to a collector: CSV with a header, or NDJSON; either may be gzipped.
///
/// CSV columns are separated by commas, tabs, semicolons or `|`. Columns are recognised by common names, regardless of case and
/// separators (`User_ID`, `userId`, `user id`). If the column of the time, the type or the item is not recognised, nothing is sent.
///
/// Event ids are derived from the lines of the file, so that events of a repeated replay are deduplicated.
#[derive(Args, Debug)]
pub struct Replay {
    /// File: .csv, .tsv, .ndjson or .jsonl, with .gz if it is gzipped
    pub file: PathBuf,
    /// URL of the collector, e.g. http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Mapping of event fields to columns: item=product,user=customer,type=event,time=ts_ms,id=order. `item=` means that the
    /// file has no such column. Other columns become properties
    #[arg(long, value_name = "FIELD=COLUMN,…", default_value = "")]
    pub map: Mapping,
    /// Type of events without one, e.g. if the file has no column for the type
    #[arg(long, value_name = "TYPE")]
    pub event_type: Option<String>,
    /// Replay speed: 1x, 1000x, …, or max (as fast as the collector accepts)
    #[arg(long, default_value = "max")]
    pub speed: Speed,
    /// Shifts all event times so that the first or the last event is now
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, default_missing_value = "last")]
    pub rebase: Option<Rebase>,
    /// Maximum number of events
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Maximum number of concurrent requests. With more than 1, events may be reordered
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Maximum number of events per request
    #[arg(long, default_value_t = 500)]
    pub batch: usize,
    /// Maximum number of attempts per request
    #[arg(long, default_value_t = 10)]
    pub attempts: u32,
    /// Write key of the pipeline
    #[arg(long, env = "HERD_WRITE_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Prints the report as JSON, without a progress bar
    #[arg(long)]
    pub json: bool,
}

/// Replay speed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// A multiple of real time.
    Times(f64),
    /// As fast as the collector accepts.
    Max,
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        if written == "max" {
            return Ok(Self::Max);
        }
        match written.trim_end_matches('x').parse::<f64>() {
            Ok(times) if times > 0.0 && times.is_finite() => Ok(Self::Times(times)),
            _ => Err("write a multiple of real time, e.g. `1x` or `1000x`, or `max`".into()),
        }
    }
}

/// Reference event of a time shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Rebase {
    /// The first event gets the current time. At a speed above 1x, intervals are divided by the speed, because collectors
    /// refuse events in the future.
    First,
    /// The last event gets the current time; the others lie before it.
    #[value(alias = "now")]
    Last,
}

/// Shift of event times.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shift {
    Keep,
    /// Adds this many milliseconds.
    By(i64),
    /// `to` + (time − `from`) / `speed`.
    Compress {
        from: i64,
        to: i64,
        speed: f64,
    },
}

impl Shift {
    fn apply(self, time: EventTime) -> EventTime {
        match self {
            Self::Keep => time,
            Self::By(ms) => EventTime(time.0.saturating_add(ms)),
            Self::Compress { from, to, speed } => {
                EventTime(to + ((time.0.saturating_sub(from)) as f64 / speed) as i64)
            }
        }
    }
}

impl Replay {
    /// Runs it.
    ///
    /// # Errors
    /// If the file is not readable, or the collector is unreachable or refuses all requests.
    pub async fn run(self, stop: CancellationToken) -> CommandResult {
        let target = Arc::new(Target::new(&self.to, self.key.clone(), self.connections)?);
        let rows = Rows::open(&self.file, &self.map)?;
        target.check().await?;
        let limit = self.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let now = SystemClock.now().0;
        // The number of rows and the time range are needed before sending: for the progress bar and for `--rebase`.
        let survey = Rows::survey(&self.file, &self.map, limit, self.event_type.is_some())?;
        if !survey.hidden.is_empty() {
            let names: Vec<&str> = survey.hidden.iter().map(String::as_str).collect();
            output::note(&format!(
                "columns not sent, because --map maps another column to the same field: {}",
                names.join(", ")
            ));
        }
        let shift = match (self.rebase, survey.times, self.speed) {
            (Some(Rebase::Last), Some((_, last)), _) => Shift::By(now - last.0),
            (Some(Rebase::First), Some((first, _)), Speed::Times(speed)) if speed > 1.0 => {
                Shift::Compress { from: first.0, to: now, speed }
            }
            (Some(Rebase::First), Some((first, _)), _) => Shift::By(now - first.0),
            _ => Shift::Keep,
        };
        let (speed, fallback) = (self.speed, self.event_type.clone());
        let first = survey.times.map(|(first, _)| first);
        let mut due = Duration::ZERO;
        let source = rows.take(limit).map(move |row| {
            let row = row.map_err(|error| error.to_string())?;
            if let (Speed::Times(times), Some(time), Some(first)) = (speed, row.time, first) {
                // Files are not always ordered by time: an earlier event is sent immediately.
                due = due.max(time.since(first).div_f64(times));
            }
            let body = row.body(fallback.as_deref(), |time| shift.apply(time));
            Ok(ScheduledEvent { at: due, body, kind: Kind::Fresh })
        });
        let pace = Pace {
            connections: self.connections,
            batch: self.batch,
            timed: self.speed != Speed::Max,
            attempts: self.attempts,
        };
        let bar = load::progress(Some(survey.rows), self.json);
        let report = load::run(source, target, pace, Arc::new(Counters::default()), None, bar, stop).await?;
        if self.json {
            output::json(&report)?
        } else {
            output::line(&report)?
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("max", Some(Speed::Max))]
    #[case("1000x", Some(Speed::Times(1000.0)))]
    #[case("0.5", Some(Speed::Times(0.5)))]
    #[case("0x", None)]
    #[case("fast", None)]
    fn parses_speeds(#[case] written: &str, #[case] speed: Option<Speed>) {
        assert_eq!(written.parse().ok(), speed);
    }

    #[rstest]
    #[case(Shift::Keep, 2_000)]
    #[case(Shift::By(-500), 1_500)]
    #[case(Shift::Compress { from: 1_000, to: 50_000, speed: 10.0 }, 50_100)]
    fn shifts_event_times(#[case] shift: Shift, #[case] expected: i64) {
        assert_eq!(shift.apply(EventTime(2_000)), EventTime(expected));
    }
}
