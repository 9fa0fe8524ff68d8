//! Paths and percent-escapes.

/// A text with `%` that is not followed by two hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadEscape;

/// Replaces percent-escapes, and `+` by a space where `plus_is_space` (in queries). Bytes that are no UTF-8
/// become U+FFFD, which no valid name contains.
pub(crate) fn unescape(text: &str, plus_is_space: bool) -> Result<String, BadEscape> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex_digit(bytes.next())? << 4 | hex_digit(bytes.next())?,
            b'+' if plus_is_space => b' ',
            _ => byte,
        });
    }
    Ok(String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn hex_digit(byte: Option<u8>) -> Result<u8, BadEscape> {
    match byte {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(BadEscape),
    }
}

/// Escapes a path for a `Location` header: characters that a path may not contain are percent-escaped.
pub(super) fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'='
            | b'@' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The canonical form of a path: starts with a slash, no empty, `.` or `..` elements. A slash at the end stays.
pub(super) fn clean(path: &str) -> String {
    let mut elements: Vec<&str> = Vec::new();
    let mut closed = false;
    for element in path.split('/') {
        closed = matches!(element, "" | "." | "..");
        match element {
            "" | "." => {}
            ".." => {
                elements.pop();
            }
            _ => elements.push(element),
        }
    }
    let mut out = format!("/{}", elements.join("/"));
    if closed && !elements.is_empty() {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, cleaned) in [
            ("/", "/"),
            ("", "/"),
            ("//", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("//a//b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../a", "/a"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("a", "/a"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    #[test]
    fn escapes_are_replaced_and_malformed_ones_refused() {
        assert_eq!(unescape("a%20b+%2f%C3%a9", false).unwrap(), "a b+/é");
        assert_eq!(unescape("a+b", true).unwrap(), "a b");
        assert_eq!(unescape("%ff", true).unwrap(), "\u{fffd}");
        for text in ["%", "%1", "%zz", "a%2", "%+1"] {
            assert_eq!(unescape(text, true), Err(BadEscape), "{text}");
        }
    }

    #[test]
    fn a_path_is_escaped_for_a_location() {
        assert_eq!(escape("/topics/a b#c?é%"), "/topics/a%20b%23c%3F%C3%A9%25");
        assert_eq!(escape("/a-b_c.d~e$&+,:;=@"), "/a-b_c.d~e$&+,:;=@");
    }
}
