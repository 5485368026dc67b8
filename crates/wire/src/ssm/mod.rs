//! Session Manager's data channel, seen from the server: messages, handshake, acknowledgements.
//!
//! Bytes of a websocket go in, bytes for it and [`ChannelEvent`]s come out; nothing here knows a socket, a
//! clock or a process. Fed by `crates/serve/src/gateway/session.rs`, which has all three. Facts about the protocol,
//! and which of the client's traps each rule answers, stand where the rule is.

pub mod channel;
mod cipher;
pub mod handshake;
pub mod message;
mod receiver;
mod sender;

pub use channel::{ChannelConfig, ChannelEvent, ChannelPhase, DataChannel};
pub use cipher::Cipher;
pub use message::{HEADER_LEN, Message, MessageKind, Payload, RejectedMessage};
