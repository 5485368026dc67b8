//! The endpoint: state shared by the services, and authentication of callers.

use super::builds::Builds;
use super::delivered;
use super::keys::KeyPair;
use super::policy::{Bound, Policy, PolicyCaller, UserPolicies, identified, user_id};
use super::profiles;
use super::resources::ResourceNames;
use super::sigv4::{self, AuthError};
use super::simulate::user_arn;
use super::users::{Users, owner};
use crate::commands::Center;
use crate::deliveries::{self, Deliveries};
use crate::gateway::{Audit, Clock, Gateway};
use crate::http::{ConnectionEnds, Visit};
use http::request::Parts;
use runner_cloud::CloudIdentity;
use runner_core::agent::AgentConfig;
use runner_core::arn::{ACCOUNT, REGION};
use runner_core::iam::{self, Directory};
use runner_core::mask::Secrets;
use runner_engine::leftover::EngineFolder;
use runner_folder::state::{Home, live_builds};
use runner_host::clock;
use runner_service::Service;
use runner_wire::ssm::message;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointAccess {
    /// Callers that sign with this machine's key pair or a user's key.
    Signed,
    /// In addition, this user's programs on this machine, with any signature or none. Programs of a
    /// build are excluded.
    Local,
}

/// The parts of an endpoint.
pub struct EndpointParts {
    pub keys: KeyPair,
    pub access: EndpointAccess,
    pub users: Users,
    pub agent: AgentConfig,
    /// Projects and the queue, if the endpoint offers them.
    pub service: Option<Arc<Service>>,
    /// The identity for calls to AWS.
    pub identity: CloudIdentity,
    /// Whether sessions may begin only if they are logged at AWS.
    pub requires_log: bool,
}

/// The shared state behind all operations.
pub struct Endpoint {
    pub(super) builds: Builds,
    pub(super) gateway: Arc<Gateway>,
    pub(super) commands: Arc<Center>,
    pub(super) deliveries: Arc<Deliveries>,
    pub(super) home: Home,
    keys: KeyPair,
    access: EndpointAccess,
    pub(super) policy: Box<dyn Policy>,
    owner: PolicyCaller,
    pub(super) users: Arc<Users>,
    pub(super) agent: AgentConfig,
    /// Projects and the queue, if the endpoint offers them.
    pub(super) service: Option<Arc<Service>>,
    /// Whether sessions may begin only if they are logged at AWS.
    pub(super) requires_log: bool,
    /// Signals that a user has called.
    user_called: Notify,
    /// The keys' secrets, with the version of the users they belong to.
    secrets: Mutex<Option<(Arc<Directory>, Secrets)>>,
    /// Secrets of keys in AWS's files that have signed calls, by key id.
    in_files: Mutex<BTreeMap<String, String>>,
}

/// The origin of a call.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) caller: PolicyCaller,
    /// The endpoint's host as the caller knows it.
    pub(super) host: String,
    /// The Region that the call was signed for.
    pub(super) region: String,
    /// The call's condition keys. Empty for the owner.
    pub(super) facts: iam::RequestContext,
    /// The decision, for the audit.
    judged: Mutex<Judged>,
}

/// The resources of a call, and the statement that decided.
#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    pub(super) resources: Vec<String>,
    pub(super) by: Option<String>,
}

impl Origin {
    pub(super) fn new(
        caller: PolicyCaller,
        host: String,
        region: Option<&str>,
        facts: iam::RequestContext,
    ) -> Self {
        let region = region.unwrap_or(REGION).to_owned();
        Origin { caller, host, region, facts, judged: Mutex::default() }
    }

    /// Notes the call's resources.
    pub(super) fn is_about(&self, resources: &[ResourceNames]) {
        let names = resources.iter().filter_map(|resource| resource.names.first().cloned());
        self.lock().resources = names.collect();
    }

    /// Notes the statement that decided.
    pub(super) fn decided(&self, by: Option<String>) {
        self.lock().by = by;
    }

    pub(super) fn judged(&self) -> Judged {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Judged> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The WebSocket address of a session.
    pub(super) fn stream_url(&self, session: &str) -> String {
        format!("ws://{}{}{session}?role=publish_subscribe", self.host, crate::gateway::PATH)
    }
}

impl Endpoint {
    /// An endpoint for the builds of a state folder.
    pub fn new(home: &Home, parts: EndpointParts) -> Arc<Self> {
        Self::with_policy(home, parts, Box::new(UserPolicies))
    }

    /// An endpoint with another policy for its callers.
    pub(super) fn with_policy(
        home: &Home,
        parts: EndpointParts,
        policy: Box<dyn Policy>,
    ) -> Arc<Self> {
        let EndpointParts { keys, access, users, agent, service, identity, requires_log } = parts;
        let (name, plain) = owner();
        let owner = PolicyCaller {
            arn: user_arn(&name),
            name: plain,
            user_id: keys.id.clone(),
            key_id: keys.id.clone(),
            bound: None,
        };
        let audit = Arc::new(Audit::kept(home, agent.audit_kept()));
        let sending = deliveries::DeliverySettings {
            identity,
            s3_endpoint: agent.text("S3.Endpoint"),
            kms_endpoint: agent.text("Kms.Endpoint"),
        };
        let hears = delivered::hears(&audit, home, &agent);
        let deliveries = Deliveries::new(home, sending, hears);
        Arc::new(Endpoint {
            builds: Builds::of(home),
            commands: Center::new(home, &agent, Arc::clone(&audit), Arc::clone(&deliveries)),
            gateway: Gateway::new(audit, Arc::clone(&deliveries), Clock::Machine),
            deliveries,
            home: home.clone(),
            keys,
            access,
            policy,
            owner,
            users: Arc::new(users),
            agent,
            service,
            requires_log,
            user_called: Notify::new(),
            secrets: Mutex::default(),
            in_files: Mutex::default(),
        })
    }

    /// The secrets of all keys that open this endpoint.
    pub(super) fn secrets(&self) -> Secrets {
        let directory = self.users.current();
        let mut known = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, secrets)) = known.as_ref()
            && Arc::ptr_eq(of, &directory)
        {
            return secrets.clone();
        }
        let in_files = self.in_files.lock().unwrap_or_else(PoisonError::into_inner);
        let all = directory.secrets().chain([self.keys.secret.as_str()]);
        let all = all.chain(in_files.values().map(String::as_str));
        // Fails only for more bytes than a file of users may have.
        let secrets =
            Secrets::new(all.map(|secret| secret.as_bytes().to_vec())).unwrap_or_default();
        *known = Some((directory, secrets.clone()));
        secrets
    }

    /// Keeps a secret from AWS's files out of the audit.
    fn hide(&self, id: &str, secret: &str) {
        let mut in_files = self.in_files.lock().unwrap_or_else(PoisonError::into_inner);
        if in_files.get(id).is_some_and(|known| known == secret) {
            return;
        }
        if in_files.len() >= MOST_IN_FILES {
            in_files.clear();
        }
        in_files.insert(id.to_owned(), secret.to_owned());
        drop(in_files);
        *self.secrets.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Ends every session with this reason, and every command. If `waits`, gives commands some time
    /// to end.
    pub async fn close(&self, reason: &str, waits: bool) {
        let given = self.agent.is_given("Mgs.StopTimeoutMillis");
        let longest = given.then(|| self.agent.sessions_stop());
        tokio::join!(self.gateway.close(reason, longest), self.commands.close(waits));
        self.deliveries.close().await;
        self.gateway.audit.written().await;
    }

    /// The owner of everything here.
    pub(super) fn owner(&self) -> &PolicyCaller {
        &self.owner
    }

    /// Authenticates the caller.
    pub(super) async fn authenticate(
        &self,
        parts: &Parts,
        body: &[u8],
        visit: &Visit,
    ) -> Result<PolicyCaller, AuthError> {
        let verified = self.signer(parts, body).await;
        if verified.is_ok() || self.access == EndpointAccess::Signed {
            return verified;
        }
        // The signature does not matter: clients sign with any keys they find.
        let home = self.home.clone();
        match visit.is_ours(move || reapers(&home)).await {
            Ok(()) => Ok(self.owner.clone()),
            Err(why) => Err(AuthError::Incomplete(format!("this call needs a signature: {why}"))),
        }
    }

    /// The signer of a call: the owner or a user.
    async fn signer(&self, parts: &Parts, body: &[u8]) -> Result<PolicyCaller, AuthError> {
        let now = SystemTime::now();
        let claimed = sigv4::claimed(parts).map(|(id, _)| id).filter(|id| *id != self.keys.id);
        if let Some(id) = claimed {
            let directory = self.users.current();
            if let Some((user, key)) = directory.of_key(id) {
                sigv4::verify(parts, body, sigv4::Key::lasting(id, &key.secret), now)?;
                return Ok(signed_by(user, id, &directory));
            }
            if let Some((user, key)) = profiles::of_key(&directory, id).await {
                let secret = key.secret_access_key();
                let whole = sigv4::Key { id, secret, token: key.session_token() };
                sigv4::verify(parts, body, whole, now)?;
                self.hide(id, secret);
                return Ok(signed_by(user, id, &directory));
            }
        }
        let own = sigv4::Key::lasting(&self.keys.id, &self.keys.secret);
        sigv4::verify(parts, body, own, now).map(|()| self.owner.clone())
    }

    /// The condition keys of a user's call. The owner's calls have none, since no policy applies.
    pub(super) fn facts(
        &self,
        caller: &PolicyCaller,
        parts: &Parts,
        ends: ConnectionEnds,
    ) -> iam::RequestContext {
        let mut facts = iam::RequestContext::default();
        let Some(bound) = &caller.bound else { return facts };
        if let Some(user) = bound.directory.user(&bound.user) {
            identified(&mut facts, user, &caller.arn);
        }
        let now = clock::wall();
        let agent = parts.headers.get("user-agent").and_then(|agent| agent.to_str().ok());
        facts.set("aws:PrincipalAccount", ACCOUNT);
        facts.set("aws:ResourceAccount", ACCOUNT);
        // The real Region, whatever the call is signed for: all builds are there.
        facts.set("aws:RequestedRegion", REGION);
        facts.set("aws:SecureTransport", "false");
        facts.set("aws:SourceIp", ends.peer.ip().to_canonical().to_string());
        facts.set("aws:CurrentTime", now.to_string());
        facts.set("aws:EpochTime", (now.epoch_millis() / 1000).to_string());
        if let Some(agent) = agent {
            facts.set("aws:UserAgent", agent);
        }
        facts
    }

    /// Wakes the check for sessions of removed users, for a session that this call may have opened.
    pub(super) fn look_after(&self, caller: &PolicyCaller) {
        if caller.bound.is_some() {
            self.user_called.notify_one();
        }
    }

    /// Ends sessions of users who were removed or whose key is no longer valid. Sleeps until a user
    /// calls.
    pub(super) async fn expel_users(&self) {
        loop {
            self.user_called.notified().await;
            while self.expel_some().await {
                tokio::time::sleep(EXPELLED).await;
            }
        }
    }

    /// Ends such sessions now. Returns whether sessions of users are still open.
    pub(super) async fn expel_some(&self) -> bool {
        let directory = self.users.current();
        let mut open = self.gateway.list(true);
        open.retain(|facts| facts.key_id != self.owner.key_id);
        for facts in &open {
            let key = &facts.key_id;
            let owner = match directory.of_key(key) {
                Some((user, _)) => Some(user),
                None => profiles::of_key(&directory, key).await.map(|(user, _)| user),
            };
            // Meanwhile another user may have got the name, and the key with it.
            if owner.is_none_or(|user| user_id(user) != facts.user_id) {
                let _ =
                    self.gateway.terminate(&facts.id, "the user's key is no longer valid").await;
            }
        }
        !open.is_empty()
    }
}

/// The caller for a user's signature.
fn signed_by(user: &iam::IamUser, key: &str, directory: &Arc<Directory>) -> PolicyCaller {
    PolicyCaller {
        name: user.name.clone(),
        arn: user_arn(&user.name),
        user_id: user_id(user),
        key_id: key.to_owned(),
        bound: Some(Bound { user: user.name.clone(), directory: Arc::clone(directory) }),
    }
}

/// The first process of each live build, in this machine's pids. Containers of a daemon have their
/// own pid namespace, which tells them apart anyway.
fn reapers(home: &Home) -> Vec<u32> {
    let live = live_builds(home).unwrap_or_default();
    live.iter().filter_map(|known| EngineFolder::of(known.dir.path()).first_process()).collect()
}

/// Pause between checks for removed users, while users have sessions.
const EXPELLED: Duration = Duration::from_secs(30);

/// Most keys of AWS's files whose secrets are remembered.
const MOST_IN_FILES: usize = 100;

/// Most bytes of a call's body.
pub(super) const MAX_BODY: usize = 4 * message::MAX_PAYLOAD;
