//! Every corpus, on the stable compiler: each input as it is, and copies of it with a few bytes changed by a seed that a
//! failure names.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // Time is measured for the figures.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use leno_fuzz::TARGETS;

/// Changed copies of each input.
const COPIES: u64 = 3_000;
/// A target's share of the time; what was not reached by then is left out, and the figures say so.
const TIME_MAX: Duration = Duration::from_secs(4);
/// Bytes that mean something to one parser or another.
const TELLING: &[u8] = b"\r\n :;,0-%./\\\0\xff\t{[&*|>";
/// An input of a corpus is small: what makes it one is a few bytes.
const INPUT_MAX: usize = 4096;

#[test]
fn every_corpus_is_replayed_and_nothing_panics() {
    let (began, mut told) = (Instant::now(), Vec::new());
    let (mut inputs, mut runs) = (0, 0);
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() >= 3, "{name} has a corpus of {}", corpus.len());
        let started = Instant::now();
        let mut run = 0;
        for (file, bytes) in &corpus {
            holds(name, *target, file, bytes);
            run += 1;
        }
        for copy in 0..COPIES * corpus.len() as u64 {
            if started.elapsed() > TIME_MAX {
                break;
            }
            let (file, bytes) = &corpus[copy as usize % corpus.len()];
            holds(name, *target, &format!("{file}, changed by seed {copy}"), &changed(bytes, copy));
            run += 1;
        }
        (inputs, runs) = (inputs + corpus.len(), runs + run);
        told.push(format!("{name} {run}"));
    }
    let line = format!(
        "fuzz corpora: {} targets, {inputs} inputs, {runs} runs, 0 panics, {:.1} s; {}",
        TARGETS.len(),
        began.elapsed().as_secs_f64(),
        told.join(", ")
    );
    // Past what collects the output of tests that pass.
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[test]
fn every_target_has_a_program_in_the_campaign() {
    let manifest = std::fs::read_to_string(folder("campaign/Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "campaign/Cargo.toml has no program {name}");
    }
    let corpora = std::fs::read_dir(folder("corpus")).unwrap().count();
    assert_eq!(corpora, TARGETS.len(), "a corpus has no target");
}

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder("corpus").join(name)).unwrap().map(|file| file.unwrap());
    let mut corpus: Vec<_> =
        files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect();
    corpus.sort();
    corpus.iter().for_each(|(file, bytes)| assert!(bytes.len() <= INPUT_MAX, "{name}/{file} is too long"));
    corpus
}

fn holds(name: &str, target: fn(&[u8]), input: &str, bytes: &[u8]) {
    let shown = || bytes.escape_ascii().to_string();
    assert!(catch_unwind(AssertUnwindSafe(|| target(bytes))).is_ok(), "{name} panics at {input}: {}", shown());
}

/// With one to four changes that the seed says.
fn changed(bytes: &[u8], seed: u64) -> Vec<u8> {
    // xorshift
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut below = |most: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % most.max(1)
    };
    let mut bytes = bytes.to_vec();
    for _ in 0..below(4) + 1 {
        let at = below(bytes.len() + 1);
        let to = (at + below(12)).min(bytes.len());
        match below(6) {
            0 if at < bytes.len() => bytes[at] = below(256) as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << below(8),
            2 => bytes.insert(at, TELLING[below(TELLING.len())]),
            3 => drop(bytes.drain(at..to)),
            4 => {
                let copied = bytes[at..to].to_vec();
                bytes.splice(at..at, copied);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}
