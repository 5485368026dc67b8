//! The facts about a request, by condition key.

/// A condition key. Its name ignores case, but a tag key after a slash does not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConditionKey(String);

impl ConditionKey {
    pub(super) fn of(name: &str) -> Self {
        ConditionKey(match name.split_once('/') {
            Some((name, tag)) => format!("{}/{tag}", name.to_ascii_lowercase()),
            None => name.to_ascii_lowercase(),
        })
    }

    /// Parses a key in a policy, with its service prefix.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let (service, rest) = name.split_once(':').unwrap_or_default();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if service.is_empty() || rest.is_empty() || !service.chars().all(is_name) {
            return Err(format!("`{name}` is not a condition key: keys are named service:Key"));
        }
        Ok(ConditionKey::of(name))
    }
}

/// The facts about a request, by condition key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestContext(Vec<(ConditionKey, Vec<String>)>);

impl RequestContext {
    /// Adds a value. A key may have several.
    pub fn add(&mut self, key: &str, value: impl Into<String>) {
        let key = ConditionKey::of(key);
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value.into()),
            None => self.0.push((key, vec![value.into()])),
        }
    }

    /// Sets a key to one value.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.clear(key);
        self.0.push((ConditionKey::of(key), vec![value.into()]));
    }

    /// Removes a key's values.
    pub fn clear(&mut self, key: &str) {
        let key = ConditionKey::of(key);
        self.0.retain(|(known, _)| *known != key);
    }

    /// Whether a key has a value.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.get(&ConditionKey::of(key)).is_some()
    }

    pub(super) fn get(&self, key: &ConditionKey) -> Option<&[String]> {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map(|(_, values)| values.as_slice()).filter(|values| !values.is_empty())
    }

    /// The value of a key that has exactly one. Only such a key can be used as a variable.
    pub(super) fn single(&self, key: &ConditionKey) -> Option<&str> {
        match self.get(key)? {
            [value] => Some(value),
            _ => None,
        }
    }
}
