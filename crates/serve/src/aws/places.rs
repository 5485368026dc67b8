//! Validates the buckets and log groups that callers name for output, and checks whether the
//! callers may write there.
//!
//! Output is sent with the rights of this machine's owner, so users under policies need the same
//! rights here.

use super::call::RefusedCall;
use super::endpoint::{Endpoint, Origin};
use super::resources::ResourceNames;
use runner_cloud::s3::Location;
use runner_core::arn::arn;
use runner_core::destination::Destinations;

/// A call's member and its value.
type CallMember<'a> = (&'a str, &'a str);

/// The error in a bucket's name; `None` if it is empty or valid.
pub(super) fn wrong_bucket((member, name): CallMember<'_>) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    if let Some(Err(why)) = Location::parse(&format!("s3://{name}")) {
        return Some(format!("{member}: {why}"));
    }
    name.contains('/').then(|| format!("{member} is the name of a bucket alone"))
}

/// The error in a key's prefix.
pub(super) fn wrong_prefix((member, prefix): CallMember<'_>) -> Option<String> {
    let is_long = prefix.chars().count() > 500;
    // HTTP clients would resolve such a part and write to another key.
    let leads_elsewhere = prefix.split('/').any(|part| part == "." || part == "..");
    (is_long || leads_elsewhere || prefix.chars().any(char::is_control)).then(|| {
        format!(
            "{member} has at most 500 characters, no control characters, and no part `.` or `..`"
        )
    })
}

/// Whether a log group's name may contain this character.
pub(super) fn is_of_group(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-/.#".contains(c)
}

/// The error in a log group's name; `None` if it is empty or valid.
pub(super) fn wrong_group((member, name): CallMember<'_>) -> Option<String> {
    (name.len() > 512 || !name.chars().all(is_of_group))
        .then(|| format!("{member} has 1 to 512 of a-z A-Z 0-9 _ - / . #"))
}

/// Checks whether a caller may write to these targets.
///
/// # Errors
/// If they may not.
pub(super) fn may_write(
    to: &Destinations,
    origin: &Origin,
    endpoint: &Endpoint,
) -> Result<(), RefusedCall> {
    let bucket = to.bucket.as_ref().map(|bucket| {
        let object = format!("arn:aws:s3:::{}/{}", bucket.name, bucket.key("*"));
        ("s3:PutObject", object)
    });
    let group = to.group.as_ref().map(|group| {
        let group = arn("logs", &format!("log-group:{}:*", group.name));
        ("logs:PutLogEvents", group)
    });
    for (action, resource) in bucket.into_iter().chain(group) {
        if !endpoint.allows(origin, action, &ResourceNames::named(resource.clone())) {
            let who = &origin.caller.arn;
            return Err(RefusedCall::new(
                "AccessDeniedException",
                format!(
                    "User: {who} is not authorized to perform: {action} on resource: {resource}"
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_that_lead_elsewhere() {
        for fine in ["", "a", "a/b/", "..a/b.", "a..b"] {
            assert_eq!(wrong_prefix(("p", fine)), None, "{fine}");
        }
        for wrong in ["..", "a/../b", "./a", "a/.", "a\nb"] {
            assert!(wrong_prefix(("p", wrong)).is_some(), "{wrong}");
        }
    }
}
