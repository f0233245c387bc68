//! Reading less of what peers send ahead, while memory is short.
//!
//! A connection of HTTP/2 to an endpoint is read as fast as it fills, since what is kept of it is bounded by windows; so two
//! thousand answers whose readers are slow may fill their windows at once. While a thread holds, each such connection reads
//! one piece for each [`release`]: nothing is lost, everything goes on, slowly, and the endpoints wait.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

thread_local! {
    static HOLD: Hold = const { Hold { holds: RefCell::new(None), round: Cell::new(1), held: RefCell::new(Vec::new()) } };
}

struct Hold {
    holds: RefCell<Option<Box<dyn Fn() -> bool>>>,
    /// Goes on with each release.
    round: Cell<u64>,
    held: RefCell<Vec<Waker>>,
}

/// What a connection has done of late.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The round in which it read last, while it was held.
    read: u64,
    /// The round in which it was put among those who wait.
    waits: u64,
}

/// Says when this thread holds.
pub fn when(holds: impl Fn() -> bool + 'static) {
    HOLD.with(|hold| *hold.holds.borrow_mut() = Some(Box::new(holds)));
}

/// Lets each connection that is held read one piece.
pub fn release() {
    let held = HOLD.with(|hold| {
        hold.round.set(hold.round.get() + 1);
        std::mem::take(&mut *hold.held.borrow_mut())
    });
    held.into_iter().for_each(Waker::wake);
}

/// Ready when a connection may read a piece.
pub(crate) fn poll_may_read(cx: &mut Context<'_>, turn: &mut Turn) -> Poll<()> {
    HOLD.with(|hold| {
        if !hold.holds.borrow().as_ref().is_some_and(|holds| holds()) {
            return Poll::Ready(());
        }
        let round = hold.round.get();
        if std::mem::replace(&mut turn.read, round) != round {
            return Poll::Ready(());
        }
        if std::mem::replace(&mut turn.waits, round) != round {
            hold.held.borrow_mut().push(cx.waker().clone());
        }
        Poll::Pending
    })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn while_a_thread_holds_a_connection_reads_once_for_each_release() {
        let (holds, mut turn) = (Rc::new(Cell::new(false)), Turn::default());
        let mut cx = Context::from_waker(Waker::noop());
        let asked = holds.clone();
        when(move || asked.get());
        let mut may_read = || poll_may_read(&mut cx, &mut turn).is_ready();
        assert!(may_read() && may_read());
        holds.set(true);
        assert!(may_read() && !may_read() && !may_read());
        assert_eq!(HOLD.with(|hold| hold.held.borrow().len()), 1);
        release();
        assert!(may_read() && !may_read());
        holds.set(false);
        assert!(may_read() && may_read());
        release();
        assert_eq!(HOLD.with(|hold| hold.held.borrow().len()), 0);
    }
}
