//! `register` and `unregister` as a process: exact words and exit codes, and a config.json that is
//! whole whatever happens. Needs root, like the program.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test file that clippy does not know as one

mod common;

use common::{copy, ended, folder};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An AppStream machine: the program with a config beside it, and a folder of session scripts.
struct Machine {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let folder = folder();
        let program = copy(&folder);
        fs::create_dir(folder.path().join("scripts")).unwrap();
        mode(&folder.path().join("scripts"), 0o755);
        let machine = Self { folder, program };
        machine.configure("deadline = \"25s\"");
        machine
    }

    /// One with AppStream's own config.json.
    fn fresh() -> Self {
        let machine = Self::new();
        fs::write(machine.file(), fresh()).unwrap();
        machine
    }

    fn configure(&self, head: &str) {
        let text = format!("{head}\n[[share]]\nendpoint = \"fs-1.example\"\n");
        fs::write(self.path("efs-agent.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("scripts/config.json")
    }

    fn shim(&self) -> PathBuf {
        self.path("scripts/efs-agent.sh")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().current_dir("/").args(args).arg("--file").arg(self.file());
        command
    }

    fn run(&self, args: &[&str]) -> (i32, String) {
        ended(self.command(args).output().unwrap())
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    /// `text` with `FILE` and `PROGRAM` for what they are here.
    fn say(&self, text: &str) -> String {
        text.replace("FILE", self.file().to_str().unwrap())
            .replace("PROGRAM", self.program.to_str().unwrap())
            .replace("FOLDER", self.path("scripts").to_str().unwrap())
    }

    /// What is in the folder of session scripts, and nothing else.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("scripts")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// AppStream's own config.json, as its documentation shows it.
fn fresh() -> String {
    let entry = |context: &str| {
        format!(
            "      {{\n        \"context\": \"{context}\",\n        \"filename\": \"\",\n        \
             \"arguments\": \"\",\n        \"s3LogEnabled\": true\n      }}"
        )
    };
    let event = |name: &str| {
        format!(
            "  \"{name}\": {{\n    \"executables\": [\n{},\n{}\n    ],\n    \"waitingTime\": 30\n  }}",
            entry("system"),
            entry("user")
        )
    };
    format!("{{\n{},\n{}\n}}\n", event("SessionStart"), event("SessionTermination"))
}

/// The same with `start` and `end` registered.
fn registered(start: &str, end: &str) -> String {
    let fresh = fresh();
    let (first, second) = fresh.split_at(fresh.find("  \"SessionTermination\"").unwrap());
    let name = |text: &str, filename: &str| {
        text.replacen("\"filename\": \"\"", &format!("\"filename\": \"{filename}\""), 1)
    };
    let second = match end {
        "" => second.to_owned(),
        end => name(second, end).replacen("\"arguments\": \"\"", "\"arguments\": \"unmount\"", 1),
    };
    name(first, start) + &second
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const REGISTERED: &str = "registered PROGRAM as the system-context SessionStart executable in FILE\n\
                          registered PROGRAM unmount as the system-context SessionTermination executable in FILE\n";

#[test]
fn registering_fills_the_empty_entries_and_unregistering_empties_them() {
    let machine = Machine::fresh();
    let program = machine.program.to_str().unwrap();
    assert_eq!(machine.run(&["register"]), (0, machine.say(REGISTERED)));
    assert_eq!(machine.text(), registered(program, program));
    let before = fs::metadata(machine.file()).unwrap();
    let unchanged = machine.say("unchanged: PROGRAM is registered in FILE already\n");
    assert_eq!(machine.run(&["register"]), (0, unchanged));
    let after = fs::metadata(machine.file()).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    let out = "unregistered PROGRAM: it is no longer the system-context SessionStart executable in FILE\n\
               unregistered PROGRAM unmount: it is no longer the system-context SessionTermination executable in FILE\n";
    assert_eq!(machine.run(&["unregister"]), (0, machine.say(out)));
    assert_eq!(machine.text(), fresh());
    let unchanged = machine.say("unchanged: efs-agent is not registered in FILE\n");
    assert_eq!(machine.run(&["unregister"]), (0, unchanged));
    assert_eq!(machine.names(), ["config.json"]);
}

#[test]
fn without_termination_session_start_alone_is_registered() {
    let machine = Machine::fresh();
    let program = machine.program.to_str().unwrap();
    let (code, out) = machine.run(&["register", "--no-termination"]);
    let first = machine.say(REGISTERED.split_inclusive('\n').next().unwrap());
    assert_eq!((code, out), (0, first));
    assert_eq!(machine.text(), registered(program, ""));
}

#[test]
fn a_config_json_that_is_not_there_is_made_and_one_without_a_folder_is_refused() {
    let machine = Machine::new();
    let program = machine.program.to_str().unwrap();
    let none = machine.say("unchanged: FILE does not exist\n");
    assert_eq!(machine.run(&["unregister"]), (0, none.clone()));
    // Whatever the umask says.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "umask 077; exec \"$0\" register --file \"$1\"", program])
        .arg(machine.file());
    let made = machine.say("made FILE, which was not there\n") + &machine.say(REGISTERED);
    assert_eq!(ended(shell.output().unwrap()), (0, made));
    assert_eq!(machine.text(), registered(program, program));
    let made = fs::metadata(machine.file()).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (0, 0, 0o644));

    fs::remove_dir_all(machine.path("scripts")).unwrap();
    let refused = "error: FILE cannot be made: FOLDER does not exist. Is this an AppStream image? \
                   (--file names another config.json) (exit 74)\n";
    assert_eq!(machine.run(&["register"]), (74, machine.say(refused)));
    assert_eq!(machine.run(&["unregister"]), (0, none));
    assert!(!machine.path("scripts").exists());
}

#[test]
fn somebody_elses_entry_is_left_alone_unless_it_is_to_be_replaced() {
    let machine = Machine::new();
    let old = registered("/opt/other.sh", "");
    fs::write(machine.file(), &old).unwrap();
    let refused = "error: FILE:6:21: the system-context SessionStart executable is /opt/other.sh, which \
                   is not efs-agent; nothing was changed (--replace puts efs-agent in its place, or have \
                   that script start PROGRAM) (exit 73)\n";
    assert_eq!(machine.run(&["register"]), (73, machine.say(refused)));
    assert_eq!(machine.text(), old);
    let (code, out) = machine.run(&["register", "--replace"]);
    let program = machine.program.to_str().unwrap();
    let replaced = "registered PROGRAM as the system-context SessionStart executable in FILE, in place of \
                    { \"context\": \"system\", \"filename\": \"/opt/other.sh\", \"arguments\": \"\", \
                    \"s3LogEnabled\": true }\n";
    assert!(out.starts_with(&machine.say(replaced)), "{out}");
    assert_eq!((code, machine.text()), (0, registered(program, program)));
}

#[test]
fn what_is_changed_in_an_entry_of_ours_is_said_and_would_be_said_in_a_dry_run() {
    let machine = Machine::fresh();
    machine.run(&["register"]);
    let good = machine.text();
    let said = |what: &str, was: &str| {
        format!("{what} of the system-context SessionStart entry set to {was}\n")
    };
    for (old, new, what) in [
        (
            "\"s3LogEnabled\": true",
            "\"s3LogEnabled\": null",
            said("s3LogEnabled", "true, it was null"),
        ),
        ("\"arguments\": \"\"", "\"arguments\": null", said("arguments", "\"\", it was null")),
        ("\"arguments\": \"\",", "", said("arguments", "\"\", there was none")),
    ] {
        fs::write(machine.file(), good.replacen(old, new, 1)).unwrap();
        let (code, out) = machine.run(&["register", "--dry-run"]);
        assert_eq!(code, 0);
        assert!(out.contains(&format!("would say: {what}")), "{out}");
        assert_eq!(machine.run(&["register"]), (0, what.clone()));
    }
}

#[test]
fn what_is_no_config_json_is_refused_with_its_place_and_left_as_it_is() {
    let machine = Machine::new();
    let big = format!("{{\"a\": \"{}\"}}", "x".repeat(1 << 20));
    let cases: [(&[u8], &str); 6] = [
        (b"", "FILE:1:1: the file ends here, where a value should be"),
        (b"{\n  \"SessionStart\": {},\n}\n", "FILE:3:1: a comma too many before this '}'"),
        (
            b"{\"SessionStart\": {}, \"sessionstart\": {}}",
            "FILE:1:22: \"sessionstart\" is the same key as \"SessionStart\" in line 1, column 2: take one of them out",
        ),
        (b"{\"\xff\": 1}", "FILE:1:3: not UTF-8: save the file as UTF-8"),
        (big.as_bytes(), "FILE is over 1 MiB: that is no config file"),
        (&[b'['; 100_000], "FILE:1:129: nested more than 128 deep"),
    ];
    for (old, what) in cases {
        fs::write(machine.file(), old).unwrap();
        let refused = machine.say(&format!("error: {what}; nothing was changed (exit 65)\n"));
        assert_eq!(machine.run(&["register"]), (65, refused.clone()));
        assert_eq!(machine.run(&["unregister"]), (65, refused.clone()));
        assert_eq!(machine.run(&["register", "--dry-run"]), (65, refused));
        assert_eq!(fs::read(machine.file()).unwrap(), old);
    }
    fs::remove_file(machine.file()).unwrap();
    let victim = machine.path("victim");
    fs::write(&victim, fresh()).unwrap();
    symlink(&victim, machine.file()).unwrap();
    let refused = "error: FILE is a symlink: put the file itself in its place; nothing was changed (exit 65)\n";
    assert_eq!(machine.run(&["register"]), (65, machine.say(refused)));
    assert_eq!(fs::read_to_string(&victim).unwrap(), fresh());
    fs::remove_file(machine.file()).unwrap();
    let not_regular =
        machine.say("error: FILE is not a regular file; nothing was changed (exit 65)\n");
    nix::unistd::mkfifo(&machine.file(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(machine.run(&["register"]), (65, not_regular.clone()));
    fs::remove_file(machine.file()).unwrap();
    fs::create_dir(machine.file()).unwrap();
    assert_eq!(machine.run(&["register"]), (65, not_regular));
    assert_eq!(machine.names(), ["config.json"]);
}

#[test]
fn what_others_can_change_is_refused() {
    let machine = Machine::fresh();
    let rule = "FILE says what runs as root, so it and its folders must belong to root and be writable by nobody else";
    let refused = |what: &str, mend: &str| {
        let expected = format!("error: {what}: {rule} ({mend}); nothing was changed (exit 77)\n");
        assert_eq!(machine.run(&["register"]), (77, machine.say(&expected)));
        assert_eq!(machine.run(&["unregister"]), (77, machine.say(&expected)));
        assert_eq!(machine.text(), fresh());
    };
    mode(&machine.file(), 0o664);
    refused("FILE has mode 0664", "chmod go-w FILE");
    mode(&machine.file(), 0o644);
    chown(machine.file(), Some(4242), None).unwrap();
    refused("FILE belongs to user 4242", "chown root:root FILE");
    chown(machine.file(), Some(0), None).unwrap();
    mode(&machine.path("scripts"), 0o1777);
    refused("FOLDER has mode 1777", "choose a --file that is not below FOLDER");
    mode(&machine.path("scripts"), 0o755);
    chown(machine.path("scripts"), Some(4242), None).unwrap();
    refused("FOLDER belongs to user 4242", "choose a --file that is not below FOLDER");
    chown(machine.path("scripts"), Some(0), None).unwrap();
    assert_eq!(machine.run(&["register"]).0, 0);
}

#[test]
fn an_executable_that_others_can_change_is_not_registered() {
    let machine = Machine::fresh();
    let rule = "PROGRAM is to be run as root again, so it and its folders must belong to root and be writable by nobody else";
    let refused = |what: &str, cure: &str| {
        let expected = format!("error: {what}: {rule}; {cure} (exit 77)\n");
        assert_eq!(machine.run(&["register"]), (77, machine.say(&expected)));
        assert_eq!(machine.text(), fresh());
    };
    mode(&machine.program, 0o775);
    refused("PROGRAM has mode 0775", "chmod go-w PROGRAM");
    mode(&machine.program, 0o755);
    chown(&machine.program, Some(4242), None).unwrap();
    refused("PROGRAM belongs to user 4242", "chown root:root PROGRAM");
    chown(&machine.program, Some(0), None).unwrap();
    fs::create_dir(machine.path("open")).unwrap();
    mode(&machine.path("open"), 0o777);
    let moved = Machine { program: machine.path("open/efs-agent"), folder: machine.folder };
    fs::rename(&machine.program, &moved.program).unwrap();
    let (code, out) = moved.run(&["register"]);
    let expected = format!(
        "error: {} has mode 0777: {rule}; put it where root alone can write (sudo install -m 0755 \
         efs-agent /usr/sbin/efs-agent) and run it from there (exit 77)\n",
        moved.path("open").display()
    );
    assert_eq!((code, out), (77, moved.say(&expected)));
    assert_eq!(moved.text(), fresh());
    // Taking out needs no trust in who does it: root runs it already.
    assert_eq!(moved.run(&["unregister"]).0, 0);
}

#[test]
fn an_executable_that_has_been_removed_meanwhile_is_not_registered() {
    let machine = Machine::fresh();
    let mut shell = Command::new("sh");
    let script = "exec 9<\"$0\"; rm \"$0\"; exec /proc/self/fd/9 register --file \"$1\"";
    shell.args(["-c", script]).arg(&machine.program).arg(machine.file());
    let (code, out) = ended(shell.output().unwrap());
    let expected = "error: this executable, PROGRAM (deleted), is no longer there; ";
    assert!(code == 77 && out.starts_with(&machine.say(expected)), "{out}");
    assert_eq!(machine.text(), fresh());
}

#[test]
fn owner_and_mode_of_the_file_are_kept() {
    let machine = Machine::fresh();
    chown(machine.file(), None, Some(4242)).unwrap();
    mode(&machine.file(), 0o640);
    assert_eq!(machine.run(&["register"]).0, 0);
    let now = fs::metadata(machine.file()).unwrap();
    assert_eq!((now.uid(), now.gid(), now.mode() & 0o7777), (0, 4242, 0o640));
}

#[test]
fn waiting_time_fits_the_deadline_of_the_config_that_a_session_start_would_use() {
    let machine = Machine::fresh();
    machine.configure("deadline = \"40s\"");
    let (code, out) = machine.run(&["register"]);
    assert_eq!(code, 0);
    let raised =
        "waitingTime of SessionStart raised from 30 to 45: deadline 40s must end 2 s before it";
    assert_eq!(out.lines().filter(|line| *line == raised).count(), 1, "{out}");
    assert_eq!(out.lines().count(), 3, "20 s of an unmount fit: {out}");
    assert!(machine.text().contains("\"waitingTime\": 45"));

    let before = machine.text();
    machine.configure("deadline = \"59s\"");
    let never = "error: deadline 59s can never fit: AppStream waits for SessionStart at most 60 s \
                 (waitingTime), and the run must end 2 s before that; make deadline 58s or less in the \
                 config of efs-agent (exit 78)\n";
    assert_eq!(machine.run(&["register"]), (78, never.to_owned()));
    machine.configure("deadlin = \"25s\"");
    let (code, out) = machine.run(&["register"]);
    assert!(code == 78 && out.contains("efs-agent.toml:1:1: unknown key \"deadlin\""), "{out}");
    assert_eq!(machine.text(), before);
    assert_eq!(machine.run(&["unregister"]).0, 0, "which needs no config");
}

#[test]
fn without_a_config_the_default_deadline_is_taken_and_said() {
    let installed = Path::new("/etc/efs-agent/config.toml");
    assert!(!installed.exists(), "this test cannot tell where {} is there", installed.display());
    let machine = Machine::fresh();
    fs::remove_file(machine.path("efs-agent.toml")).unwrap();
    let (code, out) = machine.run(&["register"]);
    let said = format!(
        "warning: no config file: looked for {} and /etc/efs-agent/config.toml: until there is one, every session start ends with exit 78; waitingTime is to fit the \
         default deadline, 25s\n",
        machine.path("efs-agent.toml").display()
    );
    assert_eq!((code, out), (0, said + &machine.say(REGISTERED)));
}

#[test]
fn a_config_that_is_named_is_given_to_the_session_start_too() {
    let machine = Machine::fresh();
    let config = machine.path("other.toml");
    fs::write(&config, "deadline = \"50s\"\n[[share]]\nendpoint = \"fs-1.example\"\n").unwrap();
    assert_eq!(machine.run(&["register", "--config", config.to_str().unwrap()]).0, 0);
    let text = machine.text();
    assert!(text.contains(&format!("\"arguments\": \"--config {}\"", config.display())), "{text}");
    assert!(text.contains(&format!("\"arguments\": \"unmount --config {}\"", config.display())));
    assert!(text.contains("\"waitingTime\": 55"), "{text}");
    let odd = machine.path("with blank.toml");
    fs::copy(&config, &odd).unwrap();
    let (code, out) = machine.run(&["register", "--config", odd.to_str().unwrap()]);
    assert_eq!(code, 78);
    assert!(out.contains("cannot be put into AppStream's arguments: choose a short path"), "{out}");
    assert_eq!(machine.text(), text);
}

#[test]
fn a_dry_run_shows_the_lines_that_would_differ_and_changes_nothing() {
    let machine = Machine::fresh();
    let expected = String::from("dry run, nothing is changed; without --dry-run:\n")
        + &REGISTERED.replace("registered ", "would say: registered ")
        + "--- FILE\n+++ FILE\n@@ -4,5 +4,5 @@\n       {\n         \"context\": \"system\",\n\
           -        \"filename\": \"\",\n+        \"filename\": \"PROGRAM\",\n         \
           \"arguments\": \"\",\n         \"s3LogEnabled\": true\n@@ -21,6 +21,6 @@\n       {\n         \
           \"context\": \"system\",\n-        \"filename\": \"\",\n-        \"arguments\": \"\",\n\
           +        \"filename\": \"PROGRAM\",\n+        \"arguments\": \"unmount\",\n         \
           \"s3LogEnabled\": true\n       },\n";
    let expected = machine.say(&expected);
    let before = fs::metadata(machine.file()).unwrap();
    assert_eq!(machine.run(&["register", "--dry-run"]), (0, expected.clone()));
    // No root is needed to look.
    let mut nobody = machine.command(&["register", "--dry-run"]);
    assert_eq!(ended(nobody.uid(65534).gid(65534).output().unwrap()), (0, expected));
    let after = fs::metadata(machine.file()).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    assert_eq!(machine.names(), ["config.json"]);
    assert_eq!(machine.run(&["register", "--dry-run", "--shim"]).0, 0);
    assert_eq!(machine.names(), ["config.json"]);
    for command in ["register", "unregister"] {
        let mut nobody = machine.command(&[command]);
        let refused = format!(
            "error: only root can {command}: use sudo, or look on with --dry-run (exit 77)\n"
        );
        assert_eq!(ended(nobody.uid(65534).gid(65534).output().unwrap()), (77, refused));
    }
    assert_eq!(machine.run(&["register"]).0, 0);
    let unchanged = machine.say("unchanged: PROGRAM is registered in FILE already\n");
    assert_eq!(machine.run(&["register", "--dry-run"]), (0, unchanged));
}

#[test]
fn the_shim_starts_the_program_and_goes_with_it() {
    let machine = Machine::fresh();
    let shim = machine.shim().to_str().unwrap().to_owned();
    let (code, out) = machine.run(&["register", "--shim"]);
    let expected = REGISTERED.replace("PROGRAM", &shim)
        + &format!("wrote {shim}, a script that starts PROGRAM\n");
    assert_eq!((code, out), (0, machine.say(&expected)));
    assert_eq!(machine.text(), registered(&shim, &shim));
    let script = machine.say("#!/bin/sh\nexec PROGRAM \"$@\"\n");
    assert_eq!(fs::read_to_string(&shim).unwrap(), script);
    assert_eq!(fs::metadata(&shim).unwrap().mode() & 0o7777, 0o755);
    let started = Command::new(&shim).args(["--version"]).output().unwrap();
    assert_eq!(ended(started), (0, format!("efs-agent {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, out) = machine.run(&["register", "--shim"]);
    assert_eq!(
        (code, out),
        (0, format!("unchanged: {shim} is registered in {} already\n", machine.file().display()))
    );
    // Lost run bits are mended, and so is a script that starts an earlier program.
    mode(&machine.shim(), 0o644);
    let wrote = machine.say(&format!("wrote {shim}, a script that starts PROGRAM\n"));
    assert_eq!(machine.run(&["register", "--shim"]), (0, wrote.clone()));
    assert_eq!(fs::metadata(&shim).unwrap().mode() & 0o7777, 0o755);
    fs::write(&shim, "#!/bin/sh\nexec /old/efs-agent \"$@\"\n").unwrap();
    assert_eq!(machine.run(&["register", "--shim"]), (0, wrote));
    assert_eq!(fs::read_to_string(&shim).unwrap(), script);
    // It goes when it is no longer registered.
    let (code, out) = machine.run(&["register"]);
    assert!(
        code == 0 && out.ends_with(&format!("removed {shim}, which started efs-agent\n")),
        "{out}"
    );
    assert_eq!(machine.names(), ["config.json"]);
    assert_eq!(machine.run(&["register", "--shim"]).0, 0);
    assert_eq!(machine.run(&["unregister"]).0, 0);
    assert_eq!((machine.names(), machine.text()), (vec!["config.json".into()], fresh()));
}

#[test]
fn a_script_of_somebody_elses_in_the_place_of_the_shim_is_left_alone() {
    let machine = Machine::fresh();
    let theirs = "#!/bin/sh\necho theirs\nexec efs-agent \"$@\"\n";
    fs::write(machine.shim(), theirs).unwrap();
    let refused = "error: FOLDER/efs-agent.sh is somebody else's: move it away, or register without \
                   --shim; nothing was changed (exit 73)\n";
    assert_eq!(machine.run(&["register", "--shim"]), (73, machine.say(refused)));
    assert_eq!(machine.text(), fresh());
    assert_eq!(machine.run(&["register"]).0, 0);
    assert_eq!(machine.run(&["unregister"]).0, 0);
    assert_eq!(fs::read_to_string(machine.shim()).unwrap(), theirs);
    fs::remove_file(machine.shim()).unwrap();
    let victim = machine.path("victim");
    fs::write(&victim, "#!/bin/sh\nexec x \"$@\"\n").unwrap();
    symlink(&victim, machine.shim()).unwrap();
    assert_eq!(machine.run(&["register", "--shim"]).0, 65);
    assert_eq!(machine.run(&["unregister"]).0, 0);
    assert!(victim.exists() && machine.shim().is_symlink());
}

#[test]
fn a_path_with_blanks_and_quotes_is_quoted_in_the_script() {
    let machine = Machine::fresh();
    let odd = machine.path("it's a $(folder)");
    fs::create_dir(&odd).unwrap();
    mode(&odd, 0o755);
    fs::rename(&machine.program, odd.join("efs-agent")).unwrap();
    let machine = Machine { program: odd.join("efs-agent"), folder: machine.folder };
    fs::rename(machine.path("efs-agent.toml"), odd.join("efs-agent.toml")).unwrap();
    assert_eq!(machine.run(&["register", "--shim"]).0, 0);
    let started = Command::new(machine.shim()).args(["--version", "x y"]).output().unwrap();
    assert_eq!(ended(started).0, 0);
    assert_eq!(machine.run(&["unregister"]).0, 0);
    assert_eq!(machine.names(), ["config.json"]);
}

#[test]
fn a_full_disk_leaves_the_old_file_whole() {
    let machine = Machine::fresh();
    for (args, what) in [("register", "config.json"), ("register --shim", "efs-agent.sh")] {
        for blocks in [0, 1] {
            let mut shell = Command::new("sh");
            let script = format!("ulimit -f {blocks}; exec \"$0\" {args} --file \"$1\"");
            shell.args(["-c", &script]).arg(&machine.program).arg(machine.file());
            let (code, out) = ended(shell.output().unwrap());
            // A block of 512 bytes holds the script, but not the file.
            let what = if blocks == 0 { what } else { "config.json" };
            let expected = format!(
                "error: {} cannot be written and is as it was: write: File too large (EFBIG) (exit 74)\n",
                machine.path("scripts").join(what).display()
            );
            assert_eq!((code, out), (74, expected));
            assert_eq!(machine.text(), fresh());
            assert_eq!(machine.names(), ["config.json"]);
        }
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_a_clear_error() {
    let machine = Machine::fresh();
    // Read-only for this process alone.
    let mut shell = Command::new("unshare");
    let script = "mount --bind \"$2\" \"$2\" && mount -o remount,bind,ro \"$2\" && exec \"$0\" register --file \"$1\"";
    shell.args(["-m", "sh", "-c", script]).arg(&machine.program).arg(machine.file());
    shell.arg(machine.path("scripts"));
    let (code, out) = ended(shell.output().unwrap());
    let expected = "error: FILE cannot be written and is as it was: create: Read-only file system (EROFS) (exit 74)\n";
    assert_eq!((code, out), (74, machine.say(expected)));
    assert_eq!(machine.text(), fresh());
}

/// A process that waits to be told to go on before it becomes `command`, traced by this thread.
fn traced(command: &Command) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(command.get_program());
    let child = shell.args(command.get_args()).stdout(Stdio::null()).spawn().unwrap();
    let pid = pid_of(&child);
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    ptrace::attach(pid).unwrap();
    waitpid(pid, None).unwrap();
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_TRACEEXEC;
    ptrace::setoptions(pid, options).unwrap();
    child
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// Runs `command` to the `stop`th of the stops before and behind its system calls, and kills it
/// there; `false` if it had ended before.
fn killed_at(command: &Command, stop: usize) -> bool {
    let mut child = traced(command);
    let pid = pid_of(&child);
    let (mut stops, mut running, mut signal) = (0, false, None);
    let reached = loop {
        ptrace::syscall(pid, signal.take()).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::PtraceEvent(..) => running = true,
            WaitStatus::PtraceSyscall(_) if running => {
                stops += 1;
                if stops == stop {
                    break true;
                }
            }
            WaitStatus::Stopped(_, Signal::SIGSTOP) | WaitStatus::PtraceSyscall(_) => {}
            WaitStatus::Stopped(_, other) => signal = Some(other),
            WaitStatus::Exited(_, code) => {
                assert_eq!(code, 0);
                break false;
            }
            other => panic!("{other:?}"),
        }
    };
    if reached {
        child.kill().unwrap();
    }
    let signal = child.wait().ok().and_then(|status| status.signal());
    assert_eq!(signal, reached.then_some(Signal::SIGKILL as i32));
    reached
}

#[test]
fn killed_between_any_two_system_calls_it_leaves_the_old_file_or_the_new_one() {
    let machine = Machine::fresh();
    let shim = machine.shim().to_str().unwrap().to_owned();
    let (old, new) = (fresh(), registered(&shim, &shim));
    let script = machine.say("#!/bin/sh\nexec PROGRAM \"$@\"\n");
    let (mut left_old, mut left_new, mut left_over) = (0, 0, 0);
    let mut forward = 1;
    while killed_at(&machine.command(&["register", "--shim"]), forward) {
        let text = machine.text();
        assert!(text == old || text == new, "at stop {forward}: {text}");
        let there = fs::read_to_string(&shim).ok();
        assert!(
            there.is_none() || there.as_deref() == Some(&script),
            "at stop {forward}: {there:?}"
        );
        assert!(text == old || there.is_some(), "at stop {forward}: no script, but registered");
        *if text == old { &mut left_old } else { &mut left_new } += 1;
        // The next run is not hindered, and clears away what was left.
        if machine.names().len() > 1 + usize::from(there.is_some()) {
            left_over += 1;
            assert_eq!(machine.run(&["register", "--shim"]).0, 0);
            assert_eq!((machine.text(), machine.names().len()), (new.clone(), 2));
        }
        fs::write(machine.file(), &old).unwrap();
        let _ = fs::remove_file(&shim);
        forward += 1;
    }
    // It was killed before, while and after the files were written.
    assert!(left_old > 20 && left_new > 5 && left_over > 5, "{left_old} {left_new} {left_over}");
}

#[test]
fn killed_at_a_hundred_random_instants_it_leaves_the_old_file_or_the_new_one() {
    let machine = Machine::fresh();
    let program = machine.program.to_str().unwrap();
    let (old, new) = (fresh(), registered(program, program));
    let mut seed = u64::from(std::process::id()) | 1;
    for _ in 0..100 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut child = machine.command(&["register"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(seed >> 33 & 0x1fff));
        child.kill().unwrap();
        child.wait().unwrap();
        let text = machine.text();
        assert!(text == old || text == new, "{text}");
        assert_eq!(machine.run(&["unregister"]).0, 0);
        assert_eq!(machine.names(), ["config.json"]);
    }
}

#[test]
fn of_two_at_the_same_time_one_registers_and_the_other_finds_it_done() {
    let machine = Machine::fresh();
    let program = machine.program.to_str().unwrap();
    let new = registered(program, program);
    let unchanged = machine.say("unchanged: PROGRAM is registered in FILE already\n");
    let start = |command: &str| machine.command(&[command]).stdout(Stdio::piped()).spawn().unwrap();
    let end = |child: Child| ended(child.wait_with_output().unwrap());
    for _ in 0..20 {
        let pair = [start("register"), start("register")].map(end);
        let words = [machine.say(REGISTERED), unchanged.clone()];
        assert!(pair.iter().all(|(code, _)| *code == 0), "{pair:?}");
        assert!(words.iter().all(|words| pair.iter().any(|(_, out)| out == words)), "{pair:?}");
        assert_eq!((machine.text(), machine.names().len()), (new.clone(), 1));
        // One of each kind: either may be the last.
        let pair = [start("unregister"), start("register")].map(end);
        assert!(pair.iter().all(|(code, _)| *code == 0), "{pair:?}");
        assert!(machine.text() == new || machine.text() == fresh());
        assert_eq!(machine.run(&["unregister"]).0, 0);
        assert_eq!((machine.text(), machine.names().len()), (fresh(), 1));
    }
}

#[test]
fn a_file_that_is_swapped_for_a_symlink_while_it_runs_never_leads_astray() {
    let machine = Machine::fresh();
    let victim = machine.path("victim");
    fs::write(&victim, fresh()).unwrap();
    let (file, link, good) = (machine.file(), machine.path("link"), machine.path("good"));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                symlink(&victim, &link).unwrap();
                fs::rename(&link, &file).unwrap();
                fs::write(&good, fresh()).unwrap();
                fs::rename(&good, &file).unwrap();
            }
        });
        let mut codes = [0; 256];
        for _ in 0..60 {
            let (code, out) = machine.run(&["register"]);
            codes[usize::try_from(code).unwrap()] += 1;
            // Done, a symlink found, or always somebody in between.
            assert!([0, 65, 75].contains(&code), "{out}");
            assert_eq!(fs::read_to_string(&victim).unwrap(), fresh());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(victim.metadata().unwrap().is_file());
}

#[test]
fn each_command_has_a_help_of_its_own() {
    let machine = Machine::new();
    for command in ["register", "unregister"] {
        let (code, out) = machine.run(&[command, "--help"]);
        assert_eq!(code, 0);
        assert!(out.starts_with(&format!("NAME\n    efs-agent {command} - ")), "{out}");
    }
    let (code, out) = machine.run(&["register", "--frobnicate"]);
    assert_eq!(code, 64);
    assert!(
        out.ends_with("unknown option '--frobnicate'; try 'efs-agent register --help' (exit 64)\n")
    );
}
