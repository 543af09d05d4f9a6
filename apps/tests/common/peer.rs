//! Senders and viewers by hand, for tests of what a server makes of them.

#![allow(dead_code, reason = "each user takes its own part")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use hone_apps::server::UPDATE_FORMAT;
use hone_media::encode::{Config, Encoder};
use hone_transport::catalog::{self, Catalog, Hone, Rendition};
use hone_transport::config::{Secret, Trust};
use hone_transport::{Client, EndpointConfig, Error};

/// A server, as its peers are told of it.
#[derive(Clone)]
pub struct Place {
    pub address: String,
    pub hash: String,
    pub token: Option<String>,
}

impl Place {
    pub fn endpoint(&self) -> EndpointConfig {
        EndpointConfig {
            bind: ([127, 0, 0, 1], 0).into(),
            trust: Trust::Pinned(vec![self.hash.clone()]),
            token: self.token.clone().map(Secret),
            ..EndpointConfig::default()
        }
    }

    /// A connection from `at`: the server itself, or a link to it.
    pub async fn dial_at(&self, at: &str) -> Result<Client, Error> {
        Client::connect(&self.endpoint(), at).await
    }

    pub async fn dial(&self) -> Client {
        self.dial_at(&self.address).await.unwrap()
    }
}

/// A catalog that claims pictures of this size.
pub fn claims(width: u32, height: u32) -> Catalog {
    let rendition = Rendition {
        codec: "avc1.42e01f".into(),
        coded_width: width,
        coded_height: height,
        framerate: None,
        bitrate: None,
        container: catalog::Container { kind: "annexb".into() },
    };
    let hone = Hone {
        arch: String::new(),
        update_format: String::new(),
        hr_width: 2 * width,
        hr_height: 2 * height,
        colour: catalog::Colour { matrix: "bt601".into(), range: "limited".into() },
        start_unix_us: 0,
    };
    Catalog::new(rendition, hone)
}

/// The same from a sender that learns this network.
pub fn claims_to_learn(width: u32, height: u32, arch: &str) -> Catalog {
    let mut catalog = claims(width, height);
    catalog.hone = catalog.hone.map(|hone| hone.learned_here(arch, UPDATE_FORMAT));
    catalog
}

/// One access unit with a keyframe of this size.
pub fn keyframe(width: u32, height: u32) -> Vec<u8> {
    let mut encoder = Encoder::new(&Config::new(width, height, 25.0, 300)).unwrap();
    encoder.encode(&crate::common::picture(width, height, 0, 0), 0, true).unwrap().data
}
