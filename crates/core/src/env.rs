//! The variables that a build starts with, and which source takes precedence.
//!
//! Input comes from `spec`, the image and the command line. `machine::build` passes the result to
//! the shell of the first command. The caller's own environment is not used.

use std::collections::BTreeMap;

/// Default PATH if the image sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names and values; of equal names, the last one counts.
pub type Variables = Vec<(String, String)>;

/// Sources of variables, weakest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvLayers {
    /// Directory of stand-in programs; always first in PATH.
    pub stubs: Option<String>,
    /// Directories of the caller's own tools, separated by colons; placed before the image's PATH.
    pub tools: Option<String>,
    /// Directory of the `codebuild-*` commands; last in PATH, as in AWS.
    pub helpers: String,
    /// The directory around the source; last in GOPATH, as in AWS.
    pub gopath: String,
    /// ENV of the image.
    pub image: Variables,
    /// `env` of the buildspec.
    pub buildspec: Variables,
    /// What CodeBuild's agent sets.
    pub managed: Variables,
    /// Variables from `--env` and similar options.
    pub overrides: Variables,
}

/// The variables of the first command, sorted by name.
#[must_use]
pub fn compose(layers: EnvLayers) -> BTreeMap<String, String> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    variables.insert("HOME".to_owned(), "/root".to_owned());
    variables.insert("PATH".to_owned(), DEFAULT_PATH.to_owned());
    variables.extend(layers.image);
    if let Some(path) = variables.get_mut("PATH") {
        if let Some(tools) = layers.tools {
            *path = format!("{tools}:{path}");
        }
        // The agent appends to the image's PATH. A PATH in the buildspec replaces all of it.
        path.push(':');
        path.push_str(&layers.helpers);
    }
    let gopath = variables.entry("GOPATH".to_owned()).or_default();
    if !gopath.is_empty() {
        gopath.push(':');
    }
    gopath.push_str(&layers.gopath);
    variables.extend(layers.buildspec);
    variables.extend(layers.managed);
    variables.extend(layers.overrides);
    if let Some(stubs) = layers.stubs {
        let path = variables.entry("PATH".to_owned()).or_default();
        *path = format!("{stubs}:{path}");
    }
    variables
}

/// Whether a text is a valid name of a shell variable.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads an `--env-file`: one `NAME=VALUE` per line. `#` comments and empty lines are ignored.
/// Quotes are part of the value.
///
/// # Errors
/// `LINE: problem`, for the first invalid line.
pub fn parse_file(text: &str) -> Result<Variables, String> {
    let lines = text
        .lines()
        .zip(1..)
        .map(|(line, number): (&str, u32)| (line.trim_end_matches('\r'), number));
    lines
        .filter(|(line, _)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map(|(line, number)| match line.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok((name.trim().to_owned(), value.to_owned()))
            }
            _ => Err(format!("{number}: a line is NAME=VALUE, or a comment after #")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn stronger_layers_win() {
        let found = compose(EnvLayers {
            stubs: None,
            tools: Some("/home/me/.cargo/bin:/home/me/go/bin".to_owned()),
            helpers: "/codebuild/user/bin".to_owned(),
            gopath: "/codebuild/output/src1".to_owned(),
            image: pairs(&[
                ("PATH", "/image/bin"),
                ("GOPATH", "/go"),
                ("A", "image"),
                ("B", "image"),
            ]),
            buildspec: pairs(&[("A", "buildspec"), ("CODEBUILD_CI", "no"), ("C", "$A")]),
            managed: pairs(&[("CODEBUILD_CI", "true"), ("AWS_REGION", "us-east-1")]),
            overrides: pairs(&[("AWS_REGION", "eu-west-1")]),
        });
        for (name, value) in [
            ("PATH", "/home/me/.cargo/bin:/home/me/go/bin:/image/bin:/codebuild/user/bin"),
            ("HOME", "/root"),
            ("GOPATH", "/go:/codebuild/output/src1"),
            ("A", "buildspec"),
            ("B", "image"),
            ("C", "$A"),
            ("CODEBUILD_CI", "true"),
            ("AWS_REGION", "eu-west-1"),
        ] {
            assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn a_file_of_variables_is_read_as_aws_reads_it() {
        let text = "# comment\nA=1\n\n  # too\nB=\"x\" # y\r\nC=\nD=a=b\n";
        let wanted = pairs(&[("A", "1"), ("B", "\"x\" # y"), ("C", ""), ("D", "a=b")]);
        assert_eq!(parse_file(text), Ok(wanted));
        assert!(parse_file("A=1\nB\n").is_err_and(|problem| problem.starts_with("2: ")));
    }

    #[test]
    fn stand_ins_come_first_whatever_the_path_is() {
        let stubs = Some("/stubs".to_owned());
        let layers =
            EnvLayers { stubs, overrides: pairs(&[("PATH", "/x")]), ..EnvLayers::default() };
        assert_eq!(compose(layers).get("PATH").map(String::as_str), Some("/stubs:/x"));
    }

    #[test]
    fn a_buildspec_replaces_path_literally() {
        let layers =
            EnvLayers { buildspec: pairs(&[("PATH", "$PATH:/x")]), ..EnvLayers::default() };
        assert_eq!(compose(layers).get("PATH").map(String::as_str), Some("$PATH:/x"));
    }
}
