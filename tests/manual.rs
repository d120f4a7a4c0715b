//! The manual pages as they are installed: built, without a complaint of any linter, and with all
//! that README says of troubleshooting in them. And bash completion, run as bash runs it. What the
//! pages say of options and keys is compared with the code by unit tests there.

#![allow(clippy::unwrap_used)] // a test file that clippy does not know as one

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const PAGES: [&str; 3] = ["efs-agent.8", "efs-agent.toml.5", "efs-agent-troubleshooting.7"];

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(here().join("README.md")).unwrap()
}

/// Standard output of a command that ends well and says nothing else.
fn ended(output: Output) -> String {
    let (out, err) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && err.is_empty(), "{}\n{out}{err}", output.status);
    out
}

/// `packaging/man/build.sh`, on a day that is not today's.
fn build(into: &Path) {
    let mut build = Command::new(here().join("packaging/man/build.sh"));
    let output = build.arg(into).env("SOURCE_DATE_EPOCH", "86400").output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // It may have had to install lowdown.
    let installed = err.is_empty() || err == "man: installing lowdown\n";
    assert!(output.status.success() && out.is_empty() && installed, "{out}{err}");
}

/// The folder with the pages, built once; the linters are there too.
fn pages() -> PathBuf {
    static PAGES: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = PAGES.get_or_init(|| {
        let tools = ["test", "mandoc", "man-db", "groff"];
        let output = Command::new(here().join("packaging/debian.sh")).args(tools).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mandoc, man-db or groff is missing: {told}");
        let folder = tempfile::tempdir().unwrap();
        build(folder.path());
        folder
    });
    folder.path().to_owned()
}

/// `page` as a terminal of so many columns shows it.
fn shown(page: &str, columns: u32) -> String {
    let mut man = Command::new("man");
    // With -T it would not look at MANWIDTH.
    man.args(["-E", "UTF-8", "-l"]).arg(pages().join(page));
    man.env("MANWIDTH", columns.to_string()).env("LC_ALL", "C.UTF-8").env_remove("MANOPT");
    // Bold is a letter printed twice.
    let mut text = String::new();
    for c in ended(man.env("GROFF_NO_SGR", "1").output().unwrap()).chars() {
        if c == '\u{8}' {
            text.pop();
        } else {
            text.push(c);
        }
    }
    // Some groffs print the apostrophe that they are given, some a curly one.
    text.replace('’', "'")
}

/// The lines of a page below the heading, without blanks before and behind them.
fn section(text: &str, heading: &str) -> Vec<String> {
    let below = text.lines().skip_while(|line| *line != heading).skip(1);
    let lines = below.take_while(|line| line.starts_with(' ') || line.is_empty());
    lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// The rows of README's table whose head begins with `head`, each as two lines of a page.
fn rows(head: &str) -> Vec<String> {
    let text = readme();
    let table = text.lines().skip_while(|line| !line.starts_with(&format!("| {head} "))).skip(2);
    let rows = table.take_while(|line| line.starts_with("| "));
    let cells = rows.flat_map(|row| {
        let row = row.strip_prefix("| ").unwrap().strip_suffix(" |").unwrap();
        let (left, right) = row.split_once(" | ").unwrap();
        [left.to_owned(), right.to_owned()]
    });
    cells.map(|cell| cell.replace('`', "").replace("\\|", "|")).collect()
}

#[test]
fn the_pages_have_no_fault_that_a_linter_finds() {
    for page in PAGES {
        let path = pages().join(page);
        let lint = Command::new("mandoc").args(["-Tlint", "-W", "warning"]).arg(&path).output();
        assert_eq!(ended(lint.unwrap()), "", "{page}");
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]).arg(&path);
        ended(man.env("LC_ALL", "C.UTF-8").env_remove("MANOPT").output().unwrap());
        let text = shown(page, 80);
        let wide = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{page}");
        // Markdown that went through as it was.
        let left = text.lines().find(|line| {
            ["`", "**", "\\", "<!--", "](", "&nbsp;"].iter().any(|m| line.contains(m))
        });
        assert_eq!(left, None, "{page}");
    }
}

#[test]
fn the_pages_are_the_same_whenever_and_wherever_they_are_built() {
    let again = tempfile::tempdir().unwrap();
    build(&again.path().join("made/anew"));
    let mut names: Vec<_> = fs::read_dir(again.path().join("made/anew"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut expected = PAGES;
    expected.sort_unstable();
    assert_eq!(names, expected);
    for page in PAGES {
        let bytes = fs::read(pages().join(page)).unwrap();
        assert!(bytes == fs::read(again.path().join("made/anew").join(page)).unwrap(), "{page}");
        let text = shown(page, 80);
        let last: Vec<&str> = text.trim_end().lines().last().unwrap().split_whitespace().collect();
        let version = env!("CARGO_PKG_VERSION");
        let (name, number) = page.rsplit_once('.').unwrap();
        let title = format!("{}({number})", name.to_uppercase());
        assert_eq!(last, ["efs-agent", version, "1970-01-02", &title]);
    }
}

#[test]
fn the_troubleshooting_page_has_every_line_of_the_fault_matrix_and_every_symptom() {
    let text = shown("efs-agent-troubleshooting.7", 4000);
    let causes = rows("the log says");
    assert!(causes.len() > 2 * 20, "{}", causes.len());
    // Each is a term with its definition below it. One paragraph comes before the first.
    assert_eq!(section(&text, "LOG LINES")[1..], causes);
    let symptoms = rows("symptom");
    assert!(symptoms.len() > 2 * 3, "{}", symptoms.len());
    assert_eq!(section(&text, "OTHER SYMPTOMS"), symptoms);

    let readme = readme();
    let (_, rest) = readme.split_once("\nThis is waited out").unwrap();
    let groups = rest.split("<!-- end -->").next().unwrap().lines();
    let groups: Vec<_> = groups.filter_map(|line| line.strip_prefix("- ")).collect();
    assert!(groups.len() > 3, "{}", groups.len());
    // A short term stands in one line with what it means.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let waited_out = words(&section(&text, "WAITED OUT")[1..].join(" "));
    assert_eq!(waited_out, groups.join(" ").replace(": ", " "));
}

#[test]
fn the_exit_codes_of_the_page_are_those_of_readme() {
    let text = shown("efs-agent.8", 4000);
    let number = |line: &String| line.starts_with(|c: char| c.is_ascii_digit());
    let codes = |line: &str| -> Vec<u8> {
        let numbers = line.split_whitespace().map(|word| word.trim_end_matches(','));
        numbers.map_while(|word| word.parse().ok()).collect()
    };
    let of_page: Vec<u8> =
        section(&text, "EXIT CODES").iter().filter(|l| number(l)).flat_map(|l| codes(l)).collect();
    let of_readme: Vec<u8> =
        rows("code").iter().filter(|l| number(l)).flat_map(|l| codes(l)).collect();
    assert!(of_readme.len() > 10);
    assert_eq!(of_page, of_readme);
}

/// What bash would offer for the last of `words`.
fn offered(words: &[&str]) -> Vec<String> {
    let script = r#"
        . "$1" || exit
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _efs_agent || exit
        [ ${#COMPREPLY[@]} -eq 0 ] || printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-u", "-c", script, "bash"]);
    bash.arg(here().join("packaging/efs-agent.bash")).args(words).current_dir(here());
    ended(bash.output().unwrap()).lines().map(str::to_owned).collect()
}

#[test]
fn completion_offers_commands_their_options_and_files() {
    let session =
        ["--once", "--config", "--allow-private-namespace", "--help", "--version"].as_slice();
    let commands = ["check", "register", "unregister", "status", "unmount", "tunnel"].as_slice();
    assert_eq!(offered(&["efs-agent", ""]), [commands, session].concat());
    assert_eq!(offered(&["efs-agent", "--"]), session);
    assert_eq!(offered(&["efs-agent", "un"]), ["unregister", "unmount"]);
    assert_eq!(offered(&["efs-agent", "x"]), [""; 0]);
    // No command comes behind an option.
    assert_eq!(offered(&["efs-agent", "--once", ""]), session);
    let of = |command| offered(&["efs-agent", command, "--"]);
    assert_eq!(of("check"), ["--json", "--config", "--help"]);
    assert_eq!(of("status"), ["--json", "--config", "--help"]);
    assert_eq!(of("unmount"), ["--terminate", "--config", "--help"]);
    assert_eq!(of("tunnel"), ["--config", "--all", "--help"]);
    assert_eq!(of("unregister"), ["--dry-run", "--file", "--help"]);
    let register =
        ["--dry-run", "--no-termination", "--shim", "--replace", "--config", "--file", "--help"];
    assert_eq!(of("register"), register);
    assert_eq!(of("frobnicate"), [""; 0]);
    assert_eq!(offered(&["efs-agent", "register", "--dry-run", "--s"]), ["--shim"]);

    let files = ["config.example.toml"];
    assert_eq!(offered(&["efs-agent", "--config", "config.e"]), files);
    assert_eq!(offered(&["efs-agent", "check", "--config", "config.e"]), files);
    assert_eq!(offered(&["efs-agent", "register", "--file", "config.e"]), files);
    // With "=", which bash makes a word of its own unless it is told not to.
    assert_eq!(offered(&["efs-agent", "--config", "=", "config.e"]), files);
    let whole = offered(&["efs-agent", "status", "--config=config.e"]);
    assert_eq!(whole, ["--config=config.example.toml"]);
    assert!(offered(&["efs-agent", "--config", "="]).contains(&"config.example.toml".to_owned()));
    assert_eq!(offered(&["efs-agent", "--config", "/etc/hosts", "--o"]), ["--once"]);
    assert_eq!(offered(&["efs-agent", "--config", "none of that name"]), [""; 0]);
}
