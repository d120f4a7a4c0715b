//! What all tests of the whole program need.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The program as root may run it: below folders that root alone can change, which those of a checkout may not
/// be. One copy for each build; it stays.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = std::env::var_os("EFS_AGENT_BIN").map(PathBuf::from);
        let built = built.unwrap_or(env!("CARGO_BIN_EXE_efs-agent").into());
        let made = fs::metadata(&built).unwrap();
        let name = format!("{}-{}", made.len(), made.mtime_nsec());
        let folder = Path::new("/run/efs-agent-test-programs").join(name);
        let place = folder.join("efs-agent");
        if !place.exists() {
            fs::create_dir_all(&folder).unwrap();
            // Whole or not at all: another test may look for it at the same moment.
            let new = folder.join(format!("new-{}", std::process::id()));
            let install =
                Command::new("install").args(["-m", "0755"]).arg(built).arg(&new).status();
            assert!(install.unwrap().success());
            fs::rename(new, &place).unwrap();
        }
        place
    })
}

/// The program, with nothing in its environment.
pub fn agent() -> Command {
    let mut command = Command::new(program());
    command.env_clear().current_dir("/");
    command
}

/// A folder in which a config can be trusted: every folder above it belongs to root alone.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("efs-agent-test-").tempdir_in("/run").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A copy of the program in `folder`. Another process writes it: a descriptor of ours that is open for
/// writing would be inherited by whatever another test's thread forks at that moment, and until that
/// one calls exec, ours fails with ETXTBSY.
pub fn copy(folder: &tempfile::TempDir) -> PathBuf {
    let copy = folder.path().join("efs-agent");
    let mut install = Command::new("install");
    install.args(["-m", "0755"]).arg(agent().get_program()).arg(&copy);
    assert!(install.status().unwrap().success());
    copy
}

/// Exit code and standard output; nothing may go to standard error, which AppStream drops.
pub fn ended(output: Output) -> (i32, String) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}
