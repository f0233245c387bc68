//! The control thread's part: looks at memory, and says what is done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use leno_runtime::Drain;
use leno_runtime::memory::{Files, Memory, Seen};
use leno_runtime::processors::Processors;
use leno_traffic::busy::{Bounds, Busy, Cut, Cutting};
use leno_traffic::pressure::{Reactions, Thresholds};
use leno_traffic::{Pressure, Reaction};
use tokio::time::Instant;

use super::{KEPT, PIECE, Strain};

/// How often is looked while there is room enough.
const CALM: Duration = Duration::from_millis(250);
/// How often where half is held, and where little is left.
const ALERT: Duration = Duration::from_millis(20);
const ALARM: Duration = Duration::from_millis(5);
/// How often is looked at how busy it is.
const BUSY: Duration = Duration::from_millis(250);
/// By then what may be kept for a reader has come.
const FILLS: Duration = Duration::from_millis(100);
/// Who asks for a look gets it at most so often.
const APART: Duration = Duration::from_millis(2);

/// Looks at the memory of this process as long as it lives, and says what is done.
pub async fn watch(strain: Arc<Strain>, mut memory: Memory<impl Files>, thresholds: Thresholds, drain: Drain) {
    let mut reactions = Reactions::new(thresholds);
    let mut growth = Growth::default();
    loop {
        let Some(seen) = memory.look() else {
            return tracing::warn!("memory is not watched: /proc says nothing about this process");
        };
        let fill = seen.fill();
        let (before, pressure) = (strain.now(), reactions.step(fill));
        tell(before, pressure, &seen);
        let waiting = strain.waiting.load(Relaxed);
        let grown = growth.of(waiting, Instant::now());
        let readers =
            thresholds.get(Reaction::ResetSlow).map_or(isize::MAX / 2, |percent| room(&seen, percent, KEPT, grown));
        strain.room.store(readers, Relaxed);
        let pieces =
            thresholds.get(Reaction::ReadLess).map_or(isize::MAX / 2, |percent| room(&seen, percent, PIECE, 0));
        strain.pieces.store(pieces, Relaxed);
        strain.say(pressure, Some(seen));
        drain.end_idle(pressure.is(Reaction::CloseIdle));
        tokio::time::sleep(APART).await;
        let wait = match fill {
            ..500 => CALM,
            500..700 => ALERT,
            _ => ALARM,
        };
        let _ = tokio::time::timeout(wait - APART, strain.look.notified()).await;
    }
}

/// Looks at how busy this process is as long as it lives, and says what is left out.
pub async fn watch_busy(
    strain: Arc<Strain>,
    mut processors: Processors<impl Files>,
    lateness: impl Fn() -> Duration,
    bounds: Bounds,
) {
    let mut cutting = Cutting::new(bounds);
    let (began, mut before) = (Instant::now(), Cut::default());
    loop {
        let cpu = bounds.cpu.and_then(|_| processors.look(began.elapsed()));
        let busy = Busy { late: lateness(), cpu };
        let cut = cutting.step(busy);
        let (late_ms, cpu) = (busy.late.as_millis() as u64, cpu.unwrap_or(0));
        match (before.is_none(), cut.is_none()) {
            (true, false) => tracing::warn!(late_ms, cpu_permille = cpu, "there is more to do than can be done"),
            (false, true) => tracing::info!(late_ms, cpu_permille = cpu, "everything is done again"),
            _ => {}
        }
        before = cut;
        strain.say_busy(cut, busy);
        tokio::time::sleep(BUSY).await;
    }
}

/// For how many more there is room, each of so many bytes, if so many have come of late for whom nothing may be kept yet.
fn room(seen: &Seen, percent: u8, bytes_each: u64, grown: usize) -> isize {
    let bytes = i128::from(seen.most) * i128::from(percent) / 100 - i128::from(seen.held);
    let more = bytes / i128::from(bytes_each) - grown as i128;
    isize::try_from(more).unwrap_or(if more < 0 { isize::MIN / 2 } else { isize::MAX / 2 })
}

/// By how many more readers are waited for than a moment ago.
#[derive(Default)]
struct Growth(VecDeque<(Instant, usize)>);

impl Growth {
    fn of(&mut self, waiting: usize, now: Instant) -> usize {
        while self.0.front().is_some_and(|(at, _)| now - *at > FILLS) {
            self.0.pop_front();
        }
        // One look each two milliseconds at most, so that they are few.
        self.0.push_back((now, waiting));
        let least = self.0.iter().map(|(_, waiting)| *waiting).min().unwrap_or(waiting);
        waiting - least
    }
}

/// Says where pressure begins and ends, and where it comes to more than there was.
fn tell(before: Pressure, pressure: Pressure, seen: &Seen) {
    let worst = |pressure: Pressure| pressure.reactions().last();
    let (percent, held, most) = (seen.fill() / 10, seen.held, seen.most);
    match (worst(before), worst(pressure)) {
        (Some(_), None) => tracing::info!(percent, held, most, bound = %seen.bound, "memory is not short any more"),
        (before, Some(now)) if Some(now) > before => {
            let reaction = now.text();
            tracing::warn!(percent, held, most, bound = %seen.bound, reaction, "memory is short");
        }
        _ => {}
    }
}
