//! BUILD: one rule in every verb, in `cp` and in targets of session calls.

use crate::common::endpoint::Endpoint;
use crate::common::{Bed, Running, build, cases, list};
use nix::sys::signal::Signal;
use serde_json::json;

cases! {
    [Containers, Image("busybox")] => one_rule_in_every_verb, targets_of_sessions;
}

/// A paused build of a project, and its uuid.
fn paused(bed: &Bed, project: &str) -> (Running, String) {
    let before = list(&bed.home().join("builds"));
    let spec = build(&[&format!("echo {project} > /tmp/name; codebuild-breakpoint")]);
    let running = bed.paused(&spec, &["--project", project]);
    let new = list(&bed.home().join("builds")).into_iter().find(|uuid| !before.contains(uuid));
    (running, new.unwrap())
}

fn one_rule_in_every_verb() {
    let bed = Bed::new();
    let (ended, old) = paused(&bed, "shop");
    bed.resume(ended);
    let (shop, uuid) = paused(&bed, "shop");
    let (front, _) = paused(&bed, "shop-front");
    let id = format!("shop:{uuid}");
    let beginning = &uuid[..13];
    let has_name = |build: &str| {
        let ran = bed.runner(["exec", build, "--", "cat", "/tmp/name"]).code(0).stdout;
        assert_eq!(ran, "shop\n", "exec {build}");
        let copied = bed.path("copied");
        bed.runner(["cp", &format!("{build}:/tmp/name"), copied.to_str().unwrap()]).code(0);
        assert_eq!(std::fs::read_to_string(copied).unwrap(), "shop\n", "cp {build}");
        bed.runner(["wait", build, "--for", "paused"]).code(0);
        bed.runner(["doctor", build]).code(0);
        let log = bed.runner(["logs", build]).code(0).stdout;
        assert!(log.contains("echo shop >") && !log.contains("shop-front"), "logs {build}");
    };
    for name in ["shop", &uuid, &id, beginning, &id[..20]] {
        has_name(name);
    }
    // The error suggests valid names.
    for (name, code, said) in
        [("", 2, "there is no build ``"), ("nosuch", 2, &*id), (&old, 2, "has ended")]
    {
        bed.runner(["resume", name]).code(code).says(said);
        bed.runner(["stop", name]).code(code).says(said);
        bed.runner(["exec", name, "--", "true"]).code(125).says(said);
        bed.runner(["cp", &format!("{name}:/tmp/name"), "x"]).code(code);
    }
    bed.runner(["resume"]).code(2).says("2 builds are live").says("shop-front:");
    bed.runner(["logs"]).code(2).says("2 builds are live");
    // Among all builds `shop:` matches two; verbs that only read may mean either.
    bed.runner(["logs", "shop:"]).code(2).says("matches 2 builds").says(&old).says(&id);
    bed.runner(["resume", "shop"]).code(0);
    shop.ends(0);
    bed.runner(["resume", "shop-f"]).code(0);
    front.ends(0);
    // None is live: verbs that read take the one that ended last.
    let log = bed.runner(["logs"]).code(0).stdout;
    assert!(log.contains("echo shop-front >"), "{log}");
    bed.runner(["logs", "shop-front"]).code(0);
    bed.runner(["logs", "shop"]).code(2).says("matches").says(&old);
    bed.runner(["resume", "shop-front"])
        .code(2)
        .says("has ended")
        .says("its log: runner logs shop-front:");
    // None of the ended ones is suitable.
    let none =
        bed.runner(["resume", "shop:"]).code(2).says("matches no live build, and 2 ended ones");
    assert!(!none.stderr.contains(&old), "{}", none.stderr);
    let (last, _) = paused(&bed, "last");
    for name in ["shop", &old] {
        bed.runner(["resume", name]).code(2).says("live builds: last:");
    }
    bed.resume(last);
}

/// The same names, resolved to one build first.
fn targets_of_sessions() {
    let bed = Bed::new();
    let (shop, uuid) = paused(&bed, "shop");
    let (other, _) = paused(&bed, "other");
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let start = |target: &str| endpoint.call("AmazonSSM.StartSession", &json!({"Target": target}));
    let execute = |task: &str| {
        let body = json!({"task": task, "command": "sh", "interactive": true});
        endpoint.call("AmazonEC2ContainerServiceV20141113.ExecuteCommand", &body)
    };
    let id = format!("shop:{uuid}");
    for name in ["shop", &uuid, &uuid[..8], &id, &id[..20]] {
        for target in [name.to_owned(), format!("codebuild:{name}")] {
            let (status, answer) = start(&target);
            assert_eq!(status, 200, "{target}: {answer}");
        }
        let (status, answer) = execute(name);
        assert_eq!(status, 200, "{name}: {answer}");
        assert_eq!(answer["containerArn"].as_str().unwrap().rsplit('/').next(), Some(&*uuid));
        let (_, answer) = endpoint.call("AmazonSSM.GetConnectionStatus", &json!({"Target": name}));
        assert_eq!(answer["Status"], "connected", "{name}");
    }
    for (name, said) in
        [("nosuch", &*id), ("codebuild:nosuch", &id), ("ecs:x", "ecs:CLUSTER_TASK_RUNTIME")]
    {
        let (status, answer) = start(name);
        assert_eq!((status, &answer["__type"]), (400, &json!("TargetNotConnected")), "{answer}");
        assert!(
            answer["message"].as_str().or(answer["Message"].as_str()).unwrap().contains(said),
            "{answer}"
        );
    }
    let (status, answer) = execute("nosuch");
    assert_eq!((status, &answer["__type"]), (400, &json!("InvalidParameterException")), "{answer}");
    for (name, running) in [("shop", shop), ("other", other)] {
        bed.runner(["resume", name]).code(0);
        running.ends(0);
    }
    let (_, answer) = start(&id);
    assert!(answer.to_string().contains("has ended"), "{answer}");
    server.signal(Signal::SIGTERM);
    server.ends(0);
}
