//! The audit log over time: how much of it is kept, and what becomes of what could not be written.

#![allow(clippy::unwrap_used, reason = "a test may; clippy's own exemption covers only functions marked #[test]")]

mod mesh;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use leno_control::audit::{Audit, KEPT};
use leno_runtime::guard::Audited;
use leno_store::Store;

use mesh::{Ticks, ToldStore};

async fn open(store: &Arc<ToldStore>) -> Audit {
    Audit::open(store.clone(), Arc::new(Ticks::default())).await.unwrap()
}

fn events(count: usize) -> Vec<Audited> {
    (0..count).map(|number| Audited::done(None, "backup", &number.to_string())).collect()
}

/// How many events of what was done are in the store, and the oldest of them.
async fn kept(store: &ToldStore) -> (usize, String) {
    let range = store.range("audit/", None).await.unwrap();
    (range.items.len(), String::from_utf8_lossy(&range.items[0].value).into_owned())
}

#[tokio::test]
async fn the_newest_events_are_kept_and_what_could_not_be_written_takes_no_place_of_theirs() {
    let store = Arc::new(ToldStore::default());
    let audit = open(&store).await;
    audit.record(events(KEPT)).await;
    store.fails.store(true, Relaxed);
    audit.record(events(100)).await;
    store.fails.store(false, Relaxed);
    assert!(kept(&store).await.1.contains("\"object\":\"0\""));
    audit.record(events(40)).await;
    let (count, oldest) = kept(&store).await;
    assert!(count == KEPT && oldest.contains("\"object\":\"40\""), "{count}: {oldest}");
}

#[tokio::test]
async fn what_several_servers_wrote_beyond_what_is_kept_goes_when_the_next_one_opens_the_log() {
    let store = Arc::new(ToldStore::default());
    let (one, other) = (open(&store).await, open(&store).await);
    one.record(events(KEPT)).await;
    other.record(events(KEPT)).await;
    assert_eq!(kept(&store).await.0, 2 * KEPT);
    let next = open(&store).await;
    assert_eq!(kept(&store).await.0, KEPT);
    next.record(events(1)).await;
    assert_eq!(kept(&store).await.0, KEPT);
}

#[tokio::test]
async fn who_has_to_know_hears_that_an_event_is_not_written() {
    let store = Arc::new(ToldStore::default());
    let audit = open(&store).await;
    store.fails.store(true, Relaxed);
    assert!(audit.try_record(Audited::done(None, "restore", "copy.db")).await.is_err());
    store.fails.store(false, Relaxed);
    audit.try_record(Audited::done(None, "restore", "copy.db")).await.unwrap();
    assert_eq!(audit.list(10).await.unwrap().len(), 1);
}
