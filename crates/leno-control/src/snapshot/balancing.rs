//! What balancing does beside choosing by its policy, as a policy says it, with defaults.

use leno_model::resource::load_balancer::{
    Among, ExpressionSpec, LoadBalancer, LoadReportsSpec, SlowStartSpec, SubsetFallback, SubsetSpec,
};
use leno_model::resource::number::{Aggression, Penalty, Percent, Share, TableSize};
use leno_model::snapshot::{Balancing, Expression, Fallback, Gives, LoadReports, SlowStart, Subsets};

use super::locality;

/// In hundredths.
const AGGRESSION: u32 = 100;
const SHARE_MIN: u32 = 10;

pub(super) fn of(balancer: &LoadBalancer) -> Balancing {
    Balancing {
        panic_threshold: balancer.panic_threshold.map_or(0, Percent::get),
        slow_start: balancer.slow_start.as_ref().map(slow_start),
        weighted_localities: balancer.locality.as_ref().is_some_and(locality::has_shares),
        table_size: balancer.table_size.map(TableSize::get),
        subsets: balancer.subset.as_ref().map(subsets),
        load_reports: balancer.load_reports.as_ref().map(load_reports),
        expression: balancer.expression.as_ref().and_then(expression),
    }
}

/// None where nothing is written, which validation refuses.
fn expression(written: &ExpressionSpec) -> Option<Expression> {
    let (gives, text) = match (&written.cost, written.among.unwrap_or_default()) {
        (Some(cost), Among::Two) => (Gives::Cost, cost),
        (Some(cost), Among::All) => (Gives::CostOfAll, cost),
        (None, _) => (Gives::Weight, written.weight.as_ref()?),
    };
    Some(Expression { gives, text: text.as_str().into() })
}

fn load_reports(written: &LoadReportsSpec) -> LoadReports {
    let default = LoadReports::DEFAULT;
    LoadReports {
        blackout: written.blackout.map_or(default.blackout, |blackout| blackout.0),
        expiration: written.expiration.map_or(default.expiration, |expiration| expiration.0),
        update: written.update.map_or(default.update, |update| update.0),
        error_penalty: written.error_penalty.map_or(default.error_penalty, Penalty::hundredths),
    }
}

fn subsets(written: &SubsetSpec) -> Subsets {
    let fallback = match (written.fallback, &written.default) {
        (SubsetFallback::Any, _) => Fallback::Any,
        (SubsetFallback::Default, Some(value)) => Fallback::To(value.as_str().into()),
        // Validation refuses a default that is not written.
        (SubsetFallback::None | SubsetFallback::Default, _) => Fallback::Nobody,
    };
    Subsets { label: written.label.as_str().into(), fallback }
}

fn slow_start(written: &SlowStartSpec) -> SlowStart {
    SlowStart {
        window: written.window.0,
        aggression: written.aggression.map_or(AGGRESSION, Aggression::hundredths),
        share_min: written.min_weight_share.map_or(SHARE_MIN, Share::get),
    }
}
