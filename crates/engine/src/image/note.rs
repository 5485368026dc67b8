//! Messages about how an image is fetched.

use crate::docker::DaemonProgram;
use std::fmt;
use std::time::Duration;

/// Messages to the caller while an image is fetched.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageNote {
    /// Missing layers are fetched.
    Getting { image: String, missing: usize, layers: usize, bytes: u64 },
    /// Device files of the image are left out: a build gets a new /dev.
    DevicesLeftOut { image: String, count: u64 },
    /// A daemon pulls the image.
    Pulling { program: DaemonProgram, image: String },
    /// A daemon has pulled the image.
    Pulled { program: DaemonProgram, image: String, time: Duration },
}

impl fmt::Display for ImageNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageNote::Getting { image, missing, layers, bytes } => {
                let megabytes = *bytes as f64 / 1e6;
                write!(f, "getting {image}: {missing} of {layers} layers, {megabytes:.1} MB")
            }
            ImageNote::DevicesLeftOut { image, count } => {
                write!(f, "{image}: {count} device nodes are left out; a build has its own /dev")
            }
            ImageNote::Pulling { program, image } => write!(f, "{program} pulls {image}"),
            ImageNote::Pulled { program, image, time } => {
                write!(f, "{program} has pulled {image} in {:.1} s", time.as_secs_f64())
            }
        }
    }
}
