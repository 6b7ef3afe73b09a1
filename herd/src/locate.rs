//! Where in a YAML text the field with a path like `spec.metrics[1].window` stands.
//!
//! serde_yaml keeps no places, so this walks the text itself by indentation. It follows block style, which is what people
//! write; where it loses the way (flow style, anchors, multi-line strings) it answers with the deepest field that it found, which
//! is still the right neighbourhood.

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

/// A line of the text with its content taken apart.
#[derive(Clone, Copy)]
struct Line<'a> {
    /// Column of the content, in bytes.
    indent: usize,
    /// Byte offset of the content in the text.
    at: usize,
    /// Without comment and white space at its end.
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

/// Splits `- rest` lines: the item's content is a line of its own, two columns further in.
fn unbullet<'a>(line: &Line<'a>) -> Option<Line<'a>> {
    let rest = line.content.strip_prefix('-')?;
    if !(rest.is_empty() || rest.starts_with(' ')) {
        return None;
    }
    let content = rest.trim_start();
    let skipped = line.content.len() - content.len();
    Some(Line { indent: line.indent + skipped.max(1), at: line.at + skipped, content })
}

/// The bytes of the field's line, or of the deepest field on the way to it that is there; none if not even the first is.
#[must_use]
pub fn locate(text: &str, path: &str) -> Option<Range<usize>> {
    let mut block = lines(text);
    let mut found = None;
    for step in steps(path) {
        let Some((range, inside)) = descend(&block, &step) else { break };
        found = Some(range);
        block = inside;
    }
    found
}

/// Finds a step among the lines of a block: the bytes it stands at, and the lines inside of it.
fn descend<'a>(block: &[Line<'a>], step: &Step) -> Option<(Range<usize>, Vec<Line<'a>>)> {
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
                    // A list may stand in the same column as the key that holds it.
                    .take_while(|next| {
                        next.indent > indent || (next.indent == indent && unbullet(next).is_some())
                    })
                    .copied()
                    .collect();
                if !value.is_empty() {
                    inside.clear();
                }
                return Some((line.at..line.at + line.content.len(), inside));
            }
            Step::Item(wanted) => {
                let Some(first) = unbullet(line) else { continue };
                if number < *wanted {
                    number += 1;
                    continue;
                }
                let rest = block[place + 1..].iter().take_while(|next| next.indent > indent).copied();
                let inside: Vec<Line<'a>> = if first.content.is_empty() {
                    rest.collect()
                } else {
                    std::iter::once(first).chain(rest).collect()
                };
                let shown = inside.first().unwrap_or(line);
                return Some((shown.at..shown.at + shown.content.len(), inside));
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
    fn a_path_is_found_or_what_is_nearest_to_it(#[case] path: &str, #[case] expected: &str) {
        let range = locate(TEXT, path).unwrap();
        assert_eq!(&TEXT[range], expected);
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert_eq!(locate("", "spec"), None);
        assert_eq!(locate("kind: X", "spec.metrics"), None);
    }
}
