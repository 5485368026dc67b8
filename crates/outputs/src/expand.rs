//! Variables and commands in names and paths of a buildspec.
//!
//! The shell in the container evaluates names; in paths only variables are expanded.

use runner_core::env::DEFAULT_PATH;
use runner_engine::{Container, ExecSpec, Ids, ProgramEnds, Stdio};
use runner_wire::init::Exit;
use std::fs::File;
use std::io::Read;

/// Maximum length of an evaluated name, in bytes.
const MAX_NAME: u64 = 4096;

/// The state of a build's shell.
#[derive(Clone, Debug, Default)]
pub struct ShellValues {
    /// The shell that runs commands.
    pub shell: String,
    /// Variables as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    pub cwd: Vec<u8>,
}

impl ShellValues {
    /// The value of a variable; `None` if it is not set.
    pub fn get(&self, name: &str) -> Option<String> {
        self.env.iter().rev().find_map(|pair| {
            let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }

    /// Replaces `$NAME` and `${NAME}` in a path; an unset variable is empty, as in a shell.
    pub fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, left) = match braced {
                Some((name, left)) => (name, left),
                None => {
                    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    after.split_at(after.find(|c| !is_part(c)).unwrap_or(after.len()))
                }
            };
            if runner_core::env::is_name(name) {
                out.push_str(&self.get(name).unwrap_or_default());
                rest = left;
            } else {
                out.push('$');
                rest = after;
            }
        }
        out + rest
    }

    /// Whether a shell would change this text.
    pub fn has_to_evaluate(text: &str) -> bool {
        text.contains(['$', '`', '\\'])
    }

    /// Evaluates a text in the shell: variables and commands, as between double quotes.
    pub async fn evaluate(&self, container: &dyn Container, text: &str) -> Result<String, String> {
        if !Self::has_to_evaluate(text) {
            return Ok(text.to_owned());
        }
        // The status of an assignment is that of the last command in it.
        let script = format!("RUNNER_VALUE=\"{}\" && printf '%s' \"$RUNNER_VALUE\"", quoted(text));
        let path = self.get("PATH").unwrap_or_else(|| DEFAULT_PATH.to_owned());
        let spec = ExecSpec {
            argv: [self.shell.as_str(), "-c", &script].map(|word| word.as_bytes().to_vec()).into(),
            path: path.into_bytes(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            cwd_or_root: true,
            user: Ids::default(),
            toolbox: false,
            of_build: false,
            stdio: Stdio::Separate,
        };
        let process = container.exec(spec).await.map_err(|error| error.to_string())?;
        let ProgramEnds::Separate([stdin, stdout, stderr]) = process.ends else {
            return Err("its output is not available".to_owned());
        };
        drop(stdin);
        let read = |pipe| {
            tokio::task::spawn_blocking(move || {
                let (mut pipe, mut text) = (File::from(pipe), Vec::new());
                // Anything longer is not a name. Read on, so that the program does not block.
                let _ = pipe.by_ref().take(MAX_NAME).read_to_end(&mut text);
                let _ = std::io::copy(&mut pipe, &mut std::io::sink());
                text
            })
        };
        let (said, complained) = (read(stdout), read(stderr));
        let (said, complained) = (said.await, complained.await);
        let lossy = |text: Vec<u8>| String::from_utf8_lossy(&text).trim_end().to_owned();
        let complaint = complained.map(lossy).unwrap_or_default();
        match process.exit.await {
            Ok(Ok(Exit::Code(0))) => Ok(lossy(said.map_err(|error| error.to_string())?)),
            Ok(Ok(Exit::Code(code))) => Err(format!("exit status {code}: {complaint}")),
            Ok(Ok(Exit::Signal(signal))) => Err(format!("ended by signal {signal}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the container has ended".to_owned()),
        }
    }
}

/// Escapes a text for use between double quotes: a double quote in it is literal, unless it belongs
/// to a command substitution.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut depth, mut in_backticks) = (0_u32, false);
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '(' if depth > 0 || before == '$' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '`' if before != '\\' => in_backticks = !in_backticks,
            '"' if depth == 0 && !in_backticks && before != '\\' => out.push('\\'),
            _ => {}
        }
        out.push(c);
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_in_paths_are_expanded_and_nothing_else_is() {
        let env = ["A=one", "B=two words", "A=last"].map(|pair| pair.as_bytes().to_vec()).into();
        let values = ShellValues { env, ..ShellValues::default() };
        for (text, wanted) in [
            ("plain/*", "plain/*"),
            ("$A/x", "last/x"),
            ("${B}x", "two wordsx"),
            ("$UNSET/x", "/x"),
            ("$(date)$5$", "$(date)$5$"),
            ("${}", "${}"),
            ("a$A", "alast"),
        ] {
            assert_eq!(values.expand(text), wanted, "{text}");
        }
    }

    #[test]
    fn quotes_of_commands_are_left_alone() {
        for (text, wanted) in [
            ("a\"b", "a\\\"b"),
            ("$(echo \"x\")\"", "$(echo \"x\")\\\""),
            ("$(a $(b \"c\") \"d\")\"", "$(a $(b \"c\") \"d\")\\\""),
            ("`echo \"x\"`", "`echo \"x\"`"),
            ("\\\"", "\\\""),
        ] {
            assert_eq!(quoted(text), wanted, "{text}");
        }
    }
}
