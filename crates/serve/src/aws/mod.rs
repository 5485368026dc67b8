//! AWS's calls, answered for the builds of this machine: Session Manager, ECS Exec, CodeBuild, CloudWatch Logs, STS, IAM,
//! CloudTrail, and of KMS what a key is.
//!
//! `calls` gets a request from the server (`crate::http`), `sigv4` says who sent it, `call` reads it and finds its
//! row in the one table of `operations`, a file a service answers it, `call` writes the answer as the client's
//! protocol wants it, and `audit` records both. Sessions are the `gateway`'s. Offered by `runner run --enable-session`, and by
//! `runner serve`; the answers are the same.

mod agent_files;
mod audit;
mod builds;
mod call;
mod calls;
mod cloudtrail;
mod codebuild;
mod delivered;
mod documents;
mod ec2;
mod ecs;
mod endpoint;
mod hidden;
mod iam;
mod judge;
mod keys;
mod kms;
mod logs;
mod operations;
mod others;
mod outlook;
mod owner;
mod page;
mod places;
mod policy;
mod profiles;
mod resources;
mod run_command;
mod server;
mod sigv4;
mod simulate;
mod ssm;
mod sts;
mod targets;
mod users;

pub use crate::http::bind;
pub use agent_files::{AgentError, agent_config};
pub(crate) use builds::VisibleBuild;
pub(crate) use call::{RefusedCall, form};
pub use endpoint::{Endpoint, EndpointAccess, EndpointParts};
pub use keys::{KeyPair, PROFILE};
pub use outlook::{Needs, Outlook, session_needs, task_needs};
pub(crate) use owner::{Deed, Owner};
pub use resources::node_id;
pub use server::EndpointServer;
pub use simulate::{Simulated, Simulation, simulate};
pub use users::{Users, UsersError};
