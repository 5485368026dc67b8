//! Systems Manager documents: what a session or a command does, with parameters.
//!
//! [`read`] parses JSON or YAML. [`Parameters`] are a document's declared parameters: they check a
//! caller's values and turn them into [`ParameterValues`], which replace `{{ name }}`.
//! [`SessionDocument`] reads session documents, [`command`] reads command documents, and
//! [`command_run`] runs through their steps. [`BUILTINS`] are the built-in documents. Texts come
//! from clients of the endpoint and are untrusted. A rejected document reports all its problems at
//! once.

mod builtin;
pub mod command;
pub mod command_run;
mod content;
mod parameters;
mod pattern;
mod preferences;
mod session;
mod values;

pub use builtin::{BUILTINS, Builtin, builtin};
pub use content::{ContentError, DocumentFormat, DocumentType, MAX_BYTES, read, write};
pub use parameters::{GivenParameters, Parameter, ParameterType, Parameters};
pub use pattern::AllowedPattern;
pub use preferences::{Preferences, is_user};
pub use session::{Resolved, SessionDocument, SessionKind, Wrong, check, schema};
pub use values::ParameterValues;

/// An untrusted text for a message: one line, at most 128 characters.
fn shown(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).take(128).collect();
    format!("`{plain}`")
}

/// Suggests a known name close to an unknown one. Without this, a misspelt setting would be ignored
/// silently.
fn misspelt(name: &str, known: &[&str]) -> Option<String> {
    const NEAR: usize = 2;
    if known.contains(&name) || name.len() > 64 {
        return None;
    }
    let plain = name.to_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&plain, &known.to_lowercase());
    let nearest = known.iter().map(|known| (distance(known), known)).min()?;
    (nearest.0 <= NEAR)
        .then(|| format!("{} is not known; it is written {}", shown(name), nearest.1))
}
