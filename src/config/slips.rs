//! What was meant for the name of a file system, and is not quite one: a zone in the place of a region, the id of
//! something else, a placeholder. Only what the text alone proves is refused. A region that is new passes.

use super::ids::{is_access_point_id, is_hex, region_from};
use super::lines::MAIN;
use crate::partitions::dns_suffix;

/// The ids of AWS that people confuse with a file system's.
const KINDS: &[(&str, &str)] = &[
    ("fsmt-", "a mount target"),
    ("eni-", "a network interface"),
    ("sg-", "a security group"),
    ("subnet-", "a subnet"),
    ("vpc-", "a VPC"),
    ("vpce-", "a VPC endpoint"),
];

/// Labels that manuals use as placeholders.
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

pub const PLACEHOLDER: &str =
    "has a placeholder in it: put your own file system's id and region in its place";

const ID: &str = "\"fs-\" and 8 or 17 hex digits (0 to 9, a to f)";

/// What a name of EFS looks like.
const FORM: &str = "fs-….efs.<region>.amazonaws.com";

/// Wrong ends that people write for a name of AWS.
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

/// What is wrong with a name.
pub struct NameSlip {
    /// What is wrong, to be put behind the name.
    pub problem: String,
    /// The problem, and what to write.
    pub what: String,
    /// The name that it should be, or its form.
    pub right: String,
}

impl NameSlip {
    fn new(problem: impl Into<String>, right: impl Into<String>) -> Self {
        let right = right.into();
        Self::with_cure(problem, &format!("write \"{right}\""), right)
    }

    fn with_cure(problem: impl Into<String>, cure: &str, right: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { what: format!("{problem}: {cure}"), problem, right: right.into() }
    }

    /// A slip that does not show which name is meant, or whose problem says that itself.
    fn without_cure(problem: impl Into<String>, right: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { what: problem.clone(), problem, right: right.into() }
    }
}

/// What is wrong with `name`, which can be looked up, is in lower case, and has no dot at its end.
pub fn in_name(name: &str) -> Option<NameSlip> {
    let labels: Vec<&str> = name.split('.').collect();
    let is_of_aws = labels.contains(&"amazonaws");
    if labels.iter().any(|label| is_id_of_letters_x(label))
        || (is_of_aws || labels.len() == 1) && name != "region" && labels.iter().any(is_stand_in)
        || name.starts_with("file-system-id.")
    {
        return Some(NameSlip::without_cure(PLACEHOLDER, FORM));
    }

    match labels[..] {
        [label] => in_single_label(label),
        [id, "efs", region, ref end @ ..]
            if WRONG_ENDS.contains(&end.join(".").as_str())
                && id.strip_prefix("fs-").is_some_and(|digits| is_hex(digits, &[8, 17]))
                && region_from(region).is_ok() =>
        {
            let right = format!("{id}.efs.{region}.{}", dns_suffix(region));
            Some(NameSlip::new("does not end as names of EFS do", right))
        }
        // These are names of AWS's API, to which its own programs speak.
        _ if is_of_aws && labels.iter().any(|label| label.starts_with("elasticfilesystem")) => {
            Some(NameSlip::new("is a name of AWS's API, and not of a file system", FORM))
        }
        _ if is_of_aws => in_efs_name(&labels),
        _ => None,
    }
}

/// `fs-xxxxxxxx`
fn is_id_of_letters_x(label: &str) -> bool {
    let digits = label.strip_prefix("fs-").unwrap_or_default();
    digits.len() >= 3 && digits.bytes().all(|b| b == b'x')
}

/// A word for an id or a region, or a region as manuals write it: `xx-xxxx-x`.
fn is_stand_in(label: &&str) -> bool {
    STAND_INS.contains(label)
        || label.contains("x-x") && label.bytes().all(|b| b == b'x' || b == b'-')
}

/// What `id` is the id of, if not of a file system.
fn kind_of(id: &str) -> Option<&'static str> {
    KINDS.iter().find_map(|(start, kind)| {
        let digits = id.strip_prefix(start)?;
        is_hex(digits, &[8, 17]).then_some(*kind)
    })
}

/// What is wrong with a name of one label. Servers have all sorts of names, so it must look very much like an id.
fn in_single_label(label: &str) -> Option<NameSlip> {
    if let Some(kind) = kind_of(label) {
        let problem = format!("is the id of {kind}, and not the DNS name of a file system");
        return Some(NameSlip::new(problem, FORM));
    }
    if is_hex(label, &[17]) {
        let right = format!("fs-{label}.efs.<region>.amazonaws.com");
        return Some(NameSlip::new("is an id without \"fs-\", and no DNS name", right));
    }
    if let Some(digits) = label.strip_prefix("fs_").filter(|digits| is_hex(digits, &[8, 17])) {
        let right = format!("fs-{digits}.efs.<region>.amazonaws.com");
        return Some(NameSlip::new("has \"_\" in it where an id has \"-\"", right));
    }

    let digits = label.strip_prefix("fs-")?;
    let others = digits.bytes().filter(|b| !b.is_ascii_hexdigit()).count();
    let has_length = (16..=18).contains(&digits.len()) && others <= 2;
    let has_digits = others == 0 && digits.len() > 8;
    in_id(label).filter(|_| has_length || has_digits)
}

/// What is wrong with `[<zone>.]<id>.efs.<region>.amazonaws.<…>`.
fn in_efs_name(labels: &[&str]) -> Option<NameSlip> {
    let efs = labels.iter().position(|label| *label == "efs")?;
    let end = labels.iter().position(|label| *label == "amazonaws")?;
    let region = labels.get(efs.saturating_add(1)..end)?.join(".");
    let suffix = labels.get(end..)?.join(".");
    let (zone, id) = match labels.get(..efs)? {
        [] => {
            let right = format!("fs-….efs.{region}.{suffix}");
            return Some(NameSlip::new("has no file system's id in it", right));
        }
        [id] => (String::new(), *id),
        [zone, id] => (format!("{zone}."), *id),
        _ => return None,
    };

    if is_access_point_id(id) {
        let region = if region.is_empty() { "<region>" } else { &region };
        let right = format!("fs-….efs.{region}.{suffix}");
        let cure =
            format!("write endpoint = \"{right}\", {} = true and access_point = \"{id}\"", MAIN);
        let problem = "has an access point's id in it, which has no name";
        return Some(NameSlip::with_cure(problem, &cure, right));
    }
    in_id(id).or_else(|| in_region(&format!("{zone}{id}.efs"), &region, &suffix))
}

/// What is wrong with the region in a name of EFS, or with the `suffix` behind it. `front` is what is before it.
fn in_region(front: &str, region: &str, suffix: &str) -> Option<NameSlip> {
    if region.is_empty() {
        return Some(NameSlip::new("has no region in it", name(front, "<region>")));
    }
    if let Some(region_of_zone) = region_of_zone(region) {
        let problem =
            format!("has a zone in it, \"{region}\", and its region is \"{region_of_zone}\"");
        return Some(NameSlip::new(problem, name(front, &region_of_zone)));
    }

    if region_from(region).is_ok() {
        let right = dns_suffix(region);
        let is_public = ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"].contains(&suffix);
        return (is_public && right != suffix).then(|| {
            let problem = format!("does not end as names of {region} do, in \".{right}\"");
            NameSlip::without_cure(problem, name(front, region))
        });
    }

    let hyphened = region.replace(['_', '.'], "-");
    if region_from(&hyphened).is_ok() {
        let problem = format!("has a region in it, \"{region}\", that is written \"{hyphened}\"");
        return Some(NameSlip::new(problem, name(front, &hyphened)));
    }

    let problem =
        format!("has a region in it, \"{region}\", that is no region: one is like \"eu-west-1\"");
    Some(NameSlip::without_cure(problem, name(front, "<region>")))
}

fn name(front: &str, region: &str) -> String {
    format!("{front}.{region}.{}", dns_suffix(region))
}

/// The region of a zone like `eu-west-1a`.
pub fn region_of_zone(zone: &str) -> Option<String> {
    let region = zone.strip_suffix(|c: char| c.is_ascii_lowercase())?;
    region_from(region).ok()
}

/// What is wrong with an id, if it is certain.
fn in_id(id: &str) -> Option<NameSlip> {
    let no_id = format!("has an id in it, \"{id}\", that is no file-system id");
    if let Some(kind) = kind_of(id) {
        let problem = format!("{no_id}, but that of {kind}: a file system's is {ID}");
        return Some(NameSlip::without_cure(problem, FORM));
    }
    if is_hex(id, &[8, 17]) {
        let problem = format!("{no_id}: it lacks \"fs-\", write \"fs-{id}\"");
        return Some(NameSlip::without_cure(problem, FORM));
    }

    let with_efs = id.strip_prefix("efs-").filter(|digits| is_hex(digits, &[8, 17]));
    if let Some(digits) = with_efs {
        return Some(NameSlip::with_cure(no_id, &format!("write \"fs-{digits}\""), FORM));
    }
    if let Some(digits) = id.strip_prefix("fs_") {
        let cure = format!("write \"fs-{digits}\", with a hyphen");
        return Some(NameSlip::with_cure(no_id, &cure, FORM));
    }

    let digits = id.strip_prefix("fs-").filter(|digits| digits.len() >= 7)?;
    let why = match digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        Some('o') => "it has the letter o in it where a 0 may be meant".to_owned(),
        Some(odd) => format!("it has \"{odd}\" in it"),
        None if [8, 17].contains(&digits.len()) => return None,
        None => format!("it has {} digits", digits.len()),
    };
    Some(NameSlip::without_cure(format!("{no_id}: {why}; one is {ID}"), FORM))
}

#[cfg(test)]
mod tests;
