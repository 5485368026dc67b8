//! Artifacts under adverse conditions: unreadable files, unwritable places, servers that fail
//! temporarily, stall or refuse. Each artifact is complete or absent, and failures are reported.

use super::artifacts::{collect, out, spec, tree};
use crate::common::aws::{
    Fault, Proxy, bucket, half_uploads, keys, object, surround, with_aws, with_aws_at,
};
use crate::common::{Bed, Running, cases, is_root, list, outcome, screen_of, until};
use nix::sys::signal::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => a_place_that_cannot_be_written_to, a_file_that_changes,
        what_cannot_be_read, stopped_while_collecting, killed_while_collecting;
    [Containers, Image("busybox"), Root] => no_space_left;
    [Containers, Image("busybox"), Python] => a_server_that_stumbles, a_server_that_fails,
        a_server_that_takes_its_time, a_server_that_stalls, a_bar_on_a_terminal, no_half_object,
        buckets_that_refuse;
}

fn a_place_that_cannot_be_written_to() {
    let bed = Bed::new();
    let place = if is_root() { "/proc/1".to_owned() } else { "/usr/share/nothing".to_owned() };
    let text = spec(&["touch x"], "  files: [x]\n");
    let outcome = bed.build(&text, &["--artifacts", &place]).code(1);
    outcome.says("Failed to upload artifacts: cannot make").says(&place);
}

/// A full disk: reported, with no partial result left.
fn no_space_left() {
    let bed = Bed::new();
    let place = out(&bed);
    fs::create_dir(&place).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&place);
    assert!(mount.status().unwrap().success());
    let unmount = scopeguard(place.clone());
    for artifacts in ["  files: [small, large]\n", "  files: [small, large]\n  name: a.zip\n"] {
        let commands = ["echo s > small; head -c 3000000 /dev/urandom > large"];
        collect(&bed, &commands, artifacts)
            .code(1)
            .says("No space left on device")
            .says("hint: free some space there");
        assert_eq!(list(&place), [""; 0], "{artifacts}");
    }
    drop(unmount);
}

/// Unmounts on drop.
fn scopeguard(place: PathBuf) -> impl Drop {
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    Mounted(place)
}

/// A log that is still being written is collected as far as it goes, and that is reported.
fn a_file_that_changes() {
    let bed = Bed::new();
    let writer = "head -c 60000000 /dev/zero | tr '\\0' x > log; (while :; do echo more >> log; done) \
                  > /dev/null 2>&1 & until [ $(wc -c < log) -gt 60000000 ]; do :; done";
    collect(&bed, &[writer], "  files: [log]\n  name: a.zip\n")
        .code(0)
        .says("log changed while it was read");
    assert_eq!(tree(&out(&bed)), ["a.zip"]);
}

/// An unreadable file is a failure, never a smaller artifact. Root can read everything.
fn what_cannot_be_read() {
    for (name, commands) in [
        ("d/x", ["mkdir d; echo x > d/x; chmod 000 d/x", "echo ok > d/y"]),
        ("d/e", ["mkdir -p d/e; echo x > d/e/x; chmod 000 d/e", "echo ok > d/y"]),
    ] {
        let bed = Bed::new();
        bed.write("buildspec.yml", spec(&commands, "  files: ['d/**/*']\n"));
        let place = out(&bed);
        let run = ["run", "--engine", "process", "--artifacts", place.to_str().unwrap()];
        let outcome = bed.runner(run);
        if is_root() {
            outcome.code(0);
            continue;
        }
        outcome.code(1).says(name).says("Permission denied");
        assert_eq!(list(&out(&bed)), [""; 0]);
    }
}

fn stopped_while_collecting() {
    let bed = Bed::new();
    let text =
        spec(&["truncate -s 40G large; echo collecting"], "  files: [large]\n  name: a.zip\n");
    let mut running = bed.start(&text, &["--artifacts", out(&bed).to_str().unwrap()]);
    running.stdout.wait_for("Found 1 file(s)");
    until("the ZIP is begun", || !list(&out(&bed)).is_empty());
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait(), 5, "{}", running.stderr.text());
    assert_eq!(list(&out(&bed)), [""; 0]);
}

/// The next command removes what a killed runner was writing.
fn killed_while_collecting() {
    let bed = Bed::new();
    let text = spec(&["truncate -s 40G large"], "  files: [large]\n  name: a.zip\n");
    let mut running = bed.start(&text, &["--artifacts", out(&bed).to_str().unwrap()]);
    until("the ZIP is begun", || !list(&out(&bed)).is_empty());
    running.signal(Signal::SIGKILL);
    running.wait();
    bed.runner(["ps"]).code(0).says("was left by a runner that was killed");
    assert_eq!(list(&out(&bed)), [""; 0]);
}

/// Temporary failures are retried.
fn a_server_that_stumbles() {
    let name = bucket("artifacts-stumbles");
    let proxy = Proxy::start(&[
        ("PUT", "/small", 1, Fault::Status(503)),
        ("PUT", "partNumber=2", 1, Fault::Status(500)),
        ("PUT", "partNumber=1", 1, Fault::Dropped),
        ("POST", "uploadId=", 1, Fault::Status(503)),
    ]);
    let bed = Bed::new();
    let text = spec(
        &["echo s > small; head -c 20000000 /dev/urandom > large"],
        "  files: [small, large]\n",
    );
    with_aws_at(proxy.port, &bed, &text, &["--artifacts", &format!("s3://{name}")]).code(0);
    assert_eq!(keys(&name), ["large", "small"]);
    assert_eq!(object(&name, "large").len(), 20_000_000);
    assert_eq!((proxy.count("PUT", "/small"), proxy.count("PUT", "partNumber=2")), (2, 2));
}

/// Permanent failures are reported, and fail the build.
fn a_server_that_fails() {
    let name = bucket("artifacts-fails");
    let proxy = Proxy::start(&[("PUT", "/small", 100, Fault::Status(503))]);
    let bed = Bed::new();
    let text = spec(&["echo s > small"], "  files: [small]\n");
    let outcome =
        with_aws_at(proxy.port, &bed, &text, &["--artifacts", &format!("s3://{name}")]).code(1);
    let text = format!("Failed to upload artifacts: cannot put s3://{name}/small: ");
    outcome.says(&text).says("503");
    assert!(proxy.count("PUT", "/small") >= 3);
    let phase = &bed.record()["phases"][8];
    assert_eq!(phase["contexts"][0]["statusCode"], "CLIENT_ERROR");
}

fn no_half_object() {
    let name = bucket("artifacts-half");
    let proxy = Proxy::start(&[("PUT", "partNumber=2", 100, Fault::Status(500))]);
    let bed = Bed::new();
    let text = spec(&["head -c 30000000 /dev/urandom > large"], "  files: [large]\n");
    with_aws_at(proxy.port, &bed, &text, &["--artifacts", &format!("s3://{name}")])
        .code(1)
        .says("500");
    assert_eq!(keys(&name), [""; 0]);
    assert_eq!((half_uploads(&name), proxy.count("DELETE", "uploadId=")), (0, 1));
}

fn buckets_that_refuse() {
    let bed = Bed::new();
    let text = spec(&["echo s > small"], "  files: [small]\n");
    with_aws(&bed, &text, &["--artifacts", "s3://artifacts-nosuch/x"])
        .code(1)
        .says("cannot put s3://artifacts-nosuch/x/small: NoSuchBucket")
        .says("hint: make the bucket: aws s3 mb s3://artifacts-nosuch");
    // No credentials.
    let bed = Bed::new();
    let mut command = bed.build_command(&text, &["--artifacts", "s3://artifacts-nosuch"]);
    outcome(command.env("AWS_EC2_METADATA_DISABLED", "true"))
        .code(1)
        .says("hint: choose credentials");
    // No server.
    let bed = Bed::new();
    with_aws_at(1, &bed, &text, &["--artifacts", "s3://artifacts-nosuch"])
        .code(1)
        .says("cannot put s3://");
}

/// A slow but live server: nothing is retried.
fn a_server_that_takes_its_time() {
    let name = bucket("artifacts-slow");
    let proxy = Proxy::start(&[("P", "/artifacts-slow/", 100, Fault::Drops(200))]);
    let bed = Bed::new();
    let text = spec(
        &["echo s > small; head -c 20000000 /dev/zero | tr '\\0' z > large"],
        "  files: [small, large]\n",
    );
    with_aws_at(proxy.port, &bed, &text, &["--artifacts", &format!("s3://{name}")]).code(0);
    assert_eq!(object(&name, "small"), b"s\n");
    let large = object(&name, "large");
    assert!(large.len() == 20_000_000 && large.iter().all(|byte| *byte == b'z'));
    assert_eq!((proxy.count("PUT", "/small"), proxy.count("PUT", "partNumber=")), (1, 3));
}

/// A server that does not respond, whether it reads the request or not: the upload is given up and
/// reported, with no partial result left. Users who do not want to wait can abort.
fn a_server_that_stalls() {
    let build = |name: &str, fault| {
        let name = bucket(name);
        let proxy = Proxy::start(&[("PUT", "partNumber=2", 100, fault)]);
        let bed = Bed::new();
        let text = spec(&["head -c 30000000 /dev/urandom > large"], "  files: [large]\n");
        let mut command = bed.build_command(&text, &["--artifacts", &format!("s3://{name}")]);
        // The setting of every AWS tool; waiting for a retry would take a minute.
        surround(&mut command, proxy.port).env("AWS_MAX_ATTEMPTS", "1");
        (name, proxy, bed, command)
    };
    let nothing_is_left = |name: &str, proxy: &Proxy| {
        assert_eq!(keys(name), [""; 0]);
        assert_eq!(proxy.count("DELETE", "uploadId="), 1);
        // The server may take its time.
        until("the upload is given up", || half_uploads(name) == 0);
    };
    let gives_up = |name, fault| {
        let (name, proxy, _bed, mut command) = build(name, fault);
        outcome(&mut command)
            .code(1)
            .says(&format!("Failed to upload artifacts: cannot put s3://{name}/large: "))
            .says("the server has been silent for 20 seconds");
        nothing_is_left(&name, &proxy);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| gives_up("artifacts-held", Fault::Held));
        scope.spawn(|| gives_up("artifacts-deaf", Fault::Deaf));
        scope.spawn(|| {
            let (name, proxy, _bed, command) = build("artifacts-stopped", Fault::Held);
            let running = Running::spawn(command);
            until("a part is on its way", || proxy.count("PUT", "partNumber=2") > 0);
            running.signal(Signal::SIGINT);
            running.ends(5);
            nothing_is_left(&name, &proxy);
        });
    });
}

/// A progress bar while it takes long, and none when it is over.
fn a_bar_on_a_terminal() {
    let name = bucket("artifacts-bar");
    let proxy = Proxy::start(&[("PUT", "partNumber=3", 1, Fault::Gated)]);
    let bed = Bed::new();
    let text = spec(&["head -c 20000000 /dev/urandom > large"], "  files: [large]\n");
    let mut command = bed.build_command(&text, &["--artifacts", &format!("s3://{name}")]);
    surround(&mut command, proxy.port);
    let terminal = bed.terminal(command, 24, 100);
    // Two of three parts have arrived.
    terminal.stream.wait_until("a bar", |bytes| {
        let screen = screen_of(bytes, 24, 100);
        let status = screen.lines().last().unwrap_or_default();
        status.contains("UPLOAD_ARTIFACTS")
            && status.contains("█░")
            && status.contains("83% of 19.07 MiB")
    });
    proxy.open();
    let screen = screen_of(terminal.ends(0).as_bytes(), 24, 100);
    assert!(!screen.contains('█') && !screen.contains('░'), "{screen}");
    assert!(screen.contains(&format!("→ arn:aws:s3:::{name} (1 file, 19.07 MiB)")), "{screen}");
    assert!(screen.trim_end().ends_with("SUCCEEDED"), "{screen}");
}
