//! A few pages over HTTP/1.1: for those who watch the server, and for relays that ask about tokens. One request a
//! connection.
//!
//! An HTTP library would be ten times what is needed here, and nothing else in the server speaks HTTP/1.1.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Longest head of a request, bytes: scrapers send a few hundred.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Longest body of a request, bytes: a relay that asks about a token of a few kB sends little more.
const BODY_BYTES_MAX: usize = 16 << 10;
/// What one request may take, from the first byte to the last of the answer.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections at a time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 16;

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// `GET` for a `HEAD`, too.
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// Empty where there is none.
    pub body: &'a [u8],
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// 200, 403, 404, 503.
    pub status: u16,
    /// Plain text, or JSON.
    pub body: String,
}

/// What answers.
type Pages = dyn Fn(Request<'_>) -> Page + Send + Sync;

/// Listens until it is dropped.
pub struct Http {
    /// The address that it listens on.
    pub local_addr: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Http {
    /// Serves what `page` answers.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub async fn bind(
        addr: SocketAddr,
        page: impl Fn(Request<'_>) -> Page + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(addr).await.with_context(|| format!("cannot bind TCP {addr}"))?;
        let local_addr = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(page)));
        Ok(Self { local_addr, _accepting: accepting })
    }
}

async fn accept(listener: TcpListener, page: Arc<Pages>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let page = page.clone();
                connections.spawn(async move {
                    // Whoever is slow, or gone, gets no more.
                    let _ = tokio::time::timeout(REQUEST_TIME_MAX, answer(stream, page.as_ref())).await;
                    drop(place);
                });
            }
            // Out of file descriptors, most likely: they come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, page: &Pages) -> std::io::Result<()> {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    let head = loop {
        if let Some(end) = text.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        let read = stream.read(&mut buffer).await?;
        if read == 0 || text.len() + read > HEAD_BYTES_MAX {
            return Ok(());
        }
        text.extend_from_slice(&buffer[..read]);
    };
    let body = body_length(&text[..head]);
    while body.is_some_and(|body| text.len() < head + body) {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        text.extend_from_slice(&buffer[..read]);
    }
    let (page, with_body) = match (request(&text[..head]), body) {
        (Some((method, path)), Some(body)) => {
            let method = if method == "HEAD" { "GET" } else { method };
            let with_body = !text.starts_with(b"HEAD");
            (page(Request { method, path, body: &text[head..head + body] }), with_body)
        }
        (None, _) => (Page { status: 400, body: "no HTTP\n".into() }, true),
        (_, None) => (Page { status: 413, body: "too long\n".into() }, true),
    };
    let Page { status, body } = page;
    let length = body.len();
    let mut answer = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        reason(status)
    );
    if with_body {
        answer.push_str(&body);
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Bytes of the body that a head announces; `None` if they are too many, or not counted in a way that is known here.
fn body_length(head: &[u8]) -> Option<usize> {
    let lines = std::str::from_utf8(head).ok()?.split("\r\n").skip(1);
    let headers = lines.filter_map(|line| line.split_once(':'));
    let mut length = 0;
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok().filter(|length| *length <= BODY_BYTES_MAX)?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
    }
    Some(length)
}

/// Method and path of a request, without the query.
pub fn request(head: &[u8]) -> Option<(&str, &str)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let path = target.split('?').next()?;
    (version.starts_with("HTTP/1.") && path.starts_with('/') && words.next().is_none())
        .then_some((method, path))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        _ => "Service Unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(addr: SocketAddr, text: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A refusal may come as a reset.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn pages_are_served_and_nonsense_is_not() {
        let page = |asked: Request<'_>| match (asked.method, asked.path) {
            ("GET", "/metrics") => Page { status: 200, body: "hone 1\n".into() },
            ("POST", "/echo") => Page { status: 200, body: String::from_utf8_lossy(asked.body).into() },
            ("GET", _) => Page { status: 404, body: "no such page\n".into() },
            _ => Page { status: 405, body: "only GET\n".into() },
        };
        let http = Http::bind(([127, 0, 0, 1], 0).into(), page).await.unwrap();
        let addr = http.local_addr;
        // More of those who open and say nothing, or half of it, than there is room for: they wait, and are ended.
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX - 1 {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(b"GET /me").await.unwrap();
            silent.push(stream);
        }
        let good = ask(addr, "GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(good.starts_with("HTTP/1.1 200 OK\r\n") && good.ends_with("\r\n\r\nhone 1\n"), "{good}");
        let head = ask(addr, "HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert!(head.contains("Content-Length: 7\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let echo = ask(addr, "POST /echo HTTP/1.1\r\ncontent-length: 5\r\n\r\nabcdeXX").await;
        assert!(echo.ends_with("\r\n\r\nabcde"), "{echo}");
        let long = format!("POST /echo HTTP/1.1\r\nContent-Length: {}\r\n\r\n", BODY_BYTES_MAX + 1);
        for (text, status) in [
            (&*long, "413"),
            ("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "413"),
            ("POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "413"),
            ("GET /other HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("GET\r\n\r\n", "400"),
            ("\r\n\r\n", "400"),
            ("GET http://a/ HTTP/1.1\r\n\r\n", "400"),
        ] {
            let answer = ask(addr, text).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{text:?}: {answer}");
        }
        assert_eq!(ask(addr, &"x".repeat(HEAD_BYTES_MAX + 1)).await, "");
        drop(silent);
    }
}
