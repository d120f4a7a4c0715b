//! A machine of its own for a test: namespaces in which a stand-in for systemd (systemd.py) is PID 1, so that tunnels
//! are started and held as in life, and nothing of it is left behind when the test ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// It ends with this, and all of its processes do.
pub struct Namespaces {
    init: Child,
    /// PID 1, as it is called out here.
    pid: u32,
}

impl Namespaces {
    pub fn with_systemd() -> Self {
        Self::new(&[])
    }

    /// Nothing is the init system that the program could ask.
    pub fn without_systemd() -> Self {
        Self::new(&["--absent"])
    }

    fn new(args: &[&str]) -> Self {
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/systemd.py");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
        command.arg("python3").arg(stand_in).args(args);
        let mut init = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(init.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n", "the stand-in for systemd does not come up");
        let children = format!("/proc/{0}/task/{0}/children", init.id());
        let pid = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        Self { init, pid }
    }

    /// `command`, to be run in there; with nothing in its environment.
    pub fn command(&self, command: &Command) -> Command {
        let mut inner = Command::new("nsenter");
        inner.args(["--target", &self.pid.to_string(), "--mount", "--pid", "--wd=/", "--"]);
        inner.arg(command.get_program()).args(command.get_args()).env_clear();
        inner
    }

    /// Where a file that the program has below /run is seen from here.
    pub fn path(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        root.join(path.strip_prefix("/").unwrap())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}
