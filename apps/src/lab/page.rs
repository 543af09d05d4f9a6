//! A page that shows runs: curves, scenes, crops; one file that needs no other.

use std::fmt::Write;

use anyhow::Result;

use super::judge::{BICUBIC, CONTENDERS, FROZEN, HONE, NAMES, OPENH264, X264};
use super::run::Outcome;
use crate::page::{BLUE, GREY, ORANGE, Series, chart, crops_html, document, escape};

const GREEN: &str = "#059669";
const RED: &str = "#b91c1c";
/// Curves, and how they are drawn.
const CURVES: [(usize, &str, &str); CONTENDERS] = [
    (OPENH264, "plain openh264", GREY),
    (X264, "plain x264", RED),
    (BICUBIC, "bicubic", ORANGE),
    (FROZEN, "frozen base", GREEN),
    (HONE, "Hone", BLUE),
];

/// Renders the page.
///
/// # Errors
/// If a crop cannot be coded.
pub(super) fn render(outcomes: &[Outcome]) -> Result<String> {
    let mut body = String::new();
    for outcome in outcomes {
        section(outcome, &mut body)?;
    }
    Ok(document("Hone lab", &body))
}

fn section(outcome: &Outcome, body: &mut String) -> Result<()> {
    let (lab, rows) = (&outcome.report, &outcome.rows);
    let r = &lab.report;
    let dash = |value: Option<f64>, digits: usize| value.map_or("-".into(), |v| format!("{v:.digits$}"));
    let signed = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:+.2}"));
    let lead = |contender| lab.block(contender).and_then(|block| block.lead);
    let cards: String =
        [(OPENH264, "plain openh264"), (X264, "plain x264"), (BICUBIC, "bicubic"), (FROZEN, "frozen base")]
            .into_iter()
            .filter_map(|(contender, name)| {
                let bits =
                    if lab.block(contender)?.equal_bits { "same bits" } else { "which spent more bits" };
                Some(format!("<div><b>{:+.2} dB</b>over {name}, {bits}</div>", lead(contender)?.all_db))
            })
            .collect();
    let _ = write!(
        body,
        "<h1>Hone lab: {}</h1><p>{}x{} shown at {}x{} (scale {}), {:.2} fps, {:.1} s, network <code>{}</code>, \
         {} steps a second of media time, batch {}, seed {}{}.</p><div class=cards>{cards}</div>",
        escape(&r.clip),
        r.lr[0],
        r.lr[1],
        r.hr[0],
        r.hr[1],
        lab.scale,
        r.fps,
        r.duration_s,
        r.arch,
        lab.settings.steps_per_second,
        lab.settings.batch,
        lab.settings.seed,
        if lab.complete { "" } else { "; stopped early" },
    );
    body.push_str("<table><tr><th><th>kbit/s<th>PSNR-Y<th>PSNR-RGB<th>SSIM-Y<th>SSIMULACRA2<th>VMAF</tr>");
    for block in &lab.contenders {
        let _ = write!(
            body,
            "<tr><td>{}<td>{:.0}<td>{:.2} dB<td>{:.2} dB<td>{:.4}<td>{}<td>{}</tr>",
            block.name,
            block.total_kbps,
            block.psnr_y_db,
            block.psnr_rgb_db,
            block.ssim_y,
            dash(block.ssimulacra2, 1),
            dash(block.vmaf, 1)
        );
    }
    body.push_str(
        "</table><h2>Hone's PSNR-Y over each opponent, dB</h2><table><tr><th>over<th>all<th>first 2 s\
         <th>2 s after cuts<th>after 15 s<th>last quarter<th>worst frame<th>frames worse by 0.1</tr>",
    );
    for block in &lab.contenders {
        let Some(lead) = block.lead else { continue };
        let _ = write!(
            body,
            "<tr><td>{}<td>{:+.2}<td>{:+.2}<td>{}<td>{}<td>{:+.2}<td>{:+.2}<td>{:.1}%</tr>",
            block.name,
            lead.all_db,
            lead.first_2s_db,
            signed(lead.after_cuts_db),
            signed(lead.after_15s_db),
            lead.last_quarter_db,
            lead.worst_frame_db,
            100.0 * lead.share_worse
        );
    }
    body.push_str("</table>");
    let psnr = |contender: usize, row: &super::judge::Row| {
        row.scores[contender].map_or(f64::NAN, |score| score.quality.psnr_y_db)
    };
    let curves = CURVES.map(|(contender, name, colour)| {
        Series::new(name, colour, rows.iter().map(|row| (row.t_s, psnr(contender, row))))
    });
    let _ = write!(body, "<h2>PSNR-Y over time</h2>{}", chart(&curves, r.duration_s));
    let over = |(contender, name, colour): (usize, &'static str, &'static str)| {
        let lead = rows.iter().map(|row| (row.t_s, psnr(contender, row) - psnr(BICUBIC, row)));
        Series::new(name, colour, lead)
    };
    let leads = [CURVES[3], CURVES[4]].map(over);
    let _ = write!(body, "<h2>Over bicubic, dB</h2>{}", chart(&leads, r.duration_s));
    body.push_str("<h2>Scenes</h2><table><tr><th>from<th>frames<th>quantiser");
    for name in NAMES {
        let _ = write!(body, "<th>{name}");
    }
    body.push_str("</tr>");
    for scene in &lab.scenes {
        let _ =
            write!(body, "<tr><td>{:.2} s<td>{}<td>{}", scene.from_s, scene.frames, dash(scene.quantiser, 1));
        for db in scene.psnr_y_db {
            let _ = write!(body, "<td>{}", dash(db, 2));
        }
        body.push_str("</tr>");
    }
    let _ = write!(body, "</table><h2>Side by side</h2>{}", crops_html(&outcome.crops)?);
    let figures = [
        ("uplink, video", format!("{:.1} kbit/s", r.uplink_kbps.video)),
        ("uplink, patches", format!("{:.1} kbit/s ({})", r.uplink_kbps.patches, lab.patches)),
        ("uplink, model updates", format!("{:.1} kbit/s", r.uplink_kbps.model)),
        ("patches' share in the second half", format!("{:.1}%", 100.0 * lab.patch_share_warm)),
        ("downlink, model", format!("{:.1} kbit/s", r.downlink_kbps.model)),
        ("model versions", format!("{} ({} bytes)", r.model.versions, r.model.bytes)),
        ("training steps", r.training_steps.to_string()),
        ("frames", r.frames.to_string()),
        ("simulated latency", format!("{:.0} ms (p95 {:.0} ms)", r.latency_ms.p50, r.latency_ms.p95)),
    ];
    body.push_str("<h2>Figures</h2><table>");
    for (name, value) in figures {
        let _ = write!(body, "<tr><td>{name}<td>{value}</tr>");
    }
    body.push_str("</table>");
    Ok(())
}
