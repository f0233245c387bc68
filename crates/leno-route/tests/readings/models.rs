//! How servers read the path of a target: each as pure code, the most lenient of its usual settings. A reading is the path
//! by which the server chooses what answers; none, where it refuses.

pub(crate) type Reading = Option<Vec<u8>>;
pub(crate) type Model = fn(&[u8]) -> Reading;

/// Every server.
pub(crate) const MODELS: [(&str, Model); 9] = [
    ("nginx", nginx),
    ("apache", apache),
    ("lighttpd", lighttpd),
    ("tomcat", tomcat),
    ("jetty", jetty),
    ("jetty that merges slashes", jetty_compact),
    ("node", node),
    ("go", go),
    ("werkzeug", werkzeug),
];

/// Readings that are known of each: server, target, path.
pub(crate) const KNOWN: &[(&str, &str, Option<&str>)] = &[
    ("nginx", "/pub/%2e%2e//admin", Some("/admin")),
    ("nginx", "/pub%2f..%2fadmin", Some("/admin")),
    ("nginx", "/../admin", None),
    ("nginx", "/a%00", None),
    ("nginx", "/admin;x/y", Some("/admin;x/y")),
    ("nginx", "/a?/../admin", Some("/a")),
    ("apache", "/pub/%2e%2e/admin", Some("/admin")),
    ("apache", "/pub%2fadmin", None),
    ("apache", "/a//b", Some("/a/b")),
    ("apache", "/../admin", None),
    ("lighttpd", "/pub%2f..%2fadmin", Some("/admin")),
    ("lighttpd", "/../admin", Some("/admin")),
    ("lighttpd", "/admin/%", Some("/admin/%")),
    ("tomcat", "/admin;x/y", Some("/admin/y")),
    ("tomcat", "/pub/..;/admin", Some("/admin")),
    ("tomcat", "/;/admin", Some("/admin")),
    ("tomcat", "/pub%5c..%5cadmin", None),
    ("tomcat", "/admin%3bx", Some("/admin;x")),
    ("jetty", "/pub/..;/admin", Some("/admin")),
    ("jetty", "//admin", Some("//admin")),
    ("jetty that merges slashes", "//admin", Some("/admin")),
    ("node", "/pub\\..\\admin", Some("/admin")),
    ("node", "/pub/%2e%2e/admin", Some("/admin")),
    ("node", "//x/admin", Some("/admin")),
    ("go", "/pub%2f..%2fadmin", Some("/admin")),
    ("go", "/../admin", Some("/admin")),
    ("werkzeug", "//admin", Some("/admin")),
    ("werkzeug", "/%61dmin", Some("/admin")),
    ("werkzeug", "/%61dmin/%zz", Some("/admin/%zz")),
    ("werkzeug", "/pub/../admin", Some("/pub/../admin")),
];

/// Whether a reading is the prefix or below it.
pub(crate) fn is_inside(reading: Reading, prefix: &str) -> bool {
    let Some(path) = reading else { return false };
    let rest = path.strip_prefix(prefix.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// `ngx_http_parse_complex_uri`: what is decoded counts as if it had been sent; slashes merged.
fn nginx(target: &[u8]) -> Reading {
    let decoded = decode(path_of(target)?, |_| true)?;
    if decoded.contains(&0) {
        return None;
    }
    follow_dots(&merge_slashes(&decoded), Above::Refuse)
}

/// `ap_normalize_path`, then `ap_unescape_url` with `AllowEncodedSlashes Off`.
fn apache(target: &[u8]) -> Reading {
    let normal = decode(path_of(target)?, |b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))?;
    let normal = follow_dots(&merge_slashes(&normal), Above::Refuse)?;
    if has_escape(&normal, b'/') || has_escape(&normal, 0) {
        return None;
    }
    decode(&normal, |_| true)
}

/// `burl_normalize` with its default options (`%2F` decoded, dot segments removed), then decoded and simplified.
fn lighttpd(target: &[u8]) -> Reading {
    let decoded = decode_what_is_well_formed(path_of(target)?);
    if decoded.iter().any(u8::is_ascii_control) {
        return None;
    }
    follow_dots(&merge_slashes(&decoded), Above::Stay)
}

/// `CoyoteAdapter`: parameters off, decoded, `%2F` and backslashes refused, normalised.
fn tomcat(target: &[u8]) -> Reading {
    let bare = without_parameters(path_of(target)?);
    if has_escape(&bare, b'/') {
        return None;
    }
    let decoded = decode(&bare, |_| true)?;
    if decoded.iter().any(|b| matches!(b, 0 | b'\\')) {
        return None;
    }
    follow_dots(&merge_slashes(&decoded), Above::Refuse)
}

/// `URIUtil.decodePath` and `canonicalPath` of versions that refuse nothing ambiguous.
fn jetty(target: &[u8]) -> Reading {
    let decoded = decode(&without_parameters(path_of(target)?), |_| true)?;
    if decoded.contains(&0) {
        return None;
    }
    follow_dots(&decoded, Above::Refuse)
}

/// The same with `compactPath`.
fn jetty_compact(target: &[u8]) -> Reading {
    let decoded = decode(&without_parameters(path_of(target)?), |_| true)?;
    if decoded.contains(&0) {
        return None;
    }
    follow_dots(&merge_slashes(&decoded), Above::Refuse)
}

/// `new URL(request.url, base).pathname`, then `decodeURIComponent`.
fn node(target: &[u8]) -> Reading {
    let swapped: Vec<u8> = path_of(target)?.iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect();
    // What begins with two slashes names a host.
    let path = match swapped.strip_prefix(b"//") {
        Some(rest) => rest.iter().position(|b| *b == b'/').map_or(&b"/"[..], |at| &rest[at..]).to_vec(),
        None => swapped,
    };
    let dots = |segment: &[u8]| {
        let lower = segment.to_ascii_lowercase();
        match &lower[..] {
            b"." | b"%2e" => 1,
            b".." | b".%2e" | b"%2e." | b"%2e%2e" => 2,
            _ => 0,
        }
    };
    let segments: Vec<&[u8]> = path.split(|b| *b == b'/').skip(1).collect();
    let mut kept: Vec<&[u8]> = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let last = number + 1 == segments.len();
        match dots(segment) {
            0 => kept.push(segment),
            count => {
                if count == 2 {
                    kept.pop();
                }
                if last {
                    kept.push(b"");
                }
            }
        }
    }
    decode(&[b"/", &kept.join(&b'/')[..]].concat(), |_| true)
}

/// `url.ParseRequestURI`, then `path.Clean` as `ServeMux` and `FileServer` do.
fn go(target: &[u8]) -> Reading {
    let decoded = decode(path_of(target)?, |_| true)?;
    follow_dots(&merge_slashes(&decoded), Above::Stay)
}

/// `PATH_INFO` decoded; the map merges slashes and knows no dots.
fn werkzeug(target: &[u8]) -> Reading {
    Some(merge_slashes(&decode_what_is_well_formed(path_of(target)?)))
}

// === what they have in common ===

#[derive(Clone, Copy, PartialEq, Eq)]
enum Above {
    Refuse,
    /// The root's parent is the root.
    Stay,
}

fn path_of(target: &[u8]) -> Option<&[u8]> {
    let path = target.split(|b| *b == b'?').next()?;
    matches!(path.first(), Some(b'/' | b'\\')).then_some(path)
}

/// Decodes once the escapes of bytes that are `wanted`; none where an escape is malformed.
fn decode(path: &[u8], wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    let (mut decoded, mut at) = (Vec::with_capacity(path.len()), 0);
    while let Some(byte) = path.get(at) {
        if *byte != b'%' {
            decoded.push(*byte);
            at += 1;
            continue;
        }
        let value = escaped(path, at)?;
        if wanted(value) {
            decoded.push(value);
        } else {
            decoded.extend_from_slice(&path[at..at + 3]);
        }
        at += 3;
    }
    Some(decoded)
}

/// Decodes once; what is no escape stays as it is.
fn decode_what_is_well_formed(path: &[u8]) -> Vec<u8> {
    let (mut decoded, mut at) = (Vec::with_capacity(path.len()), 0);
    while let Some(byte) = path.get(at) {
        let value = if *byte == b'%' { escaped(path, at) } else { None };
        decoded.push(value.unwrap_or(*byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    decoded
}

fn escaped(path: &[u8], at: usize) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let value = digit(*path.get(at + 1)?)? * 16 + digit(*path.get(at + 2)?)?;
    Some(value as u8)
}

fn has_escape(path: &[u8], byte: u8) -> bool {
    (0..path.len()).any(|at| path[at] == b'%' && escaped(path, at) == Some(byte))
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut merged: Vec<u8> = Vec::with_capacity(path.len());
    for byte in path {
        if *byte != b'/' || merged.last() != Some(&b'/') {
            merged.push(*byte);
        }
    }
    merged
}

/// Follows `.` and `..`; an empty segment is one.
fn follow_dots(path: &[u8], above: Above) -> Reading {
    let segments: Vec<&[u8]> = path.split(|b| *b == b'/').skip(1).collect();
    let mut kept: Vec<&[u8]> = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let last = number + 1 == segments.len();
        match *segment {
            b"." => {}
            b".." if kept.pop().is_none() && above == Above::Refuse => return None,
            b".." => {}
            segment => {
                kept.push(segment);
                continue;
            }
        }
        if last {
            kept.push(b"");
        }
    }
    Some([b"/", &kept.join(&b'/')[..]].concat())
}

fn without_parameters(path: &[u8]) -> Vec<u8> {
    let names: Vec<&[u8]> =
        path.split(|b| *b == b'/').map(|segment| segment.split(|b| *b == b';').next().unwrap_or_default()).collect();
    names.join(&b'/')
}
