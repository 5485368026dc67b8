//! Control groups as other machines have them: version 2 alone and both versions at once, as root, as a
//! user and as one to whom a group was delegated. Each case is a machine; what it checks is in
//! `tests/machines`.

use crate::common::{cases, virtual_machine};

cases! {
    // What it is like there does not depend on who starts the machine.
    [Root, Image("busybox"), Program("busybox"), Program("strip"), VirtualMachine] =>
        control_groups_of_version_2, control_groups_of_both_versions;
}

fn control_groups_of_version_2() {
    virtual_machine::run("unified");
}

fn control_groups_of_both_versions() {
    virtual_machine::run("hybrid");
}
