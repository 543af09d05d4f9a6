//! Several streams on one device: who may take the next step.

/// The least that a stream gets, of what the best one gets: what a step is worth there may have changed.
const SHARE_MIN: f64 = 1.0 / 8.0;

/// Names a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId(u64);

/// Shares steps out in proportion to what a step is worth on each stream, by stride scheduling.
///
/// Source: Waldspurger and Weihl 1995, "Stride Scheduling: Deterministic Proportional-Share Resource Management".
#[derive(Clone, Debug, Default)]
pub struct Shares {
    streams: Vec<Stream>,
    joined: u64,
    /// Pass of the stream that stepped last.
    now: f64,
}

#[derive(Clone, Debug)]
struct Stream {
    id: StreamId,
    /// Grows by the stride, one over the share, with each step.
    pass: f64,
    /// Gain that a step brings, dB; none as long as nobody knows.
    worth_db: Option<f64>,
    waits: bool,
}

impl Shares {
    /// A new stream. Until its worth is known it gets as much as the best one.
    pub fn join(&mut self) -> StreamId {
        let id = StreamId(self.joined);
        self.joined += 1;
        self.streams.push(Stream { id, pass: self.now, worth_db: None, waits: false });
        id
    }

    /// The stream has ended.
    pub fn leave(&mut self, id: StreamId) {
        self.streams.retain(|stream| stream.id != id);
    }

    /// The stream would take a step now.
    pub fn wait(&mut self, id: StreamId) {
        let now = self.now;
        if let Some(stream) = self.stream(id) {
            // Steps that it did not want are not made up for.
            stream.pass = stream.pass.max(now);
            stream.waits = true;
        }
    }

    /// Whose turn it is, of those who wait.
    pub fn next(&self) -> Option<StreamId> {
        let waiting = self.streams.iter().filter(|stream| stream.waits);
        waiting.min_by(|a, b| a.pass.total_cmp(&b.pass)).map(|stream| stream.id)
    }

    /// The stream has taken its step, after which one more is worth `worth_db`, if that is known.
    pub fn stepped(&mut self, id: StreamId, worth_db: Option<f64>) {
        let known = self.streams.iter().filter(|stream| stream.id != id).filter_map(|stream| stream.worth_db);
        let best = known.chain(worth_db).fold(0.0, f64::max);
        let Some(stream) = self.stream(id) else { return };
        stream.waits = false;
        stream.worth_db = worth_db;
        let pass = stream.pass;
        let share = match worth_db {
            Some(worth) if best > 0.0 => (worth / best).clamp(SHARE_MIN, 1.0),
            _ => 1.0,
        };
        stream.pass += 1.0 / share;
        self.now = pass;
    }

    fn stream(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps that each of the streams takes of `n`, all of them waiting all the time.
    fn run(shares: &mut Shares, streams: &[(StreamId, Option<f64>)], n: usize) -> Vec<usize> {
        let mut steps = vec![0; streams.len()];
        for _ in 0..n {
            streams.iter().for_each(|(id, _)| shares.wait(*id));
            let next = shares.next().unwrap();
            let at = streams.iter().position(|(id, _)| *id == next).unwrap();
            shares.stepped(next, streams[at].1);
            steps[at] += 1;
        }
        steps
    }

    #[test]
    fn steps_follow_what_they_are_worth() {
        let mut shares = Shares::default();
        let [a, b, c] = [(); 3].map(|()| shares.join());
        let steps = run(&mut shares, &[(a, Some(0.04)), (b, Some(0.02)), (c, Some(0.0))], 1300);
        // 8 : 4 : 1
        for (steps, want) in steps.iter().zip([800, 400, 100]) {
            assert!(steps.abs_diff(want) <= 10, "{steps:?}");
        }
        shares.leave(c);
        // Where no step is worth anything, all get the same: the first steps still pay for the shares before.
        run(&mut shares, &[(a, Some(0.0)), (b, Some(0.0))], 10);
        assert_eq!(run(&mut shares, &[(a, Some(0.0)), (b, Some(0.0))], 100), [50, 50]);
    }

    #[test]
    fn who_is_new_tries_and_who_paused_makes_nothing_up() {
        let mut shares = Shares::default();
        let [a, b] = [(); 2].map(|()| shares.join());
        run(&mut shares, &[(a, Some(0.01))], 1000);
        let steps = run(&mut shares, &[(a, Some(0.01)), (b, None)], 100);
        assert!(steps[1].abs_diff(50) <= 1, "{steps:?}");
        shares.leave(b);
        shares.wait(a);
        assert_eq!(shares.next(), Some(a));
        shares.stepped(b, None);
        assert_eq!(run(&mut shares, &[(a, None)], 3), [3]);
    }
}
