//! The servers that other tests rely on are real ones and behave as such.

use crate::common::registry::{Layout, PASSWORD, Registry, USER};
use crate::common::{cases, outcome};
use std::process::Command;

cases! {
    [Image("busybox"), Program("docker-registry"), Program("skopeo"), Program("umoci")] =>
        a_registry_gives_what_was_pushed,
        a_closed_registry_asks_who_it_is;
}

fn inspect(reference: &str, options: &[&str]) -> Command {
    let mut command = Command::new("skopeo");
    command
        .args(["inspect", "--tls-verify=false"])
        .args(options)
        .arg(format!("docker://{reference}"));
    command
}

fn a_registry_gives_what_was_pushed() {
    let layout = Layout::of_image("busybox");
    layout.config(&["--config.env=COLOUR=blue"]);
    let registry = Registry::open();
    let name = registry.push(&layout, "fixtures/busybox:one");
    let seen = outcome(&mut inspect(&name, &[])).code(0);
    assert!(seen.stdout.contains("COLOUR=blue"), "{}", seen.stdout);
    assert!(registry.storage().join("repositories/fixtures/busybox").is_dir());
}

fn a_closed_registry_asks_who_it_is() {
    let name = Registry::closed().push(&Layout::of_image("busybox"), "fixtures/secret:one");
    outcome(&mut inspect(&name, &["--no-creds"])).code(1).says("unauthorized");
    outcome(&mut inspect(&name, &["--creds", &format!("{USER}:{PASSWORD}")])).code(0);
}
