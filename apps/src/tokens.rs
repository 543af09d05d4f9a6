//! `hone token`: makes keys and tokens, and answers for them to relays.

pub mod serve;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use hone_transport::token::{self, Grant, Keys, Scope};

/// Shown below `hone token --help`.
pub const HELP: &str = "Examples:\n  \
    hone token key token.key\n  \
    hone token make --key token.key --publish cam --for 365d\n  \
    hone token make --key token.key --view 'lobby-*' --view door --for 12h\n  \
    hone token make --key token.key --view live/cam --for 12h        for a relay's path\n  \
    hone token serve --key token.key --listen 127.0.0.1:4440         moq-relay --auth-url http://127.0.0.1:4440/\n  \
    hone token show TOKEN";

/// What can be done.
#[derive(Subcommand)]
pub enum Command {
    /// Makes a key file; the server reads it, and who has it can make tokens.
    Key {
        /// The file, which must not exist.
        file: PathBuf,
    },
    /// Makes a token and prints it.
    Make(Make),
    /// Answers a moq-relay's questions about tokens, until it is stopped.
    Serve {
        /// The key file; it is read for each question.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// TCP address; the relay wants a loopback one.
        #[arg(long, value_name = "IP:PORT")]
        listen: SocketAddr,
    },
    /// Says what a token grants, without checking who signed it.
    Show {
        /// The token.
        token: String,
    },
}

/// What a token is to grant.
#[derive(Args)]
pub struct Make {
    /// The key file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A stream that may be published; `cam-*` is every name that begins so, `*` every name.
    #[arg(long, value_name = "STREAM", required_unless_present = "view")]
    publish: Vec<String>,
    /// A stream that may be viewed.
    #[arg(long, value_name = "STREAM")]
    view: Vec<String>,
    /// How long, such as 90s, 30m, 24h or 365d.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Duration,
}

/// Longest life of a token, days: ten years, and whoever needs more makes a new one.
const DAYS_MAX: u64 = 3650;

fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no time: a number and s, m, h or d, such as 24h, at most {DAYS_MAX}d");
    let split = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(split).ok_or_else(bad)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_s)).ok_or_else(bad)?;
    match (1..=DAYS_MAX * 86_400).contains(&seconds) {
        true => Ok(Duration::from_secs(seconds)),
        false => Err(bad()),
    }
}

/// Does it; what goes on ends when `stop` is set.
///
/// # Errors
/// If a file cannot be used, or the token makes no sense.
pub async fn run(command: Command, stop: &AtomicBool) -> Result<()> {
    match command {
        Command::Key { file } => make_key(&file),
        Command::Make(make) => {
            println!("{}", make.token(SystemTime::now())?);
            Ok(())
        }
        Command::Serve { key, listen } => serve::run(&key, listen, stop).await,
        Command::Show { token } => {
            let grant = Grant::unverified(token.trim())?;
            let names = |scope: &Scope| match scope.is_empty() {
                true => "nothing".to_owned(),
                false => scope.names().collect::<Vec<_>>().join(" "),
            };
            println!("publish {}\nview    {}", names(&grant.publish), names(&grant.view));
            match grant.until.map(|until| until.duration_since(SystemTime::now())) {
                Some(Ok(left)) => println!("expires in {} s", left.as_secs()),
                Some(Err(ago)) => println!("expired {} s ago", ago.duration().as_secs()),
                None => println!("never expires, so no server of Hone takes it"),
            }
            Ok(())
        }
    }
}

/// Only its owner may read it, and an older key is never written over: every token of it would be void.
fn make_key(file: &std::path::Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let what = || format!("cannot make key file {}", file.display());
    let mut out = options.open(file).with_context(what)?;
    out.write_all(format!("{}\n", token::generate()?).as_bytes())
        .and_then(|()| out.sync_all())
        .with_context(what)
}

impl Make {
    fn token(&self, now: SystemTime) -> Result<String> {
        let what = || format!("cannot use key file {}", self.key.display());
        let keys = Keys::parse(&std::fs::read_to_string(&self.key).with_context(what)?).with_context(what)?;
        let until = now.checked_add(self.time);
        ensure!(until.is_some(), "--for: beyond the end of the clock");
        let grant = Grant { publish: Scope::new(&self.publish)?, view: Scope::new(&self.view)?, until };
        Ok(keys.sign(&grant, now)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_bad_ones_named() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("24h", 86_400), ("365d", 31_536_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "s", "h24", "24", "0h", "-1h", "1.5h", "9999d", "99999999999999999999d", "1é"] {
            assert!(duration(bad).unwrap_err().contains(bad), "{bad}");
        }
    }
}
