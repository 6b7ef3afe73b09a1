//! The collector over real sockets, on the embedded bus: responses, and records in the topics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "http/browsers.rs"]
mod browsers;
#[path = "http/context.rs"]
mod context;
#[path = "http/segment.rs"]
mod segment;
mod support;

use std::io::Write;

use reqwest::{Method, header};
use rstest::rstest;
use serde_json::{Value, json};
use support::{Collector, gzip};

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_event_is_in_the_topic_before_the_response() {
    let collector = Collector::start("{}").await;
    let answer = collector.json(r#"{"event":"view_product","product_id":"p-1","user_id":"u-7"}"#).await;
    assert_eq!(answer.status, 202);
    let id = answer.body["items"][0]["event_id"].as_str().unwrap().to_owned();
    assert_eq!(
        answer.body,
        json!({"accepted":1,"invalid":0,"items":[{"status":"accepted","index":0,"event_id":id}]})
    );
    let events = collector.events();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0]["event_id"].as_str(), events[0]["item_id"].as_str()),
        (Some(id.as_str()), Some("p-1"))
    );
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_a_result_per_item_and_invalid_ones_become_dead_letters() {
    let collector = Collector::start("types: [view]").await;
    let body = r#"{"batch":[{"id":"a","type":"view"}, {"type": "wiew",  "odd spacing":1}, {"id":"b","type":"view"}, 7]}"#;
    let answer = collector.json(body).await;
    assert_eq!(answer.status, 207);
    assert_eq!((&answer.body["accepted"], &answer.body["invalid"]), (&json!(2), &json!(2)));
    let statuses: Vec<&str> = answer.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["accepted", "invalid", "accepted", "invalid"]);
    assert_eq!(answer.body["items"][1]["code"], "unknown-type");
    assert_eq!(collector.events().len(), 2);
    let mut dead_letters = collector.dead_letters();
    dead_letters.sort();
    assert_eq!(dead_letters[0].0, "7");
    assert_eq!(dead_letters[1].0, r#"{"type": "wiew",  "odd spacing":1}"#);
    let header = |name: &str| {
        dead_letters[1].1.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    };
    assert_eq!(header("__connect.errors.exception.class.name"), Some("unknown-type"));
    assert_eq!(header("__connect.errors.topic"), Some("/track"));
    assert_eq!(header("__connect.errors.connector.name"), Some("collector"));
    assert_eq!(header("herd.content-type"), Some("application/json"));
    assert!(header("__connect.errors.exception.message").unwrap().contains("`wiew`"));

    assert_eq!(collector.json("[]").await.status, 202);
    let none = collector.json("[1,2]").await;
    assert_eq!(none.status, 422);
    assert_eq!(none.body["items"].as_array().unwrap().len(), 2);
    collector.stop().await;
}

#[rstest]
#[case::json("application/json", &[], br#"{"type":"view"}"#)]
#[case::charset("application/json; charset=UTF-8", &[], br#"{"type":"view"}"#)]
#[case::beacon("text/plain;charset=UTF-8", &[], br#"{"type":"view"}"#)]
#[case::structured("application/cloudevents+json", &[], br#"{"specversion":"1.0","id":"1","source":"s","type":"view"}"#)]
#[case::batched("application/cloudevents-batch+json", &[], br#"[{"specversion":"1.0","id":"1","source":"s","type":"view"}]"#)]
#[case::binary("application/json", &[("ce-specversion","1.0"),("ce-id","1"),("ce-source","s"),("ce-type","view")], br#"{"price":1}"#)]
#[case::identity("application/json", &[("content-encoding","identity")], br#"{"type":"view"}"#)]
#[tokio::test(flavor = "multi_thread")]
async fn every_format_is_accepted(
    #[case] content_type: &str,
    #[case] headers: &[(&str, &str)],
    #[case] body: &[u8],
) {
    let collector = Collector::start("{}").await;
    let answer = collector.send(Method::POST, "/track", content_type, headers, body.to_vec()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let packed: Vec<(&str, &str)> = [headers, &[("content-encoding", "gzip")]].concat();
    if !headers.iter().any(|(name, _)| *name == "content-encoding") {
        let answer = collector.send(Method::POST, "/track", content_type, &packed, gzip(body)).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        assert_eq!(collector.events().len(), 2);
        let packed: Vec<(&str, &str)> = [headers, &[("content-encoding", "zstd")]].concat();
        let zstd = zstd::encode_all(body, 3).unwrap();
        let answer = collector.send(Method::POST, "/track", content_type, &packed, zstd).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        assert_eq!(collector.events().len(), 3);
    }
    assert!(collector.dead_letters().is_empty());
    collector.stop().await;
}

/// What it is, the status it must have, headers, body.
type Malformed = (&'static str, u16, Vec<(&'static str, String)>, Vec<u8>);

/// Requests that are wrong in one way each, and what must come of them.
fn malformed() -> Vec<Malformed> {
    let json = ("content-type", "application/json".to_owned());
    let with = |name: &'static str, value: &str| vec![json.clone(), (name, value.to_owned())];
    let packed = || with("content-encoding", "gzip");
    let body = |text: &str| text.as_bytes().to_vec();
    let view = || body(r#"{"type":"view"}"#);
    let ce = |name: &'static str| ("content-type", format!("application/cloudevents{name}+json"));
    let mut table = vec![
        ("no content type", 415, vec![], view()),
        (
            "a form",
            415,
            vec![("content-type", "application/x-www-form-urlencoded".into())],
            body("type=view"),
        ),
        ("multipart", 415, vec![("content-type", "multipart/form-data; boundary=x".into())], view()),
        ("xml", 415, vec![("content-type", "application/xml".into())], body("<a/>")),
        ("latin 1", 415, vec![("content-type", "application/json; charset=iso-8859-1".into())], view()),
        ("utf-16", 415, vec![("content-type", "text/plain; charset=utf-16".into())], view()),
        ("brotli", 415, with("content-encoding", "br"), view()),
        ("two encodings", 415, with("content-encoding", "gzip, br"), view()),
        ("deflate", 415, with("content-encoding", "deflate"), view()),
        ("said to be gzip", 400, packed(), view()),
        ("gzip cut short", 400, packed(), gzip(&view())[..15].to_vec()),
        ("gzip with rubbish after", 400, packed(), [gzip(&view()), b"rubbish".to_vec()].concat()),
        ("gzip of nothing", 400, packed(), gzip(b"")),
        ("gzip of broken JSON", 400, packed(), gzip(b"{")),
        ("gzip bomb", 413, packed(), gzip(&vec![b' '; 9 << 20])),
        ("too long", 413, vec![json.clone()], vec![b' '; (1 << 20) + 1]),
        ("too many events", 413, vec![json.clone()], format!("[{}1]", "1,".repeat(5_000)).into_bytes()),
        ("empty body", 400, vec![json.clone()], vec![]),
        ("spaces", 400, vec![json.clone()], body("  \n ")),
        ("not UTF-8", 400, vec![json.clone()], b"{\"type\":\"\xff\"}".to_vec()),
        ("UTF-16", 400, vec![json.clone()], b"\xff\xfe{\0}\0".to_vec()),
        ("a word", 400, vec![json.clone()], body("hello")),
        ("cut short", 400, vec![json.clone()], body(r#"{"type":"vi"#)),
        ("array cut short", 400, vec![json.clone()], body(r#"[{"type":"view"},"#)),
        ("batch cut short", 400, vec![json.clone()], body(r#"{"batch":[{"type":"view"}"#)),
        ("trailing comma", 400, vec![json.clone()], body(r#"{"type":"view",}"#)),
        ("comma in an array", 400, vec![json.clone()], body(r#"[{"type":"view"},]"#)),
        ("two objects", 400, vec![json.clone()], body(r#"{"type":"view"}{"type":"view"}"#)),
        ("comment", 400, vec![json.clone()], body(r#"{"type":"view"/*!*/}"#)),
        ("single quotes", 400, vec![json.clone()], body("{'type':'view'}")),
        ("bare name", 400, vec![json.clone()], body("{type:\"view\"}")),
        ("NaN", 400, vec![json.clone()], body(r#"{"type":"view","a":NaN}"#)),
        ("leading zero", 400, vec![json.clone()], body(r#"{"type":"view","a":01}"#)),
        ("line end in a string", 400, vec![json.clone()], b"{\"type\":\"a\nb\"}".to_vec()),
        ("bad escape", 400, vec![json.clone()], body(r#"{"type":"\x"}"#)),
        ("a number", 422, vec![json.clone()], body("7")),
        ("a string", 422, vec![json.clone()], body("\"view\"")),
        ("null", 422, vec![json.clone()], body("null")),
        ("an array of rubbish", 422, vec![json.clone()], body("[1,\"a\",null]")),
        ("an empty object", 422, vec![json.clone()], body("{}")),
        ("no type", 422, vec![json.clone()], body(r#"{"user_id":"u"}"#)),
        ("empty type", 422, vec![json.clone()], body(r#"{"type":""}"#)),
        ("type null", 422, vec![json.clone()], body(r#"{"type":null}"#)),
        ("type an array", 422, vec![json.clone()], body(r#"{"type":["view"]}"#)),
        ("unknown type", 422, vec![json.clone()], body(r#"{"type":"nonsense"}"#)),
        ("type in capitals", 422, vec![json.clone()], body(r#"{"type":"VIEW"}"#)),
        ("user an object", 422, vec![json.clone()], body(r#"{"type":"view","user":{"id":1}}"#)),
        ("item a boolean", 422, vec![json.clone()], body(r#"{"type":"view","item":false}"#)),
        ("field twice", 422, vec![json.clone()], body(r#"{"type":"view","user":"a","user":"b"}"#)),
        ("NUL", 422, vec![json.clone()], body(r#"{"type":"view","user":"a\u0000"}"#)),
        ("a number beyond range", 422, vec![json.clone()], body(r#"{"type":"view","a":1e400}"#)),
        ("time in words", 422, vec![json.clone()], body(r#"{"type":"view","time":"now"}"#)),
        ("time empty object", 422, vec![json.clone()], body(r#"{"type":"view","time":{}}"#)),
        ("time negative", 422, vec![json.clone()], body(r#"{"type":"view","time":-1}"#)),
        ("time far ahead", 422, vec![json.clone()], body(r#"{"type":"view","time":4102444800}"#)),
        (
            "time without offset",
            422,
            vec![json.clone()],
            body(r#"{"type":"view","time":"2026-01-01T10:00:00"}"#),
        ),
        ("time of long ago", 422, vec![json.clone()], body(r#"{"type":"view","time":0}"#)),
        (
            "a day that is none",
            422,
            vec![json.clone()],
            body(r#"{"type":"view","time":"2023-02-30T00:00:00Z"}"#),
        ),
        (
            "long id",
            422,
            vec![json.clone()],
            format!(r#"{{"type":"view","id":"{}"}}"#, "i".repeat(257)).into_bytes(),
        ),
        (
            "long user",
            422,
            vec![json.clone()],
            format!(r#"{{"type":"view","user":"{}"}}"#, "i".repeat(1025)).into_bytes(),
        ),
        (
            "long event",
            422,
            vec![json.clone()],
            format!(r#"{{"type":"view","a":"{}"}}"#, "i".repeat(800_000)).into_bytes(),
        ),
        (
            "deep",
            422,
            vec![json.clone()],
            format!(r#"{{"type":"view","a":{}{}}}"#, "[".repeat(9_999), "]".repeat(9_999)).into_bytes(),
        ),
        ("no specversion", 422, vec![ce("")], body(r#"{"id":"1","source":"s","type":"view"}"#)),
        (
            "an older specversion",
            422,
            vec![ce("")],
            body(r#"{"specversion":"0.3","id":"1","source":"s","type":"view"}"#),
        ),
        ("no source", 422, vec![ce("")], body(r#"{"specversion":"1.0","id":"1","type":"view"}"#)),
        (
            "a batch that is none",
            400,
            vec![ce("-batch")],
            body(r#"{"specversion":"1.0","id":"1","source":"s","type":"view"}"#),
        ),
        ("binary without id", 422, with("ce-specversion", "1.0"), view()),
    ];
    let binary = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "view")];
    let binary = binary.map(|(name, value)| (name, value.to_owned()));
    table.push(("binary, broken data", 400, [vec![json.clone()], binary.to_vec()].concat(), body("{")));
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_have_a_status_and_reason_and_write_no_event() {
    let collector = Collector::start("types: [view]").await;
    let table = malformed();
    assert!(table.len() >= 60);
    let mut kept = 0;
    let mut answers = String::new();
    for (what, status, headers, body) in table {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let raw = body.clone();
        let answer = collector.send(Method::POST, "/track", "", &headers, body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json", "{what}");
        assert_eq!(answer.body["status"], status, "{what}");
        assert!(
            answer.body["detail"].as_str().is_some_and(|detail| detail.len() > 10),
            "{what}: {}",
            answer.body
        );
        let (code, detail) = (answer.body["code"].as_str(), answer.body["detail"].as_str());
        answers += &format!("{what}: {status} {}: {}\n", code.unwrap_or("-"), detail.unwrap_or("-"));
        let dead_letters = collector.dead_letters();
        match status {
            413 | 415 => assert_eq!(dead_letters.len(), kept, "{what}"),
            _ => {
                let new = dead_letters.len() - kept;
                assert!(new >= 1, "{what}: no dead letter");
                let packed = headers.contains(&("content-encoding", "gzip"));
                // Kept as it came; what is no text, or an item of an array, is looked at elsewhere.
                if let (Ok(text), false, 1) = (String::from_utf8(raw), packed, new) {
                    let same = |(bytes, _): &(String, _)| text.trim().starts_with(bytes.trim());
                    assert!(dead_letters.iter().any(same), "{what}: not kept as it came");
                }
                kept = dead_letters.len();
            }
        }
    }
    assert!(collector.events().is_empty());
    // Each with its exact words.
    insta::assert_snapshot!("malformed", answers);
    // It still works.
    assert_eq!(collector.json(r#"{"type":"view"}"#).await.status, 202);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_endpoints_name_the_right_one() {
    let collector = Collector::start("{}").await;
    for (method, path, status) in [
        (Method::GET, "/track", 405),
        (Method::PUT, "/track", 405),
        (Method::POST, "/", 404),
        (Method::POST, "/trakc", 404),
    ] {
        let answer = collector.send(method, path, "application/json", &[], b"{}".to_vec()).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body["detail"].as_str().unwrap().contains("POST /track"));
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_requests_with_a_valid_key_are_accepted() {
    let collector =
        Collector::start_with("{}", "auth: {keys: [{name: web, secretRef: {name: keys, key: web}}]}").await;
    let with = |name: &'static str, value: &'static str| vec![(name, value)];
    for (headers, path, status) in [
        (vec![], "/track", 401),
        (with("x-write-key", "wrong"), "/track", 403),
        (with("x-write-key", "s3cret"), "/track", 202),
        (with("authorization", "Bearer s3cret"), "/track", 202),
        (vec![], "/track?key=s3cret", 202),
        (vec![], "/track?key=wrong", 403),
    ] {
        let answer = collector
            .send(Method::POST, path, "application/json", &headers, br#"{"type":"view"}"#.to_vec())
            .await;
        assert_eq!(answer.status, status, "{headers:?} {path}");
        assert_eq!(answer.headers.contains_key(header::WWW_AUTHENTICATE), status == 401);
        assert!(!answer.body.to_string().contains("s3cret"));
    }
    assert_eq!(collector.events().len(), 3);
    assert!(collector.dead_letters().is_empty(), "unauthenticated requests write no dead letters");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_above_the_rate_limit_have_retry_after() {
    let collector = Collector::start_with("{}", "limits: {eventsPerSecondPerKey: 2}").await;
    assert_eq!(collector.json(r#"[{"type":"a"},{"type":"a"}]"#).await.status, 202);
    let answer = collector.json(r#"[{"type":"a"},{"type":"a"}]"#).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    assert_eq!(collector.json("[1,2,3]").await.status, 413);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limits_apply_per_client_behind_a_trusted_proxy() {
    let limits = "limits: {eventsPerSecondPerKey: 2}";
    let send = async |collector: &Collector, client: &str| {
        let headers = [("x-forwarded-for", client)];
        let body = br#"[{"type":"a"},{"type":"a"}]"#.to_vec();
        collector.send(Method::POST, "/track", "application/json", &headers, body).await.status
    };
    let behind = Collector::start_with("{}", &format!("trustedProxies: [127.0.0.0/8], {limits}")).await;
    assert_eq!(send(&behind, "203.0.113.9").await, 202);
    assert_eq!(send(&behind, "203.0.113.9").await, 429);
    assert_eq!(send(&behind, "198.51.100.1").await, 202);
    behind.stop().await;
    // Who is not trusted is one client, whatever it writes.
    let open = Collector::start_with("{}", limits).await;
    assert_eq!(send(&open, "203.0.113.9").await, 202);
    assert_eq!(send(&open, "198.51.100.1").await, 429);
    open.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_and_metrics_reflect_requests() {
    let collector = Collector::start("types: [view]").await;
    collector.json(r#"[{"type":"view"},{"type":"view","a":"\ud83d"},{"type":"no"}]"#).await;
    let metrics = collector.ops("/metrics").await.1;
    for line in [
        "herd_collector_events_total{result=\"accepted\"} 2",
        "herd_collector_events_total{result=\"invalid\"} 1",
        "herd_collector_refusals_total{code=\"unknown-type\"} 1",
        "herd_collector_requests_total{status=\"207\"} 1",
        "herd_collector_replaced_surrogates_total 1",
        "herd_collector_in_flight_events 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert_eq!(collector.ops("/readyz").await.0, 200);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_port_serves_no_operational_endpoints() {
    let collector = Collector::start("{}").await;
    for path in ["/metrics", "/healthz", "/readyz", "/statusz"] {
        assert_eq!(collector.send(Method::GET, path, "", &[], vec![]).await.status, 404, "{path}");
        assert_eq!(collector.ops(path).await.0, 200, "{path}");
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_received_in_chunks_is_one_event() {
    let collector = Collector::start("{}").await;
    let mut stream = std::net::TcpStream::connect(collector.address).unwrap();
    let request = "POST /track HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\
                   connection: close\r\n\r\n8\r\n{\"type\":\r\n7\r\n\"view\"}\r\n0\r\n\r\n";
    for byte in request.as_bytes() {
        stream.write_all(std::slice::from_ref(byte)).unwrap();
    }
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert_eq!(collector.events().len(), 1);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_lose_nothing() {
    let collector = Collector::start("{}").await;
    let tasks: Vec<_> = (0..8)
        .map(|client| {
            let (http, url) = (collector.http.clone(), format!("http://{}/track", collector.address));
            tokio::spawn(async move {
                for n in 0..50 {
                    let body = format!(r#"[{{"id":"{client}-{n}","type":"view"}},{{"type":"view"}}]"#);
                    let answer =
                        http.post(&url).header("content-type", "application/json").body(body).send().await;
                    assert_eq!(answer.unwrap().status(), 202);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let events = collector.events();
    assert_eq!(events.len(), 800);
    let ids: std::collections::HashSet<&str> =
        events.iter().map(|event: &Value| event["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 800);
    collector.stop().await;
}
