//! The state folder: whose it is, who else may change it, and of which version what stands in it is.

use crate::common::{Bed, cases, outcome};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

cases! {
    [] => folders_that_others_may_change;
    [Root] => folders_of_somebody_else;
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
    // What it lets others read is in folders that are closed, as they always were.
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
    // The way to all of it is the caller's to choose.
    let link = bed.path("link");
    symlink(bed.home(), &link).unwrap();
    outcome(bed.command(["ps"]).env("RUNNER_HOME", &link)).code(0);
}

/// Whoever makes a state folder says what is to be removed: nobody else does it for them.
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
    // Under sudo it is the caller's own.
    give(&bed.home(), "54321");
    let mut sudo = bed.command(["ps"]);
    outcome(sudo.env("SUDO_UID", "54321").env("SUDO_GID", "54321")).code(0);
    assert!(!canary.exists() && !listing.exists());
}
