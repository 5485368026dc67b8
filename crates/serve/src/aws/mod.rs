//! AWS's calls, served for the builds of this machine: Session Manager, ECS Exec, CodeBuild,
//! CloudWatch Logs, STS, IAM, CloudTrail, and KMS's description of a key.
//!
//! `calls` gets a request from the server (`crate::http`), `sigv4` authenticates it, `call` reads
//! it and finds its row in the table of `operations`, the file of its service handles it, `call`
//! writes the response in the client's protocol, and `audit` records both. Sessions belong to the
//! `gateway`. Offered by `runner run --enable-session` and by `runner serve`, with the same
//! responses.

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
