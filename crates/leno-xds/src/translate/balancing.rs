//! What balancing does beside choosing by its policy: `healthy_panic_threshold`, `slow_start_config`, `table_size`,
//! `locality_weighted_lb_config`.
//!
//! Envoy has slow start with round robin and least request alone; peak EWMA is least request to it. With other policies it
//! stands in leno's note. Where Envoy is told nothing of panic its threshold is 50, so that it is always told.

use std::time::Duration;

use leno_model::resource::number::is_prime;
use leno_model::snapshot::{BalancePolicy, Balancing, LoadReports, SlowStart};

use super::{Dialect, TranslateError, duration_of, unusable};
use crate::messages::cluster::{
    ClientSideWeightedRoundRobin, Cluster, CommonLbConfig, LbConfig, LeastRequest, LeastRequestLbConfig,
    LocalityLbConfig, MaglevLbConfig, RoundRobinLbConfig, SlowStartConfig, WrrLocality,
};
use crate::messages::core::{Empty, Percent, RuntimeDouble};
use crate::messages::urls;
use crate::messages::wkt::{self, Any};

/// Envoy refuses a number that may change at runtime without the name under which it is looked for.
const AGGRESSION_KEY: &str = "leno.mesh.slow_start.aggression";

/// Envoy's defaults.
const AGGRESSION: f64 = 1.0;
const SHARE_MIN: f64 = 10.0;

/// Envoy finds weights no more often.
const UPDATE_MIN: Duration = Duration::from_millis(100);
/// As much as may be written here.
const PENALTY_MAX: f32 = 100.0;

/// The most places that Envoy has in a table of Maglev.
const TABLE_SIZE_MAX: u32 = 5_000_011;

/// Says it in a message.
pub(super) fn write(balance: BalancePolicy, balancing: &Balancing, dialect: Dialect, message: &mut Cluster) {
    // gRPC has none of it, and looks at weights of localities in any case.
    if dialect == Dialect::Grpc {
        return;
    }
    let told = balancing.panic_threshold > 0 || dialect != Dialect::Leno;
    let threshold = told.then(|| Percent { value: balancing.panic_threshold.into() });
    // Envoy refuses it here beside a list of policies, where it stands among the options of each.
    let weighted = balancing.weighted_localities && message.load_balancing_policy.is_none();
    let common = CommonLbConfig {
        healthy_panic_threshold: threshold,
        locality_weighted_lb_config: weighted.then_some(Empty {}),
    };
    message.common_lb_config = (common != CommonLbConfig::default()).then_some(common);
    let slow_start_config = balancing.slow_start.map(slow_start_to);
    message.lb_config = match balance {
        BalancePolicy::RoundRobin => {
            slow_start_config.map(|config| LbConfig::RoundRobin(RoundRobinLbConfig { slow_start_config: Some(config) }))
        }
        BalancePolicy::PeakEwma
        | BalancePolicy::BestAvailable
        | BalancePolicy::WeightedResponseTime
        | BalancePolicy::LeastRequest => {
            let config = |config| LbConfig::LeastRequest(LeastRequestLbConfig { slow_start_config: Some(config) });
            slow_start_config.map(config)
        }
        BalancePolicy::Maglev => {
            let config = |size: u32| LbConfig::Maglev(MaglevLbConfig { table_size: Some(size.into()) });
            balancing.table_size.map(config)
        }
        BalancePolicy::Random | BalancePolicy::RingHash | BalancePolicy::WeightedRoundRobin => None,
        // Told to leno's proxies alone, who read notes.
        BalancePolicy::Expression => None,
    };
}

/// The options of least request, for those who take policies from a list.
pub(super) fn least_request(balancing: &Balancing) -> LeastRequest {
    let weighted = LocalityLbConfig { locality_weighted_lb_config: Some(Empty {}) };
    LeastRequest {
        slow_start_config: balancing.slow_start.map(slow_start_to),
        locality_lb_config: balancing.weighted_localities.then_some(weighted),
    }
}

/// The options of weighted round robin, which stands in a list alone.
pub(super) fn weighted_round_robin(balancing: &Balancing) -> ClientSideWeightedRoundRobin {
    let Some(terms) = balancing.load_reports else { return ClientSideWeightedRoundRobin::default() };
    ClientSideWeightedRoundRobin {
        blackout_period: Some(terms.blackout.into()),
        weight_expiration_period: Some(terms.expiration.into()),
        weight_update_period: Some(terms.update.into()),
        error_utilization_penalty: Some(terms.error_penalty as f32 / 100.0),
    }
}

fn load_reports_from(config: &ClientSideWeightedRoundRobin) -> Result<Option<LoadReports>, TranslateError> {
    if *config == ClientSideWeightedRoundRobin::default() {
        return Ok(None);
    }
    let default = LoadReports::DEFAULT;
    let penalty = config.error_utilization_penalty.unwrap_or(default.error_penalty as f32 / 100.0);
    if !(0.0..=PENALTY_MAX).contains(&penalty) {
        return Err(unusable("error_utilization_penalty", format!("is not from 0 to {PENALTY_MAX}")));
    }
    let time =
        |path: &str, time: Option<wkt::Duration>, default| time.map_or(Ok(default), |time| duration_of(path, time));
    Ok(Some(LoadReports {
        blackout: time("blackout_period", config.blackout_period, default.blackout)?,
        expiration: time("weight_expiration_period", config.weight_expiration_period, default.expiration)?,
        // As Envoy has it.
        update: time("weight_update_period", config.weight_update_period, default.update)?.max(UPDATE_MIN),
        error_penalty: (penalty * 100.0).round() as u32,
    }))
}

/// What a message says to whoever does not read notes.
pub(super) fn read(message: &Cluster) -> Result<Balancing, TranslateError> {
    let threshold = message.common_lb_config.and_then(|config| config.healthy_panic_threshold);
    let (slow_start, table_size) = match &message.lb_config {
        Some(LbConfig::RoundRobin(config)) => (config.slow_start_config.clone(), None),
        Some(LbConfig::LeastRequest(config)) => (config.slow_start_config.clone(), None),
        Some(LbConfig::Maglev(config)) => (None, config.table_size),
        None => (None, None),
    };
    let common = message.common_lb_config.and_then(|config| config.locality_weighted_lb_config);
    let listed = message.load_balancing_policy.iter().flat_map(|list| &list.policies);
    let listed = listed.filter_map(|policy| policy.typed_extension_config.as_ref()?.typed_config.as_ref());
    let load_reports = listed.clone().find_map(weighted_round_robin_in).transpose()?;
    let load_reports = load_reports.map(|config| load_reports_from(&config)).transpose()?.flatten();
    let in_list = listed.filter_map(|any| any.unpack::<LeastRequest>(urls::LEAST_REQUEST)?.ok());
    let mut in_list = in_list.filter_map(|least| least.locality_lb_config?.locality_weighted_lb_config);
    Ok(Balancing {
        weighted_localities: common.is_some() || in_list.next().is_some(),
        // A number beyond the range is taken to its end.
        panic_threshold: threshold.map_or(0, |percent| percent.value.clamp(0.0, 100.0).round() as u32),
        slow_start: slow_start.map(slow_start_from).transpose()?.flatten(),
        table_size: table_size.map(|size| table_size_of("maglev_lb_config.table_size", size)).transpose()?,
        load_reports,
        subsets: None,
        expression: None,
    })
}

/// Of an entry of a list that is weighted round robin, within places or not.
fn weighted_round_robin_in(any: &Any) -> Option<Result<ClientSideWeightedRoundRobin, TranslateError>> {
    let of = |any: &Any| any.unpack::<ClientSideWeightedRoundRobin>(urls::WEIGHTED_ROUND_ROBIN);
    if let Some(config) = of(any) {
        return Some(config.map_err(Into::into));
    }
    let places: WrrLocality = any.unpack(urls::WRR_LOCALITY)?.ok()?;
    let mut within = places.endpoint_picking_policy?.policies.into_iter();
    let config = within.find_map(|policy| of(policy.typed_extension_config?.typed_config.as_ref()?))?;
    Some(config.map_err(Into::into))
}

/// Of others than a prime a table is never full.
pub(super) fn table_size_of(path: &str, size: u64) -> Result<u32, TranslateError> {
    let size = u32::try_from(size).ok().filter(|size| *size <= TABLE_SIZE_MAX && is_prime(*size));
    size.ok_or_else(|| unusable(path, format!("is no prime up to {TABLE_SIZE_MAX}")))
}

fn slow_start_to(slow_start: SlowStart) -> SlowStartConfig {
    let aggression = f64::from(slow_start.aggression) / 100.0;
    SlowStartConfig {
        slow_start_window: Some(slow_start.window.into()),
        aggression: Some(RuntimeDouble { default_value: aggression, runtime_key: AGGRESSION_KEY.to_owned() }),
        min_weight_percent: Some(Percent { value: slow_start.share_min.into() }),
    }
}

fn slow_start_from(config: SlowStartConfig) -> Result<Option<SlowStart>, TranslateError> {
    let Some(window) = config.slow_start_window else { return Ok(None) };
    let aggression = config.aggression.map_or(AGGRESSION, |aggression| aggression.default_value);
    let share_min = config.min_weight_percent.map_or(SHARE_MIN, |percent| percent.value);
    Ok(Some(SlowStart {
        window: duration_of("slow_start_config.slow_start_window", window)?,
        aggression: (aggression * 100.0).round().max(1.0) as u32,
        share_min: share_min.clamp(0.0, 100.0).round() as u32,
    }))
}

#[cfg(test)]
mod tests {
    use leno_model::snapshot;

    use super::super::tests::{ENVOY, usual_cluster};
    use super::super::{Dialect, cluster};
    use super::*;

    fn slow_start() -> Option<SlowStart> {
        Some(SlowStart { window: Duration::from_secs(60), aggression: 150, share_min: 5 })
    }

    /// What is read of what Envoy is told, and whether leno's proxies are told more.
    fn told(balance: BalancePolicy, balancing: Balancing) -> (Balancing, bool) {
        let cluster = leno_model::snapshot::Cluster { balance, balancing, ..usual_cluster(Default::default()) };
        let body = cluster::encode(&cluster, Dialect::Leno).body;
        assert_eq!(cluster::decode(&body).unwrap(), cluster);
        let read = cluster::from_envoy(cluster::to_envoy(&cluster, ENVOY)).unwrap().balancing;
        (read, body.windows(12).any(|window| window == b"\"balancing\":"))
    }

    #[test]
    fn slow_start_panic_and_the_size_of_a_table_stand_under_envoys_names() {
        use BalancePolicy::*;
        let both = Balancing {
            panic_threshold: 40,
            slow_start: slow_start(),
            weighted_localities: true,
            ..Balancing::default()
        };
        for balance in [PeakEwma, LeastRequest, BestAvailable, WeightedResponseTime, RoundRobin] {
            assert_eq!(told(balance, both.clone()), (both.clone(), false), "{balance:?}");
        }
        let table = Balancing { panic_threshold: 1, table_size: Some(101), ..Balancing::default() };
        assert_eq!(told(Maglev, table.clone()), (table, false));
    }

    #[test]
    fn slow_start_of_other_policies_is_told_to_lenos_proxies_alone() {
        use BalancePolicy::*;
        for balance in [Random, RingHash, Maglev, WeightedRoundRobin] {
            let slow = Balancing { slow_start: slow_start(), ..Balancing::default() };
            assert_eq!(told(balance, slow), (Balancing::default(), true), "{balance:?}");
        }
    }

    #[test]
    fn reports_of_load_stand_in_the_policy_of_envoys_name_for_grpc_too() {
        let terms = LoadReports { update: Duration::from_secs(2), error_penalty: 250, ..LoadReports::DEFAULT };
        let reported = Balancing { load_reports: Some(terms), ..Balancing::default() };
        for balancing in [reported, Balancing::default()] {
            assert_eq!(told(BalancePolicy::WeightedRoundRobin, balancing.clone()), (balancing.clone(), false));
            let usual = usual_cluster(Default::default());
            let cluster = snapshot::Cluster { balance: BalancePolicy::WeightedRoundRobin, balancing, ..usual };
            for dialect in [ENVOY, Dialect::Grpc] {
                let read = cluster::from_envoy(cluster::to_envoy(&cluster, dialect)).unwrap();
                let of = |cluster: snapshot::Cluster| (cluster.balance, cluster.balancing.load_reports);
                assert_eq!(of(read), of(cluster.clone()), "{dialect:?}");
            }
        }
    }

    #[test]
    fn what_another_server_says_of_reports_is_as_envoy_takes_it_or_refused() {
        let read = |penalty: f32, update: Duration| {
            let update = Some(update.into());
            let penalty = Some(penalty);
            load_reports_from(&ClientSideWeightedRoundRobin {
                error_utilization_penalty: penalty,
                weight_update_period: update,
                ..Default::default()
            })
        };
        let default = LoadReports::DEFAULT;
        let wanted = LoadReports { update: UPDATE_MIN, error_penalty: 0, ..default };
        assert_eq!(read(0.0, Duration::from_millis(1)), Ok(Some(wanted)));
        for bad in [-0.1, f32::NAN, f32::INFINITY, 101.0] {
            assert_eq!(
                read(bad, default.update).unwrap_err().to_string(),
                "error_utilization_penalty: is not from 0 to 100"
            );
        }
    }

    #[test]
    fn envoy_is_told_that_nobody_panics_and_others_that_share_its_messages_nothing() {
        let cluster = usual_cluster(Default::default());
        let config = cluster::to_envoy(&cluster, ENVOY).common_lb_config;
        assert_eq!(config.and_then(|config| config.healthy_panic_threshold), Some(Percent { value: 0.0 }));
        for dialect in [Dialect::Leno, Dialect::Grpc] {
            assert_eq!(cluster::to_envoy(&cluster, dialect).common_lb_config, None);
        }
    }

    #[test]
    fn a_table_that_could_not_be_filled_is_refused() {
        let read = |size: u64| {
            let config = LbConfig::Maglev(MaglevLbConfig { table_size: Some(size) });
            read(&Cluster { lb_config: Some(config), ..Cluster::default() }).map(|balancing| balancing.table_size)
        };
        assert_eq!((read(2), read(5_000_011)), (Ok(Some(2)), Ok(Some(5_000_011))));
        for size in [0, 1, 65_536, 5_000_013, 4_294_967_291, u64::from(u32::MAX) + 102, u64::MAX] {
            let error = read(size).unwrap_err().to_string();
            assert_eq!(error, "maglev_lb_config.table_size: is no prime up to 5000011", "{size}");
        }
    }

    #[test]
    fn what_another_server_leaves_out_is_what_envoy_takes_it_for() {
        let config = SlowStartConfig { slow_start_window: Some(Duration::from_secs(9).into()), ..Default::default() };
        let read = slow_start_from(config).unwrap().unwrap();
        assert_eq!((read.window.as_secs(), read.aggression, read.share_min), (9, 100, 10));
        assert_eq!(slow_start_from(SlowStartConfig::default()).unwrap(), None);
    }
}
