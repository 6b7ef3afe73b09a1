//! The sink's writes beside a bare COPY into the same table with the same indexes, batch by batch in turns.
#![allow(clippy::print_stdout)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context;
use herd_bench::rate;
use herd_spec::units::{Offset, Partition};
use herd_spec::wire::EventRef;
use herd_store::{Advance, Store, Table};
use sqlx::{Connection, Executor, PgConnection};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: u64 = 20_000;

fn lines(round: u64, users: u64) -> Vec<String> {
    (round * BATCH..(round + 1) * BATCH)
        .map(|n| {
            let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            format!(
                r#"{{"v":1,"event_id":"0199aa-{:08x}-{n:08x}","type":"{}","user_id":"u-{}","item_id":"product-{}","time":{},"received":1700000000000,"properties":{{"price":9.5,"country":"DE","device":"mobile","page":"/shop/product"}}}}"#,
                mixed >> 32,
                if n % 20 == 0 { "purchase" } else { "view" },
                (mixed >> 20) % users,
                mixed % 500,
                1_700_000_000_000 + n
            )
        })
        .collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("HERD_TEST_POSTGRES").context("run this with dev/with-services")?;
    let rounds: u64 = std::env::args().nth(1).map_or(Ok(20), |rounds| rounds.parse())?;
    for users in [2_000, 20_000] {
        compare(&url, rounds, users).await?;
    }
    Ok(())
}

async fn compare(url: &str, rounds: u64, users: u64) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let schemas = ["herd_bench_sink", "herd_bench_copy"];
    let mut stores = Vec::new();
    for schema in schemas {
        connection.execute(sqlx::AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {schema} CASCADE"))).await?;
        stores.push(Store::postgres(url, schema).await?);
    }
    let mut writer = stores[0].writer();
    writer.positions("t", Table::UserEvents, &[Partition(0)]).await?;
    let (mut encoding, mut sink, mut copy) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for round in 0..rounds {
        let lines = lines(round, users);
        let began = Instant::now();
        let mut rows = writer.rows(Table::UserEvents);
        for (offset, line) in (round * BATCH..).zip(&lines) {
            rows.push_event(Partition(0), at(offset), &EventRef::parse(line.as_bytes())?)?;
        }
        encoding += began.elapsed();
        let advance = Advance {
            topic: "t",
            partition: Partition(0),
            expected: at(round * BATCH),
            next: at((round + 1) * BATCH),
        };
        writer.write(&[advance], &rows, 0..rows.len()).await?;
        sink += began.elapsed();

        let mut text = String::new();
        for (n, line) in (round * BATCH..).zip(&lines) {
            let event = EventRef::parse(line.as_bytes())?;
            let (user, item) = (event.user_id.unwrap_or_default(), event.item_id.unwrap_or_default());
            let properties = event.properties.map_or("{}", |raw| raw.get());
            let seconds = n / 1000;
            writeln!(
                text,
                "{}\t{}\t{user}\t{item}\t2023-11-14 {:02}:{:02}:{:02}.{:03}+00\t2023-11-14 22:13:20+00\t{properties}\t0\t{n}",
                event.event_id,
                event.event_type,
                seconds / 3600 % 24,
                seconds / 60 % 60,
                seconds % 60,
                n % 1000
            )?;
        }
        let began = Instant::now();
        let mut into = connection.copy_in_raw(&format!("COPY {}.user_events FROM STDIN", schemas[1])).await?;
        into.send(text.as_bytes()).await?;
        into.finish().await?;
        copy += began.elapsed();
    }
    let rows = rounds * BATCH;
    let (sink_rate, copy_rate) = (rate(rows, sink), rate(rows, copy));
    println!(
        "{users} users: sink {sink_rate:.0} rows/s (encoding {:.0} % of it), bare COPY {copy_rate:.0} rows/s: {:.0} %",
        100.0 * encoding.as_secs_f64() / sink.as_secs_f64(),
        100.0 * sink_rate / copy_rate
    );
    for schema in schemas {
        connection.execute(sqlx::AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"))).await?;
    }
    Ok(())
}

fn at(offset: u64) -> Offset {
    Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}
