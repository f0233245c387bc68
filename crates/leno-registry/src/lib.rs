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
//! spawn(Prober::new(registry.clone(), Rc::new(HostDial), random).run());              // active probes
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
mod validate;

mod catalogue;
mod lease;

mod registry;

mod record;

pub mod health;

pub mod watch;

pub mod api;

pub mod wire;

mod error;

pub use catalogue::{INSTANCES_MAX, INSTANCES_PER_SERVICE_MAX, InstanceKey, SERVICES_MAX, ServiceSummary};
pub use error::Error;
pub use health::Prober;
pub use instance::{LeaseState, Origin, Registered, Revision, Routable};
pub use lease::{PRESERVED_LATE_PERCENT, PRESERVED_LEASES_MIN, PRESERVED_MAX};
pub use record::OpenError;
pub use registry::{Driver, Options, Registry, SAVE_INTERVAL};
pub use validate::{
    ID_MAX, LEASE_MAX, LEASE_MIN, METADATA_BYTES_MAX, METADATA_ENTRIES_MAX, PORTS_MAX, WEIGHT_MAX, check_address,
    check_id, check_origin, validate,
};
pub use watch::{Dirty, Watch};
