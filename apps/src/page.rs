//! report.html: one self-contained page.

use std::fmt::Write;

use hone_media::jpeg;

use crate::crop::Crop;
use crate::quality::Quality;
use crate::report::{FrameRow, Report};

/// Points of a curve: each is the mean of a few frames.
const POINTS: usize = 400;
/// Highest quality that JPEG has: the crops show coding errors of the streams, not of themselves.
const CROP_QUALITY: u8 = 98;

/// Renders the page.
///
/// # Errors
/// If a crop cannot be coded.
pub fn render(report: &Report, rows: &[FrameRow], crops: &[Crop]) -> Result<String, jpeg::Error> {
    let mut body = String::new();
    let q = &report.quality;
    let _ = write!(
        body,
        "<h1>Hone: {clip}</h1>\
         <p>{lw}x{lh} shown at {hw}x{hh}, {fps:.2} fps, {duration:.1} s, network <code>{arch}</code>, \
         trained on {trainer}, shown by {viewer}{slow}.</p>\
         <div class=cards>{cards}</div>",
        clip = escape(&report.clip),
        lw = report.lr[0],
        lh = report.lr[1],
        hw = report.hr[0],
        hh = report.hr[1],
        fps = report.fps,
        duration = report.duration_s,
        arch = report.arch,
        trainer = escape(&report.backends.trainer),
        viewer = escape(&report.backends.viewer),
        slow = match report.clock_slowdown {
            slow if slow > 1.0 =>
                format!("; the clip's clock was slowed {slow:.1} times, no frame was skipped"),
            _ => String::new(),
        },
        cards = [
            (q.hone.psnr_y_db - q.plain_h264.psnr_y_db, "over plain H.264 with the same bits"),
            (report.gain_db, "over bicubic, whole stream"),
            (report.gain_last_quarter_db, "over bicubic, last quarter"),
        ]
        .map(|(db, what)| format!("<div><b>{db:+.2} dB</b>{what}</div>"))
        .concat(),
    );
    body.push_str("<table><tr><th><th>PSNR-Y<th>PSNR-RGB<th>SSIM-Y<th>kbit/s</tr>");
    for (name, c) in [("plain H.264", q.plain_h264), ("bicubic on LR", q.bicubic), ("<b>Hone</b>", q.hone)] {
        let _ = write!(
            body,
            "<tr><td>{name}<td>{:.2} dB<td>{:.2} dB<td>{:.4}<td>{:.0}</tr>",
            c.psnr_y_db, c.psnr_rgb_db, c.ssim_y, c.total_kbps
        );
    }
    let curve = |name, colour, pick: &dyn Fn(&FrameRow) -> Quality| {
        let points = rows.iter().map(|row| (row.t_s, pick(row).psnr_y_db));
        Series::new(name, colour, points)
    };
    let series = [
        curve("plain H.264", GREY, &|row| row.plain),
        curve("bicubic", ORANGE, &|row| row.bicubic),
        curve("Hone", BLUE, &|row| row.hone),
    ];
    let _ = write!(
        body,
        "</table><h2>PSNR-Y over time</h2>{}<h2>Side by side</h2>",
        chart(&series, report.duration_s)
    );
    body.push_str(&crops_html(crops)?);
    let time = |t: Option<f64>| t.map_or("never".into(), |t| format!("{t:.1} s"));
    let _ = write!(
        body,
        "<h2>Figures</h2><table>{}</table>",
        [
            ("uplink, video", format!("{:.1} kbit/s", report.uplink_kbps.video)),
            ("uplink, patches", format!("{:.1} kbit/s", report.uplink_kbps.patches)),
            ("downlink, model", format!("{:.1} kbit/s", report.downlink_kbps.model)),
            ("model versions", format!("{} ({} bytes)", report.model.versions, report.model.bytes)),
            ("training steps", report.training_steps.to_string()),
            ("frames", report.frames.to_string()),
            ("frames worse than bicubic", report.frames_worse_than_bicubic.to_string()),
            ("frames dropped", report.frames_dropped.to_string()),
            ("to +0.5 dB", time(report.seconds_to_half_db)),
            ("to +1 dB", time(report.seconds_to_one_db)),
            (
                "latency, capture to shown",
                format!("{:.0} ms (p95 {:.0} ms)", report.latency_ms.p50, report.latency_ms.p95)
            ),
        ]
        .map(|(name, value)| format!("<tr><td>{name}<td>{value}</tr>"))
        .concat()
    );
    Ok(document("Hone report", &body))
}

/// A whole page.
pub fn document(title: &str, body: &str) -> String {
    format!("<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>{body}")
}

/// Crops with the names of who shows them.
///
/// # Errors
/// If one cannot be coded.
pub fn crops_html(crops: &[Crop]) -> Result<String, jpeg::Error> {
    let mut body = String::new();
    for crop in crops {
        let _ = write!(body, "<p>at {:.1} s</p><div class=crops>", crop.t_s);
        let side = crop.side as u16;
        for (name, rgb) in &crop.shown {
            let jpeg = jpeg::encode(rgb, side, side, CROP_QUALITY)?;
            let _ = write!(
                body,
                "<figure><img alt=\"{name}\" src=\"data:image/jpeg;base64,{}\"><figcaption>{name}</figcaption></figure>",
                base64(&jpeg)
            );
        }
        body.push_str("</div>");
    }
    Ok(body)
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;\
color:#1d2430;background:#fff}h1{font-size:1.5em}h2{font-size:1.1em;margin-top:2em}\
.cards{display:flex;gap:1em;flex-wrap:wrap}.cards div{background:#f1f4f8;border-radius:8px;padding:.8em 1.2em}\
.cards b{display:block;font-size:1.6em}table{border-collapse:collapse;margin:1em 0}\
td,th{padding:.25em 1.2em .25em 0;text-align:left;border-bottom:1px solid #e3e8ee}\
.crops{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:.5em}figure{margin:0}\
img{width:100%;image-rendering:pixelated}figcaption{font-size:.85em;color:#5b6675}svg{width:100%;height:auto}";

/// Colours of the contenders' curves.
pub const GREY: &str = "#9aa5b1";
/// Bicubic.
pub const ORANGE: &str = "#d97706";
/// Hone.
pub const BLUE: &str = "#2563eb";

/// One curve.
pub struct Series {
    name: &'static str,
    colour: &'static str,
    points: Vec<(f64, f64)>,
}

impl Series {
    /// A curve through (seconds, dB), thinned to what can be seen.
    pub fn new(
        name: &'static str,
        colour: &'static str,
        points: impl ExactSizeIterator<Item = (f64, f64)>,
    ) -> Self {
        let bin = points.len().div_ceil(POINTS).max(1);
        let points: Vec<(f64, f64)> = points.filter(|(_, db)| db.is_finite()).collect();
        let mean = |points: &[(f64, f64)]| {
            (points[0].0, points.iter().map(|(_, db)| db).sum::<f64>() / points.len() as f64)
        };
        Self { name, colour, points: points.chunks(bin).map(mean).collect() }
    }
}

/// Curves over time, as inline SVG.
pub fn chart(series: &[Series], duration_s: f64) -> String {
    const WIDTH: f64 = 1000.0;
    const HEIGHT: f64 = 300.0;
    let values = || series.iter().flat_map(|series| &series.points).map(|(_, db)| *db);
    if values().next().is_none() {
        return String::new();
    }
    let low = values().fold(f64::INFINITY, f64::min).floor();
    let high = values().fold(f64::NEG_INFINITY, f64::max).ceil().max(low + 1.0);
    let x = |t: f64| 40.0 + (WIDTH - 50.0) * t / duration_s.max(1e-9);
    let y = |db: f64| 10.0 + (HEIGHT - 40.0) * (high - db) / (high - low);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-size=12 fill=#5b6675>");
    for step in 0..=4 {
        let db = low + (high - low) * f64::from(step) / 4.0;
        let _ = write!(
            svg,
            "<line x1=40 x2={} y1={y:.1} y2={y:.1} stroke=#e3e8ee /><text x=2 y={t:.1}>{db:.1}</text>",
            WIDTH - 10.0,
            y = y(db),
            t = y(db) + 4.0
        );
        let t = duration_s * f64::from(step) / 4.0;
        let _ = write!(svg, "<text x={:.1} y={}>{t:.0} s</text>", x(t) - 8.0, HEIGHT - 6.0);
    }
    let mut left = 60;
    for Series { name, colour, points } in series {
        let path: Vec<String> = points.iter().map(|&(t, db)| format!("{:.1},{:.1}", x(t), y(db))).collect();
        let _ = write!(
            svg,
            "<polyline fill=none stroke={colour} stroke-width=1.8 points=\"{}\"><title>{name}</title></polyline>\
             <text x={left} y=22 fill={colour} font-weight=bold>{name}</text>",
            path.join(" ")
        );
        left += 40 + 8 * name.len();
    }
    svg + "</svg>"
}

/// Text as HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().enumerate().fold(0u32, |word, (i, &byte)| word | u32::from(byte) << (16 - 8 * i));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
