//! What a child does: the system calls that may block without end. It has a copy of its parent's
//! memory and one socket to it. It allocates nothing, decides nothing, and says what it saw in
//! messages.

use super::message::{LONGEST, MAY_WRITE, SET_MODE, code, halves, send};
use super::{is_as, is_of_rights, lets_all_write};
use crate::appstream::User;
use crate::share::mount_point::Parent;
use crate::share::plan::MountCall;
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, major, minor, stat};
use nix::sys::statfs::fstatfs;
use nix::unistd::{AccessFlags, faccessat, fchdir, read, sync, syncfs};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// No file system has this device.
pub(super) const NO_DEVICE: (u32, u32) = (u32::MAX, u32::MAX);

/// This is no NFS option and no address, so every kernel answers EINVAL.
const UNKNOWN_OPTION: &CStr = c"efs-agent-asks-whether-it-may";

/// Opens the folder `point`, or what is mounted there. It goes by the folder that was checked, and
/// follows no symlink.
fn open_point(point: &Parent, how: OFlag) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | how;
    openat(&*point.folder, point.name.as_c_str(), flags, Mode::empty())
}

/// Takes the host name that stands for the call's way, before mount(2). Returns 0, or the errno.
fn take_name(call: &MountCall) -> i32 {
    code(sys::take_host_name(&call.host_name))
}

/// Calls mount(2) on `point` and, if that has mounted something, looks at its root. Sends the errno
/// of opening the mount point and of taking the host name, what mount(2) returned, and its errno.
/// Then follows what [`visit`] sends.
pub(super) fn mount(parent: BorrowedFd<'_>, call: &MountCall, point: &Parent, mode: Option<u32>) {
    if let Err(errno) = open_point(point, OFlag::O_PATH).and_then(|target| fchdir(&target)) {
        return send(parent, [errno as i32, 0, 0, 0]);
    }
    let named = take_name(call);
    if named != 0 && call.is_tunnelled() {
        return send(parent, [0, named, 0, 0]);
    }

    let returned = sys::mount(&call.source, c".", c"nfs4", call.flags, &call.data);

    // ENOENT may also mean that the target was removed just now.
    let removed = || stat(c".").is_ok_and(|folder| folder.st_nlink == 0);
    let gone = returned == Err(Errno::ENOENT) && removed();
    let opened = if gone { Errno::ENOENT as i32 } else { 0 };
    send(parent, [opened, named, returned.unwrap_or(0), code(returned.map(drop))]);
    if returned == Ok(0) {
        visit(parent, point, mode);
    }
}

/// Calls mount(2) with an option that no kernel knows, and sends its errno.
pub(super) fn try_to_mount(parent: BorrowedFd<'_>, call: &MountCall, point: &Parent) {
    let there = match open_point(point, OFlag::O_PATH) {
        Ok(target) => fchdir(&target),
        Err(_) => fchdir(&*point.folder),
    };
    let tried =
        there.and_then(|()| sys::mount(&call.source, c".", c"nfs4", call.flags, UNKNOWN_OPTION));
    send(parent, [code(tried.map(drop))]);
}

/// Says what the root of the share at `point` is like, and does what the parent asks, until the parent hangs up. Sends
/// the errno of the last step (open, then chmod), owner, group, mode, device (two numbers) and the errno of writing.
/// Then it answers each question.
pub(super) fn visit(parent: BorrowedFd<'_>, point: &Parent, wanted: Option<u32>) {
    let mut set = Ok(());
    let root = open_point(point, OFlag::O_RDONLY).or_else(|errno| {
        set = Err(errno);
        if is_of_rights(errno) { open_point(point, OFlag::O_PATH) } else { Err(errno) }
    });
    let root = match root {
        Ok(root) => root,
        Err(errno) => return send(parent, [errno as i32, 0, 0, 0, 0, 0, 0]),
    };

    loop {
        let stat = match fstat(&root) {
            Ok(stat) => stat,
            Err(errno) => break send(parent, [errno as i32, 0, 0, 0, 0, 0, 0]),
        };
        let mode = stat.st_mode & 0o7777;

        // The mode allows it. What may still forbid it (a policy, a read-only export) forbids it to
        // root too.
        let writable = if lets_all_write(mode) { accessible(&root) } else { Ok(()) };
        let (major, minor) = device_of(&stat);
        let (uid, gid, mode_sent) = (stat.st_uid as i32, stat.st_gid as i32, mode as i32);
        send(parent, [code(set), uid, gid, mode_sent, major as i32, minor as i32, code(writable)]);
        if is_as(mode, wanted) && lets_all_write(mode) {
            break; // then nothing more is asked
        }

        let mut bytes = [0; LONGEST];
        let got = read(parent, &mut bytes).unwrap_or(0);
        let words = bytes.get(..got).unwrap_or_default().as_chunks::<4>().0;
        let mut words = words.iter().map(|word| i32::from_ne_bytes(*word));

        match (words.next(), words.next(), words.next()) {
            (Some(SET_MODE), Some(mode), None) => {
                set = fchmod(&root, Mode::from_bits_truncate(mode as u32));
            }
            (Some(MAY_WRITE), Some(uid), Some(gid)) => {
                let mut groups = [0; LONGEST / 4];
                let count =
                    groups.iter_mut().zip(words).map(|(to, from)| *to = from as u32).count();
                let groups = groups.get(..count).unwrap_or_default();
                send(parent, [code(may_write(&root, uid as u32, gid as u32, groups))]);
                break; // this process stands for that user now
            }
            _ => break,
        }
    }

    // The kernel closes all that a child has open when it ends.
    std::mem::forget(root);
}

/// Mounts in a private mount namespace, and looks at the root. Sends the errno of taking the host
/// name and of mount(2), owner, group, mode, errno of writing, and two devices. The second device
/// is that of `beside`, if its root has the same inode number.
pub(super) fn trial(
    parent: BorrowedFd<'_>,
    call: &MountCall,
    user: Option<&User>,
    beside: Option<&Parent>,
) {
    let named = take_name(call);
    if named != 0 && call.is_tunnelled() {
        return send(parent, [named, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    // This is opened before mount(2), because it may lie below the folder that is mounted on.
    let beside = beside.and_then(|point| open_point(point, OFlag::O_PATH).ok());
    let root = match mount_unseen(call) {
        Ok(root) => root,
        Err(errno) => return send(parent, [0, errno as i32, 0, 0, 0, 0, 0, 0, 0, 0]),
    };

    let here = fstat(&root).ok();
    let (uid, gid, mode, device) = here.as_ref().map_or((0, 0, 0, (0, 0)), |stat| {
        (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777, device_of(stat))
    });
    let same = beside.and_then(|beside| {
        let (there, here) = (fstat(&beside).ok()?, here?);
        (there.st_ino == here.st_ino).then(|| device_of(&there))
    });
    let same = same.unwrap_or(NO_DEVICE);
    let writable = user.map_or(Ok(()), |u| may_write(&root, u.uid, u.gid, &u.groups));
    let (uid, gid, mode) = (uid as i32, gid as i32, mode as i32);
    let [a, b, c, d] = [device.0, device.1, same.0, same.1].map(|number| number as i32);
    send(parent, [0, 0, uid, gid, mode, code(writable), a, b, c, d]);

    // The mount is there until the parent hangs up.
    let _ = read(parent, &mut [0]);
}

/// Mounts where nobody else sees it. Any folder serves.
fn mount_unseen(call: &MountCall) -> Result<OwnedFd, Errno> {
    let folder = c"/run";
    sys::private_mounts()?;
    match sys::mount(&call.source, folder, c"nfs4", call.flags, &call.data)? {
        0 => open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()),
        _ => Err(Errno::EINVAL),
    }
}

/// Calls syncfs(2) on the file system `device`, seen at `point`. Sends 0 if it is not seen there,
/// or 1 and the errno of syncfs(2). Sends 2 if its root could not be opened, and all file systems
/// were synced instead.
pub(super) fn flush(
    parent: BorrowedFd<'_>,
    point: &Parent,
    device: (u32, u32),
    user: Option<&User>,
) {
    let is_it = |root: &OwnedFd| sys::device_of(root.as_fd()).is_ok_and(|seen| seen == device);
    let Some(path) = open_point(point, OFlag::O_PATH).ok().filter(is_it) else {
        return send(parent, [0, 0]);
    };

    // The root is opened through the descriptor that is held, so it cannot be anything else.
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let open_root = || openat(&path, c".", flags, Mode::empty()).ok();
    let owner = fstat(&path).ok().map(|root| (root.st_uid, root.st_gid, [].as_slice()));
    let user = user.map(|user| (user.uid, user.gid, user.groups.as_slice()));
    let mut root = open_root();
    for (uid, gid, groups) in owner.into_iter().chain(user).filter(|(uid, ..)| *uid != 0) {
        if root.is_none() && sys::open_as(uid, gid, groups).is_ok() {
            root = open_root();
        }
    }

    match root {
        Some(root) => send(parent, [1, code(syncfs(&root))]),
        None => {
            sync();
            send(parent, [2, 0]);
        }
    }
}

/// Calls statfs(2) on the file system `device`, seen at `point`. Sends its errno, all bytes and the
/// free bytes (two numbers each).
pub(super) fn space(parent: BorrowedFd<'_>, point: &Parent, device: (u32, u32)) {
    // O_PATH is enough: a root that only its owner may read is up all the same.
    let seen = open_point(point, OFlag::O_PATH).and_then(|root| {
        if sys::device_of(root.as_fd())? != device {
            return Err(Errno::EXDEV);
        }
        let answer = fstatfs(&root)?;
        match open_point(point, OFlag::O_RDONLY) {
            Err(errno) if !is_of_rights(errno) => Err(errno),
            _ => Ok(answer),
        }
    });

    let (all, free) = seen.as_ref().map_or((0, 0), |s| {
        let size = s.block_size() as u64;
        (s.blocks().saturating_mul(size), s.blocks_available().saturating_mul(size))
    });
    let ([a, b], [c, d]) = (halves(all), halves(free));
    send(parent, [code(seen.map(drop)), a, b, c, d]);
}

/// Calls umount2(2) on the file system `device`, seen at `point`. Sends its errno; EXDEV if
/// something else is seen there.
pub(super) fn unmount(parent: BorrowedFd<'_>, point: &Parent, device: (u32, u32), how: MntFlags) {
    let root = open_point(point, OFlag::O_PATH);
    let is_it = match root.and_then(|root| sys::device_of(root.as_fd())) {
        Ok(seen) if seen != device => Err(Errno::EXDEV),
        // ESTALE: the root is gone from its server. Some kernels then let nobody look at it, but
        // take it away.
        Ok(_) | Err(Errno::ESTALE) => Ok(()),
        Err(errno) => Err(errno),
    };

    let gone = is_it
        .and_then(|()| fchdir(&*point.folder))
        .and_then(|()| umount2(point.name.as_c_str(), how | MntFlags::UMOUNT_NOFOLLOW));
    send(parent, [code(gone)]);
}

fn device_of(stat: &FileStat) -> (u32, u32) {
    (major(stat.st_dev) as u32, minor(stat.st_dev) as u32)
}

/// Whether a user may write in `root`. This process stands for that user from then on.
fn may_write(root: &OwnedFd, uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    sys::stand_for(uid, gid, groups)?;
    accessible(root)
}

/// Whether the server lets the user that this process stands for write in `root`.
fn accessible(root: &OwnedFd) -> Result<(), Errno> {
    faccessat(root, c".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::empty())
}
