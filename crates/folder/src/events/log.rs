//! The writer of a build's log.
//!
//! Called by the driver (events) and by pumps (output); `sweep` completes the log of a killed
//! build. Only the two heads are kept in memory. A failed write leaves both files as they were, so
//! that readers always see complete data.

use super::{Follower, OutputReader};
use crate::state::BuildDir;
use runner_core::event::{Event, EventBody};
use runner_core::time::WallTime;
use runner_core::timeline::Timeline;
use runner_core::view::BuildView;
use runner_host::users;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Lengths of the log's files, in bytes. Everything before them is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    pub events: u64,
    pub output: u64,
    /// All output of commands is logged, and all of CodeBuild's lines.
    pub complete: bool,
    /// Nothing more will be logged.
    pub closed: bool,
}

/// Appends to a build's log. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct LogWriter {
    shared: Arc<EventLogShared>,
}

#[derive(Debug)]
struct EventLogShared {
    files: Mutex<EventFiles>,
    /// Wakes tasks.
    heads: watch::Sender<Heads>,
    /// Wakes threads.
    growth: Growth,
    build_id: String,
    dir: BuildDir,
}

#[derive(Debug)]
struct EventFiles {
    events: File,
    output: File,
    seq: u64,
    heads: Heads,
}

impl LogWriter {
    /// Creates the log of a new build.
    pub fn create(dir: &BuildDir, build_id: String) -> io::Result<Self> {
        let create = |path: PathBuf| {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            users::give(&path)?;
            Ok::<_, io::Error>(file)
        };
        let (events, output) = (create(dir.events())?, create(dir.output())?);
        let files = EventFiles { events, output, seq: 0, heads: Heads::default() };
        Ok(Self::over(files, dir, build_id))
    }

    /// Reopens the log of a build whose owner is gone, to complete it. Returns the state so far as
    /// well; `None` if the build had not begun. Cuts off a torn last line.
    pub fn reopen(dir: &BuildDir) -> io::Result<Option<(Self, Timeline)>> {
        let mut follower = match Follower::open(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let Some(build_id) = follower.catch_up()?.map(BuildView::build_id) else { return Ok(None) };
        let (timeline, length) = follower.into_parts();
        let events = OpenOptions::new().write(true).open(dir.events())?;
        events.set_len(length)?;
        let output = OpenOptions::new().write(true).open(dir.output())?;
        let heads = Heads { events: length, output: timeline.output(), ..Heads::default() };
        let files = EventFiles { events, output, seq: timeline.seq(), heads };
        Ok(Some((Self::over(files, dir, build_id), timeline)))
    }

    fn over(files: EventFiles, dir: &BuildDir, build_id: String) -> Self {
        let (heads, _) = watch::channel(files.heads);
        let (growth, dir) = (Growth::default(), dir.clone());
        growth.tell(files.heads);
        let files = Mutex::new(files);
        LogWriter { shared: Arc::new(EventLogShared { files, heads, growth, build_id, dir }) }
    }

    /// Logs events, all or none. Returns them as logged. Readers wake up once.
    pub fn append(
        &self,
        bodies: impl IntoIterator<Item = EventBody>,
        time: WallTime,
    ) -> io::Result<Vec<Event>> {
        let mut files = self.lock();
        let build_id = &self.shared.build_id;
        let events: Vec<Event> = (files.seq + 1..)
            .zip(bodies)
            .map(|(seq, body)| Event { seq, time, build_id: build_id.clone(), body })
            .collect();
        files.append_events(&events)?;
        self.publish(&files);
        Ok(events)
    }

    /// Logs a command's output.
    pub fn append_output(&self, command: u32, bytes: &[u8], time: WallTime) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut files = self.lock();
        let offset = files.heads.output;
        let length = bytes.len() as u64;
        files.output.write_all_at(bytes, offset)?;
        let event = Event {
            seq: files.seq + 1,
            time,
            build_id: self.shared.build_id.clone(),
            body: EventBody::Output { command, offset, length },
        };
        // The bytes do not count until an event names them; otherwise the next ones overwrite them.
        files.append_events(std::slice::from_ref(&event))?;
        files.heads.output += length;
        self.publish(&files);
        Ok(())
    }

    /// Offset of the next output.
    pub fn output_length(&self) -> u64 {
        self.lock().heads.output
    }

    /// The folder of the log's build.
    pub fn dir(&self) -> &BuildDir {
        &self.shared.dir
    }

    /// The end of the output after `begin`, at most `most` bytes.
    pub fn last_output(&self, begin: u64, most: usize) -> io::Result<String> {
        let end = self.output_length();
        let begin = begin.max(end.saturating_sub(most as u64));
        let mut reader = OutputReader::open(&self.shared.dir)?;
        let bytes = reader.read(begin, end.saturating_sub(begin))?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Frees reserved space for the last events of a build whose disk is full.
    pub fn use_reserve(&self) {
        // If this fails, the last events are tried anyway.
        let _ = self.shared.dir.use_reserve();
    }

    /// Tells readers that later events are not part of CodeBuild's log.
    pub fn complete(&self) {
        let mut files = self.lock();
        files.heads.complete = true;
        self.publish(&files);
    }

    /// Tells readers that nothing more will come.
    pub fn close(&self) {
        let mut files = self.lock();
        files.heads.closed = true;
        self.publish(&files);
    }

    /// Notifies threads of this process that read the log.
    pub fn growth(&self) -> Growth {
        self.shared.growth.clone()
    }

    /// Notifies tasks when the log has grown.
    pub fn watch(&self) -> watch::Receiver<Heads> {
        self.shared.heads.subscribe()
    }

    fn publish(&self, files: &EventFiles) {
        self.shared.heads.send_replace(files.heads);
        self.shared.growth.tell(files.heads);
    }

    fn lock(&self) -> MutexGuard<'_, EventFiles> {
        self.shared.lock()
    }
}

impl EventLogShared {
    fn lock(&self) -> MutexGuard<'_, EventFiles> {
        // A panic elsewhere cannot leave a change half done: heads are updated last.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells reading threads how far a log has grown. Updated by its writer, or by the follower in
/// another process.
#[derive(Clone, Debug, Default)]
pub struct Growth(Arc<(Mutex<Heads>, Condvar)>);

impl Growth {
    /// Sets the new heads and wakes readers.
    pub fn tell(&self, heads: Heads) {
        let (known, grown) = &*self.0;
        *known.lock().unwrap_or_else(PoisonError::into_inner) = heads;
        grown.notify_all();
    }

    /// Blocks until the heads differ from `seen` or the time is up. Returns the current heads.
    pub fn wait(&self, seen: Heads, limit: Option<Duration>) -> Heads {
        let (known, grown) = &*self.0;
        let heads = known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |heads: &mut Heads| *heads == seen;
        let heads = match limit {
            None => grown.wait_while(heads, same),
            Some(limit) => grown
                .wait_timeout_while(heads, limit, same)
                .map(|(heads, _)| heads)
                .map_err(|poisoned| PoisonError::new(poisoned.into_inner().0)),
        };
        *heads.unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventFiles {
    fn append_events(&mut self, events: &[Event]) -> io::Result<()> {
        let mut lines = String::new();
        for event in events {
            lines.push_str(&event.to_line()?);
            lines.push('\n');
        }
        if let Err(error) = self.events.write_all_at(lines.as_bytes(), self.heads.events) {
            // Half a line would look torn, and only the last one may.
            let _ = self.events.set_len(self.heads.events);
            return Err(error);
        }
        self.seq += events.len() as u64;
        self.heads.events += lines.len() as u64;
        Ok(())
    }
}
