//! Shutdown and draining.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::Collector;

#[tokio::test(flavor = "multi_thread")]
async fn finishes_the_request_under_way_on_shutdown_and_begins_no_other() {
    let collector = Collector::start("{}").await;
    let mut stream = tokio::net::TcpStream::connect(collector.address).await.unwrap();
    let body = r#"{"type":"view"}"#;
    let head = format!(
        "POST /track HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // So that the request has begun when the shutdown comes.
    stream.write_all(&body.as_bytes()[..4]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    collector.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(200)).await;
    stream.write_all(&body.as_bytes()[4..]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let events = collector.stop().await;
    assert_eq!(events, 1);
}

const POST_ONE: &str = "POST /track HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n\
                        {\"type\":\"view\"}";

/// Sends one event over a connection; the answer, as far as it comes in one piece.
async fn post_over(stream: &mut tokio::net::TcpStream) -> String {
    stream.write_all(POST_ONE.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut answer)).await;
    String::from_utf8_lossy(&answer[..read.unwrap().unwrap()]).to_ascii_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_requests_with_connection_close_while_draining() {
    let collector = Collector::start("{}").await;
    let mut old = tokio::net::TcpStream::connect(collector.address).await.unwrap();
    let answer = post_over(&mut old).await;
    assert!(answer.starts_with("http/1.1 202") && !answer.contains("connection: close"), "{answer}");

    let (stage, drained) = (collector.stage.clone(), Duration::from_secs(3));
    let ending = tokio::spawn(async move { stage.end_after(drained).await });
    collector.stage.draining.cancelled().await;
    let (status, report) = collector.ops("/readyz").await;
    assert_eq!(status, 503, "{report}");
    assert!(report.contains("\"draining\":true"), "{report}");
    assert_eq!(collector.ops("/statusz").await.0, 200);
    // An idle connection is not closed under the feet of a request that is on its way.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = post_over(&mut old).await;
    assert!(answer.starts_with("http/1.1 202") && answer.contains("connection: close"), "{answer}");
    assert_eq!(old.read(&mut [0; 8]).await.unwrap(), 0, "then it is closed");
    let mut sent = 2;
    while !collector.shutdown.is_cancelled() {
        let mut new = tokio::net::TcpStream::connect(collector.address).await.unwrap();
        let answer = post_over(&mut new).await;
        assert!(answer.starts_with("http/1.1 202") && answer.contains("connection: close"), "{answer}");
        sent += 1;
    }
    ending.await.unwrap();
    assert!(sent > 10, "{sent}");
    assert_eq!(collector.stop().await, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_a_client_that_connected_before_the_shutdown() {
    let collector = Collector::start("{}").await;
    let mut stream = tokio::net::TcpStream::connect(collector.address).await.unwrap();
    collector.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = post_over(&mut stream).await;
    assert!(answer.starts_with("http/1.1 202"), "{answer}");
    assert_eq!(collector.stop().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_goaway_to_http2_connections_while_draining() {
    const HEADERS: u8 = 1;
    const GO_AWAY: u8 = 7;
    let collector = Collector::start("{}").await;
    let mut stream = tokio::net::TcpStream::connect(collector.address).await.unwrap();
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
        tokio::time::timeout(Duration::from_secs(20), until).await.unwrap();
    };
    frames_until(HEADERS).await;
    collector.stage.draining.cancel();
    frames_until(GO_AWAY).await;
    collector.stop().await;
}
