//! The state folder: its owner, who else may change it, and the versions of its content.

use crate::common::{Bed, Running, build, cases, outcome, until};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

cases! {
    [] => folders_that_others_may_change;
    [Root] => folders_of_somebody_else;
    [Containers, Image("busybox")] => folders_of_another_version;
    [Root, Image("busybox")] => a_lock_that_a_child_holds;
}

const FOLDERS: [&str; 4] = ["builds", "live", "counters", "images"];

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn folders_that_others_may_change() {
    let bed = Bed::host();
    bed.runner(["ps"]).code(0);
    for mode in [0o777, 0o757] {
        set_mode(&bed.home(), mode);
        let said = format!("others may write to it (mode {mode:04o})");
        bed.runner(["ps"]).code(3).says(&said).says("chmod go-w");
    }
    // Files that others may read are in folders that are closed, as always.
    set_mode(&bed.home(), 0o755);
    for folder in FOLDERS {
        let folder = bed.home().join(folder);
        set_mode(&folder, 0o755);
        bed.runner(["ps"]).code(0);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
        // A link could lead anywhere.
        let elsewhere = bed.path("elsewhere");
        fs::rename(&folder, &elsewhere).unwrap();
        symlink(&elsewhere, &folder).unwrap();
        bed.runner(["ps"]).code(3).says("it is not a directory");
        fs::remove_file(&folder).unwrap();
        fs::rename(&elsewhere, &folder).unwrap();
    }
    // The path to the folder is the caller's choice.
    let link = bed.path("link");
    symlink(bed.home(), &link).unwrap();
    outcome(bed.command(["ps"]).env("RUNNER_HOME", &link)).code(0);
}

/// The creator of a state folder controls what is removed, so another user's folder is rejected.
fn folders_of_somebody_else() {
    let bed = Bed::host();
    bed.runner(["ps"]).code(0);
    let canary = bed.path("canary");
    fs::create_dir(&canary).unwrap();
    let uuid = "01234567-89ab-4cde-8f01-23456789abcd";
    let build = bed.home().join("builds").join(uuid);
    fs::create_dir(&build).unwrap();
    let meta = serde_json::json!({
        "uuid": uuid, "project": "demo", "number": 1, "runnerPid": 1, "layers": [&canary],
        "staging": [&canary],
    });
    fs::write(build.join("meta.json"), meta.to_string()).unwrap();
    fs::write(build.join("lock"), "").unwrap();
    let listing = bed.home().join("live").join(uuid);
    fs::write(&listing, "").unwrap();
    let give = |path: &Path, owner: &str| {
        outcome(Command::new("chown").arg("-hR").arg(owner).arg(path)).code(0);
    };
    let folders = FOLDERS.map(|folder| bed.home().join(folder));
    for foreign in folders.iter().chain([&bed.home()]) {
        give(foreign, "54321");
        for verb in [&["ps"][..], &["logs"], &["image", "ls"]] {
            bed.runner(verb).code(3).says("it belongs to uid 54321").says("run as that user");
        }
        assert!(canary.exists(), "{}", foreign.display());
        give(foreign, "0");
    }
    // Under sudo it belongs to the caller.
    give(&bed.home(), "54321");
    let mut sudo = bed.command(["ps"]);
    outcome(sudo.env("SUDO_UID", "54321").env("SUDO_GID", "54321")).code(0);
    assert!(!canary.exists() && !listing.exists());
}

/// Files of a newer version are named and not changed.
fn folders_of_another_version() {
    let bed = Bed::new();
    bed.build(&build(&["true"]), &[]).code(0);
    let uuid = bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    let build = bed.only();
    let change = |file: &str, version: u64| {
        let path = build.join(file);
        let mut value: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        value["schemaVersion"] = version.into();
        fs::write(&path, value.to_string()).unwrap();
    };
    for file in ["meta.json", "record.json"] {
        let text: serde_json::Value =
            serde_json::from_slice(&fs::read(build.join(file)).unwrap()).unwrap();
        assert_eq!(text["schemaVersion"], 1, "{file}");
        change(file, 2);
        let listed = bed.runner(["ps", "--all", "--format", "json"]).code(0).stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        assert!(listed[0]["id"].as_str().unwrap().ends_with(&uuid), "{listed}");
        assert_eq!(listed[0]["state"], "unreadable");
        let why = listed[0]["command"].as_str().unwrap();
        assert!(why.contains("another version of runner has made it (folder version 2"), "{why}");
        change(file, 1);
    }
    // A build listed as live whose owner seems dead: only its own version ends it.
    change("meta.json", 2);
    fs::rename(build.join("record.json"), bed.path("record")).unwrap();
    let listing = bed.home().join("live").join(&uuid);
    fs::write(&listing, "").unwrap();
    bed.runner(["ps"]).code(0).says("another version of runner has made it");
    bed.runner(["logs", &uuid]).code(2).says("another version of runner has made it");
    assert!(listing.exists() && !build.join("record.json").exists());
    fs::rename(bed.path("record"), build.join("record.json")).unwrap();
    fs::remove_file(&listing).unwrap();
    change("meta.json", 1);
    // Damaged ones are named, too.
    fs::write(build.join("meta.json"), "{").unwrap();
    let listed = bed.runner(["ps", "--all"]).code(0).stdout;
    assert!(listed.contains(&uuid) && listed.contains("unreadable"), "{listed}");
}

/// A process that the runner has just forked holds all open files, including the lock, until it
/// closes them: a runner killed in between still counts as dead.
fn a_lock_that_a_child_holds() {
    let bed = Bed::new();
    let mut running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    // As such a process holds it: not the same file opened again, but the same open file
    // description.
    let pid = Pid::from_raw(i32::try_from(running.pid()).unwrap());
    let lock = bed.live().join("lock");
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let fd =
        fds.map(|fd| fd.path()).find(|fd| fs::read_link(fd).is_ok_and(|to| to == lock)).unwrap();
    let number = fd.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid.as_raw()).unwrap(),
        rustix::process::PidfdFlags::empty(),
    );
    let copy = rustix::process::pidfd_getfd(
        pidfd.unwrap(),
        number,
        rustix::process::PidfdGetfdFlags::empty(),
    );
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), 137);
    let listing = Running::spawn(bed.command(["ps"]));
    let waits = || {
        let Ok(fds) = fs::read_dir(format!("/proc/{}/fd", listing.pid())) else { return false };
        let is_inotify = |fd: fs::DirEntry| {
            fs::read_link(fd.path()).is_ok_and(|to| to == Path::new("anon_inode:inotify"))
        };
        fds.flatten().any(is_inotify)
    };
    until("it waits for the lock", waits);
    drop(copy.unwrap());
    listing.ends(0);
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}
