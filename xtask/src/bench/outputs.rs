//! A build's outputs and inputs: ZIPs compared with zip, restored caches with cp, uploads to an
//! S3-compatible server with AWS's own CLI.

use super::bed::{Bed, OwnedProcess};
use super::{Contender, measure, quiet};
use crate::{ChoreResult, packages, python, root};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const FILES: usize = 50_000;
const UPLOAD: &str = "256M";

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: impl ToString) -> String {
    error.to_string()
}

/// A tree of text, programs and incompressible files.
fn tree(bed: &Bed) -> ChoreResult<PathBuf> {
    let tree = bed.dir.join("tree");
    fs::create_dir(&tree).map_err(failed)?;
    for part in ["/usr/include", "/usr/share/perl", "/usr/lib/python3", "/usr/lib/git-core"] {
        if Path::new(part).is_dir() {
            quiet(Command::new("cp").args(["-rL", "--"]).arg(part).arg(&tree))?;
        }
    }
    let noise = tree.join("noise").display().to_string();
    quiet(Command::new("sh").args(["-c", "head -c 20M /dev/urandom > \"$1\"", "sh", &noise]))?;
    Ok(tree)
}

/// A buildspec in a separate file.
fn spec(bed: &Bed, name: &str, rest: &str) -> ChoreResult<PathBuf> {
    let path = bed.dir.join(format!("{name}.yml"));
    let head = "version: 0.2\nphases: {build: {commands: [':']}}\n";
    fs::write(&path, format!("{head}{rest}")).map_err(failed)?;
    Ok(path)
}

/// A whole build that packs its source, compared with one process that packs it.
pub(super) fn zip(bed: &Bed) -> ChoreResult {
    packages::install(&["zip"])?;
    let tree = tree(bed)?;
    let spec = spec(bed, "zip", "artifacts:\n  files: ['**/*']\n")?;
    let (ours, theirs) = (bed.dir.join("ours.zip"), bed.dir.join("theirs.zip"));
    let (source, target) = (tree.display().to_string(), ours.display().to_string());
    let mut contenders = vec![
        Contender::new("`runner run`, artifacts as a ZIP", || {
            bed.runner_run(&spec, &["--source", &source, "--artifacts", &target])
        }),
        Contender::new("`zip -r -q`", || {
            let _ = fs::remove_file(&theirs);
            quiet(Command::new("zip").args(["-r", "-q"]).arg(&theirs).arg(".").current_dir(&tree))
        }),
    ];
    let result = measure("A tree into a ZIP (whole process)", 1, &mut contenders);
    drop(contenders);
    for path in [&ours, &theirs] {
        let size = fs::metadata(path).map_err(failed)?.len();
        println!("{}: {size} bytes", path.display());
    }
    println!();
    result
}

/// A whole build that restores a cache, compared with a copy of the same tree.
pub(super) fn cache(bed: &Bed) -> ChoreResult {
    let source = bed.dir.join("cached");
    let deps = source.join("deps");
    for dir in 0..100 {
        let dir_path = deps.join(dir.to_string());
        fs::create_dir_all(&dir_path).map_err(failed)?;
        for file in 0..FILES / 100 {
            let text =
                format!("file {file} of directory {dir}, as long as many a source file is\n");
            fs::write(dir_path.join(file.to_string()), text.repeat(20)).map_err(failed)?;
        }
    }
    let store = bed.dir.join("caches").display().to_string();
    let save = spec(bed, "save", "cache: {action: save, paths: [deps]}\n")?;
    let from = source.display().to_string();
    bed.runner_run(&save, &["--source", &from, "--project", "bench", "--cache", &store])?;
    let restore = spec(bed, "restore", "cache: {action: restore, paths: [deps]}\n")?;
    // The usual key, which needs a shell in the container.
    let app = bed.dir.join("app");
    fs::create_dir(&app).map_err(failed)?;
    for dir in [&source, &app] {
        fs::write(dir.join("lock"), "left-pad 1.3.0\n").map_err(failed)?;
    }
    let keyed = |action: &str| {
        let key = "deps-$(codebuild-hash-files lock)";
        let rest = format!("cache: {{action: {action}, key: '{key}', paths: [deps]}}\n");
        spec(bed, &format!("{action}-keyed"), &rest)
    };
    bed.runner_run(&keyed("save")?, &["--source", &from, "--project", "keyed", "--cache", &store])?;
    let keyed = keyed("restore")?;
    let app = app.display().to_string();
    let dynamic = spec(bed, "dynamic", "cache: {key: $(echo none), paths: [deps]}\n")?;
    let copy = bed.dir.join("copy");
    let mut contenders = vec![
        Contender::new("`runner run`, cache restored", || {
            bed.runner_run(&restore, &["--project", "bench", "--cache", &store])
        }),
        Contender::new("`runner run`, cache restored by a key of the shell", || {
            let options = ["--source", &app, "--project", "keyed", "--cache", &store];
            bed.runner_run(&keyed, &options)
        }),
        Contender::new("`runner run`, no cache found", || {
            bed.runner_run(&dynamic, &["--project", "other", "--cache", &store])
        }),
        Contender::timed("`cp -a`", || {
            let begin = Instant::now();
            quiet(Command::new("cp").arg("-a").arg(&deps).arg(&copy))?;
            let took = begin.elapsed();
            fs::remove_dir_all(&copy).map_err(failed)?;
            Ok(took)
        }),
    ];
    measure(&format!("A cache of {FILES} files"), 1, &mut contenders)
}

/// AWS's services, simulated by moto's server.
pub(super) struct Moto {
    port: u16,
    _server: OwnedProcess,
}

impl Moto {
    pub(super) fn start() -> ChoreResult<Self> {
        python::install()?;
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(failed)?.port();
        let mut server = Command::new(root().join("target/python/bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map(OwnedProcess)
            .map_err(failed)?;
        let said = server.0.stderr.take().ok_or("no standard error")?;
        let mut lines = BufReader::new(said).lines();
        lines
            .find(|line| line.as_ref().is_ok_and(|line| line.contains("Running on")))
            .ok_or("no server")?
            .map_err(failed)?;
        // Read everything, so that it never blocks.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Moto { port, _server: server })
    }

    /// Variables with which programs find it.
    pub(super) fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
        ]
    }
}

/// A whole build that uploads one file, compared with AWS's CLI, with moto's server.
pub(super) fn s3(bed: &Bed) -> ChoreResult {
    let bin = root().join("target/python/bin");
    let moto = Moto::start()?;
    let aws = |command: &mut Command| quiet(command.envs(moto.variables()));
    let cli = || Command::new(bin.join("aws"));
    aws(cli().args(["s3", "mb", "s3://bench"]))?;
    let source = bed.dir.join("upload");
    fs::create_dir(&source).map_err(failed)?;
    let file = source.join("noise").display().to_string();
    let script = format!("head -c {UPLOAD} /dev/urandom > \"$1\"");
    quiet(Command::new("sh").args(["-c", &script, "sh", &file]))?;
    let spec = spec(bed, "upload", "artifacts: {files: [noise]}\n")?;
    let from = source.display().to_string();
    let mut contenders = vec![
        Contender::new("`runner run --artifacts s3://...`", || {
            let options = ["--source", &from, "--artifacts", "s3://bench/ours"];
            aws(&mut bed.run_command(&spec, &options))
        }),
        Contender::new("`aws s3 cp`", || {
            aws(cli().args(["s3", "cp", "--quiet", &file, "s3://bench/theirs"]))
        }),
    ];
    measure(&format!("{UPLOAD} to an S3-compatible server (whole process)"), 1, &mut contenders)
}
