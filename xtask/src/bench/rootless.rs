//! The start of a container for an unprivileged user, compared with runc.

use super::bed::Bed;
use super::{Contender, measure, quiet};
use crate::{ChoreResult, root, run};
use std::fs;
use std::path::Path;
use std::process::Command;

const USER: &str = "runner-test";

/// Uses the user of the tests; if they have not run, there is none.
pub(super) fn start(bed: &Bed) -> ChoreResult {
    if quiet(Command::new("id").arg(USER)).is_err() {
        println!("rootless is left out: no user {USER} (cargo xtask test makes it)");
        return Ok(());
    }
    let dir = bed.dir.join("rootless");
    fs::create_dir(&dir).map_err(|error| error.to_string())?;
    run(Command::new("chmod").arg("755").arg(&bed.dir))?;
    let copy =
        |from: &Path, to: &str| run(Command::new("cp").arg("-a").arg(from).arg(dir.join(to)));
    copy(&root().join("target/release/runner"), "runner")?;
    copy(&root().join("target/images/busybox"), "rootfs")?;
    copy(&bed.buildspec("rootless", &["echo hi"])?, "buildspec.yml")?;
    run(Command::new("chown").args(["-R", USER]).arg(&dir))?;
    let as_user = |program: &str| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", USER, "--regid", USER, "--init-groups", "env", "-i"])
            .arg("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .arg(format!("RUNNER_HOME={}", dir.join("state").display()))
            .arg(program)
            .current_dir(&dir);
        command
    };
    quiet(as_user("runc").args(["spec", "--rootless"]))?;
    let config = dir.join("config.json");
    let text = fs::read_to_string(&config).map_err(|error| error.to_string())?;
    let text = text
        .replace("\"terminal\": true", "\"terminal\": false")
        .replace("\"sh\"", "\"/bin/echo\", \"hi\"");
    fs::write(&config, text).map_err(|error| error.to_string())?;
    let program = dir.join("runner").display().to_string();
    let image = format!("rootfs:{}", dir.join("rootfs").display());
    let state = dir.join("runc").display().to_string();
    let mut number = 0;
    let mut contenders = vec![
        Contender::new("`runner run`, one command", || {
            quiet(as_user(&program).args(["run", "--quiet", "--image", &image]))
        }),
        Contender::new("`runner run`, image host", || {
            quiet(as_user(&program).args(["run", "--quiet"]))
        }),
        Contender::new("`runc run`, rootless", || {
            number += 1;
            quiet(as_user("runc").args(["--root", &state, "run", &format!("bench-{number}")]))
        }),
        Contender::new("`/bin/true`, to subtract from each", || quiet(&mut as_user("/bin/true"))),
    ];
    measure("The same without root (whole process, with setpriv and env)", 10, &mut contenders)
}
