//! A few pages over HTTP/1.1 for those who watch the server: nothing but GET, one request a connection.
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
/// What one request may take, from the first byte to the last of the answer.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections at a time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 16;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// 200, 404, 503.
    pub status: u16,
    /// Plain text.
    pub body: String,
}

/// Listens until it is dropped.
pub struct Http {
    /// The address that it listens on.
    pub local_addr: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Http {
    /// Serves `page` of each path.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub async fn bind(addr: SocketAddr, page: impl Fn(&str) -> Page + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind(addr).await.with_context(|| format!("cannot bind TCP {addr}"))?;
        let local_addr = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(page)));
        Ok(Self { local_addr, _accepting: accepting })
    }
}

async fn accept(listener: TcpListener, page: Arc<dyn Fn(&str) -> Page + Send + Sync>) {
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

async fn answer(mut stream: TcpStream, page: &(dyn Fn(&str) -> Page + Send + Sync)) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).await?;
        if read == 0 || head.len() + read > HEAD_BYTES_MAX {
            return Ok(());
        }
        head.extend_from_slice(&buffer[..read]);
    }
    let (page, with_body) = match request(&head) {
        Some(("GET", path)) => (page(path), true),
        Some(("HEAD", path)) => (page(path), false),
        Some(_) => (Page { status: 405, body: "only GET\n".into() }, true),
        None => (Page { status: 400, body: "no HTTP\n".into() }, true),
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
        404 => "Not Found",
        405 => "Method Not Allowed",
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
        let page = |path: &str| match path {
            "/metrics" => Page { status: 200, body: "hone 1\n".into() },
            _ => Page { status: 404, body: "no such page\n".into() },
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
        for (text, status) in [
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
