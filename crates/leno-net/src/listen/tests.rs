use std::collections::HashSet;
use std::io::Read;

use super::*;
use crate::places::{Full, PlacesMax};

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

#[tokio::test]
async fn a_connection_that_no_place_is_left_for_is_reset_and_the_next_one_is_taken_when_there_is() {
    let listener = attach(bind_one(ANY.parse().unwrap()).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let places = Places::new(PlacesMax { all: 1, of_source: None });
    let _first = std::net::TcpStream::connect(address).unwrap();
    let held = accept_within(&listener, &places).await;
    let mut second = std::net::TcpStream::connect(address).unwrap();
    second.set_nonblocking(true).unwrap();
    let mut waiting = std::pin::pin!(accept_within(&listener, &places));
    let refused = loop {
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("it was let in"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
        match second.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            ended => break ended,
        }
    };
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    drop(held);
    let third = std::net::TcpStream::connect(address).unwrap();
    assert_eq!(waiting.await.peer, third.local_addr().unwrap());
    assert_eq!(places.refused(Full::All), 1);
}

#[tokio::test]
async fn a_stream_keeps_its_place_on_its_way_to_another_thread() {
    let listener = attach(bind_one(ANY.parse().unwrap()).unwrap()).unwrap();
    let places = Places::default();
    let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let detached = accept_within(&listener, &places).await.stream.detach().unwrap();
    assert_eq!(places.taken(), 1);
    drop(detached.attach().unwrap());
    assert_eq!(places.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn accepting_survives_every_error() {
    let places = Places::default();
    let left = std::cell::RefCell::new((1..134).rev().collect::<Vec<i32>>());
    let accept = async || match left.borrow_mut().pop() {
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Ok(()),
    };
    until_accepted(&places, accept).await;
    assert_eq!(places.pauses(), 1);
}
