//! What the `baselines` topic holds that no detector of this pipeline owns: baselines learnt from another definition of their
//! metric, or of a metric, detector or algorithm that is gone. They are deleted, and the alerts that fire in them are resolved
//! with the reason: nobody else ever would. Alerts raised just before their detector went may stand in no baseline yet; they
//! are found in the `alerts` topic.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use compact_str::CompactString;
use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertId, AlertState};

use super::watch::{Watch, Watched};
use super::{baseline, totals_watch};

/// The records to be deleted, and the alerts to be resolved.
#[derive(Debug)]
pub(super) struct Disowned {
    /// The metrics of the pipeline.
    watched: Vec<Arc<Watched>>,
    /// By the key in the topic. Deleted once the alerts are out.
    records: HashMap<Vec<u8>, Vec<(Alert, String)>>,
    /// Alerts of detectors that are gone, in records whose other detectors remain; by place of the metric, and key.
    of_keys: BTreeMap<(usize, CompactString), Vec<(Alert, String)>>,
    /// Other alerts, which stand in no record.
    alerts: BTreeMap<AlertId, (Alert, String)>,
}

impl Disowned {
    /// Nothing yet, beside these metrics.
    pub(super) fn of(watched: &[Arc<Watched>]) -> Self {
        Self {
            watched: watched.to_vec(),
            records: HashMap::new(),
            of_keys: BTreeMap::new(),
            alerts: BTreeMap::new(),
        }
    }

    /// Takes a record in whose key is not of a metric of this pipeline; a tombstone takes it out.
    pub(super) fn record(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Some(value) = value else {
            self.records.remove(key);
            return;
        };
        let names_definition = key.split(|byte| *byte == 0x1F).next().is_some_and(|of| of.contains(&b'@'));
        let cause = if names_definition { Cause::Fingerprint } else { Cause::EarlierVersion };
        let open = baseline::unresolved(value).into_iter().chain(totals_watch::unresolved(value));
        let alerts = open.map(|alert| {
            let reason = reason(&alert, &self.watched, cause);
            (alert, reason)
        });
        self.records.insert(key.to_vec(), alerts.collect());
    }

    /// Takes in an open alert of a key of this partition, if no detector owns it.
    pub(super) fn alert(&mut self, alert: Alert) {
        if self.watched.iter().any(|watched| owns(watched, &alert)) {
            return;
        }
        let of = self.watched.iter().find(|watched| watched.metric.name == alert.metric);
        let size = |watched: &Watched| watched.metric.window.as_millis() == u128::from(alert.size_ms);
        let cause = match of {
            Some(watched) if !size(watched) => Cause::Fingerprint,
            _ => Cause::Either,
        };
        let reason = reason(&alert, &self.watched, cause);
        self.alerts.insert(alert.id.clone(), (alert, reason));
    }

    /// Takes in what a key's newest record holds of detectors that are gone; nothing, and what older ones held counts no more.
    pub(super) fn of_key(&mut self, place: usize, key: &str, alerts: Vec<Alert>) {
        let at = (place, CompactString::from(key));
        if alerts.is_empty() {
            self.of_keys.remove(&at);
            return;
        }
        let with_reason = |alert: Alert| {
            let reason = reason(&alert, &self.watched[place..=place], Cause::Algorithm);
            (alert, reason)
        };
        self.of_keys.insert(at, alerts.into_iter().map(with_reason).collect());
    }

    /// How many records there are, by the metric's name.
    pub(super) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for key in self.records.keys() {
            let of = key.split(|byte| matches!(byte, 0x1F | b'@')).next().unwrap_or_default();
            *counts.entry(String::from_utf8_lossy(of).into_owned()).or_default() += 1;
        }
        counts
    }

    /// Hands out every alert, resolved, and the keys of this pipeline's records that held some: these must be saved anew.
    ///
    /// # Errors
    /// The first that `out` returns; the rest is then lost, and the caller must stop.
    pub(super) fn resolve<E>(
        &mut self,
        closed: Option<EventTime>,
        mut out: impl FnMut(Alert) -> Result<(), E>,
    ) -> Result<Vec<(usize, CompactString)>, E> {
        let mut resolve = |(mut alert, reason): (Alert, String)| {
            alert.state = AlertState::Resolved;
            let end = EventTime(alert.start.0.saturating_add_unsigned(alert.size_ms));
            alert.resolved = Some(closed.map_or(end, |closed| closed.max(end)));
            alert.summary = format!("{}; resolved because {reason}", alert.summary);
            out(alert)
        };
        self.records.values_mut().flat_map(std::mem::take).try_for_each(&mut resolve)?;
        std::mem::take(&mut self.alerts).into_values().try_for_each(&mut resolve)?;
        let mut unsaved = Vec::new();
        for (at, alerts) in std::mem::take(&mut self.of_keys) {
            alerts.into_iter().try_for_each(&mut resolve)?;
            unsaved.push(at);
        }
        Ok(unsaved)
    }

    /// Hands out the keys of the records to be deleted. Only after [`Disowned::resolve`], once what it handed out is
    /// acknowledged.
    pub(super) fn delete(&mut self) -> impl Iterator<Item = Vec<u8>> {
        std::mem::take(&mut self.records).into_keys()
    }
}

fn owns(watched: &Watched, alert: &Alert) -> bool {
    let of = |watch: &Watch| watch.name == alert.detector && watch.rule_hash == alert.rule;
    watched.metric.name == alert.metric && watched.watches.iter().any(of)
}

/// What became of an alert whose metric and detector are still there by name.
#[derive(Clone, Copy, Debug)]
enum Cause {
    /// Its metric has another definition.
    Fingerprint,
    /// Its detector learns in another way.
    Algorithm,
    /// One of the two.
    Either,
    /// It was raised by a version of Herd whose records did not say what they were learnt from.
    EarlierVersion,
}

/// Why no detector owns an alert.
fn reason(alert: &Alert, watched: &[Arc<Watched>], cause: Cause) -> String {
    let Alert { metric, detector, .. } = alert;
    let Some(now) = watched.iter().find(|watched| watched.metric.name == *metric) else {
        return format!("metric `{metric}` was removed from the pipeline");
    };
    if !now.watches.iter().any(|watch| watch.name == *detector) {
        return format!("detector `{detector}` was removed from metric `{metric}`");
    }
    match cause {
        Cause::Fingerprint => format!("the definition of metric `{metric}` was changed"),
        Cause::Algorithm => format!("the algorithm of detector `{detector}` was changed"),
        Cause::Either => {
            format!(
                "the definition of metric `{metric}` or the algorithm of detector `{detector}` was changed"
            )
        }
        Cause::EarlierVersion => "it was raised by an earlier version of Herd".to_owned(),
    }
}
