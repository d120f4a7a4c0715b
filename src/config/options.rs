//! NFS mount options: AWS's recommended ones, and what an administrator puts
//! over them, key by key.
//!
//! mount(2) answers EINVAL to almost anything it does not like, so each word is
//! checked here, against the list that the kernel's own parser has.

use super::pasted::{self, Lines};
use super::reader::hint;
pub use super::words::CONTEXTS;
use super::words::{
    FLAGS, HELPER, IGNORED, KEYS, OWN_KEYS, REFUSED, REMARKS, VERSIONS, Value, YOUNG, line,
};
use crate::text::misleads;
use nix::libc;

/// Options of one share, ready for mount(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// MS_* bits: ro, nosuid and the like.
    pub flags: u64,
    /// The rest, `key` or `key=value`, in a fixed order. Always holds `nfsvers=`.
    data: Vec<String>,
    /// TCP port of the server.
    pub port: u16,
    /// Words meant for mount(8) or fstab, which have no meaning here.
    pub ignored: Vec<String>,
}

/// What the EFS documentation recommends, the version first: without one the kernel takes 4.0.
const DEFAULTS: &str =
    "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport";
const DEFAULT_FLAGS: u64 = libc::MS_NOSUID | libc::MS_NODEV;
/// Where NFS servers listen, and what the kernel takes where no port is given.
pub const NFS_PORT: u16 = 2049;

impl Default for MountOptions {
    fn default() -> Self {
        let data = DEFAULTS.split(',').map(str::to_owned).collect();
        Self { flags: DEFAULT_FLAGS, data, port: NFS_PORT, ignored: Vec::new() }
    }
}

/// The words of a list, as mount(8) and the kernel separate them: at commas that are not in double quotes.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

/// The trimmed words of a list. A context that was cut at its own commas is put together again, and marked.
fn whole_words(text: &str) -> Vec<(String, bool)> {
    let mut found: Vec<(String, bool)> = Vec::new();
    for word in words(text).map(str::trim).filter(|word| !word.is_empty()) {
        match found.last_mut() {
            Some((last, cut)) if is_category(word) && ends_in_category(last) => {
                last.push(',');
                last.push_str(word);
                *cut = true;
            }
            _ => found.push((word.to_owned(), false)),
        }
    }
    found
}

/// `c1`, or a range of categories as in `c0.c1023`.
fn is_category(word: &str) -> bool {
    word.split('.').all(|one| {
        let digits = one.strip_prefix('c').unwrap_or_default();
        (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Whether `word` is a context without quotes that a further category may follow.
fn ends_in_category(word: &str) -> bool {
    let value = word.split_once('=').filter(|(key, _)| CONTEXTS.contains(key));
    value.is_some_and(|(_, value)| {
        !value.contains('"')
            && value.contains(':')
            && value.rsplit([':', ',']).next().is_some_and(is_category)
    })
}

/// A list of options, read to its end whatever is wrong in it.
pub(super) struct Read {
    /// What the good ones make of the defaults.
    options: MountOptions,
    /// Those that are good and say something.
    kept: Vec<String>,
    /// The words of amazon-efs-utils that are lines here.
    helper: Vec<String>,
    /// Those lines.
    lines: Lines,
    /// Whether a context with a comma in it stood there without quotes.
    pub(super) cut: bool,
    /// What is wrong with the others.
    pub(super) wrong: Vec<String>,
}

impl Read {
    pub(super) fn of(text: &str) -> Self {
        let mut read = Self {
            options: MountOptions::default(),
            kept: Vec::new(),
            helper: Vec::new(),
            lines: Lines::default(),
            cut: false,
            wrong: Vec::new(),
        };
        let list = whole_words(text);
        let given = |word: &str| list.iter().any(|(held, _)| held == word);
        // What mount(8) says that `defaults` is: whoever pastes it has not asked for less safety.
        let defaults = given("defaults") || given("auto") && given("nouser");
        for (word, cut) in &list {
            let word = word.as_str();
            if defaults && ["suid", "dev"].contains(&word) {
                read.options.ignored.push(word.to_owned());
                continue;
            }
            if let Some((key, value)) = word.split_once('=').filter(|_| *cut) {
                let quoted = format!("{key}=\"{value}\"");
                read.cut = true;
                read.wrong.extend(read.options.put(&quoted).err());
                read.kept.push(quoted);
                continue;
            }
            let (key, value) = match word.split_once('=') {
                None => (word, None),
                Some((key, value)) => (key, Some(value)),
            };
            let as_line = line(key, value).filter(|_| !word.contains(misleads));
            if let Some((line, value)) = as_line {
                read.helper.push(format!("\"{key}\""));
                read.lines.put(line, value);
                continue;
            }
            let passed_over = read.options.ignored.len();
            match read.options.put(word) {
                Ok(()) if read.options.ignored.len() == passed_over => read.kept.push(word.into()),
                Ok(()) => {}
                // The same slip twice is one.
                Err(what) if read.wrong.contains(&what) => {}
                Err(what) => read.wrong.push(what),
            }
        }
        if ["context", "defcontext"].iter().all(|key| read.options.value(key).is_some()) {
            read.wrong.push(
                "\"context\" and \"defcontext\" exclude each other: SELinux takes one of the two"
                    .into(),
            );
        }
        read
    }

    /// What it would be as lines of a `[[share]]`, put behind those of `lines`.
    pub(super) fn into_lines(self, lines: &mut Lines) {
        if self.options.ignored.iter().any(|word| word == "nofail") {
            lines.put("required", "false".into());
        }
        lines.append(self.lines);
        if !self.kept.is_empty() {
            lines.put("options", format!("{:?}", self.kept.join(",")));
        }
    }

    /// All that is wrong; `held` are the keys that the share has already.
    fn complaint(mut self, held: &dyn Fn(&str) -> bool) -> Option<String> {
        if self.cut {
            self.wrong.insert(
                0,
                format!(
                    "put the context in double quotes, since there is a comma in it, and the whole list in single \
                     ones: write options = '{}'",
                    self.kept.join(",")
                ),
            );
        }
        if let Some((last, others)) = self.helper.split_last() {
            let (names, are) = match others {
                [] => (last.clone(), "is an option"),
                others => (format!("{} and {last}", others.join(", ")), "are options"),
            };
            let mut lines = std::mem::take(&mut self.lines);
            for key in lines.keys().into_iter().filter(|key| held(key)) {
                lines.take_out(key);
            }
            let all_held = lines == Lines::default();
            if !self.kept.is_empty() {
                lines.put("options", format!("{:?}", self.kept.join(",")));
            }
            let as_what = if lines.is_one() { "as a line" } else { "as lines" };
            let told = match (all_held, self.kept.is_empty()) {
                (false, _) => {
                    format!("{names} {are} of {HELPER}: write {lines} {as_what} of the [[share]]")
                }
                (true, false) => format!(
                    "{names} {are} of {HELPER}, and the [[share]] has lines of its own for that: write {lines}"
                ),
                (true, true) => format!(
                    "{names} {are} of {HELPER}, and the [[share]] has lines of its own for that: take `options` out"
                ),
            };
            self.wrong.insert(0, told);
        }
        Some(self.wrong.join("; ")).filter(|told| !told.is_empty())
    }
}

impl MountOptions {
    /// `text`, a comma-separated list as in fstab, over the defaults.
    ///
    /// # Errors
    /// What is wrong with all wrong words, to be put behind the text itself.
    pub fn over_defaults(text: &str) -> Result<Self, String> {
        Self::beside(text, &|_| false)
    }

    /// The same, in a share that has the keys `held`.
    ///
    /// # Errors
    /// The same.
    pub fn beside(text: &str, held: &dyn Fn(&str) -> bool) -> Result<Self, String> {
        let complaint = match pasted::in_options(text) {
            Some(told) => Some(told),
            None => {
                let read = Read::of(text);
                let options = read.options.clone();
                match read.complaint(held) {
                    None => return Ok(options),
                    told => told,
                }
            }
        };
        Err(format!("is not possible: {}", complaint.unwrap_or_default()))
    }

    /// The data argument of mount(2) for the server at `address`.
    pub fn data(&self, address: std::net::IpAddr) -> String {
        self.data_at(address, self.port)
    }

    /// The same, but for a server at another port.
    pub fn data_at(&self, address: std::net::IpAddr, port: u16) -> String {
        let port = if port == NFS_PORT { String::new() } else { format!("port={port},") };
        format!("{},{port}addr={address}", self.data.join(","))
    }

    /// The same, but for a tunnel at `port` of this machine, which takes connections from root's ports alone.
    pub fn data_through(&self, address: std::net::IpAddr, port: u16) -> String {
        let mut options = self.clone();
        options.replace("resvport", "resvport");
        options.data_at(address, port)
    }

    /// The value of `key` in the data, for comparing with what is mounted.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.data.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// The SELinux options among them: key and context, without its quotes.
    pub fn contexts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        CONTEXTS.iter().filter_map(|key| Some((*key, self.value(key)?.trim_matches('"'))))
    }

    /// Those that not every kernel knows.
    pub fn young(&self) -> Vec<&str> {
        let key = |word: &'_ str| word.split('=').next().map(str::len);
        let keys = self.data.iter().filter_map(|word| word.get(..key(word)?));
        keys.filter(|key| YOUNG.contains(key)).collect()
    }

    /// Whether the bare word `key` is in the data.
    pub fn has(&self, key: &str) -> bool {
        self.data.iter().any(|word| word == key)
    }

    /// The NFS version, `4.1` unless asked otherwise.
    pub fn version(&self) -> &str {
        self.value("nfsvers").unwrap_or("4.1")
    }

    /// What is wrong with `word`, if it cannot be put in.
    fn put(&mut self, word: &str) -> Result<(), String> {
        if word.contains(misleads) {
            return Err(format!(
                "{word:?} has a control character (a tab, a line break) in it: options are separated by commas \
                 alone"
            ));
        }
        if word.matches('"').count() % 2 == 1 {
            return Err(format!("{word:?} has a quote in it that does not end"));
        }
        let (key, value) = match word.split_once('=') {
            None => (word, None),
            Some((key, value)) => (key, Some(value)),
        };
        if word.contains(';') && !word.contains('"') {
            return Err(format!("{word:?} has \";\" in it: options are separated by commas"));
        }
        if let Some((key, value)) = word.split_once(':').filter(|_| value.is_none())
            && (OWN_KEYS.contains(&key) || KEYS.iter().any(|(known, ..)| *known == key))
        {
            return Err(format!("{word:?} has \":\" where \"=\" is meant: write {key}={value}"));
        }
        if let Some((_, why)) = REFUSED.iter().find(|(keys, _)| keys.contains(&key)) {
            return Err(format!("\"{key}\" {why}"));
        }
        let remark = REMARKS.iter().any(|start| key.starts_with(start)) || key == "comment";
        if IGNORED.contains(&key) || remark {
            self.ignored.push(word.to_owned());
            return Ok(());
        }
        if key.contains(|c: char| c.is_ascii_uppercase()) {
            let lower = word.replacen(key, &key.to_ascii_lowercase(), 1);
            let told = Self::default().put(&lower).err().unwrap_or_default();
            if !told.starts_with("unknown option") {
                return Err(format!("{word:?} is written in lower case: {lower}"));
            }
        }
        if let (Some((_, bits, set)), None) = (FLAGS.iter().find(|(k, ..)| *k == key), value) {
            self.flags = if *set { self.flags | bits } else { self.flags & !bits };
            return Ok(());
        }
        if FLAGS.iter().any(|(k, ..)| *k == key) || VERSIONS.contains(&key) && value.is_some() {
            return Err(format!("\"{key}\" takes no value"));
        }
        match (key, value) {
            ("port", Some(port)) => {
                let number = port.parse().ok().filter(|port| *port != 0);
                self.port = number.ok_or_else(|| format!("{word:?} is no port (1 to 65535)"))?;
                return Ok(());
            }
            ("minorversion", Some(minor)) => return self.set_version(&format!("4.{minor}"), word),
            // The best that EFS speaks, as mount.nfs has it.
            ("nfsvers" | "vers", Some("4")) | ("v4", None) => return self.set_version("4.1", word),
            ("nfsvers" | "vers", Some(version)) => return self.set_version(version, word),
            (version, None) if VERSIONS.contains(&version) => {
                return self.set_version(version.trim_start_matches('v'), word);
            }
            (own, None) if OWN_KEYS.contains(&own) => {
                return Err(format!("\"{own}\" takes a number: write {own}=…"));
            }
            _ => {}
        }
        if word.contains(char::is_whitespace) {
            return Err(format!(
                "{word:?} has a blank in it: options are separated by commas alone"
            ));
        }
        let known = KEYS.iter().find(|(k, ..)| *k == key);
        let Some((_, group, kind)) = known else {
            return Err(format!("unknown option \"{key}\"{}", near(key)));
        };
        let value = check(key, *kind, value)?;
        self.replace(group, &value.map_or(key.to_owned(), |value| format!("{key}={value}")));
        Ok(())
    }

    fn set_version(&mut self, version: &str, word: &str) -> Result<(), String> {
        if !["4.0", "4.1", "4.2"].contains(&version) {
            return Err(format!(
                "{word:?} is no version that works here (4.0, 4.1, 4.2; EFS has 4.0 and 4.1)"
            ));
        }
        self.replace("nfsvers", &format!("nfsvers={version}"));
        Ok(())
    }

    /// Puts `word` in the place of whatever holds its group.
    fn replace(&mut self, group: &str, word: &str) {
        let group_of = |word: &str| {
            let key = word.split('=').next().unwrap_or(word);
            KEYS.iter().find(|(k, ..)| *k == key).map_or("nfsvers", |(_, group, _)| *group)
        };
        match self.data.iter_mut().find(|held| group_of(held) == group) {
            Some(held) => *held = word.to_owned(),
            None => self.data.push(word.to_owned()),
        }
    }
}

/// The value as the kernel gets it: numbers in plain decimal, since it takes a leading 0 for octal.
fn check(key: &str, kind: Value, value: Option<&str>) -> Result<Option<String>, String> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match (kind, value) {
        (Value::None | Value::Optional, None) => Ok(None),
        (Value::None, Some(_)) => Err(format!("\"{key}\" takes no value")),
        (Value::Optional, Some(v)) if !v.is_empty() && v.len() <= 64 && v.chars().all(word) => {
            Ok(Some(v.to_owned()))
        }
        (Value::Optional, _) => Err(format!("\"{key}\" takes a word of letters and digits")),
        (Value::Number(least, most), value) => match value.and_then(|v| v.parse::<u64>().ok()) {
            Some(n) if n >= least && n <= most => Ok(Some(n.to_string())),
            _ => Err(format!("\"{key}\" takes a number from {least} to {most}")),
        },
        (Value::Context, value) => context(value.unwrap_or_default()).map(Some).ok_or_else(|| {
            format!(
                "\"{key}\" takes a context of SELinux, like system_u:object_r:nfs_t:s0, in double quotes if there \
                 are commas in it"
            )
        }),
        (_, Some(value)) if key == "sec" && value.contains("krb5") => Err(format!(
            "\"sec={value}\" is Kerberos, which efs-agent does not speak, nor does EFS: take it out"
        )),
        (Value::OneOf(words), Some(value)) if words.contains(&value) => Ok(Some(value.to_owned())),
        (Value::OneOf(words), _) => Err(format!("\"{key}\" takes {}", words.join(", "))),
    }
}

/// A context as the kernel wants it: what has a comma in it stands in quotes, which it takes off.
fn context(value: &str) -> Option<String> {
    let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.:,-".contains(c);
    let fields: Vec<&str> = bare.splitn(4, ':').collect();
    let whole = fields.len() >= 3 && fields.iter().all(|field| !field.is_empty());
    match whole && bare.len() <= 255 && bare.chars().all(fits) {
        true if bare.contains(',') => Some(format!("\"{bare}\"")),
        true => Some(bare.to_owned()),
        false => None,
    }
}

fn near(key: &str) -> String {
    let all: Vec<&str> = KEYS
        .iter()
        .map(|(k, ..)| *k)
        // Never a hint towards less safety.
        .chain(FLAGS.iter().map(|(k, ..)| *k).filter(|k| !["suid", "dev"].contains(k)))
        .chain(OWN_KEYS.iter().copied())
        .collect();
    let hint = hint(key, &all);
    if hint.starts_with("did") {
        format!("; {hint}")
    } else {
        ": it is no option of the kernel's NFS client".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> String {
        MountOptions::over_defaults(text).unwrap().data("10.0.0.1".parse().unwrap())
    }

    fn error(text: &str) -> String {
        MountOptions::over_defaults(text).unwrap_err()
    }

    #[test]
    fn the_defaults_are_what_aws_recommends_with_nosuid_and_nodev() {
        let options = MountOptions::default();
        assert_eq!(
            options.data("10.0.0.1".parse().unwrap()),
            "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport,addr=10.0.0.1"
        );
        assert_eq!(options.flags, libc::MS_NOSUID | libc::MS_NODEV);
    }

    #[test]
    fn a_given_option_takes_the_place_of_the_default_of_its_group() {
        assert_eq!(
            data("soft,timeo=30, vers=4.0 ,resvport,port=2050,actimeo=3"),
            "nfsvers=4.0,rsize=1048576,wsize=1048576,soft,timeo=30,retrans=2,resvport,actimeo=3,port=2050,addr=10.0.0.1"
        );
        assert!(data("vers=4,minorversion=2").starts_with("nfsvers=4.2,"));
        assert!(data("nfsvers=4").starts_with("nfsvers=4.1,"));
    }

    #[test]
    fn generic_options_become_mount_flags_and_the_last_one_wins() {
        let flags = |text| MountOptions::over_defaults(text).unwrap().flags;
        let (nosuid, nodev) = (libc::MS_NOSUID, libc::MS_NODEV);
        assert_eq!(
            flags("ro,noexec,noatime"),
            nosuid | nodev | libc::MS_RDONLY | libc::MS_NOEXEC | libc::MS_NOATIME
        );
        assert_eq!(flags("ro,rw,suid,dev"), 0);
        assert!(!data("ro,noatime").contains("ro,"));
    }

    #[test]
    fn words_of_fstab_are_passed_over_and_kept_for_the_log() {
        let options =
            MountOptions::over_defaults("defaults,_netdev,nofail,retry=2,x-systemd.automount,ro")
                .unwrap();
        assert_eq!(
            options.ignored,
            ["defaults", "_netdev", "nofail", "retry=2", "x-systemd.automount"]
        );
        assert_eq!(options.flags & libc::MS_RDONLY, libc::MS_RDONLY);
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(
            error("rsize=1k"),
            "is not possible: \"rsize\" takes a number from 1024 to 1048576"
        );
        assert_eq!(
            error("hrad"),
            "is not possible: unknown option \"hrad\"; did you mean \"hard\"?"
        );
        assert_eq!(
            error("frobnicate"),
            "is not possible: unknown option \"frobnicate\": it is no option of the kernel's NFS client"
        );
        assert_eq!(error("sec=none"), "is not possible: \"sec\" takes sys");
        assert_eq!(
            error("vers=3"),
            "is not possible: \"vers=3\" is no version that works here (4.0, 4.1, 4.2; EFS has 4.0 and 4.1)"
        );
        assert_eq!(
            error("addr=1.2.3.4"),
            "is not possible: \"addr\" is set by efs-agent: it follows from `endpoint` and `path`; list further \
             addresses in `addresses`"
        );
        assert_eq!(
            error("tls,iam"),
            "is not possible: \"tls\" and \"iam\" are options of amazon-efs-utils' mount helper: write \
             encryption_in_transit = true and iam = true as lines of the [[share]]"
        );
        assert!(
            error("tls").ends_with("write encryption_in_transit = true as a line of the [[share]]")
        );
        assert!(
            error("accesspoint=fsap-1").contains("true and access_point = \"fsap-1\" as lines")
        );
        assert_eq!(error("port=0"), "is not possible: \"port=0\" is no port (1 to 65535)");
        assert!(
            error("uid=1000")
                .contains("\"uid\" is no NFS option: owners and modes are the server's")
        );
        assert!(error("ro soft").contains("has a blank in it"));
        for word in ["a\u{1b}[31m", "x-a\u{7}", "comment=a\nb", "ro\tsoft"] {
            let expected = format!("is not possible: {word:?} has a control character");
            assert!(error(word).starts_with(&expected), "{}", error(word));
        }
        assert!(MountOptions::over_defaults("ro,\n\tsoft\n").is_ok());
        assert_eq!(error("hard=1"), "is not possible: \"hard\" takes no value");
        assert_eq!(error("nosuid=1"), "is not possible: \"nosuid\" takes no value");
    }

    #[test]
    fn a_context_that_was_cut_at_its_comma_keeps_all_of_its_categories() {
        const LABEL: &str = "context=system_u:object_r:nfs_t:s0:c1,c2";
        const QUOTED: &str = "context=\"system_u:object_r:nfs_t:s0:c1,c2\"";
        let told = error(&format!("{LABEL},hard"));
        assert!(told.contains("put the context in double quotes"), "{told}");
        assert!(told.ends_with(&format!("write options = '{QUOTED},hard'")), "{told}");
        assert!(!told.contains("unknown"), "{told}");
        let told = error(&format!("-o {LABEL},hard"));
        assert!(
            told.contains(&format!("write options = {:?}", format!("{QUOTED},hard"))),
            "{told}"
        );
        assert!(
            error("context=a:b:c:s0:c1.c3,c5,c7.c9")
                .contains("context=\"a:b:c:s0:c1.c3,c5,c7.c9\"")
        );
        assert!(error("hard,c2").contains("unknown option \"c2\""));
        assert!(error("context=nfs_t,c2").contains("unknown option \"c2\""));
    }

    #[test]
    fn the_pasted_defaults_of_mount_8_switch_no_safety_off_and_the_words_alone_do() {
        let flags = |text| MountOptions::over_defaults(text).unwrap().flags;
        for list in ["rw,suid,dev,exec,auto,nouser,async", "defaults,suid,dev", "dev,defaults"] {
            let options = MountOptions::over_defaults(list).unwrap();
            assert_eq!(options.flags, DEFAULT_FLAGS, "{list}");
            assert!(options.ignored.iter().any(|word| word == "dev"), "{list}");
        }
        assert_eq!(flags("suid"), libc::MS_NODEV);
        assert_eq!(flags("rw,suid,dev,exec"), 0);
    }

    #[test]
    fn a_slip_in_how_a_word_is_written_is_told_with_the_right_one() {
        for (text, said) in [
            ("hard;timeo=600", "has \";\" in it: options are separated by commas"),
            ("nfsvers:4.1", "has \":\" where \"=\" is meant: write nfsvers=4.1"),
            ("NFSVERS=4.1", "is written in lower case: nfsvers=4.1"),
            ("Hard", "is written in lower case: hard"),
            ("TLS", "is written in lower case: tls"),
            ("Frobnicate", "unknown option \"Frobnicate\""),
            ("sec=krb5p", "\"sec=krb5p\" is Kerberos, which efs-agent does not speak"),
        ] {
            assert!(error(text).contains(said), "{}", error(text));
        }
        assert!(
            MountOptions::over_defaults("X-mount.mkdir=A;b").is_ok()
                || error("X-a;b").contains(';')
        );
        let told = error("nfsvers=4.1,hard nas.example:/ /mnt/efs_share");
        assert!(told.ends_with(
            "it ends with what belongs to the command mount(8): write endpoint = \"nas.example\", mount_point = \
             \"/mnt/efs_share\" and options = \"nfsvers=4.1,hard\" as lines of the [[share]]"
        ), "{told}");
    }

    #[test]
    fn words_that_the_share_has_lines_for_already_are_to_be_taken_out() {
        let told = |held: &'static [&str], text| {
            MountOptions::beside(text, &|key| held.contains(&key)).unwrap_err()
        };
        let both = &["encryption_in_transit", "iam"][..];
        assert!(told(both, "tls,iam").ends_with("lines of its own for that: take `options` out"));
        assert!(
            told(both, "tls,ro").ends_with("lines of its own for that: write options = \"ro\"")
        );
        assert!(told(&["encryption_in_transit"], "tls,iam").contains("write iam = true as a line"));
    }

    #[test]
    fn all_words_of_a_list_that_are_wrong_are_told_at_once() {
        assert_eq!(
            error(
                "ro,tls,mountport=2049,iam,hrad,accesspoint=fsap-0123456789abcdef0,_netdev,soft,hrad"
            ),
            "is not possible: \"tls\", \"iam\" and \"accesspoint\" are options of amazon-efs-utils' mount helper: \
             write options = \"ro,soft\", encryption_in_transit = true, iam = true and access_point = \
             \"fsap-0123456789abcdef0\" as lines of the [[share]]; \"mountport\" is the port of NFS 3's mount \
             service, and NFS 4 has no such port: leave it out; unknown option \"hrad\"; did you mean \"hard\"?"
        );
    }

    /// The names of the tools' own lists.
    const NAMES: &str = include_str!("../../tests/vectors/mount-options.txt");

    #[test]
    fn no_word_of_mount_of_the_kernel_or_of_efs_utils_is_unknown() {
        let mut count = 0;
        let mut of = "";
        for name in NAMES.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            if let Some(section) = name.strip_prefix('[') {
                of = section;
                continue;
            }
            count += 1;
            for word in [name.to_owned(), format!("{name}=1"), format!("{name}=a.b:c")] {
                if let Err(told) = MountOptions::over_defaults(&word) {
                    assert!(!told.contains("unknown option"), "{of} {word}: {told}");
                    assert!(!told.contains("no option of the kernel"), "{of} {word}: {told}");
                    assert!(
                        !(of.starts_with("kernel") && told.contains("efs-utils")),
                        "{of} {word}: {told}"
                    );
                }
            }
            // Of one that is passed over in every form, nothing reaches the kernel.
            if IGNORED.contains(&name) {
                assert_eq!(data(name), data(""), "{name}");
            }
        }
        assert!(count > 150, "{count}");
    }

    #[test]
    fn words_of_mount_8_and_of_nfs_that_mean_nothing_here_are_passed_over_or_put_in_the_place_of_others()
     {
        for list in [
            "rw,suid,dev,exec,auto,nouser,async",
            "X-mount.mkdir,x-mount.mkdir=0755",
            "vers=4,minorversion=1,_rnetdev",
            "comment=systemd.automount,nobootwait,rsize=8192,wsize=8192,timeo=14,intr",
            "fsc,lazytime,iversion,posix,sharecache",
        ] {
            assert!(MountOptions::over_defaults(list).is_ok(), "{list}: {}", error(list));
        }
        assert!(data("v4.0").starts_with("nfsvers=4.0,"));
        assert!(data("v4").starts_with("nfsvers=4.1,"));
        assert!(
            data("max_connect=4,trunkdiscovery").contains(",max_connect=4,trunkdiscovery,addr=")
        );
        assert!(
            data("trunkdiscovery,notrunkdiscovery").ends_with(",notrunkdiscovery,addr=10.0.0.1")
        );
        assert!(error("v3").contains("\"v3\" is no version that works here"));
        for word in ["mountproto=tcp", "mountvers=3", "mounthost=a", "mountaddr=10.0.0.1"] {
            assert!(error(word).ends_with("NFS 4 has no such service: leave it out"), "{word}");
        }
        let young =
            MountOptions::over_defaults("softerr,nconnect=2,timeo=9,max_connect=3").unwrap();
        assert_eq!(young.young(), ["softerr", "nconnect", "max_connect"]);
    }

    #[test]
    fn a_context_of_selinux_reaches_the_kernel_with_quotes_where_it_needs_them() {
        for (given, there) in [
            ("context=system_u:object_r:nfs_t:s0", "context=system_u:object_r:nfs_t:s0"),
            ("context=\"system_u:object_r:nfs_t:s0\"", "context=system_u:object_r:nfs_t:s0"),
            (
                "ro,context=\"system_u:object_r:nfs_t:s0:c1,c2\",soft",
                "context=\"system_u:object_r:nfs_t:s0:c1,c2\"",
            ),
            ("fscontext=u:r:t,rootcontext=u:r:t", "fscontext=u:r:t,rootcontext=u:r:t"),
            ("defcontext=u:r:t:s0-s0:c0.c1023", "defcontext=u:r:t:s0-s0:c0.c1023"),
        ] {
            assert!(data(given).ends_with(&format!(",{there},addr=10.0.0.1")), "{}", data(given));
        }
        let options = MountOptions::over_defaults("soft,context=\"a:b:c:s0:c1,c2\"").unwrap();
        assert_eq!(options.contexts().collect::<Vec<_>>(), [("context", "a:b:c:s0:c1,c2")]);
        assert!(error("context=u:r:t,defcontext=u:r:t").contains("exclude each other"));
        for bad in ["context", "context=", "context=nfs_t", "rootcontext=@target", "context=a::c"] {
            assert!(error(bad).contains("takes a context of SELinux, like"), "{}", error(bad));
        }
        assert!(error("context=\"a:b:c:s0,soft").contains("a quote in it that does not end"));
    }

    #[test]
    fn what_was_pasted_of_a_command_or_of_fstab_is_told_as_what_it_is_with_the_line_to_write() {
        for (pasted, told) in [
            (
                "-o nfsvers=4.1,hard",
                "it begins with what belongs to the command mount(8): write options = \"nfsvers=4.1,hard\"",
            ),
            (
                "_netdev,soft 0 0",
                "it ends with what belongs to a line of /etc/fstab: write options = \"soft\"",
            ),
            (
                "-o tls,iam,hrad fs-0123abcd:/",
                "it begins with what belongs to the command mount(8): write endpoint = \
                 \"fs-0123abcd.efs.<region>.amazonaws.com\", encryption_in_transit = true and iam = true as lines of \
                 the [[share]]; unknown option \"hrad\"; did you mean \"hard\"?",
            ),
            (
                "defaults,_netdev 0 0",
                "it ends with what belongs to a line of /etc/fstab: leave `options` out, it says nothing that is not \
                 so anyway",
            ),
            (
                "/mnt/a efs _netdev,ro 0 0",
                "it is a line of /etc/fstab: write mount_point = \"/mnt/a\" and options = \"ro\" as lines of the \
                 [[share]]",
            ),
            (
                "fs-0123abcd:/a /mnt/a efs _netdev,nofail,tls,ro 0 0",
                "it is a line of /etc/fstab: write endpoint = \"fs-0123abcd.efs.<region>.amazonaws.com\", path = \
                 \"/a\", mount_point = \"/mnt/a\", options = \"ro\", required = false and \
                 encryption_in_transit = true as lines of the [[share]]",
            ),
        ] {
            assert_eq!(error(pasted), format!("is not possible: {told}"));
        }
    }
}
