//! Arguments of a kernel as the command line writes them.

use anyhow::{Context, Result, bail, ensure};
use half::f16;
use hone_ptxsim::{Arg, Memory};

/// Most bytes of a buffer.
const BUFFER_BYTES_MAX: u64 = 4 << 30;

/// Types of scalars and elements, with their bytes.
const TYPES: &[(&str, usize)] = &[
    ("u8", 1),
    ("i8", 1),
    ("u16", 2),
    ("i16", 2),
    ("f16", 2),
    ("u32", 4),
    ("i32", 4),
    ("f32", 4),
    ("u64", 8),
    ("i64", 8),
    ("f64", 8),
];

/// An argument.
pub struct Argument {
    value: Arg,
    /// Address, bytes and type of the elements.
    buffer: Option<(u64, u64, String)>,
}

impl Argument {
    /// Reads an argument and allocates its buffer, if it is one.
    pub fn read(text: &str, memory: &mut Memory, seed: u64) -> Result<Self> {
        if text == "null" {
            return Ok(Self { value: 0u64.into(), buffer: None });
        }
        if let Some((ty, value)) = text.split_once('=').filter(|(ty, _)| width(ty).is_some()) {
            return Ok(Self { value: Arg::bytes(&scalar(ty, value)?), buffer: None });
        }
        let (ty, what) = text.split_once(':').context("TYPE=VALUE, TYPE:KIND:N, TYPE:FILE or null")?;
        let width = width(ty).with_context(|| format!("unknown type {ty}"))?;
        let bytes = match what.split_once(':') {
            Some((kind, count)) => {
                let count: u64 = count.parse().context("number of elements")?;
                ensure!(count <= BUFFER_BYTES_MAX / width as u64, "more than {BUFFER_BYTES_MAX} bytes");
                fill(ty, kind, count, seed)?
            }
            None => std::fs::read(what).with_context(|| format!("cannot read {what}"))?,
        };
        let address = memory.allocate(bytes.len() as u64)?;
        memory.write(address, &bytes)?;
        Ok(Self { value: address.into(), buffer: Some((address, bytes.len() as u64, ty.into())) })
    }

    /// What the kernel gets.
    pub fn value(&self) -> Arg {
        self.value.clone()
    }

    /// Address and bytes of its buffer.
    pub fn buffer(&self) -> Option<(u64, u64)> {
        self.buffer.as_ref().map(|(address, bytes, _)| (*address, *bytes))
    }

    /// The first `count` elements of its buffer.
    pub fn show(&self, memory: &Memory, count: usize) -> Result<String> {
        let Some((address, bytes, ty)) = &self.buffer else { return Ok(String::new()) };
        let width = width(ty).unwrap_or(1);
        let bytes = memory.read_vec(*address, (*bytes).min((count * width) as u64))?;
        let shown: Vec<String> = bytes.chunks_exact(width).map(|element| show(ty, element)).collect();
        Ok(shown.join(" "))
    }
}

fn width(ty: &str) -> Option<usize> {
    TYPES.iter().find(|(name, _)| *name == ty).map(|(_, bytes)| *bytes)
}

fn scalar(ty: &str, value: &str) -> Result<Vec<u8>> {
    Ok(match ty {
        "u8" => value.parse::<u8>()?.to_le_bytes().to_vec(),
        "i8" => value.parse::<i8>()?.to_le_bytes().to_vec(),
        "u16" => value.parse::<u16>()?.to_le_bytes().to_vec(),
        "i16" => value.parse::<i16>()?.to_le_bytes().to_vec(),
        "f16" => f16::from_f64(value.parse()?).to_bits().to_le_bytes().to_vec(),
        "u32" => value.parse::<u32>()?.to_le_bytes().to_vec(),
        "i32" => value.parse::<i32>()?.to_le_bytes().to_vec(),
        "f32" => value.parse::<f32>()?.to_le_bytes().to_vec(),
        "u64" => value.parse::<u64>()?.to_le_bytes().to_vec(),
        "i64" => value.parse::<i64>()?.to_le_bytes().to_vec(),
        "f64" => value.parse::<f64>()?.to_le_bytes().to_vec(),
        _ => bail!("unknown type {ty}"),
    })
}

fn fill(ty: &str, kind: &str, count: u64, seed: u64) -> Result<Vec<u8>> {
    let float = ty.starts_with('f');
    let mut random = seed;
    let mut bytes = Vec::new();
    if kind == "poison" {
        let width = width(ty).unwrap_or(1) as u64;
        return Ok(vec![0xff; (count * width) as usize]);
    }
    for i in 0..count {
        let element = match kind {
            "zeros" => "0".to_owned(),
            "ones" => "1".to_owned(),
            "nan" if float => "nan".to_owned(),
            // Small enough for each type.
            "iota" => (i % 100).to_string(),
            "random" => {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let unit = (random >> 40) as f64 / f64::from(1 << 24);
                if float { (unit * 2.0 - 1.0).to_string() } else { ((unit * 10.0) as u32).to_string() }
            }
            _ => bail!("unknown kind {kind}: zeros, ones, nan, poison, iota, random"),
        };
        bytes.extend(scalar(ty, &element)?);
    }
    Ok(bytes)
}

fn show(ty: &str, element: &[u8]) -> String {
    let mut wide = [0; 8];
    wide[..element.len()].copy_from_slice(element);
    let bits = u64::from_le_bytes(wide);
    match ty {
        "i8" => (bits as i8).to_string(),
        "i16" => (bits as i16).to_string(),
        "f16" => f16::from_bits(bits as u16).to_string(),
        "i32" => (bits as i32).to_string(),
        "f32" => f32::from_bits(bits as u32).to_string(),
        "i64" => (bits as i64).to_string(),
        "f64" => f64::from_bits(bits).to_string(),
        _ => bits.to_string(),
    }
}
