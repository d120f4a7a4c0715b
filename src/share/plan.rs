//! A share and an address become the arguments of mount(2). Pure.

use crate::config::Share;
use std::ffi::CString;
use std::net::IpAddr;

/// The arguments of one mount(2) call, except for the target, which is an open descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountCall {
    /// `server:path`: the name, so that `df` shows it; the address is in the data.
    pub source: CString,
    /// MS_* bits.
    pub flags: u64,
    /// NFS options with `addr=`.
    pub data: CString,
    /// The address that `addr=` names, for messages.
    pub address: IpAddr,
}

/// The call that mounts `share` from `address`.
pub fn mount_call(share: &Share, address: IpAddr) -> MountCall {
    // The config refuses control characters, so no string holds a NUL.
    let c = |text: String| CString::new(text).unwrap_or_default();
    MountCall {
        source: c(share.source()),
        flags: share.options.flags,
        data: c(share.options.data(address)),
        address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use std::path::Path;

    #[test]
    fn the_source_keeps_the_name_and_the_data_holds_the_address() {
        let text = "[[share]]\nendpoint = \"fs-1.example\"\npath = \"/home\"\noptions = \"ro\"\n";
        let share = Settings::parse(Path::new("c"), text).unwrap().shares.remove(0);
        let call = mount_call(&share, "2001:db8::1".parse().unwrap());
        assert_eq!(call.source.to_str().unwrap(), "fs-1.example:/home");
        assert!(call.data.to_str().unwrap().ends_with(",noresvport,addr=2001:db8::1"));
        assert_eq!(call.flags & nix::libc::MS_RDONLY, nix::libc::MS_RDONLY);
    }
}
