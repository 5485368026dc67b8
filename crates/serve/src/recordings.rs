//! A folder of kept sessions, written by `--session-log` and read by `runner sessions` and the
//! page.

use jiff::Timestamp;
use runner_core::recording::{CastContent, CastEvent, CastHeader};
use runner_host::beneath::Dir;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of a recording's line.
pub const MAX_LINE: u64 = 16 << 20;

/// The content of a folder.
pub struct RecordingsFolder {
    pub path: PathBuf,
    /// The newest first.
    pub kept: Vec<KeptSession>,
}

/// A kept session.
#[derive(Clone, Debug)]
pub struct KeptSession {
    /// The session's id, or the build's id and a number.
    pub name: String,
    pub build: Option<String>,
    pub program: Option<String>,
    pub began: Option<Timestamp>,
    pub length: Option<Duration>,
    /// How it ended.
    pub how: Option<String>,
    /// Whether its times were recorded, as for a terminal.
    pub has_cast: bool,
    pub has_text: bool,
    dir: Arc<Dir>,
}

/// A line about a session.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionLine {
    time: String,
    event: String,
    build: String,
    session: u64,
    session_id: Option<String>,
    program: Option<String>,
    how: Option<String>,
}

/// Lines of a file, none longer than [`MAX_LINE`].
fn lines(file: File) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    let mut reader = BufReader::new(file);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    })
}

impl RecordingsFolder {
    /// Reads the folder's sessions. Skips other lines and files.
    pub fn read(path: &Path) -> io::Result<Self> {
        let dir = Arc::new(Dir::top(path)?);
        let mut kept: BTreeMap<String, KeptSession> = BTreeMap::new();
        for file in dir.names()? {
            let Ok(file) = String::from_utf8(file) else { continue };
            let Some((name, kind)) = file.rsplit_once('.') else { continue };
            if !matches!(kind, "log" | "cast") {
                continue;
            }
            let one = || KeptSession::named(name, &dir);
            let one = kept.entry(name.to_owned()).or_insert_with(one);
            match kind {
                "log" => one.has_text = true,
                _ => one.has_cast = true,
            }
        }
        match dir.file("sessions.jsonl") {
            Ok(file) => notes(file, &mut kept)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut kept: Vec<KeptSession> = kept.into_values().collect();
        for one in &mut kept {
            one.look();
        }
        kept.sort_by(|one, other| other.began.cmp(&one.began).then(one.name.cmp(&other.name)));
        Ok(RecordingsFolder { path: path.to_path_buf(), kept })
    }
}

/// Adds the details from the lines to sessions with kept files.
fn notes(file: File, kept: &mut BTreeMap<String, KeptSession>) -> io::Result<()> {
    for line in lines(file) {
        let Ok(note) = serde_json::from_slice::<SessionLine>(&line?) else { continue };
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

impl KeptSession {
    fn named(name: &str, dir: &Arc<Dir>) -> Self {
        KeptSession {
            name: name.to_owned(),
            build: None,
            program: None,
            began: None,
            length: None,
            how: None,
            has_cast: false,
            has_text: false,
            dir: Arc::clone(dir),
        }
    }

    fn file(&self, kind: &str) -> io::Result<File> {
        self.dir.file(format!("{}.{kind}", self.name))
    }

    /// Fills in what only the recording says. An unreadable recording is listed all the same.
    fn look(&mut self) {
        if self.began.is_some() || !self.has_cast {
            return;
        }
        let first = self.file("cast").ok().and_then(|file| lines(file).next()?.ok());
        let header = first.and_then(|line| CastHeader::parse(&String::from_utf8_lossy(&line)).ok());
        if let Some(header) = header {
            self.began = header.timestamp.and_then(|time| Timestamp::from_second(time).ok());
            self.program = header.title;
        }
    }

    /// The recording with its times, if there is one.
    pub fn recording(&self) -> io::Result<File> {
        self.file("cast")
    }

    /// All output of the session.
    pub fn shown(&self) -> io::Result<String> {
        let mut shown = String::new();
        if self.has_text {
            for line in lines(self.file("log")?) {
                shown.push_str(&String::from_utf8_lossy(&line?));
            }
            return Ok(shown);
        }
        // The last line of a recording that was cut off may not be text.
        for line in lines(self.file("cast")?).skip(1) {
            if let Some(event) = CastEvent::parse(&String::from_utf8_lossy(&line?))
                && let CastContent::Output(text) = event.shown
            {
                shown.push_str(&text);
            }
        }
        Ok(shown)
    }
}
