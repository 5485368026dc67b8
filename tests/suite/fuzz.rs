//! Hostile bytes for everything that parses bytes: seeded, so that failures are reproducible.
//!
//! The same functions accept a fuzzer's input; here they get the examples with random changes.

use crate::common::{cases, corpus, list, project};
use runner_core::mask::{Masker, REPLACEMENT, Secrets};
use runner_core::report::{self, ReportFile, ReportFormat, ReportGroupReader};
use runner_core::spec;
use runner_wire::frame::{FrameDecoder, encode};
use runner_wire::shim::MessageReader;
use std::path::Path;

cases! {
    [] => mutated_buildspecs_are_answered, chunks_make_no_difference_to_the_masker,
        frames_survive_any_cut, garbage_at_the_shim_socket, catalogs_and_files_of_variables, report_files,
        files_of_a_hostile_container;
}

/// Rounds of each case; `RUNNER_FUZZ_ROUNDS` raises the number.
pub(super) fn rounds() -> usize {
    std::env::var("RUNNER_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1500)
}

/// xorshift64*: the same numbers in each run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    pub(super) fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next() as u8).collect()
    }
}

fn texts(dir: &Path) -> Vec<Vec<u8>> {
    let mut names = list(dir);
    names.sort();
    let files = names.iter().filter(|name| name.ends_with(".yml") || name.ends_with(".yaml"));
    files.map(|name| std::fs::read(dir.join(name)).unwrap()).collect()
}

/// Tokens with a meaning in YAML or in a buildspec.
const PIECES: [&str; 20] = [
    ": ",
    "\n",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "|\n",
    ">\n",
    "\t",
    "  ",
    "'",
    "\"",
    "{",
    "}",
    "[",
    "]",
    "!!binary ",
    "version: 0.2\n",
    "on-failure: RETRY-3-(\n",
    "\u{feff}",
];

pub(super) fn mutate(random: &mut Random, text: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        match random.below(5) {
            0 if at < text.len() => text[at] = random.next() as u8,
            1 => drop(text.drain(at..(at + random.below(20)).min(text.len()))),
            2 => {
                let piece = PIECES[random.below(PIECES.len())];
                text.splice(at..at, piece.bytes());
            }
            3 => {
                let from = random.below(text.len() + 1);
                let piece = text[from..(from + random.below(80)).min(text.len())].to_vec();
                text.splice(at..at, piece);
            }
            _ => text.truncate(at),
        }
    }
}

/// Any text gives a specification or a problem with a position in that text.
fn mutated_buildspecs_are_answered() {
    let mut seeds = Vec::new();
    for folder in ["valid", "breakpoint", "invalid"] {
        seeds.extend(texts(&project().join("buildspecs").join(folder)));
    }
    seeds.extend(texts(&corpus()));
    let mut random = Random(0x5EED);
    for round in 0..rounds() {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        mutate(&mut random, &mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let problems = match spec::parse(&text) {
            Ok((_, warnings)) => warnings,
            Err(problems) => {
                assert!(problems.iter().any(spec::Diagnostic::is_error), "round {round}:\n{text}");
                problems
            }
        };
        let lines = text.lines().count().max(1);
        for problem in problems {
            let line = problem.span.line as usize;
            assert!(line <= lines + 1, "round {round}: line {line} of {lines}:\n{text}");
            assert!(!problem.message.is_empty());
        }
    }
}

/// A stream gives the same result however it is cut, and never shows a secret.
fn chunks_make_no_difference_to_the_masker() {
    let mut random = Random(0xA5E);
    for round in 0..rounds() {
        // A small alphabet makes many near misses.
        let word = |random: &mut Random| -> Vec<u8> {
            (0..4 + random.below(6)).map(|_| b"ab\n"[random.below(3)]).collect()
        };
        let values: Vec<Vec<u8>> = (0..1 + random.below(4)).map(|_| word(&mut random)).collect();
        let secrets = Secrets::new(values.clone()).unwrap();
        let mut stream: Vec<u8> = Vec::new();
        for _ in 0..random.below(12) {
            if random.below(2) == 0 {
                stream.extend(&values[random.below(values.len())]);
            } else {
                stream.extend(word(&mut random));
            }
        }
        let shown = |cuts: &[usize]| {
            let mut masker = Masker::new(secrets.clone());
            let (mut out, mut from) = (Vec::new(), 0);
            for &cut in cuts.iter().chain([&stream.len()]) {
                out.extend_from_slice(masker.push(&stream[from..cut], &mut Vec::new()));
                from = cut;
            }
            out.extend(masker.finish());
            out
        };
        let whole = shown(&[]);
        let mut cuts: Vec<usize> =
            (0..random.below(6)).map(|_| random.below(stream.len())).collect();
        cuts.sort_unstable();
        assert_eq!(shown(&cuts), whole, "round {round}: {values:?} in {stream:?} at {cuts:?}");
        for part in whole.split(|&byte| byte == REPLACEMENT[0]) {
            let leaks = values.iter().any(|value| part.windows(value.len()).any(|w| w == value));
            assert!(!leaks, "round {round}: {values:?} in {stream:?}");
        }
    }
}

/// Encoded frames are decoded however they are cut; after a bad header nothing is trusted.
fn frames_survive_any_cut() {
    let mut random = Random(0xF4A3E);
    for round in 0..rounds() {
        let bodies: Vec<Vec<u8>> = (0..random.below(5)).map(|_| random.bytes(300)).collect();
        let stream: Vec<u8> = bodies.iter().flat_map(|body| encode(body).unwrap()).collect();
        let mut decoder = FrameDecoder::default();
        let mut got = Vec::new();
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random.below(rest.len()));
            decoder.feed(piece);
            rest = after;
            while let Some(body) = decoder.next_frame().unwrap() {
                got.push(body);
            }
        }
        assert_eq!(got, bodies, "round {round}");
        let mut decoder = FrameDecoder::default();
        decoder.feed(&random.bytes(200));
        // An error or a request for more; never a panic, never memory for a false length.
        for _ in 0..50 {
            if !matches!(decoder.next_frame(), Ok(Some(_))) {
                break;
            }
        }
    }
}

fn garbage_at_the_shim_socket() {
    let mut random = Random(0x5417);
    for _ in 0..rounds() {
        let mut reader = MessageReader::default();
        for _ in 0..random.below(6) {
            if !matches!(reader.feed(&random.bytes(120)), Ok(None)) {
                break;
            }
        }
    }
}

/// An image's runtimes and a file of variables may contain anything.
fn catalogs_and_files_of_variables() {
    let catalog = "version: 0.1\nruntimes:\n  java:\n    default: {commands: [any]}\n    versions:\n      \
                   corretto8: {requires: {node: [1, 2]}, commands: ['java 8']}\n      11.0.1: {commands: \
                   ['java 11', more]}\n  node:\n    versions:\n      1: {requires: {java: [x]}}\n";
    let wanted = "version: 0.2\nphases:\n  install:\n    runtime-versions: {java: latest, node: 1.x, x: $V}\n  \
                  build: {commands: [a]}\n";
    let (spec, _) = spec::parse(wanted).unwrap();
    let mut random = Random(0xCA7);
    for round in 0..rounds() {
        let mut bytes = catalog.as_bytes().to_vec();
        mutate(&mut random, &mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let setup = runner_core::runtimes::select(Some(&text), &spec.runtimes, &Default::default());
        assert!(setup.lines.len() >= 3, "round {round}: {text}");
        // Each line is a pair or is reported as invalid.
        let lines = text.lines().count();
        match runner_core::env::parse_file(&text) {
            Ok(pairs) => assert!(pairs.len() <= lines, "round {round}: {text}"),
            Err(problem) => {
                let number: usize = problem.split(':').next().unwrap().parse().unwrap();
                assert!((1..=lines).contains(&number), "round {round}: {problem}");
            }
        }
    }
}

/// Small files of the formats without a recorded example.
const REPORTS: [(ReportFormat, &str); 9] = [
    (
        ReportFormat::CucumberJson,
        r#"[{"uri": "a", "elements": [{"name": "b", "line": 4, "steps": [{"result":
        {"status": "failed", "duration": 5, "error_message": "a.rb:5: no"}}]}]}]"#,
    ),
    (
        ReportFormat::NunitXml,
        "<test-results><test-suite name='s'><results><test-case name='a.b(1)' result='Error' \
        time='1'><failure><message>m</message></failure></test-case></results></test-suite></test-results>",
    ),
    (
        ReportFormat::Nunit3Xml,
        "<test-run><test-case fullname='a.b' result='Failed' label='Error' duration='.5'/></test-run>",
    ),
    (
        ReportFormat::TestngXml,
        "<testng-results><suite name='s'><class name='c'><test-method status='FAIL' name='n' \
        duration-ms='5'><exception><message>m</message></exception></test-method></class></suite></testng-results>",
    ),
    (
        ReportFormat::VisualStudioTrx,
        "<TestRun><Results><UnitTestResult testId='1' outcome='Failed' duration='1:2:3.4'>\
        <InnerResults><UnitTestResult/></InnerResults></UnitTestResult></Results></TestRun>",
    ),
    (
        ReportFormat::JacocoXml,
        "<report><package name='p'><sourcefile name='f'><counter type='LINE' missed='1' \
        covered='18446744073709551615'/></sourcefile></package></report>",
    ),
    (
        ReportFormat::Simplecov,
        r#"{"a": {"coverage": {"/f": {"lines": [1, null, 0], "branches": {"[:if]": {"[:t]": 1}}}}}}"#,
    ),
    (
        ReportFormat::Simplecov,
        r#"{"$schema": "s", "total": {"lines": {"covered": 1, "missed": 1}}, "coverage": {"f": {"lines": [1, 0],
        "branches": [{"type": "then", "start_line": 1, "end_line": 1, "coverage": "ignored"}]}}, "groups": {}}"#,
    ),
    (
        ReportFormat::JacocoXml,
        "<report name='r'><group name='a'><package name='p'><sourcefile name='f'><line nr='1' mi='0' ci='1' mb='1' \
        cb='1'/><counter type='LINE' missed='0' covered='1'/></sourcefile></package></group><group name='b'>\
        <package name='p'><sourcefile name='f'><line nr='4294967296' ci='0'/></sourcefile></package></group></report>",
    ),
];

/// Any report file gives a result within AWS's limits, and problems have a position in the file.
fn report_files() {
    let recorded =
        |name: &str| std::fs::read(project().join("tests/reports/recorded").join(name)).unwrap();
    let mut seeds: Vec<(ReportFormat, Vec<u8>)> =
        REPORTS.iter().map(|(format, text)| (*format, text.as_bytes().to_vec())).collect();
    for name in ["pytest.xml", "jest.xml", "nextest.xml"] {
        seeds.push((ReportFormat::JunitXml, recorded(name)));
    }
    seeds.push((ReportFormat::CoberturaXml, recorded("coverage.py.xml")));
    seeds.push((ReportFormat::CloverXml, recorded("jest-clover.xml")));
    let mut random = Random(0x4E904);
    for round in 0..rounds() {
        let (format, mut bytes) = seeds[random.below(seeds.len())].clone();
        mutate(&mut random, &mut bytes);
        // Sometimes it is parsed as another format.
        let format =
            if random.below(8) == 0 { ReportFormat::ALL[random.below(10)] } else { format };
        let contents = report::read(format, &bytes);
        let text = String::from_utf8_lossy(&bytes);
        if let Some(problem) = &contents.problem {
            let lines = text.lines().count().max(1);
            assert!(problem.line as usize <= lines + 1, "round {round}: {problem}: {text}");
            assert!(!problem.reason.is_empty(), "round {round}: {text}");
        }
        let mut group = ReportGroupReader::new("g".to_owned(), format);
        // Read twice: the same file, or another one.
        for name in ["f", "x/f"] {
            let file = ReportFile { path: format!("/src/{name}"), ..ReportFile::default() };
            group.add(file, contents.clone());
        }
        group.finish("/src", &Secrets::default());
        let facts = group.facts(group.report("a:r", "a:g", "a:b", 0.0));
        assert!(facts.failures.len() <= report::MAX_FAILURES);
        assert!(!report::table(std::slice::from_ref(&facts)).is_empty());
        // The written report is valid, whatever was read.
        let mut xml = Vec::new();
        report::junit(&group, &mut xml).unwrap();
        let again = report::read(ReportFormat::JunitXml, &xml);
        assert_eq!(again.problem, None, "round {round}: {}", String::from_utf8_lossy(&xml));
        assert_eq!(again.cases.len(), group.cases().count(), "round {round}");
        let report = group.report("a:r", "a:g", "a:b", 0.0);
        if let Some(coverage) = report.code_coverage_summary {
            assert!(coverage.line_coverage_percentage <= 100.0, "round {round}: {text}");
            assert!(coverage.branch_coverage_percentage <= 100.0, "round {round}: {text}");
        }
    }
}

/// What a container says of its files: valid streams survive any cut, others end in an error; a
/// path never leads out, content is never longer than announced, and memory does not depend on
/// announcements.
fn files_of_a_hostile_container() {
    use runner_wire::abi::files::{DIRECTORY, FileFacts, REGULAR, SYMLINK, is_path, reply};
    use runner_wire::files::{Replies, Reply};

    let message = |stream: &mut Vec<u8>, kind: u32, parts: &[&[u8]]| {
        let body = parts.concat();
        stream.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        stream.extend_from_slice(&kind.to_le_bytes());
        stream.extend_from_slice(&body);
    };
    let mut random = Random(0xF11E5);
    for round in 0..rounds() {
        let mut stream = Vec::new();
        for _ in 0..random.below(8) {
            let mode = [REGULAR, DIRECTORY, SYMLINK, 0o010_000][random.below(4)] | 0o644;
            let size = random.below(3000);
            let path = [&b"a"[..], b"a/b", b"\xff", b"a b"][random.below(4)];
            let path_len = u32::try_from(path.len()).unwrap();
            let facts = FileFacts { mode, size: size as u64, path_len, ..FileFacts::default() };
            let target = if mode & 0o170_000 == SYMLINK { &b"../x"[..] } else { b"" };
            message(&mut stream, reply::ENTRY, &[&facts.to_bytes(), path, target]);
            if mode & 0o170_000 == REGULAR && random.below(2) == 0 {
                let hole = random.below(size + 1);
                message(&mut stream, reply::HOLE, &[&(hole as u64).to_le_bytes()]);
                if size > hole {
                    message(&mut stream, reply::DATA, &[&vec![7; size - hole]]);
                }
                message(&mut stream, reply::END, &[&[0; 8]]);
            }
            if random.below(4) == 0 {
                message(
                    &mut stream,
                    reply::FAILED,
                    &[&3_u32.to_le_bytes(), &2_u32.to_le_bytes(), path],
                );
            }
        }
        let is_sound = random.below(3) == 0;
        if !is_sound {
            mutate(&mut random, &mut stream);
        }
        let mut replies = Replies::default();
        let (mut rest, mut left, mut is_error) = (stream.as_slice(), None, false);
        'all: while !rest.is_empty() {
            let space = replies.space();
            let count = (1 + random.below(rest.len())).min(space.len());
            space[..count].copy_from_slice(&rest[..count]);
            replies.filled(count);
            rest = &rest[count..];
            loop {
                let has_next = replies.has_next();
                match replies.next_reply() {
                    Ok(None) => break,
                    Err(_) => {
                        is_error = true;
                        break 'all;
                    }
                    Ok(Some(reply)) => {
                        assert!(has_next, "round {round}");
                        match reply {
                            Reply::Entry(entry) => {
                                assert!(is_path(entry.path), "round {round}");
                                left = Some(entry.facts.size);
                            }
                            Reply::Failed(failed) => {
                                assert!(
                                    failed.path.is_empty() || is_path(failed.path),
                                    "round {round}"
                                );
                            }
                            Reply::Data(bytes) => {
                                left = left.unwrap().checked_sub(bytes.len() as u64);
                                assert!(left.is_some(), "round {round}");
                            }
                            Reply::Hole(length) => {
                                left = left.unwrap().checked_sub(length);
                                assert!(left.is_some(), "round {round}");
                            }
                            Reply::End(_) => assert_eq!(left, Some(0), "round {round}"),
                            Reply::Root(_) | Reply::Sync => {}
                        }
                    }
                }
            }
        }
        assert!(!is_sound || (!is_error && replies.is_at_rest()), "round {round}: {stream:?}");
    }
}
