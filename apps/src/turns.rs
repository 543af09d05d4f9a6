//! Learners of several streams take turns on the device that they share.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use hone_trainer::{Shares, StreamId};

/// Lets one learner step at a time, the one whose next step is worth most more often.
#[derive(Default)]
pub struct Turns {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    shares: Shares,
    busy: bool,
}

impl Turns {
    /// A stream's place in the row, until it is dropped.
    pub fn join(&self) -> Place<'_> {
        Place { turns: self, id: self.lock().shares.join() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's place.
pub struct Place<'a> {
    turns: &'a Turns,
    id: StreamId,
}

impl Place<'_> {
    /// Waits for its turn and takes it: `step` gives its result, and what one more is worth, dB, if that is known.
    pub fn step<R>(&self, step: impl FnOnce() -> (R, Option<f64>)) -> R {
        let mut state = self.turns.lock();
        state.shares.wait(self.id);
        while state.busy || state.shares.next() != Some(self.id) {
            state = self.turns.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.busy = true;
        drop(state);
        // Given back even if the step panics.
        let mut turn = Turn { place: self, worth_db: None };
        let (result, worth_db) = step();
        turn.worth_db = worth_db;
        result
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.lock().shares.leave(self.id);
        self.turns.moved.notify_all();
    }
}

struct Turn<'a> {
    place: &'a Place<'a>,
    worth_db: Option<f64>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.place.turns.lock();
        state.busy = false;
        state.shares.stepped(self.place.id, self.worth_db);
        self.place.turns.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_and_more_for_the_one_that_gains() {
        let (turns, inside, steps) =
            (Turns::default(), AtomicUsize::new(0), [const { AtomicUsize::new(0) }; 2]);
        let places = [turns.join(), turns.join()];
        std::thread::scope(|scope| {
            for (i, place) in places.iter().enumerate() {
                let (inside, steps) = (&inside, &steps);
                scope.spawn(move || {
                    while steps[0].load(Ordering::Relaxed) < 400 {
                        place.step(|| {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            // Long enough for the other to come back and wait.
                            std::thread::sleep(std::time::Duration::from_micros(300));
                            inside.fetch_sub(1, Ordering::SeqCst);
                            steps[i].fetch_add(1, Ordering::Relaxed);
                            ((), Some([0.04, 0.01][i]))
                        });
                    }
                });
            }
        });
        let other = steps[1].load(Ordering::Relaxed);
        // Fewer than an even share of 400, however a busy machine schedules the threads.
        assert!((40..=320).contains(&other), "{other} beside 400, where 100 are due");
    }

    #[test]
    fn a_learner_that_panics_holds_nobody_up() {
        let turns = Turns::default();
        let panicked = std::thread::scope(|scope| {
            scope
                .spawn(|| turns.join().step(|| -> ((), Option<f64>) { panic!("as it should") }))
                .join()
                .is_err()
        });
        assert!(panicked);
        assert_eq!(turns.join().step(|| (7, None)), 7);
    }
}
