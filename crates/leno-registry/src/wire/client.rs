//! The calling side: what a proxy does with the registry.

use leno_http::grpc::{self, Status};
use leno_model::instance::{Instance, InstanceStatus};

use super::messages::{
    DeregisterRequest, DeregisterResponse, RegisterRequest, RegisterResponse, RenewRequest, RenewResponse,
    SetStatusRequest, SetStatusResponse,
};
use super::{DEREGISTER, REGISTER, RENEW, RENEW_MAX, SET_STATUS};
use crate::{InstanceKey, Revision};

/// Calls the registry of a server. A clone uses the same connection; give `calls` a timeout.
#[derive(Clone)]
pub struct Client {
    calls: grpc::Client,
}

// === impl Client ===

impl Client {
    /// Calls by way of `calls`.
    pub fn new(calls: grpc::Client) -> Self {
        Self { calls }
    }

    /// Registers an instance, or what has become of it; answers the revision of its last change.
    pub async fn register(&self, instance: &Instance) -> Result<Revision, Status> {
        let request = RegisterRequest { instance: Some(instance.into()) };
        let answer: RegisterResponse = self.calls.unary(REGISTER, &request).await?;
        Ok(answer.revision)
    }

    /// Begins leases anew; answers which instances are not registered and have to be, again.
    pub async fn renew(&self, keys: &[InstanceKey]) -> Result<Vec<InstanceKey>, Status> {
        let mut unknown = Vec::new();
        for part in keys.chunks(RENEW_MAX) {
            let request = RenewRequest { instances: part.iter().map(Into::into).collect() };
            let answer: RenewResponse = self.calls.unary(RENEW, &request).await?;
            unknown.extend(answer.unknown.iter().filter_map(|position| part.get(*position as usize)).cloned());
        }
        Ok(unknown)
    }

    /// Removes an instance.
    pub async fn deregister(&self, key: &InstanceKey) -> Result<(), Status> {
        let request = DeregisterRequest { instance: Some(key.into()) };
        let _: DeregisterResponse = self.calls.unary(DEREGISTER, &request).await?;
        Ok(())
    }

    /// Says whether an instance takes traffic; answers the revision of its last change.
    pub async fn set_status(&self, key: &InstanceKey, status: InstanceStatus) -> Result<Revision, Status> {
        let status = super::messages::Status::from(status).into();
        let request = SetStatusRequest { instance: Some(key.into()), status };
        let answer: SetStatusResponse = self.calls.unary(SET_STATUS, &request).await?;
        Ok(answer.revision)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("open", &self.calls.is_open()).finish_non_exhaustive()
    }
}
