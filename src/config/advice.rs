//! Names settings that are possible but seldom meant: options that EFS does not support or is slowed by, by AWS's own
//! advice, and what is unsafe on any server. Nothing is refused here.

use super::ids::is_of_efs;
use super::options::NFS_PORT;
use super::{Endpoint, Share};
use nix::libc;

const ONE_ADDRESS: &str = "a mount target has one address, so that it is of no use";
const ATTRIBUTES: &str = "attributes are asked for at each step, which is slow on EFS";
const NAMES: &str = "names are asked for at each step, which is slow on EFS";
const AT_ONCE: &str = "programs wait for EFS at each write";
const LOST: &str = "what was written can be lost when EFS is slow for a while";

/// Words that do EFS no good, each with the reason.
const WORDS: &[(&str, &str)] = &[
    ("noac", ATTRIBUTES),
    ("fsc", "AWS advises against a cache on the local disk"),
    ("nordirplus", "files of a folder are asked for one by one"),
    ("soft", LOST),
    ("softerr", LOST),
    ("trunkdiscovery", ONE_ADDRESS),
    ("write=eager", "each write is sent by itself, which is slow on EFS"),
    ("write=wait", AT_ONCE),
    ("lookupcache=none", NAMES),
    ("lookupcache=pos", NAMES),
    ("lookupcache=positive", NAMES),
    ("actimeo=0", ATTRIBUTES),
    ("acregmax=0", ATTRIBUTES),
    ("acdirmax=0", ATTRIBUTES),
    ("nfsvers=4.2", "EFS speaks 4.0 and 4.1 alone"),
    ("nfsvers=4.0", "AWS recommends 4.1, and locks are slower with 4.0"),
];

/// Numbers, and the range in which they do no harm.
const NUMBERS: &[(&str, u64, u64, &str)] = &[
    ("nconnect", 0, 1, "EFS does not support several connections"),
    ("max_connect", 0, 1, ONE_ADDRESS),
    ("rsize", 1_048_576, u64::MAX, "less than 1048576 needs more requests, and is slow on EFS"),
    ("wsize", 1_048_576, u64::MAX, "less than 1048576 needs more requests, and is slow on EFS"),
    ("timeo", 150, u64::MAX, "AWS advises 150 or more, so that a slow moment is waited for"),
];

/// The words of a share's options that do EFS no good, each with the reason. A share on another server has none.
pub fn on_efs(share: &Share) -> Vec<(String, &'static str)> {
    let by_name = match &share.endpoint {
        Endpoint::Name(name) => is_of_efs(name),
        Endpoint::Address(_) => false,
    };
    if !by_name && share.encryption.is_none() {
        return Vec::new();
    }

    let options = &share.options;
    let mut found: Vec<(String, &str)> = WORDS
        .iter()
        .filter(|(word, _)| options.has(word))
        .map(|(word, why)| ((*word).to_owned(), *why))
        .collect();

    // `fsc` may have a name behind it.
    found.extend(
        options
            .value("fsc")
            .map(|tag| (format!("fsc={tag}"), "AWS advises against a cache on the local disk")),
    );

    for (key, least, most, why) in NUMBERS {
        let number = options.value(key).and_then(|value| value.parse::<u64>().ok());
        if let Some(number) = number.filter(|number| number < least || number > most) {
            found.push((format!("{key}={number}"), why));
        }
    }

    for (word, bit) in [("sync", libc::MS_SYNCHRONOUS), ("dirsync", libc::MS_DIRSYNC)] {
        found.extend((options.flags & bit != 0).then(|| (word.to_owned(), AT_ONCE)));
    }

    if options.port != NFS_PORT {
        found.push((format!("port={}", options.port), "EFS listens on 2049 alone: take it out"));
    }

    // Through a tunnel, reserved ports are used anyway.
    if options.has("resvport") && share.encryption.is_none() {
        let why = "AWS recommends noresvport: a connection that broke is made anew sooner";
        found.push(("resvport".into(), why));
    }
    found
}

/// What is accepted for every server, and seldom meant, each with what to do.
pub fn on_any_server(share: &Share) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let options = &share.options;
    for (bit, word, what) in [
        (libc::MS_NOSUID, "suid", "set-user-ID programs on the share run as their owner, root too"),
        (libc::MS_NODEV, "dev", "device files on the share work, whoever has made them"),
    ] {
        if options.flags & bit == 0 {
            let cure = format!(
                "take {word} out of `options`, unless all who can write to the share are trusted as root is"
            );
            found.push((format!("{word}: {what}"), cure));
        }
    }

    if share.required && options.ignored.iter().any(|word| word == "nofail") {
        let what = "nofail: it is passed over, and the run still fails if this share does";
        found.push((what.into(), "write required = false instead".into()));
    }

    // People give a folder mode 0 so that nobody writes below a share that is not mounted.
    let modes =
        [("mode", Some(share.mode).filter(|mode| *mode != 0)), ("root_mode", share.root_mode)];
    for (key, mode) in modes {
        if let Some(mode) = mode.filter(|mode| mode & 0o111 == 0) {
            let what = format!("{key} = \"{mode:04o}\": nobody but root could enter the folder");
            // Those who may read should be able to enter.
            let better = mode | (mode & 0o444) >> 2;
            let better = if better & 0o111 == 0 { 0o755 } else { better };
            found.push((what, format!("write {key} = \"{better:04o}\"")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::{encrypted_share, share_of};

    const EFS: &str = "fs-0123abcd.efs.eu-west-1.amazonaws.com";

    fn words(endpoint: &str, options: &str) -> Vec<String> {
        let text = format!("[[share]]\nendpoint = \"{endpoint}\"\noptions = \"{options}\"\n");
        on_efs(&share_of(&text)).into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn what_is_seldom_meant_is_named_with_what_to_do_on_any_server() {
        let told = |lines: &str| {
            on_any_server(&share_of(&format!("[[share]]\nendpoint = \"10.0.0.1\"\n{lines}\n")))
        };
        for (lines, said, cure) in [
            ("options = \"suid\"", "suid: set-user-ID programs", "take suid out"),
            ("options = \"dev\"", "dev: device files", "take dev out"),
            ("options = \"nofail\"", "nofail: it is passed over", "required = false"),
            ("root_mode = \"0666\"", "root_mode = \"0666\": nobody but root", "\"0777\""),
            ("root_mode = \"000\"", "root_mode = \"0000\": nobody but root", "\"0755\""),
            ("mode = \"0644\"", "mode = \"0644\": nobody but root", "\"0755\""),
        ] {
            let found = told(lines);
            let [(what, to_do)] = &found[..] else { panic!("{lines}: {found:?}") };
            assert!(what.starts_with(said) && to_do.contains(cure), "{what}: {to_do}");
        }
        for fine in [
            "",
            "options = \"rw,suid,dev,exec,auto,nouser,async\"",
            "options = \"nofail\"\nrequired = false",
            "mode = \"0000\"",
            "mode = \"0700\"\nroot_mode = \"0711\"",
        ] {
            assert_eq!(told(fine), [], "{fine}");
        }
    }

    #[test]
    fn what_efs_does_not_take_or_is_slowed_by_is_named_and_nothing_else_is() {
        for word in [
            "nconnect=16",
            "noac",
            "actimeo=0",
            "acregmax=0",
            "acdirmax=0",
            "lookupcache=none",
            "lookupcache=pos",
            "fsc",
            "fsc=tag",
            "sync",
            "dirsync",
            "rsize=8192",
            "wsize=1047552",
            "soft",
            "softerr",
            "timeo=14",
            "write=wait",
            "write=eager",
            "nfsvers=4.0",
            "nfsvers=4.2",
            "port=2050",
            "resvport",
            "max_connect=4",
            "trunkdiscovery",
            "nordirplus",
        ] {
            assert_eq!(words(EFS, word), [word]);
            assert!(words("nfs.example", word).is_empty(), "{word}");
            assert!(words("10.0.0.1", word).is_empty(), "{word}");
        }
        for fine in [
            "",
            "nconnect=1",
            "ac",
            "actimeo=1",
            "acregmin=0",
            "lookupcache=all",
            "nofsc",
            "async",
            "hard",
            "rsize=1048576",
            "timeo=600",
            "ro,noatime,noexec",
            "nfsvers=4.1",
            "port=2049",
            "nocto",
            "context=u:r:t",
            "soft,hard",
            "_netdev",
        ] {
            assert!(words(EFS, fine).is_empty(), "{fine}");
        }
        assert_eq!(words(&format!("eu-west-1a.{EFS}"), "noac,nconnect=2"), ["noac", "nconnect=2"]);
        assert!(words("fs-0123abcd.fsx.eu-west-1.amazonaws.com", "nconnect=16").is_empty());
        assert!(on_efs(&encrypted_share("options = \"resvport\"\n")).is_empty());
        assert_eq!(on_efs(&encrypted_share("options = \"noac\"\n")).len(), 1);
    }
}
