//! A relay that this server publishes to, and takes streams from.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hone_transport::config::{Certificate, Secret, Trust};
use hone_transport::{EndpointConfig, Error, Relayed, Server};
use serde::Deserialize;

use crate::dial::{hopeless, persist};

/// Until a relay that has refused us is asked again: its operator may have to be.
const REFUSED_PAUSE: Duration = Duration::from_secs(15);

/// An unmodified `moq-relay`. `[relay]` in the server's file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relay {
    /// Where what viewers may have is published: `https://HOST:PORT/PATH`.
    pub url: Option<String>,
    /// Where senders publish, at another path, which viewers have no token for.
    pub from: Option<String>,
    /// Shares the streams there with other servers that have names.
    pub name: Option<String>,
    /// The relay's token for this server.
    pub token: Option<Secret>,
    /// The certificates that the relay may show.
    pub trust: Trust,
}

impl Relay {
    /// How the relay is reached: as `own` says, but for its certificate and the token.
    fn endpoint(&self, own: &EndpointConfig) -> EndpointConfig {
        let mut endpoint = EndpointConfig {
            certificate: Certificate::Unset,
            token_key: None,
            token: self.token.clone(),
            trust: self.trust.clone(),
            ..own.clone()
        };
        endpoint.bind = EndpointConfig::default().bind;
        endpoint
    }

    fn check(&self) -> Result<()> {
        let place = |url: &Option<String>| url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        ensure!(
            self.url.is_none() || place(&self.url) != place(&self.from),
            "relay: url and from are the same place, where viewers could read patches"
        );
        ensure!(self.name.is_none() || self.from.is_some(), "relay: a name shares what comes `from` it");
        Ok(())
    }

    /// Stays connected. Without a relay, for ever idle.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub async fn run(&self, server: &Arc<Server>, own: &EndpointConfig) -> Result<()> {
        self.check()?;
        let endpoint = self.endpoint(own);
        let publish = async {
            let Some(url) = &self.url else { return std::future::pending().await };
            let to = |server: Arc<Server>, endpoint: EndpointConfig, url: String| async move {
                server.publish_to(&endpoint, &url).await
            };
            keep(url, || to(server.clone(), endpoint.clone(), url.clone())).await
        };
        let take = async {
            let Some(url) = &self.from else { return std::future::pending().await };
            let from = |server: Arc<Server>, endpoint: EndpointConfig, url: String, name: Option<String>| async move {
                server.take_from(&endpoint, &url, name.as_deref()).await
            };
            keep(url, || from(server.clone(), endpoint.clone(), url.clone(), self.name.clone())).await
        };
        tokio::select! {
            failed = publish => failed,
            failed = take => failed,
        }
    }
}

/// Keeps a connection up.
async fn keep<F>(url: &str, connect: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<Relayed, Error>> + Send + 'static,
{
    loop {
        match persist(url, &connect).await {
            Ok(link) => {
                tracing::info!(relay = url, "relay found");
                let error = link.closed().await;
                tracing::warn!(relay = url, %error, "relay lost, looking for it");
            }
            // Who may come in is for the relay to say, and it may say otherwise tomorrow.
            Err(error @ (Error::Token { .. } | Error::Forbidden { .. } | Error::Expired)) => {
                tracing::error!(relay = url, %error, "refused by the relay");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            Err(error) => {
                debug_assert!(hopeless(&error));
                return Err(error).with_context(|| format!("relay {url}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_for_patches_and_viewers_is_refused() {
        let relay = |url: &str, from: &str| Relay {
            url: Some(url.into()),
            from: Some(from.into()),
            ..Relay::default()
        };
        assert!(relay("https://a:1/live", "https://a:1/in").check().is_ok());
        let error = relay("https://a:1/live", "https://a:1/live/").check().unwrap_err().to_string();
        assert!(error.contains("patches"), "{error}");
        let nowhere = Relay { name: Some("a".into()), ..Relay::default() };
        assert!(nowhere.check().is_err());
    }
}
