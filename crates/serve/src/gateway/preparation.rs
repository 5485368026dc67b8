//! Prepares a session that is encrypted or logged at AWS: gets its key and checks its log targets.
//!
//! Made by `registry` when the session is requested, so that AWS is asked while the client is still
//! connecting.

use super::registry::SessionRequest;
use crate::deliveries::{CheckedDestinations, Deliveries, DeliveryWriter, SealedKey, not_logged};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use runner_core::arn::REGION;
use runner_core::destination::events::EventContext;
use runner_core::destination::{Destinations, Form};
use runner_folder::state::{JobOf, Spool, SpoolJob, SpoolSource, random};
use runner_host::clock;
use runner_wire::ssm::Cipher;
use runner_wire::ssm::handshake::{DataKey, KmsKey, SessionType};
use serde_json::json;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

/// Random bytes by which a client proves that it has the key.
const PROOF: usize = 64;

/// The result of a preparation.
pub(super) enum PreparationResult {
    /// The session's keys.
    Key(Result<Box<Cipher>, String>),
    /// The session may begin, or was refused.
    Begun(Box<BegunSession>),
    /// Findings about a session that has already begun.
    Late(Vec<String>),
}

/// A pending preparation.
pub(super) type PreparationFuture = Pin<Box<dyn Future<Output = PreparationResult> + Send>>;

/// How a session begins.
#[derive(Default)]
pub(super) struct BegunSession {
    /// Why it does not begin.
    pub(super) refusal: Option<String>,
    /// Sentences shown to the user first.
    pub(super) notices: Vec<String>,
    /// The log targets at AWS.
    pub(super) to: Destinations,
    pub(super) writing: Option<DeliveryWriter>,
    /// A check that is still pending.
    pub(super) rest: Option<PreparationFuture>,
}

/// What a session needs before it begins.
pub(super) struct SessionPreparation {
    deliveries: Arc<Deliveries>,
    key: Option<KmsKey>,
    proof: [u8; PROOF],
    nonce: [u8; 12],
    needs_challenge: bool,
    /// The Region where its client makes data keys.
    region: String,
    /// The client's access key, as far as it is known.
    key_id: String,
    session: String,
    target: String,
    /// The log to keep at AWS.
    log: Option<SessionLogPlan>,
}

/// The log of a session at AWS.
struct SessionLogPlan {
    job: SpoolJob,
    /// The check of its targets.
    check: watch::Receiver<Option<CheckedDestinations>>,
    /// Whether the session must not begin without it.
    must: bool,
}

impl SessionPreparation {
    /// Prepares a requested session. Starts to ask AWS now.
    pub(super) fn new(
        id: &str,
        asked: &SessionRequest,
        deliveries: &Arc<Deliveries>,
    ) -> io::Result<Self> {
        let plan = &asked.plan;
        let is_port = plan.kind == SessionType::Port;
        let key = match &plan.key {
            Some(key) if !is_port => {
                Some(KmsKey { id: key.clone(), challenge: BASE64.encode(random::<16>()?) })
            }
            _ => None,
        };
        let is_logged = !is_port && !plan.logs.is_empty() && plan.fails.is_none();
        let log = is_logged.then(|| {
            let (job, must) = (job(id, asked), plan.must_be_logged);
            let check = deliveries.check(job.to.clone(), must);
            SessionLogPlan { job, check, must }
        });
        Ok(SessionPreparation {
            deliveries: Arc::clone(deliveries),
            key,
            proof: random()?,
            nonce: random()?,
            needs_challenge: asked.agent.flag("Kms.RequireKMSChallengeResponse"),
            region: asked.region.clone(),
            key_id: asked.key_id.clone(),
            session: id.to_owned(),
            target: asked.target.clone(),
            log,
        })
    }

    /// The key for encryption.
    pub(super) fn key(&self) -> Option<KmsKey> {
        self.key.clone()
    }

    /// The bytes that its client must return encrypted.
    pub(super) fn proof(&self) -> &[u8] {
        &self.proof
    }

    /// Whether the session must wait for a preparation.
    pub(super) fn takes_time(&self) -> bool {
        self.key.is_some() || self.log.is_some()
    }

    /// Decrypts the client's data key with AWS KMS.
    pub(super) fn read_key(&self, made: DataKey) -> Result<PreparationFuture, String> {
        let Some(key) = &self.key else { return Err("this session has no key".to_owned()) };
        if self.needs_challenge && !made.has_challenge {
            return Err(
                "client does not support required encryption context random challenge".to_owned()
            );
        }
        let mut context =
            json!({"aws:ssm:SessionId": self.session, "aws:ssm:TargetId": self.target});
        if made.has_challenge {
            context["aws:ssm:RandomChallenge"] = json!(key.challenge);
        }
        let (key_id, region) = (key.id.clone(), self.region.clone());
        let sealed = SealedKey { key_id, bytes: made.sealed, context, region };
        let (deliveries, nonce) = (Arc::clone(&self.deliveries), self.nonce);
        Ok(Box::pin(async move {
            let key = deliveries.decrypt(sealed).await;
            PreparationResult::Key(key.and_then(|key| {
                let cipher = Cipher::new(&key, nonce).map(Box::new);
                cipher.ok_or_else(|| format!("the data key has {} bytes, not 64", key.len()))
            }))
        }))
    }

    /// The reason of a failure, with an explanation if AWS does not know the client's access key.
    pub(super) fn explained(&self, reason: &str) -> String {
        const STRANGER: [&str; 3] =
            ["UnrecognizedClient", "InvalidClientTokenId", "security token included"];
        match self.key.is_some() && STRANGER.iter().any(|code| reason.contains(code)) {
            true => {
                format!("{reason} (access key {} is known on this machine only)", self.key_id)
            }
            false => reason.to_owned(),
        }
    }

    /// Begins the log, once it is known whether the session may begin.
    pub(super) fn begin(&mut self) -> PreparationFuture {
        let deliveries = Arc::clone(&self.deliveries);
        let log = self.log.take();
        Box::pin(async move {
            let begun = match log {
                Some(log) => begin(&deliveries, log).await,
                None => BegunSession::default(),
            };
            PreparationResult::Begun(Box::new(begun))
        })
    }
}

async fn begin(deliveries: &Arc<Deliveries>, log: SessionLogPlan) -> BegunSession {
    let SessionLogPlan { mut job, mut check, must } = log;
    let mut begun = BegunSession::default();
    if must || job.to.must_be_encrypted() {
        // The sender sends a result before it is dropped.
        let _ = check.wait_for(Option::is_some).await;
    }
    let known = check.borrow().clone();
    match known {
        Some(checked) => {
            begun.refusal = checked.refusal;
            begun.notices = checked.notices;
            if must && !begun.notices.is_empty() {
                begun.refusal.get_or_insert_with(|| not_logged(&begun.notices.join(" ")));
            }
            job.to = checked.to;
        }
        // The session does not wait for AWS.
        None => {
            begun.rest = Some(Box::pin(async move {
                let _ = check.wait_for(Option::is_some).await;
                let checked = check.borrow().clone().unwrap_or_default();
                PreparationResult::Late(checked.notices)
            }));
        }
    }
    if begun.refusal.is_some() || job.to.is_empty() {
        return begun;
    }
    begun.to = job.to.clone();
    match deliveries.begin(job).await {
        Ok(writing) => begun.writing = Some(writing),
        Err(error) => {
            let why = format!("This session is not logged: cannot keep what it shows: {error}.");
            begun.refusal = must.then(|| not_logged(&why));
            begun.notices.push(why);
            begun.to = Destinations::default();
        }
    }
    begun
}

/// The delivery job of a session's log.
fn job(id: &str, asked: &SessionRequest) -> SpoolJob {
    let mut to = asked.plan.logs.clone();
    if let Some(group) = &mut to.group
        && group.form == Form::Json
        && asked.plan.kind == SessionType::NonInteractiveCommands
    {
        // As AWS's agent does.
        group.form = Form::AtEnd;
    }
    let name = format!("{id}.log");
    let key = to.bucket.as_ref().map_or_else(String::new, |bucket| bucket.key(&name));
    SpoolJob {
        id: id.to_owned(),
        of: JobOf::Session,
        to,
        context: EventContext {
            session: id.to_owned(),
            target: asked.target.clone(),
            owner: asked.owner.clone(),
            user: asked.plan.user.as_ref().map_or("root", |user| &user.name).to_owned(),
            region: asked.agent.region().unwrap_or_else(|| REGION.to_owned()),
        },
        user_id: asked.user_id.clone(),
        key_id: asked.key_id.clone(),
        identity: String::new(),
        sources: vec![SpoolSource::new(Spool::text_of(id), key, id.to_owned())],
        writer: Spool::text_of(id),
        made: clock::wall(),
        problem: String::new(),
    }
}
