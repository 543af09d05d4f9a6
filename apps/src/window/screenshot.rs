//! Pictures as PNG files.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hone_cpu::Bicubic;
use hone_media::frame::Frame;
use hone_runtime::Mode;

use crate::picture;

/// What is saved: a copy, so that saving holds nothing up.
pub struct Screenshot {
    /// Name of the stream.
    pub name: String,
    /// What the picture was made of.
    pub frame: Frame,
    /// Columns and rows of what is shown.
    pub size: (u32, u32),
    /// How it was upscaled.
    pub mode: Mode,
    /// (H, W, 4) RGBA, upscaled so.
    pub shown: Vec<u8>,
}

impl Screenshot {
    /// Writes `NAME-MEDIATIME-bicubic.png`, and `-network.png` if the network made the picture, or `-reused.png` if its
    /// detail was reused, into `folder`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let time_ms = self.frame.pts_us / 1000;
        let path = |what: &str| folder.join(format!("{}-{time_ms:09}ms-{what}.png", self.name));
        let bicubic = match self.mode {
            Mode::Bicubic => self.shown.clone(),
            Mode::Network | Mode::Reuse => {
                let scale = (self.size.0 / self.frame.image.width()) as usize;
                let mut bicubic = vec![0; self.shown.len()];
                Bicubic::new(scale).upscale(&picture::yuv420(&self.frame), &mut bicubic);
                bicubic
            }
        };
        let mut files = vec![path("bicubic")];
        write(&files[0], self.size, &bicubic)?;
        let what = match self.mode {
            Mode::Bicubic => return Ok(files),
            Mode::Network => "network",
            Mode::Reuse => "reused",
        };
        files.push(path(what));
        write(&files[1], self.size, &self.shown)?;
        Ok(files)
    }
}

/// (H, W, 4) RGBA as an RGB file.
fn write(path: &Path, (width, height): (u32, u32), rgba: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let file = BufWriter::new(File::create(path).with_context(failed)?);
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let rgb: Vec<u8> = rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    let mut writer = encoder.write_header().with_context(failed)?;
    writer.write_image_data(&rgb).with_context(failed)?;
    writer.finish().with_context(failed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hone_media::frame::{Colour, I420};

    use super::*;

    #[test]
    fn both_pictures_are_saved_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut image = I420::new(8, 6).unwrap();
        image.y_mut().iter_mut().zip(0..).for_each(|(v, i)| *v = 20 + 4 * i);
        let frame =
            Frame { pts_us: 1_234_567, image: Arc::new(image), colour: Colour::guess(6), quantiser: None };
        let shown: Vec<u8> = (0..16 * 12 * 4).map(|i| (i * 7 % 251) as u8).collect();
        let shot = Screenshot { name: "cam".into(), frame, size: (16, 12), mode: Mode::Network, shown };
        let files = shot.save(folder.path()).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["cam-000001234ms-bicubic.png", "cam-000001234ms-network.png"]);
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(File::open(&files[1]).unwrap())).read_info().unwrap();
        let mut rgb = vec![0; 16 * 12 * 3];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.width, info.height), (16, 12));
        let expected: Vec<u8> = shot.shown.chunks_exact(4).flat_map(|p| p[..3].to_vec()).collect();
        assert_eq!(rgb, expected);
        assert!(shot.save(Path::new("/no/such/folder")).is_err());
    }
}
