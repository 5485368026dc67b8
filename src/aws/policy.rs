//! Who may do what: the one place that is asked before anything is done.
//!
//! Whoever holds the key pair is the owner of these builds. Policies of a finer grain take the place
//! of [`OwnerMayAll`].

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Their name in ids of sessions.
    pub(crate) name: String,
    /// As AWS names them.
    pub(crate) arn: String,
    /// Their access key; the one there is where calls need no signature.
    pub(crate) key_id: String,
}

/// Decides.
pub(crate) trait Policy: Send + Sync {
    /// Whether `caller` may perform `action` (`ssm:StartSession`) on `resource`; why not.
    fn judge(&self, caller: &Caller, action: &str, resource: &str) -> Result<(), String>;
}

/// Everything, for whoever has shown that they own the builds.
#[derive(Debug)]
pub(crate) struct OwnerMayAll;

impl Policy for OwnerMayAll {
    fn judge(&self, _: &Caller, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }
}
