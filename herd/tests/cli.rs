//! The command line: help, validation, plans and errors.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::{Command, Stdio};

use rstest::rstest;
use support::{PIPELINE, herd, json, stderr, stdout};

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yaml"), PIPELINE).unwrap();
    let broken = PIPELINE.replace("metric: views", "metric: vews").replace("window: 2s", "window: 20m");
    std::fs::write(folder.path().join("broken.yaml"), broken).unwrap();
    folder
}

#[rstest]
#[case("up")]
#[case("validate")]
#[case("plan")]
#[case("generate")]
#[case("replay")]
#[case("backtest")]
#[case("dlq")]
#[case("ready")]
#[case("completion")]
fn every_command_is_listed_and_has_help(#[case] command: &str) {
    let folder = folder();
    assert!(stdout(&herd(folder.path(), &["--help"])).contains(&format!("  {command} ")));
    let help = stdout(&herd(folder.path(), &[command, "--help"]));
    assert!(help.contains("Usage: herd "), "{help}");
}

#[test]
fn validate_accepts_a_valid_file() {
    let folder = folder();
    assert_eq!(stdout(&herd(folder.path(), &["validate", "shop.yaml"])), "shop.yaml is valid\n");
}

#[test]
fn every_example_is_valid() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut files: Vec<String> = std::fs::read_dir(examples)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| path.ends_with(".yaml"))
        // The directory also contains a load generator Job.
        .filter(|path| std::fs::read_to_string(path).unwrap().contains("\nkind: HerdPipeline"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{files:?}");
    let arguments: Vec<&str> = std::iter::once("validate").chain(files.iter().map(String::as_str)).collect();
    stdout(&herd(std::path::Path::new("."), &arguments));
}

#[test]
fn validate_shows_problems_at_their_lines() {
    let folder = folder();
    let output = herd(folder.path(), &["validate", "broken.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    for expected in ["has 2 problems", "window: 20m", "spec.metrics[0].window", "metric: vews", "`views`"] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
}

#[test]
fn validate_locates_problems_behind_a_byte_order_mark_and_merge_keys() {
    let folder = folder();
    let broken = PIPELINE
        .replace("    - name: views\n", "    - &views\n      name: views\n")
        .replace("      window: 2s\n", "      window: 20m\n    - <<: *views\n      name: more\n");
    std::fs::write(folder.path().join("merged.yaml"), format!("\u{feff}{broken}")).unwrap();
    let output = herd(folder.path(), &["validate", "--json", "merged.yaml"]);
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let seen: Vec<_> = results[0]["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| (problem["path"].as_str().unwrap(), problem["line"].as_u64().unwrap()))
        .collect();
    // A merged field is reported at its anchor.
    assert_eq!(seen, [("spec.metrics[0].window", 13), ("spec.metrics[1].window", 13)], "{results}");
}

#[test]
fn validate_reports_lines_as_json() {
    let folder = folder();
    let output = herd(folder.path(), &["validate", "--json", "shop.yaml", "broken.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results[0]["valid"], true);
    let lines: Vec<_> =
        results[1]["problems"].as_array().unwrap().iter().map(|problem| &problem["line"]).collect();
    assert_eq!(lines, [12, 15], "{results}");
}

#[test]
fn plan_prints_a_tree_or_json() {
    let folder = folder();
    insta::assert_snapshot!(stdout(&herd(folder.path(), &["plan", "shop.yaml"])), @r"
    shop  on embedded broker
    ├─ events
    │  ├─ types: all
    │  └─ maximum lateness 2s, clock skew 1m, age unlimited; partitioned by user_id
    ├─ topics
    │  ├─ shop.events  4 partitions, replication 1  cleanup.policy=delete retention.ms=604800000
    │  ├─ shop.parts  4 partitions, replication 1  cleanup.policy=delete retention.ms=86400000
    │  ├─ shop.windows  4 partitions, replication 1  cleanup.policy=delete retention.ms=604800000
    │  ├─ shop.alerts  4 partitions, replication 1  cleanup.policy=delete retention.ms=604800000
    │  ├─ shop.dead-letter  1 partition, replication 1  cleanup.policy=delete retention.ms=604800000
    │  └─ shop.baselines  4 partitions, replication 1  cleanup.policy=compact min.cleanable.dirty.ratio=0.2 min.compaction.lag.ms=600000 segment.ms=3600000
    ├─ stages
    │  ├─ collector  1 replica
    │  │  └─ no authentication
    │  ├─ detector  1 replica
    │  │  ├─ fold reads shop.events as consumer group shop.fold
    │  │  ├─ judge reads shop.parts as consumer group shop.judge
    │  │  └─ explain reads shop.alerts as consumer group shop.explain
    │  └─ api  1 replica
    │     └─ no store: live data only
    ├─ metrics
    │  └─ views  count of view_product by item_id
    │     └─ windows of 2s, provisional values every 1s
    └─ detectors
       └─ crowd  on views, above, warning
          ├─ poisson: probability 1e-9, half-life 30 windows, warmup 3
          └─ minimum 10 events, cooldown 5m
    ");
    let plan = json(&herd(folder.path(), &["plan", "shop.yaml", "--json"]));
    let plan: herd_spec::plan::Plan = serde_json::from_value(plan).unwrap();
    assert_eq!(plan, herd_cli::pipeline::check("shop.yaml", PIPELINE).unwrap());
}

#[test]
fn plan_against_an_older_file_explains_each_change() {
    let folder = folder();
    let newer = PIPELINE.replace("window: 2s", "window: 5s").replace("warmup: 3", "warmup: 4");
    std::fs::write(folder.path().join("newer.yaml"), newer).unwrap();
    let said = stdout(&herd(folder.path(), &["plan", "newer.yaml", "--against", "shop.yaml"]));
    for expected in [
        "newer.yaml differs from shop.yaml in 2 fields\n",
        "\nspec.metrics[views].window: 2s → 5s\n  The metric has a new definition",
        "\n  Open windows: Events processed before the change",
        "\n  Open alerts: Resolved, with the reason that the definition of the metric changed.",
        "\nspec.detectors[crowd].algorithm.poisson.warmup: 3 → 4\n",
        "\n  Baselines: Kept.",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    let output_json = json(&herd(folder.path(), &["plan", "newer.yaml", "--against", "shop.yaml", "--json"]));
    assert_eq!(
        (&output_json[0]["effect"], &output_json[0]["before"]),
        (&"metricDefinition".into(), &"2s".into()),
        "{output_json}"
    );
    assert_eq!(output_json[1]["meaning"]["baselines"], "Kept.");
    let said = stdout(&herd(folder.path(), &["plan", "shop.yaml", "--against", "shop.yaml"]));
    assert_eq!(said, "shop.yaml and shop.yaml do not differ\n");
    let broken = herd(folder.path(), &["plan", "shop.yaml", "--against", "broken.yaml"]);
    assert!(stderr(&broken).contains("broken.yaml has 2 problems"), "{}", stderr(&broken));
}

#[rstest]
#[case(&["validate", "nowhere.yaml"], &["cannot read nowhere.yaml", "examples/shop.yaml"])]
#[case(&["up", "nowhere.yaml"], &["cannot read nowhere.yaml"])]
#[case(&["dlq", "ls", "--pipeline", "shop.yaml"], &["the data directory .herd/shop/bus does not exist", "--data DIR"])]
#[case(&["generate", "--to", "http://127.0.0.1:1"], &["cannot connect to a collector at http://127.0.0.1:1/track", "herd up"])]
#[case(&["generate", "--to", "localhost"], &["is not the URL of a collector", "http://127.0.0.1:8080"])]
#[case(&["ready", "http://127.0.0.1:1", "--within", "10ms"], &["http://127.0.0.1:1/readyz was not ready within 10ms"])]
#[case(&["ready", "127.0.0.1:80"], &["is not a URL", "http://127.0.0.1:9090"])]
#[case(&["-n", "shop", "validate", "shop.yaml"], &["`herd validate` does not use a cluster"])]
#[case(&["--kubeconfig", "nowhere", "status"], &["cannot load a Kubernetes client configuration", "nowhere"])]
#[case(&["replay", "nowhere.csv", "--to", "http://127.0.0.1:1"], &["cannot open nowhere.csv"])]
#[case(&["replay", "shop.yaml", "--to", "http://127.0.0.1:1"], &["neither of CSV nor of NDJSON"])]
fn errors_name_the_subject_and_the_remedy(#[case] arguments: &[&str], #[case] expected: &[&str]) {
    let folder = folder();
    let output = herd(folder.path(), arguments);
    assert_eq!(output.status.code(), Some(1));
    // The report is wrapped to the width of the terminal.
    let said = stderr(&output).split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for expected in expected {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
}

#[rstest]
#[case(&["dlq", "show", "7", "--pipeline", "shop.yaml"], "PARTITION/OFFSET")]
#[case(&["generate", "--to", "http://x", "--rate", "0"], "write a number above 0")]
#[case(&["generate", "--to", "http://x", "--invalid", "80"], "write a number from 0 to 50")]
#[case(&["generate", "--to", "http://x", "--for", "30"], "is not a duration")]
#[case(&["replay", "x.csv", "--to", "http://x", "--map", "colour=c"], "`colour` is not an event field")]
#[case(&["replay", "x.csv", "--to", "http://x", "--speed", "fast"], "1000x")]
fn rejects_invalid_options(#[case] arguments: &[&str], #[case] expected: &str) {
    let folder = folder();
    let output = herd(folder.path(), arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let folder = folder();
    let mut herd = Command::new(env!("CARGO_BIN_EXE_herd"))
        .args(["completion", "bash"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(herd.stdout.take());
    let output = herd.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}
