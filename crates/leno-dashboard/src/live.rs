//! The live document: made once a second for each window that someone looks at, shared by all who look. Whoever looks at one
//! service gets an event `policies` behind each, which says how the policies of that service stand; it too is shared.
//!
//! A browser that cannot keep up gets fewer documents, not old ones: the next is made when it asks for more. At most
//! [`WATCHERS_MAX`] browsers watch at once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use leno_model::name::ServiceName;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::view::View;

/// Time between two documents.
pub const EVERY: Duration = Duration::from_secs(1);
/// Streams at once.
pub const WATCHERS_MAX: usize = 256;
/// The windows that may be asked for, in seconds.
pub const WINDOWS: [u64; 5] = [30, 60, 300, 900, 3_600];

/// Shares documents between browsers.
pub(crate) struct Shared {
    pub(crate) view: Arc<dyn View>,
    made: Made<u64>,
    policies: Made<ServiceName>,
    watchers: AtomicUsize,
}

/// Events by what they are about, and when each was made. As many as there are watchers at most, because what is old goes
/// with whatever is made next.
type Made<K> = Mutex<HashMap<K, (Instant, Bytes)>>;

/// One of [`WATCHERS_MAX`] places.
pub(crate) struct Seat(Arc<Shared>);

// === impl Shared ===

impl Shared {
    pub(crate) fn new(view: Arc<dyn View>) -> Self {
        Self { view, made: Mutex::default(), policies: Mutex::default(), watchers: AtomicUsize::new(0) }
    }

    /// A place, unless all are taken.
    pub(crate) fn seat(self: &Arc<Self>) -> Option<Seat> {
        let seat = Seat(self.clone());
        // The seat exists before the check so that its drop gives back what was counted.
        (self.watchers.fetch_add(1, Relaxed) < WATCHERS_MAX).then_some(seat)
    }

    /// The document of a window as a server-sent event, not older than a second.
    fn event(&self, window: u64) -> Bytes {
        made(&self.made, &window, "", || self.view.live(Duration::from_secs(window)))
    }

    /// How the policies of a service stand, likewise.
    fn policies(&self, service: &ServiceName) -> Bytes {
        made(&self.policies, service, "event: policies\n", || self.view.policies(service))
    }
}

/// The event about this, made anew if it is old.
fn made<K: Clone + Eq + Hash, D: Serialize>(
    events: &Made<K>,
    about: &K,
    name: &str,
    document: impl FnOnce() -> D,
) -> Bytes {
    let now = Instant::now();
    let is_new = |when: &Instant| now.duration_since(*when) < EVERY * 9 / 10;
    let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, event)) = events.get(about).filter(|(when, _)| is_new(when)) {
        return event.clone();
    }
    // JSON has no line ends outside strings and escapes those inside, so one data line holds it.
    let json = serde_json::to_string(&document()).unwrap_or_else(|_| "null".to_owned());
    let event = Bytes::from(format!("{name}data: {json}\n\n"));
    events.retain(|_, (when, _)| is_new(when));
    events.insert(about.clone(), (now, event.clone()));
    event
}

/// The window nearest to the one that was asked for.
pub(crate) fn window(asked: Option<u64>) -> u64 {
    let asked = asked.unwrap_or(60);
    WINDOWS.into_iter().min_by_key(|window| window.abs_diff(asked)).unwrap_or(60)
}

/// A document now and each second, with the policies of a service where one is looked at, until the browser is gone or the
/// server is about to go.
pub(crate) fn events(
    seat: Seat,
    window: u64,
    service: Option<ServiceName>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((seat, service, Instant::now()), move |(seat, service, due)| async move {
        sleep_until(due).await;
        if seat.0.view.is_leaving() {
            return None;
        }
        let event = match &service {
            None => seat.0.event(window),
            Some(service) => {
                let mut both = BytesMut::from(&seat.0.event(window)[..]);
                both.extend_from_slice(&seat.0.policies(service));
                both.freeze()
            }
        };
        Some((Ok(event), (seat, service, Instant::now() + EVERY)))
    })
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Relaxed);
    }
}
