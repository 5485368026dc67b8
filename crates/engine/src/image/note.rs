//! What there is to know of how an image was got.

use crate::docker::Program;
use std::fmt;
use std::time::Duration;

/// Told while an image is got.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Layers are got that were not there.
    Getting { image: String, missing: usize, layers: usize, bytes: u64 },
    /// A build has a /dev of its own.
    DevicesLeftOut { image: String, count: u64 },
    /// A daemon gets it.
    Pulling { program: Program, image: String },
    /// A daemon has got it.
    Pulled { program: Program, image: String, time: Duration },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Getting { image, missing, layers, bytes } => {
                let megabytes = *bytes as f64 / 1e6;
                write!(f, "getting {image}: {missing} of {layers} layers, {megabytes:.1} MB")
            }
            Note::DevicesLeftOut { image, count } => write!(
                f,
                "{image}: {count} device nodes are left out; a build has a /dev of its own"
            ),
            Note::Pulling { program, image } => write!(f, "{program} pulls {image}"),
            Note::Pulled { program, image, time } => {
                write!(f, "{program} has pulled {image} in {:.1} s", time.as_secs_f64())
            }
        }
    }
}
