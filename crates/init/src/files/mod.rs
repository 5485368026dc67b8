//! Reads and writes files for the runner: lists and sends trees, receives and creates trees.
//!
//! The runner starts it in the container like any program, so every path means what it means there
//! and every access has the container's rights. Requests come on standard input, replies go to
//! standard output (`abi::files`); it ends with its input. Everything happens below a root, name by
//! name, and links are followed only on request; no FIFO or device is ever opened.

mod output;
mod places;
mod requests;
mod take;
mod tell;

use crate::abi::files::{FACTS_LEN, FileFacts, is_path, request, root, stage};
use crate::abi::u32_at;
use crate::sys::{self, Errno};
use output::OutputBuffer;
use places::PlaceCache;
use requests::RequestBuffer;
use take::Taker;
use tell::TreeLister;

const OK: i32 = 0;
const FAILED: i32 = 1;

/// Runs the program and returns its exit code.
pub(crate) fn run() -> i32 {
    // New files get exactly the requested mode.
    sys::umask(0);
    sys::nodes::raise_descriptor_limit();
    let (Ok(mut requests), Ok(mut output), Ok(mut teller)) =
        (RequestBuffer::new(), OutputBuffer::new(), TreeLister::new())
    else {
        sys::complain(b"runner-files: no memory\n");
        return FAILED;
    };
    let mut places = PlaceCache::new();
    let mut taker = Taker::new();
    while let Some((kind, body)) = requests.next(&mut output) {
        match kind {
            request::ROOT => open_root(&mut places, &mut output, body),
            request::SYNC => output.sync(),
            // Without a root the other requests make no sense; the failure has been reported.
            _ if !places.has_root() => {}
            request::SELECT => {
                let flags = u32_at(body, 0).unwrap_or(0);
                teller.select(&mut places, &mut output, flags, body.get(4..).unwrap_or_default());
            }
            request::DATA => taker.data(&mut places, &mut output, body),
            request::HOLE => {
                let length = crate::abi::u64_at(body, 0).unwrap_or(0);
                taker.hole(&mut places, &mut output, length);
            }
            request::END => taker.end(&mut places, &mut output),
            request::ABANDON => taker.abandon(&mut places),
            request::REMOVE => taker.remove(&mut places, &mut output, body),
            request::MAKE | request::LINK | request::SET => match NodeRequest::read(body) {
                Some(node) => taker.take(&mut places, &mut output, kind, &node),
                None => output.failed(stage::REQUEST, Errno::INVAL, b""),
            },
            _ => output.failed(stage::REQUEST, Errno::INVAL, b""),
        }
    }
    taker.abandon(&mut places);
    output.flush();
    OK
}

fn open_root(places: &mut PlaceCache, output: &mut OutputBuffer, body: &[u8]) {
    let flags = u32_at(body, 0).unwrap_or(0);
    let path = body.get(4..).unwrap_or_default();
    match places.open_root(path, flags & root::CREATE != 0) {
        Ok(stat) => output.root(&stat),
        Err(errno) => output.failed(stage::ROOT, errno, b""),
    }
}

/// Body of a request to make a file, directory, link or device.
struct NodeRequest<'a> {
    flags: u32,
    facts: FileFacts,
    path: &'a [u8],
    /// A link's target, or the file that gets another name.
    target: &'a [u8],
}

impl<'a> NodeRequest<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let flags = u32_at(body, 0)?;
        let facts = FileFacts::from_body(body.get(4..)?)?;
        let rest = &body[4 + FACTS_LEN..];
        let (path, target) = rest.split_at_checked(facts.path_len as usize)?;
        (path.is_empty() || is_path(path)).then_some(NodeRequest { flags, facts, path, target })
    }
}
