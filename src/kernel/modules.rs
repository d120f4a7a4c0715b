//! Finds the setting that forbids the kernel to load its NFS client, and the place of that setting.
//! It is looked for after the client was not loaded. Nothing here loads a module or changes a
//! setting.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules without which there is no NFS version 4, and the names by which the kernel asks for them.
const NEEDED: [&str; 11] = [
    "nfs",
    "nfsv4",
    "fs_nfs",
    "fs_nfs4",
    "sunrpc",
    "lockd",
    "grace",
    "fscache",
    "netfs",
    "auth_rpcgss",
    "dns_resolver",
];

/// The folders that modprobe(8) reads. A file hides those with the same name in later folders.
const FOLDERS: [&str; 5] = [
    "etc/modprobe.d",
    "run/modprobe.d",
    "usr/local/lib/modprobe.d",
    "usr/lib/modprobe.d",
    "lib/modprobe.d",
];

/// The setting that forbids the NFS client, with its file and line; `root` is `/` outside of tests.
pub fn forbidden(root: &Path) -> Option<String> {
    if read(root, "proc/sys/kernel/modules_disabled").trim() == "1" {
        return Some("kernel.modules_disabled is 1 (sysctl): no module can be loaded".to_owned());
    }
    let command_line = read(root, "proc/cmdline");
    if let Some(word) = command_line.split_whitespace().find(|word| is_blacklist(word)) {
        return Some(format!("the kernel's command line has {word}"));
    }

    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            let path = Path::new("/").join(folder).join(entry.file_name());
            if path.extension().is_some_and(|ext| ext == "conf") {
                files.entry(entry.file_name()).or_insert(path);
            }
        }
    }

    files.into_values().find_map(|path| {
        let bytes = fs::read(root.join(path.strip_prefix("/").ok()?)).ok()?;
        let (line, text) = line(&String::from_utf8_lossy(&bytes))?;
        Some(format!("{}, line {line}: {text}", path.display()))
    })
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_default()
}

/// Whether a word of the kernel's command line forbids a module that is needed.
fn is_blacklist(word: &str) -> bool {
    match word.split_once('=') {
        Some(("module_blacklist", list)) => list.split(',').any(is_needed),
        Some(("modprobe.blacklist", list)) => list.split(',').any(is_by_alias),
        _ => false,
    }
}

/// The first line of a file of modprobe.d that forbids a module that is needed, and its number.
fn line(text: &str) -> Option<(usize, String)> {
    let mut lines = text.lines().zip(1usize..);
    while let Some((first, number)) = lines.next() {
        let mut whole = first.to_owned();
        // A backslash at the end of a line joins the next line to it.
        while whole.ends_with('\\') {
            whole.pop();
            match lines.next() {
                Some((next, _)) => whole.push_str(next),
                None => break,
            }
        }

        let mut words = whole.split_whitespace();
        let (verb, module) = (words.next(), words.next().unwrap_or_default());
        let forbids = match verb {
            Some("blacklist") => is_by_alias(module),
            // This replaces the loading with a command, which may load the module itself.
            Some("install") => {
                let loads = words.any(|word| word.contains("modprobe") || word.contains("insmod"));
                !loads && is_needed(module)
            }
            _ => false,
        };

        if forbids {
            return Some((number, whole.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    None
}

/// Whether the kernel asks for the module only by an alias (fs-nfs4). "blacklist" forbids no more
/// than that. It does not stop the kernel from loading a module by its name, or because another
/// module needs it.
fn is_by_alias(module: &str) -> bool {
    module == "nfs"
}

fn is_needed(module: &str) -> bool {
    NEEDED.contains(&module.replace('-', "_").as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_forbids_the_client_is_found_with_its_number_and_no_other() {
        for (text, wanted) in [
            ("install nfs /bin/false\n", Some((1, "install nfs /bin/false"))),
            ("# CIS\n\n  install   nfsv4 \\\n /bin/true\n", Some((3, "install nfsv4 /bin/true"))),
            ("options nfs x=1\nblacklist nfs\n", Some((2, "blacklist nfs"))),
            // These are still loaded, by their names or because other modules need them.
            ("blacklist nfsv4\nblacklist sunrpc\nblacklist lockd\nblacklist fs-nfs4\n", None),
            ("install sunrpc :\\", Some((1, "install sunrpc :"))),
            ("#install nfs /bin/false\n", None),
            ("install nfsd /bin/false\nblacklist cramfs\n", None),
            ("install nfs /sbin/modprobe --ignore-install nfs && echo\n", None),
            ("options nfs callback_tcpport=1\nalias nfs off\ninstall\nblacklist\n", None),
        ] {
            let wanted = wanted.map(|(number, text)| (number, text.to_owned()));
            assert_eq!(line(text), wanted, "{text}");
        }
    }

    #[test]
    fn the_file_is_named_and_one_that_another_hides_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let told = || forbidden(dir.path());
        put("usr/lib/modprobe.d/cis.conf", "install nfs /bin/false\n");
        assert_eq!(told().unwrap(), "/usr/lib/modprobe.d/cis.conf, line 1: install nfs /bin/false");
        put("etc/modprobe.d/cis.conf", "");
        put("etc/modprobe.d/cis.conf.rpmsave", "install nfs /bin/false\n");
        assert_eq!(told(), None);
        put("proc/cmdline", "quiet module_blacklist=floppy,sunrpc ro\n");
        assert_eq!(told().unwrap(), "the kernel's command line has module_blacklist=floppy,sunrpc");
        put("proc/sys/kernel/modules_disabled", "1\n");
        assert!(told().unwrap().starts_with("kernel.modules_disabled is 1"));
    }
}
