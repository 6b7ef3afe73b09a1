//! The tables of a pipeline, in PostgreSQL or SQLite, the same in both: migrations, exact writes, reads.
//!
//! The sink stage writes ([`Store::writer`]), the api stage reads.

mod error;
mod read;

use std::path::Path;

use herd_spec::units::EventTime;
use herd_spec::wire::{Event, Window};

pub use error::StoreError;
pub use read::{AlertFilter, AlertPage, Counts, MAX_ROWS, StoredAlert, UserOrder, UserStats};

/// A pipeline's tables. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Opens the tables in `schema` of a PostgreSQL database, and creates or upgrades them; safe with many replicas at once.
    ///
    /// # Errors
    /// If the URL makes no sense, the database does not answer ([`StoreError::is_retryable`]), or it refuses.
    pub async fn postgres(url: &str, schema: &str) -> Result<Self, StoreError> {
        let _ = (url, schema);
        todo!()
    }

    /// Opens the tables in an SQLite file, and creates or upgrades them.
    ///
    /// # Errors
    /// If the file cannot be opened or written.
    pub async fn sqlite(path: &Path) -> Result<Self, StoreError> {
        let _ = path;
        todo!()
    }

    /// Closed windows of a key that start in `[from, to)`, oldest first; of more than `limit`, the newest.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn windows(
        &self,
        metric: &str,
        key: &str,
        from: Option<EventTime>,
        to: Option<EventTime>,
        limit: u32,
    ) -> Result<Vec<Window<'static>>, StoreError> {
        let _ = (metric, key, from, to, limit);
        todo!()
    }

    /// Alerts, newest window first, page by page.
    ///
    /// # Errors
    /// If the database does not answer, or the cursor is none of ours ([`StoreError::Poison`]).
    pub async fn alerts(&self, filter: &AlertFilter) -> Result<AlertPage, StoreError> {
        let _ = filter;
        todo!()
    }

    /// Events of a user, newest first, before a time. Events of the same millisecond stay on one page, so a page may be
    /// a little longer than `limit`, and `before` the last one's time is the next page.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn user_events(
        &self,
        user: &str,
        before: Option<EventTime>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let _ = (user, before, limit);
        todo!()
    }

    /// What is known of a user; none: never seen.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn user_stats(&self, user: &str) -> Result<Option<UserStats>, StoreError> {
        let _ = user;
        todo!()
    }

    /// The first `limit` users in an order. Reads all users: not for every second.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn top_users(&self, order: UserOrder, limit: u32) -> Result<Vec<UserStats>, StoreError> {
        let _ = (order, limit);
        todo!()
    }

    /// How much is stored.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        todo!()
    }
}
