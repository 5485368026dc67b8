//! Expansion by table; the machine by table and by law, whatever happens in whatever order.

use super::*;
use crate::phase::{PhaseContext, Status, StatusCode};
use crate::spec::{self, Diagnostic};
use crate::time::WallTime;

/// A buildspec's batch, with phases, so that its builds need none of their own.
fn read(batch: &str) -> Result<spec::Batch, Vec<Diagnostic>> {
    let text = format!("version: 0.2\nphases: {{build: {{commands: [make]}}}}\nbatch:\n{batch}");
    spec::parse_batch(&text).map(|(spec, _)| spec.batch.expect("a batch"))
}

fn planned(batch: &str) -> BatchPlan {
    let batch = read(batch).expect("sound");
    plan(&batch, &Restrictions::default()).expect("allowed")
}

/// Where an error stands, and what it says.
fn refused(text: &str) -> Vec<(u32, String)> {
    let problems = spec::parse_batch(text).expect_err(text);
    let errors = problems.into_iter().filter(Diagnostic::is_error);
    errors.map(|problem| (problem.span.line, problem.message)).collect()
}

/// A graph in one word a build: `name`, `name<on,on`, with `?` behind a name that may fail.
fn graph(words: &str) -> BatchPlan {
    let tasks = words.split_whitespace().map(|word| {
        let (name, on) = word.split_once('<').unwrap_or((word, ""));
        let may_fail = name.ends_with('?');
        let name = name.trim_end_matches('?');
        format!(
            "    - identifier: {name}\n      ignore-failure: {may_fail}\n      depend-on: [{on}]\n"
        )
    });
    planned(&format!("  build-graph:\n{}", tasks.collect::<String>()))
}

const NOW: WallTime = WallTime(1_700_000_000_000_000);

fn machine(plan: BatchPlan, most: usize) -> BatchMachine {
    let arns = (0..plan.builds.len()).map(|at| format!("arn:{at}")).collect();
    BatchMachine::new(plan, arns, most, NOW)
}

#[test]
fn a_list_is_all_at_once() {
    let plan = planned(
        "  fast-fail: yes\n  build-list:\n    - identifier: a\n      buildspec: a.yml\n      \
         debug-session: true\n      env: {image: i, compute-type: BUILD_GENERAL1_LARGE, type: LINUX_EC2, \
         privileged-mode: true, variables: {A: 010}}\n    - identifier: b\n      ignore-failure: true\n",
    );
    assert!(plan.fast_fail);
    let [a, b] = plan.builds.as_slice() else { panic!("{plan:?}") };
    assert_eq!(
        a.settings,
        Settings {
            buildspec: Some("a.yml".to_owned()),
            image: Some("i".to_owned()),
            compute_type: Some("BUILD_GENERAL1_LARGE".to_owned()),
            environment_type: Some("LINUX_EC2".to_owned()),
            privileged: Some(true),
            debug_session: true,
            variables: vec![("A".to_owned(), "010".to_owned())],
        }
    );
    assert_eq!((b.ignore_failure, &b.settings), (true, &Settings::default()));
    let mut machine = machine(plan, 8);
    assert_eq!(machine.begin(NOW), [Effect::Start(0), Effect::Start(1)]);
}

#[test]
fn what_is_no_key_of_a_list_has_no_effect() {
    let plan = planned(
        "  build-list:\n    - identifier: a\n    - identifier: b\n      depend-on: [a, nobody]\n",
    );
    assert!(plan.builds.iter().all(|build| build.depends_on.is_empty()));
}

#[test]
fn a_matrix_is_every_combination_the_first_key_slowest() {
    let plan = planned(
        "  build-matrix:\n    static: {ignore-failure: true, env: {privileged-mode: true, type: LINUX_CONTAINER}}\n    \
         dynamic:\n      env:\n        variables: {A: [1, 2], B: [x]}\n        image: [i, j, k]\n      buildspec: \
         [s.yml]\n",
    );
    let told = plan.builds.iter().map(|build| {
        let own = &build.settings;
        let variables = own.variables.iter().map(|(name, value)| format!("{name}={value}"));
        let variables: Vec<String> = variables.collect();
        format!("{} {} {}", build.identifier, variables.join(","), own.image.clone().expect("one"))
    });
    let told: Vec<String> = told.collect();
    let wanted = [
        "build0 A=1,B=x i",
        "build1 A=1,B=x j",
        "build2 A=1,B=x k",
        "build3 A=2,B=x i",
        "build4 A=2,B=x j",
        "build5 A=2,B=x k",
    ];
    assert_eq!(told, wanted);
    assert!(plan.builds.iter().all(|build| build.ignore_failure
        && build.settings.privileged == Some(true)
        && build.settings.buildspec.as_deref() == Some("s.yml")));
    assert_eq!(planned("  build-matrix: {static: {}}\n").builds.len(), 1);
}

#[test]
fn a_fanout_has_so_many_parts() {
    let plan = planned("  build-fanout: {parallelism: 3, ignore-failure: true, env: {image: i}}\n");
    let told: Vec<_> = plan
        .builds
        .iter()
        .map(|it| (it.identifier.as_str(), it.shard.expect("a part").index))
        .collect();
    assert_eq!(told, [("build0", 0), ("build1", 1), ("build2", 2)]);
    assert!(plan.builds.iter().all(|build| build.ignore_failure
        && build.settings.image.as_deref() == Some("i")
        && build.shard.is_some_and(|shard| shard.count == 3)));
}

/// A list of so many builds.
fn list(count: usize) -> String {
    let tasks = (0..count).map(|at| format!("    - identifier: b{at}\n"));
    format!("  build-list:\n{}", tasks.collect::<String>())
}

#[test]
fn a_hundred_builds_and_no_more() {
    assert_eq!(planned(&list(100)).builds.len(), 100);
    let ten: Vec<u32> = (0..10).collect();
    let matrix = |more| {
        format!(
            "  build-matrix: {{dynamic: {{env: {{variables: {{A: {ten:?}, B: {ten:?}{more}}}}}}}}}\n"
        )
    };
    assert_eq!(planned(&matrix("")).builds.len(), 100);
    let thousands = format!(", C: {ten:?}, D: {ten:?}, E: {ten:?}");
    for (batch, count) in [
        (list(101), 101),
        (matrix(", C: [1, 2]"), 200),
        (matrix(&thousands), 100_000),
        ("  build-fanout: {parallelism: 4000000000}\n".to_owned(), 4_000_000_000_u64),
    ] {
        let text = format!("version: 0.2\nphases: {{build: {{commands: [a]}}}}\nbatch:\n{batch}");
        let message = format!("here are {count} builds, and a batch has 100 at most");
        assert_eq!(refused(&text), [(4, message)]);
    }
}

#[test]
fn all_problems_come_at_once_each_at_its_place() {
    let problems = refused(
        "version: 0.2\nbatch:\n  build-graph:\n    - identifier: DOWNLOAD_SOURCE\n      buildspec: a.yml\n    - \
         identifier: one-two\n      buildspec: a.yml\n      depend-on: [nobody, a]\n    - identifier: a\n    - \
         identifier: a\n      buildspec: arn:aws:s3:::b/k\n      env: {compute-type: SMALL, type: MAC_ARM}\n    - \
         identifier: c\n      buildspec: x\n      depend-on: [d]\n    - identifier: d\n      buildspec: x\n      \
         depend-on: [e]\n    - identifier: e\n      buildspec: x\n      depend-on: [c, e]\n",
    );
    let told: Vec<_> = problems.iter().map(|(line, text)| (*line, text.as_str())).collect();
    assert_eq!(
        told,
        [
            (4, "CodeBuild keeps `DOWNLOAD_SOURCE` for itself"),
            (
                6,
                "identifier must contain only alphanumeric characters and underscores and be less than 128 \
                 characters in length"
            ),
            (8, "there is no build `nobody` in this batch"),
            (9, "a build of this buildspec, which has no `phases`"),
            (10, "there is another build `a` in this batch"),
            (11, "the buildspec is an object on S3 (arn:aws:s3:::b/k), which is not fetched"),
            (12, "there is no compute type `SMALL`"),
            (12, "this machine has no MAC_ARM"),
            (15, "`c` waits for `d`, which waits for `e`, which waits for `c`"),
            (21, "`e` waits for itself"),
        ]
    );
}

#[test]
fn one_error_each() {
    for (batch, line, message) in [
        ("{build-list: []}", 1, "a batch without a build"),
        ("{build-fanout: {parallelism: 0}}", 1, "a batch without a build"),
        ("{build-matrix: {dynamic: {env: {image: []}}}}", 1, "no values, and so no builds"),
        ("{build-matrix: {static: {env: {type: LINUX_CONTAINR}}}}", 1, "no environment type"),
        ("{build-matrix: {dynamic: {env: {compute-type: [x]}}}}", 1, "no compute type `x`"),
        (
            "{build-fanout: {parallelism: 2, env: {type: ARM_EC2}}}",
            1,
            "this machine has no ARM_EC2",
        ),
        (
            "{build-list: [{identifier: a, env: {fleet: f, compute-type: BUILD_LAMBDA_1GB}}]}",
            1,
            "exclude",
        ),
        (
            "{build-list: [{identifier: a}], build-graph: [{identifier: a}]}",
            1,
            "one kind of builds",
        ),
    ] {
        let text = format!("batch: {batch}\nversion: 0.2\nphases: {{build: {{commands: [a]}}}}\n");
        let [(at, told)] = refused(&text).try_into().expect(batch);
        assert!(at == line && told.contains(message), "{batch}: {told}");
    }
    let without = refused("version: 0.2\nphases: {build: {commands: [a]}}\n");
    assert_eq!(without, [(1, "this buildspec has no `batch`".to_owned())]);
    let without = refused("version: 0.2\nbatch: {build-fanout: {parallelism: 2}}\n");
    assert_eq!(without, [(2, "a build of this buildspec, which has no `phases`".to_owned())]);
}

#[test]
fn what_has_no_effect_is_told_and_runs() {
    let text = "version: 0.2\nphases: {build: {commands: [a]}}\nbatch:\n  build-matrix:\n    static:\n      env:\n        \
                image: x\n        compute-type: BUILD_GENERAL1_SMALL\n        variables: {A: 1}\n";
    let (_, told) = spec::parse_batch(text).expect("sound");
    let told: Vec<_> = told.iter().map(|it| (it.span.line, it.code.name())).collect();
    assert_eq!(told, [(7, "no-effect"), (8, "no-effect"), (9, "no-effect")]);
    // One build does not care.
    assert_eq!(spec::parse(text).map(|(_, told)| told), Ok(Vec::new()));
}

#[test]
fn a_long_chain_and_a_long_circle_are_looked_at_in_no_time() {
    let count = 20_000;
    let chain = |first: &str| {
        let tasks = (1..count)
            .map(|at| format!("    - {{identifier: b{at}, depend-on: [b{}, b1]}}\n", at - 1));
        let first = format!("    - {{identifier: b0, depend-on: [{first}]}}\n");
        format!(
            "version: 0.2\nphases: {{build: {{commands: [a]}}}}\nbatch:\n  build-graph:\n{first}{}",
            tasks.collect::<String>()
        )
    };
    let told = refused(&chain(&format!("b{}", count - 1)));
    assert!(told.iter().all(|(_, text)| text.len() < 400));
}

#[test]
fn a_project_may_allow_less() {
    let batch = read(
        "  build-list:\n    - {identifier: a, env: {compute-type: BUILD_GENERAL1_LARGE}}\n    - {identifier: b}\n",
    )
    .expect("sound");
    let restrictions = Restrictions {
        most_builds: 1,
        compute_types: vec!["BUILD_GENERAL1_SMALL".to_owned()],
        debug_sessions: true,
    };
    let problems = plan(&batch, &restrictions).expect_err("too much");
    let told: Vec<_> = problems.iter().map(|it| (it.span.line, it.message.as_str())).collect();
    assert_eq!(
        told,
        [
            (5, "the project allows its batches BUILD_GENERAL1_SMALL, not BUILD_GENERAL1_LARGE"),
            (3, "here are 2 builds, and the batch may have 1 at most"),
        ]
    );
    assert_eq!(problems[0].aws.as_deref(), Some("Invalid compute type"));
    let matrix = read("  build-matrix: {dynamic: {env: {image: [a]}}}\n").expect("sound");
    let restrictions = Restrictions { debug_sessions: true, ..Restrictions::default() };
    assert!(plan(&matrix, &restrictions).is_err());
}

#[test]
fn a_part_of_a_plan() {
    let plan = graph("a b<a c<b d<a,c");
    let part = plan.clone().only(&["d".to_owned(), "c".to_owned()]).expect("known");
    let told: Vec<_> =
        part.builds.iter().map(|it| (it.identifier.as_str(), it.depends_on.as_slice())).collect();
    assert_eq!(told, [("c", &[][..]), ("d", &[0][..])]);
    let unknown = plan.only(&["x".to_owned(), "a".to_owned(), "y".to_owned()]);
    assert_eq!(unknown, Err(UnknownBuilds(vec!["x".to_owned(), "y".to_owned()])));
}

#[test]
fn a_tree_has_each_build_once() {
    let tree = graph("unit lint image<unit,lint docs<unit deploy?<image,docs").tree();
    assert_eq!(
        tree,
        "unit\n\
         ├─ image  (also after lint)\n\
         │  └─ deploy  (also after docs; may fail)\n\
         └─ docs\n\
         lint\n"
    );
    let json = graph("a b<a").to_json();
    assert_eq!(json["builds"][1]["dependsOn"][0], "a");
}

#[test]
fn the_worst_code_is_the_batchs() {
    for (codes, wanted) in [
        (&[][..], 0),
        (&[0, 0], 0),
        (&[0, 1, 0], 1),
        (&[1, 5], 5),
        (&[1, 4, 5], 4),
        (&[1, 4, 2], 2),
        (&[2, 3], 3),
        (&[0, 137], 137),
    ] {
        assert_eq!(worst(codes.iter().copied()), wanted, "{codes:?}");
    }
}

#[test]
fn dependants_of_a_failure_never_run_and_siblings_do() {
    let mut machine = machine(graph("a b c<a d<c,b e?<a f<e"), 4);
    assert_eq!(machine.begin(NOW), [Effect::Start(0), Effect::Start(1)]);
    assert_eq!(machine.apply(Input::Ended(0, Status::Failed), NOW), []);
    let left = (2..6).map(|at| machine.stand(at)).collect::<Vec<_>>();
    assert_eq!(left, [Some(Stand::Left); 4]);
    let end = machine.apply(Input::Ended(1, Status::Succeeded), NOW);
    assert_eq!(end, [Effect::Finish(Status::Failed)]);
    let counting: Vec<usize> = (0..6).filter(|at| machine.counts(*at)).collect();
    assert_eq!(counting, [0, 1]);
}

#[test]
fn a_failure_that_is_ignored_lets_dependants_run() {
    for status in [Status::Failed, Status::TimedOut, Status::Fault, Status::Stopped] {
        let mut machine = machine(graph("a? b<a"), 4);
        machine.begin(NOW);
        assert_eq!(machine.apply(Input::Ended(0, status), NOW), [Effect::Start(1)]);
        let end = machine.apply(Input::Ended(1, Status::Succeeded), NOW);
        assert_eq!(end, [Effect::Finish(Status::Succeeded)]);
        assert!(!machine.counts(0) && machine.counts(1));
    }
}

#[test]
fn fast_fail_stops_what_runs_and_that_does_not_count() {
    let mut plan = graph("a b c d<b");
    plan.fast_fail = true;
    let mut machine = machine(plan, 2);
    assert_eq!(machine.begin(NOW), [Effect::Start(0), Effect::Start(1)]);
    assert_eq!(machine.apply(Input::Ended(0, Status::Failed), NOW), [Effect::Stop(1)]);
    assert_eq!(machine.stand(2), Some(Stand::Left));
    let end = machine.apply(Input::Ended(1, Status::Stopped), NOW);
    assert_eq!(end, [Effect::Finish(Status::Failed)]);
    assert!(machine.counts(0) && !machine.counts(1));
}

#[test]
fn a_stop_is_told_twice_and_a_time_that_is_up_once() {
    for (input, status) in [(Input::Stop, Status::Stopped), (Input::TimeIsUp, Status::TimedOut)] {
        let mut machine = machine(graph("a b c"), 2);
        machine.begin(NOW);
        let both = [Effect::Stop(0), Effect::Stop(1)];
        assert_eq!(machine.apply(input, NOW), both);
        assert_eq!(machine.apply(Input::Stop, NOW), both);
        machine.apply(Input::Ended(0, Status::Stopped), NOW);
        let end = machine.apply(Input::Ended(1, Status::Succeeded), NOW);
        assert_eq!(end, [Effect::Finish(status)]);
        assert!(machine.counts(0) && !machine.counts(2));
    }
}

#[test]
fn a_paused_build_leaves_its_place_to_others() {
    let mut machine = machine(graph("a b c d e f"), 1);
    assert_eq!(machine.begin(NOW), [Effect::Start(0)]);
    for at in 0..3 {
        assert_eq!(machine.apply(Input::Paused(at), NOW), [Effect::Start(at + 1)]);
    }
    // So many alive, and no more.
    assert_eq!(machine.apply(Input::Paused(3), NOW), []);
    assert_eq!(machine.apply(Input::Resumed(2), NOW), []);
    assert_eq!(machine.apply(Input::Ended(2, Status::Succeeded), NOW), [Effect::Start(4)]);
}

#[test]
fn a_batch_that_is_rejected_has_no_build() {
    let mut machine = machine(graph("a b"), 1);
    let context = PhaseContext::new(StatusCode::YamlFileError, "why");
    assert_eq!(machine.reject(context, NOW), [Effect::Finish(Status::Failed)]);
    assert_eq!(machine.begin(NOW), []);
    let record = BuildBatch::of(&facts(), &machine);
    let json = serde_json::to_value(&record).expect("json");
    assert_eq!(json["phases"][1]["phaseStatus"], "FAILED");
    assert_eq!(json["phases"][1]["contexts"][0]["statusCode"], "YAML_FILE_ERROR");
    assert_eq!(json["currentPhase"], "FAILED");
}

fn facts() -> BatchFacts {
    BatchFacts { project: "demo".to_owned(), uuid: "1-2".to_owned(), ..BatchFacts::default() }
}

#[test]
fn the_record_is_as_aws_gives_it() {
    let later = WallTime(NOW.0 + 2_500_000);
    let mut machine = machine(graph("a b<a c"), 1);
    machine.begin(NOW);
    let json = |machine: &BatchMachine| {
        serde_json::to_value(BuildBatch::of(&facts(), machine)).expect("json")
    };
    let running = json(&machine);
    assert_eq!(running["id"], "demo:1-2");
    assert_eq!(running["currentPhase"], "IN_PROGRESS");
    assert_eq!((&running["complete"], running.get("endTime")), (&false.into(), None));
    let status = |json: &serde_json::Value, at: usize| {
        json["buildGroups"][at]["currentBuildSummary"]["buildStatus"].clone()
    };
    assert_eq!(
        (status(&running, 0), status(&running, 1)),
        ("IN_PROGRESS".into(), "PENDING".into())
    );
    assert_eq!(running["buildGroups"][1]["dependsOn"][0], "a");
    machine.apply(Input::Ended(0, Status::Failed), later);
    machine.apply(Input::Ended(2, Status::Succeeded), later);
    let failed = json(&machine);
    assert_eq!((status(&failed, 0), status(&failed, 1)), ("FAILED".into(), "STOPPED".into()));
    let artifact = &failed["buildGroups"][0]["currentBuildSummary"]["primaryArtifact"];
    assert_eq!(artifact, &serde_json::json!({"type": "no_artifacts", "identifier": "a"}));
    let phases = |json: &serde_json::Value| {
        let phases = json["phases"].as_array().expect("phases").iter();
        let word = |it: &serde_json::Value| it.as_str().unwrap_or("-").to_owned();
        let told =
            phases.map(|it| format!("{} {}", word(&it["phaseType"]), word(&it["phaseStatus"])));
        told.collect::<Vec<_>>()
    };
    assert_eq!(
        phases(&failed),
        ["SUBMITTED SUCCEEDED", "DOWNLOAD_BATCHSPEC SUCCEEDED", "IN_PROGRESS FAILED", "FAILED -"]
    );
    assert_eq!(failed["phases"][2]["durationInSeconds"], 2);
    assert_eq!(failed["phases"][3].get("endTime"), None);

    // Again, what has failed: the id stays.
    assert_eq!(machine.retry(RetryType::Failed, |at| format!("new:{at}"), later), Ok(()));
    assert_eq!(machine.retry(RetryType::All, |_| String::new(), later), Err(NotRetried::Running));
    assert_eq!(machine.begin(later), [Effect::Start(0)]);
    machine.apply(Input::Ended(0, Status::Succeeded), later);
    let end = machine.apply(Input::Ended(1, Status::Succeeded), later);
    assert_eq!(end, [Effect::Finish(Status::Succeeded)]);
    let again = json(&machine);
    assert_eq!(
        phases(&again),
        [
            "SUBMITTED SUCCEEDED",
            "DOWNLOAD_BATCHSPEC SUCCEEDED",
            "IN_PROGRESS CLIENT_ERROR",
            "FAILED RETRY",
            "SUBMITTED SUCCEEDED",
            "DOWNLOAD_BATCHSPEC SUCCEEDED",
            "IN_PROGRESS SUCCEEDED",
            "COMBINE_ARTIFACTS SUCCEEDED",
            "SUCCEEDED -",
        ]
    );
    let first = &again["buildGroups"][0];
    assert_eq!(first["currentBuildSummary"]["arn"], "new:0");
    assert_eq!(first["priorBuildSummaryList"][0]["arn"], "arn:0");
    assert_eq!(again["buildGroups"][2]["currentBuildSummary"]["arn"], "arn:2");
    assert_eq!(again["buildGroups"][2].get("priorBuildSummaryList"), None);
    assert_eq!(machine.retry(RetryType::All, |_| String::new(), later), Err(NotRetried::NotFailed));
}

#[test]
fn a_record_whose_owner_was_killed_is_ended() {
    let mut machine = machine(graph("a b c<b"), 2);
    machine.begin(NOW);
    let mut record = BuildBatch::of(&facts(), &machine);
    record.fault("killed", NOW, |arn| (arn == "arn:0").then_some(Status::Fault));
    let json = serde_json::to_value(&record).expect("json");
    assert_eq!((&json["buildBatchStatus"], &json["complete"]), (&"FAULT".into(), &true.into()));
    let groups = json["buildGroups"].as_array().expect("groups").iter();
    let told: Vec<_> = groups.map(|it| &it["currentBuildSummary"]["buildStatus"]).collect();
    assert_eq!(told, ["FAULT", "STOPPED", "STOPPED"]);
    let read: BuildBatch = serde_json::from_value(json).expect("as it was written");
    assert_eq!(read, record);
}

/// Numbers that look like chance, the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % most
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

const ENDS: [Status; 6] = [
    Status::Succeeded,
    Status::Failed,
    Status::Fault,
    Status::TimedOut,
    Status::Stopped,
    Status::InProgress,
];

/// A graph without circles of up to so many builds.
fn any_plan(chance: &mut Chance) -> BatchPlan {
    let count = 1 + chance.below(12);
    let builds = (0..count).map(|at| {
        let depends_on = (0..at).filter(|_| chance.one_in(4)).collect();
        PlannedBuild {
            identifier: format!("b{at}"),
            depends_on,
            ignore_failure: chance.one_in(4),
            settings: Settings::default(),
            shard: None,
        }
    });
    BatchPlan { builds: builds.collect(), fast_fail: chance.one_in(3) }
}

/// What must hold whatever happens.
#[derive(Default)]
struct Law {
    started: Vec<bool>,
    ended: Vec<Option<Status>>,
    stopping: bool,
    finished: Option<Status>,
}

impl Law {
    fn check(&mut self, machine: &BatchMachine, most: usize, effects: &[Effect]) {
        let plan = machine.plan();
        for effect in effects {
            assert_eq!(self.finished, None, "after the end: {effect:?}");
            match *effect {
                Effect::Start(at) => {
                    assert!(!self.stopping, "{at} starts late");
                    assert!(!std::mem::replace(&mut self.started[at], true), "{at} starts twice");
                    for on in &plan.builds[at].depends_on {
                        let has_let_go = match self.ended[*on] {
                            Some(Status::Succeeded) => true,
                            Some(_) => plan.builds[*on].ignore_failure,
                            None => false,
                        };
                        assert!(has_let_go, "{at} does not wait for {on}");
                    }
                }
                Effect::Stop(at) => assert!(self.started[at] && self.ended[at].is_none()),
                Effect::Finish(status) => {
                    let open = (0..self.started.len())
                        .find(|at| self.started[*at] && self.ended[*at].is_none());
                    assert_eq!(open, None, "one is left behind");
                    assert_ne!(status, Status::InProgress);
                    self.finished = Some(status);
                }
            }
        }
        let running =
            (0..self.started.len()).filter(|at| self.started[*at] && self.ended[*at].is_none());
        let running: Vec<usize> = running.collect();
        assert!(running.len() <= 4 * most, "{running:?}");
        for at in 0..self.started.len() {
            let is_running = matches!(machine.stand(at), Some(Stand::Running { .. }));
            assert_eq!(is_running, running.contains(&at), "{at}");
        }
    }
}

#[test]
fn no_order_of_events_reaches_an_illegal_state() {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for round in 0..4000 {
        let plan = any_plan(&mut chance);
        let (count, most) = (plan.builds.len(), 1 + chance.below(4));
        let mut machine = machine(plan, most);
        let mut law =
            Law { started: vec![false; count], ended: vec![None; count], ..Law::default() };
        let effects = machine.begin(NOW);
        law.check(&machine, most, &effects);
        // Many of them, of which most mean builds that do not run.
        for _ in 0..400 {
            if law.finished.is_some() {
                break;
            }
            let at = chance.below(count + 1);
            let is_running = at < count && law.started[at] && law.ended[at].is_none();
            let any_end = if chance.one_in(2) { ENDS.len() } else { 1 };
            let input = match chance.below(12) {
                0 if chance.one_in(6) => Input::Stop,
                1 if chance.one_in(6) => Input::TimeIsUp,
                2 => Input::Paused(at),
                3 => Input::Resumed(at),
                _ => Input::Ended(at, ENDS[chance.below(any_end)]),
            };
            match input {
                Input::Ended(_, status) if is_running => {
                    let status = if status == Status::InProgress { Status::Fault } else { status };
                    law.ended[at] = Some(status);
                    let is_failure =
                        status != Status::Succeeded && !machine.plan().builds[at].ignore_failure;
                    law.stopping |= is_failure && machine.plan().fast_fail;
                }
                Input::Stop | Input::TimeIsUp => law.stopping = true,
                Input::Ended(..) | Input::Paused(_) | Input::Resumed(_) => {}
            }
            let effects = machine.apply(input, NOW);
            law.check(&machine, most, &effects);
        }
        let status = law.finished.unwrap_or_else(|| panic!("round {round} does not end"));
        // It has succeeded where every build that must has, and only there.
        let is_well = (0..count).all(|at| match law.ended[at] {
            Some(Status::Succeeded) => true,
            Some(_) => machine.plan().builds[at].ignore_failure,
            None => false,
        });
        assert_eq!(
            status == Status::Succeeded,
            is_well && !law.stopping,
            "round {round}: {status}"
        );
        // Nobody is forgotten who could have run.
        if !law.stopping {
            for at in 0..count {
                let build = &machine.plan().builds[at];
                let could = build.depends_on.iter().all(|on| match law.ended[*on] {
                    Some(Status::Succeeded) => true,
                    Some(_) => machine.plan().builds[*on].ignore_failure,
                    None => false,
                });
                assert_eq!(law.started[at], could, "round {round}: build {at}");
            }
        }
        // A batch that is over takes nothing any more, but to be run again.
        assert_eq!(machine.apply(Input::Ended(0, Status::Failed), NOW), []);
        assert_eq!(machine.apply(Input::Stop, NOW), []);
        let what = if chance.one_in(2) { RetryType::All } else { RetryType::Failed };
        let retried = machine.retry(what, |at| format!("new:{at}"), NOW);
        assert_eq!(retried.is_ok(), status != Status::Succeeded);
        let again = machine.begin(NOW);
        assert_eq!(again.is_empty(), status == Status::Succeeded, "round {round}: {again:?}");
    }
}
