//! What every store must do: one list of cases that each implementer runs in its own tests.
//!
//! ```no_run
//! # use std::sync::Arc;
//! use leno_store::{MemoryStore, Store, suite};
//! suite::run(|clock| async move { Arc::new(MemoryStore::new(clock)) as Arc<dyn Store> });
//! ```
//!
//! A case gets a fresh store and the clock that it follows, and panics when a promise is broken.

#![allow(clippy::unwrap_used, reason = "a broken promise is reported by a panic that names the case")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::future::join_all;
use leno_model::seam::{Clock, Timestamp};

use crate::{
    Change, Changes, Compare, Error, KEY_MAX, Key, KeyValue, LeaseId, Op, OpResult, Order, Revision, Store,
    TXN_OPS_MAX, Txn, VALUE_MAX, Watch,
};

/// A clock that stands still until it is turned.
#[derive(Debug, Default)]
pub struct TurnedClock(AtomicU64);

type Case = fn(Arc<dyn Store>, Arc<TurnedClock>) -> BoxFuture<'static, ()>;

/// The cases, by what they show.
const CASES: &[(&str, Case)] = &[
    ("an empty store is at revision 0", |s, _| Box::pin(empty(s))),
    ("a change raises the revision by one and nothing else does", |s, _| Box::pin(revisions(s))),
    ("a key knows when it appeared and how often it was written", |s, _| Box::pin(key_past(s))),
    ("a range has what starts with the prefix in order of bytes", |s, _| Box::pin(prefixes(s))),
    ("a range can be read as it was", |s, _| Box::pin(ranges_of_the_past(s))),
    ("each compare holds when it should", |s, _| Box::pin(compares(s))),
    ("a transaction takes one branch, whole", |s, _| Box::pin(branches(s))),
    ("what breaks a limit is refused and changes nothing", |s, _| Box::pin(limits(s))),
    ("a key is changed once in a transaction", |s, _| Box::pin(key_twice(s))),
    ("of writers that compare and swap none is lost", |s, _| Box::pin(swap_races(s))),
    ("of writers that create one key one succeeds", |s, _| Box::pin(create_races(s))),
    ("a watch resumes anywhere without a gap", |s, _| Box::pin(watch_resumes(s))),
    ("a watch sees the changes of a revision together", |s, _| Box::pin(watch_is_whole(s))),
    ("watches during writes end with the same state", |s, _| Box::pin(watches_converge(s))),
    ("what is compacted is refused and the rest stays", |s, _| Box::pin(compaction(s))),
    ("a watch that is overtaken by compaction ends", |s, _| Box::pin(compaction_overtakes(s))),
    ("the future is refused", |s, _| Box::pin(future_revisions(s))),
    ("a lease takes its keys with it, not early", |s, c| Box::pin(leases_end(s, c))),
    ("a key that leaves its lease stays", |s, c| Box::pin(leases_let_go(s, c))),
    ("a revoked lease is gone", |s, _| Box::pin(leases_are_revoked(s))),
    ("a thousand random transactions agree with a model", |s, _| Box::pin(model(s))),
];

/// Runs every case against a store of its own, made by `open`.
pub fn run<F, Opened>(open: F)
where
    F: Fn(Arc<dyn Clock>) -> Opened,
    Opened: Future<Output = Arc<dyn Store>>,
{
    for (name, case) in CASES {
        println!("store suite: {name}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let clock = Arc::new(TurnedClock::default());
            let store = open(clock.clone()).await;
            let done = tokio::time::timeout(Duration::from_secs(120), case(store, clock)).await;
            assert!(done.is_ok(), "{name}: no end after 120 s");
        });
    }
}

// === the cases ===

async fn empty(store: Arc<dyn Store>) {
    let range = store.range("", None).await.unwrap();
    assert_eq!((range.revision, range.items), (0, Vec::new()));
    assert_eq!(store.get("k").await, Ok(None));
}

async fn revisions(store: Arc<dyn Store>) {
    assert_eq!(store.put("a", "1".into()).await, Ok(1));
    assert_eq!(store.put("a", "1".into()).await, Ok(2));
    assert_eq!(store.delete("none").await, Ok(false));
    let read = store.txn(Txn::new().then(Op::Range("".into())).then(Op::Get("a".into()))).await.unwrap();
    assert_eq!(read.revision, 2);
    assert_eq!(read.results[0], read.results[1]);
    let both = store.txn(Txn::new().put("b", "1").delete("a")).await.unwrap();
    assert_eq!((both.succeeded, both.revision), (true, 3));
    assert_eq!(both.results, [OpResult::Put, OpResult::Deleted(1)]);
    assert_eq!(store.range("", None).await.unwrap().revision, 3);
}

async fn key_past(store: Arc<dyn Store>) {
    store.put("other", "x".into()).await.unwrap();
    for _ in 0..3 {
        store.put("k", "x".into()).await.unwrap();
    }
    let kv = store.get("k").await.unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 4, 3));
    assert_eq!(store.delete("k").await, Ok(true));
    store.put("k", "".into()).await.unwrap();
    let kv = store.get("k").await.unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.value), (6, 6, 1, Bytes::new()));
}

async fn prefixes(store: Arc<dyn Store>) {
    for key in ["a/b", "a/", "a/ä", "a", "a0", "b", "a/\u{10FFFF}", "a/b/c", "A/b", "a%_"] {
        store.put(key, key.to_owned().into()).await.unwrap();
    }
    assert_eq!(keys(&*store, "a/").await, ["a/", "a/b", "a/b/c", "a/ä", "a/\u{10FFFF}"]);
    assert_eq!(keys(&*store, "a/b").await, ["a/b", "a/b/c"]);
    assert_eq!(keys(&*store, "a%").await, ["a%_"]);
    assert_eq!(keys(&*store, "").await.len(), 10);
    assert_eq!(keys(&*store, "c").await, [] as [&str; 0]);
}

async fn ranges_of_the_past(store: Arc<dyn Store>) {
    store.txn(Txn::new().put("k/a", "1").put("k/b", "1")).await.unwrap();
    store.put("k/a", "2".into()).await.unwrap();
    store.delete("k/b").await.unwrap();
    store.put("k/b", "4".into()).await.unwrap();
    store.put("x", "5".into()).await.unwrap();
    let then = [vec![], vec!["1", "1"], vec!["2", "1"], vec!["2"], vec!["2", "4"], vec!["2", "4"]];
    for (revision, values) in then.iter().enumerate() {
        let range = store.range("k/", Some(revision as u64)).await.unwrap();
        assert_eq!(range.revision, revision as u64);
        assert_eq!(range.items.iter().map(|kv| &kv.value).collect::<Vec<_>>(), *values, "at {revision}");
    }
    let first = store.range("k/a", Some(1)).await.unwrap().items.remove(0);
    assert_eq!((first.create_revision, first.mod_revision, first.version), (1, 1, 1));
}

async fn compares(store: Arc<dyn Store>) {
    store.put("x", "0".into()).await.unwrap();
    store.put("k", "m".into()).await.unwrap();
    store.put("k", "m".into()).await.unwrap();
    let k = || Key::from("k");
    let none = || Key::from("none");
    let (value, wrong) = (|| Bytes::from("m"), || Bytes::from("n"));
    let cases = [
        (Compare::Exists(k()), true),
        (Compare::Exists(none()), false),
        (Compare::Absent(k()), false),
        (Compare::Absent(none()), true),
        (Compare::ModRevision(k(), Order::Equal, 3), true),
        (Compare::ModRevision(k(), Order::Equal, 2), false),
        (Compare::ModRevision(k(), Order::Less, 4), true),
        (Compare::ModRevision(k(), Order::Greater, 3), false),
        (Compare::ModRevision(none(), Order::Equal, 0), true),
        (Compare::CreateRevision(k(), Order::Equal, 2), true),
        (Compare::CreateRevision(none(), Order::NotEqual, 0), false),
        (Compare::Version(k(), Order::Equal, 2), true),
        (Compare::Version(k(), Order::NotEqual, 2), false),
        (Compare::Version(none(), Order::Equal, 0), true),
        (Compare::Value(k(), Order::Equal, value()), true),
        (Compare::Value(k(), Order::Less, wrong()), true),
        (Compare::Value(k(), Order::NotEqual, value()), false),
        (Compare::Value(none(), Order::Equal, Bytes::new()), false),
        (Compare::Value(none(), Order::NotEqual, value()), true),
    ];
    for (compare, holds) in cases {
        let done = store.txn(Txn::new().when(compare.clone())).await.unwrap();
        assert_eq!(done.succeeded, holds, "{compare:?}");
    }
    let both = Txn::new().when(Compare::Exists(k())).when(Compare::Exists(none()));
    assert!(!store.txn(both).await.unwrap().succeeded);
}

async fn branches(store: Arc<dyn Store>) {
    let create = |value: &'static str| {
        let put = |key: &str| Op::Put { key: key.into(), value: value.into(), lease: None };
        let txn = Txn::new().when(Compare::Absent("a".into())).then(put("a")).then(put("b"));
        txn.otherwise(Op::Get("a".into())).otherwise(put("c"))
    };
    let first = store.txn(create("1")).await.unwrap();
    assert_eq!((first.succeeded, first.revision), (true, 1));
    let second = store.txn(create("2")).await.unwrap();
    assert_eq!((second.succeeded, second.revision), (false, 2));
    assert!(matches!(&second.results[0], OpResult::Range(found) if found[0].value == "1"));
    assert_eq!(keys(&*store, "").await, ["a", "b", "c"]);
    let none = store.txn(Txn::new().then(Op::DeletePrefix("a".into())).put("b", "3")).await.unwrap();
    assert_eq!(none.results, [OpResult::Deleted(1), OpResult::Put]);
    // A refusal in the middle leaves nothing of the whole.
    let unknown = Some(LeaseId(77));
    let put = Op::Put { key: "e".into(), value: "x".into(), lease: unknown };
    assert_eq!(store.txn(Txn::new().put("d", "x").then(put)).await, Err(Error::LeaseUnknown(LeaseId(77))));
    assert_eq!(keys(&*store, "").await, ["b", "c"]);
}

async fn limits(store: Arc<dyn Store>) {
    let put = |key: &str, bytes: usize| Txn::new().put(key, vec![7_u8; bytes]);
    let long = "k".repeat(KEY_MAX + 1);
    assert_eq!(store.txn(put("", 1)).await, Err(Error::KeyEmpty));
    assert!(matches!(store.txn(put(&long, 1)).await, Err(Error::KeyTooLong { length: 1025, .. })));
    assert!(matches!(store.txn(put("k", VALUE_MAX + 1)).await, Err(Error::ValueTooLarge { length: 1_310_721, .. })));
    let many = (0..=TXN_OPS_MAX).fold(Txn::new(), |txn, i| txn.delete(&i.to_string()));
    assert_eq!(store.txn(many).await, Err(Error::TxnTooLong { count: TXN_OPS_MAX + 1 }));
    let heavy = (0..7).fold(Txn::new(), |txn, i| txn.put(&i.to_string(), vec![7_u8; VALUE_MAX]));
    assert!(matches!(store.txn(heavy).await, Err(Error::TxnTooLarge { .. })));
    let everything = Txn::new().then(Op::DeletePrefix("".into()));
    assert_eq!(store.txn(everything).await, Err(Error::KeyEmpty));
    assert!(matches!(store.get(&long).await, Err(Error::KeyTooLong { .. })));
    assert!(matches!(store.range(&long, None).await, Err(Error::KeyTooLong { .. })));
    assert_eq!(store.range("", None).await.unwrap().revision, 0);
    assert_eq!(store.txn(put(&"k".repeat(KEY_MAX), VALUE_MAX)).await.unwrap().revision, 1);
    assert_eq!(store.range("", None).await.unwrap().items[0].value.len(), VALUE_MAX);
}

async fn key_twice(store: Arc<dyn Store>) {
    let twice = |key: &str| Err(Error::KeyTwice { key: key.to_owned() });
    let prefix = |key: &str| Op::DeletePrefix(key.into());
    assert_eq!(store.txn(Txn::new().put("a", "1").put("a", "2")).await, twice("a"));
    assert_eq!(store.txn(Txn::new().put("a", "1").delete("a")).await, twice("a"));
    assert_eq!(store.txn(Txn::new().then(prefix("a/")).put("a/b", "1")).await, twice("a/b"));
    assert_eq!(store.txn(Txn::new().then(prefix("a/")).then(prefix("a/b"))).await, twice("a/b"));
    let otherwise = Txn::new().otherwise(Op::Delete("a".into())).otherwise(Op::Delete("a".into()));
    assert_eq!(store.txn(otherwise).await, twice("a"));
    let apart = Txn::new().put("a", "1").then(prefix("a/")).then(Op::Get("a".into())).otherwise(Op::Delete("a".into()));
    assert_eq!(store.txn(apart).await.unwrap().revision, 1);
}

async fn swap_races(store: Arc<dyn Store>) {
    store.put("count", "0".into()).await.unwrap();
    let count_up = || async {
        for _ in 0..25 {
            loop {
                let found = store.get("count").await.unwrap().unwrap();
                let number: u64 = std::str::from_utf8(&found.value).unwrap().parse().unwrap();
                let unchanged = Compare::ModRevision("count".into(), Order::Equal, found.mod_revision);
                let txn = Txn::new().when(unchanged).put("count", (number + 1).to_string());
                if store.txn(txn).await.unwrap().succeeded {
                    break;
                }
            }
        }
    };
    join_all((0..8).map(|_| count_up())).await;
    let count = store.get("count").await.unwrap().unwrap();
    assert_eq!((count.value, count.version), ("200".into(), 201));
}

async fn create_races(store: Arc<dyn Store>) {
    let create = |i: u32| store.txn(Txn::new().when(Compare::Absent("lock".into())).put("lock", i.to_string()));
    let done = join_all((0..32).map(create)).await;
    let winners: Vec<usize> = (0..32).filter(|i| done[*i].as_ref().unwrap().succeeded).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(store.get("lock").await.unwrap().unwrap().value, winners[0].to_string());
}

async fn watch_resumes(store: Arc<dyn Store>) {
    for i in 1..=20_u32 {
        store.put(&format!("w/{}", i % 3), i.to_string().into()).await.unwrap();
    }
    for from in 0..=21 {
        let mut watch = store.watch("w/", from).await.unwrap();
        for revision in from.max(1)..=20 {
            let seen = next(&mut watch).await;
            assert_eq!((seen.revision, seen.changes.len()), (revision, 1));
            assert_eq!(seen.changes[0].key_value().value, revision.to_string());
        }
    }
    let mut watch = store.watch("w/", 21).await.unwrap();
    let (seen, put) = tokio::join!(next(&mut watch), store.put("w/new", "x".into()));
    assert_eq!((seen.revision, put), (21, Ok(21)));
}

async fn watch_is_whole(store: Arc<dyn Store>) {
    let mut all = store.watch("", 1).await.unwrap();
    let mut some = store.watch("a/", 1).await.unwrap();
    store.txn(Txn::new().put("a/1", "x").put("b/1", "x").put("a/2", "x")).await.unwrap();
    store.put("b/2", "x".into()).await.unwrap();
    store.txn(Txn::new().then(Op::DeletePrefix("a/".into()))).await.unwrap();
    let keys = |seen: &Changes| seen.changes.iter().map(|change| change.key().to_string()).collect::<Vec<_>>();
    assert_eq!(keys(&next(&mut all).await), ["a/1", "b/1", "a/2"]);
    assert_eq!(keys(&next(&mut some).await), ["a/1", "a/2"]);
    let gone = next(&mut some).await;
    assert_eq!((gone.revision, keys(&gone)), (3, vec!["a/1".to_owned(), "a/2".to_owned()]));
    assert!(gone.changes.iter().all(|change| matches!(change, Change::Delete(kv) if kv.mod_revision == 3)));
}

async fn watches_converge(store: Arc<dyn Store>) {
    let write = |writer: u64| {
        let store = store.clone();
        async move {
            let mut random = fastrand::Rng::with_seed(writer);
            for _ in 0..50 {
                let key = format!("s/{}", random.u8(..8));
                match random.u8(..4) {
                    0 => store.delete(&key).await.map(drop).unwrap(),
                    _ => store.put(&key, random.u64(..).to_string().into()).await.map(drop).unwrap(),
                }
            }
        }
    };
    let watch = || {
        let store = store.clone();
        async move {
            let (mut state, mut revision) = read(&*store, "s/").await;
            let mut watch = store.watch("s/", revision + 1).await.unwrap();
            while !state.contains_key("s/end") {
                let seen = next(&mut watch).await;
                assert!(seen.revision > revision, "{} after {revision}", seen.revision);
                revision = seen.revision;
                apply(&mut state, &seen);
            }
            state
        }
    };
    let writers = async {
        join_all((0..8).map(write)).await;
        store.put("s/end", "".into()).await.unwrap();
    };
    let ((), states) = tokio::join!(writers, join_all((0..8).map(|_| watch())));
    let (truth, _) = read(&*store, "s/").await;
    assert!(states.iter().all(|state| *state == truth));
}

async fn compaction(store: Arc<dyn Store>) {
    for i in 1..=9_u32 {
        store.put("k", i.to_string().into()).await.unwrap();
    }
    store.put("stays", "x".into()).await.unwrap();
    store.delete("k").await.unwrap();
    store.compact(5).await.unwrap();
    store.compact(3).await.unwrap();
    assert_eq!(store.range("", Some(4)).await, Err(Error::Compacted { asked: 4, oldest: 5 }));
    assert_eq!(store.watch("", 5).await.err(), Some(Error::Compacted { asked: 5, oldest: 6 }));
    assert_eq!(store.watch("", 1).await.err(), Some(Error::Compacted { asked: 1, oldest: 6 }));
    assert_eq!(store.range("k", Some(5)).await.unwrap().items[0].value, "5");
    let mut watch = store.watch("k", 6).await.unwrap();
    assert_eq!(next(&mut watch).await.changes[0].key_value().value, "6");
    store.compact(11).await.unwrap();
    assert_eq!(keys(&*store, "").await, ["stays"]);
    assert_eq!(store.compact(12).await, Err(Error::Future { asked: 12, newest: 11 }));
}

async fn compaction_overtakes(store: Arc<dyn Store>) {
    let mut watch = store.watch("", 1).await.unwrap();
    // More than any store keeps in memory for watchers, so that it must look for what is gone.
    for i in 0..3 {
        let values = (0..6).fold(Txn::new(), |txn, key| txn.put(&format!("{i}/{key}"), vec![7_u8; VALUE_MAX]));
        store.txn(values).await.unwrap();
    }
    store.compact(3).await.unwrap();
    assert_eq!(watch.next().await, Some(Err(Error::Compacted { asked: 1, oldest: 4 })));
    assert_eq!(watch.next().await, None);
}

async fn future_revisions(store: Arc<dyn Store>) {
    store.put("k", "x".into()).await.unwrap();
    assert_eq!(store.range("", Some(2)).await, Err(Error::Future { asked: 2, newest: 1 }));
    assert_eq!(store.watch("", 3).await.err(), Some(Error::Future { asked: 3, newest: 1 }));
    assert!(store.watch("", 2).await.is_ok());
}

async fn leases_end(store: Arc<dyn Store>, clock: Arc<TurnedClock>) {
    let second = Duration::from_secs(1);
    let refused = Duration::from_millis(10);
    assert_eq!(store.lease_grant(refused).await, Err(Error::LeaseDuration(refused)));
    let lease = store.lease_grant(10 * second).await.unwrap();
    let other = store.lease_grant(60 * second).await.unwrap();
    assert_ne!(lease, other);
    for (key, lease) in [("l/a", lease), ("l/b", lease), ("l/c", other)] {
        let put = Op::Put { key: key.into(), value: "x".into(), lease: Some(lease) };
        store.txn(Txn::new().then(put)).await.unwrap();
    }
    assert_eq!(store.get("l/a").await.unwrap().unwrap().lease, Some(lease));
    clock.turn(9 * second);
    assert_eq!(store.lease_keep_alive(lease).await, Ok(10 * second));
    clock.turn(9 * second);
    store.lease_expire().await.unwrap();
    assert_eq!(keys(&*store, "l/").await.len(), 3);
    let mut watch = store.watch("l/", 4).await.unwrap();
    clock.turn(second);
    store.lease_expire().await.unwrap();
    assert_eq!(keys(&*store, "l/").await, ["l/c"]);
    let seen = next(&mut watch).await;
    assert_eq!((seen.revision, seen.changes.len()), (4, 2));
    assert_eq!(store.lease_keep_alive(lease).await, Err(Error::LeaseUnknown(lease)));
    assert_eq!(store.lease_revoke(lease).await, Err(Error::LeaseUnknown(lease)));
}

async fn leases_let_go(store: Arc<dyn Store>, clock: Arc<TurnedClock>) {
    let lease = store.lease_grant(Duration::from_secs(5)).await.unwrap();
    for key in ["kept", "deleted", "ends"] {
        let put = Op::Put { key: key.into(), value: "x".into(), lease: Some(lease) };
        store.txn(Txn::new().then(put)).await.unwrap();
    }
    store.put("kept", "y".into()).await.unwrap();
    store.delete("deleted").await.unwrap();
    store.put("deleted", "z".into()).await.unwrap();
    clock.turn(Duration::from_secs(5));
    store.lease_expire().await.unwrap();
    assert_eq!(keys(&*store, "").await, ["deleted", "kept"]);
}

async fn leases_are_revoked(store: Arc<dyn Store>) {
    let lease = store.lease_grant(Duration::from_secs(5)).await.unwrap();
    let put = Op::Put { key: "k".into(), value: "x".into(), lease: Some(lease) };
    store.txn(Txn::new().then(put.clone())).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(keys(&*store, "").await, [] as [&str; 0]);
    assert_eq!(store.txn(Txn::new().then(put)).await, Err(Error::LeaseUnknown(lease)));
    let empty = store.lease_grant(Duration::from_secs(5)).await.unwrap();
    store.lease_revoke(empty).await.unwrap();
    assert_eq!(store.range("", None).await.unwrap().revision, 2);
}

async fn model(store: Arc<dyn Store>) {
    let mut random = fastrand::Rng::with_seed(42);
    let mut states = vec![BTreeMap::new()];
    for _ in 0..1000 {
        let mut state = states.last().unwrap().clone();
        let (txn, changed) = random_txn(&mut random, &mut state, states.len() as u64);
        let done = store.txn(txn).await.unwrap();
        if changed {
            states.push(state);
        }
        assert_eq!(done.revision, states.len() as u64 - 1);
    }
    for revision in (0..states.len()).step_by(37) {
        let range = store.range("m/", Some(revision as u64)).await.unwrap();
        let found: BTreeMap<Key, KeyValue> = range.items.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        assert_eq!(found, states[revision], "at {revision}");
    }
    let mut watch = store.watch("m/", 1).await.unwrap();
    let mut state = BTreeMap::new();
    for (revision, expected) in states.iter().enumerate().skip(1) {
        let seen = next(&mut watch).await;
        apply(&mut state, &seen);
        assert_eq!((seen.revision, &state), (revision as u64, expected));
    }
}

// === what the cases share ===

/// A transaction on up to three keys, done to `state` as well; whether it changes anything.
fn random_txn(random: &mut fastrand::Rng, state: &mut BTreeMap<Key, KeyValue>, revision: Revision) -> (Txn, bool) {
    let (mut txn, mut changed) = (Txn::new(), false);
    for part in 0..random.u8(1..=3) {
        let key = Key::from(format!("m/{part}/{}", random.u8(..6)));
        if random.u8(..3) == 0 {
            txn = txn.delete(&key);
            changed |= state.remove(&key).is_some();
            continue;
        }
        let value = Bytes::from(random.u32(..).to_string());
        txn = txn.put(&key, value.clone());
        let (create_revision, version) = state.get(&key).map_or((revision, 0), |kv| (kv.create_revision, kv.version));
        let version = version + 1;
        let kv = KeyValue { key: key.clone(), value, create_revision, mod_revision: revision, version, lease: None };
        state.insert(key, kv);
        changed = true;
    }
    (txn, changed)
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.range(prefix, None).await.unwrap().items.iter().map(|kv| kv.key.to_string()).collect()
}

async fn read(store: &dyn Store, prefix: &str) -> (BTreeMap<Key, KeyValue>, Revision) {
    let range = store.range(prefix, None).await.unwrap();
    (range.items.into_iter().map(|kv| (kv.key.clone(), kv)).collect(), range.revision)
}

async fn next(watch: &mut Watch) -> Changes {
    watch.next().await.expect("a watch goes on").expect("a watch without an error")
}

fn apply(state: &mut BTreeMap<Key, KeyValue>, seen: &Changes) {
    for change in seen.changes.iter() {
        match change {
            Change::Put(kv) => drop(state.insert(kv.key.clone(), kv.clone())),
            Change::Delete(kv) => drop(state.remove(&kv.key)),
        }
    }
}

// === impl TurnedClock ===

impl TurnedClock {
    /// Lets time pass.
    pub fn turn(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for TurnedClock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(1_000_000_000_000 + self.0.load(Ordering::SeqCst))
    }
}
