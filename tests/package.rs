//! The package as a file: what `packaging/rpm.sh` and `make install` make of what `make build man` left, and
//! what the units may not say. What it does once it is installed is tried in `tests/vm/image.rs`.

#![allow(clippy::unwrap_used)] // a test file that clippy does not know as one

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a shell command in the tree; its output, which must be all that it says.
fn sh(command: &str) -> String {
    let done = Command::new("bash").args(["-euc", command]).current_dir(HERE).output().unwrap();
    // On a new machine it may say first what it installs.
    let both = [done.stderr, done.stdout].concat();
    let text = String::from_utf8(both).unwrap();
    assert!(done.status.success(), "{command}: {}\n{text}", done.status);
    text
}

/// The RPM, built once for all tests.
fn rpm() -> &'static Path {
    static RPM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = RPM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = built(folder.path(), "");
        (folder, path)
    });
    path
}

/// Builds it into `folder`, with `before` in front of the command.
fn built(folder: &Path, before: &str) -> PathBuf {
    let said = sh(&format!("{before} packaging/rpm.sh {}", folder.display()));
    PathBuf::from(said.lines().last().unwrap())
}

fn query(format: &str) -> String {
    sh(&format!("rpm -qp --qf '{format}' {}", rpm().display()))
}

#[test]
fn built_twice_the_package_has_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    // Another hour, another zone, another umask, another user's settings.
    let other = "sleep 1.1; umask 077; HOME=/nonexistent TZ=Asia/Tokyo LC_ALL=C.UTF-8";
    let again = built(folder.path(), other);
    assert_eq!(again.file_name(), rpm().file_name());
    assert!(fs::read(again).unwrap() == fs::read(rpm()).unwrap(), "the packages differ");
}

#[test]
fn the_rpm_of_rhel_8_can_read_it() {
    // rpm 4.14 reads payloads by xz and SHA-256 digests (8), not those by zstd.
    assert_eq!(query("%{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO}"), "xz 8");
    assert_eq!(
        query("%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}"),
        format!("efs-agent-{}-1.x86_64", env!("CARGO_PKG_VERSION"))
    );
    for line in sh(&format!("rpm -qp --requires {}", rpm().display())).lines() {
        let harmless = ["/bin/sh", "config(efs-agent)", "rpmlib("];
        assert!(harmless.iter().any(|need| line.starts_with(need)), "it requires {line}");
        assert!(!line.contains("Zstd"), "{line}");
    }
}

#[test]
fn what_rpmlint_says_is_explained_in_the_spec() {
    sh("command -v rpmlint >/dev/null || packaging/debian.sh test rpmlint");
    let spec = fs::read_to_string(Path::new(HERE).join("packaging/efs-agent.spec")).unwrap();
    let explained =
        |line: &str| Some(line.strip_prefix("# rpmlint: ")?.split_once(": ")?.0.to_owned());
    let explained: Vec<String> = spec.lines().filter_map(explained).collect();
    let said = sh(&format!("rpmlint {} || true", rpm().display()));
    assert!(said.contains("1 packages and 0 specfiles checked"), "{said}");
    // "efs-agent.x86_64: W: name-of-the-check details"
    let check = |line: &str| {
        let (_, rest) = line.split_once(": W: ").or_else(|| line.split_once(": E: "))?;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    let said: Vec<String> = said.lines().filter_map(check).collect();
    for name in &said {
        assert!(explained.contains(name), "rpmlint says {name}, which the spec does not explain");
    }
    for name in &explained {
        assert!(said.contains(name), "the spec explains {name}, which rpmlint no longer says");
    }
}

/// What is linked into the binary, as name-version, with its licence as the crate states it.
fn linked() -> Vec<(String, String)> {
    let tree = sh(
        "cargo tree --locked --offline -e normal,no-proc-macro --target x86_64-unknown-linux-musl \
         --prefix none --no-dedupe --format '{p}|{l}'",
    );
    let crate_of = |line: &str| {
        let (package, licence) = line.split_once('|').unwrap();
        let mut words = package.split(' ');
        let (name, version) = (words.next().unwrap(), words.next().unwrap());
        (format!("{name}-{}", version.trim_start_matches('v')), licence.to_owned())
    };
    let mut all: Vec<_> = tree.lines().map(crate_of).collect();
    all.sort();
    all.dedup();
    assert!(all.len() > 20 && all.iter().any(|(name, _)| name.starts_with("aws-lc-sys-")));
    all
}

#[test]
fn the_licence_of_the_package_is_that_of_all_that_is_linked_into_it() {
    let mut all = std::collections::BTreeSet::new();
    for (name, licence) in linked() {
        assert!(!licence.is_empty(), "{name}");
        for part in licence.split(" AND ") {
            let part = part.trim_matches(['(', ')']).replace('/', " OR ");
            let choice: Vec<&str> = part.split(" OR ").collect();
            // Where there is a choice, it is the program's own, else MIT.
            let ours = choice.iter().find(|one| **one == "Apache-2.0");
            let taken = ours.or(choice.iter().find(|one| **one == "MIT")).or(choice.first());
            all.insert((*taken.unwrap()).to_owned());
        }
    }
    let expected: Vec<String> = all.into_iter().collect();
    assert_eq!(query("%{LICENSE}"), expected.join(" AND "));
}

#[test]
fn the_licences_of_all_that_is_linked_into_it_go_along() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let package = rpm().display();
    sh("command -v cpio >/dev/null || packaging/debian.sh test cpio");
    sh(&format!("cd {at}; rpm2cpio {package} | cpio -idm --quiet"));
    let file = folder.path().join("usr/share/licenses/efs-agent/THIRD-PARTY");
    let text = fs::read_to_string(file).unwrap();
    for (name, licence) in linked() {
        if !name.starts_with("efs-agent-") {
            assert!(text.contains(&format!("\n{name} ({licence})\n")), "{name} is not in it");
        }
    }
    for notice in [
        // rustls-webpki and untrusted (ISC), subtle (BSD), aws-lc (ISC), nix (MIT), and musl.
        "Copyright 2015 Brian Smith",
        "Copyright 2015-2016 Brian Smith",
        "Copyright (c) 2016-2017 Isis Agora Lovecruft, Henry de Valence",
        "Copyright (c) 2014-2024 Google Inc.",
        "Copyright (c) 2015 Carl Lerche + nix-rust Authors",
        "Copyright © 2005-2020 Rich Felker",
    ] {
        assert!(text.contains(notice), "{notice}");
    }
    // Made again, it is the same.
    sh(&format!("packaging/notices.sh {at}/again"));
    assert!(fs::read_to_string(folder.path().join("again")).unwrap() == text);
}

#[test]
fn the_scriptlets_are_plain_sh_and_say_nothing_wrong() {
    for tag in ["POSTIN", "PREUN", "POSTUN"] {
        assert_eq!(query(&format!("%{{{tag}PROG}}")), "/bin/sh");
        let script = tempfile::NamedTempFile::new().unwrap();
        fs::write(script.path(), query(&format!("%{{{tag}}}"))).unwrap();
        assert_eq!(sh(&format!("dash -n {}", script.path().display())), "");
    }
}

#[test]
fn the_package_holds_no_mount_point_and_nothing_of_appstream() {
    let files = sh(&format!("rpm -qpl {}", rpm().display()));
    for file in files.lines() {
        let ours = ["/usr/", "/etc/efs-agent"].iter().any(|folder| file.starts_with(folder));
        assert!(ours && !file.ends_with('/'), "{file}");
    }
    let all = "/usr/sbin/efs-agent /etc/efs-agent/config.toml /usr/lib/systemd/system/efs-agent.service \
               /usr/lib/systemd/system/efs-agent-tunnels.service \
               /usr/lib/systemd/system/efs-agent-tunnel@.service \
               /usr/lib/systemd/system/efs-agent-tunnel@.socket \
               /usr/lib/systemd/system-preset/50-efs-agent.preset /usr/lib/modules-load.d/efs-agent.conf \
               /usr/share/man/man8/efs-agent.8.gz /usr/share/man/man5/efs-agent.toml.5.gz \
               /usr/share/man/man7/efs-agent-troubleshooting.7.gz \
               /usr/share/bash-completion/completions/efs-agent /usr/share/licenses/efs-agent/LICENSE \
               /usr/share/licenses/efs-agent/THIRD-PARTY \
               /usr/share/doc/efs-agent/config.example.toml";
    for file in all.split_whitespace() {
        assert!(files.lines().any(|line| line == file), "{file} is not in it");
    }
    let config = sh(&format!(
        "rpm -qp --configfiles {}; rpm -qp --qf '[%{{FILENAMES}} %{{FILEFLAGS:fflags}}\\n]' {} | grep toml",
        rpm().display(),
        rpm().display()
    ));
    assert!(config.contains("/etc/efs-agent/config.toml cn"), "config, noreplace: {config}");
}

#[test]
fn make_install_puts_all_of_it_below_prefix_and_keeps_a_config() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    sh(&format!("make install DESTDIR={at} PREFIX=/opt/efs"));
    let unit =
        fs::read_to_string(folder.path().join("opt/efs/lib/systemd/system/efs-agent.service"))
            .unwrap();
    assert!(
        unit.contains(
            "\nExecStart=/opt/efs/sbin/efs-agent\nExecStop=/opt/efs/sbin/efs-agent unmount\n"
        ),
        "{unit}"
    );
    let config = folder.path().join("etc/efs-agent/config.toml");
    fs::write(&config, "mine").unwrap();
    sh(&format!("make install DESTDIR={at} PREFIX=/opt/efs"));
    assert_eq!(fs::read_to_string(config).unwrap(), "mine");
    let strays = sh(&format!(
        "cd {at}; find . -type f -not -path './opt/efs/*' -not -path './etc/efs-agent/*'"
    ));
    assert_eq!(strays, "");
}

/// Directives that give a unit a mount namespace of its own: nobody would see what it mounts, and it
/// would exit with 0 all the same. Tried on systemd 237 and 247.
const HIDING: [&str; 27] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "ExecPaths",
    "InaccessibleDirectories",
    "InaccessiblePaths",
    "MountAPIVFS",
    "MountFlags",
    "MountImages",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateTmp",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
    "RootImage",
    "TemporaryFileSystem",
];

#[test]
fn no_unit_hides_its_mounts_or_trips_an_old_systemd() {
    let unit = fs::read_to_string(Path::new(HERE).join("systemd/efs-agent.service")).unwrap();
    let settings: Vec<(&str, &str)> = unit
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    let value =
        |wanted: &str| settings.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value);
    for (key, setting) in &settings {
        assert!(!HIDING.contains(key), "{key}= hides the mounts");
        // 237 refuses a unit with a group of system calls that it does not know.
        assert!(*key != "SystemCallFilter" || !setting.contains('@'), "{setting}");
        // Before 244 a oneshot unit with Restart= is refused.
        assert!(*key != "Restart");
    }
    assert_eq!(value("Type"), Some("oneshot"));
    assert_eq!(value("RemainAfterExit"), Some("yes"));
    // More than `deadline` and `unmount_deadline` may ever be (10 minutes).
    assert_eq!((value("TimeoutStartSec"), value("TimeoutStopSec")), (Some("11min"), Some("11min")));
    assert!(unit.contains("\nAfter=network-online.target"));
}
