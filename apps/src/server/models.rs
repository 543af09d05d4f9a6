//! What streams have learned, on disk: a file each, whole or not there.
//!
//! A file is a [`Library`]: what was learned of each scene, the newest last.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hone_model::Arch;
use hone_trainer::Library;

/// Largest file that is read: twice what the weights of a library may take.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Ends of names.
const MODEL: &str = "hnl";
const UNFINISHED: &str = "tmp";

/// A folder of saved models.
#[derive(Clone, Debug)]
pub struct Models {
    folder: PathBuf,
    files_max: usize,
}

impl Models {
    /// Opens, and if need be makes, the folder. What a run before did not finish writing is removed.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn open(folder: &Path, files_max: usize) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make folder {}", folder.display()))?;
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == UNFINISHED) {
                tracing::info!(file = %path.display(), "removed what was not finished");
                // Left behind it does no harm.
                let _ = fs::remove_file(path);
            }
        }
        Ok(Self { folder: folder.to_owned(), files_max })
    }

    /// The file of a stream. Names of streams have no separators; [`hone_transport`] sees to that.
    fn path(&self, stream: &str, arch: Arch) -> PathBuf {
        self.folder.join(format!("{stream}.{arch}.{MODEL}"))
    }

    /// What `stream` had learned, if anything. A file that is damaged is set aside under a name that ends with
    /// `.corrupt`, and the stream starts anew.
    pub fn load(&self, stream: &str, arch: Arch) -> Option<Library> {
        let path = self.path(stream, arch);
        let reason = match read(&path, arch) {
            Ok(library) => return library,
            Err(reason) => format!("{reason:#}"),
        };
        let aside = path.with_extension(format!("{MODEL}.corrupt"));
        match fs::rename(&path, &aside) {
            Ok(()) => tracing::warn!(stream, reason, aside = %aside.display(), "saved model set aside"),
            Err(error) => tracing::warn!(stream, reason, %error, "saved model left out"),
        }
        None
    }

    /// Keeps what `stream` has `learned`. Whatever stops the machine, there is the old file or the new one.
    ///
    /// # Errors
    /// If it cannot be written, or if there are too many files; nothing has changed then.
    pub fn save(&self, stream: &str, arch: Arch, learned: &[u8]) -> Result<()> {
        let path = self.path(stream, arch);
        if !path.exists() && self.files()? >= self.files_max {
            bail!("{} holds {} models, the most that it may", self.folder.display(), self.files_max);
        }
        let unfinished = path.with_extension(UNFINISHED);
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&unfinished)?;
            file.write_all(learned)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            // The name is on disk only when the folder is; Windows neither needs nor has this.
            if cfg!(unix) { File::open(&self.folder)?.sync_all() } else { Ok(()) }
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    fn files(&self) -> Result<usize> {
        let entries = fs::read_dir(&self.folder)?;
        Ok(entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == MODEL)).count())
    }
}

/// None where there is no file.
fn read(path: &Path, arch: Arch) -> Result<Option<Library>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    // One byte more than there may be tells that there are more.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bail!("larger than {FILE_BYTES_MAX} bytes");
    }
    Ok(Some(Library::from_bytes(arch, &bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_model::{Origin, Published, Weights, update};

    fn arch() -> Arch {
        "live-1x8-x2".parse().unwrap()
    }

    fn learned(version: u64) -> (Published, Vec<u8>) {
        let origin = Published::origin(arch(), Origin::Seed(3));
        let mut weights: Weights = origin.weights();
        weights.params_mut().iter_mut().enumerate().for_each(|(i, w)| *w += (i % 7) as f32 / 64.0);
        let next = origin.next(&weights).at_version(version);
        let update = update::encode(Origin::Seed(3), &origin, &next, 0.5);
        let length = (update.len() as u32).to_le_bytes();
        (next, [&b"HNL1\x01\x00\x00"[..], &length, &update].concat())
    }

    #[test]
    fn what_is_saved_is_loaded_and_the_newest_counts() {
        let folder = tempfile::tempdir().unwrap();
        let models = Models::open(&folder.path().join("models"), 2).unwrap();
        assert!(models.load("cam", arch()).is_none());
        for version in [5, 9] {
            let (published, bytes) = learned(version);
            models.save("cam", arch(), &bytes).unwrap();
            assert_eq!(models.load("cam", arch()).unwrap().newest(), Some(&published));
        }
        // Another network of the same stream is another file.
        assert!(models.load("cam", "live-2x8-x2".parse().unwrap()).is_none());
        models.save("door", arch(), &learned(1).1).unwrap();
        let error = models.save("third", arch(), &learned(1).1).unwrap_err().to_string();
        assert!(error.contains("the most"), "{error}");
        models.save("door", arch(), &learned(2).1).unwrap();
    }

    #[test]
    fn damaged_files_are_set_aside_wherever_the_damage_is() {
        let folder = tempfile::tempdir().unwrap();
        let models = Models::open(folder.path(), 9).unwrap();
        let (_, whole) = learned(5);
        let path = models.path("cam", arch());
        let mut damaged: Vec<Vec<u8>> =
            [0, 3, 4, 9, 60, 70, whole.len() - 1].map(|length| whole[..length].to_vec()).into();
        damaged.extend([0, 4, 5, 15, 23, 52, 81].map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        }));
        for (i, bytes) in damaged.iter().enumerate() {
            fs::write(&path, bytes).unwrap();
            assert!(models.load("cam", arch()).is_none(), "case {i}");
            assert!(!path.exists() && fs::read(path.with_extension("hnl.corrupt")).unwrap() == *bytes);
        }
        // The next run saves and loads again.
        models.save("cam", arch(), &whole).unwrap();
        assert!(models.load("cam", arch()).is_some());
    }

    #[test]
    fn what_was_not_finished_is_removed_and_never_read() {
        let folder = tempfile::tempdir().unwrap();
        let torn = folder.path().join("cam.live-1x8-x2.tmp");
        fs::write(&torn, &learned(5).1[..100]).unwrap();
        let models = Models::open(folder.path(), 9).unwrap();
        assert!(!torn.exists() && models.load("cam", arch()).is_none());
    }
}
