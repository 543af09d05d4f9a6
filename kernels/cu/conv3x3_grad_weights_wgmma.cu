// Target compute_90a
// conv3x3_grad_weights_wgmma_k64_n64: conv3x3_grad_weights_k64_n64 by Hopper's warpgroup instructions; same arguments
// Shapes  x (n,H,W,cx) f16 | gy (n,H,W,cy) f16 | part (P,9,cy,cx) f32 | part_bias (P,cy) f32
// Launch  grid (P, cx/64, cy/64)  block 384  dynamic shared 120576 B
// Limits  64 divides cx and cy; any H, W >= 1; P >= 1; accumulates f32
// Budget  registers 168, shared 0 KiB, tensor cores
// Cost    18*n*H*W*cx*cy flop; 2*n*H*W*(cx + cy) + 4*P*cy*(9*cx + 1) B; the larger floor at 790 TFLOP/s, 3.0 TB/s
//         At 64 of 48x48, 64 and 64: 10.9 GFLOP, 13.8 us; 18.9 MB of parts at P = 128, written and read again, 12.6 us
// Oracle  model/src/reference/conv3x3.rs | Cases parity/tests/cuda/conv3x3_grad_weights.rs
//
// As conv3x3_grad_weights.cu, which says what is summed in which order; but a warpgroup has a row of three taps. A, the
// tile of gy, comes through registers, for three instructions use it: so shared memory is read half the time, not all
// of it. Tiles lie in planes as in conv3x3_wgmma.cu; the 16 pixels of an instruction are two rows of the tile.
#include "gpu.cuh"

constexpr int C = 64, EIGHTS = C / 8, THREADS = 3 * 128, STAGES = 3;
constexpr int TILE_H = 16, TILE_W = 8, HALO_W = TILE_W + 2, HALO_PIXELS = (TILE_H + 2) * HALO_W;
// Planes are 16 bytes more than a multiple of 128 apart: writing all channels of a pixel then meets no bank twice.
constexpr u32 X_PLANE = HALO_PIXELS * 16 + 80, GY_PLANE = TILE_H * TILE_W * 16 + 16;
constexpr u32 X_BYTES = EIGHTS * X_PLANE, TILE_BYTES = X_BYTES + EIGHTS * GY_PLANE;
constexpr u32 ONES = 0x3C003C00;  // two halves of 1.0

GPU_KERNEL __launch_bounds__(THREADS, 1)
    conv3x3_grad_weights_wgmma_k64_n64(const half* __restrict__ x, const half* __restrict__ gy, float* __restrict__ part,
                                       float* __restrict__ part_bias, int n, int h, int w_, int cx, int cy) {
  extern __shared__ __align__(128) u8 dynamic_shared[];
  const u32 tiles = shared_address(dynamic_shared);
  const int group = threadIdx.x / 128, lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  const int ci0 = blockIdx.y * C, co0 = blockIdx.z * C;
  const int tiles_x = (w_ + TILE_W - 1) / TILE_W, tiles_y = (h + TILE_H - 1) / TILE_H;
  const u64 count = (u64)n * tiles_y * tiles_x;
  const u64 begin = blockIdx.x * count / gridDim.x, end = (blockIdx.x + 1) * count / gridDim.x;

  auto load = [&](u64 tile, u32 to) {
    const int x0 = tile % tiles_x * TILE_W, y0 = tile / tiles_x % tiles_y * TILE_H;
    const size_t pixel0 = tile / tiles_x / tiles_y * ((size_t)h * w_);
#pragma unroll 1
    for (int i = threadIdx.x; i < HALO_PIXELS * EIGHTS; i += THREADS) {
      const int p = i / EIGHTS, eight = i % EIGHTS, iy = y0 + p / HALO_W - 1, ix = x0 + p % HALO_W - 1;
      const bool inside = (u32)iy < (u32)h && (u32)ix < (u32)w_;
      cp_async16(to + eight * X_PLANE + p * 16,
                 inside ? x + (pixel0 + (size_t)iy * w_ + ix) * cx + ci0 + eight * 8 : x, inside);
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < TILE_H * TILE_W * EIGHTS; i += THREADS) {
      const int p = i / EIGHTS, eight = i % EIGHTS, iy = y0 + p / TILE_W, ix = x0 + p % TILE_W;
      const bool inside = iy < h && ix < w_;
      cp_async16(to + X_BYTES + eight * GY_PLANE + p * 16,
                 inside ? gy + (pixel0 + (size_t)iy * w_ + ix) * cy + co0 + eight * 8 : gy, inside);
    }
  };

  float acc[3][32], acc_bias[4] = {};
#pragma unroll
  for (int i = 0; i < 3 * 32; i++) acc[i / 32][i % 32] = 0.0f;
  u32 now = 0, ahead = 2 * TILE_BYTES;  // where this tile is, and where the one after the next goes
  if (begin < end) load(begin, tiles);
  cp_async_commit();
  if (begin + 1 < end) load(begin + 1, tiles + TILE_BYTES);
  cp_async_commit();
#pragma unroll 1
  for (u64 tile = begin; tile < end; tile++) {
    cp_async_wait<1>();
    fence_async_proxy();
    // All see this tile, and all are done with the one before, whose place the next load takes.
    __syncthreads();
    if (tile + 2 < end) load(tile + 2, tiles + ahead);
    cp_async_commit();

    u32 a[TILE_H / 2][4];
#pragma unroll
    for (int k = 0; k < TILE_H / 2; k++) {
      const u32 pixel = k * 16 + lane % 8 + lane / 16 * 8, eight = warp * 2 + lane / 8 % 2;
      ldmatrix_x4_trans(a[k], tiles + now + X_BYTES + eight * GY_PLANE + pixel * 16);
      // Times ones it is the sum over pixels, the bias gradient.
      if (group == 0) mma_m16n8k16(acc_bias, a[k], ONES, ONES);
    }
    const u64 b = wgmma_descriptor(tiles + now + group * HALO_W * 16, HALO_W * 16, X_PLANE);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < TILE_H / 2; k++) {
#pragma unroll
      for (int tap = 0; tap < 3; tap++) wgmma_m64n64k16_trans(acc[tap], a[k], b + 2 * k * HALO_W + tap);
    }
    wgmma_commit();
    wgmma_wait();
    ahead = now;
    now = now == (STAGES - 1) * TILE_BYTES ? 0 : now + TILE_BYTES;
  }

  const int g = lane / 4, t = lane % 4;
  // A block without a tile writes zeros, for the sum reads every part.
#pragma unroll
  for (int tap = 0; tap < 3; tap++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int co = co0 + warp * 16 + i * 8 + g;
      float* to = part + (((size_t)blockIdx.x * 9 + group * 3 + tap) * cy + co) * cx + ci0 + 2 * t;
#pragma unroll
      for (int j = 0; j < C / 8; j++) {
        *reinterpret_cast<float2*>(to + j * 8) = make_float2(acc[tap][4 * j + 2 * i], acc[tap][4 * j + 2 * i + 1]);
      }
    }
  }
  if (blockIdx.y == 0 && group == 0 && t == 0) {  // all columns of acc_bias are equal
    float* to = part_bias + (size_t)blockIdx.x * cy + co0 + warp * 16 + g;
    to[0] = acc_bias[0];
    to[8] = acc_bias[2];
  }
}
