//! The server side of AWS: the endpoint, sessions of its clients, and the web page.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "read by its own house; what needs a word has one")]

pub mod aws;
pub mod commands;
pub mod deliveries;
pub mod gateway;
pub mod http;
pub mod page;
pub mod recordings;
