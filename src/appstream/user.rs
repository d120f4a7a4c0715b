//! The streaming user's account. The account files are read here, as a static binary has no name services of libc.

use crate::files;
use std::path::Path;

/// The local account that every streaming session runs as.
pub const STREAMING_USER: &str = "as2-streaming-user";

/// A local account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// The streaming user's account, if this machine has one. `root` is `/` outside of tests.
pub fn streaming_user(root: &Path) -> Option<User> {
    let passwd = text(&root.join("etc/passwd"))?;
    let group = text(&root.join("etc/group")).unwrap_or_default();
    user(STREAMING_USER, &passwd, &group)
}

fn text(path: &Path) -> Option<String> {
    // One byte that is not UTF-8, in somebody's full name, must not hide the account.
    files::whole(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The account `name` in the texts of the two files. Lines that cannot be read are passed over.
pub(crate) fn user(name: &str, passwd: &str, group: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }

        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        Some(User { name: name.to_owned(), uid, gid, groups: groups(name, group) })
    })
}

fn groups(name: &str, group: &str) -> Vec<u32> {
    group
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let gid = id(fields.nth(2)?)?;
            fields.next()?.split(',').any(|member| member == name).then_some(gid)
        })
        .collect()
}

/// -1 is no id: to setresuid(2) it means "leave it as it is", which would be root.
fn id(field: &str) -> Option<u32> {
    field.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_found_by_name_with_its_groups() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbad\nas2:x:5:5:::\nas2-streaming-user:x:1001:1002:S:/home/s:/bin/bash\n";
        let group = "wheel:x:10:root\naudio:x:63:a,as2-streaming-user\nvideo:x:39:as2-streaming-user2\nbad\n";
        let expected = User { name: STREAMING_USER.into(), uid: 1001, gid: 1002, groups: vec![63] };
        assert_eq!(user(STREAMING_USER, passwd, group), Some(expected));
        assert_eq!(user("nobody", passwd, group), None);
        assert_eq!(user("bad", passwd, group), None);
    }

    #[test]
    fn minus_one_is_no_id() {
        let passwd = "a:x:4294967295:5::/:\na:x:5:4294967295::/:\n";
        assert_eq!(user("a", passwd, ""), None);
        let passwd = format!("{passwd}a:x:6:7::/:\n");
        let expected = User { name: "a".into(), uid: 6, gid: 7, groups: vec![] };
        assert_eq!(user("a", &passwd, "g:x:4294967295:a\n"), Some(expected));
    }
}
