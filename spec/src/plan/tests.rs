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
#[case::no_server(
    "  kafka: {bootstrapServers: []}",
    "spec.kafka.bootstrapServers: is empty: write at least one `host:port`, or leave out `kafka` for the embedded broker"
)]
#[case::server(
    "  kafka: {bootstrapServers: [kafka]}",
    "spec.kafka.bootstrapServers[0]: `kafka` is not an address: write `host:port`, e.g. `kafka:9092`"
)]
#[case::prefix(
    "  kafka: {bootstrapServers: ['k:9092'], topicPrefix: a/b}",
    "spec.kafka.topicPrefix: `a/b` cannot begin the name of a topic: write 1 to 200 letters, digits, `.`, `_` and `-`"
)]
#[case::plain(
    "  kafka: {bootstrapServers: ['k:9092'], sasl: {mechanism: PLAIN, username: {name: a, key: b}, password: {name: a, key: c}}}",
    "spec.kafka.sasl.mechanism: PLAIN sends the password unencrypted: add `tls`, or write `SCRAM-SHA-512`"
)]
#[case::half_tls(
    "  kafka: {bootstrapServers: ['k:9092'], tls: {certificate: {name: a, key: b}}}",
    "spec.kafka.tls: `certificate` and `key` belong together: write both or neither"
)]
#[case::retention(
    "  kafka: {bootstrapServers: ['k:9092'], retention: 1m}",
    "spec.kafka.retention: is 1m, must be from 1h to 3650d"
)]
#[case::policy(
    "  kafka: {bootstrapServers: ['k:9092'], config: {cleanup.policy: delete}}",
    "spec.kafka.config.cleanup.policy: differs from topic to topic, and counting relies on it: remove it"
)]
#[case::retention_setting(
    "  kafka: {bootstrapServers: ['k:9092'], config: {retention.ms: '1'}}",
    "spec.kafka.config.retention.ms: is set by `retention`: write it there, e.g. `retention: 7d`"
)]
#[case::mapping_path(
    "  events: {mapping: {user: [a..b]}}",
    "spec.events.mapping.user[0]: `a..b` is not a path: write names joined by single dots, e.g. `context.user.id`"
)]
#[case::no_type(
    "  events: {mapping: {type: []}}",
    "spec.events.mapping.type: is empty: an event needs a type, so name the field that holds it"
)]
#[case::lateness("  events: {maxLateness: 1h}", "spec.events.maxLateness: is 1h, must be from 0s to 10m")]
#[case::schema("  events: {schema: {type: 12}}", "spec.events.schema.type: is not a JSON Schema: ")]
#[case::schema_inside(
    "  events: {schema: {properties: {price: {anyOf: [{minimum: low}]}}}}",
    "spec.events.schema.properties.price.anyOf[0].minimum: is not a JSON Schema: "
)]
#[case::quantity(
    "  detection: {resources: {requests: {memory: lots}}}",
    "spec.detection.resources.requests.memory: `lots` is not a quantity: write e.g. `cpu: 250m`, `memory: 512Mi`"
)]
#[case::resource(
    "  collector: {stage: {resources: {limits: {cpus: '1'}}}}",
    "spec.collector.stage.resources.limits.cpus: `cpus` is no resource: write `cpu`, `memory`, `ephemeral-storage`, or e.g. `example.com/gpu`"
)]
#[case::request_above_limit(
    "  api: {stage: {resources: {requests: {cpu: '1'}, limits: {cpu: 900m}}}}",
    "spec.api.stage.resources.requests.cpu: `1` is more than its limit `900m`: lower it, or raise the limit"
)]
#[case::no_keys(
    "  collector: {auth: {keys: []}}",
    "spec.collector.auth.keys: is empty: nobody could write; add a key or leave out `auth`"
)]
#[case::origin(
    "  collector: {cors: {origins: ['https://shop.example/path']}}",
    "spec.collector.cors.origins[0]: `https://shop.example/path` is not an origin: write scheme and host without a path, e.g. `https://shop.example`, or `*`"
)]
#[case::max_age("  events: {maxAge: 5m}", "spec.events.maxAge: is 5m, must be from 10m to 36500d")]
#[case::no_range_of_addresses(
    "  collector: {trustedProxies: [10.0.0.0/8, '2001:db8::/32', 10.0.0.1]}",
    "spec.collector.trustedProxies[2]: `10.0.0.1` is not a range of addresses: write a CIDR, e.g. `10.0.0.0/8` or `2001:db8::/32`"
)]
#[case::inflated(
    "  collector: {limits: {bodyBytes: 2000000, inflatedBytes: 1000000}}",
    "spec.collector.limits.inflatedBytes: is 1000000, must be at least `bodyBytes` (2000000)"
)]
#[case::window(
    "  metrics: [{name: a, window: 1500ms}]",
    "spec.metrics[0].window: is 1s500ms, must be whole seconds from 1s to 10m; for longer periods, aggregate the closed windows in the database"
)]
#[case::long_window(
    "  metrics: [{name: a, window: 1h}]",
    "spec.metrics[0].window: is 1h, must be whole seconds from 1s to 10m; for longer periods, aggregate the closed windows in the database"
)]
#[case::emit(
    "  metrics: [{name: a, window: 5s, emit: 6s}]",
    "spec.metrics[0].emit: is 6s, must be `adaptive`, or from 100ms to the length of the window (5s)"
)]
#[case::no_key(
    "  metrics: [{name: a, key: []}]",
    "spec.metrics[0].key: is empty: name the field whose values are counted, e.g. `[item_id]`"
)]
#[case::no_field(
    "  metrics: [{name: a, aggregate: {function: mean}}]",
    "spec.metrics[0].aggregate.field: missing: name the field to aggregate with `mean`"
)]
#[case::field_of_count(
    "  metrics: [{name: a, aggregate: {field: price}}]",
    "spec.metrics[0].aggregate.field: has no meaning for `count`: remove it, or write `function: sum`, `mean` or `unique`"
)]
#[case::condition(
    "  metrics: [{name: a, events: {where: [{field: price, in: [a], exists: true}]}}]",
    "spec.metrics[0].events.where[0]: must have exactly one of `in`, `notIn`, `atLeast`, `atMost`, `exists`"
)]
#[case::empty_condition(
    "  metrics: [{name: a, events: {where: [{field: price, in: []}]}}]",
    "spec.metrics[0].events.where[0].in: is empty: write at least one value"
)]
#[case::twice(
    "  metrics: [{name: a}, {name: a}]",
    "spec.metrics[1].name: `a` is there twice: names are unique in this list"
)]
#[case::upper(
    "  metrics: [{name: Views}]",
    "spec.metrics[0].name: `Views` is not a name: write up to 40 lower-case letters, digits and `-`, starting with a letter, e.g. `flash-crowd`"
)]
#[case::no_metric(
    "  metrics: [{name: views}]\n  detectors: [{name: a, metric: view, algorithm: {poisson: {}}}]",
    "spec.detectors[0].metric: `view` is not the name of a metric of this pipeline; did you mean `views`? (there is `views`)"
)]
#[case::no_algorithm(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {}}]",
    "spec.detectors[0].algorithm: must have exactly one of `crowd`, `level`, `threshold`, `zscore`, `ewma`, `mad`, `poisson`, e.g. `crowd: {}`; or leave out `algorithm`"
)]
#[case::two_algorithms(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {mad: {}, ewma: {}}}]",
    "spec.detectors[0].algorithm: must have exactly one of `crowd`, `level`, `threshold`, `zscore`, `ewma`, `mad`, `poisson`, e.g. `crowd: {}`; or leave out `algorithm`"
)]
#[case::threshold(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {threshold: {}}}]",
    "spec.detectors[0].algorithm.threshold: must have `above`, `below` or both"
)]
#[case::crossed(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {threshold: {above: 1, below: 2}}}]",
    "spec.detectors[0].algorithm.threshold: `below` (2) must be less than `above` (1)"
)]
#[case::sigmas(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {zscore: {sigmas: -1}}}]",
    "spec.detectors[0].algorithm.zscore.sigmas: is -1, must be more than 0 and at most 1000"
)]
#[case::warmup(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {mad: {history: 10, warmup: 20}}}]",
    "spec.detectors[0].algorithm.mad.warmup: is 20, must be from 2 to 10 (`history`)"
)]
#[case::probability(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {poisson: {probability: 2}}}]",
    "spec.detectors[0].algorithm.poisson.probability: is 2, must be more than 0 and at most 0.1, e.g. 1e-9"
)]
#[case::no_sink(
    "  sinks: [{name: a}]",
    "spec.sinks[0]: must have exactly one of `postgres`, `sqlite`, `webhook`"
)]
#[case::druid(
    "  sinks: [{name: a, druid: {url: 'http://d:8888'}}]",
    "spec.sinks[0].druid: is reserved and not available in this version: remove it"
)]
#[case::schema_name(
    "  sinks: [{name: a, postgres: {url: {name: a, key: b}, schema: Herd}}]",
    "spec.sinks[0].postgres.schema: `Herd` is not the name of a schema: write up to 63 lower-case letters, digits and `_`, not starting with a digit or `pg_`"
)]
#[case::sqlite_path(
    "  sinks: [{name: a, sqlite: {path: ../x.db}}]",
    "spec.sinks[0].sqlite.path: `../x.db` must be a file inside the data folder: write a relative path without `..`, e.g. `shop.db`"
)]
#[case::webhook(
    "  sinks: [{name: a, webhook: {}}]",
    "spec.sinks[0].webhook: must have exactly one of `url` and `urlFrom`"
)]
#[case::webhook_url(
    "  sinks: [{name: a, webhook: {url: example.com}}]",
    "spec.sinks[0].webhook.url: `example.com` is not an address: write `https://host/path`"
)]
#[case::store(
    "  sinks: [{name: db, sqlite: {}}]\n  api: {store: dbs}",
    "spec.api.store: `dbs` is not the name of a postgres or sqlite sink; did you mean `db`? (there is `db`)"
)]
#[case::scaling(
    "  detection: {scaling: {min: 5, max: 2}}",
    "spec.detection.scaling: `min` (5) must not be more than `max` (2)"
)]
#[case::floor_above_max(
    "  detection: {scaling: {max: 2, floors: [{schedule: '0 8 * * *', for: 1h, min: 3}]}}",
    "spec.detection.scaling.floors[0]: `min` (3) must not be more than `max` (2)"
)]
#[case::floor_schedule(
    "  detection: {scaling: {floors: [{schedule: '0 25 * * *', for: 1h, min: 3}]}}",
    "spec.detection.scaling.floors[0].schedule: `25` is not an hour: write 0 to 23, in `0 25 * * *`"
)]
#[case::floor_zone(
    "  detection: {scaling: {floors: [{schedule: '0 8 * * *', for: 1h, min: 3, timeZone: Mars}]}}",
    "spec.detection.scaling.floors[0].timeZone: `Mars` is not a time zone: write its IANA name, e.g. `Europe/Berlin`"
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
#[case::poisson_of_a_sum(
    "  metrics: [{name: a, aggregate: {function: sum, field: price}}]\n  detectors: [{name: b, metric: a, algorithm: {poisson: {}}}]",
    "spec.detectors[0].algorithm.poisson: requires a count, but `a` is a sum or mean: watch a `count` or `unique` metric, or use `ewma` or `mad`"
)]
#[case::crowd_of_a_sum(
    "  metrics: [{name: a, aggregate: {function: mean, field: price}}]\n  detectors: [{name: b, metric: a, algorithm: {crowd: {}}}]",
    "spec.detectors[0].algorithm.crowd: requires a count, but `a` is a sum or mean: watch a `count` or `unique` metric, or use `level`"
)]
#[case::parameter_of_crowd(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {crowd: {probability: 0.1}}}]",
    "spec.detectors[0].algorithm.crowd.probability: unknown field (allowed here: nothing)"
)]
#[case::budget(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, alerts: {budget: 5 a day}}]",
    "spec.detectors[0].alerts.budget: `5 a day` is not a number of alerts in a period: write e.g. `5 per day`, `2 per hour`, `10 per week`"
)]
#[case::fractional_budget(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, alerts: {budget: 0.5}}]",
    "spec.detectors[0].alerts.budget: is a number, must be an integer or string: write `0.5 per day`"
)]
#[case::no_budget(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, alerts: {budget: 0}}]",
    "spec.detectors[0].alerts.budget: is 0, must be at least 1"
)]
#[case::small_budget(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, alerts: {budget: 0.06 per week}}]",
    "spec.detectors[0].alerts.budget: is 0.06 per week, must be from 0.01 to 100000 per day"
)]
#[case::large_budget(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, alerts: {budget: 4167 per hour}}]",
    "spec.detectors[0].alerts.budget: is 4167 per hour, must be from 0.01 to 100000 per day"
)]
#[case::alert_probability(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, alerts: {probability: 0}}]",
    "spec.detectors[0].alerts.probability: is 0, must be more than 0 and at most 0.1, e.g. 1e-9"
)]
#[case::budget_and_probability(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, alerts: {budget: 5, probability: 0.01}}]",
    "spec.detectors[0].alerts.probability: cannot be combined with `budget`: remove one of them"
)]
#[case::budget_of_zscore(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {zscore: {}}, alerts: {budget: 5}}]",
    "spec.detectors[0].alerts.budget: `zscore` alerts by `sigmas`: set `algorithm.zscore.sigmas`, or remove `algorithm` to use a budget"
)]
#[case::budget_of_ewma(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {ewma: {}}, alerts: {budget: 5}}]",
    "spec.detectors[0].alerts.budget: `ewma` alerts by `sigmas`: set `algorithm.ewma.sigmas`, or remove `algorithm` to use a budget"
)]
#[case::budget_of_mad(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {mad: {}}, alerts: {budget: 5}}]",
    "spec.detectors[0].alerts.budget: `mad` alerts by `deviations`: set `algorithm.mad.deviations`, or remove `algorithm` to use a budget"
)]
#[case::budget_of_a_threshold(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {threshold: {above: 1}}, alerts: {budget: 5}}]",
    "spec.detectors[0].alerts.budget: `threshold` alerts by `above` and `below`: set `algorithm.threshold.above` or `algorithm.threshold.below`, or remove `algorithm` to use a budget"
)]
#[case::probability_of_poisson(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, algorithm: {poisson: {}}, alerts: {probability: 0.01}}]",
    "spec.detectors[0].alerts.probability: `poisson` alerts by `probability`: set `algorithm.poisson.probability`, or remove `algorithm` to use a probability"
)]
#[case::min_count_twice(
    "  metrics: [{name: a}]\n  detectors: [{name: b, metric: a, minCount: 5, alerts: {minCount: 5}}]",
    "spec.detectors[0].minCount: is set twice: set `minCount` under `alerts` only"
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
