//! Relays each stream untouched, trains on its patches and publishes the weights beside it.

mod leg;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hone_cpu::CpuTrainer;
use hone_kernels::{CudaTrainer, Device, Unavailable};
use hone_model::backend::TrainBackend;
use hone_model::{Arch, Family, Origin, Published, Weights};
use hone_trainer::{Event, Publication, State, Trainer};
use hone_transport::catalog::Catalog;
use hone_transport::{Server, Subscription, Track};
use serde::Deserialize;
use tokio::sync::mpsc as channel;
use tokio::task::JoinSet;

use self::leg::{Input, Leg};
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

/// Serves streams until `stop` is set or the endpoint closes.
///
/// # Errors
/// If no network can be made from the options.
pub async fn run(
    server: Arc<Server>,
    options: Options,
    watch: Arc<dyn Watch>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    // Refuse bad options, or a backend that is not there, now and not at the first stream.
    let trainer = options.trainer(options.arch(2)?)?;
    match options.why_not_cuda() {
        Some(reason) => tracing::warn!(backend = trainer.backend(), %reason, "no CUDA, the CPU trains"),
        None => tracing::info!(backend = trainer.backend(), "trainer chosen"),
    }
    drop(trainer);
    let mut streams = JoinSet::new();
    let turns = Arc::new(Turns::default());
    let mut running: HashMap<String, channel::Sender<Subscription>> = HashMap::new();
    loop {
        let subscription = tokio::select! {
            subscription = server.incoming() => subscription,
            () = stopped(&stop) => None,
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
        let turns = turns.clone();
        streams.spawn(async move {
            let mut next = Some(subscription);
            while let Some(subscription) = next.take() {
                let name = subscription.name().to_owned();
                let streamed = stream(
                    &server,
                    subscription,
                    &mut returning,
                    options,
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
    options: Options,
    turns: Arc<Turns>,
    watch: Arc<dyn Watch>,
    stop: &AtomicBool,
) -> Result<Option<Subscription>> {
    let name = subscription.name().to_owned();
    let leg = Leg::open(subscription).await?;
    let mut catalog = Catalog::parse(&leg.catalog)?;
    let arch = arch_of(&catalog, &options)?;
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

    let (to_learner, inbox) = mpsc::sync_channel(LEARNER_QUEUE);
    let (publications, mut published) = channel::channel(PUBLICATIONS_MAX);
    let learner = Learner::new(options.trainer(arch)?)?;
    let learning = tokio::task::spawn_blocking({
        let name = name.clone();
        move || learn(learner, &turns, &inbox, &publications, &name, watch.as_ref())
    });
    let (to_relay, inputs) = channel::channel(RELAY_QUEUE);
    let relay = async {
        // Taken along, so that reading ends with the relay.
        let mut inputs = inputs;
        let mut last_pts_us = 0;
        loop {
            let input = tokio::select! {
                biased;
                input = inputs.recv() => input,
                publication = published.recv() => {
                    let Some(publication): Option<Publication> = publication else { bail!("training stopped") };
                    model_out.write(publication.snapshot, last_pts_us, Bytes::from(publication.update))?;
                    continue;
                }
                () = stopped(stop) => None,
            };
            let Some(input) = input else { return Ok(()) };
            if let Input::Video(message) = &input {
                last_pts_us = message.pts_us;
                video_out.write(message.index == 0, message.pts_us, message.payload.clone())?;
            }
            offer(&to_learner, input, &name);
        }
    };
    let (read, relayed) = tokio::join!(leg.read(returning, to_relay), relay);
    drop(to_learner);
    learning.await?;
    relayed?;
    read
}

/// Hands a message to the learner, or drops it if the learner is far behind: the relay comes first.
fn offer(to_learner: &mpsc::SyncSender<Input>, input: Input, stream: &str) {
    if let Err(mpsc::TrySendError::Full(_)) = to_learner.try_send(input) {
        tracing::debug!(stream, "the learner is behind, a message is dropped");
    }
}

/// Decodes, trains and publishes until the stream ends.
fn learn(
    mut learner: Learner,
    turns: &Turns,
    inbox: &mpsc::Receiver<Input>,
    publications: &channel::Sender<Publication>,
    stream: &str,
    watch: &dyn Watch,
) {
    let place = turns.join();
    let mut idle = true;
    loop {
        // Everything that has come, then one step; with nothing to do, wait for a message.
        loop {
            let input = match idle {
                true => inbox.recv_timeout(IDLE).map_err(|e| e == mpsc::RecvTimeoutError::Disconnected),
                false => inbox.try_recv().map_err(|e| e == mpsc::TryRecvError::Disconnected),
            };
            match input {
                Ok(Input::Video(message)) => {
                    if let Err(error) = learner.video(&message.payload, message.pts_us) {
                        tracing::debug!(stream, %error, "a picture is missing for training");
                    }
                }
                Ok(Input::Patch(message)) => {
                    idle = false;
                    if let Err(error) = learner.patch(message.pts_us, message.payload.into()) {
                        tracing::warn!(stream, %error, "training patch refused");
                    }
                }
                Err(true) => return,
                Err(false) => break,
            }
        }
        let event = place.step(|| (learner.trainer.step(), learner.trainer.step_worth_db()));
        match event {
            Ok(Event::Idle(_)) => idle = true,
            Ok(Event::Stepped { .. }) => idle = false,
            Ok(Event::Published(publication)) => {
                idle = false;
                let Publication { version, gain_db, ref update, snapshot } = publication;
                tracing::info!(stream, version, gain_db, bytes = update.len(), snapshot, "model update");
                watch.published(stream, &publication);
                if publications.blocking_send(publication).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(stream, %error, "training step failed");
                idle = true;
            }
        }
        watch.training(stream, learner.trainer.state(), learner.trainer.steps());
    }
}
