//! Reads the image's own `amazon-ssm-agent.json`, once, when the first client asks.
//!
//! The image is not trusted: the file is read through PID 1, with a size limit, and can only make
//! settings stricter (`runner_core::agent`).

use runner_core::agent::{AgentConfig, IN_IMAGE, MAX_BYTES, PropertyLayer};
use runner_core::event::Notice;
use runner_engine::{Container, OpenMode};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The file's settings, and a notice for the user at the build.
pub(super) async fn read(container: &dyn Container) -> (Option<PropertyLayer>, Option<Notice>) {
    let fd = match container.open(Path::new(IN_IMAGE), OpenMode::Read).await {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, None),
        Err(error) => return (None, Some(unusable(&error.to_string()))),
    };
    let text = tokio::task::spawn_blocking(move || text(&File::from(fd))).await;
    match text.map_err(io::Error::other).and_then(|text| text) {
        Err(error) => (None, Some(unusable(&error.to_string()))),
        Ok(text) => match PropertyLayer::read(&text) {
            Err(problems) => {
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                (None, Some(unusable(&first)))
            }
            Ok((layer, _)) => {
                let (_, ignored) = AgentConfig::default().tightened(&layer);
                let notice = (!ignored.is_empty()).then(|| {
                    Notice::note(format!(
                        "{IN_IMAGE} in the image can only make sessions stricter; ignored: {}",
                        ignored.join(", ")
                    ))
                });
                (Some(layer), notice)
            }
        },
    }
}

fn unusable(why: &str) -> Notice {
    let why = runner_core::plain::line(why);
    Notice::warning(format!("{IN_IMAGE} in the image is not used: {why}"))
}

fn text(file: &File) -> io::Result<String> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    match text.len() > MAX_BYTES {
        true => Err(io::Error::other("it is longer than 64 KiB")),
        false => Ok(text),
    }
}
