//! Events into requests. Which events share a request depends on their times alone, so that it is the same every time.

use std::time::Duration;

use super::Parcel;
use crate::shoppers::Kind;

/// A batch that is not full goes when its first event has waited this long.
const LINGER: Duration = Duration::from_secs(1);

/// The events of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// When it is due: its last event is.
    pub due: Duration,
    /// The events; at least one.
    pub parcels: Vec<Parcel>,
}

impl Batch {
    /// The body of the request: the event as it is, or an array of them.
    #[must_use]
    pub fn body(&self) -> String {
        // An array that stands for one (invalid) event would be taken for a batch if it came alone.
        if let [only] = self.parcels.as_slice()
            && !only.body.starts_with('[')
        {
            return only.body.clone();
        }
        let length: usize = self.parcels.iter().map(|parcel| parcel.body.len() + 1).sum();
        let mut body = String::with_capacity(length + 1);
        for parcel in &self.parcels {
            body.push(if body.is_empty() { '[' } else { ',' });
            body.push_str(&parcel.body);
        }
        body.push(']');
        body
    }
}

/// Groups what an iterator gives.
#[derive(Debug)]
pub struct Batches<I> {
    source: I,
    size: usize,
    waiting: Vec<Parcel>,
    /// Goes next, before anything else is read.
    alone: Option<Parcel>,
    over: bool,
}

impl<I: Iterator<Item = Result<Parcel, String>>> Batches<I> {
    /// Batches of at most `size` events.
    pub fn new(source: I, size: usize) -> Self {
        Self { source, size, waiting: Vec::with_capacity(size), alone: None, over: false }
    }

    fn take(&mut self, parcels: Vec<Parcel>) -> Option<Result<Batch, String>> {
        let due = parcels.last()?.at;
        Some(Ok(Batch { due, parcels }))
    }
}

impl<I: Iterator<Item = Result<Parcel, String>>> Iterator for Batches<I> {
    type Item = Result<Batch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(parcel) = self.alone.take() {
            return self.take(vec![parcel]);
        }
        while !self.over {
            match self.source.next() {
                None => self.over = true,
                Some(Err(why)) => {
                    self.over = true;
                    self.waiting.clear();
                    return Some(Err(why));
                }
                Some(Ok(parcel)) => {
                    // What is not JSON would make the whole array invalid. An array is itself an event only inside an array.
                    if parcel.kind == (Kind::Invalid { breaks_json: true }) {
                        let before = std::mem::take(&mut self.waiting);
                        if before.is_empty() {
                            return self.take(vec![parcel]);
                        }
                        self.alone = Some(parcel);
                        return self.take(before);
                    }
                    let stale = self.waiting.first().is_some_and(|first| parcel.at > first.at + LINGER);
                    let before = if stale { std::mem::take(&mut self.waiting) } else { Vec::new() };
                    self.waiting.push(parcel);
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

    fn parcel(at: u64, kind: Kind) -> Parcel {
        Parcel { at: Duration::from_millis(at), body: format!("{{\"n\":{at}}}"), kind }
    }

    fn bodies(parcels: Vec<Parcel>, size: usize) -> Vec<String> {
        Batches::new(parcels.into_iter().map(Ok), size).map(|batch| batch.unwrap().body()).collect()
    }

    #[test]
    fn batches_fill_or_go_after_a_second() {
        let parcels = [0, 1, 2, 500, 1_600, 1_700].map(|at| parcel(at, Kind::Fresh)).to_vec();
        assert_eq!(
            bodies(parcels, 3),
            [r#"[{"n":0},{"n":1},{"n":2}]"#, r#"{"n":500}"#, r#"[{"n":1600},{"n":1700}]"#]
        );
    }

    #[test]
    fn what_is_not_json_goes_alone_and_in_its_turn() {
        let broken = Kind::Invalid { breaks_json: true };
        let parcels =
            vec![parcel(0, Kind::Fresh), parcel(1, broken), parcel(2, broken), parcel(3, Kind::Fresh)];
        assert_eq!(bodies(parcels, 10), [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    }

    #[test]
    fn an_error_of_the_source_ends_it() {
        let source = vec![Ok(parcel(0, Kind::Fresh)), Err("line 2".to_owned()), Ok(parcel(1, Kind::Fresh))];
        let all: Vec<_> = Batches::new(source.into_iter(), 1).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1], Err("line 2".to_owned()));
    }
}
