//! DNS messages: queries of programs, and replies of resolvers that nobody trusts.

use hickory_proto::op::ResponseCode;
use leno_dns::message::{Packet, UDP_MAX, addresses, is_truncated, parse, response_code};

/// Amplification of a query over UDP that is refused or has no answer: bytes for a byte, and what a reply has anyhow.
const AMPLIFIED_MAX: (usize, usize) = (2, 160);

/// A packet, as a query and as a reply: no answer is answered, an answer is one, and fits where it has to.
pub(crate) fn dns_message(bytes: &[u8]) {
    let _addresses_or_not = addresses(bytes);
    let _always = (response_code(bytes), is_truncated(bytes));
    let replies = match parse(bytes) {
        Packet::Silence => return,
        Packet::Refused(reply) => vec![reply],
        Packet::Query(question) => {
            assert!(question.end() <= bytes.len());
            if let Some(host) = question.host() {
                let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
                assert!(host.len() <= 255 && host.bytes().all(valid), "{host:?}");
            }
            let nothing = question.fit_udp(question.nothing(ResponseCode::NXDomain));
            vec![nothing, question.refuse(ResponseCode::Refused)]
        }
    };
    for reply in replies {
        assert!(bytes.len() >= 12 && bytes[2] & 0x80 == 0, "an answer was answered");
        assert!(reply.len() >= 12 && reply.len() <= UDP_MAX && reply[..2] == bytes[..2] && reply[2] & 0x80 != 0);
        assert!(reply.len() <= AMPLIFIED_MAX.0 * bytes.len() + AMPLIFIED_MAX.1, "{} of {}", reply.len(), bytes.len());
        assert!(matches!(parse(&reply), Packet::Silence), "an answer was answered");
        assert!(addresses(&reply).is_ok_and(|found| found.is_empty()) || reply.len() == 12, "{reply:?}");
    }
}
