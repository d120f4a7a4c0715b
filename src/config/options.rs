//! NFS mount options: AWS's recommended ones, and what an administrator puts over them, key by key.
//!
//! mount(2) answers EINVAL to almost everything it does not like. So each word is checked here, against the list of the
//! kernel's own parser. The words themselves stand in [`words`](super::words).

use super::near::near_miss;
pub use super::words::CONTEXTS;
use super::words::{FLAGS, IGNORED, KEYS, OWN_KEYS, REFUSED, REMARKS, VERSIONS, ValueKind, YOUNG};
use crate::text::misleads;
use nix::libc;

/// Options of one share, ready for mount(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// MS_* bits: ro, nosuid and the like.
    pub flags: u64,
    /// The rest, `key` or `key=value`, in a fixed order. `nfsvers=` is always among them.
    data: Vec<String>,
    /// TCP port of the server.
    pub port: u16,
    /// Words meant for mount(8) or fstab, which have no meaning here.
    pub ignored: Vec<String>,
}

/// What the EFS documentation recommends. The version comes first; without one the kernel mounts 4.0.
const DEFAULTS: &str =
    "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport";
const DEFAULT_FLAGS: u64 = libc::MS_NOSUID | libc::MS_NODEV;
/// Where NFS servers listen. The kernel uses it where no port is given.
pub const NFS_PORT: u16 = 2049;

impl Default for MountOptions {
    fn default() -> Self {
        let data = DEFAULTS.split(',').map(str::to_owned).collect();
        Self { flags: DEFAULT_FLAGS, data, port: NFS_PORT, ignored: Vec::new() }
    }
}

/// The words of a list. As mount(8) and the kernel do, it is split at commas that are not in double quotes.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

/// A word in two, at its `=`.
pub fn key_and_value(word: &str) -> (&str, Option<&str>) {
    match word.split_once('=') {
        None => (word, None),
        Some((key, value)) => (key, Some(value)),
    }
}

impl MountOptions {
    /// The data argument of mount(2) for the server at `address`.
    pub fn data(&self, address: std::net::IpAddr) -> String {
        self.data_at(address, self.port)
    }

    /// As [`Self::data`], for a server at another port.
    pub fn data_at(&self, address: std::net::IpAddr, port: u16) -> String {
        let port = if port == NFS_PORT { String::new() } else { format!("port={port},") };
        format!("{},{port}addr={address}", self.data.join(","))
    }

    /// As [`Self::data`], for a tunnel at `port` of this machine. It accepts connections only from root's ports.
    pub fn data_through(&self, address: std::net::IpAddr, port: u16) -> String {
        let mut options = self.clone();
        options.replace("resvport", "resvport");
        options.data_at(address, port)
    }

    /// The value of `key` in the data, for comparing with what is mounted.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.data.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// The SELinux options: key and context, without its quotes.
    pub fn contexts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        CONTEXTS.iter().filter_map(|key| Some((*key, self.value(key)?.trim_matches('"'))))
    }

    /// The options that not every kernel knows.
    pub fn young(&self) -> Vec<&str> {
        let keys = self.data.iter().map(|word| key_and_value(word).0);
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

    /// Puts in `word`, or says what is wrong with it.
    pub fn put(&mut self, word: &str) -> Result<(), String> {
        check_spelling(word)?;
        let (key, value) = key_and_value(word);
        if let Some((_, why)) = REFUSED.iter().find(|(keys, _)| keys.contains(&key)) {
            return Err(format!("\"{key}\" {why}"));
        }
        if is_ignored(key) {
            self.ignored.push(word.to_owned());
            return Ok(());
        }
        if key.contains(|c: char| c.is_ascii_uppercase()) {
            let lower = key.to_ascii_lowercase();
            let right = word.replacen(key, &lower, 1);
            // The word may also have a colon for an equals sign, which is found only once it is in lower case.
            if is_known(&lower) || check_spelling(&right).is_err() {
                return Err(format!("{word:?} is written in lower case: {right}"));
            }
        }

        if let Some((_, bits, set)) = FLAGS.iter().find(|(k, ..)| *k == key) {
            if value.is_some() {
                return Err(format!("\"{key}\" takes no value"));
            }
            self.flags = if *set { self.flags | bits } else { self.flags & !bits };
            return Ok(());
        }
        if VERSIONS.contains(&key) || OWN_KEYS.contains(&key) {
            return self.put_own(key, value, word);
        }

        if word.contains(char::is_whitespace) {
            return Err(format!(
                "{word:?} has a blank in it: options are separated by commas alone"
            ));
        }
        let Some((_, group, kind)) = KEYS.iter().find(|(k, ..)| *k == key) else {
            return Err(format!("unknown option \"{key}\"{}", near(key)));
        };
        let value = check(key, *kind, value)?;
        self.replace(group, &value.map_or(key.to_owned(), |value| format!("{key}={value}")));
        Ok(())
    }

    /// Puts in a word that the kernel does not get as it is: a version, or the port.
    fn put_own(&mut self, key: &str, value: Option<&str>, word: &str) -> Result<(), String> {
        match (key, value) {
            ("port", Some(port)) => {
                let number = port.parse().ok().filter(|port| *port != 0);
                self.port = number.ok_or_else(|| format!("{word:?} is no port (1 to 65535)"))?;
                Ok(())
            }
            ("minorversion", Some(minor)) => self.set_version(&format!("4.{minor}"), word),
            // A bare 4 means the best version that EFS speaks, as mount.nfs reads it.
            ("nfsvers" | "vers", Some("4")) | ("v4", None) => self.set_version("4.1", word),
            ("nfsvers" | "vers", Some(version)) => self.set_version(version, word),
            (own, None) if OWN_KEYS.contains(&own) => {
                Err(format!("\"{own}\" takes a number: write {own}=…"))
            }
            (version, None) => self.set_version(version.trim_start_matches('v'), word),
            (version, Some(_)) => Err(format!("\"{version}\" takes no value")),
        }
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

    /// Puts `word` in the place of the one that holds its group.
    fn replace(&mut self, group: &str, word: &str) {
        match self.data.iter_mut().find(|held| group_of(held) == group) {
            Some(held) => *held = word.to_owned(),
            None => self.data.push(word.to_owned()),
        }
    }
}

/// The group of a word, of which only one word can hold. Words without a group are versions.
fn group_of(word: &str) -> &'static str {
    let (key, _) = key_and_value(word);
    KEYS.iter().find(|(known, ..)| *known == key).map_or("nfsvers", |(_, group, _)| *group)
}

/// Refuses a word that cannot be an option, whatever its key means.
fn check_spelling(word: &str) -> Result<(), String> {
    if word.contains(misleads) {
        return Err(format!(
            "{word:?} has a control character (a tab, a line break) in it: options are separated by commas \
             alone"
        ));
    }
    if word.matches('"').count() % 2 == 1 {
        return Err(format!("{word:?} has a quote in it that does not end"));
    }
    if word.contains(';') && !word.contains('"') {
        return Err(format!("{word:?} has \";\" in it: options are separated by commas"));
    }
    if let Some((key, value)) = word.split_once(':').filter(|_| !word.contains('='))
        && (OWN_KEYS.contains(&key) || KEYS.iter().any(|(known, ..)| *known == key))
    {
        return Err(format!("{word:?} has \":\" where \"=\" is meant: write {key}={value}"));
    }
    Ok(())
}

fn is_ignored(key: &str) -> bool {
    let is_remark = REMARKS.iter().any(|start| key.starts_with(start)) || key == "comment";
    is_remark || IGNORED.contains(&key)
}

/// Whether there is a better answer to `key` than that it is unknown.
fn is_known(key: &str) -> bool {
    is_ignored(key)
        || REFUSED.iter().any(|(keys, _)| keys.contains(&key))
        || FLAGS.iter().any(|(known, ..)| *known == key)
        || KEYS.iter().any(|(known, ..)| *known == key)
        || OWN_KEYS.contains(&key)
        || VERSIONS.contains(&key)
}

/// The value as the kernel gets it. Numbers are in plain decimal, since a leading 0 means octal there.
fn check(key: &str, kind: ValueKind, value: Option<&str>) -> Result<Option<String>, String> {
    match (kind, value) {
        (ValueKind::None | ValueKind::Optional, None) => Ok(None),
        (ValueKind::None, Some(_)) => Err(format!("\"{key}\" takes no value")),
        (ValueKind::Optional, Some(v)) if !v.is_empty() && v.len() <= 64 && v.chars().all(is_of_word) => {
            Ok(Some(v.to_owned()))
        }
        (ValueKind::Optional, _) => Err(format!("\"{key}\" takes a word of letters and digits")),
        (ValueKind::Number(least, most), value) => match value.and_then(|v| v.parse::<u64>().ok()) {
            Some(n) if n >= least && n <= most => Ok(Some(n.to_string())),
            _ => Err(format!("\"{key}\" takes a number from {least} to {most}")),
        },
        (ValueKind::Context, value) => context(value.unwrap_or_default()).map(Some).ok_or_else(|| {
            format!(
                "\"{key}\" takes a context of SELinux, like system_u:object_r:nfs_t:s0, in double quotes if there \
                 are commas in it"
            )
        }),
        (_, Some(value)) if key == "sec" && value.contains("krb5") => Err(format!(
            "\"sec={value}\" is Kerberos, which efs-agent does not speak, nor does EFS: take it out"
        )),
        (ValueKind::OneOf(words), Some(value)) if words.contains(&value) => Ok(Some(value.to_owned())),
        (ValueKind::OneOf(words), _) => Err(format!("\"{key}\" takes {}", words.join(", "))),
    }
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// A context as the kernel reads it. One with a comma in it stands in quotes, which the kernel removes.
fn context(value: &str) -> Option<String> {
    let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    let fields: Vec<&str> = bare.splitn(4, ':').collect();
    let whole = fields.len() >= 3 && fields.iter().all(|field| !field.is_empty());
    match whole && bare.len() <= 255 && bare.chars().all(is_of_context) {
        true if bare.contains(',') => Some(format!("\"{bare}\"")),
        true => Some(bare.to_owned()),
        false => None,
    }
}

fn is_of_context(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.:,-".contains(c)
}

/// What an unknown `key` may be meant for.
fn near(key: &str) -> String {
    let all: Vec<&str> = KEYS
        .iter()
        .map(|(k, ..)| *k)
        // No hint may lead to less safety.
        .chain(FLAGS.iter().map(|(k, ..)| *k).filter(|k| !["suid", "dev"].contains(k)))
        .chain(OWN_KEYS.iter().copied())
        .collect();
    match near_miss(key, &all) {
        Some(known) => format!("; did you mean \"{known}\"?"),
        None => ": it is no option of the kernel's NFS client".into(),
    }
}

#[cfg(test)]
mod tests;
