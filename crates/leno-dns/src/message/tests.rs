use hickory_proto::rr::rdata::A;
use proptest::prelude::*;

use super::*;

pub(crate) fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn question(packet: &[u8]) -> Question {
    match parse(packet) {
        Packet::Query(question) => question,
        other => panic!("{other:?}"),
    }
}

fn refused(packet: &[u8]) -> Message {
    match parse(packet) {
        Packet::Refused(reply) => Message::from_vec(&reply).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_is_read() {
    let question = question(&query("Cart.Shop.mesh.", RecordType::A));
    assert_eq!((question.host(), question.kind()), (Some("cart.shop.mesh"), RecordType::A));
    assert!(question.is_below("mesh") && question.is_internet());
}

#[test]
fn an_answer_is_never_answered() {
    let mut packet = query("cart.mesh.", RecordType::A);
    packet[2] |= 0x80;
    assert!(matches!(parse(&packet), Packet::Silence));
    assert!(matches!(parse(&packet[..11]), Packet::Silence));
}

#[test]
fn what_does_not_parse_is_a_format_error() {
    let packet = query("cart.mesh.", RecordType::A);
    let reply = refused(&packet[..20]);
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (0x1234, ResponseCode::FormErr));
    let mut two_questions = packet.clone();
    two_questions[5] = 2;
    assert_eq!(refused(&two_questions).metadata.response_code, ResponseCode::FormErr);
    let mut loops = packet;
    loops[12..14].copy_from_slice(&[0xc0, 12]);
    assert_eq!(refused(&loops).metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn other_operations_are_not_implemented() {
    let mut packet = query("cart.mesh.", RecordType::A);
    packet[2] |= 5 << 3;
    let reply = refused(&packet);
    assert_eq!((reply.metadata.response_code, reply.metadata.op_code), (ResponseCode::NotImp, OpCode::Update));
}

#[test]
fn a_later_version_of_edns_is_told_ours() {
    let mut message = Message::from_vec(&query("cart.mesh.", RecordType::A)).unwrap();
    message.set_edns({
        let mut edns = Edns::new();
        edns.set_version(1);
        edns
    });
    let reply = refused(&message.to_vec().unwrap());
    let edns = reply.edns.unwrap();
    assert_eq!((u16::from(edns.rcode_high()) << 4, edns.version()), (u16::from(ResponseCode::BADVERS), 0));
}

#[test]
fn a_reply_by_udp_is_cut_to_what_the_client_takes() {
    let plain = question(&query("cart.mesh.", RecordType::A));
    assert_eq!(plain.fit_udp(vec![0; 512]).len(), 512);
    let cut = plain.fit_udp(vec![0; 513]);
    assert!(cut.len() < 60 && is_truncated(&cut));
    let mut message = Message::from_vec(&query("cart.mesh.", RecordType::A)).unwrap();
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    let offering = question(&message.to_vec().unwrap());
    assert_eq!(offering.fit_udp(vec![0; UDP_MAX]).len(), UDP_MAX);
    assert!(is_truncated(&offering.fit_udp(vec![0; UDP_MAX + 1])));
}

#[test]
fn the_addresses_of_a_reply_are_found() {
    let question = question(&query("cart.mesh.", RecordType::A));
    let reply = question.answer(RData::A(A([240, 0, 0, 7].into())), 5);
    assert_eq!(addresses(&reply), Ok(vec![[240, 0, 0, 7].into()]));
    assert_eq!(addresses(&reply[..reply.len() - 1]), Err(Malformed));
}

#[test]
fn a_name_that_does_not_exist_may_be_remembered_for_seconds() {
    let reply = question(&query("nope.shop.mesh.", RecordType::A)).nothing(ResponseCode::NXDomain);
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!((reply.authorities[0].name.to_ascii().as_str(), reply.authorities[0].ttl), ("mesh.", NEGATIVE_TTL));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_packet_makes_it_panic(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = addresses(&packet);
        if let Packet::Refused(reply) = parse(&packet) {
            prop_assert!(reply.len() <= packet.len() * 2 && reply[2] & 0x80 != 0);
        }
    }

    #[test]
    fn no_damaged_query_makes_it_panic(at in 0_usize..60, byte: u8, cut in 0_usize..80) {
        let mut packet = query("cart.shop.mesh.", RecordType::AAAA);
        packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 128, 0, 0, 0]);
        packet[11] = 1;
        let at = at % packet.len();
        packet[at] = byte;
        packet.truncate(packet.len() - cut.min(packet.len()));
        match parse(&packet) {
            Packet::Query(question) => prop_assert!(question.nothing(ResponseCode::NXDomain).len() < 400),
            Packet::Refused(reply) => prop_assert!(reply.len() <= packet.len() + 11),
            Packet::Silence => prop_assert!(packet.len() < 12 || packet[2] & 0x80 != 0),
        }
    }
}
