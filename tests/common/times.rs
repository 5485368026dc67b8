//! How long each case took, for people who make the tests quicker.

use std::io::Write;
use std::time::Instant;

/// A file that gets a line a case: seconds and name. Failed cases have none.
const TIMES: &str = "RUNNER_TEST_TIMES";

/// Runs the case and, where times are wanted, writes its own down.
pub(crate) fn measure(name: &str, run: fn()) {
    let Some(path) = std::env::var_os(TIMES) else { return run() };
    let start = Instant::now();
    run();
    let line = format!("{:.3} {name}\n", start.elapsed().as_secs_f64());
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}
