//! One camera's thread: connect, play, and begin again when the connection is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender, TrySendError};
use std::time::Duration;

use futures::StreamExt;
use retina::client::{
    InitialTimestampPolicy, PlayOptions, Session, SessionGroup, SessionOptions, SetupOptions,
    TcpTransportOptions, Transport as Carrier, UdpTransportOptions,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame};
use retina::rtcp::ReceivedCompoundPacket;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::backoff::Backoff;
use super::clock::Clock;
use super::sound::{self, Sound};
use super::{AccessUnit, Config, Error, SILENCE_MAX, Transport, Unit, Video};
use crate::audio;
use crate::limits::MAX_ACCESS_UNIT_BYTES;

/// How often the thread looks whether it should end.
const END_POLL: Duration = Duration::from_millis(50);
/// How long the camera has to hear that we go; after that its own time-out tells it.
const TEARDOWN_MAX: Duration = Duration::from_secs(1);
/// A picture's time this far from the last one's means that the camera's clock was set: a new connection sorts it out.
pub(super) const JUMP_MAX_US: u64 = 10_000_000;

/// Runs a camera until it cannot go on or nobody wants it. The first connection's fate goes to `started`.
pub(super) fn run(config: &Config, started: &Sender<Result<Video, Error>>, queue: Queue, ended: &AtomicBool) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(Error::Thread(error.to_string())))),
    };
    let group = Arc::new(SessionGroup::default());
    let mut thread = Thread {
        config,
        group: group.clone(),
        started: Some(started),
        queue,
        origin: None,
        last_us: 0,
        audio: None,
        audio_us: -1,
    };
    runtime.block_on(async {
        tokio::select! {
            () = thread.go_on() => {}
            () = until(ended) => {}
        }
        // Its own time-out would tell the camera too, only later.
        let _ = timeout(TEARDOWN_MAX, group.await_teardown()).await;
    });
}

async fn until(ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        sleep(END_POLL).await;
    }
}

struct Thread<'a> {
    config: &'a Config,
    group: Arc<SessionGroup>,
    started: Option<&'a Sender<Result<Video, Error>>>,
    queue: Queue,
    /// When the first picture ever came.
    origin: Option<Instant>,
    /// The greatest media time so far, in microseconds.
    last_us: i64,
    /// How the audio of the first connection was coded: no other is taken later.
    audio: Option<audio::Config>,
    /// The newest media time of the audio.
    audio_us: i64,
}

impl Thread<'_> {
    /// Plays, pauses, plays again.
    async fn go_on(&mut self) {
        let mut backoff = Backoff::new(self.config.seed);
        loop {
            let mut first = None;
            let Err(error) = self.play(&mut first).await else { return };
            if let Some(started) = self.started.take() {
                return drop(started.send(Err(error)));
            }
            if error.is_final() {
                return self.queue.end(error);
            }
            self.queue.gap = true;
            let pause = backoff.pause(first.map_or(Duration::ZERO, |first: Instant| first.elapsed()));
            let camera = &self.config.address;
            tracing::warn!(%camera, %error, ?pause, "camera lost, trying again");
            sleep(pause).await;
        }
    }

    /// One connection; `first` is set when its first picture comes. Ends well only if nobody reads any more.
    async fn play(&mut self, first: &mut Option<Instant>) -> Result<(), Error> {
        let connect = timeout(SILENCE_MAX, self.connect()).await;
        let (mut stream, video, mut sound) = connect.map_err(|_| Error::Silent)??;
        match self.started.take() {
            Some(started) => {
                self.audio.clone_from(&video.audio);
                drop(started.send(Ok(video)));
            }
            None => tracing::info!(camera = %self.config.address, "camera is back"),
        }
        let (mut clock, mut report, mut zero_npt_us): (Option<Clock>, _, _) = (None, None, 0);
        let mut picture = Instant::now();
        loop {
            let item = timeout_at(picture + SILENCE_MAX, stream.next()).await.map_err(|_| Error::Silent)?;
            match item.ok_or_else(|| Error::Lost("it ended the stream".into()))?.map_err(|e| lost(&e))? {
                CodecItem::VideoFrame(frame) => {
                    picture = Instant::now();
                    // Decoding starts at a keyframe, and so does media time.
                    if clock.is_none() && !frame.is_random_access_point() {
                        continue;
                    }
                    let clock = clock.get_or_insert_with(|| {
                        first.get_or_insert(picture);
                        let clock = self.clock(&frame, picture, report.take());
                        zero_npt_us = sound::zero_npt_us(&frame, clock.start_us());
                        clock
                    });
                    if self.picture(frame, clock)?.is_err() {
                        return Ok(());
                    }
                }
                CodecItem::AudioFrame(frame) => {
                    let (Some(sound), Some(clock)) = (&mut sound, &clock) else { continue };
                    let packet = sound.packet(&frame, (clock, zero_npt_us), self.last_us, self.audio_us);
                    let Some(packet) = packet else { continue };
                    self.audio_us = packet.pts_us;
                    if self.queue.push_audio(packet).is_err() {
                        return Ok(());
                    }
                }
                CodecItem::Rtcp(packet) => {
                    let Some((ticks, ntp)) = sender_report(&packet) else { continue };
                    let of_sound = sound.as_mut().filter(|sound| sound.stream == packet.stream_id());
                    match (of_sound, &mut clock) {
                        (Some(sound), clock) => sound.report(Some((ticks, ntp)), clock.as_ref()),
                        (None, Some(clock)) => {
                            clock.report(ticks, ntp);
                            sound.iter_mut().for_each(|sound| sound.report(None, Some(clock)));
                        }
                        (None, None) => report = Some((ticks, ntp)),
                    }
                }
                _ => {}
            }
        }
    }

    async fn connect(&self) -> Result<(retina::client::Demuxed, Video, Option<Sound>), Error> {
        let address = &self.config.address;
        let credentials = address.credentials.clone().map(|credentials| retina::client::Credentials {
            username: credentials.user,
            password: credentials.password,
        });
        let options = SessionOptions::default()
            .creds(credentials)
            .user_agent("hone".into())
            .session_group(self.group.clone());
        let described = Session::describe(address.url().clone(), options).await;
        let mut session =
            described.map_err(|e| refused(&e).unwrap_or_else(|| Error::Unreachable(line(&e))))?;
        let streams = session.streams();
        let codecs = || {
            let videos = streams.iter().filter(|stream| stream.media() == "video");
            videos.map(|stream| stream.encoding_name().to_uppercase()).collect()
        };
        let ours = streams.iter().position(|s| s.media() == "video" && s.encoding_name() == "h264");
        let ours = ours.ok_or_else(|| Error::NoH264(codecs()))?;
        let sound = if self.config.audio { sound::choose(streams) } else { None };
        let sound = sound.filter(|(_, config)| {
            let known = self.started.is_some() || self.audio.as_ref() == Some(config);
            if !known {
                tracing::warn!("the camera's audio is another than before and is left out");
            }
            known
        });
        let mut video = Video { size: None, fps: None, audio: None };
        video.fps = streams[ours].framerate().map(f64::from);
        if let Some(ParametersRef::Video(parameters)) = streams[ours].parameters() {
            video.size = Some(parameters.pixel_dimensions());
            let told = parameters.frame_rate().filter(|&(duration, _)| duration > 0);
            video.fps = told.map(|(duration, scale)| f64::from(scale) / f64::from(duration)).or(video.fps);
        }
        let mut format = FrameFormat::SIMPLE;
        format.aac_framing = retina::codec::aac::Framing::Raw;
        let setup = || {
            let carrier = match self.config.transport {
                Transport::Tcp => Carrier::Tcp(TcpTransportOptions::default()),
                Transport::Udp => Carrier::Udp(UdpTransportOptions::default()),
            };
            SetupOptions::default().transport(carrier).frame_format(format)
        };
        let other = |e: retina::Error| refused(&e).unwrap_or_else(|| lost(&e));
        session.setup(ours, setup()).await.map_err(other)?;
        let mut stream = None;
        if let Some((index, config)) = sound {
            session.setup(index, setup()).await.map_err(other)?;
            (stream, video.audio) = (Some(index), Some(config));
        }
        // Retina's own check of jumps takes B-frames for some.
        let options = PlayOptions::default().initial_timestamp(InitialTimestampPolicy::Permissive);
        let playing = session.play(options).await.map_err(other)?;
        Ok((playing.demuxed().map_err(|e| lost(&e))?, video, stream.map(Sound::new)))
    }

    /// The clock of a connection whose first picture is this one: it goes on where the last connection's was, with the
    /// time in between.
    fn clock(&mut self, frame: &VideoFrame, now: Instant, report: Option<(i64, u64)>) -> Clock {
        let since = now - *self.origin.get_or_insert(now);
        let since_us = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let start_us = if since.is_zero() { 0 } else { since_us.max(self.last_us.saturating_add(1)) };
        let timestamp = frame.timestamp();
        let mut clock = Clock::new(timestamp.clock_rate().get(), timestamp.timestamp(), start_us);
        if let Some((ticks, ntp)) = report {
            clock.report(ticks, ntp);
        }
        clock
    }

    /// Hands a picture on; the inner error says that nobody wants it.
    fn picture(&mut self, frame: VideoFrame, clock: &Clock) -> Result<Result<(), Unread>, Error> {
        let keyframe = frame.is_random_access_point();
        if frame.loss() > 0 && !keyframe {
            tracing::debug!(packets = frame.loss(), "packets lost, waiting for a keyframe");
            self.queue.gap = true;
        }
        let pts_us = clock.pts_us(frame.timestamp().timestamp());
        if pts_us.abs_diff(self.last_us) > JUMP_MAX_US && clock.start_us() != pts_us {
            return Err(Error::Lost("its clock jumped".into()));
        }
        self.last_us = self.last_us.max(pts_us);
        let data = frame.into_data();
        if data.len() > MAX_ACCESS_UNIT_BYTES {
            return Err(Error::TooLarge(data.len()));
        }
        let zero_unix_us = clock.zero_unix_us();
        Ok(self.queue.push(AccessUnit { data, pts_us, keyframe, fresh: false, zero_unix_us }))
    }
}

/// RTP time and NTP time of a sender report.
fn sender_report(packet: &ReceivedCompoundPacket) -> Option<(i64, u64)> {
    let ticks = packet.rtp_timestamp()?.timestamp();
    let report = packet.pkts().next()?.as_sender_report().ok()??;
    Some((ticks, report.ntp_timestamp().0))
}

/// What a status of the camera's means, if it is one with a remedy.
fn refused(error: &retina::Error) -> Option<Error> {
    match error.status_code()? {
        401 | 403 => Some(Error::Credentials),
        404 | 454 => Some(Error::NoStream),
        _ => None,
    }
}

fn lost(error: &retina::Error) -> Error {
    Error::Lost(line(error))
}

/// What retina says, less the lines with addresses and packet positions.
fn line(error: &retina::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The reader is gone.
pub(super) struct Unread;

/// The queue to the reader, and whether something is missing in it.
pub(super) struct Queue {
    to: SyncSender<Result<Unit, Error>>,
    /// Only a keyframe helps.
    gap: bool,
}

impl Queue {
    pub(super) fn new(to: SyncSender<Result<Unit, Error>>) -> Self {
        Self { to, gap: true }
    }

    /// Puts a picture in, if it can be decoded there. A full queue loses the rest of the GOP.
    fn push(&mut self, unit: AccessUnit) -> Result<(), Unread> {
        if self.gap && !unit.keyframe {
            return Ok(());
        }
        let unit = AccessUnit { fresh: self.gap, ..unit };
        self.gap = false;
        match self.to.try_send(Ok(Unit::Picture(unit))) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                tracing::debug!("the reader of the camera is behind, the rest of a GOP is dropped");
                self.gap = true;
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(Unread),
        }
    }

    /// Puts a packet of audio in; a full queue loses it.
    fn push_audio(&self, packet: audio::Packet) -> Result<(), Unread> {
        match self.to.try_send(Ok(Unit::Audio(packet))) {
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Unread),
        }
    }

    /// Says why there is no more, once there is room.
    fn end(&mut self, error: Error) {
        // Whoever is gone needs no reason.
        let _ = self.to.send(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn unit(pts_us: i64, keyframe: bool) -> AccessUnit {
        AccessUnit { data: vec![], pts_us, keyframe, fresh: false, zero_unix_us: None }
    }

    #[test]
    fn a_slow_reader_loses_whole_gops_and_is_told() {
        let (to, from) = mpsc::sync_channel(3);
        let mut queue = Queue::new(to);
        for time in 0..8 {
            assert!(queue.push(unit(time, time == 2 || time == 6)).is_ok());
        }
        // 0 and 1 came before any keyframe, 5 found no room.
        let read = || match from.try_recv().ok()?.unwrap() {
            Unit::Picture(unit) => Some((unit.pts_us, unit.fresh)),
            Unit::Audio(packet) => Some((packet.pts_us, false)),
        };
        assert_eq!(
            [read(), read(), read(), read()],
            [Some((2, true)), Some((3, false)), Some((4, false)), None]
        );
        // 6 found no room either; what follows waits for the next keyframe.
        for time in 8..12 {
            assert!(queue.push(unit(time, time == 10)).is_ok());
        }
        assert_eq!([read(), read(), read()], [Some((10, true)), Some((11, false)), None]);
        drop(from);
        assert!(queue.push(unit(12, false)).is_err());
    }
}
