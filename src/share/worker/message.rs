//! What a child and its parent say to each other. A message is an array of numbers, so that nothing
//! is allocated in the child. Only the sender and the reader know the meaning of the numbers.

use crate::sys;
use nix::errno::Errno;
use std::os::fd::BorrowedFd;

/// The longest message, in bytes. A user in many groups makes it.
pub(super) const LONGEST: usize = 1024;
/// The parent asks a child that has looked at a root to set the mode that follows.
pub(super) const SET_MODE: i32 = 1;
/// The parent asks whether a user may write. The user's id, group and further groups follow.
pub(super) const MAY_WRITE: i32 = 2;

pub(super) fn send<const N: usize>(to: BorrowedFd<'_>, message: [i32; N]) {
    let mut bytes = [0; LONGEST];
    for (chunk, number) in bytes.chunks_exact_mut(4).zip(message) {
        chunk.copy_from_slice(&number.to_ne_bytes());
    }
    sys::reply(to, bytes.get(..4 * N).unwrap_or_default());
}

/// The numbers of a message that has `N` of them; `None` for any other message.
pub(super) fn received<const N: usize>(bytes: &[u8]) -> Option<[i32; N]> {
    let mut message = [0; N];
    let (chunks, rest) = bytes.as_chunks::<4>();
    if chunks.len() != N || !rest.is_empty() {
        return None;
    }
    for (number, chunk) in message.iter_mut().zip(chunks) {
        *number = i32::from_ne_bytes(*chunk);
    }
    Some(message)
}

/// A result as a number: 0, or the errno.
pub(super) fn code(result: Result<(), Errno>) -> i32 {
    result.err().map_or(0, |errno| errno as i32)
}

pub(super) fn result(code: i32) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(Errno::from_raw(code)) }
}

/// A long number as two.
pub(super) fn halves(n: u64) -> [i32; 2] {
    [(n >> 32) as i32, n as i32]
}

pub(super) fn whole([high, low]: [i32; 2]) -> u64 {
    u64::from(high as u32) << 32 | u64::from(low as u32)
}
