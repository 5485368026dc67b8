//! `runner serve`: the endpoint at a fixed address for all builds of this machine.
//!
//! Builds belong to their own runners (docs/architecture.md), and this process is their client.
//! When it ends, they continue.

use super::launch::BuildLauncher;
use crate::terminal::page_link;
use runner_build::sweep::sweep;
use runner_cloud::CloudIdentity;
use runner_core::agent::AgentConfig;
use runner_core::time::in_words;
use runner_engine::image::Swap;
use runner_folder::state::{
    Home, LinkFor, ServeLock, Serving, StateError, live_serve, prune_old_batches,
};
use runner_host::runtime::{self, NoRuntime};
use runner_host::signals::{STOPS, SignalReader, SignalStream};
use runner_host::stdio::say;
use runner_host::users::with_tilde;
use runner_serve::aws::{
    Endpoint, EndpointAccess, EndpointParts, EndpointServer, KeyPair, PROFILE, Users, UsersError,
    bind,
};
use runner_serve::page::WebPage;
use runner_service::db::DatabaseOpenError;
use runner_service::{Service, ServiceSettings};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often leftovers of killed runners are cleaned up.
const SWEEP: Duration = Duration::from_secs(15);
/// How often folders of old batches are removed.
const PRUNE: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings of `runner serve`.
#[derive(Clone, Debug)]
pub(in crate::cli) struct ServeRequest {
    pub(in crate::cli) listen: SocketAddr,
    /// Whether this user's programs need no signature.
    pub(in crate::cli) is_open: bool,
    /// The file of users; `None`: that of the state folder, if it exists.
    pub(in crate::cli) users: Option<PathBuf>,
    /// Configuration of AWS's agent.
    pub(in crate::cli) agent: AgentConfig,
    /// Settings of projects and queue.
    pub(in crate::cli) settings: ServiceSettings,
    pub(in crate::cli) image_map: Vec<Swap>,
    /// Certificates that builds trust, too, as PEM.
    pub(in crate::cli) certificates: Option<String>,
    pub(in crate::cli) upload: bool,
    /// Whether sessions require that their output can be sent to AWS.
    pub(in crate::cli) requires_log: bool,
    /// Whether to rebuild the index of builds.
    pub(in crate::cli) rebuilds: bool,
}

/// Why the endpoint could not start.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ServeError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("this state folder is served already{}", at(address))]
    Another { address: Option<String> },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Runtime(#[from] NoRuntime),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Database(#[from] DatabaseOpenError),
}

fn at(address: &Option<String>) -> String {
    address.as_ref().map_or_else(String::new, |address| format!(", at http://{address}"))
}

/// Serves until it is stopped.
pub(in crate::cli) fn serve(request: &ServeRequest, home: &Home) -> Result<(), ServeError> {
    let Some(lock) = ServeLock::take(home)? else {
        let address = live_serve(home).map(|serving| serving.address);
        return Err(ServeError::Another { address });
    };
    // Before any thread starts, and before the address is announced: its reader may want to stop
    // this process.
    let signals = SignalReader::listen(&STOPS).map_err(ServeError::Signals)?;
    // Its threads inherit the signal mask, so stop signals reach only this thread.
    let service = open_service(request, home)?;
    let runtime = runtime::start()?;
    let served = runtime.block_on(async {
        let signals = signals.stream().map_err(ServeError::Signals)?;
        run(request, home, &lock, signals, &service).await
    });
    if let Err(error) = service.close() {
        say(&format!("warning: no copy of the database: {error}"));
    }
    // Tasks that hang are not waited for.
    runtime.shutdown_background();
    served
}

/// Opens projects and queue, and prints their messages.
fn open_service(request: &ServeRequest, home: &Home) -> Result<Arc<Service>, ServeError> {
    let launcher = Arc::new(BuildLauncher {
        home: home.clone(),
        source_root: request.settings.source_root.clone(),
        image_map: request.image_map.clone(),
        certificates: request.certificates.clone(),
        upload: request.upload,
        no_privileges: request.settings.no_privileges,
    });
    let settings = request.settings.clone();
    let (service, told) = Service::open(home, settings, launcher, request.rebuilds)?;
    for text in told {
        say(&format!("warning: {text}"));
    }
    Ok(service)
}

async fn run(
    request: &ServeRequest,
    home: &Home,
    lock: &ServeLock,
    mut signals: SignalStream,
    service: &Arc<Service>,
) -> Result<(), ServeError> {
    let users = Users::open(home, request.users.as_deref())?;
    let keys = KeyPair::open(home)?;
    let failed = |source| ServeError::Listen { address: request.listen, source };
    let listener = bind(request.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let access = if request.is_open { EndpointAccess::Local } else { EndpointAccess::Signed };
    let agent = request.agent.clone();
    let parts = EndpointParts {
        keys: keys.clone(),
        access,
        users,
        agent,
        service: Some(Arc::clone(service)),
        identity: CloudIdentity::Default,
        requires_log: request.requires_log,
    };
    let endpoint = Endpoint::new(home, parts);
    let page = Box::new(WebPage::of(&endpoint));
    let server = EndpointServer::start(listener, endpoint, vec![page]).waiting();
    lock.announce(&Serving { address: reachable(address).to_string(), pid: std::process::id() })?;
    say(&format!("listening on http://{address}"));
    say(&format!("credentials: {} (profile {PROFILE})", with_tilde(keys.path())));
    say_page(home, address);
    if request.is_open {
        say("warning: --no-auth: every program that runs as you, outside of builds, may use it");
    }
    if !address.ip().is_loopback() {
        say("warning: others can reach this address, and connections to it are not encrypted");
    }
    // Builds start only now, when there is an endpoint; without one, nothing has started.
    service.take_up_all().map_err(DatabaseOpenError::from)?;
    service.begin().await;
    tokio::select! {
        _ = signals.next() => {}
        () = tidy(home) => {}
        () = service.expire() => {}
    }
    service.drain();
    say("stopping; builds continue");
    if let (running @ 1.., patience) = server.commands() {
        let patience = in_words(patience);
        say(&format!(
            "commands that run: {running}; they have {patience}, or until you stop it again"
        ));
    }
    tokio::select! {
        () = server.close("the endpoint is stopping; the build continues") => {}
        _ = signals.next() => {}
    }
    Ok(())
}

/// Prints how to open the page in a browser.
fn say_page(home: &Home, address: SocketAddr) {
    match page_link(home, &reachable(address).to_string(), LinkFor::Owner, None) {
        Ok(Some(link)) => say(&format!("page: {link}")),
        // The link must not appear in a log, or nobody can reach the page there.
        Ok(None) => {}
        Err(error) => say(&format!("warning: there is no link to the page: {error}")),
    }
}

/// The address at which programs on this machine reach it.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

async fn tidy(home: &Home) {
    let mut pruned: Option<Instant> = None;
    loop {
        tokio::time::sleep(SWEEP).await;
        let home = home.clone();
        if pruned.is_none_or(|last| last.elapsed() > PRUNE) {
            pruned = Some(Instant::now());
            let home = home.clone();
            // Failures are tried again the next time.
            let _ = tokio::task::spawn_blocking(move || {
                prune_old_batches(&home, SystemTime::now());
            })
            .await;
        }
        let swept = tokio::task::spawn_blocking(move || sweep(&home));
        for uuid in swept.await.ok().and_then(Result::ok).unwrap_or_default().ended {
            say(&format!(
                "build {uuid} was left by a runner that was killed; it is ended now (FAULT)"
            ));
        }
    }
}
