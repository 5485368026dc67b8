//! A source directory prepared as a trap: the paths it names, its files, and who may see it.

use crate::common::{Bed, Running, build, cases, image, outcome};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => what_a_hostile_repository_names, what_git_files_lead_to,
        state_behind_a_link,
        fifos_in_the_source, escapes_in_our_lines, escapes_in_lists, escapes_in_lines_of_the_log;
    [] => a_repository_that_is_a_trap, links_that_lead_out_of_the_source,
        a_source_whose_name_is_no_text;
    [Root] => the_directories_of_process_are_closed;
}

fn busybox() -> String {
    format!("rootfs:{}", image("busybox").display())
}

/// A source can name any directory as its repository, but gets it only if that names the source in
/// return.
fn what_a_hostile_repository_names() {
    let bed = Bed::new();
    let secret = bed.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "for nobody's eyes").unwrap();
    let named = format!("gitdir: {}\n", secret.display());
    let command =
        format!("cat {}/key 2>&1; git --version > /dev/null 2>&1; true", secret.display());
    let check = |bed: &Bed, what: &str| {
        let output = bed.build(&build(&[&command]), &[]).code(0).output();
        assert!(output.contains("No such file"), "{what}: {output}");
        let _ = fs::remove_dir_all(bed.home().join("builds"));
    };
    bed.write(".git", &named);
    check(&bed, "a file that names it");
    // With a repository's files, but no reference to this source.
    for dir in ["objects", "refs"] {
        fs::create_dir(secret.join(dir)).unwrap();
    }
    fs::write(secret.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    check(&bed, "a repository of somebody else");
    fs::write(secret.join("config"), "[core]\n\tworktree = /elsewhere\n").unwrap();
    check(&bed, "a submodule of somebody else");
    // A link, and a directory that shares another.
    fs::remove_file(bed.source().join(".git")).unwrap();
    symlink(&secret, bed.source().join(".git")).unwrap();
    check(&bed, "a link");
    fs::remove_file(bed.source().join(".git")).unwrap();
    bed.write(".git/HEAD", "ref: refs/heads/main\n");
    bed.write(".git/commondir", secret.to_str().unwrap());
    check(&bed, "a directory that shares");
    fs::remove_dir_all(bed.source().join(".git")).unwrap();
    bed.write("fake/commondir", secret.to_str().unwrap());
    bed.write("fake/gitdir", bed.source().join(".git").to_str().unwrap());
    bed.write(".git", "gitdir: fake\n");
    check(&bed, "a work tree that is none");
}

/// A repository's files are read only if they are its own.
fn what_git_files_lead_to() {
    let bed = Bed::new();
    let (id, other) = ("0123456789abcdef".repeat(4), bed.path("other"));
    fs::create_dir_all(other.join("heads")).unwrap();
    for name in ["digits", "heads/main"] {
        fs::write(other.join(name), &id).unwrap();
    }
    fs::write(other.join("packed"), format!("{id} refs/heads/main\n")).unwrap();
    let config = "[remote \"origin\"]\n\turl = https://example.com/of-somebody-else\n";
    fs::write(other.join("config"), config).unwrap();
    let spec = build(&["echo \"<$CODEBUILD_RESOLVED_SOURCE_VERSION $CODEBUILD_SOURCE_REPO_URL>\""]);
    let git = bed.source().join(".git");
    for links in [
        &[("HEAD", "digits"), ("config", "config")][..],
        &[("refs", ""), ("config", "config")],
        &[("refs/heads", "heads")],
        &[("refs/heads/main", "heads/main")],
        &[("packed-refs", "packed")],
    ] {
        fs::create_dir_all(git.join("refs/heads")).unwrap();
        fs::create_dir_all(git.join("objects")).unwrap();
        fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        for (name, to) in links {
            let link = git.join(name);
            let _ = fs::remove_file(&link).or_else(|_| fs::remove_dir_all(&link));
            symlink(other.join(to), link).unwrap();
        }
        let output = bed.build(&spec, &[]).code(0).output();
        let url = output.split_whitespace().last().unwrap_or_default();
        assert!(!output.contains(&id) && !url.contains("somebody"), "{links:?}: {output}");
        let _ = fs::remove_dir_all(bed.home().join("builds"));
        fs::remove_dir_all(&git).unwrap();
    }
}

/// A source cannot make the runner write to the caller's files.
fn a_repository_that_is_a_trap() {
    let bed = Bed::new();
    let victim = bed.path("victim");
    let text = "keep\n\tworktree = x\n";
    fs::write(&victim, text).unwrap();
    bed.write(".git", "gitdir: fake\n");
    bed.write("fake/HEAD", "ref: refs/heads/main\n");
    fs::create_dir(bed.source().join("fake/objects")).unwrap();
    fs::create_dir(bed.source().join("fake/refs")).unwrap();
    symlink(&victim, bed.source().join("fake/config")).unwrap();
    bed.write("buildspec.yml", build(&["true"]));
    bed.runner(["run", "--engine", "process"]).code(0);
    assert_eq!(fs::read_to_string(&victim).unwrap(), text);
    // A repository that the source itself contains, and that names it.
    fs::remove_file(bed.source().join("fake/config")).unwrap();
    let own = format!("[core]\n\tworktree = {}\n", bed.source().display());
    bed.write("fake/config", &own);
    bed.runner(["run", "--engine", "process"]).code(0);
    assert_eq!(fs::read_to_string(bed.source().join("fake/config")).unwrap(), own);
}

/// Our own folder below the source is hidden, whatever path leads to it.
fn state_behind_a_link() {
    let bed = Bed::new();
    bed.write("b.yml", build(&["ls -A real/state; ls real"]));
    fs::create_dir_all(bed.source().join("real/state")).unwrap();
    symlink(bed.source(), bed.path("link")).unwrap();
    let mut command = bed.command(["run", "b.yml", "--image", &busybox()]);
    command.env("RUNNER_HOME", bed.path("link").join("real/state"));
    assert_eq!(outcome(&mut command).code(0).output(), "state\n");
}

/// Nothing in the source blocks before the build begins.
fn fifos_in_the_source() {
    let bed = Bed::new();
    for name in ["HEAD", "config", "packed-refs"] {
        let path = bed.source().join(".git").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    assert_eq!(bed.build(&build(&["echo hi"]), &[]).code(0).output(), "hi\n");
    let bed = Bed::new();
    let path = bed.source().join("buildspec.yml");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    bed.runner(["run", "--image", &busybox()]).code(2).says("it is a FIFO and no regular file");
}

/// Errors quote a file's lines, so links must not lead to the caller's other files.
fn links_that_lead_out_of_the_source() {
    let bed = Bed::new();
    fs::write(bed.path("private"), "password: hunter2\n").unwrap();
    symlink(bed.path("private"), bed.source().join("buildspec.yml")).unwrap();
    let outcome = bed.runner(["run"]).code(2).says("is a link that leads out of the source");
    let outcome =
        outcome.says(&format!("hint: name the file: runner run {}", bed.path("private").display()));
    assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
    fs::remove_file(bed.source().join("buildspec.yml")).unwrap();
    symlink(bed.path("private"), bed.source().join("runner.toml")).unwrap();
    let outcome = bed.runner(["run"]).code(2).says("is a link that leads out of its directory");
    assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
    fs::remove_file(bed.source().join("runner.toml")).unwrap();
    // Within the source, links are allowed.
    bed.write("ci/own.yml", build(&["echo hi"]));
    symlink("ci/own.yml", bed.source().join("buildspec.yml")).unwrap();
    bed.runner(["check"]).code(0);
}

/// A name that is not valid text is rejected, and nothing blocks on it.
fn a_source_whose_name_is_no_text() {
    let bed = Bed::new();
    let source = bed.path("place").join(std::ffi::OsStr::from_bytes(b"a\xff"));
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("buildspec.yml"), build(&["true"])).unwrap();
    symlink(&source, bed.path("link")).unwrap();
    let link = bed.path("link").display().to_string();
    bed.runner(["run", "--source", &link]).code(2).says("the path of the source is not UTF-8: ");
}

/// Text that a build can influence does not control the terminal through our own lines.
fn escapes_in_our_lines() {
    let bed = Bed::new();
    let command = "d=$(printf 'x\\033]0;own\\007'); mkdir \"$d\"; cd \"$d\"; codebuild-breakpoint";
    let running = bed.paused(&build(&[command]), &[]);
    bed.runner(["resume"]).code(0);
    let said = running.stderr.text();
    assert!(said.contains("]0;own") && !said.contains('\u{1b}'), "{said:?}");
    running.ends(0);
}

/// Neither do lists: such characters are replaced in texts, and escaped with the same value in
/// JSON.
fn escapes_in_lists() {
    let bed = Bed::new();
    let spec = "version: 0.2\nphases:\n  build:\n    commands:\n      - touch x\n      \
                - \"codebuild-breakpoint # \\e]52;c;\\a\\u202e\\x9b\\x7f\"\ncache:\n  \
                key: \"k\\e]52\\u202e\\x9b\\x7f\"\n  paths: [x]\n";
    let is_harmless = |text: &str| {
        assert!(text.contains("]52"), "{text:?}");
        let acts = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.contains(acts), "{text:?}");
    };
    let cache = bed.path("cache");
    let running = bed.paused(spec, &["--cache", cache.to_str().unwrap()]);
    is_harmless(&bed.runner(["ps"]).code(0).stdout);
    let json = bed.runner(["ps", "--format", "json"]).code(0).stdout;
    is_harmless(&json);
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let command = "codebuild-breakpoint # \u{1b}]52;c;\u{7}\u{202e}\u{9b}\u{7f}";
    assert_eq!(rows[0]["command"], command);
    bed.runner(["resume"]).code(0);
    running.ends(0);
    is_harmless(&bed.runner(["cache", "ls"]).code(0).stdout);
    let json = bed.runner(["cache", "ls", "--format", "json"]).code(0).stdout;
    is_harmless(&json);
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows[0]["key"], "k\u{1b}]52\u{202e}\u{9b}\u{7f}");
}

/// Our own lines in the log contain text of the buildspec: it does not control the terminal. A
/// command's output is unchanged, and so is a log that is not displayed, as in AWS.
fn escapes_in_lines_of_the_log() {
    let bed = Bed::new();
    let spec = "version: 0.2\nphases:\n  build:\n    commands:\n      - \"printf '\\\\033[1mbold\\\\n'; exit 3 \
                # \\e]52;c;cm0=\\a \\u202etxt\"\n";
    let outcome = bed.build(spec, &[]).code(1);
    assert!(outcome.stdout.contains("\u{1b}]52") && outcome.stdout.contains('\u{202e}'));
    assert!(!outcome.stderr.contains(['\u{1b}', '\u{202e}']), "{}", outcome.stderr);
    let is_harmless = |text: &str, what: &str| {
        let plain = text.replace("\u{1b}[1mbold", "");
        assert_ne!(plain, text, "{what}: {text:?}");
        assert!(plain.contains("]52;c;cm0="), "{what}: {plain:?}");
        assert!(!plain.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{what}: {plain:?}");
    };
    is_harmless(&bed.runner(["logs"]).code(0).stdout, "logs");
    let command = bed.build_command(spec, &["--log-format", "codebuild"]);
    let terminal = bed.terminal(command, 40, 200);
    is_harmless(&terminal.ends(1), "a terminal");
    let options = ["--annotations", "github", "--log-format", "json", "--quiet"];
    let told = bed.build(spec, &options).code(1).stderr;
    assert!(told.contains("::error ") && told.contains("]52;c;cm0="), "{told:?}");
    assert!(!told.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{told:?}");
}

/// Even without isolation, other users of the machine have no access.
fn the_directories_of_process_are_closed() {
    let bed = Bed::new();
    fs::set_permissions(bed.source(), fs::Permissions::from_mode(0o700)).unwrap();
    bed.write("private", "for nobody's eyes");
    bed.write("buildspec.yml", build(&["pwd -P; codebuild-breakpoint"]));
    let mut command = bed.command(["run", "--engine", "process", "--enable-session"]);
    command.args(["-e", "SECRET=hunter22222"]);
    let running = Running::spawn_from(&mut command);
    running.stderr.wait_for("stop ");
    let mut place = String::new();
    running.stdout.wait_until("the whole line with its place", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let mut lines = lines.filter(|line| line.starts_with("/var/tmp/runner-"));
        place = lines.next().unwrap_or_default().to_owned();
        !place.is_empty()
    });
    let root = place.split("/output/").next().unwrap();
    for target in [place.clone(), format!("{root}/output/tmp/env.sh"), root.to_owned()] {
        let reached = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "ls", &target])
            .output()
            .unwrap();
        assert!(!reached.status.success(), "{target}: {reached:?}");
    }
    bed.resume(running);
}
