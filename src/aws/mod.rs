//! AWS's calls, answered for the builds of this machine: Session Manager, ECS Exec, CodeBuild, STS.
//!
//! `server` takes a request, `sigv4` and `peer` say who sent it, `call` reads it, a file a service
//! answers it, and `call` writes the answer as the client's protocol wants it. Sessions are the
//! `gateway`'s. Offered by `runner run --enable-session` from its first pause on, and by
//! `runner serve`; the answers are the same.

mod builds;
mod call;
mod codebuild;
mod documents;
mod ecs;
mod endpoint;
mod keys;
mod others;
mod page;
mod peer;
mod policy;
mod server;
mod sigv4;
mod ssm;
mod sts;
mod targets;

pub(crate) use endpoint::{Access, Endpoint};
pub(crate) use keys::{KeyPair, PROFILE};
pub(crate) use server::{Server, bind};
