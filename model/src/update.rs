//! How published weights travel: integer increments on the grid, entropy-coded.
//!
//! An update turns one version into another. A snapshot is an update whose base is version 0, the stream's
//! origin, which both ends construct; a delta's base is any later version. Whatever the trainer's rounding
//! left over stays in its f32 weights and goes out with a later version (error feedback), since every update
//! is taken between grids, never between gradients.
//!
//! ```text
//! offset  bytes  field
//!      0      4  magic "HNU1"
//!      4      8  architecture, `Arch::id`, little endian as all below
//!     12      8  base version
//!     20      8  version, greater than the base
//!     28      8  origin: its seed, or with the highest bit set the name of a base model
//!     36      4  held-out gain over the base image, hundredths of dB, signed
//!     40     16  hash of the result, `Published::hash`
//!     56      -  increments, range coded: one symbol per parameter, in the order of `Weights`
//! ```
//!
//! No increments are no bytes. If the hash says that there is a change all the same, the update is a recall: the result is
//! what the hash names, and viewers who saw it keep it ([`Holding`]).
//!
//! [`Holding`]: crate::Holding

use crate::arch::{Arch, Layer};
use crate::base::{BASE_BIT, BaseModel};
use crate::published::{GRID_MAX, Origin, Published};
use crate::range_coder::{Bit, Decoder, Encoder};

const MAGIC: &[u8; 4] = b"HNU1";
/// No stream gets so far, and one more is a number still.
const VERSION_MAX: u64 = u64::MAX / 2;
pub(crate) const HEADER_BYTES: usize = 56;

/// Largest magnitude class: an increment between two grids has at most this many bits.
const CLASSES: usize = (2 * GRID_MAX).ilog2() as usize + 2;

/// What an update says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Header {
    /// [`Arch::id`] of the network.
    pub arch_id: u64,
    /// The version it must be applied to; 0 makes it a snapshot.
    pub base: u64,
    /// The version that results.
    pub version: u64,
    /// What version 0 of the stream is.
    pub origin: Origin,
    /// Gain in PSNR over the base image on held-out patches, dB, to the hundredth.
    pub gain_db: f32,
    /// [`Published::hash`] of the result.
    pub hash: [u8; 16],
}

/// Why an update was refused. The weights in force stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Too short, or not an update at all.
    #[error("not a model update: {bytes} bytes without the header of one")]
    Syntax {
        /// Its length.
        bytes: usize,
    },
    /// Made for another network.
    #[error("model update for another architecture (id {have:016x}, expected {expected:016x})")]
    Arch {
        /// [`Arch::id`] in force.
        expected: u64,
        /// The update's.
        have: u64,
    },
    /// Made for another base version.
    #[error("model update from version {base}, but version {have} is in force")]
    Base {
        /// The update's base.
        base: u64,
        /// The version in force.
        have: u64,
    },
    /// The version does not follow its base, or no other could follow it.
    #[error("model update from version {base} to {version}")]
    Version {
        /// The update's base.
        base: u64,
        /// The update's version.
        version: u64,
    },
    /// Starts from a base model that is not bundled here, or does not suit the network.
    #[error(
        "model update from base model {id:016x}, which this version of Hone does not have for this network"
    )]
    Origin {
        /// Its name on the wire.
        id: u64,
    },
    /// The increments end early, go on too long, or leave the grid.
    #[error("model update {version}: damaged increments")]
    Increments {
        /// The update's version.
        version: u64,
    },
    /// Names weights that are not kept here: they were shown before this viewer came.
    #[error("model update {version} goes back to weights that are not kept here")]
    NotKept {
        /// The update's version.
        version: u64,
    },
    /// The result is not what the sender had.
    #[error("model update {version}: the result has another hash")]
    Hash {
        /// The update's version.
        version: u64,
    },
}

/// Reads the header of `bytes` alone.
///
/// # Errors
/// [`UpdateError::Syntax`], [`UpdateError::Version`] or [`UpdateError::Origin`].
pub fn header(bytes: &[u8]) -> Result<Header, UpdateError> {
    let syntax = UpdateError::Syntax { bytes: bytes.len() };
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
        return Err(syntax);
    }
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let gain = i32::from_le_bytes(std::array::from_fn(|i| bytes[36 + i]));
    let (base, version) = (u64_at(12), u64_at(20));
    if version <= base || version > VERSION_MAX {
        return Err(UpdateError::Version { base, version });
    }
    let (arch_id, origin) = (u64_at(4), u64_at(28));
    let origin = match origin & BASE_BIT {
        0 => Origin::Seed(origin),
        _ => Origin::Base(BaseModel::named(origin).ok_or(UpdateError::Origin { id: origin })?),
    };
    Ok(Header {
        arch_id,
        base,
        version,
        origin,
        gain_db: gain as f32 / 100.0,
        hash: std::array::from_fn(|i| bytes[40 + i]),
    })
}

/// The update that turns `base` into `result`.
///
/// # Panics
/// If the architectures differ, the result's version does not follow the base's, or a seed is 2^63 or more.
pub fn encode(origin: Origin, base: &Published, result: &Published, gain_db: f32) -> Vec<u8> {
    let mut bytes = encode_recall(origin, base, result, gain_db);
    let mut coder = Encoder::new();
    for_each_symbol(base.arch(), |i, models| {
        let increment = result.grid()[i] - base.grid()[i];
        models.encode(&mut coder, increment);
        Some(increment)
    });
    bytes.extend(coder.finish());
    bytes
}

/// The update that turns `base` into `result` for those who keep that ([`Holding`](crate::Holding)).
///
/// # Panics
/// As [`encode`].
pub fn encode_recall(origin: Origin, base: &Published, result: &Published, gain_db: f32) -> Vec<u8> {
    assert!(base.arch() == result.arch() && base.version() < result.version(), "an update goes forward");
    let origin = match origin {
        Origin::Seed(seed) => {
            assert!(seed & BASE_BIT == 0, "seed {seed} of an origin");
            seed
        }
        Origin::Base(base) => base.id(),
    };
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    for field in [base.arch().id(), base.version(), result.version(), origin] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&((gain_db * 100.0).round() as i32).to_le_bytes());
    bytes.extend_from_slice(&result.hash());
    bytes
}

/// Applies an update to the version in force, or to the origin if it is a snapshot.
///
/// # Errors
/// [`UpdateError`]; nothing has changed then.
pub fn apply(held: &Published, bytes: &[u8]) -> Result<Published, UpdateError> {
    let header = header(bytes)?;
    let arch = held.arch();
    if header.arch_id != arch.id() {
        return Err(UpdateError::Arch { expected: arch.id(), have: header.arch_id });
    }
    if let Origin::Base(base) = header.origin
        && !base.suits(arch)
    {
        return Err(UpdateError::Origin { id: base.id() });
    }
    let origin;
    let base = if header.base == 0 {
        origin = Published::origin(arch, header.origin);
        &origin
    } else if header.base == held.version() {
        held
    } else {
        return Err(UpdateError::Base { base: header.base, have: held.version() });
    };

    let damaged = UpdateError::Increments { version: header.version };
    let mut coder = Decoder::new(&bytes[HEADER_BYTES..]);
    let mut grid = base.grid().to_vec();
    let whole = for_each_symbol(arch, |i, models| {
        let increment = models.decode(&mut coder)?;
        grid[i] = grid[i].checked_add(increment).filter(|q| q.abs() <= GRID_MAX)?;
        Some(increment)
    });
    if whole.is_none() || coder.has_rest() {
        return Err(damaged);
    }
    let result = Published::from_grid(arch, header.version, grid);
    if result.hash() != header.hash {
        return Err(UpdateError::Hash { version: header.version });
    }
    Ok(result)
}

/// Calls `symbol` for each parameter in order, with the models of its context; stops where it returns none.
///
/// The context is the kind of layer (first, body, last), weights or biases, and the magnitudes of the two
/// increments before.
fn for_each_symbol(arch: Arch, mut symbol: impl FnMut(usize, &mut Models) -> Option<i32>) -> Option<()> {
    let layers = arch.layers();
    let mut models = vec![Models::new(); 6 * CONTEXTS];
    for (l, layer) in layers.iter().enumerate() {
        let kind = usize::from(l > 0) + usize::from(l + 1 == layers.len());
        for (part, range) in parts(layer).into_iter().enumerate() {
            let mut recent = [0usize; 2];
            for i in range {
                let context = (recent[0] + recent[1]).div_ceil(2).min(CONTEXTS - 1);
                let increment = symbol(i, &mut models[(2 * kind + part) * CONTEXTS + context])?;
                recent = [recent[1], class(increment)];
            }
        }
    }
    Some(())
}

const CONTEXTS: usize = 8;

fn parts(layer: &Layer) -> [std::ops::Range<usize>; 2] {
    let end = layer.offset + layer.weights();
    [layer.offset..end, end..end + layer.cout]
}

/// 0 for 0, else the bits of the magnitude.
fn class(increment: i32) -> usize {
    (i32::BITS - increment.unsigned_abs().leading_zeros()) as usize
}

/// One increment: its class in unary, the sign, then the bits below the leading one. The highest of these is
/// modelled, the rest is even.
#[derive(Clone)]
struct Models {
    class: [Bit; CLASSES],
    high: [Bit; CLASSES],
}

impl Models {
    fn new() -> Self {
        Self { class: [Bit::EVEN; CLASSES], high: [Bit::EVEN; CLASSES] }
    }

    fn encode(&mut self, coder: &mut Encoder, increment: i32) {
        let class = class(increment);
        for (c, model) in self.class.iter_mut().enumerate().take(class + 1) {
            coder.encode(model, c < class);
        }
        if class == 0 {
            return;
        }
        coder.encode_even(increment < 0);
        let magnitude = increment.unsigned_abs();
        for bit in (0..class - 1).rev() {
            let set = magnitude >> bit & 1 == 1;
            if bit + 2 == class { coder.encode(&mut self.high[class], set) } else { coder.encode_even(set) }
        }
    }

    /// None if the class is larger than any increment's.
    fn decode(&mut self, coder: &mut Decoder) -> Option<i32> {
        let class = self.class.iter_mut().position(|model| !coder.decode(model))?;
        if class == 0 {
            return Some(0);
        }
        let negative = coder.decode_even();
        let mut magnitude = 1;
        for bit in (0..class - 1).rev() {
            let set =
                if bit + 2 == class { coder.decode(&mut self.high[class]) } else { coder.decode_even() };
            magnitude = magnitude << 1 | i32::from(set);
        }
        Some(if negative { -magnitude } else { magnitude })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Weights;
    use crate::rng::Rng;

    const ORIGIN: Origin = Origin::Seed(9);

    fn arch() -> Arch {
        "live-2x8-x2".parse().unwrap()
    }

    /// The version after `base`, with every `one_in`-th weight moved by up to `by`.
    fn moved(base: &Published, seed: u64, one_in: usize, by: f32) -> Published {
        let mut rng = Rng::new(seed);
        let mut weights = base.weights();
        for w in weights.params_mut() {
            if rng.below(one_in) == 0 {
                *w += by * (rng.unit() as f32 * 2.0 - 1.0);
            }
        }
        base.next(&weights)
    }

    #[test]
    fn snapshot_and_deltas_agree_bit_for_bit() {
        let origin = Published::origin(arch(), ORIGIN);
        let v1 = moved(&origin, 1, 1, 0.05);
        let v2 = moved(&v1, 2, 20, 0.01);
        let (to_v1, to_v2) = (encode(ORIGIN, &origin, &v1, 0.5), encode(ORIGIN, &v1, &v2, 0.75));
        let snapshot = encode(ORIGIN, &origin, &v2, 0.75);
        let held = apply(&apply(&origin, &to_v1).unwrap(), &to_v2).unwrap();
        assert_eq!(held, v2);
        // A late joiner holds something else entirely; a snapshot does not mind.
        assert_eq!(apply(&Published::origin(arch(), Origin::Seed(1)), &snapshot).unwrap(), v2);
        assert_eq!(header(&to_v2).unwrap().gain_db, 0.75);
        assert!(to_v2.len() < snapshot.len() / 4, "{} against {}", to_v2.len(), snapshot.len());
    }

    #[test]
    fn sparse_updates_are_small() {
        let arch: Arch = "live-4x16-x2".parse().unwrap();
        let origin = Published::origin(arch, ORIGIN);
        let next = moved(&origin, 3, 20, 0.001);
        // 5% moved by up to four steps: 0.29 bit for where, 3 bits for what, times 23,068.
        let bytes = encode(ORIGIN, &origin, &next, 0.0).len() - HEADER_BYTES;
        assert!((500..1500).contains(&bytes), "{bytes}");
    }

    #[test]
    fn largest_weights_survive() {
        let origin = Published::origin(arch(), ORIGIN);
        let params = (0..arch().params()).map(|i| if i % 2 == 0 { 1e9 } else { -1e9 }).collect();
        let high = origin.next(&Weights::from_params(arch(), params));
        let low =
            high.next(&Weights::from_params(arch(), high.weights().params().iter().map(|w| -w).collect()));
        let held = apply(&origin, &encode(ORIGIN, &origin, &high, 0.0)).unwrap();
        assert_eq!(apply(&held, &encode(ORIGIN, &high, &low, 0.0)).unwrap(), low);
    }

    #[test]
    fn each_wrong_update_has_its_error() {
        let origin = Published::origin(arch(), ORIGIN);
        let v1 = moved(&origin, 4, 2, 0.05);
        let v2 = moved(&v1, 5, 2, 0.05);
        let update = encode(ORIGIN, &v1, &v2, 0.0);
        assert_eq!(apply(&origin, &update), Err(UpdateError::Base { base: 1, have: 0 }));
        assert_eq!(apply(&v1, &update[..20]), Err(UpdateError::Syntax { bytes: 20 }));
        assert_eq!(apply(&v1, b"not an update"), Err(UpdateError::Syntax { bytes: 13 }));
        let other = Published::origin("live-2x8-x3".parse().unwrap(), ORIGIN);
        assert!(matches!(apply(&other, &update), Err(UpdateError::Arch { .. })));
        let mut wrong = update.clone();
        wrong[45] ^= 1;
        assert_eq!(apply(&v1, &wrong), Err(UpdateError::Hash { version: 2 }));
        let mut longer = update.clone();
        longer.extend([1, 2, 3]);
        assert!(apply(&v1, &longer).is_err());
        let mut back = update.clone();
        back[20..28].copy_from_slice(&0u64.to_le_bytes());
        assert_eq!(apply(&v1, &back), Err(UpdateError::Version { base: 1, version: 0 }));
        for length in 0..update.len() {
            assert!(apply(&v1, &update[..length]).is_err(), "cut to {length}");
        }
        assert_eq!(apply(&v1, &update).unwrap(), v2);
        // The name of a base model that is bundled, but of another scale.
        let base = Origin::best("live-4x16-x3".parse().unwrap(), 0);
        let Origin::Base(named) = base else { panic!("{base:?}") };
        let misled = encode(base, &v1, &v2, 0.0);
        assert_eq!(apply(&v1, &misled), Err(UpdateError::Origin { id: named.id() }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let held = Published::origin(arch(), ORIGIN);
            prop_assert!(apply(&held, &bytes).is_err());
            let mut framed = encode(ORIGIN, &held, &moved(&held, 6, 3, 0.1), 0.0);
            framed.truncate(HEADER_BYTES);
            framed.extend(bytes);
            prop_assert!(apply(&held, &framed).is_err());
        }

        #[test]
        fn any_flipped_bit_is_noticed(bit in 0usize..4000) {
            let held = Published::origin(arch(), ORIGIN);
            let good = encode(ORIGIN, &held, &moved(&held, 7, 3, 0.1), 0.0);
            let mut bad = good.clone();
            let bit = bit % (8 * good.len());
            bad[bit / 8] ^= 1 << (bit % 8);
            // The gain is advice and the version only has to grow: neither is covered by the hash.
            prop_assume!(!(20..28).contains(&(bit / 8)) && !(36..40).contains(&(bit / 8)));
            prop_assert!(apply(&held, &bad).is_err());
        }
    }
}
