//! Batches events into requests. Batching depends only on the scheduled times of the events, so that it is deterministic.

use std::time::Duration;

use super::ScheduledEvent;
use crate::shoppers::Kind;

/// Maximum time an event waits for its batch to fill.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The events of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Scheduled time: the time of the last event.
    pub due: Duration,
    /// The events, at least one.
    pub events: Vec<ScheduledEvent>,
}

impl Batch {
    /// The body of the request: a single event, or an array of events.
    #[must_use]
    pub fn body(&self) -> String {
        // A single (invalid) event that is an array would be parsed as a batch without an enclosing array.
        if let [only] = self.events.as_slice()
            && !only.body.starts_with('[')
        {
            return only.body.clone();
        }
        let length: usize = self.events.iter().map(|event| event.body.len() + 1).sum();
        let mut body = String::with_capacity(length + 1);
        for event in &self.events {
            body.push(if body.is_empty() { '[' } else { ',' });
            body.push_str(&event.body);
        }
        body.push(']');
        body
    }
}

/// Iterator over batches of scheduled events.
#[derive(Debug)]
pub struct Batches<I> {
    source: I,
    size: usize,
    waiting: Vec<ScheduledEvent>,
    /// An event that is sent next, in a request of its own.
    alone: Option<ScheduledEvent>,
    over: bool,
}

impl<I: Iterator<Item = Result<ScheduledEvent, String>>> Batches<I> {
    /// Batches of at most `size` events.
    pub fn new(source: I, size: usize) -> Self {
        Self { source, size, waiting: Vec::with_capacity(size), alone: None, over: false }
    }

    fn take(&mut self, events: Vec<ScheduledEvent>) -> Option<Result<Batch, String>> {
        let due = events.last()?.at;
        Some(Ok(Batch { due, events }))
    }
}

impl<I: Iterator<Item = Result<ScheduledEvent, String>>> Iterator for Batches<I> {
    type Item = Result<Batch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(event) = self.alone.take() {
            return self.take(vec![event]);
        }
        while !self.over {
            match self.source.next() {
                None => self.over = true,
                Some(Err(why)) => {
                    self.over = true;
                    self.waiting.clear();
                    return Some(Err(why));
                }
                Some(Ok(event)) => {
                    // A malformed event would make the whole array invalid.
                    if event.kind == (Kind::Invalid { breaks_json: true }) {
                        let before = std::mem::take(&mut self.waiting);
                        if before.is_empty() {
                            return self.take(vec![event]);
                        }
                        self.alone = Some(event);
                        return self.take(before);
                    }
                    let stale = self.waiting.first().is_some_and(|first| event.at > first.at + MAX_WAIT);
                    let before = if stale { std::mem::take(&mut self.waiting) } else { Vec::new() };
                    self.waiting.push(event);
                    if !before.is_empty() {
                        return self.take(before);
                    }
                    if self.waiting.len() >= self.size {
                        let full = std::mem::replace(&mut self.waiting, Vec::with_capacity(self.size));
                        return self.take(full);
                    }
                }
            }
        }
        let rest = std::mem::take(&mut self.waiting);
        self.take(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, kind: Kind) -> ScheduledEvent {
        ScheduledEvent { at: Duration::from_millis(at), body: format!("{{\"n\":{at}}}"), kind }
    }

    fn bodies(events: Vec<ScheduledEvent>, size: usize) -> Vec<String> {
        Batches::new(events.into_iter().map(Ok), size).map(|batch| batch.unwrap().body()).collect()
    }

    #[test]
    fn batch_is_sent_when_full_or_after_the_maximum_wait() {
        let events = [0, 1, 2, 500, 1_600, 1_700].map(|at| event(at, Kind::Fresh)).to_vec();
        assert_eq!(
            bodies(events, 3),
            [r#"[{"n":0},{"n":1},{"n":2}]"#, r#"{"n":500}"#, r#"[{"n":1600},{"n":1700}]"#]
        );
    }

    #[test]
    fn malformed_events_are_sent_alone_and_in_order() {
        let broken = Kind::Invalid { breaks_json: true };
        let events = vec![event(0, Kind::Fresh), event(1, broken), event(2, broken), event(3, Kind::Fresh)];
        assert_eq!(bodies(events, 10), [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    }

    #[test]
    fn an_error_of_the_source_ends_the_iterator() {
        let source = vec![Ok(event(0, Kind::Fresh)), Err("line 2".to_owned()), Ok(event(1, Kind::Fresh))];
        let all: Vec<_> = Batches::new(source.into_iter(), 1).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1], Err("line 2".to_owned()));
    }
}
