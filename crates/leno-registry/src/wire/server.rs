//! What each call does to the registry: a message in, a message or a refusal out.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use leno_http::grpc::{Code, Router, Status};
use leno_model::instance::{Instance, InstanceStatus};
use leno_model::name::ServiceName;

use super::messages::{
    DeregisterRequest, DeregisterResponse, InstanceKey, RegisterRequest, RegisterResponse, RenewRequest, RenewResponse,
    SetStatusRequest, SetStatusResponse,
};
use super::{DEREGISTER, REGISTER, RENEW, RENEW_MAX, SET_STATUS, convert, invalid};
use crate::catalogue;
use crate::{Origin, Registry};

/// Comes to its end when those who call a service have taken over what has become of its instances, or have had time
/// enough. Whoever serves the registry knows them; the registry does not.
pub type Told = Rc<dyn Fn(&ServiceName) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Adds the service to what a connection serves. Where the connection comes from decides whether loopback is probed;
/// that an instance drains is answered when `told`.
#[must_use]
pub fn add(router: Router, registry: &Registry, origin: Origin, told: Told) -> Router {
    let (a, b, c, d) = (registry.clone(), registry.clone(), registry.clone(), registry.clone());
    router
        .unary(REGISTER, async move |_, request| register(&a, request, origin).await)
        .unary(RENEW, async move |_, request| renew(&b, &request))
        .unary(DEREGISTER, async move |_, request| deregister(&c, request).await)
        .unary(SET_STATUS, async move |_, request| set_status(&d, request, &told).await)
}

pub(super) async fn register(
    registry: &Registry,
    request: RegisterRequest,
    origin: Origin,
) -> Result<RegisterResponse, Status> {
    let instance = request.instance.ok_or_else(|| invalid("instance", "is absent", "describe one"))?;
    let registered = registry.register(Instance::try_from(instance)?, origin).await?;
    Ok(RegisterResponse { revision: registered.revision })
}

/// A name that no instance can have is as unknown as one that none has.
pub(super) fn renew(registry: &Registry, request: &RenewRequest) -> Result<RenewResponse, Status> {
    let count = request.instances.len();
    if count > RENEW_MAX {
        let message = format!("instances: there are {count} (give at most {RENEW_MAX} in one call)");
        return Err(Status::new(Code::InvalidArgument, message));
    }
    let (mut keys, mut positions, mut unknown) = (Vec::with_capacity(count), Vec::with_capacity(count), Vec::new());
    for (position, key) in (0_u32..).zip(&request.instances) {
        match catalogue::InstanceKey::try_from(key) {
            Ok(key) => {
                keys.push(key);
                positions.push(position);
            }
            Err(_) => unknown.push(position),
        }
    }
    let there = registry.renew_many(&keys);
    unknown.extend(positions.into_iter().zip(there).filter(|(_, there)| !there).map(|(position, _)| position));
    unknown.sort_unstable();
    Ok(RenewResponse { unknown })
}

pub(super) async fn deregister(registry: &Registry, request: DeregisterRequest) -> Result<DeregisterResponse, Status> {
    let key = key(request.instance)?;
    registry.deregister(&key.service, &key.id).await?;
    Ok(DeregisterResponse {})
}

pub(super) async fn set_status(
    registry: &Registry,
    request: SetStatusRequest,
    told: &Told,
) -> Result<SetStatusResponse, Status> {
    let (key, status) = (key(request.instance)?, convert::status(request.status)?);
    let registered = registry.set_status(&key.service, &key.id, status).await?;
    if status == InstanceStatus::Draining {
        told(&key.service).await;
    }
    Ok(SetStatusResponse { revision: registered.revision })
}

fn key(key: Option<InstanceKey>) -> Result<catalogue::InstanceKey, Status> {
    let key = key.ok_or_else(|| invalid("instance", "is absent", "name one"))?;
    (&key).try_into()
}
