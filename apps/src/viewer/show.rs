//! The screen's thread: decodes what comes, waits for each frame's time, upscales it, hands it on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use hone_media::decode::Holds;
use hone_media::encode::Packet;
use hone_media::frame::Frame;
use hone_runtime::{Budget, Mode, Preference, Upscaler, wgpu};
use hone_transport::Message;
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::{
    Format, Input, Monitor, Options, Playout, Received, Shown, ShownFrame, Sink, Stream, Wants, latency,
};
use crate::screen::{Screen, Target};
use crate::sender::STOP_POLL;

/// Decoded frames that wait for their time: as many as the longest delay holds at 60 frames a second, and some.
const FRAMES_WAITING_MAX: usize = 32;
/// While messages wait they come first, so that a viewer that is behind finds the newest frame; but a picture is
/// shown at least this often.
const SHOW_AT_LEAST: Duration = Duration::from_millis(500);
/// A frame shown no later than this is in time: the viewer has caught up with the group in which it joined.
const IN_TIME: Duration = Duration::from_millis(50);

/// How often the passes of a frame are read from the device.
const PASSES_EVERY: Duration = Duration::from_secs(1);

/// A device that is being opened.
type Opening = mpsc::Receiver<Result<Upscaler, hone_runtime::Error>>;

/// Opens a device beside everything else: drivers compile, and what they compute is checked first.
fn open(stream: &Stream, target: Target) -> Opening {
    let (opened, opening) = mpsc::sync_channel(1);
    let arch = stream.arch;
    // Fails only if the stream is over.
    std::thread::spawn(move || drop(opened.send(target.upscaler(arch))));
    opening
}

/// Shows one stream until it ends or `stop` is set.
///
/// # Errors
/// What the device or the sink say.
pub(super) fn run<S: Sink>(
    stream: &Stream,
    options: Options,
    inbox: Receiver<Input>,
    sink: &mut S,
    monitor: &Monitor,
    stop: &AtomicBool,
) -> Result<Received> {
    let begun = Instant::now();
    // Live, the CPU shows the first pictures while the device is opened.
    let opening = (!options.every_frame && options.target.options.device != Preference::Cpu)
        .then(|| open(stream, options.target.clone()));
    let first = if opening.is_some() { Preference::Cpu.into() } else { options.target.clone() };
    let screen = Screen::new(stream.arch, first)?;
    tracing::info!(arch = %stream.arch, backend = screen.backend(), "stream found");
    monitor.backend(screen.backend(), screen.variant());
    sink.start(stream)?;
    let mut show = Show {
        begun,
        inbox,
        open: true,
        options,
        stream,
        sink,
        monitor,
        stop,
        screen,
        opening,
        chosen: false,
        last_passes: begun,
        budget: Budget::new(Duration::from_secs_f64(1.0 / stream.fps.clamp(1.0, 240.0))),
        playout: Playout::default(),
        waiting: VecDeque::new(),
        last: None,
        good_from_us: None,
        last_shown: None,
        caught_up: false,
        rgba: vec![],
        received: Received::default(),
    };
    let shown = show.run();
    // The recordings are finished, whatever happened.
    let received = show.finish();
    shown.and(received)
}

struct Show<'a, S> {
    /// The origin of the playout's times.
    begun: Instant,
    inbox: Receiver<Input>,
    /// Whether more may come.
    open: bool,
    options: Options,
    stream: &'a Stream,
    sink: &'a mut S,
    monitor: &'a Monitor,
    stop: &'a AtomicBool,
    screen: Screen,
    opening: Option<Opening>,
    /// Whether that device was chosen while the stream was shown: then the one in use stays if it fails.
    chosen: bool,
    last_passes: Instant,
    budget: Budget,
    playout: Playout,
    /// Decoded, in the order of showing.
    waiting: VecDeque<Frame>,
    /// Group and index of the newest access unit.
    last: Option<(u64, u64)>,
    /// Media time of the keyframe since which nothing was damaged. None: nothing is shown until the next.
    good_from_us: Option<i64>,
    last_shown: Option<Instant>,
    /// Whether a frame was shown in time.
    caught_up: bool,
    rgba: Vec<u8>,
    received: Received,
}

/// What is to be done next.
enum Next {
    Take(Input),
    Show,
    End,
}

impl<S: Sink> Show<'_, S> {
    fn run(&mut self) -> Result<()> {
        let runtime = tokio::runtime::Handle::current();
        while !self.stopped() {
            match self.next(&runtime) {
                Next::Take(Input::Model(message)) => self.update(&message),
                Next::Take(Input::Video(message, arrived)) => self.video(message, arrived)?,
                Next::Show => self.show_due()?,
                Next::End => {
                    let rest = self.screen.flush().unwrap_or_default();
                    self.wait_in_line(rest);
                    while !self.waiting.is_empty() && !self.stopped() {
                        self.show_due()?;
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Received> {
        self.received.version = self.screen.held().version();
        self.received.weights_hash = self.screen.held().hash();
        self.sink.end()?;
        Ok(self.received)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn micros(&self, time: Instant) -> i64 {
        i64::try_from(time.duration_since(self.begun).as_micros()).unwrap_or(i64::MAX)
    }

    /// How long until this frame is due.
    fn until_due(&self, frame: &Frame) -> Duration {
        if self.options.every_frame {
            return Duration::ZERO;
        }
        let left_us = self.playout.due_us(frame.pts_us).saturating_sub(self.micros(Instant::now()));
        Duration::from_micros(u64::try_from(left_us).unwrap_or(0))
    }

    /// Waits for whatever comes first: a message, or the time of the next frame.
    fn next(&mut self, runtime: &tokio::runtime::Handle) -> Next {
        loop {
            let due = self.waiting.front().map(|frame| self.until_due(frame));
            let starved = self.last_shown.is_none_or(|last| last.elapsed() > SHOW_AT_LEAST);
            if due == Some(Duration::ZERO) && (starved || self.options.every_frame || !self.open) {
                return Next::Show;
            }
            match self.inbox.try_recv() {
                Ok(input) => return Next::Take(input),
                Err(TryRecvError::Disconnected) => self.open = false,
                Err(TryRecvError::Empty) => {}
            }
            match due {
                Some(Duration::ZERO) => return Next::Show,
                None if !self.open => return Next::End,
                _ => {}
            }
            let nap = due.unwrap_or(STOP_POLL).min(STOP_POLL);
            if self.open {
                let message = runtime.block_on(async { tokio::time::timeout(nap, self.inbox.recv()).await });
                match message {
                    Ok(Some(input)) => return Next::Take(input),
                    Ok(None) => self.open = false,
                    Err(_) => {}
                }
            } else {
                std::thread::sleep(nap);
            }
            if self.stopped() {
                return Next::End;
            }
        }
    }

    fn update(&mut self, message: &Message) {
        let bytes = message.payload.len();
        self.received.model_bytes += bytes as u64;
        match self.screen.update(&message.payload) {
            Ok(header) => {
                self.received.updates += 1;
                self.monitor.update(bytes, Some((header.version, header.gain_db)));
                tracing::info!(version = header.version, gain_db = header.gain_db, "weights in force");
            }
            Err(error) => {
                self.monitor.update(bytes, None);
                tracing::warn!(%error, "model update refused, the weights in force stay");
            }
        }
    }

    fn video(&mut self, message: Message, arrived: Instant) -> Result<()> {
        self.received.video_bytes += message.payload.len() as u64;
        self.monitor.video(Instant::now(), message.payload.len());
        let lost = match self.last.replace((message.group, message.index)) {
            Some((group, index)) if group == message.group => message.index.saturating_sub(index + 1),
            _ => message.index,
        };
        if lost > 0 {
            self.drop_frames(lost);
            self.damaged();
        }
        let holds = Holds::of(&message.payload);
        let keyframe = holds == Holds::Keyframe;
        if holds == Holds::Nothing {
            // A sender that codes every frame has lost one.
            self.monitor.damaged();
            self.received.dropped += 1;
            self.damaged();
            return Ok(());
        }
        if self.good_from_us.is_none() && !keyframe {
            // It refers to pictures that are not there.
            self.drop_frames(1);
            return Ok(());
        }
        let packet = Packet { data: message.payload.into(), pts_us: message.pts_us, keyframe };
        let start = Instant::now();
        match self.screen.decode(&packet.data, packet.pts_us) {
            Ok(frames) => {
                self.monitor.decoded(start.elapsed());
                self.playout.arrived(self.micros(arrived), packet.pts_us);
                if self.good_from_us.is_none() {
                    self.good_from_us = Some(packet.pts_us);
                    self.monitor.waits_for_keyframe(false);
                }
                if let Some((size, colour)) = self.screen.format() {
                    self.sink.packet(&packet, &Format { size, colour })?;
                }
                self.wait_in_line(frames);
            }
            Err(error) => {
                self.received.dropped += 1;
                self.monitor.damaged();
                self.damaged();
                tracing::debug!(%error, "frame dropped");
            }
        }
        Ok(())
    }

    /// A picture is missing: what refers to it is not shown.
    fn damaged(&mut self) {
        if self.good_from_us.take().is_some() {
            self.monitor.waits_for_keyframe(true);
        }
    }

    fn wait_in_line(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            // The decoder may still hold pictures from before the keyframe that healed the stream.
            if self.good_from_us.is_some_and(|from_us| frame.pts_us >= from_us) {
                self.waiting.push_back(frame);
            } else {
                self.drop_frames(1);
            }
        }
        while !self.options.every_frame && self.waiting.len() > FRAMES_WAITING_MAX {
            self.waiting.pop_front();
            self.drop_frames(1);
        }
    }

    fn drop_frames(&mut self, frames: u64) {
        self.received.dropped += frames;
        self.monitor.dropped(frames);
    }

    /// Shows the newest frame whose time has come; those before it are too late.
    fn show_due(&mut self) -> Result<()> {
        if !self.options.every_frame {
            while self.waiting.get(1).is_some_and(|frame| self.until_due(frame).is_zero()) {
                self.waiting.pop_front();
                if self.caught_up {
                    self.drop_frames(1);
                } else {
                    self.monitor.passed_over(1);
                }
            }
        }
        let Some(frame) = self.waiting.pop_front() else { return Ok(()) };
        if let Some(target) = self.sink.target() {
            (self.opening, self.chosen) = (Some(open(self.stream, target)), true);
        }
        self.adopt()?;
        let wants = self.sink.wants();
        if wants == Wants::Nothing {
            self.last_shown = Some(Instant::now());
            return Ok(());
        }
        let wanted = self.screen.mode();
        let mode = match wanted {
            mode if self.options.every_frame => mode,
            // Something is to be seen at once, also where the network takes its time.
            _ if self.last_shown.is_none() => Mode::Bicubic,
            Mode::Network => self.budget.mode(),
            Mode::Bicubic => Mode::Bicubic,
        };
        let late_us = self.micros(Instant::now()).saturating_sub(self.playout.due_us(frame.pts_us));
        // The first frame alone says nothing of where live is.
        self.caught_up |=
            self.last_shown.is_some() && late_us <= i64::try_from(IN_TIME.as_micros()).unwrap_or(i64::MAX);
        let start = Instant::now();
        let texture = self.upscale(&frame, mode, wants)?;
        let upscale = start.elapsed();
        self.budget.record(upscale);
        let start = Instant::now();
        let scale = self.screen.scale();
        let size = (frame.image.width() * scale, frame.image.height() * scale);
        let rgba = if texture.is_none() { &self.rgba[..] } else { &[] };
        let shown = Shown { frame: &frame, size, rgba, texture, mode };
        self.sink.shown(&shown, &mut self.screen)?;
        self.received.frames += 1;
        if self.last_shown.replace(Instant::now()).is_none() {
            tracing::info!(after_ms = self.begun.elapsed().as_millis() as u64, "first picture");
        }
        self.monitor.shown(&ShownFrame {
            size,
            mode,
            stepped_down: mode != wanted && self.budget.mode() == Mode::Bicubic,
            upscale,
            output: start.elapsed(),
            latency: latency(unix_us(), self.stream.start_unix_us, frame.pts_us),
            jitter_delay: self.playout.delay(),
        });
        Ok(())
    }

    fn upscale(&mut self, frame: &Frame, mode: Mode, wants: Wants) -> Result<Option<wgpu::Texture>> {
        let backend = self.screen.backend().to_owned();
        let made = match wants {
            Wants::Anywhere => self.screen.present(frame, mode, &mut self.rgba),
            _ => self.screen.upscale(frame, mode, &mut self.rgba).map(|()| None),
        };
        let texture = match made {
            Err(error @ hone_runtime::Error::Side { .. }) => return Err(error.into()),
            Err(error) if self.options.fall_back => {
                tracing::warn!(%error, "the device failed, going on with the CPU");
                self.monitor.notify(format!("{error}: the CPU goes on"));
                self.screen.adopt(Target::from(Preference::Cpu).upscaler(self.stream.arch)?)?;
                self.screen.upscale(frame, mode, &mut self.rgba)?;
                None
            }
            made => made?,
        };
        if self.screen.backend() != backend {
            self.monitor.backend(self.screen.backend(), self.screen.variant());
        }
        if self.options.time_passes && self.last_passes.elapsed() > PASSES_EVERY {
            self.last_passes = Instant::now();
            self.monitor.passes(self.screen.pass_times());
        }
        Ok(texture)
    }

    /// Changes the device between two frames, once another is open.
    fn adopt(&mut self) -> Result<()> {
        let opened = match self.opening.as_ref().map(mpsc::Receiver::try_recv) {
            None | Some(Err(mpsc::TryRecvError::Empty)) => return Ok(()),
            Some(Ok(opened)) => opened,
            Some(Err(mpsc::TryRecvError::Disconnected)) => {
                self.opening = None;
                return Ok(());
            }
        };
        self.opening = None;
        let adopted = opened.and_then(|upscaler| {
            self.screen.adopt(upscaler)?;
            if self.options.time_passes { self.screen.time_passes() } else { Ok(()) }
        });
        match adopted {
            Err(error) if self.chosen || self.options.fall_back => {
                tracing::warn!(%error, "the device cannot be used");
                self.monitor.notify(error.to_string());
            }
            Err(error) => return Err(error.into()),
            Ok(()) => {
                self.budget = Budget::new(Duration::from_secs_f64(1.0 / self.stream.fps.clamp(1.0, 240.0)));
            }
        }
        self.monitor.backend(self.screen.backend(), self.screen.variant());
        Ok(())
    }
}

/// The wall clock.
fn unix_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
