//! Changes each field of the schema of the custom resource, and reverts the change. After each change the objects match the spec; after
//! reverting it, they are as before. A change that the API server or the operator rejects changes no object.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use herd_operator::context::Context;
use herd_operator::plan;
use herd_operator::reason::Reason;
use herd_spec::pipeline::HerdPipeline;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::env::{TestEnv, until};
use crate::single_reconcile::{missing_changes, no_pods, objects, operator, reconcile_once, shop};
use crate::topics;

/// Namespaces in which fields are changed side by side: a step mostly waits for the API server.
const NAMESPACES: usize = 4;
/// Values for text fields: the first that the API server accepts is used.
const TEXTS: &[&str] = &[
    "45s",
    "90s",
    "2h",
    "20ms",
    "900ms",
    "shop.example",
    "https://shop.example",
    "127.0.0.1:29092",
    "192.0.2.0/24",
    "/events",
    "0 9 * * 1-5",
    "Europe/Berlin",
    "05:30",
    "23:30",
    "2026-12-01T08:00:00Z",
    "user_id",
    "price",
    "other",
    "store",
    "views",
    "purchases",
    "url",
];
/// Values for number fields.
const NUMBERS: &[f64] = &[0.9, 1e-8, 0.5, 2.0, 3.0, 7.0, 5000.0, 2_000_000.0];

/// Fields that change no object: those of topics, and of the operator's own behaviour.
const NOT_IN_OBJECTS: &[&str] = &[
    "/kafka/retention",
    "/kafka/replication",
    "/kafka/config",
    "/kafka/deletionPolicy",
    "/scaling",
    // The number of replicas of a scaled stage does not depend on it.
    "/detection/replicas",
    "/detection removed",
];
/// Fields whose change cannot be reverted; or, after a pause, only after the next poll.
const IRREVERSIBLE: &[&str] = &["/kafka/partitions", "/kafka/detectorPartitions", "/paused"];
/// Immutable fields: every change is rejected with this message.
const IMMUTABLE: &[(&str, &str)] = &[("/kafka/topicPrefix", "spec.kafka.topicPrefix cannot be changed")];
/// Fields without a valid value here: reserved, only for `herd up`, of other stages, or (a schema) not generated.
const UNCHANGEABLE: &[&str] = &["/api/stage/scaling", "/events/schema", "/sinks/#/druid", "/sinks/#/sqlite"];

/// The spec that all changes start from: it has every kind of field.
fn base_pipeline(env: &TestEnv) -> Value {
    let mut pipeline = topics::shop(env);
    let secret = |key: &str| json!({"name": "store", "key": key});
    let stage = json!({
        "replicas": 2,
        "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "1Gi"}},
    });
    let scaled = json!({
        "scaling": {"min": 1, "max": 4, "floors": [{"schedule": "0 8 * * *", "for": "1h", "min": 1}]},
    });
    let ingress = json!({"host": "a.example", "path": "/a", "className": "nginx", "tlsSecret": "tls", "annotations": {"a": "b"}});
    let spec = &mut pipeline["spec"];
    spec["kafka"]["retention"] = "1d".into();
    spec["events"]["maxAge"] = "400d".into();
    spec["events"]["mapping"] =
        json!({"id": ["a"], "item": ["b"], "time": ["c"], "type": ["d"], "user": ["e"]});
    spec["collector"] = json!({
        "auth": {"keys": [{"name": "web", "eventsPerSecond": 5, "secretRef": secret("url")}]},
        "cors": {"origins": ["https://a.example"]},
        "trustedProxies": ["10.0.0.0/8", "2001:db8::/32"],
        "context": {"countryHeader": "cf-ipcountry"},
        "limits": {"eventsPerSecondPerKey": 9},
        "ingress": ingress,
        "stage": stage,
    });
    spec["detection"] = scaled;
    spec["metrics"][0]["events"]["where"] = json!([
        {"field": "price", "atLeast": 1},
        {"field": "price", "atMost": 9},
        {"field": "page", "exists": true},
        {"field": "page", "in": ["a", "b"]},
        {"field": "page", "notIn": ["c", "d"]},
    ]);
    spec["metrics"][1]["key"] = json!(["item_id", "page"]);
    spec["detectors"] = json!([
        {"name": "default", "metric": "views"},
        {"name": "crowd", "metric": "views", "algorithm": {"crowd": {}}, "alerts": {"budget": 7}},
        {"name": "level", "metric": "revenue", "algorithm": {"level": {}}, "alerts": {
            "probability": 0.01, "minCount": 1, "direction": "both", "cooldown": "1m",
            "quietHours": [{"from": "21:00", "to": "06:00", "timeZone": "UTC", "days": ["mon"]}],
            "mute": [{"until": "2026-11-01T00:00:00Z", "keys": ["a*"]}],
        }, "explain": ["page"]},
        {"name": "poisson", "metric": "views", "algorithm": {"poisson": {"halfLife": 20.0}}},
        {"name": "ewma", "metric": "revenue", "algorithm": {"ewma": {"sigmas": 6.0}}, "minCount": 3},
        {"name": "mad", "metric": "views", "algorithm": {"mad": {"deviations": 8.0}}, "direction": "both"},
        {"name": "zscore", "metric": "views", "algorithm": {"zscore": {"sigmas": 8.0}}, "cooldown": "1m"},
        {"name": "threshold", "metric": "views", "algorithm": {"threshold": {"above": 100.0, "below": 1.0}}},
    ]);
    spec["sinks"] = json!([
        {"name": "history", "postgres": {"url": secret("url"), "schema": "a", "batchRows": 9}, "stage": stage},
        {"name": "chat", "webhook": {"urlFrom": secret("url"), "signingKey": secret("other"), "format": "slack"}},
        {"name": "hook", "webhook": {"url": "https://hook.example/alerts"}},
    ]);
    spec["api"] =
        json!({"ingress": ingress, "token": secret("url"), "stage": {"replicas": 1}, "store": "history"});
    pipeline
}

/// Changes of one field each, by its path: to any of these values, or, with none, away.
type Steps = Vec<(String, Vec<Option<Value>>)>;

fn number(value: f64, whole: bool) -> Value {
    if whole { json!(value.round() as i64) } else { json!(value) }
}

/// Values for a field of this schema other than `now`.
fn values(schema: &JSONSchemaProps, now: &Value) -> Vec<Option<Value>> {
    if schema.x_kubernetes_int_or_string == Some(true) {
        let all = [json!("3 per hour"), json!(9)];
        return all.into_iter().filter(|value| value != now).map(Some).collect();
    }
    let kind = schema.type_.as_deref().unwrap_or("object");
    if let Some(values) = &schema.enum_ {
        return values
            .iter()
            .map(|value| Some(value.0.clone()))
            .filter(|value| value.as_ref() != Some(now))
            .collect();
    }
    let all = match kind {
        "boolean" => vec![json!(!now.as_bool().unwrap_or(false))],
        "integer" | "number" => {
            let bounds = [schema.minimum, schema.maximum].into_iter().flatten();
            NUMBERS.iter().copied().chain(bounds).map(|n| number(n, kind == "integer")).collect()
        }
        "string" => TEXTS.iter().map(|text| json!(text)).collect(),
        "object" if schema.additional_properties.is_some() => {
            vec![json!({"memory": "2Gi"}), json!({"segment.bytes": "1048576"}), json!({"c": "d"})]
        }
        _ => Vec::new(),
    };
    all.into_iter().filter(|value| value != now).map(Some).collect()
}

/// The smallest value of this schema: what it requires, filled with what the first samples give.
fn least(schema: &JSONSchemaProps) -> Value {
    match schema.type_.as_deref() {
        Some("object") => {
            let required = schema.required.iter().flatten();
            let fields = schema.properties.as_ref();
            required.filter_map(|name| Some((name.clone(), least(fields?.get(name)?)))).collect()
        }
        Some("array") => json!([]),
        _ => values(schema, &Value::Null).into_iter().flatten().next_back().unwrap_or(Value::Null),
    }
}

fn walk(schema: &JSONSchemaProps, now: &Value, path: &str, steps: &mut Steps) {
    let items = match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    };
    match (now, &schema.properties) {
        (Value::Object(fields), Some(properties)) => {
            for (name, field) in properties {
                let path = format!("{path}/{name}");
                match fields.get(name) {
                    Some(there) => {
                        walk(field, there, &path, steps);
                        steps.push((format!("{path} removed"), vec![None]));
                    }
                    None if field.type_.as_deref() == Some("object") && field.properties.is_some() => {
                        steps.push((path, vec![Some(least(field))]));
                    }
                    None => {
                        let default = field.default.as_ref().map_or(Value::Null, |default| default.0.clone());
                        steps.push((path, values(field, &default)));
                    }
                }
            }
        }
        (Value::Array(there), _) => {
            for (index, item) in there.iter().enumerate() {
                if let Some(items) = items {
                    walk(items, item, &format!("{path}/{index}"), steps);
                }
            }
            let fewer = there.split_last().map(|(_, rest)| Some(json!(rest)));
            steps.push((format!("{path} shortened"), fewer.into_iter().collect()));
        }
        _ => steps.push((path.to_owned(), values(schema, now))),
    }
}

fn changed(base: &Value, path: &str, value: Option<&Value>) -> Value {
    let mut pipeline = base.clone();
    let pointer = format!("/spec{}", path.split(' ').next().unwrap());
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match (pipeline.pointer_mut(parent).unwrap(), value) {
        (Value::Object(fields), Some(value)) => drop(fields.insert(field.into(), value.clone())),
        (Value::Object(fields), None) => drop(fields.remove(field)),
        (Value::Array(items), Some(value)) => items[field.parse::<usize>().unwrap()] = value.clone(),
        (other, value) => panic!("{pointer} of {other}: {value:?}"),
    }
    pipeline
}

/// The results of all changes.
#[derive(Default)]
struct Results {
    /// Accepted, applied and reverted.
    accepted: usize,
    /// Rejected by the API server.
    rejected: usize,
    /// Accepted by the API server, rejected by the operator.
    stalled: usize,
    /// Changes of immutable fields, each rejected.
    fixed: usize,
    wrong: Vec<String>,
    /// Whether a value of the field was accepted, whatever list it is in.
    fields: BTreeMap<String, bool>,
}

impl Results {
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.stalled += other.stalled;
        self.fixed += other.fixed;
        self.wrong.extend(other.wrong);
        for (field, is_accepted) in other.fields {
            *self.fields.entry(field).or_default() |= is_accepted;
        }
    }
}

struct ChangeTest<'b> {
    env: &'b TestEnv,
    operator: Arc<Context>,
    base: Value,
    /// The plan of `base`.
    plan: String,
    first: BTreeMap<String, Value>,
    results: Results,
}

impl ChangeTest<'_> {
    async fn apply(&self, pipeline: &Value, dry: bool) -> Result<HerdPipeline, String> {
        let mut person = PatchParams::apply("person").force();
        person.dry_run = dry;
        let api = self.env.api::<HerdPipeline>();
        api.patch("shop", &person, &Patch::Apply(pipeline)).await.map_err(|error| error.to_string())
    }

    async fn step(&mut self, path: &str, values: &[Option<Value>]) {
        let field: String = path.split(' ').next().unwrap().replace(|c: char| c.is_ascii_digit(), "#");
        let known = self.results.fields.entry(field.clone()).or_default();
        *known |= values == [None];
        for value in values {
            let pipeline = changed(&self.base, path, value.as_ref());
            let dry = self.apply(&pipeline, true).await;
            if let Some((_, message)) = IMMUTABLE.iter().find(|(fixed, _)| *fixed == field) {
                match dry {
                    Ok(_) => self.results.wrong.push(format!("{path} = {value:?} was accepted")),
                    // Values that are no valid prefix are rejected for that.
                    Err(error) if error.contains(message) || error.contains("cannot begin the name") => {}
                    Err(error) => self.results.wrong.push(format!("{path} = {value:?}: {error}")),
                }
                self.results.fixed += 1;
                self.results.fields.insert(field.clone(), true);
                continue;
            }
            if dry.is_ok() {
                self.results.fields.insert(field, true);
                return self.apply_and_revert(path, value.as_ref(), &pipeline).await;
            }
            self.results.rejected += 1;
        }
    }

    async fn apply_and_revert(&mut self, path: &str, value: Option<&Value>, pipeline: &Value) {
        let step = format!("{path} = {}", value.map_or("nothing".into(), Value::to_string));
        self.apply(pipeline, false).await.unwrap();
        let outcome = reconcile_once(self.env, &self.operator).await;
        let there = objects(self.env).await;
        if plan::of(&shop(self.env).await).is_err() {
            self.results.stalled += 1;
            if outcome.is_ok() || there != self.first {
                self.results.wrong.push(format!("{step}: not rejected, or objects were changed"));
            }
        } else if let Err(error) = outcome {
            // A missing Secret stalls the pipeline; nothing else may fail.
            if error.reason() == Reason::SecretMissing {
                self.results.stalled += 1;
            } else {
                self.results.wrong.push(format!("{step}: {error}"));
            }
        } else {
            self.results.accepted += 1;
            let missing_changes = missing_changes(self.env).await;
            if !missing_changes.is_empty() {
                self.results
                    .wrong
                    .push(format!("{step}: objects do not match the spec: {missing_changes:?}"));
            }
            let no_object = NOT_IN_OBJECTS.iter().any(|part| path.contains(part));
            if (there == self.first) != no_object && !self.is_the_same().await {
                let how = if no_object { "changes objects" } else { "changes no object" };
                self.results.wrong.push(format!("{step}: it {how}"));
            }
        }
        if let Err(error) = self.apply(&self.base, false).await {
            self.results.wrong.push(format!("{step}: reverting was rejected: {error}"));
            return;
        }
        if let Err(error) = reconcile_once(self.env, &self.operator).await {
            self.results.wrong.push(format!("{step}: reverting: {error}"));
        }
        let back = objects(self.env).await;
        if back != self.first {
            let other: Vec<_> =
                back.iter().filter(|(name, object)| self.first.get(*name) != Some(object)).collect();
            self.results.wrong.push(format!("{step}: after reverting, these differ: {other:?}"));
        }
    }

    /// Whether the plan is the same: the value is the default of the field.
    async fn is_the_same(&self) -> bool {
        plan_of_stored(self.env).await == self.plan
    }
}

/// The plan of the pipeline as the API server stores it: for an object that was applied without the last of its fields, it stores none.
async fn plan_of_stored(env: &TestEnv) -> String {
    format!("{:?}", plan::of(&shop(env).await).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HERD_TEST_KUBECONFIG and HERD_TEST_KAFKA: make test sets them"]
async fn every_field_can_be_changed_and_reverted() {
    let mut all = Results::default();
    join_all((0..NAMESPACES).map(change_fields)).await.into_iter().for_each(|results| all.add(results));
    let Results { accepted, rejected, stalled, fixed, wrong, fields } = all;
    println!(
        "{} fields: {accepted} changes applied and reverted, {rejected} rejected, {stalled} stalled",
        fields.len()
    );
    assert!(wrong.is_empty(), "{} steps:\n{}", wrong.len(), wrong.join("\n"));
    let never: Vec<_> = fields.iter().filter(|(_, accepted)| !**accepted).map(|(field, _)| field).collect();
    assert_eq!(never, UNCHANGEABLE, "no value of these was accepted");
    assert!(accepted >= 150, "only {accepted}");
    assert!(fixed > IMMUTABLE.len(), "only {fixed} changes of immutable fields were tried");
}

/// Changes the fields that fall to one of the namespaces.
async fn change_fields(part: usize) -> Results {
    let env = TestEnv::without_operator(&format!("walk-{part}")).await;
    no_pods(&env).await;
    for key in ["url", "other"] {
        env.secret("store", key, "postgres://store").await;
    }
    let base = base_pipeline(&env);
    env.apply(&base).await.unwrap();
    let operator = operator(env.client.clone());
    reconcile_once(&env, &operator).await.unwrap();
    until("objects that match the spec", async || {
        let missing_changes = missing_changes(&env).await;
        if missing_changes.is_empty() { Ok(()) } else { Err(missing_changes) }
    })
    .await;
    let crd = herd_spec::crd::crd();
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let mut steps = Steps::new();
    walk(&schema.properties.as_ref().unwrap()["spec"], &base["spec"], "", &mut steps);
    steps.retain(|(path, _)| !IRREVERSIBLE.iter().any(|field| path.starts_with(field)));
    let first = objects(&env).await;
    let plan = plan_of_stored(&env).await;
    let mut test = ChangeTest { env: &env, operator, base, plan, first, results: Results::default() };
    for (path, values) in steps.iter().skip(part).step_by(NAMESPACES) {
        test.step(path, values).await;
    }
    let results = test.results;
    env.end().await;
    results
}
