//! Parsing of OpenMetrics text, as exposed by stages.

/// A sample of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'t> {
    /// Name of the metric.
    pub name: &'t str,
    /// Its labels as written, without braces; empty if it has none.
    pub labels: &'t str,
    /// Its value.
    pub value: f64,
}

/// All samples of a text. Comments and malformed lines are skipped.
pub fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample)
}

/// Sum of all samples of a metric whose labels contain `labels`.
#[must_use]
pub fn sum(text: &str, name: &str, labels: &str) -> f64 {
    samples(text)
        .filter(|sample| sample.name == name && sample.labels.contains(labels))
        .map(|sample| sample.value)
        .sum()
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once('}')?,
        None => ("", rest),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE herd_collector_events counter
herd_collector_events_total{result=\"accepted\"} 120
herd_collector_events_total{result=\"invalid\"} 3
herd_fold_events_total 118
herd_fold_events_total_other 9
malformed
# EOF
";

    #[test]
    fn parses_samples_and_skips_other_lines() {
        let all: Vec<_> = samples(TEXT).collect();
        assert_eq!(all.len(), 4);
        let labels = "result=\"invalid\"";
        assert_eq!(all[1], Sample { name: "herd_collector_events_total", labels, value: 3.0 });
    }

    #[test]
    fn sums_by_name_and_labels() {
        assert_eq!(sum(TEXT, "herd_collector_events_total", ""), 123.0);
        assert_eq!(sum(TEXT, "herd_collector_events_total", "result=\"accepted\""), 120.0);
        assert_eq!(sum(TEXT, "herd_fold_events_total", ""), 118.0);
    }
}
