//! Compares every frame that the viewer shows with the camera's, and records both streams.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use hone_media::encode::{self, Effort, Encoder, Packet};
use hone_media::record::{self, Recorder};
use hone_runtime::Mode;

use super::Shared;
use crate::crop::Crop;
use crate::picture;
use crate::quality::Truth;
use crate::report::FrameRow;
use crate::screen::Screen;
use crate::sender::Plan;
use crate::viewer::{Format, RECORD_KBPS_PER_MEGAPIXEL, Shown, Sink, Stream};

/// Records and measures what the viewer shows.
pub(super) struct Measure {
    plan: Plan,
    out: PathBuf,
    shared: Arc<Shared>,
    raw: Option<Recorder>,
    shown: Option<(Encoder, Recorder)>,
    bicubic: Vec<u8>,
    pub(super) rows: Vec<FrameRow>,
    pub(super) crops: Vec<Crop>,
    next_crop_s: f64,
}

impl Measure {
    pub(super) fn new(out: &Path, plan: Plan, shared: Arc<Shared>) -> Result<Self> {
        Ok(Self {
            plan,
            out: out.to_owned(),
            shared,
            raw: None,
            shown: None,
            bicubic: vec![],
            rows: vec![],
            crops: vec![],
            next_crop_s: 3.0,
        })
    }

    fn recorder(&self, file: &str, (width, height): (u32, u32)) -> Result<Recorder> {
        let config = record::Config { width, height, fps: self.plan.fps, colour: self.plan.colour };
        Ok(Recorder::create(self.out.join(file), config)?)
    }
}

impl Sink for Measure {
    fn start(&mut self, _stream: &Stream) -> Result<()> {
        self.raw = Some(self.recorder("lr.mp4", self.plan.lr)?);
        let megapixels = f64::from(self.plan.hr.0 * self.plan.hr.1) / 1e6;
        let kbps = (RECORD_KBPS_PER_MEGAPIXEL * megapixels).clamp(200.0, 50_000.0);
        let config =
            encode::Config { threads: 2, effort: Effort::Fast, ..self.plan.encode(self.plan.hr, kbps) };
        self.shown = Some((Encoder::new(&config)?, self.recorder("sr.mp4", self.plan.hr)?));
        Ok(())
    }

    fn packet(&mut self, packet: &Packet, _format: &Format) -> Result<()> {
        if let Some(raw) = &mut self.raw {
            raw.write(packet)?;
        }
        Ok(())
    }

    fn shown(&mut self, shown: &Shown, screen: &mut Screen) -> Result<()> {
        let now = Instant::now();
        let pts_us = shown.frame.pts_us;
        let (truth, captured) = {
            let mut state = self.shared.lock();
            let at = state.captured.iter().position(|(frame, _)| frame.pts_us == pts_us);
            let at = at.context("a frame was shown that was never captured")?;
            state.captured.drain(..at);
            state.captured.pop_front().context("a frame was shown twice")?
        };
        let truth = Truth::new(&truth);
        let hone = truth.quality(shown.rgba, 4);
        let bicubic = match shown.mode {
            Mode::Network | Mode::Reuse => {
                screen.upscale(shown.frame, Mode::Bicubic, &mut self.bicubic)?;
                truth.quality(&self.bicubic, 4)
            }
            Mode::Bicubic => hone,
        };
        let t_s = pts_us as f64 / 1e6;
        self.rows.push(FrameRow {
            t_s,
            quantiser: shown.frame.quantiser,
            version: screen.held().version(),
            bicubic,
            hone,
            plain: hone,
            latency_ms: (now - captured).as_secs_f64() * 1e3,
        });
        if t_s >= self.next_crop_s && shown.mode == Mode::Network {
            self.next_crop_s = 1.8 * t_s;
            self.crops.push(Crop::new(t_s, &truth, &self.bicubic, shown.rgba));
        }
        if let Some((encoder, recorder)) = &mut self.shown {
            let (width, height) = self.plan.hr;
            let image = picture::i420_from_rgba(shown.rgba, width, height, self.plan.colour)?;
            recorder.write(&encoder.encode(&image, pts_us, false)?)?;
        }
        let mut state = self.shared.lock();
        state.shown += 1;
        state.media_s = t_s;
        self.shared.moved.notify_all();
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if let Some(raw) = self.raw.take() {
            raw.finish()?;
        }
        if let Some((_, recorder)) = self.shown.take() {
            recorder.finish()?;
        }
        Ok(())
    }
}
