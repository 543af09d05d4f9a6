//! Sweeps: clips x rates x scales x options, a cell at a time, each kept as a line of a results file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use hone_transport::hex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ffmpeg::Ffmpeg;
use super::report::SCHEMA;
use super::run::run;
use super::settings::Settings;
use super::table;
use crate::auto_scale::Scale;
use crate::{cli, clip};

/// Cells of a sweep: at a minute each, a week.
const CELLS_MAX: usize = 10_000;
/// Bytes of a results file: a line is some kilobytes.
const RESULTS_MAX: u64 = 1 << 30;
/// Name of the bundled clip in a sweep's file.
const BUNDLED: &str = "bundled";

/// A sweep's file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    /// MP4 files, seen from the sweep's file; `bundled` for the bundled clip.
    clips: Vec<String>,
    /// Uplinks, kbit/s.
    total_kbps: Vec<f64>,
    /// Scales.
    scale: Vec<Scale>,
    /// What all cells have, by the names of the command line with `_` for `-`.
    #[serde(default)]
    settings: toml::Table,
    /// What some cells have; each with a `name`.
    #[serde(default)]
    options: Vec<toml::Table>,
}

/// One run of a sweep.
pub struct Cell {
    /// Its line's key: a hash of all that its result depends on.
    key: String,
    /// The clip's file; none for the bundled one.
    input: Option<PathBuf>,
    /// Name of its options.
    pub option: String,
    settings: Settings,
}

impl Cell {
    /// Name of the clip.
    pub fn clip(&self) -> String {
        clip::name(self.input.as_deref())
    }

    /// The uplink, kbit/s.
    pub fn kbps(&self) -> f64 {
        self.settings.total_kbps.unwrap_or(0.0)
    }

    /// The scale that was asked for.
    pub fn scale(&self) -> Scale {
        self.settings.scale
    }
}

/// One line of results.
#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    option: String,
    report: Value,
}

impl Matrix {
    /// All cells; clips change slowest, so that a sweep that is stopped has whole clips.
    fn cells(&self, path: &Path, build: &str, ffmpeg: Option<&Ffmpeg>) -> Result<Vec<Cell>> {
        for (name, empty) in [
            ("clips", self.clips.is_empty()),
            ("total_kbps", self.total_kbps.is_empty()),
            ("scale", self.scale.is_empty()),
        ] {
            ensure!(!empty, "`{name}` is empty");
        }
        let plain = [toml::Table::new()];
        let options = if self.options.is_empty() { &plain[..] } else { &self.options };
        let count = self.clips.len() * self.total_kbps.len() * self.scale.len() * options.len();
        ensure!(count <= CELLS_MAX, "{count} cells, at most {CELLS_MAX} are allowed");
        let mut cells = vec![];
        for name in &self.clips {
            let input = (name != BUNDLED).then(|| path.parent().unwrap_or(Path::new("")).join(name));
            let bytes = clip::bytes(input.as_deref()).with_context(|| format!("cannot read clip {name}"))?;
            let clip_hash = hash(&bytes);
            for option in options {
                for (&kbps, &scale) in
                    self.total_kbps.iter().flat_map(|k| self.scale.iter().map(move |s| (k, s)))
                {
                    let (option, settings) = self.settings(option, kbps, scale)?;
                    let trace = settings
                        .trace
                        .as_ref()
                        .map(std::fs::read)
                        .transpose()
                        .context("cannot read the trace")?;
                    let depends = json!({
                        "schema": SCHEMA, "build": build, "clip": clip_hash, "settings": settings,
                        "trace": trace.map(hash),
                        "ffmpeg": ffmpeg.map(|ffmpeg| &ffmpeg.version),
                    });
                    let key = hash(depends.to_string())[..16].to_owned();
                    cells.push(Cell { key, input: input.clone(), option, settings });
                }
            }
        }
        Ok(cells)
    }

    fn settings(&self, option: &toml::Table, kbps: f64, scale: Scale) -> Result<(String, Settings)> {
        let mut option = option.clone();
        let name = match option.remove("name") {
            None => "default".to_owned(),
            Some(toml::Value::String(name)) => name,
            Some(other) => bail!("options: name = {other} is no text"),
        };
        let mut all = self.settings.clone();
        all.extend(option);
        let settings: Settings = all
            .try_into()
            .map_err(|error: toml::de::Error| anyhow::anyhow!("{name}: {}", error.message()))?;
        let given = [settings.total_kbps.is_some(), settings.video_kbps.is_some(), settings.trace.is_some()];
        ensure!(given == [false; 3], "{name}: the rate of a cell comes from `total_kbps` at the top");
        let settings = Settings { total_kbps: Some(kbps), scale, ..settings };
        settings.check().with_context(|| name.clone())?;
        Ok((name, settings))
    }
}

fn hash(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes).into())
}

/// Runs the cells of a sweep that are not done, and prints its tables.
///
/// # Errors
/// What is wrong with a file; a cell that fails is told at the end, after all others.
pub(super) fn run_all(
    path: &Path,
    results: &Path,
    build: Option<String>,
    ffmpeg: Option<&Ffmpeg>,
    stop: &AtomicBool,
) -> Result<()> {
    let matrix: Matrix = cli::settings(Some(path))?;
    let build = match build {
        Some(build) => build,
        None => {
            let program =
                std::env::current_exe().and_then(std::fs::read).context("cannot read this program")?;
            hash(program)
        }
    };
    let cells = matrix.cells(path, &build, ffmpeg).with_context(|| path.display().to_string())?;
    let (mut file, mut done) = read(results)?;
    let (start, mut ran, mut failed) = (Instant::now(), 0, vec![]);
    let todo = cells.iter().filter(|cell| !done.contains_key(&cell.key)).count();
    eprintln!("{} of {} cells are done in {}", cells.len() - todo, cells.len(), results.display());
    for cell in &cells {
        if done.contains_key(&cell.key) {
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let what = format!("{} {} kbit/s scale {} {}", cell.clip(), cell.kbps(), cell.scale(), cell.option);
        let left = match ran {
            0 => String::new(),
            _ => format!(
                ", about {:.0} min left",
                start.elapsed().as_secs_f64() / f64::from(ran) * (todo - ran as usize) as f64 / 60.0
            ),
        };
        eprintln!("cell {} of {todo}{left}: {what}", ran + 1);
        ran += 1;
        match run(cell.input.as_deref(), &cell.settings, ffmpeg, stop) {
            Ok(outcome) if !outcome.report.complete => {}
            Ok(outcome) => {
                let report = serde_json::to_value(&outcome.report)?;
                let line = Line { key: cell.key.clone(), option: cell.option.clone(), report };
                writeln!(file, "{}", serde_json::to_string(&line)?)
                    .and_then(|()| file.flush())
                    .with_context(|| format!("cannot write {}", results.display()))?;
                done.insert(line.key, line.report);
            }
            // The others may well run; this one is tried again next time.
            Err(_) if stop.load(Ordering::Relaxed) => {}
            Err(error) => {
                eprintln!("cell failed: {what}: {error:#}");
                failed.push(what);
            }
        }
    }
    let finished: Vec<(&Cell, &Value)> =
        cells.iter().filter_map(|cell| Some((cell, done.get(&cell.key)?))).collect();
    print!("{}", table::sweep(&finished));
    match failed.first() {
        Some(first) => bail!("{} of {} cells failed, the first: {first}", failed.len(), cells.len()),
        None => Ok(()),
    }
}

/// Opens the results for more; what was written before, by key. A last line that was cut short is cut off.
fn read(path: &Path) -> Result<(File, BTreeMap<String, Value>)> {
    let what = || format!("results {}", path.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(what)?;
    ensure!(file.metadata()?.len() <= RESULTS_MAX, "{}: too large", what());
    let (mut done, mut whole, mut number) = (BTreeMap::new(), 0, 0);
    let mut reader = BufReader::new(&file);
    let mut line = vec![];
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).with_context(what)?;
        if length == 0 || line.last() != Some(&b'\n') {
            break;
        }
        number += 1;
        let line: Line = serde_json::from_slice(&line)
            .with_context(|| format!("{}, line {number}: no line of a sweep", what()))?;
        done.insert(line.key, line.report);
        whole += length as u64;
    }
    drop(reader);
    file.set_len(whole).with_context(what)?;
    file.seek(SeekFrom::End(0)).with_context(what)?;
    Ok((file, done))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(text: &str) -> Result<Vec<Cell>> {
        let matrix: Matrix = toml::from_str(text)?;
        matrix.cells(Path::new("sweep.toml"), "test", None)
    }

    #[test]
    fn cells_are_all_combinations_and_their_keys_tell_them_apart() {
        let text = "clips = ['bundled']\ntotal_kbps = [300, 600]\nscale = ['auto', 2]\n\
                    [settings]\nseconds = 2\n[[options]]\nname = 'small'\nblocks = 1\nfeatures = 8\n[[options]]\nname = 'usual'\n";
        let cells = matrix(text).unwrap();
        assert_eq!(cells.len(), 8);
        let keys: std::collections::BTreeSet<&str> = cells.iter().map(|cell| cell.key.as_str()).collect();
        assert_eq!(keys.len(), 8);
        let first = &cells[0];
        assert_eq!((first.option.as_str(), first.kbps(), first.scale()), ("small", 300.0, Scale::Auto));
        assert_eq!((first.settings.blocks, first.settings.seconds), (1, Some(2.0)));
        // The same again, and another length.
        assert_eq!(matrix(text).unwrap()[0].key, first.key);
        assert_ne!(matrix(&text.replace("seconds = 2", "seconds = 3")).unwrap()[0].key, first.key);
    }

    #[test]
    fn bad_sweeps_are_refused() {
        let good = "clips = ['bundled']\ntotal_kbps = [300]\nscale = [2]\n";
        assert_eq!(matrix(good).unwrap().len(), 1);
        for (text, words) in [
            (good.replace("[300]", "[]"), "`total_kbps` is empty"),
            (good.replace("[2]", "[5]"), "no scale"),
            (good.replace("[300]", "[1]"), "--total-kbps 1"),
            (good.replace("bundled", "none.mp4"), "none.mp4"),
            (format!("{good}[settings]\nsecond = 2\n"), "second"),
            (format!("{good}[settings]\nvideo_kbps = 2.0\n"), "comes from `total_kbps`"),
            (format!("{good}[[options]]\nname = 1\n"), "no text"),
            ("clips = 1".to_owned(), "clips"),
        ] {
            let error = format!("{:#}", matrix(&text).err().unwrap());
            assert!(error.contains(words), "{text}\n{error}");
        }
    }

    #[test]
    fn a_cut_off_line_is_dropped_and_others_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        let (mut file, done) = read(&path).unwrap();
        assert!(done.is_empty());
        file.write_all(b"{\"key\":\"a\",\"option\":\"x\",\"report\":{}}\n{\"key\":\"b\",\"opt").unwrap();
        drop(file);
        let (mut file, done) = read(&path).unwrap();
        assert_eq!(done.keys().collect::<Vec<_>>(), ["a"]);
        file.write_all(b"{\"key\":\"c\",\"option\":\"x\",\"report\":{}}\n").unwrap();
        assert_eq!(read(&path).unwrap().1.len(), 2);
        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("line 1"));
    }
}
