//! `hone top`: a server's figures, live in a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Shown below `hone top --help`.
pub const HELP: &str = "Examples:\n  \
    hone top http://127.0.0.1:9464\n  \
    hone top http://127.0.0.1:9464 --once\n\n\
    IN is video and patches of the sender, MODEL the updates for one viewer, OUT all that viewers got, kbit/s; SHARE \
    the part of the time that the training device works for the stream; LAG how far the learner is behind, ms; LOST \
    messages that the learner, and groups that slow viewers missed.";

/// What to show.
#[derive(clap::Args)]
pub struct Options {
    /// The server's HTTP address, `hone-server --http`.
    #[arg(value_name = "URL")]
    url: String,
    /// Print one table and end.
    #[arg(long)]
    once: bool,
    /// Time between two tables, over which rates are taken, ms.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    every_ms: u64,
}

/// Longest answer that is read, bytes: some kilobytes a stream.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// What one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// How often a stop is looked for.
const STOP_POLL: Duration = Duration::from_millis(20);

/// Shows tables until `stop` is set.
///
/// # Errors
/// If the server does not answer.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<()> {
    let mut before = fetch(&options.url)?;
    loop {
        let due = Instant::now() + Duration::from_millis(options.every_ms);
        while Instant::now() < due {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(STOP_POLL);
        }
        let now = fetch(&options.url)?;
        let table = table(&options.url, &before, &now);
        let mut out = std::io::stdout().lock();
        if !options.once && out.is_terminal() {
            // To the upper left; the rest of each line, and what is below, goes as the new text comes.
            write!(out, "\x1b[H{}\x1b[J", table.replace('\n', "\x1b[K\n"))?;
        } else {
            write!(out, "{table}")?;
        }
        out.flush()?;
        if options.once {
            return Ok(());
        }
        before = now;
    }
}

/// Figures at one time: name and labels as they were written, and the value.
struct Scrape {
    at: Instant,
    values: BTreeMap<String, f64>,
}

fn fetch(url: &str) -> Result<Scrape> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url}: write http://host:port"))?;
    let host = rest.split('/').next().unwrap_or_default();
    let what = || format!("{url} does not answer; is the server run with --http?");
    let addr = host.to_socket_addrs().with_context(what)?.next().with_context(what)?;
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER_TIME_MAX).with_context(what)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        .with_context(what)?;
    let at = Instant::now();
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(what)?;
    ensure!(bytes.len() as u64 <= ANSWER_BYTES_MAX, "{url}: an answer of more than {ANSWER_BYTES_MAX} bytes");
    let text = String::from_utf8_lossy(&bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("{url}: no answer of HTTP") };
    ensure!(head.starts_with("HTTP/1.1 200 "), "{url}: {}", plain(head.lines().next().unwrap_or_default()));
    let values = parse(body);
    ensure!(values.contains_key("hone_uptime_seconds"), "{url}: not the figures of a Hone server");
    Ok(Scrape { at, values })
}

/// The samples of a text in Prometheus' format. What is none is left out.
pub fn parse(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let split = samples.filter_map(|line| line.rsplit_once(' '));
    split.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

/// Text of somebody else's without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn table(url: &str, before: &Scrape, now: &Scrape) -> String {
    let value = |key: &str| now.values.get(key).copied();
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(1e-3);
    // A counter that fell has begun again.
    let rate = |key: &str| {
        let (then, now) = (before.values.get(key)?, value(key)?);
        Some((now - then).max(0.0) / seconds)
    };
    let mut out = String::new();
    let whole = |key: &str| value(key).unwrap_or(0.0);
    let refused: f64 =
        now.values.iter().filter(|(key, _)| key.starts_with("hone_sessions_refused")).map(|v| v.1).sum();
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "{}  up {} s, {} sessions, {} refused, {:.0} MB{}",
        plain(url),
        whole("hone_uptime_seconds"),
        whole("hone_sessions"),
        refused,
        whole("process_resident_memory_bytes") / 1e6,
        if whole("hone_draining") > 0.0 { ", draining" } else { "" }
    );
    let _ = writeln!(
        out,
        "{:<20} {:<8} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8} {:>6} {:>5} {:>7} {:>6}",
        "STREAM",
        "TRAINER",
        "VIEWERS",
        "GAIN dB",
        "VERSION",
        "IN",
        "MODEL",
        "OUT",
        "SHARE",
        "QUEUE",
        "LAG",
        "LOST"
    );
    for name in
        now.values.keys().filter_map(|key| key.strip_prefix("hone_viewers{stream=\"")?.strip_suffix("\"}"))
    {
        let of = |figure: &str| format!("{figure}{{stream=\"{name}\"}}");
        let track =
            |track: &str| rate(&format!("hone_track_bytes_total{{stream=\"{name}\",track=\"{track}\"}}"));
        let kbps = |bytes: Option<f64>| bytes.map_or("-".into(), |bytes| format!("{:.0}", bytes * 8.0 / 1e3));
        let states = ["starved", "training", "paused"];
        let state = states.into_iter().find(|state| {
            value(&format!("hone_trainer_state{{stream=\"{name}\",state=\"{state}\"}}")) == Some(1.0)
        });
        let input = track("video").zip(track("patches")).map(|(video, patches)| video + patches);
        let input = input.map(|pictures| pictures + track("audio").unwrap_or(0.0));
        let share = rate(&of("hone_training_seconds_total"));
        let _ = writeln!(
            out,
            "{:<20} {:<8} {:>7} {:>7.2} {:>8} {:>8} {:>8} {:>8} {:>6} {:>5} {:>7.0} {:>6}",
            plain(name),
            state.unwrap_or("-"),
            whole(&of("hone_viewers")),
            whole(&of("hone_gain_db")),
            whole(&of("hone_model_version")),
            kbps(input),
            kbps(track("model")),
            kbps(rate(&of("hone_sent_bytes_total"))),
            share.map_or("-".into(), |share| format!("{:.0}%", share * 100.0)),
            whole(&of("hone_learner_queue")),
            whole(&of("hone_learner_lag_seconds")) * 1e3,
            whole(&of("hone_learner_dropped_total")) + whole(&of("hone_skipped_groups_total")),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(at: Instant, text: &str) -> Scrape {
        Scrape { at, values: parse(text) }
    }

    #[test]
    fn rates_come_from_two_scrapes_and_strange_text_is_harmless() {
        let text = |video: u64, seconds: f64| {
            format!(
                "# HELP x y\nhone_uptime_seconds 9\nhone_sessions 3\nhone_sessions_refused_total{{reason=\"full\"}} 2\n\
                 hone_viewers{{stream=\"cam\"}} 2\nhone_gain_db{{stream=\"cam\"}} 0.31\n\
                 hone_track_bytes_total{{stream=\"cam\",track=\"video\"}} {video}\n\
                 hone_track_bytes_total{{stream=\"cam\",track=\"patches\"}} 0\n\
                 hone_trainer_state{{stream=\"cam\",state=\"training\"}} 1\n\
                 hone_training_seconds_total{{stream=\"cam\"}} {seconds}\n\
                 hone_viewers{{stream=\"evil\u{1b}[2J\"}} 1\nnonsense\n"
            )
        };
        let start = Instant::now();
        let before = scrape(start, &text(1_000, 1.0));
        let now = scrape(start + Duration::from_secs(2), &text(126_000, 2.0));
        let table = table("http://a", &before, &now);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].contains("up 9 s, 3 sessions, 2 refused"), "{table}");
        let cam: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(cam[..6], ["cam", "training", "2", "0.31", "0", "500"], "{table}");
        assert_eq!(cam[8], "50%", "{table}");
        assert!(lines[3].starts_with("evil[2J") && !table.contains('\u{1b}'), "{table:?}");
    }
}
