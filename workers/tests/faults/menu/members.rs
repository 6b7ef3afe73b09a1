//! Processes that end, come and go.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::env::Signal;
use crate::scene::Scene;

/// SIGKILL or SIGTERM to a random member, again and again.
pub(crate) async fn end_at_random(scene: &Scene) -> String {
    let mut random = SmallRng::seed_from_u64(scene.load.script.seed);
    let everybody = scene.pipeline.everybody();
    let restarts = scene.pipeline.restarts();
    let (mut killed, mut asked) = (0, 0);
    let pause = (scene.hold / 6).min(Duration::from_secs(4));
    let begun = std::time::Instant::now();
    while begun.elapsed() < scene.hold {
        let member = everybody.choose(&mut random).unwrap();
        let kill = random.random_bool(0.5);
        scene.pipeline.signal(member, if kill { Signal::Kill } else { Signal::Term });
        if kill {
            killed += 1
        } else {
            asked += 1
        }
        tokio::time::sleep(pause).await;
    }
    // One of each kind at least, so that what is asserted has happened.
    for member in ["detector-0", "sink-0", "collector-0"] {
        scene.pipeline.signal(member, Signal::Kill);
        killed += 1;
    }
    scene.sees_logged("detector-0", &["taking over a source"]).await;
    scene.saw(format!("{} restarts", scene.pipeline.restarts() - restarts));
    format!("SIGKILL {killed} times, SIGTERM {asked} times, at random")
}

/// One of each, then six, then two.
pub(crate) async fn scale(scene: &Scene) -> String {
    let stages = ["collector", "detector", "sink"];
    to(scene, &stages, 1).await;
    tokio::time::sleep(scene.hold / 3).await;
    to(scene, &stages, 6).await;
    for member in stages.iter().flat_map(|stage| scene.pipeline.names(stage)) {
        scene.pipeline.ready(&member).await;
    }
    scene.sees_one_log("detector", &["taking over"]).await;
    tokio::time::sleep(scene.hold / 3).await;
    to(scene, &stages, 2).await;
    tokio::time::sleep(scene.hold / 3).await;
    "collectors, detectors and sinks from 2 to 1, to 6, to 2".into()
}

async fn to(scene: &Scene, stages: &[&str], replicas: usize) {
    for stage in stages {
        for number in 0..replicas {
            scene.pipeline.add(&format!("{stage}-{number}"));
        }
        for name in scene.pipeline.names(stage).into_iter().skip(replicas) {
            let ended = scene.pipeline.remove(&name).await;
            if ended.is_some_and(|status| !status.success()) {
                scene.missed(format!("{name} was asked to stop and ended with {ended:?}"));
            }
        }
    }
}

/// A detector and a sink join, and leave two seconds later; never the same ones twice, as with pods of a Deployment.
pub(crate) async fn storm(scene: &Scene) -> String {
    let begun = std::time::Instant::now();
    let mut times = 0;
    while begun.elapsed() < scene.hold {
        let members = [format!("detector-storm{times}"), format!("sink-storm{times}")];
        members.iter().for_each(|member| scene.pipeline.add(member));
        tokio::time::sleep(Duration::from_secs(2)).await;
        for member in &members {
            let ended = scene.pipeline.remove(member).await;
            if ended.is_some_and(|status| !status.success()) {
                scene.missed(format!("{member} was asked to stop and ended with {ended:?}"));
            }
        }
        times += 1;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    scene.sees_one_log("detector", &["taking over"]).await;
    format!("a detector and a sink joined and left {times} times, under new names each time")
}
