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
