//! Tests of batches without processes: each event's effects in the database.

use super::*;
use crate::batch::record::shown;
use crate::db::builds;
use crate::service::ServiceSettings;
use crate::service::queue::{BuildEnd, Launcher, ProcessWait, Start, note};
use runner_core::batch::PlannedBuild;
use std::fs::File;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use tempfile::TempDir;

/// A launcher whose processes are controlled by the test.
struct Held {
    begun: Mutex<Sender<(String, Sender<()>)>>,
    stopped: Mutex<Sender<String>>,
}

impl Launcher for Held {
    fn launch(&self, start: &Start, lock: File) -> Result<ProcessWait, String> {
        let (end, ended) = channel::<()>();
        let begun = self.begun.lock().expect("no panic");
        begun.send((start.uuid.clone(), end)).map_err(|error| error.to_string())?;
        Ok(Box::new(move || {
            let _ = ended.recv();
            drop(lock);
        }))
    }

    fn stop(&self, uuid: &str) -> Result<(), String> {
        self.stopped
            .lock()
            .expect("no panic")
            .send(uuid.to_owned())
            .map_err(|error| error.to_string())
    }

    fn plan(&self, _: &Start) -> Result<PlannedBatch, Rejected> {
        Err(unread("none"))
    }

    fn sweep(&self) {}
}

struct Rig {
    dir: TempDir,
}

type Begun = Receiver<(String, Sender<()>)>;

impl Rig {
    fn new() -> Self {
        Rig { dir: tempfile::tempdir().expect("a folder") }
    }

    fn serve(&self, max_builds: usize) -> (Arc<Service>, Begun, Receiver<String>) {
        let home = Home::at(self.dir.path().to_path_buf()).expect("a state folder");
        let ((begun, receiver), (stopped, stops)) = (channel(), channel());
        let launcher = Held { begun: Mutex::new(begun), stopped: Mutex::new(stopped) };
        let settings =
            ServiceSettings { max_builds, max_queued: 1, source_root: None, no_privileges: None };
        let opened = Service::open(&home, settings, Arc::new(launcher), false);
        let (service, _) = opened.expect("a service");
        service.take_up_all().expect("threads");
        (service, receiver, stops)
    }
}

fn block<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(work)
}

fn project() -> Value {
    json!({
        "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2\n"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL"},
        "serviceRole": "arn:aws:iam::123456789012:role/builds",
        "buildBatchConfig": {"serviceRole": "arn:aws:iam::123456789012:role/batches", "timeoutInMins": 5},
    })
}

/// A list of builds, the second of which depends on the first.
fn plan(names: &[&str]) -> PlannedBatch {
    let builds = names.iter().enumerate().map(|(at, name)| PlannedBuild {
        identifier: (*name).to_owned(),
        depends_on: if at == 1 { vec![0] } else { Vec::new() },
        ignore_failure: false,
        settings: runner_core::batch::BatchBuildSettings::default(),
        shard: None,
    });
    PlannedBatch { plan: BatchPlan { fast_fail: false, builds: builds.collect() }, commit: None }
}

/// A batch, and the uuid of the build that gets its source.
fn begun(service: &Arc<Service>) -> (Batch, String) {
    block(async {
        if service.project("demo").await.expect("a look").is_none() {
            service.create_project("demo", &project()).await.expect("a project");
        }
        let batch = service.start_batch("demo", &json!({}), "me").await.expect("a batch");
        let uuid = crate::batch::uuid_of(&batch.progress.download.arn).to_owned();
        (batch, uuid)
    })
}

/// Records the end of a build, which needs no process.
fn end(service: &Service, uuid: &str, status: &str, planned: Option<PlannedBatch>) -> Follow {
    end_in(service, uuid, (status, 0), planned)
}

/// The same, so many milliseconds from now.
fn end_in(
    service: &Service,
    uuid: &str,
    (status, later): (&str, i64),
    planned: Option<PlannedBatch>,
) -> Follow {
    let (home, uuid, status) = (service.home.clone(), uuid.to_owned(), status.to_owned());
    let now = (clock::wall().epoch_millis() + later, service.clock.now());
    let noted = service.db.write_now(move |connection| -> Result<Follow, DbError> {
        let build = builds::get(connection, &uuid)?.expect("a build");
        let planned = planned.map(Ok);
        let record =
            json!({"buildStatus": status, "phases": [], "reportArns": [format!("report-{uuid}")]});
        let end = BuildEnd { build: &build, record, has_folder: false, planned: planned.as_ref() };
        note(connection, &home, end, now)
    });
    noted.expect("noted")
}

fn now(service: &Service, batch: &Batch) -> Batch {
    block(service.batch(&batch.uuid)).expect("a look").expect("a batch")
}

fn arn(batch: &Batch, at: usize) -> String {
    crate::batch::uuid_of(batch.progress.machine.arn(at).expect("a build")).to_owned()
}

#[test]
fn a_batch_lives_in_the_database_over_kills() {
    let rig = Rig::new();
    let (service, ..) = rig.serve(0);
    let (batch, download) = begun(&service);
    assert_eq!(crate::batch::record::first(&batch)["currentPhase"], "SUBMITTED");
    end(&service, &download, "SUCCEEDED", Some(plan(&["a", "b", "c"])));
    // A second end has no effect.
    assert!(!end(&service, &download, "FAILED", None).has_new);
    drop(service);
    let (service, ..) = rig.serve(0);
    let mut current = now(&service, &batch);
    let groups = &shown(&current)["buildGroups"];
    let stand: Vec<&Value> =
        (0..4).map(|at| &groups[at]["currentBuildSummary"]["buildStatus"]).collect();
    assert_eq!(stand, ["SUCCEEDED", "IN_PROGRESS", "PENDING", "IN_PROGRESS"]);
    for at in [0, 2, 1] {
        end(&service, &arn(&current, at), "SUCCEEDED", None);
        current = now(&service, &batch);
    }
    let record = shown(&current);
    assert_eq!(
        (&record["buildBatchStatus"], current.state),
        (&json!("SUCCEEDED"), BuildProgress::Ended)
    );
    assert_eq!(record["reportArns"].as_array().map(Vec::len), Some(4));
    let deleted = block(service.delete_batch(&batch.uuid)).expect("an answer");
    assert_eq!((deleted.gone.len(), deleted.alive.len()), (4, 0));
    assert!(block(service.batch(&batch.uuid)).expect("a look").is_none());
}

#[test]
fn time_that_is_up_stops_what_runs_also_over_a_kill() {
    let rig = Rig::new();
    let (service, begun_builds, stops) = rig.serve(1);
    let (batch, download) = begun(&service);
    let (uuid, held) = begun_builds.recv().expect("a start");
    assert_eq!(uuid, download);
    let late = batch.uuid.clone();
    service
        .db
        .write_now(move |connection| -> Result<(), DbError> {
            let mut batch = batches::get(connection, &late)?.expect("a batch");
            batch.deadline = Some(0);
            batches::put(connection, &batch)
        })
        .expect("set");
    let expired = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let expired = expired.expect("a runtime").block_on(async {
        tokio::select! {
            () = service.expire() => None,
            stopped = tokio::task::spawn_blocking(move || stops.recv()) => stopped.ok(),
        }
    });
    assert_eq!(expired, Some(Ok(download.clone())));
    service.drain();
    // The next service asks again: the process lives.
    drop(service);
    let (service, _, stops) = rig.serve(0);
    assert_eq!(stops.recv(), Ok(download.clone()));
    drop(held);
    end(&service, &download, "STOPPED", None);
    assert_eq!(now(&service, &batch).status, "TIMED_OUT");
}

/// Its last build may take its time.
#[test]
fn a_batch_that_is_stopped_ends_then() {
    let rig = Rig::new();
    let (service, begun_builds, _stops) = rig.serve(1);
    let (batch, download) = begun(&service);
    let (_, held) = begun_builds.recv().expect("a start");
    let stopped = block(service.stop_batch(&batch.uuid)).expect("an answer").expect("a batch");
    assert_eq!(stopped.state, BuildProgress::Live);
    end_in(&service, &download, ("STOPPED", 60_000), None);
    let ended = now(&service, &batch);
    assert_eq!(ended.state, BuildProgress::Ended);
    let (before, after) = (shown(&stopped), shown(&ended));
    assert_eq!(before["endTime"], after["endTime"]);
    let end = |record: &Value| record["phases"][1]["endTime"].clone();
    assert_eq!(end(&before), end(&after));
    drop(held);
}

/// What was asked for long ago may have been tried again since.
#[test]
fn the_age_of_a_batch_counts_from_its_end() {
    let rig = Rig::new();
    let (service, ..) = rig.serve(0);
    let (batch, _) = begun(&service);
    let recent = clock::wall().epoch_millis();
    let left = service
        .db
        .write_now(move |connection| -> Result<_, DbError> {
            for (uuid, ended) in [("old", 1000), ("retried", recent)] {
                let mut other = Batch { uuid: uuid.to_owned(), requested: 1000, ..batch.clone() };
                batches::insert(connection, &other)?;
                let context = PhaseContext::new(StatusCode::ClientError, "no");
                other.progress.machine.fault(context, wall((ended, 0)));
                other.state = BuildProgress::Ended;
                batches::put(connection, &other)?;
            }
            batches::forget_old(connection, recent - KEPT_MS)?;
            let there = |uuid| batches::get(connection, uuid).map(|batch| batch.is_some());
            Ok((there("old")?, there("retried")?, there(&batch.uuid)?))
        })
        .expect("a look");
    assert_eq!(left, (false, true, true));
}

#[test]
fn a_stop_takes_what_waits_out_of_the_queue() {
    let rig = Rig::new();
    let (service, ..) = rig.serve(0);
    // Before there is a plan, and after.
    let (early, _) = begun(&service);
    let stopped = block(service.stop_batch(&early.uuid)).expect("an answer").expect("a batch");
    assert_eq!((stopped.status.as_str(), stopped.state), ("STOPPED", BuildProgress::Ended));
    let (batch, download) = begun(&service);
    end(&service, &download, "SUCCEEDED", Some(plan(&["a", "b"])));
    let stopped = block(service.stop_batch(&batch.uuid)).expect("an answer").expect("a batch");
    assert_eq!((stopped.status.as_str(), stopped.state), ("STOPPED", BuildProgress::Ended));
    let list = block(service.list_builds(None, true, None, 10)).expect("a list");
    assert_eq!(list.len(), 3, "b has never been");
    // All of it again, with the same number.
    let again = block(service.retry_batch(&stopped, &json!({}), "me")).expect("again");
    assert_eq!((again.number, again.state), (batch.number, BuildProgress::Live));
    let twice = block(service.retry_batch(&again, &json!({}), "me")).expect_err("it runs");
    assert!(matches!(&twice, Fault::Invalid(text) if text.contains("has not ended")), "{twice}");
    let failed = json!({"retryType": "RETRY_FAILED_BUILDS"});
    block(service.stop_batch(&batch.uuid)).expect("an answer");
    let stopped = now(&service, &batch);
    // Getting the source failed, so it is repeated too.
    block(service.retry_batch(&stopped, &failed, "me")).expect("again");
}

/// Builds of batches wait for their project's limit where StartBuild is rejected, and the queue's
/// limit does not count them.
#[test]
fn limits() {
    let rig = Rig::new();
    let (service, begun_builds, _stops) = rig.serve(2);
    let (_, download) = begun(&service);
    let (first, _held) = begun_builds.recv().expect("a start");
    assert_eq!(first, download);
    block(async {
        let limit = json!({"concurrentBuildLimit": 1});
        service.update_project("demo", &limit).await.expect("changed");
        service.create_project("other", &project()).await.expect("a project");
        for _ in 0..3 {
            service.start_batch("demo", &json!({}), "me").await.expect("a batch");
        }
        let refused = service.start_build("demo", &json!({}), "me").await.expect_err("full");
        assert!(matches!(refused, Fault::Limit(_)), "{refused}");
        // It passes those that wait for their project.
        let passes = service.start_build("other", &json!({}), "me").await.expect("a build");
        assert_eq!(begun_builds.recv().expect("a start").0, passes.uuid);
    });
    service.drain();
}

#[test]
fn a_restored_copy_knows_of_no_batch_how_it_stands() {
    let rig = Rig::new();
    let (service, ..) = rig.serve(0);
    let (batch, download) = begun(&service);
    end(&service, &download, "SUCCEEDED", Some(plan(&["a"])));
    service.close().expect("a copy");
    drop(service);
    std::fs::write(rig.dir.path().join("serve.db"), vec![b'x'; 8192]).expect("a file");
    let (service, ..) = rig.serve(0);
    let batch = now(&service, &batch);
    assert_eq!((batch.status.as_str(), batch.state), ("FAULT", BuildProgress::Ended));
    let context = &shown(&batch)["phases"][2]["contexts"][0];
    assert!(
        context["message"].as_str().is_some_and(|text| text.contains("was broken")),
        "{context}"
    );
}

#[test]
fn what_an_override_has_said_no_build_says_otherwise() {
    let given = project();
    let input = json!({
        "imageOverride": "ours", "environmentVariablesOverride": [{"name": "A", "value": "typed"}],
    });
    let order = order::of_batch("demo", &given, &input, "me").expect("sound");
    let home = tempfile::tempdir().expect("a folder");
    let home = Home::at(home.path().to_path_buf()).expect("a state folder");
    let batch = new_batch(&home, "demo", order, (0, 0)).expect("a batch");
    let settings = runner_core::batch::BatchBuildSettings {
        image: Some("theirs".to_owned()),
        compute_type: Some("BUILD_GENERAL1_LARGE".to_owned()),
        variables: [("A", "own"), ("B", "own")]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        ..runner_core::batch::BatchBuildSettings::default()
    };
    let mut planned = plan(&["a"]).plan.builds.remove(0);
    planned.settings = settings;
    let order = order::child(&batch, &planned).expect("sound");
    let environment = &order["project"]["environment"];
    assert_eq!(
        (&environment["image"], &environment["computeType"]),
        (&json!("ours"), &json!("BUILD_GENERAL1_LARGE"))
    );
    let variables: Vec<&Value> = environment["environmentVariables"]
        .as_array()
        .expect("some")
        .iter()
        .map(|it| &it["value"])
        .collect();
    assert_eq!(variables, ["typed", "own"]);
    assert_eq!(order["batch"]["isStranger"], false);
    for image in ["docker-daemon:x", "image"] {
        planned.settings.image = Some(image.to_owned());
        let batch = Batch {
            order: order::of_batch("demo", &given, &json!({}), "me").expect("sound"),
            ..batch.clone()
        };
        let child = order::child(&batch, &planned);
        assert_eq!(child.is_ok_and(|order| order["batch"]["isStranger"] == true), image == "image");
    }
}
