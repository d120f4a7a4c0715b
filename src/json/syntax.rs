//! What is wrong with a text that is not JSON, in words for people who write JSON by hand. serde_json finds the place
//! and gives its reason as a message only; the text around the place says which slip it was.

/// Why a text is not JSON, and at which byte.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SyntaxError {
    /// Byte offset.
    pub place: usize,
    /// What is wrong, in words.
    pub what: String,
}

impl SyntaxError {
    /// Explains `error`, which serde_json met in `text` from byte `start` on.
    pub(super) fn new(text: &str, start: usize, error: &serde_json::Error) -> Self {
        let message = error.to_string();
        let place = place(text, start, error, &message);
        let (before, rest) = text.split_at_checked(place).unwrap_or((text, ""));

        in_string(before, rest, &message)
            .or_else(|| in_word(before, rest, &message))
            .unwrap_or_else(|| Self {
                place,
                what: between_values(before.trim_end(), rest, &message),
            })
    }
}

/// Where in `text` the byte is that `error` is about.
fn place(text: &str, start: usize, error: &serde_json::Error, message: &str) -> usize {
    if error.is_eof() {
        return text.len();
    }
    let lines = text.get(start..).unwrap_or("").split_inclusive('\n');
    let line_start: usize = lines.take(error.line().saturating_sub(1)).map(str::len).sum();
    // The column counts the bytes before and the byte itself, but not a control character.
    let after = start + line_start + error.column();
    let place = after.saturating_sub(usize::from(!message.starts_with(CONTROL))).min(text.len());
    (0..=place).rev().find(|place| text.is_char_boundary(*place)).unwrap_or(0)
}

const CONTROL: &str = "control character";

/// What is wrong within a string.
fn in_string(before: &str, rest: &str, message: &str) -> Option<SyntaxError> {
    let next = rest.chars().next();
    let is_open = match next {
        None => message.starts_with("EOF while parsing a string"),
        Some(c) => message.starts_with(CONTROL) && matches!(c, '\n' | '\r'),
    };
    if is_open {
        // A quote within the string has a backslash before it.
        let quotes = before.rmatch_indices('"').map(|(place, _)| place);
        let mut unescaped =
            quotes.filter(|place| !before.get(..*place).is_some_and(|text| text.ends_with('\\')));
        let place = unescaped.next().unwrap_or(before.len());
        return Some(SyntaxError { place, what: "a quote that is not closed".into() });
    }
    if message.starts_with(CONTROL) {
        let what = format!(
            "a control character in a string: write it as \\u{:04x}",
            next.map_or(0, u32::from)
        );
        return Some(SyntaxError { place: before.len(), what });
    }
    if !message.starts_with("invalid escape") {
        return None;
    }
    let place = before.rfind('\\').unwrap_or(before.len());
    let what = match before.get(place..) {
        Some(escape) if escape.starts_with("\\u") => {
            "no escape of JSON's: \\u needs four hexadecimal digits"
        }
        _ => "no escape of JSON's: a backslash itself is written \\\\",
    };
    Some(SyntaxError { place, what: what.into() })
}

/// What is wrong with a number or with a word without quotes.
fn in_word(before: &str, rest: &str, message: &str) -> Option<SyntaxError> {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let continues = before.ends_with(is_inside) && rest.starts_with(is_inside);
    let begins = rest.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_wrong = match message {
        m if m.starts_with("invalid number") || m.starts_with("expected ident") => true,
        m if m.starts_with("expected `,`") || m.starts_with("trailing characters") => continues,
        m if m.starts_with("EOF while parsing a value") => before.ends_with(is_inside),
        m if m.starts_with("expected value") => begins,
        _ => false,
    };
    if !is_wrong {
        return None;
    }
    let place = before.trim_end_matches(is_inside).len();
    let word: String =
        before.get(place..)?.chars().chain(rest.chars()).take_while(|c| is_inside(*c)).collect();
    let what = match word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        true => {
            "no number as JSON has it: digits without a leading 0, then perhaps .5 or e3".into()
        }
        false => format!(
            "{word:.20} is no value: text needs double quotes, and true, false and null are in lower case"
        ),
    };
    Some(SyntaxError { place, what })
}

/// What is wrong where a value, a key, a comma or a bracket should be.
fn between_values(before: &str, rest: &str, message: &str) -> String {
    let is_new = before.ends_with(['{', '[', ',']);
    let expected = match message {
        m if m.starts_with("trailing characters") => {
            return "more text after the end of the outermost value".into();
        }
        m if m.starts_with("expected `:`") => "a colon after the key",
        m if m.starts_with("key must be") => "a key in double quotes",
        m if m.starts_with("EOF while parsing an object") && is_new => "a key in double quotes",
        m if m.starts_with("EOF while parsing an object") => "a comma or '}'",
        m if m.starts_with("expected `,` or `}`") => "a comma or '}'",
        m if m.starts_with("EOF while parsing a list") && !is_new => "a comma or ']'",
        m if m.starts_with("expected `,` or `]`") => "a comma or ']'",
        _ => "a value",
    };
    match rest.chars().next() {
        None => format!("the file ends here, where {expected} should be"),
        Some('\'') => "a single quote: JSON has double quotes".into(),
        Some('“' | '”' | '„' | '‘' | '’' | '«' | '»') => {
            "typographic quotes: write straight ones (\")".into()
        }
        Some('/' | '#') => "a comment: JSON has none".into(),
        Some(close @ ('}' | ']')) if before.ends_with(',') => {
            format!("a comma too many before this '{close}'")
        }
        Some('"' | '{' | '[' | '-' | '0'..='9' | 'a'..='z') if expected.starts_with("a comma") => {
            "a comma is missing before this".into()
        }
        Some(c) => format!("{c:?} where {expected} should be"),
    }
}

#[cfg(test)]
mod tests {
    use crate::json::Document;

    /// The error's place and words.
    fn error(text: &str) -> (usize, String) {
        let error = Document::parse(text).unwrap_err();
        (error.place, error.what)
    }

    #[test]
    fn what_is_not_json_is_said_in_words_at_its_place() {
        let cases = [
            ("", 0, "the file ends here, where a value should be"),
            ("{\"a\": 1", 7, "the file ends here, where a comma or '}' should be"),
            ("{\"a\": 1,}", 8, "a comma too many before this '}'"),
            ("[1,\n]", 4, "a comma too many before this ']'"),
            ("[1 2]", 3, "a comma is missing before this"),
            ("{\"a\" 1}", 5, "'1' where a colon after the key should be"),
            ("{a: 1}", 1, "'a' where a key in double quotes should be"),
            ("{'a': 1}", 1, "a single quote: JSON has double quotes"),
            ("{“a”: 1}", 1, "typographic quotes: write straight ones (\")"),
            ("[1 // one\n]", 3, "a comment: JSON has none"),
            ("[1] x", 4, "more text after the end of the outermost value"),
            ("[\"a\n\"]", 1, "a quote that is not closed"),
            ("[\"a\tb\"]", 3, "a control character in a string: write it as \\u0009"),
            ("[\"C:\\dir\"]", 4, "no escape of JSON's: a backslash itself is written \\\\"),
            ("[\"\\u00g0\"]", 2, "no escape of JSON's: \\u needs four hexadecimal digits"),
            ("{", 1, "the file ends here, where a key in double quotes should be"),
            ("[", 1, "the file ends here, where a value should be"),
            ("[1,", 3, "the file ends here, where a value should be"),
            ("{\"a\":}", 5, "'}' where a value should be"),
            ("[,]", 1, "',' where a value should be"),
            ("[\"a\\\"b", 1, "a quote that is not closed"),
            ("\u{feff}[\"ä\r\n\"]", 4, "a quote that is not closed"),
            ("[\n\"a\u{1}", 4, "a control character in a string: write it as \\u0001"),
            ("[\"a\"b]", 4, "a comma is missing before this"),
            ("[]\u{feff}", 2, "more text after the end of the outermost value"),
        ];
        for (text, place, what) in cases {
            assert_eq!(error(text), (place, what.to_owned()), "{text}");
        }
        for number in ["01", "-", "1.", "1e", "0x1F", "1_000", "1.2.3", "--1", "-01", "-\n", "1x"] {
            let (place, what) = error(&format!("[{number}]"));
            assert!(
                place == 1 && what.starts_with("no number as JSON has it"),
                "{number}: {place} {what}"
            );
            assert!(error(number).1.starts_with("no number"), "{number}");
        }
        for word in ["True", "nul", "nulL", "nullx", "nul\n", "truefalse"] {
            let (place, what) = error(&format!("[1, {word}]"));
            let word = word.trim_end();
            assert!(
                place == 4 && what.starts_with(&format!("{word} is no value")),
                "{word}: {what}"
            );
        }
        for text in [".5", "+1"] {
            assert!(error(text).1.ends_with(" where a value should be"), "{text}");
        }
    }
}
