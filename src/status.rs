//! /run/efs-agent/status.json: how the last session start ended, for people and for `status`. No
//! run decides anything by it, but that `unmount` learns from it which mount points were made.

use crate::config::Share;
use crate::files::{self, Place};
use crate::json::{Document, Node, Value, quoted};
use crate::report::{Code, Outcome, Report};
use crate::share::Mounted;
use crate::sys;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Where it is.
pub const STATUS: &str = "/run/efs-agent/status.json";

/// Writes down how a run with `config` ended. `at` is now, as RFC 3339 has it; `root` is `/` outside of
/// tests. That it cannot be written is nobody's loss.
pub fn write(root: &Path, config: &Path, report: &Report, code: Code, once: bool, at: &str) {
    let path = Path::new(STATUS);
    // Closed to others, so that nobody else can hold the lock.
    let folder = root.join("run/efs-agent");
    let fresh = DirBuilder::new().mode(0o700).create(folder).is_ok();
    let Ok(place) = files::find(root, path) else {
        return;
    };
    let Ok(folder) = place.folder() else {
        return;
    };
    // Another run is writing: it will do.
    if sys::lock_now(&folder).is_err() {
        return;
    }
    if place.trust(None).is_err() {
        return;
    }
    // In a folder that we have just made there is none.
    let before = if fresh { None } else { contents(&place) };
    let text = text(config, report, code, once, at, before.as_deref());
    let _ = place.put(&folder, text.as_bytes());
}

fn contents(place: &Place) -> Option<String> {
    String::from_utf8(place.read().ok()??).ok()
}

/// The text of it, if there is one that root alone can have written.
pub fn read(root: &Path) -> Option<String> {
    contents(&files::find(root, Path::new(STATUS)).ok()?)
}

/// Whether the mount point of `share` was made for it, as `status` (the text of the file) has it.
pub fn made(status: &str, share: &Share) -> bool {
    let Ok(document) = Document::parse(status) else {
        return false;
    };
    let Some(Value::Array(shares)) = member(&document.root, "shares").map(|node| &node.value)
    else {
        return false;
    };
    let point = share.mount_point.to_str().map(|point| Value::String(point.to_owned()));
    shares.iter().any(|one| {
        member(one, "mount_point").map(|node| &node.value) == point.as_ref()
            && member(one, "made").is_some_and(|node| node.value == Value::Boolean(true))
    })
}

/// How the last start ended, in one line, as `status` (the text of the file) has it.
pub fn told(status: &str) -> Option<String> {
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

/// The value of `key` in an object.
fn member<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Object(members) = &node.value else {
        return None;
    };
    members.iter().find(|member| member.key == key).map(|member| &member.value)
}

fn text(
    config: &Path,
    report: &Report,
    code: Code,
    once: bool,
    at: &str,
    before: Option<&str>,
) -> String {
    let shares: Vec<String> = report.outcomes.iter().map(|one| share(one, before)).collect();
    format!(
        "{{\"version\": 1, \"at\": {}, \"once\": {once}, \"config\": {}, \"exit\": {}, \"shares\": [\n{}\n]}}\n",
        quoted(at),
        quoted(&config.to_string_lossy()),
        code.0,
        shares.join(",\n")
    )
}

fn share(outcome: &Outcome, before: Option<&str>) -> String {
    let Outcome { share, result, attempts, took } = outcome;
    let text = |text: Option<&str>| text.map_or("null".into(), quoted);
    let mounted = result.as_ref().ok();
    let cause = result.as_ref().err();
    // What is mounted already was made, or not, by an earlier run.
    let made = mounted.is_some_and(|mounted| match mounted.already {
        true => before.is_some_and(|before| made(before, share)),
        false => mounted.made,
    });
    format!(
        "  {{\"endpoint\": {}, \"path\": {}, \"mount_point\": {}, \"mounted\": {}, \"already\": {}, \
         \"address\": {}, \"tls\": {}, \"made\": {made}, \"attempts\": {attempts}, \"seconds\": {:.3}, \"cause\": {}, \"cure\": {}}}",
        quoted(&share.endpoint.to_string()),
        quoted(&share.path),
        quoted(&share.mount_point.to_string_lossy()),
        mounted.is_some(),
        mounted.is_some_and(|mounted| mounted.already),
        text(mounted.map(Mounted::server).as_deref()),
        text(mounted.and_then(|mounted| Some(mounted.peer.as_ref()?.version.as_str()))),
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
    use std::time::Duration;

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
        }
    }

    const CONFIG: &str = "/etc/a \"b\".toml";
    const AT: &str = "2026-11-23T07:00:00Z";

    #[test]
    fn it_is_json_that_tells_of_each_share_and_is_read_again() {
        let report = report(true, false);
        let text = text(Path::new(CONFIG), &report, Code::DEADLINE, false, AT, None);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["shares"][0]["address"], "10.0.0.1");
        assert_eq!(json["config"], CONFIG);
        assert_eq!(json["shares"][1]["cause"], "it is \"broken\"");
        assert!(made(&text, &report.outcomes[0].share));
        assert!(!made(&text, &report.outcomes[1].share));
        assert_eq!(
            told(&text).unwrap(),
            "the last session start ended at 2026-11-23T07:00:00Z: exit 75, 1 of 2 shares mounted, \
             config /etc/a \"b\".toml: it is \"broken\""
        );
        let earlier = text.replace("\"config\": \"/etc/a \\\"b\\\".toml\", ", "");
        assert!(told(&earlier).unwrap().ends_with("1 of 2 shares mounted: it is \"broken\""));
        for broken in ["", "{}", "[]", "{\"shares\": 1}", "{\"shares\": [1, {}]}"] {
            assert!(!made(broken, &report.outcomes[0].share));
            assert_eq!(told(broken), None);
        }
    }

    #[test]
    fn that_a_mount_point_was_made_outlasts_a_run_that_finds_it_mounted() {
        let config = Path::new(CONFIG);
        let first = text(config, &report(true, false), Code::OK, false, AT, None);
        let second = text(config, &report(false, true), Code::OK, false, AT, Some(&first));
        assert!(made(&second, &report(false, true).outcomes[0].share));
        let other = text(config, &report(false, false), Code::OK, false, AT, Some(&second));
        assert!(!made(&other, &report(false, true).outcomes[0].share));
    }

    #[test]
    fn it_is_written_whole_below_the_root_and_replaced() {
        let dir = tempfile::Builder::new().tempdir_in("/run").unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        for (code, exit) in [(Code::DEADLINE, 75), (Code::OK, 0)] {
            write(dir.path(), Path::new(CONFIG), &report(true, false), code, true, AT);
            let json: serde_json::Value = serde_json::from_str(&read(dir.path()).unwrap()).unwrap();
            assert_eq!(json["exit"], exit);
            assert_eq!(json["once"], true);
        }
        let left = std::fs::read_dir(dir.path().join("run/efs-agent")).unwrap().count();
        assert_eq!(left, 1, "no temporary file");
    }
}
