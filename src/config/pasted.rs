//! What people paste where one word is wanted: a mount command, a line of fstab, a handle of the CSI driver, an ARN, a
//! URL. Nothing is guessed into a mount. The error names all the lines that the text would be, so that none is lost.

mod command;
mod source;

use super::ids::{access_point_in, region_from};
use super::lines::ShareLines;
use super::names::is_dns_name;
use super::option_list::OptionList;
use super::options::words;
use super::paths::{check_no_variable, mount_point_from};
use super::slips;
use crate::partitions::dns_suffix;
use crate::text::misleads;
use command::{PastedMount, split_words};
use source::{PastedHost, PastedSource};

/// What a pasted text has among its mount options.
#[derive(Default)]
struct PastedOptions {
    list: Vec<String>,
    region: Option<String>,
    zone: Option<String>,
}

impl PastedOptions {
    fn of(mount: &PastedMount) -> Self {
        let mut options = Self::default();
        let has_source = mount.source.is_some();
        let port = mount.source.as_ref().and_then(|source| source.port);
        let port = port.map(|port| format!("port={port}"));

        for list in mount.options.iter().map(String::as_str).chain(port.as_deref()) {
            for word in words(list).filter(|word| !word.is_empty()) {
                match word.split_once('=') {
                    Some(("region", region)) if region_from(region).is_ok() && has_source => {
                        options.region = Some(region.to_owned());
                    }
                    Some(("az" | "azid", zone)) if is_dns_name(zone) && has_source => {
                        options.zone = Some(zone.to_owned());
                    }
                    _ => options.list.push(word.to_owned()),
                }
            }
        }
        options
    }
}

/// What a pasted mount would be in this config.
struct Translation {
    lines: ShareLines,
    /// What is wrong with its options.
    wrong_options: Vec<String>,
    /// What is wrong with the rest.
    wrong: Vec<String>,
}

impl Translation {
    fn of(mount: &PastedMount) -> Self {
        let options = PastedOptions::of(mount);
        let mut wrong = Vec::new();
        let mut lines = match &mount.source {
            Some(source) => {
                wrong.extend(wrong_in_source(source));
                lines_of_source(source, &options)
            }
            None => ShareLines::default(),
        };

        if let Some(target) =
            mount.target.as_ref().filter(|target| target.starts_with(['/', '~', '$']))
        {
            match mount_point_from(target) {
                Ok(_) => lines.put("mount_point", quoted(target)),
                Err(why) => wrong.push(format!("the mount point {target:?} {why}")),
            }
        }

        let mut list = OptionList::read(&options.list.join(","));
        let wrong_options = std::mem::take(&mut list.wrong);
        if list.was_cut {
            wrong.push("the context needs its quotes, since there is a comma in it".into());
        }
        list.into_lines(&mut lines);
        Self { lines, wrong_options, wrong }
    }
}

/// What would be refused if a source were written as it is.
fn wrong_in_source(source: &PastedSource) -> Vec<String> {
    let mut wrong = Vec::new();
    if let PastedHost::Whole(name) = &source.host
        && let Some(slip) = slips::in_name(name)
    {
        // The right name is among the lines.
        wrong.push(format!("\"{name}\" {}", slip.problem));
    }
    wrong.extend(
        source.netmask.as_ref().map(|mask| format!("\"{mask}\" is a netmask, and no path")),
    );
    if let Err(why) = check_no_variable(&source.path) {
        wrong.push(format!("the path {:?} {why}", source.path));
    }
    wrong
}

/// The lines that a source would be. What would be refused is not advised.
fn lines_of_source(source: &PastedSource, options: &PastedOptions) -> ShareLines {
    let mut lines = ShareLines::default();
    let endpoint = match &source.host {
        PastedHost::Unknown => efs_name("fs-…", "efs", source, options),
        PastedHost::Whole(host) => slips::in_name(host).map_or(host.clone(), |slip| slip.right),
        PastedHost::Id(id, service) => efs_name(id, service, source, options),
    };
    lines.put("endpoint", format!("\"{endpoint}\""));

    let path = source.path.trim_matches('/');
    if !path.is_empty() && check_no_variable(&source.path).is_ok() {
        lines.put("path", quoted(&format!("/{path}")));
    }
    if let Some(access_point) = &source.access_point {
        lines.put("access_point", quoted(access_point));
    }
    lines
}

/// The DNS name of a file system, as far as it is known.
fn efs_name(id: &str, service: &str, source: &PastedSource, options: &PastedOptions) -> String {
    // A zone has its region's name in it.
    let region_of_zone = options.zone.as_deref().and_then(slips::region_of_zone);
    let region = options.region.as_ref().or(source.region.as_ref()).or(region_of_zone.as_ref());
    let zone = options.zone.as_ref().map(|zone| format!("{zone}.")).unwrap_or_default();
    let suffix = dns_suffix(region.map_or("", String::as_str));
    let region = region.map_or("<region>", String::as_str);

    format!("{zone}{id}.{service}.{region}.{suffix}")
}

/// What is wrong with a text that was written for an endpoint, if something is found in it. `otherwise` says what the
/// text is if it is no command.
pub fn in_endpoint(text: &str, otherwise: &str) -> Option<String> {
    if !can_be_taken_apart(text) {
        return None;
    }
    let mount = mount_in_endpoint(text)?;
    let Translation { mut lines, wrong_options, wrong } = Translation::of(&mount);

    // Without the access point, the whole file system would be mounted. So it counts wherever it stands.
    if let Some(id) = access_point_in(text).filter(|_| !lines.has("access_point")) {
        lines.put("access_point", quoted(id));
    }

    let what = if mount.what.is_empty() { otherwise } else { mount.what };
    let wrong_options: String =
        wrong_options.iter().map(|what| format!("; of its options, {what}")).collect();
    let wrong: String = wrong.iter().map(|what| format!("; {what}")).collect();
    Some(format!("{what}: write {lines}{wrong_options}{wrong}"))
}

/// The mount that a text would be, if there is a file system in it.
fn mount_in_endpoint(text: &str) -> Option<PastedMount> {
    let whole = match split_words(text).as_slice() {
        [word] => PastedSource::in_word(word).map(PastedMount::of_source),
        words => PastedMount::in_words(words)
            .filter(|mount| mount.source.is_some())
            .or_else(|| embedded(text).is_none().then(|| in_prose(text, words))?),
    };
    whole.filter(|mount| mount.source.is_some()).or_else(|| {
        let found = embedded(text).or_else(|| access_point_in(text).map(|_| Default::default()));
        found.map(PastedMount::of_source)
    })
}

/// What is wrong with a text that was written for mount options, if it is more than a list of them.
pub fn in_options(text: &str) -> Option<String> {
    if !can_be_taken_apart(text) {
        return None;
    }
    // Blanks behind a comma do no harm.
    let is_list = text.split(',').all(|word| word.split_whitespace().count() <= 1);
    if is_list && !text.trim_start().starts_with('-') {
        return None;
    }

    let mount = PastedMount::in_words(&split_words(text))?;
    let Translation { lines, mut wrong_options, wrong } = Translation::of(&mount);
    wrong_options.extend(wrong);

    let mut what = format!("it {}", mount.what);
    if !lines.is_empty() {
        what.push_str(&format!(": write {lines}"));
        if !lines.is_one() {
            what.push_str(" as lines of the [[share]]");
        }
    } else if wrong_options.is_empty() {
        what.push_str(": leave `options` out, it says nothing that is not so anyway");
    }
    wrong_options.iter().for_each(|wrong| what.push_str(&format!("; {wrong}")));
    Some(what)
}

fn can_be_taken_apart(text: &str) -> bool {
    text.len() <= 4000 && !text.contains(|c: char| misleads(c) && !c.is_whitespace())
}

/// A file system's id or name with other things before it, as in `What=fs-…:/`, or in JSON.
fn embedded(text: &str) -> Option<PastedSource> {
    let mut found = text
        .match_indices("fs-")
        // At the start of the text, nothing is before it.
        .filter(|(at, _)| *at > 0 && !text.get(..*at).is_some_and(|text| text.ends_with(is_of_id)))
        .find_map(|(at, _)| source_of_aws(text.get(at..)?.split(ends_source).next()?))?;

    found.access_point = found.access_point.or_else(|| access_point_in(text).map(str::to_owned));
    Some(found)
}

fn is_of_id(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

fn ends_source(c: char) -> bool {
    c.is_whitespace() || "\"'`,;()<>{}[]|".contains(c)
}

fn source_of_aws(word: &str) -> Option<PastedSource> {
    let found = PastedSource::in_handle(word)?;
    let is_of_aws = match &found.host {
        PastedHost::Id(..) => true,
        PastedHost::Whole(name) => name.contains(".efs.") || name.contains(".fsx."),
        PastedHost::Unknown => false,
    };

    is_of_aws.then_some(found)
}

/// A file system somewhere in several words that are no command.
fn in_prose(text: &str, words: &[String]) -> Option<PastedMount> {
    let (first, rest) = words.split_first()?;
    let target = match rest {
        [target] if target.starts_with('/') => Some(target.clone()),
        _ => None,
    };

    // A path may have blanks in it.
    let may_be_whole = first.contains(['/', '\\']) && target.is_none();
    let source = may_be_whole
        .then(|| PastedSource::in_word(text.trim()))
        .flatten()
        .or_else(|| words.iter().find_map(|word| PastedSource::in_word(word)))?;
    Some(PastedMount { target, ..PastedMount::of_source(source) })
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
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
            let told = in_endpoint(&text, "has more in it than a name").unwrap_or_default();
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
