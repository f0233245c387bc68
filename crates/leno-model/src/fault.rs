//! What is wrong with a resource, where, and how to mend it.
//!
//! A fault points at the line and column of the file as it was written, and names the field by its path. Every one
//! carries the fix: a fault that a reader cannot act on is a bug of ours. All faults of a set are reported together.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Whether a fault keeps the set from being applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The set is refused.
    Error,
    /// The set applies; the status of the resource says the same.
    Warning,
}

macro_rules! fault_classes {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What kind of mistake a fault is. Stable: scripts may match on its kebab-case form.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum FaultClass {
            $($(#[$doc])* $name,)*
        }

        impl FaultClass {
            /// All classes, in the order of the reference.
            pub const ALL: &'static [FaultClass] = &[$(FaultClass::$name,)*];
        }
    };
}

fault_classes! {
    /// A field that a kind of proxy does not honour, where somebody asks for that kind.
    NotHonoured,
    /// The file is not UTF-8 text.
    Encoding,
    /// The text is longer than a set of resources may be.
    TooLarge,
    /// Mappings and lists are nested too deeply.
    TooDeep,
    /// A document has too many values.
    TooManyNodes,
    /// The text is not YAML or JSON.
    Syntax,
    /// An anchor, an alias or a merge key.
    Anchor,
    /// A tag such as `!include`.
    Tag,
    /// A key stands twice in one mapping.
    DuplicateKey,
    /// A key of a mapping is not a plain string.
    KeyNotText,
    /// A document is not a mapping.
    NotAResource,
    /// A required field is absent.
    MissingField,
    /// A field that the kind does not have.
    UnknownField,
    /// A field of Kubernetes' own book-keeping, which leno leaves aside.
    ForeignField,
    /// A kind that leno does not have.
    UnknownKind,
    /// The kind is known, its `apiVersion` is another one.
    WrongApiVersion,
    /// A value of another type than the field has.
    WrongType,
    /// A value that is not one of those that the field allows.
    UnknownValue,
    /// A number outside its range.
    OutOfRange,
    /// Text that is not a duration.
    InvalidDuration,
    /// Text that is not a moment.
    InvalidMoment,
    /// A name that is not a DNS name.
    InvalidName,
    /// A namespace that is not a DNS label.
    InvalidNamespace,
    /// A label or annotation that cannot be one.
    InvalidLabel,
    /// One resource stands twice in a set.
    DuplicateResource,
    /// A list without entries where one is needed.
    Empty,
    /// A list with more entries than it may have.
    TooMany,
    /// Two sections, rules or ports of one name.
    DuplicateName,
    /// Two ports of one number.
    DuplicatePort,
    /// The same parent or target twice.
    DuplicateReference,
    /// A reference to a kind that cannot stand there.
    UnsupportedReference,
    /// A service that nobody declared or registered yet.
    UnknownService,
    /// A gateway that nobody declared yet.
    UnknownGateway,
    /// A route that nobody declared yet.
    UnknownRoute,
    /// A switch that nobody declared yet.
    UnknownSwitch,
    /// A section that the parent does not have.
    UnknownSection,
    /// A port that the service or gateway does not have.
    UnknownPort,
    /// A service with several ports, and the reference names none.
    MissingPort,
    /// A reference into another namespace that is not allowed.
    CrossNamespace,
    /// A backend version that is not written `name@version`.
    InvalidVersion,
    /// No backend takes any share.
    ZeroWeights,
    /// A redirect, and backends that would never be asked.
    RedirectWithBackends,
    /// A redirect and a rewrite in one rule.
    RedirectWithRewrite,
    /// A filter that may stand once stands twice.
    RepeatedFilter,
    /// A filter or match whose `type` and body do not belong together.
    FilterMismatch,
    /// A filter that leno does not have.
    UnsupportedFilter,
    /// `ReplacePrefixMatch` where the rule matches no prefix.
    PrefixWithoutMatch,
    /// A regular expression that does not compile.
    InvalidRegex,
    /// An expression of CEL that cannot be read, or costs too much.
    InvalidExpression,
    /// A path that no request can have.
    InvalidPath,
    /// A header name that no request can have.
    InvalidHeaderName,
    /// A header value that no request can have.
    InvalidHeaderValue,
    /// One header named twice.
    RepeatedHeader,
    /// A header that belongs to the connection, or to leno itself.
    ReservedHeader,
    /// A query parameter without a name.
    InvalidQueryName,
    /// One query parameter named twice.
    RepeatedQuery,
    /// A method that no request can have.
    InvalidMethod,
    /// A gRPC service or method name that cannot be one.
    InvalidGrpcName,
    /// A status that cannot stand there.
    InvalidStatus,
    /// A host name that cannot be one.
    InvalidHostname,
    /// Hostnames on a route whose parents are services, where they mean nothing.
    IgnoredHostnames,
    /// Host names that no listener of the parent takes.
    HostnameMismatch,
    /// A setting that what a port speaks has no place for.
    ProtocolMismatch,
    /// One try may take longer than the whole request.
    TimeoutOrder,
    /// A share of mirrored requests that is more than all, or said twice.
    InvalidShare,
    /// An origin that cannot be one.
    InvalidOrigin,
    /// A cookie that cannot be one.
    InvalidCookie,
    /// A setting that has no effect because of another one.
    UnusedField,
    /// Two rules that match the same requests of one parent.
    DuplicateMatch,
    /// Two listeners of a gateway that would take the same connections.
    ListenerConflict,
    /// Something that is part of the Gateway API and that leno does not serve yet.
    NotServed,
    /// An address that is no IP address.
    InvalidAddress,
    /// Two policies for one target.
    PolicyConflict,
    /// A switch for what is labelled as protected.
    Protected,
    /// Something that leads back to where it began.
    Circle,
    /// A resource that belongs to another set.
    Owned,
    /// The resource was changed by somebody else in between.
    Conflict,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Whether the set is refused for it.
    pub severity: Severity,
    /// What kind of mistake it is.
    pub class: FaultClass,
    /// The file, as it was named by whoever gave it; `-` for standard input.
    pub file: Arc<str>,
    /// The line, from 1; 0 where the fault is about the whole file.
    pub line: u32,
    /// The column in characters, from 1; 0 where the fault is about the whole file.
    pub column: u32,
    /// The field: `spec.rules[0].backendRefs[1].weight`; empty for the whole document.
    pub path: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

/// Whether any of `faults` refuses the set.
pub fn refuses(faults: &[Fault]) -> bool {
    faults.iter().any(|fault| fault.severity == Severity::Error)
}

/// Puts faults in the order of reading: by file, line and column.
pub fn sort(faults: &mut [Fault]) {
    faults.sort_by(|a, b| (&a.file, a.line, a.column, &a.path).cmp(&(&b.file, b.line, b.column, &b.path)));
}

/// The candidate closest to `word`, if one is close enough to be what was meant.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Far enough for two slips in a word of usual length, near enough that `foo` does not become `from`.
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

// === impl Fault ===

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {} ({})", self.message, self.fix)
    }
}

// === impl FaultClass ===

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for c in format!("{self:?}").chars() {
            if c.is_ascii_uppercase() && !first {
                f.write_str("-")?;
            }
            write!(f, "{}", c.to_ascii_lowercase())?;
            first = false;
        }
        Ok(())
    }
}

/// Edits that make `a` into `b`: insertions, deletions, changes and swaps of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_one_line() {
        let fault = Fault {
            severity: Severity::Error,
            class: FaultClass::UnknownField,
            file: "cart.yaml".into(),
            line: 12,
            column: 7,
            path: "spec.rules[0].backendRefs[1].weigth".into(),
            message: "unknown field `weigth`".into(),
            fix: "did you mean `weight`?".into(),
        };
        let line =
            "cart.yaml:12:7: spec.rules[0].backendRefs[1].weigth: unknown field `weigth` (did you mean `weight`?)";
        assert_eq!(fault.to_string(), line);
        assert_eq!(fault.class.to_string(), "unknown-field");
    }

    #[test]
    fn the_closest_word_is_found_when_it_is_close() {
        assert_eq!(closest("weigth", ["name", "weight", "port"]), Some("weight"));
        assert_eq!(closest("httproute", ["HTTPRoute", "TCPRoute"]), Some("HTTPRoute"));
        assert_eq!(closest("zebra", ["name", "weight", "port"]), None);
    }
}
