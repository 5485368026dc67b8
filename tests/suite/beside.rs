//! Containers beside a build: `--service`.

use crate::common::registry::Layout;
use crate::common::{Bed, build, cases, list};
use nix::sys::signal::Signal;
use std::fs;

cases! {
    [Root, Image("busybox"), Program("umoci")] => limits_hold_for_services;
    [Containers, Image("busybox"), Program("umoci"), Pasta] => a_service_is_reached_by_way_of_pasta;
    [Containers, Image("busybox"), Program("umoci")] => a_service_answers_by_its_name,
        a_service_is_reached_from_a_closed_network,
        a_service_that_does_not_start_says_why, a_killed_runner_leaves_no_service, services_go_where_they_can_be_reached;
}

/// An image that serves a variable at a port it exposes.
fn serving() -> Layout {
    let layout = Layout::of_image("busybox");
    let serve =
        "echo serving $WORD; mkdir /w; echo served $WORD > /w/word; exec httpd -f -p 4711 -h /w";
    layout.config(&[
        "--config.entrypoint=/bin/sh",
        "--config.cmd=-c",
        &format!("--config.cmd={serve}"),
    ]);
    layout.config(&["--config.exposedports=4711/tcp", "--config.env=WORD=nothing"]);
    layout
}

const ASK: &str = "wget -qO- http://db:4711/word";

fn a_service_answers_by_its_name() {
    let bed = Bed::new();
    let layout = serving();
    let service = format!("db={}", layout.reference());
    let options = [
        "--service",
        &service,
        "--service-env",
        "db:WORD=secret-of-db",
        "--mask",
        "S",
        "-e",
        "S=secret-of-db",
    ];
    let outcome = bed.build(&build(&[ASK, ASK]), &options).code(0);
    assert_eq!(outcome.output(), "served ***\nserved ***\n");
    outcome.says(&format!("service db: {} at db:4711", layout.reference()));
    let log = fs::read_to_string(bed.only().join("services/db/log")).unwrap();
    assert!(log.starts_with("serving ***"), "{log}");
    assert_eq!(list(&bed.only().join("services/db")), ["log"]);
    // An image with another name, and an explicit port.
    let map = format!("postgres:16={}", layout.reference());
    let options = ["--service", "db=postgres:16:4711", "--image-map", &map];
    Bed::new().build(&build(&[ASK]), &options).code(0);
}

fn a_service_that_does_not_start_says_why() {
    let bed = Bed::new();
    let layout = Layout::of_image("busybox");
    layout.config(&[
        "--config.entrypoint=/bin/sh",
        "--config.cmd=-c",
        "--config.cmd=echo no password >&2; exit 3",
    ]);
    let service = format!("db={}:5432", layout.reference());
    let outcome = bed.build(&build(&["echo never"]), &["--service", &service]).code(3);
    let outcome = outcome
        .says("it ended before port 5432 answered: exit status 3; its last words:\nno password");
    let outcome = outcome.says("hint: its output is in ").says("--service-env db:NAME=VALUE");
    assert!(!outcome.stdout.contains("never"), "{}", outcome.stdout);
    let silent = Layout::of_image("busybox");
    let service = format!("db={}", silent.reference());
    bed.build(&build(&["true"]), &["--service", &service])
        .code(3)
        .says("does not say at which port it listens");
}

fn a_killed_runner_leaves_no_service() {
    let bed = Bed::new();
    let layout = serving();
    let service = format!("db={}", layout.reference());
    let mut running = bed.start(&build(&[ASK, "sleep 1000"]), &["--service", &service]);
    running.stdout.wait_for("served nothing");
    running.signal(Signal::SIGKILL);
    running.wait();
    bed.runner(["ps"]).code(0).says("was left by a runner that was killed");
    assert_eq!(list(&bed.only().join("services/db")), ["log"]);
}

/// For each of two builds, whatever else they can reach, and with a cache that makes the container
/// be created twice.
fn a_service_is_reached_from_a_closed_network() {
    let bed = Bed::new();
    let layout = serving();
    let service = format!("db={}", layout.reference());
    let ask = "mkdir -p /c; wget -qO- http://db:4711/word; ! wget -qO- http://127.0.0.1:4711/word 2>/dev/null";
    let text = build(&[ask]) + "cache:\n  paths: ['/c/**/*']\n";
    let cache = bed.path("cache").display().to_string();
    for _ in 0..2 {
        let options = ["--service", &service, "--network", "none", "--cache", &cache];
        assert_eq!(bed.build(&text, &options).code(0).output(), "served nothing\n");
    }
}

fn a_service_is_reached_by_way_of_pasta() {
    let layout = serving();
    let service = format!("db={}", layout.reference());
    let outcome = Bed::new().build(&build(&[ASK]), &["--service", &service, "--network", "pasta"]);
    assert_eq!(outcome.code(0).output(), "served nothing\n");
}

/// The build's limits apply to each service separately.
fn limits_hold_for_services() {
    let bed = Bed::new();
    let layout = Layout::of_image("busybox");
    let serve =
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 & done; exec httpd -f -p 4711 -h /";
    layout.config(&[
        "--config.entrypoint=/bin/sh",
        "--config.cmd=-c",
        &format!("--config.cmd={serve}"),
    ]);
    let service = format!("db={}:4711", layout.reference());
    let outcome =
        bed.build(&build(&["true"]), &["--service", &service, "--pids-limit", "8"]).code(3);
    outcome.says("it ended before port 4711 answered").says("fork");
    let meta = fs::read_to_string(bed.only().join("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    let groups: Vec<&str> =
        meta["groups"].as_array().unwrap().iter().filter_map(|group| group.as_str()).collect();
    assert!(groups.iter().any(|group| group.ends_with("-db")), "{groups:?}");
    assert!(!groups.iter().any(|group| std::path::Path::new(group).exists()), "{groups:?}");
}

fn services_go_where_they_can_be_reached() {
    let bed = Bed::new();
    let with = |options: &[&str]| {
        bed.build(&build(&["true"]), &[&["--service", "db=redis"], options].concat())
    };
    with(&["--service-env", "queue:A=b"]).code(2).says("there is no --service `queue`");
    bed.write("runner.toml", "service = ['db=redis']\n");
    bed.runner(["run"])
        .code(2)
        .says("`service` starts a container of another image beside the build");
    fs::remove_file(bed.source().join("runner.toml")).unwrap();
    bed.runner(["run", "--service", "db=redis", "--engine", "docker", "--image", "x"])
        .code(2)
        .says("--engine docker starts no services beside a build");
}
