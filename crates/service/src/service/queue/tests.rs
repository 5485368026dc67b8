//! Tests of the queue across kills, without processes: with files and locks as a kill would leave
//! them.

use super::*;
use crate::service::{Fault, ServiceSettings};
use runner_core::phase::{PhaseContext, Status, StatusCode};
use serde_json::json;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use tempfile::TempDir;

/// A launcher whose processes are controlled by the test.
struct Held {
    begun: Mutex<Sender<(String, Sender<()>)>>,
    fails: bool,
}

impl Launcher for Held {
    fn launch(&self, start: &Start, lock: File) -> Result<ProcessWait, String> {
        if self.fails {
            return Err("no such image".to_owned());
        }
        let (end, ended) = channel::<()>();
        let begun = self.begun.lock().expect("no panic");
        begun.send((start.uuid.clone(), end)).map_err(|error| error.to_string())?;
        Ok(Box::new(move || {
            let _ = ended.recv();
            drop(lock);
        }))
    }

    fn stop(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn plan(&self, _: &Start) -> Result<PlannedBatch, Rejected> {
        let context = PhaseContext::new(StatusCode::YamlFileError, "none");
        Err(Rejected { status: Status::Failed, context })
    }

    fn sweep(&self) {}
}

type Begun = Receiver<(String, Sender<()>)>;

struct Rig {
    dir: TempDir,
}

impl Rig {
    fn new() -> Self {
        Rig { dir: tempfile::tempdir().expect("a folder") }
    }

    fn serve(&self, max_builds: usize, fails: bool) -> (Arc<Service>, Begun) {
        let home = Home::at(self.dir.path().to_path_buf()).expect("a state folder");
        let (begun, receiver) = channel();
        let launcher = Arc::new(Held { begun: Mutex::new(begun), fails });
        let settings = ServiceSettings {
            max_builds,
            max_queued: 1,
            source_root: None,
            no_privileges: Some("no"),
        };
        let (service, told) = Service::open(&home, settings, launcher, false).expect("a service");
        assert_eq!(told, Vec::<String>::new());
        service.take_up_all().expect("threads");
        (service, receiver)
    }
}

fn input() -> Value {
    json!({
        "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2\n"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL"},
        "serviceRole": "arn:aws:iam::123456789012:role/builds",
    })
}

async fn until(service: &Service, uuid: &str, state: BuildProgress) -> StoredBuild {
    loop {
        let seen = service.changes();
        let build = service.build(uuid).await.expect("a look").expect("a build");
        if build.state == state {
            return build;
        }
        service.changed(seen).await;
    }
}

fn record_of(build: &StoredBuild) -> Value {
    serde_json::from_str(&build.record.as_ref().expect("a record").text).expect("JSON")
}

fn block<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(work)
}

#[test]
fn slots_queue_limits_and_tokens() {
    let rig = Rig::new();
    let (service, begun) = rig.serve(1, false);
    block(async {
        service.create_project("demo", &input()).await.expect("a project");
        let with = json!({"idempotencyToken": "t"});
        let first = service.start_build("demo", &with, "me").await.expect("a build");
        let again = service.start_build("demo", &with, "me").await.expect("the same");
        assert_eq!(first.uuid, again.uuid);
        let other = json!({"idempotencyToken": "t", "imageOverride": "other"});
        let refused = service.start_build("demo", &other, "me").await.expect_err("another call");
        assert!(
            matches!(&refused, Fault::Invalid(text) if text.contains("other parameters")),
            "{refused}"
        );
        let (uuid, end) = begun.recv().expect("a start");
        assert_eq!(uuid, first.uuid);
        let second = service.start_build("demo", &json!({}), "me").await.expect("a build");
        assert_eq!((first.number, second.number), (1, 2));
        let full = service.start_build("demo", &json!({}), "me").await.expect_err("full");
        assert!(
            matches!(&full, Fault::Limit(text) if text.contains("more than 1 builds in queue")),
            "{full}"
        );
        assert_eq!(
            until(&service, &second.uuid, BuildProgress::Queued).await.status,
            "IN_PROGRESS"
        );
        drop(end);
        let ended = until(&service, &first.uuid, BuildProgress::Ended).await;
        assert_eq!(ended.status, "FAULT", "without a record");
        let (uuid, end) = begun.recv().expect("a start");
        assert_eq!(uuid, second.uuid);
        let third = service.start_build("demo", &json!({}), "me").await.expect("a build");
        assert!(service.stop_queued(&third.uuid).await.expect("an answer"));
        let stopped = until(&service, &third.uuid, BuildProgress::Ended).await;
        assert_eq!(record_of(&stopped)["phases"][1]["phaseStatus"], "STOPPED");
        drop(end);
        until(&service, &second.uuid, BuildProgress::Ended).await;
        let privileged = json!({"privilegedModeOverride": true});
        let refused = service.start_build("demo", &privileged, "me").await.expect_err("refused");
        assert!(refused.to_string().contains("privilegedModeOverride"), "{refused}");
        service.drain();
        let refused = service.start_build("demo", &json!({}), "me").await.expect_err("refused");
        assert!(matches!(refused, Fault::Stopping));
    });
}

#[test]
fn a_failure_is_tried_again_as_often_as_the_project_says() {
    let rig = Rig::new();
    let (service, _begun) = rig.serve(1, true);
    block(async {
        service.create_project("demo", &input()).await.expect("a project");
        let limit = json!({"autoRetryLimitOverride": 2});
        let first = service.start_build("demo", &limit, "me").await.expect("a build");
        let mut uuid = first.uuid.clone();
        for number in 0..3 {
            let record = record_of(&until(&service, &uuid, BuildProgress::Ended).await);
            let config = &record["autoRetryConfig"];
            assert_eq!(config["autoRetryNumber"], number);
            assert!(record["phases"][2]["contexts"][0]["message"] == "no such image", "{record}");
            match config["nextAutoRetry"].as_str().and_then(|arn| arn.rsplit_once(':')) {
                Some((_, next)) => uuid = next.to_owned(),
                None => assert_eq!(number, 2),
            }
        }
        let list = service.list_builds(None, true, None, 10).await.expect("a list");
        assert_eq!(list.len(), 3);
    });
}

/// Puts a build in a state that a kill may have left.
fn left(service: &Service, state: BuildProgress) -> String {
    service
        .db
        .write_now(move |connection| -> Result<String, DbError> {
            let order = json!({"project": input(), "initiator": "me"});
            let uuid = uuid::Uuid::new_v4().to_string();
            builds::insert(
                connection,
                &StoredBuild {
                    uuid: uuid.clone(),
                    seq: 0,
                    project: "demo".to_owned(),
                    number: 1,
                    state,
                    status: "IN_PROGRESS".to_owned(),
                    requested: 1,
                    deadline: None,
                    order: Some(order),
                    record: None,
                    log: None,
                },
            )?;
            Ok(uuid)
        })
        .expect("a build")
}

#[test]
fn a_build_starts_once_whenever_the_service_is_killed() {
    let rig = Rig::new();
    let starts = rig.dir.path().join("starts");
    let (service, _) = rig.serve(0, false);
    let file = |uuid: &str, text: &str| {
        std::fs::write(starts.join(uuid), text).expect("a file");
    };
    // Before its lock existed; with a lock that nobody holds; after the folder existed and was
    // removed.
    let (never, died, gone) = (
        left(&service, BuildProgress::Starting),
        left(&service, BuildProgress::Starting),
        left(&service, BuildProgress::Starting),
    );
    file(&died, "");
    file(&gone, BEGUN);
    let live = left(&service, BuildProgress::Starting);
    file(&live, "");
    let mut lock =
        std::fs::OpenOptions::new().append(true).open(starts.join(&live)).expect("a file");
    lock.lock().expect("the lock");
    drop(service);

    let (service, begun) = rig.serve(9, false);
    block(async {
        assert_eq!(until(&service, &gone, BuildProgress::Ended).await.status, "FAULT");
        let mut again = [begun.recv().expect("a start"), begun.recv().expect("a start")];
        again.sort_by(|a, b| a.0.cmp(&b.0));
        let mut wanted = [never.clone(), died.clone()];
        wanted.sort();
        assert_eq!([&again[0].0, &again[1].0], [&wanted[0], &wanted[1]]);
        assert_eq!(
            until(&service, &live, BuildProgress::Starting).await.state,
            BuildProgress::Starting
        );
        // The live process begins its build, and ends.
        lock.write_all(BEGUN.as_bytes()).expect("written");
        drop(lock);
        until(&service, &live, BuildProgress::Ended).await;
        assert!(begun.try_recv().is_err(), "nothing starts twice");
        drop(again);
        until(&service, &never, BuildProgress::Ended).await;
        until(&service, &died, BuildProgress::Ended).await;
    });
}

/// Builds queued in an older copy may have run since.
#[test]
fn a_restored_copy_starts_nothing() {
    let rig = Rig::new();
    let (service, _) = rig.serve(0, false);
    let (waits, was_starting) =
        (left(&service, BuildProgress::Queued), left(&service, BuildProgress::Starting));
    let has_run = left(&service, BuildProgress::Queued);
    service.close().expect("a copy");
    drop(service);
    std::fs::create_dir_all(rig.dir.path().join("builds").join(&has_run)).expect("a folder");
    std::fs::write(rig.dir.path().join("serve.db"), vec![b'x'; 8192]).expect("a file");
    let home = Home::at(rig.dir.path().to_path_buf()).expect("a state folder");
    let (begun, starts) = channel();
    let launcher = Arc::new(Held { begun: Mutex::new(begun), fails: false });
    let settings =
        ServiceSettings { max_builds: 9, max_queued: 9, source_root: None, no_privileges: None };
    // The first process that opens it may do something else with it, or be killed.
    let told = crate::db::Db::open(home.root()).expect("a database").told;
    assert_eq!(told.len(), 2, "{told:?}");
    let (service, told) = Service::open(&home, settings, launcher, false).expect("a service");
    assert_eq!(told, Vec::<String>::new());
    service.take_up_all().expect("threads");
    block(async {
        service.begin().await;
        for uuid in [&waits, &was_starting] {
            let build = until(&service, uuid, BuildProgress::Ended).await;
            let record = record_of(&build);
            let why = record["phases"][2]["contexts"][0]["message"].as_str().expect("why");
            assert!(why.contains("does not say whether this build has run"), "{why}");
        }
        service.drain();
    });
    assert!(starts.try_recv().is_err(), "nothing starts");
}

/// Nothing begins before it is taken up: a service may be opened and then fail to listen.
#[test]
fn nothing_starts_before_it_is_taken_up() {
    let rig = Rig::new();
    let (service, _) = rig.serve(0, false);
    left(&service, BuildProgress::Starting);
    left(&service, BuildProgress::Queued);
    drop(service);
    let home = Home::at(rig.dir.path().to_path_buf()).expect("a state folder");
    let (begun, starts) = channel();
    let launcher = Arc::new(Held { begun: Mutex::new(begun), fails: false });
    let settings =
        ServiceSettings { max_builds: 9, max_queued: 9, source_root: None, no_privileges: None };
    let (service, _) = Service::open(&home, settings, launcher, false).expect("a service");
    drop(service);
    assert!(starts.try_recv().is_err());
}

#[test]
fn a_deadline_lies_no_further_away_than_it_can_have_been_set() {
    let rig = Rig::new();
    let (service, _) = rig.serve(0, false);
    let uuid = left(&service, BuildProgress::Queued);
    let of = uuid.clone();
    // Set by a clock that was a year ahead.
    let year = 365 * 24 * 60 * 60 * 1000;
    let far = service.clock.now() + year;
    service
        .db
        .write_now(move |connection| builds::set_deadline(connection, &of, far))
        .expect("set");
    drop(service);
    let (service, _) = rig.serve(0, false);
    let build = block(service.build(&uuid)).expect("a look").expect("a build");
    let deadline = build.deadline.expect("a deadline");
    assert!(deadline <= service.clock.now() + patience(&build), "{deadline}");
}

/// A deleted build leaves no row; a live one is not deleted.
#[test]
fn deleting() {
    let rig = Rig::new();
    let (service, _) = rig.serve(0, false);
    let (ended, waits) =
        (left(&service, BuildProgress::Queued), left(&service, BuildProgress::Queued));
    block(async {
        service.refresh().await.expect("a look");
        assert!(service.stop_queued(&ended).await.expect("an answer"));
        let folder = rig.dir.path().join("builds").join(&ended);
        std::fs::create_dir_all(&folder).expect("a folder");
        let both = vec![ended.clone(), waits.clone()];
        let deleted = service.delete_builds(both).await.expect("an answer");
        assert_eq!((deleted.gone.len(), deleted.alive.len(), deleted.failed.len()), (1, 1, 0));
        assert_eq!(service.build(&ended).await.expect("a look"), None);
        assert!(service.build(&waits).await.expect("a look").is_some() && !folder.exists());
    });
}

/// Rows are removed with their folders, and those that never had one after a while.
#[test]
fn rows_do_not_stay_for_ever() {
    let rig = Rig::new();
    let (service, _) = rig.serve(0, false);
    let uuid = left(&service, BuildProgress::Queued);
    block(async {
        assert!(service.stop_queued(&uuid).await.expect("an answer"));
        // It was requested in 1970.
        service.refresh().await.expect("a look");
        assert_eq!(service.build(&uuid).await.expect("a look"), None);
    });
}

/// Of two concurrent changes none is lost, and only what was checked is stored.
#[test]
fn changes_of_a_project_do_not_pass_each_other() {
    let rig = Rig::new();
    let (service, _) = rig.serve(0, false);
    block(async {
        service.create_project("demo", &input()).await.expect("a project");
        let (tags, limit) = (json!({"description": "new"}), json!({"concurrentBuildLimit": 3}));
        let both = tokio::join!(
            service.update_project("demo", &tags),
            service.update_project("demo", &limit),
        );
        both.0.expect("changed");
        both.1.expect("changed");
        let project = service.project("demo").await.expect("a look").expect("a project");
        assert_eq!(
            (&project.given["description"], &project.given["concurrentBuildLimit"]),
            (&json!("new"), &json!(3))
        );
    });
}

/// The cost of many builds depends only on what is asked of them.
#[test]
fn ten_thousand_builds_and_a_thousand_that_wait() {
    let rig = Rig::new();
    let (service, _) = rig.serve(0, false);
    let record = json!({"buildStatus": "SUCCEEDED", "endTime": 2.0, "phases": []});
    let now = service.clock.now();
    let last = service
        .db
        .write_now(move |connection| -> Result<String, DbError> {
            let mut last = String::new();
            for number in 0..11_000_i64 {
                let has_ended = number < 10_000;
                last = uuid::Uuid::new_v4().to_string();
                builds::insert(
                    connection,
                    &StoredBuild {
                        uuid: last.clone(),
                        seq: 0,
                        project: "demo".to_owned(),
                        number,
                        state: if has_ended { BuildProgress::Ended } else { BuildProgress::Queued },
                        status: "SUCCEEDED".to_owned(),
                        requested: now + number,
                        deadline: Some(now + 1_000_000),
                        order: Some(json!({"project": {}})),
                        record: has_ended.then(|| (&record).into()),
                        log: Some(("/g".to_owned(), last.clone())),
                    },
                )?;
            }
            Ok(last)
        })
        .expect("builds");
    block(async {
        let (mut after, mut seen) = (None, 0);
        loop {
            let page = service.list_builds(None, true, after, 1000).await.expect("a page");
            seen += page.len();
            match page.last() {
                Some((id, place)) => {
                    assert!(after.is_some() || id.len() > 40);
                    after = Some(*place);
                }
                None => break,
            }
        }
        assert_eq!(seen, 11_000);
        assert!(service.stop_queued(&last).await.expect("an answer"));
    });
    // No query scans all of them.
    let plans = service
        .db
        .read_now(|connection| -> Result<Vec<String>, DbError> {
            let mut plans = Vec::new();
            let logs = [
                "SELECT uuid FROM build WHERE log_group = 'a' AND log_stream = 'b'",
                "SELECT uuid FROM build WHERE log_group = 'a' AND log_last >= 1 AND requested <= 2",
                "SELECT uuid FROM build WHERE state != 'gone' AND (requested, seq) < (1, 2) ORDER BY requested DESC, seq DESC LIMIT 4",
            ];
            for text in builds::OFTEN.into_iter().chain(logs) {
                let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}"))?;
                let values = vec!["demo"; query.parameter_count()];
                let values = rusqlite::params_from_iter(values);
                let rows = query.query_map(values, |row| row.get::<_, String>(3))?;
                plans.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            Ok(plans)
        })
        .expect("plans");
    // A partial index holds only queued or running builds.
    let is_bounded = |plan: &String| {
        let partial = ["build_waiting", "build_single", "build_due", "build_active"];
        !plan.starts_with("SCAN build") || partial.iter().any(|index| plan.contains(index))
    };
    let unbounded: Vec<_> = plans.iter().filter(|plan| !is_bounded(plan)).collect();
    assert!(unbounded.is_empty(), "{unbounded:#?} of {plans:#?}");
}
