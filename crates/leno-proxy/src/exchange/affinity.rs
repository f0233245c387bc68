//! What binds a request to an endpoint: the hash of what it has, and the cookie by which it finds that again.
//!
//! A [`Bond`] is made with the plan, only where the destination's affinity says something. The hash is made from the bytes
//! that came, without a copy; a cookie that a request lacks gets random bits, which become text with the answer. A session
//! names its endpoint by a hash of the instance's id: at an edge, nobody learns addresses from it.

use std::net::IpAddr;

use leno_http::fields::elements;
use leno_http::{RequestHead, ResponseHead};
use leno_model::snapshot::{Affinity, Cookie, HashSource, Session};
use leno_route::with_parameter;
use leno_traffic::{Picker, hash};

use super::Exchange;
use crate::cluster::Cluster;
use crate::table::Target;

/// What binds one request.
#[derive(Debug, Default)]
pub(super) struct Bond<'d> {
    /// Of what it has; none when it has nothing of what is looked for.
    pub(super) hash: Option<u64>,
    /// The index of the endpoint that it names, if that takes requests.
    pub(super) named: Option<usize>,
    /// Among which endpoints it chooses, if not among all.
    pub(super) among: Option<&'d Picker>,
    /// Where it can name one.
    session: Option<&'d Session>,
    /// The cookies that it lacked, and the values that they have now.
    made: Vec<(&'d Cookie, u64)>,
}

impl Exchange<'_> {
    /// What binds this request to endpoints of `cluster`, by what the destination says.
    pub(super) fn bond<'d>(&self, affinity: &'d Affinity, cluster: &'d Cluster) -> Bond<'d> {
        let mut bond = Bond { session: affinity.session.as_ref(), ..Bond::default() };
        if let Some(subset) = &affinity.subset {
            bond.among = cluster.among(self.head.fields.get_str(&subset.header));
        }
        let now = self.record.began();
        bond.named = bond.session.and_then(|session| self.id_hash(session)).and_then(|hash| cluster.named(hash, now));
        for key in &affinity.hash {
            let value = match &key.source {
                HashSource::Header(name) => of_values(self.head.fields.get_all(name)),
                HashSource::Cookie(cookie) => match cookie_of(&self.head, &cookie.name) {
                    Some(value) => Some(hash::of(value)),
                    None => self.made(cookie, &mut bond),
                },
                HashSource::Query(name) => {
                    let query = self.head.path_and_query().1.unwrap_or_default();
                    with_parameter(query, name, |value| value.map(hash::of))
                }
                HashSource::SourceAddress => self.caller(),
            };
            if let Some(value) = value {
                bond.hash = Some(hash::then(bond.hash, value));
            }
            if key.terminal && bond.hash.is_some() {
                break;
            }
        }
        bond
    }

    /// The index of the target that has the endpoint which this request names: a session keeps to its version.
    pub(super) fn bound_target(&self, targets: &[Target]) -> Option<usize> {
        let now = self.record.began();
        targets.iter().position(|target| {
            let session = target.affinity.as_ref().and_then(|affinity| affinity.session.as_ref());
            let named = session.and_then(|session| self.id_hash(session)).zip(target.cluster.as_ref());
            target.weight > 0 && named.is_some_and(|(hash, cluster)| cluster.named(hash, now).is_some())
        })
    }

    /// The hash of the instance's id that a request of a session has.
    fn id_hash(&self, session: &Session) -> Option<u64> {
        value_of(match session {
            Session::Cookie(cookie) => cookie_of(&self.head, &cookie.name)?,
            Session::Header(name) => self.head.fields.get(name)?,
        })
    }

    /// The hash of a cookie that is to be made, if it is.
    fn made<'d>(&self, cookie: &'d Cookie, bond: &mut Bond<'d>) -> Option<u64> {
        cookie.ttl?;
        let value = self.worker.random_bits();
        bond.made.push((cookie, value));
        Some(hash::of(&text_of(value)))
    }

    fn caller(&self) -> Option<u64> {
        self.worker.caller(self.client())
    }

    /// The address of the client: at a gateway as the proxies say that it trusts.
    pub(super) fn client(&self) -> Option<IpAddr> {
        let worker = self.worker;
        if worker.shared.gateway && worker.shared.limits.trusted_hops > 0 {
            // What is left of it is what the trusted proxies wrote, the first of them first.
            let said = self.head.fields.get("x-forwarded-for").and_then(|field| elements(field).next());
            let said = said.and_then(|first| std::str::from_utf8(first).ok()?.parse().ok());
            if said.is_some() {
                return said;
            }
        }
        self.downstream.map(|address| address.ip())
    }
}

impl Bond<'_> {
    /// Gives the client what it needs to find the endpoint again that answered.
    pub(super) fn tell(&self, head: &mut ResponseHead, cluster: &Cluster, answered: Option<usize>) {
        for (cookie, value) in &self.made {
            head.fields.append("set-cookie", set_cookie(cookie, &text_of(*value)));
        }
        let Some((session, answered)) = self.session.zip(answered) else { return };
        if self.named == Some(answered) {
            return;
        }
        let text = text_of(cluster.endpoints[answered].id_hash());
        match session {
            Session::Cookie(cookie) => head.fields.append("set-cookie", set_cookie(cookie, &text)),
            Session::Header(name) => head.fields.set(name, text),
        };
    }
}

/// The hash of all values, whatever their order; of one value its own.
pub(super) fn of_values<'v>(values: impl Iterator<Item = &'v [u8]>) -> Option<u64> {
    values.map(hash::of).reduce(u64::wrapping_add)
}

/// The value of a cookie, if it has one: the first of its name, without quotes (RFC 6265, section 4.2).
pub(super) fn cookie_of<'h>(head: &'h RequestHead, name: &str) -> Option<&'h [u8]> {
    let pairs = head.fields.get_all("cookie").flat_map(|field| field.split(|byte| *byte == b';'));
    let mut values = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    });
    values.find(|value| !value.is_empty())
}

/// 64 bits as 16 digits of base 16.
fn text_of(value: u64) -> [u8; 16] {
    let mut text = [0; 16];
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(value >> (60 - 4 * at)) as usize & 0xf];
    }
    text
}

/// The 64 bits of such a text.
fn value_of(text: &[u8]) -> Option<u64> {
    if text.len() != 16 || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

/// The field that makes a client keep a cookie.
fn set_cookie(cookie: &Cookie, value: &[u8]) -> String {
    let mut text = format!("{}={}", cookie.name, String::from_utf8_lossy(value));
    if let Some(ttl) = cookie.ttl.filter(|ttl| !ttl.is_zero()) {
        text.push_str(&format!("; Max-Age={}", ttl.as_secs().max(1)));
    }
    if let Some(path) = &cookie.path {
        text.push_str(&format!("; Path={path}"));
    }
    text.push_str("; HttpOnly");
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use leno_http::Method;

    use super::*;

    fn cookie(fields: &[(&str, &str)], name: &str) -> Option<String> {
        let mut head = RequestHead::new(Method::Get, "a.test", "/");
        head.fields = fields.iter().copied().collect();
        cookie_of(&head, name).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn a_cookie_is_found_wherever_it_stands_and_only_by_its_whole_name() {
        assert_eq!(cookie(&[("cookie", "a=1; session=x")], "session").as_deref(), Some("x"));
        assert_eq!(cookie(&[("cookie", "a=1"), ("Cookie", "session=\"y\";b=2")], "session").as_deref(), Some("y"));
        assert_eq!(cookie(&[("cookie", "session=; session=z")], "session").as_deref(), Some("z"));
        assert_eq!(cookie(&[("cookie", "asession=1; sessions=2; session")], "session"), None);
        assert_eq!(cookie(&[], "session"), None);
    }

    #[test]
    fn a_cookie_that_is_made_says_how_long_and_where_it_holds() {
        let cookie = |ttl, path: Option<&str>| Cookie { name: "s".into(), ttl: Some(ttl), path: path.map(Into::into) };
        let made = |cookie: &Cookie| set_cookie(cookie, &text_of(0x0123_4567_89ab_cdef));
        let hour = Duration::from_secs(3600);
        assert_eq!(made(&cookie(hour, Some("/"))), "s=0123456789abcdef; Max-Age=3600; Path=/; HttpOnly");
        assert_eq!(made(&cookie(Duration::ZERO, None)), "s=0123456789abcdef; HttpOnly");
    }

    #[test]
    fn a_number_comes_back_as_it_was_and_nothing_else_is_one() {
        for value in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(value_of(&text_of(value)), Some(value));
        }
        for text in ["", "0123456789abcde", "0123456789abcdef0", "+123456789abcdef", "0123456789abcdeg"] {
            assert_eq!(value_of(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_order_of_a_fields_values_does_not_matter() {
        let of = |values: &[&str]| of_values(values.iter().map(|value| value.as_bytes()));
        assert_eq!(of(&["a", "b"]), of(&["b", "a"]));
        assert_eq!(of(&["a"]), Some(hash::of(b"a")));
        assert_eq!(of(&[]), None);
    }
}
