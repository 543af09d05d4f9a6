// Target compute_90a
// conv3x3_wgmma_k64_n64: conv3x3_k64_n64 by Hopper's warpgroup instructions; the same arguments, the same result
// Shapes  x (n,H,W,64) f16 | w (9,cy,64) f16 | bias (cy) f32 | add, mask, y (n,H,W,cy) f16
// Launch  grid (min(ceil(T/3), what is resident / z), 1, z = n*cy/64)  block 384  dynamic shared 216960 B
//         where T = ceil(W/8)*ceil(H/16) are an image's tiles, of which a block computes three at a time
// Limits  cx = 64; 64 divides cy; any H, W >= 1; accumulates f32; bias, add and mask may be null; add may be y
// Budget  registers 168, shared 0 KiB, tensor cores
// Cost    1152*n*H*W*cy flop; 2*n*H*W*(64 + cy), 2*n*H*W*cy more for add and for mask B; the larger floor at 790 TFLOP/s,
//         3.0 TB/s. At 64 of 48x48, cy = 64: 10.9 GFLOP, 13.8 us
// Oracle  model/src/reference/conv3x3.rs | Cases parity/tests/cuda/conv3x3.rs
//
// A is the weights (64 channels), B the pixels (8x16): so an instruction reads 2 KB of A and 4 KB of B for 64 cycles of
// work, within what shared memory gives; pixels as A would need all of it. Weights of all taps stay in shared memory.
// Three warpgroups go from tile to tile, each by its own barrier: one stores while the others multiply.
//
// Both operands lie in eight planes, one for each 8 channels, of 16 bytes a row, without swizzle: 8 rows in succession
// are one core matrix of 128 bytes, and a tap's pixels are the same planes from another pixel on. Rows of the tile are
// 8 pixels, one core matrix, so that one stride leads from each to the next.
#include "gpu.cuh"

constexpr int C = 64, EIGHTS = C / 8, GROUPS = 3, THREADS = GROUPS * 128;
constexpr int TILE_H = 16, TILE_W = 8, HALO_W = TILE_W + 2, HALO_PIXELS = (TILE_H + 2) * HALO_W;
// Planes are 16 bytes more than a multiple of 128 apart: writing all channels of a pixel then meets no bank twice.
constexpr u32 W_PLANE = C * 16 + 16, X_PLANE = HALO_PIXELS * 16 + 80;
constexpr u32 TAP_BYTES = EIGHTS * W_PLANE, TILE_BYTES = EIGHTS * X_PLANE;

// Barrier of one warpgroup. Number 0 is __syncthreads.
__device__ __forceinline__ void group_barrier(int group) {
  asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}

GPU_KERNEL __launch_bounds__(THREADS, 1)
    conv3x3_wgmma_k64_n64(const half* __restrict__ x, const half* __restrict__ w, const float* __restrict__ bias,
                          const half* add, const half* mask, half* y, int h, int w_, int cx, int cy, float scale,
                          int relu) {
  extern __shared__ __align__(128) u8 dynamic_shared[];
  const int group = threadIdx.x / 128, thread = threadIdx.x % 128;
  const u32 weights = shared_address(dynamic_shared), pixels = weights + 9 * TAP_BYTES + group * 2 * TILE_BYTES;
  const int image = blockIdx.z / (cy / C), channel0 = blockIdx.z % (cy / C) * C;
  const size_t pixel0 = (size_t)image * h * w_;
  const int tiles_x = (w_ + TILE_W - 1) / TILE_W, tiles = tiles_x * ((h + TILE_H - 1) / TILE_H);
  const int stride = gridDim.x * GROUPS;

  auto load_x = [&](int tile, u32 to) {
    const int x0 = tile % tiles_x * TILE_W - 1, y0 = tile / tiles_x * TILE_H - 1;
#pragma unroll 1
    for (int i = thread; i < HALO_PIXELS * EIGHTS; i += 128) {
      const int p = i / EIGHTS, eight = i % EIGHTS, iy = y0 + p / HALO_W, ix = x0 + p % HALO_W;
      const bool inside = (u32)iy < (u32)h && (u32)ix < (u32)w_;
      cp_async16(to + eight * X_PLANE + p * 16,
                 inside ? x + (pixel0 + (size_t)iy * w_ + ix) * cx + eight * 8 : x, inside);
    }
  };

  // Row 16i+g holds channel 16i+2g, row 16i+g+8 the next one: a lane's two rows are neighbours in memory.
#pragma unroll 1
  for (int i = threadIdx.x; i < 9 * C * EIGHTS; i += THREADS) {
    const int eight = i % EIGHTS, row = i / EIGHTS % C, tap = i / (EIGHTS * C);
    const int channel = channel0 + row / 16 * 16 + row % 8 * 2 + row % 16 / 8;
    cp_async16(weights + tap * TAP_BYTES + eight * W_PLANE + row * 16,
               w + ((size_t)tap * cy + channel) * cx + eight * 8, true);
  }
  int tile = blockIdx.x * GROUPS + group;
  if (tile < tiles) load_x(tile, pixels);
  cp_async_commit();
  cp_async_wait<0>();
  fence_async_proxy();
  __syncthreads();  // the weights are everyone's
  if (tile + stride < tiles) load_x(tile + stride, pixels + TILE_BYTES);
  cp_async_commit();

  const int lane = thread % 32, warp = thread / 32, g = lane / 4, t = lane % 4;
  const int channel = channel0 + warp * 16 + 2 * g;
  const float bias0 = bias ? bias[channel] : 0.0f, bias1 = bias ? bias[channel + 1] : 0.0f;
  u32 now = 0;
#pragma unroll 1
  for (; tile < tiles; tile += stride) {
    float d[64];
#pragma unroll
    for (int i = 0; i < 64; i++) d[i] = 0.0f;
    const u64 a = wgmma_descriptor(weights, W_PLANE, 128), b = wgmma_descriptor(pixels + now, X_PLANE, HALO_W * 16);
    wgmma_fence();
#pragma unroll
    for (int tap = 0; tap < 9; tap++) {
#pragma unroll
      for (int k = 0; k < C / 16; k++) {
        // The address is in units of 16 bytes in the lowest bits and does not carry out of them.
        wgmma_m64n128k16(d, a + (tap * TAP_BYTES + 2 * k * W_PLANE) / 16,
                         b + (2 * k * X_PLANE) / 16 + tap / 3 * HALO_W + tap % 3);
      }
    }
    wgmma_commit();
    wgmma_wait();
    group_barrier(group);  // the group is done with this tile: its place takes the one after the next
    if (tile + 2 * stride < tiles) load_x(tile + 2 * stride, pixels + now);
    cp_async_commit();
    now = TILE_BYTES - now;

    const int x0 = tile % tiles_x * TILE_W, y0 = tile / tiles_x * TILE_H;
#pragma unroll
    for (int j = 0; j < TILE_H; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int oy = y0 + j, ox = x0 + 2 * t + i;
        if (oy >= h || ox >= w_) continue;
        const size_t o = (pixel0 + (size_t)oy * w_ + ox) * cy + channel;
        float first = d[4 * j + i] + bias0, second = d[4 * j + i + 2] + bias1;
        if (relu) {
          first = fmaxf(first, 0.0f);
          second = fmaxf(second, 0.0f);
        }
        first *= scale;
        second *= scale;
        if (mask) {
          const u32 by = *reinterpret_cast<const u32*>(mask + o);
          if (!(first_f32(by) > 0.0f)) first = 0.0f;
          if (!(second_f32(by) > 0.0f)) second = 0.0f;
        }
        if (add) {
          const u32 with = *reinterpret_cast<const u32*>(add + o);
          first += first_f32(with);
          second += second_f32(with);
        }
        *reinterpret_cast<u32*>(y + o) = pack_half2(first, second);
      }
    }
    cp_async_wait<1>();  // the next tile is here, the one after it may be on its way
    fence_async_proxy();
    group_barrier(group);
  }
}
