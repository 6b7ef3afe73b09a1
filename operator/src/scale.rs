//! How many replicas each stage is to have. The seam where scaling from lag comes in: whoever scales is a [`Scaler`].

use herd_spec::pipeline::ScalingMode;

use crate::stage::Stage;

/// Decides about replicas.
pub trait Scaler: Send + Sync {
    /// How many `stage` of the pipeline `namespace/name` is to have; `live` is how many are asked of its Deployment now, none if
    /// there is no Deployment yet. A paused stage is not asked about.
    fn replicas(&self, pipeline: &str, stage: &Stage, live: Option<u32>) -> u32;

    /// What the condition `ScalingActive` says of this pipeline.
    fn word(&self, pipeline: &str, stages: &[Stage]) -> ScalingWord;
}

/// What is said about scaling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingWord {
    /// Whether something scales.
    pub active: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for a person.
    pub message: String,
}

/// Keeps the replicas that are there, within the bounds of the spec.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep;

impl Scaler for Keep {
    fn replicas(&self, _: &str, stage: &Stage, live: Option<u32>) -> u32 {
        match stage.size.scaling.as_ref().filter(|scaling| scaling.mode != ScalingMode::Off) {
            None => stage.size.replicas,
            // Nobody would wake a stage that sleeps.
            Some(scaling) => live.unwrap_or(0).clamp(scaling.min.max(1), scaling.max.max(1)),
        }
    }

    fn word(&self, _: &str, stages: &[Stage]) -> ScalingWord {
        let asked: Vec<String> = stages
            .iter()
            .filter(|stage| stage.size.scaling.as_ref().is_some_and(|s| s.mode != ScalingMode::Off))
            .map(|stage| stage.role.to_string())
            .collect();
        if asked.is_empty() {
            let message = "no stage asks for scaling: `replicas` of each run".to_owned();
            return ScalingWord { active: false, reason: "NotAsked", message };
        }
        let message =
            format!("{} keep the replicas they have: this operator does not scale yet", asked.join(", "));
        ScalingWord { active: false, reason: "Kept", message }
    }
}

/// The replicas of a stage: none while the pipeline is paused, if it is one that pauses.
pub fn replicas(scaler: &dyn Scaler, pipeline: &str, paused: bool, stage: &Stage, live: Option<u32>) -> u32 {
    if paused && stage.role.pauses() { 0 } else { scaler.replicas(pipeline, stage, live) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herd_spec::pipeline::HerdPipeline;
    use herd_spec::plan::Plan;
    use rstest::rstest;

    fn detector(detection: &str) -> Stage {
        let yaml = format!(
            "{{apiVersion: herd.dev/v1alpha1, kind: HerdPipeline, metadata: {{name: p}}, spec: {{detection: {detection}}}}}"
        );
        let pipeline: HerdPipeline = serde_yaml::from_str(&yaml).unwrap();
        crate::stage::stages(&Plan::of(&pipeline).unwrap()).remove(1)
    }

    #[rstest]
    #[case::fixed("{replicas: 3}", false, Some(7), 3)]
    #[case::first("{scaling: {min: 2, max: 6}}", false, None, 2)]
    #[case::kept("{scaling: {min: 2, max: 6}}", false, Some(5), 5)]
    #[case::bounded("{scaling: {min: 2, max: 6}}", false, Some(9), 6)]
    #[case::off("{replicas: 3, scaling: {mode: Off}}", false, Some(5), 3)]
    #[case::woken("{scaling: {min: 0, max: 6}}", false, Some(0), 1)]
    #[case::paused("{replicas: 3}", true, Some(3), 0)]
    fn replicas_are_kept_within_bounds(
        #[case] detection: &str,
        #[case] paused: bool,
        #[case] live: Option<u32>,
        #[case] wanted: u32,
    ) {
        assert_eq!(replicas(&Keep, "default/p", paused, &detector(detection), live), wanted);
    }
}
