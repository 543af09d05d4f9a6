//! What a run comes to: the demo's report, and a block for each contender.

use serde::Serialize;

use super::judge::{BICUBIC, CONTENDERS, FROZEN, HONE, NAMES, OPENH264, Row, X264};
use super::settings::Settings;
use crate::quality::Quality;
use crate::report::{Backends, FrameRow, Report, Run};

/// Version of the lab's part of the report.
pub const SCHEMA: u32 = 1;
/// What counts as the start, and as just after a cut, seconds.
const SOON_S: f64 = 2.0;
/// From here on a stream counts as settled in: what a frozen network could not learn shows, seconds.
const LATE_S: f64 = 15.0;
/// Bits of an opponent over Hone's that still count as equal: a quarter of a decibel.
pub const EQUAL_BITS: f64 = 1.05;
/// A frame counts as clearly worse from this difference on, dB.
const CLEARLY_DB: f64 = 0.1;

/// One contender over all frames.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Block {
    /// Who.
    pub name: &'static str,
    /// Mean over frames, dB.
    pub psnr_y_db: f64,
    /// Mean over frames, dB.
    pub psnr_rgb_db: f64,
    /// Mean over frames.
    pub ssim_y: f64,
    /// Mean over sampled frames.
    pub ssimulacra2: Option<f64>,
    /// Mean over the frames that libvmaf looked at.
    pub vmaf: Option<f64>,
    /// All bits it used on the uplink, over the duration.
    pub total_kbps: f64,
    /// Whether these are at most those of Hone, but for 5%: plain H.264 cannot be coarser than its coarsest quantiser.
    pub equal_bits: bool,
    /// What Hone has over it; none for Hone itself.
    pub lead: Option<Lead>,
}

/// Hone's PSNR-Y over an opponent's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Lead {
    /// Mean over all frames, dB.
    pub all_db: f64,
    /// Over the first 2 s.
    pub first_2s_db: f64,
    /// Over the 2 s after each cut; none without a cut.
    pub after_cuts_db: Option<f64>,
    /// Over what follows the first 15 s, if that is anything.
    pub after_15s_db: Option<f64>,
    /// Over the last quarter.
    pub last_quarter_db: f64,
    /// Of the worst frame.
    pub worst_frame_db: f64,
    /// Share of frames that are worse by more than 0.1 dB.
    pub share_worse: f64,
}

impl Lead {
    fn new(rows: &[Row], opponent: usize) -> Option<Self> {
        let lead = |row: &Row| -> Option<f64> {
            Some(row.scores[HONE]?.quality.psnr_y_db - row.scores[opponent]?.quality.psnr_y_db)
        };
        let leads: Vec<f64> = rows.iter().map_while(lead).collect();
        let start_s = rows.first()?.t_s;
        if leads.len() < rows.len() {
            return None;
        }
        let over = |keep: &dyn Fn(usize, &Row) -> bool| {
            let kept = rows.iter().enumerate().filter(|(i, row)| keep(*i, row)).map(|(i, _)| leads[i]);
            mean(kept)
        };
        let cuts: Vec<f64> = rows.iter().filter(|row| row.cut).map(|row| row.t_s).collect();
        let after_cut = |t_s: f64| cuts.iter().any(|cut_s| (0.0..SOON_S).contains(&(t_s - cut_s)));
        Some(Self {
            all_db: mean(leads.iter().copied())?,
            first_2s_db: over(&|_, row| row.t_s - start_s < SOON_S)?,
            after_cuts_db: over(&|_, row| after_cut(row.t_s)),
            after_15s_db: over(&|_, row| row.t_s - start_s >= LATE_S),
            last_quarter_db: over(&|i, _| i >= rows.len() - rows.len().div_ceil(4))?,
            worst_frame_db: leads.iter().copied().fold(f64::INFINITY, f64::min),
            share_worse: leads.iter().filter(|lead| **lead < -CLEARLY_DB).count() as f64 / leads.len() as f64,
        })
    }
}

/// One scene, by the cuts in the decoded stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scene {
    /// Where it begins, seconds.
    pub from_s: f64,
    /// Frames.
    pub frames: usize,
    /// Mean quantiser.
    pub quantiser: Option<f64>,
    /// Mean PSNR-Y of each contender, dB, by name; none of those that did not run.
    pub psnr_y_db: [Option<f64>; CONTENDERS],
}

/// What the machine did; never the same twice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Version of this program.
    pub version: &'static str,
    /// Threads.
    pub threads: usize,
    /// How long the run took, seconds.
    pub wall_s: f64,
}

/// A run's report.
#[derive(Clone, Debug, Serialize)]
pub struct LabReport {
    /// What the demo reports; the latency is simulated.
    #[serde(flatten)]
    pub report: Report,
    /// Version of what follows.
    pub lab_schema: u32,
    /// What was asked for.
    pub settings: Settings,
    /// Whether it ran to its end: if not, this covers what was done, without what runs last.
    pub complete: bool,
    /// The scale that was used.
    pub scale: u32,
    /// The ffmpeg that helped, if one did.
    pub ffmpeg: Option<String>,
    /// Share of patches, or of updates where the sender learns, in the bits sent in the second half of the stream.
    pub patch_share_warm: f64,
    /// Patches sent.
    pub patches: u64,
    /// By contender, Hone first.
    pub contenders: Vec<Block>,
    /// By cut.
    pub scenes: Vec<Scene>,
    /// Left out where reports are to be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

/// Bytes that each contender spent on the uplink; none if it did not run.
pub type Spent = [Option<u64>; CONTENDERS];

impl LabReport {
    /// Sums a run up. `rows` are all frames in order, at least one.
    pub fn new(run: &Run, rows: &[Row], spent: Spent, settings: &Settings) -> Self {
        let duration_s = rows.len() as f64 / run.fps;
        let block = |contender: usize| -> Option<Block> {
            let scores: Vec<_> = rows.iter().map(|row| row.scores[contender]).collect::<Option<_>>()?;
            Some(Block {
                name: NAMES[contender],
                psnr_y_db: mean(scores.iter().map(|score| score.quality.psnr_y_db))?,
                psnr_rgb_db: mean(scores.iter().map(|score| score.quality.psnr_rgb_db))?,
                ssim_y: mean(scores.iter().map(|score| score.quality.ssim_y))?,
                ssimulacra2: mean(scores.iter().filter_map(|score| score.ssimulacra2)),
                vmaf: mean(scores.iter().filter_map(|score| score.vmaf)),
                total_kbps: spent[contender]? as f64 / 125.0 / duration_s,
                equal_bits: spent[contender]? as f64 <= EQUAL_BITS * spent[HONE]? as f64,
                lead: if contender == HONE { None } else { Lead::new(rows, contender) },
            })
        };
        let warm = &rows[rows.len() / 2..];
        let (video, patches) =
            warm.iter().fold((0, 0), |(video, patches), row| (video + row.bytes.0, patches + row.bytes.1));
        let plain = if rows.iter().all(|row| row.scores[OPENH264].is_some()) { OPENH264 } else { X264 };
        let frames: Vec<FrameRow> = rows.iter().filter_map(|row| frame_row(row, plain)).collect();
        Self {
            report: Report::new(run, &frames),
            lab_schema: SCHEMA,
            settings: settings.clone(),
            complete: false,
            scale: run.hr[0] / run.lr[0].max(1),
            ffmpeg: None,
            patch_share_warm: patches as f64 / ((video + patches) as f64).max(1.0),
            patches: 0,
            contenders: (0..CONTENDERS).filter_map(block).collect(),
            scenes: scenes(rows),
            machine: None,
        }
    }

    /// A contender's block, if it ran.
    pub fn block(&self, contender: usize) -> Option<&Block> {
        self.contenders.iter().find(|block| block.name == NAMES[contender])
    }
}

/// Devices of a run: all on the CPU.
pub(super) fn backends() -> Backends {
    Backends { trainer: "cpu".into(), viewer: "cpu".into() }
}

/// As the demo has it; what is missing is no number, which JSON writes as null.
fn frame_row(row: &Row, plain: usize) -> Option<FrameRow> {
    let missing = Quality { psnr_y_db: f64::NAN, psnr_rgb_db: f64::NAN, ssim_y: f64::NAN };
    Some(FrameRow {
        t_s: row.t_s,
        quantiser: row.quantiser,
        version: row.version,
        bicubic: row.scores[BICUBIC]?.quality,
        hone: row.scores[HONE]?.quality,
        plain: row.scores[plain].map_or(missing, |score| score.quality),
        latency_ms: row.latency_ms,
    })
}

fn scenes(rows: &[Row]) -> Vec<Scene> {
    let begins = (0..rows.len()).filter(|&i| i == 0 || rows[i].cut);
    let begins: Vec<usize> = begins.chain([rows.len()]).collect();
    let scene = |part: &[usize]| {
        let rows = &rows[part[0]..part[1]];
        let psnr = |contender: usize| {
            mean(rows.iter().filter_map(|row| row.scores[contender]).map(|score| score.quality.psnr_y_db))
        };
        Scene {
            from_s: rows[0].t_s,
            frames: rows.len(),
            quantiser: mean(rows.iter().filter_map(|row| row.quantiser).map(f64::from)),
            psnr_y_db: std::array::from_fn(psnr),
        }
    };
    begins.windows(2).map(scene).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Opponents in the order of tables, with what people call them.
pub const OPPONENTS: [(usize, &str); CONTENDERS - 1] =
    [(BICUBIC, "bicubic"), (FROZEN, "frozen base"), (OPENH264, "plain openh264"), (X264, "plain x264")];

#[cfg(test)]
mod tests {
    use super::super::judge::Score;
    use super::*;

    #[test]
    fn leads_scenes_and_shares() {
        let score = |db: f64| {
            let quality = Quality { psnr_y_db: db, psnr_rgb_db: db, ssim_y: 0.9 };
            Some(Score { quality, ssimulacra2: None, vmaf: None })
        };
        // 20 s at 10 frames a second, a cut at 10 s; +1 dB before, +2 after; one frame worse.
        let rows: Vec<Row> = (0..200)
            .map(|i| {
                let lead = if i == 50 {
                    -0.5
                } else if i < 100 {
                    1.0
                } else {
                    2.0
                };
                Row {
                    t_s: f64::from(i) / 10.0,
                    quantiser: Some(30),
                    version: 0,
                    cut: i == 100,
                    latency_ms: 1.0,
                    bytes: (90, if i < 100 { 90 } else { 10 }),
                    scores: [score(30.0 + lead), score(30.0), None, score(29.0), None],
                }
            })
            .collect();
        let lead = Lead::new(&rows, BICUBIC).unwrap();
        assert!((lead.all_db - (99.0 - 0.5 + 200.0) / 200.0).abs() < 1e-9, "{lead:?}");
        assert_eq!((lead.first_2s_db, lead.after_cuts_db, lead.after_15s_db), (1.0, Some(2.0), Some(2.0)));
        assert_eq!((lead.last_quarter_db, lead.worst_frame_db, lead.share_worse), (2.0, -0.5, 0.005));
        assert_eq!(Lead::new(&rows, FROZEN), None);
        let scenes = scenes(&rows);
        assert_eq!(
            scenes.iter().map(|scene| (scene.from_s, scene.frames)).collect::<Vec<_>>(),
            [(0.0, 100), (10.0, 100)]
        );
        assert_eq!(scenes[1].psnr_y_db, [Some(32.0), Some(30.0), None, Some(29.0), None]);
        let run = Run {
            clip: "clip.mp4".into(),
            fps: 10.0,
            lr: [320, 180],
            hr: [640, 360],
            arch: "live-4x16-x2".into(),
            backends: backends(),
            video_bytes: 18_000,
            patch_bytes: 10_000,
            uplink_model_bytes: 0,
            model_bytes: 0,
            plain_bytes: 28_000,
            versions: 0,
            frames_dropped: 0,
            clock_slowdown: 1.0,
            training_steps: 0,
        };
        let spent = [Some(28_000), Some(18_000), None, Some(28_000), None];
        let report = LabReport::new(&run, &rows, spent, &Settings::default());
        assert!((report.patch_share_warm - 0.1).abs() < 1e-9);
        assert_eq!(
            report.contenders.iter().map(|block| block.name).collect::<Vec<_>>(),
            ["hone", "bicubic", "plain_openh264"]
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (json["schema"].as_u64(), json["lab_schema"].as_u64(), json["scale"].as_u64()),
            (Some(1), Some(1), Some(2))
        );
        assert_eq!(json["contenders"][0]["total_kbps"], 11.2);
        assert!(json.get("machine").is_none());
    }
}
