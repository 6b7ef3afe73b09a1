//! Waiting for what the database answers.

use std::time::Duration;

use herd_spec::health::Trouble;
use herd_store::StoreError;

use super::TableSinkSetup;

/// How long one transaction may take before the connection is given up. Longer than the server's own limit.
pub(super) const PATIENCE: Duration = Duration::from_secs(150);
/// After this long without an answer a person is told.
const SLOW: Duration = Duration::from_secs(10);

/// What the database answers, within [`PATIENCE`]. When it takes long, the sink's health says so.
pub(super) async fn answer<T>(
    writing: impl Future<Output = Result<T, StoreError>>,
    setup: &TableSinkSetup,
) -> Result<T, StoreError> {
    let mut writing = std::pin::pin!(tokio::time::timeout(PATIENCE, writing));
    let answered = tokio::select! {
        answered = &mut writing => answered,
        () = tokio::time::sleep(SLOW) => {
            report_slow(setup);
            writing.await
        }
    };
    answered.unwrap_or_else(|_| {
        Err(StoreError::Unavailable {
            doing: "storing a batch",
            why: format!("no answer in {} s", PATIENCE.as_secs()),
        })
    })
}

fn report_slow(setup: &TableSinkSetup) {
    let why = format!("the database has not answered for {} s", SLOW.as_secs());
    tracing::warn!(sink = setup.sink, topic = setup.topic, "{why}");
    setup.stage.health.fail(setup.condition, Trouble::DatabaseUnreachable, why);
}
