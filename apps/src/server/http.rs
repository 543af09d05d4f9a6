//! A few pages over HTTP/1.1: for those who watch the server, and for relays that ask about tokens. One request a
//! connection.
//!
//! An HTTP library would be ten times what is needed here, and nothing else in the server speaks HTTP/1.1.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
/// How often the log says that requests were dropped.
const LOG_EVERY: Duration = Duration::from_secs(60);

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
    /// One of those that [HTTP calls](https://www.rfc-editor.org/rfc/rfc9110#name-status-codes) so, such as 200 or 404.
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
        Self::bind_with(addr, REQUEST_TIME_MAX, page).await
    }

    async fn bind_with(
        addr: SocketAddr,
        request_time_max: Duration,
        page: impl Fn(Request<'_>) -> Page + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(addr).await.with_context(|| format!("cannot bind TCP {addr}"))?;
        let local_addr = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, request_time_max, Arc::new(page)));
        Ok(Self { local_addr, _accepting: accepting })
    }
}

async fn accept(listener: TcpListener, request_time_max: Duration, page: Arc<Pages>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let dropped = Arc::new(Mutex::new(Dropped::default()));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let (page, dropped) = (page.clone(), dropped.clone());
                connections.spawn(async move {
                    // Whoever is slow gets no more; whoever is gone wants none.
                    if tokio::time::timeout(request_time_max, answer(stream, page.as_ref())).await.is_err() {
                        dropped.lock().unwrap_or_else(PoisonError::into_inner).slow(from, Instant::now());
                    }
                    drop(place);
                });
            }
            // Out of file descriptors, most likely: they come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Requests that took too long, told of now and then: whoever makes them must not fill the log, too.
#[derive(Debug, Default)]
struct Dropped {
    since: u64,
    told: Option<Instant>,
}

impl Dropped {
    /// One more. Gives how many there were since the last line, if it is time for one.
    fn slow(&mut self, from: SocketAddr, now: Instant) -> Option<u64> {
        self.since += 1;
        if self.told.is_some_and(|told| now.duration_since(told) < LOG_EVERY) {
            return None;
        }
        self.told = Some(now);
        let requests = std::mem::take(&mut self.since);
        tracing::warn!(requests, %from, reason = "too slow", "HTTP requests dropped");
        Some(requests)
    }
}

async fn answer(mut stream: TcpStream, page: &Pages) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    let (page, with_body) = loop {
        match hear(&bytes) {
            Heard::Part => {}
            Heard::Whole { request, with_body } => break (page(request), with_body),
            Heard::Bad(page) => break (page, true),
        }
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&buffer[..read]);
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

/// What the bytes of a connection are so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A part of a request.
    Part,
    /// All of it.
    Whole {
        /// The question.
        request: Request<'a>,
        /// Whether the answer is to have its body: not after `HEAD`.
        with_body: bool,
    },
    /// No request that is answered here, and what is said instead.
    Bad(Page),
}

/// Reads a request. More bytes than it has change nothing.
pub fn hear(bytes: &[u8]) -> Heard<'_> {
    let bad = |status, body: &str| Heard::Bad(Page { status, body: body.into() });
    let ends = bytes[..bytes.len().min(HEAD_BYTES_MAX)].windows(4).position(|end| end == b"\r\n\r\n");
    let Some(head) = ends.map(|end| end + 4) else {
        return if bytes.len() > HEAD_BYTES_MAX { bad(431, "too long\n") } else { Heard::Part };
    };
    let Some((method, path)) = request(&bytes[..head]) else { return bad(400, "no HTTP\n") };
    let Some(length) = body_length(&bytes[..head]) else { return bad(413, "too long\n") };
    let Some(body) = bytes[head..].get(..length) else { return Heard::Part };
    let with_body = method != "HEAD";
    let method = if with_body { method } else { "GET" };
    Heard::Whole { request: Request { method, path, body }, with_body }
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
fn request(head: &[u8]) -> Option<(&str, &str)> {
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
        431 => "Request Header Fields Too Large",
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
        let endless = ask(addr, &"x".repeat(HEAD_BYTES_MAX + 1)).await;
        assert!(endless.starts_with("HTTP/1.1 431 "), "{endless}");
    }

    #[tokio::test]
    async fn those_who_say_half_of_it_are_ended_and_make_room() {
        const TIME_MAX: Duration = Duration::from_millis(300);
        let page = |_: Request<'_>| Page { status: 200, body: "hone 1\n".into() };
        let http = Http::bind_with(([127, 0, 0, 1], 0).into(), TIME_MAX, page).await.unwrap();
        let addr = http.local_addr;
        let begun = Instant::now();
        // More than there is room for, twice over.
        let mut silent = Vec::new();
        for _ in 0..2 * CONNECTIONS_MAX + 1 {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(b"GET /me").await.unwrap();
            silent.push(stream);
        }
        let good = tokio::time::timeout(REQUEST_TIME_MAX, ask(addr, "GET / HTTP/1.1\r\n\r\n")).await;
        let good = good.expect("nobody makes room");
        assert!(good.ends_with("\r\n\r\nhone 1\n"), "{good}");
        // It had to wait for two rounds of them.
        assert!(begun.elapsed() >= 2 * TIME_MAX, "{:?}", begun.elapsed());
        for stream in &mut silent {
            // An end or a reset, and nothing before it.
            assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
        }
    }

    #[test]
    fn the_log_says_it_once_in_a_while() {
        let (mut dropped, from) = (Dropped::default(), ([127, 0, 0, 1], 1).into());
        let now = Instant::now();
        assert_eq!(dropped.slow(from, now), Some(1));
        for i in 0..1000 {
            assert_eq!(dropped.slow(from, now + LOG_EVERY * i / 1001), None);
        }
        assert_eq!(dropped.slow(from, now + LOG_EVERY), Some(1001));
    }
}
