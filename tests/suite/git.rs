//! git in a build's source: clones owned by others, linked work trees, submodules.

use crate::common::{Bed, build, cases, is_root};
use std::fs;

cases! {
    [Containers, Program("git")] => a_plain_clone_and_a_work_tree, a_submodule;
}

fn git(bed: &Bed, arguments: &[&str]) {
    let mut command = bed.other("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.com"]).args(arguments);
    assert!(command.status().unwrap().success(), "git {arguments:?}");
}

fn a_plain_clone_and_a_work_tree() {
    let commands = [
        "git describe --tags; git status --short; git log --format=%s -1",
        "test \"$(git rev-parse HEAD)\" = $CODEBUILD_RESOLVED_SOURCE_VERSION; echo $?; echo \
         $CODEBUILD_SOURCE_VERSION $CODEBUILD_SOURCE_REPO_URL",
        "git commit -q --allow-empty -m inside --author='a <a@b>' 2>&1 | head -n1; git checkout -q -b \
         other && echo switched",
    ];
    let bed = Bed::host();
    bed.write("buildspec.yml", build(&commands));
    git(&bed, &["init", "-q", "-b", "trunk"]);
    git(&bed, &["add", "."]);
    git(&bed, &["commit", "-q", "-m", "first"]);
    git(&bed, &["tag", "v1"]);
    git(&bed, &["remote", "add", "origin", "https://user:word@example.com/a.git"]);
    let wanted = "v1\nfirst\n0\ntrunk https://example.com/a.git\n";
    // A plain clone, owned by someone else.
    if is_root() {
        let chown = bed.other("chown").args(["-R", "1234:1234", "."]).status().unwrap();
        assert!(chown.success());
    }
    let output = bed.runner(["run"]).code(0).output();
    assert!(output.starts_with(wanted) && output.ends_with("switched\n"), "{output}");
    let head = fs::read_to_string(bed.source().join(".git/HEAD")).unwrap();
    assert_eq!(head, "ref: refs/heads/trunk\n", "the host's own is untouched");

    // A linked work tree, whose repository is elsewhere.
    let tree = bed.path("tree");
    git(
        &bed,
        &["-c", "safe.directory=*", "worktree", "add", "-q", "-b", "side", tree.to_str().unwrap()],
    );
    let outcome = bed.runner(["run", "--source", tree.to_str().unwrap()]).code(0);
    let wanted = wanted.replace("trunk", "side");
    assert!(outcome.output().starts_with(&wanted), "{}", outcome.output());
}

/// A source that is a submodule: its repository is part of the surrounding one.
fn a_submodule() {
    let bed = Bed::host();
    git(&bed, &["init", "-q", "-b", "trunk"]);
    git(&bed, &["commit", "-q", "--allow-empty", "-m", "first"]);
    git(&bed, &["tag", "v1"]);
    let around = bed.path("around");
    let (around, source) = (around.to_str().unwrap(), bed.source());
    git(&bed, &["init", "-q", around]);
    let add = ["-c", "protocol.file.allow=always", "submodule", "add", "-q"];
    git(&bed, &[&["-C", around], &add[..], &[source.to_str().unwrap(), "sub"]].concat());
    let commands = ["git describe --tags; git status --short; git rev-parse --show-toplevel"];
    let spec = bed.write("sub.yml", build(&commands));
    let source = format!("{around}/sub");
    let output = bed.runner(["run", spec.to_str().unwrap(), "--source", &source]).code(0).output();
    let top = output.strip_prefix("v1\n").unwrap_or_else(|| panic!("{output}"));
    assert!(top.starts_with("/codebuild/output/src") && top.ends_with("/src\n"), "{output}");
    let own = fs::read_to_string(format!("{source}/.git")).unwrap();
    assert!(own.starts_with("gitdir: ../"), "the host's own is untouched: {own}");
}
