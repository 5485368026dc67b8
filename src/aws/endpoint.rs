//! The endpoint: what services answer with, who may call, and what is noted of it.

use super::builds::Builds;
use super::call::{Call, Refusal};
use super::keys::KeyPair;
use super::peer;
use super::policy::{Caller, OwnerMayAll, Policy};
use super::sigv4::{self, AuthError};
use crate::amazon::ACCOUNT;
use crate::engine::leftover::Folder;
use crate::gateway::{Audit, Clock, Entry, Gateway};
use crate::state::{Home, live_builds};
use http::request::Parts;
use runner_wire::ssm::message;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Whoever signs with this machine's key pair.
    Signed,
    /// Programs of this user on this machine as well, signed with whatever keys or not at all. A build's are none.
    Local,
}

/// What answers.
pub(crate) struct Endpoint {
    pub(super) builds: Builds,
    pub(super) gateway: Arc<Gateway>,
    home: Home,
    keys: KeyPair,
    access: Access,
    policy: Box<dyn Policy>,
    caller: Caller,
}

/// Where a call comes from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) caller: Caller,
    /// The endpoint as the caller knows it.
    pub(super) host: String,
}

impl Origin {
    /// Where a client connects to a session.
    pub(super) fn stream_url(&self, session: &str) -> String {
        format!("ws://{}{}{session}?role=publish_subscribe", self.host, crate::gateway::PATH)
    }
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
}

impl Endpoint {
    /// For the builds of a state folder.
    pub(crate) fn new(home: &Home, keys: KeyPair, access: Access) -> Arc<Self> {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
        let name = user.map_or_else(|| "unknown".to_owned(), |user| user.name);
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        let caller = Caller {
            arn: format!("arn:aws:iam::{ACCOUNT}:user/{name}"),
            // Part of ids, which are part of paths.
            name: name.chars().filter(is_plain).take(40).collect(),
            key_id: keys.id.clone(),
        };
        Arc::new(Endpoint {
            builds: Builds::of(home),
            gateway: Gateway::new(Audit::of(home), Clock::Machine),
            home: home.clone(),
            keys,
            access,
            policy: Box::new(OwnerMayAll),
            caller,
        })
    }

    /// Ends every session for this reason.
    pub(crate) async fn close(&self, reason: &str) {
        self.gateway.close(reason).await;
    }

    /// Who makes a call.
    pub(super) async fn authenticate(
        &self,
        parts: &Parts,
        body: &[u8],
        ends: Ends,
    ) -> Result<Caller, AuthError> {
        let verified = sigv4::verify(parts, body, &self.keys, SystemTime::now());
        if verified.is_ok() || self.access == Access::Signed {
            return verified.map(|()| self.caller.clone());
        }
        // Whatever it is signed with: clients sign with the keys they find.
        let home = self.home.clone();
        let judged = tokio::task::spawn_blocking(move || {
            peer::is_ours(ends.peer, ends.local, &reapers(&home))
        });
        match judged.await {
            Ok(Ok(())) => Ok(self.caller.clone()),
            Ok(Err(why)) => {
                Err(AuthError::Incomplete(format!("this call needs a signature: {why}")))
            }
            Err(_) => Err(AuthError::Missing),
        }
    }

    /// Whether a caller may do something.
    pub(super) fn judge(
        &self,
        origin: &Origin,
        action: &str,
        resource: &str,
    ) -> Result<(), Refusal> {
        self.policy.judge(&origin.caller, action, resource).map_err(|why| {
            let text = format!(
                "User: {} is not authorized to perform: {action} on resource: {resource}: {why}",
                origin.caller.arn
            );
            Refusal::new("AccessDeniedException", text)
        })
    }

    /// Notes what was asked and how it was answered, of calls that do something.
    pub(super) fn note(
        &self,
        call: &Call,
        origin: &Origin,
        ends: Ends,
        agent: Option<&str>,
        answer: &Result<Value, Refusal>,
    ) {
        let does_something = ["StartSession", "ResumeSession", "TerminateSession"]
            .iter()
            .chain(&["ExecuteCommand", "StopBuild"])
            .any(|operation| call.operation == *operation);
        if !does_something {
            return;
        }
        let field = |value: &Value, names: &[&str]| {
            names.iter().find_map(|name| Some(value.get(name)?.as_str()?.to_owned()))
        };
        let answered = answer.as_ref().ok();
        let session = answered.and_then(|answer| {
            field(answer, &["SessionId"]).or_else(|| field(answer.get("session")?, &["sessionId"]))
        });
        let command = field(&call.body, &["command"])
            .or_else(|| call.body["Parameters"]["command"][0].as_str().map(str::to_owned));
        self.gateway.audit.write(Entry {
            event: format!("{}:{}", call.service.name(), call.operation),
            session_id: session.or_else(|| field(&call.body, &["SessionId"])),
            target: field(&call.body, &["Target", "task", "id"]),
            document: field(&call.body, &["DocumentName"]),
            command,
            caller: Some(origin.caller.arn.clone()),
            source: Some(ends.peer.to_string()),
            user_agent: agent.map(|agent| agent.chars().take(200).collect()),
            result: Some(match answer {
                Ok(_) => "ok".to_owned(),
                Err(refusal) => format!("{}: {}", refusal.code, refusal.message),
            }),
            ..Entry::default()
        });
    }

    /// Notes a call that was not let in.
    pub(super) fn note_refused(&self, operation: &str, ends: Ends, why: &Refusal) {
        self.gateway.audit.write_refused(Entry {
            event: operation.chars().filter(|c| !c.is_control()).take(120).collect(),
            source: Some(ends.peer.to_string()),
            result: Some(format!("{}: {}", why.code, why.message)),
            ..Entry::default()
        });
    }
}

/// The first process of each live build, as this machine counts them. A daemon's containers have a pid
/// namespace of their own, which tells them apart anyway.
fn reapers(home: &Home) -> Vec<u32> {
    let live = live_builds(home).unwrap_or_default();
    live.iter().filter_map(|known| Folder::of(known.dir.path()).first_process()).collect()
}

/// Longest body of a call.
pub(super) const MAX_BODY: usize = 4 * message::MAX_PAYLOAD;
