//! The endpoint: what services answer with, and who may call.

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
    /// Whoever signs with this machine's key pair, or with a user's key.
    Signed,
    /// Programs of this user on this machine as well, signed with whatever keys or not at all. A build's are none.
    Local,
}

/// What an endpoint is made of.
pub struct EndpointParts {
    pub keys: KeyPair,
    pub access: EndpointAccess,
    pub users: Users,
    pub agent: AgentConfig,
    /// Projects and the queue, where there are any.
    pub service: Option<Arc<Service>>,
    /// As whom AWS is called.
    pub identity: CloudIdentity,
    /// Whether sessions begin only where AWS gets what they show.
    pub requires_log: bool,
}

/// What answers.
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
    /// Projects and the queue, where there are any.
    pub(super) service: Option<Arc<Service>>,
    /// Whether sessions begin only where AWS gets what they show.
    pub(super) requires_log: bool,
    /// Tells that a user has called.
    user_called: Notify,
    /// The keys' secrets, of the users as they were last.
    secrets: Mutex<Option<(Arc<Directory>, Secrets)>>,
    /// Secrets of keys in AWS's files that calls were signed with, by the keys' ids.
    in_files: Mutex<BTreeMap<String, String>>,
}

/// Where a call comes from.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) caller: PolicyCaller,
    /// The endpoint as the caller knows it.
    pub(super) host: String,
    /// The Region that the call was signed for.
    pub(super) region: String,
    /// What the call tells, by condition keys. Empty for the owner.
    pub(super) facts: iam::RequestContext,
    /// What the audit is to have of it.
    judged: Mutex<Judged>,
}

/// What a call was judged on, and the statement that has decided.
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

    /// Keeps what the call is about.
    pub(super) fn is_about(&self, resources: &[ResourceNames]) {
        let names = resources.iter().filter_map(|resource| resource.names.first().cloned());
        self.lock().resources = names.collect();
    }

    /// Keeps what has decided.
    pub(super) fn decided(&self, by: Option<String>) {
        self.lock().by = by;
    }

    pub(super) fn judged(&self) -> Judged {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Judged> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a client connects to a session.
    pub(super) fn stream_url(&self, session: &str) -> String {
        format!("ws://{}{}{session}?role=publish_subscribe", self.host, crate::gateway::PATH)
    }
}

impl Endpoint {
    /// For the builds of a state folder.
    pub fn new(home: &Home, parts: EndpointParts) -> Arc<Self> {
        Self::with_policy(home, parts, Box::new(UserPolicies))
    }

    /// For callers that something else judges.
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
        // Fails for more bytes than a file of users may have.
        let secrets =
            Secrets::new(all.map(|secret| secret.as_bytes().to_vec())).unwrap_or_default();
        *known = Some((directory, secrets.clone()));
        secrets
    }

    /// Keeps a secret out of the audit that stands in no file of users.
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

    /// Ends every session for this reason, and every command; for those that run it waits a while, where that is wanted.
    pub async fn close(&self, reason: &str, waits: bool) {
        let given = self.agent.is_given("Mgs.StopTimeoutMillis");
        let longest = given.then(|| self.agent.sessions_stop());
        tokio::join!(self.gateway.close(reason, longest), self.commands.close(waits));
        self.deliveries.close().await;
        self.gateway.audit.written().await;
    }

    /// Who everything here belongs to.
    pub(super) fn owner(&self) -> &PolicyCaller {
        &self.owner
    }

    /// Who makes a call.
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
        // Whatever it is signed with: clients sign with the keys they find.
        let home = self.home.clone();
        match visit.is_ours(move || reapers(&home)).await {
            Ok(()) => Ok(self.owner.clone()),
            Err(why) => Err(AuthError::Incomplete(format!("this call needs a signature: {why}"))),
        }
    }

    /// Who has signed a call: the owner, or one of the users.
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

    /// What a call tells about a user, by condition keys. The owner's calls are not judged by any.
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
        // Whatever it is signed for: all builds are there.
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

    /// Has the sessions of a user looked after, one that the call has opened among them.
    pub(super) fn look_after(&self, caller: &PolicyCaller) {
        if caller.bound.is_some() {
            self.user_called.notify_one();
        }
    }

    /// Ends sessions of users who are no longer there, or whose key is no longer good, as soon as that is seen. Rests
    /// while no user has called.
    pub(super) async fn expel_users(&self) {
        loop {
            self.user_called.notified().await;
            while self.expel_some().await {
                tokio::time::sleep(EXPELLED).await;
            }
        }
    }

    /// Whether sessions of users are open.
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
            // Another user may have got the name meanwhile, and the key with it.
            if owner.is_none_or(|user| user_id(user) != facts.user_id) {
                let _ = self.gateway.terminate(&facts.id, "the user's key is no longer good").await;
            }
        }
        !open.is_empty()
    }
}

/// A user who has signed a call.
fn signed_by(user: &iam::IamUser, key: &str, directory: &Arc<Directory>) -> PolicyCaller {
    PolicyCaller {
        name: user.name.clone(),
        arn: user_arn(&user.name),
        user_id: user_id(user),
        key_id: key.to_owned(),
        bound: Some(Bound { user: user.name.clone(), directory: Arc::clone(directory) }),
    }
}

/// The first process of each live build, as this machine counts them. A daemon's containers have a pid
/// namespace of their own, which tells them apart anyway.
fn reapers(home: &Home) -> Vec<u32> {
    let live = live_builds(home).unwrap_or_default();
    live.iter().filter_map(|known| EngineFolder::of(known.dir.path()).first_process()).collect()
}

/// How often users are looked for who are no longer there, while they have sessions.
const EXPELLED: Duration = Duration::from_secs(30);

/// Keys in AWS's files whose secrets are remembered.
const MOST_IN_FILES: usize = 100;

/// Longest body of a call.
pub(super) const MAX_BODY: usize = 4 * message::MAX_PAYLOAD;
