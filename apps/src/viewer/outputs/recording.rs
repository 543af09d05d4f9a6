//! A recording and its continuations, and the audio that goes beside the pictures.

use std::collections::VecDeque;
use std::path::PathBuf;

use anyhow::Result;
use hone_media::audio;
use hone_media::encode::Packet;
use hone_media::record::{self, Recorder};

use crate::viewer::Format;

/// Packets of audio that wait for the picture beside them: 20 s. Pictures are later, as they are upscaled first; more
/// than this is written without them.
const AUDIO_WAITING_MAX: usize = 1024;

/// A recording. An MP4 file has one size and one colour: other ones go on in the next file.
pub(super) struct Recording {
    path: PathBuf,
    files: u32,
    audio: Option<audio::Config>,
    waiting: VecDeque<audio::Packet>,
    file: Option<(Format, Recorder)>,
}

impl Recording {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, files: 0, audio: None, waiting: VecDeque::new(), file: None }
    }

    /// A stream begins, with this audio.
    pub(super) fn start(&mut self, audio: Option<audio::Config>) {
        self.waiting.clear();
        self.audio = audio;
    }

    /// Whether a picture of this format begins another file.
    pub(super) fn is_new(&self, format: &Format) -> bool {
        self.file.as_ref().is_none_or(|(have, _)| have != format)
    }

    /// Writes a picture, and the audio up to it.
    pub(super) fn write(&mut self, packet: &Packet, format: Format, fps: f64) -> Result<()> {
        // Up to its end the last file has what is heard.
        self.write_audio(packet.pts_us)?;
        if self.is_new(&format) {
            self.end()?;
            self.next(format, fps)?;
        }
        match &mut self.file {
            Some((_, recorder)) => Ok(recorder.write(packet)?),
            None => Ok(()),
        }
    }

    /// Takes a packet of audio.
    pub(super) fn audio(&mut self, packet: audio::Packet) -> Result<()> {
        if self.audio.is_some() {
            self.waiting.push_back(packet);
        }
        match self.waiting.get(AUDIO_WAITING_MAX).map(|_| self.waiting[0].pts_us) {
            Some(oldest_us) => self.write_audio(oldest_us.saturating_add(1)),
            None => Ok(()),
        }
    }

    /// Writes what is heard before `until_us`. Without a file nobody misses it.
    fn write_audio(&mut self, until_us: i64) -> Result<()> {
        while let Some(packet) = self.waiting.pop_front_if(|packet| packet.pts_us < until_us) {
            if let Some((_, recorder)) = &mut self.file {
                recorder.write_audio(&packet)?;
            }
        }
        Ok(())
    }

    /// The stream is over: what is left is written.
    pub(super) fn finish(&mut self) -> Result<()> {
        let written = self.write_audio(i64::MAX);
        self.waiting.clear();
        written.and(self.end())
    }

    fn end(&mut self) -> Result<()> {
        match self.file.take() {
            Some((_, recorder)) => Ok(recorder.finish()?),
            None => Ok(()),
        }
    }

    /// `sr.mp4`, then `sr-2.mp4`, `sr-3.mp4`.
    fn path(&self) -> PathBuf {
        if self.files < 2 {
            return self.path.clone();
        }
        let mut name = self.path.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{}", self.files));
        if let Some(extension) = self.path.extension() {
            name.push(".");
            name.push(extension);
        }
        self.path.with_file_name(name)
    }

    fn next(&mut self, format: Format, fps: f64) -> Result<()> {
        self.files += 1;
        let path = self.path();
        let (width, height) = format.size;
        let config = record::Config { width, height, fps, colour: format.colour };
        let recorder = Recorder::create(&path, config)?.with_audio(self.audio.clone());
        let audio = self.audio.as_ref().map(audio::Config::codec_string);
        tracing::info!(file = %path.display(), width, height, audio, "recording");
        self.file = Some((format, recorder));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_recording_goes_on_in_numbered_files() {
        for (path, second) in [
            ("a/sr.mp4", "a/sr-2.mp4"),
            ("sr", "sr-2"),
            ("two.dots.mp4", "two.dots-2.mp4"),
            (".mp4", ".mp4-2"),
        ] {
            let mut recording = Recording { files: 1, ..Recording::new(path.into()) };
            assert_eq!(recording.path(), Path::new(path));
            recording.files = 2;
            assert_eq!(recording.path(), Path::new(second));
        }
    }

    #[test]
    fn audio_without_pictures_is_bounded() {
        let mut recording = Recording::new("never.mp4".into());
        recording.audio(audio::Packet { data: vec![1], pts_us: 0 }).unwrap();
        assert!(recording.waiting.is_empty(), "no audio was announced");
        recording.start(Some(audio::Config::new("mp4a.40.2", &[0x11, 0x90]).unwrap()));
        for at in 0..5_000 {
            recording.audio(audio::Packet { data: vec![1], pts_us: at }).unwrap();
            assert!(recording.waiting.len() <= AUDIO_WAITING_MAX);
        }
        recording.finish().unwrap();
        assert!(!Path::new("never.mp4").exists());
    }
}
