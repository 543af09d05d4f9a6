//! Settings, from the environment: a library that stands where the driver's does has no other way.

use hone_ptxsim::{Checks, Options, Schedule};

/// What the environment says.
#[derive(Debug)]
pub(crate) struct Settings {
    pub devices: i32,
    pub driver_version: i32,
    /// Compute capability as 80 for 8.0.
    pub sm: u32,
    pub memory_bytes: u64,
    pub options: Options,
    pub stats: Option<std::path::PathBuf>,
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| refuse(name, &text))
}

/// A setting that is not understood must not silently mean another: the process ends, as there is nobody to tell.
fn refuse(name: &str, text: &str) -> ! {
    eprintln!("ptxsim: {name}={text:?} is not understood");
    std::process::exit(2)
}

impl Settings {
    pub(crate) fn from_environment() -> Self {
        let mut options = Options {
            instructions_max: number("PTXSIM_INSTRUCTIONS_MAX", 1_000_000_000),
            ..Options::default()
        };
        if let Ok(text) = std::env::var("PTXSIM_SCHEDULE") {
            let (name, turn) = text.split_once('/').map_or((&*text, None), |(a, b)| (a, Some(b)));
            options.schedule = match name.split_once(':') {
                None if name == "forward" => Schedule::RoundRobin,
                None if name == "reverse" => Schedule::Reverse,
                Some(("random", seed)) => {
                    Schedule::Random(seed.parse().unwrap_or_else(|_| refuse("PTXSIM_SCHEDULE", &text)))
                }
                _ => refuse("PTXSIM_SCHEDULE", &text),
            };
            options.turn = turn.map(|turn| match turn.parse() {
                Ok(turn) if turn > 0 => turn,
                _ => refuse("PTXSIM_SCHEDULE", &text),
            });
        }
        if let Ok(text) = std::env::var("PTXSIM_CHECKS") {
            options.checks = Checks { races: false, uninitialised: false };
            for name in text.split(',').filter(|name| !name.is_empty()) {
                match name {
                    "races" => options.checks.races = true,
                    "uninitialised" => options.checks.uninitialised = true,
                    _ => refuse("PTXSIM_CHECKS", &text),
                }
            }
        }
        let sm = std::env::var("PTXSIM_DEVICE_SM").map_or(80, |text| {
            let digits = text.replace('.', "");
            digits
                .parse()
                .ok()
                .filter(|sm| (50..200).contains(sm))
                .unwrap_or_else(|| refuse("PTXSIM_DEVICE_SM", &text))
        });
        Self {
            devices: number("PTXSIM_DEVICES", 1),
            driver_version: number("PTXSIM_DRIVER_VERSION", 12000),
            sm,
            memory_bytes: number("PTXSIM_MEMORY_BYTES", 8 << 30),
            options,
            stats: std::env::var_os("PTXSIM_STATS").map(Into::into),
        }
    }

    /// The most dynamic and static shared memory that a block can opt in to, by compute capability (CUDA programming
    /// guide, technical specifications).
    pub(crate) fn shared_bytes_optin(&self) -> u32 {
        match self.sm {
            90.. => 227 * 1024,
            86 | 89 => 99 * 1024,
            80 | 87 => 163 * 1024,
            75 => 64 * 1024,
            _ => 48 * 1024,
        }
    }

    /// Shared memory of a multiprocessor in bytes.
    pub(crate) fn shared_bytes_multiprocessor(&self) -> u32 {
        if self.sm == 75 { 64 * 1024 } else { self.shared_bytes_optin() + 1024 }
    }
}
