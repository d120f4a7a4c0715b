//! What was meant for the name of a file system, and is not quite one: a zone for a region, an id of something else, a
//! placeholder, two names. Only what the text alone proves is refused; a region that is new passes.

use super::encryption::{self, access_point_id, region_from};
use super::{address_from, is_dns_name, pasted};
use crate::partitions::{dns_suffix as suffix, is_of_aws};
use std::net::{IpAddr, SocketAddr};

/// Ids of AWS that people take for a file system's.
const KINDS: &[(&str, &str)] = &[
    ("fsmt-", "a mount target"),
    ("eni-", "a network interface"),
    ("sg-", "a security group"),
    ("subnet-", "a subnet"),
    ("vpc-", "a VPC"),
    ("vpce-", "a VPC endpoint"),
];
/// Labels that stand for what is to be put in.
const STAND_INS: &[&str] = &[
    "efs-id",
    "efs_id",
    "file-system-id",
    "file_system_id",
    "filesystemid",
    "fs-id",
    "fs_id",
    "aws-region",
    "aws_region",
    "aws-region-code",
    "region",
    "your-efs-id",
    "your-file-system-id",
    "your-region",
    "your_efs_id",
    "your_file_system_id",
    "your_region",
];
const PLACEHOLDER: &str =
    "has a placeholder in it: put your own file system's id and region in its place";

const ID: &str = "\"fs-\" and 8 or 17 hex digits (0 to 9, a to f)";

/// What is wrong with a name.
pub(super) struct Slip {
    /// The whole of it, to be put behind the name.
    pub told: String,
    /// The name that it should be, or its form.
    pub right: String,
}

impl Slip {
    fn new(what: impl Into<String>, right: impl Into<String>) -> Self {
        let (what, right) = (what.into(), right.into());
        Self { told: format!("{what}: write \"{right}\""), right }
    }

    /// One that does not tell what is meant.
    fn unclear(told: impl Into<String>) -> Self {
        Self { told: told.into(), right: FORM.into() }
    }
}

/// What a name of EFS looks like.
const FORM: &str = "fs-….efs.<region>.amazonaws.com";

/// What is wrong with `name`: one that can be asked for, in lower case, without a dot at its end.
pub(super) fn in_name(name: &str) -> Option<Slip> {
    let labels: Vec<&str> = name.split('.').collect();
    let of_aws = labels.contains(&"amazonaws");
    let stands_in = |label: &&str| match label.strip_prefix("fs-") {
        Some(id) if id.len() >= 3 => id.bytes().all(|b| b == b'x'),
        _ => false,
    };
    let is_word = |label: &&str| STAND_INS.contains(label) || letters_x(label);
    if labels.iter().any(stands_in)
        || (of_aws || labels.len() == 1) && name != "region" && labels.iter().any(is_word)
        || name.starts_with("file-system-id.")
    {
        return Some(Slip::unclear(PLACEHOLDER));
    }
    match labels[..] {
        [label] => bare(label),
        [id, "efs", region, ref end @ ..]
            if WRONG_ENDS.contains(&end.join(".").as_str())
                && id.strip_prefix("fs-").is_some_and(|digits| is_hex(digits, &[8, 17]))
                && region_from(region).is_ok() =>
        {
            let right = format!("{id}.efs.{region}.{}", suffix(region));
            Some(Slip::new("does not end as names of EFS do", right))
        }
        _ if of_aws => api(&labels).or_else(|| of_efs(&labels)),
        _ => None,
    }
}

/// What is left of the end of a name, or is mistaken for it.
const WRONG_ENDS: &[&str] = &[
    "",
    "amazonaws",
    "amazonaws.co",
    "amazonaws.con",
    "amazon.com",
    "aws",
    "aws.amazon.com",
    "aws.com",
];

/// `xx-xxxx-x`, as manuals write a region.
fn letters_x(label: &str) -> bool {
    label.contains("x-x") && label.bytes().all(|b| b == b'x' || b == b'-')
}

fn is_hex(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn kind(id: &str) -> Option<&'static str> {
    let of_it = |(start, _): &&(&str, &str)| {
        id.strip_prefix(start).is_some_and(|digits| is_hex(digits, &[8, 17]))
    };
    KINDS.iter().find(of_it).map(|(_, kind)| *kind)
}

/// A label alone. Servers have all sorts of names, so that it must look very much like an id.
fn bare(label: &str) -> Option<Slip> {
    if let Some(kind) = kind(label) {
        return Some(Slip::new(
            format!("is the id of {kind}, and not the DNS name of a file system"),
            FORM,
        ));
    }
    let name = |digits: &str| format!("fs-{digits}.efs.<region>.amazonaws.com");
    if is_hex(label, &[17]) {
        return Some(Slip::new("is an id without \"fs-\", and no DNS name", name(label)));
    }
    if let Some(digits) = label.strip_prefix("fs_").filter(|digits| is_hex(digits, &[8, 17])) {
        return Some(Slip::new("has \"_\" in it where an id has \"-\"", name(digits)));
    }
    let digits = label.strip_prefix("fs-")?;
    let others = digits.bytes().filter(|b| !b.is_ascii_hexdigit()).count();
    let of_length = (16..=18).contains(&digits.len()) && others <= 2;
    let of_digits = others == 0 && digits.len() > 8;
    let wrong = wrong_id(label).filter(|_| of_length || of_digits);
    wrong.map(Slip::unclear)
}

/// The service that AWS's own programs speak to.
fn api(labels: &[&str]) -> Option<Slip> {
    let is_api = labels.iter().any(|label| label.starts_with("elasticfilesystem"));
    is_api.then(|| Slip::new("is a name of AWS's API, and not of a file system", FORM))
}

/// `[<zone>.]<id>.efs.<region>.amazonaws.<…>`, and what is wrong with it.
fn of_efs(labels: &[&str]) -> Option<Slip> {
    let efs = labels.iter().position(|label| *label == "efs")?;
    let end = labels.iter().position(|label| *label == "amazonaws")?;
    let region = labels.get(efs.saturating_add(1)..end)?.join(".");
    let last = labels.get(end..)?.join(".");
    let (front, id) = match labels.get(..efs)? {
        [] => {
            let right = format!("fs-….efs.{region}.{last}");
            return Some(Slip::new("has no file system's id in it", right));
        }
        [id] => (String::new(), *id),
        [zone, id] => (format!("{zone}."), *id),
        _ => return None,
    };
    if access_point_id(id) {
        let region = if region.is_empty() { "<region>" } else { &region };
        let right = format!("fs-….efs.{region}.{last}");
        let told = format!(
            "has an access point's id in it, which has no name: write endpoint = \"{right}\", {} = true and \
             access_point = \"{id}\"",
            encryption::MAIN
        );
        return Some(Slip { told, right });
    }
    if let Some(told) = wrong_id(id) {
        return Some(Slip::unclear(told));
    }
    let with = |region: &str| format!("{front}{id}.efs.{region}.{}", suffix(region));
    if region.is_empty() {
        return Some(Slip::new("has no region in it", with("<region>")));
    }
    if let Some(of_zone) = region_of_zone(&region) {
        let what = format!("has a zone in it, \"{region}\", and its region is \"{of_zone}\"");
        return Some(Slip::new(what, with(&of_zone)));
    }
    if region_from(&region).is_ok() {
        let known = ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"].contains(&last.as_str());
        return (known && suffix(&region) != last).then(|| Slip {
            told: format!("does not end as names of {region} do, in \".{}\"", suffix(&region)),
            right: with(&region),
        });
    }
    let hyphened = region.replace(['_', '.'], "-");
    if region_from(&hyphened).is_ok() {
        let what = format!("has a region in it, \"{region}\", that is written \"{hyphened}\"");
        return Some(Slip::new(what, with(&hyphened)));
    }
    Some(Slip {
        told: format!(
            "has a region in it, \"{region}\", that is no region: one is like \"eu-west-1\""
        ),
        right: with("<region>"),
    })
}

/// The region of a zone like `eu-west-1a`.
pub(super) fn region_of_zone(zone: &str) -> Option<String> {
    let region = zone.strip_suffix(|c: char| c.is_ascii_lowercase())?;
    region_from(region).ok()
}

/// What is wrong with an id, if it is certain.
fn wrong_id(id: &str) -> Option<String> {
    let no = format!("has an id in it, \"{id}\", that is no file-system id");
    if let Some(kind) = kind(id) {
        return Some(format!("{no}, but that of {kind}: a file system's is {ID}"));
    }
    if is_hex(id, &[8, 17]) {
        return Some(format!("{no}: it lacks \"fs-\", write \"fs-{id}\""));
    }
    let with_efs = id.strip_prefix("efs-").filter(|digits| is_hex(digits, &[8, 17]));
    if let Some(digits) = with_efs {
        return Some(format!("{no}: write \"fs-{digits}\""));
    }
    if let Some(digits) = id.strip_prefix("fs_") {
        return Some(format!("{no}: write \"fs-{digits}\", with a hyphen"));
    }
    let digits = id.strip_prefix("fs-").filter(|digits| digits.len() >= 7)?;
    match digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        Some('o') => {
            Some(format!("{no}: it has the letter o in it where a 0 may be meant; one is {ID}"))
        }
        Some(odd) => Some(format!("{no}: it has \"{odd}\" in it; one is {ID}")),
        None if [8, 17].contains(&digits.len()) => None,
        None => Some(format!("{no}: it has {} digits; one is {ID}", digits.len())),
    }
}

/// What is wrong with a text that can be no name, if it is one of these.
pub(super) fn in_text(text: &str) -> Option<String> {
    let host = text.split([':', '/']).next().unwrap_or_default();
    if let Some(told) = host_no_server_has(text) {
        return Some(told);
    }
    let one_word = !text.contains(|c: char| c.is_whitespace() || "\"'".contains(c));
    if one_word && host.contains('$') {
        return variable(host);
    }
    if one_word && host.contains('{') && host.contains('}') {
        return Some(PLACEHOLDER.into());
    }
    let dotted = text.to_ascii_lowercase().replace([',', ';'], ".");
    if text.contains([',', ';'])
        && (address_from(&dotted).is_some()
            || is_dns_name(&dotted) && encryption::is_of_efs(&dotted) && in_name(&dotted).is_none())
    {
        return Some(format!(
            "has \"{}\" in it where a dot is meant: write endpoint = \"{dotted}\"",
            if text.contains(',') { ',' } else { ';' }
        ));
    }
    several(text)
}

/// A variable of a shell in a text that is no path.
fn variable(text: &str) -> Option<String> {
    let mut words = text.split_whitespace().filter(|word| !word.starts_with(['/', '~']));
    let (_, rest) = words.find_map(|word| word.split(['/']).next()?.split_once('$'))?;
    let inside = |c: char| c.is_ascii_alphanumeric() || "_{}()".contains(c);
    let name = rest.split(|c| !inside(c)).next().unwrap_or_default();
    Some(format!("has \"${name}\" in it, and variables are not expanded: write the name itself"))
}

/// An address that no server has, alone or with something behind it.
fn host_no_server_has(text: &str) -> Option<String> {
    let front = text.split(['/', '%']).next()?;
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let with_port = front.parse().ok().map(|both: SocketAddr| both.ip());
    let address = bare(front).or_else(|| bare(front.strip_suffix(':')?)).or(with_port)?;
    no_server_has(address)
}

/// Why `address` cannot be a server's.
pub(super) fn no_server_has(address: IpAddr) -> Option<String> {
    let address = address.to_canonical();
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if link_local {
        return Some(
            "is a link-local address, which needs an interface beside it and cannot be used: write another address of \
             the server"
                .into(),
        );
    }
    (address.is_unspecified() || address.is_multicast() || broadcast)
        .then(|| "cannot be a server's address: write one like \"10.0.1.12\"".into())
}

/// Several names or addresses in one text.
fn several(text: &str) -> Option<String> {
    let separator = |c: char| c == ',' || c == ';' || c.is_whitespace();
    let words: Vec<String> = text
        .split(separator)
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let commas = text.contains([',', ';']);
    let address = |word: &str| address_from(word);
    let is_host = |(at, word): (usize, &String)| {
        let host = word.split([':', '/']).next().unwrap_or_default();
        let host = host.strip_suffix('.').unwrap_or(host);
        let sure = address(word).is_some()
            || pasted::file_system_id(host)
            || is_dns_name(host) && is_of_aws(host) && host.len() > 20;
        let first_is_bare = words.first().is_some_and(|first| !first.contains([':', '/']));
        let dotted = commas && first_is_bare && word.contains('.') && is_dns_name(word);
        sure || dotted || at == 0 && is_dns_name(host) && host.contains('.')
    };
    let count = file_systems(text);
    if count > 1 {
        return Some(names(count));
    }
    if words.len() < 2 || !words.iter().enumerate().all(is_host) {
        return None;
    }
    let (addresses, hosts): (Vec<&String>, Vec<&String>) =
        words.iter().partition(|word| address(word).is_some());
    let mut unlike = hosts;
    unlike.sort();
    unlike.dedup();
    if unlike.len() > 1 {
        return Some(names(unlike.len()));
    }
    let (endpoint, rest) = match (unlike.first(), addresses.split_first()) {
        (Some(name), _) if name.contains([':', '/']) || addresses.is_empty() => return None,
        (Some(name), _) => (*name, &addresses[..]),
        (None, Some((first, rest))) => (*first, rest),
        (None, None) => return None,
    };
    let list: Vec<String> = rest.iter().map(|address| format!("{address:?}")).collect();
    Some(format!(
        "has several addresses in it: write endpoint = \"{endpoint}\" and addresses = [{}]",
        list.join(", ")
    ))
}

fn names(count: usize) -> String {
    let count = if count == 2 { "two".to_owned() } else { count.to_string() };
    format!("has {count} names in it: write one [[share]] for each, with a mount_point of its own")
}

/// How many file systems a text speaks of, whatever else is in it.
fn file_systems(text: &str) -> usize {
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
        if !inside && !folder && pasted::file_system_id(id) && !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids.len()
}

/// What is wrong with a text that people paste for an endpoint.
pub(super) fn not_an_endpoint(text: &str) -> String {
    // One in the mount point of a whole line is told of as such.
    let mut words = text.split_whitespace();
    if words.any(|word| word.contains('<') && !word.starts_with(['/', '~'])) {
        return PLACEHOLDER.into();
    }
    let told = in_text(text).or_else(|| pasted::in_endpoint(text));
    if let Some(told) = told.or_else(|| variable(text)) {
        return told;
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii()) {
        let code = u32::from(odd);
        let hint = match odd {
            '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => {
                "it looks like a hyphen: write a plain \"-\"".to_owned()
            }
            odd if odd.is_alphabetic() => "write the name in its ASCII form (xn--…)".to_owned(),
            _ => "take it out: it may have come with pasting".to_owned(),
        };
        let shown = if odd.is_alphabetic() {
            format!("\"{odd}\" (U+{code:04X})")
        } else {
            format!("the character U+{code:04X}")
        };
        return format!("has {shown} in it, which is none of a DNS name; {hint}");
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

/// What is wrong with a text that was to be one address.
pub(super) fn not_an_address(text: &str) -> String {
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
        Some((front, _)) if address_from(front).is_some() => {
            format!("{what}, without a netmask")
        }
        _ if is_dns_name(text) => format!("{what}; a name belongs into `endpoint`"),
        _ => what.to_owned(),
    }
}

/// `<user>` or `{user}` in a path.
pub(super) fn stand_in(text: &str) -> Option<&str> {
    let start = text.find(['<', '{'])?;
    let rest = text.get(start..)?;
    let end = rest.find(['>', '}', '/']).filter(|end| !rest.split_at(*end).1.starts_with('/'))?;
    rest.get(..=end)
}

#[cfg(test)]
mod tests {
    use crate::config::Settings;
    use std::path::Path;

    const ID: &str = "fs-0123456789abcdef0";

    /// What is said of an endpoint; nothing if it is taken.
    fn told(endpoint: &str) -> String {
        let text = format!("[[share]]\nendpoint = '{endpoint}'\n");
        let told = Settings::parse(Path::new("c"), &text).map(|_| String::new());
        told.unwrap_or_else(|e| e.what)
    }

    #[test]
    fn a_name_of_efs_with_a_slip_in_its_region_is_told_with_the_right_one() {
        for (rest, said) in [
            (
                "efs.eu-west-1a.amazonaws.com",
                "has a zone in it, \"eu-west-1a\", and its region is \"eu-west-1\": write \"fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com\"",
            ),
            ("efs.amazonaws.com", "has no region in it: write"),
            (
                "efs.eu-west-1.amazonaws.com.cn",
                "does not end as names of eu-west-1 do, in \".amazonaws.com\"",
            ),
            (
                "efs.cn-north-1.amazonaws.com",
                "does not end as names of cn-north-1 do, in \".amazonaws.com.cn\"",
            ),
            ("efs.eu_west_1.amazonaws.com", "that is written \"eu-west-1\""),
            ("efs.eu.west.1.amazonaws.com", "that is written \"eu-west-1\""),
            ("efs.Ireland.amazonaws.com", "has a region in it, \"ireland\", that is no region"),
            ("efs.euw1-az2.amazonaws.com", "that is no region"),
            ("efs.region.amazonaws.com", "has a placeholder in it"),
            ("efs.YOUR_REGION.amazonaws.com", "has a placeholder in it"),
            ("efs.xx-xxxx-x.amazonaws.com", "has a placeholder in it"),
        ] {
            for zone in ["", "eu-west-1b."] {
                let told = told(&format!("{zone}{ID}.{rest}"));
                let said = said.replace("write \"fs-", &format!("write \"{zone}fs-"));
                assert!(told.contains(&said), "{rest}: {told}");
            }
        }
        for fine in ["mx-central-1", "ap-southeast-7", "us-gov-west-1", "ca-west-99"] {
            assert_eq!(told(&format!("{ID}.efs.{fine}.amazonaws.com")), "");
        }
        for fine in ["eusc-de-east-1.amazonaws.eu", "us-iso-east-1.c2s.ic.gov"] {
            assert_eq!(told(&format!("{ID}.efs.{fine}")), "");
        }
        // Pasted with more behind it, the name's own fault is told too.
        let with = told(&format!("{ID}.efs.eu-west-1a.amazonaws.com:/data"));
        assert!(
            with.contains(&format!(
                "write endpoint = \"{ID}.efs.eu-west-1.amazonaws.com\" and path = \"/data\""
            )),
            "{with}"
        );
        assert!(with.contains("its region is \"eu-west-1\""), "{with}");
        for end in ["", ".amazonaws", ".amazonaws.con", ".aws.com"] {
            let told = told(&format!("{ID}.efs.eu-west-1{end}"));
            assert!(told.contains("does not end as names of EFS do: write \"fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com\""), "{told}");
        }
        assert_eq!(told(&format!("{ID}.efs.eu-west-1.corp.example")), "");
    }

    #[test]
    fn what_is_no_id_of_a_file_system_is_told_for_what_it_is() {
        for (label, said) in [
            ("fsmt-0123456789abcdef0", "a mount target"),
            ("eni-0123456789abcdef0", "a network interface"),
            ("sg-0123456789abcdef0", "a security group"),
            ("vpc-0123456789abcdef0", "a VPC"),
            ("subnet-0123abcd", "a subnet"),
            ("0123456789abcdef0", "\"fs-"),
            ("fs_0123456789abcdef0", "\"fs-0123456789abcdef0"),
            ("fs-0123456789abcdefg", "it has \"g\" in it"),
            ("fs-O123456789abcdef0", "the letter o"),
            ("fs-0123456789abcdef", "it has 16 digits"),
            ("fs-xxxxxxxx", "has a placeholder in it"),
            ("fs-id", "has a placeholder in it"),
        ] {
            for rest in ["", ".efs.eu-west-1.amazonaws.com"] {
                let told = told(&format!("{label}{rest}"));
                assert!(told.contains(said), "{label}{rest}: {told}");
            }
        }
        let ap = told("fsap-0123456789abcdef0.efs.eu-west-1.amazonaws.com");
        assert!(
            ap.ends_with(
                "write endpoint = \"fs-….efs.eu-west-1.amazonaws.com\", encryption_in_transit = true and access_point = \
                 \"fsap-0123456789abcdef0\""
            ),
            "{ap}"
        );
        for api in [
            "elasticfilesystem.eu-west-1.amazonaws.com",
            "elasticfilesystem-fips.us-east-1.amazonaws.com",
        ] {
            assert!(told(api).contains("a name of AWS's API, and not of a file system"));
        }
        assert!(told("efs.eu-west-1.amazonaws.com").contains("no file system's id in it"));
        for fine in [
            "fs-data0001",
            "fs-backup01",
            "fs-id.corp.example",
            "deadbeef",
            "sg-1",
            "eni-server",
            "region",
            "fs-1.efs.eu-west-1.amazonaws.com",
            "efs.example",
            "localhost",
            "127.0.0.1",
            "::1",
        ] {
            assert_eq!(told(fine), "", "{fine}");
        }
    }

    #[test]
    fn no_second_name_is_dropped_and_further_addresses_are_told_where_they_belong() {
        let name = format!("{ID}.efs.eu-west-1.amazonaws.com");
        let other = "fs-0123456789abcdef1.efs.eu-west-1.amazonaws.com";
        for two in [
            format!("{name}, {other}"),
            format!("{name},{other}"),
            format!("{name} {other}"),
            format!("{name};{other}"),
            format!("{name}:/,{other}:/"),
            "fs-0123abcd fs-0123abce".into(),
            format!("{name} and {other}"),
            format!("{name}|{other}"),
            format!("{name}/{other}"),
            format!("{name}:{other}"),
            format!("{name}:/a {other}:/b /mnt/x"),
            format!("sudo mount -t efs {name}:/ {other}:/ /mnt/a"),
            "fs-0123abcd:/ fs-0123abce:/".into(),
            "nas.example, filer.example".into(),
        ] {
            let told = told(&two);
            assert!(told.contains("has two names in it: write one [[share]] for each"), "{told}");
        }
        for (text, said) in [
            (
                "10.0.1.12,10.0.1.13".to_owned(),
                "write endpoint = \"10.0.1.12\" and addresses = [\"10.0.1.13\"]".to_owned(),
            ),
            (
                format!("{name}, 10.0.1.13"),
                format!("write endpoint = \"{name}\" and addresses = [\"10.0.1.13\"]"),
            ),
            (
                name.replacen('.', ",", 1),
                format!("where a dot is meant: write endpoint = \"{name}\""),
            ),
            (format!("{ID}:/backup/fs-0123abcd"), "path = \"/backup/fs-0123abcd\"".into()),
            (
                name.replacen('.', ";", 1),
                format!("where a dot is meant: write endpoint = \"{name}\""),
            ),
            ("sudo mount -t nfs4 $EFS:/ /mnt/x".into(), "has \"$EFS\" in it, and variables".into()),
            (
                format!("{ID}:/ /home/<user>/efs efs tls 0 0"),
                "the mount point \"/home/<user>/efs\" has a placeholder in it, \"<user>\"".into(),
            ),
            ("mount fs-<id>:/ /mnt/x".into(), "put your own file system's id".into()),
            ("10,0,1,12".into(), "write endpoint = \"10.0.1.12\"".into()),
            (
                "$EFS_ID.efs.eu-west-1.amazonaws.com".into(),
                "has \"$EFS_ID\" in it, and variables are not expanded".into(),
            ),
            ("${EFS}:/x".into(), "has \"${EFS}\" in it".into()),
            ("{efs-id}.efs.eu-west-1.amazonaws.com".into(), "has a placeholder in it".into()),
            ("fs-0123abcd@eu-west-1".into(), "\"@\" is no character of a name".into()),
        ] {
            let told = told(&text);
            assert!(told.contains(&said), "{text}: {told}");
        }
    }

    #[test]
    fn an_address_that_no_server_can_have_is_not_offered_again_and_a_netmask_is_no_path() {
        for text in [
            "0.0.0.0",
            "224.0.0.1",
            "::",
            "ff02::1",
            "255.255.255.255",
            "0.0.0.0:/x",
            "[::]:/x",
            "0.0.0.0:2049",
            "[::]:2049",
        ] {
            assert!(told(text).contains("cannot be a server's address"), "{text}: {}", told(text));
        }
        for text in ["fe80::1", "fe80::1%eth0", "[fe80::1]", "fe80::1:/x"] {
            assert!(told(text).contains("is a link-local address"), "{text}: {}", told(text));
        }
        for (list, said) in
            [("fe80::1", "is a link-local address"), ("0.0.0.0", "cannot be a server's")]
        {
            let text = format!("[[share]]\nendpoint = \"a\"\naddresses = [\"{list}\"]\n");
            let e = Settings::parse(Path::new("c"), &text).unwrap_err();
            assert!(e.what.contains(said), "{e}");
        }
        for (text, said) in [
            ("fd00:ec2::5:/data", "write endpoint = \"fd00:ec2::5\" and path = \"/data\""),
            ("10.0.1.12/24", "write endpoint = \"10.0.1.12\"; \"/24\" is a netmask, and no path"),
            ("fd00::5/64", "write endpoint = \"fd00::5\"; \"/64\" is a netmask, and no path"),
            ("10.0.1.12:/24", "write endpoint = \"10.0.1.12\" and path = \"/24\""),
        ] {
            assert!(told(text).ends_with(said), "{text}: {}", told(text));
        }
    }
}
