//! scratch
use hone_apps::*;
use hone_media::{encode, source::*};
use hone_model::*;
use hone_trainer::*;
use std::time::Instant;
fn arg<T: std::str::FromStr>(k: &str, d: T) -> T {
    std::env::args().find_map(|a| a.strip_prefix(&format!("{k}=")).and_then(|v| v.parse().ok())).unwrap_or(d)
}
fn main() {
    let clip: String = arg("clip", "/work/shared/media/bbb_landscape_1080p24.mp4".into());
    let hr_h: u32 = arg("hr", 1080);
    let scale: usize = arg("scale", 2);
    let video: f64 = arg("video", 540.0);
    let patches: f64 = arg("patches", 60.0);
    let seconds: f64 = arg("seconds", 15.8);
    let sps: f64 = arg("sps", 20.0);
    let quality: u8 = arg("q", 90);
    let every: usize = arg("every", 1);
    let warm: f64 = arg("warm", 1.0);
    let net: String = arg("net", "4x16".into());
    let gop_s: f64 = arg("gop", 4.0);
    let arch: Arch = format!("live-{net}-x{scale}").parse().unwrap();
    let path = clip.clone();
    let mut src = Looped::new(move || Mp4Source::open(&path), (seconds * 1e6) as i64).unwrap();
    let info = *src.info();
    let hr_w = (info.width as u64 * hr_h as u64 / info.height as u64) as u32 & !1;
    let (lw, lh) = (hr_w / scale as u32 & !1, hr_h / scale as u32 & !1);
    let mut ec =
        encode::Config::new(lw, lh, info.fps, (video * if patches > 0.0 { 1.0 } else { 1.0 }) as u32);
    ec.gop_frames = (gop_s * info.fps) as u32;
    let mut cam =
        camera::Camera::new(camera::Config { scale, encode: ec, patch_quality: quality, seed: 1 }).unwrap();
    let cfg = Config {
        learning_rate: arg("lr", 2e-3),
        learning_rate_min: arg("lrmin", 3e-4),
        learning_rate_half_steps: arg("half", 400.0),
        loss_eps: arg("eps", 0.01),
        average_steps: arg("avg", 60.0),
        publish_certainty: arg("cert", 1.5),
        publish_gain_db: arg("pg", 0.1),
        held_out_min: arg("hmin", 4),
        crop: arg("crop", 32),
        batch: arg("batch", 16),
        evaluate_every_steps: arg("eval", 50),
        ..Config::default()
    };
    let trainer =
        Trainer::new(Box::new(hone_cpu::CpuTrainer::new(Weights::zeros(arch))), Origin::Seed(1), cfg)
            .unwrap();
    let mut learner = learner::Learner::new(trainer).unwrap();
    let mut screen = screen::Screen::new(arch, hone_runtime::Preference::Cpu).unwrap();
    let (mut vb, mut pb, mut mb) = (0usize, 0usize, 0usize);
    let mut credit = arg("start", 2.0) * patches * 125.0;
    let mut steps_due = 0.0;
    let mut last = 0i64;
    let mut n = 0;
    let mut sp = 0;
    let (mut worse, mut gains, mut base) = (0, vec![], vec![]);
    let mut rgba = vec![];
    let t0 = Instant::now();
    let (mut ttrain, mut tinf) = (0.0, 0.0);
    let mut pubs = 0;
    let mut hones = vec![];
    while let Some(f) = src.next_frame().unwrap() {
        let hrf = if f.image.height() != hr_h {
            hone_media::frame::Frame {
                image: std::sync::Arc::new(hone_media::scale::downscale(&f.image, hr_w, hr_h).unwrap()),
                ..f.clone()
            }
        } else {
            f.clone()
        };
        let dt = (f.pts_us - last) as f64 / 1e6;
        last = f.pts_us;
        let boost = if (f.pts_us as f64) < 4e6 { warm } else { 1.0 };
        if warm != 1.0 && n % 24 == 0 {
            cam.set_bitrate_kbps((video + patches - patches * boost) as u32).unwrap();
        }
        let p = cam.frame(&hrf, false).unwrap();
        vb += p.data.len();
        learner.video(&p.data, p.pts_us).unwrap();
        credit += dt * patches * boost * 125.0;
        while credit > 0.0 {
            if let Some((pts, m)) =
                cam.patch(if sp % 2 == 0 { patch::Purpose::Learn } else { patch::Purpose::Judge }).unwrap()
            {
                credit -= m.len() as f64;
                pb += m.len();
                sp += 1;
                learner.patch(pts, m).unwrap();
            } else {
                break;
            }
        }
        steps_due += dt * sps;
        let t = Instant::now();
        while steps_due >= 1.0 {
            steps_due -= 1.0;
            if let Event::Published(p) = learner.trainer.step().unwrap() {
                mb += p.update.len();
                pubs += 1;
                screen.update(&p.update).unwrap();
                println!(
                    "  t={:.1} v{} gain {:.3} {} B {}",
                    f.pts_us as f64 / 1e6,
                    p.version,
                    p.gain_db,
                    p.update.len(),
                    p.snapshot
                );
            }
        }
        ttrain += t.elapsed().as_secs_f64();
        for d in screen.decode(&p.data, p.pts_us).unwrap() {
            assert_eq!(d.pts_us, hrf.pts_us, "delay");
            if n % every == 0 {
                let t = Instant::now();
                let tr = quality::Truth::new(&hrf);
                let mode = screen.mode();
                screen.upscale(&d, hone_runtime::Mode::Bicubic, &mut rgba).unwrap();
                let b = tr.quality(&rgba, 4);
                let h = if mode == hone_runtime::Mode::Network {
                    screen.upscale(&d, mode, &mut rgba).unwrap();
                    tr.quality(&rgba, 4)
                } else {
                    b
                };
                tinf += t.elapsed().as_secs_f64();
                if h.psnr_y_db < b.psnr_y_db - 0.01 {
                    worse += 1;
                }
                gains.push(h.psnr_y_db - b.psnr_y_db);
                base.push(b.psnr_y_db);
                hones.push(h.psnr_y_db);
                if arg("verbose", 0) == 1 {
                    println!(
                        "{:.2} {:.2} {:+.3}",
                        f.pts_us as f64 / 1e6,
                        b.psnr_y_db,
                        h.psnr_y_db - b.psnr_y_db
                    );
                }
            }
            n += 1;
        }
    }
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let q = gains.len() * 3 / 4;
    println!(
        "{} x{scale} {lw}x{lh} video {:.0} kbps patches {:.0} ({sp}) model {:.1} kbps ({pubs}) | bicubic {:.2} hone {:.2} gain {:.3} last quarter {:.3} worse {:.1}% | {:.0}s train {:.0}s inf {:.0}s steps {} {:?}",
        clip.rsplit('/').next().unwrap(),
        vb as f64 / seconds / 125.0,
        pb as f64 / seconds / 125.0,
        mb as f64 / seconds / 125.0,
        mean(&base),
        mean(&hones),
        mean(&gains),
        mean(&gains[q..]),
        100.0 * worse as f64 / gains.len() as f64,
        t0.elapsed().as_secs_f64(),
        ttrain,
        tinf,
        learner.trainer.steps(),
        learner.trainer.state()
    );
}
