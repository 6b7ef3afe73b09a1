//! What is in the database and in the topics, against what clients were told. Named as Jepsen names what it finds.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use herd_bus::Bus;
use herd_spec::units::Partition;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::alerts;
use crate::env::Env;
use crate::expected::{Bits, Expected, Key, Metric, Name, User};
use crate::load::Load;
use crate::pipeline::{PARTITIONS, Pipeline};

/// Problems that are told; there may be more.
const TOLD: usize = 12;
/// Records of a history.
const HISTORY: usize = 12;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// It was accepted and is nowhere.
    LostWrite,
    /// It counts more than once.
    Duplicate,
    /// It is in the topic, and what should have seen it has not.
    Unseen,
    /// Nobody sent it.
    Invented,
    /// Two places disagree.
    Inconsistent,
    /// A position does not agree with what is stored.
    InconsistentOffset,
}

/// Something that is wrong.
#[derive(Debug)]
pub(crate) struct Finding {
    kind: Kind,
    what: String,
    /// Where to look for its history: the topic and a piece of its records.
    trace: Option<(String, String)>,
    history: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)?;
        self.history.iter().try_for_each(|line| write!(f, "\n      {line}"))
    }
}

#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) events: u64,
    pub(crate) windows: usize,
    pub(crate) alerts: usize,
    pub(crate) users: usize,
    pub(crate) dead_letters: usize,
    /// Events that came so late that a window may have been closed.
    pub(crate) perhaps_late: u64,
    pub(crate) findings: Vec<Finding>,
}

impl Verdict {
    pub(crate) fn find(&mut self, kind: Kind, what: String, trace: Option<(String, String)>) {
        self.findings.push(Finding { kind, what, trace, history: Vec::new() });
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, windows, alerts, users, dead_letters, perhaps_late, findings } = self;
        write!(
            f,
            "{events} events, {windows} windows, {alerts} alerts, {users} users, {dead_letters} dead letters"
        )?;
        if *perhaps_late > 0 {
            write!(f, ", {perhaps_late} counts that may be late")?;
        }
        match findings.len() {
            0 => write!(f, ": exact"),
            n => write!(f, ": {n} findings"),
        }
    }
}

/// Waits until nothing is wrong, or `patience` is over; what is wrong then comes with its history.
pub(crate) async fn settle(
    env: &Env,
    pipeline: &Arc<Pipeline>,
    load: &Load,
    poison: &[String],
    patience: Duration,
) -> Verdict {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let mut verdict = of(env, pipeline, load, poison).await;
        if verdict.findings.is_empty() || tokio::time::Instant::now() > deadline {
            verdict.findings.sort_by_key(|finding| finding.kind);
            verdict.findings.truncate(TOLD);
            for finding in &mut verdict.findings {
                if let Some((topic, piece)) = &finding.trace {
                    finding.history = history(pipeline, topic, piece);
                }
            }
            return verdict;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

async fn of(env: &Env, pipeline: &Arc<Pipeline>, load: &Load, poison: &[String]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut connection = PgConnection::connect(&env.postgres).await.unwrap();
    events(&mut verdict, &mut connection, pipeline, load).await;
    if !verdict.findings.is_empty() {
        return verdict; // not there yet: the rest is not worth reading
    }
    windows(&mut verdict, &mut connection, pipeline, load).await;
    alerts::check(&mut verdict, &mut connection, pipeline, load).await;
    users(&mut verdict, &mut connection, pipeline, load).await;
    dead_letters(&mut verdict, pipeline, load, poison);
    offsets(&mut verdict, &mut connection, pipeline).await;
    verdict
}

/// Whether the verdict can be trusted: spoils what a run has left that was exact, in every way it is to notice, and says what it
/// has not noticed.
pub(crate) async fn overlooks(
    env: &Env,
    pipeline: &Arc<Pipeline>,
    load: &Load,
    poison: &[String],
) -> Vec<String> {
    let one = "(SELECT ctid FROM {0}.windows WHERE metric = 'all' AND count > 1 LIMIT 1)";
    let user = "(SELECT ctid FROM {0}.user_stats WHERE user_id LIKE 'u-%' LIMIT 1)";
    let alert = "(SELECT ctid FROM {0}.alerts WHERE detector = 'busy' ORDER BY start, id LIMIT 1)";
    let spoilt = [
        (Kind::Unseen, format!("DELETE FROM {{0}}.alerts WHERE ctid = {alert}")),
        (Kind::Inconsistent, format!("UPDATE {{0}}.alerts SET value = value + 1 WHERE ctid = {alert}")),
        (Kind::Invented, format!("UPDATE {{0}}.alerts SET detector = 'crowd' WHERE ctid = {alert}")),
        (Kind::Duplicate, format!("UPDATE {{0}}.windows SET count = count + 1 WHERE ctid = {one}")),
        (Kind::LostWrite, format!("UPDATE {{0}}.windows SET count = count - 1 WHERE ctid = {one}")),
        (Kind::Inconsistent, format!("UPDATE {{0}}.windows SET value = value + 1 WHERE ctid = {one}")),
        (Kind::Unseen, format!("DELETE FROM {{0}}.windows WHERE ctid = {one}")),
        (
            Kind::Inconsistent,
            format!("UPDATE {{0}}.user_stats SET purchases = purchases + 1 WHERE ctid = {user}"),
        ),
        (Kind::Inconsistent, format!("DELETE FROM {{0}}.user_stats WHERE ctid = {user}")),
        (
            Kind::InconsistentOffset,
            "UPDATE {0}.offsets SET next_offset = next_offset + 1 WHERE partition = 0".into(),
        ),
        (
            Kind::Invented,
            "UPDATE {0}.user_events SET event_id = 'stranger' WHERE event_id LIKE 'end-%-7'".into(),
        ),
        (Kind::LostWrite, "DELETE FROM {0}.user_events WHERE event_id LIKE 'end-%-8'".into()),
    ];
    let mut overlooked = Vec::new();
    for (kind, statement) in spoilt {
        let statement = statement.replace("{0}", &pipeline.schema);
        env.sql(&format!("CREATE SCHEMA spoilt; {}", copies(&pipeline.schema, "spoilt"))).await;
        env.sql(&statement).await;
        let verdict = of(env, pipeline, load, poison).await;
        if !verdict.findings.iter().any(|finding| finding.kind == kind) {
            overlooked.push(format!("the verdict does not find {kind:?} after: {statement}"));
        }
        env.sql(&format!("{}; DROP SCHEMA spoilt CASCADE", copies("spoilt", &pipeline.schema))).await;
    }
    overlooked
}

/// Statements that bring the tables of one schema to another.
fn copies(from: &str, to: &str) -> String {
    let tables = ["user_events", "windows", "alerts", "user_stats", "offsets"];
    let copy = |table| {
        format!(
            "CREATE TABLE IF NOT EXISTS {to}.{table} (LIKE {from}.{table} INCLUDING ALL); TRUNCATE {to}.{table}; \
             INSERT INTO {to}.{table} SELECT * FROM {from}.{table}"
        )
    };
    tables.map(copy).join("; ")
}

/// Every accepted event is stored, once, and nothing else is.
async fn events(verdict: &mut Verdict, connection: &mut PgConnection, pipeline: &Pipeline, load: &Load) {
    let statement = format!("COPY {}.user_events (event_id) TO STDOUT", pipeline.schema);
    let mut stored = Bits::default();
    let (mut probes, mut ends, mut strangers) = (Bits::default(), 0_u64, Vec::new());
    let (probe, end) = (format!("p-{}-", load.script.seed), format!("end-{}-", load.script.seed));
    let mut twice = Vec::new();
    {
        let mut rows = connection.copy_out_raw(&statement).await.unwrap();
        let mut rest: Vec<u8> = Vec::new();
        while let Some(bytes) = rows.try_next().await.unwrap() {
            rest.extend_from_slice(&bytes);
            while let Some(end_of_line) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end_of_line).collect();
                let id = String::from_utf8_lossy(&line);
                let id = id.trim_end();
                verdict.events += 1;
                if let Some(n) = id.strip_prefix(&probe).and_then(|n| n.parse().ok()) {
                    probes.set(n);
                } else if id.starts_with(&end) {
                    ends += 1;
                } else if let Some(n) = load.script.number(id) {
                    if !stored.set(n) {
                        twice.push(n);
                    }
                } else {
                    strangers.push(id.to_owned());
                }
            }
        }
    }
    let expected = load.expected.lock();
    let topic = &pipeline.plan.topics.events.name;
    let trace = |id: String| Some((topic.clone(), id));
    let id = |n: u64| format!("e-{}-{n}", load.script.seed);
    for n in twice {
        verdict.find(Kind::Duplicate, format!("event {} is stored twice", id(n)), trace(id(n)));
    }
    let missing: Vec<u64> = expected.accepted.iter().filter(|n| !stored.has(*n)).take(TOLD).collect();
    for n in missing {
        verdict.find(
            Kind::LostWrite,
            format!("event {} was accepted and is not stored", id(n)),
            trace(id(n)),
        );
    }
    let lost = expected.probes.keys().filter(|n| !probes.has(**n)).count() as u64
        + expected.ends.1.saturating_sub(ends);
    if lost > 0 {
        verdict.find(Kind::LostWrite, format!("{lost} probes or last events are not stored"), None);
    }
    let invented: Vec<u64> = stored.iter().filter(|n| !expected.accepted.has(*n)).take(TOLD).collect();
    for n in invented {
        // Sent, never said to be accepted, and yet there: allowed where the answer was lost for good, which never happens here.
        verdict.find(Kind::Invented, format!("event {} is stored and was not accepted", id(n)), trace(id(n)));
    }
    for id in strangers.into_iter().take(TOLD) {
        verdict.find(Kind::Invented, format!("event {id} is stored and nobody sent it"), None);
    }
}

/// Closed windows equal what is reckoned from the accepted events.
async fn windows(verdict: &mut Verdict, connection: &mut PgConnection, pipeline: &Pipeline, load: &Load) {
    let query = format!(
        "SELECT metric, key, (extract(epoch FROM start) * 1000)::bigint, count, value FROM {}.windows",
        pipeline.schema
    );
    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(connection).await.unwrap();
    verdict.windows = rows.len();
    let mut found: HashMap<Name, (i64, f64)> = HashMap::new();
    for row in &rows {
        let (metric, key, start): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
        let number = |prefix| key.strip_prefix(prefix).and_then(|n| n.parse::<u64>().ok());
        let item = number("item-").and_then(|n| u32::try_from(n).ok()).map(Key::Item);
        let known = Metric::EVERY.into_iter().find(|known| known.name() == metric);
        match (known, item.or_else(|| number("probe-").map(Key::Probe))) {
            (Some(metric), Some(key)) => {
                found.insert((metric, key, start), (row.get(3), row.get(4)));
            }
            _ => verdict.find(Kind::Invented, format!("window {metric} {key} {start}"), None),
        }
    }
    let expected = load.expected.lock();
    for (name, expected) in &expected.windows {
        let (metric, key, start) = name;
        let what = format!("window {} {key} {start}", metric.name());
        let trace = Some((
            pipeline.plan.topics.parts.name.clone(),
            format!("{}\u{1F}{key}\u{1F}{start}", metric.name()),
        ));
        verdict.perhaps_late += expected.perhaps;
        let Some((count, value)) = found.remove(name) else {
            if expected.count > 0 {
                verdict.find(Kind::Unseen, format!("{what} is missing: {} events", expected.count), trace);
            }
            continue;
        };
        let count = u64::try_from(count).unwrap();
        if count < expected.count {
            verdict.find(
                Kind::LostWrite,
                format!("{what} has {count} events, accepted are {}", expected.count),
                trace,
            );
        } else if count > expected.count + expected.perhaps {
            verdict.find(
                Kind::Duplicate,
                format!("{what} has {count} events, accepted are {}", expected.count),
                trace,
            );
        } else if expected.perhaps == 0 && !is_right(*metric, expected, value) {
            let should =
                format!("{} events, {} cents, {} users", expected.count, expected.cents, expected.users());
            verdict.find(Kind::Inconsistent, format!("{what} has the value {value} of {should}"), trace);
        }
    }
    for (metric, key, start) in found.into_keys().filter(|name| !may_be_late(&expected, name)) {
        verdict.find(Kind::Invented, format!("window {} {key} {start}", metric.name()), None);
    }
}

fn may_be_late(expected: &Expected, name: &Name) -> bool {
    expected.windows.get(name).is_some_and(|window| window.perhaps > 0)
}

#[allow(clippy::cast_precision_loss, clippy::float_cmp)] // far below 2^53, and exact on both sides
fn is_right(metric: Metric, expected: &crate::expected::Window, value: f64) -> bool {
    let users = expected.users();
    match metric {
        Metric::All => value == expected.count as f64,
        Metric::Revenue => value == expected.cents as f64 / 100.0,
        // Exact up to 128, then an estimate of which only the error is promised.
        Metric::Visitors if users <= 128 => value == users as f64,
        Metric::Visitors => (value / users as f64 - 1.0).abs() < 0.1,
    }
}

async fn users(verdict: &mut Verdict, connection: &mut PgConnection, pipeline: &Pipeline, load: &Load) {
    let query = format!(
        "SELECT user_id, events, purchases, (revenue * 100)::bigint, (extract(epoch FROM first_seen) * 1000)::bigint, \
         (extract(epoch FROM last_seen) * 1000)::bigint FROM {}.user_stats",
        pipeline.schema
    );
    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(connection).await.unwrap();
    let expected = load.expected.lock();
    let mut seen = 0;
    for row in &rows {
        let id: String = row.get(0);
        let found = User {
            events: row.get(1),
            purchases: row.get(2),
            cents: row.get(3),
            first: row.get(4),
            last: row.get(5),
        };
        let number = |prefix| id.strip_prefix(prefix).and_then(|n| n.parse::<u64>().ok());
        let expected = (number("u-").and_then(|n| expected.users.get(usize::try_from(n).ok()?)).copied())
            .or_else(|| number("probe-").and_then(|n| expected.probes.get(&n)).map(|time| User::once(*time)))
            .or_else(|| number("end-").map(|_| User::once(expected.ends.0)));
        seen += 1;
        match expected {
            Some(expected) if expected == found => {}
            expected => {
                verdict.find(Kind::Inconsistent, format!("user {id} is {found:?}, not {expected:?}"), None);
            }
        }
    }
    verdict.users = seen;
    let expected = expected.users.iter().filter(|user| user.events > 0).count()
        + expected.probes.len()
        + usize::try_from(expected.ends.1).unwrap();
    if seen != expected {
        verdict.find(
            Kind::Inconsistent,
            format!("{seen} users have statistics, {expected} sent events"),
            None,
        );
    }
}

/// What was refused is there as it came; what went through is not.
fn dead_letters(verdict: &mut Verdict, pipeline: &Pipeline, load: &Load, poison: &[String]) {
    let topic = &pipeline.plan.topics.dead_letter.name;
    let mut letters: BTreeMap<String, u64> = BTreeMap::new();
    scan(pipeline, topic, &mut |_, value| *letters.entry(value).or_default() += 1);
    let mut there = Bits::default();
    let expected = load.expected.lock();
    for (letter, times) in &letters {
        verdict.dead_letters += 1;
        if poison.contains(letter) {
            continue;
        }
        match load.script.number(letter) {
            Some(n) if load.script.raw(n) != *letter => {
                verdict.find(Kind::Inconsistent, format!("dead letter {letter} is not what was sent"), None);
            }
            Some(n) if !expected.invalid.has(n) && !expected.retried.has(n) => {
                verdict.find(Kind::Invented, format!("dead letter {letter}, told to be accepted"), None);
            }
            Some(n) => {
                there.set(n);
                // The script sends some twice.
                if *times > 2 && !expected.retried.has(n) {
                    verdict.find(Kind::Duplicate, format!("dead letter {letter}, {times} times"), None);
                }
            }
            // A probe that a collector with a wrong clock refused.
            None if letter.contains("probe-") => {}
            None => verdict.find(Kind::Invented, format!("dead letter {letter}"), None),
        }
    }
    let missing: Vec<u64> = expected.invalid.iter().filter(|n| !there.has(*n)).take(TOLD).collect();
    for n in missing {
        let what = format!("dead letter of number {n}: {}", load.script.raw(n));
        verdict.find(Kind::LostWrite, what, None);
    }
    for missing in poison.iter().filter(|poison| !letters.contains_key(*poison)) {
        verdict.find(Kind::LostWrite, format!("poison is not among the dead letters: {missing}"), None);
    }
}

/// Stored positions are the ends of their topics, and what they say they brought is what is there.
async fn offsets(verdict: &mut Verdict, connection: &mut PgConnection, pipeline: &Pipeline) {
    let query = format!("SELECT topic, partition, next_offset FROM {}.offsets", pipeline.schema);
    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut *connection).await.unwrap();
    let sink = &pipeline.plan.sinks[0].group;
    let topics = &pipeline.plan.topics;
    for topic in [&topics.events.name, &topics.windows.name, &topics.alerts.name] {
        let Ok(progress) = tokio::task::block_in_place(|| pipeline.bus.progress(topic, sink)) else {
            verdict.find(Kind::InconsistentOffset, format!("the ends of {topic} are not known"), None);
            continue;
        };
        for place in progress {
            let stored = rows.iter().find(|row| {
                row.get::<String, _>(0) == *topic
                    && row.get::<i32, _>(1) == i32::try_from(place.partition.0).unwrap()
            });
            let stored = stored.map_or(0, |row| row.get::<i64, _>(2));
            if stored != place.end.0 {
                let what =
                    format!("{topic}/{} is stored up to {stored} and ends at {}", place.partition, place.end);
                verdict.find(Kind::InconsistentOffset, what, None);
            }
        }
    }
    let (brought, there): (i64, i64) = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT (SELECT sum(stored)::bigint FROM {0}.offsets WHERE feeds = 'user_events'), (SELECT count(*) FROM {0}.user_events)",
        pipeline.schema
    )))
    .fetch_one(connection)
    .await
    .unwrap();
    if brought != there {
        let what = format!("positions say that they brought {brought} events, {there} are there");
        verdict.find(Kind::InconsistentOffset, what, None);
    }
}

/// Reads all of a topic: where, and what.
fn scan(pipeline: &Pipeline, topic: &str, each: &mut dyn FnMut(String, String)) {
    tokio::task::block_in_place(|| {
        for partition in 0..pipeline.bus.partitions(topic).unwrap_or(PARTITIONS) {
            let scanned =
                pipeline.bus.scan(topic, Partition(partition), Duration::from_secs(20), &mut |record| {
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                    each(format!("{topic}/{partition} @{}", record.offset), value);
                });
            scanned.unwrap_or_else(|error| panic!("the verdict cannot read {topic}: {error}"));
        }
    });
}

/// The records that bear on a finding: those that hold all words of `piece`.
fn history(pipeline: &Pipeline, topic: &str, piece: &str) -> Vec<String> {
    let words: Vec<&str> = piece.split('\u{1F}').collect();
    let mut lines = Vec::new();
    let mut topics = vec![topic.to_owned()];
    if *topic == pipeline.plan.topics.parts.name {
        topics.push(pipeline.plan.topics.windows.name.clone());
    }
    for topic in topics {
        let mut found = Vec::new();
        scan(pipeline, &topic, &mut |place, value| {
            if words.iter().all(|word| value.contains(word)) {
                found.push(format!("{place} {}", value.chars().take(240).collect::<String>()));
            }
        });
        // How it ended says more than how it began.
        let from = found.len().saturating_sub(HISTORY);
        lines.extend(found.split_off(from));
    }
    lines
}
