//! Senders, the server's own program and viewers on loopback, without a lossy link.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::{LIVE, client, config, next, payload, server, soon};
use hone_transport::{Client, Delivery, EndpointConfig, Error, Server, Track};
use std::time::Duration;

#[tokio::test]
async fn every_track_arrives_untouched_and_in_order() {
    let server = server().await;
    let sender = client(&server).await;
    let mut publisher = sender.publish("cam", &Track::ALL).unwrap();
    let incoming = soon("announcement", server.incoming()).await.unwrap();
    assert_eq!(incoming.name(), "cam");
    for (track, sizes) in [
        (Track::Catalog, vec![300]),
        (Track::Audio, vec![200, 1, 65_536]),
        (Track::Video, vec![20_000, 0, 1, 2_000]),
        (Track::Patches, vec![11_000, 9_000]),
        (Track::Model, vec![400_000, 100_000]),
    ] {
        let mut writer = publisher.track(track).unwrap();
        let mut reader = incoming.track(track, Delivery::All).await.unwrap();
        let mut written = 0;
        for (i, &size) in sizes.iter().enumerate() {
            writer.write(i == 0, 1_000_001 * i as i64, payload(i as u64, size)).unwrap();
            written += size as u64;
            let message = next(&mut reader).await;
            assert_eq!((message.group, message.index), (0, i as u64));
            assert_eq!(message.pts_us, 1_000_001 * i as i64);
            assert_eq!(message.payload, payload(i as u64, size));
        }
        assert_eq!(writer.bytes_written(), written);
        assert!(writer.has_subscriber());
        drop(writer);
        assert!(soon("end of track", reader.next()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_reader_may_ask_for_no_more_and_for_more_again() {
    let server = server().await;
    let sender = client(&server).await;
    let mut publisher = sender.publish("cam", &[Track::Patches]).unwrap();
    let mut writer = publisher.track(Track::Patches).unwrap();
    assert!(writer.is_asked(), "nobody has asked for less yet");
    let incoming = soon("announcement", server.incoming()).await.unwrap();
    let mut reader = incoming.track(Track::Patches, Delivery::All).await.unwrap();
    writer.write(true, 0, payload(0, 100)).unwrap();
    assert_eq!(next(&mut reader).await.pts_us, 0);
    for (i, more) in [false, true, false].into_iter().enumerate() {
        reader.ask(more).unwrap();
        let heard = async {
            while writer.is_asked() != more {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = soon("the writer's hearing of it", heard) => {}
            message = reader.next() => panic!("{message:?}"),
        }
        // Nothing is lost on the way, and nothing comes twice.
        writer.write(i == 1, 1 + i as i64, payload(i as u64, 100)).unwrap();
        assert_eq!(next(&mut reader).await.pts_us, 1 + i as i64);
    }
}

#[tokio::test]
async fn a_track_has_one_writer_and_must_have_been_published() {
    let server = server().await;
    let mut publisher = server.publish("cam", &[Track::Video]).unwrap();
    let _writer = publisher.track(Track::Video).unwrap();
    for track in [Track::Video, Track::Model] {
        assert!(matches!(publisher.track(track), Err(Error::NoTrack { .. })));
    }
    let viewer = client(&server).await;
    let broadcast = soon("broadcast", viewer.subscribe("cam")).await.unwrap();
    let missing = soon("refusal", broadcast.track(Track::Model, LIVE)).await;
    assert!(matches!(missing, Err(Error::NoTrack { track: Track::Model, .. })), "{:?}", missing.err());
}

#[tokio::test]
async fn a_viewer_sees_what_the_server_publishes_and_never_the_sender() {
    let server = server().await;
    let sender = client(&server).await;
    let viewer = client(&server).await;
    let _raw = sender.publish("cam", &Track::ALL).unwrap();
    soon("announcement", server.incoming()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), viewer.subscribe("cam")).await;
    assert!(early.is_err(), "the sender's broadcast leaked");

    let _own = server.publish("cam", &[Track::Catalog, Track::Video, Track::Model]).unwrap();
    let broadcast = soon("broadcast", viewer.subscribe("cam")).await.unwrap();
    let patches = soon("refusal", broadcast.track(Track::Patches, Delivery::All)).await;
    assert!(matches!(patches, Err(Error::NoTrack { track: Track::Patches, .. })), "{:?}", patches.err());
}

#[tokio::test]
async fn a_viewer_may_come_before_the_sender() {
    let server = server().await;
    let viewer = client(&server).await;
    let viewing = async {
        let broadcast = viewer.subscribe("cam").await.unwrap();
        let mut video = broadcast.track(Track::Video, Delivery::All).await.unwrap();
        video.next().await.unwrap().unwrap()
    };
    let sending = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut publisher = server.publish("cam", &[Track::Video]).unwrap();
        let mut video = publisher.track(Track::Video).unwrap();
        video.write(true, 7, payload(1, 1000)).unwrap();
        (publisher, video)
    };
    let (message, _held) = soon("first frame", async { tokio::join!(viewing, sending) }).await;
    assert_eq!((message.group, message.index, message.pts_us), (0, 0, 7));
}

#[tokio::test]
async fn a_late_joiner_gets_the_newest_snapshot_and_every_later_delta() {
    let server = server().await;
    let mut publisher = server.publish("cam", &[Track::Model]).unwrap();
    let mut model = publisher.track(Track::Model).unwrap();
    for group in 0..3u64 {
        for index in 0..4u64 {
            model.write(index == 0, 0, payload(10 * group + index, 50_000)).unwrap();
        }
    }
    for delivery in [LIVE, Delivery::All] {
        let viewer = client(&server).await;
        let broadcast = soon("broadcast", viewer.subscribe("cam")).await.unwrap();
        let mut reader = broadcast.track(Track::Model, delivery).await.unwrap();
        for index in 0..4u64 {
            let message = next(&mut reader).await;
            assert_eq!((message.group, message.index), (2, index));
            assert_eq!(message.payload, payload(20 + index, 50_000));
        }
    }
    let viewer = client(&server).await;
    let broadcast = soon("broadcast", viewer.subscribe("cam")).await.unwrap();
    let mut reader = broadcast.track(Track::Model, LIVE).await.unwrap();
    for index in 4..7u64 {
        model.write(false, 0, payload(20 + index, 1_000)).unwrap();
    }
    for index in 0..7u64 {
        assert_eq!(next(&mut reader).await.index, index);
    }
}

#[tokio::test]
async fn two_viewers_get_the_same() {
    let server = server().await;
    let mut publisher = server.publish("cam", &[Track::Video]).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    let viewers = [client(&server).await, client(&server).await];
    let mut readers = Vec::new();
    for viewer in &viewers {
        let broadcast = soon("broadcast", viewer.subscribe("cam")).await.unwrap();
        readers.push(broadcast.track(Track::Video, Delivery::All).await.unwrap());
    }
    let frames: Vec<Bytes> = (0..90).map(|i| payload(i, 3_000)).collect();
    for (i, frame) in frames.iter().enumerate() {
        video.write(i % 30 == 0, i as i64 * 33_333, frame.clone()).unwrap();
    }
    drop(video);
    for reader in &mut readers {
        for frame in &frames {
            assert_eq!(next(reader).await.payload, frame);
        }
        assert!(soon("end", reader.next()).await.unwrap().is_none());
    }
}

/// Publishes one frame on "cam", and reads it at the server.
async fn one_life(server: &Server, sender: &Client, seed: u64) {
    let mut publisher = sender.publish("cam", &[Track::Video]).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    video.write(true, 0, payload(seed, 500)).unwrap();
    let incoming = soon("announcement", server.incoming()).await.unwrap();
    let mut reader = incoming.track(Track::Video, Delivery::All).await.unwrap();
    let message = next(&mut reader).await;
    assert_eq!((message.group, message.payload), (0, payload(seed, 500)));
    drop((video, publisher));
    assert!(soon("end of track", reader.next()).await.unwrap().is_none());
    soon("end of broadcast", incoming.closed()).await;
}

#[tokio::test]
async fn a_sender_may_leave_and_return_under_its_name() {
    let server = server().await;
    let sender = client(&server).await;
    one_life(&server, &sender, 1).await;
    one_life(&server, &sender, 2).await;
    sender.close().await;
    one_life(&server, &client(&server).await, 3).await;
}

#[tokio::test]
async fn a_viewer_follows_a_broadcast_that_starts_again() {
    let server = server().await;
    let viewer = client(&server).await;
    for seed in 0..3 {
        let mut publisher = server.publish("cam", &[Track::Video]).unwrap();
        let mut video = publisher.track(Track::Video).unwrap();
        video.write(true, 0, payload(seed, 500)).unwrap();
        let broadcast = soon("broadcast", viewer.subscribe("cam")).await.unwrap();
        let mut reader = broadcast.track(Track::Video, LIVE).await.unwrap();
        assert_eq!(next(&mut reader).await.payload, payload(seed, 500));
        drop((video, publisher));
        assert!(soon("end of track", reader.next()).await.unwrap().is_none());
        soon("end of broadcast", broadcast.closed()).await;
    }
}

/// A reader that has joined asks for older groups from then on; that must not cross the end on its way, and break off
/// what ended.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_group_end_and_do_not_break_off() {
    let server = server().await;
    let viewer = client(&server).await;
    for seed in 0..100 {
        let mut publisher = server.publish("cam", &[Track::Video]).unwrap();
        let mut video = publisher.track(Track::Video).unwrap();
        let broadcast = soon("broadcast", viewer.subscribe("cam")).await.unwrap();
        let mut reader = broadcast.track(Track::Video, LIVE).await.unwrap();
        let reading = tokio::spawn(async move {
            assert_eq!(next(&mut reader).await.payload, payload(seed, 500));
            soon("end of track", reader.next()).await
        });
        video.write(true, 0, payload(seed, 500)).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop((video, publisher));
        let end = reading.await.unwrap();
        assert!(matches!(end, Ok(None)), "stream {seed}: {end:?}");
        soon("end of broadcast", broadcast.closed()).await;
    }
}

#[tokio::test]
async fn the_newest_sender_takes_the_name() {
    let server = server().await;
    let old = client(&server).await;
    let _old_publisher = old.publish("cam", &[Track::Video]).unwrap();
    let first = soon("announcement", server.incoming()).await.unwrap();
    let mut reader = first.track(Track::Video, LIVE).await.unwrap();
    let new = client(&server).await;
    let mut publisher = new.publish("cam", &[Track::Video]).unwrap();
    let second = soon("announcement", server.incoming()).await.unwrap();
    assert!(matches!(soon("close", old.closed()).await, Error::Replaced));
    assert!(soon("end", reader.next()).await.is_err(), "the old track broke off");
    soon("end of broadcast", first.closed()).await;
    // The new one is untouched.
    publisher.track(Track::Video).unwrap().write(true, 0, payload(1, 10)).unwrap();
    let mut reader = second.track(Track::Video, Delivery::All).await.unwrap();
    assert_eq!(next(&mut reader).await.payload, payload(1, 10));
}

#[tokio::test]
async fn a_sender_that_vanishes_is_an_error_and_not_an_end() {
    let server = server().await;
    let sender = client(&server).await;
    let mut publisher = sender.publish("cam", &[Track::Video]).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    video.write(true, 0, payload(1, 100)).unwrap();
    let incoming = soon("announcement", server.incoming()).await.unwrap();
    let mut reader = incoming.track(Track::Video, Delivery::All).await.unwrap();
    next(&mut reader).await;
    drop(sender);
    let end = soon("break", reader.next()).await;
    assert!(matches!(end, Err(Error::Disconnected(_))), "{end:?}");
    soon("end of broadcast", incoming.closed()).await;
    drop((video, publisher));
}

#[tokio::test]
async fn a_stale_video_group_is_left_for_the_newest() {
    let server = server().await;
    let mut publisher = server.publish("cam", &[Track::Video]).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    let viewer = client(&server).await;
    let broadcast = soon("broadcast", viewer.subscribe("cam")).await.unwrap();
    let mut live = broadcast.track(Track::Video, LIVE).await.unwrap();
    video.write(true, 0, payload(0, 100)).unwrap();
    assert_eq!(next(&mut live).await.group, 0);
    // The reader sleeps for four seconds of media.
    for i in 1..=120 {
        video.write(i % 30 == 0, i * 33_333, payload(i as u64, 100)).unwrap();
    }
    drop(video);
    let mut groups = Vec::new();
    while let Some(message) = soon("message", live.next()).await.unwrap() {
        groups.push(message.group);
    }
    assert!(groups.contains(&4) && !groups.contains(&1) && !groups.contains(&2), "{groups:?}");
}

#[tokio::test]
async fn a_reader_of_everything_is_told_what_it_lost() {
    let config = EndpointConfig {
        limits: hone_transport::config::Limits { kept_ms: 1_000, ..Default::default() },
        ..config()
    };
    let server = Server::bind(&config).await.unwrap();
    let mut publisher = server.publish("cam", &[Track::Video]).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    let viewer = client(&server).await;
    let broadcast = soon("broadcast", viewer.subscribe("cam")).await.unwrap();
    let mut all = broadcast.track(Track::Video, Delivery::All).await.unwrap();
    video.write(true, 0, payload(0, 100)).unwrap();
    assert_eq!(next(&mut all).await.group, 0);
    for i in 1..=600 {
        video.write(i % 30 == 0, i * 33_333, payload(i as u64, 100)).unwrap();
    }
    drop(video);
    let mut last = (0, 0);
    let end = loop {
        match soon("message", all.next()).await {
            Ok(Some(message)) => {
                let follows = [(last.0, last.1 + 1), (last.0 + 1, 0)];
                assert!(follows.contains(&(message.group, message.index)), "a silent gap after {last:?}");
                last = (message.group, message.index);
            }
            end => break end,
        }
    };
    assert!(matches!(end, Err(Error::Lagged { track: Track::Video, .. })), "{end:?} after {last:?}");
}

#[tokio::test]
async fn a_clean_shutdown_delivers_the_last_frame() {
    for server_side in [false, true] {
        let server = server().await;
        let peer = client(&server).await;
        let mut publisher = match server_side {
            true => server.publish("cam", &[Track::Model]).unwrap(),
            false => peer.publish("cam", &[Track::Model]).unwrap(),
        };
        let broadcast = match server_side {
            true => soon("broadcast", peer.subscribe("cam")).await.unwrap(),
            false => soon("announcement", server.incoming()).await.unwrap(),
        };
        let mut reader = broadcast.track(Track::Model, Delivery::All).await.unwrap();
        let mut model = publisher.track(Track::Model).unwrap();
        // The reader is there; only then must a clean end wait for it.
        model.write(true, 0, payload(9, 10)).unwrap();
        assert_eq!(next(&mut reader).await.payload, payload(9, 10));
        // More than fits in one flight.
        for i in 0..4 {
            model.write(false, 0, payload(i, 2_000_000)).unwrap();
        }
        drop((model, publisher));
        let closing = async {
            match server_side {
                true => server.close().await,
                false => peer.close().await,
            }
        };
        let reading = async {
            for i in 0..4 {
                let message = reader.next().await.unwrap().expect("all four");
                assert_eq!(message.payload, payload(i, 2_000_000));
            }
            assert!(reader.next().await.unwrap().is_none());
        };
        soon("shutdown", async { tokio::join!(closing, reading) }).await;
    }
}

#[tokio::test]
async fn closing_the_server_ends_its_clients_and_its_queue() {
    let server = server().await;
    let viewer = client(&server).await;
    soon("close", server.close()).await;
    assert!(matches!(soon("end", viewer.closed()).await, Error::Disconnected(_)));
    assert!(soon("end", server.incoming()).await.is_none());
    assert!(soon("end", viewer.subscribe("cam")).await.is_err());
}

#[tokio::test]
async fn one_session_may_publish_several_names_and_no_more_than_its_share() {
    let server = server().await;
    let sender = client(&server).await;
    let mut held = Vec::new();
    for i in 0..8 {
        held.push(sender.publish(&format!("cam{i}"), &[Track::Video]).unwrap());
        let incoming = soon("announcement", server.incoming()).await.unwrap();
        assert_eq!(incoming.name(), format!("cam{i}"));
    }
    // One goes, one comes.
    held.pop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    held.push(sender.publish("cam8", &[Track::Video]).unwrap());
    assert_eq!(soon("announcement", server.incoming()).await.unwrap().name(), "cam8");
    held.push(sender.publish("cam9", &[Track::Video]).unwrap());
    assert!(matches!(soon("close", sender.closed()).await, Error::Full));
}

#[tokio::test]
async fn dropping_an_endpoint_ends_its_readers() {
    for drop_server in [false, true] {
        let server = server().await;
        let viewer = client(&server).await;
        let mut publisher = server.publish("cam", &[Track::Video]).unwrap();
        let mut video = publisher.track(Track::Video).unwrap();
        video.write(true, 0, payload(1, 100)).unwrap();
        let broadcast = soon("broadcast", viewer.subscribe("cam")).await.unwrap();
        let mut reader = broadcast.track(Track::Video, LIVE).await.unwrap();
        next(&mut reader).await;
        let mut ends = (Some(server), Some(viewer));
        match drop_server {
            true => drop(ends.0.take()),
            false => drop(ends.1.take()),
        }
        let end = soon("break", reader.next()).await;
        assert!(matches!(end, Err(Error::Disconnected(_))), "{end:?}");
        soon("end of broadcast", broadcast.closed()).await;
        drop((ends, video, publisher));
    }
}

#[tokio::test]
async fn who_joins_a_track_of_many_short_groups_reads_on() {
    /// More than wait for one that is late, and as many as streams may be open.
    const GROUPS: i64 = 90;
    let server = server().await;
    let mut publisher = server.publish("cam", &[Track::Video]).unwrap();
    let mut video = publisher.track(Track::Video).unwrap();
    for i in 0..GROUPS {
        video.write(true, i, payload(1, 10)).unwrap();
    }
    let viewer = client(&server).await;
    let broadcast = soon("stream", viewer.subscribe("cam")).await.unwrap();
    let mut reader = broadcast.track(Track::Video, Delivery::All).await.unwrap();
    let first = next(&mut reader).await.pts_us;
    for pts_us in first + 1..GROUPS {
        assert_eq!(next(&mut reader).await.pts_us, pts_us);
    }
    video.write(true, GROUPS, payload(1, 10)).unwrap();
    assert_eq!(next(&mut reader).await.pts_us, GROUPS);
}
