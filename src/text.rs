//! Makes text that others have written fit to be shown: in a log line, on a terminal, in JSON. Messages live elsewhere,
//! except for words that several rooms need.

use nix::errno::Errno;
use std::fmt::{self, Write};

/// The name of this program and its version, as `--version` prints it.
pub const VERSION: &str = concat!("efs-agent ", env!("CARGO_PKG_VERSION"));

/// Whether a character does something to the text around it instead of being seen. A terminal acts on control
/// characters, and a line ends at some of them. Others change the order in which text is shown, so that a line reads as
/// something else.
pub fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// `text` as one line for a terminal: what misleads becomes a space.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if misleads(c) { ' ' } else { c }).collect()
}

/// Why connect(2) has failed, where the usual words of an errno mislead there.
pub fn unconnected(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::ENETUNREACH => "there is no route to it",
        Errno::EHOSTUNREACH => "no way to it was found",
        // connect(2) gives EINVAL for no other reason.
        Errno::EINVAL => "a blackhole route leads to it",
        Errno::EACCES => "a route or firewall rule forbids it",
        _ => return None,
    })
}

/// A path or a name as one word of a command, for a shell.
pub fn word(text: impl fmt::Display) -> String {
    let text = text.to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// `bytes` in lowercase hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_blank_or_a_quote_in_it_is_one_word_to_a_shell() {
        for path in
            ["/mnt/efs_share", "/mnt/Course Material", "/mnt/a'b", "/mnt/a\\b$(x)", "/mnt/ü"]
        {
            let told = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", word(path))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(told.stdout).unwrap(), path);
        }
        assert_eq!(word("/mnt/efs_share"), "/mnt/efs_share");
    }

    #[test]
    fn what_a_terminal_acts_on_or_shows_in_another_order_is_not_shown() {
        let shown =
            "ok \u{202e}gpj.exe\u{2066}\u{2069}\u{200f}\u{61c}\u{2028}\u{85}\u{9b}1m\u{7f}\n";
        assert_eq!(plain(shown), "ok  gpj.exe       1m  ");
        // Letters of every script, and what joins them, stay.
        let letters = "Zürich, 東京, میخواهم\u{200c}م, 👩\u{200d}💻";
        assert_eq!(plain(letters), letters);
    }
}
