//! Exact bytes. Documents at random are in `random.rs`.

mod random;

use super::*;
use crate::config::Level;

const FILE: &str = "/s/config.json";

/// Our call at `event`, with the default limits.
pub fn call(event: &str, filename: &str) -> Option<Call> {
    let (arguments, limit, key) = match event {
        "SessionStart" => ("", 25, "deadline"),
        _ => ("unmount", 20, "unmount_deadline"),
    };
    Some(Call {
        filename: filename.into(),
        arguments: arguments.into(),
        limit: Limit { key, span: Duration::from_secs(limit) },
    })
}

/// This program is registered at both events.
pub fn both() -> Registration {
    let own = "/usr/sbin/efs-agent";
    Registration {
        own: Some(own.into()),
        start: call("SessionStart", own),
        termination: call("SessionTermination", own),
        replace: false,
    }
}

fn start() -> Registration {
    Registration { termination: None, ..both() }
}

/// This program is registered at neither event.
pub fn none() -> Registration {
    Registration { start: None, termination: None, ..both() }
}

fn changed(text: &str, wanted: &Registration) -> (String, Vec<String>) {
    let change = change(Path::new(FILE), text, wanted).unwrap();
    (change.text, told(&change.notes))
}

fn told(notes: &[Note]) -> Vec<String> {
    let told = |note: &Note| match note.level() {
        Level::Info => note.to_string(),
        level => format!("{}: {note}", level.word()),
    };
    notes.iter().map(told).collect()
}

fn refused(text: &str, wanted: &Registration) -> String {
    change(Path::new(FILE), text, wanted).unwrap_err().sentence()
}

const START: &str = "registered /usr/sbin/efs-agent as the system-context SessionStart executable in /s/config.json";
const END: &str = "registered /usr/sbin/efs-agent unmount as the system-context SessionTermination \
                   executable in /s/config.json";

#[test]
fn null_is_absent_wherever_that_may_be_and_what_is_put_in_takes_its_place() {
    let go = "{\n  \"SessionStart\": {\n    \"executables\": null,\n    \"waitingTime\": 0\n  },\n  \
              \"SessionTermination\": {\n    \"executables\": null,\n    \"waitingTime\": null\n  }\n}\n";
    let (text, notes) = changed(go, &both());
    let list = |arguments: &str| {
        format!(
            "[\n      {{\n        \"context\": \"system\",\n        \"filename\": \"/usr/sbin/efs-agent\",\n        \
             \"arguments\": \"{arguments}\",\n        \"s3LogEnabled\": true\n      }}\n    ]"
        )
    };
    let expected = go
        .replacen("null", &list(""), 1)
        .replacen("null", &list("unmount"), 1)
        .replacen(": 0", ": 30", 1)
        .replacen("null", "25", 1);
    assert_eq!(text, expected);
    assert_eq!((notes[0].as_str(), notes[2].as_str()), (START, END));
    let (again, notes) = changed(&text, &both());
    assert_eq!((again.as_str(), notes.len()), (text.as_str(), 0));
    // Nothing in it is ours, so every byte stays.
    assert_eq!(changed(go, &none()), (go.to_owned(), Vec::new()));
    let entry = "{\"context\": \"system\", \"filename\": \"/usr/sbin/efs-agent\", \"arguments\": \"\", \
                 \"s3LogEnabled\": true}";
    let event = format!("{{\"executables\": [{entry}], \"waitingTime\": 30}}");
    let whole = format!("{{\"SessionStart\": {event}}}");
    for (old, new) in [
        ("null", &whole),
        ("{\"SessionStart\": null}", &whole),
        ("{\"SessionStart\": {\"executables\": null, \"waitingTime\": 30}}", &whole),
        ("{\"SessionStart\": {\"executables\": [null], \"waitingTime\": null}}", &whole),
        (
            "{\"SessionStart\": {\"executables\": [null, null], \"waitingTime\": 30}}",
            &whole.replace("true}]", "true}, null]"),
        ),
        (
            "{\"SessionStart\": {\"executables\": [{\"context\": \"system\", \"filename\": null, \"arguments\": null, \
             \"s3LogEnabled\": null}], \"waitingTime\": 30}}",
            &whole,
        ),
    ] {
        let bare = |text: &str| text.replace("{ ", "{").replace(" }", "}");
        assert_eq!(bare(&changed(old, &start()).0), *new, "{old}");
        assert_eq!(changed(old, &none()), (old.to_owned(), Vec::new()));
    }
}

#[test]
fn the_empty_entries_of_appstreams_own_file_are_filled_and_emptied_again() {
    let empty = empty();
    let (text, notes) = changed(&empty, &both());
    let mut expected = empty.replacen("\"\"", "\"/usr/sbin/efs-agent\"", 1);
    let second = expected.find("SessionTermination").unwrap();
    let end = expected.split_off(second);
    let end = end.replacen("\"\"", "\"/usr/sbin/efs-agent\"", 1);
    expected += &end.replacen("\"arguments\": \"\"", "\"arguments\": \"unmount\"", 1);
    assert_eq!(text, expected);
    assert_eq!(notes, [START, END]);
    let (again, notes) = changed(&text, &both());
    assert_eq!((again.as_str(), notes.len()), (text.as_str(), 0));
    let (emptied, notes) = changed(&text, &none());
    assert_eq!(emptied, empty);
    assert_eq!(
        notes,
        [
            "unregistered /usr/sbin/efs-agent: it is no longer the system-context SessionStart \
             executable in /s/config.json",
            "unregistered /usr/sbin/efs-agent unmount: it is no longer the system-context \
             SessionTermination executable in /s/config.json",
        ]
    );
    assert_eq!(changed(&emptied, &none()), (empty, vec![]));
}

#[test]
fn what_is_added_is_laid_out_like_the_document() {
    // What is there, and what becomes of it.
    let cases = [
        (
            "{}",
            r#"{ "SessionStart": { "executables": [{ "context": "system", "filename": "/usr/sbin/efs-agent", "arguments": "", "s3LogEnabled": true }], "waitingTime": 30 } }"#,
        ),
        (
            "{\"a\":1}",
            r#"{"a":1,"SessionStart":{"executables":[{"context":"system","filename":"/usr/sbin/efs-agent","arguments":"","s3LogEnabled":true}],"waitingTime":30}}"#,
        ),
        (
            "\u{feff}{\r\n\t\"X\" : 1.50\r\n}",
            "\u{feff}{\r\n\t\"X\" : 1.50,\r\n\t\"SessionStart\" : {\r\n\t\t\"executables\" : [\r\n\t\t\t{\r\n\t\t\t\t\"context\" : \"system\",\r\n\t\t\t\t\"filename\" : \"/usr/sbin/efs-agent\",\r\n\t\t\t\t\"arguments\" : \"\",\r\n\t\t\t\t\"s3LogEnabled\" : true\r\n\t\t\t}\r\n\t\t],\r\n\t\t\"waitingTime\" : 30\r\n\t}\r\n}",
        ),
        // Keys as they are documented, however the neighbours spell them.
        (
            "{\n \"SESSIONSTART\": {\n  \"Executables\": [\n   { \"Context\":\"user\", \"FileName\":\"/u\" }\n  ]\n }\n}\n",
            "{\n \"SESSIONSTART\": {\n  \"Executables\": [\n   { \"Context\":\"user\", \"FileName\":\"/u\" },\n   {\n    \"context\": \"system\",\n    \"filename\": \"/usr/sbin/efs-agent\",\n    \"arguments\": \"\",\n    \"s3LogEnabled\": true\n   }\n  ],\n  \"waitingTime\": 30\n }\n}\n",
        ),
        // This is what an earlier README advised.
        (
            "{\n  \"SessionTermination\": { \"executables\": [{\"context\": \"user\"}], \"waitingTime\": 30 },\n  \"SessionStart\": { \"executables\": [], \"waitingTime\": 30 }\n}\n",
            "{\n  \"SessionTermination\": { \"executables\": [{\"context\": \"user\"}], \"waitingTime\": 30 },\n  \"SessionStart\": { \"executables\": [{ \"context\": \"system\", \"filename\": \"/usr/sbin/efs-agent\", \"arguments\": \"\", \"s3LogEnabled\": true }], \"waitingTime\": 30 }\n}\n",
        ),
        (
            "{\n  \"SessionStart\": {\n  }\n}",
            "{\n  \"SessionStart\": {\n    \"executables\": [\n      {\n        \"context\": \"system\",\n        \"filename\": \"/usr/sbin/efs-agent\",\n        \"arguments\": \"\",\n        \"s3LogEnabled\": true\n      }\n    ],\n    \"waitingTime\": 30\n  }\n}",
        ),
        // An entry that lacks keys gets them.
        (
            "{\"sessionstart\": {\"waitingtime\": 2.7e1, \"executables\": [{\"CONTEXT\": \"System\", \"x\": [0.10]}]}}",
            "{\"sessionstart\": {\"waitingtime\": 2.7e1, \"executables\": [{\"CONTEXT\": \"System\", \"x\": [0.10], \"filename\": \"/usr/sbin/efs-agent\", \"arguments\": \"\", \"s3LogEnabled\": true}]}}",
        ),
    ];
    for (old, new) in cases {
        assert_eq!(changed(old, &start()).0, new);
    }
}

#[test]
fn waiting_time_is_raised_only_as_far_as_it_must_and_said() {
    let with = |time: &str| {
        format!(
            "{{\"SessionStart\": {{\"executables\": [{{\"context\": \"system\", \"filename\": \
             \"/usr/sbin/efs-agent\", \"arguments\": \"\", \"s3LogEnabled\": true}}], \
             \"waitingTime\": {time}}}}}"
        )
    };
    let after = |limit: f64, time: &str| {
        let mut wanted = start();
        wanted.start.as_mut().unwrap().limit.span = Duration::from_secs_f64(limit);
        change(Path::new(FILE), &with(time), &wanted)
    };
    for enough in ["27", "27.0", "2.7e1", "0.27E+2", "270e-1", "30", "60"] {
        let change = after(25.0, enough).unwrap();
        assert_eq!((change.text, change.notes), (with(enough), vec![]));
    }
    for (limit, old, new) in [
        (25.0, "26", "30"),
        (25.0, "26.999", "30"),
        (25.0, "-27", "30"),
        (25.0, "0", "30"),
        (25.0, "27e-1", "30"),
        (25.2, "27", "31"),
        (57.0, "58", "60"),
        (58.0, "59.9", "60"),
    ] {
        let change = after(limit, old).unwrap();
        assert_eq!(change.text, with(new), "{limit} {old}");
        let span = humantime::format_duration(Duration::from_secs_f64(limit));
        let note = format!(
            "waitingTime of SessionStart raised from {old} to {new}: deadline {span} must end 2 s before it"
        );
        assert_eq!(told(&change.notes), [note]);
    }
    let never = after(58.5, "60").unwrap_err().sentence();
    assert_eq!(
        never,
        "deadline 58s 500ms can never fit: AppStream waits for SessionStart at most 60 s \
         (waitingTime), and the run must end 2 s before that; make deadline 58s or less in the \
         config of efs-agent"
    );
    for large in ["61", "1e400", "99999999999999999999999", "6.1e1"] {
        let change = after(25.0, large).unwrap();
        let note = format!(
            "warning: waitingTime of SessionStart is {large}, but AppStream takes at most 60"
        );
        assert_eq!((change.text, told(&change.notes)), (with(large), vec![note]));
    }
    assert_eq!(
        after(25.0, "\"30\"").unwrap_err().sentence(),
        "/s/config.json:1:148: waitingTime must be a number of seconds, not a string; nothing was changed"
    );
}

#[test]
fn somebody_elses_entry_is_named_and_makes_way_only_if_told() {
    let text = "{\n\"SessionStart\": {\"executables\": [\n  {\"context\": \"system\", \"filename\": \"/opt/x.sh\",\n   \"arguments\": \"-v\", \"s3LogEnabled\": false, \"y\": 1}], \"waitingTime\": 30}}";
    let mut wanted = start();
    assert_eq!(
        refused(text, &wanted),
        "/s/config.json:3:37: the system-context SessionStart executable is /opt/x.sh -v, which is \
         not efs-agent; nothing was changed (--replace puts efs-agent in its place, or have \
         that script start /usr/sbin/efs-agent)"
    );
    // A filename that is meant to be ours is no script of somebody else.
    for (filename, why) in [
        ("/usr/sbin/efs-agent --once", "arguments belong into `arguments`"),
        ("/usr/sbin/efs-agent ", "its filename has a blank at its end"),
    ] {
        let told = refused(&text.replace("/opt/x.sh", filename), &wanted);
        let end = format!(": {why}; nothing was changed (--replace puts efs-agent in its place)");
        assert!(told.ends_with(&end), "{told}");
    }
    wanted.replace = true;
    let (new, notes) = changed(text, &wanted);
    let expected = text.replace("/opt/x.sh", "/usr/sbin/efs-agent").replace("-v", "");
    assert_eq!(new, expected);
    assert_eq!(
        notes,
        [
            "warning: s3LogEnabled of the system-context SessionStart entry is false: what \
             efs-agent says will not be in the S3 session log unless it is true",
            &format!(
                "{START}, in place of {{\"context\": \"system\", \"filename\": \"/opt/x.sh\", \
                 \"arguments\": \"-v\", \"s3LogEnabled\": false, \"y\": 1}}"
            ),
        ]
    );
    let end = text.replace("SessionStart", "SessionTermination");
    assert!(refused(&end, &both()).ends_with(
        "(--replace puts efs-agent in its place, --no-termination leaves SessionTermination alone)"
    ));
    assert_eq!(changed(&end, &none()), (end.clone(), vec![]), "and is not taken out");
    assert!(changed(&end, &start()).0.contains("/opt/x.sh"));
}

#[test]
fn an_entry_of_ours_is_known_by_what_it_points_at_and_brought_up_to_date() {
    let with =
        |filename: &str, arguments: &str| {
            empty()
                .replacen("\"filename\": \"\"", &format!("\"filename\": {filename}"), 1)
                .replacen("\"arguments\": \"\"", &format!("\"arguments\": {arguments}"), 1)
        };
    let wanted = with("\"/usr/sbin/efs-agent\"", "\"\"");
    for ours in ["\"/opt/a/efs-agent\"", "\"/opt/a/efs-agent.sh\"", "\"efs-agent\""] {
        let (text, notes) = changed(&with(ours, "\"--once\""), &start());
        assert_eq!(text, wanted);
        assert_eq!(notes, [format!("{START}, in place of {} --once", ours.trim_matches('"'))]);
    }
    let spelt = with("\"\\/usr\\/sbin\\/efs-\\u0061gent\"", "\"\"");
    assert_eq!(changed(&spelt, &start()), (spelt.clone(), vec![]), "escapes mean the same");
    for foreign in ["\"/opt/efs-agent/start\"", "\"/opt/my-efs-agent\"", "\"/bin/sh\""] {
        assert!(refused(&with(foreign, "\"\""), &start()).contains("which is not efs-agent"));
    }
    let own = Registration {
        own: Some("/opt/agent-2".into()),
        start: call("SessionStart", "/opt/agent-2"),
        ..none()
    };
    assert!(changed(&with("\"/opt/agent-2\"", "\"\""), &own).1.is_empty());
    assert_eq!(
        changed(&with("\"/opt/agent-2\"", "\"\""), &Registration { start: None, ..own }).0,
        empty()
    );
}

#[test]
fn no_termination_takes_an_earlier_one_out() {
    let registered = changed(&empty(), &both()).0;
    let (text, notes) = changed(&registered, &start());
    assert_eq!(text, changed(&empty(), &start()).0);
    assert_eq!(notes.len(), 1);
    assert!(notes[0].starts_with("unregistered /usr/sbin/efs-agent unmount: "), "{notes:?}");
}

#[test]
fn a_user_context_entry_is_never_touched() {
    let text = empty().replace(
        "\"user\",\n        \"filename\": \"\"",
        "\"user\",\n        \"filename\": \"/a/efs-agent\"",
    );
    let (new, notes) = changed(&text, &start());
    assert_eq!(new.matches("/a/efs-agent").count(), 2);
    assert_eq!(
        notes[0],
        "warning: the user-context SessionStart entry names efs-agent, which must run as root: empty it"
    );
    assert_eq!(changed(&text, &none()).0, text);
}

#[test]
fn what_is_malformed_is_refused_with_line_and_column() {
    let end = "; nothing was changed";
    let cases = [
        ("", "1:1: the file ends here, where a value should be"),
        ("[]", "1:1: the outermost value must be an object, not an array"),
        ("\u{feff}{\n  \"a\": 1,\n}", "3:1: a comma too many before this '}'"),
        ("\u{feff}{\"a\" 1}", "1:6: '1' where a colon after the key should be"),
        ("{\"SessionStart\": []}", "1:18: SessionStart must be an object, not an array"),
        (
            "{\"SessionStart\": {\"executables\": {}}}",
            "1:34: executables must be an array, not an object",
        ),
        (
            "{\"SessionStart\": {\"executables\": [1]}}",
            "1:35: each of the executables must be an object, not a number",
        ),
        (
            "{\"SessionStart\": {\"executables\": [{\"context\": \"system\", \"filename\": 1}]}}",
            "1:69: filename must be a string, not a number",
        ),
        (
            "{\"SessionStart\": {\"executables\": [{\"context\": 1}]}}",
            "1:47: context must be a string, not a number",
        ),
        (
            "{\"SessionStart\": {},\r\n \"sessionstart\": {}}",
            "2:2: \"sessionstart\" is the same key as \"SessionStart\" in line 1, column 2: take one of them out",
        ),
        (
            "{\"SessionTermination\": {\"waitingTime\": 30, \"waiting\\u0054ime\": 30}}",
            "1:44: \"waitingTime\" is the same key as \"waitingTime\" in line 1, column 25: take one of them out",
        ),
        (
            "{\"SessionStart\": {\"executables\": [{\"context\": \"system\", \"Filename\": \"\",\n\"filename\": \"\"}]}}",
            "2:1: \"filename\" is the same key as \"Filename\" in line 1, column 57: take one of them out",
        ),
        (
            "{\"SessionStart\": {\"executables\": [{\"context\": \"system\"},\n{\"context\": \"system\"}]}}",
            "2:1: a second system-context executable of SessionStart: AppStream takes one for each context, so take one out",
        ),
        (
            "{\"SessionStart\": {\"executables\": [{\"context\": \"user\"}, {}]}}",
            "1:34: 2 executables of SessionStart already, none of them in the system context: AppStream takes one for each context, so take one out",
        ),
    ];
    for (text, what) in cases {
        assert_eq!(refused(text, &both()), format!("{FILE}:{what}{end}"));
    }
    assert!(change(Path::new(FILE), "{\"a\": 1, \"A\": 2, \"a\": 3}", &both()).is_ok());
}

#[test]
fn what_is_not_utf_8_is_refused_with_line_and_column() {
    let refused = |bytes: &[u8]| text(Path::new(FILE), bytes).unwrap_err().sentence();
    let end = "nothing was changed";
    assert_eq!(
        refused(b"{\n \"\xc3\xa4\xe4\": 1}"),
        format!("{FILE}:2:4: not UTF-8: save the file as UTF-8; {end}")
    );
    assert_eq!(
        refused(b"\xff\xfe{\0}\0"),
        format!("{FILE}:1:1: UTF-16: save the file as UTF-8; {end}")
    );
}
