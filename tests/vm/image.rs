//! The package on machines of its own, with systemd as PID 1: an administrator's image builder, then two
//! fresh instances from the disk that it leaves, side by side, then one of these booted again. All see the
//! same NFS server, in a further machine. What is tried there is in `image/*.py`; here lives which machine is
//! booted when, and with what.

use board::{Board, Vm};
use libtest_mimic::{Arguments, Failed, Trial};
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

mod board;

/// Of one machine, in seconds; loose, since the machines are noisy.
const LIMIT: &str = "900";
const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm");
const TREE: &str = env!("CARGO_MANIFEST_DIR");

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("image tests: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = Arguments::from_args();
    // The steps build on each other: all of them, whatever is asked for.
    let tests = tests()?;
    let board = Arc::new(Board::default());
    let trials = tests.iter().cloned().map(|test| {
        let (board, name) = (Arc::clone(&board), test.clone());
        Trial::test(name, move || board.wait(&test).map_err(Failed::from))
    });
    let trials = trials.collect();
    arguments.test_threads = Some(2);
    let mut booting = None;
    if !arguments.list {
        let images = board::images(&["root", "6.12", "5.10", "disk"])?;
        let work = tempfile::Builder::new().prefix("efs-agent-image-").tempdir()?;
        let packages = packages(work.path())?;
        let (there, all) = (Arc::clone(&board), tests.clone());
        booting = Some(std::thread::spawn(move || {
            let ended = machines(&images, &work, &packages, &there);
            let why = ended.err().map_or("no machine has tried it".into(), |e| e.to_string());
            for test in all {
                there.put(test, Err(why.clone()));
            }
        }));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The last machine is still going down, and the server's is ended then.
    if booting.is_some_and(|thread| thread.join().is_err()) {
        return Err("the thread that boots the machines has panicked".into());
    }
    Ok(conclusion.exit_code())
}

/// `@scenario("…")` of the image builder, `@named("1 2", "…")` of the instances.
fn tests() -> Result<Vec<String>, Box<dyn Error>> {
    let read = |file: &str| fs::read_to_string(Path::new(HERE).join("image").join(file));
    let mut tests = Vec::new();
    for line in read("builder.py")?.lines() {
        tests.extend(
            line.strip_prefix("@scenario(\"")
                .and_then(|rest| rest.strip_suffix("\")"))
                .map(unquoted),
        );
    }
    for line in read("instance.py")?.lines() {
        let parts = line.strip_prefix("@named(\"").and_then(|rest| rest.strip_suffix("\")"));
        if let Some((numbers, text)) = parts.and_then(|rest| rest.split_once("\", \"")) {
            tests.extend(numbers.split(' ').map(|n| format!("instance {n}: {}", unquoted(text))));
        }
    }
    Ok(tests)
}

fn unquoted(text: &str) -> String {
    text.replace("\\\"", "\"")
}

/// The package, the next one of it (another release, another default config), and a stand-in for the
/// package of /bin/sh, which Debian's rpm has no record of.
fn packages(work: &Path) -> Result<[(PathBuf, &'static str); 3], Box<dyn Error>> {
    let spec = fs::read_to_string(Path::new(TREE).join("packaging/efs-agent.spec"))?;
    let next = spec.replacen("Release:        1", "Release:        2", 1).replacen(
        "%files",
        "echo '# changed' >> %{buildroot}/etc/efs-agent/config.toml\n\n%files",
        1,
    );
    let next_spec = work.join("efs-agent-next.spec");
    fs::write(&next_spec, next)?;
    let stub_spec = work.join("stub.spec");
    fs::write(
        &stub_spec,
        "Name: stub-sh\nVersion: 1\nRelease: 1\nSummary: stub\nLicense: none\nBuildArch: noarch\n\
         Provides: /bin/sh\n%description\nstub\n%files\n",
    )?;
    let rpm = |spec: &Path, folder: &str| -> Result<PathBuf, Box<dyn Error>> {
        let script = Path::new(TREE).join("packaging/rpm.sh");
        let made = Command::new("bash").arg(script).arg(work.join(folder)).arg(spec).output()?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned().into());
        }
        Ok(String::from_utf8(made.stdout)?.trim().into())
    };
    let package = rpm(&Path::new(TREE).join("packaging/efs-agent.spec"), "rpm")?;
    let next = rpm(&next_spec, "next")?;
    let top = format!("_topdir {}", work.join("stub").display());
    let stub = Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--define", &top])
        .arg(&stub_spec)
        .output()?;
    if !stub.status.success() {
        return Err(String::from_utf8_lossy(&stub.stderr).into_owned().into());
    }
    let stub = work.join("stub/RPMS/noarch/stub-sh-1-1.noarch.rpm");
    Ok([(package, "efs-agent.rpm"), (next, "efs-agent-next.rpm"), (stub, "stub.rpm")])
}

/// A folder that becomes /rig in a machine which starts with `script`.
fn rig(script: &str, more: &[(PathBuf, &'static str)]) -> Result<TempDir, Box<dyn Error>> {
    let folder = tempfile::Builder::new().prefix("efs-agent-rig-").tempdir()?;
    board::copy_files(&Path::new(HERE).join("image"), folder.path())?;
    for file in ["rig.py", "tls.py", "run.py", "appstream.py"] {
        fs::copy(Path::new(HERE).join("guest").join(file), folder.path().join(file))?;
    }
    fs::write(folder.path().join("main"), format!("exec python3 -u ./{script}\n"))?;
    for (file, name) in more {
        fs::copy(file, folder.path().join(name))?;
    }
    Ok(folder)
}

/// A disk that begins as another one is.
fn disk(work: &Path, name: &str, from: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let disk = work.join(name);
    let made = Command::new("cp").arg("--sparse=always").args([from, &disk]).status()?;
    if made.success() { Ok(disk) } else { Err("cp failed (see above)".into()) }
}

/// The server's two links are sockets in `work`, each good for one machine at a time.
fn link(work: &Path, number: u8, server: bool) -> String {
    let (path, server) = (work.join(format!("link{number}")), if server { "on" } else { "off" });
    format!(
        "-netdev stream,id=n{number},server={server},addr.type=unix,addr.path={} \
         -device virtio-net-pci,netdev=n{number},mac=52:54:00:00:0{}:0{number} ",
        path.display(),
        if server == "on" { 0 } else { 1 }
    )
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // timeout(1) is below it and passes the signal on to QEMU.
        let _ = Command::new("pkill").args(["-P", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

fn machines(
    images: &Path,
    work: &TempDir,
    packages: &[(PathBuf, &'static str)],
    board: &Board,
) -> Result<(), Box<dyn Error>> {
    let work = work.path();
    let folder = rig("server.py", &[])?;
    let net = link(work, 1, true) + &link(work, 2, true);
    let server = Vm { kernel: "6.12", images, disk: None, net, limit: "2700" };
    let mut server = server.command(folder.path()).stderr(Stdio::inherit()).spawn()?;
    let out = server.stdout.take().ok_or("no output of the server")?;
    let _server = Running(server);
    let mut said = String::new();
    for line in BufReader::new(out).lines() {
        let line = line?;
        if line.starts_with("@@server is up") {
            break;
        }
        said = said + &line + "\n";
    }
    if !said.is_empty() {
        return Err(format!("the server's machine does not come up: {said}").into());
    }
    let boot = |disk: &Path, number: u8, folder: &TempDir, before: &str| {
        let net = link(work, number, false);
        let vm = Vm { kernel: "5.10", images, disk: Some(disk), net, limit: LIMIT };
        vm.run(folder.path(), before, board)
    };

    // What it tells an administrator to do is done as it stands there.
    let manual = Path::new(TREE).join("packaging/man/efs-agent.toml.5.md");
    let more = [packages, &[(manual, "efs-agent.toml.5.md")]].concat();
    let builder = disk(work, "builder.ext4", &images.join("systemd.ext4"))?;
    let why = boot(&builder, 1, &rig("builder.py", &more)?, "");
    let mut whys = vec![format!("the image builder: {why}")];

    let instance = |n: u8| -> Result<(PathBuf, TempDir), Box<dyn Error>> {
        let folder = rig("instance.py", &[])?;
        fs::write(folder.path().join("number"), n.to_string())?;
        Ok((disk(work, &format!("instance{n}.ext4"), &builder)?, folder))
    };
    let (first, second) = (instance(1)?, instance(2)?);
    std::thread::scope(|scope| {
        let one = scope.spawn(|| boot(&first.0, 1, &first.1, "instance 1: "));
        whys.push(format!("instance 2: {}", boot(&second.0, 2, &second.1, "instance 2: ")));
        whys.extend(one.join().map(|why| format!("instance 1: {why}")));
    });
    fs::write(second.1.path().join("number"), "3")?;
    whys.push(format!("instance 3: {}", boot(&second.0, 2, &second.1, "instance 3: ")));
    Err(whys.join("\n").into())
}
