//! Where a sender's stream goes: a connection that is made again when it is lost.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use hone_media::audio;
use hone_media::encode::Packet;
use hone_trainer::Publication;
use hone_transport::catalog::Catalog;
use hone_transport::{Client, Error, Publisher, Stats, Track, TrackWriter};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::dial::{Dialer, hopeless};

/// Whether there is a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// As before.
    Up,
    /// Since just now: the next packet must be a keyframe.
    Fresh,
    /// Not now: it is being looked for, or the server asks for nothing because nobody watches.
    Down,
}

/// A broadcast on a server that may be away for a while. Only for threads that may block.
pub struct Uplink {
    name: String,
    catalog: Described,
    has: Has,
    /// The newest snapshot and what followed it, where the sender learns: who comes back must begin with that.
    model: Vec<(i64, Bytes)>,
    dialer: Option<Dialer>,
    way: Way,
}

/// What is sent, and from which media time on.
struct Described {
    catalog: Catalog,
    from_us: i64,
}

/// What is announced beside video.
#[derive(Clone, Copy)]
struct Has {
    audio: bool,
    /// Model updates in place of patches.
    model: bool,
}

enum Way {
    Open(Box<Open>),
    Lost(JoinHandle<Result<Client, Error>>),
}

struct Open {
    client: Client,
    /// Nothing was written yet, or not since somebody began to watch.
    fresh: bool,
    opened: Instant,
    /// The server has asked for the video, at least once.
    asked: bool,
    /// It no longer does.
    resting: bool,
    patches_written: u64,
    audio: Option<TrackWriter>,
    /// Media time of the first packet in the group of audio.
    audio_group_us: Option<i64>,
    video: TrackWriter,
    /// One of the two.
    patches: Option<TrackWriter>,
    model: Option<TrackWriter>,
    catalog: TrackWriter,
    // Last: readers see the tracks end before the broadcast does.
    _publisher: Publisher,
}

/// A group is a stream on the wire: few enough that one bounds nothing, short enough to let go of.
const PATCHES_PER_GROUP: u64 = 16;

/// How long a server has to ask for the video at the start. One that serves on demand may never do.
const ASKED_WITHIN: Duration = Duration::from_secs(3);

/// Media time of a group of audio: a late viewer hears it from its newest group on.
const AUDIO_GROUP_US: i64 = 500_000;

impl Described {
    fn write(&self, track: &mut TrackWriter) -> Result<(), Error> {
        track.write(true, self.from_us, self.catalog.to_json().into())
    }
}

impl Open {
    fn new(client: Client, name: &str, described: &Described, has: Has) -> Result<Box<Self>, Error> {
        let learned = if has.model { Track::Model } else { Track::Patches };
        let tracks = [Track::Catalog, Track::Video, learned, Track::Audio];
        let mut publisher = client.publish(name, &tracks[..3 + usize::from(has.audio)])?;
        let mut open = |track, has: bool| has.then(|| publisher.track(track)).transpose();
        let (audio, patches) = (open(Track::Audio, has.audio)?, open(Track::Patches, !has.model)?);
        let model = open(Track::Model, has.model)?;
        let mut catalog = publisher.track(Track::Catalog)?;
        described.write(&mut catalog)?;
        let video = publisher.track(Track::Video)?;
        Ok(Box::new(Self {
            client,
            fresh: true,
            opened: Instant::now(),
            asked: false,
            resting: false,
            patches_written: 0,
            audio,
            audio_group_us: None,
            video,
            patches,
            model,
            catalog,
            _publisher: publisher,
        }))
    }
}

impl Open {
    /// Whether the server wants the video. At the start it has not had the time to ask.
    fn wanted(&mut self) -> bool {
        let asks = self.video.has_subscriber();
        self.asked |= asks;
        let wanted = asks || (!self.asked && self.opened.elapsed() < ASKED_WITHIN);
        match (wanted, self.resting) {
            (false, false) => tracing::info!("nobody watches, the encoder rests"),
            (true, true) => {
                tracing::info!("somebody watches");
                self.fresh = true;
            }
            _ => {}
        }
        self.resting = !wanted;
        wanted
    }
}

impl Uplink {
    /// Begins the broadcast that `catalog` describes. Without a `dialer`, a link that is lost is an error.
    ///
    /// # Errors
    /// What the connection says.
    pub fn new(client: Client, dialer: Option<Dialer>, name: &str, catalog: &Catalog) -> Result<Self> {
        let model = catalog.hone.as_ref().is_some_and(|hone| !hone.update_format.is_empty());
        let has = Has { audio: catalog.audio_rendition().is_some(), model };
        let catalog = Described { catalog: catalog.clone(), from_us: 0 };
        let way = Way::Open(Open::new(client, name, &catalog, has)?);
        Ok(Self { name: name.to_owned(), catalog, has, model: vec![], dialer, way })
    }

    /// Whether there is a link now; to be asked before each frame.
    ///
    /// # Errors
    /// If it is lost for good.
    pub fn link(&mut self) -> Result<Link> {
        match &mut self.way {
            Way::Open(open) => match open.client.ended() {
                None if !open.wanted() => Ok(Link::Down),
                None if open.fresh => Ok(Link::Fresh),
                None => Ok(Link::Up),
                Some(error) if hopeless(&error) || matches!(error, Error::Replaced) => bail!(error),
                Some(error) => match self.dialer.clone() {
                    None => bail!(error),
                    Some(dialer) => {
                        tracing::warn!(%error, "link lost, looking for the server");
                        self.way =
                            Way::Lost(Handle::current().spawn(async move { dialer.reconnect().await }));
                        Ok(Link::Down)
                    }
                },
            },
            Way::Lost(dialing) if dialing.is_finished() => {
                let client = Handle::current().block_on(dialing)??;
                tracing::info!("link found again");
                let mut open = Open::new(client, &self.name, &self.catalog, self.has)?;
                if let Some(track) = &mut open.model {
                    for (i, (pts_us, update)) in self.model.iter().enumerate() {
                        track.write(i == 0, *pts_us, update.clone())?;
                    }
                }
                self.way = Way::Open(open);
                Ok(Link::Fresh)
            }
            Way::Lost(_) => Ok(Link::Down),
        }
    }

    /// What QUIC measures; none without a link.
    pub fn stats(&self) -> Option<Stats> {
        match &self.way {
            Way::Open(open) => Some(open.client.stats()),
            Way::Lost(_) => None,
        }
    }

    /// Whether the server asks for patches.
    pub fn patches_asked(&self) -> bool {
        match &self.way {
            Way::Open(open) => open.patches.as_ref().is_some_and(TrackWriter::is_asked),
            Way::Lost(_) => !self.has.model,
        }
    }

    /// Payload bytes written over this link.
    pub fn written(&self) -> u64 {
        match &self.way {
            Way::Open(open) => {
                let beside = [&open.audio, &open.patches, &open.model].into_iter().flatten();
                open.video.bytes_written() + beside.map(TrackWriter::bytes_written).sum::<u64>()
            }
            Way::Lost(_) => 0,
        }
    }

    /// Whether audio is announced.
    pub fn has_audio(&self) -> bool {
        self.has.audio
    }

    /// Sends a packet of audio; nothing without a link, or where none is announced.
    ///
    /// # Errors
    /// If it is too large, or the endpoint is gone.
    pub fn audio(&mut self, packet: audio::Packet) -> Result<()> {
        let Way::Open(open) = &mut self.way else { return Ok(()) };
        let Some(audio) = &mut open.audio else { return Ok(()) };
        let begin = open
            .audio_group_us
            .is_none_or(|begun_us| packet.pts_us.saturating_sub(begun_us) >= AUDIO_GROUP_US);
        audio.write(begin, packet.pts_us, packet.data.into())?;
        if begin {
            open.audio_group_us = Some(packet.pts_us);
        }
        Ok(())
    }

    /// Says that access units from `from_us` on have so many (columns, rows). The first of them must be a keyframe.
    ///
    /// # Errors
    /// If the endpoint is gone.
    pub fn change_size(&mut self, from_us: i64, lr: (u32, u32)) -> Result<()> {
        self.catalog.from_us = from_us;
        self.catalog.catalog.set_coded_size(lr);
        if let Way::Open(open) = &mut self.way {
            self.catalog.write(&mut open.catalog)?;
        }
        Ok(())
    }

    /// Sends an access unit; nothing without a link.
    ///
    /// # Errors
    /// If it is too large, or the endpoint is gone.
    pub fn video(&mut self, packet: Packet) -> Result<()> {
        if let Way::Open(open) = &mut self.way {
            open.fresh = false;
            open.video.write(packet.keyframe, packet.pts_us, packet.data.into())?;
        }
        Ok(())
    }

    /// Sends a model update, or keeps it for when there is a link again.
    ///
    /// # Errors
    /// If it is too large, or the endpoint is gone.
    pub fn model(&mut self, pts_us: i64, publication: Publication) -> Result<()> {
        let update = Bytes::from(publication.update);
        if publication.snapshot {
            self.model.clear();
        }
        self.model.push((pts_us, update.clone()));
        if let Way::Open(open) = &mut self.way
            && let Some(model) = &mut open.model
        {
            model.write(publication.snapshot, pts_us, update)?;
        }
        Ok(())
    }

    /// Sends a patch; nothing without a link.
    ///
    /// # Errors
    /// If it is too large, or the endpoint is gone.
    pub fn patch(&mut self, pts_us: i64, message: Vec<u8>) -> Result<()> {
        if let Way::Open(open) = &mut self.way
            && let Some(patches) = &mut open.patches
        {
            let new_group = open.patches_written.is_multiple_of(PATCHES_PER_GROUP);
            patches.write(new_group, pts_us, message.into())?;
            open.patches_written += 1;
        }
        Ok(())
    }

    /// Ends the broadcast: delivers what was written.
    pub async fn close(self) {
        match self.way {
            Way::Open(open) => {
                let Open { client, audio, video, patches, model, catalog, _publisher, .. } = *open;
                drop((audio, video, patches, model, catalog, _publisher));
                client.close().await;
            }
            Way::Lost(dialing) => dialing.abort(),
        }
    }
}
