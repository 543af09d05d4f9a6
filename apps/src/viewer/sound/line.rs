//! Decoded sound on its way to the device, in step with the pictures whatever the device's own clock does: resampled a
//! little faster or slower, and by a jump where that would take too long. There is no clock in here: every call takes
//! the time.

use std::collections::VecDeque;

use hone_media::audio::decode::Stereo;

use super::clock::Clock;

/// Most sound that waits, seconds: more than pictures are ever delayed, and little memory.
const QUEUE_MAX_S: f64 = 2.0;
/// A packet whose time differs from the end of the last by less belongs right behind it: rounding, or a camera's clock.
/// More is a gap, or sound that was said twice.
const SEAM_US: f64 = 20_000.0;
/// How much of such a difference is believed: a camera's clock is followed, its jitter is not.
const SEAM_SHARE: f64 = 1.0 / 16.0;
/// Sound that is further from its picture than this jumps: nobody should see it for long.
const JUMP_US: f64 = 80_000.0;
/// Time over which a smaller distance is taken back. A clock that is off by 0.1% so ends 2 ms off.
const PULL_US: f64 = 2_000_000.0;
/// Most that the pitch is bent for it: 9 cents.
const BEND_MAX: f64 = 0.005;
/// Length of a fade, seconds: without one, silence begins with a click.
const FADE_S: f64 = 0.005;
const SILENCE: Stereo = [0.0; 2];
/// Samples that interpolation looks at.
const TAPS: usize = 4;

/// Between the decoder and the device.
#[derive(Debug)]
pub struct Line {
    /// The pictures' clock.
    pub clock: Clock,
    /// Samples a second in the queue.
    rate: f64,
    queue: VecDeque<Stereo>,
    /// Media time of the first sample of the queue.
    head_us: f64,
    /// What is heard next lies so far behind the second sample of the queue, in samples, below 1.
    at: f64,
    /// Whether the last sample was heard at its time: otherwise the next one is put there exactly.
    in_step: bool,
    gain: f32,
    /// What came too late to be heard, seconds.
    late_s: f64,
}

impl Line {
    /// A line for sound of so many samples a second.
    pub fn new(rate: u32) -> Self {
        Self {
            clock: Clock::default(),
            rate: f64::from(rate.max(1)),
            queue: VecDeque::new(),
            head_us: 0.0,
            at: 0.0,
            in_step: false,
            gain: 0.0,
            late_s: 0.0,
        }
    }

    /// Takes the samples of a packet that is to be heard at `pts_us`. What is missing before it will be silence.
    pub fn push(&mut self, pts_us: i64, samples: &[Stereo]) {
        let pts_us = pts_us as f64;
        let off_us = pts_us - (self.head_us + self.micros(self.queue.len()));
        if self.queue.is_empty() || off_us.abs() > QUEUE_MAX_S * 1e6 {
            self.queue.clear();
            (self.head_us, self.at, self.in_step) = (pts_us, 0.0, false);
        } else if off_us.abs() <= SEAM_US {
            self.head_us += off_us * SEAM_SHARE;
        } else if off_us > 0.0 {
            self.queue.extend(std::iter::repeat_n(SILENCE, self.samples(off_us)));
        } else {
            self.queue.truncate(self.queue.len().saturating_sub(self.samples(-off_us)));
        }
        self.queue.extend(samples);
        let most = self.samples(QUEUE_MAX_S * 1e6);
        self.drop_oldest(self.queue.len().saturating_sub(most));
    }

    /// Fills a device's buffer, `channels` interleaved at `rate` samples a second. Its first sample is heard at `now_us`.
    /// While `silent`, sound passes unheard.
    pub fn fill(&mut self, out: &mut [f32], channels: usize, rate: u32, now_us: i64, silent: bool) {
        out.fill(0.0);
        let rate = f64::from(rate.max(1));
        let Some(media_us) = self.clock.media_us(now_us) else { return };
        let (silence, bend) = self.align(media_us, rate);
        let step = self.rate / rate * (1.0 + bend);
        let fade = (1.0 / (FADE_S * rate)) as f32;
        let goal = if silent { 0.0 } else { 1.0 };
        for frame in out.chunks_exact_mut(channels.max(1)).skip(silence) {
            let Some(sample) = self.next(step) else { break };
            self.gain += (goal - self.gain).clamp(-fade, fade);
            match (sample.map(|side| side * self.gain), frame) {
                ([left, right], [mono]) => *mono = (left + right) / 2.0,
                // The front left and the front right come first everywhere.
                (sample, frame) => frame[..2].copy_from_slice(&sample),
            }
        }
    }

    /// What came too late to be heard, in seconds.
    pub fn late_s(&self) -> f64 {
        self.late_s
    }

    /// How many samples of silence come first, and by how much faster than written the queue is read then, so that at
    /// `media_us` is heard what belongs there.
    fn align(&mut self, media_us: f64, rate: f64) -> (usize, f64) {
        let late_us = media_us - (self.head_us + (1.0 + self.at) / self.rate * 1e6);
        if self.in_step && late_us.abs() <= JUMP_US {
            return (0, (late_us / PULL_US).clamp(-BEND_MAX, BEND_MAX));
        }
        self.gain = 0.0;
        if late_us > 0.0 {
            let late = self.samples(late_us).min(self.queue.len());
            self.late_s += late as f64 / self.rate;
            self.drop_oldest(late);
        }
        // A wait beyond this buffer is counted anew for the next one.
        let silence = (-late_us * 1e-6 * rate).max(0.0).round() as usize;
        (silence, 0.0)
    }

    /// The next sample, between those of the queue; none if it is empty.
    ///
    /// Source: Catmull and Rom 1974, the cubic through four samples. A straight line would mirror high tones.
    fn next(&mut self, step: f64) -> Option<Stereo> {
        if self.queue.len() < TAPS {
            (self.in_step, self.gain) = (false, 0.0);
            return None;
        }
        let at = self.at as f32;
        let [a, b, c, d] = [0, 1, 2, 3].map(|tap| self.queue[tap]);
        let sample = [0, 1].map(|side| {
            let [a, b, c, d] = [a[side], b[side], c[side], d[side]];
            b + 0.5 * at * (c - a + at * (2.0 * a - 5.0 * b + 4.0 * c - d + at * (3.0 * (b - c) + d - a)))
        });
        self.in_step = true;
        self.at += step;
        let passed = self.at as usize;
        self.at -= passed as f64;
        self.drop_oldest(passed);
        Some(sample)
    }

    fn drop_oldest(&mut self, samples: usize) {
        let samples = samples.min(self.queue.len());
        self.queue.drain(..samples);
        self.head_us += self.micros(samples);
    }

    fn micros(&self, samples: usize) -> f64 {
        samples as f64 / self.rate * 1e6
    }

    fn samples(&self, micros: f64) -> usize {
        (micros * 1e-6 * self.rate).round() as usize
    }
}

#[cfg(test)]
mod tests;
