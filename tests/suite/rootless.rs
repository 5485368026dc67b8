//! Differences if the runner is not root: the identity of the build's users on the host.

use crate::common::{Bed, cases, is_root, list};
use std::os::unix::fs::MetadataExt;

cases! {
    [Containers, Image("busybox")] => nothing_is_left_that_the_caller_cannot_remove, the_source_is_ours,
        a_container_with_one_user;
}

/// Files of other users, directories nobody may enter, in the layer: removed with the build.
fn nothing_is_left_that_the_caller_cannot_remove() {
    let bed = Bed::new();
    let outcome = bed.build(
        "version: 0.2\nphases:\n  build:\n    commands:\n      - mkdir -p /deep/er; touch /deep/er/x; \
         chmod 000 /deep/er /deep\n      - mkdir /theirs; touch /theirs/x; chown -R 33:33 /theirs \
         2>/dev/null; chmod 0 /theirs; echo done\n",
        &[],
    );
    assert_eq!(outcome.code(0).output(), "done\n");
    assert!(!bed.only().join("layer").exists());
    for file in list(&bed.only()) {
        let owner = std::fs::metadata(bed.only().join(&file)).unwrap().uid();
        assert_eq!(owner, nix::unistd::geteuid().as_raw(), "{file}");
    }
}

fn the_source_is_ours() {
    let bed = Bed::new();
    bed.write("file", "as it was\n");
    let outcome = bed.build(
        "version: 0.2\nphases:\n  build:\n    commands:\n      - stat -c %u file; echo new > file; cat \
         file; head -n 1 /proc/self/uid_map | tr -s ' '\n",
        &[],
    );
    let own = nix::unistd::geteuid();
    let map = if is_root() { " 0 0 4294967295".to_owned() } else { format!(" 0 {own} 1") };
    assert_eq!(outcome.code(0).output(), format!("0\nnew\n{map}\n"));
    assert_eq!(std::fs::read_to_string(bed.source().join("file")).unwrap(), "as it was\n");
}

/// Failures for lack of users are explained where they occur, with what would help.
fn a_container_with_one_user() {
    let name = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let table = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    let has_others = is_root() || table.lines().any(|line| line.split(':').next() == Some(&name));
    let outcome = Bed::new().build(
        "version: 0.2\nphases:\n  build:\n    on-failure: CONTINUE\n    commands:\n      - touch x; \
         chown 7:7 x 2>&1\n  post_build:\n    run-as: builder\n    commands:\n      - id -u\n",
        &[],
    );
    if has_others {
        assert_eq!(outcome.code(0).output(), "1000\n");
        return;
    }
    let outcome =
        outcome.code(1).says("one user only").says("hint: `chown` needs more users than root");
    assert!(outcome.stdout.contains("this is to run as `builder`"), "{outcome:?}");
    // How depends on this machine.
    assert_eq!(outcome.stderr.matches("subordinate ids: sudo usermod").count(), 2, "{outcome:?}");
}
