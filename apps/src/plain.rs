//! The opponent: plain H.264 at full resolution, given every bit that Hone spent.

use std::sync::mpsc;

use anyhow::{Context, Result, anyhow};
use hone_media::decode::{self, Decoder};
use hone_media::encode::{Config, Effort, Encoder};
use hone_media::frame::Frame;
use hone_media::source::Source;

use crate::picture;
use crate::quality::Truth;
use crate::sender::{Plan, fit};

/// Share of the rate at which the encoder is tried a second time. At the largest quantiser it spends more than it
/// is asked to; between two trials the rate that spends just what Hone did is found.
const SECOND_TRIAL: f64 = 0.75;
/// The encoder's own miss that is not worth a correction.
const CLOSE: f64 = 0.01;

/// Beyond this share of what it may spend, frames are left out.
const OVERSPENDS: f64 = 1.03;

/// Frames that wait to be coded or measured.
pub(crate) const FRAMES_AHEAD: usize = 4;

/// Is given each frame of the camera and what the opponent shows of it, (H, W, 3) RGB, in order.
pub type Judge<'a> = dyn FnMut(&Truth, &[u8]) -> Result<()> + Send + 'a;

/// Codes the first `frames` frames of what `open` gives with the same encoder and keyframe interval, at the rate
/// that spends `bytes`. Returns the bytes that it did spend.
///
/// Where the coarsest quantiser still spends more, frames are left out and the last one stands, as under any encoder
/// that must keep to a rate.
///
/// # Errors
/// What the source or the codecs say.
pub fn run<'a>(
    open: impl Fn() -> Result<Box<dyn Source + 'a>>,
    plan: &Plan,
    frames: usize,
    bytes: u64,
    judge: &mut Judge,
) -> Result<u64> {
    let asked = bytes as f64 / 125.0 / (frames as f64 / plan.fps);
    let [first, second] = trials(&open, plan, frames, [asked, SECOND_TRIAL * asked])?;
    let wanted = bytes as f64;
    let (share, spends) = if (first / wanted - 1.0).abs() < CLOSE || first <= second {
        (1.0, first)
    } else {
        // On the line through both trials, a little beyond the second at most.
        let slope = (first - second) / (1.0 - SECOND_TRIAL);
        let share = (1.0 - (first - wanted) / slope).clamp(0.5, 1.2);
        (share, first - (1.0 - share) * slope)
    };
    let kbps = asked * share;
    let mut allowance = (spends > OVERSPENDS * wanted).then(|| Allowance::new(wanted, frames, plan.fps));
    // Coding is one thread's work; measuring goes on beside it.
    std::thread::scope(|scope| {
        let (coded, inbox) = mpsc::sync_channel::<(Vec<u8>, Frame)>(FRAMES_AHEAD);
        let measuring = scope.spawn(|| show(inbox, judge));
        let sent = encoder(plan, kbps, Effort::Best).and_then(|mut encoder| {
            for_each_frame(&open, plan, frames, |frame| {
                let packet = match allowance.as_mut().is_none_or(Allowance::next) {
                    true => encoder.encode(&frame.image, frame.pts_us, false)?.data,
                    false => vec![],
                };
                if let Some(allowance) = &mut allowance {
                    allowance.spent += packet.len() as f64;
                }
                coded.send((packet, frame)).context("measuring has ended")
            })
        });
        drop(coded);
        // Its own error says more than that of a channel.
        let bytes = measuring.join().map_err(|_| anyhow!("measuring plain H.264 failed"))??;
        sent.map(|()| bytes)
    })
}

/// Which frames an encoder may code that spends too much at any quantiser.
struct Allowance {
    bytes_a_frame: f64,
    frames: f64,
    /// Frames that may be spent ahead at the start; fewer towards the end, so that the sum is kept.
    ahead: f64,
    next: f64,
    spent: f64,
}

impl Allowance {
    fn new(bytes: f64, frames: usize, fps: f64) -> Self {
        let frames = frames.max(1) as f64;
        Self { bytes_a_frame: bytes / frames, frames, ahead: fps, next: 0.0, spent: 0.0 }
    }

    /// Whether the next frame is coded.
    fn next(&mut self) -> bool {
        let ahead = self.ahead * (1.0 - self.next / self.frames);
        let codes = self.spent <= (self.next + ahead) * self.bytes_a_frame;
        self.next += 1.0;
        codes
    }
}

/// Bytes that each rate comes to, with less effort, which changes them by less than 1%. The source is decoded once, each
/// encoder has a thread.
fn trials<'a>(
    open: &impl Fn() -> Result<Box<dyn Source + 'a>>,
    plan: &Plan,
    frames: usize,
    kbps: [f64; 2],
) -> Result<[f64; 2]> {
    std::thread::scope(|scope| {
        let encoders = kbps.map(|kbps| {
            let (sender, inbox) = mpsc::sync_channel::<Frame>(FRAMES_AHEAD);
            let bytes = move || -> Result<f64> {
                let (mut encoder, mut bytes) = (encoder(plan, kbps, Effort::Fast)?, 0);
                for frame in inbox {
                    bytes += encoder.encode(&frame.image, frame.pts_us, false)?.data.len();
                }
                Ok(bytes as f64)
            };
            (sender, scope.spawn(bytes))
        });
        let decoded = for_each_frame(open, plan, frames, |frame| {
            // A trial that has failed no longer listens; it says why below.
            encoders.iter().for_each(|(sender, _)| drop(sender.send(frame.clone())));
            Ok(())
        });
        let [first, second] = encoders.map(|(sender, bytes)| {
            drop(sender);
            bytes.join().map_err(|_| anyhow!("coding plain H.264 failed"))?
        });
        decoded.and_then(|()| Ok([first?, second?]))
    })
}

/// Decodes packets, each with the frame that it codes, for `judge`; returns their bytes. Without a packet, the last
/// picture stands.
pub(crate) fn show(inbox: mpsc::Receiver<(Vec<u8>, Frame)>, judge: &mut Judge) -> Result<u64> {
    let mut decoder = Decoder::new(decode::Limits::default())?;
    let (mut bytes, mut shown) = (0, vec![]);
    for (packet, frame) in inbox {
        if packet.is_empty() {
            judge(&Truth::new(&frame), &shown)?;
            continue;
        }
        bytes += packet.len() as u64;
        let decoded = decoder.decode(&packet, frame.pts_us)?;
        let decoded = decoded.into_iter().next().context("the plain stream lost a frame")?;
        // Code values are the camera's, whatever a stream says of them.
        let decoded = Frame { colour: frame.colour, ..decoded };
        shown = hone_cpu::rgb8_from_yuv(&picture::yuv420(&decoded));
        judge(&Truth::new(&frame), &shown)?;
    }
    Ok(bytes)
}

fn encoder(plan: &Plan, kbps: f64, effort: Effort) -> Result<Encoder> {
    Ok(Encoder::new(&Config { effort, ..plan.encode(plan.hr, kbps.clamp(8.0, 100_000.0)) })?)
}

/// Calls `each` with the first `frames` frames as viewers are to see them.
pub(crate) fn for_each_frame<'a>(
    open: &impl Fn() -> Result<Box<dyn Source + 'a>>,
    plan: &Plan,
    frames: usize,
    mut each: impl FnMut(Frame) -> Result<()>,
) -> Result<()> {
    let mut source = open()?;
    for _ in 0..frames {
        let Some(frame) = source.next_frame()? else { break };
        each(fit(frame, plan.hr, plan.scale)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_kept_whatever_a_frame_costs() {
        for (first, each) in [(60_000.0, 4_000.0), (1_000.0, 1_000.0), (500.0, 100_000.0)] {
            let mut allowance = Allowance::new(300_000.0, 240, 30.0);
            let mut coded = 0;
            for frame in 0..240 {
                if allowance.next() {
                    allowance.spent += if frame == 0 { first } else { each };
                    coded += 1;
                }
            }
            assert!(coded > 1 && allowance.spent <= 300_000.0 + each, "{coded} frames, {}", allowance.spent);
            assert!(each > 1_250.0 || coded == 240, "{coded} frames");
        }
    }
}
