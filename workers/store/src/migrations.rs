//! The files of `migrations/`, in the program. By hand, because `sqlx::migrate!` compiles sqlx and both its databases once
//! more, for the compiler; a test compares this list with the folder.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// `[version, description, file]` of each migration of a database: its file name taken apart.
macro_rules! migrations {
    ($database:literal, $([$version:literal, $description:literal, $file:literal]),* $(,)?) => {
        Migrator::with_migrations(vec![$(Migration::new(
            $version,
            $description.into(),
            MigrationType::Simple,
            include_str!(concat!("../migrations/", $database, "/", $file)).into_sql_str(),
            false,
        )),*])
    };
}

pub(crate) fn postgres() -> Migrator {
    migrations!(
        "postgres",
        [1, "tables", "0001_tables.sql"],
        [2, "window definitions", "0002_window_definitions.sql"],
        [3, "alert episodes", "0003_alert_episodes.sql"],
        [4, "alert explanations", "0004_alert_explanations.sql"],
    )
}

pub(crate) fn sqlite() -> Migrator {
    migrations!(
        "sqlite",
        [1, "tables", "0001_tables.sql"],
        [2, "window definitions", "0002_window_definitions.sql"],
        [3, "alert episodes", "0003_alert_episodes.sql"],
        [4, "alert explanations", "0004_alert_explanations.sql"],
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::postgres("postgres", postgres())]
    #[case::sqlite("sqlite", sqlite())]
    #[tokio::test]
    async fn the_list_is_the_folder(#[case] database: &str, #[case] listed: Migrator) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
        let found = Migrator::new(folder.as_path()).await.unwrap();
        let facts = |migrator: &Migrator| {
            let facts = |one: &Migration| {
                (one.version, one.description.clone(), one.migration_type, one.no_tx, one.checksum.clone())
            };
            migrator.iter().map(facts).collect::<Vec<_>>()
        };
        assert_eq!(facts(&listed), facts(&found));
    }
}
