//! gzip on every processor.

use super::deflate::{BLOCK, DeflatePiece, END, Pool, Squeezed};
use crc32fast::Hasher;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::Receiver;

/// Compresses what is written.
pub(crate) struct Gzip<W: Write> {
    out: W,
    pool: Pool,
    queue: VecDeque<Receiver<Vec<Squeezed>>>,
    block: Vec<u8>,
    crc: Hasher,
    length: u64,
}

impl<W: Write> Gzip<W> {
    pub(crate) fn new(mut out: W) -> io::Result<Self> {
        // Deflate, no name, no time, any system.
        out.write_all(&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF])?;
        Ok(Gzip {
            out,
            pool: Pool::new()?,
            queue: VecDeque::new(),
            block: Vec::new(),
            crc: Hasher::new(),
            length: 0,
        })
    }

    /// Completes the stream. Returns the inner writer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.cut()?;
        self.take(0)?;
        self.out.write_all(&END)?;
        self.out.write_all(&self.crc.clone().finalize().to_le_bytes())?;
        // The low 32 bits of the length.
        self.out.write_all(&self.length.to_le_bytes()[..4])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn cut(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
            self.queue.push_back(self.pool.squeeze(vec![block], DeflatePiece::Block));
        }
        self.take(self.pool.depth())
    }

    fn take(&mut self, most: usize) -> io::Result<()> {
        while self.queue.len() > most {
            let Some(first) = self.queue.pop_front() else { break };
            for squeezed in super::wait(&first)? {
                self.crc.combine(&squeezed.crc);
                self.length += squeezed.length as u64;
                self.out.write_all(&squeezed.bytes)?;
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..now]);
        if self.block.len() == BLOCK {
            self.cut()?;
        }
        Ok(now)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
