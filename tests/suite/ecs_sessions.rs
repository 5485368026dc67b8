//! Sessions of ECS Exec, logged and encrypted according to their cluster, with services simulated
//! by moto.

use super::session_uploads::{
    encrypted_bucket, heard_of, is_audited, keyed_for, named, place, until_all_has_arrived,
};
use crate::common::aws;
use crate::common::channel::{Channel, Started};
use crate::common::endpoint::Endpoint;
use crate::common::gateway::{Place, typed};
use crate::common::{Bed, Outcome, build, cases, outcome, until};
use runner_wire::ssm::Payload;
use serde_json::{Value, json};
use std::fs;

cases! {
    [Containers, Image("busybox"), Python] => sessions_are_logged_where_the_cluster_says,
        places_of_a_cluster_that_are_not_as_they_are_to_be, sessions_are_encrypted_with_the_clusters_key,
        by_default_they_go_where_the_builds_log_goes, users_name_no_places_that_they_may_not_write_to,
        doctor_looks_at_places_and_keys;
    [Python] => a_key_is_denied_under_its_alias_too;
}

fn ecs(endpoint: &Endpoint, operation: &str, body: &Value) -> (u16, Value) {
    endpoint.call(&format!("AmazonEC2ContainerServiceV20141113.{operation}"), body)
}

/// Sets the configuration for sessions in tasks of the cluster `default` from here on.
fn configure(endpoint: &Endpoint, exec: &Value) {
    let configuration = json!({"executeCommandConfiguration": exec});
    let body = json!({"cluster": "default", "configuration": configuration});
    let (status, answer) = ecs(endpoint, "UpdateCluster", &body);
    assert_eq!(status, 200, "{answer}");
}

fn uuid(place: &Place) -> String {
    place.bed.live().file_name().unwrap().to_str().unwrap().to_owned()
}

/// A shell in the only task.
fn execute(place: &Place) -> Started {
    let task = uuid(place).replace('-', "");
    let body = json!({"task": task, "command": "sh", "interactive": true});
    let (status, answer) = ecs(&place.endpoint, "ExecuteCommand", &body);
    assert_eq!(status, 200, "{answer}");
    let text = |name: &str| answer["session"][name].as_str().unwrap().to_owned();
    Started { id: text("sessionId"), url: text("streamUrl"), token: text("tokenValue") }
}

/// The task as the plugin's arguments name it.
fn target(place: &Place) -> String {
    let task = uuid(place).replace('-', "");
    let (_, answer) = ecs(&place.endpoint, "DescribeTasks", &json!({"tasks": [task]}));
    let runtime = answer["tasks"][0]["containers"][0]["runtimeId"].as_str().unwrap();
    format!("ecs:default_{task}_{runtime}")
}

/// A session that prints this and ends.
fn says(started: &Started, text: &str) {
    let mut channel = Channel::open(started);
    channel.input(Payload::Size, br#"{"cols":80,"rows":24}"#);
    typed(&mut channel, &format!("echo {text}; exit\n"));
    channel.wait_for_close();
}

/// In both places, encrypted, masked, as text, during the session and at its end.
fn sessions_are_logged_where_the_cluster_says() {
    let place = place(aws::aws(), &["-e", "WORD=hunter2-hunter2", "--mask", "WORD"]);
    let (group, bucket) = (named("exec"), encrypted_bucket());
    aws::log_group(&group, true);
    let log = json!({"cloudWatchLogGroupName": group, "cloudWatchEncryptionEnabled": true,
        "s3BucketName": bucket, "s3KeyPrefix": "tasks", "s3EncryptionEnabled": true});
    configure(&place.endpoint, &json!({"logging": "OVERRIDE", "logConfiguration": log}));
    let started = execute(&place);
    let mut channel = Channel::with_token(&started);
    assert_eq!(channel.handshake_with_message().1, "");
    channel.input(Payload::Size, br#"{"cols":80,"rows":24}"#);
    typed(&mut channel, "echo \"it is $WORD\"; echo one-''line\n");
    channel.wait_for("one-line");
    until("what was shown is streamed", || {
        aws::log_events(&group, &started.id).concat().contains("one-line\n")
    });
    let text = aws::log_events(&group, &started.id).concat();
    assert!(text.contains("it is ***\n") && !text.contains("sessionData"), "{text}");
    assert!(aws::keys(&bucket).is_empty());
    let described =
        place.endpoint.call("AmazonSSM.DescribeSessions", &json!({"State": "Active"})).1;
    let url = described["Sessions"][0]["OutputUrl"]["S3OutputUrl"].as_str().unwrap().to_owned();
    assert!(url.ends_with(&format!("/{bucket}/tasks/{}.log", started.id)), "{url}");
    typed(&mut channel, "exit\n");
    channel.wait_for_close();
    until_all_has_arrived(&place.bed);
    let text = aws::object(&bucket, &format!("tasks/{}.log", started.id));
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("it is ***\r\n") && !text.contains("hunter2"), "{text}");
    is_audited(&place, "\"SessionLogged\"");

    // Session Manager ignores the cluster's settings, whatever name is used.
    let body = json!({"Target": target(&place)});
    let (status, answer) = place.endpoint.call("AmazonSSM.StartSession", &body);
    assert_eq!(status, 200, "{answer}");
    says(&Started::of(&answer), "elsewhere");
    assert_eq!(aws::keys(&bucket).len(), 1);
    // Nothing is written anywhere; the next session reads the setting when it is requested.
    configure(&place.endpoint, &json!({"logging": "NONE"}));
    let silent = execute(&place);
    says(&silent, "unheard");
    until_all_has_arrived(&place.bed);
    assert!(aws::log_events(&group, &silent.id).is_empty());
    assert_eq!(aws::keys(&bucket), [format!("tasks/{}.log", started.id)]);
    // If encryption is not set, both places take what they get.
    let (group, bucket) = (named("plain"), aws::bucket(&named("plain")));
    aws::log_group(&group, false);
    let log = json!({"cloudWatchLogGroupName": group, "s3BucketName": bucket});
    configure(&place.endpoint, &json!({"logging": "OVERRIDE", "logConfiguration": log}));
    let started = execute(&place);
    says(&started, "in-the-clear");
    until_all_has_arrived(&place.bed);
    assert!(aws::log_events(&group, &started.id).concat().contains("in-the-clear"));
    assert_eq!(aws::keys(&bucket), [format!("{}.log", started.id)]);
    place.ends();
}

/// Each failure has its own cause; only a place that must be encrypted prevents a session.
fn places_of_a_cluster_that_are_not_as_they_are_to_be() {
    let place = place(aws::aws(), &[]);
    let (plain, bare, gone) = (named("plain"), aws::bucket(&named("bare")), named("gone"));
    aws::log_group(&plain, false);
    let heard = |log: Value| {
        configure(&place.endpoint, &json!({"logging": "OVERRIDE", "logConfiguration": log}));
        heard_of(&execute(&place))
    };
    let of_group = |name: &str, is_encrypted: bool| {
        heard(json!({"cloudWatchLogGroupName": name, "cloudWatchEncryptionEnabled": is_encrypted}))
    };
    let of_bucket = |name: &str, is_encrypted: bool| {
        heard(json!({"s3BucketName": name, "s3EncryptionEnabled": is_encrypted}))
    };
    let why = of_group(&plain, true).unwrap_err();
    assert!(why.contains("not set up on the selected CloudWatch Logs log group"), "{why}");
    let why = of_bucket(&bare, true).unwrap_err();
    assert!(why.contains("not set up on the selected Amazon S3 bucket"), "{why}");
    let why = of_bucket(&gone, true).unwrap_err();
    assert!(why.contains("unable to validate encryption on Amazon S3 bucket"), "{why}");
    assert!(why.contains("NoSuchBucket"), "{why}");
    // A session that never began names no output.
    let (_, described) =
        place.endpoint.call("AmazonSSM.DescribeSessions", &json!({"State": "History"}));
    let sessions = described["Sessions"].as_array().unwrap();
    assert!(sessions.len() == 3 && sessions.iter().all(|one| one["OutputUrl"].is_null()));
    for is_encrypted in [true, false] {
        let message = of_group(&gone, is_encrypted).unwrap();
        let wanted = format!("This session is not logged: log group {gone} does not exist.");
        if is_encrypted {
            assert_eq!(message, wanted);
        }
        is_audited(&place, &wanted);
    }
    assert_eq!(of_group(&plain, false), Ok(String::new()));
    assert_eq!(of_bucket(&bare, false), Ok(String::new()));
    place.ends();
}

/// By a client that has KMS create a data key for the task, which AWS's checker examines first.
fn sessions_are_encrypted_with_the_clusters_key() {
    let place = place(aws::aws(), &[]);
    let (key, group) = (aws::kms_key(), named("encrypted"));
    aws::log_group(&group, true);
    let log = json!({"cloudWatchLogGroupName": group, "cloudWatchEncryptionEnabled": true});
    configure(
        &place.endpoint,
        &json!({"kmsKeyId": key, "logging": "OVERRIDE", "logConfiguration": log}),
    );
    let started = execute(&place);
    let (mut keyed, request) = keyed_for(&target(&place), &started, |_| ());
    assert_eq!(request["RequestedClientActions"][1]["ActionParameters"]["KMSKeyId"], key);
    let proof = keyed.challenge();
    keyed.show(proof);
    let shown = keyed.says_in_side();
    assert!(shown.contains("in-side"), "{shown}");
    until_all_has_arrived(&place.bed);
    assert!(aws::log_events(&group, &started.id).concat().contains("in-side"));
    is_audited(&place, &format!("\"kmsKeyId\":\"{key}\""));
    // A key bound to another name of the build is rejected.
    let started = execute(&place);
    let (mut other, _) = keyed_for(&format!("codebuild:{}", uuid(&place)), &started, |_| ());
    let why = other.channel.wait_for_close();
    assert!(why.starts_with("Error calling KMS Decrypt API: InvalidCiphertextException"), "{why}");
    // A client that asks for the key gets AWS's own answer.
    let describe =
        |id: &str| place.endpoint.call("TrentService.DescribeKey", &json!({"KeyId": id}));
    let (status, described) = describe(&key);
    assert_eq!((status, &described["KeyMetadata"]["Arn"]), (200, &json!(key)), "{described}");
    let (status, refused) = describe("alias/nobodys");
    assert_eq!((status, &refused["__type"]), (400, &json!("NotFoundException")), "{refused}");
    place.ends();
}

/// The build's group, which is created like the build's own stream.
fn by_default_they_go_where_the_builds_log_goes() {
    let bed = Bed::new().with_variables(aws::variables(aws::aws()));
    let group = named("of-the-build");
    let project = json!({
        "name": "demo", "source": {"type": "NO_SOURCE"}, "artifacts": {"type": "NO_ARTIFACTS"},
        "logsConfig": {"cloudWatchLogs": {"status": "ENABLED", "groupName": group}},
        "environment": {"type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL"}
    });
    bed.write("p.json", project.to_string());
    let options = ["--project-json", "p.json", "--upload", "--image", "host"];
    let build = bed.paused(&build(&["codebuild-breakpoint"]), &options);
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let place = Place { bed, build, endpoint, server };
    let started = execute(&place);
    says(&started, "by-default");
    until_all_has_arrived(&place.bed);
    assert!(aws::log_events(&group, &started.id).concat().contains("by-default"));
    place.ends();
}

/// Logs are written to AWS with the rights of this machine's owner.
fn users_name_no_places_that_they_may_not_write_to() {
    let bed = Bed::new();
    let policy = |resource: &str| {
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "ecs:*", "Resource": "*"},
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": resource}]})
    };
    let user = |name: &str, resource: &str| {
        json!({"name": name, "policies": {"all": policy(resource)},
            "keys": [{"id": format!("AKIA{}EXAMPLE00000", name.to_uppercase()), "secret": "0123456789abcdef"}]})
    };
    let users =
        json!({"users": [user("ann", "arn:aws:s3:::kept/*"), user("bob", "arn:aws:s3:::other/*")]});
    bed.write("iam.json", users.to_string());
    let file = bed.source().join("iam.json");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (endpoint, server) = Endpoint::serve(&bed, &["--iam", file.to_str().unwrap()]);
    let configure = |name: &str| -> Outcome {
        let configuration =
            "executeCommandConfiguration={logging=OVERRIDE,logConfiguration={s3BucketName=kept}}";
        let arguments =
            ["ecs", "update-cluster", "--cluster", "default", "--configuration", configuration];
        let mut command = endpoint.aws(&bed, &arguments);
        command.env_remove("AWS_PROFILE").env_remove("AWS_SHARED_CREDENTIALS_FILE");
        command.env("AWS_ACCESS_KEY_ID", format!("AKIA{}EXAMPLE00000", name.to_uppercase()));
        outcome(command.env("AWS_SECRET_ACCESS_KEY", "0123456789abcdef"))
    };
    configure("ann").code(0);
    let refused = configure("bob");
    assert!(
        refused.stderr.contains("s3:PutObject on resource: arn:aws:s3:::kept/*"),
        "{refused:?}"
    );
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.ends(0);
}

/// A rule names the key itself, as AWS's do.
fn a_key_is_denied_under_its_alias_too() {
    let (secret, open) = (aws::kms_key(), aws::kms_key());
    let alias = |key: &str| {
        let name = format!("alias/{}", named("key"));
        let body = json!({"AliasName": name, "TargetKeyId": key});
        assert_eq!(aws::call("kms", "TrentService.CreateAlias", &body).0, 200);
        name
    };
    let (of_secret, of_open) = (alias(&secret), alias(&open));
    let bed = Bed::new().with_variables(aws::variables(aws::aws()));
    let users = json!({"users": [{
        "name": "ann",
        "keys": [{"id": "AKIAANNAAAAAAAAAAAAA", "secret": "0123456789abcdef"}],
        "policies": {"all": {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "kms:DescribeKey", "Resource": "*"},
            {"Effect": "Deny", "Action": "kms:*", "Resource": secret}]}}}]});
    bed.write("iam.json", users.to_string());
    let file = bed.source().join("iam.json");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (endpoint, server) = Endpoint::serve(&bed, &["--iam", file.to_str().unwrap()]);
    let describe = |key: &str| -> Outcome {
        let mut command = endpoint.aws(&bed, &["kms", "describe-key", "--key-id", key]);
        command.env_remove("AWS_PROFILE").env_remove("AWS_SHARED_CREDENTIALS_FILE");
        command.env("AWS_ACCESS_KEY_ID", "AKIAANNAAAAAAAAAAAAA");
        // The key's Region, which the client signs for.
        command.env("AWS_DEFAULT_REGION", secret.split(':').nth(3).unwrap());
        outcome(command.env("AWS_SECRET_ACCESS_KEY", "0123456789abcdef"))
    };
    assert!(describe(&of_open).code(0).stdout.contains(&open));
    for name in [&secret, &of_secret, secret.rsplit('/').next().unwrap()] {
        let refused = describe(name);
        assert!(refused.code != 0 && refused.stderr.contains("explicit deny"), "{refused:?}");
    }
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.ends(0);
}

/// Before a session needs them.
fn doctor_looks_at_places_and_keys() {
    let place = place(aws::aws(), &[]);
    let row = |name: &str| {
        let told = place.bed.runner(["doctor", &uuid(&place), "--format", "json"]);
        let report: Value = serde_json::from_str(&told.stdout).unwrap();
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).cloned()
    };
    assert_eq!((row("session log"), row("task log"), row("task key")), (None, None, None));
    let (plain, bucket) = (named("plain"), encrypted_bucket());
    aws::log_group(&plain, false);
    let seen = |exec: Value, name: &str| {
        configure(&place.endpoint, &exec);
        let row = row(name).unwrap();
        (row["state"].as_str().unwrap().to_owned(), row["found"].as_str().unwrap().to_owned())
    };
    let log = |log: Value| json!({"logging": "OVERRIDE", "logConfiguration": log});
    let (state, found) =
        seen(log(json!({"s3BucketName": bucket, "s3EncryptionEnabled": true})), "task log");
    assert_eq!((&*state, found), ("ok", format!("bucket {bucket}, encrypted as required")));
    let plain = json!({"cloudWatchLogGroupName": plain, "cloudWatchEncryptionEnabled": true});
    let (state, found) = seen(log(plain), "task log");
    assert!(state == "missing" && found.contains("encryption is not set up"), "{found}");
    let (state, found) = seen(log(json!({"s3BucketName": named("gone")})), "task log");
    assert!(state == "limited" && found.contains("NoSuchBucket"), "{found}");
    let key = aws::kms_key();
    assert_eq!(seen(json!({"kmsKeyId": key}), "task key"), ("ok".to_owned(), key));
    let (state, found) = seen(json!({"kmsKeyId": "alias/nobodys"}), "task key");
    assert!(state == "limited" && found.contains("NotFoundException"), "{found}");
    // The same through the preferences.
    super::session_uploads::prefer(&place, &json!({"cloudWatchLogGroupName": named("gone")}));
    let found = row("session log").unwrap();
    assert!(found["found"].as_str().unwrap().contains("does not exist"), "{found}");
    place.ends();
}
