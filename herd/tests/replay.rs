//! `herd replay`: event files of various formats, sent to a real collector.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rstest::rstest;
use serde_json::Value;
use support::{Collector, herd, json, stderr};

/// The events of a file that a collector accepted, sorted by item.
fn replayed(name: &str, text: &[u8], options: &[&str]) -> (Value, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path());
    std::fs::write(folder.path().join(name), text).unwrap();
    let arguments = [&["replay", name, "--to", &collector.url, "--json"], options].concat();
    let report = json(&herd(folder.path(), &arguments));
    let mut events = collector.read(&collector.plan.topics.events);
    events.sort_by_key(|event| serde_json::from_str::<Value>(event).unwrap()["item_id"].to_string());
    collector.stop();
    (report, events)
}

#[rstest]
#[case::tabs(
    "sales.csv",
    "Time\tUser_ID\tItem_ID\tEvent\tPrice\n2009-12-01T07:45:00Z\t7\ta\tpurchase\t9.5\n"
)]
#[case::tsv("sales.tsv", "time\tuser id\titem id\tevent\tPrice\n1259653500\t7\ta\tpurchase\t9.5\n")]
#[case::semicolons(
    "sales.csv",
    "Timestamp;Customer-ID;Product_ID;Event_Type;Price\n1259653500000;7;a;purchase;9.5\n"
)]
#[case::bars("sales.csv", "ts|visitorid|sku|action|Price\n1259653500|7|a|purchase|9.5\n")]
#[case::spreadsheet(
    "sales.csv",
    "\u{feff}EVENT_TIME,USER_ID,PRODUCT_ID,EVENT_TYPE,Price\r\n2009-12-01 07:45:00 UTC,7,a,purchase,9.5\r\n"
)]
#[case::ndjson(
    "sales.ndjson",
    "\u{feff}{\"Time\":1259653500,\"userID\":7,\"Item-Id\":\"a\",\"EventType\":\"purchase\",\"Price\":9.5}\n"
)]
fn recognises_delimiters_and_column_names(#[case] name: &str, #[case] text: &str) {
    let (report, events) = replayed(name, text.as_bytes(), &[]);
    assert_eq!(report["accepted"], 1, "{report}");
    let event: Value = serde_json::from_str(&events[0]).unwrap();
    let seen = [&event["user_id"], &event["item_id"], &event["type"]].map(|value| value.as_str().unwrap());
    assert_eq!(seen, ["7", "a", "purchase"]);
    assert_eq!(event["time"], 1_259_653_500_000_i64);
    assert_eq!(
        event["properties"],
        serde_json::json!({"Price": 9.5}),
        "only unmapped columns are properties"
    );
}

#[test]
fn ids_keep_all_digits() {
    let ids = ["12345678901234567890122", "12345678901234567890123", "9007199254740993"];
    let lines: String = ids
        .iter()
        .map(|id| format!("{{\"type\":\"view\",\"time\":1259653500,\"item_id\":{id},\"order\":{id}}}\n"))
        .collect();
    let (report, events) = replayed("ids.ndjson", lines.as_bytes(), &[]);
    assert_eq!(report["accepted"], 3, "{report}");
    for (event, id) in events.iter().zip(ids) {
        assert!(event.contains(&format!("\"item_id\":\"{id}\"")), "{event}");
        assert!(event.contains(&format!("\"order\":{id}")), "{event}");
    }
}

#[rstest]
#[case::unknown_names(
    "x.csv",
    "Zeitpunkt,Kunde,Product name,Vorgang\n1,2,3,4\n",
    &[],
    &["no column is recognised as the type", "no column is recognised as the item", "no column is recognised as the time",
      "`Zeitpunkt`, `Kunde`, `Product name`, `Vorgang`", "--map 'type=COLUMN,item=Product name,time=COLUMN'"]
)]
#[case::one_is_missing(
    "x.csv",
    "time,event,Article\n1,view,a\n",
    &[],
    &["no column is recognised as the item", "--map 'item=Article'", "`item=` sends events without it"]
)]
#[case::no_type(
    "x.csv",
    "time,item\n1,a\n",
    &[],
    &["no column is recognised as the type", "--event-type TYPE gives all events one type"]
)]
#[case::a_map_that_names_nothing(
    "x.csv",
    "time,item,kind\n1,a,view\n",
    &["--map", "type=Kind_of_event"],
    &["`--map type=Kind_of_event` names a column that does not exist", "--map 'type=kind'"]
)]
#[case::ndjson(
    "x.ndjson",
    "{\"when\":1,\"item\":\"a\",\"type\":\"view\"}\n",
    &[],
    &["no column is recognised as the time", "`item`, `type`, `when`", "--map 'time=when'"]
)]
#[case::a_row_without_a_time(
    "x.ndjson",
    "{\"time\":1,\"item\":\"a\",\"type\":\"view\"}\n{\"item\":\"a\",\"type\":\"view\"}\n",
    &[],
    &["line 2: the row has no time, but other rows have one"]
)]
#[case::a_name_twice(
    "x.ndjson",
    "{\"time\":1,\"item\":\"a\",\"type\":\"view\",\"item\":\"b\"}\n",
    &[],
    &["line 1: not a JSON object: duplicate field `item`"]
)]
#[case::a_column_twice(
    "x.csv",
    "time,item,type,item\n1,a,view,b\n",
    &[],
    &["line 1: duplicate column `item`"]
)]
fn an_ambiguous_file_sends_nothing_and_names_the_remedy(
    #[case] name: &str,
    #[case] text: &str,
    #[case] options: &[&str],
    #[case] expected: &[&str],
) {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path());
    std::fs::write(folder.path().join(name), text).unwrap();
    let output = herd(folder.path(), &[&["replay", name, "--to", &collector.url], options].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output).split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for expected in expected {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    assert_eq!(collector.read(&collector.plan.topics.events), Vec::<String>::new());
    collector.stop();
}

#[test]
fn absent_fields_can_be_declared() {
    let (report, events) = replayed(
        "logins.csv",
        b"ts,who\n1259653500,7\n",
        &["--map", "item=,user=who", "--event-type", "login"],
    );
    assert_eq!(report["accepted"], 1, "{report}");
    let event: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!((&event["type"], &event["user_id"]), (&"login".into(), &"7".into()));
    assert_eq!(event["item_id"], Value::Null);
}
