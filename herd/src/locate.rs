//! Finds the position of a field, given as a path like `spec.metrics[1].window`, in a YAML text.
//!
//! serde_yaml does not keep positions, so this parses the text by indentation. It supports block style with aliases
//! (`events: *shared`) and merge keys (`<<: *shared`): an aliased field is found at its anchor. For other syntax (flow style,
//! multi-line strings) it returns the deepest enclosing field that it found.

use std::ops::Range;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Item(usize),
}

fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for segment in path.split('.') {
        let (name, rest) = segment.split_once('[').map_or((segment, None), |(name, rest)| (name, Some(rest)));
        if !name.is_empty() {
            steps.push(Step::Field(name.to_owned()));
        }
        for index in rest.into_iter().flat_map(|rest| rest.split('[')) {
            if let Ok(index) = index.trim_end_matches(']').parse() {
                steps.push(Step::Item(index));
            }
        }
    }
    steps
}

/// A line of the text.
#[derive(Clone, Copy)]
struct Line<'a> {
    /// Column of the content, in bytes.
    indent: usize,
    /// Byte offset of the content in the text.
    at: usize,
    /// Content without comment and trailing white space.
    content: &'a str,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut at = 0;
    let mut all = Vec::new();
    for raw in text.split_inclusive('\n') {
        let content = raw.trim_start_matches(' ');
        let indent = raw.len() - content.len();
        let content = content.split(" #").next().unwrap_or_default().trim_end();
        if !content.is_empty() && !content.starts_with('#') && content != "---" {
            all.push(Line { indent, at: at + indent, content });
        }
        at += raw.len();
    }
    all
}

/// The key of a line `key: value` and the value.
fn entry(content: &str) -> Option<(&str, &str)> {
    let (key, value) = content.split_once(':')?;
    (value.is_empty() || value.starts_with(' ')).then(|| (key.trim_matches(['"', '\'']), value.trim()))
}

/// Splits `- rest` lines: the content of the item becomes a line that is indented further.
fn unbullet<'a>(line: &Line<'a>) -> Option<Line<'a>> {
    let rest = line.content.strip_prefix('-')?;
    if !(rest.is_empty() || rest.starts_with(' ')) {
        return None;
    }
    let content = rest.trim_start();
    let skipped = line.content.len() - content.len();
    Some(Line { indent: line.indent + skipped.max(1), at: line.at + skipped, content })
}

/// The value without a leading anchor (`&shared`).
fn unanchored(value: &str) -> &str {
    match value.strip_prefix('&') {
        Some(rest) => rest.split_once(' ').map_or("", |(_, value)| value.trim_start()),
        None => value,
    }
}

/// The lines of the mapping with this anchor.
fn anchored<'a>(all: &[Line<'a>], name: &str) -> Vec<Line<'a>> {
    let names = |value: &str| value.strip_prefix('&').and_then(|rest| rest.split(' ').next()) == Some(name);
    for (place, line) in all.iter().enumerate() {
        let inner = unbullet(line).unwrap_or(*line);
        let value = if names(inner.content) {
            Some(inner.content)
        } else {
            entry(inner.content).map(|(_, value)| value)
        };
        if value.is_some_and(names) {
            return all[place + 1..].iter().take_while(|next| next.indent > line.indent).copied().collect();
        }
    }
    Vec::new()
}

/// Names of the anchors that `value` refers to: `*shared`, or `[*one, *other]`.
fn aliases(value: &str) -> impl Iterator<Item = &str> {
    let inner = value.trim_start_matches('[').trim_end_matches(']');
    inner.split(',').filter_map(|alias| alias.trim().strip_prefix('*'))
}

/// Maximum depth of nested aliases, so that an anchor that refers to itself terminates.
const MAX_ALIAS_DEPTH: usize = 8;

/// Byte range of the line of the field, or of its deepest parent that exists; `None` if not even the first one does.
#[must_use]
pub fn locate(text: &str, path: &str) -> Option<Range<usize>> {
    let all = lines(text);
    let mut block = all.clone();
    let mut found = None;
    for step in steps(path) {
        let Some((range, inside)) = find(&all, &block, &step, MAX_ALIAS_DEPTH) else { break };
        found = Some(range);
        block = inside;
    }
    found
}

/// Finds a step among the lines of a block, or else among the mappings merged into it.
fn find<'a>(
    all: &[Line<'a>],
    block: &[Line<'a>],
    step: &Step,
    depth: usize,
) -> Option<(Range<usize>, Vec<Line<'a>>)> {
    if let Some((range, inside, value)) = descend(block, step) {
        let alias = aliases(value).next().filter(|_| value.starts_with('*'));
        return Some((range, alias.map_or(inside, |name| anchored(all, name))));
    }
    let (_, _, merged) = descend(block, &Step::Field("<<".into())).filter(|_| depth > 0)?;
    aliases(merged).find_map(|name| find(all, &anchored(all, name), step, depth - 1))
}

/// A found step: its byte range, the lines of its block, and its inline value.
type Found<'a> = (Range<usize>, Vec<Line<'a>>, &'a str);

/// Finds a step among the lines of a block.
fn descend<'a>(block: &[Line<'a>], step: &Step) -> Option<Found<'a>> {
    let indent = block.first()?.indent;
    let mut number = 0;
    for (place, line) in block.iter().enumerate() {
        if line.indent != indent {
            continue;
        }
        match step {
            Step::Field(name) => {
                let Some((key, value)) = entry(line.content) else { continue };
                if key != name {
                    continue;
                }
                let mut inside: Vec<Line<'a>> = block[place + 1..]
                    .iter()
                    // A list may have the same indentation as its key.
                    .take_while(|next| {
                        next.indent > indent || (next.indent == indent && unbullet(next).is_some())
                    })
                    .copied()
                    .collect();
                let value = unanchored(value);
                if !value.is_empty() {
                    inside.clear();
                }
                return Some((line.at..line.at + line.content.len(), inside, value));
            }
            Step::Item(wanted) => {
                let Some(first) = unbullet(line) else { continue };
                if number < *wanted {
                    number += 1;
                    continue;
                }
                let rest = block[place + 1..].iter().take_while(|next| next.indent > indent).copied();
                let value = unanchored(first.content);
                let inside: Vec<Line<'a>> = if value.is_empty() {
                    rest.collect()
                } else {
                    std::iter::once(first).chain(rest).collect()
                };
                let shown = inside.first().unwrap_or(line);
                let value = if value.starts_with('*') { value } else { "" };
                return Some((shown.at..shown.at + shown.content.len(), inside, value));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const TEXT: &str = "\
# A shop.
apiVersion: herd.dev/v1alpha1
metadata:
  name: shop
spec:
  events:
    types: [view, purchase]
  metrics:
    - name: views   # all of them
      window: 10s
    - events:
        types:
        - view
        - cart
      name: carts
      window: 99h
  detectors:
  - name: crowd
    algorithm:
      poisson: {probability: 2}
";

    #[rstest]
    #[case("metadata.name", "name: shop")]
    #[case("spec.events.types", "types: [view, purchase]")]
    #[case("spec.events.types[1]", "types: [view, purchase]")]
    #[case("spec.metrics[0].name", "name: views")]
    #[case("spec.metrics[1].window", "window: 99h")]
    #[case("spec.metrics[1].events.types[1]", "cart")]
    #[case("spec.metrics[1].emit", "events:")]
    #[case("spec.detectors[0].algorithm.poisson.probability", "poisson: {probability: 2}")]
    #[case("spec.detectors[7].name", "detectors:")]
    fn locates_a_path_or_its_deepest_existing_parent(#[case] path: &str, #[case] expected: &str) {
        let range = locate(TEXT, path).unwrap();
        assert_eq!(&TEXT[range], expected);
    }

    const MERGED: &str = "\
spec:
  metrics:
    - &base
      name: views
      window: 99h
      events: &filter
        types: view
    - <<: *base
      name: carts
      emit: 1ms
    - name: sales
      events: *filter
    - <<: [*none, *base]
      name: last
";

    #[rstest]
    #[case("spec.metrics[0].window", 5, "window: 99h")]
    #[case("spec.metrics[1].window", 5, "window: 99h")]
    #[case("spec.metrics[1].events.types", 7, "types: view")]
    #[case("spec.metrics[1].emit", 10, "emit: 1ms")]
    #[case("spec.metrics[2].events.types", 7, "types: view")]
    #[case("spec.metrics[3].window", 5, "window: 99h")]
    #[case("spec.metrics[3].maxKeys", 13, "<<: [*none, *base]")]
    fn locates_merged_fields_at_their_anchor(
        #[case] path: &str,
        #[case] line: usize,
        #[case] expected: &str,
    ) {
        let range = locate(MERGED, path).unwrap();
        assert_eq!(MERGED[..range.start].matches('\n').count() + 1, line);
        assert_eq!(&MERGED[range], expected);
    }

    #[test]
    fn terminates_on_an_anchor_that_merges_itself() {
        assert_eq!(locate("a: &a\n  <<: *a\n", "a.b"), Some(0..5));
    }

    #[test]
    fn returns_none_for_a_text_without_the_first_field() {
        assert_eq!(locate("", "spec"), None);
        assert_eq!(locate("kind: X", "spec.metrics"), None);
    }
}
