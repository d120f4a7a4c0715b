//! Boots some virtual machines for each kernel and shows every scenario that runs in them
//! (`guest/scenarios_*.py`, and the rows of the fault matrix in `guest/faults.toml`) as a test of its
//! own. What the scenarios do is the guest's business; here lives only the way from the VM's output
//! to the test report.
//!
//! `cargo test --test vm -- 'black hole'` runs the scenarios whose names hold these words; KILLS=10
//! makes ten times as many random kills. What the rows of the fault matrix came to is left in target/faults.json.

use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Condvar, Mutex};

const KERNELS: [&str; 2] = ["5.10", "6.12"];
/// Virtual machines for each kernel, side by side: scenarios mostly wait. They share a kernel with no
/// other, since name spaces do not part all that counts: a mount that hangs holds a lock that every
/// mount of that kernel needs, and an NFS server's callbacks wait for those of all others.
/// BESIDE=1 gives each the processor for itself, for figures.
const BESIDE: usize = 2;
/// Longest run of one VM, in seconds; loose, since the machines are noisy.
const LIMIT: &str = "1200";

/// What the VMs have said so far: outcome and log by test name.
#[derive(Default)]
struct Board {
    ended: Mutex<HashMap<String, Result<(), String>>>,
    /// What the matrix tells of each row, as JSON.
    rows: Mutex<Vec<String>>,
    news: Condvar,
}

impl Board {
    fn put(&self, test: String, outcome: Result<(), String>) {
        self.ended.lock().unwrap_or_else(|e| e.into_inner()).entry(test).or_insert(outcome);
        self.news.notify_all();
    }

    fn wait(&self, test: &str) -> Result<(), String> {
        let mut ended = self.ended.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            if let Some(outcome) = ended.get(test) {
                return outcome.clone();
            }
            ended = self.news.wait(ended).unwrap_or_else(|e| e.into_inner());
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    match run(&mut arguments) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("vm tests: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &mut Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm");
    let scenarios = scenarios(&here.join("guest"))?;
    let wanted = |test: &str| {
        let hit = |words: &String| {
            if arguments.exact { test == words } else { test.contains(words.as_str()) }
        };
        arguments.filter.as_ref().is_none_or(hit) && !arguments.skip.iter().any(hit)
    };
    let board = Arc::new(Board::default());
    let mut trials = Vec::new();
    let mut vms = Vec::new();
    for kernel in KERNELS {
        let named = |scenario: &String| format!("{kernel}: {scenario}");
        let mine: Vec<String> = scenarios.iter().filter(|s| wanted(&named(s))).cloned().collect();
        for scenario in &scenarios {
            let (board, test) = (Arc::clone(&board), named(scenario));
            let name = test.clone();
            trials.push(Trial::test(name, move || board.wait(&test).map_err(Failed::from)));
        }
        let beside = std::env::var("BESIDE").ok().and_then(|n| n.parse().ok()).unwrap_or(BESIDE);
        let mut dealt = vec![Vec::new(); beside];
        for (vm, scenario) in (0..beside).cycle().zip(mine) {
            dealt.get_mut(vm).into_iter().for_each(|vm| vm.push(scenario.clone()));
        }
        if !arguments.list {
            vms.extend(dealt.into_iter().filter(|vm| !vm.is_empty()).map(|vm| (kernel, vm)));
        }
    }
    // Trials only wait for what the VMs say, and these run beside them.
    arguments.test_threads = Some(2);
    if !vms.is_empty() {
        let images = images(&here)?;
        let agent = agent()?;
        println!("booting {} virtual machines with {}", vms.len(), agent.display());
        for (kernel, mine) in vms {
            let folder = prepare(kernel, &here, &agent, &mine)?;
            let (board, images, boot) = (Arc::clone(&board), images.clone(), here.join("boot.sh"));
            std::thread::spawn(move || {
                let why = match boot_and_read(kernel, &boot, &images, folder.path(), &board) {
                    Ok(rest) => format!("the VM ended before this scenario did:\n{rest}"),
                    Err(e) => format!("the VM could not be run: {e}"),
                };
                for scenario in mine {
                    board.put(format!("{kernel}: {scenario}"), Err(why.clone()));
                }
            });
        }
    }
    let conclusion = libtest_mimic::run(arguments, trials);
    let rows = board.rows.lock().unwrap_or_else(|e| e.into_inner());
    if !rows.is_empty() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/faults.json");
        fs::write(&file, format!("[\n{}\n]\n", rows.join(",\n")))?;
        println!("{} rows of the fault matrix are told of in {}", rows.len(), file.display());
    }
    Ok(conclusion.exit_code())
}

/// The names in `@scenario("…")`, and those of the fault matrix.
fn scenarios(guest: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for file in ["scenarios_session.py", "scenarios_faults.py", "scenarios_admin.py"] {
        let text = fs::read_to_string(guest.join(file))?;
        let name = |line: &str| {
            let rest = line.strip_prefix("@scenario(\"")?;
            rest.split_once('"').map(|(name, _)| name.to_owned())
        };
        names.extend(text.lines().filter_map(name));
    }
    let matrix: toml::Table = fs::read_to_string(guest.join("faults.toml"))?.parse()?;
    let rows =
        matrix.get("row").and_then(|rows| rows.as_array()).ok_or("faults.toml has no row")?;
    let name = |row: &toml::Value| Some(format!("fault: {}", row.get("name")?.as_str()?));
    names.extend(rows.iter().filter_map(name));
    Ok(names)
}

fn images(here: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let made = Command::new("bash").arg(here.join("image.sh")).stderr(Stdio::inherit()).output()?;
    if !made.status.success() {
        return Err("image.sh failed (see above)".into());
    }
    Ok(String::from_utf8(made.stdout)?.trim().into())
}

/// The static binary that `make build` leaves.
fn agent() -> Result<PathBuf, Box<dyn Error>> {
    let path = std::env::var_os("EFS_AGENT_BIN")
        .map(PathBuf::from)
        .ok_or("EFS_AGENT_BIN must name the static binary: use `make test` or `make vm-test`")?;
    if path.is_file() { Ok(path) } else { Err(format!("{} does not exist", path.display()).into()) }
}

/// The folder that becomes /rig in the guest.
fn prepare(
    kernel: &str,
    here: &Path,
    agent: &Path,
    wanted: &[String],
) -> Result<tempfile::TempDir, Box<dyn Error>> {
    let folder = tempfile::Builder::new().prefix(&format!("efs-agent-vm-{kernel}-")).tempdir()?;
    for entry in fs::read_dir(here.join("guest"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), folder.path().join(entry.file_name()))?;
        }
    }
    fs::copy(agent, folder.path().join("efs-agent"))?;
    // Made by `make elastic-bundle`, on which the VM's targets in the Makefile depend.
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/session-scripts.zip");
    fs::copy(bundle, folder.path().join("session-scripts.zip"))?;
    fs::write(folder.path().join("wanted"), wanted.join("\n"))?;
    // A tenth of the random kills, unless KILLS says how many tenths.
    fs::write(folder.path().join("kills"), std::env::var("KILLS").unwrap_or("1".into()))?;
    Ok(folder)
}

/// Puts each scenario's outcome on the board as it comes; returns what was said after the last one.
fn boot_and_read(
    kernel: &str,
    boot: &Path,
    images: &Path,
    folder: &Path,
    board: &Board,
) -> Result<String, Box<dyn Error>> {
    let mut vm = Command::new("bash")
        .arg(boot)
        .args([images.as_os_str(), kernel.as_ref(), folder.as_os_str(), LIMIT.as_ref()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = vm.stdout.take().ok_or("no output")?;
    let mut log = String::new();
    for line in BufReader::new(out).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if let Some(row) = line.strip_prefix("@@row {") {
            let row = format!("{{\"kernel\": \"{kernel}\", {row}");
            board.rows.lock().unwrap_or_else(|e| e.into_inner()).push(row);
        } else if line.starts_with("@@begin ") {
            log.clear();
        } else if let Some((outcome, rest)) =
            line.strip_prefix("@@end ").and_then(|rest| rest.split_once(' '))
        {
            let (took, scenario) = rest.split_once(' ').ok_or("a line of the guest is torn")?;
            // What a scenario measured is shown even when it is well.
            for figure in log.lines().filter(|line| line.starts_with("figure: ")) {
                println!("{kernel}: {scenario}: {}", figure.trim_start_matches("figure: "));
            }
            let outcome =
                if outcome == "ok" { Ok(()) } else { Err(format!("after {took} s\n{log}")) };
            board.put(format!("{kernel}: {scenario}"), outcome);
            log.clear();
        } else {
            log.push_str(&line);
            log.push('\n');
        }
    }
    vm.wait()?;
    Ok(log)
}
