//! From the events of a file to those of the `events` topic, as the collector accepts them.

use std::collections::HashSet;

use herd_backtest::BacktestError;
use herd_collector::intake::{Format, Intake, split};
use herd_spec::plan::{MappingPlan, Plan};
use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{EventRef, FieldPath, VERSION};
use serde_json::value::RawValue;

use crate::replay::{Field, PlainEvent, RecordedEvent};

/// What is called with the key and the event of each record.
pub(super) type Pass<'p> = dyn FnMut(&str, &EventRef<'_>) -> Result<(), BacktestError> + 'p;

/// Accepts the events of one pipeline.
#[derive(Debug)]
pub(super) struct Admission {
    intake: Intake,
    key: FieldPath,
    types: HashSet<String>,
    /// The record of an event that came as a body.
    record: Vec<u8>,
    unnamed: u64,
    /// Events that the collector would refuse.
    pub(super) refused: u64,
    /// Why the first of them is refused.
    pub(super) reason: Option<String>,
}

/// The paths of a field in the body of a request.
fn paths(mapping: &MappingPlan, field: Field) -> &[Vec<String>] {
    match field {
        Field::Id => &mapping.id,
        Field::Type => &mapping.event_type,
        Field::User => &mapping.user,
        Field::Item => &mapping.item,
        Field::Time => &mapping.time,
    }
}

/// Whether the events of `plan` follow from the columns of a file alone: fields have the names under which they are sent.
pub(super) fn is_direct(plan: &Plan) -> bool {
    let is_first = |field: &Field| {
        let first = paths(&plan.events.mapping, *field).first();
        first.is_some_and(|path| path.len() == 1 && path[0] == field.sent_as())
    };
    plan.events.schema.is_none()
        && !matches!(plan.events.key, FieldPath::Property(_))
        && Field::ALL.iter().all(is_first)
}

/// The names, beside the first, under which the collector of any of these pipelines looks for each field.
pub(super) fn alternatives<'p>(plans: impl Iterator<Item = &'p Plan>) -> [Vec<String>; 5] {
    let mut names: [Vec<String>; 5] = Default::default();
    for plan in plans {
        for field in Field::ALL {
            let paths = paths(&plan.events.mapping, field).iter();
            names[field as usize].extend(paths.filter_map(|path| path.first().cloned()));
        }
    }
    names
}

impl Admission {
    /// Of the events of `plan`.
    ///
    /// # Errors
    /// If its JSON Schema does not compile.
    pub(super) fn new(plan: &Plan) -> Result<Self, String> {
        Ok(Self {
            intake: Intake::new(&plan.events)?,
            key: plan.events.key.clone(),
            types: plan.events.types.iter().cloned().collect(),
            record: Vec::new(),
            unnamed: 0,
            refused: 0,
            reason: None,
        })
    }

    /// Passes an event on, with the key of its record, if the collector would accept it at its own time.
    ///
    /// # Errors
    /// Those of `pass`.
    pub(super) fn push(
        &mut self,
        event: &RecordedEvent<'_>,
        pass: &mut Pass<'_>,
    ) -> Result<(), BacktestError> {
        match event {
            RecordedEvent::Plain(event) => self.push_plain(event, pass),
            RecordedEvent::Body(body, time) => self.push_body(body, *time, pass),
        }
    }

    fn push_plain(&mut self, plain: &PlainEvent, pass: &mut Pass<'_>) -> Result<(), BacktestError> {
        if !self.types.is_empty() && !self.types.contains(plain.event_type()) {
            self.refuse(|| format!("`{}` is not an accepted event type", plain.event_type()));
            return Ok(());
        }
        let properties: Option<&RawValue> = match plain.properties().map(serde_json::from_str) {
            Some(Ok(properties)) => Some(properties),
            Some(Err(error)) => {
                self.refuse(|| error.to_string());
                return Ok(());
            }
            None => None,
        };
        let event = EventRef {
            v: VERSION,
            event_id: plain.id().into(),
            event_type: plain.event_type().into(),
            user_id: plain.user().map(Into::into),
            item_id: plain.item().map(Into::into),
            time: plain.time(),
            received: WallTime(plain.time().0),
            properties,
        };
        let key = match self.key {
            FieldPath::Type => Some(plain.event_type()),
            FieldPath::UserId => plain.user(),
            FieldPath::ItemId => plain.item(),
            FieldPath::EventId | FieldPath::Property(_) => None,
        };
        pass(key.unwrap_or(plain.id()), &event)
    }

    fn push_body(&mut self, body: &str, time: EventTime, pass: &mut Pass<'_>) -> Result<(), BacktestError> {
        self.record.clear();
        let items = match split(body.as_bytes(), Format::Json) {
            Ok((items, _)) => items,
            Err(refusal) => {
                self.refuse(|| refusal.detail);
                return Ok(());
            }
        };
        for item in &items {
            let unnamed = &mut self.unnamed;
            let new_id = || {
                *unnamed += 1;
                format!("unnamed-{unnamed}")
            };
            let accepted = self.intake.accept(item, WallTime(time.0), new_id, &mut self.record);
            match accepted {
                Err(refusal) => self.refuse(|| refusal.detail),
                Ok(accepted) => match EventRef::parse(&self.record) {
                    Ok(event) => pass(&accepted.key, &event)?,
                    Err(error) => {
                        self.refused += 1;
                        self.reason.get_or_insert_with(|| error.to_string());
                    }
                },
            }
        }
        Ok(())
    }

    fn refuse(&mut self, reason: impl FnOnce() -> String) {
        self.refused += 1;
        self.reason.get_or_insert_with(reason);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use herd_backtest::{Backtest, properties_read};
    use herd_spec::wire::Window;
    use rstest::rstest;

    use super::*;
    use crate::replay::{EventReader, Mapping};

    /// Every field of an event decides the key of one of its metrics.
    const PIPELINE: &str = "
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata: {name: shop}
spec:
  events: {types: [view, purchase]}
  metrics:
    - {name: ids, key: [event_id, type], window: 10s, maxKeys: 1000}
    - {name: items, key: [item_id], window: 10s}
    - {name: users, key: [user_id], window: 10s}
    - {name: prices, key: [item_id], aggregate: {function: sum, field: price}, window: 10s}
    - {name: notes, key: [note], window: 10s}
    - {name: nested, key: [cart.lines], events: {where: [{field: 'ok', in: ['true', '1']}]}, window: 10s}
";

    /// The closed windows of a file, and the refused events: read into buffers where possible, or all as bodies.
    fn windows(path: &std::path::Path, map: &str, direct: bool) -> (BTreeMap<String, String>, u64, usize) {
        let plan = crate::pipeline::check("shop.yaml", PIPELINE).unwrap();
        assert!(is_direct(&plan));
        let mapping: Mapping = map.parse().unwrap();
        let properties: Option<BTreeSet<String>> = direct.then(|| properties_read(&plan));
        let alternatives = alternatives(std::iter::once(&plan));
        let mut reader = EventReader::open(path, &mapping, Some("view"), properties, alternatives).unwrap();
        let mut admission = Admission::new(&plan).unwrap();
        let (mut windows, mut plain) = (BTreeMap::new(), 0);
        let note = |window: &Window<'_>| {
            let name = format!("{} {} {}", window.metric, window.key, window.start);
            windows.insert(name, format!("{} {}", window.count, window.value));
        };
        let mut backtest = Backtest::new(&plan, note);
        while let Some(event) = reader.next_event() {
            let event = event.unwrap();
            plain += usize::from(matches!(event, RecordedEvent::Plain(_)));
            admission.push(&event, &mut |key, event| backtest.push(key, event)).unwrap();
        }
        let end = backtest.end();
        drop(backtest.finish(end).unwrap());
        (windows, admission.refused, plain)
    }

    #[rstest]
    #[case::plain(
        "x.csv",
        "ts,item,user,price,note\n1700000000000,a,7,9.50,x\n1700000001000,007,,1e3,\"y, z\"\n",
        "",
        2
    )]
    #[case::ids(
        "x.csv",
        "ts,item,event_id,type\n1700000000,a,e1,view\n1700000000,a,e1,view\n1700000000,a,,purchase\n",
        "",
        3
    )]
    #[case::refused_type("x.csv", "ts,item,type\n1700000000,a,search\n1700000000,b,view\n", "", 2)]
    #[case::times("x.csv", "ts,item\n2023-11-14 22:13:20,a\n1700000000123456,b\n1700000000.5,c\n", "", 3)]
    #[case::times_of_another_unit("x.csv", "ts,item\n12,a\n1700000000,b\n", "", 1)]
    #[case::a_name_of_another_field(
        "x.csv",
        "ts,item,userId,who\n1700000000,a,7,8\n1700000000,b,,8\n",
        "user=who",
        0
    )]
    #[case::long("x.csv", &format!("ts,item,user\n1700000000,{},7\n1700000000,a,7\n", "i".repeat(1025)), "", 1)]
    #[case::quotes_and_backslashes(
        "x.csv",
        "ts,item,note\n1700000000,a\\nb,\"say \"\"x\"\"\"\n1700000000,\u{1F600},\\u0041\n",
        "",
        2
    )]
    #[case::properties(
        "x.ndjson",
        "{\"time\":1700000000,\"item\":\"a\",\"price\":1.10,\"cart\":{\"lines\":3},\"ok\":true}\n{\"time\":1700000000,\"item\":5,\"price\":\"2\",\"note\":null}\n",
        "",
        2
    )]
    #[case::escapes(
        "x.ndjson",
        "{\"time\":1700000000,\"item\":\"a\\u00e9\",\"note\":\"x\"}\n{\"time\":1700000000,\"item\":\"b\",\"note\":\"\\ud800\"}\n{\"time\":1700000000,\"item\":\"b\",\"note\":\"\\u0000\"}\n",
        "",
        0
    )]
    #[case::fields_of_other_types(
        "x.ndjson",
        "{\"time\":1700000000,\"item\":true,\"user\":{\"a\":1}}\n{\"time\":1700000000,\"item\":\"\",\"productId\":\"p\"}\n{\"time\":1700000000,\"productId\":\"p\",\"item\":\"q\"}\n",
        "item=item",
        2
    )]
    fn events_read_into_buffers_equal_those_that_the_collector_makes(
        #[case] name: &str,
        #[case] text: &str,
        #[case] map: &str,
        #[case] expected_plain: usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let (direct, refused, plain) = windows(&path, map, true);
        let (bodies, refused_bodies, none) = windows(&path, map, false);
        assert!(!bodies.is_empty());
        assert_eq!(none, 0);
        assert_eq!(direct, bodies);
        assert_eq!(refused, refused_bodies);
        assert_eq!(plain, expected_plain, "rows read without a detour");
    }
}
