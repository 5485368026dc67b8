//! Errors in documents, and their places.

use super::*;

fn problems(text: &str) -> Vec<String> {
    let found = IamPolicy::parse("p", text).err().unwrap_or_default();
    found.iter().map(ToString::to_string).collect()
}

/// Asserts that a text has one problem, which contains these words.
#[track_caller]
fn refused(text: &str, wanted: &str) {
    let found = problems(text);
    assert!(found.len() == 1 && found[0].contains(wanted), "{text}: {found:?}");
}

#[test]
fn all_problems_are_told_with_their_places() {
    let text = r#"{
  "Version": "2012",
  "Statment": [],
  "Statement": [
    {"Effect": "Permit", "Action": "ssm:*", "Resource": "*"},
    {"Effect": "Deny", "Action": ["ssm"], "Resource": "arn:aws:*:x:y:z", "Principal": "*",
     "Condition": {"StringLooks": {"aws:username": "x"}, "NumericEquals": {"a:b": "many"}}},
    {"Effect": "Allow", "Effect": "Deny", "Actions": "*"}
  ]
}"#;
    let wanted = [
        "2:14: there is no Version `2012`, only 2012-10-17 and 2008-10-17",
        "3:3: a policy has no `Statment`, only Version, Id, Statement",
        "5:16: Effect is Allow or Deny, not `Permit`",
        "6:35: `ssm` is no action: actions are named service:Name",
        "6:55: `arn:aws:*:x:y:z` names no service: its third part has to be one",
        "6:74: `Principal`: the policy of a user or a group is about them already",
        "7:20: there is no operator `StringLooks`",
        "7:83: `many` is not a number, so this statement would never deny",
        "8:5: this statement has neither Action nor NotAction",
        "8:5: this statement has neither Resource nor NotResource",
        "8:25: `Effect` stands here twice, first in line 8",
        "8:43: a statement has no `Actions`, only Sid, Effect, Action, NotAction, Resource, NotResource, Condition",
    ];
    assert_eq!(problems(text), wanted);
}

#[test]
fn malformed_documents() {
    for (text, wanted) in [
        ("", "this is not JSON"),
        ("{\"Statement\": [}", "1:16: this is not JSON: expected value"),
        ("[]", "a policy is a map, not a list"),
        ("{}", "a policy has a Statement"),
        (r#"{"Statement": []}"#, "Statement lists nothing"),
        (&"[".repeat(100_000), "this is not JSON"),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|found| found.contains(wanted)), "{text:.40}: {found:?}");
    }
    for (action, resource, condition, wanted) in [
        ("", "*", "", "no action"),
        ("a:", "*", "", "no action"),
        ("s*:x", "*", "", "no action"),
        ("a:b:c", "*", "", "no action"),
        ("a:b", "", "", "neither an ARN"),
        ("a:b", "task/x", "", "neither an ARN"),
        ("a:b", "arn:aws", "", "neither an ARN"),
        ("a:b", "arn:aws:e?s:x", "", "names no service"),
        ("a:b", "arn:aws:${aws:x}:y", "", "neither an ARN"),
        ("a:b", "arn:aws:s3:::${aws:x", "", "has no `}`"),
        ("a:b", "arn:aws:s3:::${x}", "", "not a condition key"),
        ("a:b", "arn:aws:s3:::${a:x, y}", "", "single quotes"),
        ("a:b", "*", r#""Bool": {"key": "true"}"#, "not a condition key"),
        ("a:b", "*", r#""Bool": {"a:b": []}"#, "lists no value"),
        ("a:b", "*", r#""Bool": {"a:b": null}"#, "a text, not null"),
        ("a:b", "*", r#""Bool": "x""#, "Bool is a map, not a text"),
        ("a:b", "*", r#""bool": {"a:b": "true"}"#, "no operator `bool`"),
        ("a:b", "*", r#""NullIfExists": {"a:b": "true"}"#, "no operator"),
        ("a:b", "*", r#""ForSomeValues:Bool": {"a:b": "true"}"#, "no operator"),
        ("a:b", "*", r#""IpAddress": {"a:b": "10.0.0.0/33"}"#, "would never deny"),
        ("a:b", "*", r#""DateEquals": {"a:b": "soon"}"#, "would never deny"),
        ("a:b", "*", r#""ArnEquals": {"a:b": "task"}"#, "not an ARN, so this"),
        ("a:b", "*", r#""Null": {"a:b": "no"}"#, "would never deny"),
    ] {
        refused(&statement("Deny", action, resource, condition), wanted);
    }
    // In a statement that allows, a value that never matches is accepted.
    read(&statement("Allow", "a:b", "*", r#""IpAddress": {"a:b": "10.0.0.0/33"}"#));
    let twice = r#"{"Sid": "A", "Effect": "Deny", "Action": "*", "Resource": "*"}"#;
    refused(&format!(r#"{{"Statement": [{twice}, {twice}]}}"#), "two statements have the Sid A");
}

const ANN: &str = r#"{
  "users": [
    {"name": "ann", "tags": {"team": "web"}, "groups": ["dev"],
     "keys": [{"id": "AKIAAAAAAAAAAAAAAAAA", "secret": "0123456789abcdef"},
              {"id": "AKIABBBBBBBBBBBBBBBB", "secret": "0123456789abcdef", "active": false}],
     "policies": {"own": {"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}}}
  ],
  "groups": [{"name": "dev", "policies": {
    "all": {"Statement": {"Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*"}}}}]
}"#;

#[test]
fn a_file_of_users() {
    let directory = Directory::parse(ANN, &["root"]).expect("a file");
    let (user, key) = directory.of_key("AKIAAAAAAAAAAAAAAAAA").expect("a key");
    assert_eq!((user.name.as_str(), key.secret.as_str()), ("ann", "0123456789abcdef"));
    assert!(!format!("{key:?}").contains("0123"));
    // An inactive key has no owner.
    assert!(directory.of_key("AKIABBBBBBBBBBBBBBBB").is_none());
    let policies: Vec<_> = directory.policies(user).collect();
    let named: Vec<String> =
        policies.iter().flat_map(|policy| &policy.statements).map(ToString::to_string).collect();
    assert_eq!(
        named,
        ["user ann, policy own, statement 0", "group dev, policy all, statement 0 (All)"]
    );
}

#[test]
fn files_that_are_refused() {
    let parse = |text: &str| {
        let found = Directory::parse(text, &["root", "ecs-execute-command"]).err();
        found.unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let users = |names: &[&str]| {
        let users: Vec<String> =
            names.iter().map(|name| format!(r#"{{"name": "{name}"}}"#)).collect();
        parse(&format!(r#"{{"users": [{}]}}"#, users.join(", ")))
    };
    assert!(users(&["ann", "bob", "_.@=,+-", "annbob"]).is_empty());
    for (names, wanted) in [
        (&["ann", "ann-bob"][..], "cannot both be"),
        (&["ANN-bob", "ann"], "cannot both be"),
        (&["ann", "Ann"], "already"),
        (&["ecs"], "cannot both be"),
        (&["root-ann"], "cannot both be"),
        (&["Root"], "taken"),
        (&["ecs-execute-command"], "taken"),
        (&["*"], "not a valid name"),
        (&[""], "not a valid name"),
        (&["a/b"], "not a valid name"),
    ] {
        let found = users(names);
        assert!(
            !found.is_empty() && found.iter().all(|one| one.contains(wanted)),
            "{names:?} {found:?}"
        );
    }
    let key = r#"{"id": "AKIAAAAAAAAAAAAAAAAA", "secret": "0123456789abcdef"}"#;
    for (text, wanted) in [
        (r#"{"user": []}"#.to_owned(), "the file has no `user`"),
        (r#"{"users": {}}"#.to_owned(), "users is a list, not a map"),
        (r#"{"users": [{}]}"#.to_owned(), "a user has a name"),
        (r#"{"users": [{"name": "a", "groups": ["x"]}]}"#.to_owned(), "1:37: there is no group x"),
        (
            r#"{"users": [{"name": "a", "keys": [{"id": "x", "secret": "0123456789abcdef"}]}]}"#
                .to_owned(),
            "a key's id",
        ),
        (
            key.replace("0123", "").replace('{', r#"{"users": [{"name": "a", "keys": [{"#) + "]}]}",
            "a secret",
        ),
        (format!(r#"{{"users": [{{"name": "a", "keys": [{key}, {key}]}}]}}"#), "there twice"),
        (
            r#"{"users": [{"name": "a", "keys": [{"aws-profile": "x", "secret": "0123456789abcdef"}]}]}"#
                .to_owned(),
            "an id and a secret, or an aws-profile",
        ),
        (
            r#"{"users": [{"name": "a", "keys": [{"aws-profile": ""}]}]}"#.to_owned(),
            "aws-profile is the name",
        ),
        (
            r#"{"users": [{"name": "a", "keys": [{"aws-profile": "x"}, {"aws-profile": "x"}]}]}"#
                .to_owned(),
            "profile x is there twice",
        ),
        (
            r#"{"users": [{"name": "a", "keys": [{"aws-profile": "x"}]},
                {"name": "b", "keys": [{"aws-profile": "x"}]}]}"#
                .to_owned(),
            "another user's already",
        ),
        (r#"{"users": [{"name": "a", "id": "a b"}]}"#.to_owned(), "a user's id has 16"),
        (
            r#"{"users": [{"name": "a", "id": "AIDAAAAAAAAAAAAAA"},
                {"name": "b", "id": "AIDAAAAAAAAAAAAAA"}]}"#
                .to_owned(),
            "there twice",
        ),
        (ANN.replace("Deny", "Denied"), "6:51: Effect is Allow or Deny, not `Denied`"),
    ] {
        let found = parse(&text);
        assert!(found.len() == 1 && found[0].contains(wanted), "{text}: {found:?}");
    }
}
