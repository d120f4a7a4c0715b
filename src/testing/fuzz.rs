//! What the readers of foreign text promise, whatever that text is. There is one function for each
//! reader, which panics where a promise is broken. The relay has one too, against a hostile peer.
//!
//! libFuzzer feeds them (`make fuzz`, tests/fuzz), and the tests run its corpus and mutations of it through them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod relay;
#[cfg(test)]
mod tests;

pub use relay::relay;

use crate::appstream::user::user;
use crate::appstream::{STREAMING_USER, Session};
use crate::aws::profile::{ProfileFileKind, Profiles, words};
use crate::config::encryption::{Encryption, TrustSource};
use crate::config::options::MountOptions;
use crate::config::{ConfigError, Endpoint, Facility, Settings, Share};
use crate::kernel::mount_table::{self, Entry, ShareMatch};
use crate::net::names::files::{ResolvConf, in_hosts};
use crate::net::names::message::{DnsAnswer, answer, query};
use crate::net::names::{Answered, By, Found, NameError, usable};
use crate::share::client::NfsClient;
use crate::share::plan::mount_call;
use nix::libc;
use simple_dns::{Packet, TYPE};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::time::Duration;

const NAME: &str = "fs-1.efs.example";
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 8, 7));

/// The longest error that a person can take in, in characters. The log cuts none of it.
const LONGEST_COMPLAINT: usize = 1000;

fn is_one_plain_line(text: &str) -> bool {
    !text.is_empty()
        && text.chars().count() <= LONGEST_COMPLAINT
        && !text.contains(char::is_control)
}

/// The config's text ([`Settings::parse`]).
pub fn config(data: &[u8]) {
    let text = &String::from_utf8_lossy(data);
    let parse = |text| Settings::parse(Path::new("/etc/efs-agent/config.toml"), text);
    let result = parse(text);
    assert_eq!(result, parse(text), "the same text, the same meaning");
    match result {
        Err(error) => is_in_the_text(&error, text),
        Ok(settings) => {
            can_be_used(&settings);
            let written = written_out(&settings);
            assert_eq!(parse(&written), Ok(settings), "written out in full:\n{written}");
        }
    }
}

fn is_in_the_text(error: &ConfigError, text: &str) {
    assert!(is_one_plain_line(&error.to_string()), "{error:?}");
    let line = error.line.checked_sub(1).and_then(|n| text.split('\n').nth(n));
    let length = line.unwrap_or_else(|| panic!("{error:?} is on no line")).chars().count();
    assert!((1..=length + 1).contains(&error.column), "{error:?} is past the line's {length}");
}

fn can_be_used(settings: &Settings) {
    let Settings { deadline, attempt_timeout, shares, .. } = settings;
    assert!((Duration::from_secs(1)..=Duration::from_secs(600)).contains(deadline));
    assert!((Duration::from_millis(100)..=*deadline).contains(attempt_timeout));
    assert!((1..=64).contains(&shares.len()));

    for (n, share) in shares.iter().enumerate() {
        let Share { endpoint, path, mount_point, mode, root_mode, addresses, .. } = share;
        if let Endpoint::Name(name) = endpoint {
            assert!(!name.is_empty() && name.len() <= 253, "{name}");
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
            assert!(name.bytes().all(fits), "{name}");
            assert!(query(1, name, TYPE::A).is_some(), "{name} cannot be asked for");
        }

        for path in [Path::new(path), mount_point] {
            let mut parts = path.components();
            assert_eq!(parts.next(), Some(Component::RootDir), "{path:?}");
            assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{path:?}");
            assert!(path.as_os_str().len() <= 1000, "{path:?}");
            assert!(!path.to_str().unwrap().contains(char::is_control), "{path:?}");
        }

        assert!(mount_point.parent().is_some(), "the root itself");
        for folder in ["/usr", "/etc", "/dev", "/proc", "/sys", "/lib", "/boot"] {
            assert!(!mount_point.starts_with(folder), "{mount_point:?}");
        }

        let apart = |other: &Share| {
            !mount_point.starts_with(&other.mount_point)
                && !other.mount_point.starts_with(mount_point)
        };
        assert!(shares[..n].iter().all(apart), "{mount_point:?} meets another");

        assert!(*mode <= 0o7777 && root_mode.is_none_or(|mode| mode <= 0o7777));
        assert!(addresses.len() <= 64);
        can_be_mounted(&share.options);

        if let Some(encryption) = &share.encryption {
            can_be_encrypted(encryption);
            assert_ne!(share.options.value("proto"), Some("tcp6"));
            assert_ne!(encryption.tunnel_port, Some(share.options.port));
            let port = encryption.tunnel_port;
            let same =
                |other: &Share| other.encryption.as_ref().is_some_and(|e| e.tunnel_port == port);
            assert!(port.is_none() || !shares[..n].iter().any(same), "{port:?} twice");
        }

        let call = mount_call(share, ADDRESS, NfsClient::fake());
        // A NUL in a string would have made it empty.
        assert!(call.source.as_bytes().ends_with(path.as_bytes()));
        assert_eq!(call.data.to_str().unwrap(), share.options.data(ADDRESS));
    }
}

fn can_be_encrypted(encryption: &Encryption) {
    let Encryption { file_system_id, region, tls_name, iam, .. } = encryption;
    let Encryption { access_point, aws_profile, trust, discover, tunnel_port, .. } = encryption;
    let hex = |id: &str, prefix: &str, lengths: &[usize]| {
        let digits = id.strip_prefix(prefix).unwrap();
        assert!(lengths.contains(&digits.len()), "{id}");
        assert!(digits.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()), "{id}");
    };
    hex(file_system_id, "fs-", &[8, 17]);
    if let Some(id) = access_point {
        hex(id, "fsap-", &[17]);
    }

    // Both become part of what is signed and of names that are asked for.
    assert!(region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    assert!((5..=32).contains(&region.len()), "{region}");
    assert!(query(1, tls_name, TYPE::A).is_some(), "{tls_name}");
    assert!(!tls_name.bytes().any(|b| b.is_ascii_uppercase()) && !tls_name.ends_with('.'));
    assert!(tls_name.parse::<IpAddr>().is_err(), "{tls_name}");

    let aws_environment = &encryption.aws_environment;
    assert!(!aws_environment || *iam || *discover, "it is for credentials");
    if let Some(profile) = aws_profile {
        assert!(*iam || *discover, "{profile} for nothing");
        assert!(is_one_plain_line(profile) && !profile.contains(['[', ']']), "{profile}");
    }
    if let TrustSource::File(path) = trust {
        assert!(path.is_absolute() && !path.to_str().unwrap().contains(char::is_control));
    }
    assert!(tunnel_port.is_none_or(|port| port != 0));
}

/// The settings as a config file that spells all of them out.
fn written_out(settings: &Settings) -> String {
    let quoted = |text: &str| {
        let text: String = text
            .chars()
            .map(|c| match c {
                '"' | '\\' => format!("\\{c}"),
                c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
                c => c.into(),
            })
            .collect();
        format!("\"{text}\"")
    };
    let log = &settings.log;
    let facility = match log.facility {
        Facility::Daemon => "daemon".into(),
        Facility::User => "user".into(),
        Facility::Local(n) => format!("local{n}"),
    };
    let mut out = format!(
        "deadline = \"{}\"\nattempt_timeout = \"{}\"\nunmount_deadline = \"{}\"\n[log]\nlevel = \"{}\"\nsyslog = {}\nfacility = \"{facility}\"\n",
        humantime::format_duration(settings.deadline),
        humantime::format_duration(settings.attempt_timeout),
        humantime::format_duration(settings.unmount_deadline),
        log.level.word(),
        log.syslog,
    );
    for share in &settings.shares {
        let addresses: Vec<_> = share.addresses.iter().map(|a| quoted(&a.to_string())).collect();
        write!(
            out,
            "[[share]]\nendpoint = {}\npath = {}\nmount_point = {}\nmode = \"{:04o}\"\noptions = {}\naddresses = [{}]\nrequired = {}\n",
            quoted(&share.endpoint.to_string()),
            quoted(&share.path),
            quoted(share.mount_point.to_str().unwrap()),
            share.mode,
            quoted(&spelled(&share.options)),
            addresses.join(","),
            share.required,
        )
        .unwrap();
        if let Some(mode) = share.root_mode {
            writeln!(out, "root_mode = \"{mode:04o}\"").unwrap();
        }
        let Some(encryption) = &share.encryption else {
            continue;
        };
        let Encryption { iam, discover, aws_environment, .. } = encryption;
        writeln!(out, "encryption_in_transit = true\niam = {iam}\ndiscover = {discover}").unwrap();
        writeln!(out, "aws_environment = {aws_environment}").unwrap();
        let trust = match &encryption.trust {
            TrustSource::Amazon => "amazon",
            TrustSource::System => "system",
            TrustSource::File(path) => path.to_str().unwrap(),
        };
        for (key, value) in [
            ("file_system_id", Some(encryption.file_system_id.as_str())),
            ("region", Some(&encryption.region)),
            ("tls_name", Some(&encryption.tls_name)),
            ("access_point", encryption.access_point.as_deref()),
            ("aws_profile", encryption.aws_profile.as_deref()),
            ("trust", Some(trust)),
        ] {
            if let Some(value) = value {
                writeln!(out, "{key} = {}", quoted(value)).unwrap();
            }
        }
        if let Some(port) = encryption.tunnel_port {
            writeln!(out, "tunnel_port = {port}").unwrap();
        }
    }
    out
}

/// A share's `options` ([`MountOptions::over_defaults`]).
pub fn options(data: &[u8]) {
    let text = &String::from_utf8_lossy(data);
    match MountOptions::over_defaults(text) {
        // Its length does not matter: it is cut where the place is put before it.
        Err(complaint) => {
            assert!(complaint.starts_with("is not possible: "), "{complaint}");
            assert!(!complaint.contains(char::is_control), "{complaint:?}");
        }
        Ok(options) => {
            can_be_mounted(&options);
            let spelled = spelled(&options);
            assert_eq!(MountOptions::over_defaults(&spelled), Ok(options), "{spelled}");
        }
    }
}

fn can_be_mounted(options: &MountOptions) {
    let data = options.data(ADDRESS);
    // mount(2) takes one page; each key holds once; addr= comes last and is ours.
    assert!(data.len() < 4096 && data.bytes().all(|b| b.is_ascii_graphic()), "{data}");
    let words = crate::config::options::words;
    let mut keys: Vec<&str> = words(&data).map(|word| word.split('=').next().unwrap()).collect();
    assert_eq!((keys.first(), keys.last()), (Some(&"nfsvers"), Some(&"addr")), "{data}");
    assert!(data.ends_with(&format!(",addr={ADDRESS}")), "{data}");
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count, "{data}");
    for pair in [["hard", "soft"], ["soft", "softerr"], ["ac", "noac"], ["resvport", "noresvport"]]
    {
        assert!(!pair.iter().all(|key| options.has(key)), "{data}");
    }
    assert!(["4.0", "4.1", "4.2"].contains(&options.version()), "{data}");
    assert_ne!(options.port, 0);
    assert_eq!(data.contains(&format!("port={},", options.port)), options.port != 2049, "{data}");
    // The log mentions them.
    assert!(options.ignored.iter().all(|word| !word.contains(char::is_control)), "{options:?}");
}

/// The options as text that means the same.
fn spelled(options: &MountOptions) -> String {
    let data = options.data(ADDRESS);
    let of_data = crate::config::options::words(&data);
    let mut words: Vec<&str> = of_data.filter(|word| !word.starts_with("addr=")).collect();
    for (bit, set, clear) in [
        (libc::MS_RDONLY, "ro", "rw"),
        (libc::MS_NOSUID, "nosuid", "suid"),
        (libc::MS_NODEV, "nodev", "dev"),
        (libc::MS_NOEXEC, "noexec", "exec"),
        (libc::MS_NOATIME, "noatime", "atime"),
        (libc::MS_NODIRATIME, "nodiratime", "diratime"),
        (libc::MS_RELATIME, "relatime", "norelatime"),
        (libc::MS_STRICTATIME, "strictatime", ""),
        (libc::MS_SYNCHRONOUS, "sync", "async"),
        (libc::MS_DIRSYNC, "dirsync", ""),
    ] {
        words.push(if options.flags & bit != 0 { set } else { clear });
    }
    words.extend(options.ignored.iter().map(String::as_str));
    words.join(",")
}

/// The mount table ([`mount_table::parse`]), and what reads its entries.
pub fn mountinfo(data: &[u8]) {
    let entries = mount_table::parse(data);
    let lines = data.split(|b| *b == b'\n');
    let one_by_one: Vec<Entry> = lines
        .flat_map(|line| {
            let alone = mount_table::parse(line);
            assert!(alone.len() <= 1);
            if let Some(entry) = alone.first() {
                let raw = line.split(|b| *b == b' ').nth(4).unwrap();
                assert_eq!(entry.mount_point.as_os_str().as_bytes(), unescaped(raw));
            }
            alone
        })
        .collect();
    assert_eq!(entries, one_by_one, "no line is read with another");
    let again: Vec<u8> = entries.iter().flat_map(as_the_kernel_writes).collect();
    assert_eq!(mount_table::parse(&again), entries, "what was read can be written and read again");

    let share = "[[share]]\nendpoint = \"fs-1.efs.example\"\nmount_point = \"/mnt/s\"\n";
    let share = Settings::parse(Path::new("c"), share).unwrap().shares.remove(0);
    // In a real table a mount is younger than what it is on, in most cases; no cycle is possible then.
    let sane = entries.windows(2).all(|pair| pair[0].id < pair[1].id)
        && entries.iter().all(|entry| entry.parent <= entry.id);
    // A share's mount point is never longer than that.
    let paths = entries.iter().map(|entry| &*entry.mount_point);
    let paths = paths.filter(|path| path.as_os_str().len() <= 1000).take(8);
    for path in paths.chain([share.mount_point.as_path()]) {
        if let Some(top) = mount_table::top_at(&entries, path) {
            assert_eq!(top.mount_point, path);
            // In the kernel's form, a path can be written in only one way.
            let same = |e: &Entry| e.mount_point.as_os_str() == path.as_os_str();
            let on_it = |e: &Entry| e.parent == top.id && e.id != top.id && same(e);
            assert!(!sane || !entries.iter().any(on_it), "{top:?} is hidden");
        }
        if let Some(above) = mount_table::remote_above(&entries, path) {
            assert!(path.starts_with(&above.mount_point) && path != above.mount_point, "{above:?}");
        }
    }
    for entry in &entries {
        assert!(entry.device.bytes().all(|b| b.is_ascii_digit() || b == b':'), "{entry:?}");
        let same_name = entry.source == "fs-1.efs.example:/";
        match mount_table::standing(entry, &share) {
            ShareMatch::Ours(_) => assert!(same_name && !entry.read_only(), "{entry:?}"),
            ShareMatch::OtherName(_) => assert!(!same_name && !entry.read_only(), "{entry:?}"),
            ShareMatch::ReadOnly => assert!(entry.read_only(), "{entry:?}"),
            ShareMatch::OtherWay => {
                let local = |a: &str| a.parse().is_ok_and(|a: IpAddr| a.is_loopback());
                assert!(same_name && entry.option("addr").is_some_and(local), "{entry:?}");
                assert_ne!(entry.port(), 2049, "{entry:?}");
            }
            ShareMatch::Foreign => continue,
        }
        assert!(entry.fstype.starts_with("nfs") && entry.source.ends_with(":/"), "{entry:?}");
    }
}

fn as_the_kernel_writes(entry: &Entry) -> Vec<u8> {
    let escaped = |bytes: &[u8]| {
        let mut out = Vec::new();
        for byte in bytes {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => {
                    out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
                }
                other => out.push(*other),
            }
        }
        out
    };
    let Entry { id, parent, device, mount_point, flags, fstype, source, options } = entry;
    let mut line = format!("{id} {parent} {device} / ").into_bytes();
    line.extend(escaped(mount_point.as_os_str().as_bytes()));
    line.extend(format!(" {flags} - {fstype} ").into_bytes());
    line.extend(escaped(source.as_bytes()));
    line.extend(format!(" {options}\n").into_bytes());
    line
}

/// Undoes the kernel's seq_path(9).
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < field.len() {
        let digit = |n: usize, most| field.get(at + n).filter(|b| (b'0'..=most).contains(b));
        if let (b'\\', Some(a), Some(b), Some(c)) =
            (field[at], digit(1, b'3'), digit(2, b'7'), digit(3, b'7'))
        {
            out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            at += 4;
        } else {
            out.push(field[at]);
            at += 1;
        }
    }
    out
}

/// resolv.conf ([`ResolvConf::parse`]).
pub fn resolv_conf(data: &[u8]) {
    let text = &String::from_utf8_lossy(data);
    // A line without an address is not written again.
    let conf = ResolvConf { odd_servers: false, ..ResolvConf::parse(text, |_| None) };
    assert!(conf.servers.len() <= 3, "{conf:?}");
    assert!(conf.servers.iter().all(|server| server.port() == 53), "{conf:?}");
    let mut written = format!("options ndots:{}\nsearch {}\n", conf.ndots, conf.search.join(" "));
    for server in &conf.servers {
        writeln!(written, "nameserver {}", server.ip()).unwrap();
    }
    assert_eq!(ResolvConf::parse(&written, |_| None), conf, "{written}");

    let names = conf.candidates(NAME);
    assert_eq!(names.len(), conf.search.len() + 1);
    let as_it_is = names.iter().position(|name| name == NAME).unwrap();
    assert_eq!(as_it_is, if conf.ndots <= 2 { 0 } else { names.len() - 1 }, "{conf:?}");
    for name in &names {
        let rest = name.strip_prefix(NAME).unwrap();
        assert!(rest.is_empty() || rest.len() > 1 && rest.starts_with('.'), "{name:?}");
        assert!(!name.ends_with('.'), "{name:?}");
        can_be_asked(name);
    }
}

fn can_be_asked(name: &str) {
    if let Some(message) = query(7, name, TYPE::A) {
        assert!(message.len() <= 512, "{name:?}");
        let packet = Packet::parse(&message).unwrap();
        assert_eq!((packet.id(), packet.questions.len()), (7, 1));
        assert!(answer(&message, 7, name, TYPE::A).is_none(), "no reply");
    }
}

/// The hosts file ([`in_hosts`]).
pub fn hosts(data: &[u8]) {
    let text = &String::from_utf8_lossy(data);
    let found = in_hosts(text, NAME);
    assert_eq!(found, in_hosts(text, &NAME.to_ascii_uppercase()));
    assert!(found.is_sorted_by_key(IpAddr::is_ipv6), "IPv4 first");
    let first_words: Vec<IpAddr> = text
        .lines()
        .filter(|line| line.to_ascii_lowercase().contains(NAME))
        .filter_map(|line| line.split_whitespace().next()?.split('#').next()?.parse().ok())
        .collect();
    assert!(found.len() <= first_words.len());

    assert!(found.iter().all(|address| first_words.contains(address)));

    // A line of our own is read, whatever came before it, and a comment is not.
    let more = format!("{text}\n# {ADDRESS} {NAME}\n#{ADDRESS} {NAME}\n{ADDRESS} x {NAME}#\n");
    let mut expected = found.clone();
    expected.insert(found.iter().filter(|address| address.is_ipv4()).count(), ADDRESS);
    assert_eq!(in_hosts(&more, NAME), expected);
    if !found.is_empty() {
        serves(Found::new(found, By::Hosts), false);
    }
}

/// Checks the addresses of a name before something connects to them.
fn serves(found: Found, from_dns: bool) {
    let count = found.addresses.len();
    match usable(found, from_dns) {
        Ok(Found { addresses, .. }) => {
            assert!((1..=count).contains(&addresses.len()));
            for address in addresses {
                assert!(!address.is_unspecified() && !address.is_multicast(), "{address}");
                assert!(!(from_dns && address.to_canonical().is_loopback()), "{address}");
            }
        }
        Err(e) => assert!(matches!(e, NameError::Unusable(..)), "{e:?}"),
    }
}

/// passwd and group, a NUL between them ([`user`]).
pub fn passwd(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (passwd, group) = text.split_once('\0').unwrap_or((&text, ""));
    // A line break at the end, so that a line of our own does not change the last one.
    let (passwd, group) = (&format!("{passwd}\n"), &format!("{group}\n"));
    let found = user(STREAMING_USER, passwd, group);

    let ours = format!("{passwd}{STREAMING_USER}:x:1234:5678::/home:/bin/sh\n");
    let whole = user(STREAMING_USER, &ours, group).expect("a line of our own is read");
    if let Some(found) = &found {
        assert_eq!(whole, *found, "the first line counts");
        let line = format!("\n{STREAMING_USER}:");
        assert!(format!("\n{passwd}").contains(&line), "{found:?}");
    } else {
        assert_eq!((whole.uid, whole.gid), (1234, 5678));
    }

    assert_eq!(whole.name, STREAMING_USER);
    // To setresuid(2), -1 means "leave it as it is": what the user may do would then be tried as
    // root.
    assert!(whole.uid != u32::MAX && whole.gid != u32::MAX, "{whole:?}");
    assert!(whole.groups.len() <= group.lines().count());
    assert!(whole.groups.iter().all(|gid| *gid != u32::MAX), "{whole:?}");
    let more = format!("{group}x:x:4321:a,{STREAMING_USER},b\ny:x:4322:{STREAMING_USER}2\n");
    let more = user(STREAMING_USER, &ours, &more).unwrap();
    assert_eq!(more.groups, [&whole.groups[..], &[4321]].concat());
}

/// AppStream's profile files ([`Session::parse`]).
pub fn profile(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let session = Session::parse(&text);
    assert!(session.values.len() <= 4);
    assert!(session.values.iter().all(|(_, v)| !v.is_empty() && v.chars().count() <= 100));
    assert!(!session.to_string().contains(char::is_control), "{session:?}");
    // A line of our own, at the end, counts.
    let ours = Session::parse(&format!("{text}\nexport AppStream_Session_ID=\"ours\"\n"));
    assert!(ours.values.contains(&("session", "ours".into())), "{ours:?}");
    assert!(ours.values.len() <= session.values.len() + 1);
}

/// AWS's files of profiles, and the command lines in them ([`Profiles::parse`], [`words`]).
pub fn aws_profile(data: &[u8]) {
    let text = &String::from_utf8_lossy(data);
    for kind in [ProfileFileKind::Credentials, ProfileFileKind::Config] {
        let read = Profiles::parse(text, kind);
        assert_eq!(read, Profiles::parse(text, kind), "the same text, the same meaning");
        for error in &read.errors {
            assert!(is_one_plain_line(&error.to_string()), "{error:?}");
            assert!((1..=text.lines().count()).contains(&error.line), "{error:?} is on no line");
        }
        let section = match kind {
            ProfileFileKind::Credentials => "[fuzz]",
            ProfileFileKind::Config => "[profile fuzz]",
        };
        // A line of our own counts, whatever is above it.
        let ours = Profiles::parse(&format!("{text}\n{section}\nOurs = v # c\n"), kind);
        assert_eq!(ours.profiles["fuzz"]["ours"].expose(), "v", "a line of our own is read");
        let mut written = String::new();
        for (name, profile) in &read.profiles {
            assert!(!name.is_empty() && name.trim() == name && text.contains(name), "{name:?}");
            written += &match kind {
                ProfileFileKind::Credentials => format!("[\"{name}\"]\n"),
                ProfileFileKind::Config => format!("[profile \"{name}\"]\n"),
            };
            for (key, value) in profile {
                assert!(
                    !key.is_empty() && key.trim() == key && !key.contains(['=', ':']),
                    "{key:?}"
                );
                assert_eq!(*key, key.to_ascii_lowercase());

                let value = value.expose();
                for line in value.split('\n') {
                    assert!(line.trim() == line && text.contains(line), "{line:?}");
                }
                written += &format!("{key} = {}\n", value.replace('\n', "\n "));
                are_words(value);
            }
        }

        let again = Profiles::parse(&written, kind);
        assert_eq!((&again.errors[..], &again.misnamed[..]), (&[][..], &[][..]), "{written}");
        assert_eq!(again.profiles, read.profiles, "written out in full:\n{written}");
    }
}

/// Checks that a command line is split into words, and that quotes make them one line again.
fn are_words(line: &str) {
    let Ok(split) = words(line) else {
        return;
    };
    let quoted = |word: &String| {
        let inner: String = word
            .chars()
            .flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] })
            .collect();
        format!("\"{inner}\"")
    };
    let line = split.iter().map(quoted).collect::<Vec<_>>().join(" ");
    assert_eq!(words(&line).as_ref(), Ok(&split), "{line}");
}

/// A DNS message, as an answer to one of our questions ([`answer`]). The data is read as it is. To
/// reach more of the reader, it is then read as the records of a message that answers the question.
pub fn dns(data: &[u8]) {
    message(data);

    if let Some((count, records)) = data.split_first() {
        let mut whole = query(7, NAME, TYPE::A).unwrap();
        whole[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, count % 8]);
        whole.extend_from_slice(records);
        message(&whole);
    }
}

fn message(data: &[u8]) {
    for (id, kind) in [(7, TYPE::A), (7, TYPE::AAAA)] {
        let Some(answer) = answered(data, id, NAME, kind) else {
            continue;
        };
        assert_eq!(answered(data, id, &NAME.to_ascii_uppercase(), kind).as_ref(), Some(&answer));
        assert_eq!(answered(data, id, "fs-2.efs.example", kind), None, "another's answer");
        // What the header says (RFC 1035, 4.1.1), read without the library.
        let [high, low, flags, code, _, _, many, few, ..] = *data else {
            panic!("{answer:?} without a header");
        };
        assert_eq!(id, u16::from_be_bytes([high, low]), "another's id");
        assert!(flags & 0x80 != 0, "a query is no answer");
        let (truncated, code) = (flags & 2 != 0, code & 15);
        let records = usize::from(u16::from_be_bytes([many, few]));
        match answer {
            DnsAnswer::Addresses { addresses, of } => {
                assert_eq!(code, 0);
                assert!((1..=records).contains(&addresses.len()), "{addresses:?} of {records}");
                assert!(
                    addresses.iter().all(|a| a.is_ipv4() == (kind == TYPE::A)),
                    "{addresses:?}"
                );
                for address in &addresses {
                    let there = match address {
                        IpAddr::V4(v4) => data.windows(4).any(|bytes| bytes == v4.octets()),
                        IpAddr::V6(v6) => data.windows(16).any(|bytes| bytes == v6.octets()),
                    };
                    assert!(there, "{address} is not in the message");
                }
                serves(Found::new(addresses, By::Server(Answered::by(ADDRESS))), true);
                if let Some(alias) = of {
                    can_be_asked(&alias);
                }
            }
            DnsAnswer::Alias(alias) => {
                assert!(code == 0 && records > 0 && !truncated);
                assert!(!alias.eq_ignore_ascii_case(NAME), "asked for once more without end");
                can_be_asked(&alias);
            }
            DnsAnswer::NoAddress | DnsAnswer::Circle => assert!(code == 0 && !truncated),
            DnsAnswer::NoSuchName(of) => {
                assert_eq!(code, 3);
                if let Some(alias) = of {
                    can_be_asked(&alias);
                }
            }
            DnsAnswer::Truncated => assert!(code == 0 && truncated),
            DnsAnswer::Failed(_) => assert!(code != 3, "NXDOMAIN has its own word"),
        }
    }
}

fn answered(data: &[u8], id: u16, name: &str, kind: TYPE) -> Option<DnsAnswer> {
    answer(data, id, name, kind)
}
