//! The way from what virtual machines say (`@@begin NAME`, its log, `@@end ok|failed SECONDS NAME`) to
//! tests that wait for it. What is tested is no business of this file.

// Each of the tests that include this file uses a part of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};

/// What the VMs have said so far: outcome and log by test name.
#[derive(Default)]
pub struct Board {
    ended: Mutex<HashMap<String, Result<(), String>>>,
    /// What the matrix tells of each row, as JSON.
    rows: Mutex<Vec<String>>,
    news: Condvar,
}

impl Board {
    /// The outcome of a test; the first that is put there counts.
    pub fn put(&self, test: String, outcome: Result<(), String>) {
        self.ended.lock().unwrap_or_else(|e| e.into_inner()).entry(test).or_insert(outcome);
        self.news.notify_all();
    }

    /// Waits until there is an outcome.
    pub fn wait(&self, test: &str) -> Result<(), String> {
        let mut ended = self.ended.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            if let Some(outcome) = ended.get(test) {
                return outcome.clone();
            }
            ended = self.news.wait(ended).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// The rows of the fault matrix that were told of so far.
    pub fn rows(&self) -> Vec<String> {
        self.rows.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// The folder of the VM images, of which those parts are made if need be: see image.sh.
pub fn images(parts: &[&str]) -> Result<PathBuf, Box<dyn Error>> {
    let made = Command::new("bash")
        .arg(Path::new(HERE).join("image.sh"))
        .args(parts)
        .stderr(Stdio::inherit())
        .output()?;
    if !made.status.success() {
        return Err("image.sh failed (see above)".into());
    }
    Ok(String::from_utf8(made.stdout)?.trim().into())
}

/// The static binary that `make build` leaves.
pub fn agent() -> Result<PathBuf, Box<dyn Error>> {
    let path = std::env::var_os("EFS_AGENT_BIN")
        .map(PathBuf::from)
        .ok_or("EFS_AGENT_BIN must name the static binary: use `make test` or `make vm-test`")?;
    if path.is_file() { Ok(path) } else { Err(format!("{} does not exist", path.display()).into()) }
}

/// Copies the files of one folder, not those below it, into another.
pub fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// A virtual machine, as boot.sh takes it.
pub struct Vm<'a> {
    /// "5.10", "6.12", or "uml".
    pub kernel: &'a str,
    /// See [`images`].
    pub images: &'a Path,
    /// A disk of its own (qcow2), instead of a throw-away system.
    pub disk: Option<&'a Path>,
    /// What QEMU is to know of a network.
    pub net: String,
    /// Longest run, in seconds.
    pub limit: &'a str,
}

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm");

impl Vm<'_> {
    /// What boots it and runs what is in `folder`.
    pub fn command(&self, folder: &Path) -> Command {
        // It ends with the thread that started it, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "bash"])
            .arg(Path::new(HERE).join("boot.sh"))
            .args([self.images.as_os_str(), self.kernel.as_ref(), folder.as_os_str()])
            .arg(self.limit)
            .env("NET", &self.net)
            .env("DISK", self.disk.unwrap_or(Path::new("")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    /// Runs it to its end and puts each outcome on the board, with `before` before its name; returns why
    /// a scenario that is not there by then has none.
    pub fn run(&self, folder: &Path, before: &str, board: &Board) -> String {
        match self.read(folder, before, board) {
            Ok(rest) => format!("the VM ended before this scenario did:\n{rest}"),
            Err(e) => format!("the VM could not be run: {e}"),
        }
    }

    fn read(&self, folder: &Path, before: &str, board: &Board) -> Result<String, Box<dyn Error>> {
        let mut vm = self.command(folder).spawn()?;
        let out = vm.stdout.take().ok_or("no output")?;
        let mut log = String::new();
        for line in BufReader::new(out).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            if let Some(row) = line.strip_prefix("@@row {") {
                let row = format!("{{\"kernel\": \"{}\", {row}", self.kernel);
                board.rows.lock().unwrap_or_else(|e| e.into_inner()).push(row);
            } else if line.starts_with("@@begin ") {
                log.clear();
            } else if let Some((outcome, rest)) =
                line.strip_prefix("@@end ").and_then(|rest| rest.split_once(' '))
            {
                let (took, scenario) = rest.split_once(' ').ok_or("a line of the guest is torn")?;
                // What a scenario measured is shown even when it is well.
                for figure in log.lines().filter(|line| line.starts_with("figure: ")) {
                    println!("{before}{scenario}: {}", figure.trim_start_matches("figure: "));
                }
                let outcome =
                    if outcome == "ok" { Ok(()) } else { Err(format!("after {took} s\n{log}")) };
                board.put(format!("{before}{scenario}"), outcome);
                log.clear();
            } else {
                log.push_str(&line);
                log.push('\n');
            }
        }
        vm.wait()?;
        Ok(log)
    }
}
