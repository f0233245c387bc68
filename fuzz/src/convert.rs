//! Conversion: rules and settings of other products to resources.

use leno_convert::{Options, convert};
use leno_model::document;
use leno_model::fault::Severity;
use leno_model::validate::{Nothing, validate};

/// A file of another product, as JSON, YAML and properties: what is lost has its reason and what to do, and what is written is
/// read again without a fault.
pub(crate) fn convert_file(bytes: &[u8]) {
    let options = Options { service: "orders.shop".parse().ok(), ..Options::default() };
    for file in ["rules.json", "application.properties"] {
        let converted = convert([(file, bytes)], &options);
        for fault in converted.lost.iter().chain(&converted.faults) {
            assert!(!fault.fix.is_empty() && !fault.message.is_empty(), "{fault}");
        }
        let parsed = document::parse("written.yaml", &converted.text);
        let mut faults = parsed.faults;
        faults.extend(validate(&parsed.resources, &Nothing));
        assert!(faults.iter().all(|fault| fault.severity != Severity::Error), "{}{faults:?}", converted.text);
        assert_eq!(parsed.resources.len(), converted.resources, "{}", converted.text);
    }
}
