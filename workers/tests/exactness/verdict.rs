//! What is in the database and in the dead-letter topic, against what the script says must be there.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use sqlx::{Connection, Row};

use crate::script::{Name, Script};

#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) events: usize,
    pub(crate) windows: usize,
    pub(crate) dead_letters: usize,
    pub(crate) problems: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, windows, dead_letters, problems } = self;
        write!(
            f,
            "{events} events, {windows} windows, {dead_letters} dead letters, {} problems",
            problems.len()
        )
    }
}

pub(crate) async fn of(
    script: &Script,
    postgres: &str,
    schema: &str,
    dead_letters: impl FnOnce() -> Vec<String>,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut connection = sqlx::PgConnection::connect(postgres).await.unwrap();

    let query = format!("SELECT event_id FROM {schema}.user_events");
    let rows = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_all(&mut connection).await.unwrap();
    let stored: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    verdict.events = stored.len();
    let lost = script.ids.len() - stored.iter().filter(|id| script.ids.contains(*id)).count();
    if lost > 0 || stored.len() != script.ids.len() {
        verdict.problems.push(format!(
            "lost or invented events: {} stored, {} accepted, {lost} of these missing",
            stored.len(),
            script.ids.len()
        ));
        return verdict; // not there yet: the rest is not worth reading
    }

    let query = format!(
        "SELECT metric, key, (extract(epoch FROM start) * 1000)::bigint, count, value FROM {schema}.windows"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_all(&mut connection).await.unwrap();
    let mut found: BTreeMap<Name, (i64, f64)> = BTreeMap::new();
    for row in &rows {
        found.insert((row.get(0), row.get(1), row.get(2)), (row.get(3), row.get(4)));
    }
    verdict.windows = found.len();
    for (name, expected) in &script.windows {
        let Some((count, value)) = found.remove(name) else {
            verdict.problems.push(format!("missing window {name:?}"));
            continue;
        };
        #[allow(clippy::cast_precision_loss)] // far below 2^53
        let right = match name.0.as_str() {
            "all" => value == expected.count as f64,
            "revenue" => value == expected.cents as f64 / 100.0,
            // Exact up to 128, then an estimate of which only the error is promised.
            _ if expected.users.len() <= 128 => value == expected.users.len() as f64,
            _ => (value / expected.users.len() as f64 - 1.0).abs() < 0.1,
        };
        if !right || count != i64::try_from(expected.count).unwrap() {
            verdict.problems.push(format!(
                "window {name:?} has count {count} and value {value}, expected {} events, {} cents, {} users",
                expected.count,
                expected.cents,
                expected.users.len()
            ));
        }
    }
    verdict.problems.extend(found.keys().map(|name| format!("invented window {name:?}")));

    let mut letters: HashMap<String, usize> = HashMap::new();
    for letter in dead_letters() {
        verdict.dead_letters += 1;
        *letters.entry(letter).or_default() += 1;
    }
    for (raw, times) in &script.invalid {
        match letters.remove(raw) {
            Some(found) if found == *times => {}
            found => {
                verdict.problems.push(format!("dead letter {raw} is there {found:?} times, not {times}"))
            }
        }
    }
    verdict.problems.extend(letters.keys().map(|raw| format!("invented dead letter {raw}")));
    verdict.problems.truncate(20);
    verdict
}
