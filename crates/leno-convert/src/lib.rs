//! Rules and settings of other products, as they export them, made into resources.
//!
//! ```text
//! text ─ read ─► nodes with their places ─ sentinel | resilience4j | hystrix | ribbon ─► policies ─► YAML
//!                                                          └────────── what is not carried over ──┘
//! ```
//!
//! Pure: bytes and [`Options`] in, [`Converted`] out. What comes out has been read and validated as any resource is; a part that
//! leno would refuse is taken out again and said. Nothing is left aside in silence: what has no field here, or means something
//! else here, is a warning with its place, its reason and what to do, and stands as a comment at the resource as well.
//!
//! Rejected: to guess. A rule of one path becomes no breaker of a whole service, and a name in the code of an application no
//! service, unless somebody says so ([`Options::mapped`]).

mod node;
mod policies;
mod properties;
mod resource;

mod hystrix;
mod resilience4j;
mod ribbon;
mod sentinel;

use std::collections::BTreeSet;

use leno_model::fault::{Fault, FaultClass, Severity};

pub use self::resource::{Mapped, Options, Parameter};

use self::node::{Node, Source};
use self::policies::Policies;

/// What files came to.
#[derive(Debug, Clone, Default)]
pub struct Converted {
    /// The resources as YAML, with comments on where each comes from and what is not carried over; empty where there are none.
    pub text: String,
    /// How many resources those are.
    pub resources: usize,
    /// What was not carried over.
    pub lost: Vec<Fault>,
    /// Why files could not be read; nothing was converted then.
    pub faults: Vec<Fault>,
}

/// Makes resources of files, which faults call by their names.
pub fn convert<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>, options: &Options) -> Converted {
    let (mut sources, mut faults) = (Vec::new(), Vec::new());
    for (file, bytes) in files {
        sources.extend(node::read(file, bytes, &mut faults));
    }
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return Converted { faults, ..Converted::default() };
    }
    faults.extend(options.unused(&sources));
    let (mut policies, mut with_some) = (Policies::default(), BTreeSet::new());
    for source in &sources {
        if take(source, options, &mut policies) {
            with_some.insert(&*source.file);
        }
    }
    // A document of a file may be about something else, but not all of them.
    let without = sources.iter().filter(|source| !with_some.contains(&*source.file));
    faults.extend(without.map(|source| nothing_in(&source.root)));
    if !faults.is_empty() {
        return Converted { faults, ..Converted::default() };
    }
    policies.finish()
}

/// Whether there was anything to convert.
fn take(source: &Source, options: &Options, policies: &mut Policies) -> bool {
    let root = &source.root;
    if let Some(rules) = sentinel::rules(root) {
        sentinel::convert(source, rules, options, policies);
        return true;
    }
    if let Some(profile) = node::profile(root) {
        policies.lose(profile.lost(
            "a document for one profile",
            "convert it as a file of its own, without the line that names the profile",
        ));
        return true;
    }
    let mut found = sentinel::embedded(source, options, policies);
    if let Some(settings) = root.kid("resilience4j") {
        resilience4j::convert(settings, options, policies);
        found = true;
    }
    if let Some(settings) = root.kid("hystrix") {
        hystrix::convert(settings, options, policies);
        found = true;
    }
    ribbon::convert(root, options, policies) || found
}

fn nothing_in(root: &Node) -> Fault {
    Fault {
        severity: Severity::Error,
        class: FaultClass::NotAResource,
        ..root.lost(
            "nothing of Sentinel, Resilience4j, Hystrix or Ribbon stands in it",
            "name a file with an array of Sentinel's rules, or with settings below `resilience4j`, `hystrix` or `NAME.ribbon`",
        )
    }
}
