//! Who may do what: the one place that is asked before an operation does anything.
//!
//! `operations` asks, for every operation and each thing that a request names. Whoever holds the key pair is the
//! owner of these builds. Policies of a finer grain take the place of [`OwnerMayAll`].

use super::resources::Resource;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Their name in ids of sessions.
    pub name: String,
    /// As AWS names them.
    pub arn: String,
    /// Their access key; the one there is where calls need no signature.
    pub key_id: String,
}

/// Condition keys of one operation as IAM names them, and their values.
pub(super) type Context = Vec<(&'static str, String)>;

/// Decides.
pub(super) trait Policy: Send + Sync {
    /// Whether `caller` may perform `action` (`ssm:StartSession`) on `resource`; why not.
    fn judge(
        &self,
        caller: &Caller,
        action: &'static str,
        resource: &Resource,
        context: &Context,
    ) -> Result<(), String>;
}

/// Everything, for whoever has shown that they own the builds.
#[derive(Debug)]
pub(super) struct OwnerMayAll;

impl Policy for OwnerMayAll {
    fn judge(&self, _: &Caller, _: &'static str, _: &Resource, _: &Context) -> Result<(), String> {
        Ok(())
    }
}
