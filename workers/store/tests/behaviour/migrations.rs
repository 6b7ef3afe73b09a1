//! Tables are created and upgraded by the first process.

use herd_store::{Store, Table};

use crate::env::{Raw, StoreEnv, TOPIC, server, write_events, writer_of};

crate::on_both!(concurrent_replicas_can_open_the_tables, a_second_start_keeps_the_data);

async fn concurrent_replicas_can_open_the_tables(env: StoreEnv) {
    // The env's own tables are there already; these are not yet.
    let fresh = if env.is_postgres() {
        StoreEnv { schema: format!("{}-fresh", env.schema), ..env }
    } else {
        StoreEnv { file: env.file.with_file_name("fresh.db"), ..env }
    };
    let fresh = std::sync::Arc::new(fresh);
    let mut replicas = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let fresh = std::sync::Arc::clone(&fresh);
        replicas.spawn(async move { fresh.again().await.unwrap().counts().await.unwrap() });
    }
    let counts = replicas.join_all().await;
    assert_eq!(counts, [herd_store::Counts::default(); 8]);
    if fresh.is_postgres() {
        crate::env::drop_schema(&fresh.schema).await;
    }
}

async fn a_second_start_keeps_the_data(env: StoreEnv) {
    let mut writer = writer_of(&env.store, TOPIC, Table::UserEvents, 1).await;
    write_events(&mut writer, 0, 0, &[Raw::view("a", "ann", 1_000)]).await.unwrap();
    let again = env.again().await.unwrap();
    assert_eq!(again.user_stats("ann").await.unwrap().unwrap().events, 1);
}

#[tokio::test]
async fn an_invalid_url_is_refused_without_revealing_it() {
    let refused = Store::postgres("postgres//ann:secret@db/shop", "shop").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "connecting to PostgreSQL: the URL is not of the form postgres://user:password@host:5432/database"
    );
}

#[tokio::test]
async fn an_unavailable_server_is_a_retryable_error() {
    // A free port without a listener.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error =
        Store::postgres(&format!("postgres://ann:secret@127.0.0.1:{port}/shop"), "shop").await.unwrap_err();
    assert!(error.is_retryable() && !error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
#[ignore = "needs HERD_TEST_POSTGRES: make test sets it"]
async fn a_user_without_the_privilege_to_create_schemas_uses_an_existing_one() {
    use sqlx::{AssertSqlSafe, Connection, Executor};
    let name = format!("herd_guest_{}", uuid::Uuid::now_v7().simple());
    let mut admin = sqlx::PgConnection::connect(&server()).await.unwrap();
    let sql = format!("CREATE ROLE {name} LOGIN PASSWORD 'guest'; CREATE SCHEMA {name} AUTHORIZATION {name}");
    admin.execute(AssertSqlSafe(sql)).await.unwrap();
    let address = server();
    let rest =
        address.rsplit_once('@').map_or_else(|| address.replace("postgres://", ""), |(_, rest)| rest.into());
    let opened = Store::postgres(&format!("postgres://{name}:guest@{rest}"), &name).await;
    let counted = opened.unwrap().counts().await;
    let sql = format!("DROP SCHEMA {name} CASCADE; DROP ROLE {name}");
    admin.execute(AssertSqlSafe(sql)).await.unwrap();
    assert_eq!(counted.unwrap(), herd_store::Counts::default());
}
