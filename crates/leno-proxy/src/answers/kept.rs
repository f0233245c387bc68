//! One answer as it is kept, and for which requests it is.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use leno_http::caching::Terms;
use leno_http::fields::{elements, is_hop_by_hop};
use leno_http::{Fields, RequestHead, ResponseHead};

use crate::load_report;

/// What an answer weighs beside its bytes, about.
const OVERHEAD: usize = 256;
/// Somebody who asks anew is waited for so long before another one does.
const ASKING: Duration = Duration::from_secs(10);

/// What the name of a field has in it that says who asks: services have their own beside `Authorization` and `Cookie`.
const WHO: [&str; 14] = [
    "auth",
    "cookie",
    "token",
    "key",
    "secret",
    "session",
    "user",
    "tenant",
    "account",
    "customer",
    "client",
    "consumer",
    "identity",
    "assertion",
];
/// A weight for each field that an answer varies by.
const FIELD_OVERHEAD: usize = 32;

/// An answer that is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: Bytes,
    /// None of one that is shared, and not kept for later.
    pub(crate) terms: Option<Terms>,
    /// When it came, in the time of the process.
    pub(crate) came: Duration,
    varied: Varied,
    /// Until when somebody asks whether it is still good, in milliseconds of the process.
    asking_until: AtomicU64,
}

/// What requests must have alike to be given the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Varied {
    /// [Who] asked; none where it is for all.
    ///
    /// [Who]: who
    who: Option<Box<[u8]>>,
    /// What the answer says it varies by.
    fields: Vec<(Box<str>, Values)>,
}

/// All values of a field, if it is there.
type Values = Option<Box<[u8]>>;

// === impl Kept ===

impl Kept {
    pub(crate) fn new(
        status: u16,
        fields: Fields,
        body: Bytes,
        terms: Option<Terms>,
        came: Duration,
        varied: Varied,
    ) -> Self {
        Self { status, fields, body, terms, came, varied, asking_until: AtomicU64::new(0) }
    }

    /// What it weighs.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + self.fields.size() + self.varied.bytes() + OVERHEAD
    }

    /// Whether it is for this request.
    pub(crate) fn is_for(&self, request: &RequestHead) -> bool {
        let Varied { who: asked, fields } = &self.varied;
        asked.as_deref().is_none_or(|asked| *asked == *who(&request.fields))
            && fields.iter().all(|(name, value)| values(&request.fields, name).as_deref() == value.as_deref())
    }

    /// Whether the two are for the same requests.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.varied == other.varied
    }

    /// Whether this one is to ask if it is still good: the first does, the others are given it meanwhile.
    pub(crate) fn is_to_be_asked(&self, now: Duration) -> bool {
        let (now, until) = (now.as_millis() as u64, (now + ASKING).as_millis() as u64);
        let asking = self.asking_until.load(Relaxed);
        asking <= now && self.asking_until.compare_exchange(asking, until, Relaxed, Relaxed).is_ok()
    }

    /// Its fields after it was found to be still good (RFC 9111, section 3.2).
    pub(crate) fn freshened(&self, told: &Fields) -> Fields {
        let mut fields = self.fields.clone();
        let news: Vec<_> = fields_of(told).filter(|(name, _)| !name.starts_with("content-")).collect();
        for (name, _) in &news {
            fields.remove(name);
        }
        for (name, value) in news {
            fields.append(&name, value);
        }
        fields
    }
}

// === impl Varied ===

impl Varied {
    /// By what the answer says it varies, and by who asked unless it is for all.
    pub(crate) fn of(request: &RequestHead, response: &ResponseHead, is_for_all: bool) -> Self {
        let said = response.fields.get_all("vary").flat_map(elements);
        let mut names: Vec<Box<str>> =
            said.map(|name| String::from_utf8_lossy(name).to_ascii_lowercase().into()).collect();
        names.sort_unstable();
        names.dedup();
        let fields = names.into_iter().map(|name| (name.clone(), values(&request.fields, &name))).collect();
        Self { who: (!is_for_all).then(|| who(&request.fields)), fields }
    }

    /// What a client sent weighs too.
    fn bytes(&self) -> usize {
        let value = |values: &Values| values.as_ref().map_or(0, |values| values.len());
        let fields = self.fields.iter().map(|(name, values)| name.len() + value(values) + FIELD_OVERHEAD);
        fields.sum::<usize>() + value(&self.who)
    }
}

/// Who asks, by all fields that say it.
pub(crate) fn who(fields: &Fields) -> Box<[u8]> {
    let mut who = Vec::new();
    for (name, value) in fields.iter() {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if name != "user-agent" && WHO.iter().any(|part| name.contains(part)) {
            for part in [name.as_bytes(), value] {
                who.extend_from_slice(part);
                who.push(0);
            }
        }
    }
    who.into()
}

/// The fields of an answer that are kept, in bytes of their own: those that it came in belong to a larger buffer.
pub(crate) fn fields_to_keep(response: &ResponseHead) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in fields_of(&response.fields) {
        fields.append(&name, value);
    }
    load_report::strip(&mut fields);
    fields
}

fn fields_of(fields: &Fields) -> impl Iterator<Item = (String, &[u8])> {
    let nominated = |name: &str| fields.has_token("connection", name);
    let named = fields.iter().map(|(name, value)| (String::from_utf8_lossy(name).to_ascii_lowercase(), value));
    named.filter(move |(name, _)| {
        !is_hop_by_hop(name.as_bytes()) && !nominated(name) && !["age", "cache-status"].contains(&name.as_str())
    })
}

/// All values of a field, in their order.
fn values(fields: &Fields, name: &str) -> Values {
    let all: Vec<&[u8]> = fields.get_all(name).map(<[u8]>::trim_ascii).collect();
    (!all.is_empty()).then(|| all.join(&b", "[..]).into())
}
