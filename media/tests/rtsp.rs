//! Cameras, as GStreamer's RTSP server plays them: codings, transports, credentials, restarts, and what is no camera.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/rtsp.rs"]
mod camera;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use camera::{Camera, have_camera};
use hone_media::frame::Frame;
use hone_media::rtsp::{self, Address, Config, Transport};
use hone_media::source::{Error, Item, RtspSource, Source};

const VIDEO: &str =
    "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=180,framerate=30/1";
const PAY: &str = "rtph264pay name=pay0 pt=96";

fn config(address: &str, transport: Transport) -> Config {
    Config { address: address.parse().unwrap(), transport, audio: true, seed: 3 }
}

fn open(camera: &Camera, path: &str, transport: Transport) -> RtspSource {
    RtspSource::open(config(&format!("rtsp://127.0.0.1:{}{path}", camera.port), transport)).unwrap()
}

fn take(source: &mut RtspSource, count: usize) -> Vec<Frame> {
    (0..count).map(|_| source.next_frame().unwrap().unwrap()).collect()
}

fn error(address: &str) -> rtsp::Error {
    match RtspSource::open(config(address, Transport::Tcp)) {
        Err(Error::Camera { source, .. }) => source,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{address} is taken for a camera"),
    }
}

#[test]
fn baseline_and_high_with_b_frames_and_audio_come_whole_over_tcp_and_udp() {
    if !have_camera() {
        return;
    }
    let baseline = format!(
        "/baseline=( {VIDEO} ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! \
         video/x-h264,profile=constrained-baseline ! {PAY} config-interval=1 \
         audiotestsrc is-live=true ! avenc_aac ! rtpmp4gpay name=pay1 pt=97 )"
    );
    // Two B-frames that refer to each other, three references, parameter sets in the description alone.
    let high = format!(
        "/high=( {VIDEO} ! x264enc bframes=2 b-pyramid=true ref=3 rc-lookahead=5 speed-preset=veryfast key-int-max=15 ! \
         video/x-h264,profile=high ! {PAY} )"
    );
    let camera = Camera::start(&[&baseline, &high]);
    for (path, has_audio) in [("/baseline", true), ("/high", false)] {
        for transport in [Transport::Tcp, Transport::Udp] {
            let mut source = open(&camera, path, transport);
            let info = *source.info();
            let seen = (info.width, info.height, source.audio().is_some(), info.live);
            assert_eq!(seen, (320, 180, has_audio, true), "{path}");
            assert!((info.fps - 30.0).abs() < 0.1, "{path}: {info:?}");
            let frames = take(&mut source, 50);
            for pair in frames.windows(2) {
                let step = pair[1].pts_us - pair[0].pts_us;
                assert!((step - 33_333).abs() <= 20, "{path} {transport:?}: a step of {step} us");
                // The ball moves a little from frame to frame: none is repeated, and none stands for another.
                let differ = |a: &Frame, b: &Frame| -> u64 {
                    a.image.y().iter().zip(b.image.y()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
                };
                let moved = differ(&pair[0], &pair[1]);
                assert!(
                    (1000..200_000).contains(&moved),
                    "{path} {transport:?}: {moved} from frame to frame"
                );
            }
        }
    }
}

#[test]
fn b_frames_and_audio_come_beside_each_other() {
    if !have_camera() {
        return;
    }
    let camera = Camera::start(&[&format!(
        "/cam=( {VIDEO} ! x264enc bframes=2 b-pyramid=true rc-lookahead=5 speed-preset=veryfast key-int-max=15 ! \
         video/x-h264,profile=high ! {PAY} config-interval=1 \
         audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! rtpmp4gpay name=pay1 pt=97 )"
    )]);
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut source = open(&camera, "/cam", transport);
        assert!(source.audio().is_some_and(|audio| audio.config.sample_rate() == 48_000));
        let (mut pictures, mut sound) = (vec![], vec![]);
        while pictures.len() < 75 {
            match source.next().unwrap().unwrap() {
                Item::Frame(frame) => pictures.push(frame.pts_us),
                Item::Audio(packet) => sound.push(packet.pts_us),
            }
        }
        let steps = |times: &[i64], step_us: i64| {
            times.windows(2).all(|pair| (pair[1] - pair[0] - step_us).abs() <= 30)
        };
        assert!(steps(&pictures, 33_333), "{transport:?}: {pictures:?}");
        // 1024 samples each.
        assert!(sound.len() >= 75 && steps(&sound, 21_333), "{transport:?}: {sound:?}");
        // B-frames hold pictures back, not their times.
        let apart_us = pictures[74] - sound[sound.len() - 1];
        assert!(apart_us.abs() < 1_000_000, "{transport:?}: {apart_us} us apart");
    }
}

#[test]
fn a_camera_that_restarts_comes_back_and_the_gap_shows_in_the_times() {
    restarts(Transport::Tcp);
}

#[test]
fn so_does_one_over_udp() {
    restarts(Transport::Udp);
}

fn restarts(transport: Transport) {
    if !have_camera() {
        return;
    }
    let path =
        format!("/cam=( {VIDEO} ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! {PAY} )");
    let camera = Camera::start(&[&path]);
    let port = camera.port.to_string();
    let mut source = open(&camera, "/cam", transport);
    let before = take(&mut source, 30);
    let start = Instant::now();
    drop(camera);
    std::thread::sleep(Duration::from_millis(700));
    let _camera = Camera::start(&["--port", &port, &path]);
    // What was on its way still comes; then a step as long as the camera was away.
    let mut times = vec![before[29].pts_us];
    let gap = loop {
        times.push(take(&mut source, 1)[0].pts_us);
        let gap = times[times.len() - 1] - times[times.len() - 2];
        if gap > 500_000 {
            break gap;
        }
        assert!(times.len() < 100 && start.elapsed() < Duration::from_secs(60), "no gap: {times:?}");
    };
    let away = i64::try_from(start.elapsed().as_micros()).unwrap();
    assert!(gap < away + 200_000, "a gap of {gap} us where the camera was away for {away} us");
    let after = take(&mut source, 20);
    assert!(after.windows(2).all(|pair| (pair[1].pts_us - pair[0].pts_us - 33_333).abs() <= 20));
}

#[test]
fn the_right_password_opens_and_a_wrong_one_is_refused_without_being_shown() {
    if !have_camera() {
        return;
    }
    let path = format!("/cam=( {VIDEO} ! x264enc tune=zerolatency key-int-max=15 ! {PAY} )");
    let camera = Camera::start(&["--user", "viewer:s@cret", &path]);
    let address = |user: &str| format!("rtsp://{user}127.0.0.1:{}/cam", camera.port);
    let mut source = RtspSource::open(config(&address("viewer:s%40cret@"), Transport::Tcp)).unwrap();
    take(&mut source, 3);
    let digest = Camera::start(&["--digest", "viewer:s@cret", &path]);
    let hashed = |user: &str| format!("rtsp://{user}127.0.0.1:{}/cam", digest.port);
    let mut source = RtspSource::open(config(&hashed("viewer:s%40cret@"), Transport::Tcp)).unwrap();
    take(&mut source, 3);
    // Given beside the address, as a file of settings would.
    let mut by_hand = config(&address(""), Transport::Tcp);
    by_hand.address.credentials =
        Some(rtsp::Credentials { user: "viewer".into(), password: "s@cret".into() });
    take(&mut RtspSource::open(by_hand).unwrap(), 3);
    for (wrong, address) in ["", "viewer:wrong@", "other:s%40cret@"]
        .into_iter()
        .flat_map(|wrong| [(wrong, address(wrong)), (wrong, hashed(wrong))])
    {
        assert_eq!(error(&address), rtsp::Error::Credentials, "{wrong}");
        let shown = RtspSource::open(config(&address, Transport::Tcp)).err().unwrap().to_string();
        assert!(!shown.contains("cret") && !shown.contains("wrong") && !shown.contains("viewer"), "{shown}");
        assert!(shown.starts_with("rtsp://127.0.0.1:"), "{shown}");
    }
}

#[test]
fn what_sends_no_h264_is_refused_by_name() {
    if !have_camera() {
        return;
    }
    let camera = Camera::start(&[&format!("/jpeg=( {VIDEO} ! jpegenc ! rtpjpegpay name=pay0 )")]);
    let address = |path: &str| format!("rtsp://127.0.0.1:{}{path}", camera.port);
    assert_eq!(error(&address("/jpeg")), rtsp::Error::NoH264(vec!["JPEG".into()]));
    assert_eq!(error(&address("/none")), rtsp::Error::NoStream);
}

#[test]
fn what_is_no_camera_is_said_in_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("rtsp://user:hidden@{}/cam", listener.local_addr().unwrap());
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\xff\xfe garbage \r\n\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nnosdp",
        b"",
    ];
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    for answer in answers {
        let error = RtspSource::open(config(&address, Transport::Tcp)).err().unwrap().to_string();
        let answer = String::from_utf8_lossy(answer).into_owned();
        assert!(error.starts_with("rtsp://127.0.0.1:") && !error.contains('\n'), "{answer:?}: {error}");
        assert!(!error.contains("hidden") && !error.contains("user"), "{answer:?}: {error}");
    }
    server.join().unwrap();
    // Nobody listens any more.
    assert!(matches!(error(&address), rtsp::Error::Unreachable(_)));
    assert!("rtsp://".parse::<Address>().is_err());
}
