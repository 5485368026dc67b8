//! Output files named by a person: a path means the same as in a shell's redirection, and only a
//! regular file is replaced.

use super::artifacts::spec;
use crate::common::{Bed, build, cases, list, outcome, runner};
use nix::sys::stat::Mode;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

cases! {
    [Containers, Image("busybox")] => records_through_links, records_into_fifos, records_into_descriptors,
        records_into_devices, what_cannot_be_written, zips_through_links, zips_into_fifos, logs_into_descriptors,
        copies_into_fifos_and_devices;
    [Containers, Image("busybox"), Program("bash")] => records_into_a_process;
    [Containers, Image("busybox"), Root] => devices_stay_devices;
}

fn record(path: &Path) -> String {
    let text = fs::read(path).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    record["buildStatus"].as_str().unwrap().to_owned()
}

/// A FIFO, and the data read from it.
fn fifo(path: PathBuf) -> JoinHandle<Vec<u8>> {
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    std::thread::spawn(move || fs::read(path).unwrap())
}

fn is_fifo(path: &Path) -> bool {
    fs::symlink_metadata(path).unwrap().file_type().is_fifo()
}

fn records_through_links() {
    let bed = Bed::new();
    fs::create_dir(bed.path("far")).unwrap();
    let far = bed.path("far/record.json");
    symlink("../far/record.json", bed.source().join("second")).unwrap();
    symlink("second", bed.source().join("first")).unwrap();
    for mode in [0o600, 0o640] {
        if mode != 0o600 {
            fs::write(&far, "old").unwrap();
            fs::set_permissions(&far, fs::Permissions::from_mode(mode)).unwrap();
        }
        bed.build(&build(&["true"]), &["--build-json", "first"]).code(0);
        assert_eq!(record(&far), "SUCCEEDED");
        assert_eq!(fs::metadata(&far).unwrap().mode() & 0o777, mode);
        assert!(
            bed.source().join("first").is_symlink() && bed.source().join("second").is_symlink()
        );
    }
}

fn records_into_fifos() {
    let bed = Bed::new();
    let path = bed.source().join("fifo");
    let reader = fifo(path.clone());
    symlink("fifo", bed.source().join("link")).unwrap();
    bed.build(&build(&["false"]), &["--build-json", "link"]).code(1);
    let record: serde_json::Value = serde_json::from_slice(&reader.join().unwrap()).unwrap();
    assert_eq!(record["buildStatus"], "FAILED");
    assert!(is_fifo(&path));
}

/// A script with the runner's command line as its arguments.
fn shell(bed: &Bed, shell: &str, script: &str) -> crate::common::Outcome {
    bed.write("buildspec.yml", build(&["echo shown"]));
    let image = format!("rootfs:{}", crate::common::image("busybox").display());
    let mut command = bed.other(shell);
    command.args(["-ec", script, "sh"]).arg(runner()).args(["run", "--image", &image]);
    outcome(&mut command)
}

fn records_into_descriptors() {
    let bed = Bed::new();
    shell(&bed, "sh", "\"$@\" --build-json /dev/fd/3 3>&1 > log | cat > piped").code(0);
    assert_eq!(record(&bed.source().join("piped")), "SUCCEEDED");
    // Together with other output to the same file.
    shell(&bed, "sh", "echo before > both; \"$@\" --build-json /dev/stdout >> both").code(0);
    let both = fs::read_to_string(bed.source().join("both")).unwrap();
    assert!(both.starts_with("before\n") && both.contains("shown"), "{both}");
    assert!(both.contains("\"buildStatus\": \"SUCCEEDED\""), "{both}");
}

fn records_into_a_process() {
    let bed = Bed::new();
    let script =
        "\"$@\" --build-json >(cat > made; echo > done) > log; until [ -e done ]; do :; done";
    shell(&bed, "bash", script).code(0);
    assert_eq!(record(&bed.source().join("made")), "SUCCEEDED");
}

fn records_into_devices() {
    let bed = Bed::new();
    bed.build(&build(&["true"]), &["--build-json", "/dev/null"]).code(0);
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let outcome = bed.build(&build(&["true"]), &["--build-json", "/dev/full"]).code(3);
    outcome.says("cannot write /dev/full: No space left on device");
}

/// Detected before the build begins.
fn what_cannot_be_written() {
    let bed = Bed::new();
    symlink("loop", bed.source().join("loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bed.source().join("socket")).unwrap();
    for (path, why) in [
        ("nosuch/b.json", "No such file or directory"),
        (".", "is a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("socket", "it is a socket"),
    ] {
        for option in ["--build-json", "--log-file"] {
            let outcome = bed.build(&build(&["echo begun"]), &[option, path]).code(2);
            outcome.says(&format!("{option}: cannot write {path}: ")).says(why);
        }
    }
    // An existing file is not replaced by a folder, either.
    let file = bed.write("file", "kept");
    for path in ["file", "socket", "/dev/null", "file/below"] {
        for option in ["--artifacts", "--cache"] {
            let outcome = bed.build(&build(&["echo begun"]), &[option, path]).code(2);
            outcome.says(&format!("{option}: ")).says("is not a directory");
        }
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "kept");
}

fn zips_through_links() {
    let bed = Bed::new();
    fs::create_dir(bed.path("far")).unwrap();
    symlink("../far/made", bed.source().join("app.zip")).unwrap();
    for _ in 0..2 {
        let text = spec(&["echo x > x"], "  files: [x]\n");
        bed.build(&text, &["--artifacts", "app.zip"]).code(0);
        assert!(fs::read(bed.path("far/made")).unwrap().starts_with(b"PK"));
        assert!(bed.source().join("app.zip").is_symlink());
    }
}

fn zips_into_fifos() {
    let bed = Bed::new();
    let path = bed.source().join("app.zip");
    let reader = fifo(path.clone());
    let text = spec(&["echo x > x"], "  files: [x]\n");
    bed.build(&text, &["--artifacts", "app.zip"]).code(0);
    assert!(reader.join().unwrap().starts_with(b"PK"));
    assert!(is_fifo(&path));
    assert_eq!(list(&bed.source()).len(), 2, "something is left");
}

fn logs_into_descriptors() {
    let bed = Bed::new();
    shell(&bed, "sh", "echo before > log; \"$@\" --log-file /dev/fd/3 3>> log > /dev/null").code(0);
    let log = fs::read_to_string(bed.source().join("log")).unwrap();
    assert!(log.starts_with("before\n") && log.contains("shown"), "{log}");
}

/// `cp` writes to files that cannot be replaced.
fn copies_into_fifos_and_devices() {
    let bed = Bed::new();
    let make = "echo content > file; truncate -s 100000 sparse; mkdir -p tree; echo t > tree/fifo; codebuild-breakpoint";
    let running = bed.paused(&build(&[make]), &[]);
    let path = bed.source().join("fifo");
    let reader = fifo(path.clone());
    bed.runner(["cp", ":file", "fifo"]).code(0);
    assert_eq!(reader.join().unwrap(), b"content\n");
    assert_eq!(bed.runner(["cp", ":file", "/dev/stdout"]).code(0).stdout, "content\n");
    assert_eq!(bed.runner(["cp", ":sparse", "/dev/stdout"]).code(0).stdout.len(), 100_000);
    bed.runner(["cp", ":file", "/dev/null"]).code(0);
    bed.runner(["cp", ":file", "/dev/full"]).code(3).says("No space left on device");
    // Below a directory nothing blocks.
    fs::create_dir(bed.source().join("tree")).unwrap();
    fs::rename(&path, bed.source().join("tree/fifo")).unwrap();
    bed.runner(["cp", ":tree", "."]).code(3).says("it is a FIFO");
    assert!(is_fifo(&bed.source().join("tree/fifo")));
    bed.resume(running);
}

/// Root could replace them.
fn devices_stay_devices() {
    let bed = Bed::new();
    let null = bed.source().join("null.zip");
    let made = Command::new("mknod").arg(&null).args(["c", "1", "3"]).status().unwrap();
    assert!(made.success());
    let text = spec(&["echo x > x; echo x > null.zip; codebuild-breakpoint"], "  files: [x]\n");
    for options in
        [["--build-json", "null.zip"], ["--log-file", "null.zip"], ["--artifacts", "null.zip"]]
    {
        let running = bed.paused(&text, &options);
        bed.runner(["cp", ":x", "null.zip"]).code(0);
        bed.resume(running);
        assert!(fs::metadata(&null).unwrap().file_type().is_char_device(), "{options:?}");
    }
    // In a folder it is in the way.
    let text = spec(&["rm -f null.zip; echo x > null.zip"], "  files: [null.zip]\n");
    bed.build(&text, &["--artifacts", "."]).code(1).says("null.zip is a device");
    assert!(fs::metadata(&null).unwrap().file_type().is_char_device());
}
