//! What a gateway tells the mesh of its client: `X-Forwarded-For` and its kin.
//!
//! Nobody in front of a gateway is believed unless it is told how many proxies there are (`--trusted-hops`): what a client
//! wrote would else be taken for the word of a proxy (CVE-2024-51504 and its kin). Of `X-Forwarded-For` as many of the
//! last elements are kept as there are such proxies, because each wrote one. What belongs to no proxy's habit of ours
//! (`Forwarded`, `X-Forwarded-Client-Cert`) goes in any case. Done before a rule may look at any of these.

use std::net::SocketAddr;

use leno_http::fields::elements;
use leno_http::{RequestHead, Scheme};

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";

/// Writes what the next ones are to believe, of a request that came from `client` through so many trusted proxies.
pub(super) fn write(head: &mut RequestHead, client: Option<SocketAddr>, trusted_hops: u8) {
    let client = client.map(|address| address.ip().to_canonical());
    let said = if trusted_hops == 0 { Vec::new() } else { last_elements(head, trusted_hops.into()) };
    let proto = head.fields.get(PROTO).filter(|_| trusted_hops > 0);
    let is_https = match proto {
        Some(b"https") => true,
        Some(b"http") => false,
        // The scheme is that of the connection; what a target claims is gone by now.
        _ => head.scheme == Scheme::Https,
    };
    if head.fields.iter().any(|(name, _)| is_dropped(name, trusted_hops)) {
        head.fields.retain(|name, _| !is_dropped(name, trusted_hops));
    }
    head.fields.set(PROTO, if is_https { "https" } else { "http" });
    match client {
        Some(client) if said.is_empty() => head.fields.set(FOR, client.to_string()),
        Some(client) => head.fields.set(FOR, format!("{}, {client}", said.join(", "))),
        None if said.is_empty() => head.fields.remove(FOR),
        None => head.fields.set(FOR, said.join(", ")),
    };
}

/// The last elements of `X-Forwarded-For`, over all its lines; those that are no text end it.
fn last_elements(head: &RequestHead, count: usize) -> Vec<String> {
    let all: Vec<&[u8]> = head.fields.get_all(FOR).flat_map(elements).collect();
    let last = &all[all.len().saturating_sub(count)..];
    let text = |element: &&[u8]| std::str::from_utf8(element).ok().filter(|text| text.is_ascii()).map(str::to_owned);
    let mut texts: Vec<String> = last.iter().rev().map_while(text).collect();
    texts.reverse();
    texts
}

fn is_dropped(name: &[u8], trusted_hops: u8) -> bool {
    const FORWARDED: &[u8] = b"x-forwarded-";
    match name.first().map(|first| first | 0x20) {
        Some(b'f') => name.eq_ignore_ascii_case(b"forwarded"),
        Some(b'x') if trusted_hops == 0 => {
            name.eq_ignore_ascii_case(b"x-real-ip")
                || name.len() > FORWARDED.len() && name[..FORWARDED.len()].eq_ignore_ascii_case(FORWARDED)
        }
        Some(b'x') => name.eq_ignore_ascii_case(b"x-forwarded-client-cert"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use leno_http::Method;

    use super::*;

    const PEER: &str = "192.0.2.7:1234";

    fn written(fields: &[(&str, &str)], trusted_hops: u8) -> Vec<(String, String)> {
        let mut head = RequestHead::new(Method::Get, "a.test", "/");
        head.fields = fields.iter().copied().collect();
        write(&mut head, Some(PEER.parse().unwrap()), trusted_hops);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        head.fields.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_a_client_says_of_itself_is_not_believed() {
        let said = [
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "evil.test"),
            ("X-Forwarded-Client-Cert", "Hash=1"),
            ("X-Real-IP", "127.0.0.1"),
            ("Forwarded", "for=127.0.0.1"),
            ("X-Fine", "yes"),
        ];
        let wanted = [("X-Fine", "yes"), (PROTO, "http"), (FOR, "192.0.2.7")];
        assert_eq!(written(&said, 0), pairs(&wanted));
    }

    #[test]
    fn of_trusted_proxies_the_last_elements_stay() {
        let said = [
            ("X-Forwarded-For", "127.0.0.1, 198.51.100.1"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Client-Cert", "Hash=1"),
        ];
        let forwarded =
            |hops| written(&said, hops).into_iter().find(|(name, _)| name.eq_ignore_ascii_case(FOR)).unwrap().1;
        assert_eq!(forwarded(1), "203.0.113.9, 192.0.2.7");
        assert_eq!(forwarded(2), "198.51.100.1, 203.0.113.9, 192.0.2.7");
        assert_eq!(forwarded(9), "127.0.0.1, 198.51.100.1, 203.0.113.9, 192.0.2.7");
        let proto = ("X-Forwarded-Proto".to_owned(), "https".to_owned());
        assert!(written(&said, 1).contains(&proto) && written(&said, 1).len() == 2);
        assert!(
            written(&[("X-Forwarded-Proto", "javascript")], 1).contains(&("X-Forwarded-Proto".into(), "http".into()))
        );
    }
}
