//! `make bench`: boots a virtual machine for each kernel, has `guest/bench.py` measure in it, adds what can be had
//! outside of a machine, holds each figure against its goal, and writes target/bench: results.json, report.html and
//! table.md. How a thing is measured is the guest's business, how it is shown `report`'s; here are the goals.
//!
//! ROUNDS=15 samples of each figure, KERNEL=6.12 one kernel alone, FIGURES="start costs" some figures alone, MIB=256
//! the size of the file that `nfs` writes and reads.

use board::Vm;
use report::Figure;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use tempfile::TempDir;

#[path = "../vm/board.rs"]
mod board;
mod report;

const TREE: &str = env!("CARGO_MANIFEST_DIR");
const FIGURES: &str = "counted start costs recovery shares instances read_ahead nfs nfs_counted fleets instructions \
     crates tunnel";
/// User-mode Linux, at the processor's own speed, measures those in which AES takes most of the time, which it is
/// worth nothing to measure where AES is emulated; the other kernels measure the others.
const UML: &str = "uml";
const OF_UML: [&str; 1] = ["nfs"];
/// Those that no VM is needed for.
const OUTSIDE: [&str; 4] = ["fleets", "instructions", "crates", "tunnel"];
/// Of one machine, in seconds.
const LIMIT: &str = "5400";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or(default.into())
}

fn run() -> Result<(), Box<dyn Error>> {
    let out = Path::new(TREE).join("target/bench");
    fs::create_dir_all(&out)?;
    let agent = board::agent()?;
    let wanted = variable("FIGURES", FIGURES);
    // What is counted takes a machine of its own kind.
    let (of_count, of_time): (Vec<&str>, Vec<&str>) =
        wanted.split_whitespace().partition(|figure| figure.ends_with("counted"));
    let (of_uml, of_time): (Vec<&str>, Vec<&str>) =
        of_time.into_iter().partition(|figure| OF_UML.contains(figure));
    let (count, time) = (prepare(&of_count, &agent)?, prepare(&of_time, &agent)?);
    let uml = prepare(&of_uml, &agent)?;
    let kernels = variable("KERNEL", "5.10 6.12 uml");
    let images = board::images(&kernels.split_whitespace().chain(["root"]).collect::<Vec<_>>())?;
    println!(
        "bench: {} rounds on {kernels}; all figures take about an hour",
        variable("ROUNDS", "15")
    );
    let mut figures: Vec<Figure> = Vec::new();
    let measured = |kernel: &str, folders: &[(&str, Option<&TempDir>)]| {
        let measured = folders.iter().map(|(counts, folder)| {
            folder.map_or(Ok(Vec::new()), |folder| in_vm(kernel, &images, folder.path(), counts))
        });
        let measured: Result<Vec<_>, _> = measured.collect();
        measured
            .map(|figures| figures.into_iter().flatten().collect::<Vec<Figure>>())
            .map_err(|e| format!("{kernel}: {e}"))
    };
    // Side by side, one processor each: the figures that are compared are of one machine.
    let emulated: Vec<Result<Vec<Figure>, String>> = std::thread::scope(|scope| {
        let vms: Vec<_> = kernels
            .split_whitespace()
            .filter(|kernel| *kernel != UML)
            .map(|kernel| {
                let folders = [("1", count.as_ref()), ("", time.as_ref())];
                let measured = &measured;
                scope.spawn(move || measured(kernel, &folders))
            })
            .collect();
        vms.into_iter().map(|vm| vm.join().unwrap_or(Err("a thread has panicked".into()))).collect()
    });
    for of_kernel in emulated {
        figures.extend(of_kernel?);
    }
    if kernels.split_whitespace().any(|kernel| kernel == UML) {
        figures.extend(measured(UML, &[("", uml.as_ref())])?);
    }
    figures.extend(overshoot());
    let wanted = |name: &str| wanted.split_whitespace().any(|figure| figure == name);
    if wanted("fleets") {
        figures.extend(fleets()?);
    }
    if wanted("instructions") {
        figures.extend(instructions()?);
    }
    if wanted("tunnel") {
        figures.extend(tunnel(&agent)?);
    }
    let size = fs::metadata(&agent)?.len() as f64;
    figures.push(Figure::of("", "size of the binary, bytes", "efs-agent", vec![size]));
    if wanted("crates") {
        figures.extend(crates()?);
    }

    let goals = goals(&figures);
    let results = json!({
        "machine": machine(),
        "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(),
        "goals": goals,
    });
    fs::write(out.join("results.json"), serde_json::to_string_pretty(&results)? + "\n")?;
    fs::write(out.join("report.html"), report::html(&machine(), &figures, &goals))?;
    let table = report::table(&goals);
    fs::write(out.join("table.md"), &table)?;
    println!("{table}\nbench: see target/bench/report.html and results.json");
    Ok(())
}

/// What it was measured on, in one line.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    format!(
        "{}, {cores} cores; VMs in software emulation, one processor each; user-mode Linux at this machine's speed",
        model.trim_start_matches([' ', '\t', ':'])
    )
}

/// The folder that becomes /rig, with the names of the figures wanted; nothing where none of them is measured in a VM.
fn prepare(figures: &[&str], agent: &Path) -> Result<Option<TempDir>, Box<dyn Error>> {
    if figures.iter().all(|figure| OUTSIDE.contains(figure)) {
        return Ok(None);
    }
    let whole = tempfile::Builder::new().prefix("efs-agent-bench-").tempdir()?;
    let folder = whole.path();
    let bench = Path::new(TREE).join("tests/bench/guest");
    board::copy_files(&bench, folder)?;
    for file in ["vm/guest/rig.py", "vm/guest/tls.py", "vectors/efs-client-certificates.json"] {
        let file = Path::new(TREE).join("tests").join(file);
        fs::copy(&file, folder.join(file.file_name().ok_or("no name")?))?;
    }
    fs::copy(agent, folder.join("efs-agent"))?;
    for program in ["mount", "run"] {
        let built = Command::new("cc")
            .args(["-static", "-O2", "-o"])
            .args([folder.join(program), bench.join(format!("{program}.c"))])
            .status()?;
        if !built.success() {
            return Err(format!("{program}.c cannot be built (see above)").into());
        }
    }
    fs::write(folder.join("main"), "exec python3 -u ./bench.py\n")?;
    fs::write(folder.join("rounds"), variable("ROUNDS", "15"))?;
    fs::write(folder.join("figures"), figures.join(" "))?;
    fs::write(folder.join("mib"), variable("MIB", "256"))?;
    Ok(Some(whole))
}

/// `@@sample FIGURE<tab>CONTESTANT<tab>VALUE`, as the guest says it.
fn in_vm(
    kernel: &str,
    images: &Path,
    folder: &Path,
    counts: &str,
) -> Result<Vec<Figure>, Box<dyn Error>> {
    let vm = Vm { kernel, images, disk: None, net: String::new(), limit: LIMIT };
    let mut vm = vm.command(folder).env("COUNT", counts).stderr(Stdio::inherit()).spawn()?;
    let out = vm.stdout.take().ok_or("no output")?;
    let (mut figures, mut rest, mut failed) = (Vec::<Figure>::new(), String::new(), String::new());
    for line in BufReader::new(out).lines() {
        let line = line?;
        if let Some(sample) = line.strip_prefix("@@sample ") {
            let parts: Vec<&str> = sample.split('\t').collect();
            let [figure, who, value] = parts[..] else {
                return Err(format!("not a sample: {line}").into());
            };
            let value = value.parse().map_err(|e| format!("{line}: {e}"))?;
            match figures.iter_mut().find(|f| f.name == figure && f.who == who) {
                Some(figure) => figure.samples.push(value),
                None => figures.push(Figure::of(kernel, figure, who, vec![value])),
            }
        } else if let Some(done) = line.strip_prefix("@@done ") {
            println!("bench: {kernel}: {done}");
        } else if let Some(why) = line.strip_prefix("@@failed ") {
            failed = format!("{failed}{why}\n");
        } else {
            rest = rest + &line + "\n";
        }
    }
    let well = vm.wait()?.success();
    if !failed.is_empty() || !well {
        return Err(format!("{failed}{rest}").into());
    }
    Ok(figures)
}

/// Seconds past the deadline in the rows of the fault matrix, of the last `make faults`.
fn overshoot() -> Vec<Figure> {
    let text = fs::read_to_string(Path::new(TREE).join("target/faults.json")).unwrap_or_default();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    if rows.is_empty() {
        println!(
            "bench: no target/faults.json: run `make faults` for the seconds past the deadline"
        );
    }
    let past =
        |row: &Value| row["given"]["past_deadline"].as_f64().or(row["past_deadline"].as_f64());
    let samples: Vec<f64> = rows.iter().filter_map(past).collect();
    if samples.is_empty() {
        Vec::new()
    } else {
        vec![Figure::of("", "past the deadline in the fault matrix", "efs-agent", samples)]
    }
}

/// A limit of this machine's kernel, raised for as long as this lives: each instance of a fleet is a thread.
struct Raised {
    file: &'static str,
    before: String,
}

impl Raised {
    fn to(file: &'static str, least: u64) -> Result<Self, Box<dyn Error>> {
        let before = fs::read_to_string(file)?;
        if before.trim().parse::<u64>()? < least {
            fs::write(file, least.to_string()).map_err(|e| format!("{file}: {e}"))?;
        }
        Ok(Self { file, before })
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        let _ = fs::write(self.file, &self.before);
    }
}

/// The simulated fleets: the unit test prints `figure NAME<tab>WHO<tab>VALUE`.
fn fleets() -> Result<Vec<Figure>, Box<dyn Error>> {
    let _ids = Raised::to("/proc/sys/kernel/pid_max", 200_000)?;
    let _stacks = Raised::to("/proc/sys/vm/max_map_count", 1_000_000)?;
    let mut figures = Vec::new();
    for size in ["100", "1000", "10000", "100000"] {
        let test = Command::new("cargo")
            .args(["test", "--locked", "--release", "--lib", "--", "--nocapture", "a_fleet_that"])
            .env("FLEET", size)
            .stderr(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&test.stdout);
        if !test.status.success() {
            return Err(format!("the simulation of {size} failed: {text}").into());
        }
        let figure = |line: &str| {
            let parts: Vec<&str> = line.split_once("figure ")?.1.split('\t').collect();
            let [name, who, value] = parts[..] else { return None };
            Some(Figure::of("", name, who, vec![value.parse().ok()?]))
        };
        figures.extend(text.lines().filter_map(figure));
    }
    Ok(figures)
}

/// The tunnel against stunnel, on loopback outside of a machine: `tunnel.rs` measures, and says it as JSON. A ratio is a
/// median of the rounds' own ratios.
fn tunnel(agent: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let ready = Command::new(Path::new(TREE).join("packaging/debian.sh"))
        .args(["bench", "stunnel4"])
        .status()?;
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--release", "--example", "tunnel"])
        .status()?;
    if !ready.success() || !built.success() {
        return Err("stunnel or the example cannot be had (see above)".into());
    }
    let run = Command::new(Path::new(TREE).join("target/release/examples/tunnel"))
        .args([&variable("ROUNDS", "15"), "256"])
        .env("EFS_AGENT_BIN", agent)
        .stderr(Stdio::inherit())
        .output()?;
    let said: Value = serde_json::from_slice(&run.stdout)
        .map_err(|e| format!("the tunnel's bench ended with {}: {e}", run.status))?;
    let mut figures = Vec::new();
    for row in said["rows"].as_array().ok_or("no rows of the tunnel's bench")? {
        let suite = row["suite"].as_str().unwrap_or_default();
        let way = row["way"].as_str().map(|way| format!(" {way}")).unwrap_or_default();
        for (key, name) in [
            ("mib_per_s", "tunnel: MiB a second"),
            ("cpu_s_per_gib", "tunnel: CPU seconds a GiB"),
            ("small_request_us", "tunnel: a small request, µs"),
            ("peak_kib_1", "tunnel: peak memory with 1 connection, KiB"),
            ("peak_kib_32", "tunnel: peak memory with 32 connections, KiB"),
        ] {
            let values = row[key].as_array().map(Vec::as_slice).unwrap_or_default();
            for (who, value) in ["efs-agent", "stunnel"].iter().zip(values) {
                let who = format!("{who}, {suite}{way}");
                let value = value.as_f64().unwrap_or(f64::NAN);
                figures.push(Figure::of("", name, &who, vec![value]));
            }
        }
        for (key, name) in [
            ("rate_ratio", "tunnel: throughput against stunnel"),
            ("cpu_ratio", "tunnel: CPU against stunnel"),
        ] {
            if let Some(ratio) = row[key].as_f64() {
                figures.push(Figure::of("", name, &format!("{suite}{way}"), vec![ratio]));
            }
        }
    }
    Ok(figures)
}

/// Instructions from the text of a config to the options of its mounts, by callgrind: the same each time.
fn instructions() -> Result<Vec<Figure>, Box<dyn Error>> {
    let ready = Command::new(Path::new(TREE).join("packaging/debian.sh"))
        .args(["bench", "valgrind"])
        .status()?;
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--release", "--example", "plan"])
        .status()?;
    if !ready.success() || !built.success() {
        return Err("valgrind or the example cannot be had (see above)".into());
    }
    let counted = |times: u32| -> Result<f64, Box<dyn Error>> {
        let program: PathBuf = Path::new(TREE).join("target/release/examples/plan");
        let run = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(program)
            .arg(Path::new(TREE).join("config.example.toml"))
            .arg(times.to_string())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .output()?;
        let text = String::from_utf8_lossy(&run.stderr);
        let line = text.lines().find_map(|line| line.split_once("Collected : "));
        Ok(line.ok_or(format!("callgrind said: {text}"))?.1.trim().parse()?)
    };
    let each = (counted(101)? - counted(1)?) / 100.0;
    Ok(vec![Figure::of("", "instructions from config to options", "efs-agent", vec![each])])
}

/// What each crate adds to the binary: the sizes of its functions and constants, by the names in a build that keeps
/// them. What the linker has put into one function of several crates counts where the function is.
fn crates() -> Result<Vec<Figure>, Box<dyn Error>> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    let folder = Path::new(TREE).join("target/bench/build");
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--release", "--target", TARGET])
        .args(["--config", "profile.release.strip=false", "--target-dir"])
        .arg(&folder)
        .status()?;
    if !built.success() {
        return Err("the build with names failed (see above)".into());
    }
    let binary = folder.join(TARGET).join("release/efs-agent");
    let names = Command::new("nm").args(["-S", "-C", "--defined-only"]).arg(&binary).output()?;
    let mut sizes: HashMap<String, u64> = HashMap::new();
    for line in String::from_utf8_lossy(&names.stdout).lines() {
        // "address size kind name": what has no size is only a place.
        let parts: Vec<&str> = line.splitn(4, ' ').collect();
        let [_, size, _, name] = parts[..] else { continue };
        let Ok(size) = u64::from_str_radix(size, 16) else { continue };
        let start = name.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '_');
        let of = match start.split_once("::") {
            Some((of, _)) if of.chars().all(|c| c.is_alphanumeric() || c == '_') => of,
            _ => "libc, and what has no crate",
        };
        *sizes.entry(of.to_owned()).or_default() += size;
    }
    let mut sizes: Vec<(String, u64)> = sizes.into_iter().collect();
    sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let figure = |(of, size): (String, u64)| {
        Figure::of("", "size of what each crate adds, bytes", &of, vec![size as f64])
    };
    Ok(sizes.into_iter().take(16).map(figure).collect())
}

/// Each goal, and whether it holds.
fn goals(figures: &[Figure]) -> Vec<Value> {
    let mut goals = Vec::new();
    let mut kernels: Vec<&str> = figures.iter().map(|f| f.kernel.as_str()).collect();
    kernels.sort_unstable();
    kernels.dedup();
    for kernel in kernels {
        let find = |name: &str, who: &str| {
            figures.iter().find(|f| f.kernel == kernel && f.name == name && f.who == who)
        };
        let median = |name: &str, who: &str| find(name, who).map(Figure::median);
        let mut goal = |text: &str, value: Option<f64>, limit: f64, at_least: bool| {
            if let Some(value) = value {
                let holds = if at_least { value >= limit } else { value <= limit };
                goals.push(json!({"kernel": kernel, "goal": text, "value": value, "limit": limit, "at_least": at_least, "holds": holds}));
            }
        };
        for (figure, by) in
            [("start, counted", "by instructions"), ("start", "by the emulated time")]
        {
            let of = |who: &str| median(figure, who);
            let ratio = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a / b);
            let floor = of("bare mount(2)").zip(of("/bin/true")).map(|(a, b)| a + b);
            let (ours, script) = (of("efs-agent"), of("bash script"));
            goal(
                &format!("a start against a bare mount(2) and a process start, {by}"),
                ratio(ours, floor),
                1.25,
                false,
            );
            goal(
                &format!("the bash script against a start, {by}"),
                ratio(script, ours),
                10.0,
                true,
            );
            goal(
                &format!(
                    "the same against a bare mount(2) and a process start, {by}: what can be had"
                ),
                ratio(script, floor),
                10.0,
                true,
            );
        }
        goal(
            "system calls of a start",
            median("system calls of a start", "efs-agent"),
            100.0,
            false,
        );
        goal(
            "processes besides itself",
            median("processes besides itself", "efs-agent"),
            2.0,
            false,
        );
        goal("peak memory, bytes", median("peak memory", "efs-agent"), 3e6, false);
        for fault in ["server", "name", "route"] {
            let name = format!("recovery of the {fault}");
            goal(&format!("{name}: median, s"), median(&name, "efs-agent"), 0.15, false);
            goal(
                &format!("{name}: worst, s"),
                find(&name, "efs-agent").map(Figure::worst),
                0.3,
                false,
            );
        }
        for delay in ["0 ms", "25 ms"] {
            let name = format!("shares, {delay}");
            let of = |who: &str| {
                median(&name, &format!("{who}, 16"))
                    .zip(median(&name, &format!("{who}, 1")))
                    .map(|(a, b)| a / b)
            };
            goal(
                &format!("16 shares on 16 servers against one, {delay} away"),
                of("efs-agent"),
                2.0,
                false,
            );
            goal(
                &format!("the same by bare mount(2), {delay} away: what the kernel allows"),
                of("bare mount(2)"),
                2.0,
                false,
            );
        }
        let read =
            median("read of 256 MiB", "kernel's own").zip(median("read of 256 MiB", "efs-agent's"));
        goal(
            "reading 256 MiB: the kernel's own read-ahead against ours",
            read.map(|(a, b)| a / b),
            1.0,
            true,
        );
        for suite in ["AES-128", "AES-256"] {
            for way in ["up", "down"] {
                let who = format!("{suite} {way}");
                let ratio = |name: &str| median(&format!("tunnel: {name} against stunnel"), &who);
                goal(
                    &format!("tunnel, {who}: throughput against stunnel"),
                    ratio("throughput"),
                    1.5,
                    true,
                );
                goal(
                    &format!("tunnel, {who}: CPU a GiB against stunnel"),
                    ratio("CPU"),
                    0.65,
                    false,
                );
            }
            let memory = |of: u32| {
                let name = format!(
                    "tunnel: peak memory with {of} connection{}, KiB",
                    if of == 1 { "" } else { "s" }
                );
                median(&name, &format!("efs-agent, {suite}"))
            };
            let each = memory(1).zip(memory(32)).map(|(one, all)| (all - one) / 31.0 * 1024.0);
            goal(
                &format!("tunnel, {suite}: memory of one more connection, bytes"),
                each,
                3e6,
                false,
            );
        }
        goal(
            "past the deadline in the fault matrix: worst, s",
            find("past the deadline in the fault matrix", "efs-agent").map(Figure::worst),
            0.1,
            false,
        );
        // Of ratios within each round, the spread too.
        let mut spread = |text: String, figure: Option<&Figure>, at_least: Option<f64>| {
            if let Some(figure) = figure {
                let holds = at_least.map(|limit| figure.median() >= limit);
                goals.push(json!({"kernel": kernel, "goal": text, "value": figure.median(), "limit": at_least, "at_least": true,
                                  "holds": holds, "least": figure.best(), "most": figure.worst(), "n": figure.samples.len()}));
            }
        };
        for way in ["write", "read"] {
            for (other, at_least) in [("stunnel", Some(1.0)), ("plain", None)] {
                for (figure, by) in [("nfs, counted: ", "by instructions"), ("nfs: ", "by time")] {
                    let name = format!("{figure}{way} by efs-agent against {other}");
                    let text = format!("NFS {way}, encrypted, against {other}, {by}");
                    spread(text, find(&name, "efs-agent"), at_least);
                }
            }
        }
        for tunnel in ["its key is made", "its tunnel is started", "its tunnel is up"] {
            let name = "nfs: an encrypted start against a plain one";
            let ratio = find(name, &format!("encrypted, {tunnel}"));
            spread(format!("an encrypted start against a plain one, {tunnel}"), ratio, None);
        }
    }
    goals
}
