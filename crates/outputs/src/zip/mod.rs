//! Writes ZIP files sequentially while all processors deflate.
//!
//! Used for artifacts. Memory is bounded, whatever the number and size of the files. Files whose
//! compressed form fits into memory have their sizes in the header, which every reader accepts;
//! those of other files follow the data. Beyond 65 535 files or 4 GiB the ZIP becomes a ZIP64.

mod deflate;
mod gzip;

pub(crate) use gzip::Gzip;

use crc32fast::Hasher;
use deflate::{BLOCK, DeflatePiece, END, Pool, Squeezed};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::Receiver;

/// Small files are compressed together, up to this many bytes or files.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_FILES: usize = 512;
/// Compressed bytes of one file held until its sizes are known.
const HELD: usize = 32 << 20;
/// A file expected to be this large gets a 64-bit size field.
const LARGE: u64 = 3 << 30;
const MAX_32: u64 = 0xFFFF_FFFF;
const MAX_16: u64 = 0xFFFF;

#[derive(Clone, Debug)]
pub(crate) struct ZipMember {
    /// Any bytes; components are separated by slashes.
    pub name: Vec<u8>,
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Seconds since 1970.
    pub modified: i64,
    /// Expected size in bytes.
    pub size: u64,
}

/// Writes a ZIP.
pub(crate) struct ZipWriter<W> {
    out: W,
    at: u64,
    pool: Pool,
    queue: VecDeque<Pending>,
    /// Small files not handed out yet.
    batch: Vec<(ZipMember, Vec<u8>)>,
    batch_bytes: usize,
    current: Option<CurrentMember>,
    open: Option<OpenMember>,
    directory: Vec<u8>,
    files: u64,
}

struct CurrentMember {
    member: ZipMember,
    bytes: Vec<u8>,
    /// Whether a first block of it was handed out.
    is_cut: bool,
}

/// Work handed out, in file order.
enum Pending {
    Batch(Vec<ZipMember>, Receiver<Vec<Squeezed>>),
    Begin(ZipMember),
    Block(Receiver<Vec<Squeezed>>),
    End,
}

/// A large file being written.
struct OpenMember {
    member: ZipMember,
    crc: Hasher,
    length: u64,
    squeezed: u64,
    held: Vec<Vec<u8>>,
    /// Offset of its header, if it was written.
    header: Option<u64>,
}

impl<W: Write> ZipWriter<W> {
    pub(crate) fn new(out: W) -> io::Result<Self> {
        Ok(ZipWriter {
            out,
            at: 0,
            pool: Pool::new()?,
            queue: VecDeque::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            current: None,
            open: None,
            directory: Vec::new(),
            files: 0,
        })
    }

    /// Begins a file; the previous one must have been ended.
    pub(crate) fn begin(&mut self, member: ZipMember) -> io::Result<()> {
        if member.name.len() as u64 > MAX_16 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a ZIP allows no longer names",
            ));
        }
        self.current = Some(CurrentMember { member, bytes: Vec::new(), is_cut: false });
        Ok(())
    }

    /// Adds bytes to the current file.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some(current) = &mut self.current else { return Ok(()) };
            let room = BLOCK - current.bytes.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            current.bytes.extend_from_slice(now);
            bytes = rest;
            if current.bytes.len() == BLOCK {
                self.cut()?;
            }
        }
        Ok(())
    }

    /// Ends the current file.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        if current.is_cut {
            if !current.bytes.is_empty() {
                let block = self.pool.squeeze(vec![current.bytes], DeflatePiece::Block);
                self.queue.push_back(Pending::Block(block));
            }
            self.queue.push_back(Pending::End);
        } else {
            self.batch_bytes += current.bytes.len();
            self.batch.push((current.member, current.bytes));
            if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_FILES {
                self.send_batch();
            }
        }
        self.take(self.pool.depth())
    }

    /// Completes the ZIP. Returns the inner writer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.send_batch();
        self.take(0)?;
        let (start, length) = (self.at, self.directory.len() as u64);
        let directory = std::mem::take(&mut self.directory);
        self.put(&directory)?;
        let mut end = Vec::new();
        if self.files >= MAX_16 || start >= MAX_32 || length >= MAX_32 {
            let place = self.at;
            // The ZIP64 end record and its locator.
            end.extend_from_slice(b"PK\x06\x06");
            end.extend_from_slice(&44_u64.to_le_bytes());
            end.extend_from_slice(&[45, 3, 45, 0]);
            end.extend_from_slice(&[0; 8]);
            for value in [self.files, self.files, length, start] {
                end.extend_from_slice(&value.to_le_bytes());
            }
            end.extend_from_slice(b"PK\x06\x07");
            end.extend_from_slice(&[0; 4]);
            end.extend_from_slice(&place.to_le_bytes());
            end.extend_from_slice(&1_u32.to_le_bytes());
        }
        end.extend_from_slice(b"PK\x05\x06");
        end.extend_from_slice(&[0; 4]);
        let files = low_16(self.files);
        end.extend_from_slice(&files);
        end.extend_from_slice(&files);
        end.extend_from_slice(&low_32(length));
        end.extend_from_slice(&low_32(start));
        end.extend_from_slice(&[0; 2]);
        self.put(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Hands out a block of the current file.
    fn cut(&mut self) -> io::Result<()> {
        // Files keep their order.
        self.send_batch();
        let Some(current) = &mut self.current else { return Ok(()) };
        let bytes = std::mem::replace(&mut current.bytes, Vec::with_capacity(BLOCK));
        if !current.is_cut {
            current.is_cut = true;
            self.queue.push_back(Pending::Begin(current.member.clone()));
        }
        let block = self.pool.squeeze(vec![bytes], DeflatePiece::Block);
        self.queue.push_back(Pending::Block(block));
        self.take(self.pool.depth())
    }

    fn send_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.batch_bytes = 0;
        let (members, pieces) = std::mem::take(&mut self.batch).into_iter().unzip();
        let squeezed = self.pool.squeeze(pieces, DeflatePiece::Whole);
        self.queue.push_back(Pending::Batch(members, squeezed));
    }

    /// Writes the oldest results until no more than `most` are outstanding.
    fn take(&mut self, most: usize) -> io::Result<()> {
        while self.queue.len() > most {
            let Some(first) = self.queue.pop_front() else { break };
            match first {
                Pending::Batch(members, squeezed) => {
                    for (member, squeezed) in members.iter().zip(wait(&squeezed)?) {
                        self.small(member, &squeezed)?;
                    }
                }
                Pending::Begin(member) => {
                    self.open = Some(OpenMember {
                        member,
                        crc: Hasher::new(),
                        length: 0,
                        squeezed: 0,
                        held: Vec::new(),
                        header: None,
                    });
                }
                Pending::Block(squeezed) => {
                    for squeezed in wait(&squeezed)? {
                        self.block(squeezed)?;
                    }
                }
                Pending::End => self.close()?,
            }
        }
        Ok(())
    }

    fn small(&mut self, member: &ZipMember, squeezed: &Squeezed) -> io::Result<()> {
        let entry = CentralEntry {
            member,
            crc: squeezed.crc.clone().finalize(),
            length: squeezed.length as u64,
            squeezed: squeezed.bytes.len() as u64,
            is_deflated: squeezed.is_deflated,
            at: self.at,
            sizes_follow: false,
        };
        self.put(&entry.local())?;
        self.put(&squeezed.bytes)?;
        self.list(&entry);
        Ok(())
    }

    fn block(&mut self, squeezed: Squeezed) -> io::Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.crc.combine(&squeezed.crc);
        open.length += squeezed.length as u64;
        open.squeezed += squeezed.bytes.len() as u64;
        open.held.push(squeezed.bytes);
        if open.header.is_some() || open.squeezed > HELD as u64 {
            if open.header.is_none() {
                open.header = Some(self.at);
                let header = open.entry(self.at).local();
                self.put(&header)?;
            }
            for bytes in open.held.drain(..) {
                self.put(&bytes)?;
            }
        }
        self.open = Some(open);
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.squeezed += END.len() as u64;
        let entry = open.entry(open.header.unwrap_or(self.at));
        if open.header.is_none() {
            let header = entry.local();
            self.put(&header)?;
            for bytes in &open.held {
                self.put(bytes)?;
            }
        }
        self.put(&END)?;
        if open.header.is_some() {
            if !entry.is_large() && open.length.max(open.squeezed) >= MAX_32 {
                let text = "it has grown beyond 4 GiB while it was read";
                return Err(io::Error::other(text));
            }
            let sizes = entry.sizes();
            self.put(&sizes)?;
        }
        self.list(&entry);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn list(&mut self, entry: &CentralEntry<'_>) {
        self.files += 1;
        self.directory.extend_from_slice(&entry.central());
    }
}

fn wait(squeezed: &Receiver<Vec<Squeezed>>) -> io::Result<Vec<Squeezed>> {
    squeezed.recv().map_err(|_| io::Error::other("a thread that deflates has ended"))
}

impl OpenMember {
    fn entry(&self, at: u64) -> CentralEntry<'_> {
        CentralEntry {
            member: &self.member,
            crc: self.crc.clone().finalize(),
            length: self.length,
            squeezed: self.squeezed,
            is_deflated: true,
            at,
            sizes_follow: self.header.is_some(),
        }
    }
}

/// A file as the ZIP's structures describe it.
struct CentralEntry<'m> {
    member: &'m ZipMember,
    crc: u32,
    length: u64,
    squeezed: u64,
    is_deflated: bool,
    at: u64,
    /// Whether checksum and sizes follow the data.
    sizes_follow: bool,
}

impl CentralEntry<'_> {
    /// Whether its local header needs 64-bit sizes.
    fn is_large(&self) -> bool {
        if self.sizes_follow {
            return self.member.size >= LARGE;
        }
        self.length >= MAX_32 || self.squeezed >= MAX_32
    }

    /// The local header.
    fn local(&self) -> Vec<u8> {
        let mut header = b"PK\x03\x04".to_vec();
        header.extend_from_slice(&self.common());
        let (crc, squeezed, length) = match (self.sizes_follow, self.is_large()) {
            (true, large) => (0, if large { MAX_32 } else { 0 }, if large { MAX_32 } else { 0 }),
            (false, true) => (self.crc, MAX_32, MAX_32),
            (false, false) => (self.crc, self.squeezed, self.length),
        };
        header.extend_from_slice(&crc.to_le_bytes());
        header.extend_from_slice(&low_32(squeezed));
        header.extend_from_slice(&low_32(length));
        let mut extra = self.times();
        if self.is_large() {
            let sizes = if self.sizes_follow { [0, 0] } else { [self.length, self.squeezed] };
            extra.extend_from_slice(&wide(&sizes));
        }
        self.name_and(&mut header, &extra);
        header.extend_from_slice(&self.member.name);
        header.extend_from_slice(&extra);
        header
    }

    /// The central directory entry.
    fn central(&self) -> Vec<u8> {
        let mut header = b"PK\x01\x02".to_vec();
        // Made on Unix.
        header.extend_from_slice(&[45, 3]);
        header.extend_from_slice(&self.common());
        header.extend_from_slice(&self.crc.to_le_bytes());
        header.extend_from_slice(&low_32(self.squeezed));
        header.extend_from_slice(&low_32(self.length));
        let mut extra = self.times();
        let beyond = [self.length, self.squeezed, self.at].map(|v| (v >= MAX_32).then_some(v));
        let beyond: Vec<u64> = beyond.into_iter().flatten().collect();
        if !beyond.is_empty() {
            extra.extend_from_slice(&wide(&beyond));
        }
        self.name_and(&mut header, &extra);
        // Comment, disk, internal attributes.
        header.extend_from_slice(&[0; 6]);
        header.extend_from_slice(&(self.member.mode << 16).to_le_bytes());
        header.extend_from_slice(&low_32(self.at));
        header.extend_from_slice(&self.member.name);
        header.extend_from_slice(&extra);
        header
    }

    /// The data descriptor, for sizes that were not known in advance.
    fn sizes(&self) -> Vec<u8> {
        let mut sizes = b"PK\x07\x08".to_vec();
        sizes.extend_from_slice(&self.crc.to_le_bytes());
        for value in [self.squeezed, self.length] {
            match self.is_large() {
                true => sizes.extend_from_slice(&value.to_le_bytes()),
                false => sizes.extend_from_slice(&low_32(value)),
            }
        }
        sizes
    }

    /// Version needed, flags, method, time.
    fn common(&self) -> Vec<u8> {
        let is_large = self.is_large() || self.at >= MAX_32;
        let is_unicode = !self.member.name.is_ascii() && str::from_utf8(&self.member.name).is_ok();
        let flags = u16::from(self.sizes_follow) << 3 | u16::from(is_unicode) << 11;
        let mut common = vec![if is_large { 45 } else { 20 }, 0];
        common.extend_from_slice(&flags.to_le_bytes());
        common.extend_from_slice(&(u16::from(self.is_deflated) * 8).to_le_bytes());
        common.extend_from_slice(&dos_time(self.member.modified));
        common
    }

    /// The modification time, in seconds, without a time zone.
    fn times(&self) -> Vec<u8> {
        match i32::try_from(self.member.modified) {
            Ok(modified) => [&b"UT\x05\x00\x01"[..], &modified.to_le_bytes()].concat(),
            Err(_) => Vec::new(),
        }
    }

    fn name_and(&self, header: &mut Vec<u8>, extra: &[u8]) {
        header.extend_from_slice(&low_16(self.member.name.len() as u64));
        header.extend_from_slice(&low_16(extra.len() as u64));
    }
}

/// Sizes of 64 bits.
fn wide(values: &[u64]) -> Vec<u8> {
    let mut extra = vec![1, 0];
    extra.extend_from_slice(&low_16(values.len() as u64 * 8));
    values.iter().for_each(|value| extra.extend_from_slice(&value.to_le_bytes()));
    extra
}

/// A value in two bytes, or the marker that it is stored elsewhere.
fn low_16(value: u64) -> [u8; 2] {
    u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes()
}

/// A value in four bytes, or the marker that it is stored elsewhere.
fn low_32(value: u64) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes()
}

/// A time in MS-DOS format, in UTC as in builds: time of day, then date.
fn dos_time(modified: i64) -> [u8; 4] {
    let time = jiff::Timestamp::from_second(modified).unwrap_or_default();
    let time = time.to_zoned(jiff::tz::TimeZone::UTC);
    let small = |value: i8| u16::try_from(value).unwrap_or(0);
    let (time_of_day, date) = match u16::try_from(time.year()).unwrap_or(0) {
        year @ 1980..=2107 => (
            small(time.hour()) << 11 | small(time.minute()) << 5 | (small(time.second()) / 2),
            (year - 1980) << 9 | small(time.month()) << 5 | small(time.day()),
        ),
        // The format covers 1 January 1980 to the end of 2107.
        0..1980 => (0, 1 << 5 | 1),
        _ => (23 << 11 | 59 << 5 | 29, 127 << 9 | 12 << 5 | 31),
    };
    let [a, b] = time_of_day.to_le_bytes();
    let [c, d] = date.to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a folder of the test's own")]
mod tests;
