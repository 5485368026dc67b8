//! Artifacts: selected by the buildspec's rules, packed, written to a folder or a bucket.

use crate::common::aws::{bucket, half_uploads, keys, object, with_aws};
use crate::common::{Bed, cases, list, outcome};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => a_folder_keeps_names_modes_and_times, the_log_is_codebuilds,
        nothing_to_collect, names_are_evaluated, patterns_choose, bases_are_globs,
        a_failed_build_leaves_its_artifacts, links_are_followed_within_reason,
        what_is_there_stays_until_all_is_there,
        what_earlier_builds_have_left, of_the_engine_process, without_the_option;
    [Containers, Image("busybox"), Program("python3"), Program("unzip")] => zips_are_read_by_others,
        a_zip_keeps_inner_links, many_files, a_sparse_file;
    [Containers, Image("busybox"), Root] => under_sudo_they_are_the_callers;
    [Containers, Image("busybox"), Python] => into_a_bucket, a_zip_in_a_bucket;
}

/// A buildspec with these commands and this `artifacts`.
pub(super) fn spec(commands: &[&str], artifacts: &str) -> String {
    format!("{}artifacts:\n{artifacts}", crate::common::build(commands))
}

pub(super) fn out(bed: &Bed) -> PathBuf {
    bed.path("out")
}

pub(super) fn collect(bed: &Bed, commands: &[&str], artifacts: &str) -> crate::common::Outcome {
    bed.build(&spec(commands, artifacts), &["--artifacts", out(bed).to_str().unwrap()])
}

/// Paths of all files below a directory, sorted.
pub(super) fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                pending.push(path);
            } else {
                found.push(path);
            }
        }
    }
    let name = |path: PathBuf| path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = found.into_iter().map(name).collect();
    names.sort();
    names
}

fn a_folder_keeps_names_modes_and_times() {
    let bed = Bed::new();
    collect(
        &bed,
        &[
            "mkdir -p d/e; echo one > d/one; echo 'two' > 'd/e/t w\no'; chmod 750 d/one",
            "touch -d '2001-09-09 01:46:40' d/one; printf x > \"$(printf 'd/raw\\377')\"",
            ": > d/empty; chmod 4711 d/empty; chmod 400 'd/e/t w\no'",
        ],
        "  files: ['d/**/*']\n",
    )
    .code(0);
    let mut names: Vec<Vec<u8>> = fs::read_dir(out(&bed).join("d"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    names.sort();
    assert_eq!(names, [&b"e"[..], b"empty", b"one", b"raw\xff"]);
    let one = out(&bed).join("d/one");
    let facts = fs::metadata(&one).unwrap();
    assert_eq!((facts.mode() & 0o7777, facts.mtime()), (0o750, 1_000_000_000));
    assert_eq!(fs::read(&one).unwrap(), b"one\n");
    assert_eq!(fs::read(out(&bed).join("d/e/t w\no")).unwrap(), b"two\n");
    // Bits that would give other rights here are removed.
    assert_eq!(fs::metadata(out(&bed).join("d/empty")).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(fs::metadata(out(&bed).join("d/e/t w\no")).unwrap().mode() & 0o7777, 0o400);
    assert_eq!(fs::read(out(&bed).join("d").join(OsStr::from_bytes(b"raw\xff"))).unwrap(), b"x");
    let own = nix::unistd::geteuid().as_raw();
    assert!(tree_owners(&out(&bed)).iter().all(|uid| *uid == own));
    let artifacts = &bed.record()["artifacts"];
    assert_eq!(artifacts["location"], out(&bed).to_str().unwrap(), "{artifacts}");
}

fn tree_owners(dir: &Path) -> Vec<u32> {
    let mut owners = vec![fs::symlink_metadata(dir).unwrap().uid()];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => owners.extend(tree_owners(&path)),
            false => owners.push(fs::symlink_metadata(&path).unwrap().uid()),
        }
    }
    owners
}

/// The agent's lines after the buildspec's last phase, without times.
fn agent_lines(stdout: &str) -> Vec<String> {
    let lines = stdout.lines().skip_while(|line| !line.contains("Phase complete: POST_BUILD"));
    lines.skip(2).filter_map(|line| Some(line.get(39..)?.to_owned())).collect()
}

/// The specification's golden logs, line by line.
fn the_log_is_codebuilds() {
    let bed = Bed::new();
    let outcome = collect(&bed, &["echo x > artifact.txt"], "  files: [artifact.txt]\n").code(0);
    assert_eq!(
        agent_lines(&outcome.stdout),
        [
            "Expanding base directory path: .",
            "Assembling file list",
            "Expanding .",
            "Expanding file paths for base directory .",
            "Assembling file list",
            "Expanding artifact.txt",
            "Found 1 file(s)",
            "Preparing to copy secondary artifacts",
            "No secondary artifacts defined in buildspec",
            "Phase complete: UPLOAD_ARTIFACTS State: SUCCEEDED",
            "Phase context status code:  Message: ",
        ]
    );
    let bed = Bed::new();
    // Whatever directory the commands have changed to.
    let outcome = collect(&bed, &["cd /tmp; echo x > x.json"], "  files: [x.json]\n").code(1);
    assert_eq!(
        agent_lines(&outcome.stdout)[5..],
        [
            "Expanding x.json",
            "Skipping invalid file path x.json",
            "Phase complete: UPLOAD_ARTIFACTS State: FAILED",
            "Phase context status code: CLIENT_ERROR Message: no matching artifact paths found",
        ]
    );
    outcome.says("hint: patterns are relative to /codebuild/output/src");
    let phase = &bed.record()["phases"][8];
    assert_eq!(
        (&phase["phaseType"], &phase["phaseStatus"]),
        (&"UPLOAD_ARTIFACTS".into(), &"FAILED".into())
    );
    assert_eq!(phase["contexts"][0]["statusCode"], "CLIENT_ERROR");
}

fn nothing_to_collect() {
    let bed = Bed::new();
    collect(&bed, &["true"], "  files: ['nothing/**/*']\n").code(1).says("FAILED: no matching");
    assert!(!out(&bed).exists());
    collect(&bed, &["true"], "  files: ['*']\n  base-directory: gone\n").code(1);
}

fn names_are_evaluated() {
    let bed = Bed::new();
    collect(
        &bed,
        &["VERSION=1.2; cd /; mkdir -p $CODEBUILD_SRC_DIR/d; echo x > $CODEBUILD_SRC_DIR/d/x"],
        "  files: ['*']\n  base-directory: $CODEBUILD_SRC_DIR/d\n  name: app-$VERSION/$(echo \"a  b\" | tr -s ' ')-`pwd`\n",
    )
    .code(0);
    assert_eq!(tree(&out(&bed)), ["app-1.2/a b-/x"]);

    let bed = Bed::new();
    collect(&bed, &["echo x > x"], "  files: [x]\n  name: $(exit 3)\n")
        .code(1)
        .says("exit status 3");
    // No name leads out of the folder.
    let bed = Bed::new();
    collect(&bed, &["echo x > x"], "  files: [x]\n  name: ../../../up\n").code(0);
    assert_eq!(tree(&out(&bed)), ["up/x"]);
}

fn patterns_choose() {
    const TREE: &str = "mkdir -p a/b c; touch .dot x.js a/y.js a/b/z.js c/x.js c/w.txt";
    for (artifacts, wanted) in [
        ("files: ['**/*.js']", &["a/b/z.js", "a/y.js", "c/x.js", "x.js"][..]),
        ("files: ['*']", &[".dot", "buildspec.yml", "x.js"]),
        ("files: [a]", &["a/b/z.js", "a/y.js"]),
        ("files: ['c/*', x.js]\n  discard-paths: yes", &["w.txt", "x.js"]),
        ("files: ['**/*']\n  exclude-paths: ['**/*.js', buildspec.yml]", &[".dot", "c/w.txt"]),
        ("files: ['**/*']\n  exclude-paths: '*.txt'\n  base-directory: c", &["x.js"]),
        ("files: [/etc/passwd, ../../../../etc/group]", &["etc/group", "etc/passwd"]),
    ] {
        let bed = Bed::new();
        collect(&bed, &[TREE], &format!("  {artifacts}\n")).code(0);
        assert_eq!(tree(&out(&bed)), wanted, "{artifacts}");
    }
    let bed = Bed::new();
    let secondary = "  files: [x]\n  secondary-artifacts:\n    one:\n      files: [y]\n    two:\n      \
                     files: ['d/*']\n      base-directory: .\n      name: other-$((1 + 1))\n";
    let outcome = collect(&bed, &["mkdir d; touch x y d/z"], secondary).code(0);
    assert_eq!(tree(&out(&bed)), ["one/y", "other-2/d/z", "x"]);
    assert!(!outcome.stdout.contains("No secondary artifacts"), "{}", outcome.stdout);
    let record = bed.record();
    let ids: Vec<_> = record["secondaryArtifacts"].as_array().unwrap().iter().collect();
    assert_eq!(ids.len(), 2, "{record}");
    assert_eq!(ids[1]["artifactIdentifier"], "two");
    assert_eq!(ids[1]["location"], out(&bed).join("other-2").to_str().unwrap());
}

fn bases_are_globs() {
    let bed = Bed::new();
    let commands = ["mkdir -p my-a/in my-b other; touch my-a/1 my-a/in/2 my-b/3 other/4"];
    collect(&bed, &commands, "  files: ['**/*']\n  base-directory: 'my-*'\n").code(0);
    assert_eq!(tree(&out(&bed)), ["1", "3", "in/2"]);
}

fn a_failed_build_leaves_its_artifacts() {
    let bed = Bed::new();
    let outcome = collect(&bed, &["echo log > log; exit 3"], "  files: [log]\n").code(1);
    assert_eq!(tree(&out(&bed)), ["log"]);
    assert!(outcome.stdout.contains("UPLOAD_ARTIFACTS State: SUCCEEDED"), "{}", outcome.stdout);
    // Not after a failure before BUILD.
    let bed = Bed::new();
    let early = "version: 0.2\nphases:\n  install:\n    commands: [touch log, exit 3]\nartifacts:\n  files: [log]\n";
    bed.build(early, &["--artifacts", out(&bed).to_str().unwrap()]).code(1);
    assert!(!out(&bed).exists());
}

fn links_are_followed_within_reason() {
    let bed = Bed::new();
    let outcome = collect(
        &bed,
        &[
            "mkdir -p d/e; echo f > d/f; ln -s ../f d/e/file; ln -s .. d/e/up; ln -s self d/self",
            "ln -s / d/away; ln -s gone d/dangling; mkdir real; echo r > real/r; ln -s ../real d/out",
            "ln -s e d/inner; mkfifo d/fifo; echo o > /opt-file; ln -s /opt-file d/absolute",
        ],
        "  files: ['**/*']\n  base-directory: d\n",
    )
    .code(0)
    .says("e/up: it leads to .., which it is in itself")
    .says("away: it leads out of the base directory, to /")
    .says("out: it leads out of the base directory, to ../real")
    .says("dangling: it leads nowhere (gone)")
    .says("self: it leads nowhere (self)")
    .says("fifo: it is neither a file nor a directory");
    assert_eq!(tree(&out(&bed)), ["absolute", "e/file", "f", "inner/file"], "{}", outcome.stderr);
    assert_eq!(fs::read(out(&bed).join("inner/file")).unwrap(), b"f\n");
    assert_eq!(fs::read(out(&bed).join("absolute")).unwrap(), b"o\n");
    // Naming a link means its target.
    let bed = Bed::new();
    let commands = ["mkdir /elsewhere; echo x > /elsewhere/x; ln -s /elsewhere latest"];
    collect(&bed, &commands, "  files: ['latest/**/*']\n").code(0);
    assert_eq!(tree(&out(&bed)), ["latest/x"]);
}

fn what_is_there_stays_until_all_is_there() {
    let bed = Bed::new();
    fs::create_dir_all(out(&bed).join("d")).unwrap();
    fs::write(out(&bed).join("d/old"), "old").unwrap();
    fs::write(out(&bed).join("d/x"), "before").unwrap();
    collect(&bed, &["mkdir d; echo now > d/x; echo new > d/y"], "  files: ['d/*']\n").code(0);
    assert_eq!(tree(&out(&bed)), ["d/old", "d/x", "d/y"]);
    assert_eq!(fs::read(out(&bed).join("d/x")).unwrap(), b"now\n");
    // A file in place of a directory: nothing is removed.
    let bed = Bed::new();
    fs::create_dir_all(out(&bed)).unwrap();
    fs::write(out(&bed).join("d"), "a file").unwrap();
    collect(&bed, &["mkdir d; echo now > d/x"], "  files: ['d/*']\n").code(1).says("in the way");
    assert_eq!(tree(&out(&bed)), ["d"]);
}

/// Output places may lie in the source: a build collects only its own files, however often it runs.
fn what_earlier_builds_have_left() {
    const ALL: &str = "  files: ['**/*']\n";
    let build = |bed: &Bed, engine: &[&str], text: &str| {
        bed.write("buildspec.yml", text);
        bed.write("notes/by hand", "notes");
        let image = format!("rootfs:{}", crate::common::image("busybox").display());
        let image = if engine.is_empty() { vec!["--image", &image] } else { engine.to_vec() };
        let places = [
            "--artifacts",
            "out",
            "--reports",
            "out/reports",
            "--cache",
            ".kept",
            "--log-file",
            "log",
        ];
        let outcome =
            bed.runner([vec!["run", "--project", "demo"], image, places.to_vec()].concat());
        let collected = tree(&bed.source().join("out"));
        (
            outcome.code(0),
            collected.into_iter().filter(|name| !name.starts_with("reports/")).collect::<Vec<_>>(),
        )
    };
    let junit = "<testsuite name='s'><testcase name='c'/></testsuite>";
    let text = format!(
        "{}reports:\n  r: {{files: ['**/*.xml']}}\ncache:\n  paths: ['**/*']\n",
        spec(&[&format!("mkdir d; echo x > d/x; echo \"{junit}\" > d/tests.xml")], ALL)
    );
    for engine in [&[][..], &["--engine", "process"]] {
        let bed = Bed::new();
        let wanted = ["buildspec.yml", "d/tests.xml", "d/x", "notes/by hand"];
        let (outcome, collected) = build(&bed, engine, &text);
        assert_eq!(collected, wanted);
        let saved = |outcome: &crate::common::Outcome| {
            let line = outcome.stderr.lines().find(|line| line.contains("cache: saved"));
            line.map(|line| line.split(" file").next().unwrap().to_owned())
        };
        assert_eq!(
            saved(&outcome).as_deref(),
            Some("runner: cache: saved 4"),
            "{}",
            outcome.stderr
        );
        for _ in 0..2 {
            let (outcome, collected) = build(&bed, engine, &text);
            assert_eq!(collected, wanted);
            let outcome = outcome.says("file(s) that are in ").says("/source/out from before");
            assert!(outcome.stdout.contains("Found 4 file(s)"), "{}", outcome.stdout);
            // One report, as before, of one file.
            assert_eq!(tree(&bed.source().join("out/reports")).len(), 3, "{}", outcome.stderr);
            assert!(
                saved(&outcome).is_none_or(|line| line.ends_with("saved 4")),
                "{}",
                outcome.stderr
            );
        }
        // What this build makes of it is its own.
        let again =
            spec(&["mkdir -p out/d; echo changed and longer > out/d/x; echo new > out/new"], ALL);
        let (_, collected) = build(&bed, engine, &again);
        let more = ["buildspec.yml", "d/tests.xml", "d/x", "notes/by hand", "out/d/x", "out/new"];
        assert_eq!(collected, more);
    }
    // Naming the place includes it.
    let bed = Bed::new();
    bed.write("dist/old", "old");
    let options = ["--artifacts", "dist"];
    let made = spec(&["echo new > dist/new"], "  files: ['**/*']\n  base-directory: dist\n");
    let outcome = bed.build(&made, &options).code(0);
    assert!(outcome.stdout.contains("Found 2 file(s)"), "{}", outcome.stdout);
    assert_eq!(tree(&bed.source().join("dist")), ["new", "old"]);
    let named = spec(&["true"], "  files: ['dist/*', '*.yml']\n");
    let outcome = bed.build(&named, &["--artifacts", "dist"]).code(0);
    assert!(outcome.stdout.contains("Found 3 file(s)"), "{}", outcome.stdout);
    // For a ZIP, only the ZIP itself.
    let bed = Bed::new();
    bed.write("docs/page", "page");
    for _ in 0..2 {
        let text = spec(&["true"], "  files: ['**/*']\n");
        let outcome = bed.build(&text, &["--artifacts", "docs/all.zip"]).code(0);
        assert!(outcome.stdout.contains("Found 2 file(s)"), "{}", outcome.stdout);
    }
}

fn of_the_engine_process() {
    let bed = Bed::new();
    let text = spec(&["mkdir d; echo x > d/x; chmod 700 d/x"], "  files: ['d/*']\n");
    bed.write("buildspec.yml", text);
    bed.runner(["run", "--engine", "process", "--artifacts", out(&bed).to_str().unwrap()]).code(0);
    let mode = fs::metadata(out(&bed).join("d/x")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

fn without_the_option() {
    let bed = Bed::new();
    let outcome = bed.build(&spec(&["touch x"], "  files: [x]\n"), &[]).code(0);
    let outcome = outcome.says("not collected: artifacts").says("--artifacts DIR");
    assert!(!outcome.stdout.contains("Expanding"), "{}", outcome.stdout);
    assert_eq!(bed.record()["artifacts"], serde_json::json!({"location": ""}));
    for bad in ["s3://X", "s3://", "https://x/y", ""] {
        bed.build("version: 0.2\n", &["--artifacts", bad]).code(2);
    }
}

fn python(script: &str, path: &Path) -> String {
    let output = Command::new("python3").args(["-c", script]).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const READ_ZIP: &str = "import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
for i in sorted(z.infolist(), key=lambda i: i.filename):
    print(ascii(i.filename), oct(i.external_attr >> 16), i.date_time[0], z.read(i)[:20])
";

fn zips_are_read_by_others() {
    let bed = Bed::new();
    let zip = out(&bed).join("app.zip");
    let text = spec(
        &[
            "mkdir -p d/e; echo one > d/one; chmod 750 d/one; touch -d '2001-09-09 01:46:40' d/one",
            "yes all work and no play | head -c 3000000 > d/e/text; : > d/empty; ln -s one d/link",
            "printf x > \"$(printf 'd/n\\nl')\"; head -c 2500000 /dev/urandom > d/noise; printf \u{e4} > d/\u{e4}",
        ],
        "  files: ['**/*']\n  base-directory: d\n",
    );
    bed.build(&text, &["--artifacts", zip.to_str().unwrap()]).code(0);
    let listed = python(READ_ZIP, &zip);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 7, "{listed}");
    assert!(lines.contains(&"'one' 0o100750 2001 b'one\\n'"), "{listed}");
    assert!(lines.iter().any(|line| line.starts_with("'n\\nl' 0o100644")), "{listed}");
    assert!(lines.iter().any(|line| line.starts_with("'\\xe4' 0o100644")), "{listed}");
    assert!(lines.iter().any(|line| line.starts_with("'link' 0o100750 2001 b'one")), "{listed}");
    let unzip = Command::new("unzip").arg("-tqq").arg(&zip).output().unwrap();
    assert!(unzip.status.success(), "{unzip:?}");
    let artifacts = &bed.record()["artifacts"];
    assert_eq!(artifacts["location"], zip.to_str().unwrap());
    for (program, key) in [("sha256sum", "sha256sum"), ("md5sum", "md5sum")] {
        let sum = Command::new(program).arg(&zip).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        assert_eq!(sum.split(' ').next(), artifacts[key].as_str(), "{artifacts}");
    }
    assert_eq!(list(&out(&bed)), ["app.zip"]);
}

fn a_zip_keeps_inner_links() {
    let bed = Bed::new();
    let commands = [
        "mkdir -p d/e; echo f > d/f; ln -s ../f d/e/in; echo o > o; ln -s ../o d/out; ln -s e d/dir",
    ];
    let artifacts =
        "  files: ['**/*']\n  base-directory: d\n  enable-symlinks: yes\n  name: a.zip\n";
    collect(&bed, &commands, artifacts).code(0);
    let listed = python(READ_ZIP, &out(&bed).join("a.zip"));
    let kinds: Vec<_> =
        listed.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>()).collect();
    assert_eq!(
        kinds,
        [["'dir'", "0o120777"], ["'e/in'", "0o120777"], ["'f'", "0o100644"], ["'out'", "0o100644"]]
    );
    assert!(listed.contains("b'../f'"), "{listed}");
}

/// Seventy thousand files, more than a ZIP can count without its extension.
fn many_files() {
    let bed = Bed::new();
    let make = "for d in $(seq 70); do mkdir -p d/$d; done; i=0; while [ $i -lt 70000 ]; do : > \
                d/$((i % 70 + 1))/$i; i=$((i + 1)); done";
    let outcome = collect(&bed, &[make], "  files: ['d/**/*']\n  name: a.zip\n").code(0);
    assert!(outcome.stdout.contains("Found 70000 file(s)"), "{}", outcome.stdout);
    let count = "import sys, zipfile; print(len(zipfile.ZipFile(sys.argv[1]).namelist()))";
    assert_eq!(python(count, &out(&bed).join("a.zip")), "70000\n");
}

/// Five gigabytes of zeros: only the data that exists is stored, and memory does not hold them.
fn a_sparse_file() {
    let bed = Bed::new();
    let text = spec(
        &["truncate -s 5G large; echo end >> large; echo x > x"],
        "  files: [large, x]\n  secondary-artifacts:\n    zip:\n      files: [large, x]\n      name: a.zip\n",
    );
    bed.build(&text, &["--artifacts", out(&bed).to_str().unwrap()]).code(0);
    let large = fs::metadata(out(&bed).join("large")).unwrap();
    assert_eq!(large.len(), (5 << 30) + 4);
    assert!(large.blocks() < 1000, "{} blocks", large.blocks());
    // unzip takes half a minute for as much.
    let sizes = "import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
end = b''
with z.open('large') as large:
    while part := large.read(1 << 24):
        end = part[-4:]
print([(i.filename, i.file_size, i.compress_size < 20 << 20) for i in z.infolist()], z.read('x'), end)
";
    let wanted =
        format!("[('large', {}, True), ('x', 2, True)] b'x\\n' b'end\\n'\n", (5_u64 << 30) + 4);
    assert_eq!(python(sizes, &out(&bed).join("a.zip")), wanted);
}

fn under_sudo_they_are_the_callers() {
    const CALLER: &str = "65534";
    let bed = Bed::new();
    bed.open_to_others();
    let text = spec(
        &["mkdir d; touch d/x; chown 7:7 d/x"],
        "  files: ['d/*']\n  name: deep/er\n  secondary-artifacts:\n    zip: {files: [d/x], name: a.zip}\n",
    );
    let mut command = bed.build_command(&text, &["--artifacts", out(&bed).to_str().unwrap()]);
    outcome(command.env("SUDO_UID", CALLER).env("SUDO_GID", CALLER)).code(0);
    assert_eq!(tree(&out(&bed)), ["a.zip", "deep/er/d/x"]);
    let owners = tree_owners(&out(&bed));
    assert!(owners.iter().all(|uid| uid.to_string() == CALLER), "{owners:?}");
}

fn into_a_bucket() {
    let name = bucket("artifacts-plain");
    let bed = Bed::new();
    let text = spec(
        &[
            "mkdir -p d/e; echo one > d/one; echo 'two' > 'd/e/t wö'; head -c 20000000 /dev/zero | tr '\\0' z > d/large",
        ],
        "  files: ['d/**/*']\n  secondary-artifacts:\n    other: {files: [d/one], discard-paths: yes}\n",
    );
    with_aws(&bed, &text, &["--artifacts", &format!("s3://{name}/pre/fix/")]).code(0);
    assert_eq!(
        keys(&name),
        ["pre/fix/d/e/t wö", "pre/fix/d/large", "pre/fix/d/one", "pre/fix/other/one"]
    );
    assert_eq!(object(&name, "pre/fix/d/one"), b"one\n");
    let large = object(&name, "pre/fix/d/large");
    assert!(large.len() == 20_000_000 && large.iter().all(|byte| *byte == b'z'));
    assert_eq!(half_uploads(&name), 0);
    let record = bed.record();
    assert_eq!(record["artifacts"]["location"], format!("arn:aws:s3:::{name}/pre/fix"));
    // S3 requires names to be valid text.
    let bed = Bed::new();
    let text = spec(&["touch \"$(printf 'r\\377')\""], "  files: ['r*']\n");
    with_aws(&bed, &text, &["--artifacts", &format!("s3://{name}")])
        .code(1)
        .says("r\\xff: S3 accepts");
}

fn a_zip_in_a_bucket() {
    let name = bucket("artifacts-zip");
    let bed = Bed::new();
    let text =
        spec(&["echo one > one; head -c 20000000 /dev/urandom > noise"], "  files: [one, noise]\n");
    with_aws(&bed, &text, &["--artifacts", &format!("s3://{name}/a/app.zip")]).code(0);
    assert_eq!(keys(&name), ["a/app.zip"]);
    let place = bed.path("back.zip");
    fs::write(&place, object(&name, "a/app.zip")).unwrap();
    let script =
        "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); print(z.testzip(), z.read('one'))";
    assert_eq!(python(script, &place), "None b'one\\n'\n");
    let head = crate::common::aws::cli(&[
        "s3api",
        "head-object",
        "--bucket",
        &name,
        "--key",
        "a/app.zip",
        "--output",
        "json",
    ]);
    let head: serde_json::Value = serde_json::from_slice(&head).unwrap();
    let record = bed.record();
    assert_eq!(head["Metadata"]["codebuild-content-sha256"], record["artifacts"]["sha256sum"]);
    assert_eq!(head["Metadata"]["codebuild-content-md5"], record["artifacts"]["md5sum"]);
    assert_eq!(head["Metadata"]["codebuild-buildarn"], record["arn"]);
    assert_eq!(record["artifacts"]["location"], format!("arn:aws:s3:::{name}/a/app.zip"));
}
