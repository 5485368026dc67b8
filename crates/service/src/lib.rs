//! The local CodeBuild: projects, the queue, and the database behind both.
//!
//! `model` says what inputs may be and `project` what projects are, both pure; `db` keeps. Nothing here starts a
//! process: whoever does is a [`queue::Launcher`].

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
