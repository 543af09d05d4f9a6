//! What all launchers need: sizes as kernels take them.

use cudarc::driver::LaunchConfig;

/// Most blocks in the second and third dimension of a grid. Source: CUDA C++ Programming Guide, table of compute
/// capabilities.
const GRID_YZ_MAX: usize = 65_535;

/// A size as an int of a kernel.
///
/// # Panics
/// If it is 2^31 or more.
pub(crate) fn int(size: usize) -> i32 {
    assert!(i32::try_from(size).is_ok(), "{size} is more than an int holds");
    size as i32
}

/// A grid of blocks.
///
/// # Panics
/// If no driver would take it.
pub(crate) fn grid(x: usize, y: usize, z: usize, block: (u32, u32), shared_bytes: u32) -> LaunchConfig {
    assert!(
        x > 0 && (1..=GRID_YZ_MAX).contains(&y) && (1..=GRID_YZ_MAX).contains(&z),
        "a grid of {x} x {y} x {z}"
    );
    LaunchConfig {
        grid_dim: (int(x) as u32, y as u32, z as u32),
        block_dim: (block.0, block.1, 1),
        shared_mem_bytes: shared_bytes,
    }
}

/// One thread each for `count` things.
pub(crate) fn line(count: usize, block: u32) -> LaunchConfig {
    grid(
        int(count) as usize / block as usize + usize::from(!count.is_multiple_of(block as usize)),
        1,
        1,
        (block, 1),
        0,
    )
}

/// The largest chunk of channels that a kernel is compiled for and that divides `c`.
pub(crate) fn chunk(c: usize) -> usize {
    [64, 48, 32, 16].into_iter().find(|k| c.is_multiple_of(*k)).expect("channels in sixteens")
}
