//! Combines buildspec, options and facts into everything the machine needs for one build.
//!
//! Input comes from `spec` and the command line (`src/cli/run.rs`); `machine::build` uses the plan.
//! A rejected buildspec also makes a plan: the build fails in DOWNLOAD_SOURCE and has a normal
//! record.

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

/// The plan of one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildPlan {
    /// Facts that are known from the start.
    pub facts: BuildFacts,
    /// Paths in the container.
    pub places: ContainerPaths,
    /// The build's variables, except those from its image and fetched ones.
    pub layers: EnvLayers,
    /// The work, or why there is none.
    pub work: Result<PlannedWork, Rejection>,
    /// Time limits.
    pub limits: TimeLimits,
    /// Where the build stops.
    pub stops: PlannedStops,
}

/// Where a build stops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStops {
    /// The breakpoints.
    pub breakpoints: Vec<Breakpoint>,
    /// Whether to stop before the first command.
    pub step: bool,
    /// Whether to take checkpoints for rewinds.
    #[serde(default)]
    pub checkpoints: Checkpointing,
}

/// Whether and how checkpoints are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checkpointing {
    /// No checkpoints.
    #[default]
    Off,
    /// Copies; layers that are too large to copy are sealed.
    Auto,
    /// Sealed layers, wherever possible.
    Sealed,
}

/// Paths in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPaths {
    /// The directory that contains all others; `/codebuild` if possible.
    pub root: String,
    /// `CODEBUILD_SRC_DIR`.
    pub source: String,
    /// The buildspec.
    pub buildspec: String,
}

/// The work that the buildspec defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedWork {
    /// The language version, which decides how commands run.
    pub version: SpecVersion,
    /// The shell that runs commands.
    pub shell: String,
    /// Variables and the names of their parameters in Parameter Store.
    pub parameters: Vec<SpecVariable>,
    /// Variables and their secrets in Secrets Manager.
    pub secrets: Vec<SecretVariable>,
    /// Names of exported variables.
    pub exported: Vec<String>,
    /// Whether git uses the build's credential helper.
    pub git_credential_helper: bool,
    /// Runtimes to install.
    pub runtimes: Vec<Runtime>,
    /// The artifacts.
    pub artifacts: Option<Artifacts>,
    /// The reports to read.
    pub reports: Vec<ReportGroup>,
    /// The cache.
    pub cache: Option<Cache>,
    /// Variables that commands use and the buildspec does not set.
    pub unset: Vec<Unset>,
    /// The four phases, in order.
    pub phases: [Arc<PhaseWork>; 4],
}

/// The work of one phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseWork {
    /// The phase.
    pub phase: UserPhase,
    /// Whether the buildspec contains it.
    pub present: bool,
    /// User of its commands; root if absent.
    pub user: Option<String>,
    /// What follows a failure.
    pub on_failure: OnFailure,
    /// Commands, run in order until one fails.
    pub commands: Vec<SpecCommand>,
    /// Commands that run afterwards in any case.
    pub finally: Vec<SpecCommand>,
    /// Commands of both lists that are skipped.
    pub skipped: BTreeSet<(Block, u32)>,
}

impl PhaseWork {
    /// Whether the command at a place is skipped.
    #[must_use]
    pub fn is_skipped(&self, place: CommandPlace) -> bool {
        self.skipped.contains(&(place.block, place.index))
    }
}

/// Why a build cannot begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The reason, recorded with DOWNLOAD_SOURCE.
    pub context: PhaseContext,
}

/// Time limits of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeLimits {
    /// Limit of the whole build, from PROVISIONING on.
    pub timeout: Duration,
    /// Whether time at a breakpoint counts.
    pub timeout_while_paused: bool,
    /// Limit of a pause while nobody is connected; `None` for no limit.
    pub break_timeout: Option<Duration>,
    /// What follows when that limit is reached.
    pub break_action: BreakAction,
}

/// What follows a pause to which nobody connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakAction {
    /// The build goes on, as if sessions were off.
    Resume,
    /// The build is stopped.
    Stop,
}

/// Makes the work of a buildspec: resolves users and phases, and applies skips.
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
    /// Checks that a place has a command.
    ///
    /// # Errors
    /// Describes the commands that exist, in one sentence.
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

    /// Checks that a build can reach a breakpoint.
    ///
    /// # Errors
    /// Why it cannot, in one sentence.
    pub fn takes(&self, breakpoint: &Breakpoint) -> Result<(), String> {
        let Some(place) = breakpoint.place() else { return Ok(()) };
        self.has(place)?;
        match self.phase(place.phase).is_skipped(*place) {
            true => Err(format!("{place} is left out by --skip, --skip-phase or --only-phase")),
            false => Ok(()),
        }
    }

    /// The work of a phase.
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

    /// Log lines of CodeBuild's agent about the phases it found.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let present: Vec<_> = self.phases.iter().filter(|phase| phase.present).collect();
        let mut lines = vec![format!("Phases found in YAML: {}", present.len())];
        lines.extend(present.iter().map(|phase| {
            // CodeBuild writes the second space.
            format!(" {}: {} commands", Phase::from(phase.phase), phase.commands.len())
        }));
        lines
    }
}
