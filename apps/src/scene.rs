//! Cuts and fades, found on the decoded stream.

use hone_media::cut::{CHANGE_MIN, Cuts, difference};
use hone_media::frame::I420;

/// How long the light must stay within [`LIGHT_CHANGE`] for a scene to count as settled, microseconds.
const SETTLE_US: i64 = 750_000;
/// It settles after so long in any light: a stage may flicker all evening.
const SETTLE_MAX_US: i64 = 4_000_000;
/// A cut so soon after another is the same one, microseconds: of the first frame behind it a thin link makes something
/// that the next ones have little in common with.
const SAME_CUT_US: i64 = 150_000;
/// Mean luma, code values: a fade moves it by more.
const LIGHT_CHANGE: f32 = 8.0;

/// Mean luma below which a picture is dark; black is 16.
const DARK: f32 = 32.0;

/// A settled picture whose cells differ from those at that time by as much as a cut changes them shows something else,
/// however slowly it came,
const DRIFT: f32 = CHANGE_MIN;
/// unless a frame or two bring so much all the time.
const DRIFT_OVER_USUAL: f32 = 8.0;

/// What a frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The stream.
    Begun,
    /// A new scene.
    Cut,
    /// The stream, or a scene, has gone on for a while in an even light. Before, on a thin link, the encoder sends
    /// large blocks, and a fade changes everything with each frame.
    Settled,
    /// Another view, without a cut: what was found out about the last one may no longer hold.
    Drifted,
}

/// Tells where one scene ends and the next begins.
#[derive(Debug, Default)]
pub struct Scenes {
    cuts: Cuts,
    /// None before the first frame and once settled.
    unsettled: Option<Unsettled>,
    /// Cells when the scene settled or last drifted.
    view: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
struct Unsettled {
    /// Media time at which the scene began.
    begun_us: i64,
    /// By a cut: otherwise with the stream.
    cut: bool,
    /// Media time since which the light has been even, and that light.
    even_us: i64,
    light: f32,
}

impl Scenes {
    /// What `image`, the next frame, begins.
    pub fn see(&mut self, image: &I420, pts_us: i64) -> Option<Change> {
        let first = self.cuts.cells().is_empty();
        let cut = self.cuts.see(image);
        let cells = self.cuts.cells();
        let light = cells.iter().sum::<f32>() / cells.len() as f32;
        let begun = self.unsettled.filter(|scene| pts_us.saturating_sub(scene.begun_us) < SAME_CUT_US);
        if let (true, Some(scene)) = (cut, begun) {
            self.unsettled = Some(Unsettled { even_us: pts_us, light, ..scene });
            return (!scene.cut).then_some(Change::Begun);
        }
        if first || cut {
            self.unsettled = Some(Unsettled { begun_us: pts_us, cut, even_us: pts_us, light });
            return Some(if cut { Change::Cut } else { Change::Begun });
        }
        let Some(scene) = &mut self.unsettled else {
            let drifted = difference(&self.view, cells) > DRIFT.max(DRIFT_OVER_USUAL * self.cuts.usual());
            return drifted.then(|| {
                self.view = cells.to_vec();
                Change::Drifted
            });
        };
        if (light - scene.light).abs() > LIGHT_CHANGE {
            (scene.even_us, scene.light) = (pts_us, light);
        }
        let settled = pts_us.saturating_sub(scene.even_us) >= SETTLE_US
            || pts_us.saturating_sub(scene.begun_us) >= SETTLE_MAX_US;
        settled.then(|| {
            self.unsettled = None;
            self.view = cells.to_vec();
            Change::Settled
        })
    }

    /// Whether the scene began, or lies, in the dark and has not settled: a fade from black makes pictures that networks
    /// have not seen, and black is best left alone.
    pub fn dark(&self) -> bool {
        self.unsettled.is_some_and(|scene| scene.light < DARK)
    }

    /// Mean luma of each cell when the scene settled or last drifted, code values.
    pub fn view(&self) -> &[f32] {
        &self.view
    }

    /// Whether the scene has settled.
    pub fn settled(&self) -> bool {
        self.unsettled.is_none() && !self.cuts.cells().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stripes that move by `shift`, brightened by `light`.
    fn stripes(period: usize, shift: usize, light: u8) -> I420 {
        let mut image = I420::new(320, 180).unwrap();
        for (i, v) in image.y_mut().iter_mut().enumerate() {
            *v = light + if ((i % 320 + shift) / period).is_multiple_of(2) { 100 } else { 20 };
        }
        image
    }

    /// The changes in `n` frames at 25 a second, from frame `from` on.
    fn changes(
        scenes: &mut Scenes,
        from: usize,
        n: usize,
        image: impl Fn(usize) -> I420,
    ) -> Vec<(usize, Change)> {
        let see = |i: usize| Some((i, scenes.see(&image(i), (from + i) as i64 * 40_000)?));
        (0..n).filter_map(see).collect()
    }

    #[test]
    fn cuts_are_found_and_motion_and_fades_are_none() {
        let mut scenes = Scenes::default();
        // The light of a whole number of stripes does not move with them.
        let pan = changes(&mut scenes, 0, 40, |i| stripes(80, 3 * i, 0));
        assert_eq!(pan[..2], [(0, Change::Begun), (19, Change::Settled)]);
        assert!(pan[2..].iter().all(|(_, change)| *change == Change::Drifted), "{pan:?}");
        let brighter = changes(&mut scenes, 40, 25, |i| stripes(80, 120, 4 * i as u8));
        assert!(brighter.iter().all(|(_, change)| *change == Change::Drifted), "{brighter:?}");
        let cut = changes(&mut scenes, 65, 25, |_| stripes(40, 0, 0));
        assert_eq!(cut, [(0, Change::Cut), (19, Change::Settled)]);
        // The first frame behind a cut may be like neither scene.
        let blurred =
            changes(&mut scenes, 90, 3, |i| stripes([130, 40, 40][i], [60, 0, 0][i], [60, 0, 0][i]));
        assert_eq!(blurred, [(0, Change::Cut)]);
        assert_eq!(changes(&mut scenes, 97, 1, |_| stripes(130, 60, 60)), [(0, Change::Cut)]);
    }

    #[test]
    fn a_slow_turn_to_another_view_is_noticed_once() {
        let view = |i: usize| stripes(80, i.saturating_sub(30).min(40), 0);
        let seen = changes(&mut Scenes::default(), 0, 100, view);
        assert_eq!(seen[..2], [(0, Change::Begun), (19, Change::Settled)]);
        assert!(
            seen.len() >= 3
                && seen[2..].iter().all(|(at, change)| (31..=70).contains(at) && *change == Change::Drifted),
            "{seen:?}"
        );
    }

    #[test]
    fn a_fade_from_black_settles_when_it_is_over() {
        let black = |i: usize| {
            let mut image = stripes(90, 0, 0);
            image.y_mut().iter_mut().for_each(|v| *v = (16 + usize::from(*v) * i.min(40) / 40) as u8);
            image
        };
        let settled = changes(&mut Scenes::default(), 0, 70, black);
        assert!(matches!(settled[..], [(0, Change::Begun), (50..65, Change::Settled)]), "{settled:?}");
        let mut scenes = Scenes::default();
        scenes.see(&black(0), 0);
        assert!(scenes.dark());
        // Black for a frame, and then it begins.
        assert_eq!(scenes.see(&stripes(90, 0, 0), 40_000), Some(Change::Begun));
        assert!(!scenes.dark());
    }

    #[test]
    fn a_flicker_without_end_settles_too() {
        let mut scenes = Scenes::default();
        let settled = changes(&mut scenes, 0, 200, |i| stripes(80, 0, 9 * (i / 3 % 2) as u8));
        assert_eq!(settled, [(0, Change::Begun), (100, Change::Settled)]);
        assert!(scenes.settled());
    }

    #[test]
    fn a_picture_that_changes_all_the_time_is_not_cut_all_the_time() {
        let cuts = changes(&mut Scenes::default(), 0, 100, |i| stripes(20, 13 * i, 0));
        let cuts = cuts.iter().filter(|(_, change)| *change == Change::Cut).count();
        assert!(cuts < 5, "{cuts} cuts");
    }

    #[test]
    fn any_size_will_do() {
        let mut scenes = Scenes::default();
        for (width, height) in [(2, 2), (16, 8), (4096, 2)] {
            assert_ne!(scenes.see(&I420::new(width, height).unwrap(), i64::MAX), Some(Change::Settled));
        }
    }
}
