//! config.json files at random, odd in every way that is still allowed: registering and
//! unregistering changes our entries and nothing else. serde_json is the judge.
//! `DOCUMENTS=100000` makes as many of them.

use super::registration::tests::{both, call, none};
use super::registration::{Change, Refusal, Wanted, change};
use crate::json::Document;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::path::Path;

const OURS: &str = "/usr/sbin/efs-agent";

/// A source of chance that is the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % most
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }
}

/// Writes one value, or a key and its value.
type Item<'i> = Box<dyn FnOnce(&mut Writer) + 'i>;

/// Writes a document as it goes.
struct Writer {
    chance: Chance,
    out: String,
    newline: &'static str,
    step: &'static str,
    /// How blanks are put: 0 minified, 1 as printers do it, 2 wildly.
    style: usize,
    colon: &'static str,
    depth: usize,
}

impl Writer {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        chance.below(2);
        let newline = chance.of(&["\n", "\r\n", ""]);
        let step = chance.of(&["  ", "    ", "\t", "", " "]);
        let colon = chance.of(&[": ", ":", " : "]);
        let style = chance.below(3);
        Self { chance, out: String::new(), newline, step, style, colon, depth: 0 }
    }

    fn blank(&mut self) {
        if self.style == 2 {
            let newline = self.newline;
            let blank = self.chance.of(&["", " ", "\t", newline, "   ", ""]);
            self.out += blank;
        }
    }

    fn line(&mut self) {
        if self.style == 1 && !self.newline.is_empty() {
            self.out += self.newline;
            self.out += &self.step.repeat(self.depth);
        }
        self.blank();
    }

    /// `items` in brackets, each written by itself.
    fn list(&mut self, brackets: [&str; 2], items: Vec<Item<'_>>) {
        self.out += brackets[0];
        self.depth += 1;
        let empty = items.is_empty();
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                self.blank();
                self.out += ",";
            }
            self.line();
            item(self);
        }
        self.depth -= 1;
        if empty {
            self.blank()
        } else {
            self.line()
        }
        self.out += brackets[1];
    }

    /// A string, some of its characters escaped though they need not be.
    fn string(&mut self, text: &str) {
        self.out += "\"";
        for c in text.chars() {
            if self.chance.one_in(40) && (c as u32) < 0x10000 {
                self.out += &match self.chance.below(2) {
                    0 => format!("\\u{:04x}", c as u32),
                    _ => format!("\\u{:04X}", c as u32),
                };
            } else if c == '"' || c == '\\' || c == '/' && self.chance.one_in(20) {
                self.out.extend(['\\', c]);
            } else if c < ' ' {
                self.out += &format!("\\u{:04x}", c as u32);
            } else {
                self.out.push(c);
            }
        }
        self.out += "\"";
    }

    /// A key in some letter case.
    fn key(&mut self, key: &str) {
        let how = self.chance.below(8);
        let spelt: String = key
            .chars()
            .enumerate()
            .map(|(place, c)| match how {
                0 => c.to_ascii_uppercase(),
                1 => c.to_ascii_lowercase(),
                2 if place == 0 => c.to_ascii_uppercase(),
                3 if self.chance.one_in(2) => c.to_ascii_uppercase(),
                _ => c,
            })
            .collect();
        self.string(&spelt);
        self.blank();
        self.out += self.colon;
        self.blank();
    }

    /// Anything that is not ours to read.
    fn anything(&mut self, deep: usize) {
        let texts =
            ["", "x", "ä\u{1f600}\"\\/\n\u{7f}", "SessionStart", "/usr/sbin/efs-agent", "system"];
        match self.chance.below(if deep == 0 { 4 } else { 6 }) {
            0 => self.out += self.chance.of(&["null", "true", "false"]),
            1 => {
                let numbers = [
                    "0",
                    "-0",
                    "1.50",
                    "1E5",
                    "-0.10e-05",
                    "1e400",
                    "123456789012345678901234567890",
                ];
                self.out += self.chance.of(&numbers);
            }
            2 | 3 => {
                let text = self.chance.of(&texts);
                self.string(text);
            }
            4 => {
                let items = (0..self.chance.below(4))
                    .map(|_| Box::new(move |w: &mut Self| w.anything(deep - 1)) as _);
                self.list(["[", "]"], items.collect());
            }
            _ => {
                let items = (0..self.chance.below(4)).map(|_| {
                    let key =
                        self.chance.of(&["a", "filename", "waitingTime", "SessionStart", "ü"]);
                    Box::new(move |w: &mut Self| {
                        w.key(key);
                        w.anything(deep - 1);
                    }) as _
                });
                let items = items.collect();
                self.list(["{", "}"], items);
            }
        }
    }

    /// An object of some of `members` in any order, with unknown ones between them.
    fn object(&mut self, members: Vec<(&str, Item<'_>)>) {
        let mut left = members;
        let mut items: Vec<Item<'_>> = Vec::new();
        while !left.is_empty() {
            if self.chance.one_in(4) {
                let key = self.chance.of(&["comment", "Version", "x", "session start", ""]);
                items.push(Box::new(move |w| {
                    w.key(key);
                    w.anything(3);
                }));
            }
            let (key, value) = left.remove(self.chance.below(left.len()));
            items.push(Box::new(move |w| {
                w.key(key);
                value(w);
            }));
        }
        self.list(["{", "}"], items);
    }

    /// A value, or `null` in its place now and then.
    fn or_null<'w>(&mut self, value: Item<'w>) -> Item<'w> {
        match self.chance.one_in(9) {
            true => Box::new(|w: &mut Self| w.out += "null"),
            false => value,
        }
    }

    fn entry(&mut self, context: &'static str) {
        let mut members: Vec<(&str, Item<'_>)> =
            vec![("context", Box::new(move |w| w.string(context)))];
        if !self.chance.one_in(4) {
            let known = ["", "", OURS, "/opt/a/efs-agent", "/opt/x.sh", "/s/efs-agent.sh"];
            let filename = self.chance.of(&known);
            let value = self.or_null(Box::new(move |w| w.string(filename)));
            members.push(("filename", value));
        }
        if !self.chance.one_in(4) {
            let arguments = self.chance.of(&["", "", "unmount", "-v \"a b\""]);
            let value = self.or_null(Box::new(move |w| w.string(arguments)));
            members.push(("arguments", value));
        }
        if !self.chance.one_in(4) {
            let logged = self.chance.of(&["true", "true", "false"]);
            let value = self.or_null(Box::new(move |w| w.out += logged));
            members.push(("s3LogEnabled", value));
        }
        self.object(members);
    }

    fn event(&mut self) {
        let mut members: Vec<(&str, Item<'_>)> = Vec::new();
        if !self.chance.one_in(5) {
            let contexts: &[&'static str] = match self.chance.below(6) {
                0 => &[],
                1 => &["user"],
                2 => &["system"],
                3 => &["user", "System"],
                _ => &["system", "user"],
            };
            let value = self.or_null(Box::new(move |w| {
                let items = contexts.iter().map(|c| Box::new(move |w: &mut Self| w.entry(c)) as _);
                let mut items: Vec<Item<'_>> = items.collect();
                if w.chance.one_in(9) {
                    items.push(Box::new(|w: &mut Self| w.out += "null"));
                }
                w.list(["[", "]"], items);
            }));
            members.push(("executables", value));
        }
        if !self.chance.one_in(5) {
            let times =
                ["30", "30.0", "3e1", "0.6E+2", "15", "0", "-1", "26.99", "27", "60", "61", "1e99"];
            let time = self.chance.of(&times);
            let value = self.or_null(Box::new(move |w| w.out += time));
            members.push(("waitingTime", value));
        }
        self.object(members);
    }

    fn document(mut self) -> String {
        if self.chance.one_in(5) {
            self.out += "\u{feff}";
        }
        self.blank();
        let mut members: Vec<(&str, Item<'_>)> = Vec::new();
        for name in ["SessionStart", "SessionTermination", "SessionOther"] {
            if !self.chance.one_in(5) {
                let value = self.or_null(Box::new(Self::event));
                members.push((name, value));
            }
        }
        self.object(members);
        if self.chance.one_in(2) {
            self.out += self.newline;
        }
        self.blank();
        self.out
    }
}

fn documents(usual: u64) -> u64 {
    std::env::var("DOCUMENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// `old` as `diff` says it is to be, line by line, after a look at every line that the diff shows.
fn patched(old: &str, diff: &str) -> Vec<String> {
    let old = lines(old);
    let (mut new, mut at) = (Vec::new(), 0);
    for line in diff.lines() {
        match line.split_at(1) {
            ("@", ranges) => {
                let numbers: Vec<usize> =
                    ranges.split(|c: char| !c.is_ascii_digit()).flat_map(str::parse).collect();
                let [old_at, old_count, new_at, _] = numbers[..] else { panic!("{line}") };
                let start = if old_count == 0 { old_at } else { old_at - 1 };
                new.extend_from_slice(&old[at..start]);
                at = start;
                assert_eq!(new.len() + 1, new_at, "{diff}");
            }
            (sign, text) => {
                if sign != "+" {
                    assert_eq!(old[at], text, "{diff}");
                    at += 1;
                }
                if sign != "-" {
                    new.push(text.to_owned());
                }
            }
        }
    }
    new.extend_from_slice(&old[at..]);
    new
}

/// The lines of a text as a diff shows them.
fn lines(text: &str) -> Vec<String> {
    let shown = |c: char| if c.is_control() && c != '\t' { ' ' } else { c };
    text.split_inclusive('\n')
        .map(|line| line.trim_end_matches(['\r', '\n']).chars().map(shown).collect())
        .collect()
}

/// What serde_json reads, with the order of keys and the spelling of numbers.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Text(String),
    /// A number, `true`, `false` or `null`, as it is spelt.
    Word(String),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let tree = match raw.as_bytes()[0] {
            b'{' => {
                serde_json::Deserializer::from_str(raw).deserialize_map(Members).map(Self::Object)
            }
            b'[' => serde_json::from_str(raw).map(Self::Array),
            b'"' => serde_json::from_str(raw).map(Self::Text),
            _ => Ok(Self::Word(raw.to_owned())),
        };
        tree.map_err(serde::de::Error::custom)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Tree)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        std::iter::from_fn(|| map.next_entry().transpose()).collect()
    }
}

impl Tree {
    fn object(&self) -> Option<&[(String, Tree)]> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    fn object_mut(&mut self) -> Option<&mut Vec<(String, Tree)>> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    fn array(&self) -> Option<&[Tree]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    fn array_mut(&mut self) -> Option<&mut Vec<Tree>> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn word(&self) -> Option<&str> {
        if let Self::Word(word) = self { Some(word) } else { None }
    }

    fn is_null(&self) -> bool {
        self.word() == Some("null")
    }
}

fn parsed(text: &str) -> Tree {
    serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The value at `key` in any case.
fn at<'v>(value: &'v Tree, key: &str) -> Option<&'v Tree> {
    value.object()?.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, value)| value)
}

fn remove(value: &mut Tree, key: &str) {
    if let Some(object) = value.object_mut() {
        object.retain(|(k, _)| !k.eq_ignore_ascii_case(key));
    }
}

fn is_system(entry: &Tree) -> bool {
    at(entry, "context").and_then(Tree::text).is_some_and(|c| c.eq_ignore_ascii_case("system"))
}

fn text_at<'v>(value: &'v Tree, key: &str) -> &'v str {
    at(value, key).map_or("", |text| text.text().unwrap())
}

fn system_entry<'v>(document: &'v Tree, event: &str) -> Option<&'v Tree> {
    at(at(document, event)?, "executables")?.array()?.iter().find(|entry| is_system(entry))
}

/// The same document with absent in the place of `null`, wherever that is the same.
fn without_null(mut document: Tree) -> Tree {
    let keep = |object: &mut Tree| {
        if let Some(object) = object.object_mut() {
            let known = |k: &str| {
                ["filename", "arguments", "s3LogEnabled", "executables", "waitingTime"]
                    .iter()
                    .any(|known| k.eq_ignore_ascii_case(known))
            };
            object.retain(|(k, value)| !known(k) || !value.is_null());
        }
    };
    let is_event = |k: &str| {
        ["SessionStart", "SessionTermination"].iter().any(|event| k.eq_ignore_ascii_case(event))
    };
    let events = document.object_mut().unwrap();
    events.retain(|(k, event)| !is_event(k) || !event.is_null());
    for (_, event) in events.iter_mut().filter(|(k, _)| is_event(k)) {
        keep(event);
        let list = event
            .object_mut()
            .and_then(|event| event.iter_mut().find(|(k, _)| k.eq_ignore_ascii_case("executables")))
            .and_then(|(_, list)| list.array_mut());
        if let Some(list) = list {
            list.retain(|entry| !entry.is_null());
            list.iter_mut().for_each(keep);
        }
    }
    document
}

/// Whether somebody else's program is where ours should be.
fn foreign(document: &Tree) -> bool {
    ["SessionStart", "SessionTermination"].iter().any(|event| {
        let filename = system_entry(document, event).map_or("", |entry| text_at(entry, "filename"));
        let name = filename.rsplit('/').next().unwrap();
        !filename.is_empty() && name != "efs-agent" && name != "efs-agent.sh"
    })
}

/// The document without what is ours: in it, all must be as it was, and in the same order.
fn rest(document: Tree) -> Tree {
    let mut document = without_null(document);
    for (key, event) in document.object_mut().unwrap() {
        if !["sessionstart", "sessiontermination"].contains(&key.to_ascii_lowercase().as_str()) {
            continue;
        }
        remove(event, "waitingTime");
        let Some((_, list)) = event
            .object_mut()
            .unwrap()
            .iter_mut()
            .find(|(k, _)| k.eq_ignore_ascii_case("executables"))
        else {
            continue;
        };
        let list = list.array_mut().unwrap();
        for entry in list.iter_mut().filter(|entry| is_system(entry)) {
            ["filename", "arguments", "s3LogEnabled"].iter().for_each(|key| remove(entry, key));
            remove(entry, "context");
        }
        // What is left of an entry that had nothing else in it.
        list.retain(|entry| entry.object().is_none_or(|entry| !entry.is_empty()));
        if list.is_empty() {
            remove(event, "executables");
        }
    }
    let object = document.object_mut().unwrap();
    let is_event = |key: &str| {
        key.eq_ignore_ascii_case("SessionStart") || key.eq_ignore_ascii_case("SessionTermination")
    };
    object.retain(|(key, event)| !is_event(key) || event.object().is_none_or(|e| !e.is_empty()));
    document
}

fn changed(text: &str, wanted: &Wanted) -> Result<Change, Refusal> {
    change(Path::new("/s/config.json"), text, wanted)
}

#[test]
fn only_our_entries_differ_whatever_the_document() {
    let mut refused = 0;
    for seed in 0..documents(5_000) {
        let old_text = Writer::new(seed).document();
        let old = without_null(parsed(&old_text));
        let replace = seed % 2 == 0;
        let wanted = Wanted { replace, ..both() };
        let change = match changed(&old_text, &wanted) {
            Err(Refusal::Foreign(..)) if foreign(&old) && !replace => {
                refused += 1;
                continue;
            }
            Err(refusal) => panic!("seed {seed}: {refusal}\n{old_text}"),
            Ok(change) => change,
        };
        assert!(replace || !foreign(&old), "seed {seed}: {old_text}");
        // No change without a word.
        let told = change.notes.iter().any(|(level, _)| *level == crate::config::Level::Info);
        assert_eq!(told, !change.edits.is_empty(), "seed {seed}: {old_text}");
        let new = parsed(&change.text);
        let context = || format!("seed {seed}\n{old_text}\n{}", change.text);
        assert_eq!(rest(new.clone()), rest(old.clone()), "{}", context());
        for (event, least) in [("SessionStart", 27.0), ("SessionTermination", 22.0)] {
            let wanted = call(event, OURS).unwrap();
            let entry = system_entry(&new, event).unwrap_or_else(|| panic!("{}", context()));
            assert_eq!(text_at(entry, "filename"), OURS, "{}", context());
            assert_eq!(text_at(entry, "arguments"), wanted.arguments, "{}", context());
            let before = system_entry(&old, event).and_then(|entry| at(entry, "s3LogEnabled"));
            let logged = before.cloned().unwrap_or(Tree::Word("true".into()));
            assert_eq!(at(entry, "s3LogEnabled"), Some(&logged), "{}", context());
            let time =
                |document| at(at(document, event)?, "waitingTime")?.word().map(str::to_owned);
            let now: f64 = time(&new).unwrap().parse().unwrap();
            assert!(now >= least, "{}", context());
            if let Some(before) = time(&old).filter(|time| time.parse::<f64>().unwrap() >= least) {
                assert_eq!(time(&new), Some(before), "{}", context());
            }
        }
        // The bytes: no edit reaches beyond a value of ours or the blanks of an empty container.
        for edit in &change.edits {
            let gone = &old_text[edit.span.clone()];
            let value = serde_json::from_str(gone);
            let small = match value {
                Ok(Tree::Array(items)) => items.is_empty(),
                Ok(Tree::Object(members)) => members.is_empty(),
                Ok(_) => true,
                Err(_) => gone.is_empty(),
            };
            assert!(small, "{gone}\n{}", context());
        }
        let diff = super::diff(&old_text, &change.edits);
        assert_eq!(patched(&old_text, &diff), lines(&change.text), "{diff}\n{}", context());
        // Line breaks are as the document has them.
        if !old_text.contains("\r\n") && !old_text.contains('\n') {
            assert!(!change.text.contains('\n'), "{}", context());
        }
        if old_text.contains("\r\n") {
            assert!(!change.text.replace("\r\n", "").contains('\n'), "{}", context());
        }
        let again = changed(&change.text, &both()).unwrap();
        assert_eq!((again.text.as_str(), again.edits.len()), (change.text.as_str(), 0));

        let out = changed(&change.text, &none()).unwrap();
        let without = parsed(&out.text);
        assert_eq!(rest(without.clone()), rest(old), "{}", out.text);
        for event in ["SessionStart", "SessionTermination"] {
            let entry = system_entry(&without, event).unwrap();
            assert_eq!((text_at(entry, "filename"), text_at(entry, "arguments")), ("", ""));
        }
        assert!(changed(&out.text, &none()).unwrap().edits.is_empty());
        let there_again = changed(&out.text, &both()).unwrap();
        assert_eq!(parsed(&there_again.text), new);
    }
    assert!(refused > 0, "no entry of somebody else's came up");
}

#[test]
fn no_text_makes_it_panic_and_serde_json_agrees_on_what_is_json() {
    let pieces = [
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\n",
        "\u{0}",
        "ä",
        "\u{feff}",
        "1",
        "-",
        ".",
        "e",
        "\\u",
        "null",
        "\"SessionStart\":",
        "\"executables\":",
        "//",
        "'",
        "\u{1f600}",
        "\\ud800",
        " ",
    ];
    let mut good = 0;
    for seed in 0..documents(5_000) {
        let mut text = Writer::new(seed).document();
        let mut chance = Chance(seed.wrapping_mul(0xd134_2543_de82_ef95) | 1);
        for _ in 0..=chance.below(3) {
            let place = |chance: &mut Chance, text: &str| {
                let place = chance.below(text.len() + 1);
                (0..=place).rev().find(|place| text.is_char_boundary(*place)).unwrap()
            };
            let (a, b) = (place(&mut chance, &text), place(&mut chance, &text));
            let (a, b) = (a.min(b), a.max(b).min(a.min(b) + 12));
            let b = (a..=b).rev().find(|place| text.is_char_boundary(*place)).unwrap();
            match chance.below(4) {
                0 => text.truncate(b),
                1 => text.replace_range(a..b, ""),
                2 => text.insert_str(a, chance.of(&pieces)),
                _ => text.replace_range(a..b, chance.of(&pieces)),
            }
        }
        let bare = text.strip_prefix('\u{feff}').unwrap_or(&text);
        match (Document::parse(&text), serde_json::from_str::<Tree>(bare)) {
            (Ok(_), Ok(_)) => good += 1,
            (Err(_), Err(_)) => {}
            // Half a surrogate pair is within the grammar, but no string of Rust's.
            (Ok(_), Err(e))
                if e.to_string().contains("surrogate") || e.to_string().contains("hex escape") => {}
            (ours, theirs) => panic!("{ours:?}\n{theirs:?}\n{text}"),
        }
        for wanted in [both(), Wanted { replace: true, ..both() }, none()] {
            match changed(&text, &wanted) {
                Ok(change) => {
                    let _ = super::diff(&text, &change.edits);
                    assert!(changed(&change.text, &wanted).unwrap().edits.is_empty());
                }
                Err(Refusal::Fault(e)) => panic!("{e}\n{text}"),
                Err(refusal) => assert_eq!(refusal.to_string().lines().count(), 1),
            }
        }
    }
    assert!(good > 0);
}
