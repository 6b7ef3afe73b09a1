//! A database that dies, stands still, is full or slow.

use std::time::{Duration, Instant};

use sqlx::{Connection, Executor};

use crate::env::Signal;
use crate::scene::Scene;

/// Killed at a moment when a sink's COMMIT is under way.
pub(crate) async fn killed_in_commit(scene: &Scene) -> String {
    // Every commit waits a tenth of a second before it is written: a window to hit.
    for setting in ["commit_delay = 100000", "commit_siblings = 0"] {
        scene.env.sql(&format!("ALTER SYSTEM SET {setting}")).await;
    }
    scene.env.sql("SELECT pg_reload_conf()").await;
    let mut connection = sqlx::PgConnection::connect(&scene.env.postgres).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'herd' AND state = 'active' AND query = 'COMMIT'";
    let caught = loop {
        let under_way: i64 = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
        if under_way > 0 || Instant::now() > deadline {
            break under_way;
        }
    };
    scene.env.signal_postgres(Signal::Kill);
    if caught == 0 {
        scene.missed("no COMMIT was under way in 20 s");
    }
    scene.sees_trouble("sink-0", &["databaseunreachable"]).await;
    scene.hold().await;
    scene.env.start_postgres().await;
    for setting in ["commit_delay", "commit_siblings"] {
        scene.env.sql(&format!("ALTER SYSTEM RESET {setting}")).await;
    }
    scene.env.sql("SELECT pg_reload_conf()").await;
    format!("PostgreSQL: SIGKILL to all its processes with {caught} COMMIT under way")
}

/// It is there and says nothing.
pub(crate) async fn stopped(scene: &Scene) -> String {
    scene.env.signal_postgres(Signal::Stop);
    scene.sees_trouble("sink-0", &["databaseunreachable"]).await;
    scene.hold().await;
    scene.env.signal_postgres(Signal::Continue);
    format!("PostgreSQL: SIGSTOP for {:?}", scene.hold)
}

/// Not a byte is left on its disk.
pub(crate) async fn disk_full(scene: &Scene) -> String {
    scene.env.fill_disk();
    scene.sees_trouble("sink-0", &["no space left", "databaseunreachable"]).await;
    scene.hold().await;
    let died = !scene.env.postgres_answers().await;
    scene.env.widen_disk();
    scene.env.start_postgres().await;
    format!("PostgreSQL's disk full{}", if died { ", which made it end" } else { "" })
}

/// Every batch of events takes ten seconds.
pub(crate) async fn slow(scene: &Scene) -> String {
    let schema = &scene.pipeline.schema;
    let before = scene.sum("sink", "herd_sink_batch_seconds_sum").await.unwrap_or(0.0);
    scene
        .env
        .sql(&format!(
            "CREATE FUNCTION {schema}.slow() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(10); RETURN NULL; END $$; \
             CREATE TRIGGER slow BEFORE INSERT ON {schema}.user_events FOR EACH STATEMENT EXECUTE FUNCTION {schema}.slow()"
        ))
        .await;
    scene.sees_rise("sink", "herd_sink_batch_seconds_sum", before, 20.0).await;
    scene.hold().await;
    let mut connection = sqlx::PgConnection::connect(&scene.env.postgres).await.unwrap();
    let drop = format!("DROP TRIGGER slow ON {schema}.user_events");
    connection.execute(sqlx::AssertSqlSafe(drop)).await.unwrap();
    "every batch of events took 10 s".into()
}
