//! Whether more patches pay: what they teach, against what their bits would be worth as video. The idea of weighing the two
//! at the margin is LiveNAS' (SIGCOMM 2020).

use crate::sender::Plan;

/// PSNR-Y that viewers gain where the video gets twice the bits, dB, where the sender has not measured it; `docs/lab.md` has
/// what clips say.
const TWICE_THE_BITS_DB: f64 = 2.0;
/// Media time over which both are measured, microseconds.
const WINDOW_US: i64 = 10_000_000;
/// A new scene is given so much before it has to show anything: the first verdicts take their time.
const FIRST_WINDOW_US: i64 = 30_000_000;
/// Without patches for so long at most: then they are tried again.
const REST_MAX_US: i64 = 60_000_000;

/// At scale 1 a network takes artefacts away and no more: patches that cost so much, dB of PSNR-Y, can hardly pay.
const DEAR_DB: f64 = 0.2;

/// Whether patches cost this stream more than they could teach, as far as its sender has measured what twice the bits gain.
pub fn too_dear(plan: &Plan, twice_the_bits_db: Option<f64>) -> bool {
    let doublings = (1.0 + plan.patch_kbps / plan.video_kbps).log2();
    plan.scale == 1 && twice_the_bits_db.is_some_and(|db| db * doublings > DEAR_DB)
}

/// Says when to ask for patches and when to leave their bits to the video.
#[derive(Debug, Default)]
pub struct Demand {
    now_us: Option<i64>,
    /// Media time at which the scene began.
    scene_us: i64,
    window: Window,
    /// Until when nothing is asked for.
    rest_until_us: Option<i64>,
    /// How long the next rest will be.
    rest_us: i64,
    /// What the sender has measured that twice the bits would gain, dB.
    twice_the_bits_db: Option<f64>,
}

#[derive(Debug, Default)]
struct Window {
    begun_us: i64,
    ends_us: i64,
    video_bytes: usize,
    patch_bytes: usize,
    /// All that was learned when it began, dB.
    learned_db: f64,
}

impl Demand {
    /// Books an access unit.
    pub fn video(&mut self, pts_us: i64, bytes: usize) {
        if self.now_us.is_none() {
            self.now_us = Some(pts_us);
            self.new_scene(0.0);
        }
        self.now_us = self.now_us.max(Some(pts_us));
        self.window.video_bytes += bytes;
    }

    /// Books a patch, and what came with it of the video's worth: what twice its bits would gain, dB.
    pub fn patch(&mut self, bytes: usize, twice_the_bits_db: Option<f64>) {
        self.window.patch_bytes += bytes;
        self.twice_the_bits_db = twice_the_bits_db.or(self.twice_the_bits_db);
    }

    /// Something else is shown: all is to be learned. `learned_db` is all that was, as for [`Demand::asks`].
    pub fn new_scene(&mut self, learned_db: f64) {
        self.scene_us = self.now_us.unwrap_or(0);
        (self.rest_until_us, self.rest_us) = (None, WINDOW_US);
        self.begin(FIRST_WINDOW_US, learned_db);
    }

    fn begin(&mut self, us: i64, learned_db: f64) {
        let begun_us = self.now_us.unwrap_or(0);
        self.window =
            Window { begun_us, ends_us: begun_us.saturating_add(us), learned_db, ..Window::default() };
    }

    /// Whether patches are wanted now. `learned_db` is the sum of what all versions so far gained over the one before.
    pub fn asks(&mut self, learned_db: f64) -> bool {
        let Some(now_us) = self.now_us else { return true };
        if let Some(until_us) = self.rest_until_us {
            if now_us < until_us {
                return false;
            }
            self.rest_until_us = None;
            self.begin(WINDOW_US, learned_db);
        }
        if now_us < self.window.ends_us {
            return true;
        }
        let Window { begun_us, video_bytes, patch_bytes, .. } = self.window;
        let share = patch_bytes as f64 / video_bytes.max(1) as f64;
        let as_video_db = self.twice_the_bits_db.unwrap_or(TWICE_THE_BITS_DB) * (1.0 + share).log2();
        // Video is better as long as it gets the bits; what was learned lasts. For how long nobody knows: a scene that has
        // stood for a minute may well stand for another.
        let lasts = (now_us - self.scene_us) as f64 / (now_us - begun_us).max(1) as f64;
        let taught_db = learned_db - self.window.learned_db;
        if taught_db * lasts >= as_video_db {
            self.rest_us = WINDOW_US;
            self.begin(WINDOW_US, learned_db);
            return true;
        }
        tracing::debug!(
            taught_db,
            lasts,
            as_video_db,
            rest_s = self.rest_us / 1_000_000,
            "patches do not pay"
        );
        self.rest_until_us = Some(now_us.saturating_add(self.rest_us));
        self.rest_us = (2 * self.rest_us).min(REST_MAX_US);
        false
    }
}

#[cfg(test)]
mod tests {
    use hone_media::frame::Colour;
    use hone_media::source::Info;

    use super::*;
    use crate::sender::Rate;

    /// Seconds at which patches are asked for, of 200, if a minute of them teaches `db_a_minute`, until `saturated_s`.
    fn asked(db_a_minute: f64, saturated_s: i64, new_scene_s: i64) -> Vec<i64> {
        asked_beside(None, db_a_minute, saturated_s, new_scene_s)
    }

    /// The same beside video that was measured.
    fn asked_beside(
        twice_the_bits_db: Option<f64>,
        db_a_minute: f64,
        saturated_s: i64,
        new_scene_s: i64,
    ) -> Vec<i64> {
        let (mut demand, mut learned_db, mut asked) = (Demand::default(), 0.0, vec![]);
        for t_s in 0..200 {
            demand.video(t_s * 1_000_000, 70_000);
            if t_s == new_scene_s {
                demand.new_scene(learned_db);
            }
            if demand.asks(learned_db) {
                asked.push(t_s);
                demand.patch(5_000, twice_the_bits_db);
                learned_db += if t_s < saturated_s { db_a_minute / 60.0 } else { 0.0 };
            }
        }
        asked
    }

    #[test]
    fn patches_flow_while_they_teach_and_rest_when_they_do_not() {
        assert_eq!(asked(1.2, 200, -1).len(), 200);
        let never = asked(0.0, 0, -1);
        assert_eq!(never[..30], (0..30).collect::<Vec<_>>());
        // Then ten seconds now and then, further and further apart.
        let tried = [40..50, 70..80, 120..130, 190..200].into_iter().flatten();
        assert_eq!(never[30..], tried.collect::<Vec<_>>());
        let saturated = asked(1.2, 60, -1);
        assert!(saturated.len() < 130 && saturated[..60] == (0..60).collect::<Vec<_>>(), "{saturated:?}");
    }

    #[test]
    fn what_the_sender_has_measured_counts() {
        let slowly = |twice_the_bits_db| asked_beside(twice_the_bits_db, 0.12, 200, -1).len();
        assert!(slowly(None) < 200, "as video the bits are worth more");
        assert_eq!(slowly(Some(0.125)), 200, "of a picture that is as good as it gets they are not");
        assert!(slowly(Some(8.0)) < slowly(Some(1.0)));
    }

    #[test]
    fn at_scale_1_patches_may_be_too_dear() {
        let (colour, rate) = (Colour::guess(192), Rate::Total(1200.0));
        let info = Info { width: 320, height: 192, fps: 25.0, duration_us: None, colour, live: false };
        let [full, half] = [1, 2].map(|scale| Plan::new(&info, scale, None, rate).unwrap());
        assert!(too_dear(&full, Some(13.0)) && !too_dear(&full, Some(3.0)) && !too_dear(&full, None));
        assert!(!too_dear(&half, Some(13.0)));
    }

    #[test]
    fn a_new_scene_is_given_its_time() {
        let asked = asked(0.0, 0, 55);
        assert!((55..85).all(|t_s| asked.contains(&t_s)), "{asked:?}");
        assert!(!asked.contains(&54) && !asked.contains(&85));
    }

    #[test]
    fn before_the_first_picture_nothing_speaks_against_patches() {
        assert!(Demand::default().asks(0.0));
        let mut demand = Demand::default();
        demand.video(i64::MAX, 1);
        demand.video(0, 1);
        assert!(demand.asks(0.0) || demand.asks(0.0));
    }
}
