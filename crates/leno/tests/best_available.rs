//! Best available on a live proxy: whoever has more open requests than another is not asked, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::steered::{Call, Came, Front, Steered};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn an_instance_that_is_busy_is_asked_when_all_others_are_as_busy() {
    let carts: Vec<Steered> = (0..3).map(|_| Steered::start()).collect();
    let front = Front::before(&carts, "loadBalancer: {policy: bestAvailable}");
    assert_eq!(front.shown()["balance"], "bestAvailable");
    let came = || carts.iter().map(Steered::came).collect::<Vec<u64>>();
    for call in Call::ALL {
        let (before, outbound) = (came(), front.outbound());
        carts.iter().for_each(|cart| cart.hold(Duration::from_secs(2)));
        std::thread::scope(|scope| {
            let long = scope.spawn(move || call.many(outbound, "cart", 1));
            assert!(wait_until(SOON, || came() != before).is_some());
            let then = came();
            let busy = (0..3).find(|cart| then[*cart] > before[*cart]).unwrap();
            carts.iter().for_each(|cart| cart.hold(Duration::ZERO));
            let mut asked = 0;
            while asked < 40 {
                assert!(front.call(call, 1).iter().all(Came::is_good), "{call:?}");
                if long.is_finished() {
                    break;
                }
                asked += 1;
                assert_eq!(came()[busy], then[busy], "{call:?}: it has one open, others have none");
            }
            assert!(long.join().unwrap().iter().all(Came::is_good), "{call:?}");
            figures(format_args!("best available by {call:?}: {asked} calls while one was busy, {:?} came", came()));
            assert!(asked > 0, "{call:?}");
        });
        let (idle, mut calls) = (came(), 0);
        let all_are_asked = |came: Vec<u64>| came.iter().zip(&idle).all(|(came, idle)| came > idle);
        while !all_are_asked(came()) && calls < 100 {
            calls += 1;
            assert!(front.call(call, 1).iter().all(Came::is_good), "{call:?}");
        }
        assert!(all_are_asked(came()), "{call:?}: equals are drawn from: {:?} after {idle:?}", came());
    }
}
