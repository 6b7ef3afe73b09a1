//! Connections of the collector: timeouts, limits, draining and shutdown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use support::Collector;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Maximum time to wait for a response or for the end of a connection.
const DEADLINE: Duration = Duration::from_secs(20);

const POST_ONE: &str = "POST /track HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n\
                        {\"type\":\"view\"}";

/// Sends one event over a connection and returns the response, in lower case.
async fn post_over(stream: &mut TcpStream) -> String {
    stream.write_all(POST_ONE.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(DEADLINE, stream.read(&mut answer)).await;
    String::from_utf8_lossy(&answer[..read.unwrap().unwrap()]).to_ascii_lowercase()
}

/// Waits until the collector closes a connection.
async fn until_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection is still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_time_out_and_slow_headers_close_the_connection() {
    let collector = Collector::start_with("{}", "limits: {bodyTimeout: 300ms, headerTimeout: 300ms}").await;
    let mut stream = TcpStream::connect(collector.address).await.unwrap();
    let head =
        "POST /track HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
    assert!(read.is_ok(), "the connection is closed");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("application/problem+json"));

    let mut stream = TcpStream::connect(collector.address).await.unwrap();
    stream.write_all(b"POST /track HTTP/1.1\r\nhos").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is closed");
    assert!(collector.events().is_empty() && collector.dead_letters().is_empty());
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_are_refused_with_retry_after() {
    let collector = Collector::start_with("{}", "limits: {connections: 1}").await;
    // `start` has waited for readiness, so the limit may be taken by its connection until that is closed.
    let first = loop {
        let mut stream = TcpStream::connect(collector.address).await.unwrap();
        stream.write_all(b"GET /track HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        if answer.ends_with(b"405") {
            break stream;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut second = TcpStream::connect(collector.address).await.unwrap();
    let mut answer = String::new();
    let _ = second.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1"));
    drop(first);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_open_requests_and_accepts_no_new_ones() {
    let collector = Collector::start("{}").await;
    let mut idle = TcpStream::connect(collector.address).await.unwrap();
    post_over(&mut idle).await;
    let mut stream = TcpStream::connect(collector.address).await.unwrap();
    let body = r#"{"type":"view"}"#;
    let head = format!(
        "POST /track HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body.as_bytes()[..4]).await.unwrap();
    collector.shutdown.cancel();
    // An idle connection is closed when the shutdown has taken effect.
    until_closed(&mut idle).await;
    stream.write_all(&body.as_bytes()[4..]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let events = collector.stop().await;
    assert_eq!(events, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_answers_requests_and_closes_connections() {
    let collector = Collector::start("{}").await;
    let mut old = TcpStream::connect(collector.address).await.unwrap();
    let answer = post_over(&mut old).await;
    assert!(answer.starts_with("http/1.1 202") && !answer.contains("connection: close"), "{answer}");

    let (stage, drained) = (collector.stage.clone(), Duration::from_secs(3));
    let ending = tokio::spawn(async move { stage.end_after(drained).await });
    collector.stage.draining.cancelled().await;
    let (status, report) = collector.ops("/readyz").await;
    assert_eq!(status, 503, "{report}");
    assert!(report.contains("\"draining\":true"), "{report}");
    assert_eq!(collector.ops("/statusz").await.0, 200);
    // An idle connection is not closed, because a request may be in transit.
    let closed = tokio::time::timeout(Duration::from_millis(300), old.read(&mut [0; 8])).await;
    assert!(closed.is_err(), "an idle connection was closed while draining");
    let answer = post_over(&mut old).await;
    assert!(answer.starts_with("http/1.1 202") && answer.contains("connection: close"), "{answer}");
    assert_eq!(old.read(&mut [0; 8]).await.unwrap(), 0, "then it is closed");
    let mut sent = 2;
    while !collector.shutdown.is_cancelled() {
        let mut new = TcpStream::connect(collector.address).await.unwrap();
        let answer = post_over(&mut new).await;
        assert!(answer.starts_with("http/1.1 202") && answer.contains("connection: close"), "{answer}");
        sent += 1;
    }
    ending.await.unwrap();
    assert!(sent > 10, "{sent}");
    assert_eq!(collector.stop().await, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_opened_before_the_shutdown_is_served() {
    let collector = Collector::start("{}").await;
    let mut idle = TcpStream::connect(collector.address).await.unwrap();
    post_over(&mut idle).await;
    let mut stream = TcpStream::connect(collector.address).await.unwrap();
    collector.shutdown.cancel();
    // An idle connection is closed when the shutdown has taken effect.
    until_closed(&mut idle).await;
    let answer = post_over(&mut stream).await;
    assert!(answer.starts_with("http/1.1 202"), "{answer}");
    assert_eq!(collector.stop().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_sends_goaway_to_http_2_connections() {
    const HEADERS: u8 = 1;
    const GO_AWAY: u8 = 7;
    let collector = Collector::start("{}").await;
    let mut stream = TcpStream::connect(collector.address).await.unwrap();
    let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // Empty SETTINGS; then `GET http /` in HEADERS that end stream 1.
    opening.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    opening.extend([0, 0, 3, HEADERS, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84]);
    stream.write_all(&opening).await.unwrap();
    let mut frames_until = async |wanted: u8| {
        let until = async {
            loop {
                let mut head = [0; 9];
                stream.read_exact(&mut head).await.unwrap();
                let length = usize::from(head[1]) << 8 | usize::from(head[2]);
                stream.read_exact(&mut vec![0; length]).await.unwrap();
                if head[3] == wanted {
                    return;
                }
            }
        };
        tokio::time::timeout(DEADLINE, until).await.unwrap();
    };
    frames_until(HEADERS).await;
    collector.stage.draining.cancel();
    frames_until(GO_AWAY).await;
    drop(stream);
    collector.stop().await;
}
