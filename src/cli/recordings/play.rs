//! Plays a recording on this terminal at its original pace.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runner_client::RawMode;
use runner_core::recording::{CastContent, CastEvent, CastHeader};
use runner_serve::recordings::MAX_LINE;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Resets what a recording may have left switched on: colours, the alternate screen, special modes
/// of keys and mouse, a hidden cursor.
const RESET: &[u8] = b"\x1b[0m\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25h\r\n";

/// Longest pause in a recording.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How fast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) speed: f64,
    /// Maximum pause between two events.
    pub(super) longest: Duration,
}

/// A key pressed while a recording plays, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlayKey {
    Nothing,
    Pause,
    End,
}

/// Plays the recording to its end, or until q or Ctrl-C.
pub(super) fn play(file: File, pace: Pace) -> io::Result<u8> {
    let mut lines = BufReader::new(file);
    let mut line = String::new();
    lines.by_ref().take(MAX_LINE).read_line(&mut line)?;
    CastHeader::parse(&line).map_err(io::Error::other)?;
    // Without a keyboard it plays to the end.
    let keys = io::stdin().is_terminal().then(RawMode::raw).transpose()?;
    let played = all(&mut lines, pace, keys.is_some());
    let mut out = io::stdout();
    let _ = out.write_all(RESET).and_then(|()| out.flush());
    if keys.is_some() {
        // Discard the terminal's replies to the recording: nobody typed them.
        let _ = nix::sys::termios::tcflush(io::stdin(), nix::sys::termios::FlushArg::TCIFLUSH);
    }
    drop(keys);
    played.map(|()| 0)
}

fn all(lines: &mut BufReader<File>, pace: Pace, has_keys: bool) -> io::Result<()> {
    let mut out = io::stdout();
    let mut last = Duration::ZERO;
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let Some(event) = CastEvent::parse(&String::from_utf8_lossy(&line)) else { continue };
        let passed = event.at.saturating_sub(last).min(pace.longest).min(DAY).div_f64(pace.speed);
        last = event.at;
        if rest(passed, has_keys)? {
            return Ok(());
        }
        if let CastContent::Output(text) = event.shown {
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
    }
}

/// Waits for this long, plus the time it is paused. Returns false if the user quits.
fn rest(length: Duration, has_keys: bool) -> io::Result<bool> {
    if !has_keys {
        std::thread::sleep(length);
        return Ok(false);
    }
    let end = Instant::now() + length;
    let mut is_paused = false;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let wait = match is_paused {
            true => PollTimeout::NONE,
            false => PollTimeout::try_from(left.min(Duration::from_secs(3600)))
                .unwrap_or(PollTimeout::ZERO),
        };
        match typed(wait)? {
            PlayKey::End => return Ok(true),
            PlayKey::Pause => is_paused = !is_paused,
            PlayKey::Nothing => {}
        }
        if !is_paused && Instant::now() >= end {
            return Ok(false);
        }
    }
}

fn typed(wait: PollTimeout) -> io::Result<PlayKey> {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, wait) {
        Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(PlayKey::Nothing),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut key = [0];
    // Bypass the standard library's buffer, which `poll` does not see.
    match rustix::io::read(stdin.as_fd(), &mut key)? {
        0 => Ok(PlayKey::End),
        _ => Ok(match key[0] {
            b' ' => PlayKey::Pause,
            b'q' | 0x03 | 0x04 => PlayKey::End,
            _ => PlayKey::Nothing,
        }),
    }
}
