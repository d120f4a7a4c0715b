//! `check`: the chain of what a session start needs, one link at a time, each with what was found and the
//! cure. Leaves nothing mounted and nothing made. Read [`Chain::all`] for the order.

mod encrypted;
mod point;

use super::NoSettings;
use super::left;
use super::register::Standing;
use super::status::{ANEW, elsewhere, past};
use crate::appstream;
use crate::cli::StatusArgs;
use crate::config::file::INSTALLED;
use crate::config::{Level, Settings, Share, advice};
use crate::installed;
use crate::json::quoted;
use crate::kernel::modules;
use crate::kernel::namespace::{Namespace, may_mount, namespace};
use crate::kernel::route::{self, Route};
use crate::net::probe::{self, Heard};
use crate::report::Code;
use crate::retry::{Clock, Deadline};
use crate::share::causes::{Cause, explain, explain_by, no_use};
use crate::share::client::Identity;
use crate::share::linux::{Linux, Root, Tried};
use crate::share::locate::reach;
use crate::share::plan::TUNNEL;
use crate::share::worker::RootReport;
use crate::share::{Failure, Machine, after, mount_point, plan};
use crate::stop::{Stop, SystemClock};
use crate::sys;
use crate::text::plain;
use crate::tunnel::contract::Tunnels;
use crate::tunnel::units::{self, Units};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one link may take: name, port, NULL call.
const LINK: Duration = Duration::from_secs(3);

/// There while the unit is enabled: what `systemctl enable` makes of its `WantedBy=`.
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/efs-agent.service";

/// Goes through the chain and returns the exit code.
pub fn run(args: &StatusArgs, started: Instant) -> Code {
    let root = Path::new("/");
    let mut chain = Chain {
        links: Vec::new(),
        there: None,
        keeps_mode: false,
        json: args.json,
        began: started,
    };
    let mut signal = None;
    match Stop::install() {
        Ok(stop) => {
            chain.all(root, args, &SystemClock::new(started, &stop), &stop);
            signal = stop.signal();
        }
        Err(e) => chain.fault("signals", None, format!("cannot set signals: {e}"), "run it anew"),
    }
    if let Some(signal) = signal {
        super::print(&format!("stopped by {signal}\n"));
        return Code::signal(signal as i32);
    }
    let well = !chain.links.iter().any(|link| link.state == State::Fault);
    if args.json {
        let links: Vec<String> = chain.links.iter().map(Link::json).collect();
        let text = format!("{{\"ok\": {well}, \"links\": [\n{}\n]}}\n", links.join(",\n"));
        super::print(&text);
    } else if well && chain.links.iter().any(|link| link.state == State::Warning) {
        super::print("a session start would succeed, if what the warnings say is meant (exit 0)\n");
    } else if well {
        super::print("a session start would succeed (exit 0)\n");
    } else {
        super::print("a session start would not succeed: see FAULT above (exit 1)\n");
    }
    if well { Code::OK } else { Code::NOT_UP }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Warning,
    Fault,
    /// Not looked at.
    Skipped,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
            Self::Skipped => "skipped",
        }
    }
}

/// One link of the chain, looked at.
struct Link {
    name: &'static str,
    /// The mount point of the share that it is about.
    share: Option<String>,
    state: State,
    took: Duration,
    what: String,
    cure: Option<String>,
}

impl Link {
    fn text(&self) -> String {
        let share = self.share.as_ref().map(|share| format!("{share}: ")).unwrap_or_default();
        let cure = self.cure.as_ref().map(|cure| format!("\n           to mend it: {cure}"));
        format!(
            "{:<8} {:<13} {share}{} ({:.3} s){}\n",
            self.state.word(),
            self.name,
            self.what,
            self.took.as_secs_f64(),
            cure.unwrap_or_default()
        )
    }

    fn json(&self) -> String {
        let or_null = |text: &Option<String>| text.as_ref().map_or("null".into(), |t| quoted(t));
        format!(
            "  {{\"link\": {}, \"share\": {}, \"state\": {}, \"seconds\": {:.3}, \"what\": {}, \"cure\": {}}}",
            quoted(self.name),
            or_null(&self.share),
            quoted(&self.state.word().to_lowercase()),
            self.took.as_secs_f64(),
            quoted(&self.what),
            or_null(&self.cure)
        )
    }
}

struct Chain {
    links: Vec<Link>,
    /// The root of the share that is looked at, where it is mounted already.
    there: Option<RootReport>,
    /// A session start would not set its mode.
    keeps_mode: bool,
    json: bool,
    /// When the link that is looked at began.
    began: Instant,
}

impl Chain {
    fn all(&mut self, root: &Path, args: &StatusArgs, clock: &SystemClock<'_>, stop: &Stop) {
        // A config that is there, but cannot be used.
        let mut refused = false;
        let found = match super::settings(root, args.config.as_deref()) {
            Ok((path, settings)) => {
                let deadline = humantime::format_duration(settings.deadline);
                let count = settings.shares.len();
                let what = format!("{}, shares: {count}, deadline {deadline}", path.display());
                self.ok("config", None, what);
                if let Some(what) = point::second_config(root, &path, args.config.as_deref()) {
                    let cure = "take one of the two away".to_owned();
                    self.add("config", None, State::Warning, what, Some(cure));
                }
                settings.shares.iter().for_each(|share| self.advise(share));
                Some((path, settings))
            }
            Err(why) => {
                refused = matches!(why, NoSettings::Refused(..));
                let (what, cure) = why.told();
                self.fault("config", None, what, &cure);
                None
            }
        };
        let may = self.privileges(&root.join("proc"));
        self.kernel(root);
        match &found {
            None => {
                self.skipped("shares", None);
                if may {
                    let (machine, config) = (Linux::new(root, clock, stop), Path::new(INSTALLED));
                    let unread = Some(refused);
                    self.left(&machine, &Units::new(root, clock, stop, config), &[], unread);
                }
            }
            Some((_, settings)) if !may => {
                for share in &settings.shares {
                    self.skipped("mount point", Some(share));
                }
            }
            Some((path, settings)) => {
                let machine = Linux::new(root, clock, stop);
                let units = Units::new(root, clock, stop, path);
                self.client(&machine.client().identity);
                for share in &settings.shares {
                    self.share(&machine, &units, settings, share);
                }
                self.left(&machine, &units, &settings.shares, None);
            }
        }
        self.appstream(root, args);
        match installed::executable(root) {
            Ok(path) => {
                let what =
                    format!("{} and its folders can be changed by root alone", path.display());
                self.ok("executable", None, what);
            }
            Err(unfit) => {
                self.add("executable", None, State::Warning, unfit.to_string(), Some(unfit.cure()));
            }
        }
    }

    /// Options that are taken, and do no good on EFS.
    fn advise(&mut self, share: &Share) {
        for (what, cure) in advice::on_any_server(share) {
            self.add("options", Some(share), State::Warning, what, Some(cure));
        }
        let found = advice::on_efs(share);
        if found.is_empty() {
            return;
        }
        let told: Vec<String> = found.iter().map(|(word, why)| format!("{word}: {why}")).collect();
        let words: Vec<&str> = found.iter().map(|(word, _)| word.as_str()).collect();
        let words = words.join(", ");
        let cure = format!("take out of `options`: {words}; the defaults are what AWS recommends");
        self.add("options", Some(share), State::Warning, told.join("; "), Some(cure));
    }

    /// What is mounted, or runs, and is not in the config: on the machine that an image is made of, above all. `unread`
    /// is whether there is a config that cannot be read; none where it was.
    fn left(
        &mut self,
        machine: &Linux<'_, SystemClock<'_>>,
        units: &Units<'_, SystemClock<'_>>,
        shares: &[Share],
        unread: Option<bool>,
    ) {
        for share in left::left(machine, shares) {
            let source = share.source();
            let (what, cure) = match unread {
                Some(true) => (UNKNOWN, MEND),
                _ => ("and is not in the config", UNMOUNT),
            };
            let what = format!("{source} is mounted there by an earlier run, {what}");
            self.add("mount point", Some(&share), State::Warning, what, Some(cure.to_owned()));
        }
        for share in units.without_share(shares) {
            if units.port(&share).is_some() {
                let (what, cure) = without_share(unread);
                self.add("tunnel", Some(&share), State::Warning, what, Some(cure));
            }
        }
    }

    fn appstream(&mut self, root: &Path, args: &StatusArgs) {
        match super::register::standing(root, args.config.as_deref()) {
            Standing::Registered(what) => self.ok("AppStream", None, what),
            Standing::Different(what, cure) => {
                self.add("AppStream", None, State::Warning, what, Some(cure));
            }
            Standing::Absent(what, cure) if fs::symlink_metadata(root.join(ENABLED)).is_ok() => {
                let what = format!("{what}, but efs-agent.service mounts the shares at boot");
                let cure =
                    format!("nothing, if that is meant; to have session starts do it too: {cure}");
                self.add("AppStream", None, State::Warning, what, Some(cure));
            }
            Standing::Absent(what, cure) | Standing::Wrong(what, cure) => {
                self.add("AppStream", None, State::Fault, what, Some(cure));
            }
            Standing::NoConfig => {
                let what = "the config's path cannot be put into AppStream's arguments";
                let cure = "choose a short path without blanks and quotes";
                self.fault("AppStream", None, what.into(), cure);
            }
        }
    }

    fn privileges(&mut self, proc: &Path) -> bool {
        let link = "privileges";
        if !sys::is_root() {
            self.fault(link, None, "not root".into(), "use sudo");
        } else if !may_mount() {
            let cure = "run it outside of the container";
            self.fault(
                link,
                None,
                "root may not mount here (CAP_SYS_ADMIN is missing)".into(),
                cure,
            );
        } else if namespace(proc) == Namespace::Private {
            let what = "a mount namespace of its own: nobody else would see the mounts";
            self.fault(
                link,
                None,
                what.into(),
                "run it outside of unshare, a container or a hardened unit",
            );
        } else {
            self.ok(link, None, "root, and may mount".into());
        }
        self.links.last().is_some_and(|link| link.state == State::Ok)
    }

    fn kernel(&mut self, root: &Path) {
        let release = sys::kernel_release();
        let known = fs::read_to_string(root.join("proc/filesystems")).unwrap_or_default();
        let there = |file: &str| {
            let list = root.join("lib/modules").join(&release).join(file);
            fs::read(list).is_ok_and(|bytes| {
                bytes.windows(9).any(|word| word == b"nfsv4.ko:" || word == b"/nfsv4.ko")
            })
        };
        if known.lines().any(|line| line.trim_end().ends_with("\tnfs4")) {
            self.ok("kernel", None, format!("Linux {release} has NFS version 4"));
        } else if let Some(place) = modules::forbidden(root) {
            let what = format!("Linux {release} may not load its NFS client: {place}");
            self.fault("kernel", None, what, "take that out (modprobe nfsv4 must succeed)");
        } else if there("modules.dep") || there("modules.builtin") {
            let what =
                format!("Linux {release} has the module nfsv4, which is loaded at the first mount");
            self.ok("kernel", None, what);
        } else {
            let cure = "install the kernel's nfsv4 module (modprobe nfsv4 must succeed)";
            self.fault("kernel", None, format!("Linux {release} has no module nfsv4"), cure);
        }
    }

    /// Who this machine is to its servers.
    fn client(&mut self, identity: &Identity) {
        let state = match identity {
            Identity::Set { .. } => State::Ok,
            Identity::Unset { .. } => State::Warning,
            Identity::NoClient => State::Skipped,
        };
        self.add("client", None, state, identity.told(&sys::host_name()), identity.cure());
    }

    /// The links of one share; the first that does not hold ends them.
    fn share(
        &mut self,
        machine: &Linux<'_, SystemClock<'_>>,
        units: &dyn Tunnels,
        settings: &Settings,
        share: &Share,
    ) {
        let clock = machine.clock;
        let until = || Deadline::after(clock, LINK);
        let fault = if share.required { State::Fault } else { State::Warning };
        (self.there, self.keeps_mode) = (None, false);
        let found = match machine.mounted(share, until()) {
            Err(taken @ Failure::Taken { .. }) if share.encryption.is_none() => {
                let call = || {
                    let mut found = machine.resolve(share, until()).ok()?;
                    let far = Deadline::after(clock, LINK.saturating_mul(2));
                    let address = reach(machine, share, &mut found, LINK, far, clock).ok()?;
                    Some(plan::mount_call(share, address, machine.client()))
                };
                let found = call().map(|call| machine.recognized(share, &call, until()));
                found.and_then(Result::ok).flatten().map_or(Err(taken), |mounted| Ok(Some(mounted)))
            }
            found => found,
        };
        match found {
            Ok(Some(mounted)) => {
                let (tunnel, way) = (units.port(share), machine.leads_to(&mounted));
                let wrong = match share.encryption {
                    None => None,
                    Some(_) if way != Some(SocketAddr::new(TUNNEL, mounted.port)) => {
                        Some(past(way))
                    }
                    Some(_) if tunnel != Some(mounted.port) => {
                        Some(format!("its tunnel is {}", elsewhere(mounted.port, tunnel)))
                    }
                    Some(_) => None,
                };
                if let Some(what) = wrong {
                    let cure = "sudo efs-agent --once, which starts the tunnel again or mounts the share anew";
                    return self.add("mount point", Some(share), fault, what, Some(cure.into()));
                }
                // A mount of our own would say nothing of the one that the users have.
                match machine.root(share, &mounted, until()) {
                    Ok(Root::Well(all, free)) => {
                        if all > 0 && free == 0 {
                            let cure = "make room on the server, or raise its quota".to_owned();
                            let what = "the share is full: nothing can be written".to_owned();
                            self.add("mount point", Some(share), State::Warning, what, Some(cure));
                        }
                        let led = mounted.led_to(share).map(|source| format!(", as {source}"));
                        let led = led.unwrap_or_default();
                        let what = format!("mounted already, from {}{led}", mounted.address);
                        self.ok("mount point", Some(share), what);
                        let seen = machine.look(share, &mounted, None, until());
                        self.there = seen.ok().and_then(Result::ok);
                    }
                    Ok(Root::Fault(errno)) => {
                        let what = format!(
                            "mounted already, from {}, but {}",
                            mounted.address,
                            no_use(errno)
                        );
                        let cure = Some(ANEW.to_owned());
                        return self.add("mount point", Some(share), fault, what, cure);
                    }
                    Ok(Root::Over) => return self.failed("mount point", share, &Failure::Hidden),
                    // The links below may tell why.
                    Ok(Root::Silence) => {
                        let dead = Failure::Dead(mounted.address.clone());
                        self.failed("mount point", share, &dead);
                    }
                    Err(failure) => return self.failed("mount point", share, &failure),
                }
            }
            Ok(None) => match machine.prepare(share) {
                Ok(point) => {
                    let made = if point.is_ours() { "can be made" } else { "is there" };
                    point.discard();
                    self.ok("mount point", Some(share), made.into());
                    let point = &share.mount_point;
                    let is_home = hides_home(machine.root, point).is_some();
                    for (what, cure) in point::as_it_is(machine.root, point, is_home) {
                        self.add("mount point", Some(share), State::Warning, what, Some(cure));
                    }
                }
                Err(failure) => return self.failed("mount point", share, &failure),
            },
            Err(failure) => return self.failed("mount point", share, &failure),
        }
        if let Some(text) = mount_point::in_others_hands(machine.root, &share.mount_point) {
            self.add("mount point", Some(share), State::Warning, text, None);
        }
        let way = point::on_the_way(machine.root, &share.mount_point, machine.user());
        for (what, cure) in point::in_fstab(machine.root, &share.mount_point).into_iter().chain(way)
        {
            self.add("mount point", Some(share), State::Warning, what, Some(cure));
        }
        if let Some(text) = hides_home(machine.root, &share.mount_point) {
            let cure = "give the share a folder of its own, such as /mnt/efs_share".to_owned();
            self.add("mount point", Some(share), State::Warning, text, Some(cure));
        }
        // Before anything is sent: without them nothing would come of it.
        if let Err(failure) = units::trusted(machine.root, share) {
            return self.failed("tunnel", share, &failure.into());
        }
        let mut found = match machine.resolve(share, until()) {
            Ok(found) => found,
            Err(failure) => match share.encryption.as_ref().filter(|e| e.discover) {
                // Its tunnel may find it otherwise.
                Some(encryption) => {
                    let Cause { sentence, cure, .. } =
                        explain(&failure, share, &sys::kernel_release());
                    let what = format!("{sentence}; AWS will be asked (discover)");
                    self.add("name", Some(share), State::Warning, what, Some(cure));
                    return self.encrypted(machine, units, settings, share, encryption);
                }
                None => return self.failed("name", share, &failure),
            },
        };
        let list: Vec<String> = found.addresses.iter().map(IpAddr::to_string).collect();
        let (named, listed) = list.split_at(list.len().saturating_sub(found.listed));
        let more = match listed {
            [] => String::new(),
            listed => format!(", and {} (`addresses`)", listed.join(", ")),
        };
        let what = format!("{} is {} ({}){more}", share.endpoint, named.join(", "), found.by);
        self.ok("name", Some(share), what);
        if let (Some(completed), Some(mode), None) =
            (found.completed(), share.root_mode, &share.encryption)
        {
            let what = format!(
                "a search domain made {completed} of {}, which may be another machine: root_mode {mode:04o} will not be set",
                share.endpoint
            );
            let cure = format!("if it is the right one, write endpoint = \"{completed}.\"");
            self.add("name", Some(share), State::Warning, what, Some(cure));
            self.keeps_mode = true;
        }
        let port = share.options.port;
        for address in &found.addresses {
            match machine.route(SocketAddr::new(*address, port)) {
                Some(Route { from, on, is_bridge }) => {
                    let on = on.map(|name| format!(" on {name}")).unwrap_or_default();
                    let (state, what) = match is_bridge {
                        true => (
                            State::Warning,
                            ", a bridge of this machine: its network covers the address",
                        ),
                        false => (State::Ok, ""),
                    };
                    let cure = is_bridge.then(|| {
                        format!("nothing, if the server is there; else give Docker, or whoever made it, another network (ip route get {address})")
                    });
                    let what = format!("{address} from {from}{on}{what}");
                    self.add("route", Some(share), state, what, cure);
                }
                None => {
                    let what = format!("no way leads to {address}");
                    let cure = "see the interfaces (ip address) and routes (ip route)";
                    self.add("route", Some(share), State::Warning, what, Some(cure.into()));
                }
            }
        }
        let far = Deadline::after(clock, LINK.saturating_mul(2));
        let address = match reach(machine, share, &mut found, LINK, far, clock) {
            Ok(address) => address,
            Err(failure) => return self.failed("port", share, &failure),
        };
        self.ok("port", Some(share), format!("{address} takes connections on TCP {port}"));
        if let Some(encryption) = &share.encryption {
            return self.encrypted(machine, units, settings, share, encryption);
        }
        let heard = probe::null_call(SocketAddr::new(address, port), None, machine.wait(until()));
        match heard {
            Some(Heard::Nfs) => {
                self.ok("NULL call", Some(share), format!("{address} is an NFS server"))
            }
            Some(heard) => {
                let failure = Failure::Probed(Failure::CutOff(address, LINK).into(), heard);
                return self.failed("NULL call", share, &failure);
            }
            None => {}
        }
        self.trial(machine, settings, share, address);
    }

    fn trial(
        &mut self,
        machine: &Linux<'_, SystemClock<'_>>,
        settings: &Settings,
        share: &Share,
        address: IpAddr,
    ) {
        let until = Deadline::after(machine.clock, settings.attempt_timeout);
        let call = plan::mount_call(share, address, machine.client());
        match machine.trial(share, &call, until) {
            Ok(tried) => self.looked_at(machine, share, tried),
            Err(failure) => self.failed("trial mount", share, &failure),
        }
    }

    /// What a trial mount showed; whether users can write is told of the mount that they have, if there is one.
    fn looked_at<C: Clock + Sync>(&mut self, machine: &Linux<'_, C>, share: &Share, tried: Tried) {
        let user = machine.user();
        let Tried { report, led_to, .. } = tried;
        let led = led_to.map(|source| format!(" (the server leads {} to {source})", share.path));
        let what = format!(
            "mounts{}; its root has mode {:04o} and belongs to {}:{}",
            led.unwrap_or_default(),
            report.mode,
            report.uid,
            report.gid
        );
        self.ok("trial mount", Some(share), what);
        let report = self.there.take().unwrap_or(report);
        if let Some((what, cure)) = nobody(machine.root, &report) {
            self.add("writing", Some(share), State::Warning, what, Some(cure));
        }
        let appstream_is_there = machine.root.join("opt/appstream").is_dir();
        match (user, share.root_mode.filter(|_| !self.keeps_mode)) {
            (None, _) => {
                let what = format!(
                    "there is no {}: it is not known who must be able to write",
                    appstream::STREAMING_USER
                );
                // Where sessions are streamed, that account must be there.
                let (state, cure) = match appstream_is_there {
                    true => (State::Warning, Some(NO_USER.to_owned())),
                    false => (State::Ok, None),
                };
                self.add("writing", Some(share), state, what, cure);
            }
            (Some(user), Some(mode)) if report.writable.is_err() => {
                let what =
                    format!("{} could not write yet; root_mode {mode:04o} will be set", user.name);
                self.ok("writing", Some(share), what);
            }
            _ => match after::notes(share, user, Ok(report)).pop() {
                Some((Level::Warning, note)) => {
                    self.add("writing", Some(share), State::Warning, note, None);
                }
                _ => self.ok("writing", Some(share), "the streaming user could write".into()),
            },
        }
    }

    fn failed(&mut self, name: &'static str, share: &Share, failure: &Failure) {
        // That we were stopped says nothing of the link.
        if let Failure::Stopped(_) = failure {
            return;
        }
        let route = |to| route::to(Path::new("/"), to);
        let cause = explain_by(failure, share, &sys::kernel_release(), &route);
        // A session start goes on without an optional share.
        let state = if share.required { State::Fault } else { State::Warning };
        self.add(name, Some(share), state, cause.sentence, Some(cause.cure));
    }

    fn fault(&mut self, name: &'static str, share: Option<&Share>, what: String, cure: &str) {
        self.add(name, share, State::Fault, what, Some(cure.into()));
    }

    fn skipped(&mut self, name: &'static str, share: Option<&Share>) {
        let what = "not tried, because of the FAULT above";
        self.add(name, share, State::Skipped, what.into(), None);
    }

    fn ok(&mut self, name: &'static str, share: Option<&Share>, what: String) {
        self.add(name, share, State::Ok, what, None);
    }

    fn add(
        &mut self,
        name: &'static str,
        share: Option<&Share>,
        state: State,
        what: String,
        cure: Option<String>,
    ) {
        let share = share.map(|share| share.mount_point.display().to_string());
        let (what, cure) = (plain(&what), cure.map(|cure| plain(&cure)));
        let took = self.began.elapsed();
        self.began = Instant::now();
        let link = Link { name, share, state, took, what, cure };
        if !self.json {
            super::print(&link.text());
        }
        self.links.push(link);
    }
}

const UNMOUNT: &str = "sudo efs-agent unmount";
const UNKNOWN: &str = "but the config cannot be read, so whether a share wants it is not known";
const MEND: &str = "mend the config, then: sudo efs-agent check";

/// What to say of a tunnel without a share in the config, and to do. `unread` is whether there is a config that cannot
/// be read; none where it was.
fn without_share(unread: Option<bool>) -> (String, String) {
    let (what, cure) = match unread {
        Some(true) => (format!("a tunnel runs for it, {UNKNOWN}"), MEND),
        // unmount would want one.
        Some(false) => (
            "a tunnel runs for it, and there is no config".to_owned(),
            "write the config, then: sudo efs-agent check",
        ),
        None => ("a tunnel runs for it, which no share of the config has".to_owned(), UNMOUNT),
    };
    (what, cure.to_owned())
}

/// What to do where the streaming user's account is missing.
const NO_USER: &str = "nothing, if AppStream makes it later; else see that it is in /etc/passwd of the image (getent passwd \
                       as2-streaming-user)";

/// What to say of a mount point that is a user's home, or has one in it: what is there is hidden by the share.
fn hides_home(root: &Path, point: &Path) -> Option<String> {
    let passwd = fs::read(root.join("etc/passwd")).ok()?;
    String::from_utf8_lossy(&passwd).lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, home) = (fields.next()?, Path::new(fields.nth(4)?));
        // "/" and the like are the homes of services.
        let is_home = home.components().count() > 2 && home.starts_with(point);
        is_home.then(|| {
            let (point, home) = (point.display(), home.display());
            format!("{point} hides the home of {name} ({home}): its settings and files are not seen while the share is up")
        })
    })
}

/// The number of the owner that stands for nobody: of all whose name the client does not know.
const NOBODY: u32 = 65534;

/// What to say of a root that belongs to nobody, and what to do.
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
    fn a_mount_point_that_hides_a_home_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:9:9::/:\nbad\nas2:x:1001:1001:S:/home/as2:/bin/bash\n";
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        let told = |point: &str| hides_home(dir.path(), Path::new(point));
        assert!(
            told("/home/as2").unwrap().starts_with("/home/as2 hides the home of as2 (/home/as2): ")
        );
        assert!(told("/home").unwrap().contains("the home of as2"));
        for fine in ["/home/as2/share", "/home/as", "/mnt/efs_share"] {
            assert_eq!(told(fine), None, "{fine}");
        }
    }

    #[test]
    fn of_a_tunnel_it_is_not_said_that_no_share_has_it_where_the_config_cannot_be_read() {
        assert_eq!(without_share(None).1, UNMOUNT);
        for unread in [true, false] {
            let (what, cure) = without_share(Some(unread));
            assert!(!what.contains("no share of the config") && cure.ends_with("check"), "{what}");
        }
        assert!(without_share(Some(true)).0.contains("cannot be read"));
    }

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
