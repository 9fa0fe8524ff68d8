//! Safe display of untrusted text: control characters are escaped and long text is cut.

use std::{borrow::Cow, fmt};

/// Returns whether a terminal, a pager or an editor may act on a character instead of showing it.
pub fn is_control(c: char) -> bool {
    matches!(c,
        // C0, DEL and C1.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Marks that turn the direction of text.
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Separators of lines and paragraphs.
        | '\u{2028}' | '\u{2029}')
}

/// Returns the text with its control characters as escapes, such as `\n` and `\u{202e}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    push_visible(&mut shown, text);
    Cow::Owned(shown)
}

/// Appends a text with its control characters as escapes.
pub(crate) fn push_visible(out: &mut String, mut text: &str) {
    while let Some((at, c)) = first_control(text) {
        out.push_str(&text[..at]);
        out.extend(c.escape_default());
        text = &text[at + c.len_utf8()..];
    }
    out.push_str(text);
}

/// The first control character of a text, with where it stands.
pub(crate) fn first_control(text: &str) -> Option<(usize, char)> {
    // Most texts are printable ASCII, which is told by bytes.
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return None;
    }
    text.char_indices().find(|(_, c)| is_control(*c))
}

/// Shows the first so many bytes of a text, and how many there are more.
#[derive(Debug, Clone, Copy)]
pub struct Shortened<'a>(pub &'a str, pub usize);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text, max) = *self;
        let shown = &text[..text.floor_char_boundary(max)];
        f.write_str(shown)?;
        match text.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, "{}", More(more)),
        }
    }
}

/// The mark at which a text was cut.
pub(crate) struct More(pub(crate) usize);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "… ({} bytes more)", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_controls_is_shown_as_it_is() {
        for text in ["", "orders", "é€𝄞 \\n \"quoted\" ~"] {
            assert!(matches!(visible(text), Cow::Borrowed(shown) if shown == text));
        }
    }

    #[test]
    fn what_moves_a_terminal_or_ends_a_line_is_escaped() {
        for (text, shown) in [
            ("a\nb\r\t", "a\\nb\\r\\t"),
            ("\0\u{1b}[31m\u{7f}", "\\u{0}\\u{1b}[31m\\u{7f}"),
            ("\u{80}\u{9b}1m\u{9f}\u{a0}", "\\u{80}\\u{9b}1m\\u{9f}\u{a0}"),
            ("\u{61c}\u{200e}\u{200f}", "\\u{61c}\\u{200e}\\u{200f}"),
            ("\u{202a}\u{202e}é\u{2066}\u{2069}", "\\u{202a}\\u{202e}é\\u{2066}\\u{2069}"),
            ("a\u{2028}b\u{2029}", "a\\u{2028}b\\u{2029}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(Shortened("short", 5).to_string(), "short");
        assert_eq!(Shortened("longer", 5).to_string(), "longe… (1 bytes more)");
        assert_eq!(Shortened("€€", 5).to_string(), "€… (3 bytes more)");
    }
}
