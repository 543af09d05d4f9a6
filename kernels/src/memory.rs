//! Memory on a device: blocks of numbers, and activations as all kernels lay them out.

use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, PinnedHostSlice, ValidAsZeroBits};
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use crate::device::{Error, Stream};

/// Every channel count in memory is a multiple of this: one step of the tensor cores.
pub const CHANNEL_STEP: usize = 16;

/// Channels in memory for `c` channels of the network; the rest are zeros.
pub const fn padded(c: usize) -> usize {
    c.next_multiple_of(CHANNEL_STEP)
}

/// Numbers on the device; halves are u16 here, their bits.
pub struct Buffer<T> {
    pub(crate) slice: CudaSlice<T>,
    stream: Stream,
}

impl<T: DeviceRepr + ValidAsZeroBits + Copy> Buffer<T> {
    /// `len` zeros; at least one, for the driver knows no empty block.
    ///
    /// # Errors
    /// If the memory is full.
    pub fn zeros(stream: &Stream, len: usize) -> Result<Self, Error> {
        Ok(Self { slice: stream.cuda.alloc_zeros(len.max(1))?, stream: stream.clone() })
    }

    /// A copy of `values`.
    ///
    /// # Errors
    /// If the memory is full.
    pub fn from(stream: &Stream, values: &[T]) -> Result<Self, Error> {
        let mut buffer = Self::zeros(stream, values.len())?;
        buffer.write(0, values)?;
        Ok(buffer)
    }

    /// Copies `values` to index `at` and on.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn write(&mut self, at: usize, values: &[T]) -> Result<(), Error> {
        if values.is_empty() {
            return Ok(());
        }
        let mut to = self.slice.slice_mut(at..at + values.len());
        Ok(self.stream.cuda.memcpy_htod(values, &mut to)?)
    }

    /// Reads all back, after waiting for all work before.
    ///
    /// # Errors
    /// If any of it failed.
    pub fn read(&self) -> Result<Vec<T>, Error> {
        let values = self.stream.cuda.clone_dtoh(&self.slice)?;
        self.stream.synchronize()?;
        Ok(values)
    }

    /// Makes all of it zero.
    ///
    /// # Errors
    /// If the device failed.
    pub fn clear(&mut self) -> Result<(), Error> {
        Ok(self.stream.cuda.memset_zeros(&mut self.slice)?)
    }

    /// Copies all of `from`.
    ///
    /// # Errors
    /// If the device failed.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn copy(&mut self, from: &Self) -> Result<(), Error> {
        Ok(self.stream.cuda.memcpy_dtod(&from.slice, &mut self.slice)?)
    }

    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.slice.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.slice.is_empty()
    }

    /// `len` numbers from index `at` on.
    ///
    /// # Panics
    /// If they reach beyond the end.
    pub fn view(&self, at: usize, len: usize) -> View<'_, T> {
        assert!(at < self.len() && len <= self.len() - at, "{len} numbers at {at} of {}", self.len());
        View { buffer: self, at, len }
    }

    /// Its address as an argument of a kernel. Valid as long as the buffer lives; work on its stream that was queued before
    /// the buffer goes still finds it, for it is freed in the stream's order.
    pub(crate) fn address(&self) -> u64 {
        self.address_at(0)
    }

    /// The address of one number.
    pub(crate) fn address_at(&self, index: usize) -> u64 {
        assert!(index < self.len(), "an index inside the buffer");
        let (address, _) = self.slice.device_ptr(&self.stream.cuda);
        address + (index * size_of::<T>()) as u64
    }
}

/// A part of a [`Buffer`].
#[derive(Clone, Copy)]
pub struct View<'a, T> {
    buffer: &'a Buffer<T>,
    at: usize,
    len: usize,
}

impl<T: DeviceRepr + ValidAsZeroBits + Copy> View<'_, T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn address(&self) -> u64 {
        self.buffer.address_at(self.at)
    }
}

/// Numbers on the host that the device copies from and to by itself.
pub(crate) struct Pinned<T> {
    slice: PinnedHostSlice<T>,
}

impl<T: DeviceRepr + ValidAsZeroBits + Copy> Pinned<T> {
    pub(crate) fn zeros(stream: &Stream, len: usize) -> Result<Self, Error> {
        let context = stream.cuda.context();
        // Flags 0: cudarc's default is write-combined memory, from which the CPU reads slowly.
        // SAFETY: the memory is unset, and is filled below with zeros, valid for T, before anyone reads it.
        let mut slice = unsafe { context.alloc_pinned_with_flags::<T>(len, 0) }?;
        let at = slice.as_mut_ptr()?;
        // SAFETY: `at` is the start of `len` values of T that nobody else knows yet.
        unsafe { std::ptr::write_bytes(at, 0, len) };
        Ok(Self { slice })
    }

    /// Waits until the device is done with the last copy, then gives access.
    pub(crate) fn values(&mut self) -> Result<&mut [T], Error> {
        Ok(self.slice.as_mut_slice()?)
    }

    /// Queues a copy to the device.
    pub(crate) fn upload(&self, to: &mut Buffer<T>) -> Result<(), Error> {
        Ok(to.stream.cuda.memcpy_htod(&self.slice, &mut to.slice)?)
    }

    /// Queues a copy from the device.
    pub(crate) fn download(&mut self, from: &Buffer<T>) -> Result<(), Error> {
        Ok(from.stream.cuda.memcpy_dtoh(&from.slice, &mut self.slice)?)
    }
}

/// Sizes of activations: N, H, W, and channels as they are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Images.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels, [`padded`].
    pub c: usize,
}

impl Shape {
    /// Positions of all images.
    pub fn pixels(&self) -> usize {
        self.n * self.h * self.w
    }

    /// Values.
    pub fn len(&self) -> usize {
        self.pixels() * self.c
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Activations or their gradient: (N, H, W, C) f16, C padded with channels of zeros.
pub struct Tensor {
    /// Bits of f16.
    buffer: Buffer<u16>,
    shape: Shape,
}

impl Tensor {
    /// All zeros.
    ///
    /// # Errors
    /// If the memory is full.
    ///
    /// # Panics
    /// If the channels are not padded, or there are 2^31 pixels: kernels count them in an int.
    pub fn zeros(stream: &Stream, shape: Shape) -> Result<Self, Error> {
        check(shape);
        Ok(Self { buffer: Buffer::zeros(stream, shape.len())?, shape })
    }

    /// A copy of `values`, (N, H, W, C).
    ///
    /// # Errors
    /// If the memory is full.
    ///
    /// # Panics
    /// As [`Tensor::zeros`], and if the number of values is another.
    pub fn from(stream: &Stream, shape: Shape, values: &[f16]) -> Result<Self, Error> {
        check(shape);
        assert_eq!(values.len(), shape.len(), "values of {shape:?}");
        Ok(Self { buffer: Buffer::from(stream, values.reinterpret_cast())?, shape })
    }

    /// Its sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Reads all values back.
    ///
    /// # Errors
    /// If work before failed.
    pub fn read(&self) -> Result<Vec<f16>, Error> {
        Ok(self.buffer.read()?.reinterpret_cast().to_vec())
    }

    pub(crate) fn address(&self) -> u64 {
        self.buffer.address()
    }
}

fn check(shape: Shape) {
    assert!(!shape.is_empty() && shape.c.is_multiple_of(CHANNEL_STEP), "{shape:?}: channels in sixteens");
    assert!(i32::try_from(shape.pixels()).is_ok(), "{shape:?}: more pixels than an int counts");
}
