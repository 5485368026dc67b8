//! An HTTP server on this machine's network: who is let in, whatever they ask for.
//!
//! It knows none of the services that answer. Each is a [`Site`], which says what requests it takes and answers them:
//! AWS's calls are one (`aws`), the websockets of their sessions another (`gateway`). What holds for all of them is here:
//! the places that connections have, `Host` and `Origin`, how long a request may take and how long it may be, and who
//! is at the other end.

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
