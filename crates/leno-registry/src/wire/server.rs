//! What each call does to the registry, without the transport: a message in, a message or a refusal out.

use leno_model::instance::Instance;

use super::messages::{
    DeregisterRequest, DeregisterResponse, InstanceKey, RegisterRequest, RegisterResponse, RenewRequest, RenewResponse,
    SetStatusRequest, SetStatusResponse,
};
use super::{Code, RENEW_MAX, Refused, convert};
use crate::catalogue;
use crate::{Origin, Registry};

/// `Register`: from where the call came decides whether loopback is probed.
pub async fn register(
    registry: &Registry,
    request: RegisterRequest,
    origin: Origin,
) -> Result<RegisterResponse, Refused> {
    let instance = request.instance.ok_or_else(|| Refused::invalid("instance", "is absent", "describe one"))?;
    let registered = registry.register(Instance::try_from(instance)?, origin).await?;
    Ok(RegisterResponse { revision: registered.revision })
}

/// `Renew`. A name that no instance can have is as unknown as one that none has.
pub fn renew(registry: &Registry, request: &RenewRequest) -> Result<RenewResponse, Refused> {
    let count = request.instances.len();
    if count > RENEW_MAX {
        let message = format!("instances: there are {count} (give at most {RENEW_MAX} in one call)");
        return Err(Refused { code: Code::InvalidArgument, message });
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

/// `Deregister`.
pub async fn deregister(registry: &Registry, request: DeregisterRequest) -> Result<DeregisterResponse, Refused> {
    let key = key(request.instance)?;
    registry.deregister(&key.service, &key.id).await?;
    Ok(DeregisterResponse {})
}

/// `SetStatus`.
pub async fn set_status(registry: &Registry, request: SetStatusRequest) -> Result<SetStatusResponse, Refused> {
    let key = key(request.instance)?;
    let registered = registry.set_status(&key.service, &key.id, convert::status(request.status)?).await?;
    Ok(SetStatusResponse { revision: registered.revision })
}

fn key(key: Option<InstanceKey>) -> Result<catalogue::InstanceKey, Refused> {
    let key = key.ok_or_else(|| Refused::invalid("instance", "is absent", "name one"))?;
    (&key).try_into()
}
