//! A folder of kept sessions, as `--session-log` writes it.

use crate::cli::error::CliError;
use jiff::Timestamp;
use runner_core::plain;
use runner_core::recording::{Event, Header};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest line of a recording.
pub(super) const MAX_LINE: u64 = 16 << 20;

/// What is kept in a folder.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// The newest first.
    pub(super) kept: Vec<Kept>,
}

/// A session that is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// Its id, or its build's and a number.
    pub(super) name: String,
    pub(super) build: Option<String>,
    pub(super) program: Option<String>,
    pub(super) began: Option<Timestamp>,
    pub(super) length: Option<Duration>,
    /// What ended it.
    pub(super) how: Option<String>,
    /// With its times, where it was a terminal.
    pub(super) cast: Option<PathBuf>,
    pub(super) text: Option<PathBuf>,
}

/// A line about a session.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    time: String,
    event: String,
    build: String,
    session: u64,
    session_id: Option<String>,
    program: Option<String>,
    how: Option<String>,
}

impl Folder {
    /// Reads what there is of each session. Lines and files that are something else are left out.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut kept: BTreeMap<String, Kept> = BTreeMap::new();
        for entry in fs::read_dir(path)? {
            let file = entry?.path();
            let Some(name) = file.file_stem().and_then(|name| name.to_str()) else { continue };
            let kind = file.extension().and_then(|kind| kind.to_str());
            let is_file = fs::symlink_metadata(&file).is_ok_and(|data| data.is_file());
            let one = || Kept { name: name.to_owned(), ..Kept::default() };
            match kind {
                Some("log") if is_file => {
                    kept.entry(name.to_owned()).or_insert_with(one).text = Some(file.clone());
                }
                Some("cast") if is_file => {
                    kept.entry(name.to_owned()).or_insert_with(one).cast = Some(file.clone());
                }
                _ => {}
            }
        }
        match File::open(path.join("sessions.jsonl")) {
            Ok(file) => notes(file, &mut kept)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut kept: Vec<Kept> = kept.into_values().collect();
        for one in &mut kept {
            one.look();
        }
        kept.sort_by(|one, other| other.began.cmp(&one.began).then(one.name.cmp(&other.name)));
        Ok(Folder { path: path.to_path_buf(), kept })
    }
}

/// Adds what the lines say of sessions of which something is kept.
fn notes(file: File, kept: &mut BTreeMap<String, Kept>) -> io::Result<()> {
    for line in BufReader::new(file).split(b'\n') {
        let Ok(note) = serde_json::from_slice::<Note>(&line?) else { continue };
        let numbered = format!("{}-{}", note.build, note.session);
        let name = note.session_id.filter(|id| kept.contains_key(id)).unwrap_or(numbered);
        let Some(one) = kept.get_mut(&name) else { continue };
        let time: Option<Timestamp> = note.time.parse().ok();
        one.build = Some(note.build);
        match note.event.as_str() {
            "opened" => (one.program, one.began) = (note.program, time),
            "closed" => {
                let length = one.began.zip(time).map(|(from, to)| to.duration_since(from));
                one.length = length.and_then(|length| Duration::try_from(length).ok());
                one.how = note.how;
            }
            _ => {}
        }
    }
    Ok(())
}

impl Kept {
    /// What the recording itself says, where no line does.
    fn look(&mut self) {
        let Some(path) = self.cast.as_ref().filter(|_| self.began.is_none()) else { return };
        let Ok(file) = File::open(path) else { return };
        let mut line = String::new();
        let read = BufReader::new(file).take(MAX_LINE).read_line(&mut line);
        if read.is_ok()
            && let Ok(header) = Header::parse(&line)
        {
            self.began = header.timestamp.and_then(|time| Timestamp::from_second(time).ok());
            self.program = header.title;
        }
    }

    /// The file with its times.
    pub(super) fn recording(&self) -> Result<File, CliError> {
        let Some(path) = &self.cast else {
            let name = plain::line(&self.name).into_owned();
            return Err(CliError::usage(format!("{name} was no terminal, so no times were kept"))
                .hint("`runner sessions show` prints it"));
        };
        File::open(path)
            .map_err(|error| CliError::ours(format!("cannot read {}: {error}", path.display())))
    }

    /// All that was shown.
    pub(super) fn shown(&self) -> io::Result<String> {
        if let Some(path) = &self.text {
            return Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned());
        }
        let Some(path) = &self.cast else { return Ok(String::new()) };
        let mut text = String::new();
        // The last line of one that was cut off may be no text.
        for line in BufReader::new(File::open(path)?).split(b'\n').skip(1) {
            if let Some(event) = Event::parse(&String::from_utf8_lossy(&line?))
                && let runner_core::recording::Shown::Output(shown) = event.shown
            {
                text.push_str(&shown);
            }
        }
        Ok(text)
    }
}
