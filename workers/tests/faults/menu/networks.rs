//! Cut ways between stages and brokers.

use std::sync::Arc;

use crate::env::{Cut, Namespace};
use crate::scene::Scene;

pub(crate) async fn cut_to_broker(scene: &Scene) -> String {
    cut(scene, &[Cut::ToBroker]).await;
    "nothing passes from one member of each stage to the brokers".into()
}

pub(crate) async fn cut_from_broker(scene: &Scene) -> String {
    cut(scene, &[Cut::FromBroker]).await;
    "nothing passes from the brokers to one member of each stage".into()
}

pub(crate) async fn cut_both(scene: &Scene) -> String {
    cut(scene, &[Cut::ToBroker, Cut::FromBroker]).await;
    "nothing passes between one member of each stage and the brokers".into()
}

async fn cut(scene: &Scene, cuts: &[Cut]) {
    let members = ["collector-1", "detector-1", "sink-1"];
    let mut namespaces: Vec<Arc<Namespace>> = Vec::new();
    for member in members {
        let namespace = Arc::new(scene.env.namespace());
        scene.pipeline.move_to(member, Some(Arc::clone(&namespace)), None).await;
        namespaces.push(namespace);
    }
    for member in members {
        scene.pipeline.ready(member).await;
    }
    let begun = std::time::Instant::now();
    for namespace in &namespaces {
        cuts.iter().for_each(|cut| namespace.cut(*cut));
    }
    for member in members {
        scene.sees_trouble(member, &["kafkaunreachable"]).await;
    }
    tokio::time::sleep(scene.hold.saturating_sub(begun.elapsed())).await;
    for namespace in &namespaces {
        cuts.iter().for_each(|cut| namespace.join(*cut));
    }
}
