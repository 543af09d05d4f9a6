//! The files of settings; `examples/` explains every line.

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
}

/// `hone-sender --config` and `hone-viewer --config`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Client {
    /// QUIC.
    pub endpoint: EndpointConfig,
}
