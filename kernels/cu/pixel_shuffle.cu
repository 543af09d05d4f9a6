// pixel_shuffle: y = channels of x moved into space; pixel_shuffle_grad: gx = gy moved back
// Shapes  x, gx (n,H,W,cx) f16, cx >= c*s^2 | y, gy (n,s*H,s*W,cy) f16, cy >= c; cx, cy multiples of 16, the rest zeros
// Launch  grid ceil(eights of the result / 256)  block 256  no shared memory; an eight: 8 channels of a pixel
// Limits  s >= 1; any c, H, W >= 1; eights of the result below 2^31
// Budget  registers 40, shared 0 KiB
// Cost    2*n*H*W*(cx + s^2*cy) B; the floor at 3.0 TB/s. At 64 of 48x48, c = 64, s = 2: 151 MB, 50 us
// Oracle  model/src/reference/pixel_shuffle.rs | Cases parity/tests/cuda/pixel_shuffle.rs
//
// Channel k*s^2 + dy*s + dx goes to channel k of (s*y + dy, s*x + dx). A thread writes 16 bytes and gathers what it needs:
// neighbouring threads read the same lines, so that nearly all of it comes from the cache.
#include "gpu.cuh"

GPU_KERNEL __launch_bounds__(256) pixel_shuffle(const half* x, half* y, int n, int h, int w, int c, int cx, int cy,
                                                int s) {
  const u32 eights = cy / 8, i = blockIdx.x * 256 + threadIdx.x, wide = (u32)w * s, tall = (u32)h * s;
  if (i >= n * tall * wide * eights) return;
  const u32 pixel = i / eights, channel = i % eights * 8;
  const u32 oy = pixel / wide % tall, ox = pixel % wide, image = pixel / wide / tall;
  const half* from = x + (((size_t)image * h + oy / s) * w + ox / s) * cx + oy % s * s + ox % s;
  u32 pair[4] = {};
#pragma unroll
  for (int k = 0; k < 8; k++) {
    if (channel + k < c) pair[k / 2] |= (u32)from[(channel + k) * s * s].bits << (k % 2 * 16);
  }
  *reinterpret_cast<half8*>(y + (size_t)pixel * cy + channel) = half8{{pair[0], pair[1], pair[2], pair[3]}};
}

GPU_KERNEL __launch_bounds__(256) pixel_shuffle_grad(const half* gy, half* gx, int n, int h, int w, int c, int cx,
                                                     int cy, int s) {
  const u32 eights = cx / 8, i = blockIdx.x * 256 + threadIdx.x;
  if (i >= (u32)n * h * w * eights) return;
  const u32 pixel = i / eights, channel = i % eights * 8;
  const u32 iy = pixel / w % h, ix = pixel % w, image = pixel / w / h, s2 = s * s;
  u32 pair[4] = {};
#pragma unroll
  for (int k = 0; k < 8; k++) {
    const u32 to = (channel + k) / s2, phase = (channel + k) % s2;
    if (to >= c) continue;
    const size_t at = ((size_t)image * h * s + iy * s + phase / s) * w * s + ix * s + phase % s;
    pair[k / 2] |= (u32)gy[at * cy + to].bits << (k % 2 * 16);
  }
  *reinterpret_cast<half8*>(gx + (size_t)pixel * cx + channel) = half8{{pair[0], pair[1], pair[2], pair[3]}};
}
