//! Freezes a build: stops its processes until none of them runs, and lets them go on.
//!
//! Used by `pid1`. Programs of sessions and of the runner are spared, and so are their descendants,
//! as far as ancestry or session shows them.

use crate::digits;
use crate::sys::{self, Errno, Fd, SysResult};
use crate::tree::{self, Descendant};

const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;
/// Most rounds, of a millisecond each: a process inside the kernel stops only when it returns.
const ROUNDS: usize = 200;
/// Most rounds of moving processes into a group. Even one that forks constantly is in it after two.
const GATHERS: usize = 10;
/// Most processes remembered as stopped before.
const MOST: usize = 256;

/// Processes that the build itself had stopped: they stay stopped.
pub(crate) struct Before {
    pids: [i32; MOST],
    count: usize,
    /// Whether some or all of the others are stopped now.
    is_in_force: bool,
}

impl Before {
    pub(crate) const fn new() -> Self {
        Before { pids: [0; MOST], count: 0, is_in_force: false }
    }

    fn remember(&mut self, pid: i32) {
        if let Some(place) = self.pids.get_mut(self.count) {
            *place = pid;
            self.count += 1;
        }
    }

    fn has(&self, pid: i32) -> bool {
        self.pids[..self.count].contains(&pid)
    }
}

/// Stops all of them. `is_spared` tells which children of this process to spare. If they are
/// stopped already, newer ones are stopped as well; a process found stopped then counts as stopped
/// by this program rather than by the build.
pub(crate) fn stop(before: &mut Before, is_spared: impl Fn(i32) -> bool) -> SysResult<()> {
    let is_first = !before.is_in_force;
    before.is_in_force = true;
    for round in 0..ROUNDS {
        let mut running = 0;
        let mut refused = None;
        visit(&is_spared, |pid, process, pinned| match process.state {
            b'T' | b't' if is_first && round == 0 => before.remember(pid),
            b'T' | b't' => {}
            state => match tree::signal_one(pid, pinned, SIGSTOP) {
                // A process inside the kernel receives the signal when it returns, and does nothing
                // until then.
                Ok(()) => running += usize::from(!matches!(state, b'D' | b'Z' | b'X')),
                Err(Errno::SRCH) => {}
                Err(errno) if !process.is_dead() => refused = Some(errno),
                Err(_) => {}
            },
        })?;
        match refused {
            Some(errno) => return Err(errno),
            None if running == 0 => return Ok(()),
            None => sys::rest(),
        }
    }
    Err(Errno::AGAIN)
}

/// Moves all of them into the group of this `cgroup.procs`, until no new one appears: children of a
/// process in the group are in it, too.
pub(crate) fn gather(group: &Fd, is_spared: impl Fn(i32) -> bool) -> SysResult<()> {
    let mut last = (0, 0);
    for _ in 0..GATHERS {
        let (mut found, mut refused) = ((0_usize, 0_i64), None);
        visit(&is_spared, |pid, process, _| {
            if process.is_dead() {
                return;
            }
            found = (found.0 + 1, found.1 + i64::from(pid));
            let mut digits = [0_u8; 12];
            let Some(length) = digits::write(pid, &mut digits) else { return };
            match sys::write(group, &digits[..length]) {
                Ok(_) | Err(Errno::SRCH) => {}
                Err(errno) => refused = Some(errno),
            }
        })?;
        if let Some(errno) = refused {
            return Err(errno);
        }
        if found == last {
            break;
        }
        last = found;
    }
    Ok(())
}

/// Lets all of them go on, except those that were stopped before.
pub(crate) fn go_on(before: &mut Before, is_spared: impl Fn(i32) -> bool) {
    let done = visit(&is_spared, |pid, process, pinned| {
        if !process.is_dead() && !before.has(pid) {
            let _ = tree::signal_one(pid, pinned, SIGCONT);
        }
    });
    // Without /proc none was stopped.
    let _ = done;
    *before = Before::new();
}

/// Visits each process of the build.
fn visit(
    is_spared: &impl Fn(i32) -> bool,
    mut look: impl FnMut(i32, &Descendant, Option<&Fd>),
) -> SysResult<()> {
    // This process's own forks are in its session; each program has another one.
    let root = sys::pid();
    let own = sys::session_of(root).unwrap_or(root);
    tree::each(|pid, process, pinned| {
        if process.session != own && !is_spared(process.from) && !is_spared(process.session) {
            look(pid, process, pinned);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A program in its own session, like those of builds; other children of this process are
    /// spared.
    struct Program(Child);

    impl Program {
        fn start() -> Self {
            let mut command = Command::new("setsid");
            command.args(["sh", "-c", "kill -STOP $$; echo; exec sleep 1000"]);
            let child = command.stdout(Stdio::piped()).spawn().expect("setsid");
            let program = Program(child);
            program.comes_to('T');
            program
        }

        fn pid(&self) -> i32 {
            self.0.id().cast_signed()
        }

        fn state(&self) -> char {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()));
            let stat = stat.expect("its state");
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).expect("a letter")
        }

        fn comes_to(&self, state: char) {
            while self.state() != state {
                std::thread::yield_now();
            }
        }

        /// Resumes a program that was started stopped.
        fn goes_on(mut self) -> Self {
            use std::io::Read;
            sys::kill(self.pid(), SIGCONT).expect("it goes on");
            let said = self.0.stdout.as_mut().expect("its output");
            said.read_exact(&mut [0]).expect("a line");
            self
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_second_stop_keeps_what_the_first_has_found() {
        let (stopped, running) = (Program::start(), Program::start().goes_on());
        let own = [stopped.pid(), running.pid()];
        let is_spared = |pid: i32| !own.contains(&pid);
        let mut before = Before::new();
        stop(&mut before, is_spared).expect("they stand still");
        running.comes_to('T');
        // The command has ended meanwhile, and the next one must be stopped.
        stop(&mut before, is_spared).expect("they stand still");
        go_on(&mut before, is_spared);
        while running.state() == 'T' {
            std::thread::yield_now();
        }
        assert_eq!(stopped.state(), 'T');
        // The next stop starts afresh.
        let stopped = stopped.goes_on();
        stop(&mut before, is_spared).expect("they stand still");
        go_on(&mut before, is_spared);
        while [&stopped, &running].iter().any(|program| program.state() == 'T') {
            std::thread::yield_now();
        }
    }
}
