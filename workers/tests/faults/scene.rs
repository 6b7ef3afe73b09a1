//! What a fault has to work with, and what a person sees meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::env::Env;
use crate::load::Load;
use crate::pipeline::Pipeline;

/// How long what a person should see may take to show, beyond the time that the fault lasts anyway.
const SOON: Duration = Duration::from_secs(20);
/// How often we look.
const LOOK: Duration = Duration::from_millis(250);

/// A fault under way.
pub(crate) struct Scene {
    pub(crate) env: Arc<Env>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) load: Arc<Load>,
    /// How long it is to last.
    pub(crate) hold: Duration,
    begun: Instant,
    /// Lengths of the logs when it began.
    logs: Vec<(String, usize)>,
    seen: Mutex<Vec<String>>,
    missing: Mutex<Vec<String>>,
    /// Records put into topics that must end among the dead letters.
    pub(crate) poison: Mutex<Vec<String>>,
}

impl Scene {
    pub(crate) fn open(env: &Arc<Env>, pipeline: &Arc<Pipeline>, load: &Arc<Load>, hold: Duration) -> Self {
        let logs = pipeline.everybody().into_iter().map(|member| {
            let length = pipeline.log_length(&member);
            (member, length)
        });
        Self {
            logs: logs.collect(),
            env: Arc::clone(env),
            pipeline: Arc::clone(pipeline),
            load: Arc::clone(load),
            hold,
            begun: Instant::now(),
            seen: Mutex::default(),
            missing: Mutex::default(),
            poison: Mutex::default(),
        }
    }

    /// What was seen, and what should have been and was not.
    pub(crate) fn close(self) -> (Vec<String>, Vec<String>, Vec<String>) {
        (self.seen.into_inner(), self.missing.into_inner(), self.poison.into_inner())
    }

    /// Lets the fault last as long as it should, counted from its beginning.
    pub(crate) async fn hold(&self) {
        tokio::time::sleep(self.hold.saturating_sub(self.begun.elapsed())).await;
    }

    /// A person sees something that is worth telling.
    pub(crate) fn saw(&self, what: impl Into<String>) {
        self.seen.lock().push(what.into());
    }

    pub(crate) fn missed(&self, what: impl Into<String>) {
        self.missing.lock().push(what.into());
    }

    /// The report of a member's health holds one of these words.
    pub(crate) async fn sees_trouble(&self, member: &str, words: &[&str]) {
        let mut last = None;
        let found = self
            .look(async || {
                let (status, body) = self.pipeline.readiness(member).await?;
                let told = words.iter().any(|word| body.to_lowercase().contains(word));
                last = Some(format!("{status} {body}"));
                told.then(|| shorten(&body))
            })
            .await;
        match found {
            Some(body) => self.saw(format!("{member} reports: {body}")),
            None => self.missed(format!("{member}/readyz never said any of {words:?}; last {last:?}")),
        }
    }

    /// A new line of a member's log holds one of these words.
    pub(crate) async fn sees_logged(&self, member: &str, words: &[&str]) {
        self.one_logs(&[member.to_owned()], words).await;
    }

    /// A new line in the log of a member of a stage, whichever, holds one of these words.
    pub(crate) async fn sees_one_log(&self, stage: &str, words: &[&str]) {
        self.one_logs(&self.pipeline.names(stage), words).await;
    }

    async fn one_logs(&self, members: &[String], words: &[&str]) {
        let found = self.look(async || members.iter().find_map(|member| self.logged(member, words))).await;
        match found {
            Some(line) => self.saw(line),
            None => self.missed(format!("{} logged none of {words:?}", members.join(", "))),
        }
    }

    fn logged(&self, member: &str, words: &[&str]) -> Option<String> {
        let from = self.logs.iter().find(|(name, _)| name == member).map_or(0, |(_, length)| *length);
        let text = std::fs::read(self.pipeline.log_file(member)).unwrap_or_default();
        let text = String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned();
        let line = text.lines().find(|line| words.iter().any(|word| line.contains(word)))?;
        Some(format!("{member} logs: {}", shorten(line)))
    }

    /// A metric, summed over the members of a stage, rises by at least this much from `before`.
    pub(crate) async fn sees_rise(&self, stage: &str, metric: &str, before: f64, by: f64) {
        let found = self
            .look(async || {
                let now = self.sum(stage, metric).await?;
                (now >= before + by).then_some(now)
            })
            .await;
        match found {
            Some(now) => self.saw(format!("{metric} of {stage}: {before} → {now}")),
            None => self.missed(format!("{metric} of {stage} did not rise by {by} from {before}")),
        }
    }

    /// A metric, summed over the members of a stage.
    pub(crate) async fn sum(&self, stage: &str, metric: &str) -> Option<f64> {
        let mut sum = 0.0;
        for member in self.pipeline.names(stage) {
            sum += self.pipeline.metric(&member, metric).await?;
        }
        Some(sum)
    }

    /// Asks until there is an answer or it is too late for one.
    async fn look<T>(&self, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + SOON.max(self.hold.saturating_sub(self.begun.elapsed()));
        loop {
            if let Some(found) = ask().await {
                return Some(found);
            }
            if Instant::now() > deadline {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn shorten(text: &str) -> String {
    let plain: String =
        text.split('\u{1b}').map(|piece| piece.split_once('m').map_or(piece, |(_, rest)| rest)).collect();
    let plain = if text.contains('\u{1b}') { plain } else { text.to_owned() };
    let line = plain.replace(['\n', '|'], " ");
    line.trim().chars().take(200).collect()
}
