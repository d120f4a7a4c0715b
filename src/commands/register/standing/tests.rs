//! What `check` learns, on a machine in a folder.

use super::*;
use crate::commands::register::{carry_out, start};
use crate::retry::test::VirtualClock;

/// A machine that has the running executable as its /usr/sbin/efs-agent.
fn machine() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/run").unwrap();
    let root = dir.path();
    fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let real = root.join("sbin/efs-agent");
    // The link in /proc names it from the real root.
    let seen = root.join(real.strip_prefix("/").unwrap());
    for folder in ["proc/self", "sbin", "etc/efs-agent", "opt"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::create_dir_all(seen.parent().unwrap()).unwrap();
    fs::write(&real, "").unwrap();
    fs::hard_link(&real, seen).unwrap();
    std::os::unix::fs::symlink(&real, root.join("proc/self/exe")).unwrap();
    fs::write(root.join("etc/efs-agent/config.toml"), "[[share]]\nendpoint = \"fs-1.example\"\n")
        .unwrap();
    dir
}

#[test]
fn check_is_told_how_bad_it_is_that_something_else_is_registered() {
    let dir = machine();
    let root = dir.path();
    let told = || match standing(root, None) {
        RegistrationState::Registered(what) => ("ok", what, String::new()),
        RegistrationState::Different(what, cure) => ("warning", what, cure),
        RegistrationState::Absent(what, cure) => ("absent", what, cure),
        RegistrationState::Wrong(what, cure) => ("fault", what, cure),
        RegistrationState::NoConfig => ("no config", String::new(), String::new()),
    };
    // No AppStream, then AppStream without the folder: register alone would lead back to check.
    assert!(told().2.starts_with("on an AppStream image: sudo efs-agent register"));
    fs::create_dir(root.join("opt/appstream")).unwrap();
    let (state, _, cure) = told();
    assert_eq!(
        (state, cure.as_str()),
        (
            "absent",
            "make it (sudo mkdir -m 0755 /opt/appstream/SessionScripts), then: sudo efs-agent register"
        )
    );
    let log = Log::new(Box::new(std::io::sink()), crate::log::Style::Plain);
    let task = start(root, &RegisterArgs::default(), &log).unwrap();
    let text = carry_out(root, &task, &VirtualClock::default(), &log).unwrap_err().sentence();
    let made = "does not exist: make it (sudo mkdir -m 0755 /opt/appstream/SessionScripts) and run this again";
    assert!(text.ends_with(made), "{text}");
    fs::create_dir(root.join("opt/appstream/SessionScripts")).unwrap();
    assert_eq!(told().2, "sudo efs-agent register");
    carry_out(root, &task, &VirtualClock::default(), &log).unwrap();
    assert_eq!(told().0, "ok");
    let file = root.join("opt/appstream/SessionScripts/config.json");
    let good = fs::read_to_string(&file).unwrap();
    let changed = |old: &str, new: &str| {
        assert!(good.contains(old), "{good}");
        fs::write(&file, good.replacen(old, new, 1)).unwrap();
        told()
    };
    let (state, what, _) = changed("\"s3LogEnabled\": true", "\"s3LogEnabled\": false");
    assert_eq!(state, "warning");
    assert!(what.contains("will not be in the S3 session log"), "{what}");
    // The deadline is 25 s, and a session start must end 2 s before waitingTime.
    for (seconds, wanted) in [("26", "warning"), ("25", "fault"), ("5", "fault")] {
        let (state, what, _) =
            changed("\"waitingTime\": 30", &format!("\"waitingTime\": {seconds}"));
        assert_eq!(state, wanted, "{seconds}: {what}");
    }
    let own = root.join("sbin/efs-agent").display().to_string();
    let script = root.join("opt/their.sh");
    let their = |text: &str| {
        fs::write(&script, text).unwrap();
        told()
    };
    let _ = fs::remove_file(&script);
    let (state, what, cure) = changed(&own, "/opt/their.sh");
    assert_eq!(state, "absent", "{what}");
    assert!(what.ends_with("which is not efs-agent; there is no such file"), "{what}");
    assert!(cure.starts_with("correct that in /opt/appstream"), "{cure}");
    let (state, what, cure) = their("#!/bin/sh\nexit 0\n");
    assert_eq!(state, "absent");
    assert!(what.ends_with("efs-agent is not named in /opt/their.sh"), "{what}");
    assert!(cure.starts_with(&format!("have that program start {own}, or: ")), "{cure}");
    for comment in ["# efs-agent: later\n", "true # efs-agent\n"] {
        assert_eq!(their(comment).0, "absent", "{comment}");
    }
    for (script, wanted) in [("a#b\n/usr/sbin/efs-agent\n", "ok"), ("\x7fELF\0 # efs-agent", "ok")]
    {
        let (state, what, cure) = their(script);
        assert_eq!((state, cure.as_str()), (wanted, ""), "{what}");
        assert!(what.ends_with("it names efs-agent, so it presumably starts it"), "{what}");
        assert!(!what.contains("nothing was changed"), "{what}");
    }
    // The start is killed too early all the same.
    let early = good.replacen(&own, "/opt/their.sh", 1).replacen(": 30", ": 25", 1);
    fs::write(&file, early).unwrap();
    assert_eq!(told().0, "fault");
    for (filename, why) in [
        (format!("{own} --once"), "arguments belong into `arguments`"),
        (format!("{own} "), "its filename has a blank at its end"),
        ("/opt/their.sh -v".into(), "arguments belong into `arguments`"),
        ("/opt/their.sh ".into(), "its filename has a blank at its end"),
    ] {
        let (state, what, _) = changed(&format!("\"{own}\""), &format!("\"{filename}\""));
        assert_eq!(state, "absent", "{what}");
        assert!(what.ends_with(why) && what.matches(why).count() == 1, "{what}");
    }
}

fn registered(root: &Path, args: &RegisterArgs) -> (PathBuf, String) {
    fs::create_dir_all(root.join("opt/appstream/SessionScripts")).unwrap();
    let log = Log::new(Box::new(std::io::sink()), crate::log::Style::Plain);
    let task = start(root, args, &log).unwrap();
    carry_out(root, &task, &VirtualClock::default(), &log).unwrap();
    let file = root.join("opt/appstream/SessionScripts/config.json");
    let text = fs::read_to_string(&file).unwrap();
    (file, text)
}

#[test]
fn only_what_leaves_sessions_without_a_share_is_a_fault_and_its_reason_is_told() {
    let dir = machine();
    let root = dir.path();
    let args = RegisterArgs { no_termination: true, ..RegisterArgs::default() };
    let (file, good) = registered(root, &args);
    assert!(matches!(standing(root, None), RegistrationState::Registered(_)));
    let entry = good.find("\"s3LogEnabled\": true").unwrap();
    for (new, was) in [("\"s3LogEnabled\": null", "it was null"), ("\"x\": 1", "there was none")] {
        let mut text = good.clone();
        text.replace_range(entry..entry + "\"s3LogEnabled\": true".len(), new);
        fs::write(&file, text).unwrap();
        let RegistrationState::Different(what, cure) = standing(root, None) else {
            panic!("{new}")
        };
        let end = format!(
            "would say: s3LogEnabled of the system-context SessionStart entry set to true, {was}"
        );
        assert!(what.ends_with(&end), "{what}");
        assert_eq!(cure, "sudo efs-agent register --no-termination");
    }
    fs::write(&file, good.replacen(": 30", ": 26", 1)).unwrap();
    assert!(matches!(standing(root, None), RegistrationState::Different(..)));
    // A program at the end of a session has no share to mount.
    let (file, good) = registered(root, &RegisterArgs::default());
    fs::write(&file, good.replacen("unmount", "unmount --terminate", 1)).unwrap();
    assert!(matches!(standing(root, None), RegistrationState::Different(..)));
    fs::write(&file, good.replacen("\"arguments\": \"\"", "\"arguments\": \"unmount\"", 1))
        .unwrap();
    assert!(matches!(standing(root, None), RegistrationState::Wrong(..)));
}

#[test]
fn another_program_at_session_termination_gets_a_cure_of_its_own() {
    let dir = machine();
    let root = dir.path();
    let (file, good) = registered(root, &RegisterArgs::default());
    let own = root.join("sbin/efs-agent").display().to_string();
    let (start, end) = good.split_at(good.find("\"SessionTermination\"").unwrap());
    fs::write(&file, format!("{start}{}", end.replacen(&own, "/opt/end.sh", 1))).unwrap();
    let RegistrationState::Different(what, cure) = standing(root, None) else { panic!() };
    assert!(what.ends_with("there is no such file"), "{what}");
    assert!(cure.starts_with("correct that in "), "{cure}");
    fs::write(root.join("opt/end.sh"), "#!/bin/sh\n").unwrap();
    let RegistrationState::Different(what, cure) = standing(root, None) else { panic!() };
    assert!(
        what.contains("SessionStart; /opt/appstream") && what.contains("/opt/end.sh"),
        "{what}"
    );
    assert!(cure.starts_with("have it run `efs-agent unmount`, or: "), "{cure}");
    fs::write(root.join("opt/end.sh"), "/usr/sbin/efs-agent unmount\n").unwrap();
    assert!(matches!(standing(root, None), RegistrationState::Registered(_)));
}

#[test]
fn the_config_that_sessions_read_is_told_where_another_was_checked() {
    let dir = machine();
    let root = dir.path();
    let usual = root.join("etc/efs-agent/config.toml");
    fs::copy(&usual, root.join("etc/efs-agent/other.toml")).unwrap();
    let other = Path::new("/etc/efs-agent/other.toml");
    let args = RegisterArgs { config: Some(other.into()), ..RegisterArgs::default() };
    registered(root, &args);
    let RegistrationState::Different(what, cure) = standing(root, None) else { panic!() };
    let expected =
        "sessions read /etc/efs-agent/other.toml, and this check read /etc/efs-agent/config.toml";
    assert_eq!(what, expected);
    assert!(cure.starts_with("sudo efs-agent check --config /etc/efs-agent/other.toml; "));
    assert!(matches!(standing(root, Some(other)), RegistrationState::Registered(_)));
    fs::remove_file(root.join("etc/efs-agent/other.toml")).unwrap();
    assert!(matches!(standing(root, None), RegistrationState::Wrong(..)));
    // It is the same file, whether it is named by its own path or not.
    let installed = Path::new("/etc/efs-agent/config.toml");
    registered(root, &RegisterArgs { config: Some(installed.into()), ..RegisterArgs::default() });
    assert!(matches!(standing(root, None), RegistrationState::Registered(_)));
    registered(root, &RegisterArgs::default());
    assert!(matches!(standing(root, Some(installed)), RegistrationState::Registered(_)));
    // A config that cannot be read says nothing about the registration.
    fs::write(&usual, "[[share\n").unwrap();
    assert!(matches!(standing(root, None), RegistrationState::Registered(_)));
    fs::remove_file(root.join("opt/appstream/SessionScripts/config.json")).unwrap();
    assert!(matches!(standing(root, None), RegistrationState::Absent(..)));
}
