//! `runner serve`: the endpoint at a fixed address, for every build of this machine.
//!
//! Builds are their own runners' (docs/architecture.md); this one is a client of theirs. When it ends
//! they go on.

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

/// How often what killed runners have left is put right meanwhile.
const SWEEP: Duration = Duration::from_secs(15);
/// And how often folders of old batches are removed.
const PRUNE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is asked for.
#[derive(Clone, Debug)]
pub(in crate::cli) struct ServeRequest {
    pub(in crate::cli) listen: SocketAddr,
    /// Whether this user's programs need no signature.
    pub(in crate::cli) is_open: bool,
    /// The file of users; that of the state folder, if there is one, where none is named.
    pub(in crate::cli) users: Option<PathBuf>,
    /// How AWS's agent is configured.
    pub(in crate::cli) agent: AgentConfig,
    /// Of its projects and its queue.
    pub(in crate::cli) settings: ServiceSettings,
    pub(in crate::cli) image_map: Vec<Swap>,
    pub(in crate::cli) upload: bool,
    /// Whether sessions begin only where AWS gets what they show.
    pub(in crate::cli) requires_log: bool,
    /// Whether the index of builds is made anew.
    pub(in crate::cli) rebuilds: bool,
}

/// Why there is no endpoint.
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

/// Serves until somebody stops it.
pub(in crate::cli) fn serve(request: &ServeRequest, home: &Home) -> Result<(), ServeError> {
    let Some(lock) = ServeLock::take(home)? else {
        let address = live_serve(home).map(|serving| serving.address);
        return Err(ServeError::Another { address });
    };
    // Before any thread starts, and before it is announced: whoever reads the address may want to stop it.
    let signals = SignalReader::listen(&STOPS).map_err(ServeError::Signals)?;
    // Its threads inherit that stops are left to this one.
    let service = open_service(request, home)?;
    let runtime = runtime::start()?;
    let served = runtime.block_on(async {
        let signals = signals.stream().map_err(ServeError::Signals)?;
        run(request, home, &lock, signals, &service).await
    });
    if let Err(error) = service.close() {
        say(&format!("warning: no copy of the database: {error}"));
    }
    // What hangs there is not waited for.
    runtime.shutdown_background();
    served
}

/// Projects and queue, and what there is to say of them.
fn open_service(request: &ServeRequest, home: &Home) -> Result<Arc<Service>, ServeError> {
    let launcher = Arc::new(BuildLauncher {
        home: home.clone(),
        source_root: request.settings.source_root.clone(),
        image_map: request.image_map.clone(),
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
        say(
            "warning: others can reach this address, and what they and you say to it is not encrypted",
        );
    }
    // What starts now has an endpoint; where there is none, nothing has started.
    service.take_up_all().map_err(DatabaseOpenError::from)?;
    service.begin().await;
    tokio::select! {
        _ = signals.next() => {}
        () = tidy(home) => {}
        () = service.expire() => {}
    }
    service.drain();
    say("stopping; builds go on");
    if let (running @ 1.., patience) = server.commands() {
        let patience = in_words(patience);
        say(&format!(
            "commands that run: {running}; they have {patience}, or until you stop it again"
        ));
    }
    tokio::select! {
        () = server.close("the endpoint is being stopped; the build goes on") => {}
        _ = signals.next() => {}
    }
    Ok(())
}

/// Says how a browser gets at the page.
fn say_page(home: &Home, address: SocketAddr) {
    match page_link(home, &reachable(address).to_string(), LinkFor::Owner, None) {
        Ok(Some(link)) => say(&format!("page: {link}")),
        // Nobody is to find it in a log, or nobody can reach it there.
        Ok(None) => {}
        Err(error) => say(&format!("warning: there is no link to the page: {error}")),
    }
}

/// The address as programs on this machine reach it.
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
            // What goes wrong is tried again the next time.
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
