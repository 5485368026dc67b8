//! How runners that share a folder of caches affect each other.

use super::*;
use crate::cache::OLDEST;
use crate::cache::gather::Gathered;
use std::sync::atomic::{AtomicBool, Ordering};

fn id(number: u128) -> String {
    uuid::Uuid::from_u128(number).to_string()
}

fn sweep_of(folder: &CacheFolder) {
    if let Ok(Some(new)) = folder.open(NEW) {
        sweep(&new);
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: io::Error) -> OutputError {
    OutputError::Other(error.to_string())
}

type Tested = Result<(), OutputError>;

/// Repeats `again` on another thread while `meanwhile` runs.
fn beside(again: impl Fn() + Sync, meanwhile: impl FnOnce() -> Tested) -> Tested {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                again();
            }
        });
        let done = meanwhile();
        is_over.store(true, Ordering::Relaxed);
        done
    })
}

#[test]
fn a_sweep_leaves_alone_what_is_being_made() -> Tested {
    let bed = tempfile::tempdir().map_err(failed)?;
    let folder = CacheFolder::signed(&real(bed.path()).map_err(failed)?, &Signer::default());
    beside(
        || sweep_of(&folder),
        || {
            for number in 0..500 {
                let new = folder.begin(&id(number))?;
                assert!(folder.path.join("new").join(id(number)).join(LOCK).exists(), "{number}");
                drop(new);
            }
            Ok(())
        },
    )
}

#[test]
fn two_who_prune_remove_each_cache_once() -> Tested {
    let bed = tempfile::tempdir().map_err(failed)?;
    let folder = CacheFolder::signed(&real(bed.path()).map_err(failed)?, &Signer::default());
    let (project, paths) = ("demo".to_owned(), String::new());
    let wanted = WantedCache { project, paths, key: None, fallback: Vec::new() };
    let later = SystemTime::now() + OLDEST;
    for number in 0..50 {
        let new = folder.begin(&id(number))?;
        new.make_others(&Gathered::default())?;
        folder.finish(new, &wanted, &Gathered::default())?;
    }
    let removed = std::thread::scope(|scope| {
        let prune = || folder.prune(later, 0).map(|removed| removed.len());
        let other = scope.spawn(prune);
        let own = prune()?;
        let other = other.join().map_err(|_| OutputError::Other("it panicked".to_owned()))??;
        Ok::<_, OutputError>(own + other)
    })?;
    assert_eq!((removed, folder.list()?.len()), (50, 0));
    Ok(())
}
