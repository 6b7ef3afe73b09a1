//! What differs between two versions of a pipeline, field by field, and what each change means for windows that are open, for
//! baselines and for open alerts. `herd plan --against` prints it, and [`markdown`] makes the page of it.

mod effect;
mod fields;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::pipeline::{AlertsSpec, HerdPipeline, HerdPipelineSpec, StageSpec};
use crate::plan::{AlertLimit, DetectorSettings, EXPLAINED};
use fields::{FIELDS, LISTS, row};

pub use effect::{Effect, Meaning};

/// A field that differs.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Which; items of lists by their name: `spec.metrics[views].window`.
    pub path: String,
    /// What it was; none: it was not there.
    pub before: Option<Json>,
    /// What it is; none: it is not there any more.
    pub after: Option<Json>,
    /// What that means.
    pub effect: Effect,
}

/// What differs between two versions of a pipeline, in the order of the spec. What is left out counts as its default, so that to
/// write a default out is no change. Both must be valid.
#[must_use]
pub fn changes(old: &HerdPipeline, new: &HerdPipeline) -> Vec<Change> {
    let mut found = Vec::new();
    if old.metadata.name != new.metadata.name {
        let name = |pipeline: &HerdPipeline| pipeline.metadata.name.clone().map(Json::from);
        let (before, after) = (name(old), name(new));
        found.push(Change { path: "metadata.name".into(), before, after, effect: Effect::OtherPipeline });
    }
    let (before, after) = (explicit(old), explicit(new));
    compare("spec", "spec", Some(&before), Some(&after), &mut found);
    found
}

/// The spec as JSON with the defaults that depend on other fields written out; those of the types are anyway.
fn explicit(pipeline: &HerdPipeline) -> Json {
    let mut spec = pipeline.spec.clone();
    let name = pipeline.metadata.name.as_deref().unwrap_or_default();
    let prefix = pipeline.topic_prefix().to_owned();
    if let Some(kafka) = &mut spec.kafka {
        kafka.topic_prefix = Some(prefix);
    }
    let HerdPipelineSpec { collector, metrics, detectors, detection, sinks, api, .. } = &mut spec;
    for detector in detectors.iter_mut() {
        let watched = metrics.iter().find(|metric| metric.name == detector.metric);
        let function = watched.map(|metric| metric.aggregate.function).unwrap_or_default();
        let settings = DetectorSettings::of(detector, function);
        detector.alerts = AlertsSpec {
            budget: settings.limit.and_then(AlertLimit::budget),
            probability: settings.limit.and_then(AlertLimit::probability),
            min_count: Some(settings.min_count),
            min_users: Some(detector.alerts.min_users.unwrap_or(0)),
            direction: Some(settings.direction),
            cooldown: Some(settings.cooldown),
            quiet_hours: std::mem::take(&mut detector.alerts.quiet_hours),
            mute: std::mem::take(&mut detector.alerts.mute),
        };
        detector.algorithm = Some(settings.algorithm);
        detector.explain.get_or_insert_with(|| EXPLAINED.map(str::to_owned).to_vec());
        // These are in `alerts` now.
        (detector.direction, detector.min_count, detector.cooldown) = (None, None, None);
    }
    for sink in sinks.iter_mut() {
        if let Some(postgres) = &mut sink.postgres {
            postgres.schema.get_or_insert_with(|| format!("herd_{}", name.replace('-', "_")));
        }
        if let Some(sqlite) = &mut sink.sqlite {
            sqlite.path.get_or_insert_with(|| format!("{name}.db"));
        }
    }
    if api.store.is_none() {
        let store = sinks.iter().find(|sink| sink.postgres.is_some() || sink.sqlite.is_some());
        api.store = store.map(|sink| sink.name.clone());
    }
    let one = |stage: &mut StageSpec| stage.replicas = Some(stage.replicas.unwrap_or(1));
    [&mut collector.stage, detection, &mut api.stage].into_iter().for_each(one);
    sinks.iter_mut().for_each(|sink| one(&mut sink.stage));
    // The types can all be written as JSON.
    serde_json::to_value(spec).unwrap_or_default()
}

/// Compares what stands at `path`; `field` is the same with `[]` for items.
fn compare(path: &str, field: &str, before: Option<&Json>, after: Option<&Json>, found: &mut Vec<Change>) {
    if before == after {
        return;
    }
    let list = LISTS.iter().find(|(name, ..)| *name == field);
    match (before, after) {
        (Some(Json::Object(old)), Some(Json::Object(new))) => {
            // Of an algorithm there is exactly one: another is one change, not two.
            if field == "spec.detectors[].algorithm" && !old.keys().eq(new.keys()) {
                let name = |of: &serde_json::Map<String, Json>| of.keys().next().cloned().map(Json::from);
                return found.push(Change {
                    path: path.into(),
                    before: name(old),
                    after: name(new),
                    effect: Effect::DetectorAlgorithm,
                });
            }
            let mut names: Vec<&String> = old.keys().collect();
            names.extend(new.keys().filter(|name| !old.contains_key(*name)));
            for name in names {
                let (path, field) = (format!("{path}.{name}"), format!("{field}.{name}"));
                compare(&path, &field, old.get(name), new.get(name), found);
            }
        }
        (Some(Json::Array(old)), Some(Json::Array(new))) if list.is_some() => {
            let Some((_, added, removed)) = list else { return };
            items(path, field, (old, *removed), (new, *added), found);
        }
        _ => {
            if let Some((_, effect)) = row(field) {
                let effect = refused(field, before, after).unwrap_or(*effect);
                found.push(Change {
                    path: path.into(),
                    before: before.cloned(),
                    after: after.cloned(),
                    effect,
                });
            }
        }
    }
}

/// Compares lists whose items go by a name; their order says nothing.
fn items(
    path: &str,
    field: &str,
    (old, removed): (&[Json], Effect),
    (new, added): (&[Json], Effect),
    found: &mut Vec<Change>,
) {
    let name = |item: &Json| item["name"].as_str().unwrap_or_default().to_owned();
    let of = |list: &'_ [Json], wanted: &str| list.iter().find(|item| name(item) == wanted).cloned();
    let mut seen = BTreeSet::new();
    for item in old.iter().chain(new) {
        let called = name(item);
        if !seen.insert(called.clone()) {
            continue;
        }
        let path = format!("{path}[{called}]");
        match (of(old, &called), of(new, &called)) {
            (Some(before), Some(after)) => {
                compare(&path, &format!("{field}[]"), Some(&before), Some(&after), found);
            }
            (before, after) => {
                let effect = if after.is_some() { added } else { removed };
                found.push(Change { path, before, after, effect });
            }
        }
    }
}

/// What the API server does not let through: see the rules of [`mod@crate::crd`].
fn refused(field: &str, before: Option<&Json>, after: Option<&Json>) -> Option<Effect> {
    let (before, after) = (before?.as_u64(), after?.as_u64());
    let is = match field {
        "spec.kafka.partitions" => after < before,
        "spec.kafka.detectorPartitions" => true,
        _ => false,
    };
    is.then_some(Effect::Refused)
}

/// The page of all fields.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# What a change of a pipeline means\n\n\
         What happens to the windows that are open, to baselines and to open alerts when a field of a running pipeline is changed. \
         `herd plan NEW.yaml --against OLD.yaml` lists what differs between two files, with the same words.\n\n\
         `[]` stands for each item of a list, `.*` for all that is inside. To write out what is the default is no change. Generated \
         from `spec/src/change`: change it there, then run `make reference`.\n\n\
         | fields | what it means | open windows | baselines | open alerts |\n|---|---|---|---|---|\n",
    );
    for effect in Effect::ALL {
        let mut names: Vec<String> = Vec::new();
        for (list, added, removed) in LISTS {
            if *added == effect {
                names.push(format!("an item added to `{list}`"));
            }
            if *removed == effect {
                names.push(format!("an item removed from `{list}`"));
            }
        }
        names.extend(FIELDS.iter().filter(|(_, of)| *of == effect).map(|(field, _)| format!("`{field}`")));
        match effect {
            Effect::Refused => names.extend([
                "fewer `spec.kafka.partitions`".to_owned(),
                "another number in `spec.kafka.detectorPartitions`".to_owned(),
            ]),
            Effect::OtherPipeline => names.push("`metadata.name`".to_owned()),
            _ => {}
        }
        let Meaning { what, windows, baselines, alerts } = effect.meaning();
        let or_dash = |text: &'static str| if text.is_empty() { "–" } else { text };
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            page,
            "| {} | {what} | {} | {} | {} |",
            names.join(", "),
            or_dash(windows),
            or_dash(baselines),
            or_dash(alerts)
        );
    }
    page
}

#[cfg(test)]
mod tests;
