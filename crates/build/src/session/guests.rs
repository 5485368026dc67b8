//! The clients connected to a build: they come and go, the build's log and the audit record it, and
//! at the end all are asked to leave.
//!
//! Kept by `hub`. A client counts as connected while its [`Presence`] lives.

use super::log::{SessionLog, SessionNote};
use crate::driver::inbox::Inbox;
use runner_core::machine::MachineInput;
use runner_core::mask::SharedSecrets;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// The reason while a build is being stopped.
pub(super) const STOPPING: &str = "the build is being stopped";

/// Why all sessions are being closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    /// One line for the user.
    pub message: String,
}

/// The clients of a build.
pub(super) struct Guests {
    inbox: Inbox,
    /// The build's uuid.
    build: String,
    log: Option<Arc<dyn SessionLog>>,
    /// Values hidden from transcripts and audit lines; known before there is a container.
    secrets: OnceLock<SharedSecrets>,
    next: AtomicU64,
    closing: watch::Sender<Option<Closing>>,
    count: watch::Sender<usize>,
}

impl Guests {
    pub(super) fn new(inbox: Inbox, build: String, log: Option<Arc<dyn SessionLog>>) -> Self {
        Guests {
            inbox,
            build,
            log,
            secrets: OnceLock::new(),
            next: AtomicU64::new(1),
            closing: watch::Sender::new(None),
            count: watch::Sender::new(0),
        }
    }

    /// Sets the secrets, once.
    pub(super) fn mask(&self, secrets: SharedSecrets) {
        let _ = self.secrets.set(secrets);
    }

    pub(super) fn secrets(&self) -> SharedSecrets {
        self.secrets.get().cloned().unwrap_or_default()
    }

    /// Where transcripts go.
    pub(super) fn log(&self) -> Option<&dyn SessionLog> {
        self.log.as_deref()
    }

    pub(super) fn name_of(&self, session: u64) -> String {
        format!("{}-{session}", self.build)
    }

    /// Why no client may enter any more.
    pub(super) fn closed(&self) -> Option<Closing> {
        self.closing.borrow().clone()
    }

    /// Signals when all are to leave, for tasks that are not clients.
    pub(super) fn closing(&self) -> watch::Receiver<Option<Closing>> {
        self.closing.subscribe()
    }

    /// Asks all to leave. An earlier reason is kept unless this one is more specific.
    pub(super) fn send_off(&self, message: String, says_more: bool) {
        self.closing.send_if_modified(|closing| {
            let is_news = says_more || closing.is_none();
            if is_news {
                *closing = Some(Closing { message });
            }
            is_news
        });
    }

    /// Allows clients again, unless the build has ended meanwhile.
    pub(super) fn let_in(&self, after: &str) {
        self.closing.send_if_modified(|closing| {
            let is_ours = closing.as_ref().is_some_and(|closing| closing.message == after);
            if is_ours {
                *closing = None;
            }
            is_ours
        });
    }

    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    pub(super) fn is_any(&self) -> bool {
        *self.count.borrow() > 0
    }

    /// Resolves when no client is connected.
    pub(super) async fn all_gone(&self) {
        // Fails only if `self` is dropped, and with it every session.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// A client connects.
    pub(super) async fn enter(self: &Arc<Self>, program: String, id: Option<String>) -> Presence {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let closing = self.closing.subscribe();
        let mut note = self.note("opened", number, id.as_deref());
        note.program = Some(self.masked(&program));
        self.keep(note);
        self.inbox.send(MachineInput::SessionOpened { session: number, program }).await;
        self.count.send_modify(|count| *count += 1);
        Presence { number, id, guests: Arc::clone(self), closing, how: None }
    }

    fn note<'a>(
        &'a self,
        event: &'static str,
        session: u64,
        session_id: Option<&'a str>,
    ) -> SessionNote<'a> {
        let build = &self.build;
        SessionNote { event, build, session, session_id, ..SessionNote::default() }
    }

    fn keep(&self, note: SessionNote<'_>) {
        if let Some(log) = &self.log {
            log.note(note);
        }
    }

    /// Masks text for an audit line.
    pub(super) fn masked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(secrets) = self.secrets.get() {
            secrets.get().mask_text(&mut text);
        }
        text
    }
}

/// A connected client: the log and `ps` list it while this value lives.
pub struct Presence {
    pub number: u64,
    /// Its session id at AWS's clients.
    id: Option<String>,
    guests: Arc<Guests>,
    closing: watch::Receiver<Option<Closing>>,
    how: Option<String>,
}

impl Presence {
    /// Resolves when all clients are to leave, with a line for the user.
    pub async fn closing(&mut self) -> String {
        let closing = closing(&mut self.closing).await;
        // The newest reason says more than the one known when the end began.
        let message = self.closing.borrow().as_ref().map(|newest| newest.message.clone());
        let message = message.unwrap_or(closing.message);
        self.how = Some(message.clone());
        message
    }

    /// Like [`Self::closing`], for a program that runs until it is ended.
    pub(super) async fn sent_off(&mut self) -> Closing {
        closing(&mut self.closing).await
    }

    /// The current reason why all are to leave.
    pub(super) fn newest_closing(&self) -> Option<Closing> {
        self.closing.borrow().clone()
    }

    /// Sets what ended the session.
    pub(super) fn ended(&mut self, how: String) {
        self.how = Some(how);
    }

    /// Records that it was connected to a listener in the container, or failed to.
    pub fn connected(&self, to: &str, how: &str) {
        let mut note = self.guests.note("connected", self.number, self.id.as_deref());
        note.to = Some(self.guests.masked(to));
        note.how = Some(self.guests.masked(how));
        self.guests.keep(note);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let how = self.how.take().unwrap_or_else(|| "the client is gone".to_owned());
        let (guests, session) = (Arc::clone(&self.guests), self.number);
        let mut note = guests.note("closed", session, self.id.as_deref());
        note.how = Some(guests.masked(&how));
        guests.keep(note);
        // There is no runtime when this program is exiting, and then nobody needs the note.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            guests.inbox.send(MachineInput::SessionClosed { session, how }).await;
            // Decrement last: the log then has the last session's end when a waiter wakes.
            guests.count.send_modify(|count| *count = count.saturating_sub(1));
        });
    }
}

async fn closing(closing: &mut watch::Receiver<Option<Closing>>) -> Closing {
    let wanted = closing.wait_for(Option::is_some).await.ok().and_then(|value| value.clone());
    match wanted {
        Some(closing) => closing,
        None => std::future::pending().await,
    }
}
