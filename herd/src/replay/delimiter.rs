//! Detection of the delimiter of a CSV file.

/// Supported delimiters, the most common first.
const DELIMITERS: &[u8] = b",\t;|";
/// Number of records that are examined.
const SAMPLE: usize = 50;

/// Detects the delimiter from the beginning of a file: most records must have as many columns as the header, and the delimiter
/// with the most columns wins. A comma if no delimiter splits the header. `whole` means that `head` is the whole file.
pub(super) fn find(head: &[u8], whole: bool) -> u8 {
    // The last record may be truncated.
    let end = if whole { None } else { head.iter().rposition(|byte| *byte == b'\n') };
    let sample = &head[..end.unwrap_or(head.len())];
    let mut best = (b',', (false, 0));
    for delimiter in DELIMITERS {
        let score = score(sample, *delimiter);
        if score > best.1 {
            best = (*delimiter, score);
        }
    }
    best.0
}

/// Whether most records have as many columns as the header, and that number; zero if the header is not split.
fn score(sample: &[u8], delimiter: u8) -> (bool, usize) {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(sample);
    let widths: Vec<usize> =
        reader.byte_records().take(SAMPLE).filter_map(Result::ok).map(|record| record.len()).collect();
    match widths.split_first() {
        Some((header, rows)) if *header > 1 => {
            let same = rows.iter().filter(|width| *width == header).count();
            (2 * same >= rows.len(), *header)
        }
        _ => (false, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::commas("time,item\n1,a\n", b',')]
    #[case::tabs("time\titem\n1\ta,b\n", b'\t')]
    #[case::semicolons_and_decimal_commas("time;item;price\n1;a;9,99\n2;b;1,50\n", b';')]
    #[case::bars("time|item\n1|a\n", b'|')]
    #[case::semicolons_in_a_text("time,item,note\n1,a,x;y;z\n", b',')]
    #[case::a_quoted_header("\"time;of day\",\"item\"\n1,a\n", b',')]
    #[case::one_column("item\na\n", b',')]
    #[case::nothing("", b',')]
    fn detects_the_delimiter(#[case] text: &str, #[case] expected: u8) {
        assert_eq!(find(text.as_bytes(), true) as char, expected as char);
    }
}
