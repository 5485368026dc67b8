//! Buildspec, options and facts put together: everything the machine needs to run one build.
//!
//! Fed by `spec` and by the command line (`src/cli/run.rs`); feeds `machine::build`. A rejected
//! buildspec makes a plan, too: a build that fails in DOWNLOAD_SOURCE, with a record like any other.

use crate::debug::{Breakpoint, CommandPlace};
use crate::env::EnvLayers;
use crate::event::BuildFacts;
use crate::phase::{Block, Phase, PhaseContext};
use crate::skip::Skips;
use crate::spec::{
    self, Artifacts, BuildSpec, Cache, OnFailure, ReportGroup, Runtime, SecretVariable,
    SpecCommand, SpecVariable, SpecVersion, Unset, UserPhase,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// One build, ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildPlan {
    /// What is known from the start.
    pub facts: BuildFacts,
    /// Where things lie in the container.
    pub places: ContainerPaths,
    /// The build's variables, but for those of its image and those that are fetched.
    pub layers: EnvLayers,
    /// What there is to do.
    pub work: Result<PlannedWork, Rejection>,
    /// How long things may take.
    pub limits: TimeLimits,
    /// Where it stops.
    pub stops: PlannedStops,
}

/// Where a build stops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStops {
    /// At these.
    pub breakpoints: Vec<Breakpoint>,
    /// Before the first command.
    pub step: bool,
    /// What is kept on the way, so that people can go back.
    #[serde(default)]
    pub checkpoints: Checkpointing,
}

/// Whether and how checkpoints are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checkpointing {
    /// Not at all.
    #[default]
    Off,
    /// As copies; what is too much to copy is sealed.
    Auto,
    /// Sealed wherever that can be.
    Sealed,
}

/// Paths in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPaths {
    /// The directory that holds all the others; `/codebuild` where that can be.
    pub root: String,
    /// `CODEBUILD_SRC_DIR`.
    pub source: String,
    /// The buildspec.
    pub buildspec: String,
}

/// What the buildspec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedWork {
    /// Which rules commands run under.
    pub version: SpecVersion,
    /// What runs them.
    pub shell: String,
    /// Variables with the names of their parameters in Parameter Store.
    pub parameters: Vec<SpecVariable>,
    /// Variables with their secrets in Secrets Manager.
    pub secrets: Vec<SecretVariable>,
    /// Names of the variables whose values go into the record.
    pub exported: Vec<String>,
    /// Whether git asks for credentials.
    pub git_credential_helper: bool,
    /// Runtimes to install.
    pub runtimes: Vec<Runtime>,
    /// What it leaves.
    pub artifacts: Option<Artifacts>,
    /// Which reports to read.
    pub reports: Vec<ReportGroup>,
    /// What the next build finds again.
    pub cache: Option<Cache>,
    /// Variables that commands use and nothing in the buildspec sets.
    pub unset: Vec<Unset>,
    /// The four phases, in order.
    pub phases: [Arc<PhaseWork>; 4],
}

/// What one phase does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseWork {
    /// Which one.
    pub phase: UserPhase,
    /// Whether the buildspec names it.
    pub present: bool,
    /// User of its commands; root where it is absent.
    pub user: Option<String>,
    /// What follows when it fails.
    pub on_failure: OnFailure,
    /// Run one after the other until one fails.
    pub commands: Vec<SpecCommand>,
    /// Run afterwards in any case.
    pub finally: Vec<SpecCommand>,
    /// Those of either that are not run.
    pub skipped: BTreeSet<(Block, u32)>,
}

impl PhaseWork {
    /// Whether the command at a place is not run.
    #[must_use]
    pub fn is_skipped(&self, place: CommandPlace) -> bool {
        self.skipped.contains(&(place.block, place.index))
    }
}

/// Why a build cannot begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Goes into the record of DOWNLOAD_SOURCE.
    pub context: PhaseContext,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeLimits {
    /// The whole build, from PROVISIONING on.
    pub timeout: Duration,
    /// Whether time at a breakpoint counts.
    pub timeout_while_paused: bool,
    /// A breakpoint to which nobody is connected; none: for ever.
    pub break_timeout: Option<Duration>,
    /// What follows then.
    pub break_action: BreakAction,
}

/// What follows when nobody came to a breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakAction {
    /// The build goes on, as if sessions were off.
    Resume,
    /// The build is stopped.
    Stop,
}

/// What a buildspec comes to: its own user and phases resolved against each other, and what is left out.
#[must_use]
pub fn work(spec: BuildSpec, skips: &Skips) -> PlannedWork {
    let unset = spec::unset(&spec, |phase, command| !skips.has(phase, command));
    let everywhere = spec.run_as;
    PlannedWork {
        unset,
        version: spec.version,
        shell: spec.shell.program,
        parameters: spec.parameters,
        secrets: spec.secrets,
        exported: spec.exported,
        git_credential_helper: spec.git_credential_helper,
        runtimes: spec.runtimes,
        artifacts: spec.artifacts,
        reports: spec.reports,
        cache: spec.cache,
        phases: spec.phases.map(|phase| {
            Arc::new(PhaseWork {
                phase: phase.phase,
                present: phase.present,
                user: phase.run_as.or_else(|| everywhere.clone()),
                on_failure: phase.on_failure,
                skipped: skipped(phase.phase, [&phase.commands, &phase.finally], skips),
                commands: phase.commands,
                finally: phase.finally,
            })
        }),
    }
}

fn skipped(
    phase: UserPhase,
    [commands, finally]: [&[SpecCommand]; 2],
    skips: &Skips,
) -> BTreeSet<(Block, u32)> {
    let numbered = |block: Block, commands: &[SpecCommand]| {
        let found = (0..).zip(commands).filter(|(_, command)| skips.has(phase, command));
        found.map(|(index, _)| (block, index)).collect::<Vec<_>>()
    };
    if skips.is_empty() {
        return BTreeSet::new();
    }
    let finally = numbered(Block::Finally, finally);
    numbered(Block::Commands, commands).into_iter().chain(finally).collect()
}

impl PlannedWork {
    /// Whether there is a command at a place.
    ///
    /// # Errors
    /// One sentence that says what there is.
    pub fn has(&self, place: &CommandPlace) -> Result<(), String> {
        let phase = self.phase(place.phase);
        let (list, name) = match place.block {
            Block::Finally => (&phase.finally, format!("{}:finally", place.phase.key())),
            Block::Commands | Block::Eval => (&phase.commands, place.phase.key().to_owned()),
        };
        match list.len() {
            count if (place.index as usize) < count => Ok(()),
            0 => Err(format!("there is no {place}: {name} has no commands")),
            1 => Err(format!("there is no {place}: {name} has one command")),
            count => Err(format!("there is no {place}: {name} has {count} commands")),
        }
    }

    /// Whether a build can come to a breakpoint.
    ///
    /// # Errors
    /// One sentence that says why it cannot.
    pub fn takes(&self, breakpoint: &Breakpoint) -> Result<(), String> {
        let Some(place) = breakpoint.place() else { return Ok(()) };
        self.has(place)?;
        match self.phase(place.phase).is_skipped(*place) {
            true => Err(format!("{place} is left out by --skip, --skip-phase or --only-phase")),
            false => Ok(()),
        }
    }

    /// What a phase does.
    #[must_use]
    pub fn phase(&self, phase: UserPhase) -> &Arc<PhaseWork> {
        let at = match phase {
            UserPhase::Install => 0,
            UserPhase::PreBuild => 1,
            UserPhase::Build => 2,
            UserPhase::PostBuild => 3,
        };
        &self.phases[at]
    }

    /// The lines CodeBuild's agent logs about the phases it found.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let present: Vec<_> = self.phases.iter().filter(|phase| phase.present).collect();
        let mut lines = vec![format!("Phases found in YAML: {}", present.len())];
        lines.extend(present.iter().map(|phase| {
            // The second space is CodeBuild's.
            format!(" {}: {} commands", Phase::from(phase.phase), phase.commands.len())
        }));
        lines
    }
}
