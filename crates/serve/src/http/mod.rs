//! An HTTP server on this machine's network, with the admission rules for all requests.
//!
//! The server knows no service. Each service is a [`Site`], which selects and handles its requests:
//! AWS's calls are one (`aws`), the websockets of their sessions another (`gateway`). The rules for
//! all of them are here: places for connections, `Host` and `Origin`, limits of time and size, and
//! who is at the other end.

mod answer;
mod body;
mod peer;
mod server;
mod site;
#[cfg(test)]
mod tests;
mod trust;

pub use answer::{Body, HttpResponse, plain};
pub use body::{BodyError, read_body};
pub use server::{HttpServer, bind};
pub use site::{Answering, ConnectionEnds, Site, Visit};
