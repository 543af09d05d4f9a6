// add: y = a + b
// Shapes  a, b, y (count) eights of f16
// Launch  grid ceil(count / 256)  block 256  no shared memory
// Limits  count below 2^31; y may be a or b
// Budget  registers 32, shared 0 KiB
// Cost    48 B an eight; the floor at 3.0 TB/s. At 64 of 48x48, 16 channels: 14.2 MB, 4.7 us
// Oracle  model/src/reference/network.rs | Cases parity/tests/cuda/add.rs
//
// `accumulate` of the oracle, for the one value whose gradient comes from two skips: the head's. Elsewhere conv3x3 adds.
#include "gpu.cuh"

GPU_KERNEL __launch_bounds__(256) add(const half8* a, const half8* b, half8* y, int count) {
  const u32 i = blockIdx.x * 256 + threadIdx.x;
  if (i >= count) return;
  const half8 u = a[i], v = b[i];
  half8 sum;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    sum.pair[k] = pack_half2(first_f32(u.pair[k]) + first_f32(v.pair[k]), second_f32(u.pair[k]) + second_f32(v.pair[k]));
  }
  y[i] = sum;
}
