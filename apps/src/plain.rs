//! The opponent: plain H.264 at full resolution, given every bit that Hone spends.

use std::collections::VecDeque;

use anyhow::Result;
use hone_media::decode::{self, Decoder};
use hone_media::encode::Encoder;
use hone_media::frame::Frame;

use crate::sender::Plan;

/// Frames between two corrections of the bitrate.
const CORRECT_EVERY: u64 = 12;
/// Seconds over which a difference in bits is made good.
const HORIZON_S: f64 = 3.0;

/// Codes the same frames with the same encoder at HR size, keeping level with Hone's bits.
pub struct Plain {
    encoder: Encoder,
    decoder: Decoder,
    kbps: f64,
    frames: u64,
    /// Bytes so far.
    pub bytes: u64,
    decoded: VecDeque<Frame>,
}

impl Plain {
    /// Opens the codecs at the plan's total rate.
    ///
    /// # Errors
    /// What they say of the settings.
    pub fn new(plan: &Plan) -> Result<Self> {
        let kbps = plan.video_kbps + plan.patch_kbps;
        Ok(Self {
            encoder: Encoder::new(&plan.encode(plan.hr, kbps))?,
            decoder: Decoder::new(decode::Limits::default())?,
            kbps,
            frames: 0,
            bytes: 0,
            decoded: VecDeque::new(),
        })
    }

    /// Codes a frame. `hone_bytes` is what Hone has sent up to and with this frame, video and patches.
    ///
    /// # Errors
    /// What the codecs say.
    pub fn frame(&mut self, frame: &Frame, hone_bytes: u64) -> Result<()> {
        let packet = self.encoder.encode(&frame.image, frame.pts_us, false)?;
        self.bytes += packet.data.len() as u64;
        self.frames += 1;
        if self.frames.is_multiple_of(CORRECT_EVERY) {
            let behind_kbps = (hone_bytes as f64 - self.bytes as f64) / 125.0 / HORIZON_S;
            let kbps = (self.kbps + behind_kbps).clamp(0.1 * self.kbps, 2.0 * self.kbps);
            self.encoder.set_bitrate_kbps(kbps as u32)?;
        }
        self.decoded.extend(self.decoder.decode(&packet.data, packet.pts_us)?);
        Ok(())
    }

    /// The decoded frame at `pts_us`, once it is there.
    pub fn take(&mut self, pts_us: i64) -> Option<Frame> {
        while self.decoded.front().is_some_and(|frame| frame.pts_us < pts_us) {
            self.decoded.pop_front();
        }
        self.decoded.pop_front_if(|frame| frame.pts_us == pts_us)
    }
}
