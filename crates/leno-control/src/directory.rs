//! The registry as control sees it: which services there are, and their instances.
//!
//! A trait, so that snapshots can be tested and simulated without a registry.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::stream;
use leno_model::name::ServiceName;
use leno_registry::{Registered, Registry};

/// Services and their instances.
pub trait Directory: Send + Sync {
    /// Every service that has an instance, in any state.
    fn services(&self) -> Vec<ServiceName>;

    /// The instances of a service, in any state.
    fn instances(&self, service: &ServiceName) -> Vec<Arc<Registered>>;

    /// What changed, again and again; several changes may come as one. Ends when the directory is gone.
    fn watch(&self) -> BoxStream<'static, Changed>;

    /// Whether instances may not have found their way back yet after a start.
    fn is_warming(&self) -> bool {
        false
    }
}

/// What changed in a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// The services whose instances changed.
    pub services: BTreeSet<ServiceName>,
    /// Whether anything else may have changed as well.
    pub complete: bool,
}

/// A directory without a service: for checks, and for servers without a registry.
#[derive(Debug, Clone, Copy, Default)]
pub struct Empty;

// === impl Directory ===

impl Directory for Registry {
    fn services(&self) -> Vec<ServiceName> {
        Registry::services(self).into_iter().map(|summary| summary.name).collect()
    }

    fn instances(&self, service: &ServiceName) -> Vec<Arc<Registered>> {
        Registry::instances(self, service)
    }

    fn watch(&self) -> BoxStream<'static, Changed> {
        let next = |mut watch: leno_registry::Watch| async move {
            let dirty = watch.next().await?;
            Some((Changed { services: dirty.services, complete: dirty.complete }, watch))
        };
        Box::pin(stream::unfold(Registry::watch(self, None), next))
    }

    fn is_warming(&self) -> bool {
        Registry::is_warming(self)
    }
}

impl Directory for Empty {
    fn services(&self) -> Vec<ServiceName> {
        Vec::new()
    }
    fn instances(&self, _: &ServiceName) -> Vec<Arc<Registered>> {
        Vec::new()
    }
    fn watch(&self) -> BoxStream<'static, Changed> {
        Box::pin(stream::pending())
    }
}
