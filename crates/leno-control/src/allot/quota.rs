//! Quotas: how many requests of a day or a month were given to proxies, on disk before it is answered.
//!
//! One at a time is counted, written and answered; what could not be written was not given. So a server that ends at any
//! moment, and begins anew from its disk, gives nothing twice. What was written and then not heard is lost to the proxies, and
//! that is a hundredth of a quota at most, or ten.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use leno_model::identity::Role;
use leno_model::name::ServiceName;
use leno_model::resource::rate_limit::QuotaPeriod;
use leno_model::seam::Timestamp;
use leno_runtime::guard::Routes;
use leno_store::{Error, Store};
use leno_traffic::allot::{Ask, Count};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;

use super::{Allotments, Limit, messages};
use crate::api::{Answer, Handled};

const PREFIX: &str = "quota/";
const DAY_MS: u64 = 86_400_000;

/// What was given of every quota.
#[derive(Clone)]
pub(super) struct Quotas {
    store: Arc<dyn Store>,
    /// As it is on disk. Held while that is written, so that counts are written in their order.
    kept: Arc<Mutex<HashMap<Limit, Kept>>>,
}

/// As it stands on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    per: QuotaPeriod,
    period: u64,
    used: u32,
}

// === impl Quotas ===

impl Quotas {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, kept: Arc::default() }
    }

    /// Gives some of a quota.
    pub(super) async fn give(
        &self,
        limit: &Limit,
        requests: u32,
        per: QuotaPeriod,
        ask: Ask,
        now: Timestamp,
    ) -> Result<messages::Allotment, Error> {
        let (period, ends) = period(per, now);
        let mut all = self.kept.lock().await;
        let before = match all.get(limit) {
            Some(before) => Some(*before),
            None => self.read(limit).await?,
        };
        // Days are not numbered as months are.
        let same = before.filter(|before| before.per == per);
        let mut count = same.map_or_else(Count::default, |same| Count { period: same.period, used: same.used });
        let given = count.give(requests, period, ask);
        let after = Kept { per, period: count.period, used: count.used };
        if before != Some(after) {
            let value = serde_json::to_vec(&after).unwrap_or_default();
            self.store.put(&key(limit), value.into()).await?;
        }
        all.insert(limit.clone(), after);
        Ok(messages::Allotment {
            requests: given,
            period: count.period,
            ends_ms: ends.0.saturating_sub(now.0).max(1),
            left: count.left(requests),
            ..messages::Allotment::default()
        })
    }

    async fn read(&self, limit: &Limit) -> Result<Option<Kept>, Error> {
        let found = self.store.get(&key(limit)).await?;
        Ok(found.and_then(|found| serde_json::from_slice(&found.value).ok()))
    }

    /// All that was given, as it stands on disk.
    async fn all(&self) -> Result<Vec<(Limit, Kept)>, Error> {
        let found = self.store.range(PREFIX, None).await?;
        let read = found.items.iter().filter_map(|item| {
            let (service, limit) = item.key.strip_prefix(PREFIX)?.rsplit_once('/')?;
            let service: ServiceName = service.parse().ok()?;
            Some(((service, limit.into()), serde_json::from_slice(&item.value).ok()?))
        });
        Ok(read.collect())
    }
}

/// The route that shows quotas, to be merged into the server's: `GET /api/v1/quotas`.
pub fn routes(allotments: Allotments) -> Routes {
    Routes::new().read("/api/v1/quotas", Role::Viewer, list).with_state(allotments)
}

async fn list(State(allotments): State<Allotments>) -> Handled {
    let now = allotments.clock.wall();
    let all = allotments.quotas.all().await.map_err(crate::Error::from)?;
    let items = all.into_iter().filter_map(|((service, limit), kept)| {
        let (requests, per) = allotments.control.quota(&service, &limit).filter(|(_, per)| *per == kept.per)?;
        let (period, ends) = period(per, now);
        let used = if kept.period >= period { kept.used } else { 0 };
        Some(json!({
            "service": service.to_string(), "limit": &*limit, "requests": requests, "per": per,
            "used": used, "left": requests.saturating_sub(used), "ends": ends.rfc3339(),
        }))
    });
    Answer::ok(json!({ "items": items.collect::<Vec<_>>() }))
}

fn key((service, limit): &Limit) -> String {
    format!("{PREFIX}{service}/{limit}")
}

/// The number of the period of a moment, and when it ends.
fn period(per: QuotaPeriod, now: Timestamp) -> (u64, Timestamp) {
    let day = now.0 / DAY_MS;
    let month = |day: u64| {
        let (year, month, _) = Timestamp(day * DAY_MS).date();
        (year * 12 + month - 1).unsigned_abs()
    };
    match per {
        QuotaPeriod::Day => (day, Timestamp((day + 1) * DAY_MS)),
        QuotaPeriod::Month => {
            let this = month(day);
            let next = (day + 1..=day + 31).find(|day| month(*day) != this).unwrap_or(day + 31);
            (this, Timestamp(next * DAY_MS))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use leno_store::MemoryStore;
    use leno_store::suite::TurnedClock;

    use super::*;

    fn limit() -> Limit {
        ("cart.shop".parse().unwrap(), "day".into())
    }

    async fn give(quotas: &Quotas, requests: u32, now: Timestamp) -> (u32, u32, u64) {
        let ask = Ask { wanted: 1e6, holding: 0.0 };
        let given = quotas.give(&limit(), requests, QuotaPeriod::Day, ask, now).await.unwrap();
        (given.requests, given.left, given.ends_ms)
    }

    #[test]
    fn a_day_ends_at_midnight_and_a_month_with_its_last_day() {
        let ends = |per, at| period(per, Timestamp(at)).1.rfc3339();
        // 2024-02-28 and 2024-12-31, in the evening.
        assert_eq!(ends(QuotaPeriod::Day, 1_709_161_199_000), "2024-02-29T00:00:00.000Z");
        assert_eq!(ends(QuotaPeriod::Month, 1_709_161_199_000), "2024-03-01T00:00:00.000Z");
        assert_eq!(ends(QuotaPeriod::Month, 1_735_689_599_999), "2025-01-01T00:00:00.000Z");
        let (december, ends) = period(QuotaPeriod::Month, Timestamp(1_735_689_599_999));
        assert_eq!(period(QuotaPeriod::Month, ends).0, december + 1);
    }

    #[tokio::test]
    async fn what_was_given_is_given_once_whatever_server_is_asked_and_all_is_there_again_the_next_day() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(TurnedClock::default())));
        let noon = Timestamp(20_000 * DAY_MS + DAY_MS / 2);
        let mut given = 0;
        for server in 0..6 {
            // Another one, that knows what is on disk.
            let quotas = Quotas::new(store.clone());
            for _ in 0..2 {
                let (some, left, ends) = give(&quotas, 1_000, noon).await;
                given += some;
                assert_eq!((left, ends), (1_000 - given, DAY_MS / 2), "server {server}");
            }
        }
        assert_eq!(given, 120, "a hundredth at a time");
        let quotas = Quotas::new(store.clone());
        let tomorrow = Timestamp(noon.0 + DAY_MS);
        assert_eq!(give(&quotas, 1_000, tomorrow).await, (10, 990, DAY_MS / 2));
        assert_eq!(give(&quotas, 1_000, noon).await.1, 980, "a clock that goes back begins no day anew");
        assert_eq!(give(&quotas, 5, tomorrow).await, (0, 0, DAY_MS / 2), "less is written than was given");
        let kept = quotas.all().await.unwrap();
        assert_eq!(kept, [(limit(), Kept { per: QuotaPeriod::Day, period: 20_001, used: 20 })]);
    }
}
