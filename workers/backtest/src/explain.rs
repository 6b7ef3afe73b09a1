//! Why alerts of the past were raised.

use herd_detector::explain::question::{LONGEST_REFERENCE, Question};
use herd_detector::explain::{Episodes, Look};
use herd_spec::plan::Plan;
use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertState, EventRef, Explanation, FieldPath};

/// Most events that are looked through, which bounds the memory for their ids to 200 MB.
const EVENTS_MAX: usize = 4_000_000;

/// Explains alerts as the running pipeline does, in a second pass over the same events, in any order.
#[derive(Debug)]
pub struct Explainer {
    look: Look,
    /// Of each question, the place of its alert.
    places: Vec<usize>,
    range: Option<(EventTime, EventTime)>,
    cut: bool,
}

impl Explainer {
    /// For those of the first `most` of these alerts that the running pipeline would explain.
    #[must_use]
    pub fn new(plan: &Plan, alerts: &[Alert], most: usize) -> Self {
        let mut episodes = Episodes::default();
        let question = |alert: &Alert, episodes: &Episodes| {
            let detector = plan.detectors.iter().find(|of| *of.name == *alert.detector)?;
            let metric = plan.metrics.iter().find(|of| of.name == detector.metric)?;
            // Without an event there is nothing to look at.
            let is_silence = alert.count == 0 && alert.value == 0.0;
            let is_asked =
                alert.state != AlertState::Withdrawn && !detector.explain.is_empty() && !is_silence;
            let of = || Question::of(alert, metric, detector.explain.clone(), LONGEST_REFERENCE);
            is_asked.then(|| of().except(episodes.others(alert)))
        };
        let asked = alerts.iter().enumerate().filter_map(|(place, alert)| {
            let question = question(alert, &episodes);
            episodes.note(alert);
            Some((place, question?))
        });
        let (places, questions): (Vec<usize>, Vec<Question>) = asked.take(most).unzip();
        let begin = questions.iter().map(Question::begin).min();
        let end = questions.iter().map(|question| question.alert.end).max();
        Self { look: Look::new(questions), places, range: begin.zip(end), cut: false }
    }

    /// The time whose events matter; none if there is nothing to explain.
    #[must_use]
    pub fn range(&self) -> Option<(EventTime, EventTime)> {
        self.range
    }

    /// Looks at an event.
    pub fn add(&mut self, event: &EventRef<'_>) {
        if self.look.events() < EVENTS_MAX {
            self.look.add(event);
        } else {
            self.cut = true;
        }
    }

    /// The explanations, each with the place of its alert.
    #[must_use]
    pub fn finish(self) -> Vec<(usize, Explanation)> {
        let found = self.places.into_iter().zip(self.look.finish(self.cut));
        found.filter_map(|(place, explanation)| Some((place, explanation?))).collect()
    }
}

/// Names of the properties by which alerts of `plan` are explained, and of those that its metrics read.
#[must_use]
pub fn properties_explained(plan: &Plan) -> std::collections::BTreeSet<String> {
    let property = |field: &FieldPath| match field {
        FieldPath::Property(path) => path.first().cloned(),
        _ => None,
    };
    let fields = plan.detectors.iter().flat_map(|detector| &detector.explain);
    let mut properties = crate::properties_read(plan);
    properties.extend(fields.filter_map(property));
    properties
}
