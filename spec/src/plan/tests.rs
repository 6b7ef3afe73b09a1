use std::path::Path;

use super::*;
use crate::document::parse;
use crate::pipeline::Direction::{self, Both, Down, Up};
use rstest::rstest;

const HEAD: &str = "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {name: shop}\nspec:\n";

fn problems(spec: &str) -> Vec<String> {
    let yaml = spec.strip_prefix('!').map_or_else(|| format!("{HEAD}{spec}"), str::to_owned);
    match parse(&yaml).and_then(|pipeline| Plan::parse(&pipeline)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn every_example_is_valid_and_has_a_plan() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    let files = [folder.read_dir().unwrap(), folder.join("kubernetes").read_dir().unwrap()];
    for entry in files.into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        // Beside pipelines there is what drives one and what one needs.
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("\nkind: HerdPipeline") {
            continue;
        }
        seen += 1;
        let pipeline = parse(&text).unwrap_or_else(|problems| panic!("{}: {problems:?}", path.display()));
        let plan = Plan::parse(&pipeline).unwrap();
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan, "{}", path.display());
        let again = parse(&serde_yaml::to_string(&pipeline).unwrap()).unwrap();
        assert_eq!(again.spec, pipeline.spec);
    }
    assert!(seen >= 5, "shop, anime, video, journeys, and the shop on Kubernetes");
}

/// What the API server refuses by the schema, or what has no counterpart there. The rules are in `tests/rules/rules.yaml`.
#[rstest]
#[case::no_yaml("![: a", "not valid YAML: ")]
#[case::not_a_map("!- a", "not a HerdPipeline: write `apiVersion`, `kind`, `metadata` and `spec`")]
#[case::two_documents(
    "!a: 1\n---\nb: 2",
    "the file holds more than one YAML document: write one HerdPipeline a file"
)]
#[case::kind(
    "!apiVersion: herd.dev/v1alpha1\nkind: Pipeline\nmetadata: {name: a}\nspec: {}",
    "kind: is `Pipeline`, must be `HerdPipeline`"
)]
#[case::version(
    "!apiVersion: herd.dev/v1\nkind: HerdPipeline\nmetadata: {name: a}\nspec: {}",
    "apiVersion: is `herd.dev/v1`, must be `herd.dev/v1alpha1`"
)]
#[case::no_name(
    "!apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {}\nspec: {}",
    "metadata.name: missing: give the pipeline a name"
)]
#[case::no_spec(
    "!apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {name: a}",
    "spec: missing: write `metrics`, `detectors` and `sinks`"
)]
#[case::top_level(
    "!apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {name: a}\nSpec: {}\nspec: {}",
    "Spec: unknown field; did you mean `spec`? (allowed here: `apiVersion`, `kind`, `metadata`, `spec`, `status`)"
)]
#[case::bad_name(
    "!apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {name: My Shop}\nspec: {}",
    "metadata.name: `My Shop` is not a name: write up to 50 lower-case letters, digits and `-`, starting with a letter, e.g. `flash-crowd`"
)]
#[case::unknown(
    "  metric: []",
    "spec.metric: unknown field; did you mean `metrics`? (allowed here: `kafka`, `events`, `collector`, `metrics`, `detectors`, `detection`, `sinks`, `api`, `paused`)"
)]
#[case::snake(
    "  events: {max_lateness: 30s}",
    "spec.events.max_lateness: unknown field; did you mean `maxLateness`? (allowed here: `mapping`, `types`, `schema`, `key`, `maxLateness`, `maxClockSkew`, `maxAge`)"
)]
#[case::wrong_type("  paused: yes please", "spec.paused: is a string, must be a boolean")]
#[case::list_wanted("  metrics: {name: a}", "spec.metrics: is a map, must be a list")]
#[case::list_of_one(
    "  events: {types: view}",
    "spec.events.types: is a string, must be a list: write `[view]`"
)]
#[case::span_number(
    "  events: {maxLateness: 30}",
    "spec.events.maxLateness: is a number, must be a string: write a unit, e.g. `30s`"
)]
#[case::emit_word(
    "  metrics: [{name: a, emit: often}]",
    "spec.metrics[0].emit: `often` is not a duration: write a number and a unit, e.g. `500ms`, `30s`, `10m`, `1h30m`, `7d`; or `adaptive`"
)]
#[case::span(
    "  events: {maxLateness: 30 seconds}",
    "spec.events.maxLateness: `30 seconds` is not a duration: write a number and a unit, e.g. `500ms`, `30s`, `10m`, `1h30m`, `7d`"
)]
#[case::missing(
    "  detectors: [{name: a, algorithm: {poisson: {}}}]",
    "spec.detectors[0].metric: missing (Name of the metric to watch)"
)]
#[case::enumeration(
    "  metrics: [{name: a, aggregate: {function: Sum, field: price}}]",
    "spec.metrics[0].aggregate.function: is `Sum`, must be one of `count`, `sum`, `mean`, `unique`; did you mean `sum`?"
)]
#[case::severity(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, severity: high, algorithm: {poisson: {}}}]",
    "spec.detectors[0].severity: is `high`, must be one of `info`, `warning`, `critical`"
)]
#[case::range(
    "  kafka: {bootstrapServers: ['k:9092'], partitions: 0}",
    "spec.kafka.partitions: is 0, must be at least 1"
)]
#[case::schema("  events: {schema: {type: 12}}", "spec.events.schema.type: is not a JSON Schema: ")]
#[case::schema_inside(
    "  events: {schema: {properties: {price: {anyOf: [{minimum: low}]}}}}",
    "spec.events.schema.properties.price.anyOf[0].minimum: is not a JSON Schema: "
)]
#[case::twice(
    "  metrics: [{name: a}, {name: a}]",
    "spec.metrics[1].name: `a` is there twice: names are unique in this list"
)]
#[case::no_metric(
    "  metrics: [{name: views}]\n  detectors: [{name: a, metric: view, algorithm: {poisson: {}}}]",
    "spec.detectors[0].metric: `view` is not the name of a metric of this pipeline; did you mean `views`? (there is `views`)"
)]
#[case::sigmas(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {zscore: {sigmas: -1}}}]",
    "spec.detectors[0].algorithm.zscore.sigmas: is -1, must be more than 0 and at most 1000"
)]
#[case::sqlite_path(
    "  sinks: [{name: a, sqlite: {path: ../x.db}}]",
    "spec.sinks[0].sqlite.path: `../x.db` must be a file inside the data folder: write a relative path without `..`, e.g. `shop.db`"
)]
#[case::store(
    "  sinks: [{name: db, sqlite: {}}]\n  api: {store: dbs}",
    "spec.api.store: `dbs` is not the name of a postgres or sqlite sink; did you mean `db`? (there is `db`)"
)]
#[case::infinite(
    "  metrics: [{name: a, events: {where: [{field: price, atLeast: .inf}]}}]",
    "spec.metrics[0].events.where[0].atLeast: is .inf, must be a finite number"
)]
#[case::not_a_number(
    "  metrics: [{name: a, events: {where: [{field: price, atMost: .nan}]}}]",
    "spec.metrics[0].events.where[0].atMost: is .nan, must be a finite number"
)]
#[case::infinite_where_anything_goes(
    "  events: {schema: {properties: {price: {maximum: -.inf}}}}",
    "spec.events.schema.properties.price.maximum: is -.inf, must be a finite number"
)]
#[case::infinite_with_a_range(
    "  detection: {scaling: {utilisation: .inf}}",
    "spec.detection.scaling.utilisation: is .inf, must be a finite number"
)]
#[case::merge_of_no_map(
    "  paused: &p true\n  events: {<<: *p}",
    "a merge key `<<` must name a map, or a list of maps: "
)]
#[case::unknown_by_a_merge(
    "  metrics:\n    - &m {name: a, windw: 2s}\n    - {<<: *m, name: b}",
    "spec.metrics[1].windw: unknown field; did you mean `window`? (allowed here: `name`, `events`, `key`, `aggregate`, `window`, `emit`, `maxKeys`)"
)]
#[case::parameter_of_crowd(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {crowd: {probability: 0.1}}}]",
    "spec.detectors[0].algorithm.crowd.probability: unknown field (allowed here: nothing)"
)]
#[case::small_budget(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, alerts: {budget: 0.06 per week}}]",
    "spec.detectors[0].alerts.budget: is 0.06 per week, must be from 0.01 to 100000 per day"
)]
#[case::large_budget(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, alerts: {budget: 4167 per hour}}]",
    "spec.detectors[0].alerts.budget: is 4167 per hour, must be from 0.01 to 100000 per day"
)]
#[case::users_of_other_values(
    "  metrics: [{name: a, aggregate: {function: unique, field: session_id}}]\n  detectors: [{name: b, metric: a, alerts: {minUsers: 5}}]",
    "spec.detectors[0].alerts.minUsers: counts users, but `a` counts different values of another field: watch a `count`, or a `unique` of `user_id`, or remove `minUsers`"
)]
#[case::alerts_of_another_name(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, alert: {minCount: 5}}]",
    "spec.detectors[0].alert: unknown field; did you mean `alerts`? (allowed here: `name`, `metric`, `algorithm`, `alerts`, `direction`, `minCount`, `cooldown`, `severity`, `explain`)"
)]
fn a_malformed_spec_says_what_to_change(#[case] spec: &str, #[case] expected: &str) {
    let found = problems(spec);
    assert!(
        found.iter().any(|problem| problem == expected || (expected.ends_with(": ") && problem.starts_with(expected))),
        "expected {expected}\nfound    {found:#?}"
    );
}

#[test]
fn a_file_with_a_byte_order_mark_is_read() {
    parse(&format!("\u{feff}{HEAD}  paused: true\n")).unwrap();
}

#[test]
fn merge_keys_fill_in_what_is_not_written() {
    let yaml = "  metrics:\n    - &views\n      name: views\n      window: 20s\n      emit: 2s\n    - <<: *views\n      name: carts\n      emit: 5s\n";
    let metrics = parse(&format!("{HEAD}{yaml}")).unwrap().spec.metrics;
    let seen: Vec<_> = metrics.iter().map(|m| (&*m.name, m.window.to_string(), m.emit.to_string())).collect();
    assert_eq!(seen, [("views", "20s".into(), "2s".into()), ("carts", "20s".into(), "5s".into())]);
}

#[test]
fn all_problems_of_a_pass_are_told_at_once() {
    let found = problems("  metrics: [{name: A, window: 1h, key: []}, {name: b, emit: 1ms}]");
    assert_eq!(found.len(), 4, "{found:#?}");
}

/// The algorithm, direction, minimum number of events and cooldown in seconds of a detector on this metric.
fn detector(metric: &str, detector: &str) -> (String, Direction, u64, u64) {
    let spec =
        format!("{HEAD}  metrics: [{{name: a{metric}}}]\n  detectors: [{{name: b, metric: a{detector}}}]");
    let plan = Plan::parse(&parse(&spec).unwrap()).unwrap();
    let DetectorPlan { algorithm, direction, min_count, cooldown, .. } = &plan.detectors[0];
    (algorithm.to_string(), *direction, *min_count, cooldown.as_secs())
}

#[rstest]
#[case::count("", "", "crowd: 5 alerts per day", (Up, 3, 0))]
#[case::unique(", aggregate: {function: unique, field: user_id}", "", "crowd: 5 alerts per day", (Up, 3, 0))]
#[case::sum(", aggregate: {function: sum, field: price}", "", "level: 5 alerts per day", (Up, 1, 0))]
#[case::mean(", aggregate: {function: mean, field: price}", "", "level: 5 alerts per day", (Up, 1, 0))]
#[case::level_of_a_count("", ", algorithm: {level: {}}", "level: 5 alerts per day", (Up, 1, 0))]
#[case::empty_alerts("", ", alerts: {}", "crowd: 5 alerts per day", (Up, 3, 0))]
#[case::budget("", ", alerts: {budget: 1}", "crowd: 1 alert per day", (Up, 3, 0))]
#[case::budget_in_words("", ", algorithm: {crowd: {}}, alerts: {budget: 2 per hour}", "crowd: 2 alerts per hour", (Up, 3, 0))]
#[case::probability("", ", algorithm: {level: {}}, alerts: {probability: 1.0e-9}", "level: probability 1e-9", (Up, 1, 0))]
#[case::under_alerts("", ", alerts: {direction: both, minCount: 7, cooldown: 1m}", "crowd: 5 alerts per day", (Both, 7, 60))]
#[case::beside_alerts("", ", direction: down, minCount: 7, cooldown: 1m", "crowd: 5 alerts per day", (Down, 7, 60))]
#[case::some_of_each("", ", minCount: 7, alerts: {cooldown: 1m}", "crowd: 5 alerts per day", (Up, 7, 60))]
#[case::mad("", ", algorithm: {mad: {}}", "mad: 5 deviations over 30 windows, warmup 6", (Up, 10, 300))]
#[case::mad_with_alerts(
    "", ", algorithm: {mad: {}}, alerts: {direction: down, minCount: 1, cooldown: 0s}",
    "mad: 5 deviations over 30 windows, warmup 6", (Down, 1, 0)
)]
#[case::threshold("", ", algorithm: {threshold: {below: 1}}, direction: up", "threshold: below 1", (Up, 10, 300))]
fn detector_has_the_defaults_of_its_algorithm(
    #[case] metric: &str,
    #[case] written: &str,
    #[case] algorithm: &str,
    #[case] (direction, min_count, cooldown): (Direction, u64, u64),
) {
    assert_eq!(detector(metric, written), (algorithm.to_owned(), direction, min_count, cooldown));
}

#[rstest]
#[case::budget(Algorithm::Crowd(AlertLimit::Budget("2 per hour".parse().unwrap())), r#"{"crowd":{"budget":"2 per hour"}}"#)]
#[case::probability(Algorithm::Level(AlertLimit::Probability(0.01)), r#"{"level":{"probability":0.01}}"#)]
fn algorithm_is_read_back_from_the_plan(#[case] algorithm: Algorithm, #[case] json: &str) {
    assert_eq!(serde_json::to_string(&algorithm).unwrap(), json);
    assert_eq!(serde_json::from_str::<Algorithm>(json).unwrap(), algorithm);
}
