//! Compares the manual page with the code: keys, defaults, options and quoted errors.

use super::{error, parse};
use crate::config::LogSettings;
use crate::config::deserializer::keys;
use crate::config::encryption;
use crate::config::options::MountOptions;
use crate::config::schema::{FileTable, ShareTable};
use std::collections::BTreeSet;

/// Whether `key` is for shares that are encrypted.
fn of_encryption(key: &str) -> bool {
    let keys = keys::<ShareTable>().iter().skip_while(|key| **key != encryption::MAIN);
    keys.copied().any(|other| other == key)
}

const PAGE: &str = include_str!("../../../packaging/man/efs-agent.toml.5.md");

/// The part of the manual page below a heading, up to the next one of the same level.
fn section(heading: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("\n{heading}\n")).unwrap();
    let marks = heading.split(' ').next().unwrap();
    let end = |level: &str| rest.find(&format!("\n{level} ")).unwrap_or(rest.len());
    &rest[..if marks == "##" { end("#").min(end("##")) } else { end("#") }]
}

/// The definitions in a section: a line with terms, and the indented text below it.
fn definitions(section: &'static str) -> Vec<(&'static str, String)> {
    let paragraphs: Vec<&str> = section.split("\n\n").map(|p| p.trim_matches('\n')).collect();
    let is_text = |p: &&&str| p.starts_with(":   ") || p.starts_with("    ");
    let definition = |at: usize| -> Option<(&'static str, String)> {
        paragraphs.get(at + 1)?.starts_with(":   ").then(|| {
            let texts: Vec<&str> =
                paragraphs[at + 1..].iter().take_while(is_text).copied().collect();
            (paragraphs[at], texts.join("\n"))
        })
    };
    (0..paragraphs.len()).filter_map(definition).collect()
}

/// What stands between backticks.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

const ENCRYPTED: &str = "[[share]]\nendpoint = \"fs-0123abcd.efs.eu-west-1.amazonaws.com\"\n{}\n";
/// TOML allows no key twice, so a key that an example sets is left out of the rest.
const ALL_ENCRYPTED: &str = "[[share]]\nendpoint = \"a\"\nencryption_in_transit = true\n{}\n\
    file_system_id = \"fs-0123abcd\"\nregion = \"eu-west-1\"\niam = true\n";

#[test]
fn the_manual_page_has_every_key_with_its_default_and_a_good_example() {
    let shipped = include_str!("../../../config.example.toml");
    let places = [
        ("## At the top of the file", keys::<FileTable>(), "{}\n[[share]]\nendpoint = \"a\"\n"),
        ("## In [[share]]", keys::<ShareTable>(), "[[share]]\nendpoint = \"a\"\n{}\n"),
        ("## In [log]", keys::<LogSettings>(), "[[share]]\nendpoint = \"a\"\n[log]\n{}\n"),
    ];
    for (heading, keys, around) in places {
        let documented = definitions(section(heading));
        let bare = |(term, _): &(&'static str, String)| {
            let [key] = spans(term)[..] else { panic!("{term}") };
            assert_eq!(*term, format!("`{key}`"));
            key.trim_matches(['[', ']'])
        };
        let mut found: Vec<&str> = documented.iter().map(bare).collect();
        let mut known = keys.to_vec();
        found.sort_unstable();
        known.sort_unstable();
        assert_eq!(found, known, "{heading}");
        for (term, text) in &documented {
            let key = term.trim_matches('`');
            if key.starts_with('[') {
                continue;
            }
            let line = shipped.lines().find_map(|l| l.strip_prefix(&format!("#{key} = ")));
            match line {
                Some(_) if text.contains("No default: ") => {}
                Some(value) => {
                    assert!(text.contains(&format!("Default: `{value}`")), "{key}");
                }
                None => assert!(text.contains("no default"), "{key}"),
            }
            let (_, example) = text.split_once("Example: `").expect(key);
            let example = example.strip_suffix('`').expect(key);
            assert!(example.starts_with(&format!("{key} = ")), "{example}");
            let around = match key {
                "endpoint" => "[[share]]\n{}\n",
                "encryption_in_transit" => ENCRYPTED,
                _ if of_encryption(key) => ALL_ENCRYPTED,
                _ => around,
            };
            let around: String = around
                .lines()
                .filter(|line| !line.starts_with(&format!("{key} = ")))
                .map(|line| format!("{line}\n"))
                .collect();
            parse(&around.replace("{}", example)).unwrap();
        }
    }
}

#[test]
fn the_manual_page_has_every_nfs_option_under_the_right_head_and_with_its_range() {
    // The lists are private, so their source is read. An option stands first in its line.
    let source = include_str!("../words.rs");
    let list = |name: &str| {
        let (_, rest) = source.split_once(&format!("\npub(super) const {name}: ")).unwrap();
        let rest = &rest[..rest.find("];").unwrap()];
        rest.split_once(" =").unwrap().1
    };
    let quoted = |text: &'static str| text.split('"').skip(1).step_by(2);
    let first = |name| list(name).lines().filter_map(move |line| quoted(line).next());
    let word =
        |w: &&str| w.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let refused = list("REFUSED");
    let places = [
        ("## Of every mount", first("FLAGS").collect::<BTreeSet<_>>()),
        (
            "## Of NFS",
            first("KEYS").chain(quoted(list("OWN_KEYS"))).chain(quoted(list("VERSIONS"))).collect(),
        ),
        ("## Passed over", quoted(list("IGNORED")).chain(["comment", "x-", "X-"]).collect()),
        ("## Refused", quoted(refused).filter(word).collect()),
    ];
    for (heading, known) in places {
        let mut found = BTreeSet::new();
        for (term, text) in definitions(section(heading)) {
            let text = text.replace('`', "");
            for option in spans(term).into_iter().map(|option| option.trim_end_matches('=')) {
                found.insert(option);
                let with = |value| MountOptions::over_defaults(&format!("{option}{value}"));
                match heading {
                    "## Refused" => assert!(with("").is_err(), "{option}"),
                    "## Passed over" => {
                        assert_eq!(with("=1").unwrap().ignored, [format!("{option}=1")]);
                    }
                    _ => {
                        // The page says in the same words what the option takes.
                        let Err(e) = with("=?") else { panic!("{option}=? is taken") };
                        assert!(!e.contains("unknown"), "{e}");
                        let (_, takes) = e.split_once(" takes ").unwrap_or_default();
                        let takes = takes.trim_start_matches("a number from ");
                        let in_words = ["no value", "a word", "a context"]
                            .iter()
                            .any(|words| takes.starts_with(words));
                        assert!(in_words || text.contains(takes), "{option} takes {takes}");
                    }
                }
            }
        }
        assert_eq!(found, known, "{heading}");
    }
    let data = MountOptions::default().data("10.0.0.1".parse().unwrap());
    let defaults = format!("{},nosuid,nodev\n", data.trim_end_matches(",addr=10.0.0.1"));
    assert!(section("# NFS OPTIONS").replace("\n    ", "").contains(&defaults), "{defaults}");
}

#[test]
fn the_manual_page_quotes_errors_as_they_are_and_its_configs_are_good() {
    let share = "[[share]]\nendpoint = \"a\"\n";
    let wrong = [
        "[[share]]\nendpiont = \"a\"\n".to_owned(),
        format!("{share}deadline = \"20s\"\n"),
        String::new(),
        "[[share]]\npath = \"/\"\n".into(),
        "[[share]]\nendpoint = fs-1\n".into(),
        "# x\n\n[share]\nendpoint = \"a\"\n".into(),
        "[[share]]\nendpoint = \"fs-0123abcd\"\n".into(),
        format!("{share}iam = true\n"),
        "[[share]]\nendpoint = \"10.0.1.12\"\nencryption_in_transit = true\n".into(),
        format!("{share}{share}"),
    ];
    let quoted = definitions(section("# ERRORS"));
    assert_eq!(quoted.len(), wrong.len());
    for ((term, _), text) in quoted.iter().zip(&wrong) {
        assert_eq!(term.trim_matches('`'), error(text).trim_start_matches('/'));
    }
    // A config is what is indented; any other line ends it.
    let blocks: String = section("# EXAMPLES")
        .lines()
        .map(|line| match line.strip_prefix("    ") {
            Some(config) => format!("{config}\n"),
            None if line.is_empty() => "\n".into(),
            None => "\0".into(),
        })
        .collect();
    let configs: Vec<&str> =
        blocks.split('\0').filter(|config| !config.trim().is_empty()).collect();
    assert_eq!(configs.len(), 5);
    for config in configs {
        parse(config).unwrap();
    }
}
