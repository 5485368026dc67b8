//! The local CodeBuild when it is killed, finds no space, or meets another instance.

use super::service::{a_project, call, has_ended, served, spec, start, until};
use crate::common::endpoint::Endpoint;
use crate::common::{Bed, Running, cases};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

cases! {
    [Containers] => kills_at_any_time, one_serves_a_folder;
    [Containers, Extended] => kills_at_any_time_of_a_long_night;
    [Containers, Root] => a_full_disk;
}

/// Each acknowledged build is built once, whenever `serve` is killed; and so is each call that got
/// no response and is repeated with its token.
fn kills_at_any_time() {
    kills(6);
}

fn kills_at_any_time_of_a_long_night() {
    kills(500);
}

fn kills(rounds: usize) {
    let bed = Bed::host();
    let options = ["--no-auth", "--max-builds", "2", "--max-queued", "500"];
    let (endpoint, server) = served(&bed, "echo once", &options[1..]);
    let mut ids = BTreeSet::new();
    let mut serving: Option<(Endpoint, Running)> = Some((endpoint, server));
    for round in 0..rounds {
        let (endpoint, mut server) =
            serving.take().unwrap_or_else(|| Endpoint::serve(&bed, &options));
        let token = json!({"projectName": "demo", "idempotencyToken": format!("round {round}")});
        match round % 3 {
            // Right after a response.
            0 => {
                ids.insert(start(&endpoint, json!({})));
            }
            // While a process is being created.
            1 => {
                let id = start(&endpoint, json!({}));
                let folder = bed.home().join("builds").join(id.rsplit_once(':').unwrap().1);
                crate::common::until("a folder", || folder.exists());
                ids.insert(id);
            }
            // While it writes: the caller got no response and asks again.
            _ => {}
        }
        std::thread::scope(|scope| {
            let asks = (round % 3 == 2).then(|| {
                let body = token.to_string();
                let target = [("X-Amz-Target", "CodeBuild_20161006.StartBuild")];
                let endpoint = &endpoint;
                scope.spawn(move || {
                    // It may never answer.
                    let _ = std::panic::catch_unwind(|| endpoint.post(&target, &body));
                })
            });
            let begin = std::time::Instant::now();
            while asks.is_some() && begin.elapsed().as_micros() < 700 * (round as u128 % 7) {
                std::hint::spin_loop();
            }
            server.signal(Signal::SIGKILL);
            server.wait();
        });
        if round % 3 == 2 {
            let (endpoint, server) = Endpoint::serve(&bed, &options);
            let build = call(&endpoint, "StartBuild", &token)["build"]["id"].clone();
            ids.insert(build.as_str().unwrap().to_owned());
            serving = Some((endpoint, server));
        }
    }
    let (endpoint, server) = serving.unwrap_or_else(|| Endpoint::serve(&bed, &options));
    for id in &ids {
        assert_eq!(until(&endpoint, id, has_ended)["buildStatus"], "SUCCEEDED", "{id}");
        let folder = bed.home().join("builds").join(id.rsplit_once(':').unwrap().1);
        assert_eq!(fs::read_to_string(folder.join("output.log")).unwrap(), "once\n", "{id}");
    }
    let mut listed = BTreeSet::new();
    let mut input = json!({});
    loop {
        let page = call(&endpoint, "ListBuilds", &input);
        listed.extend(
            page["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()),
        );
        match page.get("nextToken") {
            Some(token) => input = json!({"nextToken": token}),
            None => break,
        }
    }
    assert_eq!(listed, ids, "each once");
    assert_eq!(fs::read_dir(bed.home().join("builds")).unwrap().count(), ids.len());
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn one_serves_a_folder() {
    let bed = Bed::host();
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let second = bed.runner(["serve", "--listen", "127.0.0.1:0"]).code(3);
    assert!(second.stderr.contains(&endpoint.address), "{second:?}");
    assert_eq!(call(&endpoint, "ListBuilds", &json!({}))["ids"], json!([]));
    server.signal(Signal::SIGTERM);
    server.ends(0);
    // If it cannot listen nothing begins, and queued builds stay queued.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    bed.runner(["serve", "--listen", &address]).code(3);
}

/// A separate disk, unmounted on drop.
pub(super) struct Disk(std::path::PathBuf);

impl Disk {
    /// A disk of this many megabytes for a bed's state folder.
    pub(super) fn for_home(bed: &Bed, megabytes: u32) -> Self {
        fs::create_dir_all(bed.home()).unwrap();
        let options = format!("size={megabytes}m,mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(bed.home());
        assert!(mount.status().unwrap().success());
        Disk(bed.home())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Nothing is done partially, reads continue, and once there is space everything continues.
fn a_full_disk() {
    let bed = Bed::host();
    let disk = Disk::for_home(&bed, 8);
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    call(&endpoint, "CreateProject", &a_project(&spec("true")));
    let filler = bed.home().join("filler");
    // All free space, and then the last pages.
    for size in [1 << 20, 4096, 512] {
        let mut text = fs::read(&filler).unwrap_or_default();
        loop {
            text.resize(text.len() + size, b'x');
            if fs::write(&filler, &text).is_err() {
                break;
            }
        }
    }
    let refused = |name: &str, input: &Value| {
        let (status, answer) = endpoint.call(&format!("CodeBuild_20161006.{name}"), input);
        assert_eq!((status, &answer["__type"]), (500, &json!("InternalFailure")), "{answer}");
        let message = answer["message"].as_str().unwrap().to_lowercase();
        assert!(message.contains("no space left"), "{message}");
    };
    let mut other = a_project(&spec("true"));
    other["name"] = json!("other");
    other["description"] = json!("x".repeat(255));
    // What fits into an existing page may still be written.
    let mut made = 0;
    loop {
        other["name"] = json!(format!("other-{made}"));
        let (status, _) = endpoint.call("CodeBuild_20161006.CreateProject", &other);
        if status != 200 || made == 5000 {
            break;
        }
        made += 1;
    }
    refused("CreateProject", &other);
    assert_eq!(
        call(&endpoint, "BatchGetProjects", &json!({"names": ["demo"]}))["projects"][0]["name"],
        "demo"
    );
    fs::remove_file(&filler).unwrap();
    let id = start(&endpoint, json!({}));
    assert_eq!(until(&endpoint, &id, has_ended)["buildStatus"], "SUCCEEDED");
    server.signal(Signal::SIGTERM);
    server.ends(0);
    drop(disk);
}
