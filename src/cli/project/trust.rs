//! What a project file may say without being asked for, and the memory of what its user has allowed.

use super::Reading;
use crate::cli::error::CliError;
use crate::cli::home;
use crate::state::write_durably;
use crate::users;
use runner_core::env::is_name;
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// Kinds of images that are files of this machine.
pub(super) const IMAGES_OF_FILES: [&str; 4] = ["rootfs", "oci", "oci-archive", "docker-archive"];

/// What an option of a project file reaches that a build by itself does not; none where it is no more
/// than any build may have.
pub(super) fn reach(key: &str, value: Option<&str>, dir: &Path) -> Option<String> {
    let value = value.unwrap_or_default();
    let inside = |path: &str| is_below(Path::new(path), dir);
    let reach = match key {
        "annotations"
        | "break-on"
        | "break-timeout"
        | "break-timeout-action"
        | "cpus"
        | "enable-session"
        | "log-format"
        | "mask"
        | "memory"
        | "network"
        | "pids-limit"
        | "project"
        | "quiet"
        | "session-idle-timeout"
        | "step"
        | "timeout"
        | "timeout-while-paused" => {
            return None;
        }
        "engine" if value != "process" => return None,
        "engine" => "runs the build on this machine itself, without a container",
        "env" if value.contains('=') || !is_name(value) => return None,
        "env" => "passes a variable of yours to the build",
        "image" => match value.split_once(':') {
            Some((kind, path)) if IMAGES_OF_FILES.contains(&kind) && !inside(path) => {
                "shows a directory or file of this machine to the build"
            }
            Some(("docker-daemon", _)) => "reads images of your Docker daemon",
            _ => return None,
        },
        "secondary-source" | "mount" => {
            let path = match key {
                "mount" => value.split(':').next().unwrap_or_default(),
                _ => value.split_once('=').map_or("", |(_, path)| path),
            };
            if inside(path) && !value.ends_with(":rw") {
                return None;
            }
            "shows a directory or file of this machine to the build"
        }
        "artifacts" | "cache" if value.starts_with("s3://") => {
            "uses your AWS credentials to read and write there"
        }
        "artifacts" | "build-json" | "cache" | "log-file" | "reports" | "session-log"
            if inside(value) =>
        {
            return None;
        }
        "artifacts" | "build-json" | "cache" | "log-file" | "reports" | "session-log" => {
            "writes outside of the directory of its own"
        }
        "aws-profile" => "gives the build your AWS credentials",
        "proxy" => "passes your proxy variables to the build",
        "secrets" | "env-file" | "project-json" => "reads a file of this machine",
        "privileged" => "gives the build rights over this machine",
        // What is new is not harmless until somebody has thought about it.
        _ => "may reach beyond the build",
    };
    Some(reach.to_owned())
}

/// Whether a path stays below a directory, its links followed, and out of what git keeps there: hooks
/// are programs that git runs outside of any container.
fn is_below(path: &Path, dir: &Path) -> bool {
    let Ok(rest) = path.strip_prefix(dir) else { return false };
    let is_plain = |part: Component<'_>| match part {
        Component::Normal(name) => !name.eq_ignore_ascii_case(".git"),
        Component::CurDir => true,
        Component::ParentDir | Component::RootDir | Component::Prefix(_) => false,
    };
    let Ok(real) = std::fs::canonicalize(dir) else { return false };
    let mut deepest = path;
    // What is not there yet is made below what is.
    let found = loop {
        match std::fs::symlink_metadata(deepest) {
            Ok(_) => break std::fs::canonicalize(deepest),
            Err(_) => match deepest.parent() {
                Some(above) => deepest = above,
                None => return false,
            },
        }
    };
    rest.components().all(is_plain)
        && found.is_ok_and(|found| {
            found.strip_prefix(&real).is_ok_and(|rest| rest.components().all(is_plain))
        })
}

/// Files as their user has allowed them, by their paths.
type Trusted = BTreeMap<String, String>;

/// Whether all that the file says may take effect; remembers it when the user says so.
pub(super) fn check(reading: &Reading, is_trusted: bool) -> Result<(), CliError> {
    let reaching: Vec<_> =
        reading.settings.iter().filter_map(|s| Some((s, s.reach.as_ref()?))).collect();
    if reaching.is_empty() {
        return Ok(());
    }
    let home = home::open()?;
    let store = home.root().join("trusted.json");
    let failed = |error: std::io::Error| {
        CliError::ours(format!("cannot remember what is trusted in {}: {error}", store.display()))
    };
    let mut trusted: Trusted = match std::fs::read(&store) {
        Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(_) => Trusted::new(),
    };
    let path = std::fs::canonicalize(&reading.dir).map_err(failed)?.join(super::NAME);
    let path = path.display().to_string();
    if trusted.get(&path) == Some(&reading.text) {
        return Ok(());
    }
    if is_trusted {
        trusted.insert(path, reading.text.clone());
        let text = serde_json::to_vec(&trusted).unwrap_or_default();
        write_durably(&store, &text).and_then(|()| users::give(&store)).map_err(failed)?;
        return Ok(());
    }
    let mut message = format!("{} asks for more than a build has by itself:", reading.shown);
    for (setting, reach) in reaching {
        let span = setting.span;
        message.push_str(&format!(
            "\n  {}:{}:{}: `{}` {reach}",
            reading.shown, span.line, span.column, setting.key
        ));
    }
    Err(CliError::usage(message).hint(
        "if that is as it should be: --trust-project, which is remembered until the file changes; or give \
         these on the command line",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_of_the_source_may_say() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        std::fs::create_dir_all(dir.join("sub/.git")).expect("made");
        std::os::unix::fs::symlink("/etc", dir.join("out")).expect("made");
        let at = |path: &str| dir.join(path).display().to_string();
        for (key, value, is_free) in [
            ("timeout", "5m".to_owned(), true),
            ("engine", "namespaces".to_owned(), true),
            ("engine", "process".to_owned(), false),
            ("env", "A=b".to_owned(), true),
            ("env", "HOME".to_owned(), false),
            ("image", "host".to_owned(), true),
            ("image", "alpine:3".to_owned(), true),
            ("image", format!("rootfs:{}", at("root")), true),
            ("image", "rootfs:/".to_owned(), false),
            ("artifacts", at("dist"), true),
            ("artifacts", at("sub/dist/deep"), true),
            ("artifacts", "/home/x".to_owned(), false),
            ("artifacts", at("../dist"), false),
            ("artifacts", at("out/dist"), false),
            ("artifacts", at(".git/hooks"), false),
            ("artifacts", at("sub/.GIT/hooks"), false),
            ("artifacts", "s3://bucket".to_owned(), false),
            ("reports", at("reports"), true),
            ("mount", format!("{}:/x", at("sub")), true),
            ("mount", format!("{}:/x:rw", at("sub")), false),
            ("mount", "/home:/x".to_owned(), false),
            ("secondary-source", format!("a={}", at("sub")), true),
            ("secondary-source", "a=/home".to_owned(), false),
            ("aws-profile", "x".to_owned(), false),
            ("secrets", at("s.yml"), false),
            ("nosuch", String::new(), false),
        ] {
            assert_eq!(reach(key, Some(&value), dir).is_none(), is_free, "{key} {value}");
        }
    }
}
