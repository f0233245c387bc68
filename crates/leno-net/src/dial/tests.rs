use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_refused_connect_says_where() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = HostDial.connect(&closed.into(), SECOND).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(error.to_string().starts_with(&format!("connect to {closed}: ")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_takes_too_long_says_after_how_long() {
    let nowhere = Address::Tcp("192.0.2.1:80".parse().unwrap());
    let error = within(&nowhere, SECOND, std::future::pending()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "connect to 192.0.2.1:80 timed out after 1000 ms");
}

#[tokio::test]
async fn a_unix_socket_is_dialled_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let stream = HostDial.connect(&Address::Unix(path), SECOND).await.unwrap();
    let _accepted = listener.accept().await.unwrap();
    assert!(!stream.is_stale());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_too_late_for_its_asker_serves_the_next_and_confuses_nobody() {
    use crate::namespace::wire::{self, Frame, Kind};
    use std::os::fd::AsFd;
    let (dials, agent) = std::os::unix::net::UnixStream::pair().unwrap();
    let dial = NamespaceDial::new(dials).unwrap();
    let listeners = ["127.0.0.1:0", "[::1]:0"].map(|any| std::net::TcpListener::bind(any).unwrap());
    let [v4, v6] = listeners.each_ref().map(|listener| Address::Tcp(listener.local_addr().unwrap()));

    // Nobody answers the first question in time.
    assert_eq!(dial.connect(&v4, SECOND).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    let answers = std::thread::spawn(move || {
        for domain in [socket2::Domain::IPV4, socket2::Domain::IPV6] {
            wire::read(&agent).unwrap();
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
            wire::write(&agent, Frame::new(Kind::Made, 0), "", &[socket.as_fd()]).unwrap();
        }
        agent
    });
    tokio::time::resume();
    dial.connect(&v6, SECOND * 20).await.unwrap();
    dial.connect(&v4, SECOND * 20).await.unwrap();
    answers.join().unwrap();
}
