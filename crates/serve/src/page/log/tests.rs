//! Logs written by the real writer and read as rows.

use super::index::LogIndex;
use super::search::Query;
use runner_core::event::{Block, CommandOutcome, EventBody, Notice};
use runner_core::phase::{Phase, Status};
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

/// The starts of sections, and their names.
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
    // Output of a process that the command left running.
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
    // Rows of one piece; the last piece, empty but for its line break; and the last line.
    assert_eq!(texts(&mut index, 639, 9), ["x".repeat(4096), String::new(), "end".to_owned()]);
    let all: usize = texts(&mut index, 0, 1000).iter().map(String::len).sum();
    // The limit of one response.
    assert!((1 << 20..(1 << 20) + 8192).contains(&all), "{all}");
}

/// Short rows are found many at once, long ones and coloured ones one by one.
#[test]
fn rows_of_every_length() {
    let mut bed = Bed::new();
    bed.command(1, "mixed");
    let long = "y".repeat(9000);
    let mut text = String::new();
    for row in 0..6000 {
        let line = match row {
            2000..2040 => &long,
            4000..4100 => "\x1b[31m",
            _ => &long[..row % 90],
        };
        text.push_str(&format!("{row} {line}\n"));
    }
    // In pieces, as a program writes.
    text.as_bytes().chunks(50_000).for_each(|piece| bed.output(1, piece));
    let mut index = bed.index();
    let wanted: Vec<String> = text
        .lines()
        .flat_map(|line| {
            // The line break is of the last piece.
            let count = (line.len() + 1).div_ceil(4096);
            (0..count).map(|at| line[at * 4096..line.len().min((at + 1) * 4096)].to_owned())
        })
        .collect();
    assert_eq!(index.rows(), wanted.len() as u64);
    for from in (0..wanted.len()).step_by(97) {
        let rows = texts(&mut index, from as u64, 3);
        assert_eq!(rows, wanted[from..wanted.len().min(from + 3)], "{from}");
    }
    // Those behind colours have them, wherever one begins to read.
    let style =
        |index: &mut LogIndex, row| json!(index.read(row, 1).expect("rows"))["style"].clone();
    assert_eq!(style(&mut index, 1000), "");
    assert_ne!(style(&mut index, wanted.len() as u64 - 1), "");
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

/// What is sent with the first answer: whole chunks of what comes into view, wherever that is.
#[test]
fn first_rows_are_those_that_matter() {
    let mut bed = Bed::new();
    bed.phase(Phase::Build);
    bed.command(1, "fails");
    let lines: String = (0..1000).map(|row| format!("{row}\n")).collect();
    bed.output(1, &lines);
    let first = |index: &mut LogIndex, row| {
        let rows = json!(index.first(row).expect("rows"));
        let texts = rows["rows"].as_array().map_or(0, Vec::len);
        (rows["from"].as_u64(), texts, rows["rows"][0]["text"].clone())
    };
    // Of a build that goes on, the end.
    assert_eq!(first(&mut bed.index(), None), (Some(800), 200, json!("800")));
    bed.ended(1, 3);
    bed.command(2, "goes on");
    bed.output(2, &lines);
    assert_eq!(first(&mut bed.index(), None).0, Some(1800));
    // Of one that has failed, what has failed.
    let ended = |status| EventBody::BuildEnded { status, reason: None };
    bed.event(ended(Status::Failed));
    let mut index = bed.index();
    assert_eq!(first(&mut index, None), (Some(800), 400, json!("800")));
    for (row, from) in [(0, 0), (99, 0), (150, 0), (300, 200), (1999, 1800), (9999, 1800)] {
        let shown = first(&mut index, Some(row));
        assert_eq!((shown.0, shown.1 % 200), (Some(from), 0), "{row}");
    }
    // Of one that went well, nothing is open.
    let mut bed = Bed::new();
    bed.command(1, "fine");
    bed.output(1, "a\n");
    bed.ended(1, 0);
    bed.event(ended(Status::Succeeded));
    assert_eq!(first(&mut bed.index(), None).0, None);
    assert_eq!(first(&mut bed.index(), Some(0)), (Some(0), 1, json!("a")));
}
