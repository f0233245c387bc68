//! Revisions: what is kept of each change, and what one writes into the store.
//!
//! ```text
//! resource/httproute/shop/cart        the resource in force          control/head       number of the newest revision
//! history/00000000000000000042        who, when, why, which          change/00…42/httproute/shop/cart   before and after
//! ```
//!
//! Every commit compares `control/head` and raises it by one, so that all changes to resources of all servers stand in
//! one order and whoever planned on an older state plans again. A revision holds the full content before and after, each
//! under a key of its own, so that going back needs nothing else and history can be cut from its old end.

use std::sync::Arc;

use leno_model::document;
use leno_model::resource::kind::ResourceKey;
use leno_model::seam::Timestamp;
use leno_store::{Compare, KeyValue, Op, Order, Txn};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::merge::Entry;

/// How many revisions are kept.
pub const KEPT: u64 = 1000;

pub(crate) const HEAD: &str = "control/head";
pub(crate) const RESOURCES: &str = "resource/";
pub(crate) const HISTORY: &str = "history/";

/// One change to resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Its number; counts from 1.
    pub number: u64,
    /// Who made it.
    pub author: Arc<str>,
    /// When.
    pub time: Timestamp,
    /// What was done: `apply`, `delete` or `rollback`; empty where an older version wrote it.
    #[serde(default)]
    pub action: Arc<str>,
    /// Why, in a few words.
    pub summary: String,
    /// The set that was changed.
    pub set: Arc<str>,
    /// What it changed.
    pub changes: Vec<ChangeSummary>,
}

/// What a revision did to one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSummary {
    /// The resource.
    pub resource: ResourceKey,
    /// What was done.
    pub action: Action,
}

/// What can be done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is new.
    Created,
    /// It says something else now.
    Updated,
    /// It is gone.
    Deleted,
    /// It stays as it was.
    Unchanged,
}

/// A change to one resource with its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The resource.
    pub resource: ResourceKey,
    /// As it was; none for a new one.
    pub before: Option<Stored>,
    /// As it is since; none for one that is gone.
    pub after: Option<Stored>,
}

/// A resource as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// As it was written.
    pub value: Value,
    /// The set it belongs to.
    pub set: Arc<str>,
    /// The file it stands in.
    pub file: Arc<str>,
    /// The line in the file.
    pub line: u32,
    /// The revision that first applied it.
    pub created: u64,
    /// The revision that last changed it.
    pub revision: u64,
    /// Who last changed it.
    pub author: Arc<str>,
    /// When it was last changed.
    pub updated: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Head {
    number: u64,
}

/// The difference between two states of a resource, as people read it; empty where they say the same.
pub fn diff(resource: &ResourceKey, before: Option<&Value>, after: Option<&Value>) -> String {
    let text = |value: Option<&Value>| value.map(document::to_yaml).unwrap_or_default();
    let (old, new) = (text(before), text(after));
    if old == new {
        return String::new();
    }
    let name = |value: Option<&Value>, side| value.map_or("/dev/null".to_owned(), |_| format!("{side}/{resource}"));
    let diff = similar::TextDiff::from_lines(&old, &new);
    diff.unified_diff().context_radius(3).header(&name(before, "a"), &name(after, "b")).to_string()
}

/// The transaction that makes `changes` the revision `revision`, if the head is still `head_mod`.
pub(crate) fn txn(revision: &Revision, changes: &[Change], head_mod: u64) -> Result<Txn, Error> {
    let number = revision.number;
    let mut txn = Txn::new()
        .when(Compare::ModRevision(HEAD.into(), Order::Equal, head_mod))
        .put(HEAD, encode(HEAD, &Head { number })?)
        .put(&history_key(number), encode(HISTORY, revision)?);
    for change in changes {
        let key = resource_key(&change.resource);
        txn = match &change.after {
            Some(stored) => txn.put(&key, encode(&key, stored)?),
            None => txn.delete(&key),
        };
        let key = format!("{}{}", changes_prefix(number), change.resource);
        txn = txn.put(&key, encode(&key, change)?);
    }
    if number > KEPT {
        let old = number - KEPT;
        txn = txn.delete(&history_key(old)).then(Op::DeletePrefix(changes_prefix(old).into()));
    }
    Ok(txn)
}

pub(crate) fn resource_key(key: &ResourceKey) -> String {
    format!("{RESOURCES}{key}")
}

pub(crate) fn history_key(number: u64) -> String {
    format!("{HISTORY}{number:020}")
}

pub(crate) fn changes_prefix(number: u64) -> String {
    format!("change/{number:020}/")
}

pub(crate) fn read_head(value: Option<&KeyValue>) -> Result<(u64, u64), Error> {
    let Some(value) = value else { return Ok((0, 0)) };
    let head: Head = decode(value)?;
    Ok((head.number, value.mod_revision))
}

/// Reads a resource as the store keeps it.
pub(crate) fn read_entry(value: &KeyValue) -> Result<Entry, Error> {
    let stored: Stored = decode(value)?;
    entry(stored).map_err(|cause| Error::Record { key: value.key.to_string(), cause })
}

/// A stored resource in its typed form.
pub(crate) fn entry(stored: Stored) -> Result<Entry, String> {
    let resource = document::resource_from_value(&stored.file, stored.value.clone())
        .map_err(|faults| faults.first().map(ToString::to_string).unwrap_or_default())?;
    Ok(Entry {
        resource,
        value: stored.value,
        set: stored.set,
        file: stored.file,
        line: stored.line,
        created: stored.created,
        revision: stored.revision,
        author: stored.author,
        updated: stored.updated,
    })
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(value: &KeyValue) -> Result<T, Error> {
    serde_json::from_slice(&value.value)
        .map_err(|error| Error::Record { key: value.key.to_string(), cause: error.to_string() })
}

pub(crate) fn encode<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Record { key: key.to_owned(), cause: error.to_string() })
}

// === impl Stored ===

impl From<&Entry> for Stored {
    fn from(entry: &Entry) -> Self {
        Self {
            value: entry.value.clone(),
            set: entry.set.clone(),
            file: entry.file.clone(),
            line: entry.line,
            created: entry.created,
            revision: entry.revision,
            author: entry.author.clone(),
            updated: entry.updated,
        }
    }
}

// === impl Change ===

impl Change {
    /// What was done.
    pub fn action(&self) -> Action {
        match (&self.before, &self.after) {
            (None, Some(_)) => Action::Created,
            (Some(_), None) => Action::Deleted,
            (Some(before), Some(after)) if before.value != after.value => Action::Updated,
            _ => Action::Unchanged,
        }
    }

    /// What changed, as people read it.
    pub fn diff(&self) -> String {
        let value = |stored: &Option<Stored>| stored.as_ref().map(|stored| stored.value.clone());
        diff(&self.resource, value(&self.before).as_ref(), value(&self.after).as_ref())
    }

    pub(crate) fn summary(&self) -> ChangeSummary {
        ChangeSummary { resource: self.resource.clone(), action: self.action() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leno_model::resource::kind::Kind;

    #[test]
    fn a_difference_reads_like_a_patch() {
        let key = ResourceKey::new(Kind::Service, "shop", "cart");
        let (one, two) = (
            serde_json::json!({"spec": {"ports": [{"port": 80}]}}),
            serde_json::json!({"spec": {"ports": [{"port": 81}]}}),
        );
        let text = "--- a/service/shop/cart\n+++ b/service/shop/cart\n@@ -1,3 +1,3 @@\n spec:\n   ports:\n-  - port: 80\n+  - port: 81\n";
        assert_eq!(diff(&key, Some(&one), Some(&two)), text);
        assert!(diff(&key, None, Some(&one)).starts_with("--- /dev/null\n+++ b/service/shop/cart\n"));
        assert_eq!(diff(&key, Some(&one), Some(&one)), "");
    }
}
