//! Faults that a user has to correct are distinguished from transient errors; messages name the fault, its location and the remedy.

use herd_spec::units::{Offset, Partition};
use herd_store::{Advance, Fault, Store, StoreError, Table};
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::env::{Raw, StoreEnv, TOPIC, execute_directly, server, window, write_events, writer_of};

crate::on_both!(
    a_dropped_table_is_reported_and_the_writer_continues_when_it_is_restored,
    a_renamed_or_retyped_column_is_reported,
);

async fn write_window(store: &Store, expected: i64) -> Result<(), StoreError> {
    let mut writer = store.writer();
    let topic = "shop.windows";
    writer.positions(topic, Table::Windows, &[Partition(0)]).await?;
    let mut rows = writer.rows(Table::Windows);
    rows.push_window(&window("mug", 10_000 * expected, 3)).unwrap();
    let (expected, next) = (Offset(expected), Offset(expected + 1));
    writer.write(&[Advance { topic, partition: Partition(0), expected, next }], &rows, 0..1).await?;
    Ok(())
}

fn fault(error: &StoreError) -> Fault {
    match error {
        StoreError::Refused { fault, .. } => *fault,
        other => panic!("{other}"),
    }
}

async fn a_dropped_table_is_reported_and_the_writer_continues_when_it_is_restored(env: StoreEnv) {
    write_window(&env.store, 0).await.unwrap();
    execute_directly(&env, "ALTER TABLE windows RENAME TO elsewhere").await;
    let error = write_window(&env.store, 1).await.unwrap_err();
    assert_eq!(fault(&error), Fault::TableMissing, "{error}");
    assert!(error.needs_mending() && !error.is_retryable());
    let (said, place) = if env.is_postgres() {
        ("relation \"windows\" does not exist", format!("schema \"{}\"", env.schema))
    } else {
        ("no such table: windows", format!("the file {}", env.file.display()))
    };
    let words = error.to_string();
    assert!(words.contains(&format!("a table is missing in {place} (")), "{words}");
    assert!(words.contains(said), "{words}");
    assert!(words.contains("restore it from a backup"), "{words}");
    // Other tables are not affected.
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    write_events(&mut writer, 0, 0, &[Raw::view("a", "ann", 1_000)]).await.unwrap();
    execute_directly(&env, "ALTER TABLE elsewhere RENAME TO windows").await;
    write_window(&env.store, 1).await.unwrap();
    assert_eq!(env.store.counts().await.unwrap().windows, 2);
}

async fn a_renamed_or_retyped_column_is_reported(env: StoreEnv) {
    let mut changes = vec![("ALTER TABLE windows RENAME COLUMN value TO worth", "worth TO value")];
    if env.is_postgres() {
        changes.push(("ALTER TABLE windows ALTER COLUMN bands TYPE integer USING 0", "type"));
    }
    for (change, back) in changes {
        execute_directly(&env, change).await;
        let error = write_window(&env.store, 0).await.unwrap_err();
        assert_eq!(fault(&error), Fault::TableChanged, "{error}");
        assert!(error.to_string().contains("is not as Herd created it ("), "{error}");
        if back != "type" {
            execute_directly(&env, &format!("ALTER TABLE windows RENAME COLUMN {back}")).await;
            write_window(&env.store, 0).await.unwrap();
            execute_directly(&env, "DELETE FROM windows; DELETE FROM offsets").await;
        }
    }
}

#[tokio::test]
#[ignore = "needs HERD_TEST_POSTGRES: make test sets it"]
async fn distinguishes_refusals_from_an_unavailable_server() {
    let name = format!("herd_stranger_{}", uuid::Uuid::now_v7().simple());
    let address = server();
    let rest =
        address.rsplit_once('@').map_or_else(|| address.replace("postgres://", ""), |(_, rest)| rest.into());
    let as_stranger = format!("postgres://{name}:hush@{rest}");

    let refused = Store::postgres(&as_stranger, "shop").await.unwrap_err();
    assert_eq!(fault(&refused), Fault::LoginRefused, "{refused}");
    assert!(refused.to_string().contains("correct the user and the password"), "{refused}");
    assert!(!refused.to_string().contains("hush"), "{refused}");

    let (before, _) = address.rsplit_once('/').unwrap();
    let refused = Store::postgres(&format!("{before}/{name}"), "shop").await.unwrap_err();
    assert_eq!(fault(&refused), Fault::DatabaseMissing, "{refused}");
    assert!(refused.to_string().contains(&format!("database \"{name}\" does not exist")), "{refused}");

    // Tables of another owner, without the privilege to write.
    let env = StoreEnv::postgres().await;
    let mut admin = sqlx::PgConnection::connect(&address).await.unwrap();
    let sql = format!(
        "CREATE ROLE {name} LOGIN PASSWORD 'hush'; GRANT USAGE ON SCHEMA \"{0}\" TO {name}; \
         GRANT SELECT ON ALL TABLES IN SCHEMA \"{0}\" TO {name}",
        env.schema
    );
    admin.execute(AssertSqlSafe(sql)).await.unwrap();
    let refused = match Store::postgres(&as_stranger, &env.schema).await {
        Ok(store) => write_window(&store, 0).await.unwrap_err(),
        Err(error) => error,
    };
    let sql = format!("DROP OWNED BY {name}; DROP ROLE {name}");
    admin.execute(AssertSqlSafe(sql)).await.unwrap();
    crate::env::drop_schema(&env.schema).await;
    assert_eq!(fault(&refused), Fault::PermissionDenied, "{refused}");
    assert!(refused.to_string().contains("permission denied for"), "{refused}");
    assert!(refused.to_string().contains(&env.schema), "{refused}");
}
