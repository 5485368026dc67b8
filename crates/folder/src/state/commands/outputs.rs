//! A step's output at a node: both streams in full, and the excerpts for responses.

use super::{CommandNode, CommandStep, SentCommand, read, replace};
use runner_core::run_command::cut;
use runner_host::private::make_private;
use runner_host::users;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const CUT: &str = "cut.json";
/// Output, and errors.
const NAMES: [&str; 2] = ["stdout", "stderr"];

/// The excerpts of a step's output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CutOutput {
    pub output: String,
    pub errors: String,
    pub both: String,
}

/// The folder of a step's outputs.
#[derive(Clone, Debug)]
pub struct StepOutputs(PathBuf);

impl StepOutputs {
    pub(super) fn of(command: &Path, root: &str, node: &CommandNode, step: &CommandStep) -> Self {
        StepOutputs(command.join(&node.id).join(root).join(step.path()))
    }

    /// The name of each output file, and its path relative to the state folder.
    pub fn sources(
        command: &SentCommand,
        node: &CommandNode,
        step: &CommandStep,
    ) -> [(String, PathBuf); 2] {
        let dir = Path::new("commands").join(&command.id);
        let dir = StepOutputs::of(&dir, &command.root, node, step).0;
        NAMES.map(|name| (name.to_owned(), dir.join(name)))
    }

    /// Opens the step's stdout and stderr files for appending.
    pub fn files(&self) -> io::Result<[File; 2]> {
        make_private(&self.0)?;
        let open = |name: &str| {
            let path = self.0.join(name);
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            users::give(&path)?;
            Ok::<_, io::Error>(file)
        };
        Ok([open(NAMES[0])?, open(NAMES[1])?])
    }

    /// Stores the excerpts: the beginning of the step's output.
    pub fn keep(&self) -> io::Result<()> {
        make_private(&self.0)?;
        replace(&self.0.join(CUT), &serde_json::to_vec(&self.so_far()?)?)
    }

    /// The excerpts of a finished step.
    pub fn kept(&self) -> io::Result<Option<CutOutput>> {
        read(&self.0.join(CUT))
    }

    /// The excerpts of a running step.
    pub fn so_far(&self) -> io::Result<CutOutput> {
        let [(output, more), (errors, more_errors)] = self.beginning(cut::STDOUT)?;
        Ok(CutOutput {
            both: cut::both(&output, more, &errors, more_errors),
            output: cut::content(&output, more, cut::STDOUT),
            errors: cut::content(&errors, more_errors, cut::STDERR),
        })
    }

    /// At most `most` characters of each file, and whether it has more. A missing file is empty.
    fn beginning(&self, most: usize) -> io::Result<[(String, bool); 2]> {
        let beginning = |name: &str| -> io::Result<(String, bool)> {
            let file = match File::open(self.0.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(<_>::default()),
                file => file?,
            };
            let mut bytes = Vec::new();
            // Bytes of the longest characters, and of one more.
            file.take((most as u64 + 1) * 4).read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            Ok(match text.char_indices().nth(most) {
                Some((at, _)) => (text[..at].to_owned(), true),
                None => (text.into_owned(), false),
            })
        };
        Ok([beginning(NAMES[0])?, beginning(NAMES[1])?])
    }

    /// Removes the full outputs. The excerpts stay.
    pub(super) fn forget(&self) -> io::Result<()> {
        for name in NAMES {
            match fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::command;
    use super::*;
    use std::io::Write;

    #[test]
    fn outputs_are_kept_whole_and_read_from_the_beginning() {
        let dir = tempfile::tempdir().expect("a folder");
        let asked = command("x");
        let outputs = StepOutputs::of(dir.path(), "", &asked.nodes[0], &asked.steps[0]);
        assert_eq!(outputs.so_far().expect("read"), CutOutput::default());
        let [mut output, _] = outputs.files().expect("files");
        output.write_all("äöü!".as_bytes()).expect("written");
        let [output, errors] = outputs.beginning(3).expect("read");
        assert_eq!((output, errors), (("äöü".to_owned(), true), (String::new(), false)));
        assert!(!outputs.beginning(4).expect("read")[0].1);
        let path = "mi-0123456789abcdef0/awsrunShellScript/0.awsrunShellScript/stdout";
        assert!(dir.path().join(path).is_file());
        assert_eq!(outputs.kept().expect("read"), None);
        outputs.keep().expect("kept");
        let kept = outputs.kept().expect("read").expect("there");
        assert_eq!((&*kept.output, &*kept.errors), ("äöü!", ""));
        // The excerpts outlive the full outputs.
        outputs.forget().expect("removed");
        assert!(!dir.path().join(path).exists());
        assert_eq!(outputs.kept().expect("read"), Some(kept));
        let other = StepOutputs::of(dir.path(), "root", &asked.nodes[0], &asked.steps[0]);
        assert!(other.0.ends_with("root/awsrunShellScript/0.awsrunShellScript"));
        // An unreadable output is an error, not empty.
        fs::create_dir(dir.path().join(path)).expect("a folder");
        assert!(outputs.so_far().is_err());
    }
}
