//! Decisions for documented policies, and for the rules of the language.

use super::*;

const ALLOW_ALL: &str = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#;

/// ECS Exec by tag and cluster, as in ECS's documentation.
const BY_TAG: &str = r#"{
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "ecs:ExecuteCommand",
                "ecs:DescribeTasks"
            ],
            "Resource": "arn:aws:ecs:us-east-1:000000000000:task/cluster-name/*",
            "Condition": {
                "StringEquals": {
                    "ecs:ResourceTag/environment": "development"
                }
            }
        }
    ]
}"#;

/// Denies access to the container `production-app`.
const BY_CONTAINER: &str = r#"{
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Action": [
                "ecs:ExecuteCommand"
            ],
            "Resource": "*",
            "Condition": {
                "StringEquals": {
                    "ecs:container-name": "production-app"
                }
            }
        }
    ]
}"#;

/// Allows tasks only with ECS Exec disabled.
const TURNED_OFF: &str = r#"{
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "ecs:RunTask",
                "ecs:StartTask",
                "ecs:CreateService",
                "ecs:UpdateService"
            ],
            "Resource": "*",
            "Condition": {
                "StringEquals": {
                    "ecs:enable-execute-command": "false"
                }
            }
        }
    ]
}"#;

/// Denies sessions other than ECS Exec, by cluster.
const NO_SESSIONS: &str = r#"{
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Action": "ssm:StartSession",
            "Resource": "arn:aws:ecs:*:111122223333:task/cluster-name/*"
        }
    ]
}"#;

/// Denies sessions other than ECS Exec, by tag.
const NO_TAGGED_SESSIONS: &str = r#"{
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Action": "ssm:StartSession",
            "Resource": "*",
            "Condition": {
                "StringEquals": {
                    "aws:ResourceTag/Task-Tag-Key": "Exec-Task"
                }
            }
        }
    ]
}"#;

/// Users may end only their own sessions.
const OWN_SESSIONS: &str = r#"{
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["ssm:TerminateSession", "ssm:ResumeSession"],
            "Resource": ["arn:aws:ssm:*:*:session/${aws:username}-*"]
        }
    ]
}"#;

const BY_STARTER: &str = r#"{
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["ssm:TerminateSession", "ssm:ResumeSession"],
            "Resource": ["*"],
            "Condition": {
                "StringLike": {
                    "ssm:resourceTag/aws:ssmmessages:session-id": ["${aws:userid}"]
                }
            }
        }
    ]
}"#;

const TASK: &str = "arn:aws:ecs:us-east-1:000000000000:task/cluster-name/x";
const OTHER_TASK: &str = "arn:aws:ecs:us-east-1:000000000000:task/other/x";
const FOREIGN_TASK: &str = "arn:aws:ecs:us-east-1:111122223333:task/cluster-name/x";

type Facts<'f> = &'f [(&'f str, &'f str)];

#[test]
fn the_documented_policies() {
    let session = |name: &str| format!("arn:aws:ssm:us-east-1:000000000000:session/{name}-0fd8");
    let (ann, bob, star) = (&session("ann"), &session("bob"), &session("x"));
    let dev: Facts = &[("ecs:ResourceTag/environment", "development")];
    let production: Facts = &[("ecs:ResourceTag/environment", "production")];
    let by = |name: &'static str| vec![("aws:username", name)];
    let both = |text: &str| vec![text.to_owned(), ALLOW_ALL.to_owned()];
    let one = |text: &str| vec![text.to_owned()];
    let old = OWN_SESSIONS.replace(r#""Version": "2012-10-17","#, "");
    let starter = |id: &'static str| {
        vec![("aws:userid", "AIDAANN"), ("ssm:resourceTag/aws:ssmmessages:session-id", id)]
    };
    let enabled = |value: &'static str| vec![("ecs:enable-execute-command", value)];
    for (number, policies, action, name, facts, wanted) in [
        (1, one(BY_TAG), "ecs:ExecuteCommand", TASK, dev.to_vec(), "allowed"),
        (2, one(BY_TAG), "ecs:ExecuteCommand", TASK, production.to_vec(), "implicitDeny"),
        (2, one(BY_TAG), "ecs:ExecuteCommand", TASK, vec![], "implicitDeny"),
        (2, one(BY_TAG), "ecs:ExecuteCommand", OTHER_TASK, dev.to_vec(), "implicitDeny"),
        (3, one(BY_TAG), "ECS:executecommand", TASK, dev.to_vec(), "allowed"),
        (4, one(BY_TAG), "ssm:StartSession", TASK, dev.to_vec(), "implicitDeny"),
        (
            5,
            one(BY_CONTAINER),
            "ecs:ExecuteCommand",
            TASK,
            vec![("ecs:container-name", "build")],
            "implicitDeny",
        ),
        (
            6,
            both(BY_CONTAINER),
            "ecs:ExecuteCommand",
            TASK,
            vec![("ecs:container-name", "production-app")],
            "explicitDeny",
        ),
        (
            6,
            both(BY_CONTAINER),
            "ecs:ExecuteCommand",
            TASK,
            vec![("ecs:container-name", "build")],
            "allowed",
        ),
        (7, one(TURNED_OFF), "ecs:RunTask", TASK, enabled("false"), "allowed"),
        (7, one(TURNED_OFF), "ecs:RunTask", TASK, enabled("true"), "implicitDeny"),
        (7, one(TURNED_OFF), "ecs:RunTask", TASK, vec![], "implicitDeny"),
        (8, both(NO_SESSIONS), "ssm:StartSession", FOREIGN_TASK, vec![], "explicitDeny"),
        (8, both(NO_SESSIONS), "ssm:StartSession", TASK, vec![], "allowed"),
        (
            10,
            both(NO_TAGGED_SESSIONS),
            "ssm:StartSession",
            TASK,
            vec![("aws:ResourceTag/Task-Tag-Key", "Exec-Task")],
            "explicitDeny",
        ),
        (10, both(NO_TAGGED_SESSIONS), "ssm:StartSession", TASK, vec![], "allowed"),
        (11, one(OWN_SESSIONS), "ssm:TerminateSession", ann, by("ann"), "allowed"),
        (11, one(OWN_SESSIONS), "ssm:ResumeSession", ann, by("ann"), "allowed"),
        (11, one(OWN_SESSIONS), "ssm:ResumeSession", bob, by("ann"), "implicitDeny"),
        (11, one(OWN_SESSIONS), "ssm:ResumeSession", star, by("*"), "implicitDeny"),
        (11, one(OWN_SESSIONS), "ssm:ResumeSession", ann, vec![], "implicitDeny"),
        (13, one(BY_STARTER), "ssm:ResumeSession", bob, starter("AIDAANN"), "allowed"),
        (13, one(BY_STARTER), "ssm:ResumeSession", bob, starter("AIDABOB"), "implicitDeny"),
        (14, vec![old], "ssm:ResumeSession", ann, by("ann"), "implicitDeny"),
    ] {
        let policies: Vec<IamPolicy> = policies.iter().map(|text| read(text)).collect();
        let (names, context) = ([name.to_owned()], context(&facts));
        let decision = evaluate(&policies, &IamRequest::new(action, &names, &[], &context));
        assert_eq!(decision.name(), wanted, "case {number}: {action} on {name} {facts:?}");
    }
}

/// One container has several names: denying one denies all.
#[test]
fn a_thing_is_denied_under_all_its_names() {
    let build = "arn:aws:codebuild:us-east-1:000000000000:build/demo:1".to_owned();
    let node = "arn:aws:ssm:us-east-1:000000000000:managed-instance/mi-1".to_owned();
    let names = [build, TASK.to_owned(), node];
    let judged = |policy: &str, used: usize| {
        let policies = [read(policy), read(ALLOW_ALL)];
        let also: Vec<String> = names
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != used)
            .map(|(_, name)| name.clone())
            .collect();
        let context = RequestContext::default();
        let used = &names[used..=used];
        let both = evaluate(&policies, &IamRequest::new("ssm:StartSession", used, &also, &context));
        let alone =
            evaluate(&policies[..1], &IamRequest::new("ssm:StartSession", used, &also, &context));
        (both.name(), alone.name())
    };
    let all = |policy: &str| [0, 1, 2].map(|used| judged(policy, used));
    // Case 9.
    let ours = NO_SESSIONS.replace("111122223333", "000000000000");
    assert_eq!(all(&ours), [("explicitDeny", "explicitDeny"); 3]);
    // A rule that allows applies only to the name used.
    let allow = ours.replace("Deny", "Allow");
    let yes_by_task =
        [("allowed", "implicitDeny"), ("allowed", "allowed"), ("allowed", "implicitDeny")];
    assert_eq!(all(&allow), yes_by_task);
    // An exclusion from an allow applies to all names. A deny of everything but one name is taken
    // literally.
    let rest = |policy: &str| policy.replace(r#""Resource""#, r#""NotResource""#);
    assert_eq!(all(&rest(&allow)), [("allowed", "implicitDeny"); 3]);
    let but_by_task = [
        ("explicitDeny", "explicitDeny"),
        ("allowed", "implicitDeny"),
        ("explicitDeny", "explicitDeny"),
    ];
    assert_eq!(all(&rest(&ours)), but_by_task);
}

#[test]
fn actions_and_resources_are_patterns() {
    let none = RequestContext::default();
    for (action, asked, wanted) in [
        ("ssm:Start*", "ssm:StartSession", true),
        ("ssm:*Session", "ssm:StartSession", true),
        ("ssm:StartSessio?", "ssm:startsession", true),
        ("ssm:StartSession?", "ssm:StartSession", false),
        ("*:StartSession", "ssm:StartSession", true),
        ("ssm:Start", "ssm:StartSession", false),
        ("*", "x:Y", true),
    ] {
        let decision = judged(&statement("Allow", action, "*", ""), asked, "arn:x", &none);
        assert_eq!(decision == "allowed", wanted, "{action} {asked}");
    }
    for (pattern, name, wanted) in [
        ("arn:aws:ecs:*:task/*", "arn:aws:ecs:us-east-1:0:task/c/x", true),
        ("arn:aws:ecs:*", "arn:aws:ecs:us-east-1:0:task/c/x", true),
        ("arn:aws:ecs:*/x", "arn:aws:ecs:us-east-1:0:task/c/x", true),
        ("arn:aws:ecs:*/X", "arn:aws:ecs:us-east-1:0:task/c/x", false),
        ("arn:aws:ecs:us-east-?:0:task/c/x", "arn:aws:ecs:us-east-1:0:task/c/x", true),
        ("arn:aws:ecs:us-east-1:0:task/c", "arn:aws:ecs:us-east-1:0:task/c/x", false),
        ("arn:aws:ecs:*a*b*c", "arn:aws:ecs:xaybzbzc", true),
        ("arn:aws:ecs:*a*b*c", "arn:aws:ecs:xaybzbz", false),
        ("*", "*", true),
        ("arn:aws:ecs:us-east-1:0:*", "*", false),
    ] {
        let decision = judged(&statement("Allow", "*", pattern, ""), "x:Y", name, &none);
        assert_eq!(decision == "allowed", wanted, "{pattern} {name}");
    }
}

#[test]
fn operators() {
    let one = |key: &'static str, value: &'static str| vec![(key, value)];
    let two = vec![("k:a", "x"), ("k:a", "y")];
    for (condition, facts, wanted) in [
        (r#""StringEquals": {"k:a": ["w", "x"]}"#, one("k:a", "x"), true),
        (r#""StringEquals": {"k:a": "X"}"#, one("k:a", "x"), false),
        (r#""StringEquals": {"k:a": "*"}"#, one("k:a", "x"), false),
        (r#""StringEquals": {"k:a": "x", "k:b": "y"}"#, one("k:a", "x"), false),
        (r#""StringEquals": {"k:a": "x"}, "Bool": {"k:b": "true"}"#, one("k:a", "x"), false),
        (r#""StringEquals": {"K:A": "x"}"#, one("k:a", "x"), true),
        (r#""StringEquals": {"k:t/Team": "x"}"#, one("k:T/Team", "x"), true),
        (r#""StringEquals": {"k:t/team": "x"}"#, one("k:t/Team", "x"), false),
        (r#""StringNotEquals": {"k:a": ["w", "x"]}"#, one("k:a", "x"), false),
        (r#""StringNotEquals": {"k:a": ["w", "v"]}"#, one("k:a", "x"), true),
        (r#""StringNotEquals": {"k:a": "x"}"#, vec![], true),
        (r#""StringEquals": {"k:a": "x"}"#, vec![], false),
        (r#""StringEqualsIfExists": {"k:a": "x"}"#, vec![], true),
        (r#""StringEqualsIfExists": {"k:a": "x"}"#, one("k:a", "y"), false),
        (r#""StringEqualsIgnoreCase": {"k:a": "\u00c4X"}"#, one("k:a", "äx"), true),
        (r#""StringNotEqualsIgnoreCase": {"k:a": "X"}"#, one("k:a", "x"), false),
        (r#""StringLike": {"k:a": "a?c*"}"#, one("k:a", "abcde"), true),
        (r#""StringNotLike": {"k:a": "a*"}"#, one("k:a", "abc"), false),
        (r#""ForAllValues:StringEquals": {"k:a": ["x", "y", "z"]}"#, two.clone(), true),
        (r#""ForAllValues:StringEquals": {"k:a": ["x"]}"#, two.clone(), false),
        (r#""ForAllValues:StringEquals": {"k:a": ["x"]}"#, vec![], true),
        (r#""ForAnyValue:StringEquals": {"k:a": ["y"]}"#, two.clone(), true),
        (r#""ForAnyValue:StringEquals": {"k:a": ["y"]}"#, vec![], false),
        (r#""ForAnyValue:StringNotEquals": {"k:a": ["y"]}"#, two.clone(), true),
        (r#""ForAnyValue:StringNotEquals": {"k:a": ["y"]}"#, vec![], false),
        (r#""ForAnyValue:StringEqualsIfExists": {"k:a": ["y"]}"#, vec![], true),
        (r#""Null": {"k:a": "true"}"#, vec![], true),
        (r#""Null": {"k:a": "true"}"#, one("k:a", "x"), false),
        (r#""Null": {"k:a": false}"#, one("k:a", "x"), true),
        (r#""Bool": {"k:a": "TRUE"}"#, one("k:a", "true"), true),
        (r#""Bool": {"k:a": true}"#, one("k:a", "yes"), false),
        (r#""NumericEquals": {"k:a": 10}"#, one("k:a", "10.0"), true),
        (r#""NumericNotEquals": {"k:a": "10"}"#, one("k:a", "11"), true),
        (r#""NumericNotEquals": {"k:a": "10"}"#, one("k:a", "ten"), false),
        (r#""NumericLessThan": {"k:a": "10"}"#, one("k:a", "9"), true),
        (r#""NumericLessThan": {"k:a": "10"}"#, one("k:a", "10"), false),
        (r#""NumericLessThanEquals": {"k:a": "10"}"#, one("k:a", "10"), true),
        (r#""NumericGreaterThan": {"k:a": "nan"}"#, one("k:a", "10"), false),
        (r#""NumericGreaterThanEquals": {"k:a": "10"}"#, one("k:a", "10"), true),
        (r#""DateLessThan": {"k:a": "2026-01-01"}"#, one("k:a", "2025-12-31T23:59:59Z"), true),
        (
            r#""DateGreaterThan": {"k:a": "2026-01-01T01:00:00+01:00"}"#,
            one("k:a", "1767225601"),
            true,
        ),
        (r#""DateEquals": {"k:a": 1767225600}"#, one("k:a", "2026-01-01T00:00:00Z"), true),
        (r#""IpAddress": {"k:a": "10.0.0.0/8"}"#, one("k:a", "10.1.2.3"), true),
        (r#""IpAddress": {"k:a": "10.0.0.0/8"}"#, one("k:a", "11.1.2.3"), false),
        (r#""IpAddress": {"k:a": ["::1", "0.0.0.0/0"]}"#, one("k:a", "127.0.0.1"), true),
        (r#""IpAddress": {"k:a": "fe80::/10"}"#, one("k:a", "fe80::1"), true),
        (r#""NotIpAddress": {"k:a": "127.0.0.0/8"}"#, one("k:a", "::1"), true),
        (r#""NotIpAddress": {"k:a": "127.0.0.0/8"}"#, one("k:a", "127.0.0.1"), false),
        (r#""BinaryEquals": {"k:a": "eA=="}"#, one("k:a", "eA=="), true),
        (r#""ArnEquals": {"k:a": "arn:aws:s3:::b*"}"#, one("k:a", "arn:aws:s3:::bucket"), true),
        (r#""ArnLike": {"k:a": "arn:aws:*:x"}"#, one("k:a", "arn:aws:s3:a:b:x"), false),
        (r#""ArnLike": {"k:a": "arn:aws:*:*:*:x"}"#, one("k:a", "arn:aws:s3:a:b:x"), true),
        (r#""ArnNotLike": {"k:a": "arn:aws:s3:*:*:x"}"#, one("k:a", "arn:aws:s3:a:b:y"), true),
    ] {
        let policy = statement("Allow", "*", "*", condition);
        let decision = judged(&policy, "x:Y", "arn:x", &context(&facts));
        assert_eq!(decision == "allowed", wanted, "{condition} {facts:?}");
    }
}

#[test]
fn variables() {
    let name = vec![("k:a", "x"), ("k:b", "a*"), ("k:c", "y"), ("k:c", "z")];
    for (effect, condition, facts, wanted) in [
        ("Allow", r#""StringEquals": {"k:a": "${k:d, 'x'}"}"#, name.clone(), "allowed"),
        ("Allow", r#""StringEquals": {"k:a": "${k:a, 'y'}"}"#, name.clone(), "allowed"),
        ("Allow", r#""StringLike": {"k:a": "${k:b}"}"#, name.clone(), "implicitDeny"),
        ("Allow", r#""StringLike": {"k:b": "${k:b}"}"#, name.clone(), "allowed"),
        ("Allow", r#""StringLike": {"k:b": "a${*}"}"#, name.clone(), "allowed"),
        ("Allow", r#""StringLike": {"k:a": "${*}"}"#, name.clone(), "implicitDeny"),
        ("Allow", r#""StringLike": {"k:e": "${$}{x}${?}"}"#, vec![("k:e", "${x}?")], "allowed"),
        // A key with several values cannot be a variable.
        ("Allow", r#""StringEquals": {"k:c": "${k:c}"}"#, name.clone(), "implicitDeny"),
        // An unset variable matches nothing and allows nothing.
        ("Allow", r#""StringEquals": {"k:a": "${k:d}"}"#, name.clone(), "implicitDeny"),
        ("Allow", r#""StringNotEquals": {"k:a": "${k:d}"}"#, name.clone(), "implicitDeny"),
        ("Deny", r#""StringEquals": {"k:a": "${k:d}"}"#, name.clone(), "implicitDeny"),
        ("Deny", r#""StringNotEquals": {"k:a": "${k:d}"}"#, name.clone(), "explicitDeny"),
        (
            "Allow",
            r#""NumericEquals": {"k:n": "${k:m}"}"#,
            vec![("k:n", "1"), ("k:m", "1.0")],
            "allowed",
        ),
        (
            "Allow",
            r#""NumericNotEquals": {"k:n": "${k:m}"}"#,
            vec![("k:n", "1"), ("k:m", "x")],
            "implicitDeny",
        ),
    ] {
        let policy = statement(effect, "*", "*", condition);
        let decision = judged(&policy, "x:Y", "arn:x", &context(&facts));
        assert_eq!(decision, wanted, "{effect} {condition}");
    }
    // The same holds in an exclusion.
    let rest =
        statement("Allow", "*", "arn:aws:s3:::${k:d}", "").replace("Resource", "NotResource");
    assert_eq!(judged(&rest, "x:Y", "arn:aws:s3:::b", &RequestContext::default()), "implicitDeny");
    let keys =
        read(&statement("Allow", "*", "arn:aws:s3:::${k:d}", r#""Null": {"k:e": "${k:f}"}"#));
    assert_eq!(keys.keys().into_iter().collect::<Vec<_>>(), ["k:d", "k:e", "k:f"]);
}
