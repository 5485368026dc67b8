//! Places at AWS that callers name for output: whether there can be such, and whether they may have something written
//! there.
//!
//! What is written goes there with the rights of this machine's owner: whom policies bind needs the same rights here.

use super::call::RefusedCall;
use super::endpoint::{Endpoint, Origin};
use super::resources::ResourceNames;
use runner_cloud::s3::Location;
use runner_core::arn::arn;
use runner_core::destination::Destinations;

/// A member of a call, and what it says.
type CallMember<'a> = (&'a str, &'a str);

/// What is wrong with the name of a bucket; nothing with none.
pub(super) fn wrong_bucket((member, name): CallMember<'_>) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    if let Some(Err(why)) = Location::parse(&format!("s3://{name}")) {
        return Some(format!("{member}: {why}"));
    }
    name.contains('/').then(|| format!("{member} is the name of a bucket alone"))
}

/// What is wrong with what keys begin with.
pub(super) fn wrong_prefix((member, prefix): CallMember<'_>) -> Option<String> {
    let is_long = prefix.chars().count() > 500;
    // A request for such a key is for another one.
    let leads_elsewhere = prefix.split('/').any(|part| part == "." || part == "..");
    (is_long || leads_elsewhere || prefix.chars().any(char::is_control)).then(|| {
        format!(
            "{member} has at most 500 characters, no control characters, and no part `.` or `..`"
        )
    })
}

/// Whether it can stand in the name of a log group.
pub(super) fn is_of_group(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-/.#".contains(c)
}

/// What is wrong with the name of a log group; nothing with none.
pub(super) fn wrong_group((member, name): CallMember<'_>) -> Option<String> {
    (name.len() > 512 || !name.chars().all(is_of_group))
        .then(|| format!("{member} has 1 to 512 of a-z A-Z 0-9 _ - / . #"))
}

/// Whether a caller may have something written there.
///
/// # Errors
/// They may not.
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
