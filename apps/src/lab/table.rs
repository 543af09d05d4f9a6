//! Tables for people: of one run, and of a sweep, in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Result, Write};

use serde_json::Value;

use super::judge::{HONE, NAMES};
use super::matrix::Cell;
use super::report::{EQUAL_BITS, LabReport, OPPONENTS};

/// Prints a run's contenders.
pub(super) fn print(report: &LabReport, out: &mut dyn Write) -> Result<()> {
    let r = &report.report;
    writeln!(
        out,
        "{}: {}x{} at scale {}, {:.0} + {:.0} kbit/s, {} frames, {} steps, {} versions, {:.1} kbit/s of models{}",
        r.clip,
        r.hr[0],
        r.hr[1],
        report.scale,
        r.uplink_kbps.video,
        r.uplink_kbps.patches + r.uplink_kbps.model,
        r.frames,
        r.training_steps,
        r.model.versions,
        r.downlink_kbps.model,
        if report.complete { "" } else { "; stopped early" },
    )?;
    let optional = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
    writeln!(
        out,
        "{:<16}{:>8}{:>9}{:>9}{:>8}{:>8}{:>8}{:>8}{:>9}{:>9}{:>8}",
        "", "kbit/s", "PSNR-Y", "PSNR-RGB", "SSIM", "SSIMU2", "VMAF", "lead", "first 2s", "last 1/4", "worst"
    )?;
    for block in &report.contenders {
        let lead = block.lead.map_or(String::new(), |lead| {
            format!(
                "{:>+8.2}{:>+9.2}{:>+9.2}{:>+8.2}",
                lead.all_db, lead.first_2s_db, lead.last_quarter_db, lead.worst_frame_db
            )
        });
        writeln!(
            out,
            "{:<16}{:>7.0}{}{:>9.2}{:>9.2}{:>8.4}{:>8}{:>8}{lead}",
            block.name,
            block.total_kbps,
            if block.equal_bits { ' ' } else { '!' },
            block.psnr_y_db,
            block.psnr_rgb_db,
            block.ssim_y,
            optional(block.ssimulacra2),
            optional(block.vmaf)
        )?;
    }
    Ok(())
}

/// One finished cell, as far as tables need it.
struct Row<'a> {
    cell: &'a Cell,
    hone_db: f64,
    /// Lead over each of [`OPPONENTS`] that kept to its bits.
    leads: [Option<f64>; OPPONENTS.len()],
    scale: u64,
}

impl<'a> Row<'a> {
    fn new(cell: &'a Cell, report: &Value) -> Option<Self> {
        let blocks = report["contenders"].as_array()?;
        let block = |contender: usize| blocks.iter().find(|block| block["name"] == NAMES[contender]);
        let hone = block(HONE)?;
        let lead = |(contender, _): (usize, &str)| {
            let block = block(contender)?;
            let equal = block["total_kbps"].as_f64()? <= EQUAL_BITS * hone["total_kbps"].as_f64()?;
            if equal { block["lead"]["all_db"].as_f64() } else { None }
        };
        Some(Self {
            cell,
            hone_db: hone["psnr_y_db"].as_f64()?,
            leads: OPPONENTS.map(lead),
            scale: report["scale"].as_u64()?,
        })
    }
}

/// Means over clips per rate against each opponent, then the map: the best scale per clip and rate.
pub(super) fn sweep(finished: &[(&Cell, &Value)]) -> String {
    let rows: Vec<Row> = finished.iter().filter_map(|(cell, report)| Row::new(cell, report)).collect();
    let mut text = String::from("| options | scale | kbit/s | clips | Hone, dB |");
    for (_, name) in OPPONENTS {
        let _ = write!(text, " over {name} |");
    }
    text.push_str("\n|---|---|---|---|---|");
    text.push_str(&"---|".repeat(OPPONENTS.len()));
    text.push('\n');
    // f64 has no order of its own; the rates' bits, all positive, have the same one.
    let mut groups: BTreeMap<(&str, String, u64), Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        let key = (row.cell.option.as_str(), row.cell.scale().to_string(), row.cell.kbps().to_bits());
        groups.entry(key).or_default().push(row);
    }
    for ((option, scale, kbps), rows) in groups {
        let hone_db = rows.iter().map(|row| row.hone_db).sum::<f64>() / rows.len() as f64;
        let kbps = f64::from_bits(kbps);
        let _ = write!(text, "| {option} | {scale} | {kbps} | {} | {hone_db:.2} |", rows.len());
        for i in 0..OPPONENTS.len() {
            text.push_str(&mean_and_worst(rows.iter().map(|row| row.leads[i])));
        }
        text.push('\n');
    }
    text.push_str("\nLeads are means over clips of PSNR-Y, dB; behind the slash the worst clip. Opponents that overspent are left out: \
                   a dash, or in brackets how many clips are counted.\n\n");
    text.push_str(&map(&rows));
    text
}

/// For each clip and rate, what each scale comes to, and what the best one has over each opponent.
fn map(rows: &[Row]) -> String {
    let mut best: BTreeMap<(String, u64), &Row> = BTreeMap::new();
    for row in rows {
        let held = best.entry((row.cell.clip(), row.cell.kbps().to_bits())).or_insert(row);
        if row.hone_db > held.hone_db {
            *held = row;
        }
    }
    let mut text = String::from("| clip | kbit/s | options | scale 1 | 2 | 3 | 4 | best |");
    for (_, name) in OPPONENTS {
        let _ = write!(text, " over {name} |");
    }
    text.push('\n');
    text.push_str(&"|---".repeat(8 + OPPONENTS.len()));
    text.push_str("|\n");
    for ((clip, kbps), best) in best {
        let cell = best.cell;
        let _ = write!(text, "| {clip} | {} | {} |", f64::from_bits(kbps), cell.option);
        for scale in 1..=4 {
            let at = rows.iter().filter(|row| {
                (row.scale, row.cell.clip(), row.cell.kbps(), &row.cell.option)
                    == (scale, cell.clip(), cell.kbps(), &cell.option)
            });
            let most = at.map(|row| row.hone_db).reduce(f64::max);
            let _ = write!(text, " {} |", most.map_or("-".into(), |db| format!("{db:.2}")));
        }
        let _ = write!(text, " {} |", best.scale);
        for lead in best.leads {
            let _ = write!(text, " {} |", lead.map_or("-".into(), |lead| format!("{lead:+.2}")));
        }
        text.push('\n');
    }
    text
}

fn mean_and_worst(leads: impl Iterator<Item = Option<f64>>) -> String {
    let all: Vec<Option<f64>> = leads.collect();
    let known: Vec<f64> = all.iter().copied().flatten().collect();
    if known.is_empty() {
        return " - |".into();
    }
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let worst = known.iter().copied().fold(f64::INFINITY, f64::min);
    let counted = if known.len() < all.len() { format!(" ({})", known.len()) } else { String::new() };
    format!(" {mean:+.2} / {worst:+.2}{counted} |")
}
