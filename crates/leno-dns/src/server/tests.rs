use super::*;
use crate::message::tests::query;
use crate::resolver::{Answer, Options, Verdict};
use crate::upstream::tests::upstream;
use hickory_proto::rr::RecordType;
use leno_model::name::ServiceName;
use leno_telemetry::Registry;
use leno_telemetry::metric::Limits;

/// Every name exists.
struct All;

impl Names for All {
    fn exists(&self, _: &ServiceName) -> Answer {
        Answer::Mesh
    }

    fn wait<'a>(&'a self, _: &'a ServiceName) -> Verdict<'a> {
        Box::pin(std::future::ready(Answer::Mesh))
    }
}

fn resolver() -> Resolver<All> {
    let registry = Registry::new(0, Limits::default());
    let upstream = upstream(vec![], Duration::from_secs(1));
    Resolver::new(Options::default(), All, Default::default(), upstream, &registry)
}

#[tokio::test]
async fn queries_are_answered_by_udp_and_answers_are_not() {
    let (socket, client) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    client.connect(socket.local_addr().unwrap()).await.unwrap();
    let resolver = resolver();
    let talk = async {
        let packet = query("cart.shop.mesh.", RecordType::A);
        let mut answer = packet.clone();
        answer[2] |= 0x80;
        answer[0] = 0x99;
        client.send(&answer).await.unwrap();
        client.send(&packet).await.unwrap();
        let mut buffer = [0; 1500];
        client.recv(&mut buffer).await.unwrap();
        assert_eq!((buffer[..2].to_vec(), buffer[7]), (packet[..2].to_vec(), 1));
    };
    tokio::select! {
        () = talk => {}
        () = serve_udp(socket, &resolver) => unreachable!(),
    }
}

#[tokio::test]
async fn queries_are_answered_by_tcp_one_after_the_other_and_byte_by_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let resolver = resolver();
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let packet = query("cart.shop.mesh.", RecordType::A);
        let framed = [&(packet.len() as u16).to_be_bytes(), packet.as_slice()].concat();
        for _ in 0..2 {
            for byte in &framed {
                stream.write_all(&[*byte]).await.unwrap();
            }
            let reply = read(&mut stream).await.unwrap();
            assert_eq!((&reply[..2], reply[7]), (&packet[..2], 1));
        }
    };
    tokio::select! {
        () = talk => {}
        () = serve_tcp(listener, &resolver) => unreachable!(),
    }
}
