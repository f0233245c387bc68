//! Who is there: services, their instances, and which of them may take traffic.
//!
//! ```text
//! api, wire, doors ─► Registry ─► catalogue ─► lease, health ─► watch ─► control, doors
//!                                    └────────► Store (write-behind; persistent ones before the answer)
//! ```
//!
//! ```text
//! let (registry, driver) = Registry::open(store, clock, Options::default()).await?;   // reads the store: a warm start
//! spawn(driver.run());                                                                // leases, write-behind
//! spawn(health::Prober::new(registry.clone(), …).run());                              // active probes
//!
//! registry.register(instance, Origin::Local).await? -> Arc<Registered>
//! registry.renew(&service, id)?                     registry.renew_many(&[InstanceKey]) -> Vec<bool>
//! registry.deregister(&service, id).await?
//! registry.set_status(&service, id, InstanceStatus::Draining).await?
//! registry.services() -> Vec<ServiceSummary>        registry.instances(&service) -> Vec<Arc<Registered>>
//! registry.watch(None) -> Watch                     watch.next().await -> Dirty { revision, services }
//! ```
//!
//! Instances that renew leases are available first: a registration is answered at once and written within half a
//! second. Persistent ones are consistent first: answered after the commit. After a restart every lease gets its full
//! duration anew, and nothing is removed before that.
//!
//! Invariants: what is routable obeys the four-way rule of [`instance`]; revisions only rise; a watcher that reads
//! what it is told to read ends with the state of the catalogue.

#![warn(missing_docs)]

pub mod instance;

pub use instance::{LeaseState, Origin, Registered, Revision, Routable};
