//! `check`: goes through the chain of what a session start needs, one link at a time. Each link
//! says what was found, and the cure. It leaves nothing mounted and nothing made. Here is the order
//! of the chain, and the links of the machine; those of a share are in [`share`].

mod encrypted;
mod links;
mod point;
mod share;
mod trial;

use super::frame::Frame;
use super::left;
use super::register::RegistrationState;
use super::settings;
use crate::cli::StatusArgs;
use crate::config::file::INSTALLED;
use crate::config::{Settings, Share, advice};
use crate::installed;
use crate::kernel::modules;
use crate::kernel::namespace::{Namespace, may_mount, namespace};
use crate::report::Code;
use crate::share::Machine;
use crate::share::client::ClientIdentity;
use crate::share::linux::Linux;
use crate::stop::SystemClock;
use crate::sys;
use crate::tunnel::contract::Tunnels;
use crate::tunnel::units::Units;
use links::{Finding, Link, LinkState, Links};
use serde::Serialize;
use share::ShareCheck;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the look at one link (name, port, NULL call) may take.
const LINK_TIMEOUT: Duration = Duration::from_secs(3);

/// This link exists while the unit is enabled: `systemctl enable` makes it from `WantedBy=`.
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/efs-agent.service";

/// What `--json` prints.
#[derive(Serialize)]
struct CheckJson<'a> {
    ok: bool,
    links: &'a [Link],
    /// The signal that ended it before the last link, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<&'a str>,
}

/// Goes through the chain and returns the exit code.
pub fn run(args: &StatusArgs, started: Instant) -> Code {
    let mut links = Links::new(args.json, started);
    let stopped = Frame::run(started, None, |frame| {
        all(frame, args, &mut links);
        Ok(frame.stopped())
    });
    let stopped = stopped.unwrap_or_else(|error| {
        links.fault("signals", error.text, "run it anew");
        None
    });

    let well = stopped.is_none() && !links.any(LinkState::Fault);
    if args.json {
        let stopped = stopped.as_ref().map(|error| error.text.as_str());
        super::print_json(&CheckJson { ok: well, links: links.all(), stopped });
    } else if let Some(error) = &stopped {
        super::print(&format!("{error}\n"));
    } else if well && links.any(LinkState::Warning) {
        super::print("a session start would succeed, if what the warnings say is meant (exit 0)\n");
    } else if well {
        super::print("a session start would succeed (exit 0)\n");
    } else {
        super::print("a session start would not succeed: see FAULT above (exit 1)\n");
    }

    match stopped {
        Some(error) => error.code,
        None if well => Code::OK,
        None => Code::NOT_UP,
    }
}

/// The config that a session start would use.
enum Config {
    Read(PathBuf, Settings),
    /// There is none.
    Absent,
    /// There is one, and it cannot be used.
    Unusable,
}

fn all(frame: &Frame<'_>, args: &StatusArgs, links: &mut Links) {
    let root = frame.root;
    let named = args.config.as_deref();
    let config = config(root, named, links);
    privileges(&root.join("proc"), links);
    let may_mount = links.all().last().is_some_and(Link::is_ok);
    kernel(root, links);
    shares(frame, &config, may_mount, links);
    appstream(root, named, links);
    executable(root, links);
}

/// Looks at the shares of the config, and at what is there without being in it.
fn shares(frame: &Frame<'_>, config: &Config, may_mount: bool, links: &mut Links) {
    let Config::Read(path, settings) = config else {
        links.skipped("shares", None);
        if may_mount {
            let units = Units::new(frame.root, &frame.clock, frame.stop, Path::new(INSTALLED));
            left_over(&frame.machine(), &units, config, links);
        }
        return;
    };
    if !may_mount {
        settings.shares.iter().for_each(|share| links.skipped("mount point", Some(share)));
        return;
    }

    let machine = frame.machine();
    let units = Units::new(frame.root, &frame.clock, frame.stop, path);
    client(&machine.client().identity, links);
    for share in &settings.shares {
        ShareCheck::new(&machine, &units, settings, share).run(links);
    }
    left_over(&machine, &units, config, links);
}

fn config(root: &Path, named: Option<&Path>, links: &mut Links) -> Config {
    let (path, settings) = match settings::find(root, named) {
        Ok(found) => found,
        Err(why) => {
            links.fault("config", why.sentence(), why.cure());
            return if why.is_refused() { Config::Unusable } else { Config::Absent };
        }
    };

    let deadline = humantime::format_duration(settings.deadline);
    let count = settings.shares.len();
    links.ok("config", None, format!("{}, shares: {count}, deadline {deadline}", path.display()));
    if let Some(what) = point::second_config(root, &path, named) {
        links.warn("config", None, what, "take one of the two away".to_owned());
    }
    settings.shares.iter().for_each(|share| options(share, links));
    Config::Read(path, settings)
}

/// Warns about options that are accepted, and do no good on EFS.
fn options(share: &Share, links: &mut Links) {
    for (what, cure) in advice::on_any_server(share) {
        links.warn("options", Some(share), what, cure);
    }
    let found = advice::on_efs(share);
    if found.is_empty() {
        return;
    }

    let told: Vec<String> = found.iter().map(|(word, why)| format!("{word}: {why}")).collect();
    let words: Vec<&str> = found.iter().map(|(word, _)| word.as_str()).collect();
    let words = words.join(", ");
    let cure = format!("take out of `options`: {words}; the defaults are what AWS recommends");
    links.warn("options", Some(share), told.join("; "), cure);
}

/// Whether this process may mount, and others will see what it mounts.
fn privileges(proc: &Path, links: &mut Links) {
    if !sys::is_root() {
        links.fault("privileges", "not root", "use sudo");
    } else if !may_mount() {
        let what = "root may not mount here (CAP_SYS_ADMIN is missing)";
        links.fault("privileges", what, "run it outside of the container");
    } else if namespace(proc) == Namespace::Private {
        let what = "a mount namespace of its own: nobody else would see the mounts";
        let cure = "run it outside of unshare, a container or a hardened unit";
        links.fault("privileges", what, cure);
    } else {
        links.ok("privileges", None, "root, and may mount");
    }
}

/// Whether the kernel has an NFS client.
fn kernel(root: &Path, links: &mut Links) {
    let release = sys::kernel_release();
    let folder = root.join("lib/modules").join(&release);
    let known = fs::read_to_string(root.join("proc/filesystems")).unwrap_or_default();

    if known.lines().any(|line| line.trim_end().ends_with("\tnfs4")) {
        links.ok("kernel", None, format!("Linux {release} has NFS version 4"));
    } else if let Some(place) = modules::forbidden(root) {
        let what = format!("Linux {release} may not load its NFS client: {place}");
        links.fault("kernel", what, "take that out (modprobe nfsv4 must succeed)");
    } else if lists_nfs(&folder.join("modules.dep")) || lists_nfs(&folder.join("modules.builtin")) {
        let what =
            format!("Linux {release} has the module nfsv4, which is loaded at the first mount");
        links.ok("kernel", None, what);
    } else {
        let cure = "install the kernel's nfsv4 module (modprobe nfsv4 must succeed)";
        links.fault("kernel", format!("Linux {release} has no module nfsv4"), cure);
    }
}

fn lists_nfs(list: &Path) -> bool {
    fs::read(list).is_ok_and(|bytes| {
        bytes.windows(9).any(|word| word == b"nfsv4.ko:" || word == b"/nfsv4.ko")
    })
}

/// Who this machine is to its servers.
fn client(identity: &ClientIdentity, links: &mut Links) {
    let state = match identity {
        ClientIdentity::Set { .. } => LinkState::Ok,
        ClientIdentity::Unset { .. } => LinkState::Warning,
        ClientIdentity::NoClient => LinkState::Skipped,
    };
    let (what, cure) = (identity.sentence(&sys::host_name()), identity.cure());
    links.add("client", None, Finding { state, what, cure });
}

/// Warns about what is mounted, or runs, and is not in the config. That happens above all on the
/// machine from which an image is made.
fn left_over(
    machine: &Linux<'_, SystemClock<'_>>,
    units: &Units<'_, SystemClock<'_>>,
    config: &Config,
    links: &mut Links,
) {
    let shares = match config {
        Config::Read(_, settings) => settings.shares.as_slice(),
        Config::Absent | Config::Unusable => &[],
    };

    for share in left::left(machine, shares) {
        let (what, cure) = match config {
            Config::Unusable => (UNKNOWN, CORRECT_CONFIG),
            Config::Read(..) | Config::Absent => ("and is not in the config", UNMOUNT),
        };
        let what = format!("{} is mounted there by an earlier run, {what}", share.source());
        links.warn("mount point", Some(&share), what, cure.to_owned());
    }

    for share in units.without_share(shares) {
        if units.port(&share).is_some() {
            let (what, cure) = tunnel_without_share(config);
            links.warn("tunnel", Some(&share), what, cure.to_owned());
        }
    }
}

const UNMOUNT: &str = "sudo efs-agent unmount";
const UNKNOWN: &str = "but the config cannot be read, so whether a share wants it is not known";
const CORRECT_CONFIG: &str = "mend the config, then: sudo efs-agent check";

/// What is wrong with a tunnel without a share in the config, and what helps.
fn tunnel_without_share(config: &Config) -> (String, &'static str) {
    match config {
        Config::Read(..) => {
            ("a tunnel runs for it, which no share of the config has".into(), UNMOUNT)
        }
        Config::Unusable => (format!("a tunnel runs for it, {UNKNOWN}"), CORRECT_CONFIG),
        // `unmount` is no cure here, because it needs a config.
        Config::Absent => (
            "a tunnel runs for it, and there is no config".into(),
            "write the config, then: sudo efs-agent check",
        ),
    }
}

/// Whether AppStream runs this program at a session start.
fn appstream(root: &Path, named: Option<&Path>, links: &mut Links) {
    match super::register::standing(root, named) {
        RegistrationState::Registered(what) => links.ok("AppStream", None, what),
        RegistrationState::Different(what, cure) => links.warn("AppStream", None, what, cure),
        RegistrationState::Absent(what, cure)
            if fs::symlink_metadata(root.join(ENABLED)).is_ok() =>
        {
            let what = format!("{what}, but efs-agent.service mounts the shares at boot");
            let cure =
                format!("nothing, if that is meant; to have session starts do it too: {cure}");
            links.warn("AppStream", None, what, cure);
        }
        RegistrationState::Absent(what, cure) | RegistrationState::Wrong(what, cure) => {
            links.fault("AppStream", what, cure);
        }
        RegistrationState::NoConfig => {
            let what = "the config's path cannot be put into AppStream's arguments";
            links.fault("AppStream", what, "choose a short path without blanks and quotes");
        }
    }
}

/// Whether root alone can change this program.
fn executable(root: &Path, links: &mut Links) {
    match installed::executable(root) {
        Ok(path) => {
            let what = format!("{} and its folders can be changed by root alone", path.display());
            links.ok("executable", None, what);
        }
        Err(unfit) => links.warn("executable", None, unfit.to_string(), unfit.cure()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_tunnel_it_is_not_said_that_no_share_has_it_where_the_config_cannot_be_read() {
        let read = Config::Read(PathBuf::new(), Settings::of_no_share());
        assert_eq!(tunnel_without_share(&read).1, UNMOUNT);
        for config in [Config::Unusable, Config::Absent] {
            let (what, cure) = tunnel_without_share(&config);
            assert!(!what.contains("no share of the config") && cure.ends_with("check"), "{what}");
        }
        assert!(tunnel_without_share(&Config::Unusable).0.contains("cannot be read"));
    }

    #[test]
    fn a_check_that_was_stopped_is_json_with_what_was_found_and_says_so() {
        let mut links = Links::new(true, Instant::now());
        links.ok("config", None, "there");
        let stopped =
            CheckJson { ok: false, links: links.all(), stopped: Some("stopped by SIGTERM") };
        let json = crate::json::written(&stopped);
        let start = "{\"ok\": false, \"links\": [{\"link\": \"config\", \"share\": null, \"state\": \"ok\", \
                     \"seconds\": 0.";
        assert!(json.starts_with(start), "{json}");
        let end = "\"what\": \"there\", \"cure\": null}], \"stopped\": \"stopped by SIGTERM\"}";
        assert!(json.ends_with(end), "{json}");
    }
}
