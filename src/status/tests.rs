//! The file as runs write it one after another, and as the version before this one has written it.

use super::*;
use crate::config::Settings;
use crate::json;
use record::MountRecord;
use serde_json::Value;

const CONFIG: &str = "/etc/a \"b\".toml";
const AT: &str = "2026-11-23T07:00:00Z";

/// The shares of the runs below.
fn shares() -> Vec<Share> {
    let config = "[[share]]\nendpoint = \"fs-1.example\"\n[[share]]\nendpoint = \"fs-2.example\"\nmount_point = \"/mnt/b\"\n";
    Settings::parse(Path::new("c"), config).unwrap().shares
}

/// A run in which the first share is up, and the second is not.
fn run(made: bool, already: bool) -> EndedRun {
    let mount = MountRecord {
        id: 40,
        device: "0:45".into(),
        source: "fs-1.example:/".into(),
        address: "10.0.0.1".into(),
    };
    let records = shares().into_iter().map(|share| ShareRecord {
        endpoint: share.endpoint.to_string(),
        path: share.path.clone(),
        mount_point: share.mount_point.to_str().unwrap().into(),
        attempts: 1,
        seconds: 0.052,
        ..ShareRecord::default()
    });
    let mut records: Vec<ShareRecord> = records.collect();
    let (mounted, address) = (true, Some("10.0.0.1".into()));
    records[0] =
        ShareRecord { mounted, already, address, made, mount: Some(mount), ..records[0].clone() };
    let (cause, cure) = (Some("it is \"broken\"".into()), Some("mend it".into()));
    records[1] = ShareRecord { cause, cure, ..records[1].clone() };
    let result = |record| ShareResult { record, is_old: already, over: None };

    EndedRun {
        at: AT.into(),
        once: false,
        config: CONFIG.into(),
        exit: 75,
        client: Some(ClientRecord {
            identity: Some("efs-agent-0123".into()),
            set_by: Some("efs-agent".into()),
            place: "/sys/x".into(),
        }),
        shares: records.into_iter().map(result).collect(),
    }
}

/// A machine without any mount.
fn machine() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().tempdir_in("/run").unwrap();
    std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
    std::fs::create_dir(dir.path().join("run")).unwrap();
    dir
}

fn first(run: EndedRun) -> Status {
    ended(Path::new("/none"), run, &Status::default())
}

fn next(run: EndedRun, before: &Status) -> Status {
    ended(Path::new("/none"), run, before)
}

#[test]
fn it_is_json_that_tells_of_each_share_and_is_read_again() {
    let status = first(run(true, false));
    let text = json::written(&status);
    assert_eq!(Status::parse(&text).as_ref(), Some(&status));
    let json: Value = json::read(text.as_bytes()).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["shares"][0]["address"], "10.0.0.1");
    assert_eq!(json["config"], CONFIG);
    assert_eq!(json["client"]["identity"], "efs-agent-0123");
    assert_eq!(json["client"]["set_by"], "efs-agent");
    assert_eq!(json["shares"][1]["cause"], "it is \"broken\"");
    assert_eq!(json["shares"][1]["seconds"], 0.052);
    assert!(json.get("unfinished").is_none());

    let [up, down] = &shares()[..] else { unreachable!() };
    assert!(status.made(up) && !status.made(down));
    let told = "the last session start ended at 2026-11-23T07:00:00Z: exit 75, 1 of 2 shares mounted, \
                config /etc/a \"b\".toml: it is \"broken\"";
    assert_eq!(status.ended().unwrap(), told);
    for broken in ["", "{}", "[]", "{\"shares\": 1}", "{\"shares\": [1, {}]}"] {
        let status = Status::parse(broken).unwrap_or_default();
        assert!(!status.made(up));
        assert_eq!(status.ended(), None);
    }
}

/// The file to the letter as the version before this one wrote it, in a boot in which the program
/// was replaced.
const OLD: &str = concat!(
    "{\"version\": 1, \"at\": \"2026-11-23T07:00:00Z\", \"once\": true, \"config\": \"/etc/efs-agent/config.toml\", ",
    "\"exit\": 75, \"client\": {\"identity\": \"efs-agent-0123\", \"set_by\": \"efs-agent\", \"place\": \"/sys/x\"}, ",
    "\"shares\": [\n",
    "  {\"endpoint\": \"fs-1.example\", \"path\": \"/\", \"mount_point\": \"/mnt/efs_share\", \"mounted\": true, ",
    "\"already\": false, \"address\": \"10.0.0.1\", \"tls\": null, \"encrypted\": false, \"mount\": {\"id\": 40, ",
    "\"device\": \"0:45\", \"source\": \"fs-1.example:/\", \"address\": \"10.0.0.1\"}, \"made\": true, \"attempts\": 1, ",
    "\"seconds\": 0.052, \"cause\": null, \"cure\": null},\n",
    "  {\"endpoint\": \"fs-2.example\", \"path\": \"/\", \"mount_point\": \"/mnt/b\", \"mounted\": false, ",
    "\"already\": false, \"address\": null, \"tls\": null, \"encrypted\": true, \"mount\": null, \"made\": false, ",
    "\"attempts\": 3, \"seconds\": 25.003, \"cause\": \"it is \\\"broken\\\"\", \"cure\": \"mend it\"}\n",
    "], \"earlier\": [  {\"endpoint\": \"10.0.0.9\", \"path\": \"/x\", \"mount_point\": \"/mnt/c\", \"mounted\": true, ",
    "\"already\": true, \"address\": \"10.0.0.9\", \"tls\": \"TLS 1.3\", \"encrypted\": true, \"mount\": {\"id\": 41, ",
    "\"device\": \"0:46\", \"source\": \"127.0.0.1:/x\", \"address\": \"127.0.0.1\"}, \"made\": false, \"attempts\": 0, ",
    "\"seconds\": 0.001, \"cause\": null, \"cure\": null}], \"unfinished\": [{\"at\": \"2026-11-23T06:59:00Z\", ",
    "\"once\": false, \"config\": \"/etc/efs-agent/config.toml\", \"pid\": 7, \"born\": \"4711\", \"made\": [{\"path\": ",
    "\"/mnt/d\", \"folder\": \"1:2:3.4\"}]}]}\n"
);

#[test]
fn what_the_version_before_has_written_is_read_and_goes_on() {
    let dir = machine();
    let root = dir.path();
    std::fs::create_dir(root.join("run/efs-agent")).unwrap();
    std::fs::write(root.join("run/efs-agent/status.json"), OLD).unwrap();
    let status = read(root);
    let [up, down] = &shares()[..] else { unreachable!() };
    assert!(status.made(up) && !status.made(down));
    let mounts: Vec<&ShareRecord> = status.mounts().collect();
    assert_eq!(mounts.len(), 2);
    assert!(mounts[0].is_share(up) && mounts[1].share().encryption.is_some());
    assert_eq!(
        last_run(root, &status).unwrap(),
        "the last run, by hand with --once, ended at 2026-11-23T07:00:00Z: exit 75, 1 of 2 shares mounted, \
         config /etc/efs-agent/config.toml: it is \"broken\""
    );
    assert_eq!(status.orphans(root)[0].path, Path::new("/mnt/d"));

    // The next run keeps what it does not find itself.
    let table = "41 1 0:46 / /mnt/c rw - nfs4 127.0.0.1:/x rw,addr=127.0.0.1\n";
    std::fs::write(root.join("proc/self/mountinfo"), table).unwrap();
    write(root, run(false, true)).unwrap();
    let after = read(root);
    assert!(after.made(up), "an earlier run had made it");
    assert_eq!(after.earlier, status.earlier);
    let killed = unfinished::UnfinishedRun { earlier: true, ..status.unfinished[0].clone() };
    assert_eq!(after.unfinished, [killed]);

    // A file of a still older version has neither.
    let text = OLD.replace("\"config\": \"/etc/efs-agent/config.toml\", \"exit\"", "\"exit\"");
    let earlier = Status::parse(&text).unwrap();
    assert!(earlier.ended().unwrap().ends_with("1 of 2 shares mounted: it is \"broken\""));
    let bare = Status::parse("{\"shares\": [{\"mount_point\": \"/mnt/a\"}]}").unwrap();
    assert_eq!(bare.mounts().count(), 0);
}

#[test]
fn that_a_mount_point_was_made_outlasts_a_run_that_finds_it_mounted() {
    let share = &shares()[0];
    let one = first(run(true, false));
    let second = next(run(false, true), &one);
    assert!(second.made(share));
    // A share that was mounted anew is on the same folder.
    let with_id = |id: u32, is_old: bool| {
        let mut run = run(false, false);
        run.shares[0].record.mount.as_mut().unwrap().id = id;
        run.shares[0].is_old = is_old;
        run
    };
    assert!(next(with_id(42, true), &second).made(share));

    // Two runs at the same time: one made the folder, the other made the mount.
    assert!(!first(run(false, false)).made(share));
    for (one, other) in [((true, true), (false, false)), ((false, false), (true, true))] {
        let both = next(run(other.0, other.1), &first(run(one.0, one.1)));
        assert!(both.made(share), "{both:?}");
    }

    // This is another mount, on a folder that existed before.
    assert!(!next(with_id(41, false), &second).made(share));
    // A run that was killed made this folder.
    let folder = || "1:2:3.4".to_owned();
    let made = vec![MadePoint { path: share.mount_point.clone(), folder: folder() }];
    let killed = unfinished::UnfinishedRun {
        at: AT.into(),
        once: false,
        config: CONFIG.into(),
        pid: 7,
        born: "1".into(),
        made,
        earlier: false,
    };
    let before = Status { unfinished: vec![killed], ..Status::default() };
    let mut over = with_id(41, false);
    assert!(!next(over.clone(), &before).made(share));
    over.shares[0].over = Some(folder());
    assert!(next(over, &before).made(share));
}

#[test]
fn a_mount_point_that_was_removed_is_no_longer_one_that_was_made() {
    let status = first(run(true, false));
    let [one, other] = &shares()[..] else { unreachable!() };
    let after = forgotten(&status, one, &status).unwrap();
    assert!(status.made(one) && !after.made(one));
    assert!(status.mounts().any(|known| known.is_share(one)));
    assert_eq!(after.mounts().count(), 0);
    let mut back = after;
    (back.shares[0].made, back.shares[0].mount) = (true, status.shares[0].mount.clone());
    assert_eq!(back, status, "all else is as it was");
    assert_eq!(forgotten(&status, other, &status), Some(status.clone()), "nothing to change");
    assert_eq!(forgotten(&status, one, &Status::default()), None, "it was mounted since");
}

#[test]
fn what_is_mounted_and_no_longer_in_the_config_is_remembered_as_long_as_it_is_mounted() {
    let dir = machine();
    let root = dir.path();
    let table = |text: &str| std::fs::write(root.join("proc/self/mountinfo"), text).unwrap();
    let one = first(run(true, false));
    let share = &shares()[0];
    let point = share.mount_point.display();
    let line = format!("40 1 0:45 / {point} rw - nfs4 fs-1.example:/ rw,addr=10.0.0.1\n");
    table(&line);

    // The next run has another config, in which the second share alone is left.
    let mut other = run(false, false);
    other.shares.remove(0);
    let second = ended(root, other.clone(), &one);
    assert_eq!(second.earlier, [one.shares[0].clone()]);
    let known: Vec<&ShareRecord> = second.mounts().collect();
    assert!(known.len() == 1 && known[0].is_share(share), "{known:?}");
    assert!(second.made(share));
    assert_eq!(known[0].share().source(), share.source());
    assert!(known[0].share().encryption.is_none());
    // The run after that keeps it too.
    assert_eq!(ended(root, other.clone(), &second).earlier, second.earlier);
    // A run that finds it has it among its own.
    assert_eq!(ended(root, run(true, false), &second).earlier, []);

    // Another mount with that number, or in that place, is not the share's.
    for (this, that) in [
        ("40 1", "41 1"),
        ("0:45", "0:46"),
        ("/mnt", "/srv"),
        ("nfs4 fs", "tmpfs fs"),
        (" fs-1", " fs-2"),
        ("0.0.1", "0.0.2"),
    ] {
        table(&line.replacen(this, that, 1));
        assert_eq!(ended(root, other.clone(), &second).earlier, [], "{that}");
    }
}

#[test]
fn a_share_that_is_up_before_its_run_ends_is_remembered_at_once() {
    let dir = machine();
    let root = dir.path();
    let one = run(true, false).shares.remove(0);
    let mut two = one.clone();
    two.record.mount_point = "/mnt/two".into();
    let points = || -> Vec<String> {
        let status = Status::parse(&text(root).unwrap()).unwrap();
        status.mounts().map(|one| one.mount_point.clone()).collect()
    };

    // The file does not exist, then has one, then the result of an earlier run.
    remember(root, one.clone());
    assert_eq!(points(), ["/mnt/efs_share"]);
    remember(root, two.clone());
    assert_eq!(points(), ["/mnt/efs_share", "/mnt/two"]);
    let status = read(root);
    assert!(status.records().all(|one| one.made) && status.ended().is_none(), "{status:?}");
    write(root, run(true, false)).unwrap();
    let last = read(root).ended().unwrap();
    remember(root, two);
    assert_eq!((points().len(), read(root).ended()), (2, Some(last)));

    // A file that cannot be understood is replaced.
    std::fs::write(root.join("run/efs-agent/status.json"), "{").unwrap();
    remember(root, one);
    assert_eq!(points().len(), 1);
}

#[test]
fn another_run_that_writes_it_is_waited_for() {
    let dir = machine();
    let root = dir.path();
    let write = |once| {
        write(root, EndedRun { once, ..run(true, false) }).unwrap();
        read(root).once.unwrap()
    };
    assert!(!write(false));
    let folder = File::open(root.join("run/efs-agent")).unwrap();
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
    let write = || write(dir.path(), run(true, false)).unwrap_err().to_string();
    let told = write();
    assert!(
        told.starts_with("/run/efs-agent/status.json cannot be written (no such file"),
        "{told}"
    );
    std::fs::create_dir(dir.path().join("run")).unwrap();
    std::fs::write(dir.path().join("run/efs-agent"), "").unwrap();
    let told = write();
    assert!(told.starts_with("/run/efs-agent/status.json cannot be reached: "), "{told}");
    let told = StatusError::Unwritten(Errno::ENOSPC).to_string();
    assert!(told.ends_with(": make room in /run (df -h /run, df -i /run)"), "{told}");
}

#[test]
fn it_is_written_whole_below_the_root_and_replaced() {
    let dir = machine();
    for (exit, once) in [(75, true), (0, true)] {
        write(dir.path(), EndedRun { exit, once, ..run(true, false) }).unwrap();
        let json: Value = json::read(text(dir.path()).unwrap().as_bytes()).unwrap();
        assert_eq!((&json["exit"], &json["once"]), (&exit.into(), &true.into()));
    }
    let left = std::fs::read_dir(dir.path().join("run/efs-agent")).unwrap().count();
    assert_eq!(left, 1, "no temporary file");
}
