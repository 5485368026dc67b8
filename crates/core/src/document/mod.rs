//! Documents of Systems Manager: what a session or a command is to be, with parameters.
//!
//! [`read`] makes a value of a text in JSON or YAML. [`Parameters`] are those that a document declares: they check what
//! a caller gives and become [`ParameterValues`], which are put in the place of `{{ name }}`.
//! [`SessionDocument`] reads documents of sessions, [`command`] those of commands, and [`command_run`] is the course of their
//! steps. [`BUILTINS`] are the documents that are always there. Texts come from callers of the endpoint and are read as hostile;
//! a refused document names all its problems at once.

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

/// A text of others in a message: one line, and not much of it.
fn shown(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).take(128).collect();
    format!("`{plain}`")
}

/// The known name that an unknown one was probably meant to be: a typo that is ignored silently drops a setting.
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
