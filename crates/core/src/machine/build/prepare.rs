//! DOWNLOAD_SOURCE, before the commands that install runtimes: values, the image's entrypoint, the
//! variables of the first command, the cache, the catalog.
//!
//! The steps run one after the other. An effect requests each one; a step without work is left out.
//! Answers that arrive while the build is ending change nothing.

use super::{
    BuildMachine, BuildState, EventBody, MachineEffect, MachineStep, Notice, PhaseContext,
    Timestamp,
};
use crate::env::{self, Variables};
use crate::installed::{self, InstalledVersions};
use crate::machine::{
    BuildSetupError, ContainerFacts, Fetched, FoundCache, SourcePreparation, ValueRequests,
    is_large_cache,
};
use crate::mask::MIN_LENGTH;
use crate::plan::PlannedWork;
use crate::runtimes;
use crate::spec::Unset;
use std::collections::BTreeMap;

/// Maximum number of unset variables to name.
const MOST_UNSET: usize = 12;

/// Advice on missing runtimes.
const RUNTIMES: &str = "an image of CodeBuild's installs what is asked for, such as --image \
                        aws/codebuild/standard:7.0; one with these versions does as well";

/// A variable with the buildspec lines that use it.
fn named(unset: &Unset) -> String {
    let mut lines = unset.lines();
    let is_cut = lines.len() > 3;
    lines.truncate(3);
    let word = if lines.len() == 1 { "line" } else { "lines" };
    let lines: Vec<String> = lines.iter().map(u32::to_string).collect();
    let more = if is_cut { ", ..." } else { "" };
    format!("{} ({word} {}{more})", unset.name, lines.join(", "))
}

/// Progress of the preparation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PreparingBuild {
    awaited: Awaited,
    container: ContainerFacts,
    /// Variables of the image, after its entrypoint has run.
    image: Variables,
    /// Variables from Parameter Store and Secrets Manager.
    fetched: Fetched,
    /// All variables of the first command.
    variables: BTreeMap<String, String>,
    /// Log lines, written once everything is ready.
    lines: Vec<String>,
}

/// The awaited answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Awaited {
    #[default]
    Values,
    Entrypoint,
    Shell,
    Cache,
    /// The second container.
    Container,
    /// The shell in the second container.
    NewShell,
    Restore,
    Catalog,
    /// Versions of the installed runtimes, without a catalog.
    Runtimes,
}

impl BuildMachine {
    pub(super) fn prepare(
        &mut self,
        container: ContainerFacts,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let work = match &self.plan.work {
            Ok(work) => work,
            Err(rejection) => {
                let context = rejection.context.clone();
                return self.setup_failed(context, now, step);
            }
        };
        let mut preparing = PreparingBuild {
            image: [&self.plan.layers.image[..], &container.variables].concat(),
            container,
            ..PreparingBuild::default()
        };
        let wanted = self.wanted(work);
        if !wanted.parameters.is_empty() {
            let line = "Decrypting parameter store environment variables";
            preparing.lines.push(line.to_owned());
        }
        if wanted.is_empty() {
            self.run_entrypoint(preparing, step);
        } else {
            self.await_answer(
                preparing,
                Awaited::Values,
                SourcePreparation::FetchValues(wanted),
                step,
            );
        }
    }

    /// The values to fetch, except those that the command line sets.
    fn wanted(&self, work: &PlannedWork) -> ValueRequests {
        let is_set = |name: &str| self.plan.layers.overrides.iter().any(|(set, _)| set == name);
        let parameters = work.parameters.iter().filter(|wanted| !is_set(&wanted.name));
        let secrets = work.secrets.iter().filter(|wanted| !is_set(&wanted.name));
        ValueRequests {
            parameters: parameters.cloned().collect(),
            secrets: secrets.cloned().collect(),
        }
    }

    pub(super) fn values_fetched(
        &mut self,
        fetched: Result<Fetched, BuildSetupError>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Some(mut preparing) = self.prepared(Awaited::Values) else { return };
        match fetched {
            Ok(fetched) => {
                let short = fetched.0.iter().filter(|(_, value)| value.len() < MIN_LENGTH);
                let short: Vec<&str> = short.map(|(name, _)| name.as_str()).collect();
                if !short.is_empty() {
                    let text = format!(
                        "not masked, because shorter than {MIN_LENGTH} characters: the value of {}",
                        short.join(", ")
                    );
                    step.events.push(EventBody::Notice(Notice::warning(text)));
                }
                preparing.fetched = fetched;
                self.run_entrypoint(preparing, step);
            }
            Err(BuildSetupError { context, hint, place }) => {
                let notice = match place {
                    Some(place) => {
                        let (file, message) = (&self.plan.facts.buildspec, &context.message);
                        let text = format!("{file}:{}:{}: {message}", place.line, place.column);
                        Some(Notice::error(text).with_hint(hint))
                    }
                    None => hint.map(Notice::hint),
                };
                step.events.extend(notice.map(EventBody::Notice));
                self.tell_prepared(&preparing.lines, step);
                self.setup_failed(context, now, step);
            }
        }
    }

    /// Runs the image's entrypoint. Without privileges it would wait for a daemon that cannot
    /// start.
    fn run_entrypoint(&mut self, preparing: PreparingBuild, step: &mut MachineStep) {
        if !self.has_entrypoint(&preparing) {
            return self.open_shell(preparing, Awaited::Shell, step);
        }
        let layers = &self.plan.layers;
        let variables = [&preparing.image[..], &layers.managed, &layers.overrides].concat();
        let preparation = SourcePreparation::RunEntrypoint { variables };
        self.await_answer(preparing, Awaited::Entrypoint, preparation, step);
    }

    fn has_entrypoint(&self, preparing: &PreparingBuild) -> bool {
        self.plan.facts.privileged && preparing.container.has_entrypoint
    }

    pub(super) fn entrypoint_ran(
        &mut self,
        found: Result<Variables, BuildSetupError>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Some(mut preparing) = self.prepared(Awaited::Entrypoint) else { return };
        match found {
            Ok(image) => {
                preparing.image = image;
                self.open_shell(preparing, Awaited::Shell, step);
            }
            Err(BuildSetupError { context, hint, .. }) => {
                step.events.extend(hint.map(|hint| EventBody::Notice(Notice::hint(hint))));
                self.fault(context, now, step);
            }
        }
    }

    fn open_shell(
        &mut self,
        mut preparing: PreparingBuild,
        awaited: Awaited,
        step: &mut MachineStep,
    ) {
        let mut layers = self.plan.layers.clone();
        layers.image.clone_from(&preparing.image);
        layers.buildspec.extend(preparing.fetched.0.iter().cloned());
        preparing.variables = env::compose(layers);
        self.stops.begin(&preparing.variables);
        let preparation = SourcePreparation::OpenShell { variables: preparing.variables.clone() };
        self.await_answer(preparing, awaited, preparation, step);
    }

    pub(super) fn shell_opened(
        &mut self,
        result: Result<(), PhaseContext>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let is_new = matches!(&self.state, BuildState::Downloading(preparing)
            if preparing.awaited == Awaited::NewShell);
        let awaited = if is_new { Awaited::NewShell } else { Awaited::Shell };
        let Some(preparing) = self.prepared(awaited) else { return };
        let has_cache = self.plan.facts.cache.is_some()
            && self.plan.work.as_ref().is_ok_and(|work| work.cache.is_some());
        match result {
            Err(context) => self.fault(context, now, step),
            Ok(()) if is_new => {
                self.await_answer(
                    preparing,
                    Awaited::Restore,
                    SourcePreparation::RestoreCache,
                    step,
                );
            }
            Ok(()) if has_cache => {
                self.await_answer(preparing, Awaited::Cache, SourcePreparation::FindCache, step);
            }
            Ok(()) => self.read_catalog(preparing, now, step),
        }
    }

    /// Handles the cache that was found. A large one becomes a layer in a new container, unless
    /// that would end a session or processes of an entrypoint.
    pub(super) fn cache_found(&mut self, found: Option<FoundCache>, step: &mut MachineStep) {
        let Some(preparing) = self.prepared(Awaited::Cache) else { return };
        let is_worthwhile = found.is_some_and(|found| {
            found.can_be_layer && !found.has_guests && is_large_cache(found.files, found.bytes)
        });
        let once_more =
            is_worthwhile && !preparing.container.has_cache && !self.has_entrypoint(&preparing);
        let (awaited, preparation) = match once_more {
            true => (Awaited::Container, SourcePreparation::Rehouse),
            false => (Awaited::Restore, SourcePreparation::RestoreCache),
        };
        self.await_answer(preparing, awaited, preparation, step);
    }

    pub(super) fn rehoused(
        &mut self,
        result: Result<ContainerFacts, PhaseContext>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Some(mut preparing) = self.prepared(Awaited::Container) else { return };
        match result {
            Ok(container) => {
                self.container_started(&container, step);
                preparing.container = container;
                self.open_shell(preparing, Awaited::NewShell, step);
            }
            Err(context) => self.fault(context, now, step),
        }
    }

    pub(super) fn cache_restored(&mut self, now: Timestamp, step: &mut MachineStep) {
        if let Some(preparing) = self.prepared(Awaited::Restore) {
            self.read_catalog(preparing, now, step);
        }
    }

    /// Reads the catalog. This machine is not a CodeBuild image, so looking would only waste a
    /// process.
    fn read_catalog(&mut self, preparing: PreparingBuild, now: Timestamp, step: &mut MachineStep) {
        if preparing.container.has_image {
            self.await_answer(preparing, Awaited::Catalog, SourcePreparation::ReadCatalog, step);
        } else {
            self.choose_runtimes(preparing, None, now, step);
        }
    }

    pub(super) fn catalog_read(
        &mut self,
        catalog: Option<&str>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        if let Some(preparing) = self.prepared(Awaited::Catalog) {
            self.choose_runtimes(preparing, catalog, now, step);
        }
    }

    /// Chooses the runtimes. Without a catalog nothing is installed, and the build uses what is
    /// there.
    fn choose_runtimes(
        &mut self,
        preparing: PreparingBuild,
        catalog: Option<&str>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let wanted = self.plan.work.as_ref().map(|work| &work.runtimes[..]).unwrap_or_default();
        if catalog.is_none() && !wanted.is_empty() {
            let names = wanted.iter().map(|runtime| runtime.name.clone()).collect();
            let variables = preparing.variables.clone();
            let preparation = SourcePreparation::FindRuntimes { names, variables };
            return self.await_answer(preparing, Awaited::Runtimes, preparation, step);
        }
        self.install_chosen(preparing, catalog, now, step);
    }

    pub(super) fn runtimes_found(
        &mut self,
        found: &InstalledVersions,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Some(preparing) = self.prepared(Awaited::Runtimes) else { return };
        let wanted = self.plan.work.as_ref().map(|work| &work.runtimes[..]).unwrap_or_default();
        let asked = runtimes::asked(wanted, &preparing.variables);
        if let Some(text) = installed::mismatch(&asked, found) {
            let notice = Notice::warning(text).with_hint(Some(RUNTIMES.to_owned()));
            step.events.push(EventBody::Notice(notice));
        }
        self.install_chosen(preparing, None, now, step);
    }

    fn install_chosen(
        &mut self,
        preparing: PreparingBuild,
        catalog: Option<&str>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let wanted = self.plan.work.as_ref().map(|work| &work.runtimes[..]).unwrap_or_default();
        self.tell_unset(&preparing.variables, step);
        let selection = runtimes::select(catalog, wanted, &preparing.variables);
        self.tell_prepared(&[preparing.lines, selection.lines].concat(), step);
        match selection.commands {
            Ok(commands) => self.install_runtimes(commands, now, step),
            Err(context) => self.setup_failed(context, now, step),
        }
    }

    /// Warns about variables that commands use and nothing has set.
    fn tell_unset(&self, variables: &BTreeMap<String, String>, step: &mut MachineStep) {
        let unset = self.plan.work.as_ref().map(|work| &work.unset[..]).unwrap_or_default();
        let unset: Vec<&Unset> =
            unset.iter().filter(|unset| !variables.contains_key(&unset.name)).collect();
        if unset.is_empty() {
            return;
        }
        let named: Vec<String> = unset.iter().take(MOST_UNSET).map(|unset| named(unset)).collect();
        let mut text = format!("nothing sets {}", named.join(", "));
        if unset.len() > named.len() {
            text.push_str(&format!(" and {} more", unset.len() - named.len()));
        }
        let hint = "if the project in CodeBuild sets them: -e NAME=VALUE, --env-file FILE or \
                    --project-json FILE";
        let notice = Notice::warning(text).with_hint(Some(hint.to_owned()));
        step.events.push(EventBody::Notice(notice));
    }

    fn tell_prepared(&self, lines: &[String], step: &mut MachineStep) {
        let phases = self.plan.work.as_ref().map(|work| &work.phases[..]).unwrap_or_default();
        for phase in phases.iter().filter(|phase| phase.present && phase.commands.is_empty()) {
            let name = phase.phase.key();
            self.agent(step, &format!("No commands found for phase name: {name}"));
        }
        self.agent(step, "Processing environment variables");
        lines.iter().for_each(|line| self.agent(step, line));
    }

    fn await_answer(
        &mut self,
        preparing: PreparingBuild,
        awaited: Awaited,
        preparation: SourcePreparation,
        step: &mut MachineStep,
    ) {
        self.state = BuildState::Downloading(Box::new(PreparingBuild { awaited, ..preparing }));
        step.effects.push(MachineEffect::Prepare(preparation));
    }

    /// Takes the preparation if it waits for this answer.
    fn prepared(&mut self, awaited: Awaited) -> Option<PreparingBuild> {
        match &mut self.state {
            BuildState::Downloading(preparing) if preparing.awaited == awaited => {
                Some(std::mem::take(preparing))
            }
            BuildState::New
            | BuildState::Provisioning
            | BuildState::Downloading(_)
            | BuildState::SettingUp(_)
            | BuildState::Running(_)
            | BuildState::Saving(_)
            | BuildState::Rewinding(_)
            | BuildState::Held(_)
            | BuildState::Evaluating { .. }
            | BuildState::Uploading
            | BuildState::Finalizing
            | BuildState::Ending(_)
            | BuildState::Over => None,
        }
    }
}
