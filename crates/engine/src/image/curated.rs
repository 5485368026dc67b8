//! CodeBuild's own images under their console names.
//!
//! Used by `name`. AWS publishes them in its public registry.

/// Prefix of their names in the console and in a project's JSON.
const CONSOLE: &str = "aws/codebuild/";
/// Where the public registry has them.
const REGISTRY: &str = "public.ecr.aws/codebuild/";

/// Prefixes, below `aws/codebuild/`, of images that cannot run in a container here.
const FOREIGN: [(&str, &str); 4] = [
    ("windows-", "is an image of Windows, and builds run on Linux here"),
    ("macos-", "is a machine of macOS, and builds run on Linux here"),
    ("ami/", "is an image of a whole machine, which no container is made of"),
    ("amazonlinux-aarch64-", "is an image for aarch64, and builds run on x86-64 here"),
];

/// Translates a console name into the public registry's name; `None` for other names.
pub(super) fn public_name(name: &str) -> Result<Option<String>, String> {
    let Some(rest) = name.strip_prefix(CONSOLE) else { return Ok(None) };
    match FOREIGN.iter().find(|(beginning, _)| rest.starts_with(beginning)) {
        Some((_, why)) => Err(format!(
            "`{name}` {why}; use another image with --image NAME or --image-map {name}=NAME"
        )),
        None => Ok(Some(format!("{REGISTRY}{rest}"))),
    }
}

/// The console name of one of these images.
pub(super) fn console_name(public: &str) -> Option<String> {
    public.strip_prefix(REGISTRY).map(|rest| format!("{CONSOLE}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_console_lead_to_the_public_registry() {
        for rest in ["standard:7.0", "amazonlinux2-x86_64-standard:5.0"] {
            let (console, public) = (format!("{CONSOLE}{rest}"), format!("{REGISTRY}{rest}"));
            assert_eq!(public_name(&console), Ok(Some(public.clone())));
            assert_eq!(console_name(&public), Some(console));
        }
        for other in ["aws/other:1", "docker.io/aws/codebuild/standard:7.0", "ubuntu"] {
            assert_eq!(public_name(other), Ok(None), "{other}");
            assert_eq!(console_name(other), None, "{other}");
        }
        for foreign in ["windows-base:2022-1.0", "amazonlinux-aarch64-standard:3.0"] {
            assert!(public_name(&format!("{CONSOLE}{foreign}")).is_err(), "{foreign}");
        }
    }
}
