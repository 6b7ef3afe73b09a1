//! Generated files are as the types make them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

fn hold(file: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, generated).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == generated,
        "{file} is not what the types make: run `UPDATE=1 cargo test -p herd-spec reference`"
    );
}

#[test]
fn the_reference_of_the_pipeline_is_current() {
    hold("docs/reference/herdpipeline.md", &herd_spec::reference::markdown());
}

#[test]
fn the_reference_of_changes_is_current() {
    hold("docs/changes.md", &herd_spec::change::markdown());
}

#[test]
fn the_reference_crd_is_current_and_structural() {
    let crd = herd_spec::crd::crd();
    let json = serde_json::to_value(&crd).unwrap();
    let schema = &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    assert_eq!(schema["properties"]["spec"]["type"], "object");
    assert!(!json.to_string().contains("$ref"), "a structural schema has no references");
    hold("crds/herdpipelines.yaml", &herd_spec::crd::yaml().unwrap());
}
