//! Deadlines that cost next to nothing while things move.
//!
//! [`Timer`], for one direction of an HTTP/1 connection: the timer behind it is armed when something waits for the first
//! time, and left armed when the wait is over. When it fires it is set to the deadline of the wait that is on, if there
//! is one. A connection that serves ten thousand requests a minute touches the timer wheel once a minute.
//!
//! [`Alarms`], for the streams of one HTTP/2 connection: one timer for all of them, polled by the task that drives the
//! connection, and a place in a list for each wait.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The deadline of one direction of a connection.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    wait: Wait,
}

/// A wait that may be on.
#[derive(Default)]
struct Wait {
    until: Option<Instant>,
    /// How often something had moved when the wait began.
    beats: u32,
}

/// The deadlines of all streams of a connection.
#[derive(Default)]
pub(crate) struct Alarms {
    list: RefCell<List>,
}

#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    free: Vec<usize>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// When the sleep ends, or shall end once the driver is polled.
    armed: Option<Instant>,
    driver: Option<Waker>,
}

enum Entry {
    Free,
    Set { at: Instant, waker: Waker },
    Rung,
}

/// The deadline of one direction of a stream.
pub(crate) struct Alarm {
    alarms: Rc<Alarms>,
    place: Option<usize>,
    wait: Wait,
}

/// Something moved.
pub(crate) fn beat(pulse: &Cell<u32>) {
    pulse.set(pulse.get().wrapping_add(1));
}

// === impl Timer ===

impl Timer {
    /// The wait is over.
    pub(crate) fn done(&mut self) {
        self.wait.until = None;
    }

    /// Waits, for so long since the first call after `done`.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, wait: Duration) -> Poll<()> {
        let until = self.wait.until(wait, None);
        self.poll_until(cx, until)
    }

    /// As [`Timer::poll`], but the wait begins anew for as long as the pulse beats.
    pub(crate) fn poll_pulsed(&mut self, cx: &mut Context<'_>, wait: Duration, pulse: &Cell<u32>) -> Poll<()> {
        loop {
            let until = self.wait.until(wait, Some(pulse));
            ready!(self.poll_until(cx, until));
            if self.wait.is_over(Some(pulse)) {
                return Poll::Ready(());
            }
        }
    }

    /// Waits until then.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
        Poll::Pending
    }
}

// === impl Wait ===

impl Wait {
    /// When the wait that is on, or begins now, ends.
    fn until(&mut self, wait: Duration, pulse: Option<&Cell<u32>>) -> Instant {
        *self.until.get_or_insert_with(|| {
            self.beats = pulse.map_or(0, Cell::get);
            Instant::now() + wait
        })
    }

    /// Whether nothing moved meanwhile; otherwise another wait begins.
    fn is_over(&mut self, pulse: Option<&Cell<u32>>) -> bool {
        let over = self.beats == pulse.map_or(0, Cell::get);
        if !over {
            self.until = None;
        }
        over
    }
}

// === impl Alarm ===

impl Alarm {
    pub(crate) fn new(alarms: &Rc<Alarms>) -> Alarm {
        Alarm { alarms: alarms.clone(), place: None, wait: Wait::default() }
    }

    /// The wait is over.
    pub(crate) fn done(&mut self) {
        self.wait.until = None;
    }

    /// Waits, for so long since the first call after `done`; anew for as long as the pulse beats.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, wait: Duration, pulse: Option<&Cell<u32>>) -> Poll<()> {
        loop {
            let until = self.wait.until(wait, pulse);
            ready!(self.poll_until(cx, until));
            if self.wait.is_over(pulse) {
                return Poll::Ready(());
            }
        }
    }

    /// Waits until then.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let mut list = self.alarms.list.borrow_mut();
        let place = *self.place.get_or_insert_with(|| list.place());
        match &mut list.entries[place] {
            Entry::Set { at, waker } if *at == until => {
                if !waker.will_wake(cx.waker()) {
                    waker.clone_from(cx.waker());
                }
                return Poll::Pending;
            }
            entry @ Entry::Rung if Instant::now() >= until => {
                *entry = Entry::Free;
                return Poll::Ready(());
            }
            entry => *entry = Entry::Set { at: until, waker: cx.waker().clone() },
        }
        if list.armed.is_none_or(|armed| until < armed) {
            list.armed = Some(until);
            if let Some(driver) = list.driver.take() {
                driver.wake();
            }
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let mut list = self.alarms.list.borrow_mut();
            let entry = std::mem::replace(&mut list.entries[place], Entry::Free);
            list.free.push(place);
            drop(list);
            drop(entry);
        }
    }
}

// === impl Alarms ===

impl Alarms {
    /// Called by the connection's driver whenever it is polled: wakes those whose time has come.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) {
        let mut wakers = Vec::new();
        {
            let mut list = self.list.borrow_mut();
            let list = &mut *list;
            if list.driver.as_ref().is_none_or(|driver| !driver.will_wake(cx.waker())) {
                list.driver = Some(cx.waker().clone());
            }
            while let Some(armed) = list.armed {
                let sleep = list.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(armed)));
                if sleep.deadline() != armed {
                    sleep.as_mut().reset(armed);
                }
                if sleep.as_mut().poll(cx).is_pending() {
                    break;
                }
                list.ring(Instant::now(), &mut wakers);
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl List {
    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::Free);
            self.entries.len() - 1
        })
    }

    /// Marks what is due, and arms for the next.
    fn ring(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        self.armed = None;
        for entry in &mut self.entries {
            match entry {
                Entry::Set { at, .. } if *at > now => {
                    self.armed = Some(self.armed.map_or(*at, |armed| armed.min(*at)));
                }
                Entry::Set { .. } => {
                    if let Entry::Set { waker, .. } = std::mem::replace(entry, Entry::Rung) {
                        wakers.push(waker);
                    }
                }
                Entry::Free | Entry::Rung => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap().block_on(test);
    }

    #[test]
    fn alarms_ring_in_their_order_with_one_timer() {
        run(async {
            let alarms = Rc::new(Alarms::default());
            let now = Instant::now();
            let order = RefCell::new(Vec::new());
            let wait = async |ms: u64| {
                let mut alarm = Alarm::new(&alarms);
                poll_fn(|cx| alarm.poll_until(cx, now + Duration::from_millis(ms))).await;
                order.borrow_mut().push(ms);
            };
            let driver = poll_fn(|cx| {
                alarms.poll(cx);
                Poll::<()>::Pending
            });
            tokio::select! {
                _ = async { tokio::join!(wait(30), wait(10), wait(20)) } => {}
                () = driver => {}
            }
            assert_eq!(*order.borrow(), [10, 20, 30]);
            assert_eq!(alarms.list.borrow().entries.len(), alarms.list.borrow().free.len());
        });
    }

    #[test]
    fn a_wait_begins_anew_while_the_pulse_beats() {
        run(async {
            let (mut timer, pulse) = (Timer::default(), Cell::new(0));
            let began = Instant::now();
            let beats = async {
                for _ in 0..5 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    beat(&pulse);
                }
            };
            let wait = poll_fn(|cx| timer.poll_pulsed(cx, Duration::from_millis(20), &pulse));
            tokio::join!(beats, wait);
            assert!(began.elapsed() >= Duration::from_millis(50));
        });
    }
}
