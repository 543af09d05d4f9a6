//! The window's viewer: connects, shows, and begins again when the connection is lost or the stream is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use hone_transport::{Client, Error};

use super::Setup;
use super::mailbox::{Mailbox, WindowSink};
use crate::server::stopped;
use crate::viewer::{self, Link, Log, Monitor, State};

/// How long to wait before the next try.
const RETRY: Duration = Duration::from_secs(2);

/// Views until `stop` is set.
///
/// # Errors
/// What another try cannot mend: settings, files that cannot be written.
pub async fn run(
    setup: Setup,
    mailbox: Arc<Mailbox>,
    wake: impl Fn() + Send + 'static,
    monitor: Arc<Monitor>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let log = Log::start(setup.stats.as_deref(), monitor.clone())?;
    let mut sink = WindowSink::new(setup.outputs, mailbox, setup.options.target.clone(), wake);
    let mut options = setup.options;
    let mut ended = Ok(());
    while !stop.load(Ordering::Relaxed) {
        if monitor.state() != State::Lost {
            monitor.link(Link::Connecting);
        }
        options.target = sink.newest_target();
        let connecting = tokio::select! {
            connecting = Client::connect(&setup.endpoint, &setup.server) => connecting,
            () = stopped(&stop) => break,
        };
        let client = match connecting {
            Ok(client) => client,
            Err(error) if hopeless(&error) => {
                ended = Err(error.into());
                break;
            }
            Err(error) => {
                tracing::warn!(%error, "no connection");
                monitor.lost(error.to_string());
                pause(&stop).await;
                continue;
            }
        };
        let viewed = match viewer::begin(&client, &setup.name, &options, &monitor, &stop).await {
            Ok(begun) => {
                let (viewed, back) = begun.show(options.clone(), sink, &monitor, &stop).await;
                sink = back;
                viewed
            }
            // The next stream of this name may have a catalog that can be used.
            Err(error) if error.downcast_ref::<Error>().is_none() => {
                Err(Error::Disconnected(format!("{error:#}")).into())
            }
            Err(error) => Err(error),
        };
        client.close().await;
        match viewed {
            Ok(received) => {
                tracing::info!(frames = received.frames, dropped = received.dropped, "stream ended");
                monitor.link(Link::Waiting);
            }
            Err(_) if stop.load(Ordering::Relaxed) => {}
            Err(error) => match error.downcast_ref::<Error>() {
                Some(lost) if !hopeless(lost) => {
                    tracing::warn!(error = format!("{error:#}"), "stream lost");
                    monitor.lost(format!("{error:#}"));
                }
                // A file that cannot be written, a device that has failed for good.
                _ => {
                    ended = Err(error);
                    break;
                }
            },
        }
        pause(&stop).await;
    }
    log.end().await;
    ended
}

/// Whether the same error would come again.
fn hopeless(error: &Error) -> bool {
    matches!(
        error,
        Error::Address { .. }
            | Error::Config { .. }
            | Error::CertificateFile { .. }
            | Error::Name(_)
            | Error::Bind { .. }
    )
}

async fn pause(stop: &AtomicBool) {
    let _ = tokio::time::timeout(RETRY, stopped(stop)).await;
}
