//! The whole program as a process, for all that needs no mount: the command line, the config file,
//! exit codes and the exact words. Needs root, like the program.

#![allow(clippy::unwrap_used)] // a test file that clippy does not know as one

mod common;

use common::{agent, copy, ended, folder};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

fn run(args: &[&str]) -> (i32, String) {
    ended(agent().args(args).output().unwrap())
}

/// The text of a stamped line.
fn text(line: &str) -> &str {
    assert!(humantime::parse_rfc3339(&line[..24]).is_ok(), "{line}");
    &line[25..]
}

#[test]
fn version_and_help_go_to_standard_output_with_exit_0() {
    assert_eq!(run(&["--version"]), (0, format!("efs-agent {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, help) = run(&["--help"]);
    assert_eq!(code, 0);
    for word in [
        "--once",
        "--config PATH",
        "--allow-private-namespace",
        "  register ",
        "  unregister ",
        "Exit codes: 0 all required",
    ] {
        assert!(help.contains(word), "{word} is not in the help");
    }
    assert!(help.lines().all(|line| line.len() <= 80), "help fits a terminal");
}

#[test]
fn each_command_has_a_manual_page_that_fits_a_terminal() {
    for command in ["check", "register", "unregister", "status", "unmount", "tunnel"] {
        let (code, help) = run(&[command, "--help"]);
        assert_eq!(code, 0, "{command}");
        assert!(help.starts_with(&format!("NAME\n    efs-agent {command} - ")), "{help}");
        for heading in ["SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT CODES", "SEE ALSO"] {
            assert!(help.contains(&format!("\n\n{heading}\n    ")), "{command}: {heading}");
        }
        assert!(help.lines().all(|line| line.len() <= 80), "{command} fits a terminal");
        assert!(run(&["--help"]).1.contains(&format!("\n  {command} ")), "{command} is not listed");
        let (code, out) = run(&[command, "--frobnicate"]);
        let said = format!(
            "error   unknown option '--frobnicate'; try 'efs-agent {command} --help' (exit 64)\n"
        );
        assert_eq!((code, text(&out)), (64, said.as_str()));
    }
}

#[test]
fn an_unknown_flag_is_one_line_and_exit_64() {
    let (code, out) = run(&["--frobnicate"]);
    assert_eq!(code, 64);
    assert_eq!(
        text(&out),
        "error   unknown option '--frobnicate'; try 'efs-agent --help' (exit 64)\n"
    );
}

#[test]
fn a_config_error_is_one_line_with_its_place_and_exit_78() {
    let folder = folder();
    let path = folder.path().join("c.toml");
    fs::write(&path, "[[share]]\nendpiont = \"fs-1.example\"\n").unwrap();
    let path = path.to_str().unwrap();
    let (code, out) = run(&["--config", path]);
    assert_eq!(code, 78);
    assert_eq!(
        text(&out),
        format!(
            "error   {path}:2:1: unknown key \"endpiont\" in [[share]]; did you mean \"endpoint\"? (exit 78)\n"
        )
    );
    let (code, out) = run(&["--once", "--config", path]);
    assert_eq!(code, 78);
    assert!(out.starts_with(&format!("error: {path}:2:1: unknown key")), "{out}");
}

#[test]
fn check_tells_the_cure_of_each_fault_in_the_config_and_what_it_did_not_try() {
    let folder = folder();
    let path = folder.path().join("c.toml");
    let check = || {
        let (code, out) = run(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(code, 1);
        out
    };
    let at = path.display();
    let skipped =
        |link: &str| format!("\nskipped  {link:<13} not tried, because of the FAULT above (");
    for (text, mode, what, cure) in [
        (
            None,
            0o644,
            format!("config file {at} does not exist ("),
            "write it, or give --config".into(),
        ),
        (
            Some("x = 1\n"),
            0o644,
            format!("{at}:1:1: unknown key \"x\""),
            "correct that line; ".into(),
        ),
        (
            Some("deadlin = 1\n"),
            0o644,
            format!("{at}:1:1: unknown key \"deadlin\" in the top level ("),
            "write deadline there, if that is meant\n".into(),
        ),
        (
            Some("deadline = 5\n"),
            0o644,
            format!("{at}:1:12: deadline must be a span of time in quotes, not the integer 5 ("),
            "write deadline = \"5s\"\n".into(),
        ),
        (
            Some("x"),
            0o666,
            format!(
                "{at} has mode 0666: the config file and its folders must belong to root and be writable by nobody else ("
            ),
            format!("chmod go-w {at}\n"),
        ),
    ] {
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let out = check();
        assert!(out.starts_with(&format!("FAULT    config        {what}")), "{out}");
        let second = out.lines().nth(1).unwrap().to_owned() + "\n";
        assert!(second.starts_with(&format!("           to mend it: {cure}")), "{out}");
        assert!(out.contains(&skipped("shares")), "{out}");
        // What is registered does not hang on it.
        assert!(!out.contains(&skipped("AppStream")) && out.contains(" AppStream "), "{out}");
    }
    let (_, json) = run(&["check", "--json", "--config", path.to_str().unwrap()]);
    let shares = "{\"link\": \"shares\", \"share\": null, \"state\": \"skipped\"";
    assert!(json.contains(shares), "{json}");
}

#[test]
fn check_names_the_shares_that_it_did_not_try() {
    use std::os::unix::process::CommandExt;
    let folder = folder();
    let copy = copy(&folder);
    fs::write(folder.path().join("c.toml"), "[[share]]\nendpoint = \"fs-1.example\"\n").unwrap();
    let mut command = Command::new(&copy);
    command.arg("check").arg("--config").arg(folder.path().join("c.toml"));
    let (code, out) = ended(command.uid(65534).gid(65534).env_clear().output().unwrap());
    assert_eq!(code, 1);
    assert!(out.contains("\nFAULT    privileges    not root ("), "{out}");
    let line = "\nskipped  mount point   /mnt/efs_share: not tried, because of the FAULT above (";
    assert!(out.contains(line), "{out}");
    if !Path::new("/opt/appstream/SessionScripts").exists() {
        let cure = "on an AppStream image: sudo efs-agent register; on another machine: sudo \
                    systemctl enable efs-agent.service\n";
        assert!(out.contains(&format!("\n           to mend it: {cure}")), "{out}");
    }
}

#[test]
fn a_config_path_may_be_relative() {
    let folder = folder();
    fs::write(folder.path().join("c.toml"), "x").unwrap();
    let output = agent().current_dir(&folder).args(["--config", "c.toml"]).output().unwrap();
    let (code, out) = ended(output);
    assert_eq!(code, 78);
    assert!(out.contains(&format!("{}/c.toml:1:", folder.path().display())), "{out}");
}

#[test]
fn a_config_that_others_can_change_is_exit_77_with_the_command_that_mends_it() {
    let folder = folder();
    let path = folder.path().join("c.toml");
    fs::write(&path, "secret words").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o646)).unwrap();
    let (code, out) = run(&["--config", path.to_str().unwrap()]);
    assert_eq!(code, 77);
    assert!(out.contains("has mode 0646: "), "{out}");
    assert!(out.contains(&format!("(chmod go-w {}) (exit 77)\n", path.display())), "{out}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    chown(folder.path(), Some(4242), None).unwrap();
    let (code, out) = run(&["--config", path.to_str().unwrap()]);
    assert_eq!(code, 77);
    assert!(out.contains("belongs to user 4242: "), "{out}");
    assert!(!out.contains("secret"), "nothing of it is read");
}

#[test]
fn the_config_beside_the_executable_is_found_first() {
    let folder = folder();
    let copy = copy(&folder);
    fs::write(folder.path().join("efs-agent.toml"), "beside = 1\n").unwrap();
    let (code, out) = ended(Command::new(&copy).env_clear().output().unwrap());
    assert_eq!(code, 78);
    assert!(out.contains("efs-agent.toml:1:1: unknown key \"beside\""), "{out}");
}

#[test]
fn without_root_it_says_so_and_exits_77() {
    let folder = folder();
    let copy = copy(&folder);
    use std::os::unix::process::CommandExt;
    let output = Command::new(&copy).uid(65534).gid(65534).env_clear().output().unwrap();
    let (code, out) = ended(output);
    assert_eq!(code, 77);
    assert_eq!(text(&out), "error   only root can mount: use sudo (exit 77)\n");
}

#[test]
fn the_environment_changes_nothing() {
    let hostile =
        ["LD_PRELOAD", "TMPDIR", "HOME", "RES_OPTIONS", "LOCALDOMAIN", "RUST_LOG", "NOTIFY_SOCKET"];
    let plain = run(&["--config", "/none"]);
    let output =
        agent().args(["--config", "/none"]).envs(hostile.map(|k| (k, "/dev/null"))).output();
    let (code, out) = ended(output.unwrap());
    assert_eq!((code, text(&out)), (plain.0, text(&plain.1)));
}
