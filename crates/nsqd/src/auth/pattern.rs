//! The regular expressions that topics and channels are matched with.

use regex::bytes::{Regex, RegexBuilder};

/// The most memory that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 2 << 20;

/// A regular expression in the syntax of RE2 that may match anywhere in a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// `.*`
    Any,
    /// `^name$`
    Name(Box<str>),
    /// Any other. Only its text is kept: a connection has many patterns and needs them once for each topic, and names are
    /// so short that compiling is all that a match costs.
    Regex(Box<str>),
}

impl Pattern {
    /// Takes a pattern in the syntax of RE2.
    ///
    /// # Errors
    /// When the text is no regular expression, or one that is too large.
    pub(super) fn new(text: &str) -> Result<Self, regex::Error> {
        let translated = translate(text);
        compile(&translated)?;
        Ok(match exact_name(text) {
            _ if text == ".*" => Self::Any,
            Some(name) => Self::Name(name.into()),
            None => Self::Regex(translated.into()),
        })
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(exact) => **exact == *name,
            // Every pattern has been compiled once, so this always succeeds.
            Self::Regex(text) => compile(text).is_ok_and(|regex| regex.is_match(name.as_bytes())),
        }
    }
}

/// The only name that a pattern matches, if it is as simple as most are. Dots are not: they match any character.
fn exact_name(pattern: &str) -> Option<&str> {
    let name = pattern.strip_prefix('^')?.strip_suffix('$')?;
    let is_literal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'#');
    name.bytes().all(is_literal).then_some(name)
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    // Names are ASCII. The classes of Unicode would only make patterns large.
    RegexBuilder::new(text).unicode(false).size_limit(COMPILED_BYTES_MAX).build()
}

/// Translates a pattern from the syntax of RE2 to that of the crate `regex`, as far as both accept a pattern and mean
/// different things by it, and literal text in `\Q` and `\E`.
fn translate(mut rest: &str) -> String {
    let mut out = String::with_capacity(rest.len());
    loop {
        let special = rest.find(['\\', '[']).unwrap_or(rest.len());
        out.push_str(&rest[..special]);
        rest = &rest[special..];
        rest = if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (literal, behind) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(literal));
            behind
        } else if rest.starts_with('\\') {
            escape_sequence(rest, &mut out)
        } else if let Some(class) = rest.strip_prefix('[') {
            out.push('[');
            translate_class(class, &mut out)
        } else {
            return out;
        };
    }
}

/// Copies the escape sequence at the front of `text`, and returns the rest.
fn escape_sequence<'a>(text: &'a str, out: &mut String) -> &'a str {
    let (escape, rest) = text.split_at(text.char_indices().nth(2).map_or(text.len(), |(at, _)| at));
    // These are no boundaries of words in RE2.
    out.push_str(escape.strip_prefix('\\').filter(|c| matches!(*c, "<" | ">")).unwrap_or(escape));
    rest
}

/// Translates the class that `rest` is the inside of, and returns what is behind it. RE2 has no classes within classes,
/// and no intersections or differences of them.
fn translate_class<'a>(mut rest: &'a str, out: &mut String) -> &'a str {
    // A bracket that comes first does not end the class.
    let head = if rest.starts_with("^]") { 2 } else { usize::from(rest.starts_with(['^', ']'])) };
    out.push_str(&rest[..head]);
    rest = &rest[head..];
    while let Some(c) = rest.chars().next() {
        let named = rest.strip_prefix("[:").and_then(|name| name.find(":]"));
        rest = match (c, named) {
            ('\\', _) => escape_sequence(rest, out),
            ('[', Some(length)) => {
                let (name, behind) = rest.split_at(length + 4);
                out.push_str(name);
                behind
            }
            _ => {
                if matches!(c, '[' | '&' | '~') || c == '-' && out.ends_with('-') {
                    out.push('\\');
                }
                out.push(c);
                &rest[c.len_utf8()..]
            }
        };
        if c == ']' {
            break;
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(name)
    }

    #[test]
    fn a_pattern_matches_anywhere_unless_it_is_anchored() {
        assert!(matches("t", "xtx") && matches("", "any") && matches(".*", ""));
        assert!(matches("^t$", "t") && !matches("^t$", "xtx"));
        assert!(!matches("^c$", "") && matches("^(c|)$", ""));
        assert!(matches(r"^orders\.\w+(#ephemeral)?$", "orders.new#ephemeral"));
        assert!(matches("(?i)^ORDERS-[[:digit:]]{2}$", "orders-07"));
    }

    #[test]
    fn a_pattern_of_one_name_or_of_all_need_not_be_compiled_to_match() {
        assert_eq!(Pattern::new(".*").unwrap(), Pattern::Any);
        for name in ["orders", "a_b-7#ephemeral", ""] {
            let pattern = Pattern::new(&format!("^{name}$")).unwrap();
            assert_eq!(pattern, Pattern::Name(name.into()));
            assert!(pattern.matches(name) && !pattern.matches(&format!("{name}2")));
        }
        for other in ["^a.b$", "orders", "^orders", "^(a|b)$", r"^a\$", "^a*$", "^ä$"] {
            assert!(matches!(Pattern::new(other).unwrap(), Pattern::Regex(_)), "{other}");
        }
    }

    #[test]
    fn patterns_that_are_malformed_or_huge_are_refused() {
        for pattern in ["(", "[a", "[", "[]", r"[\", r"\", "*", "(?=x)", r"(a)\1"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::new("((a{1000}){1000}){1000}").is_err());
    }

    #[test]
    fn quoted_text_is_literal() {
        assert!(matches(r"^\Qa.b\E$", "a.b") && !matches(r"^\Qa.b\E$", "axb"));
        assert!(matches(r"^\Qa[.b", "a[.b") && matches(r"\Q\E", "x") && matches(r"^\\Q$", r"\Q"));
    }

    #[test]
    fn classes_have_no_operators_and_no_classes_in_them() {
        for (pattern, members, others) in [
            ("[a&&b]", "a&b", "c"),
            ("[a~~b]", "a~b", "c"),
            ("[+--]", "+,-", ".a"),
            ("[[a]", "[a", "]b"),
            ("[]a]", "]a", "[b"),
            ("[^]a]", "b[", "]a"),
            (r"[\]-a]", "]^_`a", "b["),
            ("[[:digit:]_.-]", "0_.-", ":d["),
            (r"[a\-\w&]", "a-_&", "."),
            (r"[\<]", "<", r"\"),
            ("[^a&&b]", "c", "ab&"),
        ] {
            let all = format!("^(?:{pattern})$");
            for c in members.chars() {
                assert!(matches(&all, &c.to_string()), "{pattern} {c}");
            }
            for c in others.chars() {
                assert!(!matches(&all, &c.to_string()), "{pattern} {c}");
            }
        }
        assert!(matches("^[[a]b]$", "ab]") && !matches("^[[a]b]$", "a"));
        assert!(matches(r"^\<a\>$", "<a>") && !matches(r"\<a\>", "a"));
    }
}
