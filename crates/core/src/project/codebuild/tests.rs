//! Output of the AWS CLI, and errors in it.

use super::*;

const PRINTED: &str = r#"{
"projects": [
    {
        "name": "demo",
        "arn": "arn:aws:codebuild:eu-west-1:123456789012:project/demo",
        "source": {
            "type": "GITHUB",
            "location": "https://github.com/a/b",
            "gitCloneDepth": 1,
            "gitSubmodulesConfig": {"fetchSubmodules": false},
            "buildspec": "ci/build.yml",
            "reportBuildStatus": false,
            "insecureSsl": false
        },
        "secondarySources": [],
        "secondarySourceVersions": [],
        "artifacts": {
            "type": "S3",
            "location": "bucket",
            "path": "p",
            "namespaceType": "BUILD_ID",
            "name": "out.zip",
            "packaging": "ZIP",
            "overrideArtifactName": false,
            "encryptionDisabled": false
        },
        "secondaryArtifacts": [],
        "cache": {"type": "LOCAL", "modes": ["LOCAL_CUSTOM_CACHE"]},
        "environment": {
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL",
            "environmentVariables": [
                {"name": "A", "value": "\ud83d\ude00 \"x\"", "type": "PLAINTEXT"},
                {"name": "B", "value": "/app/b", "type": "PARAMETER_STORE"},
                {"name": "C", "value": "db:user", "type": "SECRETS_MANAGER"}
            ],
            "privilegedMode": true,
            "imagePullCredentialsType": "CODEBUILD"
        },
        "serviceRole": "arn:aws:iam::123456789012:role/x",
        "timeoutInMinutes": 30,
        "queuedTimeoutInMinutes": 480,
        "encryptionKey": "arn:aws:kms:eu-west-1:123456789012:alias/aws/s3",
        "tags": [{"key": "k", "value": "v"}],
        "created": "2024-03-01T10:00:00.123000+01:00",
        "lastModified": 1709283600.123,
        "webhook": {"url": "u", "filterGroups": [[{"type": "EVENT", "pattern": "PUSH"}]]},
        "badge": {"badgeEnabled": false},
        "logsConfig": {
            "cloudWatchLogs": {"status": "ENABLED", "groupName": "g"},
            "s3Logs": {"status": "ENABLED", "location": "logs/demo", "encryptionDisabled": false}
        },
        "projectVisibility": "PRIVATE"
    }
],
"projectsNotFound": []
}"#;

#[test]
fn what_the_cli_prints_is_read() {
    let project = codebuild(PRINTED, None).expect("is sound");
    assert_eq!(project.name.map(|name| (name.value, name.span.line)), Some(("demo".to_owned(), 4)));
    let buildspec = project.buildspec.map(|buildspec| buildspec.value);
    assert_eq!(buildspec, Some(ProjectBuildspec::Path("ci/build.yml".to_owned())));
    let kinds: Vec<_> = project.variables.iter().map(|variable| variable.kind).collect();
    assert_eq!(kinds, [VariableKind::Plain, VariableKind::Parameter, VariableKind::Secret]);
    assert_eq!(project.variables[0].value, "\u{1f600} \"x\"");
    assert_eq!(project.timeout_minutes.map(|timeout| timeout.value), Some(30));
    assert_eq!(project.compute.map(|compute| compute.value), Some((4, 2)));
    assert_eq!(project.privileged.map(|flag| flag.value), Some(true));
    let artifacts = project.artifacts.expect("has artifacts").value;
    assert!(artifacts.is_zip && artifacts.has_build_id && !artifacts.override_name);
    assert_eq!(project.cache.expect("has a cache").value.modes, ["LOCAL_CUSTOM_CACHE"]);
    assert_eq!(project.cloudwatch.and_then(|logs| logs.value.group).as_deref(), Some("g"));
    assert_eq!(project.s3_logs.map(|place| place.value).as_deref(), Some("logs/demo"));
    assert_eq!(project.unheeded, []);
}

#[test]
fn everything_that_is_wrong_is_told_with_its_place() {
    let text = "{\n  \"nam\": \"x\",\n  \"environment\": {\"image\": [], \"privilegdMode\": true},\n  \
                \"cache\": {\"type\": \"S4\"},\n  \"timeoutInMinutes\": \"soon\",\n  \"logsConfig\": {\"s3Logs\": \
                {\"status\": \"ENABLED\"}}\n}";
    let problems = codebuild(text, None).expect_err("has errors");
    let told: Vec<_> = problems
        .iter()
        .map(|problem| (problem.code.name(), problem.span.line, problem.span.column))
        .collect();
    assert_eq!(
        told,
        [
            ("unknown-key", 2, 3),
            ("wrong-shape", 3, 28),
            ("unknown-key", 3, 32),
            ("bad-value", 4, 21),
            ("bad-value", 5, 23),
            ("missing-key", 6, 18),
        ]
    );
    assert!(problems.iter().all(Diagnostic::is_error), "{problems:?}");
    assert_eq!(problems[0].message, "`nam` is not a key of the project");
    assert_eq!(problems[0].hint.as_deref(), Some("did you mean `name`?"));
    let broken = codebuild("{\n  \"name\": \n}", None).expect_err("is no JSON");
    assert_eq!((broken[0].code, broken[0].span.line), (DiagnosticCode::Syntax, 3));
}

#[test]
fn one_of_several_is_chosen_by_name() {
    let two = r#"{"projects": [{"name": "one"}, {"name": "two", "description": null}]}"#;
    let name = |wanted| codebuild(two, wanted).map(|project| project.name.map(|name| name.value));
    assert_eq!(name(Some("two")), Ok(Some("two".to_owned())));
    for wanted in [None, Some("three")] {
        let problems = name(wanted).expect_err("is not clear");
        assert!(problems[0].hint.as_deref().is_some_and(|hint| hint.contains("one, two")));
    }
    assert!(codebuild("{\"projects\": []}", None).is_err());
    assert!(codebuild("{\"projects\": [{\"x\": 1}]}", None).is_err());
    assert!(codebuild("[]", None).is_err());
}
