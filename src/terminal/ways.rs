//! The commands with which a person on this machine can connect to a build.

use runner_cloud::REGION;
use runner_folder::state::{Home, LinkFor, PageLinks};
use runner_serve::aws::{KeyPair, PROFILE};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The ways to connect to a paused build that work on this machine now.
#[derive(Clone, Debug)]
pub(super) struct WaysIn {
    /// The name of this program, with the variables a second terminal needs to find the build.
    pub(super) program: String,
    /// The build's short name.
    pub(super) build: String,
    /// Whether there is a one-key menu.
    pub(super) keys: bool,
    /// Whether the build ends if nobody responds to a pause.
    pub(super) ends_pauses: bool,
    /// The parts of a call of AWS's client, if AWS's clients may connect.
    aws: Option<Aws>,
    /// The state folder, for links to the page.
    home: Option<Home>,
}

/// The parts of a call of AWS's client, without the address.
#[derive(Clone, Debug)]
struct Aws {
    uuid: String,
    credentials: PathBuf,
}

impl WaysIn {
    /// For the build with this uuid. `keys`: whether there is a menu; `aws`: whether AWS's clients
    /// may connect.
    pub(super) fn new(home: &Home, uuid: &str, keys: bool, aws: bool) -> Self {
        let mut program = String::new();
        // A second terminal uses the default folder unless the command names another.
        if let Ok(home) = std::env::var("RUNNER_HOME")
            && !home.is_empty()
        {
            program = format!("RUNNER_HOME={} ", word(&home));
        }
        program.push_str(&own_name());
        let build = uuid.get(..8).unwrap_or(uuid).to_owned();
        let aws = aws.then(|| Aws { uuid: uuid.to_owned(), credentials: KeyPair::place(home) });
        let home = aws.as_ref().map(|_| home.clone());
        WaysIn { program, build, keys, ends_pauses: false, aws, home }
    }

    /// Whether AWS's clients may connect.
    pub(super) fn has_aws(&self) -> bool {
        self.aws.is_some()
    }

    /// A complete call of AWS's client, ready to be pasted. It names the files with the keys, not
    /// the keys.
    pub(super) fn aws(&self, address: &str) -> Option<String> {
        let Aws { uuid, credentials } = self.aws.as_ref()?;
        let path = word(&credentials.display().to_string());
        Some(format!(
            "{}AWS_SHARED_CREDENTIALS_FILE={path} aws ssm start-session --target codebuild:{uuid} \
             --endpoint-url http://{address} --region {REGION} --profile {PROFILE}",
            around_proxy(address)
        ))
    }

    /// A fresh link to the page, if a browser on this machine can open it.
    pub(super) fn page(&self, address: &str) -> Option<String> {
        let (home, uuid) = (self.home.as_ref()?, &self.aws.as_ref()?.uuid);
        page_link(home, address, LinkFor::Owner, Some(uuid)).ok().flatten()
    }

    /// The same in two steps; the first sets up the shell for all further calls.
    pub(super) fn aws_by_variables(&self) -> Option<String> {
        let Aws { uuid, .. } = self.aws.as_ref()?;
        let WaysIn { program, build, .. } = self;
        Some(format!(
            "eval \"$({program} aws-env {build})\"; aws ssm start-session --target codebuild:{uuid}"
        ))
    }

    #[cfg(test)]
    pub(super) fn for_tests(aws: bool) -> Self {
        let (program, build) = ("runner".to_owned(), "u".to_owned());
        let aws = aws.then(|| Aws { uuid: "u".to_owned(), credentials: "/keys".into() });
        WaysIn { program, build, keys: false, ends_pauses: false, aws, home: None }
    }
}

/// A fresh link to the page at an endpoint's address, and to a build there. `None` if it would
/// appear in a CI system's log, or if other machines reach the address, for which the page is not
/// meant.
pub(crate) fn page_link(
    home: &Home,
    address: &str,
    r#for: LinkFor,
    build: Option<&str>,
) -> io::Result<Option<String>> {
    let is_loopback = |address: SocketAddr| address.ip().is_loopback();
    if is_ci() || !address.parse().is_ok_and(is_loopback) {
        return Ok(None);
    }
    let token = PageLinks::of(home).make(r#for)?;
    let build = build.map_or_else(String::new, |build| format!("&b={build}"));
    Ok(Some(format!("http://{address}/#t={token}{build}")))
}

/// Whether the output goes to the log of a CI system.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()))
}

/// Options that keep a client from using a proxy for an address of this machine.
fn around_proxy(address: &str) -> String {
    no_proxy(address).map_or_else(String::new, |list| format!("no_proxy={} ", word(&list)))
}

/// The value of `no_proxy` for such a client, if it has to change.
pub(crate) fn no_proxy(address: &str) -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let exempt = set("no_proxy").or_else(|| set("NO_PROXY"));
    let is_exempt = exempt.as_ref().is_some_and(|list| list.split(',').any(|one| one == host));
    match set("http_proxy").or_else(|| set("HTTP_PROXY")) {
        Some(_) if !is_exempt => {
            Some(exempt.map_or_else(|| host.to_owned(), |list| format!("{list},{host}")))
        }
        _ => None,
    }
}

/// `runner` if typing that starts this very program, otherwise its path.
fn own_name() -> String {
    let Ok(own) = std::env::current_exe() else { return "runner".to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("runner"))
        .find(|candidate| candidate.is_file())
        .and_then(|candidate| std::fs::canonicalize(candidate).ok());
    if found.as_deref() == Some(&own) {
        return "runner".to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    // A bare name would be searched for in PATH.
    let shown = match own.strip_prefix(&here) {
        Ok(inside) if inside.components().count() == 1 => Path::new(".").join(inside),
        Ok(inside) => inside.to_path_buf(),
        Err(_) => own,
    };
    word(&shown.display().to_string())
}

/// Quotes a word if a shell would split it.
pub(crate) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    runner_core::exports::quote(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_only_where_they_must_be() {
        assert_eq!(word("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(word("/my dir/it's"), "'/my dir/it'\\''s'");
    }
}
