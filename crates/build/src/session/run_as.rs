//! Sessions of users other than root: `RunAs` of Session Manager, and the user `ssm-user`.
//!
//! Used by `hub` at a client's request. Users are looked up in the container's own account files,
//! which are not trusted; a user with root's ids is rejected.

use super::refusal::SessionOpenError;
use runner_core::document::is_user;
use runner_core::env::DEFAULT_PATH;
use runner_engine::users::Accounts;
use runner_engine::{Container, ExecSpec, Ids, ProgramEnds, Stdio};
use runner_wire::control::RunAs;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

/// Creates a user like `useradd -m`, also if that program is missing, and allows sudo if the image
/// has a directory for its rules, as AWS's agent does.
const MAKE: &str = r#"name=$1 id=$2
if command -v useradd >/dev/null 2>&1; then
    useradd -m "$name" || exit
else
    printf '%s%s:x:%s:\n' "$4" "$name" "$id" >> /etc/group &&
    printf '%s%s:x:%s:%s::/home/%s:/bin/sh\n' "$3" "$name" "$id" "$id" "$name" >> /etc/passwd &&
    mkdir -p "/home/$name" && chown "$id:$id" "/home/$name" && chmod 700 "/home/$name" || exit
fi
rules=/etc/sudoers.d/ssm-agent-users
if [ -d /etc/sudoers.d ] && ! [ -e "$rules" ]; then
    umask 0337
    printf '# User rules for %s\n%s ALL=(ALL) NOPASSWD:ALL\n' "$name" "$name" > "$rules"
fi
"#;
/// Time limit for creating the user.
const PATIENCE: Duration = Duration::from_secs(20);
/// Maximum bytes shown of the script's output.
const MOST: u64 = 1 << 10;

/// Looks up a session's user and home, and creates the user if needed.
///
/// # Errors
/// The user does not exist and cannot be created. The message is that of AWS's agent if it has one.
pub(super) async fn find(
    container: &dyn Container,
    run_as: &RunAs,
) -> Result<(Ids, String), SessionOpenError> {
    let name = &run_as.name;
    let missing = || {
        SessionOpenError::ours(format!(
            "failed to start pty since RunAs user {name} does not exist"
        ))
    };
    if !is_user(name) {
        return Err(missing());
    }
    if container.has_one_user() {
        // In this container root is the only possible user.
        return Err(SessionOpenError::ours("the agent must run as root to use RunAs"));
    }
    let mut accounts = Accounts::read(container).await;
    if accounts.find(name).is_none() && run_as.is_made {
        make(container, name, &accounts).await?;
        accounts = Accounts::read(container).await;
    }
    let ids = accounts.find(name).ok_or_else(missing)?;
    if ids.uid == 0 || ids.gid == 0 || ids.groups.contains(&0) {
        return Err(SessionOpenError::ours(format!(
            "the RunAs user {name} has the rights of root (uid {}, gid {}): name another one",
            ids.uid, ids.gid
        )));
    }
    Ok((ids, format!("/home/{name}")))
}

async fn make(
    container: &dyn Container,
    name: &str,
    accounts: &Accounts,
) -> Result<(), SessionOpenError> {
    let cannot = |why: &str| {
        SessionOpenError::ours(format!(
            "cannot make the user {name} for this session ({why}): make the user in the image, or name another one by \
             runAsEnabled and runAsDefaultUser"
        ))
    };
    if container.is_shared() {
        return Err(cannot("the build runs on this machine's own files, which have no such user"));
    }
    let gap = |text: &str| if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let id = accounts.free_id().to_string();
    let argv = ["sh", "-c", MAKE, "make", name, &id, gap(accounts.passwd()), gap(accounts.group())];
    let spec = ExecSpec {
        argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
        path: DEFAULT_PATH.as_bytes().to_vec(),
        env: vec![format!("PATH={DEFAULT_PATH}").into_bytes()],
        cwd: b"/".to_vec(),
        cwd_or_root: true,
        user: Ids::default(),
        stdio: Stdio::Merged,
        toolbox: false,
        of_build: false,
    };
    let process = container.exec(spec).await.map_err(|error| cannot(&error.to_string()))?;
    let ProgramEnds::Merged(pipe) = process.ends else {
        return Err(cannot("its output is not there"));
    };
    let said = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        // Unreadable output is left out of the message.
        let _ = File::from(pipe).take(MOST).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    });
    let ended = tokio::time::timeout(PATIENCE, process.exit).await;
    // Processes it left behind may keep its output open, and must not continue in the build.
    process.signals.send(nix::libc::SIGKILL, runner_engine::SignalReach::Session).await;
    match ended {
        Ok(Ok(Ok(exit))) if exit.shell_code() == 0 => Ok(()),
        Ok(_) => {
            let said = tokio::time::timeout(PATIENCE, said).await;
            let said = said.ok().and_then(Result::ok).unwrap_or_default();
            let line = said.lines().last().unwrap_or("useradd fails");
            Err(cannot(&runner_core::plain::line(line)))
        }
        Err(_) => Err(cannot("it takes too long")),
    }
}
