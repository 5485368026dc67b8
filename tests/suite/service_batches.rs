//! Batches of the local CodeBuild: StartBuildBatch and what follows from it.

use super::service::{a_project, call, record, refused, until as build_is};
use super::service_faults::Disk;
use crate::common::endpoint::Endpoint;
use crate::common::{Bed, Running, aws, cases, outcome};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

cases! {
    [Containers] => a_graph_and_its_retry, a_killed_serve_goes_on, a_batch_that_is_stopped, what_is_no_batch,
        lists_and_deletion, batches_of_the_command_line;
    [Containers, Program("unzip")] => artifacts_are_put_together;
    [Containers, Python] => what_is_put_together_is_uploaded;
    [Containers, Root] => a_full_disk;
    [Containers, Root, Program("/usr/bin/aws")] => the_second_cli_of_aws;
    [Containers, Root, Program("npm"), Extended] => awss_client_for_javascript;
}

const ROLE: &str = "arn:aws:iam::123456789012:role/batches";

/// An endpoint with a project whose source is the bed's, with this buildspec.
pub(super) fn served(
    bed: &Bed,
    buildspec: &str,
    more: &Value,
    options: &[&str],
) -> (Endpoint, Running) {
    let root = bed.source();
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("buildspec.yml"), buildspec).unwrap();
    let mut all = vec!["--no-auth", "--source-root", root.to_str().unwrap()];
    all.extend(options);
    let (endpoint, server) = Endpoint::serve(bed, &all);
    let mut project = a_project("");
    project["source"] = json!({"type": "GITHUB", "location": format!("file://{}", root.display())});
    project["buildBatchConfig"] = json!({"serviceRole": ROLE});
    project.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call(&endpoint, "CreateProject", &project);
    (endpoint, server)
}

pub(super) fn start(endpoint: &Endpoint, more: Value) -> Value {
    let mut input = more;
    input["projectName"] = json!("demo");
    call(endpoint, "StartBuildBatch", &input)["buildBatch"].clone()
}

fn batch(endpoint: &Endpoint, id: &str) -> Value {
    call(endpoint, "BatchGetBuildBatches", &json!({"ids": [id]}))["buildBatches"][0].clone()
}

pub(super) fn until(endpoint: &Endpoint, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    crate::common::until("the batch", || {
        last = batch(endpoint, id);
        wanted(&last)
    });
    last
}

pub(super) fn ends(endpoint: &Endpoint, id: &str) -> Value {
    until(endpoint, id, |batch| batch["complete"] == true)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// The status of each build of a batch.
fn statuses(batch: &Value) -> BTreeMap<String, String> {
    let groups = batch["buildGroups"].as_array().unwrap_or_else(|| panic!("{batch}")).iter();
    groups
        .map(|it| (text(&it["identifier"]), text(&it["currentBuildSummary"]["buildStatus"])))
        .collect()
}

fn has(wanted: &[(&str, &str)]) -> BTreeMap<String, String> {
    wanted.iter().map(|(name, status)| ((*name).to_owned(), (*status).to_owned())).collect()
}

/// The id of a build of a batch.
pub(super) fn id_of(batch: &Value, name: &str) -> String {
    let groups = batch["buildGroups"].as_array().unwrap();
    let group = groups.iter().find(|it| it["identifier"] == name).unwrap();
    text(&group["currentBuildSummary"]["arn"]).split_once(":build/").unwrap().1.to_owned()
}

fn phases(batch: &Value) -> Vec<(String, Value)> {
    let phases = batch["phases"].as_array().unwrap().iter();
    phases.map(|phase| (text(&phase["phaseType"]), phase["phaseStatus"].clone())).collect()
}

fn ended(server: Running) {
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

pub(super) const GRAPH: &str = "\
version: 0.2
phases:
  build:
    commands:
      - echo $CODEBUILD_BATCH_BUILD_IDENTIFIER of $CODEBUILD_BUILD_BATCH_NUMBER says $GREETING $WHO $(cat name)
      - test $FAILS_BELOW -lt $CODEBUILD_BUILD_NUMBER
batch:
  build-graph:
    - identifier: first
      env: {variables: {WHO: dear, GREETING: bad, FAILS_BELOW: '0'}}
    - identifier: may_fail
      ignore-failure: true
      env: {variables: {FAILS_BELOW: '99'}}
    - identifier: fails
      depend-on: [first, may_fail]
      env: {variables: {FAILS_BELOW: '5'}}
    - identifier: last
      depend-on: [fails]
      env: {variables: {FAILS_BELOW: '0'}}
";

fn a_graph_and_its_retry() {
    let bed = Bed::host();
    let more = json!({"environment": {
        "type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL",
        "environmentVariables": [{"name": "GREETING", "value": "good"}, {"name": "WHO", "value": "nobody"}],
    }});
    let (endpoint, server) = served(&bed, GRAPH, &more, &["--max-builds", "2"]);
    fs::write(bed.source().join("name"), "world\n").unwrap();
    let over = json!({
        "environmentVariablesOverride": [{"name": "GREETING", "value": "hello"}], "idempotencyToken": "once",
    });
    let first = start(&endpoint, over.clone());
    // AWS's own first response.
    assert_eq!(
        (&first["currentPhase"], &first["buildBatchStatus"], &first["complete"]),
        (&json!("SUBMITTED"), &json!("IN_PROGRESS"), &json!(false)),
        "{first}"
    );
    assert!(first.get("phases").is_none() && first.get("buildGroups").is_none(), "{first}");
    assert_eq!(first["buildBatchConfig"]["restrictions"]["maximumBuildsAllowed"], 100);
    assert_eq!(first["buildBatchConfig"]["timeoutInMins"], 480);
    let id = text(&first["id"]);
    assert_eq!(start(&endpoint, over)["id"], *id, "the same token");
    let failed = ends(&endpoint, &id);
    let stood = [("DOWNLOAD_SOURCE", "SUCCEEDED"), ("may_fail", "FAILED"), ("first", "SUCCEEDED")];
    let mut wanted = has(&stood);
    wanted.extend(has(&[("fails", "FAILED"), ("last", "STOPPED")]));
    assert_eq!(statuses(&failed), wanted, "{failed:#}");
    assert_eq!(failed["buildGroups"][0]["identifier"], "DOWNLOAD_SOURCE");
    assert_eq!(failed["buildGroups"][3]["dependsOn"], json!(["first", "may_fail"]));
    let names: Vec<String> = phases(&failed).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["SUBMITTED", "DOWNLOAD_BATCHSPEC", "IN_PROGRESS", "FAILED"]);
    // A build knows its batch; settings of the call take precedence over its own, and those over
    // the project's.
    let one = record(&endpoint, &id_of(&failed, "first"));
    assert_eq!(one["buildBatchArn"], failed["arn"]);
    assert_eq!(
        one["initiator"],
        format!("batches/AWSCodeBuild-{}", id.rsplit_once(':').unwrap().1)
    );
    let log = bed.runner(["logs", &id_of(&failed, "first")]).code(0).stdout;
    assert!(log.contains("first of 1 says hello dear world"), "{log}");
    let download = record(&endpoint, &id_of(&failed, "DOWNLOAD_SOURCE"));
    assert_eq!(download["buildStatus"], "SUCCEEDED", "{download}");
    let told = refused(&endpoint, "RetryBuild", &json!({"id": id_of(&failed, "first")})).1;
    assert!(told.contains("RetryBuildBatch"), "{told}");
    // Failed builds are rerun with the source of that time.
    fs::write(bed.source().join("name"), "other\n").unwrap();
    let again = json!({"id": id, "retryType": "RETRY_FAILED_BUILDS"});
    let again = &call(&endpoint, "RetryBuildBatch", &again)["buildBatch"];
    assert_eq!((&again["id"], &again["buildBatchNumber"]), (&json!(id), &json!(1)));
    let whole = ends(&endpoint, &id);
    let mut wanted = has(&stood);
    wanted.extend(has(&[("fails", "SUCCEEDED"), ("last", "SUCCEEDED")]));
    assert_eq!(statuses(&whole), wanted, "{whole:#}");
    assert_eq!(whole["buildGroups"][3]["priorBuildSummaryList"][0]["buildStatus"], "FAILED");
    let all = phases(&whole);
    assert_eq!((&all[2].1, &all[3].1), (&json!("CLIENT_ERROR"), &json!("RETRY")), "{all:?}");
    assert_eq!(all.last().unwrap().0, "SUCCEEDED");
    let log = bed.runner(["logs", &id_of(&whole, "last")]).code(0).stdout;
    assert!(log.contains("world") && !log.contains("other"), "{log}");
    let told = refused(&endpoint, "RetryBuildBatch", &json!({"id": id})).1;
    assert!(told.contains("not failed"), "{told}");
    // The source is no longer needed.
    let folder = bed.home().join("batches").join(id.rsplit_once(':').unwrap().1);
    crate::common::until("the source goes", || !folder.join("source").exists());
    ended(server);
}

const SIX: &str = "\
version: 0.2
phases:
  build:
    commands:
      - sleep 0.2
batch:
  build-graph:
    - identifier: a
    - identifier: b
    - {identifier: c, depend-on: [a]}
    - {identifier: d, depend-on: [b]}
    - {identifier: e, depend-on: [c, d]}
    - {identifier: f, depend-on: [e]}
";

/// A batch continues wherever `serve` is killed, and none of its builds runs twice.
fn a_killed_serve_goes_on() {
    let bed = Bed::host();
    let options = ["--max-builds", "2"];
    let (endpoint, mut server) = served(&bed, SIX, &json!({}), &options);
    let id = text(&start(&endpoint, json!({}))["id"]);
    let mut all = vec!["--no-auth", "--source-root"];
    let root = bed.source();
    all.push(root.to_str().unwrap());
    all.extend(options);
    let mut serving = endpoint;
    for name in ["DOWNLOAD_SOURCE", "a", "d", "f"] {
        let stands = until(&serving, &id, |batch| {
            batch["complete"] == true || statuses(batch).get(name).is_some_and(|it| it != "PENDING")
        });
        assert_eq!(stands["complete"], false, "{stands:#}");
        server.signal(Signal::SIGKILL);
        server.wait();
        (serving, server) = Endpoint::serve(&bed, &all);
    }
    let whole = ends(&serving, &id);
    assert_eq!(whole["buildBatchStatus"], "SUCCEEDED", "{whole:#}");
    let list = call(&serving, "ListBuilds", &json!({}));
    let ids: BTreeSet<String> = list["ids"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(ids.len(), 7, "{list}");
    assert_eq!(fs::read_dir(bed.home().join("builds")).unwrap().count(), 7);
    ended(server);
}

const LONG: &str = "\
version: 0.2
phases:
  build:
    commands:
      - exec sleep 600
batch:
  build-list:
    - identifier: a
    - identifier: b
    - identifier: c
";

fn a_batch_that_is_stopped() {
    let bed = Bed::host();
    let (endpoint, server) = served(&bed, LONG, &json!({}), &["--max-builds", "1"]);
    // At once: before there is a build.
    let id = text(&start(&endpoint, json!({}))["id"]);
    let stopped = &call(&endpoint, "StopBuildBatch", &json!({"id": id}))["buildBatch"];
    assert_eq!(
        (&stopped["buildBatchStatus"], &stopped["complete"]),
        (&json!("STOPPED"), &json!(true))
    );
    let all = phases(stopped);
    assert_eq!(all.last().unwrap().0, "STOPPED", "{stopped:#}");
    // While one runs and two wait.
    let id = text(&start(&endpoint, json!({}))["id"]);
    let runs = until(&endpoint, &id, |batch| {
        statuses(batch).get("a").is_some_and(|status| status == "IN_PROGRESS")
    });
    let first = id_of(&runs, "a");
    build_is(&endpoint, &first, |build| build["currentPhase"] == "BUILD");
    let stopped = &call(&endpoint, "StopBuildBatch", &json!({"id": id}))["buildBatch"];
    assert_eq!(
        (&stopped["buildBatchStatus"], &stopped["complete"]),
        (&json!("STOPPED"), &json!(true))
    );
    let over = until(&endpoint, &id, |batch| statuses(batch)["a"] == "STOPPED");
    let wanted =
        [("DOWNLOAD_SOURCE", "SUCCEEDED"), ("a", "STOPPED"), ("b", "STOPPED"), ("c", "STOPPED")];
    assert_eq!(statuses(&over), has(&wanted));
    assert_eq!(record(&endpoint, &first)["buildStatus"], "STOPPED");
    // A build stopped by a person has failed; a killed one is a fault.
    let id = text(&start(&endpoint, json!({}))["id"]);
    for name in ["a", "b", "c"] {
        let runs = until(&endpoint, &id, |batch| {
            statuses(batch).get(name).is_some_and(|status| status != "PENDING")
        });
        let one = id_of(&runs, name);
        if name == "b" {
            build_is(&endpoint, &one, |build| build["currentPhase"] == "BUILD");
            let folder = bed.home().join("builds").join(one.rsplit_once(':').unwrap().1);
            let meta: Value =
                serde_json::from_slice(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
            let pid = nix::unistd::Pid::from_raw(meta["runnerPid"].as_i64().unwrap() as i32);
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
        } else {
            call(&endpoint, "StopBuild", &json!({"id": one}));
        }
    }
    let failed = ends(&endpoint, &id);
    assert_eq!(failed["buildBatchStatus"], "FAILED");
    let wanted =
        [("DOWNLOAD_SOURCE", "SUCCEEDED"), ("a", "STOPPED"), ("b", "FAULT"), ("c", "STOPPED")];
    assert_eq!(statuses(&failed), has(&wanted));
    ended(server);
}

const PARTS: &str = "\
version: 0.2
phases:
  build:
    commands:
      - mkdir -p out && echo $CODEBUILD_BATCH_BUILD_IDENTIFIER > out/same
      - echo 1 > out/of-$CODEBUILD_BATCH_BUILD_IDENTIFIER
artifacts:
  base-directory: out
  files: ['**/*']
batch:
  build-list:
    - identifier: one
    - identifier: two
";

fn artifacts_are_put_together() {
    let bed = Bed::host();
    let more = json!({
        "artifacts": {"type": "S3", "location": "bucket", "name": "all.zip", "packaging": "ZIP"},
        "buildBatchConfig": {"serviceRole": ROLE, "combineArtifacts": true},
    });
    let (endpoint, server) = served(&bed, PARTS, &more, &[]);
    let id = text(&start(&endpoint, json!({}))["id"]);
    let whole = ends(&endpoint, &id);
    assert_eq!(whole["buildBatchStatus"], "SUCCEEDED", "{whole:#}");
    let all = phases(&whole);
    assert_eq!(all[3], ("COMBINE_ARTIFACTS".to_owned(), json!("SUCCEEDED")));
    // Nothing is uploaded unasked.
    let place = text(&whole["artifacts"]["location"]);
    assert!(place.starts_with(bed.home().to_str().unwrap()), "{place}");
    let unzip = |words: &[&str]| outcome(Command::new("unzip").args(words)).code(0).stdout;
    let names = unzip(&["-Z1", &place]);
    assert_eq!(names.lines().collect::<BTreeSet<_>>(), ["of-one", "of-two", "same"].into());
    assert_eq!(unzip(&["-p", &place, "same"]), "two\n");
    let list = call(&endpoint, "ListBuilds", &json!({}));
    let log = bed.runner(["logs", &text(&list["ids"][0])]).code(0).stdout;
    assert!(log.contains("same: several builds wrote it; the one of two is kept"), "{log}");
    ended(server);
}

/// One object for all, and a second one for each build that has secondary artifacts.
fn what_is_put_together_is_uploaded() {
    let bed = Bed::host().with_variables(aws::variables(aws::aws()));
    let bucket = aws::bucket(&format!("of-a-batch-{}", std::process::id()));
    let place =
        |name: &str| json!({"type": "S3", "location": bucket, "name": name, "packaging": "ZIP"});
    let mut more = place("more.zip");
    more["artifactIdentifier"] = json!("more");
    more["namespaceType"] = json!("BUILD_ID");
    let project = json!({
        "artifacts": place("all.zip"),
        "secondaryArtifacts": [more],
        "buildBatchConfig": {"serviceRole": ROLE, "combineArtifacts": true},
    });
    let secondary =
        "  secondary-artifacts:\n    more:\n      base-directory: out\n      files: [same]\nbatch:";
    let (endpoint, server) =
        served(&bed, &PARTS.replace("batch:", secondary), &project, &["--upload"]);
    let whole = ends(&endpoint, &text(&start(&endpoint, json!({}))["id"]));
    assert_eq!(whole["buildBatchStatus"], "SUCCEEDED", "{whole:#}");
    assert_eq!(whole["artifacts"]["location"], format!("arn:aws:s3:::{bucket}/all.zip"));
    let keys = aws::keys(&bucket);
    let (all, others): (Vec<_>, Vec<_>) = keys.iter().partition(|key| *key == "all.zip");
    assert_eq!((all.len(), others.len()), (1, 2), "{keys:?}");
    assert!(others.iter().all(|key| key.ends_with("/more.zip")), "{keys:?}");
    ended(server);
}

/// A batch started by `runner batch` is shown, listed and deleted like any other, but `serve`
/// neither stops nor reruns it.
fn batches_of_the_command_line() {
    let bed = Bed::host();
    let spec = "version: 0.2\nphases: {build: {commands: [codebuild-breakpoint]}}\nbatch: {build-list: [{identifier: a}]}\n";
    let (endpoint, server) = served(&bed, spec, &json!({}), &[]);
    let own = text(&start(&endpoint, json!({}))["id"]);
    ends(&endpoint, &own);
    let options = ["batch", "--project", "other", "--enable-session"];
    let other = Running::spawn(bed.command(options));
    other.stderr.wait_until("the pause", |said| {
        String::from_utf8_lossy(said).contains("is paused at a breakpoint")
    });
    let listed = |more: Value| call(&endpoint, "ListBuildBatches", &more)["ids"].clone();
    let id = text(&listed(json!({}))[0]);
    assert!(id.starts_with("other:"), "{id}");
    assert_eq!(listed(json!({"sortOrder": "ASCENDING"})), json!([own, id]));
    let mut page = json!({"maxResults": 1});
    let first = call(&endpoint, "ListBuildBatches", &page);
    page["nextToken"] = first["nextToken"].clone();
    let second = call(&endpoint, "ListBuildBatches", &page);
    assert_eq!((&first["ids"], &second["ids"]), (&json!([id]), &json!([own])));
    assert!(second.get("nextToken").is_none(), "{second}");
    assert_eq!(listed(json!({"filter": {"status": "IN_PROGRESS"}})), json!([id]));
    let of_project =
        call(&endpoint, "ListBuildBatchesForProject", &json!({"projectName": "other"}));
    assert_eq!(of_project["ids"], json!([id]));
    let live = batch(&endpoint, &id);
    assert_eq!(
        (&live["buildBatchStatus"], &live["complete"]),
        (&json!("IN_PROGRESS"), &json!(false))
    );
    let (_, why) = refused(&endpoint, "StopBuildBatch", &json!({"id": id}));
    assert!(why.contains("was begun by `runner batch`, and only that can stop it"), "{why}");
    let (_, why) = refused(&endpoint, "RetryBuildBatch", &json!({"id": id}));
    assert!(why.contains("only that can run it again"), "{why}");
    let alive = call(&endpoint, "DeleteBuildBatch", &json!({"id": id}));
    assert_eq!(alive["statusCode"], "BUILD_IN_PROGRESS");
    bed.runner(["resume", "other"]).code(0);
    other.ends(0);
    assert_eq!(statuses(&batch(&endpoint, &id)), has(&[("a", "SUCCEEDED")]));
    let deleted = call(&endpoint, "DeleteBuildBatch", &json!({"id": id}));
    assert_eq!(deleted["statusCode"], "SUCCEEDED", "{deleted}");
    assert_eq!(deleted["buildsDeleted"].as_array().unwrap().len(), 1, "{deleted}");
    assert_eq!(listed(json!({})), json!([own]));
    let uuid = id.rsplit_once(':').unwrap().1;
    assert!(!bed.home().join("batches").join(uuid).exists());
    ended(server);
}

/// Debian has version 2, which can tail logs; a version this old needs the address as an option.
fn the_second_cli_of_aws() {
    let bed = Bed::host();
    let spec = "version: 0.2\nphases: {build: {commands: [seq 3]}}\nbatch: {build-list: [{identifier: a}]}\n";
    let (endpoint, server) = served(&bed, spec, &json!({}), &[]);
    let aws = |words: &[&str]| {
        let mut command = bed.other("/usr/bin/aws");
        endpoint.surround(&mut command);
        command.arg("--endpoint-url").arg(format!("http://{}", endpoint.address)).args(words);
        outcome(&mut command).code(0).stdout
    };
    let started = aws(&["codebuild", "start-build-batch", "--project-name", "demo"]);
    let started: Value = serde_json::from_str(&started).unwrap();
    let id = text(&started["buildBatch"]["id"]);
    let over = ends(&endpoint, &id);
    let got = aws(&["codebuild", "batch-get-build-batches", "--ids", &id]);
    let got: Value = serde_json::from_str(&got).unwrap();
    assert_eq!(got["buildBatches"][0]["buildGroups"][1]["identifier"], "a");
    let told = aws(&["logs", "tail", "/aws/codebuild/demo", "--format", "short"]);
    for name in ["DOWNLOAD_SOURCE", "a"] {
        let log = bed.runner(["logs", &id_of(&over, name)]).code(0).stdout;
        let line = log.lines().find(|line| line.contains("Phase complete: BUILD State")).unwrap();
        assert!(told.contains(line), "{line} of {told}");
    }
    ended(server);
}

/// Installed for the test; it needs node 20.
fn awss_client_for_javascript() {
    let bed = Bed::host();
    let place = bed.path("packages");
    fs::create_dir_all(&place).unwrap();
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]);
    outcome(npm.arg("@aws-sdk/client-codebuild@3.1142.0").current_dir(&place)).code(0);
    let spec = "version: 0.2\nphases: {build: {commands: [seq 3]}}\nbatch: {build-list: [{identifier: a}]}\n";
    let (endpoint, server) = served(&bed, spec, &json!({}), &[]);
    let mut node = bed.other("node");
    endpoint.surround(&mut node);
    node.env("AWS_REGION", "us-east-1").env("NODE_PATH", place.join("node_modules"));
    node.arg(crate::common::project().join("tests/clients/codebuild.cjs"));
    let told = outcome(&mut node).code(0).stdout;
    assert_eq!(told, "SUCCEEDED SUCCEEDED 3 ResourceNotFoundException\n");
    ended(server);
}

/// A partial copy of a source is removed, and its space freed.
fn a_full_disk() {
    let bed = Bed::host();
    let disk = Disk::for_home(&bed, 12);
    let spec = "version: 0.2\nphases: {build: {commands: ['true']}}\nbatch: {build-list: [{identifier: a}]}\n";
    let (endpoint, server) = served(&bed, spec, &json!({}), &[]);
    let large = bed.source().join("large");
    fs::write(&large, vec![b'x'; 16 << 20]).unwrap();
    let id = text(&start(&endpoint, json!({}))["id"]);
    let failed = ends(&endpoint, &id);
    assert_eq!(failed["buildBatchStatus"], "FAULT", "{failed:#}");
    let download = record(&endpoint, &id_of(&failed, "DOWNLOAD_SOURCE"));
    let context = text(&download["phases"][2]["contexts"][0]["message"]);
    assert!(context.contains("cannot copy the source for the batch"), "{context}");
    let folder = bed.home().join("batches").join(id.rsplit_once(':').unwrap().1);
    assert!(!folder.join("source").exists() && !folder.join("source.json").exists());
    fs::remove_file(&large).unwrap();
    call(&endpoint, "RetryBuildBatch", &json!({"id": id}));
    assert_eq!(ends(&endpoint, &id)["buildBatchStatus"], "SUCCEEDED");
    ended(server);
    drop(disk);
}

fn what_is_no_batch() {
    let bed = Bed::host();
    let (endpoint, server) = served(&bed, "version: 0.2\nphases: {}\n", &json!({}), &[]);
    let rejected = |batch: &str| {
        let spec = format!("version: 0.2\nphases: {{build: {{commands: ['true']}}}}\n{batch}");
        fs::write(bed.source().join("buildspec.yml"), spec).unwrap();
        let id = text(&start(&endpoint, json!({}))["id"]);
        let failed = ends(&endpoint, &id);
        assert_eq!(statuses(&failed), has(&[("DOWNLOAD_SOURCE", "SUCCEEDED")]), "{failed:#}");
        assert_eq!(failed["buildBatchStatus"], "FAILED");
        let phase = &failed["phases"][1];
        assert_eq!(
            (&phase["phaseType"], &phase["phaseStatus"]),
            (&json!("DOWNLOAD_BATCHSPEC"), &json!("FAILED"))
        );
        let context = &phase["contexts"][0];
        (text(&context["statusCode"]), text(&context["message"]))
    };
    let graph = "batch:\n  build-graph:\n    - {identifier: a, depend-on: [b]}\n";
    let hundred: String = (0..101).map(|at| format!("    - identifier: b{at}\n")).collect();
    for (batch, told) in [
        (String::new(), "has no `batch`"),
        (graph.to_owned(), "b"),
        (format!("{graph}    - {{identifier: b, depend-on: [a]}}\n"), "a"),
        (format!("batch:\n  build-list:\n{hundred}"), "101"),
    ] {
        let (code, message) = rejected(&batch);
        assert_eq!(code, "YAML_FILE_ERROR", "{message}");
        assert!(message.contains(told), "{message}");
    }
    // The file is untrusted: it gives its builds no rights, and reaches no further than the project
    // does.
    for (env, told) in [
        ("{privileged-mode: true}", "privileged-mode"),
        ("{image: 'docker-daemon:x'}", "docker-daemon:x"),
        ("{image: 'rootfs:/etc'}", "--source-root"),
        ("{type: WINDOWS_CONTAINER}", "WINDOWS_CONTAINER"),
    ] {
        let (_, message) =
            rejected(&format!("batch:\n  build-list:\n    - {{identifier: a, env: {env}}}\n"));
        assert!(message.contains(told), "{message}");
    }
    call(&endpoint, "UpdateProject", &json!({"name": "demo", "buildBatchConfig": {}}));
    let (code, text) = refused(&endpoint, "StartBuildBatch", &json!({"projectName": "demo"}));
    assert_eq!(code, "InvalidInputException");
    assert!(text.contains("must have a batch configuration (buildBatchConfig)"), "{text}");
    ended(server);
}

fn lists_and_deletion() {
    let bed = Bed::host();
    let (endpoint, server) = served(&bed, LONG, &json!({}), &[]);
    let ids: Vec<String> = (0..3).map(|_| text(&start(&endpoint, json!({}))["id"])).collect();
    let mut input = json!({"projectName": "demo", "maxResults": 2, "sortOrder": "ASCENDING"});
    let page = call(&endpoint, "ListBuildBatchesForProject", &input);
    assert_eq!(page["ids"], json!(ids[..2]));
    input["nextToken"] = page["nextToken"].clone();
    let page = call(&endpoint, "ListBuildBatchesForProject", &input);
    assert_eq!((&page["ids"], page.get("nextToken")), (&json!(ids[2..]), None));
    call(&endpoint, "StopBuildBatch", &json!({"id": ids[0]}));
    let alive = call(&endpoint, "DeleteBuildBatch", &json!({"id": ids[1]}));
    assert_eq!(alive["buildsNotDeleted"][0]["statusCode"], "BUILD_IN_PROGRESS", "{alive}");
    let only = call(&endpoint, "ListBuildBatches", &json!({"filter": {"status": "STOPPED"}}));
    assert_eq!(only["ids"], json!([ids[0]]));
    for id in &ids {
        call(&endpoint, "StopBuildBatch", &json!({"id": id}));
    }
    for id in &ids {
        crate::common::until("the batch is deleted", || {
            let deleted = call(&endpoint, "DeleteBuildBatch", &json!({"id": id}));
            deleted["statusCode"] == "SUCCEEDED"
        });
    }
    assert_eq!(call(&endpoint, "ListBuildBatches", &json!({}))["ids"], json!([]));
    assert_eq!(call(&endpoint, "ListBuilds", &json!({}))["ids"], json!([]));
    assert_eq!(fs::read_dir(bed.home().join("builds")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(bed.home().join("batches")).unwrap().count(), 0);
    let gone = call(&endpoint, "BatchGetBuildBatches", &json!({"ids": [ids[0]]}));
    assert_eq!(gone["buildBatchesNotFound"], json!([ids[0]]));
    ended(server);
}
