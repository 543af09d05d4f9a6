//! What a run is made of: the same words on the command line and in a matrix file.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use hone_media::source::Info;
use serde::{Deserialize, Serialize};

use super::trace::Trace;
use crate::auto_scale::{Looks, Scale};
use crate::placement::Placement;
use crate::sender::{Plan, Rate};

/// Video and patches together where nobody says, kbit/s.
const TOTAL_KBPS: f64 = 600.0;

/// Parts of a run that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The generic network, frozen.
    Frozen,
    /// Plain H.264 from our encoder.
    Openh264,
    /// Plain H.264 from x264.
    X264,
    /// The metric of sampled frames.
    Ssimulacra2,
    /// The metric of an ffmpeg with libvmaf.
    Vmaf,
}

/// A run.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Video and patches together, kbit/s [default: 600].
    #[arg(long, value_name = "KBPS", conflicts_with_all = ["video_kbps", "trace"])]
    pub total_kbps: Option<f64>,
    /// Video alone, kbit/s; patches come on top.
    #[arg(long, value_name = "KBPS", conflicts_with = "trace")]
    pub video_kbps: Option<f64>,
    /// Patches, kbit/s, asked for or not: out of the total, or on top of the video [default: 7% of both, at scale 1 2%, while they pay].
    #[arg(long, value_name = "KBPS", conflicts_with = "trace")]
    pub patch_kbps: Option<f64>,
    /// What the uplink carries over time: lines of `seconds kbps`. The encoder follows at once.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Shown size over streamed size: 1 to 4, or auto.
    #[arg(long, default_value_t = Self::default().scale)]
    pub scale: Scale,
    /// Rows of what viewers show [default: the clip's].
    #[arg(long, value_name = "ROWS", conflicts_with = "lr_height")]
    pub hr_height: Option<u32>,
    /// Rows of the stream [default: the shown rows over the scale].
    #[arg(long, value_name = "ROWS")]
    pub lr_height: Option<u32>,
    /// Media time; the clip is repeated or cut to it [default: the clip's own].
    #[arg(long)]
    pub seconds: Option<f64>,
    /// At most so many frames a second: one in 2, one in 3 ... of the clip's.
    #[arg(long)]
    pub fps: Option<f64>,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = Self::default().seed)]
    pub seed: u64,
    /// Residual blocks of the network.
    #[arg(long, default_value_t = Self::default().blocks)]
    pub blocks: u16,
    /// Channels of the network.
    #[arg(long, default_value_t = Self::default().features)]
    pub features: u16,
    /// Where the trainer sits: at the server, from patches, or at the sender, which sends model updates instead.
    #[arg(long, value_name = "PLACE", default_value = "server")]
    pub train_at: Placement,
    /// How fast the trainer is, in media time.
    #[arg(long, value_name = "N", default_value_t = Self::default().steps_per_second)]
    pub steps_per_second: f64,
    /// Crops a step.
    #[arg(long, default_value_t = Self::default().batch)]
    pub batch: usize,
    /// From sender to server, milliseconds, on top of what the rate makes of it.
    #[arg(long, value_name = "MS", default_value_t = Self::default().uplink_delay_ms)]
    pub uplink_delay_ms: f64,
    /// From server to viewer, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = Self::default().downlink_delay_ms)]
    pub downlink_delay_ms: f64,
    /// What is left for model updates on the way to the viewer, kbit/s.
    #[arg(long, value_name = "KBPS", default_value_t = Self::default().model_link_kbps)]
    pub model_link_kbps: f64,
    /// Seconds between frames that SSIMULACRA2 sees.
    #[arg(long, value_name = "SECONDS", default_value_t = Self::default().sample_every_s)]
    pub sample_every_s: f64,
    /// Leave these out, to save time.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub without: Vec<Part>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            total_kbps: None,
            video_kbps: None,
            patch_kbps: None,
            trace: None,
            scale: Scale::Auto,
            hr_height: None,
            lr_height: None,
            seconds: None,
            fps: None,
            seed: 1,
            blocks: 4,
            features: 16,
            train_at: Placement::Server,
            steps_per_second: 20.0,
            batch: 16,
            uplink_delay_ms: 20.0,
            downlink_delay_ms: 20.0,
            model_link_kbps: 1000.0,
            sample_every_s: 2.0,
            without: vec![],
        }
    }
}

impl Settings {
    /// Whether a part is wanted.
    pub fn has(&self, part: Part) -> bool {
        !self.without.contains(&part)
    }

    /// Refuses numbers that make no run.
    ///
    /// # Errors
    /// One line that names the number.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: Option<f64>, from: f64, to: f64| {
            ensure!(
                value.is_none_or(|value| (from..=to).contains(&value)),
                "--{name} {}: it must be {from} to {to}",
                value.unwrap_or(f64::NAN)
            );
            Ok(())
        };
        within("total-kbps", self.total_kbps, 20.0, 100_000.0)?;
        within("video-kbps", self.video_kbps, 20.0, 100_000.0)?;
        within("patch-kbps", self.patch_kbps, 0.0, 100_000.0)?;
        within("seconds", self.seconds, 0.1, 86_400.0)?;
        within("fps", self.fps, 0.1, 1000.0)?;
        within("steps-per-second", Some(self.steps_per_second), 0.0, 100_000.0)?;
        within("batch", Some(self.batch as f64), 1.0, 1024.0)?;
        within("uplink-delay-ms", Some(self.uplink_delay_ms), 0.0, 60_000.0)?;
        within("downlink-delay-ms", Some(self.downlink_delay_ms), 0.0, 60_000.0)?;
        within("model-link-kbps", Some(self.model_link_kbps), 1.0, 1e7)?;
        within("sample-every-s", Some(self.sample_every_s), 0.01, 86_400.0)?;
        if let Scale::Fixed(s) = self.scale {
            within("scale", Some(s.into()), 1.0, 4.0)?;
        }
        let rates = [self.total_kbps.is_some(), self.video_kbps.is_some(), self.trace.is_some()];
        if rates.into_iter().filter(|given| *given).count() > 1 {
            bail!("one of total_kbps, video_kbps and trace is enough");
        }
        if let Some(patches) = self.patch_kbps {
            ensure!(self.trace.is_none(), "patch_kbps says nothing of a trace, whose rate changes");
            let total = self.total_kbps.unwrap_or(TOTAL_KBPS);
            ensure!(
                self.video_kbps.is_some() || patches < total,
                "--patch-kbps {patches} leaves nothing of {total} for the video"
            );
        }
        ensure!(
            self.hr_height.is_none() || self.lr_height.is_none(),
            "one of hr_height and lr_height is enough"
        );
        Ok(())
    }

    /// What the uplink carries, and what is sent over it; `looks` are asked for with [`Scale::Auto`] alone.
    ///
    /// # Errors
    /// If the source cannot be streamed so.
    pub fn plan<'a>(&self, info: &Info, looks: impl FnOnce() -> Result<Looks<'a>>) -> Result<(Plan, Trace)> {
        let (rate, trace) = match (&self.trace, self.video_kbps) {
            (Some(path), _) => {
                let trace = Trace::read(path)?;
                let duration_us = self.seconds.map(|s| (s * 1e6) as i64).or(info.duration_us);
                let kbps = trace.mean_kbps(duration_us.unwrap_or(1));
                (Rate::Total(kbps), Some(trace))
            }
            (None, Some(video)) => (Rate::Video(video), None),
            (None, None) => (Rate::Total(self.total_kbps.unwrap_or(TOTAL_KBPS)), None),
        };
        if let Some(hr) = self.hr_height {
            ensure!(hr <= info.height, "--hr-height {hr}: the clip has {} rows", info.height);
        }
        let plan = |scale: u32| {
            let lr_height = self.hr_height.map(|hr| hr / scale / 2 * 2).or(self.lr_height);
            let plan = Plan::new(info, scale, lr_height, rate)?;
            Ok(match self.patch_kbps {
                Some(patch_kbps) => Plan {
                    video_kbps: self.video_kbps.unwrap_or(rate.kbps() - patch_kbps),
                    patch_kbps,
                    ..plan
                },
                None => plan,
            })
        };
        let plan = self.scale.choose((self.blocks, self.features), plan, looks)?;
        let trace = trace.unwrap_or_else(|| Trace::constant(plan.video_kbps + plan.patch_kbps));
        Ok((plan, trace))
    }
}

#[cfg(test)]
mod tests {
    use hone_media::frame::Colour;

    use super::*;

    #[test]
    fn patches_get_what_they_are_given_out_of_the_total_or_on_top_of_the_video() {
        let info = Info {
            width: 640,
            height: 360,
            fps: 30.0,
            duration_us: None,
            colour: Colour::guess(360),
            live: false,
        };
        let rates = |settings: Settings| {
            settings.check()?;
            let (plan, trace) = settings.plan(&info, || bail!("no scale to look for"))?;
            anyhow::Ok((plan.video_kbps, plan.patch_kbps, trace.mean_kbps(1_000_000)))
        };
        let with = |total_kbps, video_kbps, patch_kbps| Settings {
            scale: Scale::Fixed(2),
            total_kbps,
            video_kbps,
            patch_kbps: Some(patch_kbps),
            ..Settings::default()
        };
        assert_eq!(rates(with(None, Some(500.0), 427.0)).unwrap(), (500.0, 427.0, 927.0));
        assert_eq!(rates(with(Some(900.0), None, 100.0)).unwrap(), (800.0, 100.0, 900.0));
        assert_eq!(rates(with(None, None, 0.0)).unwrap(), (600.0, 0.0, 600.0));
        let error = rates(with(Some(300.0), None, 300.0)).unwrap_err().to_string();
        assert!(error.contains("leaves nothing"), "{error}");
    }
}
