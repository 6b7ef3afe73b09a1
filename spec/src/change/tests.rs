use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use rstest::rstest;

use super::*;
use crate::document::parse;

const SHOP: &str = "\
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata: {name: shop}
spec:
  kafka: {bootstrapServers: [k:9092], partitions: 4, detectorPartitions: 2}
  metrics:
    - {name: views, window: 2s, emit: 1s}
    - {name: carts, events: {types: [cart]}}
  detectors:
    - {name: crowd, metric: views, algorithm: {poisson: {warmup: 3}}}
    - {name: herd, metric: carts}
  sinks:
    - {name: history, postgres: {url: {name: db, key: url}}}
    - {name: chat, webhook: {url: 'http://a'}}
";

fn between(old: &str, new: &str) -> Vec<(String, Effect)> {
    assert!(SHOP.contains(old), "{old} is in the pipeline");
    let changed = SHOP.replacen(old, new, 1);
    let [old, new] = [SHOP, &changed].map(|yaml| parse(yaml).unwrap());
    changes(&old, &new).into_iter().map(|change| (change.path, change.effect)).collect()
}

#[rstest]
#[case::nothing("window: 2s", "window: 2000ms", &[])]
#[case::window("window: 2s", "window: 5s", &[("spec.metrics[views].window", Effect::MetricDefinition)])]
#[case::emit("emit: 1s", "emit: 2s", &[("spec.metrics[views].emit", Effect::MetricEmit)])]
#[case::aggregate(
    "emit: 1s", "aggregate: {function: unique, field: user_id}",
    &[("spec.metrics[views].aggregate.function", Effect::MetricDefinition), ("spec.metrics[views].aggregate.field", Effect::MetricDefinition)]
)]
#[case::filter("types: [cart]", "types: [buy]", &[("spec.metrics[carts].events.types", Effect::MetricDefinition)])]
#[case::metric_renamed(
    "name: carts", "name: baskets",
    &[("spec.metrics[carts]", Effect::MetricRemoved), ("spec.metrics[baskets]", Effect::MetricAdded)]
)]
#[case::metric_watched("metric: views", "metric: carts", &[("spec.detectors[crowd].metric", Effect::DetectorMetric)])]
#[case::bound("warmup: 3", "warmup: 4", &[("spec.detectors[crowd].algorithm.poisson.warmup", Effect::DetectorBound)])]
#[case::learning("warmup: 3", "halfLife: 4, warmup: 3", &[("spec.detectors[crowd].algorithm.poisson.halfLife", Effect::DetectorAlgorithm)])]
#[case::algorithm("poisson: {warmup: 3}", "ewma: {}", &[("spec.detectors[crowd].algorithm", Effect::DetectorAlgorithm)])]
#[case::detector_renamed(
    "name: crowd", "name: rush",
    &[("spec.detectors[crowd]", Effect::DetectorRemoved), ("spec.detectors[rush]", Effect::DetectorAdded)]
)]
#[case::algorithm_written_out("metric: carts", "metric: carts, algorithm: {crowd: {}}", &[])]
#[case::limit_written_out("metric: carts", "metric: carts, alerts: {budget: 5, minCount: 3, direction: up, cooldown: 0s}", &[])]
#[case::moved_under_alerts("metric: views", "metric: views, alerts: {minCount: 10, cooldown: 5m}", &[])]
#[case::other_algorithm("metric: carts", "metric: carts, algorithm: {level: {}}", &[
    ("spec.detectors[herd].alerts.minCount", Effect::DetectorBound), ("spec.detectors[herd].algorithm", Effect::DetectorAlgorithm)
])]
#[case::algorithm_by_the_metric(
    "types: [cart]}", "types: [cart]}, aggregate: {function: sum, field: price}",
    &[
        ("spec.metrics[carts].aggregate.field", Effect::MetricDefinition), ("spec.metrics[carts].aggregate.function", Effect::MetricDefinition),
        ("spec.detectors[herd].algorithm", Effect::DetectorAlgorithm), ("spec.detectors[herd].alerts.minCount", Effect::DetectorBound)
    ]
)]
#[case::algorithm_left_out(
    "metric: views, algorithm: {poisson: {warmup: 3}}", "metric: views",
    &[
        ("spec.detectors[crowd].algorithm", Effect::DetectorAlgorithm), ("spec.detectors[crowd].alerts.budget", Effect::DetectorBound),
        ("spec.detectors[crowd].alerts.minCount", Effect::DetectorBound), ("spec.detectors[crowd].alerts.cooldown", Effect::DetectorBound)
    ]
)]
#[case::budget("metric: carts", "metric: carts, alerts: {budget: 1 per hour}", &[("spec.detectors[herd].alerts.budget", Effect::DetectorBound)])]
#[case::probability(
    "metric: carts", "metric: carts, alerts: {probability: 1.0e-9}",
    &[("spec.detectors[herd].alerts.budget", Effect::DetectorBound), ("spec.detectors[herd].alerts.probability", Effect::DetectorBound)]
)]
#[case::alerts(
    "metric: carts", "metric: carts, direction: both, alerts: {minCount: 9, cooldown: 1m}",
    &[
        ("spec.detectors[herd].alerts.direction", Effect::DetectorBound), ("spec.detectors[herd].alerts.minCount", Effect::DetectorBound),
        ("spec.detectors[herd].alerts.cooldown", Effect::DetectorBound)
    ]
)]
#[case::more_partitions("partitions: 4", "partitions: 8", &[("spec.kafka.partitions", Effect::Partitions)])]
#[case::fewer_partitions("partitions: 4", "partitions: 3", &[("spec.kafka.partitions", Effect::Refused)])]
#[case::detector_partitions("detectorPartitions: 2", "detectorPartitions: 4", &[("spec.kafka.detectorPartitions", Effect::Refused)])]
#[case::prefix("partitions: 4", "partitions: 4, topicPrefix: new", &[("spec.kafka.topicPrefix", Effect::Refused)])]
#[case::prefix_written_out("partitions: 4", "partitions: 4, topicPrefix: shop", &[])]
#[case::schema_written_out("url: {name: db, key: url}", "url: {name: db, key: url}, schema: herd_shop", &[])]
#[case::schema("url: {name: db, key: url}", "url: {name: db, key: url}, schema: other", &[("spec.sinks[history].postgres.schema", Effect::SinkPlace)])]
#[case::no_kafka("  kafka: {bootstrapServers: [k:9092], partitions: 4, detectorPartitions: 2}\n", "", &[("spec.kafka", Effect::Brokers)])]
#[case::kind(
    "webhook: {url: 'http://a'}", "postgres: {url: {name: db, key: url}}",
    &[("spec.sinks[chat].webhook", Effect::SinkKind), ("spec.sinks[chat].postgres", Effect::SinkKind)]
)]
#[case::replicas_written_out("  sinks:", "  detection: {replicas: 1}\n  sinks:", &[])]
#[case::scaling("  sinks:", "  detection: {scaling: {max: 4}}\n  sinks:", &[("spec.detection.scaling", Effect::Size)])]
#[case::other_pipeline("name: shop", "name: store", &[("metadata.name", Effect::OtherPipeline), ("spec.kafka.topicPrefix", Effect::Refused), ("spec.sinks[history].postgres.schema", Effect::SinkPlace)])]
fn a_change_is_found_with_its_effect(
    #[case] old: &str,
    #[case] new: &str,
    #[case] expected: &[(&str, Effect)],
) {
    let mut found = between(old, new);
    found.sort();
    let mut expected: Vec<_> = expected.iter().map(|(path, effect)| ((*path).to_owned(), *effect)).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_order_of_items_is_no_change() {
    let (views, carts) =
        ("    - {name: views, window: 2s, emit: 1s}\n", "    - {name: carts, events: {types: [cart]}}\n");
    assert_eq!(between(&format!("{views}{carts}"), &format!("{carts}{views}")), []);
}

/// Every place of the schema at which a change can be found: values, and objects that may be left out.
fn places(schema: &JSONSchemaProps, path: &str, required: bool, found: &mut BTreeSet<String>) {
    let named = LISTS.iter().any(|(list, ..)| *list == path);
    match (&schema.properties, &schema.items) {
        (Some(properties), _) => {
            let optional = !required && schema.default.is_none();
            if optional {
                found.insert(path.to_owned());
            }
            for (name, field) in properties {
                let required = schema.required.iter().flatten().any(|one| one == name);
                places(field, &format!("{path}.{name}"), required, found);
            }
        }
        (None, Some(JSONSchemaPropsOrArray::Schema(item))) if named => {
            let properties = item.properties.as_ref().unwrap();
            for (name, field) in properties.iter().filter(|(name, _)| *name != "name") {
                let required = item.required.iter().flatten().any(|one| one == name);
                places(field, &format!("{path}[].{name}"), required, found);
            }
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

#[test]
fn every_field_is_classified_and_every_row_is_a_field() {
    let crd = crate::crd::crd();
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let mut all = BTreeSet::new();
    places(&schema.properties.as_ref().unwrap()["spec"], "spec", true, &mut all);
    let unclassified: Vec<_> = all.iter().filter(|field| row(field).is_none()).collect();
    assert!(
        unclassified.is_empty(),
        "say in spec/src/change/fields.rs what a change of these means: {unclassified:?}"
    );
    let used: BTreeSet<&str> = all.iter().filter_map(|field| Some(row(field)?.0)).collect();
    let unused: Vec<_> = FIELDS.iter().map(|(row, _)| *row).filter(|row| !used.contains(row)).collect();
    assert!(unused.is_empty(), "no field of the schema is meant by {unused:?}");
}

#[test]
fn every_effect_has_a_row_on_the_page_and_fields_that_have_it() {
    let page = markdown();
    for effect in Effect::ALL {
        assert!(page.contains(effect.meaning().what), "{effect:?}");
    }
    assert!(!page.contains("|  |"), "a row without fields:\n{page}");
    assert_eq!(
        page.lines().filter(|line| line.starts_with("| `") || line.starts_with("| an item")).count(),
        Effect::ALL.len()
    );
}
