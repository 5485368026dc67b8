//! Tests of the rules of projects.

use super::*;

fn project() -> Value {
    json!({
        "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2\nphases: {}\n"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL"},
        "serviceRole": "arn:aws:iam::123456789012:role/builds",
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut project = project();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    project.pointer_mut(parent).expect("a parent")[name] = value;
    project
}

#[test]
fn what_goes_together() {
    assert_eq!(problems(&project()), Vec::<String>::new());
    for (project, told) in [
        (with("/source", json!({"type": "GITHUB"})), "Project source location is required"),
        (with("/source", json!({"type": "NO_SOURCE"})), "needs the buildspec itself"),
        (with("/source", json!({"type": "CODEPIPELINE"})), "both sourceType, and artifactType"),
        (with("/artifacts/location", json!("b")), "NO_ARTIFACTS should have null location"),
        (with("/artifacts/name", json!("b")), "NO_ARTIFACTS should have null output name"),
        (with("/artifacts", json!({"type": "S3"})), "location is required for type S3"),
        (with("/cache", json!({"type": "LOCAL"})), "modes are required"),
        (with("/cache", json!({"type": "S3"})), "location is required"),
        (with("/serviceRole", json!("builds")), "Invalid service role"),
        (with("/autoRetryLimit", json!(-1)), "autoRetryLimit"),
        (with("/autoRetryLimit", json!(11)), "autoRetryLimit"),
        (with("/secondarySources", json!([{"type": "S3", "location": "b/k"}])), "sourceIdentifier"),
        (
            with("/environment/environmentVariables", json!([{"name": "A=B", "value": ""}])),
            "Invalid environment variable",
        ),
    ] {
        let found = problems(&project).join("\n");
        assert!(found.contains(told), "{told}: {found}");
    }
    let twice = json!([
        {"type": "S3", "location": "b/k", "sourceIdentifier": "a"},
        {"type": "S3", "location": "b/l", "sourceIdentifier": "a"},
    ]);
    assert!(problems(&with("/secondarySources", twice)).join("").contains("twice"));
}

#[test]
fn an_update_keeps_what_it_does_not_name() {
    let old = with("/vpcConfig", json!({"vpcId": "v"}));
    let old = updated(&old, &json!({"tags": [{"key": "a"}], "concurrentBuildLimit": 3}));
    let input = json!({"name": "x", "description": "new", "tags": [], "vpcConfig": {},
        "concurrentBuildLimit": -1, "color": 1, "source": null});
    let new = updated(&old, &input);
    assert_eq!(new["description"], "new");
    assert_eq!(new["tags"], json!([]));
    assert_eq!(new["source"], old["source"]);
    for gone in ["vpcConfig", "concurrentBuildLimit", "color", "name"] {
        assert!(new.get(gone).is_none(), "{gone}");
    }
}

#[test]
fn answers_have_what_aws_fills_in() {
    let shown = shown(&Project {
        name: "demo".to_owned(),
        given: with("/artifacts", json!({"type": "S3", "location": "b"})),
        created: 1500,
        modified: 2500,
        cache_epoch: 0,
    });
    assert_eq!(shown["arn"], "arn:aws:codebuild:us-east-1:000000000000:project/demo");
    assert_eq!((&shown["created"], &shown["lastModified"]), (&json!(1.5), &json!(2.5)));
    assert_eq!(
        (&shown["timeoutInMinutes"], &shown["queuedTimeoutInMinutes"]),
        (&json!(60), &json!(480))
    );
    assert_eq!(shown["artifacts"]["name"], "demo");
    assert_eq!(shown["artifacts"]["packaging"], "NONE");
    assert_eq!(shown["environment"]["imagePullCredentialsType"], "CODEBUILD");
    assert_eq!(shown["cache"], json!({"type": "NO_CACHE"}));
    assert_eq!(shown["badge"], json!({"badgeEnabled": false}));
    assert!(shown.get("logsConfig").is_none());
}

#[test]
fn overrides_replace_members_and_join_variables() {
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let own = json!([variable("A", "1"), variable("B", "1")]);
    let given = with("/environment/environmentVariables", own);
    let input = json!({"imageOverride": "other", "environmentVariablesOverride": [variable("B", "2"), variable("C", "2")],
        "timeoutInMinutesOverride": 7, "debugSessionEnabled": true, "buildspecOverride": "version: 0.2\n"});
    let merged = merge("demo", &given, &input).expect("a build");
    assert!(merged.has_sessions);
    assert_eq!(merged.project["name"], "demo");
    assert_eq!(merged.project["environment"]["image"], "other");
    assert_eq!(merged.project["timeoutInMinutes"], 7);
    assert_eq!(merged.project["source"]["buildspec"], "version: 0.2\n");
    assert_eq!(
        merged.project["environment"]["environmentVariables"],
        json!([variable("A", "1"), variable("B", "2"), variable("C", "2")])
    );
}

#[test]
fn a_build_that_cannot_run_here_is_refused_and_why() {
    for (input, told) in [
        (
            json!({"environmentTypeOverride": "WINDOWS_CONTAINER"}),
            "environment type WINDOWS_CONTAINER",
        ),
        (
            json!({"sourceTypeOverride": "S3", "sourceLocationOverride": "b/k.zip"}),
            "source type S3",
        ),
        (
            json!({"sourceTypeOverride": "GITHUB", "sourceLocationOverride": "https://example.org/a.git"}),
            "only folders",
        ),
        (json!({"fleetOverride": {"fleetArn": "a"}}), "fleet"),
        (json!({"buildspecOverride": "/etc/buildspec.yml"}), "outside the source"),
        (
            json!({
                "sourceTypeOverride": "GITHUB", "sourceLocationOverride": "file:///src/a",
                "sourceVersion": "v1.0",
            }),
            "no versions",
        ),
        (json!({"environmentTypeOverride": "LINUX_GPU_CONTAINER"}), "environment type"),
        (json!({"buildspecOverride": "ci/../../b.yml"}), "outside the source"),
        (json!({"sourceTypeOverride": "GITHUB"}), "location is required"),
    ] {
        let found = merge("demo", &project(), &input).expect_err("refused").join("\n");
        assert!(found.contains(told), "{told}: {found}");
    }
    let folder = json!({"sourceTypeOverride": "GITHUB", "sourceLocationOverride": "file:///src/a"});
    assert!(merge("demo", &project(), &folder).is_ok());
}

#[test]
fn names_and_arns() {
    assert_eq!(name_of("demo"), Some("demo"));
    assert_eq!(name_of(&project_arn("demo")), Some("demo"));
    assert_eq!(name_of("arn:aws:codebuild:eu-west-1:000000000000:project/demo"), None);
    assert_eq!(name_of("arn:aws:codebuild:us-east-1:000000000000:build/demo:1"), None);
}
