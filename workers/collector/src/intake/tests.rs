use super::*;
use herd_spec::pipeline::EventsSpec;
use herd_spec::wire::Event;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value as Json, json};

const NOW: WallTime = WallTime(1_700_000_000_000);

fn plan(spec: Json) -> EventsPlan {
    let spec: EventsSpec = serde_json::from_value(spec).unwrap();
    let split =
        |paths: &[String]| paths.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect();
    EventsPlan {
        mapping: MappingPlan {
            id: split(&spec.mapping.id),
            event_type: split(&spec.mapping.event_type),
            user: split(&spec.mapping.user),
            item: split(&spec.mapping.item),
            time: split(&spec.mapping.time),
        },
        types: spec.types,
        schema: spec.schema,
        key: FieldPath::parse(&spec.key).unwrap(),
        max_lateness: spec.max_lateness.0,
        max_clock_skew: spec.max_clock_skew.0,
        max_age: Some(spec.max_age.0).filter(|age| !age.is_zero()),
    }
}

fn intake(spec: Json) -> Intake {
    Intake::new(&plan(spec)).unwrap()
}

fn accept(intake: &Intake, item: &Item<'_>) -> Result<(Event, Accepted), Refusal> {
    let mut out = Vec::new();
    let accepted = intake.accept(item, NOW, || "given".into(), &mut out)?;
    Ok((Event::parse(&out).unwrap(), accepted))
}

fn event(spec: Json, sent: &str) -> Event {
    accept(&intake(spec), &Item::Json(sent)).unwrap().0
}

/// The bodies of the systems before us, by the mapping alone.
#[rstest]
#[case::shop(
    json!({}),
    r#"{"event":"view_product","product_id":"product-123","user_id":"u-7","page":"/p/123"}"#,
    json!({"v":1,"event_id":"given","type":"view_product","user_id":"u-7","item_id":"product-123",
           "time":1_700_000_000_000_i64,"received":1_700_000_000_000_i64,"properties":{"page":"/p/123"}})
)]
#[case::sales(
    json!({}),
    r#"{"user_id":7,"event_type":"purchase","country":"PT","device":"mobile","product_id":12,"price":9.5,"quantity":2,"timestamp":1699999999}"#,
    json!({"v":1,"event_id":"given","type":"purchase","user_id":"7","item_id":"12",
           "time":1_699_999_999_000_i64,"received":1_700_000_000_000_i64,
           "properties":{"country":"PT","device":"mobile","price":9.5,"quantity":2}})
)]
#[case::anime(
    json!({"mapping":{"item":["malId"],"type":["eventType"]}}),
    r#"{"malId":5114,"title":"Fullmetal Alchemist","eventType":"SCORE_UPDATE","currentScore":9.1,"liveMembers":1200,"timestamp":"2023-11-14T22:13:19.5Z"}"#,
    json!({"v":1,"event_id":"given","type":"SCORE_UPDATE","item_id":"5114",
           "time":1_699_999_999_500_i64,"received":1_700_000_000_000_i64,
           "properties":{"title":"Fullmetal Alchemist","currentScore":9.1,"liveMembers":1200}})
)]
#[case::journey(
    json!({"mapping":{"item":["page"],"user":["user.id"]}}),
    r#"{"event":"step","page":"/cart","user":{"id":"u-7","plan":"free"},"timestamp":1699999999123}"#,
    json!({"v":1,"event_id":"given","type":"step","user_id":"u-7","item_id":"/cart",
           "time":1_699_999_999_123_i64,"received":1_700_000_000_000_i64,
           "properties":{"user":{"id":"u-7","plan":"free"}}})
)]
#[case::first_present_counts(
    json!({}),
    r#"{"type":"view","event":"click","user_id":null,"userId":"","user":"u-7","id":"a","eventId":"b"}"#,
    json!({"v":1,"event_id":"b","type":"view","user_id":"u-7",
           "time":1_700_000_000_000_i64,"received":1_700_000_000_000_i64,
           "properties":{"event":"click","user_id":null,"userId":"","id":"a"}})
)]
#[case::escapes(
    json!({}),
    r#"{"t\u0079pe":"vi\u0065w","item":"Zo\u00eb \ud83d\udc11"}"#,
    json!({"v":1,"event_id":"given","type":"view","item_id":"Zoë 🐑",
           "time":1_700_000_000_000_i64,"received":1_700_000_000_000_i64,"properties":{}})
)]
fn events_are_mapped(#[case] spec: Json, #[case] sent: &str, #[case] expected: Json) {
    assert_eq!(serde_json::to_value(event(spec, sent)).unwrap(), expected);
}

#[rstest]
#[case("user_id", "u-7")]
#[case("item_id", "p-1")]
#[case("event_id", "e-1")]
#[case("type", "view")]
#[case("country", "PT")]
#[case("cart.total", "12")]
#[case("nothing", "e-1")]
fn the_key_is_the_configured_field_or_else_the_id(#[case] field: &str, #[case] key: &str) {
    let sent = r#"{"id":"e-1","type":"view","user":"u-7","item":"p-1","country":"PT","cart":{"total":12}}"#;
    let (_, accepted) = accept(&intake(json!({"key": field})), &Item::Json(sent)).unwrap();
    assert_eq!(accepted, Accepted { event_id: "e-1".into(), key: key.into(), replaced: 0 });
}

fn long(length: usize) -> String {
    "x".repeat(length)
}

/// Refused events, with code and message.
#[rstest]
#[case::no_object(r#""text""#, Code::NotAnObject, "JSON object")]
#[case::number("12", Code::NotAnObject, "JSON object")]
#[case::null("null", Code::NotAnObject, "JSON object")]
#[case::array_in_array("[1]", Code::NotAnObject, "JSON object")]
#[case::cut(r#"{"type":"view""#, Code::InvalidJson, "EOF")]
#[case::trailing_comma(r#"{"type":"view",}"#, Code::InvalidJson, "line 1")]
#[case::single_quotes("{'type':'view'}", Code::InvalidJson, "line 1")]
#[case::two_in_a_row(r#"{"type":"view"}{"type":"view"}"#, Code::InvalidJson, "trailing")]
#[case::control_character("{\"type\":\"a\nb\"}", Code::InvalidJson, "control character")]
#[case::no_type(r#"{"user_id":"u"}"#, Code::MissingField, "`type`, `event_type`, `eventType`, `event`")]
#[case::empty_type(r#"{"type":""}"#, Code::MissingField, "has no type")]
#[case::null_type(r#"{"type":null}"#, Code::MissingField, "has no type")]
#[case::type_object(
    r#"{"type":{"a":1}}"#,
    Code::InvalidField,
    "`type` is mapped to the type: it must be a string or a number, not an object"
)]
#[case::type_boolean(r#"{"type":true}"#, Code::InvalidField, "not a boolean")]
#[case::user_array(r#"{"type":"view","user_id":["u"]}"#, Code::InvalidField, "not an array")]
#[case::user_object(r#"{"type":"view","user":{"id":"u"}}"#, Code::InvalidField, "spec.events.mapping.user")]
#[case::twice(r#"{"type":"view","type":"buy"}"#, Code::InvalidField, "`type` occurs twice")]
#[case::nul(r#"{"type":"view","a":"x\u0000y"}"#, Code::InvalidValue, "NUL")]
#[case::nul_in_a_name(r#"{"type":"view","a":{"x\u0000y":1}}"#, Code::InvalidValue, "NUL")]
#[case::huge_number(r#"{"type":"view","a":1e999}"#, Code::InvalidValue, "out of range")]
#[case::unknown_type(
    r#"{"type":"veiw"}"#,
    Code::UnknownType,
    "`veiw` is not an accepted event type: use one of view, buy"
)]
#[case::time_in_words(r#"{"type":"view","time":"yesterday"}"#, Code::InvalidTime, "RFC 3339")]
#[case::time_negative(r#"{"type":"view","time":-5}"#, Code::InvalidTime, "`-5`")]
#[case::time_object(r#"{"type":"view","time":{}}"#, Code::InvalidField, "not an object")]
#[case::time_without_offset(
    r#"{"type":"view","time":"2023-11-14T22:13:20"}"#,
    Code::InvalidTime,
    "no UTC offset"
)]
#[case::past(
    r#"{"type":"view","time":1697407999}"#,
    Code::PastTime,
    "more than 30d before the time of receipt"
)]
#[case::the_beginning(r#"{"type":"view","time":0}"#, Code::PastTime, "1970-01-01")]
#[case::future(r#"{"type":"view","time":1700000061}"#, Code::FutureTime, "more than 60s ahead")]
fn refuses_invalid_events_with_code_and_reason(#[case] sent: &str, #[case] code: Code, #[case] words: &str) {
    let intake = intake(json!({"types": ["view", "buy"]}));
    let refusal = accept(&intake, &Item::Json(sent)).unwrap_err();
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(refusal.detail.contains(words), "{refusal}");
}

#[rstest]
#[case::json(Item::Json(r#"{"type":"view","item":"half \ud83d","note":"\ude00"}"#))]
#[case::structured(Item::CloudEvent(
    r#"{"specversion":"1.0","id":"1","source":"s","type":"view","subject":"half \ud83d","data":{"note":"\ude00"}}"#
))]
#[case::binary(Item::Binary(Binary {
    attributes: [("specversion", "1.0"), ("id", "1"), ("source", "s"), ("type", "view")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
    content_type: Some("application/json".into()),
    body: br#"{"item":"half \ud83d","note":"\ude00"}"#,
}))]
fn replaces_and_counts_unpaired_surrogates(#[case] item: Item<'_>) {
    let (event, accepted) = accept(&intake(json!({})), &item).unwrap();
    assert_eq!((event.item_id.as_deref(), accepted.replaced), (Some("half \u{FFFD}"), 2));
    assert_eq!(event.properties["note"], "\u{FFFD}");
}

#[test]
fn refuses_events_older_than_max_age_unless_unlimited() {
    let sent = |age: i64| format!(r#"{{"type":"view","time":{}}}"#, NOW.0 - age);
    let day = 86_400_000;
    let taken = |spec: Json, age: i64| accept(&intake(spec), &Item::Json(&sent(age))).is_ok();
    assert!(taken(json!({}), 30 * day) && !taken(json!({}), 30 * day + 1));
    assert!(taken(json!({"maxAge": "400d"}), 400 * day) && !taken(json!({"maxAge": "400d"}), 400 * day + 1));
    assert!(taken(json!({"maxAge": "0s"}), NOW.0));
}

#[test]
fn refuses_too_long_or_too_deep_values() {
    let intake = intake(json!({}));
    let code = |sent: String| accept(&intake, &Item::Json(&sent)).map_err(|refusal| refusal.code).map(|_| ());
    assert_eq!(code(format!(r#"{{"type":"view","id":"{}"}}"#, long(256))), Ok(()));
    assert_eq!(code(format!(r#"{{"type":"view","id":"{}"}}"#, long(257))), Err(Code::InvalidField));
    assert_eq!(code(format!(r#"{{"type":"view","item":"{}"}}"#, long(1024))), Ok(()));
    assert_eq!(code(format!(r#"{{"type":"view","item":"{}"}}"#, long(1025))), Err(Code::InvalidField));
    assert_eq!(code(format!(r#"{{"type":"view","a":"{}"}}"#, long(EVENT_BYTES))), Err(Code::TooLarge));
    let nested = |depth| format!(r#"{{"type":"view","a":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(code(nested(63)), Ok(()));
    assert_eq!(code(nested(64)), Err(Code::InvalidValue));
    // Deep enough to overflow the stack of a parser without a depth limit.
    assert_eq!(code(nested(100_000)), Err(Code::InvalidValue));
}

#[test]
fn validates_the_received_event_against_the_schema() {
    let intake = intake(json!({"schema": {
        "type": "object", "required": ["price"], "properties": {"price": {"type": "number", "minimum": 0}}
    }}));
    assert!(accept(&intake, &Item::Json(r#"{"type":"buy","price":1}"#)).is_ok());
    let refusal = accept(&intake, &Item::Json(r#"{"type":"buy","price":-1}"#)).unwrap_err();
    assert_eq!(refusal.code, Code::Schema);
    assert!(refusal.detail.starts_with("/price: "), "{refusal}");
    let refusal = accept(&intake, &Item::Json(r#"{"type":"buy"}"#)).unwrap_err();
    assert!(refusal.detail.contains("price"), "{refusal}");
}

#[test]
fn accepts_a_structured_cloud_event() {
    let sent = r#"{"specversion":"1.0","id":"A234","source":"/shop","type":"view","subject":"product-1",
        "time":"2023-11-14T22:13:20Z","datacontenttype":"application/json","traceparent":"00-1",
        "data":{"user_id":"u-7","price":9.5,"type":"inner"}}"#;
    let (event, accepted) = accept(&intake(json!({})), &Item::CloudEvent(sent)).unwrap();
    assert_eq!(accepted, Accepted { event_id: "/shop#A234".into(), key: "u-7".into(), replaced: 0 });
    assert_eq!((event.event_type.as_str(), event.item_id.as_deref()), ("view", Some("product-1")));
    assert_eq!(
        Json::Object(event.properties),
        json!({"price": 9.5, "type": "inner", "traceparent": "00-1", "source": "/shop"})
    );
}

#[test]
fn accepts_a_binary_cloud_event() {
    let attribute = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let attributes = vec![
        attribute("specversion", "1.0"),
        attribute("id", "1"),
        attribute("source", "caf%C3%A9"),
        attribute("type", "view"),
    ];
    let binary = |content_type: &str, body: &'static [u8]| {
        Item::Binary(Binary { attributes: attributes.clone(), content_type: Some(content_type.into()), body })
    };
    let intake = intake(json!({}));
    let (event, _) = accept(&intake, &binary("application/json", br#"{"item":"p-1"}"#)).unwrap();
    assert_eq!((event.event_id.as_str(), event.item_id.as_deref()), ("café#1", Some("p-1")));
    let (event, _) = accept(&intake, &binary("text/plain", b"hello")).unwrap();
    assert_eq!(event.properties["data"], "hello");
    let (event, _) = accept(&intake, &binary("image/png", b"\x89PNG")).unwrap();
    assert_eq!(event.properties["data"], "iVBORw==");
    let (event, _) = accept(&intake, &binary("application/json", b"")).unwrap();
    assert!(!event.properties.contains_key("data"));
    assert_eq!(accept(&intake, &binary("application/json", b"{")).unwrap_err().code, Code::InvalidJson);
}

#[rstest]
#[case(r#"{"id":"1","source":"s","type":"t"}"#, "has no `specversion`")]
#[case(r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#, "only 1.0 is supported")]
#[case(r#"{"specversion":"1.0","source":"s","type":"t"}"#, "has no `id`")]
#[case(r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#, "has no `id`")]
#[case(r#"{"specversion":"1.0","id":"1","type":"t"}"#, "has no `source`")]
#[case(r#"{"specversion":"1.0","id":"1","source":"s"}"#, "has no `type`")]
#[case(r#"{"specversion":"1.0","id":{},"source":"s","type":"t"}"#, "`id` must be a string")]
fn refuses_an_invalid_cloud_event(#[case] sent: &str, #[case] words: &str) {
    let refusal = accept(&intake(json!({})), &Item::CloudEvent(sent)).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidCloudEvent);
    assert!(refusal.detail.contains(words), "{refusal}");
}

#[rstest]
#[case(r#"{"type":"a"}"#, 1, false)]
#[case(" [ ] ", 0, true)]
#[case(r#"[{"type":"a"},2]"#, 2, true)]
#[case(r#"{"batch":[{"type":"a"},{"type":"b"},null],"sentAt":1}"#, 3, true)]
#[case(r#"{"type":"a","note":"a \"batch\" of eggs"}"#, 1, false)]
#[case(r#"{"type":"a","batch":7}"#, 1, false)]
#[case("\u{FEFF}{\"type\":\"a\"}", 1, false)]
fn splits_a_body_into_items(#[case] body: &str, #[case] items: usize, #[case] is_batch: bool) {
    let (found, batch) = split(body.as_bytes(), Format::Json).unwrap();
    assert_eq!((found.len(), batch), (items, is_batch));
}

#[test]
fn refuses_a_body_that_cannot_be_split() {
    for body in [&b""[..], b"  ", b"[{}", b"[1,]", b"\xff\xfe", br#"{"batch":[}"#] {
        assert_eq!(split(body, Format::Json).unwrap_err().code, Code::InvalidJson, "{body:?}");
    }
    assert!(split(b"{}", Format::CloudEvents).is_err());
    assert_eq!(split(b"[{},{}]", Format::CloudEvents).unwrap().0.len(), 2);
}

proptest! {
    /// Any input is either accepted and can be parsed again, or refused without writing anything. Nothing panics.
    #[test]
    fn any_bytes_are_accepted_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let intake = intake(json!({}));
        for format in [Format::Json, Format::CloudEvent, Format::CloudEvents] {
            for item in split(&bytes, format).map(|(items, _)| items).unwrap_or_default() {
                let _ = accept(&intake, &item);
            }
        }
        for call in [None, segment::Call::of("track"), segment::Call::of("identify")] {
            for item in segment::body(&bytes, call, NOW).map(|body| body.items).unwrap_or_default() {
                let _ = intake.ignores(&item);
                let _ = accept(&intake, &item);
            }
        }
    }

    #[test]
    fn any_json_is_accepted_or_refused(
        fields in proptest::collection::vec((name(), value()), 0..6),
    ) {
        let sent = format!("{{{}}}", fields.iter().map(|(name, value)| format!("{name:?}:{value}")).collect::<Vec<_>>().join(","));
        let intake = intake(json!({"schema": {"maxProperties": 5}}));
        let segment = segment::body(sent.as_bytes(), segment::Call::of("track"), NOW).unwrap().items.remove(0);
        for item in [Item::Json(&sent), Item::CloudEvent(&sent), segment] {
            let mut out = b"before".to_vec();
            match intake.accept(&item, NOW, || "given".into(), &mut out) {
                Ok(accepted) => {
                    let event = Event::parse(&out[6..]).unwrap();
                    prop_assert_eq!(event.event_id, accepted.event_id);
                    prop_assert!(!accepted.key.is_empty());
                }
                Err(_) => prop_assert_eq!(out, b"before"),
            }
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["(type|event|id|user_id|item|time|source|specversion|subject|data)", "[a-z]{1,3}",]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("\"1.0\"".to_owned()),
        Just("\"2023-11-14T22:13:20Z\"".to_owned()),
        Just(r#"{"user":{"id":1}}"#.to_owned()),
        Just(r#"[[{"a":"\ud800"}]]"#.to_owned()),
        Just(r#""\u0000""#.to_owned()),
        any::<f64>().prop_map(|number| serde_json::to_string(&number).unwrap()),
        any::<i64>().prop_map(|number| number.to_string()),
        ".{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ]
}
