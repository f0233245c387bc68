use std::collections::HashSet;

use super::*;

const ANY: &str = "127.0.0.1:0";

#[test]
fn a_group_shares_one_port() {
    let group = bind_group(ANY.parse().unwrap(), 4).unwrap();
    let ports: HashSet<_> = group.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    assert_eq!((group.len(), ports.len()), (4, 1));
}

#[test]
fn a_second_group_on_the_port_is_refused_with_the_fix() {
    let first = bind_group(ANY.parse().unwrap(), 2).unwrap();
    let address = first[0].local_addr().unwrap();
    let error = bind_group(address, 2).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&format!("ss -ltnp sport = :{}", address.port())), "{error}");
}

#[test]
fn an_address_of_another_machine_is_refused_with_the_reason() {
    let error = bind_one("192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("192.0.2.1 is no address of this machine"), "{error}");
}

#[tokio::test]
async fn a_connection_that_broke_in_the_queue_is_survived() {
    let listener = attach(bind_one(ANY.parse().unwrap()).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let broken = std::net::TcpStream::connect(address).unwrap();
    socket2::SockRef::from(&broken).set_linger(Some(Duration::ZERO)).unwrap();
    drop(broken);
    let good = std::net::TcpStream::connect(address).unwrap();
    // Linux still hands the broken one out; what matters is that the good one comes too.
    let mut accepted = accept(&listener).await;
    if accepted.peer != good.local_addr().unwrap() {
        accepted = accept(&listener).await;
    }
    assert_eq!(accepted.peer, good.local_addr().unwrap());
}

#[tokio::test]
async fn every_socket_of_a_group_gets_connections() {
    let group = bind_group(ANY.parse().unwrap(), 2).unwrap();
    let address = group[0].local_addr().unwrap();
    let group: Vec<_> = group.into_iter().map(|listener| attach(listener).unwrap()).collect();
    let clients: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let mut counts = [0; 2];
    for _ in &clients {
        tokio::select! {
            _ = accept(&group[0]) => counts[0] += 1,
            _ = accept(&group[1]) => counts[1] += 1,
        }
    }
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
}
