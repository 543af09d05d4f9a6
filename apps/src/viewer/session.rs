//! A viewer from its first connection to its end, through every connection that is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use hone_transport::{Client, Error};

use super::feed::{End, Feed};
use super::{Link, Monitor, Options, Received, Sink, State};
use crate::dial::{Backoff, Dialer, hopeless};
use crate::server::stopped;

/// Views broadcast `name` over one connection until it ends or `stop` is set; waits for it to begin. Gives the sink
/// back.
///
/// # Errors
/// What the connection, the device or the sink say.
pub async fn run<S: Sink + 'static>(
    client: Client,
    name: &str,
    options: Options,
    sink: S,
    monitor: &Arc<Monitor>,
    stop: &Arc<AtomicBool>,
) -> (Result<Received>, S) {
    match Feed::begin(client, name, &options, monitor, stop).await {
        Ok(feed) => {
            let (shown, sink) = feed.show(options, sink, None, monitor, stop).await;
            (shown.map(|(received, _)| received), sink)
        }
        Err(error) => (Err(error), sink),
    }
}

/// How long a viewer views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until the sender ends the stream; the first connection must succeed.
    Ended,
    /// Until it is stopped; waits for whatever is not there.
    Stopped,
}

/// What is viewed, and how.
#[derive(Clone)]
pub struct Session {
    /// The server.
    pub dialer: Dialer,
    /// Name of the stream.
    pub name: String,
    /// How to view.
    pub options: Options,
}

impl Session {
    /// Views until the stream ends or `stop` is set. Gives the sink back, and what the last stream was received as.
    ///
    /// # Errors
    /// What another try cannot mend: settings, files that cannot be written.
    pub async fn run<S: Sink + 'static>(
        mut self,
        until: Until,
        mut sink: S,
        monitor: &Arc<Monitor>,
        stop: &Arc<AtomicBool>,
    ) -> (Result<Received>, S) {
        let mut last = Received::default();
        let mut backoff = Backoff::default();
        while !stop.load(Ordering::Relaxed) {
            if monitor.state() != State::Lost {
                monitor.link(Link::Connecting);
            }
            if let Some(target) = sink.newest_target() {
                self.options.target = target;
            }
            let connecting = tokio::select! {
                connecting = self.dialer.connect() => connecting,
                () = stopped(stop) => break,
            };
            let viewed = match connecting {
                Err(error) => Err(error.into()),
                Ok(client) => match self.begin(client, until, monitor, stop).await {
                    Err(error) => Err(error),
                    Ok(feed) => {
                        let dialer = Some(&self.dialer);
                        let (viewed, back) =
                            feed.show(self.options.clone(), sink, dialer, monitor, stop).await;
                        sink = back;
                        viewed
                    }
                },
            };
            match viewed {
                Ok((received, end)) => {
                    last = received;
                    backoff.reset();
                    tracing::info!(frames = received.frames, dropped = received.dropped, "stream ended");
                    monitor.link(Link::Waiting);
                    if until == Until::Ended && end == End::Ended {
                        return (Ok(last), sink);
                    }
                    if end == End::Another {
                        continue;
                    }
                }
                Err(error) if stop.load(Ordering::Relaxed) => {
                    let begun = until == Until::Stopped || last != Received::default();
                    return (if begun { Ok(last) } else { Err(error) }, sink);
                }
                Err(error) => match error.downcast_ref::<Error>() {
                    Some(lost) if until == Until::Stopped && !hopeless(lost) => {
                        tracing::warn!(error = format!("{error:#}"), "no stream");
                        monitor.lost(format!("{error:#}"));
                    }
                    // A file that cannot be written, a device that has failed for good.
                    _ => return (Err(error), sink),
                },
            }
            let _ = tokio::time::timeout(backoff.pause(), stopped(stop)).await;
        }
        (Ok(last), sink)
    }

    async fn begin(
        &self,
        client: Client,
        until: Until,
        monitor: &Monitor,
        stop: &AtomicBool,
    ) -> Result<Feed> {
        match Feed::begin(client, &self.name, &self.options, monitor, stop).await {
            // The next stream of this name may have a catalog that can be used.
            Err(error) if until == Until::Stopped && error.downcast_ref::<Error>().is_none() => {
                Err(Error::Disconnected(format!("{error:#}")).into())
            }
            begun => begun,
        }
    }
}
