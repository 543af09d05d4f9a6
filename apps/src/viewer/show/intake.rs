//! What comes in: model updates, access units, audio, and what is wrong with them.

use std::time::Instant;

use anyhow::Result;
use hone_media::audio;
use hone_media::decode::Holds;
use hone_media::encode::Packet;
use hone_media::frame::Frame;
use hone_model::update;
use hone_transport::Message;

use super::Show;
use crate::viewer::{Format, Sink};

/// Decoded frames that wait for their time: as many as the longest delay holds at 60 frames a second, and some.
const FRAMES_WAITING_MAX: usize = 32;

impl<S: Sink> Show<'_, S> {
    pub(super) fn update(&mut self, message: &Message) {
        if update::header(&message.payload).is_ok_and(|header| self.keep_update(header.arch_id, message)) {
            return;
        }
        let bytes = message.payload.len();
        self.received.model_bytes += bytes as u64;
        match self.screen.update(&message.payload) {
            Ok(header) => {
                self.received.updates += 1;
                self.monitor.update(bytes, Some((header.version, header.gain_db)));
                tracing::info!(version = header.version, gain_db = header.gain_db, "weights in force");
            }
            Err(error) => {
                self.monitor.update(bytes, None);
                tracing::warn!(%error, "model update refused, the weights in force stay");
            }
        }
    }

    /// Hands on a packet of audio. What is in it is for whoever decodes it; one that no encoder makes, or that is out of
    /// order, is left out.
    pub(super) fn audio(&mut self, message: Message, arrived: Instant) -> Result<()> {
        self.received.audio_bytes += message.payload.len() as u64;
        if let Err(error) = audio::check_packet(message.payload.len()) {
            tracing::debug!(%error, "a packet of audio is left out");
            return Ok(());
        }
        if message.pts_us <= self.last_audio_us {
            tracing::debug!(pts_us = message.pts_us, "a packet of audio is out of order");
            return Ok(());
        }
        self.last_audio_us = message.pts_us;
        self.sound.arrived(self.micros(arrived), message.pts_us);
        self.sink.audio(audio::Packet { data: message.payload.into(), pts_us: message.pts_us })
    }

    pub(super) fn video(&mut self, message: Message, arrived: Instant) -> Result<()> {
        self.received.video_bytes += message.payload.len() as u64;
        self.monitor.video(Instant::now(), message.payload.len());
        let lost = match self.last.replace((message.group, message.index)) {
            Some((group, index)) if group == message.group => message.index.saturating_sub(index + 1),
            _ => message.index,
        };
        if lost > 0 {
            self.drop_frames(lost);
            self.damaged();
        }
        let holds = Holds::of(&message.payload);
        let keyframe = holds == Holds::Keyframe;
        if holds == Holds::Nothing {
            // A sender that codes every frame has lost one.
            self.monitor.damaged();
            self.received.dropped += 1;
            self.damaged();
            return Ok(());
        }
        if self.good_from_us.is_none() && !keyframe {
            // It refers to pictures that are not there.
            self.drop_frames(1);
            return Ok(());
        }
        let packet = Packet { data: message.payload.into(), pts_us: message.pts_us, keyframe };
        let start = Instant::now();
        match self.screen.decode(&packet.data, packet.pts_us) {
            Ok(frames) => {
                self.monitor.decoded(start.elapsed());
                self.playout.arrived(self.micros(arrived), packet.pts_us);
                if self.good_from_us.is_none() {
                    self.good_from_us = Some(packet.pts_us);
                    self.monitor.waits_for_keyframe(false);
                }
                if let Some((size, colour)) = self.screen.format() {
                    self.sink.packet(&packet, &Format { size, colour })?;
                }
                self.wait_in_line(frames);
            }
            Err(error) => {
                self.received.dropped += 1;
                self.monitor.damaged();
                self.damaged();
                tracing::debug!(%error, "frame dropped");
            }
        }
        Ok(())
    }

    /// A picture is missing: what refers to it is not shown.
    fn damaged(&mut self) {
        if self.good_from_us.take().is_some() {
            self.monitor.waits_for_keyframe(true);
        }
    }

    pub(super) fn wait_in_line(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            // The decoder may still hold pictures from before the keyframe that healed the stream.
            if self.good_from_us.is_some_and(|from_us| frame.pts_us >= from_us) {
                self.waiting.push_back(frame);
            } else {
                self.drop_frames(1);
            }
        }
        while !self.options.every_frame && self.waiting.len() > FRAMES_WAITING_MAX {
            self.waiting.pop_front();
            self.drop_frames(1);
        }
    }

    pub(super) fn drop_frames(&mut self, frames: u64) {
        self.received.dropped += frames;
        self.monitor.dropped(frames);
    }
}
