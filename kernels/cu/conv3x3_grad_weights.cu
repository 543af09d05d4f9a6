// conv3x3_grad_weights_k{K}_n{N}: block p's share of the gradients of conv3x3 by its weights and biases
// Shapes  x (n,H,W,cx) f16 | gy (n,H,W,cy) f16 | part (P,9,cy,cx) f32 | part_bias (P,cy) f32
// Launch  grid (P, cx/K, cy/N)  block 288
// Limits  K divides cx, N divides cy; K, N in {16,32,48,64}; any H, W >= 1; P >= 1; accumulates f32
// Budget  registers 224, shared 48 KiB, tensor cores
// Cost    18*n*H*W*cx*cy flop; 2*n*H*W*(cx + cy) + 4*P*cy*(9*cx + 1) B; the larger floor at 790 TFLOP/s, 3.0 TB/s
//         At 64 of 48x48 without the parts: 16 and 16 9.4 MB, 3.1 us; 32 and 32 6.3 us; 64 and 64 10.9 GFLOP, 13.8 us
//         Parts at P = 128: 16 and 16 1.2 MB, 0.4 us; 64 and 64 18.9 MB, 6.3 us: let P fall as cx*cy grows
// Oracle  model/src/reference/conv3x3.rs | Cases parity/tests/cuda/conv3x3_grad_weights.rs
//
// GEMM over pixels: M output channels, N input channels, K pixels; a warp for each of the nine taps. All read the same
// tile of gy, and of x the tile as seen from their tap. A pixel's channels lie in a row, so both operands come
// transposed. Block p takes the tiles p*T/P to (p+1)*T/P of all T, in order, and nothing is added atomically:
// `reduce_grads` sums the parts in the order of p, so that two runs agree bit for bit.
#include "gpu.cuh"

constexpr int TILE_W = 16, HALO_W = TILE_W + 2, THREADS = 9 * 32;
constexpr int SHARED_MAX = 48 * 1024;  // what a kernel may declare without asking the driver for more
constexpr u32 ONES = 0x3C003C00;       // two halves of 1.0

// From the first or second eight of a row to the same one `pairs` pairs on. Rows of 16, 32 and 64 channels begin at
// multiples of their size, so that flip is an XOR of the address itself; of 48 it changes the lowest bit alone, which
// pairs leave as it is.
template <int C>
__device__ __forceinline__ u32 next_eights(u32 address, int pairs) {
  return C == 48 ? address + pairs * 32 : address ^ pairs * 32;
}

template <int K, int N>
__device__ __forceinline__ void grad_weights(const half* __restrict__ x, const half* __restrict__ gy,
                                             float* __restrict__ part, float* __restrict__ part_bias, int n, int h,
                                             int w_, int cx, int cy) {
  // A ring of tiles, all but one on their way: what is on its way bounds how fast a block can read. 8 rows a tile where
  // three fit, else 4, with more of a halo.
  constexpr int ROW_BYTES = HALO_W * K * 2 + TILE_W * N * 2, RIM_BYTES = 2 * HALO_W * K * 2;
  constexpr int TILE_H = 3 * (8 * ROW_BYTES + RIM_BYTES) <= SHARED_MAX ? 8 : 4;
  constexpr int X_BYTES = (TILE_H + 2) * HALO_W * K * 2, TILE_BYTES = TILE_H * ROW_BYTES + RIM_BYTES;
  constexpr int SLOTS = SHARED_MAX / TILE_BYTES < 4 ? SHARED_MAX / TILE_BYTES : 4;
  __shared__ __align__(128) u8 shared[SLOTS * TILE_BYTES];
  const u32 tiles = shared_address(shared);

  const int lane = threadIdx.x % 32, tap = threadIdx.x / 32;
  const int ci0 = blockIdx.y * K, co0 = blockIdx.z * N;
  const int tiles_x = (w_ + TILE_W - 1) / TILE_W, tiles_y = (h + TILE_H - 1) / TILE_H;
  const u64 count = (u64)n * tiles_y * tiles_x;
  const u64 begin = blockIdx.x * count / gridDim.x, end = (blockIdx.x + 1) * count / gridDim.x;

  auto load = [&](u64 tile, u32 to) {
    const int x0 = tile % tiles_x * TILE_W, y0 = tile / tiles_x % tiles_y * TILE_H;
    const size_t pixel0 = tile / tiles_x / tiles_y * ((size_t)h * w_);
#pragma unroll 1
    for (int i = threadIdx.x; i < (TILE_H + 2) * HALO_W * (K / 8); i += THREADS) {
      const int p = i / (K / 8), eight = i % (K / 8), iy = y0 + p / HALO_W - 1, ix = x0 + p % HALO_W - 1;
      const bool inside = (u32)iy < (u32)h && (u32)ix < (u32)w_;
      cp_async16(to + swizzled<K>(p, eight),
                 inside ? x + (pixel0 + (size_t)iy * w_ + ix) * cx + ci0 + eight * 8 : x, inside);
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < TILE_H * TILE_W * (N / 8); i += THREADS) {
      const int p = i / (N / 8), eight = i % (N / 8), iy = y0 + p / TILE_W, ix = x0 + p % TILE_W;
      const bool inside = iy < h && ix < w_;
      cp_async16(to + X_BYTES + swizzled<N>(p, eight),
                 inside ? gy + (pixel0 + (size_t)iy * w_ + ix) * cy + co0 + eight * 8 : gy, inside);
    }
  };

  float acc[N / 16][K / 8][4] = {}, acc_bias[4] = {};
#pragma unroll
  for (int slot = 0; slot < SLOTS - 1; slot++) {
    if (begin + slot < end) load(begin + slot, tiles + slot * TILE_BYTES);
    cp_async_commit();
  }
  u32 now = 0, free = (SLOTS - 1) * TILE_BYTES;
#pragma unroll 1
  for (u64 tile = begin; tile < end; tile++) {
    cp_async_wait<SLOTS - 2>();
    // All see this tile, and all are done with the one before, whose place the next load takes.
    __syncthreads();
    if (tile + SLOTS - 1 < end) load(tile + SLOTS - 1, tiles + free);
    cp_async_commit();  // one group a tile, so that the wait above counts right
    const u32 tile_x = tiles + now, tile_gy = tile_x + X_BYTES;
    free = now;
    now = now == (SLOTS - 1) * TILE_BYTES ? 0 : now + TILE_BYTES;
    // Quarters of A in the order of the fragment: channels +8 first, then pixels +8. The flip is the same in all rows
    // of gy, 16 pixels each; in x, 18 pixels each, it is four rows on. So addresses are made for four rows, once a
    // tile; but 64 by 64 channels have no registers left for that.
    const u32 a_at = tile_gy + swizzled<N>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
    constexpr int ROWS = K * N == 64 * 64 ? 1 : TILE_H, FLIPS = ROWS < 4 ? ROWS : 4;
#pragma unroll 1
    for (int row0 = 0; row0 < TILE_H; row0 += ROWS) {
      u32 b_row[FLIPS];
#pragma unroll
      for (int row = 0; row < FLIPS; row++) {
        b_row[row] = tile_x + swizzled<K>((row0 + row + tap / 3) * HALO_W + tap % 3 + lane % 16, lane / 16);
      }
#pragma unroll
      for (int row = 0; row < ROWS; row++) {  // 16 pixels, the K of one mma
        u32 a[N / 16][4];
#pragma unroll
        for (int m = 0; m < N / 16; m++) {
          ldmatrix_x4_trans(a[m], next_eights<N>(a_at, m) + (row0 + row) * (TILE_W * N * 2));
          // Times ones it is the sum over pixels, the bias gradient: each of the first warps takes 16 channels.
          if (tap == m) mma_m16n8k16(acc_bias, a[m], ONES, ONES);
        }
#pragma unroll
        for (int j = 0; j < K / 16; j++) {
          u32 b[4];
          ldmatrix_x4_trans(b, next_eights<K>(b_row[row % FLIPS], j) + row / 4 * 4 * (HALO_W * K * 2));
#pragma unroll
          for (int m = 0; m < N / 16; m++) {
            mma_m16n8k16(acc[m][2 * j], a[m], b[0], b[1]);
            mma_m16n8k16(acc[m][2 * j + 1], a[m], b[2], b[3]);
          }
        }
      }
    }
  }

  const int g = lane / 4, t = lane % 4;
  // A block without a tile writes zeros, for the sum reads every part.
#pragma unroll
  for (int m = 0; m < N / 16; m++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int co = co0 + m * 16 + i * 8 + g;
      float* to = part + (((size_t)blockIdx.x * 9 + tap) * cy + co) * cx + ci0 + 2 * t;
#pragma unroll
      for (int j = 0; j < K / 8; j++) {
        *reinterpret_cast<float2*>(to + j * 8) = make_float2(acc[m][j][2 * i], acc[m][j][2 * i + 1]);
      }
    }
  }
  if (blockIdx.y == 0 && tap < N / 16 && t == 0) {  // all columns of acc_bias are equal
    float* to = part_bias + (size_t)blockIdx.x * cy + co0 + tap * 16 + g;
    to[0] = acc_bias[0];
    to[8] = acc_bias[2];
  }
}

#define ENTRY(K, N) \
  GPU_KERNEL __launch_bounds__(THREADS) conv3x3_grad_weights_k##K##_n##N(const half* x, const half* gy, float* part, \
                                                                         float* part_bias, int n, int h, int w_, \
                                                                         int cx, int cy) { \
    grad_weights<K, N>(x, gy, part, part_bias, n, h, w_, cx, cy); \
  }
#define ENTRIES(K) ENTRY(K, 16) ENTRY(K, 32) ENTRY(K, 48) ENTRY(K, 64)
ENTRIES(16)
ENTRIES(32)
ENTRIES(48)
ENTRIES(64)
