//! The screen's thread: decodes what comes, waits for each frame's time, upscales it, hands it on.

mod change;
mod device;
mod intake;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use hone_media::frame::Frame;
use hone_runtime::{Budget, Mode, Preference, Rung};
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

use self::change::Coming;
use self::device::{Opening, open};
use super::{Input, Monitor, Options, Playout, Received, Shown, ShownFrame, Sink, Stream, Wants, latency};
use crate::screen::{Screen, Target};
use crate::sender::STOP_POLL;

/// While messages wait they come first, so that a viewer that is behind finds the newest frame; but a picture is
/// shown at least this often.
const SHOW_AT_LEAST: Duration = Duration::from_millis(500);
/// A frame shown no later than this is in time: the viewer has caught up with the group in which it joined.
const IN_TIME: Duration = Duration::from_millis(50);
/// Most that pictures wait for their sound: a camera's may be coded later, and a device takes it early. Beyond, live is
/// worth more.
const SOUND_WAIT_MAX_US: i64 = 300_000;

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
        target: options.target.clone(),
        options,
        stream: stream.clone(),
        coming: None,
        announced: None,
        sink,
        monitor,
        stop,
        screen,
        opening,
        chosen: false,
        last_passes: begun,
        budget: budget(stream),
        playout: Playout::default(),
        sound: Playout::default(),
        waiting: VecDeque::new(),
        last: None,
        last_audio_us: -1,
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

/// What a device may take for the frames of this stream; nothing is known of it yet.
fn budget(stream: &Stream) -> Budget {
    Budget::new(Duration::from_secs_f64(1.0 / stream.fps.clamp(1.0, 240.0)))
}

struct Show<'a, S> {
    /// The origin of the playout's times.
    begun: Instant,
    inbox: Receiver<Input>,
    /// Whether more may come.
    open: bool,
    options: Options,
    stream: Stream,
    /// What the stream will be.
    coming: Option<Coming>,
    /// When that was last said.
    announced: Option<Instant>,
    /// The device that was chosen last.
    target: Target,
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
    /// The same of the audio.
    sound: Playout,
    /// Decoded, in the order of showing.
    waiting: VecDeque<Frame>,
    /// Group and index of the newest access unit.
    last: Option<(u64, u64)>,
    /// Media time of the newest packet of audio.
    last_audio_us: i64,
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
                Next::Take(Input::Stream(stream)) => self.announced(*stream),
                Next::Take(Input::Model(message)) => self.update(&message),
                Next::Take(Input::Audio(message, arrived)) => self.audio(message, arrived)?,
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

    /// When the picture of media time `pts_us` is to be shown: with its sound, if that is heard.
    fn due_us(&self, pts_us: i64) -> i64 {
        let due_us = self.playout.due_us(pts_us);
        match self.sink.lead() {
            Some(lead) if self.last_audio_us >= 0 => {
                let lead_us = i64::try_from(lead.as_micros()).unwrap_or(i64::MAX);
                let heard_us = self.sound.due_us(pts_us).saturating_add(lead_us);
                heard_us.clamp(due_us, due_us.saturating_add(SOUND_WAIT_MAX_US))
            }
            _ => due_us,
        }
    }

    /// How long until this frame is due.
    fn until_due(&self, frame: &Frame) -> Duration {
        if self.options.every_frame {
            return Duration::ZERO;
        }
        let left_us = self.due_us(frame.pts_us).saturating_sub(self.micros(Instant::now()));
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
        if frame.pts_us < self.stream.from_us {
            // It is of pictures that were announced to end before this viewer came.
            self.monitor.passed_over(1);
            return Ok(());
        }
        if let Some(target) = self.sink.target() {
            (self.opening, self.chosen) = (Some(open(&self.stream, target.clone())), true);
            self.target = target;
        }
        self.change(frame.pts_us)?;
        self.adopt()?;
        let wants = self.sink.wants();
        if wants == Wants::Nothing {
            self.last_shown = Some(Instant::now());
            return Ok(());
        }
        let mode = match self.screen.mode(&frame) {
            mode if self.options.every_frame => mode,
            // Something is to be seen at once, also where the network takes its time.
            _ if self.last_shown.is_none() => Mode::Bicubic,
            Mode::Network => self.budget.mode(),
            mode => mode,
        };
        self.screen.keep(self.budget.rung() == Rung::Reuse);
        let mode = self.screen.possible(&frame, mode);
        let late_us = self.micros(Instant::now()).saturating_sub(self.due_us(frame.pts_us));
        // The first frame alone says nothing of where live is.
        self.caught_up |=
            self.last_shown.is_some() && late_us <= i64::try_from(IN_TIME.as_micros()).unwrap_or(i64::MAX);
        let start = Instant::now();
        let (texture, mode) = self.upscale(&frame, mode, wants)?;
        let upscale = start.elapsed();
        if !self.options.every_frame {
            self.budget.record(mode, upscale);
        }
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
            rung: self.budget.rung(),
            upscale,
            output: start.elapsed(),
            latency: latency(unix_us(), self.stream.start_unix_us, frame.pts_us),
            jitter_delay: self.playout.delay(),
        });
        Ok(())
    }
}

/// The wall clock.
fn unix_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
