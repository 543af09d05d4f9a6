//! The device that is heard.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, FromSample, I24, SampleFormat, SizedSample, Stream, StreamConfig};

use super::{Player, Tap};

/// Buffers a second that are asked for. Fewer would delay the pictures, which wait for the sound; more would run dry
/// while the CPU upscales.
const BUFFERS_PER_S: u32 = 50;
/// How long after a device was lost another is looked for: the system needs a moment to name it.
const AGAIN: Duration = Duration::from_secs(1);
/// Words on their way to the speaker's thread; more than one loss at a time says nothing new.
const WORDS_MAX: usize = 4;

/// Plays a viewer's streams on the system's default device, as long as not `silent`.
pub fn player(silent: Arc<AtomicBool>) -> Player {
    let mut speaker = None;
    Player::new(silent, move |tap| match &speaker {
        Some(playing) if Speaker::plays(playing) => {}
        // None yet, or none was there: perhaps there is by now.
        _ => speaker = Some(Speaker::start(tap.clone())),
    })
}

enum Word {
    Lost(cpal::Error),
    End,
}

/// A thread that holds the device: where it was opened it must be closed, and either may take its time.
struct Speaker {
    thread: std::thread::JoinHandle<()>,
    words: SyncSender<Word>,
}

impl Speaker {
    fn start(tap: Tap) -> Self {
        let (words, heard) = sync_channel(WORDS_MAX);
        let says = words.clone();
        let thread = std::thread::spawn(move || hold(&tap, &says, &heard));
        Self { thread, words }
    }

    fn plays(&self) -> bool {
        !self.thread.is_finished()
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        // Fails only if the thread has ended.
        let _ = self.words.try_send(Word::End);
    }
}

/// Opens a device, another one when it is lost, and ends where there is none.
fn hold(tap: &Tap, says: &SyncSender<Word>, heard: &Receiver<Word>) {
    loop {
        let stream = match open(tap, says) {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!("no sound: {error:#}"),
        };
        match heard.recv() {
            Ok(Word::Lost(error)) => tracing::warn!(%error, "the device for sound was lost"),
            Ok(Word::End) | Err(_) => return,
        }
        drop(stream);
        // What else it says is of the same loss.
        loop {
            match heard.recv_timeout(AGAIN) {
                Ok(Word::Lost(_)) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Ok(Word::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn open(tap: &Tap, says: &SyncSender<Word>) -> Result<Stream> {
    let device = cpal::default_host().default_output_device().context("the system names no device")?;
    let supported = device.default_output_config()?;
    let (format, default) = (supported.sample_format(), supported.config());
    let small =
        StreamConfig { buffer_size: BufferSize::Fixed(default.sample_rate / BUFFERS_PER_S), ..default };
    let play = match format {
        SampleFormat::F32 => play::<f32>,
        SampleFormat::I32 => play::<i32>,
        SampleFormat::I24 => play::<I24>,
        SampleFormat::I16 => play::<i16>,
        SampleFormat::U8 => play::<u8>,
        format => bail!("a device of {format} samples"),
    };
    // Not every device lets the buffer be chosen.
    let stream = play(&device, small, tap, says).or_else(|_| play(&device, default, tap, says))?;
    stream.play()?;
    let name = device.description().map(|description| description.name().to_owned()).unwrap_or_default();
    tracing::info!(device = name, %format, rate = default.sample_rate, channels = default.channels, "sound");
    Ok(stream)
}

fn play<T: SizedSample + FromSample<f32>>(
    device: &cpal::Device,
    config: StreamConfig,
    tap: &Tap,
    says: &SyncSender<Word>,
) -> Result<Stream> {
    let (tap, says, mut samples) = (tap.clone(), says.clone(), vec![]);
    let fill = move |out: &mut [T], info: &cpal::OutputCallbackInfo| {
        let time = info.timestamp();
        samples.resize(out.len(), 0.0);
        let latency = time.playback.saturating_duration_since(time.callback);
        tap.fill(&mut samples, config.channels.into(), config.sample_rate, latency);
        for (to, from) in out.iter_mut().zip(&samples) {
            *to = T::from_sample(*from);
        }
    };
    let failed = move |error: cpal::Error| match error.kind() {
        ErrorKind::Xrun | ErrorKind::RealtimeDenied | ErrorKind::DeviceChanged => {
            tracing::debug!(%error, "sound");
        }
        // One that finds no place comes behind others of the same loss.
        _ => drop(says.try_send(Word::Lost(error))),
    };
    Ok(device.build_output_stream(config, fill, failed, None)?)
}
