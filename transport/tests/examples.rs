//! The example files are what the crate takes, and mistakes in them are found with their line.

use hone_transport::{EndpointConfig, config};
use serde::Deserialize;
use std::path::PathBuf;

/// What a program's file looks like from here: the endpoint, and tables of other crates.
#[derive(Debug, Deserialize)]
struct File {
    endpoint: EndpointConfig,
}

fn example(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_examples_parse_and_show_the_defaults() {
    for name in ["server.toml", "sender.toml", "viewer.toml"] {
        let text = example(name);
        let file: File = toml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        file.endpoint.validate().unwrap();
        // What an example says is what one gets without it, except who listens where and who is trusted.
        let defaults = EndpointConfig::default();
        let shown = EndpointConfig {
            bind: defaults.bind,
            certificate: defaults.certificate.clone(),
            trust: defaults.trust.clone(),
            ..file.endpoint
        };
        assert_eq!(shown, defaults, "{name}");
    }
}

#[test]
fn the_server_example_documents_every_field() {
    let shown: toml::Table = example("server.toml").parse().unwrap();
    let all = toml::Table::try_from(EndpointConfig::default()).unwrap();
    // A client's own field is in the client's files.
    let client_only = ["trust"];
    for (key, value) in &all {
        if client_only.contains(&key.as_str()) {
            continue;
        }
        let shown = shown["endpoint"].get(key).unwrap_or_else(|| panic!("server.toml lacks endpoint.{key}"));
        for (key, _) in value.as_table().into_iter().flatten() {
            assert!(shown.get(key).is_some(), "server.toml lacks {key}");
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    for (text, key, line) in [
        ("[endpoint]\nbind = \"0.0.0.0:1\"\nidle_timeout = 5\n", "idle_timeout", "line 3"),
        ("[endpoint]\n[endpoint.limits]\nframes_max = 5\n", "frames_max", "line 3"),
        ("[endpoint.priorities]\n\nscreen = 5\n", "screen", "line 3"),
        ("[endpoint]\ncongestion = \"bbr\"\n", "bbr", "line 2"),
        ("[endpoint]\n\ncertificate = { files = { cert = \"a\", kee = \"b\" } }\n", "kee", "line 3"),
        ("[endpoint]\ntrust = { pinned = 5 }\n", "5", "line 2"),
        ("[endpoint]\ndatagram_size_max = 70000\n", "70000", "line 2"),
    ] {
        let error = toml::from_str::<File>(text).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(line), "{error}");
    }
}

#[test]
fn every_form_of_certificate_and_trust_reads() {
    let parse = |line: &str| toml::from_str::<File>(&format!("[endpoint]\n{line}\n")).unwrap().endpoint;
    assert_eq!(parse("certificate = \"dev\"").certificate, config::Certificate::Dev);
    let files = config::Certificate::Files { cert: "c.pem".into(), key: "k.pem".into() };
    assert_eq!(parse("certificate = { files = { cert = \"c.pem\", key = \"k.pem\" } }").certificate, files);
    assert_eq!(parse("trust = \"system\"").trust, config::Trust::System);
    assert_eq!(parse("trust = { ca_file = \"ca.pem\" }").trust, config::Trust::CaFile("ca.pem".into()));
    assert_eq!(parse("trust = { pinned = [\"ab\"] }").trust, config::Trust::Pinned(vec!["ab".into()]));
    assert_eq!(parse("congestion = \"new_reno\"").congestion, config::Congestion::NewReno);
}
