//! What is wrong with a text that is not JSON, in words for people who write JSON by hand. serde_json finds the place,
//! and the text around it says which slip it was.

/// Why a text is not JSON, and at which byte.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SyntaxError {
    /// Byte offset.
    pub place: usize,
    pub what: String,
}

impl SyntaxError {
    /// Explains `error`, which serde_json met in `text` from byte `start` on.
    pub(super) fn new(text: &str, start: usize, error: &serde_json::Error) -> Self {
        let reason = Reason::of(error);
        let place = place(text, start, error, reason);
        let (before, rest) = text.split_at_checked(place).unwrap_or((text, ""));

        let slip = in_string(before, rest, reason).or_else(|| in_word(before, rest, reason));
        slip.unwrap_or_else(|| {
            let what = between_values(before.trim_end(), rest, reason);
            Self { place, what }
        })
    }
}

/// What serde_json found wrong. Only the message of its error says that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    EndInString,
    EndInObject,
    EndInList,
    EndBeforeValue,
    ControlCharacter,
    Escape,
    Number,
    /// A word that begins as `true`, `false` or `null` do.
    Word,
    Key,
    Colon,
    CommaInObject,
    CommaInList,
    TextBehind,
    Value,
}

impl Reason {
    fn of(error: &serde_json::Error) -> Self {
        let message = error.to_string();
        let known = [
            ("EOF while parsing a string", Self::EndInString),
            ("EOF while parsing an object", Self::EndInObject),
            ("EOF while parsing a list", Self::EndInList),
            ("EOF", Self::EndBeforeValue),
            ("control character", Self::ControlCharacter),
            ("invalid escape", Self::Escape),
            ("invalid number", Self::Number),
            ("expected ident", Self::Word),
            ("key must be a string", Self::Key),
            ("expected `:`", Self::Colon),
            ("expected `,` or `}`", Self::CommaInObject),
            ("expected `,` or `]`", Self::CommaInList),
            ("trailing characters", Self::TextBehind),
        ];
        let found = known.into_iter().find(|(start, _)| message.starts_with(start));
        found.map_or(Self::Value, |(_, reason)| reason)
    }
}

/// Where in `text` the byte is that `error` is about.
fn place(text: &str, start: usize, error: &serde_json::Error, reason: Reason) -> usize {
    if error.is_eof() {
        return text.len();
    }
    let lines = text.get(start..).unwrap_or("").split_inclusive('\n');
    let line_start: usize = lines.take(error.line().saturating_sub(1)).map(str::len).sum();
    // The column counts the bytes before and the byte itself, but not a control character.
    let own = usize::from(reason != Reason::ControlCharacter);
    let place = (start + line_start + error.column()).saturating_sub(own).min(text.len());
    (0..=place).rev().find(|place| text.is_char_boundary(*place)).unwrap_or(0)
}

/// What is wrong within a string.
fn in_string(before: &str, rest: &str, reason: Reason) -> Option<SyntaxError> {
    match (reason, rest.chars().next()) {
        (Reason::EndInString, _) | (Reason::ControlCharacter, Some('\n' | '\r')) => {
            // A quote within the string has a backslash before it.
            let mut quotes = before.rmatch_indices('"').map(|(place, _)| place);
            let opening =
                quotes.find(|quote| before.get(..*quote).is_some_and(|text| !text.ends_with('\\')));
            let place = opening.unwrap_or(before.len());
            Some(SyntaxError { place, what: "a quote that is not closed".into() })
        }
        (Reason::ControlCharacter, Some(c)) => {
            let c = u32::from(c);
            let what = format!("a control character in a string: write it as \\u{c:04x}");
            Some(SyntaxError { place: before.len(), what })
        }
        (Reason::Escape, _) => {
            let place = before.rfind('\\').unwrap_or(before.len());
            let what = match before.get(place..) {
                Some(escape) if escape.starts_with("\\u") => {
                    "no escape of JSON's: \\u needs four hexadecimal digits"
                }
                _ => "no escape of JSON's: a backslash itself is written \\\\",
            };
            Some(SyntaxError { place, what: what.into() })
        }
        _ => None,
    }
}

/// What is wrong with a number or with a word without quotes.
fn in_word(before: &str, rest: &str, reason: Reason) -> Option<SyntaxError> {
    let is_wrong = match reason {
        Reason::Number | Reason::Word => true,
        Reason::CommaInObject | Reason::CommaInList | Reason::TextBehind => {
            before.ends_with(is_in_word) && rest.starts_with(is_in_word)
        }
        Reason::EndBeforeValue => before.ends_with(is_in_word),
        Reason::Value => rest.starts_with(|c: char| c.is_ascii_alphabetic()),
        _ => false,
    };
    if !is_wrong {
        return None;
    }

    let place = before.trim_end_matches(is_in_word).len();
    let begun = before.get(place..).unwrap_or("").chars();
    let word: String = begun.chain(rest.chars()).take_while(|c| is_in_word(*c)).collect();
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

fn is_in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._+-".contains(c)
}

/// What is wrong where a value, a key, a colon, a comma or a bracket should be.
fn between_values(before: &str, rest: &str, reason: Reason) -> String {
    let expects_item = before.ends_with(['{', '[', ',']);
    let expected = match reason {
        Reason::TextBehind => return "more text after the end of the outermost value".into(),
        Reason::Colon => "a colon after the key",
        Reason::Key => "a key in double quotes",
        Reason::EndInObject if expects_item => "a key in double quotes",
        Reason::EndInObject | Reason::CommaInObject => "a comma or '}'",
        Reason::EndInList if !expects_item => "a comma or ']'",
        Reason::CommaInList => "a comma or ']'",
        _ => "a value",
    };
    let is_comma = matches!(reason, Reason::CommaInObject | Reason::CommaInList);
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
        Some('"' | '{' | '[' | '-' | '0'..='9' | 'a'..='z') if is_comma => {
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
