//! Targets made of the pieces by which rules for paths are evaded.

/// Makes the same targets from the same seed.
pub(crate) struct Generator(fastrand::Rng);

const NAMES: [&str; 18] = [
    "admin",
    "admin",
    "a",
    "pub",
    "%61dmin",
    "adm%69n",
    "%41dmin",
    "admin%20",
    "admin.",
    "admin;x=1",
    "a;b",
    "pub;v=1",
    "admi",
    "adminx",
    "%61",
    "ad%6Din;y",
    "x",
    "%2561dmin",
];
const DOTS: [&str; 22] = [
    "..",
    "..",
    ".",
    "%2e%2e",
    "%2E.",
    ".%2e",
    "%2e",
    "..;",
    "..;x=1",
    ".;",
    "%2e%2e;",
    ";",
    ";x",
    ";/..",
    "...",
    "..%20",
    "%252e%252e",
    ".%00.",
    "%c0%ae%c0%ae",
    "..%3b",
    "..%3B/",
    "..|",
];
const SEPARATORS: [&str; 20] = [
    "/", "/", "/", "/", "/", "/", "//", "\\", "/./", "/;/", "%2f", "%5c", "%252f", "/%2e/", "///", "\\\\", "/;x/",
    "%c0%af", ";/", "/../",
];
const ENDS: [&str; 12] = ["", "", "", "/", "?q=/admin", "?/../admin", "%3f", "%23", ";", "%00", "%", "/."];

// === impl Generator ===

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub(crate) fn target(&mut self) -> String {
        let mut target = (*self.0.choice(&["/", "/", "/", "/", "//", "/\\", "/./", "/;/", "\\"]).unwrap()).to_owned();
        for _ in 0..self.0.usize(1..7) {
            // Of what is refused for certain not too much, or nothing is left to be read.
            let piece = match self.0.u8(..16) {
                0..=8 => NAMES[self.0.usize(..NAMES.len())],
                9..=12 => DOTS[self.0.usize(..15)],
                13 => DOTS[self.0.usize(..DOTS.len())],
                14 => "..",
                _ => "",
            };
            target.push_str(piece);
            let known = if self.0.u8(..8) == 0 { SEPARATORS.len() } else { 10 };
            target.push_str(SEPARATORS[self.0.usize(..known)]);
        }
        if self.0.u8(..4) > 0 {
            target.push_str(NAMES[self.0.usize(..NAMES.len())]);
        }
        let known = if self.0.u8(..6) == 0 { ENDS.len() } else { 6 };
        target.push_str(ENDS[self.0.usize(..known)]);
        target
    }
}
