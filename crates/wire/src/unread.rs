//! A buffer for stream bytes that decoders have not taken yet.

/// Maximum number of taken bytes before the rest is moved to the front.
const MAX_TAKEN: usize = 64 << 10;

/// A buffer that is filled at its end and emptied at its front.
#[derive(Debug, Default)]
pub(crate) struct UnreadBuffer {
    bytes: Vec<u8>,
    taken: usize,
}

impl UnreadBuffer {
    /// Appends bytes of the stream. To keep the buffer small, take everything before the next call.
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

    /// The bytes that are not taken yet.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Marks this many bytes as taken.
    pub(crate) fn take(&mut self, length: usize) {
        self.taken += length;
    }
}
