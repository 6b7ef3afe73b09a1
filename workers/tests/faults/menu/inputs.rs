//! Records nobody should send, and traffic of an unusual kind.

use std::time::Duration;

use herd_bus::{Acks, Bus, Outgoing, Producer};
use herd_spec::units::{Partition, WallTime};

use crate::scene::Scene;

/// Records that no stage may choke on, straight into the topics.
pub(crate) async fn poison(scene: &Scene) -> String {
    let metrics = [
        ("detector", "herd_fold_malformed_events_total", 3.0),
        ("detector", "herd_judge_malformed_parts_total", 4.0),
        ("sink", "herd_sink_dead_letters_total", 8.0),
    ];
    let mut before = Vec::new();
    for (stage, metric, _) in metrics {
        before.push(scene.sum(stage, metric).await.unwrap_or(0.0));
    }
    let topics = &scene.pipeline.plan.topics;
    let seed = scene.load.script.seed;
    let mut letters = Vec::new();
    let mut sent = 0;
    let producer = scene.pipeline.bus.producer("poison").unwrap();
    let acks = Acks::new();
    let mut put = |topic: &str, value: Option<&str>| {
        let record = Outgoing {
            topic,
            partition: Some(Partition(sent % crate::pipeline::PARTITIONS)),
            key: Some(b"poison"),
            value: value.map(str::as_bytes),
            timestamp: WallTime(crate::clock::now()),
            headers: &[],
        };
        producer.send(&record, acks.expect(sent)).unwrap();
        sent += 1;
    };
    // What no reader of the topic can read ends among the dead letters, which the sink writes.
    for (topic, kind) in [(&topics.events, "event"), (&topics.windows, "window"), (&topics.alerts, "alert")] {
        let unreadable = format!("poison {kind} {seed}: no JSON at all");
        let newer = format!(r#"{{"v":99,"poison":"{kind} {seed}"}}"#);
        for value in [unreadable, newer] {
            put(&topic.name, Some(&value));
            letters.push(value);
        }
        put(&topic.name, None);
    }
    // Readable, and yet no database takes it: text with a NUL.
    let nul = format!(
        r#"{{"v":1,"event_id":"poison {seed}\u0000","type":"poison","user_id":"u","time":{0},"received":{0}}}"#,
        scene.load.script.start
    );
    put(&topics.events.name, Some(&nul));
    letters.push(nul);
    let nul = format!(
        r#"{{"v":1,"metric":"all","key":"poison {seed}\u0000","start":0,"size_ms":10000,"count":1,"value":1.0,"final":true}}"#
    );
    put(&topics.windows.name, Some(&nul));
    letters.push(nul);
    // Bytes that are not even text cannot be compared as such below; this one is skipped by fold and refused by the sink.
    let nested = format!("{}{seed}", "[".repeat(100_000));
    put(&topics.events.name, Some(&nested));
    letters.push(nested);
    for part in [
        "poison part: no JSON at all".to_owned(),
        r#"{"v":99,"source":0}"#.to_owned(),
        r#"{"v":1,"metric":"nobody knows it","key":"k","start":0,"source":0,"version":1,"value":{"count":1}}"#.to_owned(),
        // A source that cannot be: were it believed, no window would ever close.
        r#"{"v":1,"source":4294967295,"sources":1,"watermark":1,"state":"active","at":1}"#.to_owned(),
    ] {
        put(&topics.parts.name, Some(&part));
    }
    put(&topics.parts.name, None);
    assert!(tokio::task::block_in_place(|| acks.wait(Duration::from_secs(60))), "poison is not acknowledged");
    *scene.poison.lock() = letters;
    for ((stage, metric, by), before) in metrics.into_iter().zip(before) {
        scene.sees_rise(stage, metric, before, by).await;
    }
    scene.hold().await;
    format!("{sent} poisoned records into events, parts, windows and alerts")
}

/// 90 % of the traffic is of one item all the time: see the script. Nothing is to be seen but that it works.
pub(crate) async fn hot_item(scene: &Scene) -> String {
    scene.hold().await;
    let lag = crate::progress::lag(&scene.pipeline).await.unwrap_or(u64::MAX);
    // Ten seconds of events, their parts and windows.
    let most = scene.load.script.rate * 30;
    if lag > most {
        scene.missed(format!("the pipeline keeps up: {lag} records wait, more than {most}"));
    }
    scene.saw(format!("{lag} records waiting under load"));
    "90 % of all events of one item".into()
}

/// Everything that was sent is sent once more.
pub(crate) async fn replay(scene: &Scene) -> String {
    let before = scene.sum("detector", "herd_fold_duplicate_events_total").await.unwrap_or(0.0);
    let events = scene.load.replay().await;
    scene.sees_rise("detector", "herd_fold_duplicate_events_total", before, 100.0).await;
    scene.hold().await;
    format!("{events} events sent once more")
}
