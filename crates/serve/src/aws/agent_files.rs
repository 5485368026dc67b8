//! Configuration files of AWS's agent on this host: the one the user named, and the one in the
//! state folder.

use runner_core::agent::{AgentConfig, DocumentProblem, MAX_BYTES, PropertyLayer};
use runner_folder::state::Home;
use runner_host::users::with_tilde;
use rustix::fs::OFlags;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file's name in the state folder.
const NAME: &str = "amazon-ssm-agent.json";

/// A configuration file that cannot be used.
#[derive(Debug)]
pub struct AgentError {
    path: PathBuf,
    why: AgentFileError,
}

#[derive(Debug)]
enum AgentFileError {
    Unreadable(io::Error),
    Wrong(Vec<DocumentProblem>),
}

impl std::error::Error for AgentError {}

impl fmt::Display for AgentError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = with_tilde(&self.path);
        match &self.why {
            AgentFileError::Unreadable(error) => write!(formatter, "cannot read {path}: {error}"),
            AgentFileError::Wrong(problems) => {
                let lines: Vec<String> =
                    problems.iter().map(|problem| format!("{path}:{problem}")).collect();
                formatter.write_str(&lines.join("\n"))
            }
        }
    }
}

/// The agent's configuration on this host, and notices about the files, a sentence each.
///
/// # Errors
/// If a file cannot be read or has wrong content, or the named file does not exist.
pub fn agent_config(
    home: &Home,
    named: Option<&Path>,
) -> Result<(AgentConfig, Vec<String>), AgentError> {
    let mut notices = Vec::new();
    let mut read = |path: &Path| -> Result<Option<PropertyLayer>, AgentError> {
        let failed = |why| AgentError { path: path.to_path_buf(), why };
        let Some(text) = text(path).map_err(|error| failed(AgentFileError::Unreadable(error)))?
        else {
            return Ok(None);
        };
        let (layer, told) = PropertyLayer::read(&text)
            .map_err(|problems| failed(AgentFileError::Wrong(problems)))?;
        notices.extend(told.into_iter().map(|text| format!("{}: {text}", with_tilde(path))));
        Ok(Some(layer))
    };
    let own = read(&home.root().join(NAME))?;
    let named = match named {
        None => None,
        Some(path) => Some(read(path)?.ok_or_else(|| AgentError {
            path: path.to_path_buf(),
            why: AgentFileError::Unreadable(io::ErrorKind::NotFound.into()),
        })?),
    };
    Ok((AgentConfig::of_host(named, own), notices))
}

/// The content of a file, if it exists.
fn text(path: &Path) -> io::Result<Option<String>> {
    // Opening a FIFO would wait for its other end.
    let flags = OFlags::NONBLOCK.union(OFlags::CLOEXEC).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    match text.len() > MAX_BYTES {
        true => Err(io::Error::other("it is longer than 64 KiB")),
        false => Ok(Some(text)),
    }
}
