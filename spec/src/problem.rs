//! Problems of a spec: where they are, what is wrong, and what to write instead.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use crate::pipeline::Span;
use crate::wire::FieldPath;

/// Something in a spec that must be changed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The field: `spec.metrics[1].window`; empty for the document as a whole.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Everything in a spec that must be changed; not empty where it is an error.
pub type Problems = Vec<Problem>;

impl Problem {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Stands for a value that cannot be had: whoever holds one knows that a problem was reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invalid(());

/// The path of a field, to which parsers report what is wrong with it. All paths of a spec share one list of problems.
#[derive(Clone)]
pub(crate) struct SpecPath<'a> {
    path: String,
    problems: &'a RefCell<Problems>,
}

impl<'a> SpecPath<'a> {
    /// Parses with `parse`, which is given the path of the whole document.
    ///
    /// # Errors
    /// Everything that was reported.
    pub(crate) fn collect<T>(parse: impl FnOnce(&SpecPath<'_>) -> Result<T, Invalid>) -> Result<T, Problems> {
        let problems = RefCell::new(Problems::new());
        let parsed = parse(&SpecPath { path: String::new(), problems: &problems });
        match (parsed, problems.into_inner()) {
            (Ok(parsed), problems) if problems.is_empty() => Ok(parsed),
            (_, problems) => Err(problems),
        }
    }

    /// The field `name` of this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { path, problems: self.problems }
    }

    /// The item at `index` of this list.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), problems: self.problems }
    }

    /// Reports that the value here cannot be used.
    pub(crate) fn invalid(&self, message: impl Into<String>) -> Invalid {
        self.problems.borrow_mut().push(Problem::new(self.path.clone(), message));
        Invalid(())
    }

    /// Reports unless `holds`.
    pub(crate) fn require(&self, holds: bool, message: impl Into<String>) -> Result<(), Invalid> {
        if holds { Ok(()) } else { Err(self.invalid(message)) }
    }

    /// Parses every item of a list, also after one that is invalid.
    pub(crate) fn each<S, T>(
        &self,
        items: &[S],
        mut parse: impl FnMut(&S, &SpecPath<'a>) -> Result<T, Invalid>,
    ) -> Result<Vec<T>, Invalid> {
        let parsed: Vec<_> =
            items.iter().enumerate().map(|(index, item)| parse(item, &self.index(index))).collect();
        parsed.into_iter().collect()
    }

    /// Parses a part that may be left out.
    pub(crate) fn optional<S, T>(
        &self,
        name: &str,
        value: Option<&S>,
        parse: impl FnOnce(&S, &SpecPath<'a>) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Invalid> {
        value.map(|value| parse(value, &self.child(name))).transpose()
    }

    /// A length of time from `least` to `most`.
    pub(crate) fn between(&self, value: Span, least: Duration, most: Duration) -> Result<Duration, Invalid> {
        if value.0 < least || value.0 > most {
            let [least, most] = [least, most].map(Span);
            return Err(self.invalid(format!("is {value}, must be from {least} to {most}")));
        }
        Ok(value.0)
    }

    /// A field of an event.
    pub(crate) fn event_field(&self, written: &str) -> Result<FieldPath, Invalid> {
        FieldPath::parse(written).ok_or_else(|| {
            self.invalid(format!("`{written}` is not a field: write `item_id`, `user_id`, `type`, `event_id` or names joined by single dots, e.g. `cart.total`"))
        })
    }
}

/// The one that is there, if exactly one is.
pub(crate) fn exactly_one<T>(choices: impl IntoIterator<Item = Option<T>>) -> Option<T> {
    let mut chosen = choices.into_iter().flatten();
    chosen.next().filter(|_| chosen.next().is_none())
}

/// The candidate that `written` was probably meant to be.
fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-'], "");
    let wanted = plain(written);
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wanted, &plain(candidate)), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// ``; did you mean `x`?`` or nothing.
pub(crate) fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, candidates).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// `` `a`, `b` ``, or `nothing`.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
