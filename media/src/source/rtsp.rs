//! A camera's H.264, decoded, and its audio.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Error, Info, Item, Source, fits};
use crate::audio;
use crate::decode::{self, Decoder};
use crate::frame::Frame;
use crate::rtsp::{self, AccessUnit, Camera, Config, Unit};

/// Frames looked at before the frame rate is settled: cameras are often wrong about theirs.
const FRAMES_FIRST: usize = 6;
/// How long a camera has for these: a long GOP, and then some.
const FIRST_MAX: Duration = Duration::from_secs(20);
/// Frame rate of a camera that shows none, in Hz.
const FPS_FALLBACK: f64 = 25.0;
/// How long to wait for the camera at a time.
const WAIT: Duration = Duration::from_millis(500);

/// A camera that is read for as long as it lives; lost connections are made again, and only show in the frames' times.
pub struct RtspSource {
    name: String,
    camera: Camera,
    decoder: Decoder,
    decoded: VecDeque<Frame>,
    /// Packets of audio that came meanwhile; as many as come while the first frames are looked at.
    packets: VecDeque<audio::Packet>,
    audio: Option<audio::Track>,
    /// A picture is missing or damaged: others that refer to it are not shown.
    broken: bool,
    last_us: i64,
    info: Info,
}

impl RtspSource {
    /// Connects, and decodes the first frames: all that rules the camera out is found here.
    ///
    /// # Errors
    /// [`Error::Camera`] or [`Error::Decode`]; the name is the address without credentials.
    pub fn open(config: Config) -> Result<Self, Error> {
        let name = config.address.to_string();
        let camera =
            Camera::connect(config).map_err(|source| Error::Camera { name: name.clone(), source })?;
        let decoder = Decoder::new(decode::Limits::default())
            .map_err(|source| Error::Decode { name: name.clone(), source })?;
        let info = Info {
            width: 0,
            height: 0,
            fps: FPS_FALLBACK,
            duration_us: None,
            colour: crate::frame::Colour::guess(0),
            live: true,
        };
        let mut source = Self {
            name,
            camera,
            decoder,
            decoded: VecDeque::new(),
            packets: VecDeque::new(),
            audio: None,
            broken: true,
            last_us: i64::MIN,
            info,
        };
        let start = Instant::now();
        while source.decoded.len() < FRAMES_FIRST {
            source.decode_more()?;
            if start.elapsed() > FIRST_MAX {
                return Err(Error::Camera { name: source.name, source: rtsp::Error::Silent });
            }
        }
        let first = &source.decoded[0];
        source.info.width = first.image.width();
        source.info.height = first.image.height();
        source.info.colour = first.colour;
        let times: Vec<i64> = source.decoded.iter().map(|frame| frame.pts_us).collect();
        source.info.fps = fps(&times).or(source.camera.video().fps).unwrap_or(FPS_FALLBACK);
        let config = source.camera.video().audio.clone();
        source.audio = config.map(|config| track(config, source.packets.make_contiguous()));
        Ok(source)
    }

    /// Waits a while for an access unit and decodes it.
    fn decode_more(&mut self) -> Result<(), Error> {
        let unit =
            self.camera.next(WAIT).map_err(|source| Error::Camera { name: self.name.clone(), source })?;
        let unit = match unit {
            Some(Unit::Picture(unit)) => unit,
            Some(Unit::Audio(packet)) => {
                self.packets.push_back(packet);
                return Ok(());
            }
            None => return Ok(()),
        };
        match self.decode(&unit) {
            Err(decode::Error::Unsupported(reason)) => {
                Err(Error::Decode { name: self.name.clone(), source: reason.into() })
            }
            Err(error) => {
                tracing::debug!(%error, pts_us = unit.pts_us, "a picture of the camera's is damaged");
                self.broken = true;
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn decode(&mut self, unit: &AccessUnit) -> Result<(), decode::Error> {
        if unit.fresh {
            // What the decoder still holds belongs to what was before.
            self.decoded.extend(self.decoder.flush()?);
        }
        self.broken &= !unit.keyframe;
        if !self.broken {
            self.decoded.extend(self.decoder.decode(&unit.data, unit.pts_us)?);
        }
        Ok(())
    }
}

impl Source for RtspSource {
    fn info(&self) -> &Info {
        &self.info
    }

    fn audio(&self) -> Option<&audio::Track> {
        self.audio.as_ref()
    }

    fn next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(packet) = self.packets.pop_front() {
                return Ok(Some(Item::Audio(packet)));
            }
            let Some(frame) = self.decoded.pop_front() else {
                self.decode_more()?;
                continue;
            };
            if fits(&self.name, &self.info, &mut self.last_us, &frame)? {
                return Ok(Some(Item::Frame(frame)));
            }
        }
    }
}

/// Rate of audio of which too little has come to tell, in kbit/s: what cameras are set to.
const KBPS_FALLBACK: f64 = 64.0;
/// Packets from which a rate can be told.
const PACKETS_FIRST: usize = 8;

/// A camera's audio, judged by the first packets.
pub fn track(config: audio::Config, packets: &[audio::Packet]) -> audio::Track {
    let kbps = match packets {
        [first, .., last] if packets.len() >= PACKETS_FIRST => {
            // The last packet ends the time, and is not in it.
            let bytes: usize = packets[..packets.len() - 1].iter().map(|packet| packet.data.len()).sum();
            #[expect(clippy::cast_precision_loss, reason = "a mean")]
            let kbps = bytes as f64 * 8e3 / (last.pts_us - first.pts_us).max(1) as f64;
            kbps
        }
        _ => KBPS_FALLBACK,
    };
    audio::Track { config, kbps }
}

/// The rate of frames at these times: from the interval in the middle, which a single hiccup does not move.
fn fps(times_us: &[i64]) -> Option<f64> {
    let mut intervals: Vec<i64> = times_us.windows(2).map(|pair| pair[1] - pair[0]).collect();
    intervals.sort_unstable();
    let interval_us = *intervals.get(intervals.len() / 2)?;
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let fps = 1e6 / interval_us as f64;
    (0.1..=240.0).contains(&fps).then_some(fps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_most_intervals() {
        let near = |times: &[i64], expected: f64| (fps(times).unwrap() - expected).abs() < 0.01;
        assert!(near(&[0, 40_000, 80_000, 200_000, 240_000, 280_000], 25.0));
        assert!(near(&[0, 100_000], 10.0));
        for none in [&[][..], &[5], &[5, 5], &[10, 0], &[0, 1], &[0, 60_000_000]] {
            assert_eq!(fps(none), None, "{none:?}");
        }
    }
}
