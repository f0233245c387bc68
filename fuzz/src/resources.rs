//! Resources: from YAML or JSON to a set without faults.

use leno_model::document;
use leno_model::fault::Severity;
use leno_model::validate::{Nothing, validate};

/// A file of resources: every fault points into it and says what to do, and a set without faults is one however it is
/// written.
pub(crate) fn resources(bytes: &[u8]) {
    let parsed = document::parse_bytes("input.yaml", bytes);
    let mut faults = validate(&parsed.resources, &Nothing);
    faults.extend(parsed.faults);
    let lines = bytes.iter().filter(|b| matches!(b, b'\n' | b'\r')).count() as u32 + 1;
    for fault in &faults {
        assert!(fault.line <= lines + 1, "{fault} points behind the end, which is line {lines}");
        assert!(!fault.fix.is_empty() && !fault.message.is_empty(), "{fault}");
    }
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return;
    }
    for written in &parsed.resources {
        let text = document::to_yaml(&written.value);
        let again = document::parse("again.yaml", &text);
        assert!(again.faults.iter().all(|fault| fault.severity != Severity::Error), "{text}{:?}", again.faults);
        assert_eq!(again.resources.len(), 1, "{text}");
        assert_eq!(again.resources[0].resource, written.resource, "{text}");
    }
}
