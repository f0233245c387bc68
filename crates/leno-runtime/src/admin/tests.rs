use std::time::Duration;

use leno_model::identity::Role;
use leno_net::listen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::clock::SystemClock;
use crate::drain::Drain;
use crate::guard::{GuardOptions, Hosts, TokenSet};

const DEADLINE: Duration = Duration::from_secs(20);

/// Serves an admin listener, sends it one request per text, and returns the answers.
fn ask(tokens: Option<TokenSet>, ready: Ready, requests: &[&str]) -> Vec<String> {
    let talk = async {
        let guard = Guard::new(GuardOptions {
            tokens,
            hosts: Hosts::loopback(),
            public: PUBLIC_PATHS.map(str::to_owned).to_vec(),
            audit: None,
            clock: Arc::new(SystemClock),
        });
        let admin = Admin::new(Arc::new(guard), ready).metrics(|| "up 1\n".to_owned()).put(
            "/echo",
            "what was sent",
            |request| async move {
                let name = request.parameter("name").unwrap_or_default().into_owned();
                Answer::text(format!("{name}: {}", String::from_utf8_lossy(&request.body)))
            },
        );
        let listener = listen::attach(listen::bind_one("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
        let (address, drain) = (listener.local_addr().unwrap(), Drain::new());
        let serving = crate::task::spawn("test-admin", admin.serve(listener, drain.watch()));
        let mut answers = Vec::new();
        for request in requests {
            let (line, rest) = request.split_once('|').unwrap_or((request, "connection: close\r\n\r\n"));
            let mut stream = TcpStream::connect(address).await.unwrap();
            let text = format!("{line} HTTP/1.1\r\nhost: {address}\r\n{rest}");
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answers.push(answer);
        }
        assert_eq!(drain.finish(DEADLINE).await, 0);
        serving.await.unwrap();
        answers
    };
    crate::threads::control(async { tokio::time::timeout(DEADLINE, talk).await.unwrap() }).unwrap()
}

#[test]
fn it_says_whether_the_role_lives_and_is_ready_and_what_is_missing() {
    let ready = Ready::new();
    let gate = ready.gate("snapshot", "waits for 127.0.0.1:7071");
    let answers = ask(None, ready.clone(), &["GET /live", "GET /ready"]);
    assert!(answers[0].starts_with("HTTP/1.1 200") && answers[0].ends_with("alive\n"), "{}", answers[0]);
    assert!(
        answers[1].starts_with("HTTP/1.1 503") && answers[1].contains("waits for 127.0.0.1:7071"),
        "{}",
        answers[1]
    );
    gate.open();
    assert!(ask(None, ready, &["GET /ready"])[0].starts_with("HTTP/1.1 200"));
}

#[test]
fn it_measures_and_lists_what_there_is() {
    let answers = ask(None, Ready::new(), &["GET /metrics", "GET /", "HEAD /metrics", "GET /nowhere", "POST /live"]);
    assert!(answers[0].ends_with("\r\n\r\nup 1\n"), "{}", answers[0]);
    assert!(answers[1].contains("/echo") && answers[1].contains("what was sent"), "{}", answers[1]);
    assert!(answers[2].starts_with("HTTP/1.1 200") && answers[2].ends_with("\r\n\r\n"), "{}", answers[2]);
    assert!(answers[3].starts_with("HTTP/1.1 404") && answers[3].contains("GET / lists"), "{}", answers[3]);
    assert!(answers[4].starts_with("HTTP/1.1 405"), "{}", answers[4]);
}

#[test]
fn a_handler_gets_its_parameters_and_its_body() {
    let request = "PUT /echo?x=1&name=a%2Fb+c|content-type: application/x-www-form-urlencoded\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    assert!(ask(None, Ready::new(), &[request])[0].ends_with("a/b c: {}"));
}

#[test]
fn with_tokens_only_public_paths_are_open() {
    let mut tokens = TokenSet::new();
    let token = tokens.create(Principal { name: "ada".to_owned(), role: Role::Viewer }).unwrap();
    let with_token = format!("GET /|authorization: Bearer {token}\r\nconnection: close\r\n\r\n");
    let answers = ask(Some(tokens), Ready::new(), &["GET /live", "GET /", &with_token]);
    assert!(answers[0].starts_with("HTTP/1.1 200"));
    assert!(
        answers[1].starts_with("HTTP/1.1 401") && answers[1].contains("www-authenticate: Bearer"),
        "{}",
        answers[1]
    );
    assert!(answers[2].starts_with("HTTP/1.1 200"), "{}", answers[2]);
}
