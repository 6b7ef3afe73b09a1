//! Over real HTTP: REST, its document, problems, the token, simulated crowds, the dashboard.

#![allow(clippy::unwrap_used)]

mod fixture;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use herd_api::Limits;
use herd_spec::wire::AlertState::{Early, Firing, Resolved, Withdrawn};
use herd_stage::Secrets;
use parking_lot::Mutex;
use rstest::rstest;
use serde_json::{Value, json};

use fixture::{ApiFixture, plan};

#[tokio::test(flavor = "multi_thread")]
async fn describes_the_pipeline() {
    let fixture = ApiFixture::open().await;
    let (status, pipeline) = fixture.get("/api/v1/pipeline").await;
    assert_eq!(status, 200);
    insta::assert_json_snapshot!(pipeline, @r#"
    {
      "name": "shop",
      "paused": false,
      "max_lateness_ms": 30000,
      "metrics": [
        {
          "name": "views",
          "function": "count",
          "field": null,
          "key": [
            "item_id"
          ],
          "types": [
            "view"
          ],
          "window_ms": 10000,
          "emit_ms": 1000
        }
      ],
      "detectors": [
        {
          "name": "crowd",
          "metric": "views",
          "algorithm": "threshold",
          "direction": "up",
          "severity": "warning",
          "min_count": 10,
          "min_users": 0,
          "cooldown_ms": 60000
        }
      ],
      "sinks": [],
      "simulate": true,
      "store": false
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_live_data_without_a_store() {
    let fixture = ApiFixture::open_with(
        plan(|_| {}),
        Limits::default(),
        None,
        None,
        Secrets::default(),
        |bus, plan| {
            // Before the start: read back.
            bus.append(&plan.topics.alerts.name, 700, fixture::alert_record("before", 0, Firing));
        },
    )
    .await;
    for (start, count) in [(0, 4), (10_000, 6), (20_000, 1)] {
        fixture.window("a", start, count, start < 20_000);
    }
    fixture.window("b", 10_000, 9, true);
    fixture.until(|fixture| async { fixture.get("/api/v1/trending").await.1["keys"] == 2 }).await;
    let (_, list) = fixture.get("/api/v1/trending?metric=views&limit=1").await;
    assert_eq!(list["items"][0]["key"], "a");
    assert_eq!((&list["items"][0]["value"], &list["total"]), (&json!(11.0), &json!(20.0)));
    assert_eq!(list["other"], json!({"keys": 1, "value": 9.0}));
    assert_eq!((&list["as_of"], &list["window_ms"]), (&json!(30_000), &json!(10_000)));

    let (_, chart) = fixture.get("/api/v1/metrics/views/windows?key=a&from=10000").await;
    assert_eq!(
        chart["windows"],
        json!([
            {"start": 10_000, "count": 6, "value": 6.0, "final": true, "bands": []},
            {"start": 20_000, "count": 1, "value": 1.0, "final": false, "bands": []}
        ])
    );
    let (_, newest) = fixture.get("/api/v1/metrics/views/windows?key=a&limit=1").await;
    assert_eq!(newest["windows"][0]["start"], 20_000);
    let (_, alerts) = fixture.get("/api/v1/alerts").await;
    assert_eq!(alerts["alerts"][0]["key"], "before");
    assert_eq!(fixture.get("/api/v1/stats").await.1["alerts_firing"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_contain_each_alert_once_newest_first() {
    let fixture = ApiFixture::open().await;
    for number in 0..25 {
        fixture.alert(
            &format!("k{number}"),
            number / 2 * 10_000,
            if number % 5 == 0 { Resolved } else { Early },
        );
    }
    fixture.alert("gone", 0, Early);
    fixture.alert("gone", 0, Withdrawn);
    fixture.alert("last", 900_000, Firing);
    fixture
        .until(|fixture| async { fixture.get("/api/v1/alerts").await.1["alerts"][0]["key"] == "last" })
        .await;
    let (mut seen, mut starts, mut cursor) = (HashSet::new(), Vec::new(), String::new());
    loop {
        let (status, page) = fixture.get(&format!("/api/v1/alerts?limit=10{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        for alert in page["alerts"].as_array().unwrap() {
            assert!(seen.insert(alert["key"].as_str().unwrap().to_owned()), "twice: {alert}");
            starts.push(alert["start"].as_i64().unwrap());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 26);
    assert!(starts.is_sorted_by(|a, b| a >= b));
    let keys = |page: &Value| page["alerts"].as_array().unwrap().len();
    assert_eq!(keys(&fixture.get("/api/v1/alerts?state=resolved").await.1), 5);
    assert_eq!(keys(&fixture.get("/api/v1/alerts?state=firing&from=100000").await.1), 5);
    assert_eq!(
        keys(&fixture.get("/api/v1/alerts?key=k3&detector=crowd&metric=views&severity=warning").await.1),
        1
    );
    assert_eq!(keys(&fixture.get("/api/v1/alerts?severity=critical").await.1), 0);
}

#[rstest]
#[case(
    "/api/v1/trending?metric=clicks",
    404,
    "metric `clicks` does not exist; metrics of this pipeline: views"
)]
#[case("/api/v1/trending?limit=0", 400, "limit: 0 is not from 1 to 200")]
#[case("/api/v1/trending?limit=many", 400, "limit: invalid digit")]
#[case(
    "/api/v1/metrics/clicks/windows?key=a",
    404,
    "metric `clicks` does not exist; metrics of this pipeline: views"
)]
#[case("/api/v1/metrics/views/windows", 400, "key: required, with a length from 1 to 1024 bytes")]
#[case("/api/v1/metrics/views/windows?key=a&from=5&to=5", 400, "from: 5 is not before `to` (5)")]
#[case("/api/v1/metrics/views/windows?key=a&from=today", 400, "from: invalid digit")]
#[case("/api/v1/metrics/views/windows?key=a&limit=9999999", 400, "limit: 9999999 is not from 1 to 5000")]
#[case("/api/v1/alerts?state=withdrawn", 400, "state: `withdrawn` is not a state; use firing or resolved")]
#[case(
    "/api/v1/alerts?severity=high",
    400,
    "severity: `high` is not a severity; use info, warning or critical"
)]
#[case("/api/v1/alerts?cursor=zzz", 400, "cursor: `zzz` is not valid")]
#[case(
    "/api/v1/users?order=name",
    400,
    "order: `name` is not an order of users; use `revenue`, `events` or `last_seen`"
)]
#[case("/api/v1/users", 409, "this pipeline has no store")]
#[case("/api/v1/users/u1", 409, "this pipeline has no store")]
#[case("/api/v1/users/u1/events", 409, "this pipeline has no store")]
#[case("/api/v1/nothing", 404, "unknown endpoint GET /api/v1/nothing: see /api/v1/openapi.json")]
#[case("/ws", 400, "Connection header did not include 'upgrade'")]
#[tokio::test(flavor = "multi_thread")]
async fn rejects_invalid_requests_with_a_reason(
    #[case] path: &str,
    #[case] status: u16,
    #[case] detail: &str,
) {
    let fixture = ApiFixture::open().await;
    let response = fixture.http.get(fixture.url(path)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    let code = response.status().as_u16();
    let problem: Value = response.json().await.unwrap();
    assert_eq!((code, &problem["status"]), (status, &json!(status)), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_responds() {
    let fixture = ApiFixture::open().await;
    let (status, document) = fixture.get("/api/v1/openapi.json").await;
    assert_eq!(status, 200);
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            routes.push(format!("{} {path}", method.to_uppercase()));
            let url =
                fixture.url(&path.replace("{metric}", "views").replace("{id}", "u1").replace("{item}", "p1"));
            let method = method.to_uppercase().parse().unwrap();
            let answer = fixture.http.request(method, format!("{url}?key=a")).send().await.unwrap();
            let status = answer.status();
            assert!(
                operation["responses"].get(status.as_str()).is_some(),
                "{path} responds with {status}, which its OpenAPI document does not describe"
            );
            assert!(status.is_success() || status == 409, "{path} responds with {status}");
        }
    }
    routes.sort();
    assert_eq!(
        routes,
        [
            "GET /api/v1/alerts",
            "GET /api/v1/metrics/{metric}/windows",
            "GET /api/v1/pipeline",
            "GET /api/v1/stats",
            "GET /api/v1/trending",
            "GET /api/v1/users",
            "GET /api/v1/users/{id}",
            "GET /api/v1/users/{id}/events",
            "POST /api/v1/alerts/{id}/feedback",
            "POST /api/v1/simulate/spike/{item}",
        ]
    );
}

/// The dashboard's types are generated from it (`npm run types`).
#[tokio::test(flavor = "multi_thread")]
async fn the_reference_of_the_api_is_current() {
    let (_, document) = ApiFixture::open().await.get("/api/v1/openapi.json").await;
    let generated = serde_json::to_string_pretty(&document).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == generated,
        "docs/reference/openapi.json is not what the routes make: run `make reference`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requires_the_token_if_one_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("api-token-of-rest-test")).unwrap();
    std::fs::write(folder.path().join("api-token-of-rest-test/token"), "open sesame\n").unwrap();
    let plan = plan(|plan| plan["api"]["token"] = json!({"name": "api-token-of-rest-test", "key": "token"}));
    let secrets = Secrets::new(Some(folder.path()));
    let fixture = ApiFixture::open_with(plan, Limits::default(), None, None, secrets, |_, _| {}).await;
    let get = |path: &str| fixture.http.get(fixture.url(path));
    let response = get("/api/v1/stats").send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    assert_eq!(get("/api/v1/stats").bearer_auth("close sesame").send().await.unwrap().status(), 401);
    assert_eq!(get("/api/v1/stats").bearer_auth("open sesame").send().await.unwrap().status(), 200);
    assert_eq!(fixture.status("/api/v1/stats?token=open+sesame").await, 200);
    assert_eq!(fixture.status("/").await, 200);
    assert_eq!(fixture.feedback("a", json!({"useful": true})).await.0, 401);
    let refused = tokio_tungstenite::connect_async(format!("ws://{}/ws", fixture.base)).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
    tokio_tungstenite::connect_async(format!("ws://{}/ws?token=open%20sesame", fixture.base)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_writes_and_sockets_of_other_origins() {
    let fixture = ApiFixture::open().await;
    for path in ["/api/v1/simulate/spike/p1", "/api/v1/alerts/a/feedback"] {
        let request = fixture.http.post(fixture.url(path)).header("origin", "https://evil.example");
        assert_eq!(request.send().await.unwrap().status(), 403, "{path}");
    }
    let request = tokio_tungstenite::tungstenite::ClientRequestBuilder::new(
        format!("ws://{}/ws", fixture.base).parse().unwrap(),
    )
    .with_header("origin", "https://evil.example");
    let refused = tokio_tungstenite::connect_async(request).await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
}

type Received = Arc<Mutex<Vec<(Option<String>, Vec<Value>)>>>;

/// A collector that keeps what it gets, or refuses it all.
async fn collector(status: u16) -> (String, Received) {
    let received = Received::default();
    let router = axum::Router::new()
        .route(
            "/track",
            post(
                move |State(received): State<Received>,
                      headers: HeaderMap,
                      Json(events): Json<Vec<Value>>| async move {
                    let key = headers.get("authorization").map(|key| key.to_str().unwrap().to_owned());
                    received.lock().push((key, events));
                    (axum::http::StatusCode::from_u16(status).unwrap(), "{}")
                },
            ),
        )
        .with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (base, received)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_crowd_sends_mapped_events_of_distinct_users() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("write-key-of-rest-test")).unwrap();
    std::fs::write(folder.path().join("write-key-of-rest-test/key"), "w1").unwrap();
    let plan = plan(|plan| {
        let secret = json!({"name": "write-key-of-rest-test", "key": "key"});
        plan["collector"]["keys"] = json!([{"name": "web", "secret": secret, "eventsPerSecond": null}]);
    });
    let (base, received) = collector(200).await;
    let secrets = Secrets::new(Some(folder.path()));
    let fixture = ApiFixture::open_with(plan, Limits::default(), None, Some(base), secrets, |_, _| {}).await;
    let url = fixture.url("/api/v1/simulate/spike/product-7");
    let response = fixture.http.post(&url).json(&json!({"count": 250, "seconds": 0.5})).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let crowd: Value = response.json().await.unwrap();
    assert_eq!(crowd, json!({"item": "product-7", "type": "view", "events": 250, "seconds": 0.5}));
    let count = |received: &Received| received.lock().iter().map(|(_, events)| events.len()).sum::<usize>();
    fixture.until(|_| async { count(&received) == 250 }).await;
    let received = received.lock();
    assert_eq!(received.len(), 5);
    assert!(received.iter().all(|(key, _)| key.as_deref() == Some("Bearer w1")));
    let events: Vec<&Value> = received.iter().flat_map(|(_, events)| events).collect();
    assert!(events.iter().all(|event| event["product_id"] == "product-7" && event["type"] == "view"));
    let distinct = |values: Vec<&Value>| {
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect::<HashSet<_>>().len()
    };
    assert_eq!(distinct(events.iter().map(|event| &event["context"]["user"]).collect()), 250);
    assert_eq!(distinct(events.iter().map(|event| &event["event_id"]).collect()), 250);
}

#[rstest]
#[case(json!({"count": 0}), 400, "count: 0 is not from 1 to 20000")]
#[case(json!({"count": 20_001}), 400, "count: 20001 is not from 1 to 20000")]
#[case(json!({"seconds": 61}), 400, "seconds: 61 is not from 0 to 60")]
#[case(json!({"seconds": -1}), 400, "seconds: -1 is not from 0 to 60")]
#[case(json!({"type": "like"}), 400, "type: `like` is not an accepted event type; use one of: view, purchase")]
#[case(json!({"cuont": 1}), 400, "unknown field `cuont`")]
#[case(json!({"count": 1}), 502, "the collector refuses the events: response 503")]
#[tokio::test(flavor = "multi_thread")]
async fn refuses_an_invalid_crowd(#[case] body: Value, #[case] status: u16, #[case] detail: &str) {
    let (base, _) = collector(503).await;
    let fixture = ApiFixture::open_with(
        plan(|_| {}),
        Limits::default(),
        None,
        Some(base),
        Secrets::default(),
        |_, _| {},
    )
    .await;
    let url = fixture.url("/api/v1/simulate/spike/p1");
    let response = fixture.http.post(&url).json(&body).send().await.unwrap();
    assert_eq!(response.status().as_u16(), status);
    let problem: Value = response.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_crowds_if_simulation_is_not_enabled() {
    let plan = plan(|plan| plan["api"]["simulate"] = json!(false));
    let fixture =
        ApiFixture::open_with(plan, Limits::default(), None, None, Secrets::default(), |_, _| {}).await;
    let response = fixture.http.post(fixture.url("/api/v1/simulate/spike/p1")).send().await.unwrap();
    assert_eq!(response.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_the_page_for_other_paths_and_files_with_type_and_etag() {
    let fixture = ApiFixture::open().await;
    let get = |path: &str| fixture.http.get(fixture.url(path)).send();
    for path in ["/", "/item/views/product.1"] {
        let page = get(path).await.unwrap();
        assert_eq!(page.status(), 200);
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    }
    assert_eq!(get("/assets/none.js").await.unwrap().status(), 404);
    assert_eq!(get("/none.js").await.unwrap().status(), 404);
    assert_eq!(fixture.http.post(fixture.url("/")).send().await.unwrap().status(), 405);
    // The page answers at every path that is no file: what matters is that it is the page.
    for path in ["/metrics", "/healthz", "/readyz", "/statusz"] {
        let kind = get(path).await.unwrap().headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("text/html"), "{path}: {kind}");
    }

    // With the dashboard built in: every script it names is there, for good.
    let page = get("/").await.unwrap();
    let Some(tag) = page.headers().get("etag").cloned() else { return };
    let again = fixture.http.get(fixture.url("/")).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    let text = page.text().await.unwrap();
    for asset in text.split('"').filter(|part| part.starts_with("/assets/")) {
        let file = get(asset).await.unwrap();
        assert_eq!(file.status(), 200, "{asset}");
        assert_eq!(file.headers()["cache-control"], "public, max-age=31536000, immutable");
        let kind = file.headers()["content-type"].to_str().unwrap();
        assert!(
            kind.starts_with(if asset.ends_with(".js") { "text/javascript" } else { "text/css" }),
            "{kind}"
        );
    }
}
