//! Names of things of this machine in AWS's form.

/// The Region builds find themselves in; the one that is called where none is configured.
pub const REGION: &str = "us-east-1";
/// The account builds find themselves in.
pub const ACCOUNT: &str = "000000000000";

/// The ARN of what a service calls `resource`, `build/demo:1` for one.
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
