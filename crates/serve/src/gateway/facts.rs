//! The state of a session, set by its task and read by everyone else.
//!
//! Written by `session` and by `registry`, which issues tokens. Each change is a line of the audit.

use super::audit::{Audit, AuditDetails, AuditRecord, CallerIdentity};
use super::time::Clock;
use super::token::SessionToken;
use runner_core::destination::Destinations;
use runner_core::time::WallTime;
use runner_host::clock;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The status of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    Connecting,
    Connected,
    Disconnected,
    Terminated,
}

impl SessionStatus {
    pub fn name(self) -> &'static str {
        match self {
            SessionStatus::Connecting => "Connecting",
            SessionStatus::Connected => "Connected",
            SessionStatus::Disconnected => "Disconnected",
            SessionStatus::Terminated => "Terminated",
        }
    }
}

/// A session as others see it.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    pub id: String,
    pub target: String,
    pub document: Option<String>,
    pub version: Option<u64>,
    /// The message for its client at the start.
    pub notice: String,
    pub reason: Option<String>,
    pub owner: String,
    pub user_id: String,
    pub key_id: String,
    pub started: WallTime,
    pub ended: Option<WallTime>,
    pub status: SessionStatus,
    /// Why it ended.
    pub details: String,
    pub longest: Option<Duration>,
    /// The log targets at AWS, from its beginning on. None for a session that was refused.
    pub logs: Destinations,
    /// The key of AWS KMS for encryption.
    pub key: Option<String>,
}

/// The state that a session's task shares with others.
#[derive(Debug)]
pub(super) struct SessionShared {
    facts: Mutex<SessionFacts>,
    token: Mutex<Option<SessionToken>>,
    /// Bytes of input and of output.
    carried: (AtomicU64, AtomicU64),
    audit: Arc<Audit>,
    pub(super) clock: Clock,
}

impl SessionShared {
    /// The state of a new session.
    pub(super) fn new(facts: SessionFacts, audit: Arc<Audit>, clock: Clock) -> Self {
        SessionShared {
            facts: Mutex::new(facts),
            token: Mutex::new(None),
            carried: Default::default(),
            audit,
            clock,
        }
    }

    fn lock(&self) -> MutexGuard<'_, SessionFacts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current state.
    pub(super) fn facts(&self) -> SessionFacts {
        self.lock().clone()
    }

    /// Sets the reason of the end. The first reason counts.
    pub(super) fn ends_because(&self, reason: &str) {
        let mut facts = self.lock();
        if facts.details.is_empty() {
            reason.clone_into(&mut facts.details);
        }
    }

    /// Changes the session's status, and records it.
    pub(super) fn set(&self, status: SessionStatus) {
        let mut facts = self.lock();
        if facts.status == status {
            return;
        }
        let was = std::mem::replace(&mut facts.status, status);
        let details = match (was, status) {
            (SessionStatus::Disconnected, SessionStatus::Connected) => AuditDetails::SessionResumed,
            (_, SessionStatus::Connected) => AuditDetails::SessionConnected {
                document: facts.document.as_ref().map(|name| match facts.version {
                    Some(version) => format!("{name}:{version}"),
                    None => name.clone(),
                }),
                notice: Some(facts.notice.clone()).filter(|notice| !notice.is_empty()),
                kms_key_id: facts.key.clone(),
            },
            (_, SessionStatus::Disconnected) => AuditDetails::SessionDisconnected,
            (_, SessionStatus::Terminated) => {
                facts.ended = Some(clock::wall());
                let (bytes_in, bytes_out) = &self.carried;
                AuditDetails::SessionEnded {
                    reason: facts.details.clone(),
                    bytes_in: bytes_in.load(Ordering::Relaxed),
                    bytes_out: bytes_out.load(Ordering::Relaxed),
                }
            }
            (_, SessionStatus::Connecting) => return,
        };
        self.record(facts, &details);
    }

    /// Sets the message for the client and the log targets.
    pub(super) fn begins_with(&self, notice: &str, logs: Destinations) {
        let mut facts = self.lock();
        notice.clone_into(&mut facts.notice);
        facts.logs = logs;
    }

    /// Records that the session's log has not arrived.
    pub(super) fn not_logged(&self, why: &str) {
        self.record(self.lock(), &AuditDetails::SessionNotLogged { why: why.to_owned() });
    }

    /// Records a connection through a forwarded port.
    pub(super) fn port_connected(&self, host: &str, port: u16) {
        self.record(self.lock(), &AuditDetails::PortConnected { host: host.to_owned(), port });
    }

    fn record(&self, facts: MutexGuard<'_, SessionFacts>, details: &AuditDetails) {
        let who = CallerIdentity::user(&facts.owner, &facts.user_id, &facts.key_id);
        let record = AuditRecord::session(who, &facts.id, &facts.target, details);
        drop(facts);
        self.audit.write(record);
    }

    /// Counts bytes from the client.
    pub(super) fn took(&self, bytes: usize) {
        self.carried.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes to the client.
    pub(super) fn gave(&self, bytes: usize) {
        self.carried.1.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn token(&self) -> MutexGuard<'_, Option<SessionToken>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Issues a new token, which replaces the previous one.
    pub(super) fn new_token(&self) -> io::Result<String> {
        let (token, text) = SessionToken::new(self.clock.now())?;
        *self.token() = Some(token);
        Ok(text)
    }

    /// Uses up the latest token, if this is its text and it has not expired.
    pub(super) fn take_token(&self, text: &str) -> Result<(), &'static str> {
        let mut token = self.token();
        // A wrong guess does not use up the token.
        let Some(taken) = token.take_if(|token| token.is(text)) else {
            return Err("the token is wrong, or was used before");
        };
        if taken.has_expired(self.clock.now()) {
            return Err("the token has expired; start the session again");
        }
        Ok(())
    }

    /// Whether an unused token is still valid.
    pub(super) fn expects_somebody(&self) -> bool {
        let now = self.clock.now();
        self.token().as_ref().is_some_and(|token| !token.has_expired(now))
    }
}
