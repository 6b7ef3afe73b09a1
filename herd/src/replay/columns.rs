//! Which column of a file is what: what `--map` says, or else by the names that are usual.

use std::fmt::Write as _;
use std::str::FromStr;

/// What a column may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The event's identity.
    Id,
    /// What was done.
    Type,
    /// Who did it.
    User,
    /// To what.
    Item,
    /// When.
    Time,
}

impl Field {
    /// All of them.
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

    /// Its name in an event that is sent: the first that a pipeline's mapping looks for.
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

    /// Columns that are taken for it where nothing is said, the most telling first. Written plainly, see [`plain`].
    fn usual(self) -> &'static [&'static str] {
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

    /// Parts of names by which a column is proposed for it. Too vague to be taken without asking.
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

/// A name without what people write differently: case, `_`, `-` and spaces.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// What is said about a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Choice {
    /// Nothing: the usual names.
    #[default]
    Usual,
    /// This column.
    Column(String),
    /// The file has none.
    Nowhere,
}

/// Which column is what.
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
                    format!("`{name}` is no field of an event: write id, type, user, item or time")
                })?;
            mapping.0[field as usize] = match column.trim() {
                "" => Choice::Nowhere,
                column => Choice::Column(column.to_owned()),
            };
        }
        Ok(mapping)
    }
}

/// What a column is, and how well its name says so: less is better.
pub(super) type Candidate = (Field, usize);

impl Mapping {
    /// What a column is by its name.
    pub(super) fn candidate(&self, column: &str) -> Option<Candidate> {
        let name = plain(column);
        let rank = |field: Field| match &self.0[field as usize] {
            Choice::Nowhere => None,
            Choice::Column(wanted) if wanted == column => Some(0),
            Choice::Column(wanted) => (plain(wanted) == name).then_some(1),
            Choice::Usual => field.usual().iter().position(|usual| *usual == name),
        };
        // A column that `--map` names is nothing else beside.
        let named = |field: &Field| matches!(self.0[*field as usize], Choice::Column(_));
        let (said, usual): (Vec<Field>, Vec<Field>) = Field::ALL.into_iter().partition(named);
        said.into_iter().chain(usual).find_map(|field| Some((field, rank(field)?)))
    }

    /// Whether a file may do without the field.
    pub(super) fn is_nowhere(&self, field: Field) -> bool {
        self.0[field as usize] == Choice::Nowhere
    }

    /// What a file with these columns lacks; none if it has all that is needed. `found` says which fields some column was taken
    /// for, `typed` that all events are given a type.
    pub(super) fn lack(&self, columns: &[String], found: &[bool; 5], typed: bool) -> Option<Lack> {
        let mut missing = Vec::new();
        let mut wrong = Vec::new();
        for field in Field::ALL {
            let needed = matches!(field, Field::Time | Field::Item) || (field == Field::Type && !typed);
            match &self.0[field as usize] {
                _ if found[field as usize] => {}
                Choice::Column(column) => wrong.push((field, column.clone())),
                Choice::Usual if needed => missing.push(field),
                // An event without a type is none.
                Choice::Nowhere if field == Field::Type && needed => missing.push(field),
                Choice::Usual | Choice::Nowhere => {}
            }
        }
        if missing.is_empty() && wrong.is_empty() {
            return None;
        }
        let asked: Vec<Field> =
            missing.iter().copied().chain(wrong.iter().map(|(field, _)| *field)).collect();
        Some(Lack { proposal: self.proposal(columns, &asked), columns: columns.to_vec(), missing, wrong })
    }

    /// A `--map` with which a file with these columns might do: what was said and is right, and the likeliest for what is asked.
    fn proposal(&self, columns: &[String], asked: &[Field]) -> String {
        let free = |column: &&String| self.candidate(column).is_none();
        let mut pairs = Vec::new();
        for field in Field::ALL {
            if asked.contains(&field) {
                let column = field
                    .hints()
                    .iter()
                    .find_map(|hint| columns.iter().filter(free).find(|column| plain(column).contains(hint)));
                pairs.push(format!("{}={}", field.name(), column.map_or("COLUMN", |column| column)));
            } else {
                match &self.0[field as usize] {
                    Choice::Usual => {}
                    Choice::Column(column) => pairs.push(format!("{}={column}", field.name())),
                    Choice::Nowhere => pairs.push(format!("{}=", field.name())),
                }
            }
        }
        pairs.join(",")
    }
}

/// What must be said before the events of a file can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// No column was taken for these.
    missing: Vec<Field>,
    /// `--map` names columns that are not there.
    wrong: Vec<(Field, String)>,
    /// The columns of the file.
    columns: Vec<String>,
    /// A `--map` that might do.
    proposal: String,
}

/// Columns that are listed at most.
const LISTED: usize = 40;

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut said = Vec::new();
        for field in &self.missing {
            said.push(format!("no column is known to be the {}", field.name()));
        }
        for (field, column) in &self.wrong {
            said.push(format!("`--map {}={column}` names a column that is not there", field.name()));
        }
        let mut columns = String::new();
        for (at, column) in self.columns.iter().take(LISTED).enumerate() {
            let _ = write!(columns, "{}`{column}`", if at == 0 { "" } else { ", " });
        }
        if self.columns.len() > LISTED {
            let _ = write!(columns, " and {} more", self.columns.len() - LISTED);
        }
        write!(f, "{}; its columns are {columns}", said.join("; "))
    }
}

impl Lack {
    /// What to do.
    pub(super) fn help(&self) -> String {
        let mut help = format!("say which column is what: --map '{}'", self.proposal);
        for field in &self.missing {
            let more = match field {
                Field::Type => "; --event-type TYPE gives all events one type".to_owned(),
                Field::Time => "; `time=` sends them as events of now".to_owned(),
                field => format!("; `{}=` sends them without", field.name()),
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
    fn names_match_whatever_their_case_and_separators(#[case] column: &str, #[case] field: Option<Field>) {
        assert_eq!(Mapping::default().candidate(column).map(|(field, _)| field), field);
    }

    #[rstest]
    #[case("colour=x", "`colour` is no field")]
    #[case("item", "`item` is not FIELD=COLUMN")]
    fn a_wrong_mapping_is_explained(#[case] written: &str, #[case] expected: &str) {
        assert!(written.parse::<Mapping>().unwrap_err().contains(expected));
    }

    #[test]
    fn a_column_that_map_names_is_not_taken_for_another_field() {
        let mapping: Mapping = "item=event".parse().unwrap();
        assert_eq!(mapping.candidate("event"), Some((Field::Item, 0)));
        assert_eq!(mapping.candidate("item_id"), None);
    }

    #[test]
    fn what_is_missing_is_proposed_from_the_columns_that_are_left() {
        let columns: Vec<String> =
            ["InvoiceDate", "Description", "Product name", "userId", "Quantity"].map(str::to_owned).into();
        let found = [false, false, true, false, false];
        let lack = Mapping::default().lack(&columns, &found, false).unwrap();
        assert_eq!(lack.proposal, "type=COLUMN,item=Product name,time=InvoiceDate");
        assert!(lack.to_string().contains("no column is known to be the item"), "{lack}");
        assert!(lack.to_string().contains("`Description`"), "{lack}");
        let lack = Mapping::default().lack(&columns, &found, true).unwrap();
        assert_eq!(lack.proposal, "item=Product name,time=InvoiceDate");
        let mapping: Mapping = "item=,time=Invoice Day".parse().unwrap();
        let lack = mapping.lack(&columns, &found, true).unwrap();
        assert_eq!(lack.proposal, "item=,time=InvoiceDate");
        assert!(
            lack.to_string().contains("`--map time=Invoice Day` names a column that is not there"),
            "{lack}"
        );
    }
}
