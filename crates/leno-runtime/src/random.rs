//! Randomness: fast numbers for choices, and secret bytes for tokens.

use std::cell::RefCell;
use std::io;

use leno_model::seam::Random;
use rustix::rand::{GetRandomFlags, getrandom};

/// Fast random numbers, for choices and jitter but never for secrets. Each thread has a generator of its own, seeded by
/// the kernel once, so this costs a few nanoseconds and no lock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

thread_local! {
    static GENERATOR: RefCell<fastrand::Rng> = RefCell::new(fastrand::Rng::with_seed(seed()));
}

/// Bytes that nobody can guess.
pub fn secret_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(length) => filled += length,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(bytes)
}

fn seed() -> u64 {
    // Without the kernel's randomness fastrand's own source (time and thread) is good enough for choices.
    secret_bytes().map_or_else(|_| fastrand::u64(..), u64::from_ne_bytes)
}

impl Random for SystemRandom {
    fn next_u64(&mut self) -> u64 {
        GENERATOR.with_borrow_mut(|generator| generator.u64(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_draw_different_numbers() {
        let draw = || [(); 4].map(|()| SystemRandom.next_u64());
        assert_ne!(std::thread::spawn(draw).join().unwrap(), std::thread::spawn(draw).join().unwrap());
    }

    #[test]
    fn secrets_differ() {
        assert_ne!(secret_bytes::<32>().unwrap(), secret_bytes::<32>().unwrap());
    }
}
