//! Which LR scale pays: some seconds of the source are coded at the scales in question, and what viewers would see, base
//! model included, is measured.
//!
//! Where there is nothing to look at first, as on a pipe, bits a pixel decide.

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use hone_media::decode::{self, Decoder};
use hone_media::encode::{self, Effort, Encoder};
use hone_media::frame::Frame;
use hone_media::scale::downscale;
use hone_media::source::Source;
use hone_model::{Arch, Family, Origin, Published};
use hone_runtime::{Mode, Preference, Upscaler};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::picture;
use crate::quality::Truth;
use crate::sender::{Plan, fit};

/// A look takes so much media time, microseconds,
const LOOK_US: i64 = 1_000_000;
/// and so many frames at most.
const FRAMES_MAX: usize = 30;
/// Looks into a file.
const LOOKS: i64 = 3;
/// One frame in so many is measured, when a look is played back again: at first its keyframe is lived on.
const MEASURED: usize = 8;
/// PSNR beyond which nobody sees a difference, dB: a fade to black must not decide.
const PSNR_MAX_DB: f64 = 55.0;
/// Where an encoder spends more than this over its rate, the picture cannot be coded at it.
const OVERSPENT_MAX: f64 = 1.1;
/// What twice the bits bring, dB, less on a still wall and more in a wild pan: a look that has not yet spent what it may,
/// because it pays for its keyframe, is worth more than it shows.
const TWICE_THE_BITS_DB: f64 = 3.0;
/// A smaller picture is preferred that is this much worse, dB: there is more to learn at it, and it costs less to show.
const SMALLER_DB: f64 = 0.05;

/// A stream changes its scale only for so much, dB: what was learned at the old one is lost.
const CHANGE_DB: f64 = 0.5;

/// A trial that was allowed twice the bits and spent less than this power of two more did not need them.
const DOUBLINGS_MIN: f64 = 0.3;

/// Least bits a pixel of the shown picture and frame for scales 1, 2 and 3; below the last it is 4.
const BITS_MIN: [f64; 3] = [0.018, 0.0065, 0.004];

/// HR size over LR size, or what pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "Word")]
pub enum Scale {
    /// Chosen by looking.
    Auto,
    /// 1 to 4.
    Fixed(u32),
}

/// How a scale may be written in a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Number(i64),
}

impl TryFrom<Word> for Scale {
    type Error = String;

    fn try_from(word: Word) -> Result<Self, String> {
        match word {
            Word::Text(text) => text.parse(),
            Word::Number(number) => number.to_string().parse(),
        }
    }
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "1" | "2" | "3" | "4" => Ok(Self::Fixed(u32::from(text.as_bytes()[0] - b'0'))),
            _ => Err(format!("`{text}` is no scale: auto, 1, 2, 3 or 4")),
        }
    }
}

impl std::fmt::Display for Scale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(s) => write!(f, "{s}"),
        }
    }
}

impl From<Scale> for String {
    fn from(scale: Scale) -> Self {
        scale.to_string()
    }
}

/// Blocks and features of the live network that viewers are expected to run.
pub type Net = (u16, u16);

/// What servers run if nobody chooses.
pub const SERVERS_NET: Net = (4, 16);

impl Scale {
    /// What is to be sent: what `plan` makes of the scale, 1 to 4. With [`Scale::Auto`], `looks` are asked for.
    ///
    /// # Errors
    /// Those of `plan` and `looks`, or what the codecs say.
    pub fn choose<'a>(
        self,
        net: Net,
        plan: impl Fn(u32) -> Result<Plan>,
        looks: impl FnOnce() -> Result<Looks<'a>>,
    ) -> Result<Plan> {
        if let Self::Fixed(scale) = self {
            return plan(scale);
        }
        const NONE: &str = "no scale suits a source of this size";
        let mut plans: Vec<Plan> = (1..=4).filter_map(|scale| plan(scale).ok()).collect();
        // Shown as large as may be: a given LR height leaves one scale, the others show less.
        let rows = plans.iter().map(|plan| plan.hr.1).max().context(NONE)?;
        plans.retain(|plan| plan.hr.1 + 2 * plan.scale > rows);
        let by_bits = by_bits(&plans[0]);
        // Others never came near.
        if plans.len() > 1 {
            plans.retain(|plan| plan.scale.abs_diff(by_bits) <= 1);
        }
        let looks = if plans.len() > 1 { looks()? } else { Looks::none() };
        let trials = try_out(&plans, net, looks)?;
        match best(&trials) {
            Some(best) => Ok(plans[best]),
            None => plans.into_iter().min_by_key(|plan| plan.scale.abs_diff(by_bits)).context(NONE),
        }
    }
}

/// What trials say of a stream as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Advice {
    /// The plan of a scale beside its own at which viewers would see more, by [`CHANGE_DB`] at least.
    pub better: Option<Plan>,
    /// PSNR-Y that they would gain at its own if the video had twice the bits, dB.
    pub twice_the_bits_db: Option<f64>,
}

/// Tries on these frames what else `plan` could be; other scales where the stream is `free` to change.
///
/// # Errors
/// What the codecs say.
pub fn advise(plan: &Plan, free: bool, net: Net, frames: Vec<Frame>) -> Result<Advice> {
    let scales = match free {
        true => plan.scale.saturating_sub(1).max(1)..=(plan.scale + 1).min(4),
        false => plan.scale..=plan.scale,
    };
    let twice = Plan { video_kbps: 2.0 * plan.video_kbps, ..*plan };
    let mut plans: Vec<Plan> = scales
        .filter_map(|scale| if scale == plan.scale { Some(*plan) } else { plan.at_scale(scale) })
        .collect();
    plans.push(twice);
    let mut trials = try_out(&plans, net, Looks::at(frames))?;
    let richer = trials.pop().unwrap_or_default();
    let Some(now) = plans.iter().position(|other| other.scale == plan.scale) else { bail!("no such scale") };
    let better = best(&trials).filter(|best| trials[*best].worth_a_change(&trials[now]));
    Ok(Advice { better: better.map(|best| plans[best]), twice_the_bits_db: trials[now].to_twice(&richer) })
}

/// A trial of each plan.
fn try_out(plans: &[Plan], net: Net, mut looks: Looks) -> Result<Vec<Trial>> {
    let mut trials = vec![Trial::default(); plans.len()];
    while let Some(frames) = looks.next()? {
        plans.par_iter().zip(&mut trials).try_for_each(|(plan, trial)| trial.look(&frames, plan, net))?;
    }
    for (plan, trial) in plans.iter().zip(&trials) {
        tracing::debug!(scale = plan.scale, psnr_db = trial.psnr_db(), spent = trial.spent(), "tried");
    }
    Ok(trials)
}

fn by_bits(full: &Plan) -> u32 {
    let pixels = f64::from(full.hr.0) * f64::from(full.hr.1);
    let bits = (full.video_kbps + full.patch_kbps) * 1e3 / (pixels * full.fps);
    1 + BITS_MIN.iter().filter(|least| bits < **least).count() as u32
}

/// Index of the trial to follow, of trials by rising scale; none if nothing was seen.
fn best(trials: &[Trial]) -> Option<usize> {
    let seen = |trial: &&Trial| trial.measured > 0;
    let most = trials.iter().filter(seen).filter(|trial| trial.can_be_coded()).map(Trial::psnr_db);
    let Some(most) = most.reduce(f64::max) else { return trials.iter().rposition(|trial| seen(&trial)) };
    trials.iter().rposition(|trial| trial.can_be_coded() && trial.psnr_db() >= most - SMALLER_DB)
}

/// Frames to try scales on: a second here and there.
pub struct Looks<'a> {
    /// Where the next ones begin, microseconds.
    at_us: std::vec::IntoIter<i64>,
    frames: Box<dyn FnMut(i64) -> Result<Vec<Frame>> + 'a>,
}

impl<'a> Looks<'a> {
    /// Nothing to look at.
    pub fn none() -> Self {
        Self { at_us: vec![].into_iter(), frames: Box::new(|_| Ok(vec![])) }
    }

    /// These alone.
    fn at(frames: Vec<Frame>) -> Self {
        let mut frames = Some(frames);
        Self { at_us: vec![0].into_iter(), frames: Box::new(move |_| Ok(frames.take().unwrap_or_default())) }
    }

    /// The first second of a source, which goes on behind it.
    pub fn first_of(source: &'a mut dyn Source) -> Self {
        Self { at_us: vec![0].into_iter(), frames: Box::new(|_| first_frames(source)) }
    }

    /// Some seconds of a file that lasts `duration_us`, as far as is known; `open` begins at a media time.
    pub fn into_file(duration_us: Option<i64>, open: impl Fn(i64) -> Result<Box<dyn Source>> + 'a) -> Self {
        let at_us = match duration_us.filter(|us| *us >= LOOKS * LOOK_US) {
            Some(us) => (0..LOOKS).map(|look| (us / (2 * LOOKS)) * (2 * look + 1) - LOOK_US / 2).collect(),
            None => vec![0],
        };
        Self { at_us: at_us.into_iter(), frames: Box::new(move |at_us| first_frames(open(at_us)?.as_mut())) }
    }

    fn next(&mut self) -> Result<Option<Vec<Frame>>> {
        self.at_us.next().map(&mut self.frames).transpose()
    }
}

fn first_frames(source: &mut dyn Source) -> Result<Vec<Frame>> {
    let mut frames: Vec<Frame> = vec![];
    while !enough(&frames)
        && let Some(frame) = source.next_frame()?
    {
        frames.push(frame);
    }
    Ok(frames)
}

/// Whether frames are enough for a look.
fn enough(frames: &[Frame]) -> bool {
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return false };
    frames.len() >= FRAMES_MAX || last.pts_us.saturating_sub(first.pts_us) >= LOOK_US
}

/// Frames of a stream that runs, for the next look at it.
pub struct NextLook {
    /// Media time from which they are taken.
    from_us: i64,
    frames: Vec<Frame>,
}

impl NextLook {
    /// Frames from `from_us` on.
    pub fn at(from_us: i64) -> Self {
        Self { from_us, frames: vec![] }
    }

    /// Takes a frame if it is time; all of them once they are enough.
    pub fn see(&mut self, frame: &Frame) -> Option<Vec<Frame>> {
        if frame.pts_us >= self.from_us {
            self.frames.push(frame.clone());
        }
        enough(&self.frames).then(|| std::mem::take(&mut self.frames))
    }
}

/// What viewers of one plan would see.
#[derive(Clone, Debug, Default)]
struct Trial {
    /// Sum over the frames measured, dB.
    psnr_db: f64,
    measured: usize,
    /// Rates over what the plan allows, a sum over looks.
    spent: f64,
    looks: usize,
}

impl Trial {
    /// As it would be with all the bits that are allowed, and no more.
    fn psnr_db(&self) -> f64 {
        self.psnr_db / self.measured as f64 - TWICE_THE_BITS_DB * self.spent().log2()
    }

    /// The rate that it comes to, over what is allowed.
    fn spent(&self) -> f64 {
        self.spent / self.looks as f64
    }

    fn can_be_coded(&self) -> bool {
        self.spent() <= OVERSPENT_MAX
    }

    /// What twice the bits gain, dB, if `richer` was allowed them. Where the picture is as good as it gets, they are not spent.
    fn to_twice(&self, richer: &Self) -> Option<f64> {
        let doublings = (2.0 * richer.spent() / self.spent()).log2();
        let mean_db = |trial: &Self| trial.psnr_db / trial.measured as f64;
        let gain_db = (mean_db(richer) - mean_db(self)).max(0.0);
        let seen = self.measured > 0 && richer.measured > 0;
        seen.then_some(if doublings > DOUBLINGS_MIN { gain_db / doublings } else { gain_db })
    }

    /// Whether a stream at `now` should change to this.
    fn worth_a_change(&self, now: &Self) -> bool {
        (self.can_be_coded() && !now.can_be_coded()) || self.psnr_db() >= now.psnr_db() + CHANGE_DB
    }

    fn look(&mut self, frames: &[Frame], plan: &Plan, (blocks, features): Net) -> Result<()> {
        let arch = Arch::new(Family::Live, blocks, features, plan.scale as u8)?;
        let origin = Origin::best(arch, 0);
        let mut upscaler = Upscaler::new(arch, &Preference::Cpu.into())?;
        upscaler.set_weights(&Published::origin(arch, origin).weights())?;
        let mode = match origin {
            Origin::Base(base) if base.is_sure() => Mode::Network,
            _ => Mode::Bicubic,
        };
        let config = encode::Config { effort: Effort::Fast, ..plan.encode(plan.lr, plan.video_kbps) };
        let (mut encoder, mut decoder) = (Encoder::new(&config)?, Decoder::new(decode::Limits::default())?);
        let (mut bytes, mut rgba) = (vec![], vec![]);
        // There and back again: the encoder has settled when it is measured, and no more frames had to be there.
        let truths = frames.iter().map(|frame| fit(frame.clone(), plan.hr, plan.scale));
        let truths: Vec<Frame> = truths.collect::<Result<_>>()?;
        let step_us = (1e6 / plan.fps) as i64;
        for (i, truth) in truths.iter().chain(truths.iter().rev()).enumerate() {
            let lr = downscale(&truth.image, plan.lr.0, plan.lr.1)?;
            let packet = encoder.encode(&lr, i as i64 * step_us, false)?;
            bytes.push(packet.data.len() as f64);
            for decoded in decoder.decode(&packet.data, packet.pts_us)? {
                if i >= truths.len() && (i + 1).is_multiple_of(MEASURED) {
                    upscaler.upscale(&picture::yuv420(&decoded), mode, &mut rgba)?;
                    self.psnr_db += Truth::new(truth).quality(&rgba, 4).psnr_y_db.min(PSNR_MAX_DB);
                    self.measured += 1;
                }
            }
        }
        if let [keyframe, others @ ..] = &bytes[..] {
            // A group has one keyframe and goes on as it began.
            let gop = f64::from(config.gop_frames);
            let others = others.iter().sum::<f64>() / others.len().max(1) as f64;
            let bits_a_second = 8.0 * (keyframe + others * (gop - 1.0)) / gop * plan.fps;
            self.spent += bits_a_second / (plan.video_kbps * 1e3);
            self.looks += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hone_media::source::{Info, Pattern};

    use super::*;
    use crate::sender::Rate;

    fn info() -> Info {
        *Pattern::new(640, 360, 25.0, Box::new(|| 0)).unwrap().info()
    }

    fn plan(kbps: f64) -> impl Fn(u32) -> Result<Plan> {
        move |scale| Plan::new(&info(), scale, None, Rate::Total(kbps))
    }

    fn pattern(_at_us: i64) -> Result<Box<dyn Source>> {
        Ok(Box::new(Pattern::new(640, 360, 25.0, Box::new(|| 0))?))
    }

    #[test]
    fn what_cannot_be_coded_at_a_rate_is_scaled_down_and_rich_links_carry_everything() {
        let chosen = |kbps| {
            let looks = || Ok(Looks::into_file(None, pattern));
            Scale::Auto.choose(SERVERS_NET, plan(kbps), looks).unwrap().scale
        };
        let scales = [30.0, 200.0, 3000.0].map(chosen);
        assert!(scales[0] > scales[2] && scales[0] >= scales[1] && scales[1] >= scales[2], "{scales:?}");
        assert_eq!(scales[2], 1);
    }

    #[test]
    fn bits_decide_where_there_is_nothing_to_see() {
        let hd = Info { width: 1920, height: 1080, ..info() };
        let chosen = |kbps| {
            let plan = |scale| Plan::new(&hd, scale, None, Rate::Total(kbps));
            Scale::Auto.choose(SERVERS_NET, plan, || Ok(Looks::none())).unwrap().scale
        };
        assert_eq!([150.0, 300.0, 600.0, 1200.0].map(chosen), [4, 3, 2, 1]);
    }

    #[test]
    fn a_given_lr_height_is_shown_as_large_as_the_source() {
        let plan = |scale| Plan::new(&info(), scale, Some(120), Rate::Total(100.0));
        let looks = || -> Result<Looks> { panic!("there is nothing to choose") };
        assert_eq!(Scale::Auto.choose(SERVERS_NET, plan, looks).unwrap().scale, 3);
        assert_eq!(Scale::Fixed(2).choose(SERVERS_NET, plan, looks).unwrap().scale, 2);
    }

    #[test]
    fn looks_are_spread_over_a_file() {
        let begun = std::cell::RefCell::new(vec![]);
        let mut looks = Looks::into_file(Some(60_000_000), |at_us| {
            begun.borrow_mut().push(at_us);
            pattern(at_us)
        });
        while let Some(frames) = looks.next().unwrap() {
            assert!((24..=27).contains(&frames.len()), "{}", frames.len());
        }
        assert_eq!(*begun.borrow(), [9_500_000, 29_500_000, 49_500_000]);
    }

    #[test]
    fn the_best_that_can_be_coded_is_taken_and_of_equals_the_smallest() {
        let trial = |psnr_db, spent| Trial { psnr_db, measured: 1, spent, looks: 1 };
        assert_eq!(best(&[trial(30.0, 1.5), trial(28.0, 1.0), trial(27.0, 1.0)]), Some(1));
        assert_eq!(best(&[trial(30.0, 1.0), trial(29.97, 1.0), trial(29.0, 1.0)]), Some(1));
        assert_eq!(best(&[trial(30.0, 2.0), trial(29.0, 1.5)]), Some(1));
        assert_eq!(best(&[trial(29.9, 0.8), trial(30.0, 1.0)]), Some(0));
        assert_eq!(best(&[Trial::default(), Trial::default()]), None);

        assert!(trial(30.5, 1.0).worth_a_change(&trial(30.0, 1.0)));
        assert!(!trial(30.4, 1.0).worth_a_change(&trial(30.0, 1.0)));
        assert!(trial(28.0, 1.0).worth_a_change(&trial(30.0, 1.5)), "what cannot be coded is no choice");
    }

    /// Frames of the test pattern; with a `seed` under noise that no thin link carries.
    fn frames(seed: usize) -> Vec<Frame> {
        let mut source = Pattern::new(640, 360, 25.0, Box::new(|| 0)).unwrap();
        let mut frames: Vec<Frame> = (0..13).map(|_| source.next_frame().unwrap().unwrap()).collect();
        for (i, frame) in frames.iter_mut().enumerate().filter(|_| seed > 0) {
            let mut image = (*frame.image).clone();
            let mut rng = hone_model::rng::Rng::new((seed + i) as u64);
            image.y_mut().iter_mut().for_each(|v| *v = v.wrapping_add(rng.below(90) as u8) / 2 + 40);
            frame.image = std::sync::Arc::new(image);
        }
        frames
    }

    #[test]
    fn a_stream_whose_rate_or_picture_is_another_is_better_at_another_scale() {
        let scale = |plan: &Plan, seed| {
            let advice = advise(plan, true, SERVERS_NET, frames(seed)).unwrap();
            advice.better.map(|plan| plan.scale)
        };
        let (rich, thin) = (plan(3000.0)(1).unwrap(), plan(30.0)(4).unwrap());
        assert_eq!(scale(&rich, 0), None, "it is as it should be");
        assert_eq!(scale(&plan(3000.0)(2).unwrap(), 0), Some(1));
        assert_eq!(scale(&plan(300.0)(1).unwrap(), 7), Some(2));
        assert_eq!((thin.at_scale(2).unwrap().lr, thin.at_scale(2).unwrap().hr), ((320, 180), thin.hr));
        assert_eq!(thin.at_scale(3), None, "640 columns are no even number of columns, three times");
    }

    #[test]
    fn bits_are_worth_more_where_they_are_few() {
        let worth = |kbps, seed| {
            let advice = advise(&plan(kbps)(1).unwrap(), false, SERVERS_NET, frames(seed)).unwrap();
            assert_eq!(advice.better, None, "it is not free");
            advice.twice_the_bits_db.unwrap()
        };
        let (thin, rich) = (worth(300.0, 0), worth(3000.0, 0));
        assert!(thin > rich && (0.5..8.0).contains(&thin), "{thin} and {rich} dB");
    }
}
