//! ARNs for builds and other resources of this machine.

/// The Region that builds see, and the one that is called if none is configured.
pub const REGION: &str = "us-east-1";
/// The account that builds see.
pub const ACCOUNT: &str = "000000000000";

/// Returns the ARN of a service's `resource`, such as `build/demo:1`.
#[must_use]
pub fn arn(service: &str, resource: &str) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_cluster() {
        let arn = arn("ecs", "cluster/default");
        assert_eq!(arn, "arn:aws:ecs:us-east-1:000000000000:cluster/default");
    }
}
