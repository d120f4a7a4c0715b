//! Command lines as they are read; and the help texts beside the manual page and the completion.

use super::*;
use std::collections::BTreeSet;

fn parsed(args: &[&str]) -> Result<Command, String> {
    parse(args.iter().map(OsString::from)).map_err(|e| e.to_string())
}

#[test]
fn no_argument_is_a_session_start() {
    assert_eq!(parsed(&[]), Ok(Command::Session(SessionArgs::default())));
}

#[test]
fn options_come_in_any_order_and_form() {
    let expected = SessionArgs { config: Some("/c".into()), once: true, ..Default::default() };
    assert_eq!(parsed(&["--config=/c", "--once"]), Ok(Command::Session(expected.clone())));
    assert_eq!(parsed(&["--once", "--config", "/c"]), Ok(Command::Session(expected)));
    assert_eq!(parsed(&["--once", "-h"]), Ok(Command::Help(HELP)));
    assert_eq!(parsed(&["-V"]), Ok(Command::Version));
}

#[test]
fn what_is_unknown_is_named_in_one_line() {
    let end = "; try 'efs-agent --help'";
    let near = "unknown option '--onec' (did you mean --once?)";
    assert_eq!(parsed(&["--onec"]), Err(format!("{near}{end}")));
    let near = "unknown argument \"chek\" (did you mean check?)";
    assert_eq!(parsed(&["chek"]), Err(format!("{near}{end}")));
    assert_eq!(
        parsed(&["register", "--dry_run"]).unwrap_err(),
        "unknown option '--dry_run' (did you mean --dry-run?); try 'efs-agent register --help'"
    );
    assert_eq!(
        parsed(&["-once"]),
        Err(format!("unknown option '-o' (options have two dashes, as in --help){end}"))
    );
    for (given, ours) in [
        ("once", "--once"),
        ("mount", "--once"),
        ("start", "--once"),
        ("version", "--version"),
        ("-v", "--version"),
        ("--check", "check"),
        ("--unmount", "unmount"),
        ("--umount", "unmount"),
        ("umount", "unmount"),
    ] {
        let told = parsed(&[given]).unwrap_err();
        assert!(told.ends_with(&format!(" (did you mean {ours}?){end}")), "{told}");
    }
    assert_eq!(parsed(&["--config"]), Err(format!("--config needs a path{end}")));
    assert_eq!(parsed(&["--config="]), Err(format!("--config needs a path{end}")));
    assert!(parsed(&["--once=1"]).is_err());
    assert_eq!(parsed(&["a\nb"]).unwrap_err().lines().count(), 1);
}
#[test]
fn a_command_comes_first_and_has_options_of_its_own() {
    let expected = RegisterArgs {
        file: Some("/f".into()),
        shim: true,
        dry_run: true,
        replace: true,
        no_termination: true,
        config: Some("/c".into()),
    };
    let all = [
        "register",
        "--shim",
        "--file=/f",
        "--replace",
        "--config",
        "/c",
        "--dry-run",
        "--no-termination",
    ];
    assert_eq!(parsed(&all), Ok(Command::Register(expected)));
    let expected = UnregisterArgs { file: Some("/f".into()), dry_run: true };
    assert_eq!(
        parsed(&["unregister", "--dry-run", "--file", "/f"]),
        Ok(Command::Unregister(expected))
    );
    assert_eq!(parsed(&["register", "-h"]), Ok(Command::Help(REGISTER)));
    assert_eq!(parsed(&["unregister", "--help"]), Ok(Command::Help(UNREGISTER)));
    let end = "; try 'efs-agent register --help'";
    assert_eq!(parsed(&["register", "--once"]), Err(format!("unknown option '--once'{end}")));
    assert_eq!(parsed(&["register", "--file"]), Err(format!("--file needs a path{end}")));
    assert_eq!(parsed(&["register", "x"]), Err(format!("unknown argument \"x\"{end}")));
    assert_eq!(
        parsed(&["--once", "register"]),
        Err(format!("'register' must come before all options{end}"))
    );
    assert_eq!(
        parsed(&["unregister", "--shim"]),
        Err("unknown option '--shim'; try 'efs-agent unregister --help'".into())
    );
}

#[test]
fn a_tunnel_has_a_mount_point() {
    let expected = TunnelArgs { mount_point: "/mnt/a".into(), config: Some("/c".into()) };
    let all = ["tunnel", "/mnt/a", "--config", "/c"];
    assert_eq!(parsed(&all), Ok(Command::Tunnel(expected)));
    assert_eq!(parsed(&["tunnel", "--help"]), Ok(Command::Help(TUNNEL)));
    let end = "; try 'efs-agent tunnel --help'";
    let needed = format!("'tunnel' needs the mount point of a share{end}");
    assert_eq!(parsed(&["tunnel"]), Err(needed));
    let all = ["tunnel", "--all", "--config", "/c"];
    assert_eq!(parsed(&all), Ok(Command::AllTunnels(Some("/c".into()))));
    let text = format!("--all goes with no mount point{end}");
    assert_eq!(parsed(&["tunnel", "--all", "/mnt/a"]), Err(text));
    assert_eq!(parsed(&["tunnel", "/a", "/b"]), Err(format!("unknown argument \"/b\"{end}")));
}

#[test]
fn every_help_text_fits_a_terminal_and_those_of_commands_have_the_parts_of_a_man_page() {
    for (_, text) in TEXTS {
        let long = text.lines().find(|line| line.chars().count() > 80 || line.ends_with(' '));
        assert_eq!(long, None);
        assert!(text.ends_with('\n') && !text.contains('\t'));
    }
    for (_, text) in TEXTS.into_iter().filter(|(command, _)| !command.is_empty()) {
        let heads: Vec<&str> =
            text.lines().filter(|line| !line.is_empty() && !line.starts_with(' ')).collect();
        let expected =
            ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT CODES", "EXAMPLES", "SEE ALSO"];
        assert_eq!(heads, expected);
    }
}

/// Each command with its text; a session start has no name.
const TEXTS: [(&str, &str); 7] = [
    ("", HELP),
    ("check", CHECK),
    ("register", REGISTER),
    ("unregister", UNREGISTER),
    ("status", STATUS),
    ("unmount", UNMOUNT),
    ("tunnel", TUNNEL),
];

/// The options that lines of a help text begin with: those of the command itself.
fn own(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().map(str::trim_start);
    let flags = lines.flat_map(|l| l.split_whitespace().take_while(|w| w.starts_with("--")));
    flags.map(|flag| flag.trim_end_matches(',')).collect()
}

/// All options that `text` mentions, except systemctl's.
fn named(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.contains("systemctl "));
    let words = lines.flat_map(|l| l.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 2).collect()
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    text.split_once(start).unwrap().1.split(end).next().unwrap()
}

#[test]
fn the_texts_are_of_the_commands_that_the_help_lists() {
    let listed = between(HELP, "\nCommands (", "\n\n").lines().skip(1);
    let listed: Vec<_> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed, TEXTS.map(|(command, _)| command)[1..]);
}

#[test]
fn the_manual_page_has_the_commands_and_options_of_the_help_texts_and_no_other() {
    let page = include_str!("../../packaging/man/efs-agent.8.md");
    let commands = between(page, "\n# COMMANDS\n", "\n# ");
    let sections: Vec<(&str, &str)> = commands
        .split("\n## efs-agent")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap())
        .collect();
    let synopsis = between(page, "\n# SYNOPSIS\n", "\n# ");
    let usages: Vec<&str> = synopsis.split("`efs-agent").skip(1).collect();
    assert_eq!(sections.len(), TEXTS.len());
    for (((command, text), (heading, section)), usage) in TEXTS.iter().zip(sections).zip(usages) {
        assert_eq!(heading.trim(), *command);
        let terms: BTreeSet<_> =
            section.lines().filter(|line| line.starts_with('`')).flat_map(named).collect();
        assert_eq!(terms, own(text), "options of '{command}'");
        assert_eq!(usage.split('`').next().unwrap().trim(), *command);
        let mut used = own(text);
        used.retain(|flag| !["--help", "--version"].contains(flag));
        assert_eq!(named(usage), used, "synopsis of '{command}'");
    }
    let all: BTreeSet<_> = TEXTS.iter().flat_map(|(_, text)| own(text)).collect();
    assert_eq!(named(page), all, "anywhere in the page");
}

#[test]
fn the_completion_has_the_commands_and_options_of_the_help_texts_and_no_other() {
    let script = include_str!("../../packaging/efs-agent.bash");
    let line = |start: &str| {
        let mut lines = script.lines().map(str::trim_start).filter(|l| l.starts_with(start));
        (lines.next().unwrap_or_else(|| panic!("no line with {start}")), lines.next())
    };
    for (command, text) in TEXTS {
        let start = match command {
            "" => "local session=".to_owned(),
            command => format!("{command}) words="),
        };
        let (line, another) = line(&start);
        assert_eq!((named(line), another), (own(text), None), "options of '{command}'");
    }
    let listed = between(line("local commands=").0, "'", "'");
    let commands: BTreeSet<_> = listed.split_whitespace().collect();
    assert_eq!(commands, TEXTS.iter().skip(1).map(|(command, _)| *command).collect());
    let all: BTreeSet<_> = TEXTS.iter().flat_map(|(_, text)| own(text)).collect();
    assert_eq!(named(script), all, "anywhere in the script");
}
