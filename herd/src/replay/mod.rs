//! `herd replay`: events that really happened, from a file, to a collector.

mod columns;
mod delimiter;
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

use crate::load::{self, Pace, Parcel, Tally, Target};
use crate::output::{self, Outcome};
use crate::shoppers::Kind;

pub use columns::{Field, Lack, Mapping};
pub use row::Row;
pub use rows::{Rows, RowsError, Survey};

/// Sends the events of a file: CSV with a header, or NDJSON; either may be gzipped.
///
/// Columns are separated by commas, tabs, semicolons or `|`. They are known by their usual names, however these are written
/// (`User_ID`, `userId`, `user id`). Where it is not clear which column is the time, the type or the item, nothing is sent.
///
/// Event ids come from the file's lines, so that a replay that is repeated is recognised and changes nothing.
#[derive(Args, Debug)]
pub struct Replay {
    /// The file: .csv, .tsv, .ndjson or .jsonl, with .gz if it is gzipped
    pub file: PathBuf,
    /// The collector, e.g. http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Which column is what: item=product,user=customer,type=event,time=ts_ms,id=order; `item=` says that there is none.
    /// Others become properties
    #[arg(long, value_name = "FIELD=COLUMN,…", default_value = "")]
    pub map: Mapping,
    /// The type of events that have none, e.g. of a file without a column for it
    #[arg(long, value_name = "TYPE")]
    pub event_type: Option<String>,
    /// How much faster than it happened: 1x, 1000x…, or max: as fast as the collector takes it
    #[arg(long, default_value = "max")]
    pub speed: Speed,
    /// Shifts all times so that the first or the last event is now
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, default_missing_value = "last")]
    pub rebase: Option<Rebase>,
    /// Only the first N events
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Requests on their way at once, at most. With more than 1 events may overtake one another
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Events of a request, at most
    #[arg(long, default_value_t = 500)]
    pub batch: usize,
    /// How often a request that may yet succeed is tried
    #[arg(long, default_value_t = 10)]
    pub attempts: u32,
    /// A write key of the pipeline
    #[arg(long, env = "HERD_WRITE_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// The report as JSON, and no progress bar
    #[arg(long)]
    pub json: bool,
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as it happened.
    Times(f64),
    /// As fast as the collector takes it.
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
            _ => Err("write how many times as fast as it happened, e.g. `1x` or `1000x`, or `max`".into()),
        }
    }
}

/// Where the file's times are moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Rebase {
    /// The first event happens now, the others after it. At a speed above 1x their times would outrun the clock, which a
    /// collector refuses: they are pressed together by the speed.
    First,
    /// The last event happened just now, the others before it.
    #[value(alias = "now")]
    Last,
}

/// The new time of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shift {
    Keep,
    /// Add so many milliseconds.
    By(i64),
    /// `to` + (time − `from`) / `speed`.
    Press {
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
            Self::Press { from, to, speed } => {
                EventTime(to + ((time.0.saturating_sub(from)) as f64 / speed) as i64)
            }
        }
    }
}

impl Replay {
    /// Runs it.
    ///
    /// # Errors
    /// If the file cannot be read, or the collector is not there or refuses everything.
    pub async fn run(self, stop: CancellationToken) -> Outcome {
        let target = Arc::new(Target::new(&self.to, self.key.clone(), self.connections)?);
        let rows = Rows::open(&self.file, &self.map)?;
        target.check().await?;
        let limit = self.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let now = SystemClock.now().0;
        // How far it goes must be known before: for the bar, and to say when the last event is.
        let survey = Rows::survey(&self.file, &self.map, limit, self.event_type.is_some())?;
        if !survey.hidden.is_empty() {
            let names: Vec<&str> = survey.hidden.iter().map(String::as_str).collect();
            output::note(&format!("not sent, for --map says otherwise: {}", names.join(", ")));
        }
        let shift = match (self.rebase, survey.times, self.speed) {
            (Some(Rebase::Last), Some((_, last)), _) => Shift::By(now - last.0),
            (Some(Rebase::First), Some((first, _)), Speed::Times(speed)) if speed > 1.0 => {
                Shift::Press { from: first.0, to: now, speed }
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
                // Files are not always in order: what comes too late goes at once.
                due = due.max(time.since(first).div_f64(times));
            }
            let body = row.body(fallback.as_deref(), |time| shift.apply(time));
            Ok(Parcel { at: due, body, kind: Kind::Fresh })
        });
        let pace = Pace {
            connections: self.connections,
            batch: self.batch,
            timed: self.speed != Speed::Max,
            attempts: self.attempts,
        };
        let bar = load::progress(Some(survey.rows), self.json);
        let report = load::run(source, target, pace, Arc::new(Tally::default()), None, bar, stop).await?;
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
    fn speeds_read_as_people_write_them(#[case] written: &str, #[case] speed: Option<Speed>) {
        assert_eq!(written.parse().ok(), speed);
    }

    #[rstest]
    #[case(Shift::Keep, 2_000)]
    #[case(Shift::By(-500), 1_500)]
    #[case(Shift::Press { from: 1_000, to: 50_000, speed: 10.0 }, 50_100)]
    fn times_move_together(#[case] shift: Shift, #[case] expected: i64) {
        assert_eq!(shift.apply(EventTime(2_000)), EventTime(expected));
    }
}
