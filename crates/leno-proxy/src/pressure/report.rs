//! Pressure for the report to the server: of a proxy that has had to do something about its memory.

use leno_model::name::ServiceName;
use leno_telemetry::report::PolicyState;

use super::Strain;
use super::show::refused;

/// How it stands beside an instance of a service, if anything is done about it, or ever was refused for it.
pub(crate) fn report(strain: &Strain, service: &ServiceName) -> Option<PolicyState> {
    let strongest = strain.now().reactions().last();
    if strongest.is_none() && refused(strain).all(|(_, count)| count == 0) {
        return None;
    }
    let (held, most) = strain.seen().map_or((0, 0), |seen| (seen.held, seen.most));
    let state = PolicyState {
        state: if strongest.is_some() { "short" } else { "enough" }.to_owned(),
        reason: strongest.map(|reaction| reaction.text()).unwrap_or_default().to_owned(),
        used: held,
        max: most,
        at_service: true,
        ..PolicyState::new(service, "pressure")
    };
    Some(state.counting(refused(strain)))
}

#[cfg(test)]
mod tests {
    use leno_model::snapshot::Priority;
    use leno_runtime::memory::{Bound, Seen};
    use leno_traffic::{Pressure, Reaction};

    use super::*;

    #[test]
    fn a_proxy_is_reported_that_refused_for_want_of_memory_and_none_that_never_was_short() {
        let (strain, cart) = (Strain::default(), "cart.shop".parse().unwrap());
        assert_eq!(report(&strain, &cart), None);
        let all = Reaction::ALL.into_iter().map(|reaction| 1 << reaction as u32).sum();
        strain.say(Pressure::of_word(all), Some(Seen { held: 9, most: 10, bound: Bound::Machine }));
        assert!(strain.refuses(Priority::Sheddable));
        let short = report(&strain, &cart).unwrap();
        assert_eq!((short.state.as_str(), short.reason.as_str()), ("short", "stop-accepting"));
        assert_eq!((short.used, short.max, short.counts.iter().map(|count| count.count).sum::<u64>()), (9, 10, 1));
        strain.say(Pressure::of_word(0), None);
        assert_eq!(report(&strain, &cart).unwrap().state, "enough");
    }
}
