//! A server and a relay: what viewers of the relay get, what they do not, and how servers share a relay's streams.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::{ALL_TRACKS, config, next, payload, server, soon};
use hone_transport::{
    Client, Delivery, EndpointConfig, Error, Publisher, Relayed, Server, Subscription, TestRelay, Track,
    config::Trust, hex, share,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Longer than anything takes that is to come at all; what is not to come is waited for so long.
const A_WHILE: Duration = Duration::from_secs(1);

/// A relay, and how clients reach it.
async fn relay() -> (TestRelay, EndpointConfig) {
    let relay = TestRelay::bind(&config()).await.unwrap();
    let trust = Trust::Pinned(vec![hex(&relay.certificate_hash)]);
    (relay, EndpointConfig { trust, ..config() })
}

fn at(relay: &TestRelay, path: &str) -> String {
    format!("https://{}/{path}", relay.addr)
}

async fn dial(config: &EndpointConfig, url: &str) -> Client {
    soon("connect", Client::connect(config, url)).await.unwrap()
}

const VIEWED: [Track; 3] = [Track::Catalog, Track::Video, Track::Model];

#[tokio::test]
async fn viewers_of_a_relay_get_what_viewers_get_and_nothing_else() {
    let (relay, trusting) = relay().await;
    let server = server().await;
    let link = soon("publish", server.publish_to(&trusting, &at(&relay, "live"))).await.unwrap();

    // What a sender brings stays with the server.
    let sender = common::client(&server).await;
    let _secret = sender.publish("secret", &ALL_TRACKS).unwrap();
    let mut published = server.publish("cam", &VIEWED).unwrap();
    let mut video = published.track(Track::Video).unwrap();
    let (first, second) = (payload(1, 9_000), payload(2, 500));
    video.write(true, 40, first.clone()).unwrap();
    video.write(false, 80, second.clone()).unwrap();

    let viewer = dial(&trusting, &at(&relay, "live")).await;
    let cam = soon("cam", viewer.subscribe("cam")).await.unwrap();
    let mut reader = cam.track(Track::Video, common::LIVE).await.unwrap();
    let got = [next(&mut reader).await, next(&mut reader).await];
    assert_eq!(got.map(|message| (message.pts_us, message.payload)), [(40, first), (80, second)]);
    let patches = soon("patches", cam.track(Track::Patches, Delivery::All)).await;
    assert!(matches!(patches, Err(Error::NoTrack { .. } | Error::Disconnected(_))), "{:?}", patches.err());
    let secret = tokio::time::timeout(A_WHILE, viewer.subscribe("secret")).await;
    assert!(secret.is_err(), "a sender's own broadcast is not on the relay");

    // A connection that is made again brings the same stream, not another.
    drop(link);
    soon("the end of the stream", cam.closed()).await;
    let _link = soon("publish", server.publish_to(&trusting, &at(&relay, "live"))).await.unwrap();
    let again = soon("cam", viewer.subscribe("cam")).await.unwrap();
    assert_eq!(again.instance(), cam.instance());
    // The end of what was published is an end there, too.
    let mut reader = again.track(Track::Video, Delivery::All).await.unwrap();
    assert_eq!(next(&mut reader).await.pts_us, 40);
    assert_eq!(next(&mut reader).await.pts_us, 80);
    drop((video, published));
    assert!(soon("end", reader.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_server_takes_streams_that_senders_publish_to_a_relay() {
    let (relay, trusting) = relay().await;
    let server = server().await;
    let _link = soon("take", server.take_from(&trusting, &at(&relay, "in"), None)).await.unwrap();
    let sender = dial(&trusting, &at(&relay, "in")).await;
    let mut published = sender.publish("cam", &ALL_TRACKS).unwrap();
    let mut patches = published.track(Track::Patches).unwrap();
    patches.write(true, 5, payload(3, 2_000)).unwrap();
    let taken = soon("cam", server.incoming()).await.unwrap();
    assert_eq!((taken.name(), server.stats().broadcasts), ("cam", 1));
    let mut reader = taken.track(Track::Patches, Delivery::All).await.unwrap();
    assert_eq!(next(&mut reader).await.payload, payload(3, 2_000));
    // Another path is another place.
    let viewer = dial(&trusting, &at(&relay, "live")).await;
    assert!(tokio::time::timeout(A_WHILE, viewer.subscribe("cam")).await.is_err());

    // The same name again is the next life of that stream; one that comes directly takes it over, and the relay's other
    // streams go on.
    drop((patches, published));
    assert!(soon("end", reader.next()).await.unwrap().is_none());
    let _second = sender.publish("cam", &ALL_TRACKS).unwrap();
    let second = soon("cam", server.incoming()).await.unwrap();
    assert!(second.instance() > taken.instance());
    let _door = sender.publish("door", &ALL_TRACKS).unwrap();
    let door = soon("door", server.incoming()).await.unwrap();
    let direct = common::client(&server).await;
    let _third = direct.publish("cam", &ALL_TRACKS).unwrap();
    assert!(soon("cam", server.incoming()).await.unwrap().instance() > second.instance());
    assert!(tokio::time::timeout(A_WHILE, door.closed()).await.is_err(), "the relay's session stays");
}

/// A server that shares streams, and those that it has.
struct Trainer {
    name: &'static str,
    server: Server,
    link: Option<Relayed>,
    has: BTreeMap<String, Subscription>,
}

impl Trainer {
    async fn start(name: &'static str, trusting: &EndpointConfig, url: &str) -> Self {
        let server = server().await;
        let link = soon("take", server.take_from(trusting, url, Some(name))).await.unwrap();
        Self { name, server, link: Some(link), has: BTreeMap::new() }
    }

    /// Takes what came, and lets go of what has ended; whether anything changed.
    async fn look(&mut self) -> bool {
        let mut changed = false;
        let moment = Duration::from_millis(20);
        while let Ok(Some(came)) = tokio::time::timeout(moment, self.server.incoming()).await {
            self.has.insert(came.name().to_owned(), came);
            changed = true;
        }
        let mut gone = vec![];
        for (name, subscription) in &self.has {
            if tokio::time::timeout(Duration::ZERO, subscription.closed()).await.is_ok() {
                gone.push(name.clone());
            }
        }
        for name in &gone {
            self.has.remove(name);
        }
        changed || !gone.is_empty()
    }
}

/// Until every stream has the server that the arithmetic gives it, and no other has it.
async fn settled(trainers: &mut [Trainer], streams: &[String]) -> BTreeMap<String, String> {
    let wanted = |trainers: &[Trainer]| -> BTreeMap<String, BTreeSet<String>> {
        let alive: Vec<&str> = trainers.iter().filter(|t| t.link.is_some()).map(|t| t.name).collect();
        let of = |stream: &String| share::owner(stream, alive.iter().copied()).unwrap().to_owned();
        streams.iter().map(|stream| (stream.clone(), BTreeSet::from([of(stream)]))).collect()
    };
    let mut found = BTreeMap::new();
    let settle = async {
        loop {
            for trainer in trainers.iter_mut() {
                trainer.look().await;
            }
            found = BTreeMap::new();
            for trainer in trainers.iter() {
                for stream in trainer.has.keys() {
                    found.entry(stream.clone()).or_insert_with(BTreeSet::new).insert(trainer.name.to_owned());
                }
            }
            if found == wanted(trainers) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), settle).await.is_err() {
        panic!("{found:?} is not {:?}", wanted(trainers));
    }
    found.into_iter().map(|(stream, owners)| (stream, owners.into_iter().next().unwrap())).collect()
}

#[tokio::test]
async fn servers_share_the_streams_of_a_relay_and_survive_the_loss_of_one() {
    let (relay, trusting) = relay().await;
    let url = at(&relay, "in");
    let sender = dial(&trusting, &url).await;
    let streams: Vec<String> = (0..12).map(|n| format!("cam-{n}")).collect();
    let _published: Vec<Publisher> =
        streams.iter().map(|name| sender.publish(name, &ALL_TRACKS).unwrap()).collect();

    let mut trainers = vec![
        Trainer::start("a", &trusting, &url).await,
        Trainer::start("b", &trusting, &url).await,
        Trainer::start("c", &trusting, &url).await,
    ];
    let three = settled(&mut trainers, &streams).await;
    for name in ["a", "b", "c"] {
        assert!(three.values().any(|owner| owner == name), "{name} has none: {three:?}");
    }

    // One is lost: its streams go to the others, and no other moves.
    trainers[1].link = None;
    let two = settled(&mut trainers, &streams).await;
    for (stream, owner) in &three {
        assert!(owner == "b" || two[stream] == *owner, "{stream}");
    }
    // It comes back, and takes what was its own: whoever reads that hears why.
    let moving = three.iter().find(|(_, owner)| *owner == "b").unwrap().0;
    let holder = trainers.iter().find(|trainer| trainer.has.contains_key(moving)).unwrap();
    let mut reader = holder.has[moving].track(Track::Video, Delivery::All).await.unwrap();
    trainers[1] = Trainer::start("b", &trusting, &url).await;
    assert!(matches!(soon("the move", reader.next()).await, Err(Error::Reassigned)));
    assert_eq!(settled(&mut trainers, &streams).await, three);
}
