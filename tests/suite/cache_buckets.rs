//! `runner cache` for buckets: the same list and results as for folders, nothing but caches
//! touched, every failure reported, and builds running at the same time.

use crate::common::aws::{
    Fault, KEYS, Proxy, aws, bucket, cli, half_uploads, keys, put, surround, with_aws, with_aws_at,
};
use crate::common::{Bed, Outcome, Running, cases, outcome};
use serde_json::Value;

cases! {
    [Containers, Image("busybox"), Python] => listed_and_pruned_in_a_bucket, equal_contents_of_two_keys,
        a_build_restores_while_it_is_pruned, a_build_saves_while_it_is_pruned;
    [Python] => pages_and_batches, what_is_no_cache_stays, what_cannot_be_removed,
        a_prune_that_stumbles, saved_anew_in_between, uploads_that_nobody_completes, buckets_that_do_not_answer;
}

/// Prefix of project demo's caches for some paths.
const OF_DEMO: &str = "pre/demo/0123456789abcdef";

fn spec(commands: &[&str], cache: &str) -> String {
    format!("{}cache:\n{cache}", crate::common::build(commands))
}

/// Runs `runner cache` through a port.
fn cache(bed: &Bed, port: u16, arguments: &[&str]) -> Outcome {
    let arguments = [&["cache"][..], arguments].concat();
    outcome(surround(&mut bed.command(arguments), port))
}

fn list(bed: &Bed, places: &[&str]) -> Vec<Value> {
    let arguments = [&["ls", "--format", "json"][..], places].concat();
    let listed = cache(bed, aws(), &arguments).code(0).stdout;
    serde_json::from_str(&listed).unwrap()
}

/// An object as a build saves it; its bytes are not valid.
fn put_cache(bucket: &str, key: &str, body: &str) {
    put(bucket, key, &[("runner-sha256", "0"), ("runner-counts", "3 4000")], body);
}

/// The result of a command that ran in the background.
fn ended(mut running: Running) -> Outcome {
    let code = running.wait();
    Outcome { code, stdout: running.stdout.text(), stderr: running.stderr.text() }
}

/// A response that shows this time of writing.
fn written(answer: &str, time: &str) -> String {
    let lines = answer.split("\r\n").map(|line| {
        let is_time = line.to_ascii_lowercase().starts_with("last-modified:");
        if is_time { format!("Last-Modified: {time}") } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

const IN_2001: Fault = Fault::Rewritten(|answer| written(&answer, "Sun, 09 Sep 2001 01:46:40 GMT"));
const IN_2002: Fault = Fault::Rewritten(|answer| written(&answer, "Mon, 09 Sep 2002 01:46:40 GMT"));
/// The services report that every upload was begun in 2010.
const BEGUN_JUST_NOW: Fault = Fault::Rewritten(|answer| answer.replace("2010-", "2999-"));

fn listed_and_pruned_in_a_bucket() {
    let name = bucket("cache-upkeep");
    let place = format!("s3://{name}/pre");
    let bed = Bed::new();
    let folder = bed.path("cache").to_str().unwrap().to_owned();
    let make = "mkdir d; head -c 100000 /dev/urandom > d/x; touch d/y";
    for key in ["one", "two", "three"] {
        let text = spec(&[make], &format!("  key: {key}\n  paths: [d]\n"));
        with_aws(&bed, &text, &["--cache", &place]).code(0).says("saved 2 file(s)");
        if key == "one" {
            with_aws(&bed, &text, &["--cache", &folder]).code(0);
        }
    }
    // The same for both; only the place differs.
    let both = list(&bed, &[&folder, "--cache", &place]);
    assert_eq!(both.len(), 4);
    let keys_of =
        |entry: &Value| -> Vec<String> { entry.as_object().unwrap().keys().cloned().collect() };
    let one = both.iter().skip(1).find(|entry| entry["key"] == "one").unwrap();
    assert_eq!(keys_of(&both[0]), keys_of(one));
    for field in ["project", "key", "paths", "files"] {
        assert_eq!(both[0][field], one[field], "{field}");
    }
    assert_eq!((&both[0]["folder"], &one["folder"]), (&folder.into(), &place.clone().into()));
    assert!(one["bytes"].as_u64().unwrap() > 100_000);
    let created = one["createdMs"].as_u64().unwrap();
    assert_eq!(one["usedS"].as_u64().unwrap(), created / 1000);
    let text = cache(&bed, aws(), &["ls", &place]).code(0).stdout;
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(
        text.lines().all(|line| line.starts_with("PROJECT") || line.ends_with(&place)),
        "{text}"
    );
    // Nothing is old, and everything fits.
    let prune = |port, arguments: &[&str]| {
        cache(&bed, port, &[&["prune", "--cache", &place][..], arguments].concat()).code(0).stdout
    };
    assert_eq!(prune(aws(), &[]), format!("{place}: 0 removed, 0 B\n"));
    let proxy = Proxy::start(&[
        ("HEAD", "/one.tar.gz", 100, IN_2001),
        ("HEAD", "/two.tar.gz", 100, IN_2002),
    ]);
    let left = || -> Vec<String> {
        let keys = keys(&name);
        keys.iter().map(|key| key.rsplit('/').next().unwrap().to_owned()).collect()
    };
    // The oldest does not fit; then one is too old.
    let for_ever = ["--unused", "300000h", "--keep", "250k"];
    assert!(prune(proxy.port, &for_ever).contains(": 1 removed, "));
    assert_eq!(left(), ["three.tar.gz", "two.tar.gz"]);
    assert!(prune(proxy.port, &["--unused", "1h"]).contains(": 1 removed, "));
    assert_eq!(left(), ["three.tar.gz"]);
    for (key, wanted) in [("two", "none for the key two"), ("three", "restored 2 file(s)")] {
        let text = spec(&["true"], &format!("  action: restore\n  key: {key}\n  paths: [d]\n"));
        with_aws(&bed, &text, &["--cache", &place]).code(0).says(wanted);
    }
    assert!(prune(aws(), &["--all"]).contains(": 1 removed"));
    assert_eq!(left(), [""; 0]);
    assert!(list(&bed, &[&place]).is_empty());
    // The folder was not named.
    assert_eq!(list(&bed, &[]).len(), 1);
}

/// Each object contains all its bytes: content shared by two keys is stored twice.
fn equal_contents_of_two_keys() {
    let name = bucket("cache-equal");
    let place = format!("s3://{name}/pre");
    let bed = Bed::new();
    let make = "test -e d || { mkdir d; yes equal | head -c 1000000 > d/same; touch -d @1000000000 d/same d; }; \
                md5sum d/same";
    let of = |key: &str| spec(&[make], &format!("  key: {key}\n  paths: [d]\n"));
    let made = with_aws(&bed, &of("a"), &["--cache", &place]).code(0).says("saved").output();
    with_aws(&bed, &of("b"), &["--cache", &place]).code(0).says("saved");
    let proxy = Proxy::start(&[("HEAD", "/a.tar.gz", 1, IN_2001)]);
    let pruned = cache(&bed, proxy.port, &["prune", &place, "--unused", "1h"]).code(0);
    assert!(pruned.stdout.contains(": 1 removed"), "{}", pruned.stdout);
    let outcome = with_aws(&bed, &of("b"), &["--cache", &place]).code(0);
    assert_eq!(outcome.says("cache of the key b: restored 1 file(s)").output(), made);
}

/// More than one page of a list and one request of removals hold.
fn pages_and_batches() {
    let name = bucket("cache-pages");
    let place = format!("s3://{name}/pre");
    let bed = Bed::host();
    for number in 0..1200 {
        put_cache(&name, &format!("{OF_DEMO}/k-{number}.tar.gz"), "0123456789");
    }
    let proxy = Proxy::start(&[]);
    let listed = cache(&bed, proxy.port, &["ls", "--format", "json", &place]).code(0).stdout;
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!((listed.len(), proxy.count("GET", "list-type=2")), (1200, 2));
    assert!(listed.iter().all(|entry| entry["files"] == 3 && entry["bytes"] == 10));
    // A hundred of them fit.
    let pruned = cache(&bed, proxy.port, &["prune", &place, "--keep", "1000"]).code(0);
    assert!(pruned.stdout.contains(": 1100 removed, 10.74 KiB"), "{}", pruned.stdout);
    assert_eq!(keys(&name).len(), 100);
    let batches = proxy.documents("POST", "delete");
    let sizes: Vec<usize> = batches.iter().map(|text| text.matches("<Object>").count()).collect();
    assert_eq!(sizes, [1000, 100]);
}

/// A prune removes only caches that builds have saved below this place.
fn what_is_no_cache_stays() {
    let name = bucket("cache-others");
    let bed = Bed::host();
    let mine = format!("{OF_DEMO}/mine.tar.gz");
    put_cache(&name, &mine, "x");
    let others = [
        // Someone else's archives, named by a digest.
        format!("{OF_DEMO}/theirs.tar.gz"),
        format!("other/{OF_DEMO}/k.tar.gz"),
        "pre/demo/notes.txt".to_owned(),
        "pre2/demo/0123456789abcdef/k.tar.gz".to_owned(),
    ];
    put(&name, &others[0], &[], "x");
    for key in &others[1..] {
        put_cache(&name, key, "x");
    }
    let place = format!("s3://{name}/pre");
    let listed = list(&bed, &[&place]);
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["id"], &listed[0]["key"]), (&mine.into(), &"mine".into()));
    let all = |place: &str| cache(&bed, aws(), &["prune", "--all", place]).code(0).stdout;
    // Of another place in the same bucket.
    assert!(all(&format!("s3://{name}")).contains(": 0 removed"));
    assert!(all(&place).contains(": 1 removed"));
    let mut left = others.to_vec();
    left.sort();
    assert_eq!(keys(&name), left);
}

/// What cannot be removed is reported by name, with how to fix it; the rest is removed.
fn what_cannot_be_removed() {
    let name = bucket("cache-refuses");
    let place = format!("s3://{name}/pre");
    let bed = Bed::host();
    for key in ["one", "two", "three"] {
        put_cache(&name, &format!("{OF_DEMO}/{key}.tar.gz"), "x");
    }
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject",
        "Resource": format!("arn:aws:s3:::{name}/{OF_DEMO}/two.tar.gz"),
    }]});
    cli(&["s3api", "put-bucket-policy", "--bucket", &name, "--policy", &policy.to_string()]);
    let outcome = cache(&bed, aws(), &["prune", "--all", &place])
        .code(3)
        .says(&format!("error: not all of {place} is pruned: cannot remove s3://{name}/{OF_DEMO}/two.tar.gz: AccessDenied"))
        .says("hint: who calls needs s3:DeleteObject");
    assert!(outcome.stdout.contains(": 2 removed"), "{}", outcome.stdout);
    assert_eq!(keys(&name), [format!("{OF_DEMO}/two.tar.gz")]);
    // A failing place does not prevent others from being pruned.
    let other = bucket("cache-refuses-not");
    put_cache(&other, &format!("{OF_DEMO}/k.tar.gz"), "x");
    let fine = format!("s3://{other}/pre");
    let outcome =
        cache(&bed, aws(), &["prune", "--all", "s3://cache-nosuch", &place, &fine]).code(3);
    assert!(outcome.stdout.contains(&format!("{fine}: 1 removed")), "{}", outcome.stdout);
    outcome.says("cannot list s3://cache-nosuch/: NoSuchBucket").says("AccessDenied");
    // Of many, only the first are reported.
    for number in 0..12 {
        put_cache(&name, &format!("{OF_DEMO}/two.tar.gz-{number}.tar.gz"), "x");
    }
    let proxy = Proxy::start(&[(
        "POST",
        "delete",
        1,
        Fault::Answered(|sent| said_of_all(sent, "AccessDenied")),
    )]);
    let stderr = cache(&bed, proxy.port, &["prune", "--all", &place]).code(3).stderr;
    assert!(stderr.contains("and 3 more like these"), "{stderr}");
    assert_eq!(stderr.matches("hint:").count(), 1, "{stderr}");
}

/// A server's response that says the same of everything to be removed.
fn said_of_all(sent: &str, code: &str) -> String {
    let keys = sent.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap());
    let errors: String =
        keys.map(|key| format!("<Error><Key>{key}</Key><Code>{code}</Code></Error>")).collect();
    format!(
        "<?xml version=\"1.0\"?><DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{errors}</DeleteResult>"
    )
}

const BUSY: Fault = Fault::Answered(|sent| said_of_all(sent, "SlowDown"));

/// Temporary failures of a request, or of an object in it, are retried; permanent ones are
/// reported.
fn a_prune_that_stumbles() {
    let name = bucket("cache-prune-stumbles");
    let place = format!("s3://{name}/pre");
    let bed = Bed::host();
    let key = format!("{OF_DEMO}/one.tar.gz");
    put_cache(&name, &key, "x");
    let prune = |proxy: &Proxy| cache(&bed, proxy.port, &["prune", "--all", &place]);
    // Permanently.
    let proxy = Proxy::start(&[("POST", "delete", 100, BUSY)]);
    prune(&proxy)
        .code(3)
        .says(&format!("cannot remove s3://{name}/{key}: SlowDown"))
        .says("hint: try again later");
    assert_eq!(proxy.count("POST", "delete"), 4);
    for (method, part, wanted) in [
        ("GET", "list-type=2", format!("cannot list s3://{name}/pre/: the server answers 503")),
        ("HEAD", "/one", format!("cannot look at s3://{name}/{key}: the server answers 503")),
        ("POST", "delete", format!("cannot remove s3://{name}/{key}: the server answers 503")),
    ] {
        let proxy = Proxy::start(&[(method, part, 100, Fault::Status(503))]);
        prune(&proxy).code(3).says(&wanted).says("hint: try again later");
        assert_eq!(proxy.count(method, part), 3);
    }
    let proxy = Proxy::start(&[("HEAD", "/one", 100, Fault::Status(403))]);
    prune(&proxy).code(3).says("cannot look at").says("hint: who calls needs s3:GetObject");
    // An object does not count as removed just because the response does not mention it.
    let proxy = Proxy::start(&[("POST", "delete", 1, Fault::Answered(|_| said_of_all("", "")))]);
    prune(&proxy).code(3).says("the server does not report its result");
    assert_eq!(keys(&name), [key]);
    // Temporarily.
    let proxy = Proxy::start(&[
        ("GET", "list-type=2", 1, Fault::Status(503)),
        ("HEAD", "/one", 1, Fault::Dropped),
        ("POST", "delete", 1, Fault::Status(500)),
        ("POST", "delete", 2, BUSY),
    ]);
    assert!(prune(&proxy).code(0).stdout.contains(": 1 removed"));
    assert_eq!(proxy.count("POST", "delete"), 4);
    assert_eq!(keys(&name), [""; 0]);
}

/// Only the version that was checked is removed, not one that a build has saved since.
fn saved_anew_in_between() {
    let name = bucket("cache-renewed");
    let place = format!("s3://{name}/pre");
    let bed = Bed::host();
    let key = format!("{OF_DEMO}/%25.tar.gz");
    put_cache(&name, &key, "x");
    let proxy = Proxy::start(&[(
        "POST",
        "delete",
        1,
        Fault::Answered(|sent| said_of_all(sent, "PreconditionFailed")),
    )]);
    let outcome = cache(&bed, proxy.port, &["prune", "--all", &place]).code(0);
    assert!(outcome.stdout.contains(": 0 removed"), "{}", outcome.stdout);
    outcome.says("1 not removed, since they were just saved again");
    let named = ["s3api", "head-object", "--bucket", &name, "--key", &keys(&name)[0]];
    let head: Value =
        serde_json::from_slice(&cli(&[&named[..], &["--output", "json"]].concat())).unwrap();
    let etag = head["ETag"].as_str().unwrap().trim_matches('"');
    let sent = proxy.documents("POST", "delete").remove(0);
    assert!(sent.contains("<ETag>") && sent.contains(etag), "{sent}");
}

/// A build that downloads a cache while it is removed gets all of it, or none and says so.
fn a_build_restores_while_it_is_pruned() {
    let name = bucket("cache-restoring");
    let place = format!("s3://{name}");
    let bed = Bed::new();
    let text = spec(
        &["test -e d || { mkdir d; head -c 20000000 /dev/urandom > d/x; }; md5sum d/x"],
        "  key: k\n  paths: [d]\n",
    );
    let go = || with_aws(&bed, &text, &["--cache", &place]).code(0);
    for fault in [Fault::Paused(5_000_000), Fault::Severed(5_000_000), Fault::Gated] {
        let made = go().output();
        let proxy = Proxy::start(&[("GET", "/k.tar.gz", 1, fault)]);
        let mut command = bed.build_command(&text, &["--cache", &place]);
        let running = Running::spawn_from(surround(&mut command, proxy.port));
        proxy.until_it_waits("GET", "/k.tar.gz");
        let pruned = cache(&bed, aws(), &["prune", "--all", &place]).code(0);
        assert!(pruned.stdout.contains(": 1 removed"), "{}", pruned.stdout);
        proxy.open();
        let outcome = ended(running).code(0);
        match fault {
            Fault::Paused(_) => assert_eq!(outcome.says("restored 1 file(s)").output(), made),
            Fault::Severed(_) => {
                let outcome = outcome
                    .says(&format!("the cache cannot be restored: cannot fetch {place}/demo/"))
                    .says("hint: a prune or a rule of the bucket has removed it;");
                assert_ne!(outcome.output(), made);
            }
            _ => assert_ne!(outcome.says("cache: none for the key k").output(), made),
        }
        // Saved again; complete for the next one.
        assert_eq!(keys(&name).len(), 1);
    }
    // Of two that match, if one is being removed, the other is used.
    cache(&bed, aws(), &["prune", "--all", &place]).code(0);
    let of = |key: &str| {
        let cache = format!("  key: {key}\n  fallback-keys: [k-]\n  paths: [d]\n");
        spec(&["mkdir -p d; touch d/$CODEBUILD_BUILD_NUMBER"], &cache)
    };
    for key in ["k-1", "k-2"] {
        with_aws(&bed, &of(key), &["--cache", &place]).code(0).says("saved");
    }
    let proxy = Proxy::start(&[("GET", "/k-2.tar.gz", 1, Fault::Status(404))]);
    with_aws_at(proxy.port, &bed, &of("k-3"), &["--cache", &place])
        .code(0)
        .says("cache of the similar key k-1: restored");
    assert_eq!(proxy.count("GET", "/k-2.tar.gz"), 1);
}

/// A cache saved meanwhile is complete and stays, even if its upload is still running.
fn a_build_saves_while_it_is_pruned() {
    let name = bucket("cache-saving");
    let place = format!("s3://{name}/pre");
    let bed = Bed::new();
    let old = || put_cache(&name, &format!("{OF_DEMO}/old.tar.gz"), "x");
    old();
    let text = spec(
        &["test -e d || { mkdir d; head -c 20000000 /dev/urandom > d/x; }; md5sum d/x"],
        "  key: k\n  paths: [d]\n",
    );
    // All its parts are uploaded, and it is not completed.
    let slow = Proxy::start(&[("POST", "uploadId=", 1, Fault::Gated)]);
    let mut command = bed.build_command(&text, &["--cache", &place]);
    let saving = Running::spawn_from(surround(&mut command, slow.port));
    slow.until_it_waits("POST", "uploadId=");
    let proxy = Proxy::start(&[("GET", "uploads", 1, BEGUN_JUST_NOW)]);
    let pruned = cache(&bed, proxy.port, &["prune", "--all", &place]).code(0);
    assert!(pruned.stdout.contains(": 1 removed"), "{}", pruned.stdout);
    // It is completed while another prune has made its list and is about to remove.
    old();
    let proxy = Proxy::start(&[("POST", "delete", 1, Fault::Gated)]);
    let mut command = bed.command(["cache", "prune", "--all", &place]);
    let pruning = Running::spawn_from(surround(&mut command, proxy.port));
    proxy.until_it_waits("POST", "delete");
    slow.open();
    let made = ended(saving).code(0).says("saved 1 file(s)").output();
    proxy.open();
    let pruned = ended(pruning).code(0);
    assert!(pruned.stdout.contains(": 1 removed"), "{}", pruned.stdout);
    let left = keys(&name);
    assert!(left.len() == 1 && left[0].ends_with("/k.tar.gz"), "{left:?}");
    let outcome = with_aws(&bed, &text, &["--cache", &place]).code(0);
    assert_eq!(outcome.says("restored 1 file(s)").output(), made);
}

/// Parts left by a killed runner are removed after a day, and only those of caches.
fn uploads_that_nobody_completes() {
    let name = bucket("cache-parts");
    let place = format!("s3://{name}/pre");
    let bed = Bed::host();
    for key in [format!("{OF_DEMO}/k.tar.gz"), "pre/film.mp4".to_owned()] {
        cli(&["s3api", "create-multipart-upload", "--bucket", &name, "--key", &key]);
    }
    let prune = |port| cache(&bed, port, &["prune", &place]).code(0);
    let proxy = Proxy::start(&[("GET", "uploads", 1, BEGUN_JUST_NOW)]);
    assert!(!prune(proxy.port).stderr.contains("upload"));
    assert_eq!((proxy.count("GET", "uploads"), half_uploads(&name)), (1, 2));
    // Without permission to list uploads, the prune still works.
    let proxy = Proxy::start(&[("GET", "uploads", 1, Fault::Status(403))]);
    prune(proxy.port)
        .says(&format!("warning: {place}: what killed runners have left there stays: cannot list the uploads of s3://{name}/pre/"))
        .says("hint: who calls needs s3:ListBucketMultipartUploads");
    prune(aws()).says("1 abandoned upload(s) removed");
    assert_eq!(half_uploads(&name), 1);
}

/// Each message says which bucket, why, and how to fix it.
fn buckets_that_do_not_answer() {
    let bed = Bed::host();
    for verb in ["ls", "prune"] {
        cache(&bed, aws(), &[verb, "--cache", "s3://cache-nosuch/x"])
            .code(3)
            .says("cannot list s3://cache-nosuch/x/: NoSuchBucket")
            .says("hint: make the bucket: aws s3 mb s3://cache-nosuch");
        cache(&bed, 1, &[verb, "s3://cache-nosuch"])
            .code(3)
            .says("cannot list s3://cache-nosuch/: ")
            .says("hint: is the endpoint the right one");
        let mut command = bed.command(["cache", verb, "s3://cache-nosuch"]);
        outcome(command.env("AWS_EC2_METADATA_DISABLED", "true"))
            .code(3)
            .says("hint: choose credentials with --aws-profile NAME");
        cache(&bed, 1, &[verb, "s3://x"]).code(2).says("cannot be the name of a bucket");
        cache(&bed, 1, &[verb, "--cache", "gs://x"]).code(2).says("write a directory or s3://");
    }
    // With a profile, as for `runner run`.
    let name = bucket("cache-profile");
    put_cache(&name, &format!("{OF_DEMO}/k.tar.gz"), "x");
    let aws_dir = bed.path("home/.aws");
    std::fs::create_dir(&aws_dir).unwrap();
    let file =
        format!("[ci]\naws_access_key_id = {}\naws_secret_access_key = {}\n", KEYS[0].1, KEYS[1].1);
    std::fs::write(aws_dir.join("credentials"), file).unwrap();
    for (profile, code) in [("ci", 0), ("nobody", 3), ("env", 3)] {
        let place = format!("s3://{name}/pre");
        let mut command = bed.command(["cache", "ls", &place, "--aws-profile", profile]);
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", aws()))
            .env("AWS_EC2_METADATA_DISABLED", "true");
        outcome(&mut command).code(code);
    }
}
