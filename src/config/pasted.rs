//! What people paste where a word is wanted: a mount command, a line of fstab, a handle of the CSI driver, an ARN, a
//! URL. Nothing is guessed into a mount: the error says all the lines that it would be, and nobody loses one of them.

use super::encryption::{self, access_point_id, region_from};
use super::options::Read;
use super::slips;
use super::{is_dns_name, mount_point_from, unexpanded};
use crate::partitions::dns_suffix;
use crate::text::misleads;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The keys that can come out of it, in the order in which they are told.
const ORDER: &[&str] = &[
    "endpoint",
    "path",
    "mount_point",
    "options",
    "addresses",
    "required",
    encryption::MAIN,
    "iam",
    "access_point",
    "aws_profile",
    "trust",
];
/// Those that need encryption.
const ENCRYPTED: &[&str] = &["iam", "access_point", "aws_profile", "trust"];

/// Lines of a `[[share]]`: keys, and their values as TOML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(Vec<(&'static str, String)>);

impl Lines {
    /// The last one of a key counts.
    pub fn put(&mut self, key: &'static str, value: String) {
        if ENCRYPTED.contains(&key) {
            self.put(encryption::MAIN, "true".into());
        }
        match self.0.iter_mut().find(|(held, _)| *held == key) {
            Some((_, held)) => *held = value,
            None => self.0.push((key, value)),
        }
        self.0.sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key));
    }

    pub fn append(&mut self, others: Self) {
        others.0.into_iter().for_each(|(key, value)| self.put(key, value));
    }

    /// Leaves out what the share has already; whether it was there.
    pub fn take_out(&mut self, key: &str) -> bool {
        let count = self.0.len();
        self.0.retain(|(held, _)| *held != key);
        self.0.len() < count
    }

    pub fn keys(&self) -> Vec<&'static str> {
        self.0.iter().map(|(key, _)| *key).collect()
    }

    fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(held, _)| *held == key)
    }

    pub fn is_one(&self) -> bool {
        self.0.len() == 1
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        for (at, (key, value)) in self.0.iter().enumerate() {
            let between = match at {
                0 => "",
                at if at.saturating_add(1) == count => " and ",
                _ => ", ",
            };
            write!(f, "{between}{key} = {value}")?;
        }
        Ok(())
    }
}

/// A file system, and what stood around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Source {
    /// DNS name, address, or a file system's id alone.
    host: Host,
    path: String,
    port: Option<u16>,
    access_point: Option<String>,
    region: Option<String>,
    /// What stood behind an address, as in 10.0.1.12/24.
    netmask: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Host {
    /// It stands nowhere.
    #[default]
    Unknown,
    /// As it is.
    Whole(String),
    /// A file system's id, and the label behind it in its name.
    Id(String, &'static str),
}

impl Source {
    fn lines(&self, options: &Options) -> Lines {
        let mut lines = Lines::default();
        // A zone has its region's name in it.
        let of_zone = options.zone.as_deref().and_then(slips::region_of_zone);
        let region = options.region.as_ref().or(self.region.as_ref()).or(of_zone.as_ref());
        let name = |id: &str, service: &str| {
            let zone = options.zone.as_ref().map(|zone| format!("{zone}.")).unwrap_or_default();
            let suffix = dns_suffix(region.map_or("", String::as_str));
            let region = region.map_or("<region>", String::as_str);
            format!("{zone}{id}.{service}.{region}.{suffix}")
        };
        let endpoint = match &self.host {
            Host::Unknown => name("fs-…", "efs"),
            // What would be refused is not advised.
            Host::Whole(host) => slips::in_name(host).map_or(host.clone(), |slip| slip.right),
            Host::Id(id, service) => name(id, service),
        };
        lines.put("endpoint", format!("\"{endpoint}\""));
        let path = self.path.trim_matches('/');
        if !path.is_empty() {
            lines.put("path", quoted(&format!("/{path}")));
        }
        if let Some(access_point) = &self.access_point {
            lines.put("access_point", quoted(access_point));
        }
        lines
    }
}

/// What stood among the mount options.
#[derive(Default)]
struct Options {
    list: Vec<String>,
    region: Option<String>,
    zone: Option<String>,
}

impl Options {
    fn of(lists: &[String], source: Option<&Source>) -> Self {
        let mut options = Self::default();
        let port = source.and_then(|source| source.port).map(|port| format!("port={port}"));
        for list in lists.iter().map(String::as_str).chain(port.as_deref()) {
            for word in super::options::words(list).filter(|word| !word.is_empty()) {
                match word.split_once('=') {
                    Some(("region", region)) if region_from(region).is_ok() && source.is_some() => {
                        options.region = Some(region.to_owned());
                    }
                    Some(("az" | "azid", zone)) if is_dns_name(zone) && source.is_some() => {
                        options.zone = Some(zone.to_owned());
                    }
                    _ => options.list.push(word.to_owned()),
                }
            }
        }
        options
    }
}

/// A mount command, or a line of fstab, taken apart.
#[derive(Default)]
struct Whole {
    what: &'static str,
    source: Option<Source>,
    target: Option<String>,
    /// Lists of options.
    options: Vec<String>,
}

impl Whole {
    /// All of its lines, what is wrong with its options, and with the rest.
    fn told(&self) -> (Lines, Vec<String>, Vec<String>) {
        let mut odd = Vec::new();
        let options = Options::of(&self.options, self.source.as_ref());
        let mut lines = match &self.source {
            Some(source) => source.lines(&options),
            None => Lines::default(),
        };
        if let Some(source) = &self.source {
            if let Host::Whole(name) = &source.host
                && let Some(slip) = slips::in_name(name)
            {
                // The right one is among the lines.
                let what = slip.told.split(": write ").next().unwrap_or_default();
                odd.push(format!("\"{name}\" {what}"));
            }
            odd.extend(
                source.netmask.as_ref().map(|mask| format!("\"{mask}\" is a netmask, and no path")),
            );
            // What would be refused is not advised.
            if let Err(why) = unexpanded(&source.path) {
                lines.take_out("path");
                odd.push(format!("the path {:?} {why}", source.path));
            }
        }
        if let Some(target) =
            self.target.as_ref().filter(|target| target.starts_with(['/', '~', '$']))
        {
            match mount_point_from(target) {
                Ok(_) => lines.put("mount_point", quoted(target)),
                Err(why) => odd.push(format!("the mount point {target:?} {why}")),
            }
        }
        let mut read = Read::of(&options.list.join(","));
        let wrong = std::mem::take(&mut read.wrong);
        if read.cut {
            odd.push("the context needs its quotes, since there is a comma in it".into());
        }
        read.into_lines(&mut lines);
        (lines, wrong, odd)
    }
}

/// What is wrong with a text that was written for an endpoint, if something is found in it.
pub fn in_endpoint(text: &str) -> Option<String> {
    if text.len() > 4000 || text.contains(|c: char| misleads(c) && !c.is_whitespace()) {
        return None;
    }
    let whole = match parted(text).as_slice() {
        [one] => source(one).map(|found| Whole { source: Some(found), ..Whole::default() }),
        many => taken_apart(many)
            .filter(|whole| whole.source.is_some())
            .or_else(|| beside(text).is_none().then(|| in_many(text, many))?),
    };
    let whole = match whole.filter(|whole| whole.source.is_some()) {
        Some(whole) => whole,
        None => {
            let found = beside(text).or_else(|| access_point_in(text).map(|_| Source::default()));
            Whole { source: Some(found?), ..Whole::default() }
        }
    };
    let (mut lines, wrong, odd) = whole.told();
    // Wherever it stands: without it, the whole file system would be mounted.
    if let Some(id) = access_point_in(text).filter(|_| !lines.has("access_point")) {
        lines.put("access_point", quoted(id));
    }
    let is = match whole.what {
        "" => "has more in it than a name",
        what => what,
    };
    let wrong: String = wrong.iter().map(|what| format!("; of its options, {what}")).collect();
    let odd: String = odd.iter().map(|what| format!("; {what}")).collect();
    Some(format!("{is}: write {lines}{wrong}{odd}"))
}

/// The same of mount options.
pub fn in_options(text: &str) -> Option<String> {
    if text.len() > 4000 || text.contains(|c: char| misleads(c) && !c.is_whitespace()) {
        return None;
    }
    let parts = parted(text);
    // Blanks behind a comma do no harm.
    let list = text.split(',').all(|word| word.split_whitespace().count() <= 1);
    if list && !text.trim_start().starts_with('-') {
        return None;
    }
    let whole = taken_apart(&parts)?;
    let (lines, mut wrong, odd) = whole.told();
    wrong.extend(odd);
    let mut told = format!("it {}", whole.what);
    if lines != Lines::default() {
        told.push_str(&format!(": write {lines}"));
        if !lines.is_one() {
            told.push_str(" as lines of the [[share]]");
        }
    } else if wrong.is_empty() {
        told.push_str(": leave `options` out, it says nothing that is not so anyway");
    }
    wrong.iter().for_each(|what| told.push_str(&format!("; {what}")));
    Some(told)
}

/// A file system's id or name with other things before it, as in `What=fs-…:/`, or in JSON.
fn beside(text: &str) -> Option<Source> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let starts = text.match_indices("fs-").map(|(at, _)| at);
    let starts =
        starts.filter(|at| !text.get(..*at).is_some_and(|before| before.ends_with(inside)));
    let mut places = starts.filter_map(|at| {
        let rest = text.get(at..)?;
        let end = |c: char| c.is_whitespace() || "\"'`,;()<>{}[]|".contains(c);
        let found = of_handle(rest.split(end).next()?)?;
        let of_efs = match &found.host {
            Host::Id(..) => true,
            Host::Whole(name) => name.contains(".efs.") || name.contains(".fsx."),
            Host::Unknown => false,
        };
        // At its start there is nothing before it.
        (of_efs && at > 0).then_some(found)
    });
    let mut found = places.next()?;
    found.access_point = found.access_point.or_else(|| access_point_in(text).map(str::to_owned));
    Some(found)
}

/// A file system somewhere in several words that are no command.
fn in_many(text: &str, words: &[String]) -> Option<Whole> {
    let (first, rest) = words.split_first()?;
    let target = match rest {
        [target] if target.starts_with('/') => Some(target.clone()),
        _ => None,
    };
    // A path may have blanks in it.
    let whole = first.contains(['/', '\\']).then_some(text.trim()).filter(|_| target.is_none());
    let found = whole.and_then(source).or_else(|| words.iter().find_map(|word| source(word)))?;
    Some(Whole { source: Some(found), target, ..Whole::default() })
}

/// An access point's id, if there is one in a text that is more than that.
pub fn access_point_in(text: &str) -> Option<&str> {
    let mut found = text.match_indices("fsap-").filter_map(|(at, _)| {
        text.get(at..)?.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next()
    });
    found.find(|id| access_point_id(id))
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// The words of a command line, without the quotes around them.
fn parted(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in text.chars() {
        match quote {
            None if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            None if c == '\'' || c == '"' && word.is_empty() => quote = Some((c, false)),
            // One that begins in a word, as in context="…", is part of it.
            None if c == '"' => {
                quote = Some((c, true));
                word.push(c);
            }
            Some((end, kept)) if c == end => {
                word.extend(kept.then_some(c));
                quote = None;
            }
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn taken_apart(words: &[String]) -> Option<Whole> {
    let name = |word: &String| word.rsplit('/').next().unwrap_or_default().to_owned();
    let is_mount = |word: &String| {
        let name = name(word);
        name == "mount" || name.starts_with("mount.") && !word.contains(':')
    };
    let command = words.iter().position(is_mount).filter(|at| *at <= 2);
    if command.is_some() || words.first()?.starts_with('-') {
        let rest = words.get(command.map_or(0, |at| at.saturating_add(1))..)?;
        return of_command(rest, command.is_some());
    }
    let digits = |word: &&String| word.len() == 1 && word.bytes().all(|b| b.is_ascii_digit());
    let numbers = words.iter().rev().take_while(digits).take(2).count();
    let fields = words.get(..words.len().saturating_sub(numbers))?;
    let of_fstab = "is a line of /etc/fstab";
    match fields {
        [source_field, target, kind, rest @ ..]
            if ["efs", "nfs", "nfs4", "s3files"].contains(&kind.as_str()) && rest.len() <= 1 =>
        {
            Some(Whole {
                what: of_fstab,
                source: Some(source(&unescaped(source_field))?),
                target: Some(unescaped(target)),
                options: rest.to_vec(),
            })
        }
        [target, kind, options]
            if target.starts_with('/') && ["efs", "nfs", "nfs4"].contains(&kind.as_str()) =>
        {
            Some(Whole {
                what: of_fstab,
                target: Some(unescaped(target)),
                options: vec![options.clone()],
                ..Whole::default()
            })
        }
        // A command from behind its -o.
        [options, place, rest @ ..]
            if options.contains(['=', ',']) && !options.contains(['/', ':']) && rest.len() <= 1 =>
        {
            Some(Whole {
                what: "ends with what belongs to the command mount(8)",
                source: Some(source(place).filter(|_| place.contains(':'))?),
                target: rest.first().cloned(),
                options: vec![options.clone()],
            })
        }
        [options] if numbers > 0 => Some(Whole {
            what: "ends with what belongs to a line of /etc/fstab",
            options: vec![options.clone()],
            ..Whole::default()
        }),
        [kind, options] if ["efs", "nfs", "nfs4"].contains(&kind.as_str()) => {
            Some(Whole { what: of_fstab, options: vec![options.clone()], ..Whole::default() })
        }
        _ => None,
    }
}

/// What stands behind `mount`.
fn of_command(words: &[String], whole: bool) -> Option<Whole> {
    let what = match whole {
        true => "is a command for mount(8)",
        false => "begins with what belongs to the command mount(8)",
    };
    let mut found = Whole { what, ..Whole::default() };
    let mut words = words.iter();
    let mut places = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-o" | "--options" => found.options.extend(words.next().cloned()),
            "-t" | "--types" => drop(words.next()),
            flag if flag.starts_with('-') => {
                let glued = flag.strip_prefix("-o").or(flag.strip_prefix("--options="));
                // A map of autofs has them so.
                let glued =
                    glued.or(flag.strip_prefix('-').filter(|rest| rest.contains(['=', ','])));
                let of_autofs = |word: &&str| !word.starts_with("fstype=");
                found.options.extend(glued.filter(|_| !flag.starts_with("-t")).map(|list| {
                    super::options::words(list).filter(of_autofs).collect::<Vec<_>>().join(",")
                }));
            }
            _ => places.push(word),
        }
    }
    let mut places = places.into_iter();
    found.source = places.next().and_then(|word| source(word));
    found.target = places.next().cloned();
    Some(found).filter(|found| found.source.is_some() || !found.options.is_empty())
}

/// fstab(5) writes a blank as `\040`.
fn unescaped(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// A file system in one word.
fn source(word: &str) -> Option<Source> {
    if let Some(rest) = word.strip_prefix("arn:") {
        return of_arn(rest);
    }
    if let Some((scheme, rest)) = word.split_once("://") {
        let url = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
        return of_url(rest).filter(|_| url);
    }
    if let Some(rest) = word.strip_prefix("\\\\").or(word.strip_prefix("//")) {
        let rest = rest.replace('\\', "/");
        let (host, path) = rest.split_once('/').unwrap_or((&rest, ""));
        return Some(Source { host: host_from(host)?, path: path.into(), ..Source::default() });
    }
    if access_point_id(&word.to_ascii_lowercase()) {
        let access_point = Some(word.to_ascii_lowercase());
        return Some(Source { access_point, ..Source::default() });
    }
    of_handle(word)
}

/// `host:path`, `host:port`, `host/path`, and what the CSI driver writes: `id:path:access point`.
fn of_handle(word: &str) -> Option<Source> {
    let (host, rest) = match word.strip_prefix('[').and_then(|word| word.split_once(']')) {
        Some((v6, rest)) => (Host::Whole(v6.parse::<Ipv6Addr>().ok()?.to_string()), rest),
        None if bare_v6(word).is_some() => {
            let (v6, rest) = bare_v6(word)?;
            (Host::Whole(v6.to_string()), rest)
        }
        None => {
            let end = word.find([':', '/']).unwrap_or(word.len());
            let (host, rest) = word.split_at(end);
            // The id of an access point in the place of the file system's.
            match access_point_id(host) {
                true => (Host::Unknown, rest),
                false => (host_from(host)?, rest),
            }
        }
    };
    let access_point = access_point_in(word).filter(|id| word.starts_with(id)).map(str::to_owned);
    let mut found = Source { host, access_point, ..Source::default() };
    let mut rest = rest;
    // An access point is the last part; what is before it is a port or a path, which may hold a colon.
    if let Some((before, id)) = rest.rsplit_once(':')
        && access_point_id(id)
    {
        found.access_point = Some(id.to_owned());
        rest = before;
    }
    if let Host::Whole(host) = &found.host
        && let Some(most) =
            host.parse().ok().map(|host: IpAddr| if host.is_ipv4() { 32 } else { 128 })
        && let Some(bits) = rest.strip_prefix('/')
        && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    {
        found.netmask = Some(rest.to_owned());
        return Some(found);
    }
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    let (number, path) = rest.split_at(rest.find([':', '/']).unwrap_or(rest.len()));
    match number.parse() {
        Ok(port) => {
            found.port = Some(port).filter(|port| *port != super::options::NFS_PORT && *port != 0);
            found.path = path.trim_start_matches(':').to_owned();
        }
        Err(_) => found.path = rest.to_owned(),
    }
    let more = !found.path.trim_matches('/').is_empty() || found.access_point.is_some();
    let id = matches!(found.host, Host::Id(..));
    // A word alone is none: whatever it is, it is no file system with something behind it.
    (more || !word.ends_with(|c: char| c.is_ascii_alphanumeric()) || id || found.host_ends(word))
        .then_some(found)
}

/// An IPv6 address without brackets, and the path behind it.
fn bare_v6(word: &str) -> Option<(Ipv6Addr, &str)> {
    let (front, _) = word.split_once('/')?;
    let of = |front: &str| Some((front.parse::<Ipv6Addr>().ok()?, word.get(front.len()..)?));
    front.strip_suffix(':').and_then(of).or_else(|| of(front))
}

impl Source {
    /// Whether there was something behind the host, or the host is a name of more than one label.
    fn host_ends(&self, word: &str) -> bool {
        match &self.host {
            Host::Whole(host) => word.len() > host.len() || host.contains('.'),
            _ => false,
        }
    }
}

fn host_from(text: &str) -> Option<Host> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    let address = text.parse::<IpAddr>().is_ok();
    match file_system_id(text) {
        true => Some(Host::Id(text.to_owned(), "efs")),
        false => (address || is_dns_name(text)).then(|| Host::Whole(text.to_owned())),
    }
}

/// Whether that is one, whole or cut short.
pub fn file_system_id(text: &str) -> bool {
    let digits = text.strip_prefix("fs-").unwrap_or_default();
    digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What is behind `arn:`.
fn of_arn(rest: &str) -> Option<Source> {
    let parts: Vec<&str> = rest.splitn(5, ':').collect();
    let [_, service, region, _, resource] = parts[..] else { return None };
    let service = match service {
        "elasticfilesystem" => "efs",
        "fsx" => "fsx",
        _ => return None,
    };
    let region = Some(region_from(region).ok()?);
    let mut parts = resource.split([':', '/']);
    let id = parts.find(|part| file_system_id(part));
    // Whatever is behind it: another one's id, or a path that somebody has put there.
    let behind = id.and_then(|id| resource.split_once(id)).map_or("", |(_, rest)| rest);
    let path = behind.strip_prefix(':').map(of_handle_path).unwrap_or_default();
    let host = id.map_or(Host::Unknown, |id| Host::Id(id.to_owned(), service));
    let access_point = access_point_in(resource).map(str::to_owned);
    (id.is_some() || access_point.is_some()).then(|| Source {
        host,
        path,
        access_point,
        region,
        ..Source::default()
    })
}

/// The path in what is behind a file system's id, without an access point.
fn of_handle_path(rest: &str) -> String {
    let path = rest.rsplit_once(':').filter(|(_, id)| access_point_id(id)).map_or(rest, |(p, _)| p);
    path.to_owned()
}

/// What is behind `://`: a server and a path, or a page of AWS's console.
fn of_url(rest: &str) -> Option<Source> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains("console.") {
        let mut words = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let id = words.clone().find(|word| file_system_id(word));
        let service = if rest.contains("/fsx/") { "fsx" } else { "efs" };
        let region = words.find_map(|word| region_from(word).ok());
        let access_point = access_point_in(rest).map(str::to_owned);
        let host = id.map_or(Host::Unknown, |id| Host::Id(id.to_owned(), service));
        return (id.is_some() || access_point.is_some()).then(|| Source {
            host,
            access_point,
            region,
            ..Source::default()
        });
    }
    // A user and a password are none of ours.
    let behind = authority.rfind('@').map_or(0, |at| at.saturating_add(1));
    of_handle(rest.get(behind..)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::MountOptions;

    #[test]
    fn whatever_is_pasted_no_access_point_is_lost_and_nothing_panics() {
        const ACCESS_POINT: &str = "fsap-0123456789abcdef0";
        let pieces = [
            "fs-0123abcd",
            "fs-0123abcd.efs.eu-west-1.amazonaws.com",
            ACCESS_POINT,
            ":",
            "::",
            "/",
            " ",
            "\t",
            "arn:aws:elasticfilesystem:eu-west-1:111122223333:file-system/",
            "://",
            "\\\\",
            "[",
            "]",
            "-o",
            " -o ",
            "mount ",
            "sudo mount -t efs ",
            " efs ",
            " 0 0",
            ",",
            "\"",
            "'",
            "tls",
            "accesspoint=",
            "é",
            "@",
            "\u{300}",
            "https://eu-west-1.console.aws.amazon.com/efs/",
            "/mnt/a",
            "nas",
            "2049",
            "ro,",
            "context=\"a:b:c,d\"",
            "=",
            "{",
        ];
        let (mut state, mut told_of) = (0x9e37_79b9_u64, 0);
        let mut below = |most: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize % most
        };
        for _ in 0..8_000 {
            let text: String = (0..=below(7)).map(|_| pieces[below(pieces.len())]).collect();
            let there = access_point_in(&text).is_some();
            let told = in_endpoint(&text).unwrap_or_default();
            assert!(told.contains("write endpoint = ") || told.is_empty(), "{text}: {told}");
            assert!(told.contains("access_point = ") || !there, "{text}: {told}");
            assert!(!told.contains(misleads), "{text}: {told}");
            told_of += usize::from(there);
            if let Err(told) = MountOptions::over_defaults(&text) {
                assert!(!told.contains(misleads), "{text}: {told}");
            }
        }
        assert!(told_of > 500, "{told_of}");
    }
}
