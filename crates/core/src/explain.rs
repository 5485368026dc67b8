//! Explains in one sentence why a command failed.

use crate::event::CommandOutcome;
use crate::hints::missing_program;
use std::borrow::Cow;

/// A failed command and what is known about it.
#[derive(Clone, Copy, Debug)]
pub struct FailedCommand<'f> {
    /// How it ended.
    pub outcome: &'f CommandOutcome,
    /// Its last output.
    pub output: &'f str,
    /// A known cause, such as a limit.
    pub cause: Option<&'f str>,
    /// An existing program whose name resembles the missing one.
    pub near: Option<&'f str>,
}

impl FailedCommand<'_> {
    /// Returns the explanation.
    #[must_use]
    pub fn explained(&self) -> String {
        let told = match self.outcome {
            CommandOutcome::Exited(126) => self.not_executable(),
            CommandOutcome::Exited(127) => self.not_found(),
            CommandOutcome::Exited(status @ 129..=192) => {
                let signal = status - 128;
                format!(
                    "exit status {status}: a program in it was ended by {}",
                    signal_text(signal)
                )
            }
            CommandOutcome::Exited(status) => format!("exit status {status}"),
            CommandOutcome::Signaled(signal) => format!("ended by {}", signal_text(*signal)),
            CommandOutcome::NotStarted(why) => format!("it was not started: {why}"),
            CommandOutcome::Cut => "ended with the build".to_owned(),
        };
        match (self.cause, self.outcome) {
            (Some(cause), _) => format!("{told}; {cause}"),
            (None, CommandOutcome::Exited(137) | CommandOutcome::Signaled(9)) => {
                format!("{told}; where nobody has sent it, the machine had no memory left")
            }
            (None, _) => told,
        }
    }

    fn not_executable(&self) -> String {
        let has = |text: &str| self.output.contains(text);
        let why = if has("Exec format error") || has("cannot execute binary file") {
            "is for another kind of machine, or a script without #!"
        } else if has("Is a directory") || has("is a directory") {
            "is a directory"
        } else {
            "may not be executed (chmod +x)"
        };
        format!("exit status 126: the program to run {why}")
    }

    fn not_found(&self) -> String {
        let Some(name) = missing_program(self.output) else {
            return "exit status 127: a program was not found".to_owned();
        };
        match self.near {
            Some(near) => format!("exit status 127: `{name}` is not on PATH; `{near}` is"),
            None => format!("exit status 127: `{name}` is not on PATH"),
        }
    }
}

/// Returns the program that a command did not find, if its output names one.
#[must_use]
pub fn not_found(outcome: &CommandOutcome, output: &str) -> Option<String> {
    let is_it = *outcome == CommandOutcome::Exited(127);
    is_it.then(|| missing_program(output).map(str::to_owned)).flatten()
}

/// Returns the name most similar to a missing one, if it is similar enough.
#[must_use]
pub fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let most = if name.len() < 5 { 1 } else { 2 };
    let near = names.filter(|known| known.len().abs_diff(name.len()) <= most && *known != name);
    let far = near.map(|known| (strsim::damerau_levenshtein(name, known), known));
    // On a tie, take the first name in order, because directory order is arbitrary.
    far.filter(|(far, _)| *far <= most).min().map(|(_, known)| known)
}

fn signal_text(signal: i32) -> Cow<'static, str> {
    match signal {
        1 => "SIGHUP: its terminal was closed".into(),
        2 => "SIGINT, as by Ctrl-C".into(),
        3 => "SIGQUIT".into(),
        4 => "SIGILL: an instruction that this processor does not have".into(),
        6 => "SIGABRT: it has given up by itself".into(),
        7 => "SIGBUS: memory that is not there".into(),
        8 => "SIGFPE: a division by zero, for one".into(),
        9 => "SIGKILL".into(),
        11 => "SIGSEGV: memory that is not its own".into(),
        13 => "SIGPIPE: nothing read its output".into(),
        14 => "SIGALRM".into(),
        15 => "SIGTERM".into(),
        24 => "SIGXCPU: its limit of processor time".into(),
        25 => "SIGXFSZ: its limit of a file's size".into(),
        31 => "SIGSYS: a system call that is not allowed here".into(),
        other => format!("signal {other}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_explained() {
        let limit = "1 process was killed for want of memory, at the limit of --memory 64M";
        for (outcome, output, cause, near, told) in [
            (CommandOutcome::Exited(3), "", None, None, "exit status 3"),
            (
                CommandOutcome::Exited(127),
                "sh: 4: pyhton3: not found\n",
                None,
                Some("python3"),
                "exit status 127: `pyhton3` is not on PATH; `python3` is",
            ),
            (
                CommandOutcome::Exited(127),
                "bash: line 4: nope: command not found\n",
                None,
                None,
                "exit status 127: `nope` is not on PATH",
            ),
            (
                CommandOutcome::Exited(127),
                "?",
                None,
                None,
                "exit status 127: a program was not found",
            ),
            (
                CommandOutcome::Exited(126),
                "sh: 4: ./a: Permission denied",
                None,
                None,
                "exit status 126: the program to run may not be executed (chmod +x)",
            ),
            (
                CommandOutcome::Exited(126),
                "sh: ./a: cannot execute binary file: Exec format error",
                None,
                None,
                "exit status 126: the program to run is for another kind of machine, or a script \
                 without #!",
            ),
            (
                CommandOutcome::Exited(139),
                "",
                None,
                None,
                "exit status 139: a program in it was ended by SIGSEGV: memory that is not its own",
            ),
            (
                CommandOutcome::Exited(137),
                "",
                Some(limit),
                None,
                "exit status 137: a program in it was ended by SIGKILL; 1 process was killed for \
                 want of memory, at the limit of --memory 64M",
            ),
            (
                CommandOutcome::Signaled(9),
                "",
                None,
                None,
                "ended by SIGKILL; where nobody has sent it, the machine had no memory left",
            ),
            (CommandOutcome::Signaled(40), "", None, None, "ended by signal 40"),
        ] {
            let failure = FailedCommand { outcome: &outcome, output, cause, near };
            assert_eq!(failure.explained(), told);
        }
    }

    #[test]
    fn the_nearest_name_is_near_enough() {
        let names = ["python3", "pip3", "pip", "grep", "egrep", "make", "cmake", "sh"];
        let near = |name: &str| nearest(name, names.into_iter());
        assert_eq!(near("pyhton3"), Some("python3"));
        assert_eq!(near("gerp"), Some("grep"));
        assert_eq!(near("pop"), Some("pip"));
        assert_eq!(near("terraform"), None);
        assert_eq!(near("sh"), None);
    }
}
