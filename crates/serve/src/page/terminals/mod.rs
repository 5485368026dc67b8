//! Terminals in the page: shells in builds that go on without a connection and that several
//! visitors may watch.
//!
//! A terminal is a client of the build's control socket, like `runner attach` (`task`). Browsers
//! connect by websockets (`socket`) and leave again; the latest output is kept and shown to each
//! newcomer. `seats` says who drives.

mod seats;
mod socket;
mod task;

pub(super) use seats::Seat;
pub(super) use socket::{accept, is_websocket};

use runner_client::{ClientError, SharedClient};
use runner_folder::state::BuildDir;
use runner_wire::control::{ControlRequest, ControlResponse, OpenProgram, TerminalSize};
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use task::{TerminalOrder, TerminalTask};
use tokio::sync::{Semaphore, mpsc};

/// Most terminals of an endpoint.
const MOST: usize = 32;
/// Most orders queued for a terminal's task.
const ORDERS: usize = 64;

/// The terminals of an endpoint.
#[derive(Clone, Debug)]
pub(super) struct Terminals {
    known: Arc<Mutex<Vec<KnownTerminal>>>,
    places: Arc<Semaphore>,
}

impl Default for Terminals {
    fn default() -> Self {
        Terminals { known: Arc::default(), places: Arc::new(Semaphore::new(MOST)) }
    }
}

#[derive(Clone, Debug)]
struct KnownTerminal {
    id: String,
    /// The build's uuid.
    uuid: String,
    orders: mpsc::Sender<TerminalOrder>,
    viewers: Arc<AtomicU64>,
}

/// An entry in the list of terminals.
#[derive(Debug, Serialize)]
pub(super) struct ListedTerminal {
    id: String,
    viewers: u64,
}

/// A channel to a terminal.
#[derive(Clone, Debug)]
pub(super) struct TerminalAccess(mpsc::Sender<TerminalOrder>);

/// Why a terminal was not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoTerminal {
    #[error("{MOST} terminals are open already; end one of them")]
    TooMany,
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Terminals {
    /// Starts a shell. Returns its id.
    pub(super) async fn start(
        &self,
        dir: &BuildDir,
        uuid: &str,
        size: TerminalSize,
    ) -> Result<String, NoTerminal> {
        // Taken before asking the build, which takes a while: others may start one meanwhile.
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| NoTerminal::TooMany)?;
        let mut link = SharedClient::connect(dir).await?;
        let term = Some("xterm-256color".to_owned());
        let open = OpenProgram { terminal: Some(size), term, ..OpenProgram::default() };
        match link.ask(&ControlRequest::Open(open)).await? {
            ControlResponse::Opened { .. } => {}
            other => return Err(ClientError::from(other).into()),
        }
        let (orders, taken) = mpsc::channel(ORDERS);
        let viewers = Arc::new(AtomicU64::new(0));
        let terminal = TerminalTask::new(link, size, taken, Arc::clone(&viewers))?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let known = KnownTerminal { id: id.clone(), uuid: uuid.to_owned(), orders, viewers };
        self.lock().push(known);
        let (all, name) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let _place = place;
            terminal.run().await;
            all.lock().retain(|known| known.id != name);
        });
        Ok(id)
    }

    /// The terminals of a build.
    pub(super) fn of(&self, uuid: &str) -> Vec<ListedTerminal> {
        let all = self.lock();
        let of_build = all.iter().filter(|known| known.uuid == uuid);
        let listed = |known: &KnownTerminal| ListedTerminal {
            id: known.id.clone(),
            viewers: known.viewers.load(Ordering::Relaxed),
        };
        of_build.map(listed).collect()
    }

    /// The channel to one terminal.
    pub(super) fn find(&self, uuid: &str, id: &str) -> Option<TerminalAccess> {
        let all = self.lock();
        let found = all.iter().find(|known| known.uuid == uuid && known.id == id)?;
        Some(TerminalAccess(found.orders.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<KnownTerminal>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use runner_folder::state::Home;
    use std::fs;
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn those_that_are_being_opened_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = BuildDir::of(&Home::at(folder.path().to_owned()).expect("a home"), "u");
        fs::create_dir_all(dir.path()).expect("a folder");
        // A build that accepts connections and never responds.
        let _silent = UnixListener::bind(dir.control_socket()).expect("a socket");
        let terminals = Terminals::default();
        let size = TerminalSize { rows: 24, cols: 80 };
        let mut starting = tokio::task::JoinSet::new();
        for _ in 0..MOST {
            let (terminals, dir) = (terminals.clone(), dir.clone());
            starting.spawn(async move { terminals.start(&dir, "u", size).await });
        }
        tokio::task::yield_now().await;
        let beyond = terminals.start(&dir, "u", size).now_or_never();
        assert!(matches!(beyond, Some(Err(NoTerminal::TooMany))), "{beyond:?}");
        starting.shutdown().await;
        // Failed starts have returned their places.
        assert!(terminals.start(&dir, "u", size).now_or_never().is_none());
    }
}
