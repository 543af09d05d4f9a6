//! A line pulled by a device that is not there. Its sound is a sawtooth that says its own media time.

use super::*;

const FRAME_US: i64 = 40_000;
/// The device's buffer, and what is asked for: 10 ms at 48 kHz.
const BUFFER_US: i64 = 10_000;
const RATE: u32 = 48_000;
/// How far the decoder is ahead of what is heard.
const AHEAD_US: i64 = 120_000;
/// When the pictures begin, on this machine's clock, and at which media time.
const BEGIN_US: i64 = 70_000_000;
const PTS_US: i64 = 3_000_000;
/// Period of the sawtooth.
const TOOTH_US: f64 = 1_000_000.0;
/// The least lasting distance of sound and picture that matters: ITU-R BT.1359 lets a viewer notice twice as much.
const IN_SYNC_US: f64 = 20_000.0;

fn tooth(pts_us: f64) -> f32 {
    // Never zero: that is silence.
    (0.1 + 0.8 * (pts_us / TOOTH_US).rem_euclid(1.0)) as f32
}

/// A stream, its pictures and a device, in simulated time.
struct Stage {
    line: Line,
    rate: u32,
    now_us: i64,
    /// Media time of what comes next of each.
    packet_us: i64,
    picture_us: i64,
    /// How much later pictures are shown from here on.
    later_us: i64,
    /// Media times whose packets are lost.
    lost: std::ops::Range<i64>,
    silent: bool,
}

impl Stage {
    fn new(rate: u32) -> Self {
        let (packet_us, picture_us, now_us) = (PTS_US, PTS_US, BEGIN_US - 200_000);
        Self {
            line: Line::new(rate),
            rate,
            now_us,
            packet_us,
            picture_us,
            later_us: 0,
            lost: 0..0,
            silent: false,
        }
    }

    /// The media time of the picture that is seen at `now_us`.
    fn seen_us(&self) -> i64 {
        self.now_us - BEGIN_US + PTS_US - self.later_us
    }

    /// The next 10 ms by the device's clock, which runs fast by so much: what was heard, and when its first sample was.
    fn pull(&mut self, fast: f64) -> (i64, Vec<f32>) {
        while self.packet_us < self.seen_us() + AHEAD_US {
            // As long as a packet of AAC, in whole samples at a whole microsecond.
            let samples: Vec<Stereo> = (0..1024)
                .map(|i| [tooth(self.packet_us as f64 + f64::from(i) * 1e6 / f64::from(self.rate)); 2])
                .collect();
            if !self.lost.contains(&self.packet_us) {
                self.line.push(self.packet_us, &samples);
            }
            self.packet_us += 1024 * 1_000_000 / i64::from(self.rate);
        }
        while self.picture_us <= self.seen_us() {
            // Up to 12 ms late, as a busy device shows them.
            let late_us = self.picture_us / FRAME_US * 7919 % 12_000;
            self.line
                .clock
                .shown(self.picture_us - PTS_US + BEGIN_US + self.later_us + late_us, self.picture_us);
            self.picture_us += FRAME_US;
        }
        let mut out = vec![f32::NAN; (i64::from(RATE) * BUFFER_US / 1_000_000) as usize * 2];
        self.line.fill(&mut out, 2, RATE, self.now_us, self.silent);
        let begun_us = self.now_us;
        self.now_us += (BUFFER_US as f64 / (1.0 + fast)).round() as i64;
        assert!(out.chunks(2).all(|frame| frame[0] == frame[1]));
        (begun_us, out.into_iter().step_by(2).collect())
    }

    /// How far behind its picture each sample of a buffer is heard, microseconds; none for silence.
    fn behind_us(&self, (begun_us, heard): &(i64, Vec<f32>)) -> Vec<Option<f64>> {
        let seen_us = (begun_us - BEGIN_US + PTS_US - self.later_us) as f64;
        let behind = |(i, &value): (usize, &f32)| {
            let said_us = (f64::from(value) - 0.1) / 0.8 * TOOTH_US;
            let off_us = (seen_us + i as f64 * 1e6 / f64::from(RATE) - said_us).rem_euclid(TOOTH_US);
            (value != 0.0).then(|| if off_us > TOOTH_US / 2.0 { off_us - TOOTH_US } else { off_us })
        };
        heard.iter().enumerate().map(behind).collect()
    }

    /// Pulls for so long; the furthest that a sample was from its picture, and how many were silent. The first samples
    /// after silence fade in and, as the turn of a tooth, say no time.
    fn run(&mut self, ms: i64, fast: f64) -> (f64, usize) {
        let (mut furthest_us, mut silent) = (0.0_f64, 0);
        let end_us = self.now_us + ms * 1000;
        while self.now_us < end_us {
            let before = self.line.gain;
            let buffer = self.pull(fast);
            let behind = self.behind_us(&buffer);
            silent += behind.iter().filter(|behind| behind.is_none()).count();
            let fading = before.min(self.line.gain) < 1.0 || behind.iter().any(Option::is_none);
            let turning = buffer.1.iter().any(|value| !(0.12..=0.88).contains(value));
            if !fading && !turning {
                furthest_us = behind.iter().flatten().fold(furthest_us, |far, off| far.max(off.abs()));
            }
        }
        (furthest_us, silent)
    }
}

#[test]
fn a_device_whose_clock_drifts_stays_in_step() {
    for rate in [48_000, 44_100, 8_000] {
        for fast in [0.0, 0.001, -0.001, 0.003, -0.003] {
            let mut stage = Stage::new(rate);
            // Before the first picture nothing is heard.
            assert!(stage.run(180, fast).1 >= 8_640, "{rate} Hz");
            let (_, silent) = stage.run(500, fast);
            assert!(silent < 1_440, "{rate} Hz, {fast}: {silent} samples of silence at the start");
            let (furthest_us, silent) = stage.run(20_000, fast);
            assert!(furthest_us < IN_SYNC_US, "{rate} Hz, {fast}: {furthest_us} us");
            assert_eq!(silent, 0, "{rate} Hz, {fast}");
        }
    }
}

#[test]
fn a_gap_is_silent_and_what_follows_is_in_step() {
    for lost_ms in [50, 400, 5_000] {
        let mut stage = Stage::new(44_100);
        stage.run(2_000, 0.001);
        stage.lost = stage.packet_us..stage.packet_us + lost_ms * 1000;
        let (furthest_us, silent) = stage.run(lost_ms + 1_000, 0.001);
        let silent_ms = silent as f64 / f64::from(RATE) * 1e3;
        // Whole packets are lost.
        assert!((silent_ms - lost_ms as f64).abs() < 30.0, "{lost_ms} ms: {silent_ms} ms of silence");
        assert!(furthest_us < IN_SYNC_US, "{lost_ms} ms: {furthest_us} us");
    }
}

#[test]
fn pictures_that_come_later_or_sooner_are_followed() {
    for later_us in [500_000, -120_000, 150_000] {
        let mut stage = Stage::new(48_000);
        stage.run(2_000, 0.0);
        stage.later_us = later_us;
        // Until the pictures say so.
        stage.run(1_000, 0.0);
        let (furthest_us, silent) = stage.run(3_000, 0.0);
        assert!(furthest_us < IN_SYNC_US, "{later_us} us later: {furthest_us} us");
        assert_eq!(silent, 0, "{later_us} us later");
    }
    // What is less than a jump is taken back without one.
    let mut stage = Stage::new(48_000);
    stage.run(2_000, 0.0);
    stage.later_us = 50_000;
    let heard: Vec<f32> = (0..1_500).flat_map(|_| stage.pull(0.0).1).collect();
    for seven in heard.windows(7) {
        // Away from where a tooth turns around, each sample is a step further, as far as f32 tells so small ones.
        if seven.iter().all(|value| (0.12..=0.88).contains(value)) {
            let bent = f64::from(seven[4] - seven[3]) * 48_000.0 / 0.8 - 1.0;
            assert!(bent.abs() < 0.1, "{bent}");
        }
    }
    let (furthest_us, _) = stage.run(1_000, 0.0);
    assert!(furthest_us < IN_SYNC_US, "{furthest_us} us");
}

#[test]
fn who_mutes_hears_nothing_and_then_what_is_on() {
    let mut stage = Stage::new(48_000);
    stage.run(2_000, 0.0);
    stage.silent = true;
    stage.run(20, 0.0);
    assert_eq!(stage.run(3_000, 0.0).1, 48_000 * 3);
    stage.silent = false;
    let (_, first) = stage.pull(0.0);
    // It begins softly.
    assert!(first[0] < 0.01 && first.windows(2).all(|pair| pair[1] - pair[0] < 0.01));
    assert!(stage.run(1_000, 0.0).0 < IN_SYNC_US);
}

#[test]
fn a_cameras_clock_is_followed_and_sound_said_twice_is_heard_once() {
    // 0.1% more samples than the media time has room for, each packet a little early: no silence, no jump.
    let mut line = Line::new(48_000);
    for k in 0..2_000_i64 {
        line.push(k * 21_312, &[[0.5; 2]; 1024]);
        line.clock.shown(k * 21_312, k * 21_312);
        let mut out = [0.0; 1023 * 2];
        line.fill(&mut out, 2, RATE, k * 21_312 - 10_000, false);
        assert!(k < 20 || out.iter().all(|value| (value - 0.5).abs() < 1e-3), "packet {k}");
        assert!(line.queue.len() < 4_096, "packet {k}: {} wait", line.queue.len());
    }
    // The second packet begins in the middle of the first.
    let mut line = Line::new(48_000);
    line.push(0, &[[0.1; 2]; 9_600]);
    line.push(100_000, &[[0.7; 2]; 4_800]);
    line.clock.shown(0, 0);
    let mut out = vec![0.0; 9_000 * 2];
    line.fill(&mut out, 2, RATE, 10_000, false);
    assert!((out[4_000 * 2] - 0.1).abs() < 1e-6 && (out[5_000 * 2] - 0.7).abs() < 1e-6);
}

#[test]
fn what_waits_is_bounded_and_hostile_times_are_harmless() {
    let mut line = Line::new(48_000);
    let packet = [[0.5; 2]; 5_760];
    for k in 0..1_000 {
        line.push(k * 120_000, &packet);
        assert!(line.queue.len() <= 96_000, "{}", line.queue.len());
    }
    let times = [0, 1, -1, i64::MAX, i64::MIN, 1 << 53, 1_000_000, 1_000_001, 1_020_001, -1_000_000_000_000];
    let mut out = [0.0; 480];
    for k in 0..1_000 {
        let [pts_us, shown_us, now_us] = [1, 3, 7].map(|by| times[k * by % times.len()]);
        line.push(pts_us, &packet[..1 + k % 1_024]);
        line.clock.shown(shown_us, pts_us);
        line.fill(&mut out, 1 + k % 6, RATE, now_us, k % 5 == 0);
        assert!(out.iter().all(|value| value.is_finite()) && line.queue.len() <= 96_000);
    }
    // It heals.
    let mut stage = Stage { line, ..Stage::new(48_000) };
    stage.run(2_000, 0.0);
    assert!(stage.run(2_000, 0.0).0 < IN_SYNC_US);
}

#[test]
fn a_tone_stays_pure_and_every_device_has_its_channels() {
    let tone = |i: f64| (0.5 * (std::f64::consts::TAU * 1_000.0 * i / 44_100.0).sin()) as f32;
    let pushed = |channels: usize| {
        let mut line = Line::new(44_100);
        let samples: Vec<Stereo> = (0..22_050).map(|i| [tone(f64::from(i)), 0.0]).collect();
        line.push(0, &samples);
        line.clock.shown(0, 0);
        let mut out = vec![9.0; 4_800 * channels];
        line.fill(&mut out, channels, RATE, 100_000, false);
        out
    };
    let stereo = pushed(2);
    let ideal = |i: usize| tone((0.1 + i as f64 / f64::from(RATE)) * 44_100.0);
    // Behind the fade.
    let off = |i: usize| f64::from(stereo[2 * i] - ideal(i)).powi(2);
    let noise: f64 = (1_000..4_800).map(off).sum::<f64>() / 3_800.0;
    assert!(10.0 * (0.125 / noise).log10() > 60.0, "{} dB", 10.0 * (0.125 / noise).log10());
    let (mono, six) = (pushed(1), pushed(6));
    for i in 0..4_800 {
        assert_eq!([mono[i] * 2.0, six[6 * i], 0.0], [stereo[2 * i], stereo[2 * i], stereo[2 * i + 1]]);
        assert_eq!(six[6 * i + 1..6 * i + 6], [0.0; 5]);
    }
}
