//! Relays each stream untouched, trains on its patches and publishes the weights beside it.

pub mod http;
mod leg;
pub mod limits;
pub mod metrics;
pub mod models;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hone_cpu::CpuTrainer;
use hone_kernels::{CudaTrainer, Device, Unavailable};
use hone_media::decode;
use hone_model::backend::TrainBackend;
use hone_model::{Arch, Family, Origin, Published, Weights};
use hone_trainer::{Event, Publication, State, Trainer};
use hone_transport::catalog::Catalog;
use hone_transport::{Server, Subscription, Track};
use serde::Deserialize;
use tokio::sync::mpsc as channel;
use tokio::task::JoinSet;

use self::leg::{Input, Leg};
use self::limits::Limits;
use self::metrics::{Metrics, Shown, Stream};
use self::models::Models;
use crate::learner::Learner;
use crate::turns::Turns;

/// Name and version of the update format in the catalog.
pub const UPDATE_FORMAT: &str = "hone-update-1";
/// Messages that wait for a stream's learner: about ten seconds of video. The relay never waits for it.
const LEARNER_QUEUE: usize = 300;
/// Updates that wait for the relay, which takes them between two frames.
const PUBLICATIONS_MAX: usize = 4;
/// Messages between a sender's connection and the relay.
const RELAY_QUEUE: usize = 64;
/// Connections of one sender that wait to be looked at: it may come back while its last one is still being missed.
const RETURNING_MAX: usize = 4;
/// How long an idle learner sleeps when no message wakes it.
const IDLE: Duration = Duration::from_millis(100);
/// A learned model is written to disk at most this often, and at the end of its stream.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// How often what is known of viewers that have left is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// Where training runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// CUDA where there is a device and kernels for it, else the CPU.
    #[default]
    Auto,
    /// CUDA or nothing.
    Cuda,
    /// The CPU.
    Cpu,
}

/// How streams are learned. `[trainer]` in the server's file.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where training runs.
    pub backend: Backend,
    /// Which CUDA device, as the driver counts them.
    pub device: usize,
    /// Family of the network.
    pub family: Family,
    /// Residual blocks of the network.
    pub blocks: u16,
    /// Channels of the network.
    pub features: u16,
    /// The rest.
    pub learn: hone_trainer::Config,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            device: 0,
            family: Family::Live,
            blocks: 4,
            features: 16,
            learn: hone_trainer::Config::default(),
        }
    }
}

impl Options {
    /// The network for a stream of this scale.
    ///
    /// # Errors
    /// If the numbers make no network.
    pub fn arch(&self, scale: u8) -> Result<Arch> {
        Ok(Arch::new(self.family, self.blocks, self.features, scale)?)
    }

    /// A trainer on the chosen backend, at version 0.
    ///
    /// # Errors
    /// If the backend was asked for by name and is not there.
    pub fn trainer(&self, arch: Arch) -> Result<Trainer> {
        let origin = Origin::best(arch, self.learn.seed);
        let weights = Published::origin(arch, origin).weights();
        let cpu = |weights| Box::new(CpuTrainer::new(weights));
        let backend: Box<dyn TrainBackend> = match self.backend {
            Backend::Cpu => cpu(weights),
            Backend::Cuda => Box::new(self.cuda(&weights).context("trainer.backend = \"cuda\"")?),
            Backend::Auto if self.why_not_cuda().is_some() => cpu(weights),
            Backend::Auto => match self.cuda(&weights) {
                Ok(trainer) => Box::new(trainer),
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "CUDA cannot take this network, the CPU trains"
                    );
                    cpu(weights)
                }
            },
        };
        Ok(Trainer::new(backend, origin, self.learn)?)
    }

    fn cuda(&self, weights: &Weights) -> Result<CudaTrainer> {
        Ok(CudaTrainer::new(&device(self.device)?, weights, hone_kernels::Options::default())?)
    }

    /// Why the CPU trains although CUDA is preferred, if that is so.
    pub fn why_not_cuda(&self) -> Option<Unavailable> {
        match self.backend {
            Backend::Auto => device(self.device).err(),
            Backend::Cuda | Backend::Cpu => None,
        }
    }
}

/// A device, opened once for all streams: the driver then compiles and holds the kernels once.
fn device(ordinal: usize) -> Result<Arc<Device>, Unavailable> {
    static OPEN: Mutex<BTreeMap<usize, Arc<Device>>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    match open.get(&ordinal) {
        Some(device) => Ok(device.clone()),
        None => Ok(open.entry(ordinal).or_insert(Device::open(ordinal)?).clone()),
    }
}

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
            while let Some(subscription) = next.take() {
                let name = subscription.name().to_owned();
                let streamed = stream(
                    &server,
                    subscription,
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
                        tracing::warn!(stream = name, error = format!("{error:#}"), "stream dropped");
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

/// One stream from its announcement to its end. Gives back what has its name then.
async fn stream(
    server: &Server,
    subscription: Subscription,
    returning: &mut channel::Receiver<Subscription>,
    setup: &Setup,
    turns: Arc<Turns>,
    watch: Arc<dyn Watch>,
    stop: &AtomicBool,
) -> Result<Option<Subscription>> {
    let name = subscription.name().to_owned();
    let leg = Leg::open(subscription).await?;
    let mut catalog = Catalog::parse(&leg.catalog)?;
    let arch = arch_of(&catalog, &setup.trainer)?;
    let limits = *setup.limits.read().unwrap_or_else(PoisonError::into_inner);
    let decoder = limits.decoder(&catalog)?;
    let start = catalog.hone.as_ref().map_or(0, |hone| hone.start_unix_us);
    let start_unix_us = i64::try_from(start).ok().filter(|start| *start > 0);
    if let Some(hone) = &mut catalog.hone {
        hone.arch = arch.to_string();
        hone.update_format = UPDATE_FORMAT.into();
    }
    let mut publisher = server.publish(&name, &[Track::Catalog, Track::Video, Track::Model])?;
    let mut catalog_out = publisher.track(Track::Catalog)?;
    let mut video_out = publisher.track(Track::Video)?;
    let mut model_out = publisher.track(Track::Model)?;
    catalog_out.write(true, 0, catalog.to_json().into())?;
    tracing::info!(stream = name, %arch, "stream started");

    let shown = setup.metrics.show(&name);
    let figures = shown.stream.clone();
    let (to_learner, inbox) = mpsc::sync_channel(LEARNER_QUEUE);
    let (publications, published) = channel::channel(PUBLICATIONS_MAX);
    let mut learner = Learner::with_limits(setup.trainer.trainer(arch)?, decoder)?;
    if let Some(saved) = setup.models.as_ref().and_then(|models| models.load(&name, arch)) {
        tracing::info!(stream = name, version = saved.version(), "goes on from its saved model");
        learner.trainer.resume(&saved)?;
    }
    let lesson = Lesson { name: name.clone(), shown, models: setup.models.clone(), watch };
    let learning =
        tokio::task::spawn_blocking(move || learn(learner, &turns, &inbox, &publications, &lesson));
    let (to_relay, inputs) = channel::channel(RELAY_QUEUE);
    let relay = async {
        // Taken along, so that reading ends with the relay, and training with it.
        let (mut inputs, mut published) = (inputs, published);
        let now = Instant::now();
        let (mut picture_rate, mut patch_rate) = (limits.pictures(now), limits.patches(now));
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
                () = stopped(stop) => None,
            };
            let Some(input) = input else { return Ok(()) };
            match &input {
                Input::Video(message) => {
                    if !picture_rate.take(Instant::now()) {
                        bail!("it sends more than {} pictures a second", limits.pictures_per_second_max);
                    }
                    last_pts_us = message.pts_us;
                    video_out.write(message.index == 0, message.pts_us, message.payload.clone())?;
                    figures.relayed(message.pts_us, message.payload.len(), start_unix_us);
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
    let (read, relayed) = tokio::join!(leg.read(returning, to_relay), relay);
    if relayed.is_err() || !matches!(read, Ok(None)) {
        // Viewers look for the next stream of this name, where an end would be the end.
        video_out.break_off();
    }
    drop(to_learner);
    learning.await??;
    relayed?;
    read
}

/// Hands a message to the learner, or drops it if the learner is far behind: the relay comes first.
fn offer(to_learner: &mpsc::SyncSender<Input>, input: Input, stream: &str, figures: &Stream) {
    match to_learner.try_send(input) {
        Ok(()) => figures.learner_queue.add(1),
        Err(mpsc::TrySendError::Full(_)) => {
            figures.learner_dropped.add(1);
            tracing::debug!(stream, "the learner is behind, a message is dropped");
        }
        // It has ended, and says why.
        Err(mpsc::TrySendError::Disconnected(_)) => {}
    }
}

/// Which stream a learner learns, and who wants to know.
struct Lesson {
    name: String,
    shown: Shown,
    models: Option<Models>,
    watch: Arc<dyn Watch>,
}

/// Decodes, trains and publishes until the stream ends.
///
/// # Errors
/// If the stream is not what its catalog says.
fn learn(
    mut learner: Learner,
    turns: &Turns,
    inbox: &mpsc::Receiver<Input>,
    publications: &channel::Sender<Publication>,
    lesson: &Lesson,
) -> Result<()> {
    let Lesson { name: stream, shown, watch, .. } = lesson;
    let figures = &shown.stream;
    let mut saver = Saver { lesson, unsaved_db: None, saved: Instant::now() };
    let place = turns.join();
    let mut idle = true;
    loop {
        // Everything that has come, then one step; with nothing to do, wait for a message.
        loop {
            let input = match idle {
                true => inbox.recv_timeout(IDLE).map_err(|e| e == mpsc::RecvTimeoutError::Disconnected),
                false => inbox.try_recv().map_err(|e| e == mpsc::TryRecvError::Disconnected),
            };
            figures.learner_queue.add(-i64::from(input.is_ok()));
            match input {
                Ok(Input::Video(message)) => match learner.video(&message.payload, message.pts_us) {
                    Ok(()) => figures.learned_pts_us.set(message.pts_us),
                    Err(decode::Error::Unsupported(lie @ decode::Unsupported::Size { .. })) => {
                        bail!("its pictures are not what its catalog says: {lie}");
                    }
                    Err(error) => {
                        figures.pictures_missing.add(1);
                        tracing::debug!(stream, %error, "a picture is missing for training");
                    }
                },
                Ok(Input::Patch(message)) => {
                    idle = false;
                    if let Err(error) = learner.patch(message.pts_us, message.payload.into()) {
                        figures.patches_refused.add(1);
                        tracing::warn!(stream, %error, "training patch refused");
                    }
                }
                Err(true) => {
                    saver.save(&learner.trainer);
                    return Ok(());
                }
                Err(false) => break,
            }
        }
        let event = place.step(|| {
            let begun = Instant::now();
            let event = learner.trainer.step();
            figures.training_us.add(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
            (event, learner.trainer.step_worth_db())
        });
        match event {
            Ok(Event::Idle(_)) => idle = true,
            Ok(Event::Stepped { .. }) => {
                idle = false;
                figures.steps.add(1);
            }
            Ok(Event::Published(publication)) => {
                idle = false;
                let Publication { version, gain_db, ref update, snapshot } = publication;
                tracing::info!(stream, version, gain_db, bytes = update.len(), snapshot, "model update");
                figures.version.set(i64::try_from(version).unwrap_or(i64::MAX));
                figures.gain_mdb.set((gain_db * 1e3).round() as i64);
                saver.unsaved_db = Some(gain_db);
                watch.published(stream, &publication);
                figures.update_queue.add(1);
                if publications.blocking_send(publication).is_err() {
                    saver.save(&learner.trainer);
                    return Ok(());
                }
            }
            Err(error) => {
                tracing::error!(stream, %error, "training step failed");
                idle = true;
            }
        }
        if saver.saved.elapsed() >= SAVE_EVERY {
            saver.save(&learner.trainer);
        }
        figures.set_state(learner.trainer.state());
        watch.training(stream, learner.trainer.state(), learner.trainer.steps());
    }
}

/// Keeps a stream's model on disk.
struct Saver<'a> {
    lesson: &'a Lesson,
    /// Gain of what was published since the last time.
    unsaved_db: Option<f64>,
    saved: Instant,
}

impl Saver<'_> {
    fn save(&mut self, trainer: &Trainer) {
        self.saved = Instant::now();
        let Lesson { name: stream, shown, models, .. } = self.lesson;
        let (Some(models), Some(gain_db)) = (models, self.unsaved_db.take()) else { return };
        let Some(snapshot) = trainer.snapshot(gain_db) else { return };
        match models.save(stream, trainer.published().arch(), &snapshot) {
            Ok(()) => {
                shown.saved();
                tracing::debug!(stream, version = trainer.published().version(), "model saved");
            }
            // Tried again with the next version.
            Err(error) => tracing::warn!(stream, error = format!("{error:#}"), "model not saved"),
        }
    }
}
