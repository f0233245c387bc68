//! Which endpoints a client connects to when there are many: a deterministic subset (Site Reliability Engineering,
//! chapter 20), so that N clients × M endpoints does not become N × M connections.
//!
//! Clients are numbered. Each *round* of clients orders the endpoints anew and divides them: client 0 of the round takes
//! the first `size` endpoints, client 1 the next, so that within a round nobody shares and every endpoint has as many
//! clients as any other, but for the remainder, which differs from round to round. With numbers that are consecutive
//! the load is even; with numbers that are hashes (proxies know no order among themselves) it is even on average.
//!
//! The book shuffles by index; here endpoints are ordered by a hash of round and id, so that one endpoint more or less
//! moves each boundary by at most one place and few connections with it.

use std::hash::{DefaultHasher, Hash, Hasher};

/// From how many endpoints on a client takes a subset, and how many it takes.
pub const SUBSET_SIZE: usize = 50;

/// The indexes of the endpoints that `client` uses, ascending: `size` of them, or all when there are no more.
pub fn subset<T: AsRef<str>>(ids: &[T], client: u64, size: usize) -> Vec<usize> {
    if size == 0 || ids.len() <= size {
        return (0..ids.len()).collect();
    }
    let subsets = (ids.len() / size) as u64;
    let (round, place) = (client / subsets, (client % subsets) as usize);
    let mut order: Vec<(u64, usize)> =
        ids.iter().enumerate().map(|(index, id)| (rank(round, id.as_ref()), index)).collect();
    order.sort_unstable();
    let mut chosen: Vec<usize> = order[place * size..][..size].iter().map(|(_, index)| *index).collect();
    chosen.sort_unstable();
    chosen
}

/// The same in every process of this version of leno: `DefaultHasher::new` has fixed keys.
fn rank(round: u64, id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (round, id).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("cart-{n}")).collect()
    }

    fn clients_of_each(ids: &[String], clients: impl Iterator<Item = u64>) -> Vec<usize> {
        let mut users = vec![0; ids.len()];
        clients.for_each(|client| subset(ids, client, SUBSET_SIZE).into_iter().for_each(|index| users[index] += 1));
        users
    }

    #[test]
    fn few_endpoints_are_used_by_everyone() {
        assert_eq!(subset(&ids(50), 7, SUBSET_SIZE).len(), 50);
        assert_eq!(subset(&ids(0), 7, SUBSET_SIZE).len(), 0);
    }

    #[test]
    fn consecutive_clients_load_all_endpoints_evenly() {
        let users = clients_of_each(&ids(500), 0..300);
        assert!(users.iter().all(|count| *count == 30), "{users:?}");
    }

    #[test]
    fn a_remainder_is_another_one_in_each_round() {
        let users = clients_of_each(&ids(530), 0..400);
        let (min, max) = (users.iter().min().unwrap(), users.iter().max().unwrap());
        assert!(*min >= 30 && *max == 40, "{min} to {max}");
    }

    #[test]
    fn clients_with_random_numbers_load_evenly_on_average() {
        let mut rng = fastrand::Rng::with_seed(3);
        let users = clients_of_each(&ids(500), (0..3000).map(|_| rng.u64(..)));
        let (min, max) = (users.iter().min().unwrap(), users.iter().max().unwrap());
        assert!(*min > 230 && *max < 370, "{min} to {max}");
    }

    #[test]
    fn one_endpoint_more_changes_few_places() {
        let (before, after) = (ids(500), ids(501));
        for client in 0..100 {
            let old = subset(&before, client, SUBSET_SIZE);
            let new = subset(&after, client, SUBSET_SIZE);
            assert!(old.iter().filter(|index| !new.contains(index)).count() <= 1);
        }
    }
}
