//! A server, by name or by address: what may stand for one, and the error about a text that is neither.
//!
//! A text that could be a name, and looks like one of EFS, is examined in [`slips`]. What people paste with more
//! around it is taken apart in [`pasted`].

use super::ids::{is_access_point_id, is_of_efs, may_be_file_system_id, with_efs};
use super::names::{address_from, is_dns_name, is_whole, why_no_server};
use super::pasted;
use super::slips::{self, PLACEHOLDER};
use crate::partitions::is_of_aws;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A server, by name or by address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// A DNS name. If it was written with a dot at its end, it keeps that, unless the name is AWS's.
    Name(String),
    /// A literal address.
    Address(IpAddr),
}

impl Endpoint {
    /// Whether no search domain completes it: an address, or a whole name.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Name(name) => is_whole(name),
            Self::Address(_) => true,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name.strip_suffix('.').unwrap_or(name)),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

pub fn endpoint_from(text: &str) -> Result<Endpoint, String> {
    if let Some(address) = address_from(text) {
        return Ok(Endpoint::Address(address));
    }

    let lower = text.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    if !is_dns_name(name) {
        return Err(not_an_endpoint(text));
    }
    if let Some(slip) = slips::in_name(name) {
        return Err(slip.what);
    }
    if may_be_file_system_id(name) {
        return Err(format!(
            "is only the file system's id: write its DNS name, \"{name}.efs.<region>.amazonaws.com\""
        ));
    }
    if let Some(whole) = with_efs(name) {
        return Err(format!("lacks \".efs\": write endpoint = \"{whole}\""));
    }
    // A server may be called fsap-1; an access point has more digits.
    if is_access_point_id(name) {
        return Err(pasted::in_endpoint(name, "is an access point's id").unwrap_or_default());
    }
    Ok(Endpoint::Name(if is_whole(name) { name } else { &lower }.to_owned()))
}

/// One of the further addresses.
pub fn address_in_list(text: &str) -> Result<IpAddr, String> {
    address_from(text).ok_or_else(|| {
        let several = text.contains([',', ';', ' ']);
        in_text(text).filter(|_| !several).unwrap_or_else(|| not_an_address(text))
    })
}

/// What is wrong with a text that was to be one address.
fn not_an_address(text: &str) -> String {
    let words = text.split([',', ';', ' ']).filter(|word| !word.is_empty());
    let all: Vec<Option<IpAddr>> = words.map(address_from).collect();
    if all.len() > 1 && all.iter().all(Option::is_some) {
        let list: Vec<String> = all.iter().flatten().map(|one| format!("\"{one}\"")).collect();
        return format!(
            "is more than one address: write each in quotes of its own, [{}]",
            list.join(", ")
        );
    }

    let what = "is no IP address of a server: allowed is one like \"10.0.1.12\"";
    match text.split_once('/') {
        Some((front, _)) if address_from(front).is_some() => format!("{what}, without a netmask"),
        _ if is_dns_name(text) => format!("{what}; a name belongs into `endpoint`"),
        _ => what.to_owned(),
    }
}

/// What is wrong with a text that can be no name, and that people paste for an endpoint.
fn not_an_endpoint(text: &str) -> String {
    // A placeholder in the mount point of a whole line is reported with that line.
    let mut words = text.split_whitespace();
    if words.any(|word| word.contains('<') && !word.starts_with(['/', '~'])) {
        return PLACEHOLDER.into();
    }

    let known = in_text(text)
        .or_else(|| pasted::in_endpoint(text, "has more in it than a name"))
        .or_else(|| variable_in(text));
    if let Some(what) = known {
        return what;
    }

    if let Some(odd) = text.chars().find(|c| !c.is_ascii()) {
        return of_odd_character(odd);
    }

    let why = if text.is_empty() {
        ": it is empty"
    } else if text.contains(char::is_whitespace) {
        ": there is a blank in it"
    } else if text.starts_with("arn:") {
        ": it is the ARN of something else than a file system"
    } else if text.contains("://") {
        ": leave off what stands before the name, up to \"//\", and put the path into `path`"
    } else if text.contains('/') {
        ": put the path into `path`"
    } else if text.contains(':') {
        ": put the port into `options`, as port=…"
    } else if text.contains(',') {
        ": \",\" is no character of a name; further addresses belong into `addresses`"
    } else if let Some(odd) =
        text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c))
    {
        return format!(
            "is neither a DNS name nor an IP address: \"{odd}\" is no character of a name"
        );
    } else {
        ""
    };
    format!("is neither a DNS name nor an IP address{why}")
}

/// The error that a character is in no DNS name. Many such characters look like one that is, or like nothing.
fn of_odd_character(odd: char) -> String {
    let code = u32::from(odd);
    let hint = match odd {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => {
            "it looks like a hyphen: write a plain \"-\""
        }
        odd if odd.is_alphabetic() => "write the name in its ASCII form (xn--…)",
        _ => "take it out: it may have come with pasting",
    };

    let shown = if odd.is_alphabetic() {
        format!("\"{odd}\" (U+{code:04X})")
    } else {
        format!("the character U+{code:04X}")
    };

    format!("has {shown} in it, which is none of a DNS name; {hint}")
}

/// What is wrong with a text that can be no name, if it is one of the usual mistakes.
fn in_text(text: &str) -> Option<String> {
    let host = text.split([':', '/']).next().unwrap_or_default();
    if let Some(why) = why_no_server_at(text) {
        return Some(why);
    }

    let one_word = !text.contains(|c: char| c.is_whitespace() || "\"'".contains(c));
    if one_word && host.contains('$') {
        return variable_in(host);
    }
    if one_word && host.contains('{') && host.contains('}') {
        return Some(PLACEHOLDER.into());
    }

    let dotted = text.to_ascii_lowercase().replace([',', ';'], ".");
    let is_good_name =
        is_dns_name(&dotted) && is_of_efs(&dotted) && slips::in_name(&dotted).is_none();

    if text.contains([',', ';']) && (address_from(&dotted).is_some() || is_good_name) {
        return Some(format!(
            "has \"{}\" in it where a dot is meant: write endpoint = \"{dotted}\"",
            if text.contains(',') { ',' } else { ';' }
        ));
    }

    several_in(text)
}

/// A variable of a shell in a text that is no path.
fn variable_in(text: &str) -> Option<String> {
    let mut words = text.split_whitespace().filter(|word| !word.starts_with(['/', '~']));
    let (_, rest) = words.find_map(|word| word.split(['/']).next()?.split_once('$'))?;
    let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && !"_{}()".contains(c)).next()?;
    Some(format!("has \"${name}\" in it, and variables are not expanded: write the name itself"))
}

/// Why no server can be at the address that `text` is, or begins with.
fn why_no_server_at(text: &str) -> Option<String> {
    let front = text.split(['/', '%']).next()?;
    let address = bare_address(front)
        .or_else(|| bare_address(front.strip_suffix(':')?))
        .or_else(|| Some(front.parse::<SocketAddr>().ok()?.ip()))?;
    why_no_server(address)
}

fn bare_address(text: &str) -> Option<IpAddr> {
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The error that there are several names or addresses in one text, if there are.
fn several_in(text: &str) -> Option<String> {
    let file_systems = count_file_systems(text);
    if file_systems > 1 {
        return Some(of_several_names(file_systems));
    }

    let words: Vec<String> = text
        .split(|c: char| c == ',' || c == ';' || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let first = words.first()?;
    let commas_between = text.contains([',', ';']) && !first.contains([':', '/']);
    let all_are_hosts = may_be_first_host(first)
        && words.iter().skip(1).all(|word| {
            is_surely_host(word) || commas_between && word.contains('.') && is_dns_name(word)
        });

    if words.len() < 2 || !all_are_hosts {
        return None;
    }

    let (addresses, mut hosts): (Vec<&String>, Vec<&String>) =
        words.iter().partition(|word| address_from(word).is_some());
    hosts.sort();
    hosts.dedup();
    let (endpoint, rest) = match (&hosts[..], addresses.split_first()) {
        ([_, _, ..], _) => return Some(of_several_names(hosts.len())),
        ([name], _) if name.contains([':', '/']) || addresses.is_empty() => return None,
        ([name], _) => (*name, &addresses[..]),
        ([], Some((first, rest))) => (*first, rest),
        ([], None) => return None,
    };

    let list: Vec<String> = rest.iter().map(|address| format!("{address:?}")).collect();
    Some(format!(
        "has several addresses in it: write endpoint = \"{endpoint}\" and addresses = [{}]",
        list.join(", ")
    ))
}

/// Whether a word is a server, with or without a path behind it: an address, or a name that only AWS gives.
fn is_surely_host(word: &str) -> bool {
    let host = host_of(word);
    address_from(word).is_some()
        || may_be_file_system_id(host)
        || is_dns_name(host) && is_of_aws(host) && host.len() > 20
}

/// Whether the first word may be a server. For that, any name with a dot is enough.
fn may_be_first_host(word: &str) -> bool {
    let host = host_of(word);
    is_surely_host(word) || is_dns_name(host) && host.contains('.')
}

fn host_of(word: &str) -> &str {
    let host = word.split([':', '/']).next().unwrap_or_default();
    host.strip_suffix('.').unwrap_or(host)
}

fn of_several_names(count: usize) -> String {
    let count = if count == 2 { "two".to_owned() } else { count.to_string() };
    format!("has {count} names in it: write one [[share]] for each, with a mount_point of its own")
}

/// How many file systems there are in a text, whatever else is in it.
fn count_file_systems(text: &str) -> usize {
    let text = text.to_ascii_lowercase();
    let mut ids: Vec<&str> = Vec::new();
    for (at, _) in text.match_indices("fs-") {
        let (Some(before), Some(rest)) = (text.get(..at), text.get(at..)) else { continue };
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
        let (id, behind) = rest.split_at(end);

        // A folder may be called like an id.
        let folder = before.ends_with('/')
            && !behind.starts_with(".efs.")
            && !["file-system/", "file-systems/", "//"].iter().any(|start| before.ends_with(start));
        let inside = before.ends_with(|c: char| c.is_ascii_alphanumeric() || "-_".contains(c));

        if !inside && !folder && may_be_file_system_id(id) && !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids.len()
}
