//! Where a build is shown and where its log goes: sinks, and copies on AWS.
//!
//! Used by `app`, which knows what was asked for.

use super::{Build, LogFormat};
use crate::amazon;
use crate::amazon::s3::Location;
use crate::deliveries::{Copies, Couriers};
use crate::events::LogWriter;
use crate::sinks::{self, Annotations, CodeBuild, Gate, Json, Notices, Pretty, Sink, WaysIn};
use crate::stdio::{Out, has_colors, is_gone, of_output};
use runner_core::event::LogsFacts;
use runner_core::project::CloudWatchLogs;
use std::fs;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Where on AWS copies of the log are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogsWanted {
    pub(crate) cloudwatch: Option<CloudWatchLogs>,
    pub(crate) s3: Option<Location>,
}

/// What is told when the build is over.
#[derive(Default)]
pub(super) struct Untold {
    pub(super) warnings: Arc<Mutex<Vec<String>>>,
    /// Why standard output has not got everything, though somebody may read it.
    pub(super) broken_output: Arc<Mutex<Option<String>>>,
}

impl Build {
    pub(super) fn start_sinks(
        &self,
        log: &LogWriter,
        gate: &Arc<Gate>,
        ways: WaysIn,
        untold: &Untold,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let (name, sink, gate): (_, Box<dyn Sink>, _) = match self.request.format {
            LogFormat::Pretty => {
                let color = has_colors(&io::stdout());
                let (term, gate_of_sink) = (console::Term::stdout(), Arc::clone(gate));
                let pretty = Pretty::new(term, ways.clone(), gate_of_sink, color);
                ("pretty", Box::new(pretty), Some(Arc::clone(gate)))
            }
            LogFormat::CodeBuild => {
                let sink = CodeBuild::new(Out).for_people(io::stdout().is_terminal());
                ("codebuild", Box::new(sink), None)
            }
            LogFormat::Json => ("json", Box::new(Json::new(Out)), None),
        };
        let spawn = |name, sink, gate, failed| {
            sinks::spawn(name, sink, &self.dir, log.clone(), gate, failed)
        };
        let broken = Arc::clone(&untold.broken_output);
        let failed = Box::new(move |error| {
            let told = (!is_gone(&error)).then(|| of_output(error).to_string());
            *broken.lock().unwrap_or_else(PoisonError::into_inner) = told;
        });
        let mut threads = vec![spawn(name, sink, gate, failed)?];
        if self.request.format != LogFormat::Pretty {
            let notices = Notices::new(io::stderr(), ways, self.request.quiet);
            threads.push(spawn("notices", Box::new(notices), None, sinks::nobody())?);
        }
        if let Some((path, file)) = &self.request.log_file {
            let (untold, shown) = (Arc::clone(&untold.warnings), path.display().to_string());
            let failed = Box::new(move |error| {
                let text = format!("warning: the log in {shown} is not complete: {error}");
                untold.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            });
            let sink = Box::new(CodeBuild::new(file.try_clone()?));
            threads.push(spawn("log file", sink, None, failed)?);
        }
        if self.request.annotate {
            let mut sink = Annotations::new(io::stderr(), self.annotated_places());
            if let Err(problems) = &self.request.spec {
                sink.problems(problems)?;
            }
            threads.push(spawn("annotations", Box::new(sink), None, sinks::nobody())?);
        }
        Ok(threads)
    }

    /// Where copies of the log go (`spec/buildspec.md` 6.5).
    pub(super) fn copies(&self) -> Copies {
        let LogsWanted { cloudwatch, s3 } = self.request.logs.clone();
        let uuid = self.identity.uuid;
        let cloudwatch = cloudwatch.map(|CloudWatchLogs { group, stream }| {
            let group = group.unwrap_or_else(|| format!("/aws/codebuild/{}", self.request.project));
            let before = stream.map_or_else(String::new, |stream| format!("{stream}/"));
            (group, format!("{before}{uuid}"))
        });
        Copies { cloudwatch, s3 }
    }

    /// Where GitHub sees what is annotated: from the root of its work tree, if that is where we are.
    fn annotated_places(&self) -> sinks::Places {
        let (source, buildspec) = (&self.request.source, &self.request.buildspec);
        let root = std::env::var_os("GITHUB_WORKSPACE").filter(|root| !root.is_empty());
        let root = root.and_then(|root| fs::canonicalize(root).ok());
        let root = root.filter(|root| source.starts_with(root)).unwrap_or_else(|| source.clone());
        let below = source.strip_prefix(&root).unwrap_or(source);
        let below = match below.as_os_str().is_empty() {
            true => String::new(),
            false => format!("{}/", below.display()),
        };
        let buildspec = buildspec.path_in(&root).map(|path| path.display().to_string());
        sinks::Places::new(buildspec, below, self.request.spec.as_ref().ok())
    }

    /// Starts what sends copies of the log to AWS.
    pub(super) fn couriers(&self, log: &LogWriter) -> io::Result<Couriers> {
        let identity = self.request.aws.clone().unwrap_or(amazon::Identity::Default);
        let uuid = self.identity.uuid.to_string();
        Couriers::start(&self.copies(), &uuid, &identity, &self.dir, log)
    }

    /// The same for the record.
    pub(super) fn logs_facts(&self) -> LogsFacts {
        let Copies { cloudwatch, s3 } = self.copies();
        let s3 = s3.map(|place| {
            let object = place.object(&format!("{}.gz", self.identity.uuid));
            format!("{}/{}", object.bucket, object.key)
        });
        LogsFacts { cloudwatch, s3 }
    }
}
