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

    /// Whether both wait, told by what a row of the same kind would do.
    fn wait_both(turns: &Turns, [a, b]: [&Place<'_>; 2]) -> bool {
        let mut shares = turns.lock().shares.clone();
        let row: Vec<_> =
            std::iter::from_fn(|| shares.next().inspect(|id| shares.stepped(*id, None))).collect();
        row.contains(&a.id) && row.contains(&b.id)
    }

    /// Lets both come while a third one steps, and tells which of them steps first then.
    fn first_of(turns: &Turns, places: [&Place<'_>; 2]) -> usize {
        let (inside, order) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            turns.join().step(|| {
                inside.fetch_add(1, Ordering::SeqCst);
                for (i, place) in places.into_iter().enumerate() {
                    let (inside, order) = (&inside, &order);
                    scope.spawn(move || {
                        place.step(|| {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two step at a time");
                            order.lock().unwrap().push(i);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            ((), Some([0.04, 0.01][i]))
                        });
                    });
                }
                while !wait_both(turns, places) {
                    std::thread::yield_now();
                }
                inside.fetch_sub(1, Ordering::SeqCst);
                ((), Some(0.0))
            });
        });
        order.into_inner().unwrap()[0]
    }

    #[test]
    fn one_at_a_time_and_who_is_due_goes_first() {
        let turns = Turns::default();
        let (a, b) = (turns.join(), turns.join());
        let a_steps = |n| (0..n).for_each(|_| a.step(|| ((), Some(0.04))));
        a_steps(1);
        assert_eq!(first_of(&turns, [&a, &b]), 1, "`b` has not stepped yet");
        // A step of `b` is worth a quarter, and counts for four.
        assert_eq!([(); 2].map(|()| first_of(&turns, [&a, &b])), [0, 0]);
        a_steps(9);
        assert_eq!(first_of(&turns, [&a, &b]), 1, "`a` has had its four");
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
