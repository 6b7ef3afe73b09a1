//! One behaviour for both dialects: each test runs on SQLite, and on PostgreSQL where `HERD_TEST_POSTGRES` names a server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod alerts;
mod env;
mod episodes;
mod exactness;
mod faults;
mod migrations;
mod reads;
mod replay;
mod statistics;

/// Runs each of the tests `async fn(StoreEnv)` of the module on both dialects.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::env::StoreEnv::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs HERD_TEST_POSTGRES: make test sets it"]
            async fn $name() {
                let env = crate::env::StoreEnv::postgres().await;
                let schema = env.schema.clone();
                super::$name(env).await;
                crate::env::drop_schema(&schema).await;
            })*
        }
    };
}
pub(crate) use on_both;
