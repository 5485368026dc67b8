//! Terminals in the page: each a shell in a build, which goes on while nobody is connected, and which several may look at.
//!
//! A terminal is a client of the build's control socket, as `runner attach` is (`task`). Browsers come to it by websockets
//! (`socket`), and go; what was shown last is kept and shown to each that comes. `seats` says who drives.

mod seats;
mod socket;
mod task;

pub(super) use seats::Seat;
pub(super) use socket::{accept, is_websocket};

use runner_client::{ClientError, Link};
use runner_folder::state::BuildDir;
use runner_wire::control::{Answer, Open, Request, Size};
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use task::{Order, Terminal};
use tokio::sync::mpsc;

/// Terminals of an endpoint at once.
const MOST: usize = 32;
/// What waits for a terminal's task.
const ORDERS: usize = 64;

/// Those of an endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Terminals(Arc<Mutex<Vec<Known>>>);

#[derive(Clone, Debug)]
struct Known {
    id: String,
    /// Of its build.
    uuid: String,
    orders: mpsc::Sender<Order>,
    viewers: Arc<AtomicU64>,
}

/// One of a list.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    id: String,
    viewers: u64,
}

/// The way to a terminal.
#[derive(Clone, Debug)]
pub(super) struct Way(mpsc::Sender<Order>);

/// Why there is no terminal.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoTerminal {
    #[error("{MOST} terminals are open already; end one of them")]
    TooMany,
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Terminals {
    /// Starts a shell; its name.
    pub(super) async fn start(
        &self,
        dir: &BuildDir,
        uuid: &str,
        size: Size,
    ) -> Result<String, NoTerminal> {
        if self.lock().len() >= MOST {
            return Err(NoTerminal::TooMany);
        }
        let mut link = Link::connect(dir).await?;
        let term = Some("xterm-256color".to_owned());
        let open = Open { terminal: Some(size), term, ..Open::default() };
        match link.ask(&Request::Open(open)).await? {
            Answer::Opened { .. } => {}
            other => return Err(ClientError::from(other).into()),
        }
        let (orders, taken) = mpsc::channel(ORDERS);
        let viewers = Arc::new(AtomicU64::new(0));
        let terminal = Terminal::new(link, size, taken, Arc::clone(&viewers))?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let known = Known { id: id.clone(), uuid: uuid.to_owned(), orders, viewers };
        self.lock().push(known);
        let (all, name) = (self.clone(), id.clone());
        tokio::spawn(async move {
            terminal.run().await;
            all.lock().retain(|known| known.id != name);
        });
        Ok(id)
    }

    /// Those of a build.
    pub(super) fn of(&self, uuid: &str) -> Vec<Listed> {
        let all = self.lock();
        let of_build = all.iter().filter(|known| known.uuid == uuid);
        let listed = |known: &Known| Listed {
            id: known.id.clone(),
            viewers: known.viewers.load(Ordering::Relaxed),
        };
        of_build.map(listed).collect()
    }

    /// The way to one of them.
    pub(super) fn find(&self, uuid: &str, id: &str) -> Option<Way> {
        let all = self.lock();
        let found = all.iter().find(|known| known.uuid == uuid && known.id == id)?;
        Some(Way(found.orders.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
