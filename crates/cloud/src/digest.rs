//! Runs work on large inputs on a blocking thread, so that it does not stall the runtime.

/// Bytes up to which the work runs on the calling thread.
const FEW: usize = 64 << 10;

/// Runs `work`, which handles `count` bytes: here if they are few, else on a blocking thread.
pub(super) async fn of<T: Send + 'static>(
    count: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if count <= FEW {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[tokio::test]
    async fn what_takes_long_keeps_no_runtime_from_its_work() {
        let here = thread::current().id();
        assert_eq!(of(FEW, || thread::current().id()).await, here);
        assert_ne!(of(FEW + 1, || thread::current().id()).await, here);
    }
}
