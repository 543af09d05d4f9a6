//! Streams that change their size and colour, and what is written of them.

use std::path::Path;

use hone_apps::viewer::Files;
use hone_media::frame::{Colour, Matrix, Range};
use hone_media::source::{Mp4Source, Source};
use hone_runtime::Preference;

use crate::stream::{How, SIZE, Scene, how, plain, view};

/// Size, colour and number of frames of a file.
fn file(path: &Path) -> ((u32, u32), Colour, usize) {
    let mut source = Mp4Source::open(path).unwrap();
    let (size, colour) = ((source.info().width, source.info().height), source.info().colour);
    let mut frames = 0;
    while let Some(frame) = source.next_frame().unwrap() {
        assert_eq!(((frame.image.width(), frame.image.height()), frame.colour), (size, colour));
        frames += 1;
    }
    (size, colour, frames)
}

#[test]
fn recordings_follow_a_change_of_size_and_colour_with_their_tags() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let bt709_full = Colour { matrix: Matrix::Bt709, range: Range::Full };
    let bt2020 = Colour { matrix: Matrix::Bt2020, range: Range::Limited };
    let parts = [(SIZE, plain()), (SIZE, bt709_full), ((64, 96), bt709_full), (SIZE, bt2020)];
    let mut groups = vec![];
    for ((size, colour), from) in parts.into_iter().zip([0, 5, 10, 15]) {
        groups.push(Scene::new(size, colour).group(from, from + 5));
    }
    let files = Files { record: Some(path("sr.mp4")), record_raw: Some(path("lr.mp4")), y4m: None };
    let viewed = view(&[], &groups, How { files: files.clone(), ..how(Preference::Cpu) });
    viewed.received.unwrap();
    assert_eq!(viewed.seen.len(), 20);
    assert_eq!(viewed.seen[12].size, (128, 192));
    for ((size, colour), number) in parts.into_iter().zip(["", "-2", "-3", "-4"]) {
        assert_eq!(file(&path(&format!("lr{number}.mp4"))), (size, colour, 5));
        assert_eq!(file(&path(&format!("sr{number}.mp4"))), ((2 * size.0, 2 * size.1), colour, 5));
    }
    assert!(!path("sr-5.mp4").exists() && !path("lr-5.mp4").exists());
    // A pipe has one size: it ends with a word on why, and holds what came before.
    let files = Files { y4m: Some(path("all.y4m")), ..Files::default() };
    let viewed = view(&[], &groups, How { files, ..how(Preference::Cpu) });
    let error = format!("{:#}", viewed.received.unwrap_err());
    assert!(error.contains("--y4m") && error.contains("192x128"), "{error}");
    assert_eq!(viewed.seen.len(), 5);
}
