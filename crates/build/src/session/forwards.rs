//! Ports of this machine that clients currently forward into a build.

use runner_wire::control::ForwardLine;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum number listed, because a build's status is sent often.
const MOST: usize = 64;

/// The forwarded ports of a build, by client.
#[derive(Debug, Default)]
pub(super) struct Forwards(Mutex<Vec<ForwardLines>>);

type ForwardLines = Arc<Vec<ForwardLine>>;

/// The ports of one client, listed while this value lives.
#[derive(Debug)]
pub struct ClientForwards {
    forwards: Arc<Forwards>,
    lines: ForwardLines,
}

impl Forwards {
    pub(super) fn list(self: &Arc<Self>, lines: Vec<ForwardLine>) -> ClientForwards {
        let lines = Arc::new(lines);
        self.lock().push(Arc::clone(&lines));
        ClientForwards { forwards: Arc::clone(self), lines }
    }

    pub(super) fn all(&self) -> Vec<ForwardLine> {
        self.lock().iter().flat_map(|lines| lines.iter()).take(MOST).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ForwardLines>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClientForwards {
    fn drop(&mut self) {
        self.forwards.lock().retain(|lines| !Arc::ptr_eq(lines, &self.lines));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_takes_its_ports_along() {
        let forwards = Arc::new(Forwards::default());
        let line = |local: &str| ForwardLine {
            local: local.to_owned(),
            remote: "localhost:80".to_owned(),
        };
        let one = forwards.list(vec![line("a"), line("b")]);
        // The same ports from another client are listed separately.
        let two = forwards.list(vec![line("a"), line("b")]);
        assert_eq!(forwards.all().len(), 4);
        drop(one);
        assert_eq!(forwards.all(), [line("a"), line("b")]);
        drop(two);
        assert_eq!(forwards.all(), []);
        let _many = forwards.list(vec![line("a"); MOST + 1]);
        assert_eq!(forwards.all().len(), MOST);
    }
}
