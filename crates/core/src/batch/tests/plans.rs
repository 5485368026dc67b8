//! Which builds a batch expands to.

use super::*;

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
        BatchBuildSettings {
            buildspec: Some("a.yml".to_owned()),
            image: Some("i".to_owned()),
            compute_type: Some("BUILD_GENERAL1_LARGE".to_owned()),
            environment_type: Some("LINUX_EC2".to_owned()),
            privileged: Some(true),
            debug_session: true,
            variables: vec![("A".to_owned(), "010".to_owned())],
        }
    );
    assert_eq!((b.ignore_failure, &b.settings), (true, &BatchBuildSettings::default()));
    let mut machine = machine(plan, 8);
    assert_eq!(machine.begin(NOW), [BatchEffect::Start(0), BatchEffect::Start(1)]);
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

/// A build list with this many builds.
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
    // A single build ignores the batch.
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
