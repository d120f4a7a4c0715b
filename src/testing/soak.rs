//! Runs an hour against servers that are not there, at compressed time. The session and the machine
//! are real (sockets, files, mount table), and only the clock's pauses take no time. Nothing may
//! grow.

use crate::commands::session::SessionRun;
use crate::config::Settings;
use crate::log::{Log, Style};
use crate::report::{Code, Report};
use crate::retry::{Clock, Deadline, Stopped};
use crate::share::client::ClientIdentity;
use crate::share::linux::Linux;
use crate::stop::Stop;
use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A clock of real time plus the pauses that were skipped. It looks at this process now and then.
struct Compressed {
    origin: Instant,
    skipped: Mutex<Duration>,
    /// The first look that counts is at this time, when all is warm.
    warm: Duration,
    seen: Mutex<Seen>,
}

/// What the looks have seen. Its size is fixed, so that looking does not grow.
#[derive(Default)]
struct Seen {
    at: Duration,
    first: Option<Size>,
    last: Size,
    most_descriptors: usize,
}

/// What this process holds.
#[derive(Debug, Default, Clone, Copy)]
struct Size {
    pages: usize,
    descriptors: usize,
}

fn size() -> Size {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages = statm.split(' ').nth(1).unwrap().parse().unwrap();
    Size { pages, descriptors: fs::read_dir("/proc/self/fd").unwrap().count() }
}

impl Clock for Compressed {
    fn now(&self) -> Duration {
        self.origin.elapsed() + *self.skipped.lock().unwrap()
    }

    fn wait(&self, pause: Duration) -> Result<(), Stopped> {
        *self.skipped.lock().unwrap() += pause;
        let now = self.now();
        let mut seen = self.seen.lock().unwrap();
        if now >= self.warm.max(seen.at + Duration::from_secs(1)) {
            seen.at = now;
            seen.last = size();
            seen.first = seen.first.or(Some(seen.last));
            seen.most_descriptors = seen.most_descriptors.max(seen.last.descriptors);
        }
        Ok(())
    }
}

/// Must run alone in a process, so that other tests' memory is not counted.
fn soak(span: Duration) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for folder in ["etc", "proc/self", "mnt"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("etc/resolv.conf"), "nameserver 127.66.77.88\n").unwrap();
    fs::write(root.join("proc/self/mountinfo"), "22 1 0:1 / / rw - ext4 /dev/a rw\n").unwrap();
    let config = "[[share]]\nendpoint = \"fs-1.example\"\nmount_point = \"/mnt/by_name\"\n\
                  [[share]]\nendpoint = \"127.66.77.88\"\nmount_point = \"/mnt/by_address\"\n";
    let settings = Settings::parse(Path::new("c"), config).unwrap();
    let stop = Stop::install().unwrap();
    let (skipped, seen) = (Mutex::default(), Mutex::default());
    let clock = Compressed { origin: Instant::now(), skipped, warm: span / 10, seen };
    let machine = Linux::new(root, &clock, &stop);
    let log = Log::new(Box::new(std::io::sink()), Style::Stamped);
    let run = SessionRun {
        tunnels: &None::<Infallible>,
        machine: &machine,
        clock: &clock,
        log: &log,
        deadline: Deadline::after(&clock, span),
        attempt_timeout: settings.attempt_timeout,
        once: false,
        kernel: || "5.10".into(),
    };

    let outcomes = run.all(settings.shares, &|_| {});
    let report = Report { outcomes, stopped_by: None, client: ClientIdentity::NoClient };
    assert_eq!(report.code(), Code::DEADLINE);

    let seen = clock.seen.into_inner().unwrap();
    let (start, end) = (seen.first.unwrap(), seen.last);
    let attempts: Vec<u32> = report.outcomes.iter().map(|outcome| outcome.attempts).collect();
    println!(
        "{} s at compressed time, {attempts:?} attempts, in {:.1} s: memory {} pages, then {}; descriptors {}, then {}",
        span.as_secs(),
        clock.origin.elapsed().as_secs_f64(),
        start.pages,
        end.pages,
        start.descriptors,
        end.descriptors
    );
    // Each of the two threads skips time for both.
    assert!(u64::from(attempts.iter().sum::<u32>()) > span.as_secs(), "{attempts:?}");
    // There are some 60,000 looks: the smallest leak in one of them would be 500 pages.
    assert!(end.pages <= start.pages + 64, "memory grows: {start:?}, {end:?}");
    // Four more are the sockets that the two shares have open at that moment.
    assert!(seen.most_descriptors <= start.descriptors + 4, "{start:?}, {}", seen.most_descriptors);
}

#[test]
fn an_hour_against_absent_servers_grows_neither_memory_nor_descriptors() {
    if std::env::var_os("SOAK_ALONE").is_some() {
        return soak(Duration::from_secs(3600));
    }
    let name = "testing::soak::an_hour_against_absent_servers_grows_neither_memory_nor_descriptors";
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", name, "--nocapture"]).env("SOAK_ALONE", "1");
    let output = alone.output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
    print!("{out}");
}
