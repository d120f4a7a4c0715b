//! A JSON text (RFC 8259) as a tree that knows where each value stands, so that
//! an edit can leave every other byte as it is. Strict, and bounded in depth.
//! Knows no key of anybody's.
//!
//! serde_json would be shorter, but keeps neither places nor duplicate keys, and
//! spells numbers and strings in its own way; in the tests it is the judge.

use crate::text::misleads;
use std::ops::Range;

/// How deep arrays and objects may be nested: the scanner calls itself.
const DEEPEST: usize = 128;
const BOM: char = '\u{feff}';

/// A JSON text and its tree.
#[derive(Debug)]
pub struct Document<'t> {
    /// The whole text, with a byte-order mark if it has one.
    pub text: &'t str,
    /// The outermost value.
    pub root: Node,
}

/// A value and where it stands, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// From its first byte to behind its last.
    pub span: Range<usize>,
    /// What it is.
    pub value: Value,
}

/// What a value is.
#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number: the text is all there is to know of it.
    Number,
    /// A string, its escapes resolved (half a surrogate pair as U+FFFD).
    String(String),
    /// An array.
    Array(Vec<Node>),
    /// An object; a key may be there twice.
    Object(Vec<Member>),
}

impl Value {
    /// "a string", ….
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "true or false",
            Self::Number => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// A key and its value.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// The key, its escapes resolved.
    pub key: String,
    /// Where the key stands, with its quotes.
    pub key_span: Range<usize>,
    /// The value.
    pub value: Node,
}

/// What is wrong with a text, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub struct Slip {
    /// Byte offset.
    pub place: usize,
    /// What is wrong, in words.
    pub what: String,
}

impl<'t> Document<'t> {
    /// Reads `text`.
    ///
    /// # Errors
    /// The first place that is not JSON.
    pub fn parse(text: &'t str) -> Result<Self, Slip> {
        let mut scanner = Scanner { text, at: 0 };
        if text.starts_with(BOM) {
            scanner.at = BOM.len_utf8();
        }
        scanner.blank();
        let root = scanner.value(0)?;
        scanner.blank();
        match scanner.peek() {
            None => Ok(Self { text, root }),
            Some(_) => Err(scanner.slip("more text after the end of the outermost value")),
        }
    }

    /// The text of `span`, which must be one of this document's.
    pub fn slice(&self, span: Range<usize>) -> &'t str {
        self.text.get(span).unwrap_or("")
    }
}

/// `text` as a JSON string, in quotes.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // JSON itself demands it below U+0020 alone; whoever prints it has a terminal.
            c if misleads(c) => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over `byte`, if that is what comes next.
    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Passes over bytes as long as they are `wanted`; tells how many.
    fn run(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        self.at - start
    }

    fn blank(&mut self) {
        self.run(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn slip(&self, what: impl Into<String>) -> Slip {
        Slip { place: self.at, what: what.into() }
    }

    /// Here is not `expected`, but one of the slips that people make.
    fn unexpected(&self, expected: &str) -> Slip {
        let rest = self.text.get(self.at..).unwrap_or("");
        self.slip(match rest.chars().next() {
            None => format!("the file ends here, where {expected} should be"),
            Some('\'') => "a single quote: JSON has double quotes".into(),
            Some('“' | '”' | '„' | '‘' | '’' | '«' | '»') => {
                "typographic quotes: write straight ones (\")".into()
            }
            Some('/' | '#') => "a comment: JSON has none".into(),
            Some(c) => format!("{c:?} where {expected} should be"),
        })
    }

    fn value(&mut self, depth: usize) -> Result<Node, Slip> {
        let start = self.at;
        let value = match self.peek() {
            Some(b'{' | b'[') if depth == DEEPEST => {
                return Err(self.slip(format!("nested more than {DEEPEST} deep")));
            }
            Some(b'{') => {
                let mut members = Vec::new();
                self.list(b'}', &mut |s| s.member(depth + 1).map(|member| members.push(member)))?;
                Value::Object(members)
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.list(b']', &mut |s| s.value(depth + 1).map(|item| items.push(item)))?;
                Value::Array(items)
            }
            Some(b'"') => Value::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'a'..=b'z' | b'A'..=b'Z') => self.word()?,
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { span: start..self.at, value })
    }

    /// What stands between brackets, up to `close`; `item` reads one item.
    fn list(
        &mut self,
        close: u8,
        item: &mut dyn FnMut(&mut Self) -> Result<(), Slip>,
    ) -> Result<(), Slip> {
        self.at += 1;
        self.blank();
        if self.take(close) {
            return Ok(());
        }
        loop {
            item(self)?;
            self.blank();
            if self.take(close) {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(match self.peek() {
                    Some(b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b'a'..=b'z') => {
                        self.slip("a comma is missing before this")
                    }
                    _ => self.unexpected(&format!("a comma or '{}'", char::from(close))),
                });
            }
            self.blank();
            if self.peek() == Some(close) {
                let what = format!("a comma too many before this '{}'", char::from(close));
                return Err(self.slip(what));
            }
        }
    }

    fn member(&mut self, depth: usize) -> Result<Member, Slip> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in double quotes"));
        }
        let key = self.string()?;
        let key_span = start..self.at;
        self.blank();
        if !self.take(b':') {
            return Err(self.unexpected("a colon after the key"));
        }
        self.blank();
        Ok(Member { key, key_span, value: self.value(depth)? })
    }

    fn word(&mut self) -> Result<Value, Slip> {
        let start = self.at;
        self.run(|b| b.is_ascii_alphanumeric());
        match self.text.get(start..self.at).unwrap_or("") {
            "null" => Ok(Value::Null),
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            word => {
                let what = format!(
                    "{word:.20} is no value: text needs double quotes, and true, false and null \
                     are in lower case"
                );
                Err(Slip { place: start, what })
            }
        }
    }

    fn number(&mut self) -> Result<Value, Slip> {
        let start = self.at;
        let digit = |b: u8| b.is_ascii_digit();
        self.take(b'-');
        let leading_zero = self.peek() == Some(b'0');
        let digits = self.run(digit);
        let mut good = digits == 1 || digits > 1 && !leading_zero;
        if self.take(b'.') {
            good &= self.run(digit) > 0;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            good &= self.run(digit) > 0;
        }
        good &= !self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_'));
        if good {
            return Ok(Value::Number);
        }
        let what = "no number as JSON has it: digits without a leading 0, then perhaps .5 or e3";
        Err(Slip { place: start, what: what.into() })
    }

    fn string(&mut self) -> Result<String, Slip> {
        let start = self.at;
        let mut text = String::new();
        self.at += 1;
        loop {
            let run = self.at;
            self.run(|b| !matches!(b, b'"' | b'\\' | 0..0x20));
            text.push_str(self.text.get(run..self.at).unwrap_or(""));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                None | Some(b'\n' | b'\r') => {
                    return Err(Slip { place: start, what: "a quote that is not closed".into() });
                }
                Some(b) => {
                    let what = format!("a control character in a string: write it as \\u{b:04x}");
                    return Err(self.slip(what));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Slip> {
        let start = self.at;
        self.at += 1;
        let letter = self.peek();
        self.at += usize::from(letter.is_some());
        Ok(match letter {
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(b),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex(start)?;
                let rest = self.text.as_bytes().get(self.at..self.at + 2);
                if !(0xd800..0xdc00).contains(&first) || rest != Some(br"\u") {
                    return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                let second_at = self.at;
                self.at += 2;
                let second = self.hex(second_at)?;
                if (0xdc00..0xe000).contains(&second) {
                    let both = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                    char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER)
                } else {
                    self.at = second_at;
                    char::REPLACEMENT_CHARACTER
                }
            }
            _ => {
                let what = "no escape of JSON's: a backslash itself is written \\\\";
                return Err(Slip { place: start, what: what.into() });
            }
        })
    }

    /// The four digits of `\uXXXX`.
    fn hex(&mut self, start: usize) -> Result<u32, Slip> {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or("");
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) || digits.is_empty() {
            let what = "no escape of JSON's: \\u needs four hexadecimal digits";
            return Err(Slip { place: start, what: what.into() });
        }
        self.at += 4;
        Ok(u32::from_str_radix(digits, 16).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slip's place and words.
    fn slip(text: &str) -> (usize, String) {
        let slip = Document::parse(text).unwrap_err();
        (slip.place, slip.what)
    }

    #[test]
    fn every_value_knows_where_it_stands() {
        let text =
            "\u{feff} {\"a\" : [1.50e+1, \"\\u0041\\ud83d\\ude00\\/\"],\r\n\"\\u0061\":null}\n";
        let document = Document::parse(text).unwrap();
        let Value::Object(members) = &document.root.value else { panic!("an object") };
        let [first, second] = &members[..] else { panic!("two members") };
        assert_eq!((first.key.as_str(), second.key.as_str()), ("a", "a"));
        assert_eq!(document.slice(second.key_span.clone()), "\"\\u0061\"");
        assert_eq!(document.slice(second.value.span.clone()), "null");
        let Value::Array(items) = &first.value.value else { panic!("an array") };
        assert_eq!(document.slice(items[0].span.clone()), "1.50e+1");
        assert_eq!(items[1].value, Value::String("A😀/".into()));
        assert_eq!(document.root.span, 4..text.len() - 1);
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
            ("[]\u{feff}", 2, "more text after the end of the outermost value"),
        ];
        for (text, place, what) in cases {
            assert_eq!(slip(text), (place, what.to_owned()), "{text}");
        }
        for number in ["01", "-", "1.", ".5", "+1", "1e", "0x1F", "1_000", "1.2.3", "--1", "-01"] {
            assert!(Document::parse(number).is_err(), "{number}");
        }
        assert!(slip("[1, True]").1.starts_with("True is no value"), "{:?}", slip("[1, True]"));
    }

    #[test]
    fn deep_nesting_is_refused_and_costs_no_stack() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Document::parse(&nested(DEEPEST)).is_ok());
        let deeper = slip(&nested(DEEPEST + 1));
        assert_eq!(deeper, (DEEPEST, "nested more than 128 deep".into()));
        assert_eq!(slip(&"[".repeat(100_000)), deeper);
        assert!(Document::parse(&"{\"a\":".repeat(100_000)).is_err());
    }

    #[test]
    fn serde_json_reads_the_same_strings_and_accepts_the_same_texts() {
        let texts = [
            r#""""#,
            r#""\"\\\/\b\f\n\r\t\u00e9\uD834\uDD1E""#,
            r#""ä\u0000 ""#,
            "\"\u{7f}\"",
            "0",
            "-0",
            "-0.0",
            "1e5",
            "1E-05",
            "120",
            "00",
            "-a",
            "1.e1",
            "[]",
            "[ ]",
            "{}",
            "[,]",
            "{,}",
            "[1,,2]",
            "nul",
            "truefalse",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u+123\"",
            "\u{b}1",
            "\u{a0}1",
            "1 ",
            "\t\r\n1",
            "{\"a\":1,\"a\":2}",
            "{\"a\":}",
            "{1:2}",
            "[1}",
            "{\"a\"]",
            "\"",
            "\\",
            "\"\\",
            "\"\\u",
            "-",
        ];
        for text in texts {
            let ours = Document::parse(text);
            let theirs = serde_json::from_str::<serde_json::Value>(text);
            assert_eq!(ours.is_ok(), theirs.is_ok(), "{text}");
            if let (
                Ok(Document { root: Node { value: Value::String(ours), .. }, .. }),
                Ok(theirs),
            ) = (ours, theirs)
            {
                assert_eq!(Some(ours.as_str()), theirs.as_str());
                assert_eq!(serde_json::from_str::<String>(&quoted(&ours)).unwrap(), ours);
            }
        }
    }
}
