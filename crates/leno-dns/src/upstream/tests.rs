use super::*;
use crate::message::tests::query;
use hickory_proto::rr::RecordType;

/// Splitmix64.
struct Seeded(u64);

impl Random for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)
    }
}

pub(crate) fn upstream(servers: Vec<SocketAddr>, timeout: Duration) -> Upstream {
    let conf = ResolvConf { servers, search: vec!["corp.example".into()], timeout, attempts: 1 };
    Upstream::new(conf, Box::new(Seeded(7)))
}

/// Turns a query into an answer with this address.
pub(crate) fn answer_to(query: &[u8], address: [u8; 4]) -> Vec<u8> {
    let end = message::question_end(query).unwrap();
    let mut reply = query[..end].to_vec();
    (reply[2], reply[3], reply[7]) = (0x81, 0x80, 1);
    reply[8..12].fill(0);
    reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    reply.extend_from_slice(&address);
    reply
}

/// A resolver that answers each query with what `answers` makes of it.
pub(crate) async fn server(
    answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + 'static,
) -> (SocketAddr, impl Future<Output = ()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (address, async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            for reply in answers(&buffer[..length]) {
                socket.send_to(&reply, peer).await.unwrap();
            }
        }
    })
}

async fn exchange(answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + 'static) -> Result<Vec<u8>, UpstreamError> {
    let (address, serve) = server(answers).await;
    let upstream = upstream(vec![address], Duration::from_millis(300));
    let packet = query("www.example.com.", RecordType::A);
    let end = message::question_end(&packet).unwrap();
    tokio::select! {
        reply = upstream.exchange(&packet, end, false) => reply,
        () = serve => unreachable!(),
    }
}

#[test]
fn a_resolv_conf_is_read_as_the_c_library_reads_it() {
    let text = "# comment\nnameserver 10.0.0.53\nnameserver fd00::53 ; other\nnameserver x\nsearch Corp.Example. shop\n\
                options ndots:5 timeout:3 attempts:9 rotate\nnameserver 1.1.1.1\nnameserver 8.8.8.8\n";
    let conf = ResolvConf::parse(text);
    let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.0.0.53:53", "[fd00::53]:53", "1.1.1.1:53"]);
    assert_eq!(conf.search, ["corp.example", "shop"]);
    assert_eq!((conf.timeout, conf.attempts), (Duration::from_secs(3), 5));
}

#[tokio::test]
async fn a_reply_comes_back_with_the_clients_id_and_spelling() {
    let reply = exchange(|q| vec![answer_to(q, [93, 184, 216, 34])]).await.unwrap();
    let packet = query("www.example.com.", RecordType::A);
    assert_eq!((&reply[..2], &reply[12..29]), (&packet[..2], &packet[12..29]));
    assert_eq!(message::addresses(&reply).unwrap(), [IpAddr::from([93, 184, 216, 34])]);
}

#[tokio::test]
async fn the_query_hides_its_id_and_its_letters() {
    let packet = query("www.example.com.", RecordType::A);
    let upstream = upstream(vec![], Duration::ZERO);
    let end = message::question_end(&packet).unwrap();
    let (one, two) = (upstream.disguise(&packet, end), upstream.disguise(&packet, end));
    assert!(one[..2] != two[..2] && one[12..end] != two[12..end]);
    assert!(one[12..end].eq_ignore_ascii_case(&packet[12..end]));
    assert_eq!(one[end - 4..], packet[end - 4..]);
}

#[tokio::test]
async fn forged_replies_are_passed_over() {
    let forge = |q: &[u8]| {
        let right = answer_to(q, [1, 1, 1, 1]);
        let (mut id, mut kind, mut name) =
            (answer_to(q, [6, 6, 6, 6]), answer_to(q, [6, 6, 6, 6]), answer_to(q, [6, 6, 6, 6]));
        id[1] ^= 1;
        name[14] = b'9';
        let end = message::question_end(q).unwrap();
        kind[end - 3] = 28;
        vec![id, kind, name, q.to_vec(), right]
    };
    let reply = exchange(forge).await.unwrap();
    assert_eq!(message::addresses(&reply).unwrap(), [IpAddr::from([1, 1, 1, 1])]);
}

#[tokio::test]
async fn a_reply_in_another_case_is_asked_for_again_by_tcp() {
    let error = exchange(|q| {
        let mut reply = answer_to(q, [6, 6, 6, 6]);
        reply[13..16].iter_mut().for_each(|letter| *letter ^= 0x20);
        vec![reply]
    });
    // Nothing listens on TCP there.
    let error = error.await.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_virtual_address_from_outside_is_refused() {
    let error = exchange(|q| vec![answer_to(q, [240, 0, 0, 1])]).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Virtual { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_fails_passes_the_query_to_the_next() {
    let (bad, serve_bad) = server(|q| {
        let mut reply = answer_to(q, [6, 6, 6, 6]);
        reply[3] |= 2;
        vec![reply]
    })
    .await;
    let (good, serve_good) = server(|q| vec![answer_to(q, [1, 1, 1, 1])]).await;
    let upstream = upstream(vec![bad, good], Duration::from_secs(5));
    let packet = query("www.example.com.", RecordType::A);
    let end = message::question_end(&packet).unwrap();
    let reply = tokio::select! {
        reply = upstream.exchange(&packet, end, false) => reply.unwrap(),
        () = async { tokio::join!(serve_bad, serve_good); } => unreachable!(),
    };
    assert_eq!(message::addresses(&reply).unwrap(), [IpAddr::from([1, 1, 1, 1])]);
}

#[tokio::test]
async fn silence_ends_with_what_was_tried() {
    let error = exchange(|_| vec![]).await.unwrap_err();
    assert!(matches!(error, UpstreamError::NoAnswer { servers: 1, tries: 1, .. }), "{error}");
}

#[test]
fn queries_at_once_have_a_limit() {
    let in_flight = Cell::new(0);
    let slots: Vec<_> = (0..IN_FLIGHT_MAX).map_while(|_| Slot::take(&in_flight)).collect();
    assert!(slots.len() == IN_FLIGHT_MAX && Slot::take(&in_flight).is_none());
    drop(slots);
    assert_eq!(in_flight.get(), 0);
}
