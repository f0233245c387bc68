//! The certificates of this machine: pairs and bundles of roots in one directory, read when they change.
//!
//! A reference `shop` is `shop.crt` with `shop.key`, or a folder `shop` with `tls.crt` and `tls.key`, as a mounted Secret
//! of Kubernetes has it; a bundle of roots is `shop.ca.crt`, or `ca.crt` in the folder. The control plane names
//! certificates and never sees them: a store, a diff and a backup hold no secret. What was rejected stands in
//! docs/decisions/0012-certificates-from-a-directory.md.
//!
//! files ─ [`Holder::refresh`], once a second ─► checked ─► in force for the next handshake. What cannot be used leaves what
//! was in force, and says so in the log, in `leno_certificate_rejected` and on the admin page.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use leno_model::seam::Timestamp;
use leno_model::snapshot::Name;
use leno_telemetry::Registry;
use leno_telemetry::metric::Kind;

use crate::accept::Counts;
use crate::pair::{Pair, PairError};
use crate::verify::{Bundle, BundleError};

/// Pairs and bundles that are looked after at most.
const WANTED_MAX: usize = 4096;
/// Bytes of one file at most.
const FILE_MAX: u64 = 1024 * 1024;
/// From when on the end of a certificate is spoken of, and how often.
const EXPIRY_WARNING: i64 = 14 * 86_400;
const EXPIRY_WARNING_EVERY: i64 = 86_400;

/// Holds what handshakes need. Read by all workers, written by the control thread.
#[derive(Debug)]
pub struct Holder {
    directory: Option<PathBuf>,
    pairs: ArcSwap<HashMap<Name, Arc<Pair>>>,
    bundles: ArcSwap<HashMap<Name, Arc<Bundle>>>,
    wanted: Mutex<BTreeMap<Wanted, Watched>>,
    pub(crate) counts: Counts,
}

/// What somebody refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Pair(Name),
    Bundle(Name),
}

/// What is known of the files of something wanted.
#[derive(Debug, Default)]
struct Watched {
    seen: Option<Vec<Stamp>>,
    problem: Option<HolderError>,
    /// A certificate and its key are two files: between the two writes they do not fit, so the second look decides.
    doubted: bool,
    warned: i64,
}

/// By what a file is known to be another one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Why something that is wanted is not in force. No variant holds what a file holds.
#[derive(Debug, thiserror::Error)]
enum HolderError {
    #[error("no directory: start the proxy with --certificates DIR")]
    NoDirectory,
    #[error("a name of a certificate is lower-case letters, digits, `-` and `.`")]
    BadName,
    #[error("there is neither {0} nor {1}")]
    Absent(String, String),
    #[error("{path}: {cause}")]
    File { path: String, cause: io::Error },
    #[error("{path} has more than {FILE_MAX} bytes")]
    TooLarge { path: String },
    #[error("{path}: {cause}")]
    Pair { path: String, cause: PairError },
    #[error("{path}: {cause}")]
    Bundle { path: String, cause: BundleError },
}

/// One line of the admin page.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// As resources refer to it.
    pub name: String,
    /// `pair` or `bundle`.
    pub kind: &'static str,
    /// Whether one is in force.
    pub in_force: bool,
    /// The names of the certificate in force.
    pub names: Vec<String>,
    /// When it began to hold, RFC 3339.
    pub not_before: Option<String>,
    /// When it ends to hold, RFC 3339.
    pub not_after: Option<String>,
    /// Why what the files say now is not in force.
    pub problem: Option<String>,
}

// === impl Holder ===

impl Holder {
    /// Holds what `directory` has; without one, whatever is referred to is absent.
    pub fn new(directory: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            directory,
            pairs: ArcSwap::default(),
            bundles: ArcSwap::default(),
            wanted: Mutex::default(),
            counts: Counts::default(),
        })
    }

    /// Reads at once what is wanted for the first time.
    pub(crate) fn want(&self, pairs: &[Name], bundles: &[Name], now: Timestamp) {
        let pairs = pairs.iter().cloned().map(Wanted::Pair);
        let all = pairs.chain(bundles.iter().cloned().map(Wanted::Bundle));
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        for one in all {
            if wanted.len() < WANTED_MAX && !wanted.contains_key(&one) {
                let mut watched = Watched::default();
                self.look(&one, &mut watched, now);
                wanted.insert(one, watched);
            }
        }
    }

    /// Forgets what nobody refers to any more.
    pub fn retain(&self, pairs: &dyn Fn(&str) -> bool, bundles: &dyn Fn(&str) -> bool) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.retain(|one, _| match one {
            Wanted::Pair(name) => pairs(name),
            Wanted::Bundle(name) => bundles(name),
        });
        self.pairs.rcu(|known| retained(known, |name| wanted.contains_key(&Wanted::Pair(name.clone()))));
        self.bundles.rcu(|known| retained(known, |name| wanted.contains_key(&Wanted::Bundle(name.clone()))));
    }

    /// Looks at every file that is wanted and takes in what has changed. To be called about once a second.
    pub fn refresh(&self, now: Timestamp) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        for (one, watched) in wanted.iter_mut() {
            self.look(one, watched, now);
            self.warn_of_expiry(one, watched, seconds(now));
        }
    }

    pub(crate) fn pair(&self, name: &str) -> Option<Arc<Pair>> {
        self.pairs.load().get(name).cloned()
    }

    pub(crate) fn bundle(&self, name: &str) -> Option<Arc<Bundle>> {
        self.bundles.load().get(name).cloned()
    }

    /// Everything that is wanted, as the admin page shows it.
    pub fn statuses(&self) -> Vec<Status> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let status = |(one, watched): (&Wanted, &Watched)| {
            let pair = one.pair().and_then(|name| self.pair(name));
            Status {
                name: one.name().to_string(),
                kind: one.kind(),
                in_force: pair.is_some() || one.bundle().is_some_and(|name| self.bundle(name).is_some()),
                names: pair.iter().flat_map(|pair| pair.names.iter().map(ToString::to_string)).collect(),
                not_before: pair.as_ref().map(|pair| date(pair.validity.not_before)),
                not_after: pair.as_ref().map(|pair| date(pair.validity.not_after)),
                problem: watched.problem.as_ref().map(ToString::to_string),
            }
        };
        wanted.iter().map(status).collect()
    }

    /// Adds what can be counted to a registry.
    pub fn measure(self: &Arc<Self>, metrics: &Registry) {
        let holder = self.clone();
        metrics.collector(move |out| {
            let wanted = holder.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let expiry = "leno_certificate_not_after_seconds";
            out.family(expiry, "When the certificate in force ends to hold, in seconds since 1970.", Kind::Gauge);
            for (name, pair) in holder.pairs.load().iter() {
                out.sample(expiry, &[("certificate", name)], pair.validity.not_after as f64);
            }
            let rejected = "leno_certificate_rejected";
            out.family(rejected, "1 while what stands in the files is not in force.", Kind::Gauge);
            for (one, watched) in wanted.iter() {
                let value = f64::from(u8::from(watched.problem.is_some()));
                out.sample(rejected, &[("certificate", one.name()), ("kind", one.kind())], value);
            }
            holder.counts.expose(out);
        });
    }

    fn look(&self, one: &Wanted, watched: &mut Watched, now: Timestamp) {
        match self.read(one, watched, now) {
            Ok(false) => return,
            Ok(true) => {
                tracing::info!(certificate = %one.name(), kind = one.kind(), "certificate in force");
                watched.problem = None;
            }
            Err(HolderError::Pair { cause: PairError::Mismatch, .. }) if !watched.doubted && self.is_held(one) => {
                watched.doubted = true;
                watched.seen = None;
                return;
            }
            Err(problem) => {
                let (kept, said) = (self.is_held(one), problem.to_string());
                if watched.problem.as_ref().map(ToString::to_string) != Some(said) {
                    tracing::warn!(certificate = %one.name(), kind = one.kind(), error = %problem, kept, "certificate refused");
                }
                watched.problem = Some(problem);
            }
        }
        watched.doubted = false;
    }

    /// Whether something new is in force.
    fn read(&self, one: &Wanted, watched: &mut Watched, now: Timestamp) -> Result<bool, HolderError> {
        let directory = self.directory.as_deref().ok_or(HolderError::NoDirectory)?;
        if !is_name(one.name()) {
            return Err(HolderError::BadName);
        }
        let files = one.files(directory);
        let stamps = files.iter().map(|path| stamp(path)).collect::<Result<Vec<_>, _>>()?;
        if watched.seen.as_ref() == Some(&stamps) {
            return Ok(false);
        }
        let contents = files.iter().map(|path| contents(path)).collect::<Result<Vec<_>, _>>()?;
        watched.seen = Some(stamps);
        let path = || files[0].display().to_string();
        match one {
            Wanted::Pair(name) => {
                let pair = Pair::read(&contents[0], &contents[1], seconds(now));
                let pair = Arc::new(pair.map_err(|cause| HolderError::Pair { path: path(), cause })?);
                self.pairs.rcu(|known| with(known, name, &pair));
            }
            Wanted::Bundle(name) => {
                let bundle = Bundle::read(&contents[0]);
                let bundle = Arc::new(bundle.map_err(|cause| HolderError::Bundle { path: path(), cause })?);
                self.bundles.rcu(|known| with(known, name, &bundle));
            }
        }
        Ok(true)
    }

    fn is_held(&self, one: &Wanted) -> bool {
        match one {
            Wanted::Pair(name) => self.pair(name).is_some(),
            Wanted::Bundle(name) => self.bundle(name).is_some(),
        }
    }

    fn warn_of_expiry(&self, one: &Wanted, watched: &mut Watched, now: i64) {
        let Some(pair) = one.pair().and_then(|name| self.pair(name)) else { return };
        let until = pair.validity.not_after;
        if until - now < EXPIRY_WARNING && now - watched.warned >= EXPIRY_WARNING_EVERY {
            watched.warned = now;
            tracing::warn!(certificate = %one.name(), not_after = %date(until), "certificate ends soon: put a new pair in its place");
        }
    }
}

fn with<T>(known: &HashMap<Name, Arc<T>>, name: &Name, value: &Arc<T>) -> HashMap<Name, Arc<T>> {
    let mut all = known.clone();
    all.insert(name.clone(), value.clone());
    all
}

fn retained<T>(known: &HashMap<Name, Arc<T>>, keep: impl Fn(&Name) -> bool) -> HashMap<Name, Arc<T>> {
    known.iter().filter(|(name, _)| keep(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

// === impl Wanted ===

impl Wanted {
    fn name(&self) -> &Name {
        match self {
            Self::Pair(name) | Self::Bundle(name) => name,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Pair(_) => "pair",
            Self::Bundle(_) => "bundle",
        }
    }

    fn pair(&self) -> Option<&Name> {
        if let Self::Pair(name) = self { Some(name) } else { None }
    }

    fn bundle(&self) -> Option<&Name> {
        if let Self::Bundle(name) = self { Some(name) } else { None }
    }

    /// The folder's files where there is a folder, else those beside it.
    fn files(&self, directory: &Path) -> Vec<PathBuf> {
        let folder = directory.join(&**self.name());
        let is_folder = folder.is_dir();
        let beside = |end: &str| directory.join(format!("{}{end}", self.name()));
        match self {
            Self::Pair(_) if is_folder => vec![folder.join("tls.crt"), folder.join("tls.key")],
            Self::Pair(_) => vec![beside(".crt"), beside(".key")],
            Self::Bundle(_) if is_folder => vec![folder.join("ca.crt")],
            Self::Bundle(_) => vec![beside(".ca.crt")],
        }
    }
}

/// Names are those of resources, which lead to no other folder; the control plane checks it too.
fn is_name(name: &str) -> bool {
    let is_of_names = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    name.len() <= 253 && name.bytes().all(is_of_names) && name.bytes().next().is_some_and(|byte| byte != b'.')
}

fn stamp(path: &Path) -> Result<Stamp, HolderError> {
    let found = fs::metadata(path).map_err(|cause| unread(path, cause))?;
    Ok(Stamp {
        inode: found.ino(),
        length: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

fn contents(path: &Path) -> Result<Vec<u8>, HolderError> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|cause| unread(path, cause))?;
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|cause| unread(path, cause))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(HolderError::TooLarge { path: path.display().to_string() });
    }
    Ok(bytes)
}

fn unread(path: &Path, cause: io::Error) -> HolderError {
    if cause.kind() == io::ErrorKind::NotFound {
        let folder = path.with_extension("").with_extension("");
        return HolderError::Absent(path.display().to_string(), format!("a folder {}", folder.display()));
    }
    HolderError::File { path: path.display().to_string(), cause }
}

fn seconds(now: Timestamp) -> i64 {
    (now.0 / 1000) as i64
}

/// A day and time for people.
pub(crate) fn date(seconds: i64) -> String {
    Timestamp(u64::try_from(seconds).unwrap_or_default().saturating_mul(1000)).rfc3339()
}

#[cfg(test)]
mod tests;
