//! The recording of what is shown: coded and written on a thread of its own, while the next frame is upscaled.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::Result;
use hone_media::audio;
use hone_media::encode::{self, Encoder};
use hone_media::frame::I420;

use super::recording::Recording;
use super::{Format, RECORD_KBPS_PER_MEGAPIXEL};

/// Frames and packets of audio that wait to be coded: some frames, for the packets between them come at once. If there are
/// more, the viewer waits: nothing is left out of a recording.
const JOBS_MAX: usize = 8;

enum Job {
    Frame { image: I420, pts_us: i64, format: Format },
    Audio(audio::Packet),
}

/// A recording in order, one step behind.
pub(super) struct ShownRecording {
    /// Between two streams.
    idle: Option<Writer>,
    running: Option<Running>,
}

struct Running {
    jobs: SyncSender<Job>,
    /// Gives the writer back.
    thread: JoinHandle<(Writer, Result<()>)>,
}

impl ShownRecording {
    pub(super) fn new(path: PathBuf) -> Self {
        let writer = Writer { recording: Recording::new(path), encoder: None, fps: 30.0 };
        Self { idle: Some(writer), running: None }
    }

    /// A stream begins, with this audio and at this rate.
    pub(super) fn start(&mut self, audio: Option<audio::Config>, fps: f64) -> Result<()> {
        self.rest()?;
        if let Some(writer) = &mut self.idle {
            writer.recording.start(audio);
            writer.fps = fps;
        }
        Ok(())
    }

    pub(super) fn frame(&mut self, image: I420, pts_us: i64, format: Format) -> Result<()> {
        self.send(Job::Frame { image, pts_us, format })
    }

    pub(super) fn audio(&mut self, packet: audio::Packet) -> Result<()> {
        self.send(Job::Audio(packet))
    }

    /// The stream is over: waits for what is left.
    pub(super) fn finish(&mut self) -> Result<()> {
        let written = self.rest();
        let finished = self.idle.as_mut().map_or(Ok(()), |writer| writer.recording.finish());
        written.and(finished)
    }

    fn send(&mut self, job: Job) -> Result<()> {
        if let Some(mut writer) = self.idle.take() {
            let (jobs, inbox) = sync_channel(JOBS_MAX);
            let run = move || {
                let written = writer.run(&inbox);
                (writer, written)
            };
            self.running = Some(Running { jobs, thread: std::thread::spawn(run) });
        }
        match &self.running {
            Some(running) if running.jobs.send(job).is_ok() => Ok(()),
            // It has failed, and says why.
            _ => self.rest(),
        }
    }

    /// Waits until all is written.
    fn rest(&mut self) -> Result<()> {
        let Some(Running { jobs, thread }) = self.running.take() else { return Ok(()) };
        drop(jobs);
        let (writer, written) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.idle = Some(writer);
        written
    }
}

struct Writer {
    recording: Recording,
    encoder: Option<Encoder>,
    fps: f64,
}

impl Writer {
    fn run(&mut self, inbox: &Receiver<Job>) -> Result<()> {
        inbox.iter().try_for_each(|job| match job {
            Job::Frame { image, pts_us, format } => self.frame(&image, pts_us, format),
            Job::Audio(packet) => self.recording.audio(packet),
        })
    }

    fn frame(&mut self, image: &I420, pts_us: i64, format: Format) -> Result<()> {
        if self.recording.is_new(&format) {
            let (width, height) = format.size;
            let kbps = RECORD_KBPS_PER_MEGAPIXEL * f64::from(width) * f64::from(height) / 1e6;
            let config = encode::Config::new(width, height, self.fps, kbps.clamp(200.0, 50_000.0) as u32);
            let config = encode::Config { colour: format.colour, threads: 2, ..config };
            self.encoder = Some(Encoder::new(&config)?);
        }
        match &mut self.encoder {
            Some(encoder) => self.recording.write(&encoder.encode(image, pts_us, false)?, format, self.fps),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use hone_media::frame::{Colour, Matrix, Range};
    use hone_media::source::{Mp4Source, Source};

    use super::*;

    const FORMAT: Format =
        Format { size: (64, 48), colour: Colour { matrix: Matrix::Bt709, range: Range::Limited } };

    /// Twice as many frames as may wait, then the next stream's; stops at the first error.
    fn record(recording: &mut ShownRecording) -> Result<()> {
        for begin in [0, 100] {
            recording.start(None, 25.0)?;
            for k in begin..begin + 2 * JOBS_MAX as i64 {
                recording.frame(I420::new(64, 48).unwrap(), 40_000 * k, FORMAT)?;
            }
            recording.finish()?;
        }
        Ok(())
    }

    #[test]
    fn every_frame_is_written_in_order_and_each_stream_has_a_file() {
        let folder = tempfile::tempdir().unwrap();
        record(&mut ShownRecording::new(folder.path().join("sr.mp4"))).unwrap();
        for name in ["sr.mp4", "sr-2.mp4"] {
            let mut source = Mp4Source::open(folder.path().join(name)).unwrap();
            let mut times = Vec::new();
            while let Some(frame) = source.next_frame().unwrap() {
                times.push(frame.pts_us);
            }
            assert_eq!(times.len(), 2 * JOBS_MAX, "{name}");
            assert!(times.is_sorted_by(|a, b| a < b), "{name}: {times:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut recording = ShownRecording::new(folder.path().join("no such folder/sr.mp4"));
        assert!(record(&mut recording).is_err());
    }
}
