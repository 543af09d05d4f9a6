//! The sum of two gradients: `cu/add.cu`.

use cudarc::driver::PushKernelArg;

use crate::device::{Error, Stream};
use crate::launch::{int, line};
use crate::memory::Tensor;

/// Queues y = a + b.
///
/// # Errors
/// If the driver refuses.
///
/// # Panics
/// If the shapes differ.
pub fn add(stream: &Stream, a: &Tensor, b: &Tensor, y: &mut Tensor) -> Result<(), Error> {
    assert!(a.shape() == y.shape() && b.shape() == y.shape(), "sizes of a sum");
    let function = stream.device().function("add", "add", 0)?;
    let (a, b, eights) = (a.address(), b.address(), y.shape().len() / 8);
    let (to, count) = (y.address(), int(eights));
    let mut launch = stream.cuda.launch_builder(&function);
    launch.arg(&a).arg(&b).arg(&to).arg(&count);
    // SAFETY: arguments as in the kernel: a, b, y, count. All three hold `count` eights of f16.
    unsafe { launch.launch(line(eights, 256)) }?;
    Ok(())
}
