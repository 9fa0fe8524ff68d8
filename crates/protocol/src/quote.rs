//! Quoting of names in error texts.

use std::fmt::Write;

/// `bytes` in double quotes with C-style escapes: control bytes and invalid UTF-8 as `\xNN`, characters that do
/// not print as `\uNNNN`, so that an error text shows what a client sent without carrying it raw.
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            quote_char(c, &mut out);
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn quote_char(c: char, out: &mut String) {
    let escape = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        _ => {
            let code = u32::from(c);
            let _ = match code {
                0..0x20 | 0x7f => write!(out, "\\x{code:02x}"),
                _ if is_printable(c) => write!(out, "{c}"),
                0..0x1_0000 => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
            return;
        }
    };
    out.push_str(escape);
}

/// Whether a character shows as itself: no C1 controls, no spaces other than U+0020, no format, private or
/// unassigned code points as far as the standard library can tell them. Marks that combine with what stands
/// before them do show.
fn is_printable(c: char) -> bool {
    // Only the first character of a string is escaped for being such a mark.
    let mut text = String::from("x");
    text.push(c);
    let escaped = || text.escape_debug().nth(1) == Some('\\');
    c == ' ' || c == '\'' || !(c.is_control() || c.is_whitespace() || escaped())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_print_is_escaped() {
        assert_eq!(quote(b"a\"b\\c\n"), r#""a\"b\\c\n""#);
        assert_eq!(quote(b"\xff\x01"), r#""\xff\x01""#);
        assert_eq!(quote("é\u{a0}\u{200b}".as_bytes()), "\"é\\u00a0\\u200b\"");
        assert_eq!(quote("it's a\u{301}".as_bytes()), "\"it's a\u{301}\"");
        assert_eq!(quote(b""), "\"\"");
    }
}
