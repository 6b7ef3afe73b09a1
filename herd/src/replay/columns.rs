//! Mapping of columns to event fields, by `--map` or by common column names.

use std::fmt::Write as _;
use std::str::FromStr;

/// A field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Event id.
    Id,
    /// Event type.
    Type,
    /// User id.
    User,
    /// Item id.
    Item,
    /// Event time.
    Time,
}

impl Field {
    /// All fields.
    pub const ALL: [Self; 5] = [Self::Id, Self::Type, Self::User, Self::Item, Self::Time];

    /// Its name in `--map`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Type => "type",
            Self::User => "user",
            Self::Item => "item",
            Self::Time => "time",
        }
    }

    /// Its name in sent events, according to the default mapping.
    #[must_use]
    pub fn sent_as(self) -> &'static str {
        match self {
            Self::Id => "event_id",
            Self::Type => "type",
            Self::User => "user_id",
            Self::Item => "item_id",
            Self::Time => "time",
        }
    }

    /// Normalised column names (see [`normalise`]) that are recognised without `--map`, in order of preference.
    fn known_names(self) -> &'static [&'static str] {
        match self {
            Self::Id => &["eventid", "id", "uuid", "messageid"],
            Self::Type => &["type", "eventtype", "event", "eventname", "action"],
            Self::User => &[
                "userid",
                "user",
                "customerid",
                "customer",
                "visitorid",
                "clientid",
                "accountid",
                "memberid",
            ],
            Self::Item => &[
                "itemid",
                "productid",
                "item",
                "product",
                "sku",
                "articleid",
                "contentid",
                "videoid",
                "movieid",
                "stockcode",
            ],
            Self::Time => &[
                "time",
                "timestamp",
                "tsms",
                "ts",
                "eventtime",
                "datetime",
                "date",
                "createdat",
                "occurredat",
            ],
        }
    }

    /// Substrings of column names by which a column is suggested in error messages. Too vague to be used without confirmation.
    fn hints(self) -> &'static [&'static str] {
        match self {
            Self::Id => &[],
            Self::Type => &["type", "event", "action", "kind", "verb", "activity"],
            Self::User => &["user", "customer", "visitor", "client", "account", "member"],
            Self::Item => {
                &["item", "product", "article", "sku", "stock", "content", "video", "movie", "title", "page"]
            }
            Self::Time => &["time", "date", "when", "stamp", "moment", "day"],
        }
    }
}

/// A name in lower case, without `_`, `-` and spaces.
fn normalise(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Mapping of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Choice {
    /// By common column names.
    #[default]
    Default,
    /// To this column.
    Column(String),
    /// The file has no such column.
    Absent,
}

/// Mapping of columns to event fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping([Choice; 5]);

impl FromStr for Mapping {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let mut mapping = Self::default();
        for pair in written.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (name, column) = pair
                .split_once('=')
                .ok_or_else(|| format!("`{pair}` is not FIELD=COLUMN, e.g. item=product_code"))?;
            let field =
                Field::ALL.into_iter().find(|field| field.name() == name.trim()).ok_or_else(|| {
                    format!("`{name}` is not an event field: write id, type, user, item or time")
                })?;
            mapping.0[field as usize] = match column.trim() {
                "" => Choice::Absent,
                column => Choice::Column(column.to_owned()),
            };
        }
        Ok(mapping)
    }
}

/// A field that a column may map to, and the rank of its name; lower is better.
pub(super) type Candidate = (Field, usize);

impl Mapping {
    /// The field that a column maps to.
    pub(super) fn candidate(&self, column: &str) -> Option<Candidate> {
        let name = normalise(column);
        let rank = |field: Field| match &self.0[field as usize] {
            Choice::Absent => None,
            Choice::Column(wanted) if wanted == column => Some(0),
            Choice::Column(wanted) => (normalise(wanted) == name).then_some(1),
            Choice::Default => field.known_names().iter().position(|known| *known == name),
        };
        // A column named in `--map` maps to no other field.
        let named = |field: &Field| matches!(self.0[*field as usize], Choice::Column(_));
        let (mapped, others): (Vec<Field>, Vec<Field>) = Field::ALL.into_iter().partition(named);
        mapped.into_iter().chain(others).find_map(|field| Some((field, rank(field)?)))
    }

    /// Whether `--map` declares the field as absent.
    pub(super) fn is_absent(&self, field: Field) -> bool {
        self.0[field as usize] == Choice::Absent
    }

    /// The fields that a file with these columns lacks; `None` if it has all required ones. `found` says for each field whether
    /// a column maps to it, `typed` that all events get a type by option.
    pub(super) fn missing_columns(
        &self,
        columns: &[String],
        found: &[bool; 5],
        typed: bool,
    ) -> Option<MissingColumns> {
        let mut missing = Vec::new();
        let mut wrong = Vec::new();
        for field in Field::ALL {
            let needed = matches!(field, Field::Time | Field::Item) || (field == Field::Type && !typed);
            match &self.0[field as usize] {
                _ if found[field as usize] => {}
                Choice::Column(column) => wrong.push((field, column.clone())),
                Choice::Default if needed => missing.push(field),
                // Every event needs a type.
                Choice::Absent if field == Field::Type && needed => missing.push(field),
                Choice::Default | Choice::Absent => {}
            }
        }
        if missing.is_empty() && wrong.is_empty() {
            return None;
        }
        let asked: Vec<Field> =
            missing.iter().copied().chain(wrong.iter().map(|(field, _)| *field)).collect();
        Some(MissingColumns {
            proposal: self.proposal(columns, &asked),
            columns: columns.to_vec(),
            missing,
            wrong,
        })
    }

    /// A suggested `--map` for a file with these columns: the valid mappings given, and the likeliest columns for `asked`.
    fn proposal(&self, columns: &[String], asked: &[Field]) -> String {
        let free = |column: &&String| self.candidate(column).is_none();
        let mut pairs = Vec::new();
        for field in Field::ALL {
            if asked.contains(&field) {
                let column = field.hints().iter().find_map(|hint| {
                    columns.iter().filter(free).find(|column| normalise(column).contains(hint))
                });
                pairs.push(format!("{}={}", field.name(), column.map_or("COLUMN", |column| column)));
            } else {
                match &self.0[field as usize] {
                    Choice::Default => {}
                    Choice::Column(column) => pairs.push(format!("{}={column}", field.name())),
                    Choice::Absent => pairs.push(format!("{}=", field.name())),
                }
            }
        }
        pairs.join(",")
    }
}

/// Missing or invalid mappings that prevent sending a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingColumns {
    /// Required fields without a column.
    missing: Vec<Field>,
    /// Columns named in `--map` that do not exist.
    wrong: Vec<(Field, String)>,
    /// The columns of the file.
    columns: Vec<String>,
    /// A suggested `--map`.
    proposal: String,
}

/// Maximum number of columns in a message.
const MAX_LISTED: usize = 40;

impl std::fmt::Display for MissingColumns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut said = Vec::new();
        for field in &self.missing {
            said.push(format!("no column is recognised as the {}", field.name()));
        }
        for (field, column) in &self.wrong {
            said.push(format!("`--map {}={column}` names a column that does not exist", field.name()));
        }
        let mut columns = String::new();
        for (at, column) in self.columns.iter().take(MAX_LISTED).enumerate() {
            let _ = write!(columns, "{}`{column}`", if at == 0 { "" } else { ", " });
        }
        if self.columns.len() > MAX_LISTED {
            let _ = write!(columns, " and {} more", self.columns.len() - MAX_LISTED);
        }
        write!(f, "{}; the columns are {columns}", said.join("; "))
    }
}

impl MissingColumns {
    /// The remedy.
    pub(super) fn help(&self) -> String {
        let mut help = format!("map the columns: --map '{}'", self.proposal);
        for field in &self.missing {
            let more = match field {
                Field::Type => "; --event-type TYPE gives all events one type".to_owned(),
                Field::Time => {
                    "; `time=` sends events without a time, which get the time of receipt".to_owned()
                }
                field => format!("; `{}=` sends events without it", field.name()),
            };
            help.push_str(&more);
        }
        help
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Time", Some(Field::Time))]
    #[case("User_ID", Some(Field::User))]
    #[case("Item ID", Some(Field::Item))]
    #[case("Event", Some(Field::Type))]
    #[case("event-time", Some(Field::Time))]
    #[case("visitorid", Some(Field::User))]
    #[case("StockCode", Some(Field::Item))]
    #[case("Price", None)]
    fn recognises_names_regardless_of_case_and_separators(
        #[case] column: &str,
        #[case] field: Option<Field>,
    ) {
        assert_eq!(Mapping::default().candidate(column).map(|(field, _)| field), field);
    }

    #[rstest]
    #[case("colour=x", "`colour` is not an event field")]
    #[case("item", "`item` is not FIELD=COLUMN")]
    fn rejects_an_invalid_mapping(#[case] written: &str, #[case] expected: &str) {
        assert!(written.parse::<Mapping>().unwrap_err().contains(expected));
    }

    #[test]
    fn a_column_named_in_map_maps_to_no_other_field() {
        let mapping: Mapping = "item=event".parse().unwrap();
        assert_eq!(mapping.candidate("event"), Some((Field::Item, 0)));
        assert_eq!(mapping.candidate("item_id"), None);
    }

    #[test]
    fn suggests_unmapped_columns_for_missing_fields() {
        let columns: Vec<String> =
            ["InvoiceDate", "Description", "Product name", "userId", "Quantity"].map(str::to_owned).into();
        let found = [false, false, true, false, false];
        let missing = Mapping::default().missing_columns(&columns, &found, false).unwrap();
        assert_eq!(missing.proposal, "type=COLUMN,item=Product name,time=InvoiceDate");
        assert!(missing.to_string().contains("no column is recognised as the item"), "{missing}");
        assert!(missing.to_string().contains("`Description`"), "{missing}");
        let missing = Mapping::default().missing_columns(&columns, &found, true).unwrap();
        assert_eq!(missing.proposal, "item=Product name,time=InvoiceDate");
        let mapping: Mapping = "item=,time=Invoice Day".parse().unwrap();
        let missing = mapping.missing_columns(&columns, &found, true).unwrap();
        assert_eq!(missing.proposal, "item=,time=InvoiceDate");
        assert!(
            missing.to_string().contains("`--map time=Invoice Day` names a column that does not exist"),
            "{missing}"
        );
    }
}
