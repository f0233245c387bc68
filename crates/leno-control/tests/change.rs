//! Changes: whole or not at all, owned, numbered, undone; and by several servers at once.

#![allow(clippy::unwrap_used, reason = "a test may; clippy's own exemption covers only functions marked #[test]")]

mod mesh;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use leno_control::revision::Action;
use leno_control::{Apply, Delete, Error, Rollback};
use leno_model::fault::FaultClass;
use leno_model::resource::kind::{Kind, ResourceKey};
use leno_xds::provide::Provide;

use mesh::{Mesh, ToldStore, apply, node, principal};

const HEAD: &str = "apiVersion: leno.mesh/v1\nkind: Service\n";

fn service(name: &str, port: u16) -> String {
    format!("{HEAD}metadata: {{name: {name}, namespace: shop}}\nspec: {{ports: [{{port: {port}}}]}}\n---\n")
}

fn key(name: &str) -> ResourceKey {
    ResourceKey::new(Kind::Service, "shop", name)
}

fn delete(name: &str) -> Delete {
    Delete {
        principal: principal("ann"),
        from: None,
        set: "api".into(),
        resources: vec![key(name)],
        dry_run: false,
        expected: None,
        summary: None,
    }
}

fn rollback(revision: u64, resource: Option<ResourceKey>) -> Rollback {
    let (principal, from, set) = (principal("bob"), None, "api".into());
    Rollback { principal, from, set, revision, resource, dry_run: false, summary: None }
}

fn port(mesh: &Mesh, name: &str) -> Option<u64> {
    mesh.control.resource_in_force(&key(name))?.value["spec"]["ports"][0]["port"].as_u64()
}

#[tokio::test]
async fn a_set_applies_whole_or_not_at_all() {
    let mesh = Mesh::new().await;
    let refused = mesh.apply(&(service("cart", 80) + &service("Bad", 80))).await;
    assert!(matches!(refused, Err(Error::Faults(faults)) if faults.len() == 1));
    assert_eq!((mesh.control.resources().1.len(), mesh.control.resources().0), (0, 0));
    assert_eq!(mesh.apply(&(service("cart", 80) + &service("shop", 80))).await.unwrap().revision, 1);
    assert_eq!(mesh.control.resources().1.len(), 2);
}

#[tokio::test]
async fn what_says_the_same_makes_no_revision() {
    let mesh = Mesh::new().await;
    mesh.apply(&service("cart", 80)).await.unwrap();
    let again = mesh.apply(&service("cart", 80)).await.unwrap();
    assert_eq!((again.revision, again.changes[0].summary.action), (1, Action::Unchanged));
}

#[tokio::test]
async fn a_dry_run_shows_the_difference_and_changes_nothing() {
    let mesh = Mesh::new().await;
    mesh.apply(&service("cart", 80)).await.unwrap();
    let dry = mesh.control.apply(Apply { dry_run: true, ..apply("api", &service("cart", 81)) }).await.unwrap();
    assert!(dry.changes[0].diff.contains("-  - port: 80\n+  - port: 81\n"), "{}", dry.changes[0].diff);
    assert_eq!((dry.revision, port(&mesh, "cart")), (1, Some(80)));
}

#[tokio::test]
async fn the_first_owner_of_a_resource_keeps_it() {
    let mesh = Mesh::new().await;
    mesh.control.apply(apply("file:/etc/leno", &service("cart", 80))).await.unwrap();
    let Err(Error::Faults(faults)) = mesh.apply(&service("cart", 81)).await else { panic!("not refused") };
    assert_eq!(faults[0].class, FaultClass::Owned);
    assert_eq!(
        faults[0].to_string().split(": ").nth(2),
        Some("service/shop/cart is owned by the set file:/etc/leno (change it in t.yaml:1, or remove it there first)")
    );
    assert!(matches!(mesh.control.delete(delete("cart")).await, Err(Error::Owned { .. })));
    assert_eq!(port(&mesh, "cart"), Some(80));
}

#[tokio::test]
async fn every_change_is_a_revision_with_author_and_content() {
    let mesh = Mesh::new().await;
    mesh.apply(&service("cart", 80)).await.unwrap();
    mesh.apply(&service("cart", 81)).await.unwrap();
    let why = Some("nobody buys".to_owned());
    mesh.control.delete(Delete { summary: why, ..delete("cart") }).await.unwrap();
    let history = mesh.control.history(Some(&key("cart")), 10).await.unwrap();
    let told: Vec<_> = history.iter().map(|r| (r.number, &*r.action, &*r.summary, r.changes[0].action)).collect();
    assert_eq!(
        told,
        [
            (3, "delete", "nobody buys", Action::Deleted),
            (2, "apply", "apply service/shop/cart", Action::Updated),
            (1, "apply", "apply service/shop/cart", Action::Created)
        ]
    );
    let (revision, changes) = mesh.control.revision_content(2).await.unwrap();
    assert_eq!((&*revision.author, changes[0].before.as_ref().unwrap().created), ("ann", 1));
    assert!(matches!(
        mesh.control.revision_content(9).await,
        Err(Error::UnknownRevision { asked: 9, oldest: 1, newest: 3 })
    ));
}

#[tokio::test]
async fn a_rollback_restores_the_earlier_state_as_a_new_revision() {
    let mesh = Mesh::new().await;
    mesh.apply(&service("cart", 80)).await.unwrap();
    mesh.apply(&(service("cart", 81) + &service("new", 80))).await.unwrap();
    mesh.control.delete(delete("cart")).await.unwrap();
    let applied = mesh.control.rollback(rollback(1, None)).await.unwrap();
    assert_eq!((applied.revision, port(&mesh, "cart"), port(&mesh, "new")), (4, Some(80), None));
    let entry = mesh.control.resource_in_force(&key("cart")).unwrap();
    assert_eq!((entry.created, entry.revision, &*entry.author), (1, 4, "bob"));
}

#[tokio::test]
async fn a_rollback_of_one_resource_leaves_the_others() {
    let mesh = Mesh::new().await;
    mesh.apply(&(service("a", 80) + &service("b", 80))).await.unwrap();
    mesh.apply(&(service("a", 81) + &service("b", 81))).await.unwrap();
    mesh.control.rollback(rollback(1, Some(key("a")))).await.unwrap();
    assert_eq!((port(&mesh, "a"), port(&mesh, "b")), (Some(80), Some(81)));
}

#[tokio::test]
async fn a_rollback_does_not_touch_what_another_set_owns() {
    let mesh = Mesh::new().await;
    mesh.apply(&service("a", 80)).await.unwrap();
    mesh.control.apply(apply("file:/etc/leno", &service("f", 80))).await.unwrap();
    mesh.apply(&service("a", 81)).await.unwrap();
    mesh.control.rollback(rollback(1, None)).await.unwrap();
    assert_eq!((port(&mesh, "a"), port(&mesh, "f")), (Some(80), Some(80)));
    let refused = mesh.control.rollback(rollback(1, Some(key("f")))).await;
    assert!(matches!(refused, Err(Error::Owned { .. })));
}

#[tokio::test]
async fn pruning_deletes_what_the_set_no_longer_has_and_nothing_else() {
    let mesh = Mesh::new().await;
    mesh.apply(&service("mine", 80)).await.unwrap();
    let both = service("a", 80) + &service("b", 80);
    mesh.control.apply(Apply { prune: true, ..apply("team", &both) }).await.unwrap();
    mesh.control.apply(Apply { prune: true, ..apply("team", &service("a", 80)) }).await.unwrap();
    assert_eq!((port(&mesh, "a"), port(&mesh, "b"), port(&mesh, "mine")), (Some(80), None, Some(80)));
}

#[tokio::test]
async fn a_change_on_an_older_state_is_a_conflict() {
    let mesh = Mesh::new().await;
    mesh.apply(&service("cart", 80)).await.unwrap();
    mesh.apply(&service("cart", 81)).await.unwrap();
    let stale = Apply { expected: Some(1), ..apply("api", &service("cart", 82)) };
    let Err(error) = mesh.control.apply(stale).await else { panic!("not refused") };
    assert_eq!(error.to_string(), "service/shop/cart was changed in revision 2 by ann, expected revision 1");
    assert_eq!(port(&mesh, "cart"), Some(81));
}

#[tokio::test]
async fn two_servers_over_one_store_make_one_history() {
    let one = Mesh::new().await;
    let mut two = Mesh::over(one.store.clone()).await;
    one.apply(&service("a", 80)).await.unwrap();
    two.apply(&service("b", 80)).await.unwrap();
    one.apply(&service("a", 81)).await.unwrap();
    assert_eq!(one.control.history(None, 10).await.unwrap().len(), 3);
    let control = two.control.clone();
    let seen = async {
        let mut changes = control.changes();
        while control.resource_in_force(&key("a")).is_none_or(|a| a.value["spec"]["ports"][0]["port"] != 81) {
            changes.changed().await.unwrap();
        }
    };
    two.driven(seen).await;
    assert_eq!((port(&two, "a"), port(&two, "b")), (Some(81), Some(80)));
}

#[tokio::test]
async fn what_was_applied_is_in_force_after_a_restart() {
    let mesh = Mesh::new().await;
    mesh.apply(&service("cart", 80)).await.unwrap();
    let again = Mesh::over(mesh.store.clone()).await;
    assert_eq!(port(&again, "cart"), Some(80));
    assert_eq!(again.apply(&service("cart", 81)).await.unwrap().revision, 2);
    assert!(again.listener(&node("shop"), "cart").is_some());
}

#[tokio::test]
async fn every_change_and_every_refusal_stands_in_the_audit_log() {
    let mesh = Mesh::new().await;
    mesh.apply(&service("cart", 80)).await.unwrap();
    let _ = mesh.apply(&service("Bad", 80)).await;
    let _ = mesh.control.delete(delete("nothing")).await;
    mesh.control.rollback(rollback(1, None)).await.unwrap();
    mesh.control.delete(delete("cart")).await.unwrap();
    let events = mesh.control.audit().list(10).await.unwrap();
    let told: Vec<(&str, Option<u64>, &str)> =
        events.iter().rev().map(|e| (&*e.action, e.revision, &*e.outcome)).collect();
    assert_eq!(told[0], ("apply", Some(1), "done"));
    assert!(told[1].2.starts_with("refused: t.yaml:3:18: metadata.name:"), "{told:?}");
    assert_eq!(told[2], ("delete", None, "refused: there is no service/shop/nothing"));
    // The rollback found nothing to undo.
    assert_eq!(told[3], ("delete", Some(2), "done"));
}

#[tokio::test]
async fn two_servers_that_write_at_the_same_instant_lose_no_event_of_the_audit_log() {
    let one = Mesh::new().await;
    let two = Mesh::over(one.store.clone()).await;
    for _ in 0..3 {
        let _ = one.control.delete(delete("nothing")).await;
        let _ = two.control.delete(delete("nothing")).await;
    }
    let events = one.control.audit().list(10).await.unwrap();
    // Their clocks go alike.
    assert_eq!((events.len(), events[0].time), (6, events[1].time));
}

#[tokio::test]
async fn a_change_that_its_watch_brought_first_costs_the_next_one_no_second_transaction() {
    let store = Arc::new(ToldStore::default());
    let mut mesh = Mesh::over(store.clone()).await;
    let control = mesh.control.clone();
    let txns = async {
        store.late.store(true, Relaxed);
        let first = control.apply(apply("api", &service("cart", 80)));
        let watched = async {
            while control.resource_in_force(&key("cart")).is_none() {
                tokio::task::yield_now().await;
            }
            store.late.store(false, Relaxed);
        };
        tokio::join!(first, watched).0.unwrap();
        let before = store.txns.load(Relaxed);
        control.apply(apply("api", &service("cart", 81))).await.unwrap();
        store.txns.load(Relaxed) - before
    };
    assert_eq!(mesh.driven(txns).await, 1);
}
