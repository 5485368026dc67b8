//! Session Manager's data channel, from the server's side: messages, handshake, acknowledgements.
//!
//! Takes the bytes of a WebSocket and returns bytes for it and [`ChannelEvent`]s. Nothing here uses
//! a socket, a clock or a process; `crates/serve/src/gateway/session.rs` has all three. Facts about
//! the protocol, and the client bugs that a rule works around, are explained at that rule.

pub mod channel;
mod cipher;
pub mod handshake;
pub mod message;
mod receiver;
mod sender;

pub use channel::{ChannelConfig, ChannelEvent, ChannelPhase, DataChannel};
pub use cipher::Cipher;
pub use message::{HEADER_LEN, Message, MessageKind, Payload, RejectedMessage};
