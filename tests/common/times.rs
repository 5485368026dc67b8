//! Records how long each case took, to help make the tests faster.

use std::io::Write;
use std::time::Instant;

/// A file that gets one line per case: seconds and name. Failed cases have none.
const TIMES: &str = "RUNNER_TEST_TIMES";

/// Runs a case and records its time if requested.
pub(crate) fn measure(name: &str, run: fn()) {
    let Some(path) = std::env::var_os(TIMES) else { return run() };
    let start = Instant::now();
    run();
    let line = format!("{:.3} {name}\n", start.elapsed().as_secs_f64());
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}
