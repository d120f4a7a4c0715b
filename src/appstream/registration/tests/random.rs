//! Random config.json files: registering and unregistering changes our entries and nothing else. serde_json is the
//! judge. `DOCUMENTS=100000` makes as many of them.

mod tree;
mod writer;

use super::{both, call, none};
use crate::appstream::diff;
use crate::appstream::registration::{Change, Registration, RegistrationError, change};
use crate::config::Level;
use crate::json::Document;
use std::path::Path;
use tree::{Tree, parsed};
use writer::{Chance, OURS, Writer};

fn documents(usual: u64) -> u64 {
    std::env::var("DOCUMENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// What `diff` makes of `old`, line by line. Each line that the diff shows is compared with `old`.
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

/// The same document without the members that are `null`, where that means the same.
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

/// Whether a program of somebody else is where ours should be.
fn foreign(document: &Tree) -> bool {
    ["SessionStart", "SessionTermination"].iter().any(|event| {
        let filename = system_entry(document, event).map_or("", |entry| text_at(entry, "filename"));
        let name = filename.rsplit('/').next().unwrap();
        !filename.is_empty() && name != "efs-agent" && name != "efs-agent.sh"
    })
}

/// The document without what is ours. The rest must stay as it was, in the same order.
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

fn changed(text: &str, wanted: &Registration) -> Result<Change, RegistrationError> {
    change(Path::new("/s/config.json"), text, wanted)
}

#[test]
fn only_our_entries_differ_whatever_the_document() {
    let mut refused = 0;
    for seed in 0..documents(5_000) {
        let old_text = Writer::new(seed).document();
        let old = without_null(parsed(&old_text));
        let replace = seed % 2 == 0;
        let wanted = Registration { replace, ..both() };
        let change = match changed(&old_text, &wanted) {
            Err(RegistrationError::Foreign(..)) if foreign(&old) && !replace => {
                refused += 1;
                continue;
            }
            Err(refusal) => panic!("seed {seed}: {refusal}\n{old_text}"),
            Ok(change) => change,
        };
        assert!(replace || !foreign(&old), "seed {seed}: {old_text}");
        // Each change has a note.
        let told = change.notes.iter().any(|note| note.level() == Level::Info);
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
        // No edit reaches beyond one of our values or the blanks of an empty container.
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
        let diff = diff(&old_text, &change.edits);
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
            // Half a surrogate pair is allowed by the grammar, but no string of Rust can hold it.
            (Ok(_), Err(e))
                if e.to_string().contains("surrogate") || e.to_string().contains("hex escape") => {}
            (ours, theirs) => panic!("{ours:?}\n{theirs:?}\n{text}"),
        }
        for wanted in [both(), Registration { replace: true, ..both() }, none()] {
            match changed(&text, &wanted) {
                Ok(change) => {
                    let _ = diff(&text, &change.edits);
                    assert!(changed(&change.text, &wanted).unwrap().edits.is_empty());
                }
                Err(RegistrationError::Fault(e)) => panic!("{e}\n{text}"),
                Err(refusal) => assert_eq!(refusal.to_string().lines().count(), 1),
            }
        }
    }
    assert!(good > 0);
}
