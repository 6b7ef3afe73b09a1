//! A walk through the CRD's own schema: from a pipeline to one that differs in a single field, and back. After each step the objects
//! match the spec; back again, they are as they were. What the API server or the operator refuses changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use herd_operator::context::Context;
use herd_operator::plan;
use herd_operator::reason::Reason;
use herd_spec::pipeline::HerdPipeline;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::bed::{Bed, until};
use crate::once::{no_pods, objects, once, operator, shop, unmet};
use crate::topics;

/// Texts that some field takes: the first that the API server lets through is used.
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
    "user_id",
    "price",
    "other",
    "store",
    "views",
    "purchases",
    "url",
];
/// Numbers likewise.
const NUMBERS: &[f64] = &[0.9, 1e-8, 0.5, 2.0, 3.0, 7.0, 5000.0, 2_000_000.0];

/// Fields of which no object tells: they are about topics, or about what the operator itself does.
const NOT_IN_OBJECTS: &[&str] = &[
    "/kafka/retention",
    "/kafka/replication",
    "/kafka/config",
    "/kafka/deletionPolicy",
    "/scaling",
    // A stage that is scaled has as many as it needs.
    "/detection/replicas",
    "/detection removed",
];
/// Fields from whose change there is no way back; or, after a pause, only with the next look at what waits.
const ONE_WAY: &[&str] = &["/kafka/partitions", "/kafka/detectorPartitions", "/paused"];
/// Fields that keep the value they were created with: every change is refused with these words.
const FIXED: &[(&str, &str)] = &[("/kafka/topicPrefix", "spec.kafka.topicPrefix cannot be changed")];
/// Fields that no value makes right: reserved, of `herd up` alone, of other stages, or (a schema) not to be made up.
const NEVER: &[&str] = &["/api/stage/scaling", "/events/schema", "/sinks/#/druid", "/sinks/#/sqlite"];

/// From which all steps go: something of everything.
fn home(bed: &Bed) -> Value {
    let mut pipeline = topics::shop(bed);
    let secret = |key: &str| json!({"name": "store", "key": key});
    let stage = json!({
        "replicas": 2,
        "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "1Gi"}},
    });
    let scaled = json!({
        "scaling": {"min": 1, "max": 4, "floors": [{"schedule": "0 8 * * *", "for": "1h", "min": 1}]},
    });
    let door = json!({"host": "a.example", "path": "/a", "className": "nginx", "tlsSecret": "tls", "annotations": {"a": "b"}});
    let spec = &mut pipeline["spec"];
    spec["kafka"]["retention"] = "1d".into();
    spec["events"]["maxAge"] = "400d".into();
    spec["events"]["mapping"] =
        json!({"id": ["a"], "item": ["b"], "time": ["c"], "type": ["d"], "user": ["e"]});
    spec["collector"] = json!({
        "auth": {"keys": [{"name": "web", "eventsPerSecond": 5, "secretRef": secret("url")}]},
        "cors": {"origins": ["https://a.example"]},
        "trustedProxies": ["10.0.0.0/8", "2001:db8::/32"],
        "limits": {"eventsPerSecondPerKey": 9},
        "ingress": door,
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
        json!({"ingress": door, "token": secret("url"), "stage": {"replicas": 1}, "store": "history"});
    pipeline
}

/// Changes of one field each, by its path: to any of these values, or, with none, away.
type Steps = Vec<(String, Vec<Option<Value>>)>;

fn number(value: f64, whole: bool) -> Value {
    if whole { json!(value.round() as i64) } else { json!(value) }
}

/// Values for a field of this schema other than `now`.
fn values(schema: &JSONSchemaProps, now: &Value) -> Vec<Option<Value>> {
    let kind = schema.type_.as_deref().unwrap_or("object");
    if let Some(words) = &schema.enum_ {
        return words
            .iter()
            .map(|word| Some(word.0.clone()))
            .filter(|word| word.as_ref() != Some(now))
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

fn changed(home: &Value, path: &str, value: Option<&Value>) -> Value {
    let mut pipeline = home.clone();
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

/// What became of all steps.
#[derive(Default)]
struct Walked {
    /// Taken, carried out, and taken back.
    taken: usize,
    /// Refused by the API server.
    refused: usize,
    /// Taken by the API server, refused by the operator.
    stalled: usize,
    /// Changes of fields that keep their value, each refused.
    fixed: usize,
    wrong: Vec<String>,
    /// Fields of which a value was taken (true), or none, whatever list they are in.
    fields: BTreeMap<String, bool>,
}

struct Walk<'b> {
    bed: &'b Bed,
    operator: Arc<Context>,
    home: Value,
    first: BTreeMap<String, Value>,
    walked: Walked,
}

impl Walk<'_> {
    async fn apply(&self, pipeline: &Value, dry: bool) -> Result<HerdPipeline, String> {
        let mut person = PatchParams::apply("person").force();
        person.dry_run = dry;
        let api = self.bed.api::<HerdPipeline>();
        api.patch("shop", &person, &Patch::Apply(pipeline)).await.map_err(|error| error.to_string())
    }

    async fn step(&mut self, path: &str, values: &[Option<Value>]) {
        let field: String = path.split(' ').next().unwrap().replace(|c: char| c.is_ascii_digit(), "#");
        let known = self.walked.fields.entry(field.clone()).or_default();
        *known |= values == [None];
        for value in values {
            let pipeline = changed(&self.home, path, value.as_ref());
            let dry = self.apply(&pipeline, true).await;
            if let Some((_, words)) = FIXED.iter().find(|(fixed, _)| *fixed == field) {
                match dry {
                    Ok(_) => self.walked.wrong.push(format!("{path} = {value:?} was taken")),
                    // Texts that can be no prefix at all are refused for that.
                    Err(said) if said.contains(words) || said.contains("cannot begin the name") => {}
                    Err(said) => self.walked.wrong.push(format!("{path} = {value:?}: {said}")),
                }
                self.walked.fixed += 1;
                self.walked.fields.insert(field.clone(), true);
                continue;
            }
            if dry.is_ok() {
                self.walked.fields.insert(field, true);
                return self.there_and_back(path, value.as_ref(), &pipeline).await;
            }
            self.walked.refused += 1;
        }
    }

    async fn there_and_back(&mut self, path: &str, value: Option<&Value>, pipeline: &Value) {
        let step = format!("{path} = {}", value.map_or("nothing".into(), Value::to_string));
        self.apply(pipeline, false).await.unwrap();
        let outcome = once(self.bed, &self.operator).await;
        let there = objects(self.bed).await;
        if plan::of(&shop(self.bed).await).is_err() {
            self.walked.stalled += 1;
            if outcome.is_ok() || there != self.first {
                self.walked.wrong.push(format!("{step}: not refused, or objects were changed"));
            }
        } else if let Err(error) = outcome {
            // A Secret that is not there is waited for; nothing else may fail.
            if error.reason() == Reason::SecretMissing {
                self.walked.stalled += 1;
            } else {
                self.walked.wrong.push(format!("{step}: {error}"));
            }
        } else {
            self.walked.taken += 1;
            let unmet = unmet(self.bed).await;
            if !unmet.is_empty() {
                self.walked.wrong.push(format!("{step}: objects do not match the spec: {unmet:?}"));
            }
            let untold = NOT_IN_OBJECTS.iter().any(|part| path.contains(part));
            if (there == self.first) != untold && !self.is_the_same(pipeline) {
                let how = if untold { "changes objects" } else { "changes no object" };
                self.walked.wrong.push(format!("{step}: it {how}"));
            }
        }
        if let Err(error) = self.apply(&self.home, false).await {
            self.walked.wrong.push(format!("{step}: no way back: {error}"));
            return;
        }
        if let Err(error) = once(self.bed, &self.operator).await {
            self.walked.wrong.push(format!("{step}: back: {error}"));
        }
        let back = objects(self.bed).await;
        if back != self.first {
            let other: Vec<_> =
                back.iter().filter(|(name, object)| self.first.get(*name) != Some(object)).collect();
            self.walked.wrong.push(format!("{step}: back again, these differ: {other:?}"));
        }
    }

    /// Whether the plan is the same: the value is what the field is without it.
    fn is_the_same(&self, pipeline: &Value) -> bool {
        let plan = |pipeline: &Value| {
            let parsed: HerdPipeline = serde_json::from_value(pipeline.clone()).unwrap();
            format!("{:?}", plan::of(&parsed).unwrap())
        };
        plan(pipeline) == plan(&self.home)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HERD_TEST_KUBECONFIG and HERD_TEST_KAFKA: make test sets them"]
async fn every_field_there_and_back() {
    let bed = Bed::bare("walk").await;
    no_pods(&bed).await;
    for key in ["url", "other"] {
        bed.secret("store", key, "postgres://store").await;
    }
    let home = home(&bed);
    bed.apply(&home).await.unwrap();
    let operator = operator(bed.client.clone());
    once(&bed, &operator).await.unwrap();
    until("objects that match the spec", async || {
        let unmet = unmet(&bed).await;
        if unmet.is_empty() { Ok(()) } else { Err(unmet) }
    })
    .await;
    let crd = herd_spec::crd::crd();
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let mut steps = Steps::new();
    walk(&schema.properties.as_ref().unwrap()["spec"], &home["spec"], "", &mut steps);
    let first = objects(&bed).await;
    let mut walk = Walk { bed: &bed, operator, home, first, walked: Walked::default() };
    steps.retain(|(path, _)| !ONE_WAY.iter().any(|field| path.starts_with(field)));
    for (path, values) in &steps {
        walk.step(path, values).await;
    }
    let Walked { taken, refused, stalled, fixed, wrong, fields } = walk.walked;
    println!("{} fields: {taken} changes there and back, {refused} refused, {stalled} stalled", fields.len());
    assert!(wrong.is_empty(), "{} steps:\n{}", wrong.len(), wrong.join("\n"));
    let never: Vec<_> = fields.iter().filter(|(_, taken)| !**taken).map(|(field, _)| field).collect();
    assert_eq!(never, NEVER, "no value of these was taken");
    assert!(taken >= 150, "only {taken}");
    assert!(fixed > FIXED.len(), "only {fixed} changes of fixed fields were tried");
    bed.end().await;
}
