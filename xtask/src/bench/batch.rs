//! A hundred builds as a batch, compared with a hundred `runner run` with the same parallelism; the
//! owner's memory; a large source.

use super::bed::Bed;
use super::{Contender, measure};
use crate::ChoreResult;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Number of builds in a batch.
const BUILDS: usize = 100;
/// Number of builds that see a large source, and its size.
const SEE: usize = 8;
const LARGE: u64 = 1_000_000_000;
/// Bytes per write.
const BLOCK: usize = 1 << 20;

pub(super) fn measure_batch(bed: &Bed) -> ChoreResult {
    let most = std::thread::available_parallelism().map_or(1, usize::from);
    let one = bed.buildspec("of-a-batch", &["echo hi"])?;
    let many = list(bed, "batch", BUILDS, "echo hi")?;
    let peak = Mutex::new(0);
    let mut contenders = [
        Contender::new(format!("`runner batch` of {BUILDS}, {most} at once"), || {
            let seen = batch(bed, &many, &bed.dir.join("source"))?;
            let mut peak = peak.lock().map_err(|error| error.to_string())?;
            *peak = seen.max(*peak);
            Ok(())
        }),
        Contender::new(format!("{BUILDS} `runner run`, {most} at once"), || {
            side_by_side(bed, &one, most)
        }),
    ];
    measure("A hundred builds of one command", 1, &mut contenders)?;
    drop(contenders);
    let peak = peak.into_inner().map_err(|error| error.to_string())?;
    println!("### The owner of a batch\n\n| | MiB |\n|---|---|");
    println!("| most memory, {BUILDS} builds | {:.1} |\n", peak as f64 / 1024.0);
    large(bed)
}

/// A buildspec with this many builds of one command.
fn list(bed: &Bed, name: &str, count: usize, command: &str) -> ChoreResult<PathBuf> {
    let path = bed.buildspec(name, &[command])?;
    let mut text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    text.push_str("batch:\n  build-list:\n");
    for number in 0..count {
        let _ = writeln!(text, "    - identifier: b{number}");
    }
    fs::write(&path, text).map_err(|error| error.to_string())?;
    Ok(path)
}

/// Runs a batch. Returns the peak memory of its owner, in KiB.
fn batch(bed: &Bed, spec: &Path, source: &Path) -> ChoreResult<u64> {
    let mut owner = bed
        .runner()
        .arg("batch")
        .arg(spec)
        .args(["--quiet", "--image", &bed.image, "--source"])
        .arg(source)
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let status = format!("/proc/{}/status", owner.id());
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let seen = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = seen.unwrap_or(0).max(peak);
        if let Some(status) = owner.try_wait().map_err(|error| error.to_string())? {
            return if status.success() { Ok(peak) } else { Err(format!("the batch: {status}")) };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same number of separate builds, at most `most` at a time.
fn side_by_side(bed: &Bed, spec: &Path, most: usize) -> ChoreResult {
    let next = AtomicUsize::new(0);
    let work = || -> ChoreResult {
        while next.fetch_add(1, Ordering::Relaxed) < BUILDS {
            bed.runner_run(spec, &["--image", &bed.image])?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..most).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err("a worker has panicked".to_owned()))
        })
    })
}

/// A source of a gigabyte: what one build and several cost in time and disk space.
fn large(bed: &Bed) -> ChoreResult {
    let source = bed.dir.join("large");
    fs::create_dir_all(&source).map_err(|error| error.to_string())?;
    fill(&source.join("blob")).map_err(|error| error.to_string())?;
    // While builds sleep, the copy and all layers exist.
    println!(
        "### A source of {} MB\n\n| builds | wall, s | on the disk at once, MB |\n|---|---|---|",
        LARGE / 1_000_000
    );
    for count in [1, SEE] {
        let name = format!("large-{count}");
        let spec = list(bed, &name, count, "test -s blob; sleep 1")?;
        let begin = Instant::now();
        let is_over = AtomicUsize::new(0);
        let most = std::thread::scope(|scope| -> ChoreResult<u64> {
            let watch = scope.spawn(|| {
                let mut most = 0;
                while is_over.load(Ordering::Relaxed) == 0 {
                    most = used(&bed.dir.join("state")).max(most);
                    std::thread::sleep(Duration::from_millis(200));
                }
                most
            });
            let done = batch(bed, &spec, &source);
            is_over.store(1, Ordering::Relaxed);
            let most = watch.join().map_err(|_| "the watcher has panicked".to_owned())?;
            done.map(|_| most)
        })?;
        println!("| {count} | {:.1} | {} |", begin.elapsed().as_secs_f64(), most / 1_000_000);
    }
    println!();
    Ok(())
}

/// Writes bytes that no file system can compress away.
fn fill(path: &Path) -> std::io::Result<()> {
    let mut random = File::open("/dev/urandom")?;
    let mut block = vec![0; BLOCK];
    std::io::Read::read_exact(&mut random, &mut block)?;
    let mut file = File::create(path)?;
    for _ in 0..LARGE / BLOCK as u64 {
        std::io::Write::write_all(&mut file, &block)?;
    }
    Ok(())
}

/// Disk space used by a folder, in bytes.
fn used(folder: &Path) -> u64 {
    let du = Command::new("du")
        .args(["-s", "--block-size=1"])
        .arg(folder)
        .stderr(Stdio::null())
        .output();
    let text = du.map(|du| String::from_utf8_lossy(&du.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}
