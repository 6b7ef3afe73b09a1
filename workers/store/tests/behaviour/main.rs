//! One behaviour for both dialects: each test runs on SQLite, and on PostgreSQL where `HERD_TEST_POSTGRES` names a server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod alerts;
mod bed;
mod exactness;
mod mending;
mod migrations;
mod reads;
mod statistics;

/// Runs each of the tests `async fn(Bed)` of the module on both dialects.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::bed::Bed::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs HERD_TEST_POSTGRES: make test sets it"]
            async fn $name() {
                let bed = crate::bed::Bed::postgres().await;
                let schema = bed.schema.clone();
                super::$name(bed).await;
                crate::bed::drop_schema(&schema).await;
            })*
        }
    };
}
pub(crate) use on_both;
