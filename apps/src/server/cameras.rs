//! Cameras that the server looks after itself: no sender is needed beside an ordinary one.
//!
//! Each is a sender in this process, to the server's own port: a stream of a camera is a stream like any other, with the
//! same limits, and only one way leads into the relay.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use hone_media::rtsp::Address;
use hone_model::rng::Rng;
use hone_transport::config::{Certificate, Secret, Trust};
use hone_transport::token::{Grant, Keys, Scope};
use hone_transport::{EndpointConfig, Server, hex};
use serde::{Deserialize, Deserializer};
use tokio::task::JoinSet;

use super::stopped;
use crate::dial::{Dialer, rand_seed};
use crate::ingest;
use crate::input::{CameraOptions, Transport};

/// Until a camera that could not be had, or was lost for good, is tried again: at first, and at most. One that starts
/// anew is back within a minute, one that is gone may stay so for a year.
const PAUSE: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(60)];
/// Growth from one pause to the next, and share of each that is drawn: cameras that one outage cut off do not all come
/// back at once.
const GROWTH: f64 = 1.7;
const JITTER: f64 = 0.5;
/// A camera that has run for so long was had: its next loss is the first again.
const HAD: Duration = Duration::from_secs(30);
/// How long a camera's own token holds; it is signed anew at each try.
const TOKEN_LIFE: Duration = Duration::from_secs(365 * 86_400);

/// `[[cameras]]` in the server's file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Name of the stream.
    pub name: String,
    /// The main stream, which is sampled for training: `rtsp://USER:PASSWORD@HOST/PATH`.
    #[serde(deserialize_with = "address")]
    pub main: Address,
    /// The small stream, which viewers get as it is.
    #[serde(deserialize_with = "address")]
    pub sub: Address,
    /// Shown size over the small stream's.
    #[serde(default = "default_scale")]
    pub scale: u32,
    /// Who we are at the camera, instead of a user in its address,
    pub user: Option<String>,
    /// and the file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// `tcp` or `udp`.
    #[serde(default)]
    pub transport: Transport,
    /// Whether its audio is taken along.
    #[serde(default = "default_audio")]
    pub audio: bool,
}

fn default_scale() -> u32 {
    2
}

fn default_audio() -> bool {
    true
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
    let text = String::deserialize(deserializer)?;
    // Without the text: it may hold a password.
    text.parse().map_err(serde::de::Error::custom)
}

impl Camera {
    /// # Errors
    /// What is wrong with its settings.
    fn check(&self) -> Result<()> {
        Scope::new(std::slice::from_ref(&self.name))?;
        if !(1..=4).contains(&self.scale) {
            bail!("scale {}: 1 to 4", self.scale);
        }
        if self.user.is_some() != self.password_file.is_some() {
            bail!("user and password_file belong together");
        }
        Ok(())
    }

    /// Once, until it is lost for good or `stop` is set.
    async fn run(&self, dialer: Dialer, stop: Arc<AtomicBool>) -> Result<()> {
        let options = CameraOptions {
            rtsp_transport: self.transport,
            rtsp_user: self.user.clone(),
            rtsp_password_file: self.password_file.clone(),
        };
        let (sub, main) = (options.config(&self.sub)?, options.config(&self.main)?);
        let sub = hone_media::rtsp::Config { audio: self.audio, ..sub };
        ingest::relay(sub, main, self.scale, dialer, self.name.clone(), stop).await
    }
}

/// Looks after `cameras` until `stop` is set.
///
/// # Errors
/// Settings that cannot work; a camera that cannot be had is tried again and again.
pub async fn run(
    cameras: &[Camera],
    server: &Server,
    endpoint: &EndpointConfig,
    stop: &Arc<AtomicBool>,
) -> Result<()> {
    let mut names: Vec<&str> = cameras.iter().map(|camera| camera.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("cameras: {} is there twice", twice[0]);
    }
    for camera in cameras {
        camera.check().with_context(|| format!("cameras: {}", camera.name))?;
    }
    let mut running = JoinSet::new();
    for camera in cameras.iter().cloned() {
        let own = Own {
            address: server.local_addr(),
            pin: hex(&server.certificate_hash()),
            endpoint: endpoint.clone(),
        };
        let stop = stop.clone();
        running.spawn(async move {
            let (mut rng, mut failed) = (Rng::new(rand_seed()), 0);
            loop {
                let begun = Instant::now();
                let ran = match own.dialer(&camera.name) {
                    Ok(dialer) => camera.run(dialer, stop.clone()).await,
                    Err(error) => Err(error),
                };
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                failed = if begun.elapsed() >= HAD { 0 } else { failed + 1 };
                let pause = pause(failed, rng.unit());
                if let Err(error) = ran {
                    tracing::warn!(
                        camera = camera.name,
                        error = format!("{error:#}"),
                        pause_s = pause.as_secs(),
                        "camera lost, tried again soon"
                    );
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stopped(&stop) => return,
                }
            }
        });
    }
    while running.join_next().await.is_some() {}
    stopped(stop).await;
    Ok(())
}

/// Before the next try after so many in a row that came to nothing; `luck` in 0 to 1.
fn pause(failed: u32, luck: f64) -> Duration {
    // Long since the longest.
    let late = failed.saturating_sub(1).min(16);
    PAUSE[0].mul_f64(GROWTH.powf(f64::from(late))).min(PAUSE[1]).mul_f64(1.0 - JITTER * luck)
}

/// The server's own port, from within.
struct Own {
    address: SocketAddr,
    pin: String,
    endpoint: EndpointConfig,
}

impl Own {
    fn dialer(&self, name: &str) -> Result<Dialer> {
        let token = match &self.endpoint.token_key {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let now = SystemTime::now();
                let publish = Scope::new(&[name.to_owned()])?;
                let grant = Grant { publish, view: Scope::new(&[])?, until: Some(now + TOKEN_LIFE) };
                Some(Secret(Keys::parse(&text)?.sign(&grant, now)?))
            }
        };
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let endpoint = EndpointConfig {
            bind: SocketAddr::new(address.ip(), 0),
            certificate: Certificate::Unset,
            token_key: None,
            token,
            trust: Trust::Pinned(vec![self.pin.clone()]),
            ..self.endpoint.clone()
        };
        Ok(Dialer::new(endpoint, address.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;

    fn cameras(text: &str) -> Result<Vec<Camera>, String> {
        toml::from_str::<settings::Server>(text).map(|s| s.cameras).map_err(|error| error.to_string())
    }

    #[test]
    fn a_camera_is_two_addresses_and_a_name() {
        let text = "[[cameras]]\nname = \"door\"\nmain = \"rtsp://u:s3cret@cam/1\"\nsub = \"rtsp://u:s3cret@cam/2\"\n";
        let camera = &cameras(text).unwrap()[0];
        assert!(camera.check().is_ok() && camera.scale == 2 && camera.audio);
        assert!(!format!("{camera:?}").contains("s3cret"));
        for bad in ["scale = 5", "name = \"a b\"", "user = \"u\""] {
            let text = match bad.starts_with("name") {
                true => text.replace("name = \"door\"", bad),
                false => format!("{text}{bad}\n"),
            };
            assert!(cameras(&text).unwrap()[0].check().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_camera_that_stays_away_is_tried_ever_more_seldom_and_never_given_up() {
        assert_eq!(pause(0, 0.0), PAUSE[0]);
        assert!((1..100).all(|failed| pause(failed, 0.0) <= pause(failed + 1, 0.0)));
        for failed in [0, 7, 100, u32::MAX] {
            let range = pause(failed, 1.0)..=pause(failed, 0.0);
            assert!(*range.start() >= PAUSE[0] / 2 && *range.end() <= PAUSE[1], "{failed}: {range:?}");
            assert!(range.start() < range.end(), "all at once");
        }
        assert_eq!(pause(1000, 0.0), PAUSE[1]);
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_text() {
        let error =
            cameras("[[cameras]]\nname = \"a\"\nmain = \"rtsps://u:s3cret@h/\"\nsub = \"rtsp://h/\"\n")
                .unwrap_err();
        assert!(error.contains("rtsps"), "{error}");
    }
}
