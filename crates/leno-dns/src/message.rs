//! Messages: which packet is a query, what it asks, and the packets that answer it.
//!
//! Whole messages are read and written by hickory-proto. What is passed on stays the bytes it was, so that record types
//! and options which nobody here knows survive; only the header and the question are looked at, by hand.
//!
//! Rules (RFC 1035, 6891, 8482): silence for what is shorter than a header and for every answer (QR = 1), so that two
//! servers can never talk to each other; FORMERR for what does not parse, NOTIMP for other operations than QUERY,
//! BADVERS for later versions of EDNS.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// Bytes of a UDP answer at most, whatever the client offers (DNS flag day 2020).
pub const UDP_MAX: usize = 1_232;
/// Bytes of a UDP answer to a client that offers nothing.
const UDP_MIN: usize = 512;
const HEADER: usize = 12;
/// Seconds for which a name that does not exist may be remembered.
const NEGATIVE_TTL: u32 = 5;

/// What a packet is.
#[derive(Debug)]
pub enum Packet {
    /// Not to be answered.
    Silence,
    /// Answered with this.
    Refused(Vec<u8>),
    /// A query.
    Query(Question),
}

/// A query with one question.
#[derive(Debug, Clone)]
pub struct Question {
    id: u16,
    recursion_desired: bool,
    name: Name,
    /// Lower case, without the final dot; none when a label holds anything but letters, digits, `-` and `_`.
    host: Option<String>,
    kind: RecordType,
    class: DNSClass,
    edns: Option<Offer>,
    /// Where the question ends in the packet.
    end: usize,
}

/// What a client's OPT record says.
#[derive(Debug, Clone, Copy)]
struct Offer {
    payload: u16,
    dnssec_ok: bool,
}

/// A reply that breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a DNS reply is cut off or points outside itself")]
pub struct Malformed;

/// Reads a packet from a client.
pub fn parse(packet: &[u8]) -> Packet {
    if packet.len() < HEADER || packet[2] & 0x80 != 0 {
        return Packet::Silence;
    }
    if packet[2] >> 3 & 15 != 0 {
        return Packet::Refused(header_only(packet, ResponseCode::NotImp));
    }
    let refuse = || Packet::Refused(header_only(packet, ResponseCode::FormErr));
    let (Ok(mut message), Some(end)) = (Message::from_vec(packet), question_end(packet)) else { return refuse() };
    if message.queries.len() != 1 {
        return refuse();
    }
    let query = message.queries.remove(0);
    let question = Question {
        id: message.metadata.id,
        recursion_desired: message.metadata.recursion_desired,
        host: host_of(&query.name),
        kind: query.query_type,
        class: query.query_class,
        edns: message.edns.as_ref().map(|e| Offer { payload: e.max_payload(), dnssec_ok: e.flags().dnssec_ok }),
        end,
        name: query.name,
    };
    if message.edns.is_some_and(|edns| edns.version() > 0) {
        return Packet::Refused(question.refuse(ResponseCode::BADVERS));
    }
    Packet::Query(question)
}

/// The addresses in the answers of a reply.
pub fn addresses(reply: &[u8]) -> Result<Vec<IpAddr>, Malformed> {
    let mut at = question_end(reply).ok_or(Malformed)?;
    let mut found = Vec::new();
    for _ in 0..u16_at(reply, 6).ok_or(Malformed)? {
        at = skip_name(reply, at).ok_or(Malformed)?;
        let (kind, length) = (u16_at(reply, at).ok_or(Malformed)?, u16_at(reply, at + 8).ok_or(Malformed)?);
        let data = reply.get(at + 10..at + 10 + usize::from(length)).ok_or(Malformed)?;
        if kind == u16::from(RecordType::A) {
            found.extend(<[u8; 4]>::try_from(data).ok().map(IpAddr::from));
        } else if kind == u16::from(RecordType::AAAA) {
            found.extend(<[u8; 16]>::try_from(data).ok().map(IpAddr::from));
        }
        at += 10 + usize::from(length);
    }
    Ok(found)
}

/// The low four bits of the response code; 0 is NOERROR.
pub fn response_code(reply: &[u8]) -> u8 {
    reply.get(3).map_or(15, |byte| byte & 15)
}

/// Whether the reply says that it was cut.
pub fn is_truncated(reply: &[u8]) -> bool {
    reply.get(2).is_some_and(|byte| byte & 2 != 0)
}

// === impl Question ===

impl Question {
    /// The name that is asked for: lower case, no final dot; none when it can be no host.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The name as it was asked for.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The record type.
    pub fn kind(&self) -> RecordType {
        self.kind
    }

    /// Whether the class is IN.
    pub fn is_internet(&self) -> bool {
        self.class == DNSClass::IN
    }

    /// Where the question ends in the packet.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Whether the last label is `label`.
    pub fn is_below(&self, label: &str) -> bool {
        self.name.iter().next_back().is_some_and(|last| last.eq_ignore_ascii_case(label.as_bytes()))
    }

    /// An answer with this record.
    pub fn answer(&self, data: RData, ttl: u32) -> Vec<u8> {
        let mut message = self.reply(ResponseCode::NoError);
        message.add_answer(Record::from_rdata(self.name.clone(), ttl, data));
        encode(&message)
    }

    /// The name exists and has no such record; `code` NOERROR. Or it does not; `code` NXDOMAIN.
    pub fn nothing(&self, code: ResponseCode) -> Vec<u8> {
        let zone =
            if self.is_below("mesh") { Name::from_labels(["mesh"]).unwrap_or_default() } else { self.name.clone() };
        let of = |labels: [&str; 2]| Name::from_labels(labels).unwrap_or_default();
        let soa = SOA::new(of(["leno", "mesh"]), of(["hostmaster", "mesh"]), 1, 3_600, 600, 86_400, NEGATIVE_TTL);
        let mut message = self.reply(code);
        message.add_authority(Record::from_rdata(zone, NEGATIVE_TTL, RData::SOA(soa)));
        encode(&message)
    }

    /// A reply with nothing but a code.
    pub fn refuse(&self, code: ResponseCode) -> Vec<u8> {
        let mut message = self.reply(code);
        message.metadata.authoritative = false;
        encode(&message)
    }

    /// A reply cut to what a UDP client takes; its TC bit asks the client to come back by TCP.
    pub fn fit_udp(&self, reply: Vec<u8>) -> Vec<u8> {
        let offered = self.edns.map_or(UDP_MIN, |offer| usize::from(offer.payload)).clamp(UDP_MIN, UDP_MAX);
        if reply.len() <= offered {
            return reply;
        }
        let mut message = self.reply(ResponseCode::from(0, response_code(&reply)));
        message.metadata.authoritative = false;
        message.metadata.truncation = true;
        encode(&message)
    }

    fn reply(&self, code: ResponseCode) -> Message {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.authoritative = true;
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        let mut query = Query::query(self.name.clone(), self.kind);
        query.set_query_class(self.class);
        message.add_query(query);
        if let Some(offer) = self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MAX as u16).set_dnssec_ok(offer.dnssec_ok).set_rcode_high(code.high());
            message.set_edns(edns);
        }
        message
    }
}

/// A message of ours always encodes: its names were decoded, its records are small.
fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}

/// The header of a packet turned into a reply without sections.
fn header_only(packet: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut reply = vec![0; HEADER];
    reply[..2].copy_from_slice(&packet[..2]);
    reply[2] = packet[2] & 0x79 | 0x80;
    reply[3] = 0x80 | code.low();
    reply
}

/// Where the only question ends; none when its name is compressed or cut off.
pub(crate) fn question_end(packet: &[u8]) -> Option<usize> {
    if u16_at(packet, 4)? != 1 {
        return None;
    }
    let mut at = HEADER;
    loop {
        match usize::from(*packet.get(at)?) {
            0 => break,
            length @ 1..=63 => at += 1 + length,
            _ => return None,
        }
    }
    (at + 5 <= packet.len()).then_some(at + 5)
}

/// Behind a name, which ends at its root label or at its first pointer.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*packet.get(at)?) {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + length,
            192..=255 => return Some(at + 2),
            _ => return None,
        }
    }
}

fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
}

fn host_of(name: &Name) -> Option<String> {
    let mut host = String::new();
    for label in name.iter() {
        if !label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return None;
        }
        if !host.is_empty() {
            host.push('.');
        }
        host.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    }
    Some(host)
}

#[cfg(test)]
pub(crate) mod tests;
