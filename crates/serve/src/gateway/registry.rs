//! The open and ended sessions: ids, tokens and states.
//!
//! Called by `aws`; sockets come from `admission`. Kept in memory, since sessions end with this
//! process.

use super::audit::{Audit, AuditRecord, CallerIdentity};
use super::facts::{SessionFacts, SessionShared, SessionStatus};
use super::id;
use super::plan::SessionPlan;
use super::preparation::SessionPreparation;
use super::session::{SessionLimits, SessionOrder, SessionTask};
use super::socket::Socket;
use super::time::Clock;
use crate::deliveries::Deliveries;
use runner_core::agent::AgentConfig;
use runner_core::destination::Destinations;
use runner_folder::state::BuildDir;
use runner_folder::state::random;
use runner_host::clock;
use runner_host::peers::{Slot, Slots, share};
use runner_wire::ssm::{ChannelConfig, DataChannel};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Open sessions: a divisor of the descriptor limit, and an upper bound.
const SESSIONS: (usize, usize) = (16, 1000);
/// Most ended sessions that are remembered.
const MAX_HISTORY: usize = 1000;
/// Sockets without a token yet: of all sessions, and of one. Ids are no secret.
const WAITING: (usize, usize) = (256, 4);
/// Such sockets of unknown sessions, until their clients have got the refusal.
const LOST: usize = 16;

/// A session to open.
pub struct SessionRequest {
    /// Precedes the random part of its id.
    pub prefix: String,
    pub target: String,
    pub document: Option<String>,
    /// The version of the document, if there is one.
    pub version: Option<u64>,
    pub reason: Option<String>,
    /// The caller's ARN.
    pub owner: String,
    /// The caller's id, which survives a change of the name.
    pub user_id: String,
    /// The caller's access key.
    pub key_id: String,
    /// Closes the session after this long without input.
    pub idle: Duration,
    /// Closes the session after this duration.
    pub longest: Option<Duration>,
    pub build: BuildDir,
    pub plan: SessionPlan,
    /// The configuration of AWS's agent in the build.
    pub agent: AgentConfig,
    /// The Region that the client signed for.
    pub region: String,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSession {
    #[error("the session {0} does not exist")]
    Unknown(String),
    #[error("{0} sessions are open at this endpoint already")]
    TooMany(usize),
    #[error("{0} sessions are open in this build already: Mgs.SessionWorkersLimit")]
    TooManyOfBuild(usize),
    #[error("no random bytes can be had: {0}")]
    Random(String),
}

/// An open session.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    shared: Arc<SessionShared>,
    orders: mpsc::Sender<SessionOrder>,
    build: BuildDir,
}

impl Handle {
    /// Gives the session a client.
    pub(super) async fn attach(&self, socket: Socket) {
        // If the session has ended meanwhile, this drops and closes the socket.
        let _ = self.orders.send(SessionOrder::Attach(Box::new(socket))).await;
    }
}

/// All sessions of this process.
pub struct Gateway {
    sessions: Mutex<SessionTable>,
    most: usize,
    waiting: Arc<Slots<String>>,
    lost: Arc<Slots<String>>,
    open: watch::Sender<usize>,
    pub audit: Arc<Audit>,
    deliveries: Arc<Deliveries>,
    clock: Clock,
}

#[derive(Default)]
struct SessionTable {
    open: BTreeMap<String, Handle>,
    history: VecDeque<SessionFacts>,
}

impl Gateway {
    pub fn new(audit: Arc<Audit>, deliveries: Arc<Deliveries>, clock: Clock) -> Arc<Self> {
        Arc::new(Gateway {
            sessions: Mutex::default(),
            most: share(SESSIONS.0, SESSIONS.1),
            waiting: Slots::new(WAITING.0, WAITING.1),
            lost: Slots::new(LOST, LOST),
            open: watch::Sender::new(0),
            audit,
            deliveries,
            clock,
        })
    }

    fn table(&self) -> MutexGuard<'_, SessionTable> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a client without a token yet. Clients of unknown sessions share a few.
    pub(super) fn waiting_place(&self, id: &str) -> Option<Slot<String>> {
        match self.handle(id) {
            Ok(Some(_)) => self.waiting.enter(id.to_owned()),
            _ => self.lost.enter(String::new()),
        }
    }

    /// Opens a session. Returns its id, and the token that admits a client.
    pub fn open(self: &Arc<Self>, asked: SessionRequest) -> Result<(String, String), NoSession> {
        let failed = |error: io::Error| NoSession::Random(error.to_string());
        let mut table = self.table();
        if table.open.len() >= self.most {
            return Err(NoSession::TooMany(self.most));
        }
        let of_build =
            table.open.values().filter(|open| open.build.path() == asked.build.path()).count();
        let workers = asked.agent.session_workers();
        if of_build >= workers {
            return Err(NoSession::TooManyOfBuild(workers));
        }
        let id = id::new(&asked.prefix).map_err(failed)?;
        let preparation = SessionPreparation::new(&id, &asked, &self.deliveries).map_err(failed)?;
        let facts = SessionFacts {
            id: id.clone(),
            target: asked.target.clone(),
            document: asked.document,
            version: asked.version,
            notice: asked.plan.message.clone(),
            reason: asked.reason,
            owner: asked.owner,
            user_id: asked.user_id,
            key_id: asked.key_id,
            started: clock::wall(),
            ended: None,
            status: SessionStatus::Connecting,
            details: String::new(),
            longest: asked.longest,
            logs: Destinations::default(),
            key: asked.plan.key.clone(),
        };
        let shared =
            Arc::new(SessionShared::new(facts, Arc::clone(&self.audit), self.clock.clone()));
        let text = shared.new_token().map_err(failed)?;
        let (order_tx, order_rx) = mpsc::channel(8);
        let channel = DataChannel::new(ChannelConfig {
            session: id.clone(),
            target: asked.target,
            kind: asked.plan.kind,
            properties: asked.plan.properties.clone(),
            message: asked.plan.message.clone(),
            seed: random::<16>().map_err(failed)?,
            key: preparation.key(),
            is_held: preparation.takes_time(),
        });
        let task = SessionTask::new(
            Arc::clone(&shared),
            channel,
            order_rx,
            asked.build.clone(),
            asked.plan,
            SessionLimits { idle: asked.idle, longest: asked.longest },
            preparation,
        );
        table.open.insert(id.clone(), Handle { shared, orders: order_tx, build: asked.build });
        drop(table);
        self.open.send_modify(|count| *count += 1);
        let (gateway, name) = (Arc::clone(self), id.clone());
        tokio::spawn(async move {
            task.run().await;
            gateway.forget(&name);
        });
        Ok((id, text))
    }

    fn forget(&self, id: &str) {
        let mut table = self.table();
        if let Some(handle) = table.open.remove(id) {
            table.history.push_back(handle.shared.facts());
            if table.history.len() > MAX_HISTORY {
                table.history.pop_front();
            }
        }
        drop(table);
        self.open.send_modify(|count| *count = count.saturating_sub(1));
    }

    /// A new token for a session whose client has lost its socket; `None` if the session is over.
    /// The previous token becomes invalid.
    pub async fn resume(&self, id: &str) -> Result<Option<String>, NoSession> {
        let Some(handle) = self.handle(id)? else { return Ok(None) };
        let text =
            handle.shared.new_token().map_err(|error| NoSession::Random(error.to_string()))?;
        let goes_on = handle.orders.send(SessionOrder::Expect).await.is_ok();
        Ok(goes_on.then_some(text))
    }

    /// Ends a session. Does nothing if it has ended already.
    pub async fn terminate(&self, id: &str, reason: &str) -> Result<(), NoSession> {
        if let Some(handle) = self.handle(id)? {
            let _ = handle.orders.send(SessionOrder::Terminate(reason.to_owned())).await;
        }
        Ok(())
    }

    /// An open session; `None` if it is over, in this endpoint or an earlier one.
    fn handle(&self, id: &str) -> Result<Option<Handle>, NoSession> {
        let table = self.table();
        match table.open.get(id) {
            Some(handle) => Ok(Some(handle.clone())),
            None if id::is_ours(id) => Ok(None),
            None => Err(NoSession::Unknown(id.to_owned())),
        }
    }

    /// The state of a session, open or remembered.
    pub fn facts(&self, id: &str) -> Option<SessionFacts> {
        let table = self.table();
        let open = table.open.get(id).map(|handle| handle.shared.facts());
        open.or_else(|| table.history.iter().find(|facts| facts.id == id).cloned())
    }

    /// Uses up a token. Returns its session.
    pub(super) fn present(&self, id: &str, text: &str) -> Result<Handle, String> {
        let refuse = |why: &str| {
            let asked = json!({"sessionId": id});
            let record =
                AuditRecord::call(CallerIdentity::unknown(), "ssmmessages", "OpenDataChannel");
            self.audit
                .write_refused(record.asking(asked, false).failed("AccessDeniedException", why));
            Err(why.to_owned())
        };
        let Ok(Some(handle)) = self.handle(id) else {
            return refuse("there is no such session, or it is over");
        };
        match handle.shared.take_token(text) {
            Ok(()) => Ok(handle),
            Err(why) => refuse(why),
        }
    }

    /// Open or ended sessions, the newest first.
    pub fn list(&self, is_active: bool) -> Vec<SessionFacts> {
        let table = self.table();
        let mut list: Vec<SessionFacts> = if is_active {
            table.open.values().map(|handle| handle.shared.facts()).collect()
        } else {
            table.history.iter().cloned().collect()
        };
        list.sort_by_key(|facts| std::cmp::Reverse((facts.started, facts.id.clone())));
        list
    }

    /// Ends every session with this reason. Resolves when clients have been told and have had
    /// `longest` to take earlier output.
    pub async fn close(&self, reason: &str, longest: Option<Duration>) {
        let handles: Vec<Handle> = self.table().open.values().cloned().collect();
        for handle in handles {
            let _ = handle.orders.try_send(SessionOrder::ShutDown(reason.to_owned(), longest));
        }
        let mut open = self.open.subscribe();
        // Longer than any session takes to end.
        let longest = longest.unwrap_or(Duration::from_secs(2)) + Duration::from_secs(2);
        let _ = tokio::time::timeout(longest, open.wait_for(|count| *count == 0)).await;
    }
}
