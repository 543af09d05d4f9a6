//! The files of settings; `examples/` explains every line.

use std::net::SocketAddr;
use std::path::PathBuf;

use hone_transport::EndpointConfig;
use serde::Deserialize;

use crate::server;

/// `hone-server --config`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// QUIC.
    pub endpoint: EndpointConfig,
    /// Network and learning.
    pub trainer: server::Options,
    /// What one stream may cost.
    pub streams: server::limits::Limits,
    /// For those who run it.
    pub operation: Operation,
    /// For more viewers than one machine serves.
    pub relay: server::relay::Relay,
    /// Cameras that the server looks after itself.
    pub cameras: Vec<server::cameras::Camera>,
}

/// What helps to run a server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Operation {
    /// TCP address of `/metrics`, `/healthz` and `/readyz`; none by default. They ask for no password.
    pub http: Option<SocketAddr>,
    /// Folder where models are kept from one run to the next; none by default.
    pub models: Option<PathBuf>,
    /// Most models in that folder; each name of a stream, and each network, has one.
    pub models_max: usize,
}

impl Default for Operation {
    fn default() -> Self {
        Self { http: None, models: None, models_max: 1000 }
    }
}

/// `hone-sender --config`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sender {
    /// QUIC.
    pub endpoint: EndpointConfig,
    /// Network and learning, where the sender learns.
    pub trainer: server::Options,
}

/// `hone-viewer --config`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Viewer {
    /// QUIC.
    pub endpoint: EndpointConfig,
}
