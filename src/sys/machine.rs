//! What the kernel says about itself and this machine's name. What follows from it is decided elsewhere.
#![forbid(unsafe_code)]

use nix::sys::utsname::uname;

/// The running kernel's release, as `uname -r` shows it; "unknown" if the kernel does not say.
pub fn kernel_release() -> String {
    uname().map_or("unknown".into(), |name| name.release().to_string_lossy().into())
}

/// The machine's host name; empty if the kernel does not say.
pub fn host_name() -> String {
    uname().map_or_else(|_| String::new(), |name| name.nodename().to_string_lossy().into())
}

/// Whether a kernel's release (`uname -r`) is that version or a later one.
pub fn is_at_least(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(['.', '-']).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}
