//! The local CodeBuild: projects, the queue, and the database behind both.
//!
//! `model` describes valid inputs and `project` the rules of projects, both pure; `db` stores.
//! Nothing here starts a process: a [`queue::Launcher`] does.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "read by its own house; what needs a word has one")]

pub mod batch;
pub mod db;
pub mod import;
mod index;
pub mod logs;
pub mod model;
pub mod pages;
pub mod project;
pub mod record;
mod service;
pub mod sources;

pub use service::{Fault, Service, ServiceSettings, queue};
