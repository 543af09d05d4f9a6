//! Who may do what on a `moq-relay`: the answers to the questions that it asks at its `--auth-url`.
//!
//! The questions are those of the crate `moq-auth` 0.2: a JSON object for each session that begins, is looked at again,
//! and ends. The answer to the first two is what the session may publish and subscribe to, below the path that it dialled.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hone_transport::token::{Keys, Scope};
use serde::{Deserialize, Serialize};

use crate::server::http::{Http, Page, Request};
use crate::server::stopped;

/// How soon a relay asks again: so long a session outlives its key, s.
const REVALIDATE_S: u64 = 60;

/// What is used of a question.
#[derive(Deserialize)]
struct Question {
    /// `connect`, `revalidate` or `end`.
    event: String,
    /// As it was dialled.
    path: String,
    /// Of the address, without `?`.
    #[serde(default)]
    query: Option<String>,
}

/// What a session may do. A pattern `a/**` is all that is below `a`.
#[derive(Debug, PartialEq, Serialize)]
struct Answer {
    publish: Vec<String>,
    subscribe: Vec<String>,
    /// Unix time, s.
    expires: u64,
    revalidate: u64,
}

/// Answers until `stop` is set.
pub(super) async fn run(key: &Path, listen: SocketAddr, stop: &AtomicBool) -> Result<()> {
    read(key)?;
    let file = key.to_owned();
    let http = Http::bind(listen, move |asked| page(asked, || read(&file), SystemTime::now())).await?;
    println!("answering on http://{}/", http.local_addr);
    stopped(stop).await;
    Ok(())
}

fn read(key: &Path) -> Result<Keys> {
    let what = || format!("cannot use key file {}", key.display());
    Keys::parse(&std::fs::read_to_string(key).with_context(what)?).with_context(what)
}

/// Answers a relay's question. `keys` are read for each: they may have been replaced.
pub fn page(asked: Request<'_>, keys: impl FnOnce() -> Result<Keys>, now: SystemTime) -> Page {
    let refuse = |status, body: String| Page { status, body: body + "\n" };
    if asked.method != "POST" {
        return refuse(405, "relays ask with POST".into());
    }
    let Ok(question) = serde_json::from_slice::<Question>(asked.body) else {
        return refuse(400, "no question of a relay".into());
    };
    if question.event == "end" {
        return Page { status: 200, body: String::new() };
    }
    let keys = match keys() {
        Ok(keys) => keys,
        Err(error) => {
            tracing::error!("{error:#}");
            return refuse(503, "no keys".into());
        }
    };
    match answer(&question, &keys, now) {
        Ok(answer) => Page { status: 200, body: serde_json::to_string(&answer).unwrap_or_default() },
        Err(reason) => {
            tracing::warn!(path = question.path, reason, "refused");
            refuse(403, reason)
        }
    }
}

fn answer(question: &Question, keys: &Keys, now: SystemTime) -> Result<Answer, String> {
    let pairs = question.query.as_deref().unwrap_or_default().split('&');
    let token = pairs.filter_map(|pair| pair.strip_prefix("jwt=")).rfind(|token| !token.is_empty());
    let grant = keys.verify(token.ok_or("no token")?, now).map_err(|error| error.to_string())?;
    let patterns = |scope: &Scope| -> Vec<String> {
        let pattern = |name| if name == "*" { "**".to_owned() } else { format!("{name}/**") };
        scope.below(&question.path).names().map(pattern).collect()
    };
    let (publish, subscribe) = (patterns(&grant.publish), patterns(&grant.view));
    if publish.is_empty() && subscribe.is_empty() {
        return Err(format!("its token is for other paths than {}", question.path));
    }
    // Every token that verifies has an end.
    let until = grant.until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
    let expires = until.ok_or("it never expires")?.as_secs();
    Ok(Answer { publish, subscribe, expires, revalidate: REVALIDATE_S })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hone_transport::token::{Grant, generate};

    use super::*;

    fn token(keys: &Keys, publish: &[&str], view: &[&str], until: SystemTime) -> String {
        let scope =
            |names: &[&str]| Scope::new(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let grant =
            Grant { publish: scope(publish).unwrap(), view: scope(view).unwrap(), until: Some(until) };
        keys.sign(&grant, SystemTime::now()).unwrap()
    }

    fn ask(path: &str, query: Option<String>, event: &str) -> String {
        serde_json::json!({ "id": "0", "event": event, "node": "a", "transport": "quic", "path": path, "query": query })
            .to_string()
    }

    #[test]
    fn a_session_may_do_what_its_token_says_of_the_path_that_it_dialled() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token.key");
        let text = generate().unwrap();
        std::fs::write(&file, &text).unwrap();
        let keys = Keys::parse(&text).unwrap();
        let end = UNIX_EPOCH + Duration::from_secs(4_102_444_800);
        let asked = |method, body: &str| {
            let request = Request { method, path: "/", body: body.as_bytes() };
            page(request, || read(&file), SystemTime::now())
        };
        let post = |body: &str| asked("POST", body);
        let granted = |path: &str, token: &str| {
            let page = post(&ask(path, Some(format!("x=1&jwt={token}")), "connect"));
            (page.status, page.body)
        };

        let server = token(&keys, &["live", "in"], &["in"], end);
        let whole = |publish: &str, subscribe: &str| {
            format!(r#"{{"publish":{publish},"subscribe":{subscribe},"expires":4102444800,"revalidate":60}}"#)
        };
        assert_eq!(granted("/live", &server), (200, whole(r#"["**"]"#, "[]")));
        assert_eq!(granted("/in/", &server), (200, whole(r#"["**"]"#, r#"["**"]"#)));
        assert_eq!(granted("/other", &server).0, 403);
        let viewer = token(&keys, &[], &["live/cam", "live/lobby-*"], end);
        assert_eq!(granted("/live", &viewer), (200, whole("[]", r#"["cam/**","lobby-*/**"]"#)));
        assert_eq!(granted("/in", &viewer).0, 403, "where patches are");
        assert_eq!(granted("/live", &(viewer.clone() + "A")).0, 403);
        let late = token(&keys, &[], &["live/cam"], SystemTime::now() - Duration::from_secs(1));
        assert_eq!(granted("/live", &late).0, 403);

        assert_eq!(post(&ask("/live", None, "connect")).status, 403);
        assert_eq!(post(&ask("/live", None, "end")).status, 200);
        assert_eq!(post("{}").status, 400);
        assert_eq!(asked("GET", "").status, 405);
        // Another key: whoever is looked at again is put out.
        std::fs::write(&file, generate().unwrap()).unwrap();
        assert_eq!(post(&ask("/live", Some(format!("jwt={viewer}")), "revalidate")).status, 403);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(granted("/live", &viewer).0, 503);
    }
}
