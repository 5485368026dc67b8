//! What comes before a session that is encrypted, or that AWS keeps a transcript of: its key, and whether its places are
//! as they are to be.
//!
//! Made by `registry` when the session is asked for, so that AWS is asked while its client is still on its way.

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

/// Random bytes that a client shows to have the key by.
const PROOF: usize = 64;

/// What is there once something was waited for.
pub(super) enum PreparationResult {
    /// The session's keys.
    Key(Result<Box<Cipher>, String>),
    /// It may begin.
    Begun(Box<BegunSession>),
    /// It has begun, and this was found out meanwhile.
    Late(Vec<String>),
}

/// Something that is waited for.
pub(super) type PreparationFuture = Pin<Box<dyn Future<Output = PreparationResult> + Send>>;

/// How a session begins.
#[derive(Default)]
pub(super) struct BegunSession {
    /// It does not.
    pub(super) refusal: Option<String>,
    /// Said to the person first of all.
    pub(super) notices: Vec<String>,
    /// Where AWS keeps what it shows.
    pub(super) to: Destinations,
    pub(super) writing: Option<DeliveryWriter>,
    /// What is not known yet.
    pub(super) rest: Option<PreparationFuture>,
}

/// What is needed before a session begins.
pub(super) struct SessionPreparation {
    deliveries: Arc<Deliveries>,
    key: Option<KmsKey>,
    proof: [u8; PROOF],
    nonce: [u8; 12],
    needs_challenge: bool,
    /// The Region that its client makes data keys in.
    region: String,
    /// The access key that its client has, as far as it is known.
    key_id: String,
    session: String,
    target: String,
    /// What AWS gets of it.
    log: Option<SessionLogPlan>,
}

/// What AWS gets of a session.
struct SessionLogPlan {
    job: SpoolJob,
    /// What is known of its places.
    check: watch::Receiver<Option<CheckedDestinations>>,
    /// Whether there is no session without it.
    must: bool,
}

impl SessionPreparation {
    /// For a session that is asked for. AWS is asked from now on.
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

    /// What the session is encrypted with.
    pub(super) fn key(&self) -> Option<KmsKey> {
        self.key.clone()
    }

    /// What its client is to show.
    pub(super) fn proof(&self) -> &[u8] {
        &self.proof
    }

    /// Whether the session begins only when it is told to.
    pub(super) fn takes_time(&self) -> bool {
        self.key.is_some() || self.log.is_some()
    }

    /// Has AWS KMS read the data key that the client has had made.
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

    /// Why there is no session, with what explains that AWS does not know whom its client calls as.
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

    /// Begins to keep what the session shows, once it is known that it may begin.
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
        // Its sender says something before it is gone.
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
        // Nobody waits for AWS.
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

/// What is to be sent of a session.
fn job(id: &str, asked: &SessionRequest) -> SpoolJob {
    let mut to = asked.plan.logs.clone();
    if let Some(group) = &mut to.group
        && group.form == Form::Json
        && asked.plan.kind == SessionType::NonInteractiveCommands
    {
        // As AWS's agent has it.
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
