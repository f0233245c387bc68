use std::future::{pending, ready};
use std::sync::Arc;

use leno_http::Error;
use leno_traffic::pressure::{Reactions, Thresholds};

use super::*;

fn at(fill: u16) -> Pressure {
    Reactions::new(Thresholds::default()).step(fill)
}

/// An answer whose reader takes nothing, as a task.
fn stall() -> leno_runtime::task::Task<Result<(), Error>> {
    leno_runtime::task::spawn("test-answer", stalled::write(pending()))
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_has_waited_longest_is_given_up_first_and_who_has_just_begun_is_not() {
    let old = [stall(), stall()];
    tokio::time::sleep(SLOW).await;
    let new = stall();
    tokio::task::yield_now().await;
    assert_eq!((stalled::count(), stalled::give_up(SLOW, 1)), (3, 1));
    assert_eq!((stalled::give_up(SLOW, WHOLE), stalled::give_up(SLOW, WHOLE)), (1, 0));
    for old in old {
        assert!(old.await.unwrap().is_err());
    }
    tokio::time::sleep(SLOW).await;
    assert_eq!((stalled::count(), stalled::give_up(SLOW, WHOLE)), (1, 1));
    assert!(new.await.unwrap().is_err());
    assert_eq!(stalled::count(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_that_is_taken_is_never_on_the_list_and_one_that_goes_on_is_off_it() {
    assert!(stalled::write(ready(Ok(()))).await.is_ok());
    let goes_on = async {
        tokio::time::sleep(2 * SLOW).await;
        Ok(())
    };
    let answer = leno_runtime::task::spawn("test-answer", stalled::write(goes_on));
    tokio::task::yield_now().await;
    assert_eq!(stalled::count(), 1);
    assert!(answer.await.unwrap().is_ok());
    assert_eq!((stalled::count(), stalled::give_up(Duration::ZERO, WHOLE)), (0, 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn where_nothing_is_left_one_more_is_not_waited_for_unless_another_has_waited_long() {
    let strain = Arc::<Strain>::default();
    stalled::tell(strain.clone());
    strain.room.store(2, Relaxed);
    let (old, young) = (stall(), stall());
    tokio::task::yield_now().await;
    assert!(stalled::write(pending()).await.is_err());
    assert_eq!((stalled::count(), strain.waiting.load(Relaxed), strain.reset.load(Relaxed)), (2, 2, 1));
    tokio::time::sleep(SLOW).await;
    let another = stall();
    tokio::task::yield_now().await;
    assert!(old.await.unwrap().is_err());
    assert_eq!((stalled::count(), strain.waiting.load(Relaxed), strain.room.load(Relaxed)), (2, 2, 0));
    drop((young, another));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn whoever_goes_on_in_whatever_order_the_list_stays_whole() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut held = Vec::new();
    for _ in 0..2000 {
        if held.is_empty() || random.bool() {
            let mut writing = Box::pin(stalled::write(pending::<Result<(), Error>>()));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(writing.as_mut().poll(&mut cx).is_pending());
            held.push(writing);
        } else {
            drop(held.swap_remove(random.usize(0..held.len())));
        }
        assert_eq!(stalled::count(), held.len());
    }
    let left = held.len();
    assert_eq!((stalled::give_up(Duration::ZERO, WHOLE), stalled::give_up(Duration::ZERO, WHOLE)), (left, 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn when_many_more_wait_the_control_thread_is_told_at_once() {
    let strain = Arc::<Strain>::default();
    stalled::tell(strain.clone());
    let mut waiting: Vec<_> = (0..MANY - 1).map(|_| stall()).collect();
    tokio::task::yield_now().await;
    let is_told = async || tokio::time::timeout(EVERY, strain.look.notified()).await.is_ok();
    assert!(!is_told().await);
    waiting.push(stall());
    tokio::task::yield_now().await;
    assert!(is_told().await && !is_told().await);
}

#[tokio::test(start_paused = true)]
async fn accepting_pauses_until_there_is_room_again() {
    let strain = Strain::default();
    strain.may_accept().await;
    strain.say(at(980), None);
    let accepts = strain.may_accept();
    let mut accepts = std::pin::pin!(accepts);
    assert!(tokio::time::timeout(EVERY, accepts.as_mut()).await.is_err());
    strain.say(at(950), None);
    accepts.await;
    assert_eq!(strain.pauses.load(Relaxed), 1);
}

#[test]
fn what_is_refused_is_counted_by_its_priority() {
    let strain = Strain::default();
    strain.say(at(890), None);
    let refused = Priority::ALL.map(|priority| strain.refuses(priority));
    assert_eq!(refused, [false, false, true, true]);
    assert_eq!(describe(&strain)["refused"]["sheddable"], 1);
    assert_eq!(describe(&strain)["refused"]["critical"], 0);
}
