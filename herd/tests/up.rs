//! `herd up` end to end: events are sent over HTTP, counted, judged, stored, and received as alerts at the WebSocket.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{PIPELINE, herd, json, stderr};

fn shop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/shop.yaml").canonicalize().unwrap()
}

#[test]
fn a_crowd_raises_an_alert_and_the_next_start_keeps_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let file = shop();
    let arguments = |seconds: &'static str| {
        vec![
            "up",
            file.to_str().unwrap(),
            "--for",
            seconds,
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--api-listen",
            "127.0.0.1:0",
            "--ops-listen",
            "127.0.0.1:0",
        ]
    };
    let mut first = arguments("30s");
    first.extend(["--generate", "60"]);
    let output = herd(folder.path(), &first);
    let said = stderr(&output);
    let summary = json(&output);
    assert!(summary["events"]["accepted"].as_u64().unwrap() > 1_000, "{summary}\n{said}");
    assert!(summary["events"]["refused"].as_u64().unwrap() > 0, "{summary}");
    assert!(summary["events"]["duplicate"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(summary["generated"]["accepted"], summary["events"]["accepted"], "{summary}");
    assert!(summary["windows_closed"].as_u64().unwrap() > 10, "{summary}");
    assert!(summary["alerts"].as_u64().unwrap() >= 1, "{summary}\n{said}");
    assert_eq!(summary["alert_delay"]["alerted"], 1, "{summary}\n{said}");
    assert_eq!(summary["restarts"], 0, "{said}");

    let again = herd(folder.path(), &arguments("1s"));
    json(&again);
    let accepted = summary["events"]["accepted"].as_u64().unwrap();
    assert!(stderr(&again).contains(&format!("{accepted} events from earlier runs")), "{}", stderr(&again));
}

#[test]
fn a_signal_stops_it_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yaml"), PIPELINE).unwrap();
    let mut up = Command::new(env!("CARGO_BIN_EXE_herd"))
        .args(["up", "shop.yaml", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--json"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(up.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("Ctrl-C stops it") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended before the start message");
    }
    let killed = Command::new("kill").args(["-INT", &up.id().to_string()]).status().unwrap();
    assert!(killed.success());
    // Drains the pipe while the process finishes.
    let rest = std::thread::spawn(move || std::io::read_to_string(said).unwrap());
    let output = up.wait_with_output().unwrap();
    let rest = rest.join().unwrap();
    assert!(output.status.success(), "{} {rest}", output.status);
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["events"]["accepted"], 0);
}

#[test]
fn a_port_or_data_directory_in_use_is_an_error_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yaml"), PIPELINE).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = herd(folder.path(), &["up", "shop.yaml", "--for", "1s", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("{address} is in use")), "{}", stderr(&output));
    assert!(stderr(&output).contains("--listen HOST:PORT"), "{}", stderr(&output));

    let bus = herd_bus::embedded::EmbeddedBus::open(&folder.path().join("data/bus")).unwrap();
    let output = herd(folder.path(), &["up", "shop.yaml", "--for", "1s", "--data", "data"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--data DIR"), "{}", stderr(&output));
    drop(bus);
}

/// Windows are counted and closed all the same, and no step ends for want of work.
#[test]
fn a_pipeline_without_detectors_or_explanations_runs_without_restarts() {
    for detectors in ["", "\n  detectors: [{name: crowd, metric: views, explain: []}]"] {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = format!(
            "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {{name: shop}}\nspec:\n  events: {{maxLateness: 0s}}\n  \
             metrics: [{{name: views, window: 1s}}]{detectors}\n"
        );
        std::fs::write(folder.path().join("shop.yaml"), pipeline).unwrap();
        let local = "127.0.0.1:0";
        let output = herd(
            folder.path(),
            &[
                "up",
                "shop.yaml",
                "--for",
                "6s",
                "--json",
                "--generate",
                "50",
                "--listen",
                local,
                "--api-listen",
                local,
                "--ops-listen",
                local,
            ],
        );
        let summary = json(&output);
        assert_eq!(summary["restarts"], 0, "{detectors}: {}", stderr(&output));
        assert!(summary["windows_closed"].as_u64().unwrap() > 0, "{summary}");
    }
}
