//! Any source, read on a thread of its own, so that whoever waits for it can be told to stop.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Error, Info, Item, Source};
use crate::audio;

/// Frames read ahead: enough to even out a keyframe that takes long, few enough to add little delay.
const FRAMES_MAX: usize = 4;
/// Packets of audio that wait beside them: seconds of it.
const PACKETS_MAX: usize = 256;
/// How often a wait looks whether it should stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// What happens to frames that nobody has taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Reading waits: for files and pipes.
    Wait,
    /// The oldest frame goes: for cameras, which wait for nobody.
    DropOldest,
}

/// Reads a source on its own thread. Once `stop` is set there are no more frames.
pub struct Ahead {
    info: Info,
    audio: Option<audio::Track>,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    end: Option<Result<(), Error>>,
    /// Nobody reads any more.
    closed: bool,
    dropped: u64,
}

impl Queue {
    fn has_room(&self, item: &Item) -> bool {
        let alike = self.items.iter().filter(|have| is_frame(have) == is_frame(item)).count();
        alike < if is_frame(item) { FRAMES_MAX } else { PACKETS_MAX }
    }

    /// Leaves out the oldest of the same kind: a frame that is dropped takes no audio with it.
    fn drop_oldest(&mut self, item: &Item) {
        if let Some(oldest) = self.items.iter().position(|have| is_frame(have) == is_frame(item)) {
            self.items.remove(oldest);
            self.dropped += 1;
        }
    }
}

fn is_frame(item: &Item) -> bool {
    matches!(item, Item::Frame(_))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ahead {
    /// Starts the thread. It ends with the source, or at the first frame that comes after this was dropped.
    pub fn new(mut source: impl Source + 'static, when_full: WhenFull, stop: Arc<AtomicBool>) -> Self {
        let (info, audio) = (*source.info(), source.audio().cloned());
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        let theirs = shared.clone();
        std::thread::spawn(move || {
            let end = theirs.fill(&mut source, when_full);
            theirs.lock().end = Some(end);
            theirs.changed.notify_all();
        });
        Self { info, audio, shared, stop }
    }
}

impl Shared {
    fn fill(&self, source: &mut impl Source, when_full: WhenFull) -> Result<(), Error> {
        while let Some(item) = source.next()? {
            let mut queue = self.lock();
            while !queue.has_room(&item) && !queue.closed {
                if when_full == WhenFull::DropOldest {
                    queue.drop_oldest(&item);
                    tracing::debug!(dropped = queue.dropped, "the sender is behind, a frame is dropped");
                } else {
                    queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
            if queue.closed {
                break;
            }
            queue.items.push_back(item);
            self.changed.notify_all();
        }
        Ok(())
    }
}

impl Source for Ahead {
    fn info(&self) -> &Info {
        &self.info
    }

    fn audio(&self) -> Option<&audio::Track> {
        self.audio.as_ref()
    }

    fn next(&mut self) -> Result<Option<Item>, Error> {
        let mut queue = self.shared.lock();
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(item) = queue.items.pop_front() {
                self.shared.changed.notify_all();
                return Ok(Some(item));
            }
            if let Some(end) = &mut queue.end {
                return std::mem::replace(end, Ok(())).map(|()| None);
            }
            queue =
                self.shared.changed.wait_timeout(queue, STOP_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(None)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::source::Pattern;

    /// Gives frames as long as it is told to, then fails.
    struct Told(Pattern, mpsc::Receiver<()>);

    impl Source for Told {
        fn info(&self) -> &Info {
            self.0.info()
        }
        fn next(&mut self) -> Result<Option<Item>, Error> {
            match self.1.recv() {
                Ok(()) => self.0.next(),
                Err(_) => Err(Error::Nothing { name: "told".into() }),
            }
        }
    }

    fn told() -> (Told, mpsc::Sender<()>) {
        let (tell, told) = mpsc::channel();
        (Told(Pattern::new(64, 48, 25.0, Box::new(|| 0)).unwrap(), told), tell)
    }

    #[test]
    fn all_frames_come_in_order_then_the_error_then_the_end() {
        let (source, tell) = told();
        let mut ahead = Ahead::new(source, WhenFull::Wait, Arc::default());
        (0..20).for_each(|_| tell.send(()).unwrap());
        drop(tell);
        for index in 0..20 {
            assert_eq!(ahead.next_frame().unwrap().unwrap().pts_us, index * 40_000);
        }
        assert!(matches!(ahead.next_frame(), Err(Error::Nothing { .. })));
        assert!(ahead.next_frame().unwrap().is_none());
    }

    #[test]
    fn of_a_camera_the_newest_frames_remain() {
        let (source, tell) = told();
        let mut ahead = Ahead::new(source, WhenFull::DropOldest, Arc::default());
        (0..20).for_each(|_| tell.send(()).unwrap());
        drop(tell);
        // The reader's end is the sign that all are there.
        while ahead.shared.lock().end.is_none() {
            std::thread::yield_now();
        }
        for index in 16..20 {
            assert_eq!(ahead.next_frame().unwrap().unwrap().pts_us, index * 40_000);
        }
        assert!(ahead.next_frame().is_err());
    }

    #[test]
    fn a_source_that_says_nothing_can_be_stopped() {
        let (source, _tell) = told();
        let stop = Arc::new(AtomicBool::new(false));
        let mut ahead = Ahead::new(source, WhenFull::Wait, stop.clone());
        let waiting = std::thread::spawn(move || ahead.next_frame().map(|frame| frame.is_none()));
        stop.store(true, Ordering::Relaxed);
        assert!(waiting.join().unwrap().unwrap());
    }
}
