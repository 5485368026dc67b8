//! Translates a [`ContainerSpec`] into the sandbox's spec.

use crate::cached::{self, Handed};
use crate::host_image::{self, EtcCopy};
use crate::image::PreparedImage;
use crate::pasta::{self, Resolver};
use crate::unseen::Unseen;
use crate::{
    ContainerSpec, EngineError, MountAccess, NetworkAccess, READONLY, SourceMount, UserMount,
};
use runner_sandbox::{
    BuildLayer, Confinement, GroupView, Hidden, IdSwap, Root, RootEntry, SandboxSpec, UserMap,
};
use runner_wire::abi::COMMANDS;
use std::collections::HashSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where container daemons keep layers: the kernel refuses an overlay as the upper directory of
/// another.
const OF_DAEMONS: [&str; 2] = ["/var/lib/docker", "/var/lib/containerd"];

/// The root a container starts with: the image's, or an empty one.
pub(super) fn start_of_root(image: Option<&PreparedImage>) -> Root {
    match image {
        None => Root::Empty,
        Some(image) => Root::Image { lower: image.lower.clone(), restored: image.restored.clone() },
    }
}

/// The base of a container: an image, or this machine's own tools with a copy of /etc.
#[derive(Clone, Copy)]
pub(super) struct Base<'a> {
    pub(super) image: Option<&'a PreparedImage>,
    pub(super) etc: Option<&'a EtcCopy>,
}

/// The sandbox's spec, and the directories to hand over for its cache, if it has one.
pub(super) fn sandbox_spec(
    spec: &ContainerSpec,
    base: Base<'_>,
    layer: BuildLayer,
    users: Option<UserMap>,
    groups: Option<GroupView>,
) -> Result<(SandboxSpec, Option<Handed>), EngineError> {
    let mut root = start_of_root(base.image);
    let mut entries = match base.etc {
        Some(etc) => host_image::entries(etc).map_err(|error| {
            let message = format!("cannot look at this machine's own tools: {error}");
            EngineError::image(message, None)
        })?,
        None => rootfs_entries(),
    };
    entries.extend(common_entries(&spec.hostname, &spec.hosts));
    if spec.network == NetworkAccess::Pasta
        && let (_, Some(text)) = Resolver::of_host(&pasta::resolv_conf())
    {
        // Replaces the host's.
        let path = RESOLV_CONF.into();
        entries.push(RootEntry::File { path, mode: 0o644, from: None, text });
    }
    if spec.privileged {
        let plain = |dir: &str| RootEntry::Plain { path: dir.into(), mode: 0o710 };
        entries.extend(OF_DAEMONS.map(plain));
    }
    entries.push(RootEntry::Bind {
        path: READONLY.into(),
        source: spec.readonly.clone(),
        writable: false,
        hidden: Vec::new(),
    });
    entries.extend(spec.sources.iter().flat_map(source_entries));
    // Two work trees may share a repository.
    let mut seen = HashSet::new();
    entries.retain(|entry| match entry {
        RootEntry::Overlay { path, .. } => seen.insert(path.clone()),
        _ => true,
    });
    entries.extend(spec.mounts.iter().map(user_entry));
    entries.iter_mut().for_each(|entry| hide_state(entry, &spec.unseen));
    let layered = cached::lay(spec, &mut root, &mut entries);
    let owner = spec.sources.first().and_then(|source| fs::metadata(&source.dir).ok());
    let owner = owner.map(|dir| IdSwap { uid: dir.uid(), gid: dir.gid() });
    let (hostname, network) = (spec.hostname.clone(), spec.network);
    let spec = SandboxSpec {
        hostname,
        layer,
        root,
        entries,
        // In a user namespace the caller already is root, and owners cannot be swapped.
        owner: owner.filter(|owner| owner.uid != 0 && users.is_none()),
        users,
        network: match network {
            NetworkAccess::Host => runner_sandbox::ContainerNetwork::Host,
            NetworkAccess::None | NetworkAccess::Pasta => runner_sandbox::ContainerNetwork::Own,
        },
        confinement: if spec.privileged { Confinement::Privileged } else { Confinement::Build },
        groups,
        toolbox: spec.toolbox.clone(),
    };
    Ok((spec, layered))
}

/// A user's mount.
fn user_entry(mount: &UserMount) -> RootEntry {
    let (path, source) = (mount.target.clone(), mount.source.clone());
    let mode = fs::metadata(&source).map(|facts| facts.permissions().mode() & 0o777);
    match mount.access {
        MountAccess::CopyOnWrite if source.is_dir() => RootEntry::Overlay {
            path,
            lower: source,
            hidden: mount.hidden.iter().cloned().map(Hidden::Gone).collect(),
            over: Vec::new(),
            owned: true,
        },
        // An overlay's root cannot be a file.
        MountAccess::CopyOnWrite => RootEntry::File {
            path,
            mode: mode.unwrap_or(0o644),
            from: Some(source),
            text: String::new(),
        },
        access @ (MountAccess::Read | MountAccess::Write) => RootEntry::Bind {
            path,
            source,
            writable: access == MountAccess::Write,
            hidden: Vec::new(),
        },
    }
}

/// A source and the host's directories that source control needs for it.
fn source_entries(source: &SourceMount) -> Vec<RootEntry> {
    let overlay = |lower: &Path, path: &Path| RootEntry::Overlay {
        path: path.to_path_buf(),
        lower: lower.to_path_buf(),
        hidden: Vec::new(),
        over: Vec::new(),
        owned: true,
    };
    let extras = source.extras.iter().map(|dir| overlay(dir, dir));
    let files = source.files.iter().map(|(path, text)| RootEntry::File {
        path: source.target.join(path),
        mode: 0o644,
        from: None,
        text: text.clone(),
    });
    [overlay(&source.dir, &source.target)].into_iter().chain(extras).chain(files).collect()
}

/// Hides our own state folder wherever an entry would show it.
fn hide_state(entry: &mut RootEntry, unseen: &Unseen) {
    match entry {
        RootEntry::Overlay { lower, hidden, .. } => {
            hidden.extend(unseen.below(lower).map(|path| Hidden::Emptied(path.to_path_buf())));
        }
        RootEntry::Bind { source, hidden, .. } => {
            hidden.extend(unseen.below(source).map(Path::to_path_buf));
        }
        _ => {}
    }
}

/// Entries of every build, whatever its image.
fn common_entries(hostname: &str, hosts: &[(Ipv4Addr, String)]) -> Vec<RootEntry> {
    let more = hosts.iter().map(|(address, name)| format!("{address}\t{name}\n"));
    let more: String = more.collect();
    let directory = |path: &str, mode| RootEntry::Directory { path: path.into(), mode };
    let mut entries = vec![
        directory("/tmp", 0o1777),
        directory("/var/tmp", 0o1777),
        directory("/codebuild", 0o755),
        directory("/codebuild/output", 0o755),
        // Every user's commands save their state here. Not sticky: the kernel would then refuse to
        // let root open another user's files.
        directory("/codebuild/output/tmp", 0o777),
        directory("/codebuild/user/bin", 0o755),
        RootEntry::File {
            path: "/etc/hostname".into(),
            mode: 0o644,
            from: None,
            text: format!("{hostname}\n"),
        },
        RootEntry::File {
            path: "/etc/hosts".into(),
            mode: 0o644,
            from: Some("/etc/hosts".into()),
            // sudo, for example, looks up its own host name.
            text: format!("\n127.0.1.1\t{hostname}\n{more}"),
        },
        RootEntry::File {
            path: RESOLV_CONF.into(),
            mode: 0o644,
            from: Some(RESOLV_CONF.into()),
            text: String::new(),
        },
    ];
    // For sources whose owner cannot be shown as root, and for users other than root.
    entries.push(RootEntry::Append {
        path: "/etc/gitconfig".into(),
        text: "[safe]\n\tdirectory = *\n".to_owned(),
    });
    for name in COMMANDS {
        let program = PathBuf::from(format!("{READONLY}/bin/{name}"));
        for dir in ["/codebuild/user/bin", "/usr/local/bin"] {
            entries.push(RootEntry::Link { path: Path::new(dir).join(name), to: program.clone() });
        }
    }
    entries
}

/// Entries added to an image's root.
fn rootfs_entries() -> Vec<RootEntry> {
    // As in AWS, HOME is /root, so it must exist.
    vec![RootEntry::Directory { path: "/root".into(), mode: 0o700 }]
}
