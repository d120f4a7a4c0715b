//! Runs the corpus of `make fuzz`, and mutations of it, through every reader.

use super::*;
use std::fs;

/// As many as a test run has time for; `make fuzz` does 10,000,000 of each.
const MUTATIONS: usize = 2000;
const LONGEST: usize = 4096;

/// The same numbers in each run.
struct Numbers(u64);

impl Numbers {
    /// Below `limit`, which must not be 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }

    fn one_of<'a>(&mut self, list: &'a [Vec<u8>]) -> &'a [u8] {
        &list[self.below(list.len())]
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below(length - start + 1)
    }
}

/// The words of a libFuzzer dictionary: one a line in quotes, with `\xNN`.
fn dictionary(text: &str) -> Vec<Vec<u8>> {
    let word = |line: &str| {
        let mut pieces = line.trim_matches('"').split("\\x");
        let mut word = pieces.next().unwrap().as_bytes().to_vec();
        for piece in pieces {
            word.push(u8::from_str_radix(&piece[..2], 16).unwrap());
            word.extend_from_slice(&piece.as_bytes()[2..]);
        }
        word
    };
    text.lines().map(word).collect()
}

fn replay(target: &str, keeps_its_promises: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut files: Vec<_> = fs::read_dir(folder.join("corpus").join(target))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let words = fs::read_to_string(folder.join(format!("dict/{target}.dict"))).unwrap();
    let words = dictionary(&words);
    for text in &corpus {
        keeps_its_promises(text);
    }
    let mut numbers = Numbers(7);
    for _ in 0..MUTATIONS {
        let mut text = numbers.one_of(&corpus).to_vec();
        for _ in 0..=numbers.below(4) {
            let range = numbers.range(text.len());
            let piece = match numbers.below(6) {
                0 => vec![],
                1 => vec![numbers.below(256) as u8; range.len().min(300)],
                2 => text[numbers.range(text.len())].to_vec(),
                3 => {
                    let other = numbers.one_of(&corpus);
                    other[numbers.range(other.len())].to_vec()
                }
                4 => numbers.below(1 << 33).to_string().into_bytes(),
                _ => numbers.one_of(&words).to_vec(),
            };
            // It replaces what was there or, more often, is inserted beside it.
            let end = if numbers.below(3) == 0 { range.end } else { range.start };
            text.splice(range.start..end, piece);
        }
        text.truncate(LONGEST);
        // The panic's own message does not say what was read.
        if let Err(panic) = std::panic::catch_unwind(|| keeps_its_promises(&text)) {
            eprintln!("{target} was given: {}", text.escape_ascii());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn any_config_gives_usable_settings_or_one_line_with_its_place() {
    replay("config", config);
}

#[test]
fn any_options_can_be_mounted_with_or_are_refused() {
    replay("options", options);
}

#[test]
fn any_mount_table_is_read_line_by_line() {
    replay("mountinfo", mountinfo);
}

#[test]
fn any_resolv_conf_gives_at_most_three_servers_and_names_to_ask_for() {
    replay("resolv_conf", resolv_conf);
}

#[test]
fn any_hosts_file_gives_the_addresses_of_the_name_alone() {
    replay("hosts", hosts);
}

#[test]
fn any_passwd_and_group_give_an_account_that_one_can_become() {
    replay("passwd", passwd);
}

#[test]
fn any_profile_file_gives_values_fit_for_a_log() {
    replay("profile", profile);
}

#[test]
fn any_file_of_aws_profiles_gives_its_values_or_the_number_of_a_line() {
    replay("aws_profile", aws_profile);
}

#[test]
fn any_peer_of_the_relay_is_carried_or_ended_and_nothing_comes_of_it_that_was_not_sent() {
    replay("relay", super::relay);
}

#[test]
fn any_message_is_an_answer_to_our_question_or_none() {
    replay("dns", dns);
}
