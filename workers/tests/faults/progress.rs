//! How far the pipeline has come, from the consumer groups' own commits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use herd_bus::{Bus, BusError};
use herd_spec::units::{Offset, Partition};

use crate::pipeline::Pipeline;

/// Ends of a topic's partitions at some moment.
type Ends = Vec<(Partition, Offset)>;

fn groups(pipeline: &Pipeline) -> [(String, String); 5] {
    let (topics, groups, sink) =
        (&pipeline.plan.topics, &pipeline.plan.groups, &pipeline.plan.sinks[0].group);
    [
        (topics.events.name.clone(), groups.fold.clone()),
        (topics.parts.name.clone(), groups.judge.clone()),
        (topics.events.name.clone(), sink.clone()),
        (topics.windows.name.clone(), sink.clone()),
        (topics.alerts.name.clone(), sink.clone()),
    ]
}

fn ends(pipeline: &Pipeline, topic: &str, group: &str) -> Result<Ends, BusError> {
    let progress = pipeline.bus.progress(topic, group)?;
    Ok(progress.into_iter().map(|progress| (progress.partition, progress.end)).collect())
}

fn reached(pipeline: &Pipeline, topic: &str, group: &str, marks: &Ends) -> Result<bool, BusError> {
    let progress = pipeline.bus.progress(topic, group)?;
    Ok(marks.iter().all(|(partition, end)| {
        end.0 == 0
            || progress.iter().any(|p| {
                // What retention has taken was read, or nobody can read it any more.
                p.partition == *partition && (p.committed.is_some_and(|at| at >= *end) || p.start >= *end)
            })
    }))
}

/// Records waiting, in all groups; none: the brokers do not say.
pub(crate) async fn lag(pipeline: &Arc<Pipeline>) -> Option<u64> {
    let pipeline = Arc::clone(pipeline);
    let asked = tokio::task::spawn_blocking(move || {
        let mut lag = 0;
        for (topic, group) in groups(&pipeline) {
            lag += pipeline.bus.progress(&topic, &group)?.iter().map(herd_bus::Progress::lag).sum::<u64>();
        }
        Ok::<_, BusError>(lag)
    });
    asked.await.unwrap().ok()
}

/// Waits until all that lies in the topics now is through every stage: events folded, their parts judged, windows, alerts and
/// events stored. How long that took, or where it hangs.
pub(crate) async fn catch_up(pipeline: &Arc<Pipeline>, patience: Duration) -> Result<Duration, String> {
    let pipeline = Arc::clone(pipeline);
    let begun = Instant::now();
    tokio::task::spawn_blocking(move || {
        let [fold, judge, events, windows, alerts] = groups(&pipeline);
        // A stage's mark is taken when the one before it has reached its own: by then its input is there.
        for step in [vec![fold, events], vec![judge], vec![windows, alerts]] {
            let mut marks = Vec::new();
            for (topic, group) in step {
                let found = loop {
                    match ends(&pipeline, &topic, &group) {
                        Ok(found) => break found,
                        Err(error) if begun.elapsed() > patience => return Err(error.to_string()),
                        Err(_) => std::thread::sleep(Duration::from_millis(200)),
                    }
                };
                marks.push((topic, group, found));
            }
            for (topic, group, marks) in marks {
                while !matches!(reached(&pipeline, &topic, &group, &marks), Ok(true)) {
                    if begun.elapsed() > patience {
                        let stands = pipeline.bus.progress(&topic, &group);
                        return Err(format!("{group} does not get through {topic} to {marks:?}: {stands:?}"));
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
        Ok(begun.elapsed())
    })
    .await
    .unwrap()
}
