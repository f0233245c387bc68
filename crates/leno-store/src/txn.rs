//! A transaction: compares, and what is done when they hold or do not.
//!
//! [`Txn::check`] refuses what no store takes; [`evaluate`] is the pure core that both stores share: it reads through
//! a [`View`] and answers the changes, so that SQLite and memory cannot differ in meaning. Reads inside a transaction
//! see the state at its start; a key is changed at most once in a branch, hence the order of changes never matters.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;

use crate::key::{check_key, check_prefix, check_value};
use crate::{Change, Error, Key, KeyValue, LeaseId, Revision};

/// The most compares and operations in one transaction (etcd: `--max-txn-ops`).
pub const TXN_OPS_MAX: usize = 4096;

/// The most bytes of keys and values in one transaction (etcd: `--max-request-bytes`).
pub const TXN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A transaction. Without compares, `then` is done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// Done if they hold.
    pub then: Vec<Op>,
    /// Done if one does not.
    pub otherwise: Vec<Op>,
}

/// A condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key is there.
    Exists(Key),
    /// The key is not there.
    Absent(Key),
    /// On the revision of its last change; 0 for a key that is not there.
    ModRevision(Key, Order, Revision),
    /// On the revision at which it appeared; 0 for a key that is not there.
    CreateRevision(Key, Order, Revision),
    /// On how often it was written; 0 for a key that is not there.
    Version(Key, Order, u64),
    /// On its value; a key that is not there has none and equals nothing.
    Value(Key, Order, Bytes),
}

/// How two things are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// The store's is less.
    Less,
    /// The store's is greater.
    Greater,
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes a key; a lease that it had before and has not now is forgotten.
    Put {
        /// The key.
        key: Key,
        /// Its value.
        value: Bytes,
        /// The lease with which it ends.
        lease: Option<LeaseId>,
    },
    /// Deletes a key.
    Delete(Key),
    /// Deletes every key that starts with this.
    DeletePrefix(Key),
    /// Reads every key that starts with this.
    Range(Key),
    /// Reads one key.
    Get(Key),
}

/// What a transaction came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnResult {
    /// Whether the compares held.
    pub succeeded: bool,
    /// The revision after it.
    pub revision: Revision,
    /// One result per operation of the branch that was taken.
    pub results: Vec<OpResult>,
}

/// What one operation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// The key is written.
    Put,
    /// So many keys were deleted.
    Deleted(u64),
    /// What was read.
    Range(Vec<KeyValue>),
}

/// What a transaction reads.
pub(crate) trait View {
    /// One key.
    fn get(&self, key: &str) -> Result<Option<KeyValue>, Error>;
    /// All keys with a prefix, in order.
    fn prefix(&self, prefix: &str) -> Result<Vec<KeyValue>, Error>;
    /// Whether a lease is alive.
    fn lease_alive(&self, lease: LeaseId) -> Result<bool, Error>;
}

/// What a transaction would do.
pub(crate) struct Outcome {
    pub(crate) succeeded: bool,
    pub(crate) results: Vec<OpResult>,
    /// Empty when nothing changes; then the revision stays.
    pub(crate) changes: Vec<Change>,
}

/// Finds out what `txn` does to the state in `view`, if its changes get revision `revision`.
pub(crate) fn evaluate(view: &impl View, txn: &Txn, revision: Revision) -> Result<Outcome, Error> {
    let mut succeeded = true;
    for compare in &txn.compares {
        succeeded = succeeded && compare.holds(view.get(compare.key())?.as_ref());
    }
    let branch = if succeeded { &txn.then } else { &txn.otherwise };
    let (mut results, mut changes) = (Vec::with_capacity(branch.len()), Vec::new());
    for op in branch {
        results.push(apply(view, op, revision, &mut changes)?);
    }
    Ok(Outcome { succeeded, results, changes })
}

fn apply(view: &impl View, op: &Op, revision: Revision, changes: &mut Vec<Change>) -> Result<OpResult, Error> {
    Ok(match op {
        Op::Put { key, value, lease } => {
            if let Some(lease) = *lease
                && !view.lease_alive(lease)?
            {
                return Err(Error::LeaseUnknown(lease));
            }
            let before = view.get(key)?;
            changes.push(Change::Put(KeyValue {
                key: key.clone(),
                value: value.clone(),
                create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
                mod_revision: revision,
                version: before.map_or(0, |kv| kv.version) + 1,
                lease: *lease,
            }));
            OpResult::Put
        }
        Op::Delete(key) => {
            let before = view.get(key)?;
            let count = u64::from(before.is_some());
            changes.extend(before.map(|kv| Change::deletion(kv.key, revision)));
            OpResult::Deleted(count)
        }
        Op::DeletePrefix(prefix) => {
            let before = view.prefix(prefix)?;
            let count = before.len() as u64;
            changes.extend(before.into_iter().map(|kv| Change::deletion(kv.key, revision)));
            OpResult::Deleted(count)
        }
        Op::Range(prefix) => OpResult::Range(view.prefix(prefix)?),
        Op::Get(key) => OpResult::Range(view.get(key)?.into_iter().collect()),
    })
}

// === impl Txn ===

impl Txn {
    /// One that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also asks for this.
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Also does this if the compares hold.
    pub fn then(mut self, op: Op) -> Self {
        self.then.push(op);
        self
    }

    /// Also does this if they do not.
    pub fn otherwise(mut self, op: Op) -> Self {
        self.otherwise.push(op);
        self
    }

    /// Also writes this key if the compares hold.
    pub fn put(self, key: &str, value: impl Into<Bytes>) -> Self {
        self.then(Op::Put { key: key.into(), value: value.into(), lease: None })
    }

    /// Also deletes this key if the compares hold.
    pub fn delete(self, key: &str) -> Self {
        self.then(Op::Delete(key.into()))
    }

    /// How many bytes its keys and values have.
    pub(crate) fn bytes(&self) -> usize {
        let compares: usize = self.compares.iter().map(Compare::bytes).sum();
        compares + self.then.iter().chain(&self.otherwise).map(Op::bytes).sum::<usize>()
    }

    /// Refuses what no store takes.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let count = self.compares.len() + self.then.len() + self.otherwise.len();
        if count > TXN_OPS_MAX {
            return Err(Error::TxnTooLong { count });
        }
        for compare in &self.compares {
            check_key(compare.key())?;
        }
        for op in self.then.iter().chain(&self.otherwise) {
            op.check()?;
        }
        let bytes = self.bytes();
        if bytes > TXN_BYTES_MAX {
            return Err(Error::TxnTooLarge { bytes });
        }
        check_branch(&self.then)?;
        check_branch(&self.otherwise)
    }
}

/// No key may be changed twice: not by two operations, and not by one and a deletion of its prefix.
fn check_branch(ops: &[Op]) -> Result<(), Error> {
    let mut keys = BTreeSet::new();
    let mut prefixes: Vec<&Key> = Vec::new();
    for op in ops {
        match op {
            Op::Put { key, .. } | Op::Delete(key) if !keys.insert(key.as_ref()) => {
                return Err(Error::KeyTwice { key: key.to_string() });
            }
            Op::DeletePrefix(prefix) => prefixes.push(prefix),
            _ => {}
        }
    }
    prefixes.sort();
    if let Some(pair) = prefixes.windows(2).find(|pair| pair[1].starts_with(pair[0].as_ref())) {
        return Err(Error::KeyTwice { key: pair[1].to_string() });
    }
    for prefix in prefixes {
        if let Some(key) = keys.range(prefix.as_ref()..).next().filter(|key| key.starts_with(prefix.as_ref())) {
            return Err(Error::KeyTwice { key: (*key).to_owned() });
        }
    }
    Ok(())
}

// === impl Compare ===

impl Compare {
    fn key(&self) -> &Key {
        match self {
            Self::Exists(key) | Self::Absent(key) => key,
            Self::ModRevision(key, ..) | Self::CreateRevision(key, ..) | Self::Version(key, ..) => key,
            Self::Value(key, ..) => key,
        }
    }

    fn bytes(&self) -> usize {
        self.key().len() + if let Self::Value(_, _, value) = self { value.len() } else { 0 }
    }

    fn holds(&self, found: Option<&KeyValue>) -> bool {
        match self {
            Self::Exists(_) => found.is_some(),
            Self::Absent(_) => found.is_none(),
            Self::ModRevision(_, order, wanted) => order.holds(&found.map_or(0, |kv| kv.mod_revision), wanted),
            Self::CreateRevision(_, order, wanted) => order.holds(&found.map_or(0, |kv| kv.create_revision), wanted),
            Self::Version(_, order, wanted) => order.holds(&found.map_or(0, |kv| kv.version), wanted),
            Self::Value(_, order, wanted) => match found {
                Some(kv) => order.holds(&kv.value, wanted),
                None => *order == Order::NotEqual,
            },
        }
    }
}

// === impl Order ===

impl Order {
    fn holds<T: Ord>(self, found: &T, wanted: &T) -> bool {
        let order = found.cmp(wanted);
        match self {
            Self::Equal => order == Ordering::Equal,
            Self::NotEqual => order != Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::Greater => order == Ordering::Greater,
        }
    }
}

// === impl Op ===

impl Op {
    fn check(&self) -> Result<(), Error> {
        match self {
            Self::Put { key, value, .. } => check_key(key).and_then(|()| check_value(key, value)),
            Self::Delete(key) | Self::Get(key) => check_key(key),
            // An empty prefix is everything, which `Range` may want to read and nobody wants to delete by mistake.
            Self::DeletePrefix(prefix) => check_key(prefix),
            Self::Range(prefix) => check_prefix(prefix),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete(key) | Self::DeletePrefix(key) | Self::Range(key) | Self::Get(key) => key.len(),
        }
    }
}
