//! The weights file: safetensors, with the architecture in its metadata.
//!
//! Tensor names and shapes are EDSR-PyTorch's, so that its checkpoints, saved as safetensors, load as they are.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::arch::Family;
use crate::{Arch, ArchError, Weights};

/// Key of the written architecture in the file's metadata.
const ARCH_KEY: &str = "hone.arch";

/// Largest file that is read: EDSR 32x256 at x4 in f32 has 172 MB.
pub const FILE_BYTES_MAX: usize = 256 << 20;

/// Why a weights file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Larger than [`FILE_BYTES_MAX`].
    #[error("weights file of {0} bytes: larger than {FILE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not a safetensors file.
    #[error("not a safetensors file: {0}")]
    Syntax(#[from] safetensors::SafeTensorError),
    /// It says nothing of its architecture.
    #[error("weights file without `{ARCH_KEY}` in its metadata: import it with its architecture instead")]
    NoArch,
    /// Its architecture is none.
    #[error(transparent)]
    Arch(#[from] ArchError),
    /// A tensor is missing, has another shape or another type, or is not finite.
    #[error("tensor `{name}` of {arch}: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// The architecture it should fit.
        arch: Arch,
        /// What is wrong.
        reason: String,
    },
}

/// Writes the file.
///
/// # Errors
/// [`FileError::Syntax`] if the library cannot serialise.
pub fn save(weights: &Weights) -> Result<Vec<u8>, FileError> {
    let mut tensors = Vec::new();
    for layer in weights.arch().layers() {
        let (weight, bias) = weights.layer(&layer);
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        tensors.push((format!("{}.weight", layer.name), vec![layer.cout, layer.cin, 3, 3], bytes(weight)));
        tensors.push((format!("{}.bias", layer.name), vec![layer.cout], bytes(bias)));
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, FileError>>()?;
    let metadata = HashMap::from([(ARCH_KEY.to_owned(), weights.arch().to_string())]);
    Ok(safetensors::serialize(views, Some(metadata))?)
}

/// Reads a file that [`save`] wrote.
///
/// # Errors
/// [`FileError`].
pub fn load(bytes: &[u8]) -> Result<Weights, FileError> {
    let (_, metadata) = SafeTensors::read_metadata(check_size(bytes)?)?;
    let arch = metadata.metadata().as_ref().and_then(|m| m.get(ARCH_KEY)).ok_or(FileError::NoArch)?;
    read(arch.parse()?, bytes, 1.0)
}

/// Reads an EDSR-PyTorch checkpoint that was saved as safetensors.
///
/// It was trained on RGB 0..=255. A stack of convolutions and ReLUs scales with its input if its biases do, so
/// dividing the biases by 255 makes it ours, exactly. Its `sub_mean` and `add_mean` are [`crate::arch::RGB_MEAN`].
///
/// # Errors
/// [`FileError`].
pub fn import_edsr(arch: Arch, bytes: &[u8]) -> Result<Weights, FileError> {
    if arch.family != Family::Edsr {
        let reason = "only the edsr family has checkpoints to import".into();
        return Err(FileError::Tensor { name: "head.0.weight".into(), arch, reason });
    }
    read(arch, check_size(bytes)?, 1.0 / 255.0)
}

fn check_size(bytes: &[u8]) -> Result<&[u8], FileError> {
    if bytes.len() > FILE_BYTES_MAX { Err(FileError::TooLarge(bytes.len())) } else { Ok(bytes) }
}

fn read(arch: Arch, bytes: &[u8], bias_scale: f32) -> Result<Weights, FileError> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut params = Vec::with_capacity(arch.params().min(bytes.len() / 4));
    for layer in arch.layers() {
        let parts =
            [("weight", vec![layer.cout, layer.cin, 3, 3], 1.0), ("bias", vec![layer.cout], bias_scale)];
        for (part, shape, scale) in parts {
            let name = format!("{}.{part}", layer.name);
            let refuse = |reason: String| FileError::Tensor { name: name.clone(), arch, reason };
            let tensor = file.tensor(&name).map_err(|e| refuse(e.to_string()))?;
            if tensor.shape() != shape || tensor.dtype() != Dtype::F32 {
                return Err(refuse(format!(
                    "{:?} {:?}, expected F32 {shape:?}",
                    tensor.dtype(),
                    tensor.shape()
                )));
            }
            for value in tensor.data().as_chunks::<4>().0 {
                let value = f32::from_le_bytes(*value);
                if !value.is_finite() {
                    return Err(refuse(format!("holds {value}")));
                }
                params.push(value * scale);
            }
        }
    }
    Ok(Weights::from_params(arch, params))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::RGB_MEAN;
    use crate::reference::{Tensor, conv3x3, forward, pixel_shuffle};
    use crate::rng::Rng;
    use crate::{Origin, Published};

    fn weights(arch: &str) -> Weights {
        Published::origin(arch.parse().unwrap(), Origin::Seed(3)).weights()
    }

    #[test]
    fn round_trips_and_keeps_the_architecture() {
        for arch in ["live-2x8-x3", "edsr-1x16-x4"] {
            let weights = weights(arch);
            assert_eq!(load(&save(&weights).unwrap()).unwrap(), weights);
        }
    }

    #[test]
    fn refuses_what_is_cut_foreign_or_not_finite() {
        let good = save(&weights("live-1x8-x2")).unwrap();
        for length in [0, 7, 8, 100, good.len() - 1] {
            assert!(matches!(load(&good[..length]), Err(FileError::Syntax(_))), "cut to {length}");
        }
        let mut nan = good.clone();
        let end = nan.len();
        nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(matches!(load(&nan), Err(FileError::Tensor { .. })));
        let other: Arch = "edsr-1x8-x2".parse().unwrap();
        assert!(matches!(import_edsr(other, &good), Err(FileError::Tensor { .. })));
        let bare = safetensors::serialize(Vec::<(&str, TensorView)>::new(), None).unwrap();
        assert!(matches!(load(&bare), Err(FileError::NoArch)));
    }

    #[test]
    fn imported_checkpoint_computes_what_it_did_on_0_to_255() {
        let arch: Arch = "edsr-1x8-x2".parse().unwrap();
        let mut theirs = weights("edsr-1x8-x2");
        let mut rng = Rng::new(8);
        theirs.params_mut().iter_mut().for_each(|p| *p += 0.1 * rng.unit() as f32);
        let ours = import_edsr(arch, &save(&theirs).unwrap()).unwrap();
        let rgb = Tensor { n: 1, c: 3, h: 3, w: 4, data: (0..36).map(|_| rng.unit()).collect() };
        let f64s = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let y = forward(arch, &f64s(ours.params()), &rgb);

        // Theirs, layer by layer on 0..=255.
        let layers = arch.layers();
        let conv = |x: &Tensor, l: usize| {
            let (weight, bias) = theirs.layer(&layers[l]);
            conv3x3(x, &f64s(weight), &f64s(bias))
        };
        let add = |mut x: Tensor, y: &Tensor| {
            x.data.iter_mut().zip(&y.data).for_each(|(x, y)| *x += y);
            x
        };
        let mean = |i: usize| f64::from(RGB_MEAN[i / 12 % 3]);
        let mut input = rgb.clone();
        input.data.iter_mut().enumerate().for_each(|(i, v)| *v = 255.0 * (*v - mean(i)));
        let head = conv(&input, 0);
        let mut hidden = conv(&head, 1);
        hidden.data.iter_mut().for_each(|v| *v = v.max(0.0));
        let body = add(conv(&add(conv(&hidden, 2), &head), 3), &head);
        let mut expected = conv(&pixel_shuffle(&conv(&body, 4), 2), 5);
        let pixels = expected.h * expected.w;
        expected
            .data
            .iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v = *v / 255.0 + f64::from(RGB_MEAN[i / pixels % 3]));
        for (a, b) in y.data.iter().zip(&expected.data) {
            assert!((a - b).abs() < 1e-6, "{a} against {b}");
        }
    }
}
