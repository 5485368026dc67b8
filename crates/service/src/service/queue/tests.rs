//! The queue over kills, without processes: files and locks as they would be.

use super::*;
use crate::service::{Fault, Settings};
use serde_json::json;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use tempfile::TempDir;

/// A launcher whose processes are held by the test.
struct Held {
    begun: Mutex<Sender<(String, Sender<()>)>>,
    fails: bool,
}

impl Launcher for Held {
    fn launch(&self, start: &Start, lock: File) -> Result<Process, String> {
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
        let settings =
            Settings { max_builds, max_queued: 1, source_root: None, no_privileges: Some("no") };
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

async fn until(service: &Service, uuid: &str, state: State) -> Build {
    loop {
        let seen = service.changes();
        let build = service.build(uuid).await.expect("a look").expect("a build");
        if build.state == state {
            return build;
        }
        service.changed(seen).await;
    }
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
        assert_eq!(until(&service, &second.uuid, State::Queued).await.status, "IN_PROGRESS");
        drop(end);
        let ended = until(&service, &first.uuid, State::Ended).await;
        assert_eq!(ended.status, "FAULT", "without a record");
        let (uuid, end) = begun.recv().expect("a start");
        assert_eq!(uuid, second.uuid);
        let third = service.start_build("demo", &json!({}), "me").await.expect("a build");
        assert!(service.stop_queued(&third.uuid).await.expect("an answer"));
        let stopped = until(&service, &third.uuid, State::Ended).await;
        assert_eq!(stopped.record.expect("a record")["phases"][1]["phaseStatus"], "STOPPED");
        drop(end);
        until(&service, &second.uuid, State::Ended).await;
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
            let record = until(&service, &uuid, State::Ended).await.record.expect("a record");
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

/// Puts a build where a kill may have left it.
fn left(service: &Service, state: State) -> String {
    service
        .db
        .write_now(move |connection| -> Result<String, DbError> {
            let order = json!({"project": input(), "initiator": "me"});
            let uuid = uuid::Uuid::new_v4().to_string();
            builds::insert(
                connection,
                &Build {
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
    // Before its lock was there; with a lock that nobody holds any more; after the folder was there and has gone.
    let (never, died, gone) = (
        left(&service, State::Starting),
        left(&service, State::Starting),
        left(&service, State::Starting),
    );
    file(&died, "");
    file(&gone, BEGUN);
    let live = left(&service, State::Starting);
    file(&live, "");
    let mut lock =
        std::fs::OpenOptions::new().append(true).open(starts.join(&live)).expect("a file");
    lock.lock().expect("the lock");
    drop(service);

    let (service, begun) = rig.serve(9, false);
    block(async {
        assert_eq!(until(&service, &gone, State::Ended).await.status, "FAULT");
        let mut again = [begun.recv().expect("a start"), begun.recv().expect("a start")];
        again.sort_by(|a, b| a.0.cmp(&b.0));
        let mut wanted = [never.clone(), died.clone()];
        wanted.sort();
        assert_eq!([&again[0].0, &again[1].0], [&wanted[0], &wanted[1]]);
        assert_eq!(until(&service, &live, State::Starting).await.state, State::Starting);
        // The process that lives begins its build, and ends.
        lock.write_all(BEGUN.as_bytes()).expect("written");
        drop(lock);
        until(&service, &live, State::Ended).await;
        assert!(begun.try_recv().is_err(), "nothing starts twice");
        drop(again);
        until(&service, &never, State::Ended).await;
        until(&service, &died, State::Ended).await;
    });
}
