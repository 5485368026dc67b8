//! Replaces images by others: `--image-map FROM=TO`.
//!
//! Used when a build's request is made, before anything fetches the image.

use super::Image;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// An image and its replacement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    pub from: Image,
    pub to: Image,
}

impl Swap {
    /// The replacement for `image`, if there is one. The last match wins and is not replaced again.
    pub fn find<'s>(swaps: &'s [Swap], image: &Image) -> Option<&'s Image> {
        swaps.iter().rev().find(|swap| swap.from == *image).map(|swap| &swap.to)
    }
}

impl FromStr for Swap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('=').ok_or("write FROM=TO, both names of images")?;
        Ok(Swap { from: from.parse()?, to: to.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_of_a_name_counts_and_names_are_read_first() {
        let swaps =
            ["aws/codebuild/standard:7.0=a:1", "b=rootfs:/c=d", "docker.io/library/b:latest=a:2"];
        let swaps: Vec<Swap> = swaps.iter().map(|text| text.parse().expect("a swap")).collect();
        for (image, found) in [
            ("public.ecr.aws/codebuild/standard:7.0", Some("docker.io/library/a:1")),
            ("b", Some("docker.io/library/a:2")),
            ("a:1", None),
        ] {
            let image: Image = image.parse().expect("an image");
            let to = Swap::find(&swaps, &image).map(Image::to_string);
            assert_eq!(to.as_deref(), found, "{image}");
        }
        assert!("a".parse::<Swap>().is_err() && "=b".parse::<Swap>().is_err());
    }
}
