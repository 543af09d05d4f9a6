//! Relays each stream untouched, trains on its patches and publishes the weights beside it.

pub mod cameras;
pub mod http;
mod leg;
mod lesson;
pub mod limits;
pub mod metrics;
pub mod models;
mod options;
pub mod relay;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hone_media::decode;
use hone_model::{Arch, update};
use hone_trainer::{Publication, State};
use hone_transport::catalog::Catalog;
use hone_transport::{Server, Subscription, Track, TrackWriter};
use tokio::sync::{mpsc as channel, watch as latest};
use tokio::task::JoinSet;

pub(crate) use self::leg::next;
use self::leg::{Input, Leg};
use self::lesson::Lesson;
use self::limits::Limits;
use self::metrics::{Metrics, Stream};
use self::models::Models;
pub use self::options::{Backend, Options};
use crate::turns::Turns;

/// Name and version of the update format in the catalog.
pub const UPDATE_FORMAT: &str = "hone-update-1";
/// Messages that wait for a stream's learner: about ten seconds of video. The relay never waits for it.
const LEARNER_QUEUE: usize = 300;
/// Their payload, bytes: ten seconds of more than any H.264 that is worth enhancing.
const LEARNER_BYTES_MAX: i64 = 32 << 20;
/// Updates that wait for the relay, which takes them between two frames.
const PUBLICATIONS_MAX: usize = 4;
/// Messages between a sender's connection and the relay, which takes each at once. One may be as large as a model update.
const RELAY_QUEUE: usize = 8;
/// Connections of one sender that wait to be looked at: it may come back while its last one is still being missed.
const RETURNING_MAX: usize = 4;
/// How often what is known of viewers that have left is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// What a server does beside relaying.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// How streams are learned.
    pub trainer: Options,
    /// What one stream may cost; read anew for each.
    pub limits: Arc<RwLock<Limits>>,
    /// Where models are kept, if they are.
    pub models: Option<Models>,
    /// Where figures are kept.
    pub metrics: Arc<Metrics>,
}

impl From<Options> for Setup {
    fn from(trainer: Options) -> Self {
        Self { trainer, ..Self::default() }
    }
}

/// What happens on a stream, for whoever watches.
pub trait Watch: Send + Sync {
    /// A new version went out.
    fn published(&self, _stream: &str, _publication: &Publication) {}
    /// The trainer worked or changed its mind.
    fn training(&self, _stream: &str, _state: State, _steps: u64) {}
}

/// Nobody watches.
pub struct Unwatched;

impl Watch for Unwatched {}

/// Serves streams until `stop` is set or the endpoint closes. Then nobody is let in any more, streams end, models are
/// saved, and what was written is delivered.
///
/// # Errors
/// If no network can be made from the options.
pub async fn run(
    server: Arc<Server>,
    setup: impl Into<Setup>,
    watch: Arc<dyn Watch>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let setup = setup.into();
    let options = setup.trainer;
    // Refuse bad options, or a backend that is not there, now and not at the first stream.
    let trainer = options.trainer(options.arch(2)?)?;
    match options.why_not_cuda() {
        Some(reason) => tracing::warn!(backend = trainer.backend(), %reason, "no CUDA, the CPU trains"),
        None => tracing::info!(backend = trainer.backend(), "trainer chosen"),
    }
    drop(trainer);
    let mut streams = JoinSet::new();
    let turns = Arc::new(Turns::default());
    let mut forget = tokio::time::interval(FORGET_EVERY);
    let mut running: HashMap<String, channel::Sender<Subscription>> = HashMap::new();
    loop {
        let subscription = tokio::select! {
            subscription = server.incoming() => subscription,
            () = stopped(&stop) => None,
            _ = forget.tick() => {
                server.viewers();
                continue;
            }
            Some(_) = streams.join_next() => continue,
        };
        let Some(subscription) = subscription else { break };
        running.retain(|_, sender| !sender.is_closed());
        let subscription = match running.get(subscription.name()) {
            None => subscription,
            Some(sender) => match sender.try_send(subscription) {
                Ok(()) => continue,
                Err(channel::error::TrySendError::Closed(subscription)) => subscription,
                Err(channel::error::TrySendError::Full(subscription)) => {
                    tracing::warn!(stream = subscription.name(), "its senders come and go too fast");
                    continue;
                }
            },
        };
        let (to_stream, mut returning) = channel::channel(RETURNING_MAX);
        running.insert(subscription.name().to_owned(), to_stream);
        let (server, watch, stop) = (server.clone(), watch.clone(), stop.clone());
        let (turns, setup) = (turns.clone(), setup.clone());
        streams.spawn(async move {
            let mut next = Some(subscription);
            while let Some(mut subscription) = next.take() {
                let name = subscription.name().to_owned();
                let streamed = stream(
                    &server,
                    &mut subscription,
                    &mut returning,
                    &setup,
                    turns.clone(),
                    watch.clone(),
                    &stop,
                );
                match streamed.await {
                    Ok(another) => {
                        tracing::info!(stream = name, "stream ended");
                        next = another;
                    }
                    Err(error) => {
                        let reason = format!("{error:#}");
                        tracing::warn!(stream = name, error = reason, "stream dropped");
                        // Or it would send to nobody for ever.
                        subscription.refuse(&reason);
                    }
                }
                // One that came in the last moment.
                next = next.or_else(|| returning.try_recv().ok());
            }
        });
    }
    setup.metrics.drain();
    server.stop_accepting();
    tracing::info!(streams = streams.len(), "draining");
    while streams.join_next().await.is_some() {}
    server.close().await;
    Ok(())
}

/// Until `stop` is set.
pub async fn stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(crate::sender::STOP_POLL).await;
    }
}

/// What a catalog says of a stream's sizes, which may change while it runs.
#[derive(Clone, Debug)]
struct Sizes {
    /// Media time from which they hold.
    from_us: i64,
    arch: Arch,
    /// What decoding may cost.
    decoder: decode::Limits,
}

impl Sizes {
    /// The catalog for viewers.
    fn told(&self, catalog: &Catalog) -> Vec<u8> {
        let mut told = catalog.clone();
        told.hone = told.hone.map(|hone| hone.learned_here(&self.arch.to_string(), UPDATE_FORMAT));
        told.to_json()
    }
}

/// The network that a catalog's sizes ask for.
fn arch_of(catalog: &Catalog, options: &Options) -> Result<Arch> {
    let (rendition, hone) =
        catalog.rendition().zip(catalog.hone.as_ref()).context("no video of ours in its catalog")?;
    let scale = hone.hr_width / rendition.coded_width;
    let whole =
        (rendition.coded_width * scale, rendition.coded_height * scale) == (hone.hr_width, hone.hr_height);
    match u8::try_from(scale) {
        Ok(scale @ 1..=4) if whole => options.arch(scale),
        _ => bail!(
            "{}x{} to {}x{} is no whole scale from 1 to 4",
            rendition.coded_width,
            rendition.coded_height,
            hone.hr_width,
            hone.hr_height
        ),
    }
}

/// The network of a sender that learns, which must suit the sizes in its catalog.
fn arch_of_sender(catalog: &Catalog) -> Result<Arch> {
    let hone = catalog.hone.as_ref().context("no video of ours in its catalog")?;
    if hone.update_format != UPDATE_FORMAT {
        bail!("its model updates are `{}`, this server reads `{UPDATE_FORMAT}`", hone.update_format);
    }
    let arch: Arch = hone.arch.parse()?;
    let (blocks, features) = (arch.blocks, arch.features);
    let suits = arch_of(catalog, &Options { family: arch.family, blocks, features, ..Options::default() })?;
    if suits != arch {
        bail!("its network {arch} does not suit its sizes, {suits} does");
    }
    Ok(arch)
}

/// One stream from its announcement to its end. Gives back what has its name then, and leaves in `subscription` the
/// newest connection of its sender.
async fn stream(
    server: &Server,
    subscription: &mut Subscription,
    returning: &mut channel::Receiver<Subscription>,
    setup: &Setup,
    turns: Arc<Turns>,
    watch: Arc<dyn Watch>,
    stop: &AtomicBool,
) -> Result<Option<Subscription>> {
    let name = subscription.name().to_owned();
    let mut leg = Leg::open(subscription.clone()).await?;
    let mut catalog = Catalog::parse(&leg.catalog)?;
    let learned_there = leg::learned_at_sender(&catalog);
    let arch = if learned_there { arch_of_sender(&catalog)? } else { arch_of(&catalog, &setup.trainer)? };
    let limits = *setup.limits.read().unwrap_or_else(PoisonError::into_inner);
    let mut sizes = Sizes { from_us: leg.from_us, arch, decoder: limits.decoder(&catalog)? };
    let start = catalog.hone.as_ref().map_or(0, |hone| hone.start_unix_us);
    let start_unix_us = i64::try_from(start).ok().filter(|start| *start > 0);
    let tracks = [Track::Catalog, Track::Video, Track::Model, Track::Audio];
    let has_audio = catalog.audio_rendition().is_some();
    let mut publisher = server.publish(&name, &tracks[..3 + usize::from(has_audio)])?;
    let mut catalog_out = publisher.track(Track::Catalog)?;
    let mut video_out = publisher.track(Track::Video)?;
    let mut model_out = publisher.track(Track::Model)?;
    let mut audio_out = if has_audio { Some(publisher.track(Track::Audio)?) } else { None };
    catalog_out.write(true, sizes.from_us, sizes.told(&catalog).into())?;
    tracing::info!(stream = name, %arch, learned_there, "stream started");

    let shown = setup.metrics.show(&name);
    let figures = shown.stream.clone();
    let (to_learner, inbox) = mpsc::sync_channel(LEARNER_QUEUE);
    let (publications, published) = channel::channel(PUBLICATIONS_MAX);
    let (want, wanted) = latest::channel(!limits.on_demand || video_out.has_subscriber());
    let (ask, patches_asked) = latest::channel(true);
    let (resize, resized) = latest::channel(sizes.clone());
    let learning = if learned_there {
        drop(inbox);
        // Its figures are shown for as long as it lasts, and nothing of ours is published.
        tokio::spawn(async move {
            publications.closed().await;
            drop((shown, ask, resized));
            Ok(())
        })
    } else {
        let lesson = Lesson {
            name: name.clone(),
            trainer: setup.trainer,
            shown,
            models: setup.models.clone(),
            watch,
            wanted: wanted.clone(),
            patches_asked: ask,
            resized,
        };
        let learner = lesson.learner(&sizes)?;
        tokio::task::spawn_blocking(move || lesson.learn(learner, &turns, &inbox, &publications))
    };
    let (to_relay, inputs) = channel::channel(RELAY_QUEUE);
    let relay = async {
        // Taken along, so that reading ends with the relay, and training with it.
        let (mut inputs, mut published) = (inputs, published);
        let now = Instant::now();
        let (mut picture_rate, mut patch_rate) = (limits.pictures(now), limits.patches(now));
        let mut audio_rate = limits.audio_packets(now);
        let (mut update_rate, mut version) = (limits.updates(now), 0);
        let mut resize_rate = Limits::resizes(now);
        let mut last_pts_us = 0;
        loop {
            let input = tokio::select! {
                biased;
                input = inputs.recv() => input,
                publication = published.recv() => {
                    // Why training stopped is told below.
                    let Some(publication): Option<Publication> = publication else { return Ok(()) };
                    figures.update_queue.add(-1);
                    figures.model_bytes.add(publication.update.len() as u64);
                    figures.updates.add(1);
                    model_out.write(publication.snapshot, last_pts_us, Bytes::from(publication.update))?;
                    continue;
                }
                () = video_out.demand_changed(*want.borrow()), if limits.on_demand => {
                    want.send_modify(|want| *want = !*want);
                    continue;
                }
                () = stopped(stop) => None,
            };
            let Some(input) = input else { return Ok(()) };
            match &input {
                Input::Catalog(message) => {
                    if !resize_rate.take(Instant::now()) {
                        bail!("its pictures change their size all the time");
                    }
                    let next = Catalog::parse(&message.payload)?;
                    if learned_there || !next.continues(&catalog) {
                        bail!("its catalog has come to say something else");
                    }
                    sizes = Sizes {
                        from_us: message.pts_us,
                        arch: arch_of(&next, &setup.trainer)?,
                        decoder: limits.decoder(&next)?,
                    };
                    catalog = next;
                    tracing::info!(stream = name, arch = %sizes.arch, "the scale changes");
                    catalog_out.write(true, sizes.from_us, sizes.told(&catalog).into())?;
                    resize.send_replace(sizes.clone());
                    continue;
                }
                Input::Video(message) => {
                    if !picture_rate.take(Instant::now()) {
                        bail!("it sends more than {} pictures a second", limits.pictures_per_second_max);
                    }
                    last_pts_us = message.pts_us;
                    video_out.write(message.index == 0, message.pts_us, message.payload.clone())?;
                    figures.relayed(message.pts_us, message.payload.len(), start_unix_us);
                }
                Input::Audio(message) => {
                    if !audio_rate.take(Instant::now()) {
                        let max = limits.audio_packets_per_second_max;
                        bail!("it sends more than {max} packets of audio a second");
                    }
                    if let Some(audio) = &mut audio_out {
                        audio.write(message.index == 0, message.pts_us, message.payload.clone())?;
                        figures.audio_bytes.add(message.payload.len() as u64);
                    }
                    continue;
                }
                Input::Model(message) => {
                    if !update_rate.take(Instant::now()) {
                        bail!("it sends more than {} model updates a second", limits.updates_per_second_max);
                    }
                    let header = update::header(&message.payload).context("a model update of its")?;
                    if header.arch_id != arch.id() {
                        bail!("a model update of its is for another network than {arch}");
                    }
                    // A sender that was away begins with its newest snapshot: viewers have that.
                    if header.version <= version {
                        continue;
                    }
                    version = header.version;
                    figures.version.set(i64::try_from(version).unwrap_or(i64::MAX));
                    figures.gain_mdb.set((f64::from(header.gain_db) * 1e3).round() as i64);
                    figures.model_bytes.add(message.payload.len() as u64);
                    figures.updates.add(1);
                    model_out.write(message.index == 0, last_pts_us, message.payload.clone())?;
                    continue;
                }
                Input::Patch(message) => {
                    figures.patches.add(1);
                    figures.patch_bytes.add(message.payload.len() as u64);
                    if !patch_rate.take(Instant::now()) {
                        figures.patches_refused.add(1);
                        continue;
                    }
                }
            }
            offer(&to_learner, input, &name, &figures);
        }
    };
    let (read, relayed) = tokio::join!(leg.read(returning, to_relay, wanted, patches_asked), relay);
    *subscription = leg.close();
    if relayed.is_err() || !matches!(read, Ok(None)) {
        // Viewers look for the next stream of this name, where an end would be the end.
        video_out.break_off();
        audio_out.into_iter().for_each(TrackWriter::break_off);
    }
    drop(to_learner);
    learning.await??;
    relayed?;
    read
}

/// Hands a message to the learner, or drops it if the learner is far behind: the relay comes first.
fn offer(to_learner: &mpsc::SyncSender<Input>, input: Input, stream: &str, figures: &Stream) {
    let bytes = input.bytes();
    // A single one always fits.
    let full = figures.learner_bytes.get() > 0 && figures.learner_bytes.get() + bytes > LEARNER_BYTES_MAX;
    let offered = if full { Err(mpsc::TrySendError::Full(input)) } else { to_learner.try_send(input) };
    match offered {
        Ok(()) => {
            figures.learner_queue.add(1);
            figures.learner_bytes.add(bytes);
        }
        Err(mpsc::TrySendError::Full(_)) => {
            figures.learner_dropped.add(1);
            tracing::debug!(stream, "the learner is behind, a message is dropped");
        }
        // It has ended, and says why.
        Err(mpsc::TrySendError::Disconnected(_)) => {}
    }
}
