//! The ids that AWS gives to file systems and access points, its regions, and the names and ARNs that they stand in.
//! Errors about a wrong id in a name are made in [`slips`].
//!
//! [`slips`]: super::slips

use crate::partitions;

/// What is behind the account in the ARN of a file system.
const FILE_SYSTEM: &str = "file-system/";

/// Whether `text` is hexadecimal, in lower case, and has one of the `lengths`.
pub fn is_hex(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` is `prefix` with an id's digits behind it.
fn is_id(text: &str, prefix: &str, lengths: &[usize]) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| is_hex(digits, lengths))
}

pub fn is_access_point_id(text: &str) -> bool {
    is_id(text, "fsap-", &[17])
}

/// Whether `text` is a file system's id, or was one before it was cut short.
pub fn may_be_file_system_id(text: &str) -> bool {
    let digits = text.strip_prefix("fs-").unwrap_or_default();
    digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The id of an access point in a text that is more than that.
pub fn access_point_in(text: &str) -> Option<&str> {
    let mut found = text.match_indices("fsap-").filter_map(|(at, _)| {
        text.get(at..)?.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next()
    });
    found.find(|id| is_access_point_id(id))
}

pub fn access_point_from(text: &str) -> Result<String, String> {
    if is_access_point_id(text) {
        return Ok(text.to_owned());
    }
    // The console offers the ARN for copying beside the id. The CSI driver's handles have more in them too.
    match access_point_in(text) {
        Some(id) if text.starts_with("arn:") => {
            Err(format!("is an ARN: write the id at its end alone, \"{id}\""))
        }
        Some(id) => Err(format!("has more in it than the id: write that alone, \"{id}\"")),
        None => {
            Err("is no access-point id: that is \"fsap-\" and 17 hex digits, in lower case".into())
        }
    }
}

pub fn region_from(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('-').collect();
    match parts.split_last() {
        Some((number, words))
            if words.len() >= 2
                && words.iter().all(|word| is_of_letters(word))
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
                && text.len() <= 32 =>
        {
            Ok(text.to_owned())
        }
        _ => Err("is no region: one is like \"eu-west-1\"".into()),
    }
}

fn is_of_letters(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase())
}

fn file_system_id(text: &str) -> Result<String, String> {
    match is_id(text, "fs-", &[8, 17]) {
        true => Ok(text.to_owned()),
        false => Err("is no file-system id: that is \"fs-\" and 8 or 17 hex digits, in lower case"
            .to_owned()),
    }
}

/// What `file_system_id` says: an id, or the ARN that it stands in.
pub struct FileSystem {
    pub id: String,
    pub arn: Option<FileSystemArn>,
}

/// The ARN of a file system, and the region in it.
pub struct FileSystemArn {
    pub text: String,
    pub region: String,
}

pub fn file_system_from(text: &str) -> Result<FileSystem, String> {
    if let Some(rest) = text.strip_prefix("arn:") {
        let (id, region) = arn_from(rest)?;
        return Ok(FileSystem { id, arn: Some(FileSystemArn { text: text.to_owned(), region }) });
    }

    let id = file_system_id(text).map_err(|why| {
        let id = text.split(':').next().filter(|id| *id != text && file_system_id(id).is_ok());
        let Some(id) = id else { return why };
        let access_point = access_point_in(text);
        let access_point = access_point.map(|id| format!(" and access_point = \"{id}\""));
        let access_point = access_point.unwrap_or_default();
        format!("has more in it than the id: write file_system_id = \"{id}\"{access_point}")
    })?;
    Ok(FileSystem { id, arn: None })
}

/// Id and region in what follows `arn:`, which is `<partition>:elasticfilesystem:<region>:<account>:file-system/<id>`.
fn arn_from(rest: &str) -> Result<(String, String), String> {
    let parts: Vec<&str> = rest.splitn(5, ':').collect();
    let [partition, "elasticfilesystem", region, account, resource] = parts[..] else {
        return Err("is no ARN of a file system: one is like \
                    \"arn:aws:elasticfilesystem:<region>:<account>:file-system/fs-…\""
            .into());
    };

    let is_partition = partition == "aws"
        || partition.strip_prefix("aws-").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        });
    if !is_partition {
        return Err(format!("is an ARN of no partition of AWS, \"{partition}\""));
    }
    let region = region_from(region)
        .map_err(|why| format!("is an ARN with a region in it, \"{region}\", that {why}"))?;
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "is an ARN with an account in it, \"{account}\", that is none: one has 12 digits"
        ));
    }

    let Some(id) = resource.strip_prefix(FILE_SYSTEM) else {
        return Err(format!(
            "is the ARN of something else, \"{resource}\", and not of a file system (file-system/fs-…)"
        ));
    };
    let id = file_system_id(id)
        .map_err(|why| format!("is an ARN with an id in it, \"{id}\", that {why}"))?;
    Ok((id, region))
}

/// Id and region in a name of EFS, `[<zone>.]<id>.efs.<region>.<suffix>`. Other names have none.
pub fn in_efs_name(name: &str) -> Result<Option<(String, String)>, String> {
    let Some((front, suffix)) = partitions::split(name) else {
        return Ok(None);
    };
    let labels: Vec<&str> = front.split('.').collect();
    let (id, region) = match labels[..] {
        [id, "efs", region] | [_, id, "efs", region] => (id, region),
        _ => return Ok(None),
    };

    let id = file_system_id(id).map_err(|why| format!("has an id in it, \"{id}\", that {why}"))?;
    let region = region_from(region)
        .map_err(|why| format!("has a region in it, \"{region}\", that {why}"))?;
    match partitions::dns_suffix(&region) {
        right if right == suffix => Ok(Some((id, region))),
        right => Err(format!("does not end as names of {region} do, in \".{right}\"")),
    }
}

/// Whether `name` is one of EFS. The id and the region in it may be wrong.
pub fn is_of_efs(name: &str) -> bool {
    !matches!(in_efs_name(name), Ok(None))
}

/// The whole name, if `name` lacks only the `.efs` of one: `<id>.<region>.<suffix>`. With anything else between the
/// two, it is a name of another service (`fs-….fsx.<region>…`).
pub fn with_efs(name: &str) -> Option<String> {
    let (front, suffix) = partitions::split(name)?;
    let (id, region) = front.split_once('.')?;
    region_from(region).ok().filter(|_| id.starts_with("fs-"))?;
    Some(format!("{id}.efs.{region}.{suffix}"))
}
