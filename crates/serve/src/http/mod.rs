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

pub use answer::{Answer, Body, plain};
pub use body::{Unread, read_body};
pub use server::{Server, bind};
pub use site::{Answering, Ends, Site, Visit};
