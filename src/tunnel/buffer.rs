//! A byte queue of fixed size, allocated once: filled at the back, consumed at the front. What the bytes mean is not
//! known here.

/// Content up to this length is moved to the front to make room. An incomplete record is never longer.
const LITTLE: usize = 20 << 10;

/// The room, and which part of it is filled.
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer for `size` bytes. The system gives it memory only as it is filled.
    pub fn new(size: usize) -> Self {
        Self { bytes: vec![0; size].into_boxed_slice(), start: 0, end: 0 }
    }

    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The first `n` bytes of what is in it, or all.
    pub fn first(&mut self, n: usize) -> &mut [u8] {
        let end = self.end.min(self.start + n);
        self.bytes.get_mut(self.start..end).unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The room behind the content. If the content is short, it is moved to the front first; to move much would cost more
    /// than to wait until it is consumed.
    pub fn room(&mut self) -> &mut [u8] {
        if self.moves() {
            self.make_room();
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Moves the content to the front, however long it is. Says whether there is room behind it now.
    pub fn make_room(&mut self) -> bool {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.end < self.bytes.len()
    }

    fn moves(&self) -> bool {
        self.start > 0 && self.len() <= LITTLE
    }

    /// How many bytes there is room for now.
    pub fn space(&self) -> usize {
        if self.moves() { self.bytes.len() - self.len() } else { self.bytes.len() - self.end }
    }

    /// Counts `n` bytes that were written into the room as content.
    pub fn add(&mut self, n: usize) {
        self.end = self.bytes.len().min(self.end + n);
    }

    /// Removes the first `n` bytes.
    pub fn consume(&mut self, n: usize) {
        self.start = self.end.min(self.start + n);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Appends `bytes`. If they do not fit, it appends nothing and gives `false`.
    #[must_use]
    pub fn put(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.room().get_mut(..bytes.len()) else {
            return false;
        };
        room.copy_from_slice(bytes);
        self.add(bytes.len());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn what_goes_in_comes_out_in_order_whatever_the_pieces() {
        const SIZE: usize = 100_000;
        let mut buffer = Buffer::new(SIZE);
        let mut model = VecDeque::new();
        let mut next = 0u8;
        for step in 0..10_000 {
            let random = crate::sys::random();
            let n = (random >> 8) as usize % 30_000;
            if random & 1 == 0 {
                let bytes: Vec<u8> = (0..n).map(|i| next.wrapping_add(i as u8)).collect();
                let fits = n <= buffer.space();
                assert_eq!(buffer.put(&bytes), fits, "step {step}");
                if fits {
                    next = next.wrapping_add(n as u8);
                    model.extend(bytes);
                }
            } else {
                buffer.consume(n);
                model.drain(..n.min(model.len()));
            }
            assert!(buffer.filled() == model.make_contiguous());
            assert_eq!((buffer.len(), buffer.is_empty()), (model.len(), model.is_empty()));
            assert_eq!(buffer.first(n).len(), n.min(model.len()));
            if random & 0xff00_0000 == 0 {
                assert_eq!(buffer.make_room(), model.len() < SIZE);
                assert_eq!(buffer.space(), SIZE - model.len());
            }
            let space = buffer.space();
            assert_eq!(buffer.room().len(), space);
            if model.len() <= LITTLE {
                assert_eq!(space, SIZE - model.len(), "all that is free can be had in one piece");
            }
        }
    }
}
