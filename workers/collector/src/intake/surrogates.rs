//! Unpaired surrogates, e.g. `\ud83d` alone: the result of cutting a text within an emoji. Databases and strict parsers refuse them,
//! although the rest of the event is valid, so they are replaced by U+FFFD, as UTF-16 decoders do.

/// The JSON with all unpaired surrogates replaced, and their number; `None` if there are none. The length does not change.
pub(super) fn replace(json: &str) -> Option<(String, u32)> {
    // Most events have no such escape, and are not read twice.
    if !json.contains("\\u") {
        return None;
    }
    let bytes = json.as_bytes();
    let mut repaired: Option<Vec<u8>> = None;
    let (mut at, mut replaced) = (0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match escape(bytes, at) {
            // An escape of two bytes. The second may be a backslash, which begins nothing.
            None => at += 2,
            Some(0xD800..=0xDBFF) if matches!(escape(bytes, at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => {
                let repaired = repaired.get_or_insert_with(|| bytes.to_vec());
                repaired[at + 2..at + 6].copy_from_slice(b"fffd");
                replaced += 1;
                at += 6;
            }
            Some(_) => at += 6,
        }
    }
    // ASCII was put in the place of ASCII.
    repaired.and_then(|repaired| String::from_utf8(repaired).ok()).map(|json| (json, replaced))
}

/// The code unit of an escape `\uXXXX` at this position.
fn escape(bytes: &[u8], at: usize) -> Option<u16> {
    let written = bytes.get(at..at + 6)?;
    let digits = written.strip_prefix(b"\\u").filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::high_alone(r#""a \ud83d b""#, r#""a \ufffd b""#, 1)]
    #[case::low_alone(r#""\uDE00""#, r#""\ufffd""#, 1)]
    #[case::high_before_a_pair(r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#, 1)]
    #[case::reversed(r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#, 2)]
    #[case::in_a_name(r#"{"\ud83d":1}"#, r#"{"\ufffd":1}"#, 1)]
    #[case::after_a_backslash(r#""\\\ud83d""#, r#""\\\ufffd""#, 1)]
    fn replaces_unpaired_surrogates(#[case] sent: &str, #[case] expected: &str, #[case] times: u32) {
        assert_eq!(replace(sent), Some((expected.to_owned(), times)));
    }

    #[rstest]
    #[case::a_pair(r#""\ud83d\ude00""#)]
    #[case::other_escapes(r#""\u00e9\n\"""#)]
    #[case::no_escape_at_all(r#""\\ud83d""#)]
    #[case::cut(r#""\ud83"#)]
    #[case::nothing("")]
    fn keeps_valid_text_unchanged(#[case] sent: &str) {
        assert_eq!(replace(sent), None);
    }

    proptest! {
        /// A strict parser reads the same text from the result as a lenient decoder from the input.
        #[test]
        fn agrees_with_a_utf_16_decoder(units in proptest::collection::vec(
            prop_oneof![0xD7F0_u16..0xE010, 0x41_u16..0x44], 0..12,
        )) {
            let written: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let sent = format!("\"{written}\"");
            let repaired = replace(&sent).map_or(sent, |(json, _)| json);
            let read: String = serde_json::from_str(&repaired).unwrap();
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }
    }
}
