//! The escaping that NSQ's JSON answers have: besides what JSON demands, `<`, `>`, `&`, U+2028 and U+2029 are
//! written as `\u` escapes, so that an answer can be embedded in a page.

/// The bytes that start or are a sequence to escape: the two line separators share their first two bytes.
const SUSPECTS: [u8; 4] = [b'<', b'>', b'&', 0xe2];

/// Escapes serialized JSON for embedding in HTML.
///
/// The five characters can only stand inside strings in valid JSON, so the document keeps its meaning. JSON
/// without them is returned without a copy.
pub fn escape_html(json: Vec<u8>) -> Vec<u8> {
    if !json.iter().any(|byte| SUSPECTS.contains(byte)) {
        return json;
    }
    let mut out = Vec::with_capacity(json.len() + 32);
    let mut rest = json.as_slice();
    while let Some((&byte, tail)) = rest.split_first() {
        let (escape, used): (&[u8], usize) = match (byte, tail) {
            (b'<', _) => (b"\\u003c", 1),
            (b'>', _) => (b"\\u003e", 1),
            (b'&', _) => (b"\\u0026", 1),
            (0xe2, [0x80, 0xa8, ..]) => (b"\\u2028", 3),
            (0xe2, [0x80, 0xa9, ..]) => (b"\\u2029", 3),
            _ => (&rest[..1], 1),
        };
        out.extend_from_slice(escape);
        rest = &rest[used..];
    }
    out
}

/// Returns a text as a JSON string, quotes included, with the same escapes as [`escape_html`].
pub fn string(text: &str) -> String {
    let json = escape_html(serde_json::Value::from(text).to_string().into_bytes());
    String::from_utf8(json).expect("escapes are ASCII, and replace whole characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_matter_to_html_are_escaped() {
        let json = "{\"a\":\"<b>&\u{2028}\u{2029}\u{2030}é\"}".as_bytes().to_vec();
        let expected = "{\"a\":\"\\u003cb\\u003e\\u0026\\u2028\\u2029\u{2030}é\"}";
        assert_eq!(String::from_utf8(escape_html(json)).unwrap(), expected);
    }

    #[test]
    fn json_without_such_characters_is_handed_back_as_it_is() {
        let json = br#"{"a":[1,"\"x"]}"#.to_vec();
        let at = json.as_ptr();
        let same = escape_html(json);
        assert_eq!((same.as_slice(), same.as_ptr()), (&br#"{"a":[1,"\"x"]}"#[..], at));
    }

    #[test]
    fn a_cut_sequence_at_the_end_is_kept() {
        assert_eq!(escape_html(vec![b'&', 0xe2, 0x80]), b"\\u0026\xe2\x80");
    }

    #[test]
    fn a_text_becomes_a_json_string() {
        assert_eq!(string("a\"\\\n\u{1}<é"), "\"a\\\"\\\\\\n\\u0001\\u003cé\"");
    }
}
