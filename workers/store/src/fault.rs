//! What only a person can mend in a database, and what they are to do.

use std::fmt;

/// Why a database refuses whatever is sent to it, until somebody changes something there or in the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The user or the password is wrong, or the server does not let this user in.
    LoginRefused,
    /// The server has no such database.
    DatabaseMissing,
    /// A schema or a table that was there is gone.
    TableMissing,
    /// A column is gone, or has another type: the tables are not as Herd made them.
    TableChanged,
    /// The user lacks a right, or the file may not be written.
    PermissionDenied,
    /// The tables are of a newer version of Herd.
    NewerTables,
    /// The file is damaged, or no database.
    FileDamaged,
    /// Something else.
    Other,
}

/// Where the tables are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// It does not matter.
    #[default]
    Anywhere,
    /// A schema of a PostgreSQL database, by its name.
    Schema(String),
    /// An SQLite file, by its path.
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
    /// What a person reads: what happened, where, and what to do. `why` is what the database says.
    pub(crate) fn explain(self, place: &Place, why: &str) -> String {
        let anew = match place {
            Place::File(_) => "or stop Herd and delete the file",
            _ => "or drop the whole schema",
        };
        let refill = "Herd then makes its tables anew and fills them from what the topics still hold";
        match self {
            Self::LoginRefused => format!(
                "the database refuses the login ({why}); correct the user and the password in the Secret with its URL"
            ),
            Self::DatabaseMissing => {
                format!("there is no such database ({why}); create it, or correct the URL")
            }
            Self::TableMissing => format!(
                "a table is missing in {place} ({why}): it was dropped after Herd made it; restore it from a backup, \
                 {anew}: {refill}"
            ),
            Self::TableChanged => {
                format!("a table in {place} is not as Herd made it ({why}); change it back, {anew}: {refill}")
            }
            Self::PermissionDenied => format!(
                "a right is missing in {place} ({why}); the user needs to create and alter tables there, and to read \
                 and write them"
            ),
            Self::NewerTables => {
                format!("{why}: the tables are of a newer version of Herd; upgrade this one")
            }
            Self::FileDamaged => format!(
                "{place} is damaged or no database ({why}); restore it from a backup, {anew}: {refill}"
            ),
            Self::Other => why.to_owned(),
        }
    }

    /// By PostgreSQL's SQLSTATE; none: it is not of this kind.
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

    /// By SQLite's primary result code, and its message where the code says nothing; none: it is not of this kind.
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
