//! Tokens and limits, against peers that go beyond them: each is refused and told why, and nobody else notices.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{client, config, next, payload, raw::raw_quic, soon, trusting};
use hone_transport::{
    Client, Delivery, EndpointConfig, Error, Server, Track,
    config::{Certificate, Limits, Secret},
    token::{self, Grant, Keys, Scope},
};
use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// A key file that goes away with the test.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hone-{name}-{}.key", std::process::id()));
        std::fs::write(&path, token::generate().unwrap()).unwrap();
        Self(path)
    }

    fn token(&self, publish: &[&str], view: &[&str], until: SystemTime) -> String {
        let scope = |names: &[&str]| {
            Scope::new(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let grant = Grant { publish: scope(publish), view: scope(view), until: Some(until) };
        let keys = Keys::parse(&std::fs::read_to_string(&self.0).unwrap()).unwrap();
        keys.sign(&grant, SystemTime::UNIX_EPOCH).unwrap()
    }

    fn config(&self) -> EndpointConfig {
        EndpointConfig { token_key: Some(self.0.clone()), ..config() }
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        // It is in the folder for what may go.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn in_an_hour() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

async fn connect(server: &Server, token: Option<&str>) -> Result<Client, Error> {
    let token = token.map(|token| Secret(token.to_owned()));
    let config = EndpointConfig { token, ..trusting(server) };
    soon("connect", Client::connect(&config, &server.local_addr().to_string())).await
}

async fn refused(server: &Server, token: Option<&str>) -> String {
    match connect(server, token).await {
        Err(error @ Error::Token { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("let in"),
    }
}

#[tokio::test]
async fn who_has_no_good_token_stays_outside_and_is_told() {
    let key = KeyFile::new("outside");
    let server = Server::bind(&key.config()).await.unwrap();
    let inside = connect(&server, Some(&key.token(&["cam"], &[], in_an_hour()))).await.unwrap();

    assert!(refused(&server, None).await.contains("wants a token"));
    assert!(refused(&server, Some("nonsense")).await.contains("not a token"));
    let ago = SystemTime::now() - Duration::from_secs(60);
    assert!(refused(&server, Some(&key.token(&["cam"], &[], ago))).await.contains("expired 6"));
    let other = KeyFile::new("other");
    let foreign = other.token(&["cam"], &["cam"], in_an_hour());
    assert!(refused(&server, Some(&foreign)).await.contains("another key"));
    assert_eq!(server.stats().refused_token, 4);

    // Who was inside has noticed nothing.
    let mut publisher = inside.publish("cam", &[Track::Video]).unwrap();
    publisher.track(Track::Video).unwrap().write(true, 0, payload(1, 100)).unwrap();
    let incoming = soon("announcement", server.incoming()).await.unwrap();
    let mut reader = incoming.track(Track::Video, Delivery::All).await.unwrap();
    assert_eq!(next(&mut reader).await.payload, payload(1, 100));
}

#[tokio::test]
async fn a_token_reaches_as_far_as_its_scope() {
    let key = KeyFile::new("scope");
    let server = Server::bind(&key.config()).await.unwrap();
    let sender = connect(&server, Some(&key.token(&["cam"], &[], in_an_hour()))).await.unwrap();
    let _cam = sender.publish("cam", &[Track::Video]).unwrap();
    assert_eq!(soon("announcement", server.incoming()).await.unwrap().name(), "cam");
    // What is beyond it ends the session that tries, and goes to nobody.
    let _door = sender.publish("door", &[Track::Video]).unwrap();
    let ended = soon("end", sender.closed()).await;
    assert!(matches!(ended, Error::Forbidden { act: "publish", .. }), "{ended}");
    assert!(tokio::time::timeout(Duration::from_millis(200), server.incoming()).await.is_err());

    let publish = |name: &str| {
        let mut publisher = server.publish(name, &[Track::Video]).unwrap();
        let mut video = publisher.track(Track::Video).unwrap();
        video.write(true, 0, payload(1, 10)).unwrap();
        (publisher, video)
    };
    let _kept = [publish("lobby-1"), publish("lobby-2"), publish("vault")];
    let viewer = connect(&server, Some(&key.token(&[], &["lobby-*"], in_an_hour()))).await.unwrap();
    let mut reading = Vec::new();
    for name in ["lobby-1", "lobby-2"] {
        let found = soon("stream", viewer.subscribe(name)).await.unwrap();
        let mut video = found.track(Track::Video, common::LIVE).await.unwrap();
        assert_eq!(next(&mut video).await.payload.len(), 10);
        reading.push(video);
    }
    let error = soon("refusal", viewer.subscribe("vault")).await.err().unwrap();
    assert!(matches!(error, Error::Forbidden { act: "view", .. }), "{error}");
    let viewers = server.viewers();
    assert_eq!((viewers["lobby-1"].now, viewers["lobby-1"].bytes), (1, 10));
    assert!(!viewers.contains_key("vault"));
}

#[tokio::test]
async fn the_server_itself_hides_what_a_token_does_not_cover() {
    let key = KeyFile::new("liar");
    let server = Server::bind(&key.config()).await.unwrap();
    let _vault = server.publish("vault", &[Track::Video]).unwrap();
    let _lobby = server.publish("lobby", &[Track::Video]).unwrap();
    // In the address, where our client does not look at it: it will try.
    let token = key.token(&[], &["lobby"], in_an_hour());
    let url = format!("https://{}/?jwt={token}", server.local_addr());
    let viewer = soon("connect", Client::connect(&trusting(&server), &url)).await.unwrap();
    soon("stream", viewer.subscribe("lobby")).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), viewer.subscribe("vault")).await.is_err());
    let everything = connect(&server, Some(&key.token(&[], &["*"], in_an_hour()))).await.unwrap();
    soon("stream", everything.subscribe("vault")).await.unwrap();
}

#[tokio::test]
async fn a_session_ends_when_its_token_does() {
    let key = KeyFile::new("expiry");
    let server = Server::bind(&key.config()).await.unwrap();
    // Tokens count whole seconds.
    let soon_over = SystemTime::now() + Duration::from_secs(2);
    let session = connect(&server, Some(&key.token(&["cam"], &[], soon_over))).await.unwrap();
    let error = soon("expiry", session.closed()).await;
    assert!(matches!(error, Error::Expired), "{error}");
}

#[tokio::test]
async fn keys_and_limits_change_for_who_comes_next() {
    let (old, new) = (KeyFile::new("old"), KeyFile::new("new"));
    let server = Server::bind(&old.config()).await.unwrap();
    let token = |key: &KeyFile| key.token(&["*"], &[], in_an_hour());
    let before = connect(&server, Some(&token(&old))).await.unwrap();
    server.reload(&new.config()).unwrap();
    // The certificate that clients have pinned stays.
    connect(&server, Some(&token(&new))).await.unwrap();
    assert!(refused(&server, Some(&token(&old))).await.contains("another key"));
    let missing = EndpointConfig { token_key: Some("/no/such/key".into()), ..config() };
    let error = server.reload(&missing).err().unwrap();
    assert!(error.to_string().contains("/no/such/key"), "{error}");
    let _cam = before.publish("cam", &[Track::Video]).unwrap();
    soon("announcement", server.incoming()).await.unwrap();
    let limits = Limits { sessions_max: 1, ..Limits::default() };
    server.reload(&EndpointConfig { limits, ..new.config() }).unwrap();
    assert!(matches!(connect(&server, Some(&token(&new))).await, Err(Error::Full)));
}

#[tokio::test]
async fn nothing_for_development_serves_the_world_unasked() {
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let key = KeyFile::new("world");
    let dev = EndpointConfig { bind: anywhere, ..key.config() };
    for (config, field) in [
        (EndpointConfig { certificate: Certificate::Unset, ..config() }, "endpoint.certificate"),
        (dev.clone(), "endpoint.certificate"),
        (
            EndpointConfig { certificate: Certificate::DevAnywhere, token_key: None, ..dev.clone() },
            "token_key",
        ),
    ] {
        let error = Server::bind(&config).await.err().unwrap().to_string();
        assert!(error.contains(field), "{error}");
    }
    let forced = EndpointConfig { certificate: Certificate::DevAnywhere, ..dev };
    Server::bind(&forced).await.unwrap();
    let open = EndpointConfig { token_key: None, allow_anonymous: true, ..forced };
    Server::bind(&open).await.unwrap();
}

#[tokio::test]
async fn one_address_cannot_take_all_places() {
    let limits = Limits { sessions_max: 9, sessions_per_address_max: 2, ..Limits::default() };
    let server = Server::bind(&EndpointConfig { limits, ..config() }).await.unwrap();
    let _two = [client(&server).await, client(&server).await];
    let error = connect(&server, None).await.err().unwrap();
    assert!(matches!(error, Error::Full), "{error}");
    assert_eq!((server.stats().sessions, server.stats().refused_full), (2, 1));
    // Another address of this machine still comes in.
    let from = EndpointConfig { bind: SocketAddr::from(([127, 0, 0, 2], 0)), ..trusting(&server) };
    soon("connect", Client::connect(&from, &server.local_addr().to_string())).await.unwrap();
}

#[tokio::test]
async fn names_beyond_the_limits_are_refused_and_the_rest_goes_on() {
    let limits = Limits { broadcasts_max: 3, broadcasts_per_session_max: 2, ..Limits::default() };
    let server = Server::bind(&EndpointConfig { limits, ..config() }).await.unwrap();
    let publish = |sender: &Client, name: &str| sender.publish(name, &[Track::Video]).unwrap();
    let arrives = |name: &'static str| {
        let server = &server;
        async move { assert_eq!(soon("announcement", server.incoming()).await.unwrap().name(), name) }
    };
    let (quiet, other) = (client(&server).await, client(&server).await);
    let _cam = publish(&quiet, "cam");
    arrives("cam").await;
    let _a = publish(&other, "a");
    arrives("a").await;
    let _b = publish(&other, "b");
    arrives("b").await;
    // One more than all may have: from a session that has none.
    let late = client(&server).await;
    let _d = publish(&late, "d");
    assert!(matches!(soon("refusal", late.closed()).await, Error::Full));
    // One more than a session may have: its streams go with it, and make room.
    let _c = publish(&other, "c");
    assert!(matches!(soon("refusal", other.closed()).await, Error::Full));
    assert_eq!(server.stats().refused_full, 2);
    let _again = publish(&quiet, "cam");
    arrives("cam").await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_gives_its_place_back() {
    let limits = Limits { sessions_max: 8, sessions_per_address_max: 4, ..Limits::default() };
    let server = Server::bind(&EndpointConfig { limits, connect_timeout_ms: 600, ..config() }).await.unwrap();
    let addr = server.local_addr();
    let endpoint = raw_quic(&server, b"h3", true);
    let mut held = Vec::new();
    for byte in 0..4u8 {
        let connection = soon("quic", endpoint.connect(addr, "localhost").unwrap()).await.unwrap();
        // A request that is begun, a byte of it, and then silence: a slow loris.
        let (mut request, reply) = connection.open_bi().await.unwrap();
        request.write_all(&[byte]).await.unwrap();
        held.push((connection, request, reply));
    }
    let inside = |server: &Server| server.stats().sessions;
    assert_eq!(inside(&server), 4);
    let error = connect(&server, None).await.err().unwrap();
    assert!(matches!(error, Error::Full), "{error}");
    // QUIC keeps these connections alive; the server does not wait for it.
    let given_back = async {
        while inside(&server) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("places given back", given_back).await;
    assert_eq!(server.stats().failed_handshakes, 4);
    for (connection, ..) in &held {
        soon("close", connection.closed()).await;
    }
    connect(&server, None).await.unwrap();
}

#[tokio::test]
async fn a_busy_server_has_addresses_proved() {
    let limits = Limits { sessions_max: 2, ..Limits::default() };
    let server = Server::bind(&EndpointConfig { limits, ..config() }).await.unwrap();
    let _first = client(&server).await;
    // Half of the places are taken: this one comes in by way of a retry, and in all the same.
    let _second = client(&server).await;
    assert_eq!(server.stats().sessions, 2);
}
