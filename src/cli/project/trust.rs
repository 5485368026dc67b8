//! What a project file may set without permission, and the record of what its user has allowed.

use super::Reading;
use super::named::{self, FileContents};
use crate::cli::error::CliError;
use crate::cli::home;
use crate::cli::reach::{Field, OptionReach, plain};
use runner_core::env::is_name;
use runner_engine::EngineKind;
use runner_engine::image::Image;
use runner_folder::state::Home;
use runner_host::private::write_durably;
use runner_host::users;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// What a setting of a project file needs to take effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TrustNeed {
    /// Nothing: it gives a build no more than it has anyway.
    Nothing,
    /// Nothing, if this place does not exist or was created by an earlier build.
    Fresh(PathBuf),
    /// Trust, to use the user's credentials; without trust it works without credentials.
    Login,
    /// Trust, for this reason.
    Trust(String),
}

/// What the value of an option in a file of this directory needs.
pub(super) fn need(field: &Field, value: Option<&str>, dir: &Path) -> TrustNeed {
    let value = value.unwrap_or_default();
    let trust = |reason: &str| TrustNeed::Trust(reason.to_owned());
    match field.reach {
        OptionReach::Build => TrustNeed::Nothing,
        OptionReach::TypedOnly => trust("is for the command line only"),
        OptionReach::Beyond(reason) => trust(reason),
        OptionReach::Engine => match EngineKind::named(value) {
            Some(kind) if !kind.traits().isolates => {
                trust("runs the build on this machine itself, without a container")
            }
            // An unknown engine was reported when the value was read.
            Some(_) | None => TrustNeed::Nothing,
        },
        OptionReach::Stub if !value.contains('=') => TrustNeed::Nothing,
        OptionReach::Stub => trust("shows a file of this machine to the build"),
        OptionReach::Variable if value.contains('=') || !is_name(value) => TrustNeed::Nothing,
        OptionReach::Variable => trust("passes a variable of yours to the build"),
        OptionReach::Shown => match field.path(value) {
            Some(path) if is_below(path, dir) => TrustNeed::Nothing,
            _ => trust("shows a directory of this machine to the build"),
        },
        OptionReach::Image => match value.parse() {
            Ok(Image::Registry(_)) => TrustNeed::Login,
            Ok(Image::DockerDaemon(_)) => trust("reads images of your Docker daemon"),
            Ok(
                Image::Rootfs(path)
                | Image::Layout(path, _)
                | Image::OciArchive(path)
                | Image::DockerArchive(path),
            ) if !is_below(&path, dir) => {
                trust("shows a file or directory of this machine to the build")
            }
            // An invalid image was reported when the value was read.
            Ok(_) | Err(_) => TrustNeed::Nothing,
        },
        OptionReach::Written => match field.path(value) {
            None => trust("uses your AWS credentials to read and write there"),
            Some(path) if !is_below(path, dir) => trust("writes outside of the file's directory"),
            Some(path) => match real_beginning(path) {
                Some((there, rest)) => TrustNeed::Fresh(plain(&there.join(rest))),
                None => trust("writes outside of the file's directory"),
            },
        },
    }
}

/// Whether a path, with its links followed, stays below a directory and outside git's own files:
/// hooks are programs that git runs outside any container.
fn is_below(path: &Path, dir: &Path) -> bool {
    let Ok(rest) = path.strip_prefix(dir) else { return false };
    let is_plain = |part: Component<'_>| match part {
        Component::Normal(name) => !name.eq_ignore_ascii_case(".git"),
        Component::CurDir => true,
        Component::ParentDir | Component::RootDir | Component::Prefix(_) => false,
    };
    let Ok(real) = std::fs::canonicalize(dir) else { return false };
    let found = real_beginning(path);
    rest.components().all(is_plain)
        && found.is_some_and(|(found, _)| {
            found.strip_prefix(&real).is_ok_and(|rest| rest.components().all(is_plain))
        })
}

/// The existing part of a path, without links, and the rest. `None` if a link is broken or the path
/// is inaccessible.
fn real_beginning(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let path = plain(path);
    // Missing parts are created below existing ones.
    let there = path.ancestors().find(|path| std::fs::symlink_metadata(path).is_ok())?;
    let rest = path.strip_prefix(there).ok()?.to_path_buf();
    Some((std::fs::canonicalize(there).ok()?, rest))
}

/// Project files that their user has allowed, by path.
type Trusted = BTreeMap<String, Allowed>;

/// An allowed project file.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Allowed {
    /// A file that names no others, or was allowed by a version that did not check them.
    Text(String),
    With {
        text: String,
        files: FileContents,
    },
}

impl Allowed {
    fn new(text: String, files: FileContents) -> Self {
        if files.is_empty() { Allowed::Text(text) } else { Allowed::With { text, files } }
    }

    fn is_of(&self, now: &str) -> bool {
        match self {
            Allowed::Text(text) | Allowed::With { text, .. } => text == now,
        }
    }

    /// Files that have changed since; `None` if the text itself differs.
    fn changed(&self, now: &Allowed) -> Option<Vec<String>> {
        let parts = |allowed: &Allowed| match allowed {
            Allowed::Text(text) => (text.clone(), FileContents::new()),
            Allowed::With { text, files } => (text.clone(), files.clone()),
        };
        let ((text, files), (text_now, files_now)) = (parts(self), parts(now));
        (text == text_now).then(|| named::changed(&files, &files_now))
    }
}

/// Whether the file is trusted: through earlier consent of the user, which holds until it changes,
/// or through `--trust-project`, which is remembered. A file that needs trust and lacks it is
/// rejected.
pub(super) fn check(reading: &Reading, says_so: bool) -> Result<bool, CliError> {
    if reading.settings.iter().all(|setting| setting.need == TrustNeed::Nothing) {
        return Ok(false);
    }
    let home = home::open()?;
    let store = home.root().join("trusted.json");
    let failed = |error: std::io::Error| {
        CliError::ours(format!("cannot record what is trusted in {}: {error}", store.display()))
    };
    let mut trusted: Trusted = match std::fs::read(&store) {
        Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(_) => Trusted::new(),
    };
    let path = std::fs::canonicalize(&reading.dir).map_err(failed)?.join(super::NAME);
    let path = path.display().to_string();
    // The files are read only for a trusted text.
    let is_of_interest =
        says_so || trusted.get(&path).is_some_and(|allowed| allowed.is_of(&reading.text));
    let files = if is_of_interest { named::files(&reading.settings) } else { FileContents::new() };
    let now = Allowed::new(reading.text.clone(), files);
    let changed = trusted.get(&path).and_then(|allowed| allowed.changed(&now));
    let is_known = changed.as_ref().is_some_and(Vec::is_empty);
    let places = TouchedPlaces::look(reading, &home);
    if !is_known && says_so {
        trusted.insert(path, now);
        let text = serde_json::to_vec(&trusted).unwrap_or_default();
        write_durably(&store, &text).and_then(|()| users::give(&store)).map_err(failed)?;
    } else if !is_known {
        refuse(reading, &places, &changed.unwrap_or_default())?;
    }
    for place in places.missing {
        home.note_place(&place).map_err(failed)?;
    }
    Ok(is_known || says_so)
}

/// Places that a file writes to, before the build.
struct TouchedPlaces {
    /// They came with the source, or are someone's work.
    taken: Vec<PathBuf>,
    /// They do not exist and are created by this build.
    missing: Vec<PathBuf>,
}

impl TouchedPlaces {
    fn look(reading: &Reading, home: &Home) -> Self {
        let made = home.places();
        let (mut taken, mut missing) = (Vec::new(), Vec::new());
        for setting in &reading.settings {
            let TrustNeed::Fresh(path) = &setting.need else { continue };
            let is_there = std::fs::symlink_metadata(path).is_ok();
            match made.contains(path) {
                false if is_there => taken.push(path.clone()),
                false => missing.push(path.clone()),
                true => {}
            }
        }
        TouchedPlaces { taken, missing }
    }
}

/// `changed`: files named by a known text that have changed.
fn refuse(reading: &Reading, places: &TouchedPlaces, changed: &[String]) -> Result<(), CliError> {
    let mut message = format!("{} asks for more than a build has by itself:", reading.shown);
    let mut asks = false;
    for setting in &reading.settings {
        let reason = match &setting.need {
            TrustNeed::Trust(reason) => reason.clone(),
            TrustNeed::Fresh(path) if places.taken.contains(path) => {
                "writes to what is there already, and no earlier build has made".to_owned()
            }
            TrustNeed::Nothing | TrustNeed::Fresh(_) | TrustNeed::Login => continue,
        };
        asks = true;
        let span = setting.span;
        message.push_str(&format!(
            "\n  {}:{}:{}: `{}` {reason}",
            reading.shown, span.line, span.column, setting.key
        ));
    }
    if !asks {
        return Ok(());
    }
    for path in changed {
        message.push_str(&format!("\n  {path} has changed since that was trusted"));
    }
    Err(CliError::usage(message).hint(
        "if that is as it should be: --trust-project, which is remembered until the file, or one that it names, \
         changes; or give these on the command line",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::reach::field;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_a_file_of_the_source_may_say() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        std::fs::create_dir_all(dir.join("sub/.git")).expect("made");
        symlink("/etc", dir.join("out")).expect("made");
        symlink("sub", dir.join("inside")).expect("made");
        symlink("/nowhere", dir.join("nowhere")).expect("made");
        let at = |path: &str| dir.join(path).display().to_string();
        for (name, value, is_free) in [
            ("timeout", "5m".to_owned(), true),
            ("engine", "namespaces".to_owned(), true),
            ("engine", "process".to_owned(), false),
            ("env", "A=b".to_owned(), true),
            ("env", "HOME".to_owned(), false),
            ("image", "host".to_owned(), true),
            ("image", format!("rootfs:{}", at("root")), true),
            ("image", "rootfs:/".to_owned(), false),
            ("image", format!("oci:{}", at("out:latest")), false),
            ("image", format!("oci:{}", at("inside:latest")), true),
            ("image", "docker-daemon:x".to_owned(), false),
            ("image-map", "a=b".to_owned(), false),
            ("artifacts", at("dist"), true),
            ("artifacts", at("sub/dist/deep"), true),
            ("artifacts", "/home/x".to_owned(), false),
            ("artifacts", at("../dist"), false),
            ("artifacts", at("out/dist"), false),
            ("artifacts", at("inside/dist"), true),
            ("artifacts", at("out/"), false),
            ("artifacts", at("nowhere/"), false),
            ("artifacts", at(".git/hooks"), false),
            ("artifacts", at("sub/.GIT/hooks"), false),
            ("artifacts", "s3://bucket".to_owned(), false),
            ("reports", at("reports"), true),
            ("session-log", "/var/log".to_owned(), false),
            ("mount", format!("{}:/x", at("sub")), false),
            ("mount", "/home:/x".to_owned(), false),
            ("secondary-source", format!("a={}", at("sub")), true),
            ("secondary-source", format!("a={}", at("out")), false),
            ("secondary-source", "a=/home".to_owned(), false),
            ("aws-profile", "x".to_owned(), false),
            ("secrets", at("s.yml"), false),
            ("skip", "make *".to_owned(), false),
            ("skip-phase", "build".to_owned(), false),
            ("only-phase", "build".to_owned(), false),
            ("stub", "aws".to_owned(), true),
            ("stub", format!("aws={}", at("aws")), false),
            ("trust-project", String::new(), false),
        ] {
            let field = field(name).expect("has a row");
            let need = need(field, Some(&value), dir);
            let is_trust = matches!(need, TrustNeed::Trust(_));
            assert_eq!(!is_trust, is_free, "{name} {value}: {need:?}");
        }
        let image = field("image").expect("has a row");
        assert_eq!(need(image, Some("alpine:3"), dir), TrustNeed::Login);
    }
}
