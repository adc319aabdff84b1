//! TLS: what a client gets whose connection is encrypted.
//!
//! The certificate of `tests/tls` names localhost, was made for these tests and protects nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use percept::serve::{Limits, Options};
use serde_json::json;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::client::{Reply, Running, ask, language, post_bytes};

fn file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)).unwrap()
}

fn server(connections: usize) -> Running {
    let limits = Limits { connections, ..Limits::default() };
    let tls = Some((file("certificate.pem"), file("key.pem")));
    Running::start(vec![language("qwen2")], Options { limits, tls, ..Options::default() })
}

/// An encrypted connection of a client that trusts the certificate and no other.
fn connect(server: &Running) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&file("certificate.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(client, server.connect())
}

fn exchange(server: &Running, request: &[u8]) -> Reply {
    let mut stream = connect(server);
    stream.write_all(request).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("the connection ends as TLS has it");
    Reply::of(&reply)
}

#[test]
fn answers_over_tls_are_those_over_plain_connections() {
    let body = ask("qwen2", "12 34", json!({ "max_tokens": 8 }));
    let plain = Running::of(&["qwen2"]).post("/v1/chat/completions", &body).good();
    let secret = server(8);
    let request = post_bytes("/v1/chat/completions", "", body.to_string().as_bytes());
    assert_eq!(exchange(&secret, &request).good()["choices"], plain["choices"]);
    // A client that does not encrypt gets nothing but the end of its connection, and others are served after it.
    let reply = secret.raw(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(Reply::parse(&reply).is_none(), "{}", String::from_utf8_lossy(&reply));
    let health = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(&secret, health).status, 200);
}

#[test]
fn who_is_turned_away_is_told_so_over_tls() {
    let server = server(2);
    let mut held: Vec<_> = (0..2).map(|_| connect(&server)).collect();
    for stream in &mut held {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    let health = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let reply = exchange(&server, health);
    assert_eq!(reply.status, 503, "{}", reply.text());
    reply.error();
    drop(held);
    // There is room again once the server has seen that they are gone.
    let served = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        exchange(&server, health).status == 200
    });
    assert!(served);
}
