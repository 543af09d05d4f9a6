//! Certificates: what a server shows, and what a client accepts.

use crate::{
    Error, Result,
    config::{Certificate, Trust},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject},
};
use sha2::{Digest, Sha256};
use std::{path::Path, sync::Arc};

/// Browsers accept a certificate pinned by hash for at most 14 days, clocks that differ by a day included.
const DEV_DAYS_VALID: i64 = 12;

/// Names in the development certificate; clients check its hash, not its names, but some tools want one.
const DEV_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The HTTP/3 protocol identifier: WebTransport runs inside HTTP/3.
const ALPN_H3: &[u8] = b"h3";

/// Lower-case hexadecimal digits of `hash`, as [`Trust::Pinned`] takes them.
pub fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let mut hash = [0; 32];
    if digits.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(hash)
}

fn sha256(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The TLS side of a server, and the SHA-256 of its leaf certificate.
pub(crate) fn server(certificate: &Certificate) -> Result<(ServerConfig, [u8; 32])> {
    let (chain, key) = match certificate {
        Certificate::Unset => {
            return Err(Error::Config { field: "certificate", reason: "none is named".into() });
        }
        Certificate::Dev | Certificate::DevAnywhere => dev_certificate()?,
        Certificate::Files { cert, key } => read_pair(cert, key)?,
    };
    let hash = sha256(&chain[0]);
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| Error::Config { field: "certificate", reason: e.to_string() })?;
    tls.alpn_protocols = vec![ALPN_H3.to_vec()];
    Ok((tls, hash))
}

/// The TLS side of a client.
pub(crate) fn client(trust: &Trust) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Error::Config { field: "trust", reason: e.to_string() })?;
    let mut tls = match trust {
        Trust::System => builder.with_root_certificates(system_roots()?).with_no_client_auth(),
        Trust::CaFile(path) => builder.with_root_certificates(ca_file(path)?).with_no_client_auth(),
        Trust::Pinned(hashes) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned::parse(hashes)?))
            .with_no_client_auth(),
    };
    tls.alpn_protocols = vec![ALPN_H3.to_vec()];
    Ok(tls)
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn dev_certificate() -> Result<Pair> {
    let make = || -> Result<Pair, rcgen::Error> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = rcgen::CertificateParams::new(DEV_NAMES.map(String::from))?;
        let now = time::OffsetDateTime::now_utc();
        // A day back, for clients whose clock is behind.
        params.not_before = now - time::Duration::DAY;
        params.not_after = now + time::Duration::days(DEV_DAYS_VALID);
        params.distinguished_name.push(rcgen::DnType::CommonName, "hone development certificate");
        let certificate = params.self_signed(&key)?;
        Ok((vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    };
    make().map_err(|e| Error::Config { field: "certificate", reason: e.to_string() })
}

fn file_error(what: &'static str, path: &Path, reason: impl ToString) -> Error {
    Error::CertificateFile { what, path: path.to_owned(), reason: reason.to_string() }
}

fn read_certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect())
        .map_err(|e| file_error(what, path, e))?;
    if chain.is_empty() {
        return Err(file_error(what, path, "no PEM certificate in it"));
    }
    Ok(chain)
}

fn read_pair(cert: &Path, key: &Path) -> Result<Pair> {
    let chain = read_certificates("certificate", cert)?;
    Ok((chain, PrivateKeyDer::from_pem_file(key).map_err(|e| file_error("key", key, e))?))
}

fn ca_file(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates("CA file", path)? {
        roots.add(certificate).map_err(|e| file_error("CA file", path, e))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Systems carry a few certificates that rustls does not take; the others are still good.
    let (added, refused) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, refused, unreadable = found.errors.len(), "system certificate authorities");
    if added == 0 {
        let reason = "no certificate authority found on this system; use a CA file or pin the certificate";
        return Err(Error::Config { field: "trust", reason: reason.into() });
    }
    Ok(roots)
}

/// Accepts exactly the certificates with a known hash: the rule of WebTransport's `serverCertificateHashes`.
#[derive(Debug)]
struct Pinned {
    hashes: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn parse(hashes: &[String]) -> Result<Self> {
        let field = "trust.pinned";
        if hashes.is_empty() {
            return Err(Error::Config { field, reason: "at least one hash is needed".into() });
        }
        let hashes = hashes
            .iter()
            .map(|text| {
                let reason = || format!("{text:?} is not a SHA-256 hash: 64 hexadecimal digits are needed");
                parse_hex(text).ok_or_else(|| Error::Config { field, reason: reason() })
            })
            .collect::<Result<_>>()?;
        Ok(Self { hashes, provider: provider() })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let hash = sha256(end_entity);
        if self.hashes.contains(&hash) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(format!("its SHA-256 is {}, which is not pinned", hex(&hash))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_round_trip_and_bad_ones_are_named() {
        let hash: [u8; 32] = std::array::from_fn(|i| u8::try_from(i * 8).unwrap());
        assert_eq!(parse_hex(&hex(&hash)), Some(hash));
        let colons: Vec<_> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(parse_hex(&colons.join(":")), Some(hash));
        for bad in ["", "12", &hex(&hash)[1..], "zz", &"g".repeat(64), &"é".repeat(32)] {
            let error = Pinned::parse(&[bad.to_owned()]).unwrap_err().to_string();
            assert!(error.contains("trust.pinned") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn two_development_certificates_differ() {
        let (_, a) = server(&Certificate::Dev).unwrap();
        let (_, b) = server(&Certificate::Dev).unwrap();
        assert_ne!(a, b);
    }

    #[test]
    fn a_missing_or_empty_certificate_file_is_named() {
        let empty = std::env::temp_dir().join(format!("hone-empty-{}.pem", std::process::id()));
        std::fs::write(&empty, "no certificate here").unwrap();
        for path in [Path::new("/no/such/cert.pem"), &empty] {
            let error = client(&Trust::CaFile(path.to_owned())).unwrap_err().to_string();
            assert!(error.contains("CA file") && error.contains(&*path.to_string_lossy()), "{error}");
        }
        std::fs::remove_file(&empty).unwrap();
    }
}
