//! Stages whose clock is wrong.

use crate::scene::Scene;

/// An hour is just what brokers let pass: records may be at most an hour ahead of their clock.
pub(crate) async fn collector_ahead(scene: &Scene) -> String {
    let accepted = scene.load.accepted();
    lie(scene, "collector-1", 1, async || scene.pipeline.ready("collector-1").await).await;
    scene.saw(format!("{} events accepted meanwhile", scene.load.accepted() - accepted));
    "the clock of collector-1 an hour ahead".into()
}

/// Beyond an hour the brokers refuse what it sends, and it must say so.
pub(crate) async fn collector_far_ahead(scene: &Scene) -> String {
    lie(scene, "collector-1", 2, async || {
        scene.sees_trouble("collector-1", &["check the clock of this machine"]).await;
    })
    .await;
    "the clock of collector-1 two hours ahead".into()
}

/// What happens now is in the future for it.
pub(crate) async fn collector_behind(scene: &Scene) -> String {
    let before = scene.sum("collector", "herd_collector_refusals_total").await.unwrap_or(0.0);
    lie(scene, "collector-1", -2, async || {
        // Of the script's own invalid events there are far fewer in the time that this may take.
        #[allow(clippy::cast_precision_loss)] // a few thousand
        let half_of_all = scene.load.script.rate as f64;
        scene.sees_rise("collector", "herd_collector_refusals_total", before, half_of_all).await;
    })
    .await;
    "the clock of collector-1 two hours behind, more than maxClockSkew".into()
}

pub(crate) async fn detector_ahead(scene: &Scene) -> String {
    lie(scene, "detector-1", 1, async || scene.pipeline.ready("detector-1").await).await;
    "the clock of detector-1 an hour ahead".into()
}

pub(crate) async fn detector_behind(scene: &Scene) -> String {
    lie(scene, "detector-1", -1, async || scene.pipeline.ready("detector-1").await).await;
    "the clock of detector-1 an hour behind".into()
}

pub(crate) async fn sink_ahead(scene: &Scene) -> String {
    lie(scene, "sink-1", 1, async || scene.pipeline.ready("sink-1").await).await;
    "the clock of sink-1 an hour ahead".into()
}

pub(crate) async fn sink_behind(scene: &Scene) -> String {
    lie(scene, "sink-1", -1, async || scene.pipeline.ready("sink-1").await).await;
    "the clock of sink-1 an hour behind".into()
}

/// Runs a member with a wrong clock, in which `sees` says what is to be seen.
async fn lie(scene: &Scene, member: &str, hours: i64, sees: impl AsyncFnOnce()) {
    scene.pipeline.move_to(member, None, Some(hours * 3600)).await;
    sees().await;
    scene.sees_logged(member, &[&wrong_date(hours)]).await;
    scene.hold().await;
    scene.pipeline.move_to(member, None, None).await;
    scene.pipeline.ready(member).await;
}

/// How a line of its log begins: the proof that its clock is wrong.
fn wrong_date(hours: i64) -> String {
    let time = herd_spec::units::WallTime(crate::clock::now() + hours * 3_600_000).rfc3339();
    time[..13].to_owned()
}
