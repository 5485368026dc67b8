//! One terminal: its program, its latest output and its viewers.

use super::seats::{Number, Seat, Seats};
use bytes::Bytes;
use runner_client::{ClientError, SharedClient};
use runner_core::plain;
use runner_host::clock;
use runner_host::duplex::Duplex;
use runner_wire::control::{ACTIVITY_PACE, ControlRequest, ControlResponse, TerminalSize};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of output kept for newcomers.
const KEPT: usize = 256 << 10;
/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Bytes of input waiting for the program. More is dropped, and the viewer is told.
const TYPED: usize = 1 << 20;
/// Bytes; more than a terminal ever holds.
const REST: usize = 1 << 20;

/// A message to a browser.
#[derive(Clone, Debug)]
pub(super) enum TerminalMessage {
    Shown(Bytes),
    Said(String),
}

/// An order to a terminal.
#[derive(Debug)]
pub(super) enum TerminalOrder {
    Join { number: Number, seat: Seat, to: mpsc::Sender<TerminalMessage> },
    Leave(Number),
    Type(Number, Bytes),
    Size(Number, TerminalSize),
    Ask(Number),
    Grant(Number, Number),
    Refuse(Number, Number),
    End(Number),
}

pub(super) struct TerminalTask {
    link: SharedClient,
    terminal: Duplex,
    orders: mpsc::Receiver<TerminalOrder>,
    seats: Seats,
    viewers: HashMap<Number, mpsc::Sender<TerminalMessage>>,
    count: Arc<AtomicU64>,
    kept: VecDeque<u8>,
    typed: Vec<u8>,
    size: TerminalSize,
    /// When the build was last told of activity.
    active: Duration,
}

/// An event of a terminal.
enum TerminalEvent {
    Order(Option<TerminalOrder>),
    Frame(Result<Option<Vec<u8>>, ClientError>),
    Readable,
    Writable,
    Look,
}

impl TerminalTask {
    pub(super) fn new(
        mut link: SharedClient,
        size: TerminalSize,
        orders: mpsc::Receiver<TerminalOrder>,
        count: Arc<AtomicU64>,
    ) -> Result<Self, ClientError> {
        let terminal = link.take_fds().pop();
        let terminal =
            terminal.ok_or_else(|| io::Error::other("the program's terminal did not come along"));
        let terminal = terminal.and_then(Duplex::new).map_err(ClientError::Lost)?;
        Ok(TerminalTask {
            link,
            terminal,
            orders,
            seats: Seats::default(),
            viewers: HashMap::new(),
            count,
            kept: VecDeque::new(),
            typed: Vec::new(),
            size,
            active: Duration::ZERO,
        })
    }

    /// Runs until the program has ended, or nobody can connect any more.
    pub(super) async fn run(mut self) {
        let reason = loop {
            match self.next().await {
                TerminalEvent::Order(None) => break "the endpoint has ended".to_owned(),
                TerminalEvent::Order(Some(TerminalOrder::End(number)))
                    if self.seats.drives(number) =>
                {
                    break "ended by its driver".to_owned();
                }
                TerminalEvent::Order(Some(order)) => self.obey(order).await,
                TerminalEvent::Frame(frame) => match ended(frame) {
                    Ok(Some(reason)) => {
                        self.drain();
                        break reason;
                    }
                    Ok(None) => {}
                    Err(told) => self.show(format!("\r\nrunner: {told}\r\n").into_bytes()),
                },
                TerminalEvent::Readable => {
                    if !self.read() {
                        // The build is about to say how it ended.
                        let frame = self.link.next().await;
                        break ended(frame).ok().flatten().unwrap_or_default();
                    }
                    self.is_active().await;
                }
                TerminalEvent::Writable => self.write(),
                TerminalEvent::Look => {
                    if self.seats.look(clock::boot()) {
                        self.tell_all();
                    }
                }
            }
        };
        let said = json!({"ended": reason}).to_string();
        for viewer in self.viewers.values() {
            // A viewer that does not read learns it from the list.
            let _ = viewer.try_send(TerminalMessage::Said(said.clone()));
        }
    }

    async fn next(&mut self) -> TerminalEvent {
        let driver = self.seats.driver().and_then(|number| self.viewers.get(&number)).cloned();
        let deadline = self.seats.deadline();
        let has_typed = !self.typed.is_empty();
        let (orders, link, terminal) = (&mut self.orders, &mut self.link, &self.terminal);
        tokio::select! {
            order = orders.recv() => TerminalEvent::Order(order),
            frame = link.next() => TerminalEvent::Frame(frame),
            () = readable(terminal, driver) => TerminalEvent::Readable,
            () = writable(terminal), if has_typed => TerminalEvent::Writable,
            () = until(deadline) => TerminalEvent::Look,
        }
    }

    async fn obey(&mut self, order: TerminalOrder) {
        match order {
            TerminalOrder::Join { number, seat, to } => {
                for old in self.seats.join(number, seat) {
                    // Otherwise two tabs of one name would keep replacing each other.
                    self.say(old, &json!({"elsewhere": true}));
                    self.viewers.remove(&old);
                }
                self.viewers.insert(number, to);
                self.show_kept(number);
                self.tell_all();
            }
            TerminalOrder::Leave(number) => {
                self.leave(number);
                self.tell_all();
            }
            TerminalOrder::Type(number, bytes) if self.seats.drives(number) => {
                if self.typed.len() + bytes.len() > TYPED {
                    let said = "dropped: the program does not read what is typed";
                    self.say(number, &json!({"notice": said}));
                    return;
                }
                self.typed.extend_from_slice(&bytes);
                self.write();
                self.is_active().await;
            }
            TerminalOrder::Size(number, size) if self.seats.drives(number) => {
                self.size = size;
                let _ = self.link.send(&ControlRequest::Resize(size)).await;
                self.tell_all();
            }
            TerminalOrder::Ask(number) => {
                self.seats.ask(number);
                self.tell_all();
            }
            TerminalOrder::Grant(by, to) => {
                self.seats.grant(by, to);
                self.tell_all();
            }
            TerminalOrder::Refuse(by, to) => {
                if self.seats.refuse(by, to) {
                    self.say(to, &json!({"notice": "the driver keeps the role"}));
                }
                self.tell_all();
            }
            // From a viewer who does not drive.
            TerminalOrder::Type(..) | TerminalOrder::Size(..) | TerminalOrder::End(_) => {}
        }
    }

    fn leave(&mut self, number: Number) {
        self.viewers.remove(&number);
        self.seats.leave(number, clock::boot());
    }

    fn write(&mut self) {
        // Nobody takes input of an ended program.
        let taken = self.terminal.write_now(&self.typed).unwrap_or(Some(self.typed.len()));
        self.typed.drain(..taken.unwrap_or(0));
    }

    /// Reads once. Returns whether the terminal is still open.
    fn read(&mut self) -> bool {
        let mut buffer = [0; CHUNK];
        match self.terminal.read_now(&mut buffer) {
            Ok(None) => true,
            // EIO: the last process with the terminal open is gone.
            Ok(Some(0)) | Err(_) => false,
            Ok(Some(read)) => {
                self.show(buffer[..read].to_vec());
                true
            }
        }
    }

    /// Shows what an ended program left in its terminal.
    fn drain(&mut self) {
        let mut left = REST;
        let mut buffer = vec![0; CHUNK];
        while let Ok(Some(read @ 1..)) = self.terminal.read_now(&mut buffer)
            && left > 0
        {
            self.show(buffer[..read].to_vec());
            left = left.saturating_sub(read);
        }
    }

    /// Shows output to all viewers. Drops those that do not read; they reconnect and get the kept
    /// output.
    fn show(&mut self, bytes: Vec<u8>) {
        self.kept.extend(&bytes);
        let beyond = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..beyond);
        let bytes = Bytes::from(bytes);
        let slow = self.viewers.iter().filter_map(|(number, viewer)| {
            viewer.try_send(TerminalMessage::Shown(bytes.clone())).is_err().then_some(*number)
        });
        for number in slow.collect::<Vec<_>>() {
            self.leave(number);
        }
    }

    fn show_kept(&mut self, number: Number) {
        let kept: Vec<u8> = self.kept.iter().copied().collect();
        self.say(number, &json!({"replay": kept.len()}));
        if let Some(viewer) = self.viewers.get(&number)
            && !kept.is_empty()
        {
            let _ = viewer.try_send(TerminalMessage::Shown(Bytes::from(kept)));
        }
    }

    fn say(&self, number: Number, what: &Value) {
        if let Some(viewer) = self.viewers.get(&number) {
            let _ = viewer.try_send(TerminalMessage::Said(what.to_string()));
        }
    }

    /// Tells each viewer its current state.
    fn tell_all(&self) {
        self.count.store(self.seats.count() as u64, Ordering::Relaxed);
        for number in self.viewers.keys() {
            let view = self.seats.view(*number);
            let asking = if view.drives { self.seats.asking() } else { &[] };
            self.say(
                *number,
                &json!({
                    "drives": view.drives,
                    "hasAsked": view.has_asked,
                    "hasDriver": self.seats.has_driver(),
                    "viewers": self.seats.count(),
                    "asking": asking,
                    "rows": self.size.rows,
                    "cols": self.size.cols,
                }),
            );
        }
    }

    /// Tells the build from time to time that the session is in use.
    async fn is_active(&mut self) {
        let now = clock::boot();
        if now.saturating_sub(self.active) >= ACTIVITY_PACE {
            self.active = now;
            let _ = self.link.send(&ControlRequest::Active).await;
        }
    }
}

/// Resolves when there is output and the driver keeps up. A program that floods waits for the
/// driver only.
async fn readable(terminal: &Duplex, driver: Option<mpsc::Sender<TerminalMessage>>) {
    if let Some(driver) = driver {
        // A driver who is gone holds up nobody.
        drop(driver.reserve().await);
    }
    // The next read finds an error.
    drop(terminal.readable().await);
}

async fn writable(terminal: &Duplex) {
    drop(terminal.writable().await);
}

async fn until(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.saturating_sub(clock::boot())).await,
        None => std::future::pending().await,
    }
}

/// Why the terminal has ended, if the frame says so. A message for the user is the error.
fn ended(frame: Result<Option<Vec<u8>>, ClientError>) -> Result<Option<String>, String> {
    let Ok(Some(body)) = frame else { return Ok(Some("the build has ended".to_owned())) };
    match serde_json::from_slice(&body) {
        Ok(ControlResponse::Told { message }) => Err(plain::line(&message).into_owned()),
        Ok(ControlResponse::Exited { code }) => {
            Ok(Some(format!("the shell has ended with {code}")))
        }
        Ok(ControlResponse::Closed { message }) => Ok(Some(message)),
        _ => Ok(None),
    }
}
