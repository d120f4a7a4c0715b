//! Decides whether the tunnels of encrypted shares start at boot, and makes or removes the link
//! that `systemctl enable` would make. A tunnel makes its key when it starts, which takes half a
//! second. A session start that finds it running need not wait for that.

use crate::config::{Level, Settings};
use crate::files;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

/// The unit that starts them.
const UNIT: &str = "efs-agent-tunnels.service";
/// The program that it runs, as it is installed.
const PROGRAM: &str = "/usr/sbin/efs-agent";
/// Where it may be installed.
const INSTALLED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// The folder for which `WantedBy=multi-user.target` stands.
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

/// Whether the tunnels are to be started at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boot {
    Yes,
    No,
    /// Leave it as it is: the unit has another config or another executable.
    AsItIs,
    /// No, because the unit reads the usual config, and sessions are to read another.
    OtherConfig,
}

impl Boot {
    /// What `register` wants.
    pub(super) fn wanted(own: &str, named: Option<&Path>, settings: Option<&Settings>) -> Self {
        let is_encrypted = settings
            .is_some_and(|settings| settings.shares.iter().any(|share| share.encryption.is_some()));
        match named {
            Some(_) if is_encrypted => Self::OtherConfig,
            Some(_) => Self::AsItIs,
            None if own != PROGRAM => Self::AsItIs,
            None if is_encrypted => Self::Yes,
            None => Self::No,
        }
    }

    /// Makes or removes the link, or only says so. Returns `None` where that is done already, or
    /// the unit is not installed. A failure is only a warning, because it only makes session starts
    /// slower.
    pub(super) fn carry_out(self, root: &Path, dry_run: bool) -> Option<(Level, String)> {
        let link = files::below(root, WANTS).join(UNIT);
        let is_linked = fs::symlink_metadata(&link).is_ok();
        let would = if dry_run { "would be " } else { "" };

        let (text, changed) = match self {
            Self::Yes if !is_linked => {
                let mut folders = INSTALLED.iter().map(Path::new);
                let unit = folders
                    .find(|folder| files::below(root, folder).join(UNIT).exists())
                    .map(|folder| folder.join(UNIT))?;
                let text = format!(
                    "{UNIT} {would}enabled: at boot, it starts the tunnels of encrypted shares, so that a \
                     session start finds them"
                );
                (text, if dry_run { Ok(()) } else { make(root, &unit, &link) })
            }
            Self::No if is_linked => {
                let removed = if dry_run { Ok(()) } else { fs::remove_file(&link) };
                (format!("{UNIT} {would}disabled"), removed)
            }
            Self::OtherConfig => {
                let text = format!(
                    "the tunnels of encrypted shares are not started at boot, because of --config: {UNIT} \
                     reads the usual config; the first session start begins them"
                );
                return Some((Level::Info, text));
            }
            _ => return None,
        };

        match changed {
            Ok(()) => Some((Level::Info, text)),
            // Another run was quicker, and the link is as it should be.
            Err(_) if fs::symlink_metadata(&link).is_ok() == (self == Self::Yes) => None,
            Err(e) => {
                let text = format!(
                    "{} cannot be changed ({e}): see whether the tunnels of encrypted shares are to be \
                     started at boot (systemctl is-enabled {UNIT})",
                    link.display()
                );
                Some((Level::Warning, text))
            }
        }
    }
}

fn make(root: &Path, unit: &Path, link: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(files::below(root, WANTS))?;
    symlink(unit, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &str) -> Settings {
        let text =
            format!("[[share]]\nendpoint = \"fs-0123abcd.efs.eu-west-1.amazonaws.com\"\n{line}\n");
        Settings::parse(Path::new("c"), &text).unwrap()
    }

    #[test]
    fn it_is_for_the_installed_program_with_its_own_config_and_an_encrypted_share() {
        let (plain, encrypted) = (settings(""), settings("encryption_in_transit = true"));
        let wanted =
            |own, named: Option<&str>, settings| Boot::wanted(own, named.map(Path::new), settings);
        assert_eq!(wanted(PROGRAM, None, Some(&encrypted)), Boot::Yes);
        assert_eq!(wanted(PROGRAM, None, Some(&plain)), Boot::No);
        assert_eq!(wanted(PROGRAM, None, None), Boot::No);
        assert_eq!(wanted(PROGRAM, Some("/c.toml"), Some(&plain)), Boot::AsItIs);
        assert_eq!(wanted(PROGRAM, Some("/c.toml"), Some(&encrypted)), Boot::OtherConfig);
        let (level, text) = Boot::OtherConfig.carry_out(Path::new("/nowhere"), true).unwrap();
        assert_eq!(level, Level::Info);
        let start =
            "the tunnels of encrypted shares are not started at boot, because of --config: ";
        assert!(text.starts_with(start), "{text}");
        assert_eq!(wanted("/opt/efs-agent", None, Some(&encrypted)), Boot::AsItIs);
    }

    #[test]
    fn the_link_is_made_once_where_the_unit_is_installed_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(Boot::Yes.carry_out(root, false), None, "no unit is installed");
        let units = root.join("usr/lib/systemd/system");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join(UNIT), "").unwrap();
        let link = root.join("etc/systemd/system/multi-user.target.wants").join(UNIT);
        let (level, text) = Boot::Yes.carry_out(root, true).unwrap();
        assert_eq!(level, Level::Info);
        assert!(
            text.starts_with("efs-agent-tunnels.service would be enabled: at boot, "),
            "{text}"
        );
        assert!(fs::symlink_metadata(&link).is_err(), "a dry run");
        assert!(Boot::Yes.carry_out(root, false).is_some());
        let leads_to = fs::read_link(&link).unwrap();
        assert_eq!(leads_to, Path::new("/usr/lib/systemd/system").join(UNIT));
        for boot in [Boot::Yes, Boot::AsItIs] {
            assert_eq!(boot.carry_out(root, false), None);
        }
        let (_, text) = Boot::No.carry_out(root, false).unwrap();
        assert_eq!(text, "efs-agent-tunnels.service disabled");
        assert!(fs::symlink_metadata(&link).is_err());
        assert_eq!(Boot::No.carry_out(root, false), None);
    }

    #[test]
    fn that_it_cannot_be_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/lib/systemd/system")).unwrap();
        fs::write(root.join("usr/lib/systemd/system").join(UNIT), "").unwrap();
        fs::create_dir_all(root.join("etc/systemd/system")).unwrap();
        fs::write(root.join("etc/systemd/system/multi-user.target.wants"), "").unwrap();
        // There is a file in the place of the folder.
        let (level, text) = Boot::Yes.carry_out(root, false).unwrap();
        assert_eq!(level, Level::Warning);
        assert!(
            text.contains("multi-user.target.wants/efs-agent-tunnels.service cannot be changed ("),
            "{text}"
        );
    }
}
