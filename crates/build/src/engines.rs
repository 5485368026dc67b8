//! Sets up the engine of a build.

use super::BegunBuild;
use crate::driver::inbox::Inbox;
use crate::services::{Services, Surroundings};
use runner_cloud::ecr;
use runner_core::event::Notice;
use runner_core::machine::MachineInput;
use runner_core::mask::SharedSecrets;
use runner_engine::host_image::EtcCopies;
use runner_engine::image::{Getter, ImageRequester, ImageStore, MOST_BYTES, PullProgress};
use runner_engine::{Engine, EngineNote, EngineParts, Teller};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

impl BegunBuild {
    /// The requested engine. `pulls`: where progress bars are drawn while images are pulled.
    pub(super) fn engine(&self, inbox: &Inbox, pulls: PullProgress) -> Arc<dyn Engine> {
        let inbox = inbox.clone();
        let tell = once(move |notice| inbox.post(MachineInput::Notice(notice)));
        self.request.container.engine.engine(EngineParts {
            build: self.identity.uuid.to_string(),
            folder: self.folder.clone(),
            images: self.images(pulls, Arc::clone(&tell)),
            etc: EtcCopies::new(self.home.root()),
            tell,
        })
    }

    /// The services beside the build, if there are any.
    pub(super) fn services(
        &self,
        inbox: &Inbox,
        pulls: &PullProgress,
        secrets: &SharedSecrets,
    ) -> Option<Arc<Services>> {
        let services = &self.request.services;
        if services.is_empty() {
            return None;
        }
        let uuid = self.identity.uuid;
        let surroundings = Surroundings {
            build: uuid,
            folder: self.dir.path().to_path_buf(),
            unseen: self.opened.unseen.clone(),
            secrets: secrets.clone(),
            inbox: inbox.clone(),
            network: self.request.container.network,
            limits: self.request.container.resources,
            groups: self.service_groups.clone(),
        };
        let parts = |folder| {
            let inbox = inbox.clone();
            let tell = once(move |notice| inbox.post(MachineInput::Notice(notice)));
            // The user who names a service has chosen its image.
            let images = Getter {
                asker: ImageRequester::Caller,
                ..self.images(pulls.clone(), Arc::clone(&tell))
            };
            EngineParts {
                build: uuid.to_string(),
                folder,
                images,
                etc: EtcCopies::new(self.home.root()),
                tell,
            }
        };
        Some(Arc::new(Services::new(services, surroundings, &parts)))
    }

    /// How images are obtained for this build.
    fn images(&self, pulls: PullProgress, tell: Teller) -> Getter {
        Getter {
            store: ImageStore::new(self.home.images()),
            asker: self.request.container.asker.clone(),
            ecr: ecr::passwords(self.request.values.identity()),
            progress: pulls,
            tell: Arc::new(move |note| tell(EngineNote::Image(note))),
            most_bytes: MOST_BYTES,
            given_up: Arc::default(),
        }
    }
}

/// Reports a message only once, however often a container is created.
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
