//! The message gateway and the session agent in one, for sessions of AWS's own clients.
//!
//! A session begins with a call to `aws`: [`Gateway::open`] issues an id and a token. A client
//! sends the token on a websocket (`admission`). One task per session (`session`) joins that
//! socket, the protocol's state machine (`runner_wire::ssm`) and the program in the container
//! (`agent`). The agent is an ordinary client of the build's control socket. A session outlives its
//! sockets: with a new token and a new socket it goes on.

mod admission;
mod agent;
mod audit;
mod facts;
mod id;
mod plan;
mod preparation;
mod registry;
mod session;
mod socket;
#[cfg(test)]
mod tests;
mod time;
mod token;

pub use admission::{Channels, PATH};
pub use audit::{
    Attribute, Audit, AuditDetails, AuditLookupError, AuditRecord,
    AuditedResource as AuditResource, CallSource, CallerIdentity, HIDDEN, Lookup, MAX_FOUND,
    resource_name,
};
pub use facts::SessionFacts;
pub use plan::{Destination, Outputs, SessionPlan, SessionWork, User};
pub use registry::{Gateway, NoSession, SessionRequest};
pub use time::Clock;
