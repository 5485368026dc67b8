//! The request for each build of a batch: from the options, and from the buildspec's settings for
//! that build.
//!
//! Typed options take precedence over the build's settings, and those over project files. The
//! buildspec may come from anyone: what it asks of this machine needs trust, as in `runner.toml`
//! (docs/adr/0037).

use crate::cli::error::CliError;
use crate::cli::run;
use crate::cli::run_args::RunArgs;
use crate::cli::say;
use runner_batch::ChildRequest;
use runner_build::{BuildRequest, OutputsRequest};
use runner_core::batch::{BatchPlan, PlannedBuild};
use runner_core::env::Variables;
use runner_engine::NetworkAccess;
use runner_engine::image::{Image, ImageRequester, Swap};
use runner_outputs::OutputStore;
use std::path::{Path, PathBuf};

const UNTRUSTED: &str = "the buildspec names it, so it is asked for without your credentials; to have it with them: \
                         --trust-project";

/// Options given on the command line, not by a file.
pub(super) struct TypedOptions {
    variables: Vec<String>,
    image: bool,
    privileged: bool,
    network: bool,
    /// Replacements of images, from trusted sources only.
    pub(super) image_map: Vec<Swap>,
}

impl TypedOptions {
    pub(super) fn of(args: &RunArgs) -> Result<Self, CliError> {
        Ok(TypedOptions {
            variables: run::variables(args)?.into_iter().map(|(name, _)| name).collect(),
            image: args.image.is_some(),
            privileged: args.privileged,
            network: args.network.is_some(),
            image_map: args.image_map.clone(),
        })
    }
}

/// The builds of a plan, or every reason why one of them cannot be requested.
pub(super) fn children(
    base: &BuildRequest,
    plan: &BatchPlan,
    typed: &TypedOptions,
    trusted: bool,
) -> Result<Vec<ChildRequest>, CliError> {
    let mut problems = Vec::new();
    let made = plan.builds.iter().map(|build| child(base, build, typed, trusted, &mut problems));
    let children = made.collect();
    problems.dedup();
    match problems.as_slice() {
        [] => Ok(children),
        [only] => Err(CliError::usage(only.clone())),
        several => {
            for problem in several {
                say(&format!("error: {problem}"));
            }
            Err(CliError::usage(format!("{} problems with the builds of the batch", several.len())))
        }
    }
}

fn child(
    base: &BuildRequest,
    build: &PlannedBuild,
    typed: &TypedOptions,
    trusted: bool,
    problems: &mut Vec<String>,
) -> ChildRequest {
    let own = &build.settings;
    let name = &build.identifier;
    let mut request = base.clone();
    if let Some(text) = own.image.as_ref().filter(|_| !typed.image) {
        match image(text, &base.source, trusted) {
            Ok(image) => {
                let container = &mut request.container;
                if let Some(to) = Swap::find(&typed.image_map, &image) {
                    container.asker = ImageRequester::Caller;
                    container.image = to.clone();
                    container.replaces = Some(image);
                } else {
                    if !trusted {
                        container.asker = ImageRequester::Stranger { hint: UNTRUSTED.to_owned() };
                    }
                    container.image = image;
                    container.replaces = None;
                }
            }
            Err(problem) => problems.push(format!("{name}: image {text}: {problem}")),
        }
    }
    match own.privileged.filter(|_| !typed.privileged) {
        Some(true) if !base.container.privileged => {
            if trusted {
                request.container.privileged = true;
                if !typed.network && base.container.engine.traits().networks {
                    // A Docker daemon would change the firewall of the host's network.
                    request.container.network = NetworkAccess::Pasta;
                }
            } else {
                problems.push(format!(
                    "{name}: `privileged-mode` gives the build rights over this machine: --trust-project, or \
                     --privileged for all builds"
                ));
            }
        }
        Some(false) => request.container.privileged = false,
        Some(true) | None => {}
    }
    request.sessions.is_enabled |= own.debug_session;
    request.values.variables = variables(&base.values.variables, &own.variables, &typed.variables);
    request
        .values
        .fetched
        .retain(|of_project| !own.variables.iter().any(|(name, _)| *name == of_project.name));
    apart(&mut request.outputs, name);
    ChildRequest { request, buildspec: own.buildspec.clone() }
}

/// The image that a build names; paths are relative to the source.
fn image(text: &str, source: &Path, trusted: bool) -> Result<Image, String> {
    let image = match text.split_once(':') {
        Some((kind @ ("rootfs" | "oci" | "oci-archive" | "docker-archive"), path))
            if !path.is_empty() =>
        {
            format!("{kind}:{}", source.join(path).display()).parse::<Image>()
        }
        _ => text.parse(),
    };
    let image = image.map_err(|error| error.to_string())?;
    let needs = |what: &str| Err(format!("it {what}: --trust-project"));
    match image {
        Image::DockerDaemon(_) if !trusted => needs("is read from your Docker daemon"),
        Image::Host | Image::Registry(_) | Image::DockerDaemon(_) => Ok(image),
        Image::Rootfs(path) => below(path, source, trusted).map(Image::Rootfs),
        Image::Layout(path, tag) => {
            below(path, source, trusted).map(|path| Image::Layout(path, tag))
        }
        Image::OciArchive(path) => below(path, source, trusted).map(Image::OciArchive),
        Image::DockerArchive(path) => below(path, source, trusted).map(Image::DockerArchive),
    }
}

/// A file or directory in the source; elsewhere only with trust.
fn below(path: PathBuf, source: &Path, trusted: bool) -> Result<PathBuf, String> {
    let is_inside = || {
        let (path, source) =
            (std::fs::canonicalize(&path).ok()?, std::fs::canonicalize(source).ok()?);
        path.starts_with(source).then_some(())
    };
    match trusted || is_inside().is_some() {
        true => Ok(path),
        false => Err("it shows a file or directory of this machine: --trust-project".to_owned()),
    }
}

/// A build's variables: they override those for all builds and are overridden by typed ones.
fn variables(all: &Variables, own: &Variables, typed: &[String]) -> Variables {
    let is_typed = |name: &String| typed.contains(name);
    let is_own = |name: &String| own.iter().any(|(other, _)| other == name);
    let kept = all.iter().filter(|(name, _)| is_typed(name) || !is_own(name));
    let added = own.iter().filter(|(name, _)| !is_typed(name));
    kept.chain(added).cloned().collect()
}

/// Separates the outputs of a batch's builds.
fn apart(outputs: &mut OutputsRequest, name: &str) {
    // It belongs to the batch.
    outputs.build_json = None;
    if let Some(reports) = &mut outputs.reports {
        reports.push(name);
    }
    if let Some(file) = &mut outputs.log_file {
        let own = match file.extension() {
            Some(end) => format!("{name}.{}", end.to_string_lossy()),
            None => name.to_owned(),
        };
        file.set_extension(own);
    }
    // In a bucket, equal names overwrite each other, as in AWS.
    if let Some(artifacts) = &mut outputs.artifacts {
        let all = [&mut artifacts.primary].into_iter().chain(artifacts.secondary.values_mut());
        for destination in all {
            if let OutputStore::Folder(folder) = &mut destination.store {
                folder.push(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Variables {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn what_is_typed_goes_before_a_builds_own_and_that_before_the_projects() {
        let all = pairs("A=project A=typed B=project C=project");
        let own = pairs("A=own B=own D=own");
        let found = variables(&all, &own, &["A".to_owned()]);
        assert_eq!(found, pairs("A=project A=typed C=project B=own D=own"));
    }

    #[test]
    fn images_of_the_buildspec_reach_no_further_than_the_source() {
        let image = |text: &str, trusted| image(text, Path::new("/usr/share"), trusted);
        for text in [
            "rootfs:/etc",
            "oci:../lib",
            "docker-daemon:x",
            "oci-archive:/etc/passwd",
            "rootfs:none",
        ] {
            assert!(image(text, false).is_err(), "{text}");
            assert!(image(text, true).is_ok(), "{text}");
        }
        assert_eq!(image("rootfs:.", false), Ok(Image::Rootfs("/usr/share".into())));
        assert!(image("busybox", false).is_ok() && image("host", false).is_ok());
        let curated = "public.ecr.aws/codebuild/standard:7.0".parse().expect("an image");
        assert_eq!(image("aws/codebuild/standard:7.0", false), Ok(curated));
    }

    #[test]
    fn files_are_kept_apart() {
        let named = |file: &str| {
            let mut outputs =
                OutputsRequest { log_file: Some(file.into()), ..OutputsRequest::default() };
            apart(&mut outputs, "one");
            outputs.log_file.expect("a file")
        };
        assert_eq!(named("a/build.log"), Path::new("a/build.one.log"));
        assert_eq!(named("log"), Path::new("log.one"));
    }
}
