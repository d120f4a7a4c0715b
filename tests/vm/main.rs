//! Boots some virtual machines for each kernel and shows every scenario that runs in them
//! (`guest/scenarios_*.py`, and the rows of the fault matrix in `guest/faults.toml`) as a test of its
//! own. What the scenarios do is the guest's business; here lives only the way from the VM's output
//! to the test report.
//!
//! `cargo test --test vm -- 'black hole'` runs the scenarios whose names hold these words; KERNEL="5.10 uml" those of
//! these kernels alone; KILLS=10 makes ten times as many random kills, SOAK=60 has the soak take so many seconds; with
//! NAMED=1 there must be such a scenario. What the rows of the fault matrix came to is left in target/faults.json.

use board::{Board, Vm};
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

mod board;

const KERNELS: [&str; 3] = ["5.10", "6.12", UML];
/// User-mode Linux: see boot.sh. It is quick, and stands for no kernel that a fleet has; what its features do not allow
/// is in [`CANNOT`].
const UML: &str = "uml";
/// The scenarios that cannot run in user-mode Linux, with the reasons.
const CANNOT: &str = "uml.toml";
/// Virtual machines for each kernel, side by side: scenarios mostly wait. They share a kernel with no
/// other, since name spaces do not part all that counts: a mount that hangs holds a lock that every
/// mount of that kernel needs, and an NFS server's callbacks wait for those of all others.
/// BESIDE=1 gives each the processor for itself, for figures.
const BESIDE: usize = 2;
/// Those of user-mode Linux, which need little of the processor.
const UML_BESIDE: usize = 6;
/// Seconds that the soak takes unless SOAK says how many.
const SOAK: u64 = 5;
/// Longest run of one VM, in seconds, beside a soak in it; loose, since the machines are noisy.
const LIMIT: u64 = 2400;

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
    let (kernels, cannot) = (kernels()?, cannot(&here, &scenarios)?);
    let wanted = |test: &str| {
        let hit = |words: &String| {
            if arguments.exact { test == words } else { test.contains(words.as_str()) }
        };
        arguments.filter.as_ref().is_none_or(hit) && !arguments.skip.iter().any(hit)
    };
    let board = Arc::new(Board::default());
    let mut trials = Vec::new();
    let mut vms = Vec::new();
    for kernel in kernels {
        let named = |scenario: &String| format!("{kernel}: {scenario}");
        let can = |scenario: &&String| kernel != UML || !cannot.contains_key(*scenario);
        if kernel == UML && !arguments.list {
            for (scenario, reason) in cannot.iter().filter(|(s, _)| wanted(&named(s))) {
                println!("{kernel} CANNOT run this: {scenario}: {reason}");
            }
        }
        let mine: Vec<String> =
            scenarios.iter().filter(can).filter(|s| wanted(&named(s))).cloned().collect();
        for scenario in scenarios.iter().filter(can) {
            let (board, test) = (Arc::clone(&board), named(scenario));
            let name = test.clone();
            trials.push(Trial::test(name, move || board.wait(&test).map_err(Failed::from)));
        }
        let side_by_side = if kernel == UML { UML_BESIDE } else { BESIDE };
        let beside =
            std::env::var("BESIDE").ok().and_then(|n| n.parse().ok()).unwrap_or(side_by_side);
        let mut dealt = vec![Vec::new(); beside];
        for (vm, scenario) in (0..beside).cycle().zip(mine) {
            dealt.get_mut(vm).into_iter().for_each(|vm| vm.push(scenario.clone()));
        }
        if !arguments.list {
            vms.extend(dealt.into_iter().filter(|vm| !vm.is_empty()).map(|vm| (kernel, vm)));
        }
    }
    // Of all test programs that `cargo test WORDS` runs, this one may have nothing to do; what make runs has.
    if vms.is_empty() && !arguments.list && std::env::var_os("NAMED").is_some() {
        let words = arguments.filter.as_deref().unwrap_or_default();
        return Err(format!("no scenario has \"{words}\" in its name").into());
    }
    // Trials only wait for what the VMs say, and these run beside them.
    arguments.test_threads = Some(2);
    if !vms.is_empty() {
        let soak: u64 = std::env::var("SOAK").map_or(Ok(SOAK), |seconds| seconds.parse())?;
        let limit: Arc<str> = (LIMIT + soak).to_string().into();
        let mut parts: Vec<&str> = vms.iter().map(|(kernel, _)| *kernel).collect();
        parts.dedup();
        parts.push("root");
        let images = board::images(&parts)?;
        let agent = board::agent()?;
        println!("booting {} virtual machines with {}", vms.len(), agent.display());
        for (kernel, mine) in vms {
            let folder = prepare(kernel, &here, &agent, &mine, soak)?;
            let (board, images, limit) = (Arc::clone(&board), images.clone(), Arc::clone(&limit));
            std::thread::spawn(move || {
                let vm =
                    Vm { kernel, images: &images, disk: None, net: String::new(), limit: &limit };
                let why = vm.run(folder.path(), &format!("{kernel}: "), &board);
                for scenario in mine {
                    board.put(format!("{kernel}: {scenario}"), Err(why.clone()));
                }
            });
        }
    }
    let conclusion = libtest_mimic::run(arguments, trials);
    let rows = board.rows();
    if !rows.is_empty() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/faults.json");
        fs::write(&file, format!("[\n{}\n]\n", rows.join(",\n")))?;
        println!("{} rows of the fault matrix are told of in {}", rows.len(), file.display());
    }
    Ok(conclusion.exit_code())
}

/// The kernels that KERNEL names, or all.
fn kernels() -> Result<Vec<&'static str>, Box<dyn Error>> {
    let named = std::env::var("KERNEL").unwrap_or_default();
    let known = |name| {
        let known = KERNELS.into_iter().find(|kernel| *kernel == name);
        known.ok_or(format!("KERNEL={name}: there are {}", KERNELS.join(", ")))
    };
    let kernels = named.split_whitespace().map(known).collect::<Result<Vec<_>, _>>()?;
    Ok(if kernels.is_empty() { KERNELS.to_vec() } else { kernels })
}

/// The scenarios that cannot run in user-mode Linux, and why. Each must be there: the list must not outlive what it names.
fn cannot(here: &Path, all: &[String]) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let listed: toml::Table = fs::read_to_string(here.join(CANNOT))?.parse()?;
    let mut cannot = BTreeMap::new();
    for one in listed.get("cannot").and_then(|list| list.as_array()).into_iter().flatten() {
        let reason = one.get("reason").and_then(|reason| reason.as_str());
        let reason = reason.ok_or(format!("{CANNOT}: something has no reason"))?;
        let scenarios = one.get("scenarios").and_then(|list| list.as_array()).into_iter().flatten();
        for scenario in scenarios.filter_map(|scenario| scenario.as_str()) {
            if !all.iter().any(|one| one == scenario) {
                return Err(format!("{CANNOT}: there is no scenario \"{scenario}\"").into());
            }
            cannot.insert(scenario.to_owned(), reason.to_owned());
        }
    }
    Ok(cannot)
}

/// The names in `@scenario("…")`, and those of the fault matrix.
fn scenarios(guest: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    // It needs the program of an earlier version: `make upgrade-test`.
    let upgrade = std::env::var_os("BEFORE").map(|_| "scenarios_upgrade.py");
    let usual = [
        "scenarios_identity.py",
        "scenarios_session.py",
        "scenarios_faults.py",
        "scenarios_admin.py",
        "scenarios_client.py",
        "scenarios_tunnel.py",
        "scenarios_state.py",
    ];
    for file in usual.into_iter().chain(upgrade) {
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

/// The folder that becomes /rig in the guest.
fn prepare(
    kernel: &str,
    here: &Path,
    agent: &Path,
    wanted: &[String],
    soak: u64,
) -> Result<tempfile::TempDir, Box<dyn Error>> {
    let folder = tempfile::Builder::new().prefix(&format!("efs-agent-vm-{kernel}-")).tempdir()?;
    board::copy_files(&here.join("guest"), folder.path())?;
    fs::copy(agent, folder.path().join("efs-agent"))?;
    if let Some(before) = std::env::var_os("BEFORE") {
        fs::copy(before, folder.path().join("efs-agent-before"))?;
    }
    // Made by `make elastic-bundle`, on which the VM's targets in the Makefile depend.
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/session-scripts.zip");
    fs::copy(bundle, folder.path().join("session-scripts.zip"))?;
    let vectors = "efs-client-certificates.json";
    fs::copy(here.join("../vectors").join(vectors), folder.path().join(vectors))?;
    fs::write(folder.path().join("wanted"), wanted.join("\n"))?;
    // A tenth of the random kills, unless KILLS says how many tenths.
    fs::write(folder.path().join("kills"), std::env::var("KILLS").unwrap_or("1".into()))?;
    fs::write(folder.path().join("soak"), soak.to_string())?;
    Ok(folder)
}
