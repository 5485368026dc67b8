//! The end-to-end tests: one program that drives the real `runner`.
//!
//! Each file in `suite/` lists its cases with their needs. A case whose needs are not met on this
//! machine is reported as not run; with CI=true it fails instead, so that nothing is skipped
//! silently there.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics has failed")]
#![allow(missing_docs, reason = "cases are named for what they show")]

mod common;
mod suite;

use libtest_mimic::{Arguments, Trial};

fn main() {
    // Tests check modes of files that they and their programs create.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let arguments = Arguments::from_args();
    let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    let is_again = common::is_again();
    let trials = suite::cases()
        .into_iter()
        .map(|case| {
            if case.is_alike && is_again {
                let name = format!("{} (has run as another user)", case.name);
                return Trial::test(name, || Ok(())).with_ignored_flag(true);
            }
            let missing = common::missing(case.needs);
            let is_left_out = missing.is_some() && (!is_ci || common::is_elsewhere(case.needs));
            let name = match &missing {
                Some(missing) if is_left_out => format!("{} (needs {missing})", case.name),
                _ => case.name.to_owned(),
            };
            Trial::test(name, move || match missing {
                Some(missing) => Err(format!("this machine lacks {missing}").into()),
                None => {
                    common::times::measure(case.name, case.run);
                    Ok(())
                }
            })
            .with_ignored_flag(is_left_out)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    common::daemon::end_all();
    conclusion.exit();
}
