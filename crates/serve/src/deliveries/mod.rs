//! Delivers output of sessions and commands to AWS.
//!
//! Fed by `gateway` and `commands` with jobs, which stay in the state folder
//! (`folder::state::spool`) until all output has arrived: a killed process loses nothing, and the
//! next endpoint continues. Nobody waits for a delivery. Only a session that demands a log, or an
//! encrypted target, waits for the check of its targets.

mod check;
mod cloud;
mod send;

pub use check::CheckedDestinations;
pub(crate) use check::not_logged;
pub use cloud::{SealedKey, leads_back};

use cloud::Cloud;
use runner_cloud::CloudIdentity;
use runner_core::destination::{Destinations, Form};
use runner_folder::state::{Home, OwnedJob, Spool, SpoolJob};
use runner_host::clock;
use send::Sending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How long to wait for more output before sending.
const GATHER: Duration = Duration::from_secs(1);
/// Pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long a delivery is retried at all.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long running deliveries may take when the endpoint ends. The rest is left to the next one.
const GRACE: Duration = Duration::from_secs(3);
/// Pause between searches for jobs left by other processes.
const LOOK: Duration = Duration::from_secs(300);
/// Most jobs of other processes sent at once.
const AT_ONCE: usize = 4;
/// Pause between checks whether an ended session's writer is done, and how long to check.
const LET_GO: Duration = Duration::from_millis(50);
const LET_GO_LONGEST: Duration = Duration::from_secs(10);

/// The identity and endpoints for calls to AWS.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    pub identity: CloudIdentity,
    /// `S3.Endpoint` and `Kms.Endpoint` of the agent's configuration; empty for AWS's own.
    pub s3_endpoint: String,
    pub kms_endpoint: String,
}

/// The outcome of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// All output has arrived.
    Arrived,
    /// It will be retried; the reason.
    Delayed(String),
    /// It is given up; the reason.
    GivenUp(String),
}

/// Called with the outcome of jobs, on a blocking thread.
pub type Hears = Arc<dyn Fn(&SpoolJob, &DeliveryOutcome) + Send + Sync>;

/// The state of a job's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryProgress {
    /// Grows with every write.
    written: u64,
    end: DeliveryEnd,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DeliveryEnd {
    #[default]
    No,
    /// Ended once its writer lets go of the files.
    Soon,
    Now,
}

/// Reports the state of a job's output. Dropping it reports the end.
#[derive(Debug)]
pub struct DeliveryWriter(watch::Sender<DeliveryProgress>);

impl DeliveryWriter {
    /// Reports new output.
    pub fn wrote(&self) {
        self.0.send_modify(|progress| progress.written += 1);
    }

    /// Reports the end of the output.
    pub fn ended(&self) {
        self.0.send_modify(|progress| progress.end = DeliveryEnd::Now);
    }
}

/// The deliveries of this endpoint.
pub struct Deliveries {
    spool: Spool,
    home: Home,
    settings: DeliverySettings,
    /// The most recent clients.
    cloud: Mutex<Option<Arc<Cloud>>>,
    /// The addresses where this endpoint listens.
    own: Mutex<Vec<SocketAddr>>,
    hears: Hears,
    active: watch::Sender<usize>,
    is_closing: watch::Sender<bool>,
    places: Semaphore,
}

impl Deliveries {
    pub fn new(home: &Home, settings: DeliverySettings, hears: Hears) -> Arc<Self> {
        Arc::new(Deliveries {
            spool: Spool::of(home),
            home: home.clone(),
            settings,
            cloud: Mutex::default(),
            own: Mutex::default(),
            hears,
            active: watch::Sender::new(0),
            is_closing: watch::Sender::new(false),
            places: Semaphore::new(AT_ONCE),
        })
    }

    /// Notes an address of this endpoint, so that it is never taken for AWS.
    pub fn listens_at(&self, address: SocketAddr) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).push(address);
    }

    /// The identity for calls to AWS.
    pub fn identity(&self) -> &CloudIdentity {
        &self.settings.identity
    }

    /// The identity's form in [`SpoolJob::identity`].
    fn identity_name(&self) -> String {
        match &self.settings.identity {
            CloudIdentity::Default => String::new(),
            CloudIdentity::Profile(name) => format!("profile {name}"),
            CloudIdentity::Environment => "environment".to_owned(),
        }
    }

    /// Checks whether logs may go to these targets; `thoroughly` also checks that each target
    /// exists.
    pub fn check(
        self: &Arc<Self>,
        to: Destinations,
        thoroughly: bool,
    ) -> watch::Receiver<Option<CheckedDestinations>> {
        let (checked, seen) = watch::channel(None);
        let deliveries = Arc::clone(self);
        tokio::spawn(async move {
            let found = deliveries.checked(to, thoroughly).await;
            checked.send_replace(Some(found));
        });
        seen
    }

    /// Starts sending what is written from now on.
    pub async fn begin(self: &Arc<Self>, job: SpoolJob) -> io::Result<DeliveryWriter> {
        let spool = self.spool.clone();
        let job = SpoolJob { identity: self.identity_name(), ..job };
        let begun = tokio::task::spawn_blocking(move || spool.begin(job));
        let owned = begun.await.map_err(io::Error::other)??;
        let progress = watch::Sender::new(DeliveryProgress::default());
        self.spawn(owned, progress.subscribe(), false);
        Ok(DeliveryWriter(progress))
    }

    /// Takes over jobs left by other processes, again and again.
    pub async fn sweep(self: Arc<Self>) {
        loop {
            let spool = self.spool.clone();
            let left = tokio::task::spawn_blocking(move || spool.left(clock::wall())).await;
            match left.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(left) => {
                    for owned in left {
                        self.take_up(owned).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot look for logs that were left"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes over a job if its process had this identity at AWS: with another, the output would
    /// land in another account.
    async fn take_up(self: &Arc<Self>, owned: OwnedJob) {
        if owned.job.identity == self.identity_name() {
            let ends = DeliveryProgress { written: 0, end: DeliveryEnd::Soon };
            self.spawn(owned, watch::Sender::new(ends).subscribe(), true);
        } else if is_too_old(&owned.job) {
            let why = format!("nobody has called AWS as `{}` since then", owned.job.identity);
            self.ended(Sending::new(owned), &DeliveryOutcome::GivenUp(why)).await;
        }
    }

    /// Gives running deliveries a moment to finish.
    pub async fn close(&self) {
        self.is_closing.send_replace(true);
        let mut active = self.active.subscribe();
        let _ = tokio::time::timeout(GRACE, active.wait_for(|count| *count == 0)).await;
    }

    fn spawn(
        self: &Arc<Self>,
        owned: OwnedJob,
        progress: watch::Receiver<DeliveryProgress>,
        is_left: bool,
    ) {
        self.active.send_modify(|count| *count += 1);
        let deliveries = Arc::clone(self);
        tokio::spawn(async move {
            let counted = Counted(&deliveries.active);
            deliveries.deliver(owned, progress, is_left).await;
            drop(counted);
        });
    }

    async fn deliver(
        &self,
        owned: OwnedJob,
        mut progress: watch::Receiver<DeliveryProgress>,
        is_left: bool,
    ) {
        let form = owned.job.to.group.as_ref().map(|group| group.form);
        let grows = matches!(form, Some(Form::Json | Form::Text));
        let mut sending = Sending::new(owned);
        let mut closing = self.is_closing.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            // Read before the files, so that the end is not assumed too early.
            let seen = *progress.borrow_and_update();
            let is_over = seen.end != DeliveryEnd::No || progress.has_changed().is_err();
            if !is_over && !grows {
                let _ = progress.changed().await;
                continue;
            }
            let sent = {
                // Jobs of this process need no place.
                let _place = if is_left { self.places.acquire().await.ok() } else { None };
                match is_over && seen.end != DeliveryEnd::Now {
                    true => sending.send_last(self).await,
                    false => sending.send(self, is_over).await,
                }
            };
            match sent {
                Ok(()) if is_over => return self.ended(sending, &DeliveryOutcome::Arrived).await,
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    let _ = progress.changed().await;
                    // More output may follow. The end cuts this wait short.
                    let over = progress.wait_for(|progress| progress.end != DeliveryEnd::No);
                    let _ = tokio::time::timeout(GATHER, over).await;
                }
                Err(problem) => {
                    self.doubt();
                    if is_too_old(sending.job()) {
                        let outcome = DeliveryOutcome::GivenUp(problem);
                        return self.ended(sending, &outcome).await;
                    }
                    if sending.is_new(&problem).await {
                        self.tell(sending.job(), &DeliveryOutcome::Delayed(problem)).await;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        // The next endpoint continues.
                        _ = closing.wait_for(|closing| *closing) => return,
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn tell(&self, job: &SpoolJob, outcome: &DeliveryOutcome) {
        let (hears, job, outcome) = (Arc::clone(&self.hears), job.clone(), outcome.clone());
        // If this fails, the outcome is in this program's log only.
        let _ = tokio::task::spawn_blocking(move || hears(&job, &outcome)).await;
    }

    async fn ended(&self, sending: Sending, outcome: &DeliveryOutcome) {
        self.tell(sending.job(), outcome).await;
        if let Err(error) = sending.remove().await {
            tracing::warn!(%error, "cannot remove a log that was sent");
        }
    }
}

fn is_too_old(job: &SpoolJob) -> bool {
    let age = clock::wall().0.saturating_sub(job.made.0);
    age > i64::try_from(LONGEST.as_micros()).unwrap_or(i64::MAX)
}

/// Counts a delivery as active until this is dropped.
struct Counted<'a>(&'a watch::Sender<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
