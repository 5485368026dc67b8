//! The local CodeBuild: projects, the queue, and their builds, across kills of `serve`.

use crate::common::endpoint::Endpoint;
use crate::common::{Bed, Running, aws, cases, outcome, project, python};
use flate2::read::GzDecoder;
use nix::sys::signal::Signal;
use runner_service::model::shape::{MemberShape, RecordMember, TextPattern};
use runner_service::model::{DescribedService, inputs};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::PathBuf;

cases! {
    [Containers] => builds_of_a_project, what_is_refused, a_build_outlives_a_killed_serve, a_stop_in_the_queue,
        builds_of_others_are_indexed, a_paused_build_gives_its_place,
        buildspecs_that_lead_elsewhere, a_stop_at_once, projects_are_imported, artifacts_stay_here, artifacts_of_one_name;
    [Containers, Python] => artifacts_go_where_the_project_says;
    [Containers, Python] => the_cli_and_its_session, botocore_reads_every_answer, terraforms_order_of_calls;
    [Python] => inputs_are_described_as_aws_does;
}

pub(super) fn a_project(buildspec: &str) -> Value {
    json!({
        "name": "demo",
        "source": {"type": "NO_SOURCE", "buildspec": buildspec},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {
            "type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL",
            "environmentVariables": [{"name": "GREETING", "value": "good"}],
        },
        "serviceRole": "arn:aws:iam::123456789012:role/builds",
    })
}

pub(super) fn spec(command: &str) -> String {
    format!("version: 0.2\nphases:\n  build:\n    commands:\n      - {command}\n")
}

/// An endpoint with a project.
pub(super) fn served(bed: &Bed, command: &str, options: &[&str]) -> (Endpoint, Running) {
    let mut all = vec!["--no-auth"];
    all.extend(options);
    let (endpoint, server) = Endpoint::serve(bed, &all);
    call(&endpoint, "CreateProject", &a_project(&spec(command)));
    (endpoint, server)
}

#[track_caller]
pub(super) fn call(endpoint: &Endpoint, name: &str, input: &Value) -> Value {
    let (status, answer) = endpoint.call(&format!("CodeBuild_20161006.{name}"), input);
    assert_eq!(status, 200, "{name}: {answer}");
    answer
}

/// The response to a rejected call: the code and the message.
#[track_caller]
pub(super) fn refused(endpoint: &Endpoint, name: &str, input: &Value) -> (String, String) {
    let (status, answer) = endpoint.call(&format!("CodeBuild_20161006.{name}"), input);
    assert_eq!(status, 400, "{name}: {answer}");
    let text = |member: &str| answer[member].as_str().unwrap().to_owned();
    (text("__type"), text("message"))
}

pub(super) fn start(endpoint: &Endpoint, input: Value) -> String {
    let mut input = input;
    input["projectName"] = json!("demo");
    let build = &call(endpoint, "StartBuild", &input)["build"];
    assert_eq!(build["buildStatus"], "IN_PROGRESS", "{build}");
    build["id"].as_str().unwrap().to_owned()
}

pub(super) fn record(endpoint: &Endpoint, id: &str) -> Value {
    call(endpoint, "BatchGetBuilds", &json!({"ids": [id]}))["builds"][0].clone()
}

/// Waits until a build has the wanted state, by asking the service: a queued build has no folder.
pub(super) fn until(endpoint: &Endpoint, id: &str, wanted: fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    crate::common::until("the build", || {
        last = record(endpoint, id);
        wanted(&last)
    });
    last
}

/// Waits until a build has a folder, and then until it is paused.
pub(super) fn pauses(bed: &Bed, id: &str) {
    let folder = bed.home().join("builds").join(id.rsplit_once(':').unwrap().1);
    crate::common::until("the build begins", || folder.exists());
    bed.runner(["wait", id, "--for", "paused"]).code(0);
}

pub(super) fn has_ended(record: &Value) -> bool {
    record["buildComplete"] == true
}

/// Artifacts with the same name in two buckets stay separate here as well.
fn artifacts_of_one_name() {
    let bed = Bed::host();
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let mut project = with_artifacts("a-bucket");
    project["secondaryArtifacts"][0]["location"] = json!("another-bucket");
    project["secondaryArtifacts"][0]["name"] = json!("first");
    call(&endpoint, "CreateProject", &project);
    let id = start(&endpoint, json!({}));
    let whole = until(&endpoint, &id, has_ended);
    assert_eq!(whole["buildStatus"], "SUCCEEDED", "{whole:#}");
    let kept = bed.home().join("builds").join(id.rsplit_once(':').unwrap().1).join("artifacts");
    assert_eq!(crate::common::list(&kept.join("first")), ["one"]);
    assert_eq!(crate::common::list(&kept.join("more/first")), ["two"]);
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// A project whose builds have two artifacts in this bucket.
fn with_artifacts(bucket: &str) -> Value {
    let spec = "version: 0.2\nphases:\n  build:\n    commands:\n      - echo one > one; echo two > two\n\
        artifacts:\n  files: [one]\n  secondary-artifacts:\n    more:\n      files: [two]\n";
    let place =
        |name: &str| json!({"type": "S3", "location": bucket, "name": name, "packaging": "NONE"});
    let mut project = a_project(spec);
    project["artifacts"] = place("first");
    let mut more = place("second");
    more["artifactIdentifier"] = json!("more");
    project["secondaryArtifacts"] = json!([more]);
    project
}

/// Nothing is uploaded unasked, and nothing is lost.
fn artifacts_stay_here() {
    let bed = Bed::host();
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    call(&endpoint, "CreateProject", &with_artifacts("a-bucket"));
    let id = start(&endpoint, json!({}));
    let whole = until(&endpoint, &id, has_ended);
    assert_eq!(whole["buildStatus"], "SUCCEEDED", "{whole:#}");
    let kept = bed.home().join("builds").join(id.rsplit_once(':').unwrap().1).join("artifacts");
    assert_eq!(fs::read_to_string(kept.join("first/one")).unwrap(), "one\n");
    assert_eq!(fs::read_to_string(kept.join("second/two")).unwrap(), "two\n");
    let place = whole["artifacts"]["location"].as_str().unwrap();
    assert!(place.starts_with(kept.to_str().unwrap()), "{place}");
    let note = format!("the artifacts stay in {}", kept.display());
    let events = bed.runner(["events", &id]).code(0).stdout;
    assert!(events.contains(&note) && events.contains("runner serve --upload"), "{events}");
    assert!(server.stderr.text().contains(&note), "{}", server.stderr.text());
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn artifacts_go_where_the_project_says() {
    let bed = Bed::host().with_variables(aws::variables(aws::aws()));
    let bucket = aws::bucket(&format!("of-a-service-{}", std::process::id()));
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth", "--upload"]);
    call(&endpoint, "CreateProject", &with_artifacts(&bucket));
    let id = start(&endpoint, json!({}));
    let whole = until(&endpoint, &id, has_ended);
    assert_eq!(whole["buildStatus"], "SUCCEEDED", "{whole:#}");
    assert_eq!(aws::keys(&bucket), ["first/one", "second/two"]);
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// A caller who may start builds can name files of the source, but nothing outside it.
fn buildspecs_that_lead_elsewhere() {
    let bed = Bed::host();
    let root = bed.source();
    fs::write(root.join("ours.yml"), spec("echo ours")).unwrap();
    fs::write(bed.path("secret"), "a-canary\n").unwrap();
    std::os::unix::fs::symlink(bed.path("secret"), root.join("link.yml")).unwrap();
    nix::unistd::mkfifo(&root.join("fifo.yml"), nix::sys::stat::Mode::from_bits_truncate(0o600))
        .unwrap();
    let (endpoint, server) = served(&bed, "true", &["--source-root", root.to_str().unwrap()]);
    let of = |buildspec: &str| {
        let location = format!("file://{}", root.display());
        let input = json!({
            "sourceTypeOverride": "GITHUB", "sourceLocationOverride": location,
            "buildspecOverride": buildspec,
        });
        let id = start(&endpoint, input);
        let ended = until(&endpoint, &id, has_ended);
        assert!(!ended.to_string().contains("a-canary"), "{ended}");
        assert_eq!(bed.runner(["logs", &id]).code(0).stdout.matches("a-canary").count(), 0);
        ended["buildStatus"].clone()
    };
    assert_eq!(of("ours.yml"), "SUCCEEDED");
    assert_eq!((of("link.yml"), of("fifo.yml")), (json!("FAILED"), json!("FAILED")));
    // The same for images.
    let input = json!({
        "projectName": "demo", "imageOverride": format!("rootfs:{}", bed.path("secret").display()),
    });
    assert!(refused(&endpoint, "StartBuild", &input).1.contains("--source-root"));
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// A stop takes effect in every state of a build: before its process runs, and before that has
/// written anything.
fn a_stop_at_once() {
    let bed = Bed::host();
    let (endpoint, server) = served(&bed, "exec sleep 600", &[]);
    for _ in 0..4 {
        let id = start(&endpoint, json!({}));
        call(&endpoint, "StopBuild", &json!({"id": id}));
        assert_eq!(until(&endpoint, &id, has_ended)["buildStatus"], "STOPPED");
    }
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn builds_of_a_project() {
    let bed = Bed::host();
    let root = bed.source();
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("name"), "world\n").unwrap();
    let options = ["--source-root", root.to_str().unwrap()];
    let (endpoint, server) = served(&bed, "echo $GREETING $(cat name)", &options);
    let location = format!("file://{}", root.display());
    let id = start(
        &endpoint,
        json!({
            "sourceTypeOverride": "GITHUB", "sourceLocationOverride": location,
            "environmentVariablesOverride": [{"name": "GREETING", "value": "hello"}],
            "idempotencyToken": "once",
        }),
    );
    let ended = until(&endpoint, &id, has_ended);
    assert_eq!(ended["buildStatus"], "SUCCEEDED", "{ended}");
    assert_eq!((&ended["buildNumber"], &ended["source"]["type"]), (&json!(1), &json!("GITHUB")));
    assert_eq!(ended["environment"]["environmentVariables"][0]["value"], "hello");
    let logs = bed.runner(["logs", &id]).code(0);
    assert!(logs.stdout.contains("hello world"), "{logs:?}");
    // A command of a project without a source fails: there is no such file.
    let failed = start(
        &endpoint,
        json!({"buildspecOverride": spec("cat name"), "autoRetryLimitOverride": 1}),
    );
    let failed = until(&endpoint, &failed, has_ended);
    assert_eq!(failed["buildStatus"], "FAILED", "{failed}");
    let next = failed["autoRetryConfig"]["nextAutoRetry"].as_str().unwrap();
    let next = next.split_once(":build/").unwrap().1;
    let again = until(&endpoint, next, has_ended);
    assert_eq!((&again["buildNumber"], &again["buildStatus"]), (&json!(3), &json!("FAILED")));
    let list = call(&endpoint, "ListBuildsForProject", &json!({"projectName": "demo"}));
    assert_eq!(list["ids"].as_array().unwrap().len(), 3);
    assert_eq!(list["ids"][2], *id, "the oldest last");
    let deleted = call(&endpoint, "BatchDeleteBuilds", &json!({"ids": [id]}));
    assert_eq!(deleted["buildsDeleted"][0], ended["arn"]);
    assert_eq!(record(&endpoint, &id), Value::Null);
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn what_is_refused() {
    let bed = Bed::host();
    let (endpoint, server) = served(&bed, "true", &[]);
    let (code, text) = refused(&endpoint, "CreateProject", &a_project(&spec("true")));
    assert_eq!(code, "ResourceAlreadyExistsException", "{text}");
    let on = |more: Value| {
        let mut input = json!({"projectName": "demo"});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    for (input, wanted, told) in [
        (json!({"projectName": "nobody"}), "ResourceNotFoundException", "Project cannot be found"),
        (json!({}), "InvalidInputException", "Value null at 'projectName'"),
        (on(json!({"privilegedModeOverride": true})), "InvalidInputException", "--no-auth"),
        (
            on(json!({"sourceTypeOverride": "GITHUB", "sourceLocationOverride": "file:///etc"})),
            "InvalidInputException",
            "--source-root",
        ),
        (on(json!({"imageOverride": "rootfs:/etc"})), "InvalidInputException", "--source-root"),
        (
            on(json!({"sourceTypeOverride": "S3", "sourceLocationOverride": "b/k.zip"})),
            "InvalidInputException",
            "source type S3",
        ),
        (
            on(json!({"timeoutInMinutesOverride": "5"})),
            "SerializationException",
            "timeoutInMinutesOverride",
        ),
    ] {
        let (code, text) = refused(&endpoint, "StartBuild", &input);
        assert!(code == wanted && text.contains(told), "{input}: {code}: {text}");
    }
    let (code, text) = refused(&endpoint, "BatchGetBuilds", &json!({"ids": ["demo"]}));
    assert_eq!(
        (code.as_str(), text.as_str()),
        ("InvalidInputException", "Invalid build ID provided: demo")
    );
    assert_eq!(call(&endpoint, "ListBuilds", &json!({}))["ids"], json!([]), "nothing was taken in");
    // An invalid image ends the build, and the queue continues.
    let id = start(&endpoint, json!({"imageOverride": "Not An Image"}));
    let fault = until(&endpoint, &id, has_ended);
    assert_eq!(fault["buildStatus"], "FAULT", "{fault}");
    let ended = start(&endpoint, json!({}));
    assert_eq!(until(&endpoint, &ended, has_ended)["buildStatus"], "SUCCEEDED");
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn a_build_outlives_a_killed_serve() {
    let bed = Bed::host();
    let options = ["--max-builds", "1"];
    let (endpoint, mut server) = served(&bed, "exec sleep 600", &options);
    let runs = start(&endpoint, json!({}));
    until(&endpoint, &runs, |record| record["currentPhase"] == "BUILD");
    let waits = start(&endpoint, json!({"buildspecOverride": spec("true")}));
    assert_eq!(record(&endpoint, &waits)["currentPhase"], "QUEUED");
    server.signal(Signal::SIGKILL);
    server.wait();
    // The build outlives `serve`, and the next one takes it over: it is live, counted, and recorded
    // once.
    let mut all = vec!["--no-auth"];
    all.extend(options);
    let (endpoint, server) = Endpoint::serve(&bed, &all);
    assert_eq!(record(&endpoint, &runs)["currentPhase"], "BUILD");
    assert_eq!(record(&endpoint, &waits)["currentPhase"], "QUEUED");
    call(&endpoint, "StopBuild", &json!({"id": runs}));
    assert_eq!(until(&endpoint, &runs, has_ended)["buildStatus"], "STOPPED");
    let second = until(&endpoint, &waits, has_ended);
    assert_eq!((&second["buildStatus"], &second["buildNumber"]), (&json!("SUCCEEDED"), &json!(2)));
    let ids = call(&endpoint, "ListBuilds", &json!({}))["ids"].clone();
    assert_eq!(ids, json!([waits, runs]), "each once");
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn a_stop_in_the_queue() {
    let bed = Bed::host();
    let (endpoint, server) =
        served(&bed, "exec sleep 600", &["--max-builds", "1", "--max-queued", "1"]);
    start(&endpoint, json!({}));
    let second = start(&endpoint, json!({}));
    // Other commands show that it is queued.
    let listed = bed.runner(["ps"]).code(0);
    assert!(listed.stdout.contains("queued") && listed.stderr.is_empty(), "{}", listed.stderr);
    assert!(bed.runner(["logs", &second]).code(2).stderr.contains("waits in the queue"));
    let waits = ["wait", &second, "--for", "paused", "--timeout", "1s"];
    bed.runner(waits).code(4);
    let (code, text) = refused(&endpoint, "StartBuild", &json!({"projectName": "demo"}));
    assert_eq!(code, "AccountLimitExceededException", "{text}");
    let stopped = call(&endpoint, "StopBuild", &json!({"id": second}));
    assert_eq!(stopped["build"]["buildStatus"], "STOPPED");
    assert_eq!(stopped["build"]["phases"][1]["phaseStatus"], "STOPPED");
    assert!(bed.runner(["logs", &second]).code(2).stderr.contains("no build"));
    // Without the server nothing begins.
    start(&endpoint, json!({}));
    let mut server = server;
    server.signal(Signal::SIGKILL);
    server.wait();
    bed.runner(["ps"])
        .code(0)
        .says("the queued builds wait for `runner serve`, which does not run");
    bed.runner(["stop", "--all"]).code(0);
}

/// A build that waits for a person does not block others, and continues as soon as it may.
fn a_paused_build_gives_its_place() {
    let bed = Bed::host();
    let (endpoint, server) = served(&bed, "codebuild-breakpoint", &["--max-builds", "1"]);
    let paused = start(&endpoint, json!({"debugSessionEnabled": true}));
    // It may be requested before the first pauses: it runs in either order.
    let second = start(&endpoint, json!({"buildspecOverride": spec("true")}));
    assert_eq!(until(&endpoint, &second, has_ended)["buildStatus"], "SUCCEEDED");
    assert_eq!(record(&endpoint, &paused)["currentPhase"], "BUILD");
    bed.runner(["resume", &paused]).code(0);
    assert_eq!(until(&endpoint, &paused, has_ended)["buildStatus"], "SUCCEEDED");
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn builds_of_others_are_indexed() {
    let bed = Bed::host();
    bed.build(&spec("true"), &[]).code(0);
    let (endpoint, mut server) = Endpoint::serve(&bed, &["--no-auth"]);
    bed.build(&spec("false"), &[]).code(1);
    let list = |endpoint: &Endpoint| call(endpoint, "ListBuilds", &json!({}))["ids"].clone();
    let ids = list(&endpoint);
    assert_eq!(ids.as_array().unwrap().len(), 2, "{ids}");
    assert_eq!(record(&endpoint, ids[0].as_str().unwrap())["buildStatus"], "FAILED");
    server.signal(Signal::SIGKILL);
    server.wait();
    fs::write(bed.home().join("serve.db"), "no database").unwrap();
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    assert!(server.stderr.text().contains("the database was broken"), "{}", server.stderr.text());
    assert_eq!(list(&endpoint), ids);
    server.signal(Signal::SIGTERM);
    server.ends(0);
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth", "--rebuild-index"]);
    assert_eq!(list(&endpoint), ids);
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// Whether `serve` runs or not; the whole file or nothing.
fn projects_are_imported() {
    let bed = Bed::host();
    let named = |name: &str| {
        let mut project = a_project(&spec("echo imported"));
        project["name"] = json!(name);
        project["badge"] = json!({"badgeEnabled": false});
        project
    };
    let file = bed.write("web.json", json!({"projects": [named("web")]}).to_string());
    let import = |more: &[&str]| {
        let mut words = vec!["project", "import", file.to_str().unwrap()];
        words.extend(more);
        bed.runner(words)
    };
    assert!(import(&[]).code(0).stderr.contains("project web: imported"));
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let id = call(&endpoint, "StartBuild", &json!({"projectName": "web"}))["build"]["id"].clone();
    assert_eq!(until(&endpoint, id.as_str().unwrap(), has_ended)["buildStatus"], "SUCCEEDED");
    assert!(import(&[]).code(2).stderr.contains("--replace"));
    bed.write("web.json", json!({"projects": [named("web"), named("api")]}).to_string());
    let told = import(&["--replace"]).code(0).stderr;
    assert!(told.contains("web: replaced") && told.contains("api: imported"), "{told}");
    let names = call(&endpoint, "ListProjects", &json!({}))["projects"].clone();
    assert_eq!(names, json!(["api", "web"]));
    let mut bad = named("bad");
    bad["source"]["type"] = json!("SVN");
    bad["timeoutInMinutes"] = json!(1);
    bed.write("web.json", json!({"projects": [named("good"), bad]}).to_string());
    let told = import(&[]).code(2).stderr;
    for part in ["'source.type'", "'timeoutInMinutes'", "2 errors", "nothing was imported"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(call(&endpoint, "ListProjects", &json!({}))["projects"], names);
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn the_cli_and_its_session() {
    let bed = Bed::host();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let file = bed.write("project.json", a_project(&spec("codebuild-breakpoint")).to_string());
    let file = format!("file://{}", file.display());
    let made = endpoint.ask(&bed, &["codebuild", "create-project", "--cli-input-json", &file]);
    let arn = made["project"]["arn"].as_str().unwrap();
    let started = ["codebuild", "start-build", "--project-name", arn, "--debug-session-enabled"];
    let id = endpoint.ask(&bed, &started)["build"]["id"].as_str().unwrap().to_owned();
    pauses(&bed, &id);
    let uuid = id.split_once(':').unwrap().1;
    let target = format!("codebuild:{uuid}");
    let status = ["ssm", "get-connection-status", "--target", &target];
    assert_eq!(endpoint.ask(&bed, &status)["Status"], "connected");
    endpoint.ask(&bed, &["codebuild", "stop-build", "--id", &id]);
    bed.runner(["wait", &id, "--for", "ended"]).code(0);
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn terraforms_order_of_calls() {
    let bed = Bed::host();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let mut command = bed.other(python("python").to_str().unwrap());
    endpoint.surround(&mut command);
    command.arg(project().join("tests/clients/terraform.py"));
    assert_eq!(outcome(&mut command).code(0).stdout, "as expected\n");
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// AWS's own description of a service, from its clients.
pub(super) fn described(service: &str) -> Value {
    let mut found: Vec<PathBuf> = fs::read_dir(project().join("target/python/lib"))
        .unwrap()
        .map(|python| python.unwrap().path().join("site-packages/botocore/data").join(service))
        .filter(|data| data.exists())
        .flat_map(|data| fs::read_dir(data).unwrap().map(|version| version.unwrap().path()))
        .collect();
    found.sort();
    let file = found.pop().expect("a version").join("service-2.json.gz");
    let mut text = String::new();
    GzDecoder::new(fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn inputs_are_described_as_aws_does() {
    for (service, name) in
        [(DescribedService::CodeBuild, "codebuild"), (DescribedService::Logs, "logs")]
    {
        let model = described(name);
        for (operation, shape) in inputs(service) {
            let input = model["operations"][operation]["input"]["shape"].as_str().unwrap();
            same(shape, &model, input, &mut Vec::new());
        }
    }
}

/// Compares a shape with the one of that name.
fn same(shape: &MemberShape, model: &Value, name: &str, above: &mut Vec<String>) {
    let theirs = &model["shapes"][name];
    let (kind, place) = (theirs["type"].as_str().unwrap(), format!("{} {name}", above.join(" ")));
    let least = |member: &str| theirs[member].as_u64().unwrap_or(0) as usize;
    let most = theirs["max"].as_u64().map_or(usize::MAX, |max| max as usize);
    match (shape, kind) {
        (MemberShape::Text { min, max, pattern }, "string") if theirs["enum"].is_null() => {
            assert_eq!((*min, *max), (least("min"), most), "{place}");
            assert_eq!(pattern.map(TextPattern::text), theirs["pattern"].as_str(), "{place}");
        }
        (MemberShape::Choice(choices), "string") => {
            assert_eq!(json!(choices), theirs["enum"], "{place}");
        }
        (MemberShape::Number { min, max }, "integer" | "long") => {
            assert_eq!(*min, theirs["min"].as_i64().unwrap_or(i64::MIN), "{place}");
            assert_eq!(*max, theirs["max"].as_i64().unwrap_or(i64::MAX), "{place}");
        }
        (MemberShape::Real, "double")
        | (MemberShape::Flag, "boolean")
        | (MemberShape::Time, "timestamp") => {}
        (MemberShape::List { of, min, max }, "list") => {
            assert_eq!((*min, *max), (least("min"), most), "{place}");
            above.push(name.to_owned());
            same(of, model, theirs["member"]["shape"].as_str().unwrap(), above);
            above.pop();
        }
        (MemberShape::Record(members), "structure") => {
            let all = theirs["members"].as_object().unwrap();
            let mut names: Vec<&str> = members.iter().map(|member| member.name).collect();
            names.sort_unstable();
            assert_eq!(names, all.keys().map(String::as_str).collect::<Vec<_>>(), "{place}");
            above.push(name.to_owned());
            for RecordMember { name, is_required, shape } in *members {
                let required =
                    theirs["required"].as_array().is_some_and(|all| all.contains(&json!(name)));
                assert_eq!(*is_required, required, "{place} {name}");
                same(shape, model, all[*name]["shape"].as_str().unwrap(), above);
            }
            above.pop();
        }
        _ => panic!("{place}: {shape:?} is no {kind}"),
    }
}

/// Every operation gets the minimum and the maximum of AWS's description, and each input once with
/// an error; botocore parses every response by its description.
fn botocore_reads_every_answer() {
    let bed = Bed::host();
    let (endpoint, server) = served(&bed, "echo read", &["--max-queued", "9"]);
    // Unknown members are dropped at any depth: the build runs.
    let id = start(
        &endpoint,
        json!({"cacheOverride": {"type": "NO_CACHE", "sort": 1}, "environmentVariablesOverride": [
            {"name": "A", "value": "b", "secret": {}}]}),
    );
    assert_eq!(until(&endpoint, &id, has_ended)["buildStatus"], "SUCCEEDED");
    let mut with_batches =
        a_project(&(spec("echo read") + "batch:\n  build-list: [{identifier: a}]\n"));
    with_batches["buildBatchConfig"] = json!({"serviceRole": with_batches["serviceRole"]});
    call(&endpoint, "UpdateProject", &with_batches);
    let batch =
        &call(&endpoint, "StartBuildBatch", &json!({"projectName": "demo"}))["buildBatch"]["id"];
    crate::common::until("the batch", || {
        let batches = call(&endpoint, "BatchGetBuildBatches", &json!({"ids": [batch]}));
        batches["buildBatches"][0]["buildBatchStatus"] == "SUCCEEDED"
    });
    let mut command = bed.other(python("python").to_str().unwrap());
    endpoint.surround(&mut command);
    let of = |service: DescribedService, name: &str| {
        inputs(service)
            .iter()
            .map(|(operation, _)| format!("{name}:{operation}"))
            .collect::<Vec<_>>()
    };
    let script = project().join("tests/clients/every-operation.py");
    command.arg(script).arg(format!("http://{}", endpoint.address)).arg(&id);
    command.arg(batch.as_str().unwrap());
    command
        .args(of(DescribedService::CodeBuild, "codebuild"))
        .args(of(DescribedService::Logs, "logs"));
    let done = outcome(&mut command).code(0);
    assert!(done.stdout.trim_start() == "all read\n", "{done:?}");
    server.signal(Signal::SIGTERM);
    server.ends(0);
}
