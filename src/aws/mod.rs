//! All that is AWS's: the client certificate that EFS asks for, signatures,
//! credentials and where they come from, the trust roots, and the two APIs that
//! are asked. Knows nothing of shares, of their config, or of tunnels.
//!
//! What it takes of the world is handed to it as a [`World`]: nothing here reads
//! an environment variable or looks a name up by itself.

pub mod algorithms;
pub mod certificate;
pub mod credentials;
mod der;
mod document;
mod error;
pub mod http;
mod metadata;
pub mod mount_targets;
pub mod profile;
mod remedy;
pub mod secret;
mod service;
pub mod signature;
mod sts;
pub mod trust;
mod world;

pub use world::{ENVIRONMENT, Endpoints, Environment, Metadata, World};

/// The profile that AppStream makes for the role of a fleet or an image builder.
pub const APPSTREAM_PROFILE: &str = "appstream_machine_role";

/// Where the program of a `credential_process` is looked for, and where it looks for others.
const PROGRAM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    /// The names that a file's code (not its tests) takes from its own room: of `path::{a, b}`, both.
    fn taken<'t>(text: &'t str, path: &str) -> Vec<&'t str> {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let ends = |c: char| !c.is_alphanumeric() && c != '_';
        let mut names = Vec::new();
        for (place, _) in code.match_indices(path) {
            let rest = &code[place + path.len()..];
            match rest.strip_prefix('{') {
                Some(list) => {
                    let list = list.split('}').next().unwrap();
                    names.extend(
                        list.split(',').map(|name| name.trim().split(ends).next().unwrap()),
                    );
                }
                None => names.extend(rest.split(ends).next()),
            }
        }
        names
    }

    /// Of each file here the others that it names.
    fn arrows() -> BTreeMap<String, BTreeSet<String>> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/aws");
        let files_in = |folder: &Path| -> Vec<String> {
            let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let names = names.filter_map(|name| Some(name.strip_suffix(".rs")?.to_owned()));
            names.filter(|name| name != "tests" && name != "mod").collect()
        };
        let rooms = files_in(&here);
        let mut arrows = BTreeMap::new();
        for room in &rooms {
            let text = fs::read_to_string(here.join(format!("{room}.rs"))).unwrap();
            let inner = files_in(&here.join(room));
            let mut to: BTreeSet<String> =
                taken(&text, "super::").into_iter().map(str::to_owned).collect();
            to.extend(inner.iter().map(|name| format!("{room}/{name}")));
            arrows.insert(room.clone(), to);
            for name in &inner {
                let text = fs::read_to_string(here.join(format!("{room}/{name}.rs"))).unwrap();
                // Of what stands beside it, or else of the file above.
                let beside = taken(&text, "super::").into_iter().map(|other| {
                    let is_file = inner.iter().any(|file| file == other);
                    if is_file { format!("{room}/{other}") } else { room.clone() }
                });
                let to = beside.chain(taken(&text, "crate::aws::").into_iter().map(str::to_owned));
                arrows.insert(format!("{room}/{name}"), to.collect());
            }
        }
        arrows
    }

    #[test]
    fn no_two_files_here_need_each_other() {
        let mut arrows = arrows();
        assert!(
            arrows["credentials/web_identity"].contains("sts") && arrows["sts"].contains("error")
        );
        assert!(arrows["credentials/container"].contains("credentials/files"));
        // Whatever needs nothing that is left is taken away, until nothing is left, or a circle.
        while !arrows.is_empty() {
            let left = arrows.clone();
            arrows.retain(|_, to| to.iter().any(|other| left.contains_key(other)));
            assert!(arrows.len() < left.len(), "these need each other: {arrows:#?}");
        }
    }
}
