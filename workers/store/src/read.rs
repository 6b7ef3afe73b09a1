//! What the reading half answers: the shapes that the api stage serves as they are.

use std::fmt;
use std::str::FromStr;

use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{Alert, AlertState, Severity};
use serde::Serialize;

/// The most rows any read returns, however many were asked for.
pub const MAX_ROWS: u32 = 10_000;

/// Which alerts. The default asks for the newest 100 of all; withdrawn ones are never given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertFilter {
    /// One of these states; empty: any.
    pub states: Vec<AlertState>,
    /// Of this detector.
    pub detector: Option<String>,
    /// Of this metric.
    pub metric: Option<String>,
    /// Of this key.
    pub key: Option<String>,
    /// Of exactly this severity.
    pub severity: Option<Severity>,
    /// Whose window starts at or after this time.
    pub from: Option<EventTime>,
    /// Whose window starts before this time.
    pub to: Option<EventTime>,
    /// At most so many; capped at [`MAX_ROWS`].
    pub limit: u32,
    /// Where the page before ended: its [`AlertPage::next_cursor`].
    pub cursor: Option<String>,
}

impl Default for AlertFilter {
    fn default() -> Self {
        Self {
            states: Vec::new(),
            detector: None,
            metric: None,
            key: None,
            severity: None,
            from: None,
            to: None,
            limit: 100,
            cursor: None,
        }
    }
}

/// An alert as it stands in the store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredAlert {
    /// Its newest state.
    #[serde(flatten)]
    pub alert: Alert,
    /// When it was first raised, by the clock of the detector.
    pub raised: WallTime,
}

/// One page of alerts, newest window first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AlertPage {
    /// The alerts.
    pub alerts: Vec<StoredAlert>,
    /// Give it as [`AlertFilter::cursor`] for the next page; none: this is the last.
    pub next_cursor: Option<String>,
}

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UserStats {
    /// The user.
    pub user_id: String,
    /// Events.
    pub events: i64,
    /// Events of type `purchase` or `order`.
    pub purchases: i64,
    /// What was spent: exact to a millionth in the store.
    pub revenue: f64,
    /// Runs of events without a gap of more than 30 minutes.
    pub sessions: i64,
    /// Time of the earliest event.
    pub first_seen: EventTime,
    /// Time of the latest event.
    pub last_seen: EventTime,
}

/// What users are ranked by, highest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserOrder {
    /// What they spent.
    #[default]
    Revenue,
    /// How much they did.
    Events,
    /// How lately they were here.
    LastSeen,
}

impl UserOrder {
    /// As it is written; also the column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revenue => "revenue",
            Self::Events => "events",
            Self::LastSeen => "last_seen",
        }
    }
}

impl fmt::Display for UserOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for UserOrder {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        [Self::Revenue, Self::Events, Self::LastSeen]
            .into_iter()
            .find(|order| order.as_str() == written)
            .ok_or_else(|| {
                format!("`{written}` is no order of users: write `revenue`, `events` or `last_seen`")
            })
    }
}

/// How much is stored. Cheap to ask: kept by the writers, not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Events.
    pub events: i64,
    /// Closed windows.
    pub windows: i64,
    /// Alerts, withdrawn ones too.
    pub alerts: i64,
    /// Alerts that go on now.
    pub alerts_firing: i64,
}
