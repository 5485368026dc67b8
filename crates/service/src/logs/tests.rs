//! Tests of streams and their pages, with real files.

use super::stream::{StreamIndex, last_time, read_on};
use super::*;
use crate::db::builds::{self, BuildProgress, StoredBuild};
use runner_core::event::{CommandOutcome, EventBody};
use runner_core::phase::{Phase, Status};
use runner_core::time::WallTime;
use runner_folder::events::LogWriter;
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

struct Rig {
    dir: TempDir,
}

const UUID: &str = "01234567-89ab-4def-8123-456789abcdef";

impl Rig {
    fn new() -> Self {
        Rig { dir: tempfile::tempdir().expect("a folder") }
    }

    fn home(&self) -> Home {
        Home::at(self.dir.path().to_path_buf()).expect("a state folder")
    }

    fn build(&self, uuid: &str) -> BuildDir {
        let dir = BuildDir::of(&self.home(), uuid);
        fs::create_dir_all(dir.path()).expect("a folder");
        dir
    }
}

fn at(ms: i64) -> WallTime {
    WallTime(ms * 1000)
}

fn texts(page: &LinePage) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.text.trim_end()).collect()
}

/// A log of `count` lines, one per millisecond from 1000 on, each of `length` bytes.
fn log(dir: &BuildDir, count: i64, length: usize) -> LogWriter {
    let log = LogWriter::create(dir, format!("demo:{UUID}")).expect("a log");
    for number in 0..count {
        let line = format!("{number:0length$}\n", length = length - 1);
        log.append_output(1, line.as_bytes(), at(1000 + number)).expect("written");
    }
    log
}

/// A build whose log is in the group `/g`.
fn row(uuid: &str, begun: i64, record: Value) -> StoredBuild {
    StoredBuild {
        uuid: uuid.to_owned(),
        seq: 0,
        project: "demo".to_owned(),
        number: 1,
        state: if record == Value::Null { BuildProgress::Live } else { BuildProgress::Ended },
        status: "IN_PROGRESS".to_owned(),
        requested: begun,
        deadline: None,
        order: None,
        record: Some(record).filter(|record| !record.is_null()).map(|record| (&record).into()),
        log: Some(("/g".to_owned(), format!("s/{uuid}"))),
    }
}

fn all() -> TimeRange {
    TimeRange::default()
}

#[test]
fn pages_of_a_stream_meet_at_their_tokens() {
    let rig = Rig::new();
    let dir = rig.build(UUID);
    // More than one position of the index.
    let log = log(&dir, 3000, 400);
    let mut index = StreamIndex::default();
    let mut page = |range: TimeRange, from: From, limit: usize| {
        index.page(&dir, range, from, limit).expect("a page")
    };
    let number = |entry: &LogLine| entry.text.trim().parse::<i64>().expect("a number");
    for limit in [7, 10_000] {
        let head = page(all(), From::Head, limit);
        assert_eq!((head.first, number(&head.entries[0])), (0, 0));
        let tail = page(all(), From::Tail, limit);
        assert_eq!((tail.next, number(tail.entries.last().expect("a line"))), (3000, 2999));
        let before = page(all(), From::Backward(tail.first), limit);
        assert_eq!(before.next, if tail.first == 0 { 0 } else { tail.first });
        let (mut seq, mut seen) = (0, 0);
        loop {
            let some = page(all(), From::Forward(seq), limit.max(500));
            if some.entries.is_empty() {
                assert_eq!(some.next, seq, "the same token");
                break;
            }
            assert!(
                some.entries.iter().map(|entry| entry.text.len() + 26).sum::<usize>() <= 1 << 20
            );
            for entry in &some.entries {
                assert_eq!((number(entry), entry.time), (seen, 1000 + seen));
                seen += 1;
            }
            seq = some.next;
        }
        assert_eq!(seen, 3000);
    }
    // From one time up to another.
    let range = TimeRange { start: Some(2500), end: Some(2503) };
    for from in [From::Head, From::Tail, From::Forward(0), From::Backward(3000)] {
        let some = page(range, from, 100);
        assert_eq!((some.first, some.next), (1500, 1503), "{from:?}");
    }
    let last = page(range, From::Tail, 1);
    assert_eq!((last.first, last.next), (1502, 1503));
    assert_eq!(page(range, From::Backward(1500), 9).first, 1500, "the same token");
    assert_eq!(page(range, From::Forward(1503), 9).next, 1503, "the same token");
    // It grows: the last token leads to the new lines.
    log.append_output(1, b"new\nhalf", at(9000)).expect("written");
    assert_eq!(texts(&page(all(), From::Forward(3000), 9)), ["new"]);
    log.append([EventBody::BuildEnded { status: Status::Succeeded, reason: None }], at(9001))
        .expect("written");
    assert_eq!(
        texts(&page(all(), From::Forward(3001), 9)),
        ["half"],
        "the end of the build ends a line"
    );
    assert_eq!(last_time(&dir).expect("a time"), Some(9000));
}

/// Reading from any position gives the same lines as reading from the start.
#[test]
fn a_place_forgets_nothing_of_what_was_before_it() {
    let rig = Rig::new();
    let dir = rig.build(UUID);
    let log = LogWriter::create(&dir, format!("demo:{UUID}")).expect("a log");
    let body = |command: u32| {
        vec![EventBody::CommandStarted {
            command,
            phase: Phase::Build,
            block: runner_core::event::Block::Commands,
            index: command,
            text: format!("make {command}"),
            line: None,
        }]
    };
    for command in 1..5 {
        log.append(body(command), at(command.into())).expect("written");
        log.append_output(command, "x".repeat(1000).as_bytes(), at(50)).expect("written");
        let outcome = CommandOutcome::Exited(1);
        let ended = EventBody::CommandEnded { command, outcome, duration_ms: 1 };
        log.append([ended], at(60)).expect("written");
    }
    let mut place = stream::StreamPlace::default();
    let whole = read_on(&dir, &mut place, usize::MAX).expect("read").entries;
    let mut place = stream::StreamPlace::default();
    let mut pieces = Vec::new();
    loop {
        // One event at a time.
        let read = read_on(&dir, &mut place, 1).expect("read");
        pieces.extend(read.entries);
        if read.is_end {
            break;
        }
    }
    assert_eq!(pieces, whole);
    let failures =
        whole.iter().filter(|entry| entry.text.contains("Command did not exit successfully make"));
    assert_eq!(failures.count(), 4);
    assert!(whole.windows(2).all(|two| two[0].time <= two[1].time), "times never go back");
}

/// Two streams of one group with alternating lines, and a third with none in the range.
#[test]
fn lines_of_a_group_are_in_the_order_of_their_times() {
    let rig = Rig::new();
    let db = Db::open(rig.dir.path()).expect("a database").db;
    let (one, two) = (UUID.to_owned(), UUID.replace('0', "f"));
    let old = UUID.replace('0', "e");
    let rows = [
        row(&one, 1000, Value::Null),
        row(&two, 1001, Value::Null),
        row(&old, 1, json!({"endTime": 0.5})),
    ];
    db.write_now(move |connection| rows.iter().try_for_each(|row| builds::insert(connection, row)))
        .expect("rows");
    for (uuid, first) in [(&one, 1000), (&two, 1001)] {
        let log = LogWriter::create(&rig.build(uuid), format!("demo:{uuid}")).expect("a log");
        for number in 0..50 {
            let line = format!("{} {uuid}\n", if number % 2 == 0 { "even" } else { "odd" });
            log.append_output(1, line.as_bytes(), at(first + 2 * number)).expect("written");
        }
    }
    let reader = StreamReader { home: rig.home(), places: Arc::default() };
    let asked = LogFilter {
        group: "/g".to_owned(),
        names: streams::Names::All,
        start: None,
        end: None,
        pattern: FilterPattern::default(),
        limit: 7,
        after: None,
    };
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let found = LogFilter { after, ..asked.clone() }.run(&db, &reader).expect("found");
        assert!(found.entries.len() <= 7);
        seen.extend(found.entries.into_iter().map(|(_, key, _)| key.0));
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1000..1100).collect::<Vec<i64>>(), "each once, in order, over all pages");
    let run = |filter: LogFilter| filter.run(&db, &reader).expect("found").entries.len();
    let some = LogFilter { limit: 1000, start: Some(1010), end: Some(1012), ..asked.clone() };
    assert_eq!(run(some.clone()), 3, "both ends are included");
    let pattern = FilterPattern::parse("odd").expect("a pattern");
    assert_eq!(run(LogFilter { pattern, limit: 1000, ..asked.clone() }), 50);
    let names = streams::Names::Prefix(format!("s/{two}"));
    assert_eq!(run(LogFilter { names, limit: 1000, ..asked.clone() }), 50);
    let names = streams::Names::These(vec![format!("s/{one}"), "none".to_owned()]);
    assert_eq!(run(LogFilter { names, limit: 1000, ..asked }), 50);
}

/// Buffered lines of other streams do not count as read: otherwise each page would hold one line.
#[test]
fn a_page_of_many_streams_is_a_whole_one() {
    const STREAMS: usize = 300;
    let rig = Rig::new();
    let db = Db::open(rig.dir.path()).expect("a database").db;
    let uuids: Vec<String> =
        (0..STREAMS).map(|number| format!("{number:08}{}", &UUID[8..])).collect();
    let rows: Vec<StoredBuild> = uuids.iter().map(|uuid| row(uuid, 1000, Value::Null)).collect();
    db.write_now(move |connection| rows.iter().try_for_each(|row| builds::insert(connection, row)))
        .expect("rows");
    for uuid in &uuids {
        let log = LogWriter::create(&rig.build(uuid), format!("demo:{uuid}")).expect("a log");
        for number in 0..3 {
            let line = format!("{}\n", "x".repeat(30_000));
            log.append_output(1, line.as_bytes(), at(1000 + number)).expect("written");
        }
    }
    let reader = StreamReader { home: rig.home(), places: Arc::default() };
    let asked = LogFilter {
        group: "/g".to_owned(),
        names: streams::Names::All,
        start: None,
        end: None,
        pattern: FilterPattern::default(),
        limit: 20,
        after: None,
    };
    let found = asked.run(&db, &reader).expect("found");
    assert_eq!(found.entries.len(), 20);
    // A request that finds nothing also ends, far from where it began.
    let pattern = FilterPattern::parse("nothing").expect("a pattern");
    let found = LogFilter { pattern, ..asked }.run(&db, &reader).expect("found");
    assert!(found.next.is_some_and(|(time, ..)| time > 1000), "{:?}", found.next);
}

/// Reading a log that grows faster than it is read comes to an end.
#[test]
fn the_end_is_where_it_was() {
    let rig = Rig::new();
    let dir = rig.build(UUID);
    let log = log(&dir, 10, 100);
    let looks = std::cell::Cell::new(0);
    let grows = |_: &stream::StreamPlace| {
        looks.set(looks.get() + 1);
        assert!(looks.get() < 50, "it has no end");
        log.append_output(1, &[b'x'; 300 << 10], at(5000)).expect("written");
        false
    };
    StreamIndex::default().reach(&dir, grows).expect("read");
}

#[test]
fn patterns() {
    let line = "2026 ERROR disk sda1 is full";
    for (pattern, matches) in [
        ("", true),
        ("ERROR", true),
        ("error", false),
        ("ERROR full", true),
        ("ERROR empty", false),
        ("?empty ?full", true),
        ("?empty ?half", false),
        ("ERROR -full", false),
        ("-empty", true),
        ("\"disk sda1\"", true),
        ("\"sda1 disk\"", false),
        ("%sd[a-z][0-9]%", true),
        ("%^ERROR%", false),
        // `?` terms are ignored next to any other term.
        ("ERROR ?empty", true),
    ] {
        assert_eq!(
            FilterPattern::parse(pattern).expect(pattern).matches(line),
            matches,
            "{pattern}"
        );
    }
    for bad in ["{ $.a = 1 }", "[a, b]", "\"open", "%open", "%(%", "a/b", "-", "?"] {
        assert!(FilterPattern::parse(bad).is_err(), "{bad}");
    }
}
