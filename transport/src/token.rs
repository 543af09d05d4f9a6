//! Tokens: who may publish and who may view, until when.
//!
//! A token is a JSON Web Token (RFC 7519), signed with HMAC-SHA256 (RFC 7515, `HS256`) and no other algorithm, so
//! that there is none to negotiate. Claims and key files are those of the crate `moq-token` 0.7, for the sake of an
//! unmodified `moq-relay`. That crate itself is not used because it brings a second crypto library.
//!
//! A scope is a stream's name, or a beginning of names that ends with `*`; the lone `*` is written as the empty path.
//! On a relay the path below which streams are is part of it: `live/cam`.

mod scope;

pub use scope::Scope;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{hmac, rand};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest token that is looked at, bytes: far more than a few scopes need.
const TOKEN_BYTES_MAX: usize = 4 << 10;
/// Largest key file, bytes, and most keys in it: two are enough to change from one to the next.
const KEY_FILE_BYTES_MAX: usize = 64 << 10;
const KEYS_MAX: usize = 16;
/// Shortest secret, bytes: RFC 7518, section 3.2.
const SECRET_BYTES_MIN: usize = 32;

/// Why a token, or a key file, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not a token of three base64url parts with JSON in them, or too long.
    #[error("not a token")]
    Syntax,
    /// Signed in a way that is not taken here.
    #[error("signed with {0:?}, and only HS256 is taken")]
    Algorithm(String),
    /// No key made this signature.
    #[error("not signed with a key of this server")]
    Signature,
    /// It says no end, or its time is over.
    #[error("expired {ago_s} s ago")]
    Expired {
        /// How long ago.
        ago_s: u64,
    },
    /// Its time has not begun.
    #[error("not valid yet")]
    Early,
    /// It has no time of expiry.
    #[error("it never expires, and only tokens that do are taken")]
    Endless,
    /// It grants nothing.
    #[error("it lets its holder neither publish nor view")]
    Nothing,
    /// A scope that is no name.
    #[error(
        "bad scope {0:?}: a stream's name, or the beginning of names followed by '*', a relay's path before it"
    )]
    Scope(String),
    /// A key file that cannot be used.
    #[error("not a key file: {0}")]
    Key(String),
}

/// What a token lets its holder do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The streams that may be published.
    pub publish: Scope,
    /// The streams that may be viewed.
    pub view: Scope,
    /// When this ends, if it does.
    pub until: Option<SystemTime>,
}

impl Grant {
    /// Everything, for ever: what a server without keys grants.
    pub fn anonymous() -> Self {
        Self { publish: Scope::all(), view: Scope::all(), until: None }
    }

    /// What `token` says of itself. Nobody has checked the signature.
    ///
    /// # Errors
    /// [`TokenError::Syntax`].
    pub fn unverified(token: &str) -> Result<Self, TokenError> {
        Ok(Parts::split(token)?.claims()?.grant())
    }
}

/// The payload, in the words of moq-token.
#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    root: String,
    #[serde(default, skip_serializing_if = "Paths::is_empty")]
    put: Paths,
    #[serde(default, skip_serializing_if = "Paths::is_empty")]
    get: Paths,
    exp: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
}

/// moq-token takes one path without its list.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Paths {
    One(String),
    Many(Vec<String>),
}

impl Default for Paths {
    fn default() -> Self {
        Self::Many(vec![])
    }
}

impl Paths {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }

    fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

impl Claims {
    fn grant(&self) -> Grant {
        let until = self.exp.map(|s| UNIX_EPOCH.checked_add(Duration::from_secs(s)));
        Grant {
            publish: Scope::from_paths(&self.root, self.put.as_slice()),
            view: Scope::from_paths(&self.root, self.get.as_slice()),
            // Beyond the end of the clock is no end.
            until: until.flatten(),
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// The three parts of a token.
struct Parts<'a> {
    /// What is signed: header and claims, still encoded.
    signed: &'a str,
    header: Vec<u8>,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Syntax);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Syntax)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Syntax)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Syntax);
        Ok(Self { signed, header: decode(header)?, claims: decode(claims)?, signature: decode(signature)? })
    }

    fn claims(&self) -> Result<Claims, TokenError> {
        serde_json::from_slice(&self.claims).map_err(|_| TokenError::Syntax)
    }
}

/// A JSON Web Key with a secret (RFC 7518, section 6.4), as moq-token writes it.
#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    alg: String,
    key_ops: Vec<String>,
    k: String,
}

/// One key, or a set of them (RFC 7517, section 5).
#[derive(Deserialize)]
#[serde(untagged)]
enum KeyFile {
    Set { keys: Vec<Jwk> },
    One(Jwk),
}

/// The text of a new key file, with a secret drawn by the operating system.
///
/// # Errors
/// [`TokenError::Key`] if the system gives no random numbers.
pub fn generate() -> Result<String, TokenError> {
    let none = |_| TokenError::Key("the system gives no random numbers".into());
    let secret: [u8; 32] = rand::generate(&rand::SystemRandom::new()).map_err(none)?.expose();
    let jwk = Jwk {
        kty: "oct".into(),
        alg: "HS256".into(),
        key_ops: vec!["sign".into(), "verify".into()],
        k: URL_SAFE_NO_PAD.encode(secret),
    };
    serde_json::to_string(&jwk).map_err(|e| TokenError::Key(e.to_string()))
}

/// The keys of a key file. The first one signs; every one verifies, so that a key can be replaced in two steps.
pub struct Keys(Vec<hmac::Key>);

impl Keys {
    /// Reads what [`generate`] or moq-token wrote: a JSON Web Key, alone or in a set, with or without base64url
    /// around it.
    ///
    /// # Errors
    /// [`TokenError::Key`]; it never tells what is in the file.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let bad = |reason: &str| TokenError::Key(reason.to_owned());
        if text.len() > KEY_FILE_BYTES_MAX {
            return Err(bad("too large"));
        }
        let text = text.trim();
        let json = match text.starts_with('{') {
            true => text.as_bytes().to_vec(),
            false => URL_SAFE_NO_PAD.decode(text).map_err(|_| bad("neither JSON nor base64url"))?,
        };
        let jwks = match serde_json::from_slice(&json).map_err(|_| bad("no JSON Web Key with a secret"))? {
            KeyFile::Set { keys } => keys,
            KeyFile::One(key) => vec![key],
        };
        if !(1..=KEYS_MAX).contains(&jwks.len()) {
            return Err(bad("it must hold 1 to 16 keys"));
        }
        let key = |jwk: &Jwk| {
            if (jwk.kty.as_str(), jwk.alg.as_str()) != ("oct", "HS256") {
                return Err(bad("only keys of type oct for HS256 are taken"));
            }
            let secret = URL_SAFE_NO_PAD.decode(&jwk.k).map_err(|_| bad("the secret is not base64url"))?;
            if secret.len() < SECRET_BYTES_MIN {
                return Err(bad("the secret is shorter than 32 bytes"));
            }
            Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
        };
        Ok(Self(jwks.iter().map(key).collect::<Result<_, _>>()?))
    }

    /// A token with this grant, which must have an end.
    ///
    /// # Errors
    /// [`TokenError::Endless`] and [`TokenError::Nothing`].
    pub fn sign(&self, grant: &Grant, now: SystemTime) -> Result<String, TokenError> {
        let until = grant.until.ok_or(TokenError::Endless)?;
        if grant.publish.is_empty() && grant.view.is_empty() {
            return Err(TokenError::Nothing);
        }
        let claims = Claims {
            root: String::new(),
            put: Paths::Many(grant.publish.paths()),
            get: Paths::Many(grant.view.paths()),
            exp: Some(unix_s(until)),
            iat: Some(unix_s(now)),
            nbf: None,
        };
        let claims = serde_json::to_vec(&claims).map_err(|_| TokenError::Syntax)?;
        let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = hmac::sign(&self.0[0], signed.as_bytes());
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What `token` grants at `now`.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Grant, TokenError> {
        let parts = Parts::split(token)?;
        let header: Header = serde_json::from_slice(&parts.header).map_err(|_| TokenError::Syntax)?;
        if header.alg != "HS256" {
            return Err(TokenError::Algorithm(header.alg.chars().take(16).collect()));
        }
        // In constant time, before anything of the claims is read.
        let signed = |key| hmac::verify(key, parts.signed.as_bytes(), &parts.signature).is_ok();
        if !self.0.iter().any(signed) {
            return Err(TokenError::Signature);
        }
        let claims = parts.claims()?;
        let now = unix_s(now);
        match claims.exp {
            None => return Err(TokenError::Endless),
            Some(exp) if exp <= now => return Err(TokenError::Expired { ago_s: now - exp }),
            Some(_) => {}
        }
        if claims.nbf.is_some_and(|from| from > now) {
            return Err(TokenError::Early);
        }
        let grant = claims.grant();
        if grant.publish.is_empty() && grant.view.is_empty() {
            return Err(TokenError::Nothing);
        }
        Ok(grant)
    }
}

fn unix_s(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(s: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(s)
    }

    fn names(names: &[&str]) -> Scope {
        Scope::new(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn grant(publish: &[&str], view: &[&str]) -> Grant {
        Grant { publish: names(publish), view: names(view), until: Some(at(1_000) + DAY) }
    }

    /// A token with any header and claims, signed as `keys` sign.
    fn forge(keys: &Keys, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = hmac::sign(&keys.0[0], signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn the_example_of_rfc_7515_verifies() {
        // Appendix A.1: the key, and a token that is signed with it and grants nothing that we know.
        let k = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = format!(r#"{{"kty":"oct","alg":"HS256","key_ops":["verify"],"k":"{k}"}}"#);
        let keys = Keys::parse(&key).unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
            eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
            dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(keys.verify(token, at(1_300_819_379)), Err(TokenError::Nothing));
        assert_eq!(keys.verify(token, at(1_300_819_390)), Err(TokenError::Expired { ago_s: 10 }));
        let other = Keys::parse(&generate().unwrap()).unwrap();
        assert_eq!(other.verify(token, at(0)), Err(TokenError::Signature));
    }

    #[test]
    fn a_token_grants_what_was_signed_until_it_expires() {
        let keys = Keys::parse(&generate().unwrap()).unwrap();
        let granted = grant(&["cam"], &["lobby-*", "door"]);
        let token = keys.sign(&granted, at(1_000)).unwrap();
        assert_eq!(keys.verify(&token, at(1_001)), Ok(granted.clone()));
        assert_eq!(Grant::unverified(&token), Ok(granted.clone()));
        assert!(
            granted.view.covers("lobby-1") && granted.view.covers("door") && granted.publish.covers("cam")
        );
        for other in ["cam", "lobby", "doors", ""] {
            assert!(!granted.view.covers(other), "{other}");
        }
        let end = at(1_000) + DAY;
        assert_eq!(keys.verify(&token, end), Err(TokenError::Expired { ago_s: 0 }));
        // Any change of any character is found.
        for i in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(keys.verify(&changed, at(1_001)).is_err(), "character {i}");
        }
        let endless = Grant { until: None, ..granted };
        assert_eq!(keys.sign(&endless, at(0)), Err(TokenError::Endless));
        assert_eq!(keys.sign(&grant(&[], &[]), at(0)), Err(TokenError::Nothing));
    }

    #[test]
    fn the_next_key_verifies_beside_the_last() {
        let (old, new) = (generate().unwrap(), generate().unwrap());
        let both = Keys::parse(&format!(r#"{{"keys":[{new},{old}]}}"#)).unwrap();
        let wrapped = Keys::parse(&URL_SAFE_NO_PAD.encode(&old)).unwrap();
        let token = wrapped.sign(&grant(&["cam"], &[]), at(0)).unwrap();
        assert!(both.verify(&token, at(1)).is_ok());
        assert_eq!(Keys::parse(&new).unwrap().verify(&token, at(1)), Err(TokenError::Signature));
    }

    #[test]
    fn claims_of_moq_token_are_read_as_it_means_them() {
        let keys = Keys::parse(&generate().unwrap()).unwrap();
        let read = |claims: &str| {
            keys.verify(&forge(&keys, r#"{"typ":"JWT","alg":"HS256","kid":"a"}"#, claims), at(5))
        };
        let all = read(r#"{"put":"","get":["a","b"],"exp":9,"iat":1}"#).unwrap();
        assert!(all.publish.covers("anything") && all.view.covers("b") && !all.view.covers("c"));
        let rooted = read(r#"{"root":"/cam","put":[""],"get":["deep"],"exp":9}"#).unwrap();
        assert!(rooted.publish.covers("cam") && !rooted.publish.covers("door"));
        assert!(!rooted.view.covers("cam") && !rooted.view.covers("deep"));
        assert_eq!(read(r#"{"put":["a"]}"#), Err(TokenError::Endless));
        assert_eq!(read(r#"{"put":["a"],"exp":9,"nbf":8}"#), Err(TokenError::Early));
        assert_eq!(read(r#"{"exp":9}"#), Err(TokenError::Nothing));
        assert_eq!(read("[]"), Err(TokenError::Syntax));
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"hs256"}"#] {
            let token = forge(&keys, header, r#"{"put":["a"],"exp":9}"#);
            assert!(matches!(keys.verify(&token, at(5)), Err(TokenError::Algorithm(_))), "{header}");
        }
        for bad in ["", ".", "..", "a.b", "a.b.c", "....", &"A".repeat(5000)] {
            assert!(keys.verify(bad, at(5)).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_keys_are_named_and_secrets_are_not_told() {
        let short = format!(r#"{{"kty":"oct","alg":"HS256","key_ops":[],"k":"{}"}}"#, "QUJD");
        let other = r#"{"kty":"OKP","alg":"EdDSA","key_ops":[],"k":"QUJD"}"#;
        for bad in ["", "{}", "nonsense!", &short, other, r#"{"keys":[]}"#, r#"{"k":"SECRET"}"#] {
            let error = Keys::parse(bad).err().unwrap().to_string();
            assert!(error.contains("not a key file") && !error.contains("SECRET"), "{bad}: {error}");
        }
    }
}
