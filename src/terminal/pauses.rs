//! The notices of pauses, shown once everything about a pause is known.
//!
//! The address for AWS's clients comes a moment after the first pause, whose notice waits for it,
//! so that one notice lists all ways to connect. It does not wait for ever: without an endpoint the
//! other ways are shown.

use super::scene::stop_lines;
use super::ways::WaysIn;
use runner_core::debug::DecisionKind;
use runner_core::event::{Event, EventBody, StopFacts, Stuck};
use runner_host::clock;
use std::time::Duration;

/// How long a notice waits for the address.
const PATIENCE: Duration = Duration::from_secs(3);

/// The notices of one build's pauses.
pub(super) struct PauseNotices {
    ways: WaysIn,
    command: String,
    /// The buildspec's name as requested.
    buildspec: String,
    sessions: usize,
    /// The address for AWS's clients, or why there is none.
    endpoint: Option<Result<String, String>>,
    waiting: Vec<PauseNotice>,
    /// Since when the first notice waits.
    since: Duration,
    /// A notice was shown without the address.
    is_owed: bool,
}

/// What a pause's event says.
struct PauseNotice {
    build_id: String,
    command: String,
    directory: String,
    resumes_in_s: Option<u64>,
    stuck: Option<Stuck>,
    stop: Option<StopFacts>,
    buildspec: String,
    sessions: usize,
}

impl PauseNotices {
    pub(super) fn new(ways: WaysIn) -> Self {
        PauseNotices {
            ways,
            command: String::new(),
            buildspec: String::new(),
            sessions: 0,
            endpoint: None,
            waiting: Vec::new(),
            since: Duration::ZERO,
            is_owed: false,
        }
    }

    /// Takes an event. Returns the lines to show before it.
    pub(super) fn take(&mut self, event: &Event) -> Vec<String> {
        match &event.body {
            EventBody::BuildStarted(facts) => {
                self.buildspec.clone_from(&facts.buildspec);
                Vec::new()
            }
            EventBody::SessionOpened { .. } => {
                self.sessions += 1;
                Vec::new()
            }
            EventBody::SessionClosed { .. } => {
                self.sessions = self.sessions.saturating_sub(1);
                Vec::new()
            }
            EventBody::CommandStarted { text, .. } => {
                self.command = text.lines().next().unwrap_or_default().to_owned();
                Vec::new()
            }
            EventBody::Paused { directory, resumes_in_s, stuck, stop, .. } => {
                if self.waiting.is_empty() {
                    self.since = clock::boot();
                }
                self.waiting.push(PauseNotice {
                    build_id: event.build_id.clone(),
                    command: self.command.clone(),
                    directory: directory.clone(),
                    resumes_in_s: *resumes_in_s,
                    stuck: stuck.clone(),
                    stop: stop.as_deref().cloned(),
                    buildspec: self.buildspec.clone(),
                    sessions: self.sessions,
                });
                self.all_known()
            }
            EventBody::EndpointOpened { address } => self.found(Ok(address.clone())),
            EventBody::EndpointFailed { problem } => self.found(Err(problem.clone())),
            EventBody::Resumed { .. } | EventBody::BuildEnded { .. } => self.all(),
            _ => Vec::new(),
        }
    }

    /// Whether a notice is waiting.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The lines of notices that have waited long enough.
    pub(super) fn overdue(&mut self) -> Vec<String> {
        if self.is_waiting() && clock::boot().saturating_sub(self.since) >= PATIENCE {
            return self.all();
        }
        Vec::new()
    }

    /// When to check for notices that have waited long enough.
    pub(super) fn tick(&self) -> Option<Duration> {
        self.is_waiting().then_some(PATIENCE)
    }

    fn found(&mut self, endpoint: Result<String, String>) -> Vec<String> {
        self.endpoint = Some(endpoint);
        if !std::mem::take(&mut self.is_owed) {
            return self.all();
        }
        let mut lines = self.all();
        if lines.is_empty() {
            lines.extend(self.ways.aws_lines(self.endpoint.as_ref()));
        }
        lines
    }

    fn all_known(&mut self) -> Vec<String> {
        let wants_address =
            |pause: &PauseNotice| pause.stuck.as_ref().is_none_or(|stuck| stuck.has_shell);
        let waits = self.ways.has_aws() && self.endpoint.is_none();
        match waits && self.waiting.iter().any(wants_address) {
            true => Vec::new(),
            false => self.all(),
        }
    }

    fn all(&mut self) -> Vec<String> {
        let endpoint = self.endpoint.as_ref();
        self.is_owed |= self.is_waiting() && self.ways.has_aws() && endpoint.is_none();
        let waiting = std::mem::take(&mut self.waiting);
        waiting.iter().flat_map(|pause| self.ways.paused(pause, endpoint)).collect()
    }
}

impl WaysIn {
    /// The lines of a pause's notice.
    fn paused(
        &self,
        pause: &PauseNotice,
        endpoint: Option<&Result<String, String>>,
    ) -> Vec<String> {
        let WaysIn { program, build, .. } = self;
        let PauseNotice { build_id, command, directory, resumes_in_s, stuck, stop, .. } = pause;
        if let Some(stop) = stop {
            return self.stopped(pause, stop, endpoint);
        }
        let key = |name: &'static str| if self.keys { name } else { "   " };
        let why = match stuck {
            None => "at a breakpoint".to_owned(),
            Some(stuck) => format!("and cannot go on: {}", stuck.reason),
        };
        let mut lines = vec![
            format!("build {build_id} is paused {why}"),
            format!("  command      {command}"),
            format!("  directory    {directory}"),
        ];
        if stuck.is_some() {
            lines.push(format!("  program      {program} exec {build} -- PROGRAM"));
        }
        if stuck.as_ref().is_none_or(|stuck| stuck.has_shell) {
            lines.push(format!("  shell    {} {program} attach {build}", key("[s]")));
            lines.extend(self.aws_lines(endpoint));
        } else {
            lines.push("  shell        none; a build started with --toolbox has one".to_owned());
        }
        let on = if stuck.is_some() { "end  " } else { "go on" };
        lines.extend([
            format!("  {on}    {} {program} resume {build}", key("[r]")),
            format!("  stop     {} {program} stop {build}", key("[q]")),
        ]);
        if let Some(seconds) = resumes_in_s {
            lines.push(self.by_itself(*seconds, stuck.is_some()));
        }
        lines
    }

    /// What happens if nobody responds.
    fn by_itself(&self, seconds: u64, is_stuck: bool) -> String {
        let what = if is_stuck || self.ends_pauses { "ends" } else { "goes on" };
        format!("  {what} by itself in {} if nobody connects", span(seconds))
    }

    /// The lines of a stop's notice.
    fn stopped(
        &self,
        pause: &PauseNotice,
        stop: &StopFacts,
        endpoint: Option<&Result<String, String>>,
    ) -> Vec<String> {
        let WaysIn { program, build, .. } = self;
        let PauseNotice { build_id, directory, resumes_in_s, .. } = pause;
        let key = |name: &'static str| if self.keys { name } else { "   " };
        let (first, rest) = {
            let mut lines = stop_lines(stop, &pause.buildspec).into_iter();
            (lines.next().unwrap_or_default(), lines)
        };
        let mut lines = vec![format!("build {build_id} is {first}")];
        lines.extend(rest);
        if pause.sessions > 0 {
            lines.push(format!("  sessions     {}", pause.sessions));
        }
        lines.push(format!("  directory    {directory}"));
        lines.push(format!("  shell    {} {program} attach {build}", key("[s]")));
        lines.extend(self.aws_lines(endpoint));
        for (name, pressed, decision, verb) in [
            ("again", "[t]", DecisionKind::Retry, "retry"),
            ("edited", "[e]", DecisionKind::Edit, "retry --edit"),
            ("skip", "[k]", DecisionKind::Skip, "skip"),
            ("step", "[n]", DecisionKind::Step, "step"),
            ("back", "   ", DecisionKind::Rewind, "rewind"),
            ("abort", "   ", DecisionKind::Abort, "abort"),
        ] {
            if stop.decisions.contains(&decision) {
                lines.push(format!("  {name:<8} {} {program} {verb} {build}", key(pressed)));
            }
        }
        lines.push(format!("  go on    {} {program} resume {build}", key("[r]")));
        lines.push(format!("  stop     {} {program} stop {build}", key("[q]")));
        lines.extend(resumes_in_s.map(|seconds| self.by_itself(seconds, false)));
        lines
    }

    fn aws_lines(&self, endpoint: Option<&Result<String, String>>) -> Vec<String> {
        match endpoint {
            None => Vec::new(),
            Some(Err(problem)) => vec![format!("  aws          not available: {problem}")],
            Some(Ok(address)) => {
                let one = self.aws(address).map(|line| format!("  aws          {line}"));
                let two = self.aws_by_variables().map(|line| format!("  aws, short   {line}"));
                let page = self.page(address).map(|link| format!("  page         {link}"));
                one.into_iter().chain(two).chain(page).collect()
            }
        }
    }
}

fn span(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, 0) => format!("{minutes}m"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::event::{PauseId, PauseKind, ResumedBy};
    use runner_core::time::WallTime;

    fn event(body: EventBody) -> Event {
        Event { seq: 1, time: WallTime(0), build_id: "p:u".to_owned(), body }
    }

    fn paused() -> Event {
        event(EventBody::Paused {
            pause: PauseId(1),
            kind: PauseKind::Called,
            command: 1,
            directory: "/src".to_owned(),
            resumes_in_s: Some(90),
            stuck: None,
            stop: None,
        })
    }

    fn opened() -> Event {
        event(EventBody::EndpointOpened { address: "127.0.0.1:1".to_owned() })
    }

    #[test]
    fn a_first_notice_waits_for_the_address() {
        let mut pauses = PauseNotices::new(WaysIn::for_tests(true));
        assert_eq!(pauses.take(&paused()), Vec::<String>::new());
        assert!(pauses.is_waiting());
        let lines = pauses.take(&opened());
        assert_eq!(lines[0], "build p:u is paused at a breakpoint");
        assert!(lines[4].starts_with("  aws          "), "{lines:?}");
        assert!(lines[4].contains("--endpoint-url http://127.0.0.1:1 "), "{lines:?}");
        assert!(
            lines[5].starts_with("  aws, short   eval \"$(runner aws-env u)\"; aws ssm "),
            "{lines:?}"
        );
        assert_eq!(lines[8], "  goes on by itself in 1m30s if nobody connects");
        // The next one has the address at once.
        assert_eq!(pauses.take(&paused()), lines);
    }

    #[test]
    fn a_notice_comes_before_the_end_of_its_pause() {
        let mut pauses = PauseNotices::new(WaysIn::for_tests(true));
        pauses.take(&paused());
        let by = ResumedBy::Gone;
        let lines = pauses.take(&event(EventBody::Resumed { pause: PauseId(1), by }));
        assert_eq!(lines.len(), 7, "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("aws")), "{lines:?}");
        // The message about what is missing follows once the session is open.
        assert_eq!(pauses.take(&opened()).len(), 2);
        assert_eq!(pauses.take(&opened()).len(), 0);
    }

    #[test]
    fn without_aws_nothing_waits() {
        let mut pauses = PauseNotices::new(WaysIn::for_tests(false));
        assert_eq!(pauses.take(&paused()).len(), 7);
    }
}
