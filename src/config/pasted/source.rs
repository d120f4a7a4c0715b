//! A file system in one word, in the forms that people copy: a name with a path or a port behind it, a URL, an ARN, a
//! page of AWS's console, a handle of the CSI driver. What it means for a share is not known here.

use crate::config::ids::{access_point_in, is_access_point_id, may_be_file_system_id, region_from};
use crate::config::names::is_dns_name;
use crate::config::options::NFS_PORT;
use std::net::{IpAddr, Ipv6Addr};

/// A file system, and what stood around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PastedSource {
    pub host: PastedHost,
    pub path: String,
    pub port: Option<u16>,
    pub access_point: Option<String>,
    pub region: Option<String>,
    /// What stood behind an address, as in 10.0.1.12/24.
    pub netmask: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PastedHost {
    /// The text names no host.
    #[default]
    Unknown,
    /// A DNS name or an address.
    Whole(String),
    /// A file system's id, and the label of its service, which follows it in its name.
    Id(String, &'static str),
}

impl PastedHost {
    fn from_text(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let text = text.strip_suffix('.').unwrap_or(&text);
        if may_be_file_system_id(text) {
            return Some(Self::Id(text.to_owned(), "efs"));
        }
        let is_host = text.parse::<IpAddr>().is_ok() || is_dns_name(text);
        is_host.then(|| Self::Whole(text.to_owned()))
    }
}

impl PastedSource {
    pub fn in_word(word: &str) -> Option<Self> {
        if let Some(rest) = word.strip_prefix("arn:") {
            return Self::in_arn(rest);
        }
        if let Some((scheme, rest)) = word.split_once("://") {
            let is_url = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
            return Self::in_url(rest).filter(|_| is_url);
        }

        // This is a path as Windows writes it.
        if let Some(rest) = word.strip_prefix("\\\\").or(word.strip_prefix("//")) {
            let rest = rest.replace('\\', "/");
            let (host, path) = rest.split_once('/').unwrap_or((&rest, ""));
            let host = PastedHost::from_text(host)?;
            return Some(Self { host, path: path.into(), ..Self::default() });
        }

        if is_access_point_id(&word.to_ascii_lowercase()) {
            let access_point = Some(word.to_ascii_lowercase());
            return Some(Self { access_point, ..Self::default() });
        }
        Self::in_handle(word)
    }

    /// Reads `host:path`, `host:port`, `host/path`, and what the CSI driver writes: `id:path:access point`.
    pub fn in_handle(word: &str) -> Option<Self> {
        let (host, mut rest) = host_and_rest(word)?;
        let access_point = access_point_in(word).filter(|id| word.starts_with(id));
        let mut found =
            Self { host, access_point: access_point.map(str::to_owned), ..Self::default() };

        // An access point is the last part. Before it is a port or a path, which may hold a colon.
        if let Some((before, id)) = rest.rsplit_once(':')
            && is_access_point_id(id)
        {
            found.access_point = Some(id.to_owned());
            rest = before;
        }

        if found.has_netmask(rest) {
            found.netmask = Some(rest.to_owned());
            return Some(found);
        }

        let rest = rest.strip_prefix(':').unwrap_or(rest);
        let (number, path) = rest.split_at(rest.find([':', '/']).unwrap_or(rest.len()));
        match number.parse() {
            Ok(port) => {
                found.port = Some(port).filter(|port| *port != NFS_PORT && *port != 0);
                found.path = path.trim_start_matches(':').to_owned();
            }
            Err(_) => found.path = rest.to_owned(),
        }
        Some(found).filter(|found| found.is_certain(word))
    }

    /// Whether `rest`, which stood behind the host, is a netmask.
    fn has_netmask(&self, rest: &str) -> bool {
        let PastedHost::Whole(host) = &self.host else { return false };
        let Ok(address) = host.parse::<IpAddr>() else { return false };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = rest.strip_prefix('/').and_then(|bits| bits.parse::<u8>().ok());
        bits.is_some_and(|bits| bits <= most)
    }

    /// Whether `word` is a file system with something around it. A word alone may be anything.
    fn is_certain(&self, word: &str) -> bool {
        let has_more = !self.path.trim_matches('/').is_empty() || self.access_point.is_some();
        let by_host = match &self.host {
            PastedHost::Id(..) => true,
            PastedHost::Whole(host) => word.len() > host.len() || host.contains('.'),
            PastedHost::Unknown => false,
        };
        has_more || by_host || !word.ends_with(|c: char| c.is_ascii_alphanumeric())
    }

    /// Reads what is behind `arn:`.
    fn in_arn(rest: &str) -> Option<Self> {
        let parts: Vec<&str> = rest.splitn(5, ':').collect();
        let [_, service, region, _, resource] = parts[..] else { return None };
        let service = match service {
            "elasticfilesystem" => "efs",
            "fsx" => "fsx",
            _ => return None,
        };
        let region = region_from(region).ok()?;

        let id = resource.split([':', '/']).find(|part| may_be_file_system_id(part));
        // What is behind the id is the id of an access point, or a path that somebody has put there.
        let behind = id.and_then(|id| resource.split_once(id)).map_or("", |(_, rest)| rest);
        let path = behind.strip_prefix(':').map(without_access_point).unwrap_or_default();
        let found = Self::of_service(id, service, access_point_in(resource), Some(region))?;
        Some(Self { path: path.to_owned(), ..found })
    }

    /// Reads what is behind `://`: a server and a path, or a page of AWS's console.
    fn in_url(rest: &str) -> Option<Self> {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains("console.") {
            let mut words = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            let id = words.clone().find(|word| may_be_file_system_id(word));
            let service = if rest.contains("/fsx/") { "fsx" } else { "efs" };
            let region = words.find_map(|word| region_from(word).ok());
            return Self::of_service(id, service, access_point_in(rest), region);
        }

        // A user and a password may stand before the name.
        let host = authority.rfind('@').map_or(0, |at| at.saturating_add(1));
        Self::in_handle(rest.get(host..)?)
    }

    /// The source that the `id` of a file system names, or the `access_point`. There is none without either.
    fn of_service(
        id: Option<&str>,
        service: &'static str,
        access_point: Option<&str>,
        region: Option<String>,
    ) -> Option<Self> {
        let host = id.map_or(PastedHost::Unknown, |id| PastedHost::Id(id.to_owned(), service));
        (id.is_some() || access_point.is_some()).then(|| Self {
            host,
            access_point: access_point.map(str::to_owned),
            region,
            ..Self::default()
        })
    }
}

/// The host that a word begins with, and what is behind it.
fn host_and_rest(word: &str) -> Option<(PastedHost, &str)> {
    if let Some((v6, rest)) = word.strip_prefix('[').and_then(|word| word.split_once(']')) {
        return Some((PastedHost::Whole(v6.parse::<Ipv6Addr>().ok()?.to_string()), rest));
    }
    if let Some((v6, rest)) = bare_v6(word) {
        return Some((PastedHost::Whole(v6.to_string()), rest));
    }

    let (host, rest) = word.split_at(word.find([':', '/']).unwrap_or(word.len()));
    // The id of an access point may stand in the place of the file system's.
    match is_access_point_id(host) {
        true => Some((PastedHost::Unknown, rest)),
        false => Some((PastedHost::from_text(host)?, rest)),
    }
}

/// An IPv6 address without brackets, and the path behind it.
fn bare_v6(word: &str) -> Option<(Ipv6Addr, &str)> {
    let (front, _) = word.split_once('/')?;
    [front.strip_suffix(':').unwrap_or(front), front]
        .iter()
        .find_map(|front| Some((front.parse().ok()?, word.get(front.len()..)?)))
}

/// The path in what is behind a file system's id.
fn without_access_point(rest: &str) -> &str {
    let with = rest.rsplit_once(':').filter(|(_, id)| is_access_point_id(id));
    with.map_or(rest, |(path, _)| path)
}
