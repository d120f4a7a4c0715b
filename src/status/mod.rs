//! /run/efs-agent/status.json: how the last session start ended, for people and for `status`; and what the runs of
//! this boot have mounted, which mount points they made for it, and which of that the config of the last one no
//! longer had. A mount of these is known by its number and its file system, wherever the config has gone. Of a run
//! that has not ended, [`begun`] knows.

mod begun;
pub mod remembered;
pub mod unfinished;

pub use begun::{Begun, Made, cleared};

use crate::config::Share;
use crate::files::{self, Fault, Place};
use crate::json::{Document, Node, Value, quoted};
use crate::kernel::mount_table;
use crate::kernel::namespace::{Namespace, namespace};
use crate::report::{Code, Outcome, Report};
use crate::share::Mounted;
use crate::share::client::{Identity, SetBy};
use crate::status::remembered::{Remembered, STATUS, contents, is_of, member, objects};
use crate::status::unfinished::{MadePoint, Unfinished};
use crate::sys;
use nix::errno::Errno;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

/// So many mounts of earlier runs are kept in mind.
const MOST: usize = 256;
/// So often another run that writes the file is waited for, and so long each time.
const TRIES: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(20);

/// Writes down how a run with `config` ended. `at` is now, as RFC 3339 has it; `root` is `/` outside of
/// tests.
///
/// # Errors
/// Why it cannot be written: the shares are none the worse for it.
pub fn write(
    root: &Path,
    config: &Path,
    report: &Report,
    code: Code,
    once: bool,
    at: &str,
) -> Result<(), String> {
    let (place, folder, before) = opened(root)?;
    let past =
        before.as_deref().map_or_else(Past::default, |before| Past::of(root, before, report));
    let text = text(config, report, code, once, at, &past);
    place.put(&folder, text.as_bytes()).map_err(unwritten)
}

/// What it means that the file cannot be written for this reason.
fn unwritten(errno: Errno) -> String {
    let cure = match errno {
        Errno::ENOSPC | Errno::EDQUOT => ": make room in /run (df -h /run, df -i /run)",
        Errno::EROFS => ": /run must be writable",
        _ => "",
    };
    let why = errno.desc().to_lowercase();
    format!(
        "{STATUS} cannot be written ({why}, {errno:?}), so that status and unmount do not know of this run{cure}"
    )
}

/// What the runs before this one have left in the file.
#[derive(Debug, Default)]
struct Past<'b> {
    text: Option<&'b str>,
    /// What they have mounted, and this run has not found: the text of each.
    earlier: Vec<String>,
    /// The mount points that runs have made which were killed.
    orphans: Vec<MadePoint>,
    unfinished: Vec<Unfinished>,
}

impl<'b> Past<'b> {
    fn of(root: &Path, before: &'b str, report: &Report) -> Self {
        // One that failed may have left the folder where it was.
        let done = report.outcomes.iter().filter(|one| one.result.is_ok());
        let points: Vec<&Path> = done.map(|one| one.share.mount_point.as_path()).collect();
        Self {
            text: Some(before),
            earlier: earlier(root, before, report),
            orphans: unfinished::orphans(root, before),
            unfinished: begun::left(root, before, &points),
        }
    }
}

/// Notes a share that is up while others of its run are not yet, so that it is known even if the run is killed.
pub fn remember(root: &Path, outcome: &Outcome) {
    let Some((place, folder, before)) = open(root) else {
        return;
    };
    let orphans = before.as_deref().map_or(Vec::new(), |before| unfinished::orphans(root, before));
    let _ = place.put(&folder, with(before.as_deref(), &orphans, outcome).as_bytes());
}

/// The text `before` with one more share among those of earlier runs.
fn with(before: Option<&str>, orphans: &[MadePoint], outcome: &Outcome) -> String {
    let one = share(outcome, before, orphans);
    let document = before.and_then(|before| Document::parse(before).ok());
    let earlier = document.as_ref().and_then(|document| member(&document.root, "earlier"));
    match (before, earlier.map(|node| (node.span.clone(), &node.value))) {
        (Some(before), Some((span, Value::Array(others)))) => {
            let mut text = before.to_owned();
            let comma = if others.is_empty() { "" } else { ",\n" };
            let place = span.end.saturating_sub(1);
            text.insert_str(place, &format!("{comma}{one}"));
            text
        }
        // There is none, or an earlier version's, which remembers nothing.
        _ => format!("{{\"version\": 1, \"shares\": [], \"earlier\": [{one}]}}\n"),
    }
}

/// What `before` knows to be mounted, and is so still, and the run with this report has not found: the text of each.
fn earlier(root: &Path, before: &str, report: &Report) -> Vec<String> {
    let Ok(document) = Document::parse(before) else {
        return Vec::new();
    };
    let found = |one: &Remembered| {
        let mut mounted = report.outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
        mounted.any(|mounted| one.is_mount(mounted.id, &mounted.device))
    };
    let others: Vec<(&Node, Remembered)> = objects(&document.root)
        .filter_map(|node| Some((node, Remembered::of(&document, node)?)))
        .filter(|(_, one)| !found(one))
        .collect();
    // In a mount name space of its own, a run does not see what is mounted for all others.
    let sees_all = namespace(&root.join("proc")) != Namespace::Private;
    if others.is_empty() {
        return Vec::new();
    }
    let bytes = files::whole(&root.join("proc/self/mountinfo")).unwrap_or_default();
    let table = mount_table::parse(&bytes);
    let is_mounted = |one: &Remembered| !sees_all || table.iter().any(|entry| one.is(entry));
    let others = others.into_iter().filter(|(_, one)| is_mounted(one)).take(MOST);
    others.map(|(node, _)| document.slice(node.span.clone()).to_owned()).collect()
}

/// The same as [`opened`], where nobody asks why not.
fn open(root: &Path) -> Option<(Place, File, Option<String>)> {
    opened(root).ok()
}

/// The same as [`locked`], and what is in the file; the folder is made where there is none.
fn opened(root: &Path) -> Result<(Place, File, Option<String>), String> {
    // Closed to others, so that nobody else can hold the lock.
    let made = DirBuilder::new().mode(0o700).create(root.join("run/efs-agent"));
    let (place, folder) = locked(root).map_err(|why| match &made {
        // That it is there already is no reason.
        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
            unwritten(Errno::from_raw(e.raw_os_error().unwrap_or_default()))
        }
        _ => why,
    })?;
    // In a folder that we have just made there is none.
    let before = if made.is_ok() { None } else { contents(&place) };
    Ok((place, folder, before))
}

/// The file, and its folder, locked until that is closed; or why not.
fn locked(root: &Path) -> Result<(Place, File), String> {
    let place = files::find(root, Path::new(STATUS)).map_err(|why| format!("{STATUS} {why}"))?;
    let folder = place.folder().map_err(unwritten)?;
    // Whoever writes it does so in an instant.
    let mut tries = 0..TRIES;
    while sys::lock_now(&folder).is_err() {
        if tries.next().is_none() {
            return Err(format!("{STATUS} is not written: another run keeps its folder locked"));
        }
        std::thread::sleep(BETWEEN);
    }
    if let Err(Fault { path, why, command }) = place.trust(None) {
        let path = path.display();
        return Err(format!("{STATUS} is not written: {path} {why} ({command} {path})"));
    }
    Ok((place, folder))
}

/// Notes that nothing of ours is mounted on the mount point of `share` any more, and that it is no longer one that
/// was made for it: what is mounted and made there next is somebody's. Not if it has been mounted anew since the
/// file had the text `before`.
pub fn forget(root: &Path, share: &Share, before: &str) {
    let Ok((place, folder)) = locked(root) else {
        return;
    };
    let Some(text) = contents(&place) else {
        return;
    };
    if let Some(new) = forgotten(&text, share, before).filter(|new| *new != text) {
        let _ = place.put(&folder, new.as_bytes());
    }
}

fn forgotten(status: &str, share: &Share, before: &str) -> Option<String> {
    let document = Document::parse(status).ok()?;
    let known = remembered::all(before);
    let is_new =
        |one: &Node| Remembered::of(&document, one).is_some_and(|one| !known.contains(&one));
    if objects(&document.root).filter(|one| is_of(one, share)).any(is_new) {
        return None;
    }
    let mut changes: Vec<(std::ops::Range<usize>, &str)> = objects(&document.root)
        .filter(|one| is_of(one, share))
        .flat_map(|one| [(member(one, "made"), "false"), (member(one, "mount"), "null")])
        .filter_map(|(node, text)| Some((node?.span.clone(), text)))
        .collect();
    changes.sort_by_key(|(span, _)| span.start);
    let mut text = status.to_owned();
    for (span, new) in changes.into_iter().rev() {
        text.replace_range(span, new);
    }
    Some(text)
}

/// How the last start ended, in one line, as `status` (the text of the file) has it; or that it did not.
pub fn told(root: &Path, status: &str) -> Option<String> {
    let document = Document::parse(status).ok()?;
    let at = match member(&document.root, "at").map(|node| &node.value) {
        Some(Value::String(at)) => Some(at.as_str()),
        _ => None,
    };
    begun::told(root, status, at).or_else(|| ended(status))
}

fn ended(status: &str) -> Option<String> {
    let document = Document::parse(status).ok()?;
    let slice = |key| Some(document.slice(member(&document.root, key)?.span.clone()));
    let at = slice("at")?.trim_matches('"');
    let Value::Array(shares) = &member(&document.root, "shares")?.value else {
        return None;
    };
    let up = |one: &&Node| member(one, "mounted").is_some_and(|n| n.value == Value::Boolean(true));
    let causes: Vec<&str> = shares
        .iter()
        .filter_map(|one| match &member(one, "cause")?.value {
            Value::String(cause) => Some(cause.as_str()),
            _ => None,
        })
        .collect();
    let why = if causes.is_empty() { String::new() } else { format!(": {}", causes.join("; ")) };
    let once = member(&document.root, "once").is_some_and(|n| n.value == Value::Boolean(true));
    let what = if once { "the last run, by hand with --once," } else { "the last session start" };
    // One of an earlier version has none.
    let config = match member(&document.root, "config").map(|node| &node.value) {
        Some(Value::String(config)) => format!(", config {config}"),
        _ => String::new(),
    };
    Some(format!(
        "{what} ended at {at}: exit {}, {} of {} shares mounted{config}{why}",
        slice("exit")?,
        shares.iter().filter(up).count(),
        shares.len()
    ))
}

fn text(
    config: &Path,
    report: &Report,
    code: Code,
    once: bool,
    at: &str,
    past: &Past<'_>,
) -> String {
    let one = |one| share(one, past.text, &past.orphans);
    let shares: Vec<String> = report.outcomes.iter().map(one).collect();
    let unfinished = match past.unfinished.as_slice() {
        [] => String::new(),
        runs => format!(", {}", begun::list(runs)),
    };
    format!(
        "{{\"version\": 1, \"at\": {}, \"once\": {once}, \"config\": {}, \"exit\": {}, \"client\": {}, \"shares\": [\n{}\n], \"earlier\": [{}]{unfinished}}}\n",
        quoted(at),
        quoted(&config.to_string_lossy()),
        code.0,
        client(&report.client),
        shares.join(",\n"),
        past.earlier.join(",\n")
    )
}

/// Who this machine is to its servers, as JSON.
pub fn client(identity: &Identity) -> String {
    match identity {
        Identity::Set { text, place, by } => {
            let by = match by {
                SetBy::EfsAgent => "efs-agent",
                SetBy::Administrator => "administrator",
            };
            format!(
                "{{\"identity\": {}, \"set_by\": {}, \"place\": {}}}",
                quoted(text),
                quoted(by),
                quoted(place)
            )
        }
        Identity::Unset { place, .. } => {
            format!("{{\"identity\": null, \"set_by\": null, \"place\": {}}}", quoted(place))
        }
        Identity::NoClient => "null".to_owned(),
    }
}

fn share(outcome: &Outcome, before: Option<&str>, orphans: &[MadePoint]) -> String {
    let Outcome { share, result, attempts, took } = outcome;
    let text = |text: Option<&str>| text.map_or("null".into(), quoted);
    let mounted = result.as_ref().ok();
    let cause = result.as_ref().err();
    // The folder of what was mounted already was made, or not, by an earlier run; or by one at the same time, which
    // found that this one was quicker with the mount.
    let is_old = |mounted: &Mounted, before: &str| {
        let known = remembered::all(before);
        mounted.already
            || mounted.anew
            || known.iter().any(|one| one.is_mount(mounted.id, &mounted.device))
    };
    let made = mounted.is_some_and(|mounted| {
        let made_before =
            |before: &&str| is_old(mounted, before) && remembered::made(before, share);
        mounted.made
            || before.as_ref().is_some_and(made_before)
            || orphans.iter().any(|one| one.is(&share.mount_point, mounted.over))
    });
    let mount = mounted.map_or("null".into(), |mounted| {
        format!(
            "{{\"id\": {}, \"device\": {}, \"source\": {}, \"address\": {}}}",
            mounted.id,
            quoted(&mounted.device),
            quoted(&mounted.source),
            quoted(&mounted.address)
        )
    });
    format!(
        "  {{\"endpoint\": {}, \"path\": {}, \"mount_point\": {}, \"mounted\": {}, \"already\": {}, \
         \"address\": {}, \"tls\": {}, \"encrypted\": {}, \"mount\": {mount}, \"made\": {made}, \"attempts\": {attempts}, \"seconds\": {:.3}, \"cause\": {}, \"cure\": {}}}",
        quoted(&share.endpoint.to_string()),
        quoted(&share.path),
        quoted(&share.mount_point.to_string_lossy()),
        mounted.is_some(),
        mounted.is_some_and(|mounted| mounted.already),
        text(mounted.map(Mounted::server).as_deref()),
        text(mounted.and_then(|mounted| Some(mounted.peer.as_ref()?.version.as_str()))),
        share.encryption.is_some(),
        took.as_secs_f64(),
        text(cause.map(|cause| cause.sentence.as_str())),
        text(cause.map(|cause| cause.cure.as_str())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::share::causes::{Cause, Class};
    use crate::status::remembered::{self, made};

    fn report(made: bool, already: bool) -> Report {
        let config = "[[share]]\nendpoint = \"fs-1.example\"\n[[share]]\nendpoint = \"fs-2.example\"\nmount_point = \"/mnt/b\"\n";
        let shares = Settings::parse(Path::new("c"), config).unwrap().shares;
        let cause = Cause {
            class: Class::Temporary,
            sentence: "it is \"broken\"".into(),
            cure: "mend it".into(),
        };
        let results = [Ok(Mounted { made, ..Mounted::fake(already) }), Err(cause)];
        let outcome = |(share, result)| Outcome {
            share,
            result,
            attempts: 1,
            took: Duration::from_millis(52),
        };
        Report {
            outcomes: shares.into_iter().zip(results).map(outcome).collect(),
            stopped_by: None,
            client: Identity::Set {
                text: "efs-agent-0123".into(),
                place: "/sys/x",
                by: SetBy::EfsAgent,
            },
        }
    }

    fn past<'b>(text: &'b str, earlier: &[String]) -> Past<'b> {
        Past { text: Some(text), earlier: earlier.to_vec(), ..Past::default() }
    }

    const CONFIG: &str = "/etc/a \"b\".toml";
    const AT: &str = "2026-11-23T07:00:00Z";

    #[test]
    fn it_is_json_that_tells_of_each_share_and_is_read_again() {
        let report = report(true, false);
        let text = text(Path::new(CONFIG), &report, Code::DEADLINE, false, AT, &Past::default());
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["shares"][0]["address"], "10.0.0.1");
        assert_eq!(json["config"], CONFIG);
        assert_eq!(json["client"]["identity"], "efs-agent-0123");
        assert_eq!(json["client"]["set_by"], "efs-agent");
        assert_eq!(json["shares"][1]["cause"], "it is \"broken\"");
        assert!(made(&text, &report.outcomes[0].share));
        assert!(!made(&text, &report.outcomes[1].share));
        assert_eq!(
            ended(&text).unwrap(),
            "the last session start ended at 2026-11-23T07:00:00Z: exit 75, 1 of 2 shares mounted, \
             config /etc/a \"b\".toml: it is \"broken\""
        );
        let earlier = text.replace("\"config\": \"/etc/a \\\"b\\\".toml\", ", "");
        assert!(ended(&earlier).unwrap().ends_with("1 of 2 shares mounted: it is \"broken\""));
        for broken in ["", "{}", "[]", "{\"shares\": 1}", "{\"shares\": [1, {}]}"] {
            assert!(!made(broken, &report.outcomes[0].share));
            assert_eq!(ended(broken), None);
        }
    }

    #[test]
    fn that_a_mount_point_was_made_outlasts_a_run_that_finds_it_mounted() {
        let config = Path::new(CONFIG);
        let first = text(config, &report(true, false), Code::OK, false, AT, &Past::default());
        let second = text(config, &report(false, true), Code::OK, false, AT, &past(&first, &[]));
        assert!(made(&second, &report(false, true).outcomes[0].share));
        // One that was mounted anew is on the same folder.
        let mut anew = report(false, false);
        let new = anew.outcomes[0].result.as_mut().unwrap();
        (new.id, new.anew) = (42, true);
        let third = text(config, &anew, Code::OK, false, AT, &past(&second, &[]));
        assert!(made(&third, &anew.outcomes[0].share));
        // Of two runs at the same time, one has made the folder, and the other the mount.
        let quicker = text(config, &report(false, false), Code::OK, false, AT, &Past::default());
        assert!(!made(&quicker, &anew.outcomes[0].share));
        for (one, other) in [((true, true), (false, false)), ((false, false), (true, true))] {
            let one = text(config, &report(one.0, one.1), Code::OK, false, AT, &Past::default());
            let both = report(other.0, other.1);
            let both = text(config, &both, Code::OK, false, AT, &past(&one, &[]));
            assert!(made(&both, &anew.outcomes[0].share), "{both}");
        }
        // Another mount, on a folder that was there.
        let mut later = report(false, false);
        later.outcomes[0].result.as_mut().unwrap().id = 41;
        let other = text(config, &later, Code::OK, false, AT, &past(&second, &[]));
        assert!(!made(&other, &report(false, true).outcomes[0].share));
    }

    #[test]
    fn a_mount_point_that_was_removed_is_no_longer_one_that_was_made() {
        let report = report(true, false);
        let text = text(Path::new(CONFIG), &report, Code::OK, false, AT, &Past::default());
        let (one, other) = (&report.outcomes[0].share, &report.outcomes[1].share);
        let after = forgotten(&text, one, &text).unwrap();
        assert!(made(&text, one) && !made(&after, one));
        assert!(remembered::all(&text).iter().any(|known| known.is_share(one)));
        assert_eq!(remembered::all(&after), []);
        let back = "\"mount\": {\"id\": 40, \"device\": \"0:45\", \"source\": \"fs-1.example:/\", \
                    \"address\": \"10.0.0.1\"}, \"made\": true";
        assert_eq!(after.replacen("\"mount\": null, \"made\": false", back, 1), text);
        assert_eq!(forgotten(&text, other, &text).unwrap(), text, "nothing to change is no error");
        assert_eq!(forgotten(&text, one, "{}"), None, "it was mounted since");
        assert_eq!(forgotten("{", one, ""), None);
    }

    #[test]
    fn what_is_mounted_and_no_longer_in_the_config_is_remembered_as_long_as_it_is_mounted() {
        let dir = tempfile::Builder::new().tempdir_in("/run").unwrap();
        std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        let table = |text: &str| {
            std::fs::write(dir.path().join("proc/self/mountinfo"), text).unwrap();
        };
        let first =
            text(Path::new(CONFIG), &report(true, false), Code::OK, false, AT, &Past::default());
        let share = report(true, false).outcomes[0].share.clone();
        let point = share.mount_point.display();
        let line = format!("40 1 0:45 / {point} rw - nfs4 fs-1.example:/ rw,addr=10.0.0.1\n");
        table(&line);
        // The next run has another config, in which the second share alone is left.
        let mut other = report(false, false);
        other.outcomes.remove(0);
        let kept = earlier(dir.path(), &first, &other);
        assert_eq!(kept.len(), 1);
        let second = text(Path::new(CONFIG), &other, Code::OK, false, AT, &past(&first, &kept));
        let known = remembered::all(&second);
        assert!(known.len() == 1 && known[0].is_share(&share), "{known:?}");
        assert!(made(&second, &share));
        assert_eq!(known[0].share().source(), share.source());
        assert!(known[0].share().encryption.is_none());
        // And the one after that.
        assert_eq!(earlier(dir.path(), &second, &other), kept);
        // A run that finds it has it among its own.
        assert_eq!(earlier(dir.path(), &second, &report(true, false)), [""; 0]);
        // Another mount of that number, or on that place, is not it.
        for (this, that) in [
            ("40 1", "41 1"),
            ("0:45", "0:46"),
            ("/mnt", "/srv"),
            ("nfs4 fs", "tmpfs fs"),
            (" fs-1", " fs-2"),
            ("0.0.1", "0.0.2"),
        ] {
            table(&line.replacen(this, that, 1));
            assert_eq!(earlier(dir.path(), &second, &other), [""; 0], "{that}");
        }
        // That of an earlier version has no such words.
        assert_eq!(remembered::all("{\"shares\": [{\"mount_point\": \"/mnt/a\"}]}"), []);
    }

    #[test]
    fn a_share_that_is_up_before_its_run_ends_is_remembered_at_once() {
        let dir = tempfile::Builder::new().tempdir_in("/run").unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let report = report(true, false);
        let one = &report.outcomes[0];
        let mut two = one.clone();
        two.share.mount_point = "/mnt/two".into();
        let known = || {
            let text = remembered::read(dir.path()).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
            (remembered::all(&text).into_iter().map(|one| one.share().mount_point), text)
        };
        // The file does not exist, then has one, then the result of an earlier run.
        for (outcome, wanted) in
            [(one, vec!["/mnt/efs_share"]), (&two, vec!["/mnt/efs_share", "/mnt/two"])]
        {
            remember(dir.path(), outcome);
            let (points, text) = known();
            assert_eq!(
                points.collect::<Vec<_>>(),
                wanted.iter().map(Path::new).collect::<Vec<_>>()
            );
            assert!(made(&text, &outcome.share) && ended(&text).is_none(), "{text}");
        }
        write(dir.path(), Path::new(CONFIG), &report, Code::OK, false, AT).unwrap();
        let last = ended(&known().1).unwrap();
        remember(dir.path(), &two);
        let (points, text) = known();
        assert_eq!((points.count(), ended(&text)), (2, Some(last)));
        // What is not to be understood is written anew.
        std::fs::write(dir.path().join("run/efs-agent/status.json"), "{").unwrap();
        remember(dir.path(), one);
        assert_eq!(known().0.count(), 1);
    }

    #[test]
    fn another_run_that_writes_it_is_waited_for() {
        let dir = tempfile::Builder::new().tempdir_in("/run").unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let write = |once| {
            write(dir.path(), Path::new(CONFIG), &report(true, false), Code::OK, once, AT).unwrap();
            let text = remembered::read(dir.path()).unwrap();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            json["once"].as_bool().unwrap()
        };
        assert!(!write(false));
        let folder = File::open(dir.path().join("run/efs-agent")).unwrap();
        sys::lock_now(&folder).unwrap();
        std::thread::scope(|scope| {
            let writes = scope.spawn(|| write(true));
            std::thread::sleep(Duration::from_millis(100));
            drop(folder);
            assert!(writes.join().unwrap(), "it was not written");
        });
    }

    #[test]
    fn that_it_cannot_be_written_is_told_with_the_reason() {
        let dir = tempfile::Builder::new().tempdir_in("/run").unwrap();
        let write = || {
            let report = report(true, false);
            write(dir.path(), Path::new(CONFIG), &report, Code::OK, false, AT).unwrap_err()
        };
        let told = write();
        assert!(
            told.starts_with("/run/efs-agent/status.json cannot be written (no such file"),
            "{told}"
        );
        std::fs::create_dir(dir.path().join("run")).unwrap();
        std::fs::write(dir.path().join("run/efs-agent"), "").unwrap();
        let told = write();
        assert!(told.starts_with("/run/efs-agent/status.json cannot be reached: "), "{told}");
        assert!(unwritten(Errno::ENOSPC).ends_with(": make room in /run (df -h /run, df -i /run)"));
    }

    #[test]
    fn it_is_written_whole_below_the_root_and_replaced() {
        let dir = tempfile::Builder::new().tempdir_in("/run").unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        for (code, exit) in [(Code::DEADLINE, 75), (Code::OK, 0)] {
            write(dir.path(), Path::new(CONFIG), &report(true, false), code, true, AT).unwrap();
            let json: serde_json::Value =
                serde_json::from_str(&remembered::read(dir.path()).unwrap()).unwrap();
            assert_eq!(json["exit"], exit);
            assert_eq!(json["once"], true);
        }
        let left = std::fs::read_dir(dir.path().join("run/efs-agent")).unwrap().count();
        assert_eq!(left, 1, "no temporary file");
    }
}
