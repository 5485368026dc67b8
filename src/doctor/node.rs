//! Checks a build as a node of AWS's clients: its names, a shell, who may call, and the identity
//! with which this program calls AWS.

use super::{CheckRow, CheckState};
use runner_client::{Client, ClientError};
use runner_cloud::{Amazon, CloudIdentity};
use runner_core::destination::Destinations;
use runner_folder::state::{Clusters, Home, KnownBuild};
use runner_serve::aws::{
    KeyPair, Needs, Outlook, Users, agent_config, node_id, session_needs, task_needs,
};
use runner_serve::deliveries::{CheckedDestinations, leads_back};
use runner_wire::control::{ControlRequest, ControlResponse, OpenProgram};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// Time limit for finding credentials.
const SOON: Duration = Duration::from_secs(5);
/// From this version on, the plugin supports all that AWS's agent requires.
const PLUGIN: [u32; 3] = [1, 2, 764];

/// The names under which clients reach it.
pub(super) fn names(home: &Home, known: &KnownBuild) -> CheckRow {
    let task = known.uuid.replace('-', "");
    let node = node_id(&known.uuid);
    match Clusters::of(home).current() {
        Ok(table) => {
            let cluster = table.cluster_of(&known.uuid);
            let found =
                format!("{node}, codebuild:{}, task {task} of cluster {cluster}", known.uuid);
            CheckRow::ok("node", found)
        }
        Err(error) => {
            let consequence = "AWS's clients see no builds";
            CheckRow::new(
                "node",
                CheckState::Missing,
                error.to_string(),
                consequence,
                "remove that file",
            )
        }
    }
}

/// Starts a shell that exits at once.
pub(super) fn shell(known: &KnownBuild) -> CheckRow {
    let argv = ["sh", "-c", ":"].map(str::to_owned).to_vec();
    let open = ControlRequest::Open(OpenProgram { argv, merged: true, ..OpenProgram::default() });
    let asked = Client::connect(&known.dir).and_then(|mut client| client.ask(&open));
    match asked {
        Ok(ControlResponse::Opened { .. }) => CheckRow::ok("shell", "sh starts in the container"),
        Ok(_) => CheckRow::new(
            "shell",
            CheckState::Missing,
            "another answer",
            "no shell",
            "see the row above",
        ),
        Err(ClientError::Refused { message, .. }) => CheckRow::new(
            "shell",
            CheckState::Limited,
            message,
            "no Run Command and no shell of AWS's clients; exec of a program works",
            "an image with /bin/sh",
        ),
        Err(error) => CheckRow::new(
            "shell",
            CheckState::Missing,
            error.to_string(),
            "no shell",
            "see the row above",
        ),
    }
}

/// The file of users.
pub(super) fn users(home: &Home) -> CheckRow {
    match Users::open(home, None) {
        Ok(_) => {
            CheckRow::ok("users", "iam.json is valid, or there is none and only the owner may call")
        }
        Err(error) => CheckRow::new(
            "users",
            CheckState::Missing,
            error.to_string(),
            "`runner serve` does not start with it; a running one uses the previous version",
            "correct what is named",
        ),
    }
}

/// The identity used for AWS, whether its endpoint leads back here, and what sessions in the build
/// would meet there.
pub(super) fn amazon(home: &Home, known: &KnownBuild, address: Option<&str>) -> Vec<CheckRow> {
    let Ok(runtime) = runner_host::runtime::start() else { return Vec::new() };
    runtime.block_on(async {
        let mut rows = identity(home, address).await;
        rows.extend(sessions(home, known).await);
        rows
    })
}

async fn identity(home: &Home, address: Option<&str>) -> Vec<CheckRow> {
    let mut rows = Vec::new();
    let names = [
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
        "AWS_ENDPOINT_URL_KMS",
    ];
    // It may listen at all addresses of this machine: clients get the one that is reachable from
    // here.
    let port = address.and_then(|address| address.parse().ok()).map(|it: SocketAddr| it.port());
    let own: Vec<SocketAddr> =
        port.map(|port| (Ipv4Addr::UNSPECIFIED, port).into()).into_iter().collect();
    let mut back = None;
    for name in names {
        let url = std::env::var(name).unwrap_or_default();
        if leads_back(&url, own.clone()).await {
            back = Some(name);
            break;
        }
    }
    if let Some(name) = back {
        rows.push(CheckRow::new(
            "loop",
            CheckState::Limited,
            format!("{name} leads to this program's own endpoint"),
            "a runner started here sends its AWS calls to itself, and they are refused",
            format!("unset {name} where runner is started; only AWS's clients need it"),
        ));
    }
    let own = KeyPair::existing(home).ok().flatten();
    let own = own.map(|pair| pair.credentials().access_key_id().to_owned());
    let amazon = Amazon::load(&CloudIdentity::Default).await;
    let asked = timeout(SOON, amazon.credentials()).await;
    let found = asked.ok().and_then(Result::ok);
    let found = match found {
        None => "no credentials for AWS: sessions and commands stay on this machine".to_owned(),
        Some(keys) if own.as_deref() == Some(keys.access_key_id()) => {
            "no credentials for AWS except the machine's own pair, which AWS does not know"
                .to_owned()
        }
        Some(keys) => format!("access key {}", keys.access_key_id()),
    };
    rows.push(CheckRow::ok("AWS", found));
    rows
}

/// What sessions would meet at AWS, if they are to be logged there or encrypted.
async fn sessions(home: &Home, known: &KnownBuild) -> Vec<CheckRow> {
    let agent = agent_config(home, None).map(|(agent, _)| agent).unwrap_or_default();
    let outlook = Outlook::new(home, CloudIdentity::Default, &agent);
    let all = [
        (["session log", "session key"], session_needs(home).await),
        (["task log", "task key"], task_needs(home, &known.uuid).await),
    ];
    let mut rows = Vec::new();
    for ([log, key], needs) in all {
        let Needs { logs, key: wanted } = match needs {
            Ok(needs) => needs,
            Err(why) => {
                rows.push(CheckRow::new(
                    log,
                    CheckState::Missing,
                    why,
                    "no session begins",
                    "correct it",
                ));
                continue;
            }
        };
        if !logs.is_empty() {
            rows.push(logged(log, logs, &outlook).await);
        }
        if let Some(wanted) = wanted {
            rows.push(encrypted(key, &wanted, &outlook).await);
        }
    }
    rows
}

async fn logged(name: &'static str, logs: Destinations, outlook: &Outlook) -> CheckRow {
    let words = logs.words();
    let must = logs.must_be_encrypted();
    let Ok(CheckedDestinations { refusal, notices, .. }) = timeout(SOON, outlook.logs(logs)).await
    else {
        let found = format!("AWS has not answered about {words}");
        return CheckRow::new(
            name,
            CheckState::Limited,
            found,
            "output is stored here until AWS answers",
            "try it again",
        );
    };
    match (refusal, notices.is_empty()) {
        (Some(why), _) => CheckRow::new(
            name,
            CheckState::Missing,
            why,
            "no session begins",
            "correct what is named",
        ),
        (None, false) => CheckRow::new(
            name,
            CheckState::Limited,
            notices.join(" "),
            "sessions begin, unless --require-session-log demands a log",
            "create what is missing, or name another in the preferences or in the cluster",
        ),
        (None, true) => {
            let encrypted = if must { ", encrypted as required" } else { "" };
            CheckRow::ok(name, format!("{words}{encrypted}"))
        }
    }
}

async fn encrypted(name: &'static str, key: &str, outlook: &Outlook) -> CheckRow {
    let consequence = "sessions end as soon as they begin";
    match timeout(SOON, outlook.key(key)).await {
        Ok(Ok((arn, true))) => CheckRow::ok(name, arn),
        Ok(Ok((arn, false))) => {
            let found = format!("{arn} is not enabled");
            CheckRow::new(
                name,
                CheckState::Missing,
                found,
                consequence,
                "enable it, or name another key",
            )
        }
        // Permission to use it does not imply permission to inspect it.
        Ok(Err(why)) => {
            let mend = "name an existing key; kms:DescribeKey lets this program check it";
            CheckRow::new(name, CheckState::Limited, format!("{key}: {why}"), consequence, mend)
        }
        Err(_) => {
            let found = format!("AWS has not answered about {key}");
            CheckRow::new(name, CheckState::Limited, found, consequence, "try it again")
        }
    }
}

/// A plugin that makes AWS's CLI print a warning.
pub(super) fn dated(plugin: CheckRow) -> CheckRow {
    let version = plugin.found.trim();
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    if plugin.state != CheckState::Ok || numbers.len() < PLUGIN.len() || numbers >= PLUGIN.to_vec()
    {
        return plugin;
    }
    let [major, minor, patch] = PLUGIN;
    CheckRow::new(
        plugin.name,
        CheckState::Limited,
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
            ("1.2.650.0", CheckState::Limited),
            ("1.2.764.0", CheckState::Ok),
            ("1.10.0.0", CheckState::Ok),
            ("it is there", CheckState::Ok),
        ] {
            assert_eq!(
                dated(CheckRow::ok("session-manager-plugin", version)).state,
                wanted,
                "{version}"
            );
        }
    }
}
