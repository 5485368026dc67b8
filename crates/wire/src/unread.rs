//! Bytes of a stream that have come and are not taken yet: what decoders cut from.

/// How much may have been taken before the rest is moved to the front.
const MAX_TAKEN: usize = 64 << 10;

/// A buffer that is filled at its end and emptied at its front.
#[derive(Debug, Default)]
pub(crate) struct UnreadBuffer {
    bytes: Vec<u8>,
    taken: usize,
}

impl UnreadBuffer {
    /// Takes the next bytes of the stream. Take out all that is there to keep it small.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.taken > 0 && self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        } else if self.taken > MAX_TAKEN {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// What is there.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// So many of it are done with.
    pub(crate) fn take(&mut self, length: usize) {
        self.taken += length;
    }
}
