//! `codebuild-tests-run --test-command C --files-search S`: one build's part of the tests.
//!
//! S lists the files; C is run with this build's part of them appended. The part is in a file of
//! the runner, beside this program's directory; a build outside of a fanout runs all files. A shell
//! script does the shell's part, and calls this program again to choose and to quote.

use crate::abi::SHARD_NAME;
use crate::digits;
use crate::listing::NameList;
use crate::path::PATH_MAX;
use crate::place;
use crate::strings::Strings;
use crate::sys::{self, Errno, Fd, Pages};
use core::ffi::CStr;
use core::mem::ManuallyDrop;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NO_SHELL: i32 = 127;

/// Its arguments are the test command, the search and the strategy; its name is this program.
const SCRIPT: &CStr = c"found=$(eval \"$2\")
[ -n \"$found\" ] || { echo 'codebuild-tests-run: --files-search has found no files' >&2; exit 1; }
CODEBUILD_CURRENT_SHARD_FILES=$(printf '%s\\n' \"$found\" | \"$0\" --part \"$3\") || exit 1
export CODEBUILD_CURRENT_SHARD_FILES
set -- \"$1\" \"$(printf '%s\\n' \"$CODEBUILD_CURRENT_SHARD_FILES\" | \"$0\" --quoted)\"
unset found
eval \"$1 $2\"";

/// How files are divided among the builds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strategy {
    /// The same number for each, in the order of their names.
    Equal,
    /// By each file's own name, so that an additional file moves no other.
    Stable,
}

impl Strategy {
    fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"equal-distribution" => Some(Strategy::Equal),
            b"stability" => Some(Strategy::Stable),
            _ => None,
        }
    }
}

/// Runs the program and returns its exit code.
pub(crate) fn run(name: &'static [u8], mut arguments: Strings, environment: &Strings) -> i32 {
    let mut asked = Arguments { command: None, search: None, strategy: c"equal-distribution" };
    while let Some(argument) = arguments.next() {
        match argument {
            b"--part" => return arguments.next().and_then(Strategy::named).map_or(USAGE, part),
            b"--quoted" => return quoted(),
            _ => {}
        }
        if !asked.take(argument, &mut arguments) {
            return usage();
        }
    }
    let Arguments { command: Some(command), search: Some(search), strategy } = asked else {
        return usage();
    };
    let name = c_string(name);
    let strings = [c"sh", c"-c", SCRIPT, name, command, search, strategy];
    let mut argv = [0_usize; 8];
    for (place, string) in argv.iter_mut().zip(strings) {
        *place = string.as_ptr() as usize;
    }
    // SAFETY: the array holds C strings and ends in 0; the variables are as the kernel left them.
    let errno = unsafe { sys::execute(b"/bin/sh\0", argv.as_ptr(), environment.as_ptr()) };
    sys::complain(if errno == Errno::NOENT {
        b"codebuild-tests-run: there is no /bin/sh\n"
    } else {
        b"codebuild-tests-run: /bin/sh cannot be run\n"
    });
    NO_SHELL
}

fn usage() -> i32 {
    sys::complain(
        b"usage: codebuild-tests-run --test-command COMMAND --files-search COMMAND \
          [--sharding-strategy equal-distribution|stability]\n",
    );
    USAGE
}

/// The options.
struct Arguments {
    command: Option<&'static CStr>,
    search: Option<&'static CStr>,
    strategy: &'static CStr,
}

impl Arguments {
    /// Takes an option with its value, which is the next argument or follows `=`. Returns whether
    /// the option exists.
    fn take(&mut self, argument: &'static [u8], rest: &mut Strings) -> bool {
        let equals = argument.iter().position(|&byte| byte == b'=');
        let (name, value) = match equals {
            Some(at) => (&argument[..at], Some(&argument[at + 1..])),
            None => (argument, rest.next()),
        };
        let Some(value) = value else { return false };
        match name {
            b"--test-command" => self.command = Some(c_string(value)),
            b"--files-search" => self.search = Some(c_string(value)),
            b"--sharding-strategy" if Strategy::named(value).is_some() => {
                self.strategy = c_string(value);
            }
            _ => return false,
        }
        true
    }
}

/// An argument, or the end of one, with its NUL.
fn c_string(argument: &'static [u8]) -> &'static CStr {
    // SAFETY: the kernel leaves C strings on the stack, which end right after their bytes.
    unsafe { CStr::from_ptr(argument.as_ptr().cast()) }
}

/// Writes this build's files out of those on standard input.
fn part(strategy: Strategy) -> i32 {
    let Some(mut files) = lines() else { return FAILED };
    files.sort(0);
    let (index, count) = shard().unwrap_or((0, 1));
    let total = files.len();
    let mut has_any = false;
    for at in 0..total {
        let is_double = at > 0 && {
            let mut before = [0; PATH_MAX];
            let length = copy(files.get(at - 1), &mut before);
            files.get(at) == &before[..length]
        };
        let file = files.get(at);
        let file = &file[..file.len() - 1];
        let is_ours = match strategy {
            Strategy::Equal => is_in_run(at, total, index, count),
            Strategy::Stable => rendezvous(file, count) == index,
        };
        if is_ours && !is_double && !file.is_empty() {
            has_any = true;
            sys::say(file);
            sys::say(b"\n");
        }
    }
    if has_any {
        return 0;
    }
    sys::complain(b"codebuild-tests-run: no test files for this shard\n");
    FAILED
}

fn copy(from: &[u8], into: &mut [u8]) -> usize {
    let length = from.len().min(into.len());
    into[..length].copy_from_slice(&from[..length]);
    length
}

/// Whether an index is in a part's range. The first parts are one longer if the division leaves a
/// remainder.
fn is_in_run(at: usize, total: usize, index: usize, count: usize) -> bool {
    let (each, more) = (total / count, total % count);
    let begin = index * each + index.min(more);
    let end = begin + each + usize::from(index < more);
    (begin..end).contains(&at)
}

/// The part whose number hashes best with a name: an additional file moves no other, and an
/// additional part only takes files for itself.
fn rendezvous(name: &[u8], count: usize) -> usize {
    // FNV-1a.
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let weight = |part: usize| mixed(hash ^ mixed(part as u64 + 1));
    let mut best = 0;
    for part in 1..count {
        if weight(part) > weight(best) {
            best = part;
        }
    }
    best
}

/// The last step of splitmix64: every bit depends on every other.
fn mixed(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Writes the files on standard input as quoted shell words.
fn quoted() -> i32 {
    let Some(mut files) = lines() else { return FAILED };
    for at in 0..files.len() {
        let file = files.get(at);
        let file = &file[..file.len() - 1];
        if at > 0 {
            sys::say(b" ");
        }
        sys::say(b"'");
        for (number, piece) in file.split(|&byte| byte == b'\'').enumerate() {
            if number > 0 {
                sys::say(b"'\\''");
            }
            sys::say(piece);
        }
        sys::say(b"'");
    }
    0
}

/// The lines of standard input; `None` if it cannot be read.
fn lines() -> Option<NameList> {
    let mut names = NameList::new().ok()?;
    // Standard input belongs to the caller and must stay open.
    let stdin = ManuallyDrop::new(Fd::from_number(0));
    let (mut buffer, mut filled) = (Pages::new(64 << 10).ok()?, 0);
    loop {
        let got = match sys::read(&stdin, &mut buffer.bytes_mut()[filled..]) {
            Ok(got) => got,
            Err(Errno::INTR) => continue,
            Err(_) => return None,
        };
        filled += got;
        let mut used = 0;
        while let Some(length) = buffer.bytes()[used..filled].iter().position(|&b| b == b'\n') {
            names.push(&buffer.bytes()[used..used + length]).ok()?;
            used += length + 1;
        }
        buffer.bytes_mut().copy_within(used..filled, 0);
        filled -= used;
        if got == 0 {
            if filled > 0 {
                names.push(&buffer.bytes()[..filled]).ok()?;
            }
            return Some(names);
        }
        if filled == buffer.bytes().len() {
            sys::complain(b"codebuild-tests-run: a file's name is too long\n");
            return None;
        }
    }
}

/// This build's part and the number of parts; `None` outside of a fanout.
fn shard() -> Option<(usize, usize)> {
    let place = place::above_own()?;
    let mut name = [0; 16];
    name[..SHARD_NAME.len()].copy_from_slice(SHARD_NAME.as_bytes());
    let file = sys::open_file_below(&place, &name[..=SHARD_NAME.len()]).ok()?;
    read_shard(&file)
}

fn read_shard(file: &Fd) -> Option<(usize, usize)> {
    let mut text = [0; 64];
    let length = sys::read(file, &mut text).ok()?;
    parse(&text[..length])
}

fn parse(text: &[u8]) -> Option<(usize, usize)> {
    let mut words = text.split(|&byte| byte == b' ' || byte == b'\n');
    let mut number = || digits::read(words.next()?).and_then(|number| usize::try_from(number).ok());
    let (index, count) = (number()?, number()?);
    (index < count).then_some((index, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_in_one_part_and_parts_are_as_large_as_each_other() {
        for total in 0..40 {
            for count in 1..12 {
                let mine = |index| {
                    (0..total).filter(move |at| is_in_run(*at, total, index, count)).count()
                };
                let sizes: Vec<usize> = (0..count).map(mine).collect();
                assert_eq!(sizes.iter().sum::<usize>(), total);
                let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
                assert!(most - least <= 1, "{sizes:?}");
                assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
            }
        }
    }

    #[test]
    fn a_further_part_takes_only_what_it_gets_itself() {
        let names: Vec<String> = (0..1000).map(|at| format!("tests/test_{at}.py")).collect();
        let parts = |count| names.iter().map(move |name| rendezvous(name.as_bytes(), count));
        for count in 1..8 {
            for (before, after) in parts(count).zip(parts(count + 1)) {
                assert!(after == before || after == count);
            }
            let sizes = (0..count).map(|index| parts(count).filter(|part| *part == index).count());
            let fair = 1000 / count;
            assert!(sizes.into_iter().all(|size| size > fair / 2 && size < fair * 2));
        }
    }

    #[test]
    fn a_part_is_read_and_nonsense_is_not() {
        assert_eq!(parse(b"2 4\n"), Some((2, 4)));
        for text in [&b""[..], b"4 4\n", b"1\n", b"-1 4\n", b"a b\n", b"0 0\n"] {
            assert_eq!(parse(text), None);
        }
    }
}
