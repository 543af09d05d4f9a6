//! Wrong addresses, certificates, sizes, and peers that talk nonsense: one line each, and the server goes on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::{client, config, next, payload, raw::raw_quic, server, soon, trusting};
use hone_transport::{
    Client, Delivery, EndpointConfig, Error, Server, Track,
    config::{Limits, Trust},
};
use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

/// One line, and it names the thing.
fn names(error: &Error, thing: &str) {
    let text = error.to_string();
    assert!(text.contains(thing) && !text.contains('\n'), "{text:?} should name {thing:?}");
}

#[tokio::test]
async fn nothing_listening_is_found_out_in_bounded_time() {
    // Bound, so that no other test gets the port, and silent.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let config = EndpointConfig { connect_timeout_ms: 400, ..config() };
    let start = Instant::now();
    let error = Client::connect(&config, &addr).await.err().unwrap();
    assert!(matches!(error, Error::NoAnswer { timeout_ms: 400, .. }), "{error}");
    names(&error, &addr);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_wrong_certificate_is_refused() {
    let server = server().await;
    let addr = server.local_addr().to_string();
    let wrong = EndpointConfig { trust: Trust::Pinned(vec!["ab".repeat(32)]), ..config() };
    let error = soon("refusal", Client::connect(&wrong, &addr)).await.err().unwrap();
    assert!(matches!(error, Error::Certificate { .. }), "{error}");
    names(&error, &addr);
    names(&error, &hone_transport::hex(&server.certificate_hash()));
    let another = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = std::env::temp_dir().join(format!("hone-ca-{}.pem", std::process::id()));
    std::fs::write(&file, another.cert.pem()).unwrap();
    let wrong = EndpointConfig { trust: Trust::CaFile(file.clone()), ..config() };
    let error = soon("refusal", Client::connect(&wrong, &addr)).await.err().unwrap();
    assert!(matches!(error, Error::Certificate { .. }), "{error}");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_certificate_from_files_works_by_its_name() {
    use hone_transport::config::Certificate;
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let name = |what: &str| std::env::temp_dir().join(format!("hone-{what}-{}.pem", std::process::id()));
    let (cert, key) = (name("cert"), name("key"));
    std::fs::write(&cert, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let files = Certificate::Files { cert: cert.clone(), key: key.clone() };
    let server = Server::bind(&EndpointConfig { certificate: files, ..config() }).await.unwrap();
    let trusting = EndpointConfig { trust: Trust::CaFile(cert.clone()), ..config() };
    let port = server.local_addr().port();
    for host in ["localhost", "127.0.0.1"] {
        soon("connect", Client::connect(&trusting, &format!("https://{host}:{port}"))).await.unwrap();
    }
    // The key in place of the certificate, and the other way round.
    let swapped = Certificate::Files { cert: key.clone(), key: cert.clone() };
    let error = Server::bind(&EndpointConfig { certificate: swapped, ..config() }).await.err().unwrap();
    names(&error, &key.to_string_lossy());
    std::fs::remove_file(cert).unwrap();
    std::fs::remove_file(key).unwrap();
}

#[tokio::test]
async fn bad_addresses_are_named() {
    for bad in ["", "::::", "http://127.0.0.1:1", "127.0.0.1", "host:99999", "me:pw@host:1", "a b:1"] {
        let error = Client::connect(&config(), bad).await.err().unwrap();
        assert!(matches!(error, Error::Address { .. }), "{bad}: {error}");
        names(&error, bad);
    }
    let error = soon("lookup", Client::connect(&config(), "no-such-host.invalid:4443")).await.err().unwrap();
    // A resolver that is out of reach may take longer than the handshake may.
    assert!(matches!(error, Error::Resolve { .. } | Error::NoAnswer { .. }), "{error}");
    names(&error, "no-such-host.invalid");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let server = server().await;
    let taken = EndpointConfig { bind: server.local_addr(), ..config() };
    let error = Server::bind(&taken).await.err().unwrap();
    assert!(matches!(error, Error::Bind { .. }), "{error}");
    names(&error, &server.local_addr().to_string());
}

#[tokio::test]
async fn values_that_cannot_work_are_named() {
    let limits = Limits::default();
    for (bad, field) in [
        (EndpointConfig { keep_alive_ms: 5_000, ..config() }, "endpoint.keep_alive_ms"),
        (EndpointConfig { idle_timeout_ms: 0, ..config() }, "endpoint.idle_timeout_ms"),
        (EndpointConfig { connect_timeout_ms: u64::MAX, ..config() }, "endpoint.connect_timeout_ms"),
        (EndpointConfig { datagram_size_max: 100, ..config() }, "endpoint.datagram_size_max"),
        (
            EndpointConfig { limits: Limits { model_bytes_max: 1 << 30, ..limits }, ..config() },
            "endpoint.limits",
        ),
        (EndpointConfig { limits: Limits { streams_max: 0, ..limits }, ..config() }, "endpoint.limits"),
    ] {
        let error = Server::bind(&bad).await.err().unwrap();
        names(&error, field);
    }
    let error =
        Client::connect(&EndpointConfig { trust: Trust::Pinned(vec![]), ..config() }, "127.0.0.1:1").await;
    names(&error.err().unwrap(), "endpoint.trust.pinned");
}

#[tokio::test]
async fn a_large_message_is_refused_at_the_writer_and_at_the_reader() {
    let small =
        |config| EndpointConfig { limits: Limits { video_bytes_max: 1_000, ..Limits::default() }, ..config };
    let server = Server::bind(&small(config())).await.unwrap();
    // A sender with larger limits than the server's.
    let sender = client(&server).await;
    let mut publisher = sender.publish("cam", &[Track::Video]).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    let incoming = soon("announcement", server.incoming()).await.unwrap();
    let mut reader = incoming.track(Track::Video, Delivery::All).await.unwrap();
    video.write(true, 0, payload(1, 1_000)).unwrap();
    video.write(true, 0, payload(1, 1_001)).unwrap();
    assert_eq!(next(&mut reader).await.payload.len(), 1_000);
    let error = soon("refusal", reader.next()).await.err().unwrap();
    assert!(matches!(error, Error::MessageTooLarge { bytes: 1_001, max: 1_000, .. }), "{error}");

    let sender = Client::connect(&small(trusting(&server)), &server.local_addr().to_string()).await.unwrap();
    let mut publisher = sender.publish("cam2", &[Track::Video]).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    let error = video.write(true, 0, payload(1, 1_001)).unwrap_err();
    names(&error, "1001");
    assert_eq!(video.bytes_written(), 0);
    video.write(true, 0, payload(1, 1_000)).unwrap();
}

#[tokio::test]
async fn a_group_that_grows_without_end_is_refused_and_the_track_goes_on() {
    let server = server().await;
    let mut publisher = server.publish("cam", &[Track::Video, Track::Model]).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    for i in 0..8192 {
        video.write(false, i, Bytes::from_static(b"x")).unwrap();
    }
    assert!(matches!(video.write(false, 0, Bytes::new()), Err(Error::GroupTooLarge { .. })));
    video.write(true, 0, Bytes::new()).unwrap();
    let mut model = publisher.track(Track::Model).unwrap();
    let large = payload(1, 12 << 20);
    model.write(true, 0, large.clone()).unwrap();
    model.write(false, 0, large.clone()).unwrap();
    assert!(matches!(model.write(false, 0, large.clone()), Err(Error::GroupTooLarge { .. })));
    model.write(true, 0, large).unwrap();
    assert!(matches!(model.write(false, -1, Bytes::new()), Err(Error::NegativeTime(-1))));
}

#[tokio::test]
async fn bad_names_are_refused() {
    let server = server().await;
    for bad in ["", "a/b", "../up", "a b", "*"] {
        assert!(matches!(server.publish(bad, &[]), Err(Error::Name(_))), "{bad}");
    }
    let viewer = client(&server).await;
    assert!(matches!(viewer.subscribe("a/b").await, Err(Error::Name(_))));
}

#[tokio::test]
async fn a_full_server_refuses_and_recovers() {
    let limits = Limits { sessions_max: 1, ..Limits::default() };
    let server = Server::bind(&EndpointConfig { limits, ..config() }).await.unwrap();
    let first = client(&server).await;
    let addr = server.local_addr().to_string();
    let second = soon("refusal", Client::connect(&trusting(&server), &addr)).await.err().unwrap();
    assert!(matches!(second, Error::Full), "{second}");
    first.close().await;
    let reconnecting = async {
        while Client::connect(&trusting(&server), &addr).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("room", reconnecting).await;
}

#[tokio::test]
async fn garbage_does_not_take_the_server_down() {
    let server = Server::bind(&EndpointConfig { connect_timeout_ms: 500, ..config() }).await.unwrap();
    let addr = server.local_addr();

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for i in 0..200 {
        let mut packet = payload(i, 1 + (i as usize * 37) % 1400).to_vec();
        // Every other one looks like a QUIC long header, version 1.
        if i % 2 == 0 {
            packet.splice(..packet.len().min(5), [0xC3, 0, 0, 0, 1]);
        }
        udp.send_to(&packet, addr).unwrap();
    }
    // QUIC, but not HTTP/3.
    let other = raw_quic(&server, b"other", true).connect(addr, "localhost").unwrap().await;
    assert!(other.is_err());
    // HTTP/3 by name; then nonsense on every kind of stream, or silence.
    let endpoints = [raw_quic(&server, b"h3", true), raw_quic(&server, b"h3", false)];
    for seed in 0..20u64 {
        let connection = endpoints[seed as usize % 2].connect(addr, "localhost").unwrap().await.unwrap();
        if seed > 1 {
            for k in 0..4 {
                // The server may hang up at any point.
                let Ok(mut uni) = connection.open_uni().await else { break };
                let _ = uni.write_all(&payload(seed * 10 + k, 2_000)).await;
                let _ = uni.finish();
                let Ok((mut bi, _)) = connection.open_bi().await else { break };
                let _ = bi.write_all(&payload(seed * 10 + k + 5, 2_000)).await;
            }
            connection.close(quinn::VarInt::from_u32(1), b"bye");
        }
    }
    let sender = client(&server).await;
    let mut publisher = sender.publish("cam", &[Track::Video]).unwrap();
    publisher.track(Track::Video).unwrap().write(true, 0, payload(1, 100)).unwrap();
    let incoming = soon("announcement", server.incoming()).await.unwrap();
    let mut reader = incoming.track(Track::Video, Delivery::All).await.unwrap();
    assert_eq!(next(&mut reader).await.payload, payload(1, 100));
}
