//! Faults of a database that a user has to correct, and how.

use std::fmt;

/// Why a database refuses all requests until the database or the pipeline is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Wrong user or password, or the server does not admit the user.
    LoginRefused,
    /// The database does not exist.
    DatabaseMissing,
    /// A schema or table has been dropped.
    TableMissing,
    /// A column has been dropped or its type changed: the tables are not as Herd created them.
    TableChanged,
    /// The user lacks a privilege, or the file is not writable.
    PermissionDenied,
    /// The tables were created by a newer version of Herd.
    NewerTables,
    /// The file is damaged or not a database.
    FileDamaged,
    /// Another fault.
    Other,
}

/// Location of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Unspecified.
    #[default]
    Anywhere,
    /// A schema of a PostgreSQL database, by name.
    Schema(String),
    /// An SQLite file, by path.
    File(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => f.write_str("the database"),
            Self::Schema(name) => write!(f, "schema \"{name}\""),
            Self::File(path) => write!(f, "the file {path}"),
        }
    }
}

impl Fault {
    /// The message for users: the fault, its location and the remedy. `why` is the message of the database.
    pub(crate) fn explain(self, place: &Place, why: &str) -> String {
        let recreate = match place {
            Place::File(_) => "or stop Herd and delete the file",
            _ => "or drop the whole schema",
        };
        let refill =
            "Herd then creates its tables again and fills them from the retained records of the topics";
        match self {
            Self::LoginRefused => format!(
                "the database refuses the login ({why}); correct the user and the password of the URL in the Secret"
            ),
            Self::DatabaseMissing => {
                format!("the database does not exist ({why}); create it, or correct the URL")
            }
            Self::TableMissing => format!(
                "a table is missing in {place} ({why}): it was dropped after Herd had created it; restore it from a backup, \
                 {recreate}: {refill}"
            ),
            Self::TableChanged => {
                format!(
                    "a table in {place} is not as Herd created it ({why}); revert the change, {recreate}: {refill}"
                )
            }
            Self::PermissionDenied => format!(
                "a privilege is missing in {place} ({why}); grant the user the privileges to create, alter, read and \
                 write tables there"
            ),
            Self::NewerTables => {
                format!("{why}: the tables were created by a newer version of Herd; upgrade Herd")
            }
            Self::FileDamaged => format!(
                "{place} is damaged or not a database ({why}); restore it from a backup, {recreate}: {refill}"
            ),
            Self::Other => why.to_owned(),
        }
    }

    /// The fault of a SQLSTATE of PostgreSQL; `None` for other errors.
    pub(crate) fn of_sqlstate(code: &str) -> Option<Self> {
        Some(match code {
            "28000" | "28P01" => Self::LoginRefused,
            "3D000" => Self::DatabaseMissing,
            "42P01" | "3F000" => Self::TableMissing,
            "42501" => Self::PermissionDenied,
            // undefined column, function or object, duplicate column, wrong type or number of columns, no unique index
            // for ON CONFLICT, a view in a table's place
            "42703" | "42883" | "42704" | "42701" | "42804" | "42846" | "42P10" | "42809" => {
                Self::TableChanged
            }
            _ => match code.get(..2)? {
                // syntax, feature not supported, statement or cursor names, catalogue or schema names
                "42" | "0A" | "26" | "34" | "3D" | "3F" => Self::Other,
                _ => return None,
            },
        })
    }

    /// The fault of a primary result code of SQLite, or of its message where the code is unspecific.
    pub(crate) fn of_sqlite(code: u32, message: &str) -> Self {
        match code & 0xff {
            // SQLITE_PERM, READONLY, AUTH
            3 | 8 | 23 => Self::PermissionDenied,
            // SQLITE_CORRUPT, NOTADB
            11 | 26 => Self::FileDamaged,
            _ if message.contains("no such table") => Self::TableMissing,
            _ if message.contains("no such column") || message.contains("has no column") => {
                Self::TableChanged
            }
            _ if message.contains("ON CONFLICT clause does not match") => Self::TableChanged,
            _ => Self::Other,
        }
    }
}
