//! An uplink in simulated time: video first, patches in what is left, each with its delay.

use std::collections::VecDeque;

use hone_media::encode::Packet;

use super::trace::Trace;

/// What travels.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// An access unit.
    Video(Packet),
    /// A patch of the frame at this media time.
    Patch(i64, Vec<u8>),
    /// A model update, where the sender learns.
    Model(Vec<u8>),
}

struct Item {
    bits_left: f64,
    message: Message,
}

/// A link of a given rate and delay that never loses anything.
pub(super) struct Uplink {
    rate: Trace,
    delay_us: i64,
    now_us: i64,
    video: VecDeque<Item>,
    patches: VecDeque<Item>,
}

impl Uplink {
    pub(super) fn new(rate: Trace, delay_us: i64) -> Self {
        Self { rate, delay_us, now_us: 0, video: VecDeque::new(), patches: VecDeque::new() }
    }

    /// Rate now, kbit/s.
    pub(super) fn kbps(&self) -> f64 {
        self.rate.at(self.now_us).0
    }

    /// Hands a message over, now.
    pub(super) fn send(&mut self, message: Message) {
        let (queue, bytes) = match &message {
            Message::Video(packet) => (&mut self.video, packet.data.len()),
            Message::Patch(_, message) | Message::Model(message) => (&mut self.patches, message.len()),
        };
        queue.push_back(Item { bits_left: 8.0 * bytes as f64, message });
    }

    /// Whether a patch waits for its turn: then no more should be cut.
    pub(super) fn patches_wait(&self) -> bool {
        !self.patches.is_empty()
    }

    /// Access units that have not left yet.
    pub(super) fn frames_waiting(&self) -> usize {
        self.video.len()
    }

    /// Whether everything has left.
    pub(super) fn is_empty(&self) -> bool {
        self.video.is_empty() && self.patches.is_empty()
    }

    /// Lets time pass up to `until_us`; what has wholly left by then arrives at the times that come with it.
    pub(super) fn advance(&mut self, until_us: i64, mut arrived: impl FnMut(i64, Message)) {
        while self.now_us < until_us {
            let queue = if self.video.is_empty() { &mut self.patches } else { &mut self.video };
            let Some(head) = queue.front_mut() else {
                self.now_us = until_us;
                return;
            };
            let (kbps, changes_us) = self.rate.at(self.now_us);
            let end_us = until_us.min(changes_us.unwrap_or(i64::MAX));
            let bits = kbps * 1e-3 * (end_us - self.now_us) as f64;
            if head.bits_left > bits {
                head.bits_left -= bits;
                self.now_us = end_us;
                continue;
            }
            // At least a microsecond, so that time moves.
            let took_us = (head.bits_left / (kbps * 1e-3)).ceil().max(1.0) as i64;
            self.now_us = (self.now_us + took_us).min(end_us);
            if let Some(item) = queue.pop_front() {
                arrived(self.now_us + self.delay_us, item.message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(pts_us: i64, bytes: usize) -> Message {
        Message::Video(Packet { data: vec![0; bytes], pts_us, keyframe: false })
    }

    #[test]
    fn video_goes_first_and_times_follow_the_rate() {
        // 80 kbit/s: a byte takes 100 us.
        let mut link = Uplink::new(Trace::constant(80.0), 7);
        let mut seen = vec![];
        let mut until = |link: &mut Uplink, until_us| {
            link.advance(until_us, |at_us, message| {
                let name = match message {
                    Message::Video(packet) => format!("v{}", packet.pts_us),
                    Message::Patch(pts_us, _) => format!("p{pts_us}"),
                    Message::Model(update) => format!("m{}", update.len()),
                };
                seen.push((at_us, name));
            });
        };
        link.send(Message::Patch(1, vec![0; 50]));
        until(&mut link, 2000);
        link.send(video(2, 100));
        assert!(link.patches_wait());
        until(&mut link, 11_999);
        assert_eq!(link.frames_waiting(), 1);
        until(&mut link, 50_000);
        assert!(link.is_empty());
        // The patch had 20 of its bytes out when the frame came.
        assert_eq!(seen, [(12_007, "v2".to_owned()), (15_007, "p1".to_owned())]);
    }

    #[test]
    fn an_outage_holds_everything_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trace");
        std::fs::write(&file, "0 80\n0.001 0\n1 160\n").unwrap();
        let mut link = Uplink::new(Trace::read(&file).unwrap(), 0);
        link.send(video(0, 30));
        let mut at = None;
        link.advance(5_000_000, |at_us, _| at = Some(at_us));
        // 10 bytes in the first millisecond, 20 at twice the rate after the outage.
        assert_eq!(at, Some(1_001_000));
    }
}
