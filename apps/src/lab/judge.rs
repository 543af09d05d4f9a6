//! Measures every frame of every contender against the camera's.

use anyhow::Result;
use hone_model::{Arch, Origin, Published};
use hone_runtime::{Mode, Preference, Upscaler};
use rayon::prelude::*;
use ssimulacra2::{LinearRgb, compute_frame_ssimulacra2};

use super::settings::{Part, Settings};
use super::stream::{Picture, Shown};
use super::vmaf::Vmaf;
use crate::crop::Crop;
use crate::picture;
use crate::quality::{Quality, Truth};
use crate::scene::{Change, Scenes};

/// Who is measured: what viewers show, and the opponents.
pub const CONTENDERS: usize = 5;
/// What the viewer shows.
pub const HONE: usize = 0;
/// Bicubic on the decoded LR.
pub const BICUBIC: usize = 1;
/// The generic network.
pub const FROZEN: usize = 2;
/// Plain H.264 from our encoder.
pub const OPENH264: usize = 3;
/// Plain H.264 from x264.
pub const X264: usize = 4;
/// Their names in a report.
pub const NAMES: [&str; CONTENDERS] = ["hone", "bicubic", "frozen", "plain_openh264", "plain_x264"];

/// How good one frame of one contender is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// PSNR and SSIM.
    pub quality: Quality,
    /// Of sampled frames.
    pub ssimulacra2: Option<f64>,
    /// Where there is a tool for it.
    pub vmaf: Option<f64>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Media time, seconds.
    pub t_s: f64,
    /// How coarsely H.264 coded it.
    pub quantiser: Option<u8>,
    /// Version that the viewer held.
    pub version: u64,
    /// Whether a scene begins here, by the decoded stream.
    pub cut: bool,
    /// From capture to shown, milliseconds of media time.
    pub latency_ms: f64,
    /// Bytes of video, and of the patches that went out with it.
    pub bytes: (u64, u64),
    /// By contender.
    pub scores: [Option<Score>; CONTENDERS],
}

/// Measures what the viewer shows, bicubic and the frozen network; later, what plain H.264 makes of the same frames.
pub struct Judge {
    upscaler: Upscaler,
    frozen: bool,
    scenes: Scenes,
    samples: Option<Samples>,
    vmaf: Option<Vmaf>,
    crop_at_s: Vec<f64>,
    /// The pictures of one frame, reused.
    bicubic: Vec<u8>,
    origin: Vec<u8>,
    /// All frames so far.
    pub rows: Vec<Row>,
    /// Some places, with the frames that they were taken from.
    pub crops: Vec<(usize, Crop)>,
}

impl Judge {
    /// Opens what it needs.
    ///
    /// # Errors
    /// What the upscaler says.
    pub fn new(settings: &Settings, arch: Arch, vmaf: Option<Vmaf>, duration_s: f64) -> Result<Self> {
        let mut upscaler = Upscaler::new(arch, &Preference::Cpu.into())?;
        let origin = Origin::best(arch, settings.seed);
        upscaler.set_weights(&Published::origin(arch, origin).weights())?;
        Ok(Self {
            upscaler,
            frozen: has_frozen(settings, arch),
            scenes: Scenes::default(),
            samples: settings.has(Part::Ssimulacra2).then_some(Samples {
                every_s: settings.sample_every_s,
                next_s: settings.sample_every_s / 2.0,
            }),
            vmaf,
            crop_at_s: [0.9, 0.5, 0.2].map(|share| share * duration_s).into(),
            bicubic: vec![],
            origin: vec![],
            rows: vec![],
            crops: vec![],
        })
    }

    /// Measures a frame that the viewer shows.
    ///
    /// # Errors
    /// What the device or the tool for VMAF says.
    pub fn see(&mut self, shown: Shown) -> Result<()> {
        let frame = picture::yuv420(&shown.decoded);
        self.upscaler.upscale(&frame, Mode::Bicubic, &mut self.bicubic)?;
        if self.frozen || shown.picture == Picture::Origin {
            self.upscaler.upscale(&frame, Mode::Network, &mut self.origin)?;
        }
        let truth = Truth::new(&shown.truth);
        let t_s = shown.truth.pts_us as f64 / 1e6;
        // What is the same picture is measured once.
        let mut pictures: Vec<&[u8]> = vec![&self.bicubic];
        if self.frozen {
            pictures.push(&self.origin);
        }
        let hone = match &shown.picture {
            Picture::Bicubic => 0,
            Picture::Origin if self.frozen => 1,
            Picture::Origin => {
                pictures.push(&self.origin);
                pictures.len() - 1
            }
            Picture::Own(rgba) => {
                pictures.push(rgba);
                pictures.len() - 1
            }
        };
        let sampled = self.samples.as_mut().is_some_and(|samples| samples.takes(t_s));
        let measured: Vec<(Vec<u8>, Score)> =
            pictures.par_iter().map(|shown| measure(&truth, shown, 4, sampled)).collect();
        let mut scores = [None; CONTENDERS];
        let mut lumas: Vec<&[u8]> = vec![];
        for (&contender, at) in live(self.frozen).iter().zip([hone, 0, 1]) {
            scores[contender] = Some(measured[at].1);
            lumas.push(&measured[at].0);
        }
        if let Some(vmaf) = &mut self.vmaf {
            vmaf.push(truth.luma(), &lumas)?;
        }
        if self.crop_at_s.last().is_some_and(|at_s| t_s >= *at_s) {
            self.crop_at_s.pop();
            self.crops.push((self.rows.len(), Crop::new(t_s, &truth, &self.bicubic, pictures[hone])));
        }
        let cut = self.scenes.see(&shown.decoded.image, shown.decoded.pts_us) == Some(Change::Cut);
        self.rows.push(Row {
            t_s,
            quantiser: shown.decoded.quantiser,
            version: shown.version,
            cut,
            latency_ms: shown.latency_us as f64 / 1e3,
            bytes: shown.bytes,
            scores,
        });
        Ok(())
    }

    /// Ends the measuring of what ran live.
    ///
    /// # Errors
    /// What the tool for VMAF says.
    pub fn end_live(&mut self) -> Result<()> {
        let Some(vmaf) = self.vmaf.take() else { return Ok(()) };
        for (scores, &contender) in vmaf.finish()?.into_iter().zip(live(self.frozen)) {
            self.note_vmaf(contender, &scores);
        }
        Ok(())
    }

    /// Puts a contender's VMAF into the rows: (frame, score).
    fn note_vmaf(&mut self, contender: usize, scores: &[(usize, f64)]) {
        for &(index, vmaf) in scores {
            if let Some(score) = self.rows.get_mut(index).and_then(|row| row.scores[contender].as_mut()) {
                score.vmaf = Some(vmaf);
            }
        }
    }

    /// Measures an opponent that is coded in one go: `run` is given what judges its frames, (H, W, 3), in order.
    ///
    /// # Errors
    /// What `run` or the tool for VMAF says.
    pub fn opponent<T>(
        &mut self,
        contender: usize,
        name: &'static str,
        mut vmaf: Option<Vmaf>,
        run: impl FnOnce(&mut crate::plain::Judge) -> Result<T>,
    ) -> Result<T> {
        let (rows, crops) = (&mut self.rows, &mut self.crops);
        let mut index = 0;
        let done = run(&mut |truth, shown| {
            let Some(row) = rows.get_mut(index) else { return Ok(()) };
            let sampled = row.scores[HONE].is_some_and(|score| score.ssimulacra2.is_some());
            let (luma, score) = measure(truth, shown, 3, sampled);
            row.scores[contender] = Some(score);
            if let Some(vmaf) = &mut vmaf {
                vmaf.push(truth.luma(), &[&luma])?;
            }
            for (_, crop) in crops.iter_mut().filter(|(at, _)| *at == index) {
                crop.add(name, shown, 3);
            }
            index += 1;
            Ok(())
        })?;
        if let Some(vmaf) = vmaf {
            for scores in vmaf.finish()? {
                self.note_vmaf(contender, &scores);
            }
        }
        Ok(done)
    }
}

/// Contenders that are measured while the stream runs.
pub fn live(frozen: bool) -> &'static [usize] {
    if frozen { &[HONE, BICUBIC, FROZEN] } else { &[HONE, BICUBIC] }
}

/// Whether there is a generic network, and it is wanted.
pub fn has_frozen(settings: &Settings, arch: Arch) -> bool {
    matches!(Origin::best(arch, settings.seed), Origin::Base(_)) && settings.has(Part::Frozen)
}

/// Luma and score of a picture, `channels` bytes a pixel.
fn measure(truth: &Truth, shown: &[u8], channels: usize, sampled: bool) -> (Vec<u8>, Score) {
    let (quality, luma) = truth.compare_with(shown, channels);
    let light = |rgb: &[u8], channels| {
        let (w, h) = truth.size();
        LinearRgb::new(linear(rgb, channels), w, h).ok()
    };
    let perceived = || compute_frame_ssimulacra2(light(truth.rgb(), 3)?, light(shown, channels)?).ok();
    // Pictures of less than 8x8 have none.
    let ssimulacra2 = if sampled { perceived() } else { None };
    (luma, Score { quality, ssimulacra2, vmaf: None })
}

/// Light of 8-bit sRGB.
///
/// Source: IEC 61966-2-1.
fn linear(rgb: &[u8], channels: usize) -> Vec<[f32; 3]> {
    let light: Vec<f32> = (0..=255)
        .map(|code| {
            let v = f64::from(code) / 255.0;
            (if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }) as f32
        })
        .collect();
    rgb.chunks_exact(channels).map(|p| [p[0], p[1], p[2]].map(|v| light[usize::from(v)])).collect()
}

/// Which frames SSIMULACRA2 sees.
struct Samples {
    every_s: f64,
    next_s: f64,
}

impl Samples {
    fn takes(&mut self, t_s: f64) -> bool {
        let takes = t_s >= self.next_s;
        if takes {
            self.next_s += self.every_s * (1.0 + ((t_s - self.next_s) / self.every_s).floor());
        }
        takes
    }
}
