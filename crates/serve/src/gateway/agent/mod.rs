//! The programs at this end of a session.
//!
//! Each kind is a state machine that `session` drives: it takes input and returns the next output
//! within a size limit. All are clients of the build's control socket. Dropping one closes its
//! connection, which ends the program.

mod command;
mod ports;
mod terminal;

use super::facts::SessionShared;
use super::plan::{SessionPlan, SessionWork};
use command::CommandSession;
use ports::{PortMode, PortSession};
use runner_client::{ClientError, SharedClient};
use runner_folder::state::BuildDir;
use runner_wire::control::{ControlRequest, ControlResponse, OpenProgram, RunAs, TerminalSize};
use runner_wire::ssm::Payload;
use runner_wire::ssm::handshake::ClientVersion;
use std::pin::Pin;
use std::sync::Arc;
use terminal::TerminalSession;

/// Bytes of input waiting for the program. Beyond that the client keeps the rest and sends it
/// again.
const MAX_PENDING: usize = 256 << 10;

/// The running program.
pub(super) struct Agent(AgentKind);

enum AgentKind {
    Terminal(TerminalSession),
    Command(CommandSession),
    Ports(PortSession),
    /// Nothing runs, for this reason.
    Failed(String),
}

/// An event of the program.
pub(super) enum AgentMessage {
    /// Output, with space in front for a message's header.
    Output(Payload, Vec<u8>),
    /// It has ended, for this reason; empty if by itself.
    Ended(String),
}

impl Agent {
    /// Starts the planned work; `spooled` means that its output also goes to AWS.
    pub(super) fn start(
        plan: &SessionPlan,
        version: &ClientVersion,
        is_multiplexed: bool,
        build: BuildDir,
        name: String,
        session: &Arc<SessionShared>,
        spooled: bool,
    ) -> Self {
        if let Some(reason) = &plan.fails {
            return Agent(AgentKind::Failed(reason.clone()));
        }
        let run_as =
            plan.user.as_ref().map(|user| RunAs { name: user.name.clone(), is_made: user.is_made });
        let open = OpenProgram {
            name: Some(name.clone()),
            keeps_time: true,
            run_as,
            spooled,
            ..OpenProgram::default()
        };
        Agent(match &plan.work {
            SessionWork::Shell { profile } => {
                AgentKind::Terminal(TerminalSession::new(build, open, profile))
            }
            SessionWork::Interactive(argv) => {
                let open = OpenProgram { argv: argv.clone(), ..open };
                AgentKind::Terminal(TerminalSession::new(build, open, ""))
            }
            SessionWork::Command { argv, outputs } => {
                let tells_apart = version.tells_outputs_apart();
                let open = OpenProgram { argv: argv.clone(), ..open };
                AgentKind::Command(CommandSession::new(build, open, outputs, tells_apart))
            }
            SessionWork::Ports { to, is_raw } => {
                let mode = match (is_multiplexed, is_raw) {
                    (true, _) => PortMode::Multiplexed,
                    (false, true) => PortMode::Raw,
                    (false, false) => PortMode::Basic,
                };
                AgentKind::Ports(PortSession::new(
                    build,
                    name,
                    to,
                    mode,
                    &plan.denied,
                    Arc::clone(session),
                ))
            }
        })
    }

    /// Whether it takes more input.
    pub(super) fn has_room(&self) -> bool {
        match &self.0 {
            AgentKind::Terminal(terminal) => terminal.has_room(),
            AgentKind::Command(_) => true,
            AgentKind::Ports(ports) => ports.has_room(),
            AgentKind::Failed(_) => true,
        }
    }

    pub(super) fn input(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            AgentKind::Terminal(terminal) => terminal.input(bytes),
            AgentKind::Command(command) => command.input(bytes),
            AgentKind::Ports(ports) => ports.input(bytes),
            AgentKind::Failed(_) => {}
        }
    }

    pub(super) fn resize(&mut self, rows: u16, cols: u16) {
        match &mut self.0 {
            AgentKind::Terminal(terminal) => terminal.resize(TerminalSize { rows, cols }),
            AgentKind::Command(_) | AgentKind::Ports(_) | AgentKind::Failed(_) => {}
        }
    }

    /// Notes that the client's local connection has ended.
    pub(super) fn disconnected(&mut self) {
        match &mut self.0 {
            AgentKind::Ports(ports) => ports.disconnected(),
            AgentKind::Terminal(_) | AgentKind::Command(_) | AgentKind::Failed(_) => {}
        }
    }

    /// The next event, with output of at most `room` bytes. Cancel safe.
    pub(super) async fn next(&mut self, room: usize) -> AgentMessage {
        match &mut self.0 {
            AgentKind::Terminal(terminal) => terminal.next(room).await,
            AgentKind::Command(command) => command.next(room).await,
            AgentKind::Ports(ports) => ports.next(room).await,
            AgentKind::Failed(reason) => AgentMessage::Ended(std::mem::take(reason)),
        }
    }
}

/// A program that is starting.
type Opening = Pin<Box<dyn Future<Output = Result<SharedClient, ClientError>> + Send>>;

fn opening(build: BuildDir, open: OpenProgram) -> Opening {
    Box::pin(async move {
        let mut link = SharedClient::connect(&build).await?;
        match link.ask(&ControlRequest::Open(open)).await? {
            ControlResponse::Opened { .. } => Ok(link),
            other => Err(other.into()),
        }
    })
}
