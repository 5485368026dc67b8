//! A build as a node of AWS's clients: its names, a shell, who may call, and as whom this program calls AWS.

use super::{Row, State};
use runner_client::{Client, ClientError};
use runner_cloud::{Amazon, Identity};
use runner_folder::state::{Clusters, Home, Known};
use runner_serve::aws::{KeyPair, Users, node_id};
use runner_wire::control::{Answer, Open, Request};
use std::time::Duration;

/// How long credentials may take to be found.
const SOON: Duration = Duration::from_secs(5);
/// From this version on the plugin knows all that AWS's agent asks of it.
const PLUGIN: [u32; 3] = [1, 2, 764];

/// By which names clients reach it.
pub(super) fn names(home: &Home, known: &Known) -> Row {
    let task = known.uuid.replace('-', "");
    let node = node_id(&known.uuid);
    match Clusters::of(home).current() {
        Ok(table) => {
            let cluster = table.cluster_of(&known.uuid);
            let found =
                format!("{node}, codebuild:{}, task {task} of cluster {cluster}", known.uuid);
            Row::ok("node", found)
        }
        Err(error) => {
            let consequence = "AWS's clients are shown no build";
            Row::new("node", State::Missing, error.to_string(), consequence, "remove that file")
        }
    }
}

/// Starts a shell that ends at once.
pub(super) fn shell(known: &Known) -> Row {
    let argv = ["sh", "-c", ":"].map(str::to_owned).to_vec();
    let open = Request::Open(Open { argv, merged: true, ..Open::default() });
    let asked = Client::connect(&known.dir).and_then(|mut client| client.ask(&open));
    match asked {
        Ok(Answer::Opened { .. }) => Row::ok("shell", "sh starts in the container"),
        Ok(_) => {
            Row::new("shell", State::Missing, "another answer", "no shell", "see the row above")
        }
        Err(ClientError::Refused { message, .. }) => Row::new(
            "shell",
            State::Limited,
            message,
            "no Run Command and no shell of AWS's clients; exec of a program works",
            "an image with /bin/sh",
        ),
        Err(error) => {
            Row::new("shell", State::Missing, error.to_string(), "no shell", "see the row above")
        }
    }
}

/// The file of users.
pub(super) fn users(home: &Home) -> Row {
    match Users::open(home, None) {
        Ok(_) => Row::ok("users", "iam.json is right, or there is none: the owner alone may call"),
        Err(error) => Row::new(
            "users",
            State::Missing,
            error.to_string(),
            "`runner serve` does not start with it; one that runs keeps to what it said before",
            "mend what is named",
        ),
    }
}

/// As whom AWS is called, and whether that leads back here.
pub(super) fn identity(home: &Home, address: Option<&str>) -> Vec<Row> {
    let mut rows = Vec::new();
    let names = [
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
        "AWS_ENDPOINT_URL_KMS",
    ];
    let leads_back = |name: &&str| {
        let url = std::env::var(name).unwrap_or_default();
        let bare = url.trim_start_matches("http://").trim_end_matches('/');
        address.is_some_and(|address| bare == address)
    };
    if let Some(name) = names.into_iter().find(leads_back) {
        rows.push(Row::new(
            "loop",
            State::Limited,
            format!("{name} leads to this program's own endpoint"),
            "what a runner that is started from here sends to AWS comes back here, and is refused",
            format!("unset {name} where runner is started; AWS's clients alone need it"),
        ));
    }
    let own = KeyPair::existing(home).ok().flatten();
    let own = own.map(|pair| pair.credentials().access_key_id().to_owned());
    let found = runner_host::runtime::start().ok().and_then(|runtime| {
        runtime.block_on(async {
            let amazon = Amazon::load(&Identity::Default).await;
            tokio::time::timeout(SOON, amazon.credentials()).await.ok()?.ok()
        })
    });
    let found = match found {
        None => "no credentials for AWS: sessions and commands stay on this machine".to_owned(),
        Some(keys) if own.as_deref() == Some(keys.access_key_id()) => {
            "no credentials for AWS but the machine's own pair, which AWS does not know".to_owned()
        }
        Some(keys) => format!("access key {}", keys.access_key_id()),
    };
    rows.push(Row::ok("AWS", found));
    rows
}

/// A plugin that AWS's CLI warns about.
pub(super) fn dated(plugin: Row) -> Row {
    let version = plugin.found.trim();
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    if plugin.state != State::Ok || numbers.len() < PLUGIN.len() || numbers >= PLUGIN.to_vec() {
        return plugin;
    }
    let [major, minor, patch] = PLUGIN;
    Row::new(
        plugin.name,
        State::Limited,
        format!("{version}, older than {major}.{minor}.{patch}"),
        "it works, and warns",
        "install a newer one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_and_their_versions() {
        for (version, wanted) in [
            ("1.2.650.0", State::Limited),
            ("1.2.764.0", State::Ok),
            ("1.10.0.0", State::Ok),
            ("it is there", State::Ok),
        ] {
            assert_eq!(
                dated(Row::ok("session-manager-plugin", version)).state,
                wanted,
                "{version}"
            );
        }
    }
}
