//! DOWNLOAD_SOURCE, as far as it is done in the world: values fetched, the first state written, the
//! image's catalog of runtimes read.
//!
//! Used by `effects`; what comes of it goes into the machine.

use super::entrypoint;
use super::housing::Housing;
use super::inbox::Inbox;
use super::shell::{Shell, ShellError};
use super::upload;
use super::world::World;
use crate::engine::{Container, OpenMode};
use crate::image::Image;
use crate::outputs::cache::Caching;
use crate::secrets::Failure;
use runner_core::env;
use runner_core::event::Notice;
use runner_core::machine::{Input, Setup};
use runner_core::mask::MIN_LENGTH;
use runner_core::phase::{PhaseContext, StatusCode};
use runner_core::plan::Work;
use runner_core::runtimes;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// Most of a catalog that is read.
const MAX_CATALOG: u64 = 4 << 20;

/// Makes a build ready for its first command; the shell, where it has come to that.
pub(super) async fn make_ready(
    world: &World,
    work: &Work,
    mut container: Arc<dyn Container>,
    housing: &Housing,
    inbox: &Inbox,
) -> Result<(Option<Shell>, Setup), ShellError> {
    let mut lines = Vec::new();
    let fetched = match fetch(world, work, &mut lines, inbox).await {
        Ok(fetched) => fetched,
        Err(Failure { context, hint, place }) => {
            let notice = match place {
                Some(place) => {
                    let (file, message) = (&world.buildspec, &context.message);
                    let text = format!("{file}:{}:{}: {message}", place.line, place.column);
                    Some(Notice::error(text).with_hint(hint))
                }
                None => hint.map(Notice::hint),
            };
            if let Some(notice) = notice {
                inbox.send(Input::Notice(notice)).await;
            }
            return Ok((None, Setup { lines, cache: Vec::new(), commands: Err(context) }));
        }
    };
    let mut layers = world.layers.clone();
    layers.image.extend(container.image_config().env.iter().cloned());
    let has_entrypoint =
        world.container_spec.privileged && !container.image_config().entrypoint.is_empty();
    if has_entrypoint {
        let passed = [&layers.image[..], &layers.managed, &layers.overrides].concat();
        let found = entrypoint::run(&*container, passed).await?;
        layers.image = found;
    }
    layers.buildspec.extend(fetched);
    let variables = env::compose(layers);
    let shell_in = |container: &Arc<dyn Container>| {
        Shell::prepare(
            Arc::clone(container),
            work.version,
            work.shell.clone(),
            &world.places,
            &variables,
            Arc::clone(&world.snapshot),
        )
    };
    let mut shell = shell_in(&container).await?;
    if let (Some(cache), Some(to)) = (&work.cache, &world.cache) {
        let (_held, cancel) = watch::channel(false);
        let caching = |shell: &Shell, container: &Arc<dyn Container>| {
            let container = Arc::clone(container);
            Caching { at: upload::workplace(world, shell, container, inbox, cancel.clone()) }
        };
        let before = std::mem::take(&mut *upload::lock(&world.cache_state));
        let found = caching(&shell, &container).find(cache, to, before).await;
        // Once its key is known, a cache can be a layer as well. What an entrypoint has started, or
        // somebody's session, must not end with the container.
        if let Some(trees) = found.worthwhile_trees()
            && !container.has_cache()
            && !has_entrypoint
            && !world.sessions.has_guests()
            && container.can_hold(&trees)
        {
            tracing::debug!("the container once more, with the cache as a layer");
            container = housing.again(trees).await?;
            shell = shell_in(&container).await?;
        }
        let state = caching(&shell, &container).restore(cache, to, found).await;
        *upload::lock(&world.cache_state) = state;
    }
    // This machine is no image of CodeBuild's; looking would be one more process at each start.
    let has_catalog = world.container_spec.image != Image::Host;
    let catalog = if has_catalog { catalog(&*container).await } else { None };
    if catalog.is_none() && !work.runtimes.is_empty() {
        let names: Vec<&str> = work.runtimes.iter().map(|runtime| runtime.name.as_str()).collect();
        let text = format!(
            "runtime-versions: the image has no {}, so the build finds what is there of {}",
            runtimes::CATALOG,
            names.join(", ")
        );
        inbox.send(Input::Notice(Notice::note(text))).await;
    }
    let mut setup = runtimes::select(catalog.as_deref(), &work.runtimes, &variables);
    lines.append(&mut setup.lines);
    Ok((Some(shell), Setup { lines, cache: Vec::new(), commands: setup.commands }))
}

/// Values from Parameter Store and Secrets Manager; masked from here on. What the command line sets
/// is not asked for.
async fn fetch(
    world: &World,
    work: &Work,
    lines: &mut Vec<String>,
    inbox: &Inbox,
) -> Result<Vec<(String, String)>, Failure> {
    let is_set = |name: &str| world.layers.overrides.iter().any(|(set, _)| set == name);
    let parameters: Vec<_> =
        work.parameters.iter().filter(|wanted| !is_set(&wanted.name)).collect();
    let secrets: Vec<_> = work.secrets.iter().filter(|wanted| !is_set(&wanted.name)).collect();
    if !parameters.is_empty() {
        lines.push("Decrypting parameter store environment variables".to_owned());
    }
    let fetched = world.vault.fetch(&parameters, &secrets).await?;
    let values = fetched.iter().map(|(_, value)| value.clone().into_bytes());
    world.secrets.add(values).map_err(|error| Failure {
        context: PhaseContext::new(
            StatusCode::ClientError,
            format!("cannot mask these values: {error}"),
        ),
        hint: None,
        place: None,
    })?;
    let short: Vec<&str> = fetched
        .iter()
        .filter(|(_, value)| value.len() < MIN_LENGTH)
        .map(|(name, _)| name.as_str())
        .collect();
    if !short.is_empty() {
        let text = format!(
            "not masked, because shorter than {MIN_LENGTH} characters: the value of {}",
            short.join(", ")
        );
        inbox.send(Input::Notice(Notice::warning(text))).await;
    }
    Ok(fetched)
}

/// The image's catalog of runtimes, where it has one.
async fn catalog(container: &dyn Container) -> Option<String> {
    let fd = container.open(Path::new(runtimes::CATALOG), OpenMode::Read).await.ok()?;
    let mut bytes = Vec::new();
    File::from(fd).take(MAX_CATALOG).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
