//! The last links of a share: a trial mount that nobody sees, and whether its users could write.
//! How a trial mount is made does not belong here.

use super::links::{Broken, Links};
use super::share::ShareCheck;
use crate::appstream;
use crate::config::Level;
use crate::retry::Deadline;
use crate::share::linux::TrialReport;
use crate::share::worker::RootReport;
use crate::share::{Machine, after, plan};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// What to do where the streaming user's account is missing.
const NO_USER: &str = "nothing, if AppStream makes it later; else see that it is in /etc/passwd of the image (getent passwd \
                       as2-streaming-user)";

/// The user id of nobody. The client shows it for all owners whose names it does not know.
const NOBODY: u32 = 65534;

impl ShareCheck<'_> {
    /// A trial mount without a tunnel.
    pub fn plain_trial(&mut self, address: IpAddr, links: &mut Links) -> Result<(), Broken> {
        let until = Deadline::after(self.machine.clock, self.settings.attempt_timeout);
        let call = plan::mount_call(self.share, address, self.machine.client());
        match self.machine.trial(self.share, &call, until) {
            Ok(tried) => {
                self.tried(tried, links);
                Ok(())
            }
            Err(failure) => Err(self.broken("trial mount", &failure, links)),
        }
    }

    /// Adds what a trial mount showed. Whether users can write is asked about the mount that they
    /// have, if there is one.
    pub fn tried(&mut self, tried: TrialReport, links: &mut Links) {
        let TrialReport { report, led_to, .. } = tried;
        let led =
            led_to.map(|source| format!(" (the server leads {} to {source})", self.share.path));
        let what = format!(
            "mounts{}; its root has mode {:04o} and belongs to {}:{}",
            led.unwrap_or_default(),
            report.mode,
            report.uid,
            report.gid
        );
        links.ok("trial mount", Some(self.share), what);

        let report = self.there.take().unwrap_or(report);
        if let Some((what, cure)) = nobody(self.machine.root, &report) {
            links.warn("writing", Some(self.share), what, cure);
        }
        self.writing(report, links);
    }

    fn writing(&self, report: RootReport, links: &mut Links) {
        let share = Some(self.share);
        let Some(user) = self.machine.user() else {
            let what = format!(
                "there is no {}: it is not known who must be able to write",
                appstream::STREAMING_USER
            );
            // On a machine that streams sessions, that account must be there.
            return match self.machine.root.join("opt/appstream").is_dir() {
                true => links.warn("writing", share, what, NO_USER.to_owned()),
                false => links.ok("writing", share, what),
            };
        };

        let mode = self.share.root_mode.filter(|_| !self.keeps_mode);
        if let (Some(mode), Err(_)) = (mode, report.writable) {
            let what =
                format!("{} could not write yet; root_mode {mode:04o} will be set", user.name);
            return links.ok("writing", share, what);
        }
        match after::notes(self.share, Some(user), Ok(report)).pop() {
            Some((Level::Warning, note)) => links.warn("writing", share, note, None),
            _ => links.ok("writing", share, "the streaming user could write"),
        }
    }
}

/// What is wrong with a root that belongs to nobody, and what helps.
fn nobody(root: &Path, report: &RootReport) -> Option<(String, String)> {
    if report.uid != NOBODY {
        return None;
    }

    let file = "sys/module/nfs/parameters/nfs4_disable_idmapping";
    let by_name = fs::read_to_string(root.join(file)).is_ok_and(|text| text.trim() == "N");
    let what = format!(
        "the share's root belongs to nobody ({}:{}): who owns what is not told by number, if that is not meant",
        report.uid, report.gid
    );

    let cure = match by_name {
        true => format!(
            "/{file} is N here: put \"options nfs nfs4_disable_idmapping=Y\" into /etc/modprobe.d/nfs.conf and boot anew"
        ),
        false => "on a Linux server, nfs4_disable_idmapping of its module nfsd must be Y; else both sides need the same Domain \
                  in /etc/idmapd.conf, and the same user names"
            .to_owned(),
    };
    Some((what, cure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_belongs_to_nobody_is_told_with_the_setting_that_makes_it_so() {
        let dir = tempfile::tempdir().unwrap();
        let report = |uid| RootReport {
            opened: Ok(()),
            uid,
            gid: uid,
            mode: 0o755,
            is_the_share: true,
            set: Ok(()),
            writable: Ok(()),
        };
        assert_eq!(nobody(dir.path(), &report(0)), None);
        let (what, cure) = nobody(dir.path(), &report(NOBODY)).unwrap();
        assert!(what.contains("nobody (65534:65534)") && cure.contains("nfsd must be Y"));
        let folder = dir.path().join("sys/module/nfs/parameters");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("nfs4_disable_idmapping"), "N\n").unwrap();
        let (_, cure) = nobody(dir.path(), &report(NOBODY)).unwrap();
        assert!(
            cure.starts_with("/sys/module/nfs/parameters/nfs4_disable_idmapping is N here"),
            "{cure}"
        );
    }
}
