//! What runs at this end of a session.
//!
//! Each kind is a state machine that `session` drives: it is given input, and asked for the next
//! output of at most so many bytes. All of them are clients of the build's control socket; when one is
//! dropped, its connection closes, and what it has started ends.

mod command;
mod ports;
mod terminal;

use super::facts::Shared;
use super::plan::{SessionPlan, Work};
use command::Command;
use ports::{Mode, Ports};
use runner_client::{ClientError, Link};
use runner_folder::state::BuildDir;
use runner_wire::control::{Answer, Open, Request, RunAs, Size};
use runner_wire::ssm::Payload;
use runner_wire::ssm::handshake::ClientVersion;
use std::pin::Pin;
use std::sync::Arc;
use terminal::Terminal;

/// Bytes of input that wait for the program to take them. A client whose input waits longer keeps the
/// rest and sends it again.
const MAX_PENDING: usize = 256 << 10;

/// What runs.
pub(super) struct Agent(Kind);

enum Kind {
    Terminal(Terminal),
    Command(Command),
    Ports(Ports),
    /// Nothing: why.
    Failed(String),
}

/// What it has to say.
pub(super) enum Said {
    /// Output, behind the place of a message's header.
    Output(Payload, Vec<u8>),
    /// It has ended: by itself, or for this reason.
    Ended(String),
}

impl Agent {
    /// Starts what was asked for; `spooled` says that AWS is to have what it shows.
    pub(super) fn start(
        plan: &SessionPlan,
        version: &ClientVersion,
        is_multiplexed: bool,
        build: BuildDir,
        name: String,
        session: &Arc<Shared>,
        spooled: bool,
    ) -> Self {
        if let Some(reason) = &plan.fails {
            return Agent(Kind::Failed(reason.clone()));
        }
        let run_as =
            plan.user.as_ref().map(|user| RunAs { name: user.name.clone(), is_made: user.is_made });
        let open =
            Open { name: Some(name.clone()), keeps_time: true, run_as, spooled, ..Open::default() };
        Agent(match &plan.work {
            Work::Shell { profile } => Kind::Terminal(Terminal::new(build, open, profile)),
            Work::Interactive(argv) => {
                let open = Open { argv: argv.clone(), ..open };
                Kind::Terminal(Terminal::new(build, open, ""))
            }
            Work::Command { argv, outputs } => {
                let tells_apart = version.tells_outputs_apart();
                let open = Open { argv: argv.clone(), ..open };
                Kind::Command(Command::new(build, open, outputs, tells_apart))
            }
            Work::Ports { to, is_raw } => {
                let mode = match (is_multiplexed, is_raw) {
                    (true, _) => Mode::Multiplexed,
                    (false, true) => Mode::Raw,
                    (false, false) => Mode::Basic,
                };
                Kind::Ports(Ports::new(build, name, to, mode, &plan.denied, Arc::clone(session)))
            }
        })
    }

    /// Whether it takes more input.
    pub(super) fn has_room(&self) -> bool {
        match &self.0 {
            Kind::Terminal(terminal) => terminal.has_room(),
            Kind::Command(_) => true,
            Kind::Ports(ports) => ports.has_room(),
            Kind::Failed(_) => true,
        }
    }

    pub(super) fn input(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Kind::Terminal(terminal) => terminal.input(bytes),
            Kind::Command(command) => command.input(bytes),
            Kind::Ports(ports) => ports.input(bytes),
            Kind::Failed(_) => {}
        }
    }

    pub(super) fn resize(&mut self, rows: u16, cols: u16) {
        match &mut self.0 {
            Kind::Terminal(terminal) => terminal.resize(Size { rows, cols }),
            Kind::Command(_) | Kind::Ports(_) | Kind::Failed(_) => {}
        }
    }

    /// The client's local connection has ended.
    pub(super) fn disconnected(&mut self) {
        match &mut self.0 {
            Kind::Ports(ports) => ports.disconnected(),
            Kind::Terminal(_) | Kind::Command(_) | Kind::Failed(_) => {}
        }
    }

    /// The next thing it has to say, output of at most `room` bytes. Nothing is lost where the wait is
    /// given up.
    pub(super) async fn next(&mut self, room: usize) -> Said {
        match &mut self.0 {
            Kind::Terminal(terminal) => terminal.next(room).await,
            Kind::Command(command) => command.next(room).await,
            Kind::Ports(ports) => ports.next(room).await,
            Kind::Failed(reason) => Said::Ended(std::mem::take(reason)),
        }
    }
}

/// A program that is being started.
type Opening = Pin<Box<dyn Future<Output = Result<Link, ClientError>> + Send>>;

fn opening(build: BuildDir, open: Open) -> Opening {
    Box::pin(async move {
        let mut link = Link::connect(&build).await?;
        match link.ask(&Request::Open(open)).await? {
            Answer::Opened { .. } => Ok(link),
            other => Err(other.into()),
        }
    })
}
