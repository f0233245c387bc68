//! What texts in resources may look like: names, hosts, headers, methods, paths, origins, regular expressions.

use regex::bytes::RegexBuilder;

use super::Check;
use crate::fault::FaultClass;
use crate::name;

/// The largest compiled regular expression, as `leno-route` has it; a test of `leno-control` holds the two together.
const REGEX_BYTES_MAX: usize = 64 * 1024;

/// The longest regular expression.
const REGEX_TEXT_MAX: usize = 4096;

/// A DNS label, as namespaces and services have it.
pub(super) fn label(check: &mut Check<'_, '_>, class: FaultClass, path: &str, text: &str) -> bool {
    if name::check_label(text).is_ok() {
        return true;
    }
    check.error(class, path, format!("{text:?} is not a DNS label"), suggest_label(text));
    false
}

/// A DNS name of one or more labels, as the Gateway API's resources have it.
pub(super) fn subdomain(check: &mut Check<'_, '_>, path: &str, text: &str) {
    let ok = text.len() <= 253 && text.split('.').all(|label| name::check_label(label).is_ok());
    if !ok {
        check.error(FaultClass::InvalidName, path, format!("{text:?} is not a DNS name"), suggest_label(text));
    }
}

fn suggest_label(text: &str) -> String {
    const RULE: &str = "use 1 to 63 lower-case letters, digits and inner hyphens";
    let lower: String =
        text.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let lower = lower.trim_matches('-');
    if !lower.is_empty() && name::check_label(lower).is_ok() {
        format!("write `{lower}`: {RULE}")
    } else {
        RULE.to_owned()
    }
}

/// A host name; with `wildcard` also `*.example.com`.
pub(super) fn hostname(check: &mut Check<'_, '_>, path: &str, text: &str, wildcard: bool) {
    let host = text.strip_prefix("*.").filter(|_| wildcard).unwrap_or(text);
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    let ok = host.len() <= 253 && host.split('.').all(|label| name::check_label(label).is_ok());
    if ok && !is_address {
        return;
    }
    let fix = if is_address {
        "write a host name: addresses are not matched".to_owned()
    } else if text.contains(':') {
        "remove the port: write it in the listener or in `port`".to_owned()
    } else if text.contains('*') && !wildcard {
        "write one host name: a wildcard cannot stand here".to_owned()
    } else if text.contains('*') {
        "a wildcard is the whole first label: write `*.example.com`".to_owned()
    } else if text.chars().any(|c| c.is_ascii_uppercase()) {
        format!("write `{}`", text.to_ascii_lowercase())
    } else {
        "write a host name such as `shop.example.com`".to_owned()
    };
    check.error(FaultClass::InvalidHostname, path, format!("{text:?} is not a host name"), fix);
}

/// A token of HTTP (RFC 9110, section 5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

pub(super) fn header_name(check: &mut Check<'_, '_>, path: &str, text: &str) {
    if !is_token(text) || text.len() > 256 {
        let fix = if text.starts_with(':') {
            "pseudo-headers cannot be used: match `path` and `method`, or rewrite the `hostname`"
        } else {
            "use letters, digits and hyphens, as `x-user`"
        };
        check.error(FaultClass::InvalidHeaderName, path, format!("{text:?} is not a header name"), fix);
    }
}

pub(super) fn header_value(check: &mut Check<'_, '_>, path: &str, text: &str) {
    let ok = text.bytes().all(|b| b == b'\t' || (b >= 0x20 && b != 0x7f));
    if !ok {
        let fix = "remove line breaks and control characters";
        check.error(FaultClass::InvalidHeaderValue, path, "a header value cannot hold control characters", fix);
    } else if text.len() > 4096 {
        let message = format!("{} characters, a header value has at most 4096", text.len());
        check.error(FaultClass::InvalidHeaderValue, path, message, "shorten it");
    }
}

pub(super) fn method(check: &mut Check<'_, '_>, path: &str, text: &str) {
    if !is_token(text) {
        let fix = "write a method such as `GET`";
        check.error(FaultClass::InvalidMethod, path, format!("{text:?} is not a method"), fix);
    } else if text.bytes().any(|b| b.is_ascii_lowercase()) {
        let message = format!("methods are case-sensitive, no request has `{text}`");
        check.error(FaultClass::InvalidMethod, path, message, format!("write `{}`", text.to_ascii_uppercase()));
    }
}

/// A path that requests can have: begins with `/`, and has been normalised.
pub(super) fn path(check: &mut Check<'_, '_>, at: &str, text: &str) {
    let fault = if !text.starts_with('/') {
        Some(("does not begin with `/`", format!("write `/{text}`")))
    } else if text.len() > 1024 {
        Some(("is longer than 1024 characters", "shorten it, or match a prefix".to_owned()))
    } else if text.contains("//") || text.split('/').any(|segment| segment == "." || segment == "..") {
        Some((
            "has empty or dot segments, which no request has after normalisation",
            "remove `//`, `/.` and `/..`".to_owned(),
        ))
    } else if text.contains('?') || text.contains('#') {
        Some(("holds more than a path", "match the query with `queryParams`".to_owned()))
    } else if text.to_ascii_lowercase().contains("%2f") {
        Some(("holds an escaped slash", "write `/`, or match a prefix before it".to_owned()))
    } else if !is_path_text(text) {
        Some(("holds a character that a path cannot have", "escape it as %XX".to_owned()))
    } else {
        None
    };
    if let Some((what, fix)) = fault {
        check.error(FaultClass::InvalidPath, at, format!("{text:?} {what}"), fix);
    }
}

fn is_path_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    (0..bytes.len()).all(|i| match bytes[i] {
        b'%' => bytes.len() > i + 2 && bytes[i + 1].is_ascii_hexdigit() && bytes[i + 2].is_ascii_hexdigit(),
        b => b.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&b),
    })
}

pub(super) fn regex(check: &mut Check<'_, '_>, path: &str, text: &str) {
    // First alone, so that `a)(b` is not completed by the parentheses around it.
    let result = compile(text).and_then(|()| compile(&format!(r"\A(?:{text})\z")));
    let message = match result {
        Ok(()) if text.is_empty() => "an empty regular expression".to_owned(),
        Ok(()) if text.len() > REGEX_TEXT_MAX => {
            format!("a regular expression of {} bytes, at most {REGEX_TEXT_MAX} are allowed", text.len())
        }
        Ok(()) => return,
        Err(regex::Error::CompiledTooBig(_)) => "a regular expression that becomes too large".to_owned(),
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("not a regular expression: {reason}")
        }
    };
    let fix = if text.contains("(?=") || text.contains("(?!") || text.contains("(?<") {
        "RE2 syntax has no look-around: write two rules"
    } else {
        "write it in RE2 syntax; `\\` escapes what is meant literally"
    };
    check.error(FaultClass::InvalidRegex, path, message, fix);
}

/// Compiles as the proxies will: on bytes, without Unicode, small.
fn compile(text: &str) -> Result<(), regex::Error> {
    let mut builder = RegexBuilder::new(text);
    builder.unicode(false).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build().map(drop)
}

/// An origin of CORS: `*`, or scheme, host with wildcards, and port.
pub(super) fn origin(check: &mut Check<'_, '_>, path: &str, text: &str) {
    let ok = text == "*"
        || text.split_once("://").is_some_and(|(scheme, rest)| {
            let (host, port) = rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
            let label = |l: &str| l == "*" || name::check_label(&l.to_ascii_lowercase()).is_ok();
            let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            let port_ok = port.is_none_or(|port| port == "*" || port.parse::<u16>().is_ok_and(|port| port > 0));
            scheme_ok && port_ok && host.split('.').all(label)
        });
    if !ok {
        let fix = "write `https://example.com`, with `*` for labels of the host, or `*` alone; no path";
        check.error(FaultClass::InvalidOrigin, path, format!("{text:?} is not an origin"), fix);
    }
}

/// A gRPC service, `shop.v1.Cart`, or with `dots` false a method, `AddItem`.
pub(super) fn grpc_name(check: &mut Check<'_, '_>, path: &str, text: &str, dots: bool) {
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let ok = if dots { text.split('.').all(word) } else { word(text) };
    if !ok {
        let (what, example) = if dots { ("service", "shop.v1.Cart") } else { ("method", "AddItem") };
        let message = format!("{text:?} is not the name of a gRPC {what}");
        check.error(FaultClass::InvalidGrpcName, path, message, format!("write it as `{example}`, without slashes"));
    }
}
