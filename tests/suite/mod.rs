//! The suites, each about one topic.

mod access;
mod artifacts;
mod artifacts_faults;
mod aws_cli;
mod bad_input;
mod batch;
mod beside;
mod cache;
mod cache_buckets;
mod callers;
mod chain;
mod changes;
mod check;
mod clients;
mod confinement;
mod containers;
mod corpus;
mod cp;
mod daemons;
mod debugger;
mod debugger_faces;
mod doctor;
mod documents;
mod ecs;
mod ecs_sessions;
mod elsewhere;
mod endings;
mod ends;
mod engine;
mod everyday;
mod examples;
mod fidelity;
mod files;
mod fixtures;
mod floods;
mod folders;
mod forward;
mod full;
mod fuzz;
mod fuzz_sessions;
mod gateway;
mod gateway_engines;
mod gateway_ports;
mod git;
mod guards;
mod headless;
mod host;
mod hostile_caches;
mod hostile_images;
mod hostile_outputs;
mod hostile_registries;
mod hostile_source;
mod images;
mod interpreter;
mod language;
mod limits;
mod logs;
mod machines;
mod memory;
mod named_files;
mod names;
mod network;
mod output;
mod page;
mod page_batches;
mod page_faults;
mod page_forwards;
mod page_guards;
mod places;
mod privileged;
mod process;
mod programs;
mod project;
mod registries;
mod reports;
mod rewinds;
mod rootless;
mod run_command;
mod sealing;
mod secrets;
mod service;
mod service_batches;
mod service_faults;
mod service_logs;
mod session_documents;
mod session_log;
mod session_uploads;
mod session_uploads_faults;
mod sessions;
mod snapshots;
mod socat;
mod store;
mod stranger;
mod strangers;
mod stuck;
mod sudo;
mod toolbox;
mod waiting;
mod watch;

use crate::common::{Case, list, project};

/// Every case of every suite.
pub(crate) fn cases() -> Vec<Case> {
    let alike = alike().into_iter().map(|case| Case { is_alike: true, ..case });
    let differing = differing()
        .into_iter()
        .map(|case| Case { is_alike: ALIKE.contains(&short(case.name)), ..case });
    let mut cases: Vec<Case> = differing.chain(alike).collect();
    let run = no_suite_is_forgotten;
    cases.push(Case { name: "no_suite_is_forgotten", needs: &[], is_alike: true, run });
    cases
}

/// Suites whose results do not depend on the user: they parse, or speak with clients and servers.
/// If the tests run as several users, these run only as the first one.
fn alike() -> Vec<Case> {
    [
        access::cases(),
        aws_cli::cases(),
        bad_input::cases(),
        cache_buckets::cases(),
        callers::cases(),
        check::cases(),
        corpus::cases(),
        documents::cases(),
        ecs::cases(),
        ecs_sessions::cases(),
        endings::cases(),
        everyday::cases(),
        fixtures::cases(),
        floods::cases(),
        fuzz::cases(),
        fuzz_sessions::cases(),
        gateway::cases(),
        gateway_ports::cases(),
        hostile_registries::cases(),
        logs::cases(),
        names::cases(),
        page::cases(),
        page_batches::cases(),
        page_faults::cases(),
        page_forwards::cases(),
        page_guards::cases(),
        reports::cases(),
        service::cases(),
        service_batches::cases(),
        service_faults::cases(),
        service_logs::cases(),
        session_uploads::cases(),
        session_uploads_faults::cases(),
        snapshots::cases(),
        socat::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The slow ones among the cases of the other suites that do not depend on the user either: they
/// wait for servers and deadlines, or move much data.
const ALIKE: [&str; 21] = [
    "artifacts::a_sparse_file",
    "artifacts::a_zip_in_a_bucket",
    "artifacts::into_a_bucket",
    "artifacts::many_files",
    "artifacts_faults::a_bar_on_a_terminal",
    "artifacts_faults::a_server_that_fails",
    "artifacts_faults::a_server_that_stalls",
    "artifacts_faults::a_server_that_stumbles",
    "artifacts_faults::a_server_that_takes_its_time",
    "artifacts_faults::buckets_that_refuse",
    "artifacts_faults::no_half_object",
    "cache::a_bucket_that_spoils_it",
    "cache::a_bucket_that_stalls",
    "cache::a_bucket_that_stumbles",
    "cache::in_a_bucket",
    "doctor::a_build_that_does_not_answer",
    "doctor::an_endpoint_that_does_not_answer",
    "doctor::keys_of_awss_clients",
    "guards::five_seconds_and_no_more",
    "hostile_images::a_registry_that_lies",
    "waiting::nothing_to_wait_for",
];

/// A case's suite and name.
fn short(name: &str) -> &str {
    name.split_once("::suite::").map_or(name, |(_, short)| short)
}

/// Suites whose results may depend on the user: those that create containers, owners of files,
/// limits.
fn differing() -> Vec<Case> {
    [
        artifacts::cases(),
        artifacts_faults::cases(),
        batch::cases(),
        cache::cases(),
        chain::cases(),
        confinement::cases(),
        containers::cases(),
        clients::cases(),
        cp::cases(),
        daemons::cases(),
        debugger::cases(),
        debugger_faces::cases(),
        engine::cases(),
        doctor::cases(),
        elsewhere::cases(),
        ends::cases(),
        examples::cases(),
        files::cases(),
        folders::cases(),
        forward::cases(),
        full::cases(),
        gateway_engines::cases(),
        git::cases(),
        guards::cases(),
        headless::cases(),
        host::cases(),
        hostile_caches::cases(),
        hostile_source::cases(),
        hostile_images::cases(),
        hostile_outputs::cases(),
        images::cases(),
        store::cases(),
        stuck::cases(),
        interpreter::cases(),
        language::cases(),
        limits::cases(),
        machines::cases(),
        memory::cases(),
        named_files::cases(),
        network::cases(),
        output::cases(),
        places::cases(),
        privileged::cases(),
        process::cases(),
        programs::cases(),
        project::cases(),
        registries::cases(),
        rewinds::cases(),
        sealing::cases(),
        changes::cases(),
        fidelity::cases(),
        rootless::cases(),
        run_command::cases(),
        secrets::cases(),
        session_documents::cases(),
        session_log::cases(),
        sessions::cases(),
        stranger::cases(),
        beside::cases(),
        strangers::cases(),
        sudo::cases(),
        toolbox::cases(),
        waiting::cases(),
        watch::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A file that is not listed above would never be compiled.
fn no_suite_is_forgotten() {
    let listed = cases();
    for file in list(&project().join("tests/suite")) {
        let suite = format!("::{}::", file.trim_end_matches(".rs"));
        let is_listed = listed.iter().any(|case| case.name.contains(&suite));
        assert!(is_listed || file == "mod.rs", "tests/suite/{file} is not listed in mod.rs");
    }
    for name in ALIKE {
        let is_case = listed.iter().any(|case| short(case.name) == name);
        assert!(is_case, "{name} is no case");
    }
}
