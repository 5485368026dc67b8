//! Logs as their writer writes them, read by rows.

use super::index::LogIndex;
use super::search::Query;
use runner_core::event::{Block, CommandOutcome, EventBody, Notice};
use runner_core::phase::Phase;
use runner_core::time::WallTime;
use runner_folder::events::LogWriter;
use runner_folder::state::{BuildDir, Home};
use serde_json::{Value, json};

struct Bed {
    _dir: tempfile::TempDir,
    build: BuildDir,
    log: LogWriter,
    time: i64,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().join("state")).expect("a state folder");
        let build = BuildDir::of(&home, "u");
        std::fs::create_dir_all(build.path()).expect("a folder");
        let log = LogWriter::create(&build, "p:u".to_owned()).expect("a log");
        Bed { _dir: dir, build, log, time: 0 }
    }

    fn now(&mut self) -> WallTime {
        self.time += 1_000_000;
        WallTime(self.time)
    }

    fn event(&mut self, body: EventBody) {
        let now = self.now();
        self.log.append([body], now).expect("logged");
    }

    fn phase(&mut self, phase: Phase) {
        self.event(EventBody::PhaseStarted { phase });
    }

    fn command(&mut self, command: u32, text: &str) {
        self.event(EventBody::CommandStarted {
            command,
            phase: Phase::Build,
            block: Block::Commands,
            index: command - 1,
            text: text.to_owned(),
            line: Some(3),
        });
    }

    fn ended(&mut self, command: u32, code: i32) {
        let outcome = CommandOutcome::Exited(code);
        self.event(EventBody::CommandEnded { command, outcome, duration_ms: 5 });
    }

    fn output(&mut self, command: u32, bytes: impl AsRef<[u8]>) {
        let now = self.now();
        self.log.append_output(command, bytes.as_ref(), now).expect("logged");
    }

    fn index(&self) -> LogIndex {
        let mut index = LogIndex::open(&self.build).expect("a log");
        index.catch_up().expect("read");
        index
    }
}

fn texts(index: &mut LogIndex, from: u64, count: u64) -> Vec<String> {
    let rows = serde_json::to_value(index.read(from, count).expect("rows")).expect("JSON");
    let rows = rows["rows"].as_array().expect("rows").iter();
    rows.map(|row| row["text"].as_str().expect("text").to_owned()).collect()
}

/// Where parts begin, and what they are.
fn heads(index: &LogIndex) -> Vec<(u64, String)> {
    let sections = index.sections.since(0).into_iter();
    let named = sections.map(|(_, section)| {
        let head: Value = serde_json::to_value(section).expect("JSON");
        let name = head["phase"].as_str().or(head["text"].as_str()).unwrap_or_default();
        (section.row, name.to_owned())
    });
    named.collect()
}

#[test]
fn parts_have_their_own_rows() {
    let mut bed = Bed::new();
    bed.phase(Phase::Build);
    bed.command(1, "one");
    bed.output(1, "a\nb\nhalf");
    bed.ended(1, 0);
    // Of something that it has left running.
    bed.output(1, "late\n");
    bed.command(2, "two");
    bed.output(2, "c\n");
    bed.event(EventBody::Notice(Notice::warning("mind")));
    bed.output(2, "d\nrest");
    let mut index = bed.index();
    let wanted = ["BUILD", "one", "two", "mind"].map(str::to_owned);
    assert_eq!(heads(&index), [0, 0, 4, 5].into_iter().zip(wanted).collect::<Vec<_>>());
    assert_eq!(index.rows(), 7);
    assert_eq!(texts(&mut index, 0, 100), ["a", "b", "half", "late", "c", "d", "rest"]);
    assert_eq!(texts(&mut index, 2, 2), ["half", "late"]);
    assert_eq!(texts(&mut index, 6, 9), ["rest"]);
    assert!(texts(&mut index, 7, 9).is_empty());
    let output = |index: &mut LogIndex, at| index.range(at).expect("a place");
    assert_eq!(output(&mut index, 0), (0, 0));
    assert_eq!(output(&mut index, 1), (0, 13));
    assert_eq!(output(&mut index, 2), (13, 15));
    assert_eq!(output(&mut index, 3), (15, 21));
    assert!(index.range(4).is_err());
}

#[test]
fn a_log_that_grows_reads_as_one_that_is_there() {
    let mut bed = Bed::new();
    let mut grown = LogIndex::open(&bed.build).expect("a log");
    bed.phase(Phase::Build);
    for command in 1..=40 {
        bed.command(command, "text");
        for piece in 0..u64::from(command) {
            bed.output(command, format!("{command} {piece}\x1b[3{}mx", piece % 8));
            grown.catch_up().expect("read");
            bed.output(command, if piece % 3 == 0 { "\n\n" } else { "+" });
        }
        grown.catch_up().expect("read");
        bed.ended(command, 0);
    }
    grown.catch_up().expect("read");
    let mut whole = bed.index();
    assert_eq!(heads(&grown), heads(&whole));
    assert_eq!(grown.rows(), whole.rows());
    let all = texts(&mut whole, 0, 5000);
    assert_eq!(all.len() as u64, whole.rows());
    for from in 0..whole.rows() {
        let rows = json!(grown.read(from, 3).expect("rows"));
        assert_eq!(rows, json!(whole.read(from, 3).expect("rows")), "from {from}");
        assert_eq!(rows["rows"][0]["text"], json!(all[usize::try_from(from).expect("small")]));
    }
}

#[test]
fn a_line_of_megabytes_is_many_rows() {
    let mut bed = Bed::new();
    bed.command(1, "flood");
    for _ in 0..40 {
        bed.output(1, "x".repeat(64 << 10));
    }
    bed.output(1, "\nend\n");
    let mut index = bed.index();
    assert_eq!(index.rows(), 40 * 16 + 2);
    // Rows of a piece; the last piece, which is empty but for its line break; and the last line.
    assert_eq!(texts(&mut index, 639, 9), ["x".repeat(4096), String::new(), "end".to_owned()]);
    let all: usize = texts(&mut index, 0, 1000).iter().map(String::len).sum();
    // So much is given out at once, and no more.
    assert!((1 << 20..(1 << 20) + 8192).contains(&all), "{all}");
}

#[test]
fn rows_have_the_time_of_their_output() {
    let mut bed = Bed::new();
    bed.command(1, "slow");
    bed.output(1, "a\n");
    bed.output(1, "b\nc\n");
    let rows = json!(bed.index().read(0, 9).expect("rows"));
    let times: Vec<_> = (0..3).map(|at| rows["rows"][at]["time"].as_i64()).collect();
    assert_eq!(times, [Some(2000), Some(3000), Some(3000)]);
}

#[test]
fn colours_end_with_their_command() {
    let mut bed = Bed::new();
    bed.command(1, "red");
    bed.output(1, "\x1b[31mred\nstill");
    bed.ended(1, 0);
    bed.command(2, "plain");
    bed.output(2, "plain\n");
    let mut index = bed.index();
    let style =
        |index: &mut LogIndex, row| json!(index.read(row, 1).expect("rows"))["style"].clone();
    assert_eq!(style(&mut index, 0), "");
    assert_eq!(style(&mut index, 1), "\x1b[31m");
    assert_eq!(style(&mut index, 2), "");
}

#[test]
fn searches_count_all_and_name_where() {
    let mut bed = Bed::new();
    bed.command(1, "grep Needle");
    bed.output(1, "hay\n\x1b[1mnee\x1b[0mdle\nNEEDLE\n");
    let index = bed.index();
    let search = |text: &str, is_regex| {
        let (query, _waiting) = Query::new(text, is_regex).expect("a query");
        let heads = query.heads(index.sections.texts());
        json!(query.run(heads, index.snapshot().expect("a log")).expect("hits"))
    };
    assert_eq!(search("needle", false), json!({"count": 3, "rows": [1, 2], "sections": [0]}));
    assert_eq!(search("NEEDLE", false), json!({"count": 1, "rows": [2], "sections": []}));
    assert_eq!(search("^ha.$", true), json!({"count": 1, "rows": [0], "sections": []}));
    assert_eq!(search("ha.", false), json!({"count": 0, "rows": [], "sections": []}));
    assert!(Query::new("(", true).is_err() && Query::new("", false).is_err());
}
