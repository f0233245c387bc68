//! Canonical paths.

use leno_model::path::{EscapedSlashes, canonical, without_parameters};

/// A target in its canonical spelling: it has one, nothing in it can be read in a second way, and its query is as it came.
pub(crate) fn canonical_path(bytes: &[u8]) {
    for slashes in [EscapedSlashes::Refuse, EscapedSlashes::Keep] {
        let Ok(spelt) = canonical(bytes, slashes) else { continue };
        // Of a query it knows nothing; the reader of heads takes visible ASCII only.
        let Ok(came) = std::str::from_utf8(bytes) else { continue };
        let text = spelt.unwrap_or_else(|| came.to_owned());
        assert_eq!(canonical(text.as_bytes(), slashes), Ok(None), "{text:?} has a second spelling");
        let (path, query) = text.split_once('?').map_or((&*text, None), |(path, query)| (path, Some(query)));
        assert_eq!(query, came.split_once('?').map(|(_, query)| query), "the query of {text:?}");
        assert!(path.starts_with('/') && !path.contains("//") && !path.contains('\\'), "{path:?}");
        for segment in path.split('/') {
            let name = segment.split(';').next().unwrap_or_default().replace("%2E", ".").replace("%2e", ".");
            assert!(name != "." && name != "..", "{path:?}");
        }
        let lower = path.to_ascii_lowercase();
        let escaped = slashes == EscapedSlashes::Keep || !(lower.contains("%2f") || lower.contains("%5c"));
        assert!(escaped && !lower.contains("%00"), "{path:?}");
        if let Some(bare) = without_parameters(path) {
            assert!(bare.starts_with('/') && !bare.contains(';') && !bare.contains("//"), "{bare:?} of {path:?}");
            assert_eq!(without_parameters(&bare), None);
        }
    }
}
