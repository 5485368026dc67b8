//! Tests of kills during writes: what was answered stands, and nothing exists twice.
//!
//! The service runs in a second process of this test program, which prints each answer it gets. Its
//! builds stay queued: starts across kills are tested with real processes
//! (`tests/suite/service_faults.rs`).

use super::queue::{Launcher, ProcessWait, Start};
use super::{Fault, Service, ServiceSettings};
use crate::batch::{PlannedBatch, Rejected};
use crate::db::builds::BuildProgress;
use crate::db::{DbError, batches};
use runner_core::phase::{PhaseContext, Status, StatusCode};
use runner_folder::state::Home;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Tells this program that it is the process to kill: the state folder, and the number of kills so
/// far.
const FOLDER: &str = "RUNNER_TEST_KILLED_IN";
const ROUND: &str = "RUNNER_TEST_KILLED_ROUND";
const ROUNDS: usize = 50;
/// Number of kills with `cargo xtask test --extended`.
const LONG_NIGHT: usize = 500;

struct Nobody;

impl Launcher for Nobody {
    fn launch(&self, _: &Start, _: File) -> Result<ProcessWait, String> {
        Err("nobody is there".to_owned())
    }

    fn stop(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn plan(&self, _: &Start) -> Result<PlannedBatch, Rejected> {
        let context = PhaseContext::new(StatusCode::YamlFileError, "nobody is there");
        Err(Rejected { status: Status::Failed, context })
    }

    fn sweep(&self) {}
}

fn open(folder: &Path) -> Arc<Service> {
    let home = Home::at(folder.to_path_buf()).expect("a state folder");
    let settings = ServiceSettings {
        max_builds: 0,
        max_queued: 100_000,
        source_root: None,
        no_privileges: None,
    };
    let (service, told) =
        Service::open(&home, settings, Arc::new(Nobody), false).expect("a service");
    assert_eq!(told, Vec::<String>::new(), "the database is whole");
    service
}

fn project() -> Value {
    json!({
        "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2\n"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL"},
        "serviceRole": "arn:aws:iam::123456789012:role/builds",
        "buildBatchConfig": {"serviceRole": "arn:aws:iam::123456789012:role/batches"},
    })
}

fn block<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(work)
}

/// Every kind of write in turn; each answer is printed.
async fn work(service: &Arc<Service>, round: &str) {
    let say = |text: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "did {text}").and_then(|()| out.flush()).expect("somebody reads");
    };
    for number in 0.. {
        let name = format!("p{round}-{number}");
        service.create_project(&name, &project()).await.expect("a project");
        say(format!("create {name}"));
        let change = json!({"description": name});
        service.update_project(&name, &change).await.expect("changed");
        say(format!("update {name}"));
        let token = json!({"idempotencyToken": name});
        let build = service.start_build(&name, &token, "me").await.expect("a build");
        say(format!("start {name} {}", build.uuid));
        let batch = service.start_batch(&name, &token, "me").await.expect("a batch");
        say(format!("batch {name} {}", batch.uuid));
        if number % 2 == 0 {
            assert!(service.stop_queued(&build.uuid).await.expect("an answer"));
            say(format!("stop {name} {}", build.uuid));
            service.stop_batch(&batch.uuid).await.expect("an answer");
            say(format!("stopbatch {name} {}", batch.uuid));
        }
        if number % 4 == 0 {
            service.delete_builds(vec![build.uuid.clone()]).await.expect("an answer");
            say(format!("delete {name} {}", build.uuid));
            let batch = service.batch(&batch.uuid).await.expect("a look").expect("a batch");
            service.retry_batch(&batch, &json!({}), "me").await.expect("again");
            say(format!("retrybatch {name} {}", batch.uuid));
            service.invalidate_cache(&name).await.expect("an answer");
            say(format!("invalidate {name}"));
        }
        if number % 8 == 0 {
            service.delete_project(&name).await.expect("an answer");
            say(format!("remove {name}"));
        }
    }
}

/// Answers by project: the last of each kind, with the uuid it returned.
type Answers = BTreeMap<String, BTreeMap<String, String>>;

/// Runs the service once and kills it. Returns its answers.
fn life(folder: &Path, round: usize, answers: &mut Answers) {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args([
            "--exact",
            "service::kills::what_was_answered_stands",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut note = |line: String| {
        let mut words = line.strip_prefix("did ").unwrap_or_default().split(' ').map(str::to_owned);
        if let (Some(kind), Some(name)) = (words.next(), words.next()) {
            answers.entry(name).or_default().insert(kind, words.next().unwrap_or_default());
            return true;
        }
        false
    };
    // Each run is killed after a different answer, and a little later than the last run killed
    // after that answer.
    let mut left = 1 + round % 13;
    while left > 0 {
        let line = lines.next().expect("it lives").expect("a line");
        left -= usize::from(note(line));
    }
    let begin = std::time::Instant::now();
    while begin.elapsed().as_micros() < 300 * (round / 13) as u128 {
        std::hint::spin_loop();
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    for line in lines.map_while(Result::ok) {
        note(line);
    }
}

#[test]
fn what_was_answered_stands() {
    if let (Some(folder), Ok(round)) = (std::env::var_os(FOLDER), std::env::var(ROUND)) {
        return block(work(&open(folder.as_ref()), &round));
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut answers = Answers::new();
    let began = std::time::Instant::now();
    let is_long = std::env::var_os("RUNNER_EXTENDED").is_some_and(|value| value == "1");
    for round in 0..if is_long { LONG_NIGHT } else { ROUNDS } {
        life(dir.path(), round, &mut answers);
    }
    let service = open(dir.path());
    block(async {
        for (name, did) in &answers {
            stands(&service, name, did).await;
            // Tokens are valid for five minutes.
            if began.elapsed() < std::time::Duration::from_secs(240) {
                asks_again(&service, name, did).await;
            }
        }
    });
    // No number was assigned twice.
    let twice: i64 = service
        .db
        .read_now(|connection: &Connection| -> Result<i64, DbError> {
            let text = "SELECT count(*) FROM (SELECT 1 FROM build GROUP BY project, number HAVING count(*) > 1)";
            Ok(connection.query_row(text, [], |row| row.get(0))?)
        })
        .expect("a count");
    assert_eq!(twice, 0);
    let kinds: BTreeSet<&String> = answers.values().flat_map(BTreeMap::keys).collect();
    assert_eq!(kinds.len(), 10, "{kinds:?}");
}

/// Looks whether what was answered of a project is so. What was being done when the service was
/// killed may be done or not: that is the next that [`work`] does behind the last answer.
async fn stands(service: &Arc<Service>, name: &str, did: &BTreeMap<String, String>) {
    let has = |kind: &str| did.contains_key(kind);
    let number: usize = name.rsplit_once('-').expect("a name").1.parse().expect("a number");
    // What may be under way: asked for behind the last answer, if this one is asked for so much.
    let may_stop = number.is_multiple_of(2) && has("batch");
    let may_stop_batch = number.is_multiple_of(2) && has("stop");
    let may_delete = number.is_multiple_of(4) && has("stopbatch");
    let may_retry = number.is_multiple_of(4) && has("delete");
    let may_remove = number.is_multiple_of(8) && has("invalidate");
    match service.project(name).await.expect("a look") {
        Some(_) if has("remove") => panic!("{name} is there again"),
        Some(project) => {
            let is_changed = project.given["description"] == name;
            assert!(is_changed || !has("update"), "{name}: {project:?}");
            assert!(project.cache_epoch > 0 || !has("invalidate"), "{name}");
        }
        None => assert!(may_remove, "{name} is lost"),
    }
    if let Some(uuid) = did.get("start") {
        match service.build(uuid).await.expect("a look").map(|build| build.state) {
            None => assert!(may_delete, "{name}: its build is lost"),
            Some(state) if has("delete") => panic!("{name}: its build is {state:?} again"),
            // Killed while it was deleted.
            Some(BuildProgress::Gone) => assert!(may_delete, "{name}: its build is deleted"),
            Some(BuildProgress::Ended) => assert!(may_stop, "{name}: its build has ended"),
            Some(state) => {
                assert!(state == BuildProgress::Queued && !has("stop"), "{name}: {state:?}");
            }
        }
    }
    if let Some(uuid) = did.get("batch") {
        let batch = service.batch(uuid).await.expect("a look").expect("a batch");
        let phases = batch.progress.machine.phases().len();
        match (batch.state, phases) {
            (BuildProgress::Live, 2) => assert!(!has("stopbatch"), "{name}: its batch continues"),
            (BuildProgress::Ended, 3) => {
                assert!(may_stop_batch && !has("retrybatch"), "{name}: its batch has ended");
            }
            (BuildProgress::Live, 5) => assert!(may_retry, "{name}: its batch is tried again"),
            (state, phases) => panic!("{name}: its batch is {state:?} with {phases} phases"),
        }
        // The build that gets its source is there, once for each time that the batch was begun.
        let of = uuid.clone();
        let builds = service.db.read_now(|connection| batches::builds(connection, &of));
        let builds = builds.expect("a look");
        assert_eq!(builds.len(), if phases == 5 { 2 } else { 1 }, "{name}: {builds:?}");
        let waits = crate::batch::uuid_of(&batch.progress.download.arn);
        assert_eq!(builds.last().map(String::as_str), Some(waits), "{name}");
    }
}

/// A requester without an answer repeats the request and gets the existing result.
async fn asks_again(service: &Arc<Service>, name: &str, did: &BTreeMap<String, String>) {
    let is_there = service.project(name).await.expect("a look").is_some();
    if is_there && !did.contains_key("delete") {
        let token = json!({"idempotencyToken": name});
        match service.start_build(name, &token, "me").await {
            Ok(again) => {
                let known = did.get("start").is_none_or(|uuid| *uuid == again.uuid);
                assert!(known, "{name}: another build of one token");
            }
            // It was just being deleted.
            Err(Fault::NotFound(_)) if did.contains_key("stop") => {}
            Err(other) => panic!("{name}: {other}"),
        }
        let batch = service.start_batch(name, &token, "me").await.expect("a batch");
        assert!(did.get("batch").is_none_or(|uuid| *uuid == batch.uuid), "{name}: another batch");
    }
}
