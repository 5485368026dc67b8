//! Control groups as on other machines: version 2 only and both versions at once, as root, as a
//! user and as a user with a delegated group. Each case is a machine; its checks are in
//! `tests/machines`.

use crate::common::{cases, virtual_machine};

cases! {
    // The results do not depend on who starts the machine.
    [Root, Image("busybox"), Program("busybox"), Program("strip"), VirtualMachine] =>
        control_groups_of_version_2, control_groups_of_both_versions;
}

fn control_groups_of_version_2() {
    virtual_machine::run("unified");
}

fn control_groups_of_both_versions() {
    virtual_machine::run("hybrid");
}
