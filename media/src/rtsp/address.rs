//! Where a camera is, with its secrets kept apart.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// A user and a password. Neither is ever printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// A camera's address. What is printed of it is `rtsp://HOST:PORT/PATH`: no user, no password, and no query, in which
/// some cameras want them.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Without credentials.
    url: Url,
    /// Who we are there.
    pub credentials: Option<Credentials>,
}

/// Why a text is no camera's address. The text itself is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not a URL.
    #[error("not an address; write rtsp://USER:PASSWORD@HOST:PORT/PATH")]
    Syntax,
    /// RTSP over TLS.
    #[error("rtsps is not supported; use rtsp:// in a network that you trust")]
    Tls,
    /// Another scheme, or no host.
    #[error("not a camera's address; it begins with rtsp:// and has a host")]
    Scheme,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut url = Url::parse(text).map_err(|_| AddressError::Syntax)?;
        match url.scheme() {
            "rtsp" if url.has_host() => {}
            "rtsps" | "rtspt" => return Err(AddressError::Tls),
            _ => return Err(AddressError::Scheme),
        }
        let plain = |text: &str| percent_decoded(text).ok_or(AddressError::Syntax);
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                Some(Credentials { user: plain(user)?, password: plain(password.unwrap_or_default())? })
            }
        };
        url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| AddressError::Scheme)?;
        url.set_fragment(None);
        Ok(Self { url, credentials })
    }
}

impl Address {
    /// The URL that is asked for, without credentials; its query may hold some.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.url.clone();
        shown.set_query(None);
        shown.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// `%41` is `A`. None if what comes out is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).filter(|code| *first == b'%' && code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_off_and_never_shown() {
        let address: Address =
            "rtsp://ad%6Din:s%40cr:et@10.0.0.7:8554/Streaming/101?user=x&pw=hidden#a".parse().unwrap();
        let credentials = address.credentials.clone().unwrap();
        assert_eq!((&*credentials.user, &*credentials.password), ("admin", "s@cr:et"));
        assert_eq!(address.url().as_str(), "rtsp://10.0.0.7:8554/Streaming/101?user=x&pw=hidden");
        assert_eq!(address.to_string(), "rtsp://10.0.0.7:8554/Streaming/101");
        let shown = format!("{address} {address:?} {credentials:?}");
        for secret in ["admin", "ad%", "cr", "hidden", "user"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let open: Address = "rtsp://[::1]/a".parse().unwrap();
        assert_eq!((open.to_string().as_str(), open.credentials), ("rtsp://[::1]/a", None));
    }

    #[test]
    fn what_is_no_camera_is_refused_without_repeating_it() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        assert_eq!(error("rtsps://admin:secret@cam/1"), AddressError::Tls);
        assert_eq!(error("http://admin:secret@cam/1"), AddressError::Scheme);
        for text in ["rtsp://admin:secret@", "rtsp:///path", "rtsp:path", "secret", ""] {
            let shown = error(text).to_string();
            assert!(!shown.contains("secret") && shown.contains("rtsp://"), "{text}: {shown}");
        }
        assert_eq!(error("rtsp://%ff@cam/1"), AddressError::Syntax);
    }

    #[test]
    fn percent_signs_that_code_nothing_stay() {
        assert_eq!(percent_decoded("100%").as_deref(), Some("100%"));
        assert_eq!(percent_decoded("%4").as_deref(), Some("%4"));
        assert_eq!(percent_decoded("%zz%20").as_deref(), Some("%zz "));
        assert_eq!(percent_decoded("%+1").as_deref(), Some("%+1"));
    }
}
