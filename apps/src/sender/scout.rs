//! Whether another scale has come to be better than the one in use, and what more bits would be worth: the picture or the link
//! may have changed.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use hone_media::frame::Frame;

use super::Plan;
use crate::auto_scale::{Advice, Net, NextLook, advise};

/// A change is announced so much media time ahead, so that everybody knows of it when it comes.
const AHEAD_US: i64 = 1_000_000;
/// Media time between two looks,
const LOOK_EVERY_US: i64 = 10_000_000;
/// but a look takes at most one in so many parts of a core.
const SHARE: u32 = 10;
/// So many looks in a row must say the same.
const LOOKS: u32 = 2;

/// A change that is to come.
#[derive(Clone, Copy)]
pub(super) struct Announced {
    /// Media time of the first picture that may be sent so.
    pub(super) from_us: i64,
    /// How that is sent.
    pub(super) plan: Plan,
}

impl Announced {
    /// `plan`, from soon after `frame` on.
    pub(super) fn after(frame: &Frame, plan: Plan) -> Self {
        Self { from_us: frame.pts_us.saturating_add(AHEAD_US), plan }
    }
}

/// Looks ahead for a sender.
pub trait Scout: Send {
    /// Sees a frame that is about to be sent by `plan`. The plan of another scale that would be better, if there is one.
    fn see(&mut self, frame: &Frame, plan: &Plan) -> Option<Plan>;

    /// PSNR-Y that viewers would gain if the video had twice the bits, dB, as far as is known.
    fn twice_the_bits_db(&self) -> Option<f64> {
        None
    }
}

/// Looks at what is sent, now and then, and tries the scales beside the one in use on it, and more bits, on one core.
pub struct ByLooks {
    net: Net,
    /// Whether the scale may change.
    free: bool,
    /// None while there is one.
    next: Option<NextLook>,
    looking: Option<JoinHandle<Look>>,
    /// Which scale the last looks have preferred, and how many of them.
    preferred: Option<(u32, u32)>,
    twice_the_bits_db: Option<f64>,
}

/// What a look has shown, and how long it took.
type Look = (Result<Advice>, Duration);

impl ByLooks {
    /// For viewers who run this network; the scale changes only if it is `free` to.
    pub fn new(net: Net, free: bool) -> Self {
        Self { net, free, next: None, looking: None, preferred: None, twice_the_bits_db: None }
    }

    /// The change that a look asks for, if those before it have asked for the same.
    fn consider(&mut self, better: Option<Plan>) -> Option<Plan> {
        let times = match (better, self.preferred) {
            (None, _) => 0,
            (Some(plan), Some((scale, times))) if scale == plan.scale => times + 1,
            (Some(_), _) => 1,
        };
        self.preferred = better.map(|plan| (plan.scale, times));
        let change = better.filter(|_| times >= LOOKS);
        if change.is_some() {
            self.preferred = None;
        }
        change
    }
}

impl Scout for ByLooks {
    fn see(&mut self, frame: &Frame, plan: &Plan) -> Option<Plan> {
        if let Some(looking) = self.looking.take_if(|looking| looking.is_finished()) {
            let (look, took) = looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let rest_us = i64::try_from((took * SHARE).as_micros()).unwrap_or(i64::MAX).max(LOOK_EVERY_US);
            self.next = Some(NextLook::at(frame.pts_us.saturating_add(rest_us)));
            match look {
                Ok(Advice { better, twice_the_bits_db }) => {
                    tracing::debug!(twice_the_bits_db, "looked");
                    self.twice_the_bits_db = twice_the_bits_db.or(self.twice_the_bits_db);
                    return self.consider(better);
                }
                Err(error) => tracing::warn!(%error, "nothing else could be tried"),
            }
        }
        if self.looking.is_none() {
            let first = || NextLook::at(frame.pts_us.saturating_add(LOOK_EVERY_US));
            let frames = self.next.get_or_insert_with(first).see(frame)?;
            let (plan, net, free) = (*plan, self.net, self.free);
            self.next = None;
            self.looking = Some(std::thread::spawn(move || {
                let begun = Instant::now();
                let one_core = rayon::ThreadPoolBuilder::new().num_threads(1).build();
                let look = match one_core {
                    Ok(pool) => pool.install(|| advise(&plan, free, net, frames)),
                    Err(error) => Err(error.into()),
                };
                (look, begun.elapsed())
            }));
        }
        None
    }

    fn twice_the_bits_db(&self) -> Option<f64> {
        self.twice_the_bits_db
    }
}

#[cfg(test)]
mod tests {
    use hone_media::source::{Pattern, Source};

    use super::*;
    use crate::auto_scale::SERVERS_NET;
    use crate::sender::Rate;

    #[test]
    fn two_looks_in_a_row_must_prefer_the_same() {
        let info = *Pattern::new(640, 360, 25.0, Box::new(|| 0)).unwrap().info();
        let plan = |scale| Plan::new(&info, scale, None, Rate::Total(300.0)).unwrap();
        let mut looks = ByLooks::new(SERVERS_NET, true);
        let mut changes = |preferred: &[Option<u32>]| -> Vec<Option<u32>> {
            let considered = preferred.iter().map(|scale| looks.consider(scale.map(plan)));
            considered.map(|change| change.map(|plan| plan.scale)).collect()
        };
        assert_eq!(changes(&[Some(2), None, Some(2), Some(1)]), [None; 4]);
        assert_eq!(changes(&[Some(1), Some(1)]), [Some(1), None]);
    }

    #[test]
    fn a_link_that_has_become_rich_is_noticed() {
        let mut source = Pattern::new(320, 180, 25.0, Box::new(|| 0)).unwrap();
        let plan = Plan::new(source.info(), 2, None, Rate::Total(2000.0)).unwrap();
        let mut looks = ByLooks::new(SERVERS_NET, true);
        let mut changed = None;
        for _ in 0..1200 {
            let frame = source.next_frame().unwrap().unwrap();
            let waits = looks.looking.is_some();
            changed = looks.see(&frame, &plan).map(|plan| (frame.pts_us, plan.scale));
            if changed.is_some() {
                break;
            }
            if waits {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let (at_us, scale) = changed.expect("a change");
        assert_eq!(scale, 1);
        assert!(at_us > 2 * LOOK_EVERY_US, "{at_us}");
        assert!(looks.twice_the_bits_db().is_some_and(|db| (0.0..10.0).contains(&db)));
    }
}
