//! The engine of a build, with all it tells and gets.

use super::Build;
use super::request::LogFormat;
use crate::amazon::{Identity, ecr};
use crate::driver::inbox::Inbox;
use crate::engine::host_image::EtcCopies;
use crate::engine::{Engine, Note, Parts, Teller};
use crate::image::{Curtain, Getter, MOST_BYTES, Progress, Store};
use crate::sinks::Gate;
use runner_core::event::Notice;
use runner_core::machine::Input;
use std::collections::HashSet;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

impl Build {
    /// As asked for.
    pub(super) fn engine(&self, inbox: &Inbox, gate: &Arc<Gate>) -> Arc<dyn Engine> {
        let inbox = inbox.clone();
        let tell = once(move |notice| inbox.post(Input::Notice(notice)));
        self.request.engine.engine(Parts {
            build: self.identity.uuid.to_string(),
            folder: self.folder.clone(),
            images: self.images(gate, Arc::clone(&tell)),
            etc: EtcCopies::new(self.home.root()),
            tell,
        })
    }

    /// How images are got for this build.
    fn images(&self, gate: &Arc<Gate>, tell: Teller) -> Getter {
        let gate = Arc::clone(gate);
        let curtain: Curtain =
            Arc::new(move |is_drawn| if is_drawn { gate.close() } else { gate.open() });
        Getter {
            store: Store::new(self.home.images()),
            asker: self.request.asker.clone(),
            ecr: ecr::passwords(self.request.aws.clone().unwrap_or(Identity::Default)),
            progress: Progress {
                is_visible: io::stderr().is_terminal() && !self.request.quiet,
                curtain: (self.request.format == LogFormat::Pretty).then_some(curtain),
            },
            tell: Arc::new(move |note| tell(Note::Image(note))),
            most_bytes: MOST_BYTES,
            given_up: Arc::default(),
        }
    }
}

/// Says a thing once, however often a container is made.
fn once(say: impl Fn(Notice) + Send + Sync + 'static) -> Teller {
    let said = Mutex::new(HashSet::new());
    Arc::new(move |note| {
        let (level, text) = (note.level(), note.to_string());
        let is_new = said.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone());
        if is_new {
            say(Notice { level, text, hint: None });
        }
    })
}
