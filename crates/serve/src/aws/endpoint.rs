//! The endpoint: what services answer with, who may call, and what is noted of it.

use super::builds::Builds;
use super::call::{Call, Refusal};
use super::keys::KeyPair;
use super::operations::{Effect, Scope, Session};
use super::policy::{Caller, OwnerMayAll, Policy};
use super::sigv4::{self, AuthError};
use crate::gateway::{Audit, Clock, Entry, Gateway};
use crate::http::{Ends, Visit};
use http::request::Parts;
use runner_core::arn::ACCOUNT;
use runner_engine::leftover::Folder;
use runner_folder::state::{Home, live_builds};
use runner_wire::ssm::message;
use serde_json::Value;
use std::sync::Arc;
use std::time::SystemTime;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever signs with this machine's key pair.
    Signed,
    /// Programs of this user on this machine as well, signed with whatever keys or not at all. A build's are none.
    Local,
}

/// What answers.
pub struct Endpoint {
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

impl Endpoint {
    /// For the builds of a state folder.
    pub fn new(home: &Home, keys: KeyPair, access: Access) -> Arc<Self> {
        Self::with_policy(home, keys, access, Box::new(OwnerMayAll))
    }

    /// For callers that something else judges.
    pub(super) fn with_policy(
        home: &Home,
        keys: KeyPair,
        access: Access,
        policy: Box<dyn Policy>,
    ) -> Arc<Self> {
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
            policy,
            caller,
        })
    }

    /// Ends every session for this reason.
    pub async fn close(&self, reason: &str) {
        self.gateway.close(reason).await;
    }

    /// Who makes a call.
    pub(super) async fn authenticate(
        &self,
        parts: &Parts,
        body: &[u8],
        visit: &Visit,
    ) -> Result<Caller, AuthError> {
        let verified = sigv4::verify(parts, body, &self.keys, SystemTime::now());
        if verified.is_ok() || self.access == Access::Signed {
            return verified.map(|()| self.caller.clone());
        }
        // Whatever it is signed with: clients sign with the keys they find.
        let home = self.home.clone();
        match visit.is_ours(move || reapers(&home)).await {
            Ok(()) => Ok(self.caller.clone()),
            Err(why) => Err(AuthError::Incomplete(format!("this call needs a signature: {why}"))),
        }
    }

    /// Whether a caller may do something with everything that it is about.
    ///
    /// # Errors
    /// They may not; why, for the caller.
    pub(super) fn judge(
        &self,
        origin: &Origin,
        action: &'static str,
        scope: &Scope,
    ) -> Result<(), String> {
        let (caller, context) = (&origin.caller, scope.context());
        for resource in scope.resources() {
            self.policy.judge(caller, action, resource, context).map_err(|why| {
                let (who, name) = (&caller.arn, resource.names.join(", "));
                format!(
                    "User: {who} is not authorized to perform: {action} on resource: {name}: {why}"
                )
            })?;
        }
        Ok(())
    }

    /// Notes what was asked and how it was answered.
    pub(super) fn note(
        &self,
        call: &Call,
        origin: &Origin,
        ends: Ends,
        agent: Option<&str>,
        answer: &Result<Value, Refusal>,
    ) {
        let (operation, kept) = (call.operation, &call.operation.kept);
        let asked = |pointer: Option<&str>| text_at(&call.body, pointer?);
        let session_id = kept.session.and_then(|session| match session {
            Session::InRequest(pointer) => text_at(&call.body, pointer),
            Session::InAnswer(pointer) => text_at(answer.as_ref().ok()?, pointer),
        });
        self.gateway.audit.write(Entry {
            event: format!("{}:{}", operation.service.name(), operation.name),
            read_only: Some(operation.effect == Effect::Reads),
            session_id,
            target: asked(kept.target),
            document: asked(kept.document),
            command: asked(kept.command),
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

/// A text, or the texts of a list.
fn text_at(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => {
            let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            Some(texts.join(", "))
        }
        _ => None,
    }
}

/// Longest body of a call.
pub(super) const MAX_BODY: usize = 4 * message::MAX_PAYLOAD;
