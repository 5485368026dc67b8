//! Which builds start and stop, and the resulting record.

use super::*;

#[test]
fn dependants_of_a_failure_never_run_and_siblings_do() {
    let mut machine = machine(graph("a b c<a d<c,b e?<a f<e"), 4);
    assert_eq!(machine.begin(NOW), [BatchEffect::Start(0), BatchEffect::Start(1)]);
    assert_eq!(machine.apply(BatchInput::Ended(0, Status::Failed), NOW), []);
    let left = (2..6).map(|at| machine.stand(at)).collect::<Vec<_>>();
    assert_eq!(left, [Some(Stand::Left); 4]);
    let end = machine.apply(BatchInput::Ended(1, Status::Succeeded), NOW);
    assert_eq!(end, [BatchEffect::Finish(Status::Failed)]);
    let counting: Vec<usize> = (0..6).filter(|at| machine.counts(*at)).collect();
    assert_eq!(counting, [0, 1]);
}

#[test]
fn a_failure_that_is_ignored_lets_dependants_run() {
    for status in [Status::Failed, Status::TimedOut, Status::Fault, Status::Stopped] {
        let mut machine = machine(graph("a? b<a"), 4);
        machine.begin(NOW);
        assert_eq!(machine.apply(BatchInput::Ended(0, status), NOW), [BatchEffect::Start(1)]);
        let end = machine.apply(BatchInput::Ended(1, Status::Succeeded), NOW);
        assert_eq!(end, [BatchEffect::Finish(Status::Succeeded)]);
        assert!(!machine.counts(0) && machine.counts(1));
    }
}

#[test]
fn fast_fail_stops_what_runs_and_that_does_not_count() {
    let mut plan = graph("a b c d<b");
    plan.fast_fail = true;
    let mut machine = machine(plan, 2);
    assert_eq!(machine.begin(NOW), [BatchEffect::Start(0), BatchEffect::Start(1)]);
    assert_eq!(machine.apply(BatchInput::Ended(0, Status::Failed), NOW), [BatchEffect::Stop(1)]);
    assert_eq!(machine.stand(2), Some(Stand::Left));
    let end = machine.apply(BatchInput::Ended(1, Status::Stopped), NOW);
    assert_eq!(end, [BatchEffect::Finish(Status::Failed)]);
    assert!(machine.counts(0) && !machine.counts(1));
}

#[test]
fn a_stop_is_told_twice_and_a_time_that_is_up_once() {
    for (input, status) in
        [(BatchInput::Stop, Status::Stopped), (BatchInput::TimeIsUp, Status::TimedOut)]
    {
        let mut machine = machine(graph("a b c"), 2);
        machine.begin(NOW);
        let both = [BatchEffect::Stop(0), BatchEffect::Stop(1)];
        assert_eq!(machine.apply(input, NOW), both);
        assert_eq!(machine.apply(BatchInput::Stop, NOW), both);
        machine.apply(BatchInput::Ended(0, Status::Stopped), NOW);
        let end = machine.apply(BatchInput::Ended(1, Status::Succeeded), NOW);
        assert_eq!(end, [BatchEffect::Finish(status)]);
        assert!(machine.counts(0) && !machine.counts(2));
    }
}

#[test]
fn a_paused_build_leaves_its_place_to_others() {
    let mut machine = machine(graph("a b c d e f"), 1);
    assert_eq!(machine.begin(NOW), [BatchEffect::Start(0)]);
    for at in 0..3 {
        assert_eq!(machine.apply(BatchInput::Paused(at), NOW), [BatchEffect::Start(at + 1)]);
    }
    // No more builds start than the limit of started builds allows.
    assert_eq!(machine.apply(BatchInput::Paused(3), NOW), []);
    assert_eq!(machine.apply(BatchInput::Resumed(2), NOW), []);
    assert_eq!(
        machine.apply(BatchInput::Ended(2, Status::Succeeded), NOW),
        [BatchEffect::Start(4)]
    );
}

#[test]
fn a_batch_that_is_rejected_has_no_build() {
    let mut machine = machine(graph("a b"), 1);
    let context = PhaseContext::new(StatusCode::YamlFileError, "why");
    assert_eq!(
        machine.reject(Status::Failed, Some(context), NOW),
        [BatchEffect::Finish(Status::Failed)]
    );
    assert_eq!(machine.begin(NOW), []);
    let record = BuildBatch::of(&facts(), &machine);
    let json = serde_json::to_value(&record).expect("json");
    assert_eq!(json["phases"][1]["phaseStatus"], "FAILED");
    assert_eq!(json["phases"][1]["contexts"][0]["statusCode"], "YAML_FILE_ERROR");
    assert_eq!(json["currentPhase"], "FAILED");
}

#[test]
fn a_plan_comes_when_the_source_is_there_and_again_with_a_retry() {
    let mut machine = machine(BatchPlan::default(), 8).combining(true);
    machine.expand(graph("a b<a"), |at| format!("first:{at}"), NOW);
    assert_eq!(machine.begin(NOW), [BatchEffect::Start(0)]);
    assert_eq!(machine.place_of("first:1"), Some(1));
    machine.expand(graph("z"), |_| String::new(), NOW);
    assert_eq!(machine.plan().builds.len(), 2, "not while it runs");
    machine.apply(BatchInput::Ended(0, Status::Failed), NOW);
    machine.retry(RetryType::All, |at| format!("second:{at}"), NOW).expect("again");
    machine.expand(graph("b c"), |at| format!("third:{at}"), NOW);
    // Earlier runs are matched by name.
    let groups = serde_json::to_value(machine.groups()).expect("json");
    assert_eq!(groups[0]["currentBuildSummary"]["arn"], "second:1");
    assert_eq!(groups[0]["priorBuildSummaryList"][0]["buildStatus"], "STOPPED");
    assert_eq!(groups[1]["currentBuildSummary"]["arn"], "third:1");
    // A deserialized machine can go on.
    let text = serde_json::to_string(&machine).expect("json");
    let mut machine: BatchMachine = serde_json::from_str(&text).expect("the same");
    assert_eq!(machine.begin(NOW), [BatchEffect::Start(0), BatchEffect::Start(1)]);
    machine.apply(BatchInput::Ended(0, Status::Succeeded), NOW);
    let end = machine.apply(BatchInput::Ended(1, Status::Succeeded), NOW);
    assert_eq!(
        (end.as_slice(), machine.status()),
        (&[BatchEffect::Combine][..], Status::InProgress)
    );
    assert_eq!(machine.apply(BatchInput::Ended(1, Status::Failed), NOW), []);
    let end = machine.apply(BatchInput::Combined(Status::Failed), NOW);
    assert_eq!(end, [BatchEffect::Finish(Status::Failed)]);
    assert_eq!(machine.apply(BatchInput::Combined(Status::Succeeded), NOW), []);
}

#[test]
fn a_stop_before_the_first_build_and_after_the_last() {
    for (input, wanted) in
        [(BatchInput::Stop, Status::Stopped), (BatchInput::TimeIsUp, Status::TimedOut)]
    {
        let mut early = machine(graph("a"), 8);
        assert_eq!(early.apply(input, NOW), []);
        assert!(early.is_ending());
        assert_eq!(early.begin(NOW), [BatchEffect::Finish(wanted)]);
        let mut late = machine(graph("a"), 8).combining(true);
        late.begin(NOW);
        assert_eq!(
            late.apply(BatchInput::Ended(0, Status::Succeeded), NOW),
            [BatchEffect::Combine]
        );
        assert_eq!(late.apply(input, NOW), []);
        let end = late.apply(BatchInput::Combined(Status::Succeeded), NOW);
        assert_eq!(end, [BatchEffect::Finish(wanted)]);
    }
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
    machine.apply(BatchInput::Ended(0, Status::Failed), later);
    machine.apply(BatchInput::Ended(2, Status::Succeeded), later);
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

    // A retry of the failed builds keeps the batch's ID.
    assert_eq!(machine.retry(RetryType::Failed, |at| format!("new:{at}"), later), Ok(()));
    assert_eq!(machine.retry(RetryType::All, |_| String::new(), later), Err(NotRetried::Running));
    assert_eq!(machine.begin(later), [BatchEffect::Start(0)]);
    machine.apply(BatchInput::Ended(0, Status::Succeeded), later);
    let end = machine.apply(BatchInput::Ended(1, Status::Succeeded), later);
    assert_eq!(end, [BatchEffect::Finish(Status::Succeeded)]);
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
