//! DOWNLOAD_SOURCE: the requested steps, their order, and their results.

use super::{
    Bed, BuildFacts, BuildSetupError, ContainerFacts, EnvLayers, FOUR, Fetched, FoundCache,
    InstalledVersions, LIMITS, MachineEffect, MachineInput, PhaseContext, SourcePreparation,
    Status, StatusCode, Variables, facts,
};
use crate::event::{CacheFacts, Notice, NoticeLevel};
use crate::spec::Span;

const VALUES: &str = "version: 0.2\nenv:\n  variables: {PLAIN: p}\n  parameter-store: {TOKEN: /t, SET: \
                      /s}\n  secrets-manager: {PASSWORD: db}\nphases: {build: {commands: [b]}}\n";

const CACHE: &str = "version: 0.2\nphases: {build: {commands: [b]}}\ncache: {paths: [x]}\n";

fn pairs(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn layers() -> EnvLayers {
    EnvLayers {
        image: pairs(&[("HOST", "h")]),
        buildspec: pairs(&[("PLAIN", "p")]),
        managed: pairs(&[("CODEBUILD_CI", "true")]),
        overrides: pairs(&[("SET", "typed")]),
        ..EnvLayers::default()
    }
}

fn bed_of(source: &str, facts: BuildFacts) -> Bed {
    Bed::with_layers(source, LIMITS, facts, layers())
}

/// A build with a cache location.
fn cached() -> BuildFacts {
    let cache = CacheFacts { r#type: "LOCAL".to_owned(), location: "/c".to_owned() };
    BuildFacts { cache: Some(cache), ..facts() }
}

fn failed(code: StatusCode) -> BuildSetupError {
    BuildSetupError {
        context: PhaseContext::new(code, "it failed"),
        hint: Some("mend it".to_owned()),
        place: None,
    }
}

impl Bed {
    fn begin(&mut self) {
        self.send(MachineInput::Start);
        self.until_command();
    }

    /// The requested steps, one word each.
    fn words(&self) -> Vec<&'static str> {
        let word = |asked: &SourcePreparation| match asked {
            SourcePreparation::FetchValues(_) => "values",
            SourcePreparation::RunEntrypoint { .. } => "entrypoint",
            SourcePreparation::OpenShell { .. } => "shell",
            SourcePreparation::FindCache => "find",
            SourcePreparation::Rehouse => "rehouse",
            SourcePreparation::RestoreCache => "restore",
            SourcePreparation::ReadCatalog => "catalog",
            SourcePreparation::FindRuntimes { .. } => "runtimes",
        };
        self.asked.iter().map(word).collect()
    }

    /// A variable of the first command.
    fn variable(&self, name: &str) -> Option<&str> {
        let mut shells = self.asked.iter().filter_map(|asked| match asked {
            SourcePreparation::OpenShell { variables } => Some(variables),
            _ => None,
        });
        shells.next_back()?.get(name).map(String::as_str)
    }
}

#[test]
fn only_what_is_needed_is_asked_for() {
    let mut bed = Bed::new(FOUR);
    bed.begin();
    assert_eq!(bed.words(), ["shell"]);
    assert_eq!(bed.commands(), ["i"]);
    // A cache in the buildspec without a location; a location without a cache in the buildspec.
    for (source, facts) in [(CACHE, facts()), (FOUR, cached())] {
        let mut bed = bed_of(source, facts);
        bed.begin();
        assert_eq!(bed.words(), ["shell"]);
    }
}

#[test]
fn values_become_variables_unless_the_command_line_sets_them() {
    let mut bed = bed_of(VALUES, facts());
    let fetched = pairs(&[("TOKEN", "t0ken"), ("PASSWORD", "pw")]);
    bed.world.values = Ok(Fetched(fetched));
    bed.begin();
    assert_eq!(bed.words(), ["values", "shell"]);
    let SourcePreparation::FetchValues(wanted) = &bed.asked[0] else { panic!("{:?}", bed.asked) };
    let names: Vec<&str> = wanted.parameters.iter().map(|wanted| wanted.name.as_str()).collect();
    assert_eq!(names, ["TOKEN"]);
    assert_eq!(wanted.secrets.len(), 1);
    for (name, value) in [
        ("TOKEN", "t0ken"),
        ("PASSWORD", "pw"),
        ("PLAIN", "p"),
        ("SET", "typed"),
        ("HOST", "h"),
        ("CODEBUILD_CI", "true"),
    ] {
        assert_eq!(bed.variable(name), Some(value), "{name}");
    }
    let short = "not masked, because shorter than 4 characters: the value of PASSWORD";
    assert_eq!(bed.notices, [Notice::warning(short)]);
    let at = |text: &str| bed.lines.iter().position(|line| line == text);
    let first = at("Processing environment variables");
    assert!(first < at("Decrypting parameter store environment variables"), "{:?}", bed.lines);
    // Debug output of inputs and effects contains no value.
    assert!(
        !format!("{:?}", MachineInput::ValuesFetched(bed.world.values.clone())).contains("t0ken")
    );
}

#[test]
fn without_parameters_nothing_is_decrypted() {
    let source = "version: 0.2\nenv: {secrets-manager: {A: b}}\nphases: {build: {commands: [b]}}\n";
    let mut bed = bed_of(source, facts());
    bed.begin();
    assert_eq!(bed.words(), ["values", "shell"]);
    assert!(bed.lines.iter().all(|line| !line.starts_with("Decrypting")), "{:?}", bed.lines);
}

#[test]
fn a_value_that_cannot_be_had_ends_the_build_at_its_place() {
    let places = [
        (Some(Span { line: 4, column: 9, ..Span::default() }), NoticeLevel::Error),
        (None, NoticeLevel::Note),
    ];
    for (place, level) in places {
        let mut bed = bed_of(VALUES, BuildFacts { buildspec: "b.yml".to_owned(), ..facts() });
        bed.world.values =
            Err(BuildSetupError { place, ..failed(StatusCode::DecryptedVariablesError) });
        bed.begin();
        assert_eq!(bed.words(), ["values"]);
        let text = if place.is_some() { "b.yml:4:9: it failed" } else { "" };
        let hint = Some("mend it".to_owned());
        assert_eq!(bed.notices, [Notice { level, text: text.to_owned(), hint }]);
        assert_eq!(bed.log[3], "DOWNLOAD_SOURCE FAILED Decrypted Variables Error");
        assert_eq!(bed.finished, Some(Status::Failed));
        let told = bed.lines.iter().any(|line| line.starts_with("Decrypting"));
        assert!(told, "{:?}", bed.lines);
    }
}

#[test]
fn an_entrypoint_runs_with_privileges_only() {
    let container = ContainerFacts {
        variables: pairs(&[("PATH", "/image"), ("GONE", "1")]),
        has_entrypoint: true,
        has_image: true,
        ..ContainerFacts::default()
    };
    for (privileged, words, gone) in [
        (false, &["shell", "catalog"][..], Some("1")),
        (true, &["entrypoint", "shell", "catalog"], None),
    ] {
        let mut bed = bed_of(FOUR, BuildFacts { privileged, ..facts() });
        bed.world.container = container.clone();
        bed.world.entrypoint = Ok(pairs(&[("PATH", "/changed")]));
        bed.begin();
        assert_eq!(bed.words(), words);
        assert_eq!(bed.variable("GONE"), gone);
        if let SourcePreparation::RunEntrypoint { variables } = &bed.asked[0] {
            let names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
            // Without the variables of the buildspec.
            assert_eq!(names, ["HOST", "PATH", "GONE", "CODEBUILD_CI", "SET"]);
            assert!(bed.variable("PATH").is_some_and(|path| path.starts_with("/changed")));
        }
    }
}

#[test]
fn an_entrypoint_that_comes_to_nothing_is_a_fault_with_a_hint() {
    let mut bed = bed_of(FOUR, BuildFacts { privileged: true, ..facts() });
    bed.world.container.has_entrypoint = true;
    bed.world.entrypoint = Err(failed(StatusCode::None));
    bed.begin();
    assert_eq!(bed.words(), ["entrypoint"]);
    assert_eq!(bed.notices, [Notice::hint("mend it")]);
    assert_eq!(bed.finished, Some(Status::Fault));
}

#[test]
fn a_large_cache_is_a_layer_of_a_new_container_where_that_ends_nothing() {
    const LARGE: FoundCache =
        FoundCache { files: 500, bytes: 0, can_be_layer: true, has_guests: false };
    let many = FoundCache { files: 1, bytes: 32 << 20, ..LARGE };
    let small = FoundCache { files: 499, bytes: (32 << 20) - 1, ..LARGE };
    let again = &["shell", "find", "rehouse", "shell", "restore"][..];
    let copied = &["shell", "find", "restore"][..];
    let plain = ContainerFacts::default();
    let layered = ContainerFacts { has_cache: true, ..ContainerFacts::default() };
    for (found, container, words) in [
        (Some(LARGE), &plain, again),
        (Some(many), &plain, again),
        (Some(small), &plain, copied),
        (None, &plain, copied),
        (Some(FoundCache { can_be_layer: false, ..LARGE }), &plain, copied),
        // A session would end.
        (Some(FoundCache { has_guests: true, ..LARGE }), &plain, copied),
        // The cache was found before the container was ready.
        (Some(LARGE), &layered, copied),
    ] {
        let mut bed = bed_of(CACHE, cached());
        bed.world.container = container.clone();
        bed.world.cache = found;
        bed.begin();
        assert_eq!(bed.words(), words, "{found:?}, {container:?}");
        assert_eq!(bed.commands(), ["b"]);
    }
    // Processes of an entrypoint would end as well.
    let mut bed = bed_of(CACHE, BuildFacts { privileged: true, ..cached() });
    bed.world.container.has_entrypoint = true;
    bed.world.cache = Some(LARGE);
    bed.begin();
    assert_eq!(bed.words(), ["entrypoint", "shell", "find", "restore"]);
}

#[test]
fn a_new_container_gets_the_same_variables_or_is_a_fault() {
    let found = FoundCache { files: 500, bytes: 0, can_be_layer: true, has_guests: false };
    let mut bed = bed_of(CACHE, cached());
    bed.world.cache = Some(found);
    bed.world.rehoused = Ok(ContainerFacts { has_image: true, ..ContainerFacts::default() });
    bed.begin();
    assert_eq!(bed.words(), ["shell", "find", "rehouse", "shell", "restore", "catalog"]);
    assert_eq!(bed.asked[0], bed.asked[3]);

    let mut bed = bed_of(CACHE, cached());
    bed.world.cache = Some(found);
    bed.world.rehoused = Err(PhaseContext::new(StatusCode::InternalServiceError, "no container"));
    bed.begin();
    assert_eq!(bed.words(), ["shell", "find", "rehouse"]);
    assert!(bed.log.contains(&"DOWNLOAD_SOURCE FAULT INTERNAL_SERVICE_ERROR".to_owned()));
    assert_eq!(bed.finished, Some(Status::Fault));
}

#[test]
fn without_a_catalog_what_is_there_is_held_against_what_is_asked_for() {
    let source = FOUR.replace("install: {", "install: {runtime-versions: {nodejs: 20}, ");
    for (has_image, catalog, words) in [
        (false, None, &["shell", "runtimes"][..]),
        (true, None, &["shell", "catalog", "runtimes"]),
        (
            true,
            Some("runtimes: {nodejs: {versions: {20: {commands: [n]}}}}"),
            &["shell", "catalog"],
        ),
    ] {
        let mut bed = bed_of(&source, facts());
        bed.world.container.has_image = has_image;
        bed.world.catalog = catalog.map(str::to_owned);
        bed.world.runtimes =
            InstalledVersions::from([("nodejs".to_owned(), Some("18.1".to_owned()))]);
        bed.begin();
        assert_eq!(bed.words(), words);
        let told: Vec<&str> = bed.notices.iter().map(|notice| notice.text.as_str()).collect();
        match catalog {
            Some(_) => assert_eq!((&told[..], bed.commands()), (&[][..], vec!["n"])),
            None => assert_eq!(told, ["runtime-versions asks for nodejs 20; here is nodejs 18.1"]),
        }
    }
}

#[test]
fn what_comes_when_the_build_is_stopped_changes_nothing() {
    let late = || {
        let failed = || failed(StatusCode::InternalServiceError);
        [
            MachineInput::ValuesFetched(Err(failed())),
            MachineInput::EntrypointRan(Err(failed())),
            MachineInput::ShellOpened(Err(failed().context)),
            MachineInput::ShellOpened(Ok(())),
            MachineInput::CacheFound(None),
            MachineInput::Rehoused(Err(failed().context)),
            MachineInput::CacheRestored,
            MachineInput::CatalogRead(None),
            MachineInput::RuntimesFound(InstalledVersions::new()),
        ]
    };
    let source = VALUES.to_owned() + "cache: {paths: [x]}\n";
    // Stopped after each answer in turn.
    for stage in 0..8 {
        let mut bed = bed_of(&source, BuildFacts { privileged: true, ..cached() });
        bed.world.container = ContainerFacts {
            has_entrypoint: stage < 3,
            has_image: true,
            ..ContainerFacts::default()
        };
        bed.world.cache =
            Some(FoundCache { files: 500, bytes: 0, can_be_layer: true, has_guests: false });
        bed.world.rehoused = Ok(bed.world.container.clone());
        bed.send(MachineInput::Start);
        for _ in 0..=stage {
            let effect = bed.pending.pop_front().expect("something is asked for");
            let answer = match &effect {
                MachineEffect::Provision => {
                    MachineInput::Provisioned(Ok(bed.world.container.clone()))
                }
                MachineEffect::Prepare(asked) => bed.answer(asked),
                other => panic!("{other:?}"),
            };
            bed.send(answer);
        }
        bed.pending.clear();
        bed.send(MachineInput::Stop { at_once: false });
        late().into_iter().for_each(|input| bed.send(input));
        assert_eq!(bed.pending, [MachineEffect::Terminate], "stage {stage}");
        bed.send(MachineInput::ProcessesGone);
        late().into_iter().for_each(|input| bed.send(input));
        bed.until_command();
        assert_eq!(bed.finished, Some(Status::Stopped), "stage {stage}");
        assert!(bed.commands().is_empty());
    }
}

#[test]
fn variables_that_nothing_sets_are_told_once_all_are_known() {
    let source = "version: 0.2\nphases:\n  build:\n    commands:\n      - a $SET $HOST $TAG\n      - b $TAG \
                  $NAME\n";
    let mut bed = bed_of(source, facts());
    bed.begin();
    let warning = bed.notices.iter().find(|notice| notice.level == NoticeLevel::Warning);
    let warning = warning.expect("is told");
    assert_eq!(warning.text, "nothing sets TAG (lines 5, 6), NAME (line 6)");
    assert!(warning.hint.as_ref().is_some_and(|hint| hint.contains("--env-file")));
}
