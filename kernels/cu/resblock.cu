// resblock_c{C}: a residual block, y = x + scale * (conv3x3(hidden, w2) + bias2), hidden = relu(conv3x3(x, w1) + bias1)
// resblock_grad_c{C}: its data gradient, gx = gy + conv3x3(gh, wt1), gh = scale * conv3x3(gy, wt2), zero where hidden <= 0
// Shapes  x, hidden, y, gy, gh, gx (n,H,W,C) f16 | w1, w2, wt1, wt2 (9,C,C) f16 | bias1, bias2 (C) f32
// Launch  grid min(n*ceil(H/16)*ceil(W/16), blocks resident: 3 (C=16) or 2 (C=32) an SM)  block 256
//         dynamic shared 33664 B (C=16), 83200 B (C=32)
// Limits  C in {16,32}; any H, W >= 1; accumulates f32; no result is an input; forward, hidden may be null: not stored
// Budget  registers 128, shared 0 KiB, tensor cores
// Cost    36*n*H*W*C*C flop (41 with the halo of hidden); 6*n*H*W*C B forward, 8*n*H*W*C B backward; the larger floor at
//         790 TFLOP/s, 3.0 TB/s. At 64 of 48x48: C=16 14.2 MB, 4.7 us and 18.9 MB, 6.3 us; C=32 9.4 us and 12.6 us
// Oracle  model/src/reference/conv3x3.rs | Cases kernels/tests/resblock.rs
//
// Two layers apart are bound by memory: hidden is written and read again, x read twice. Here a block of threads holds both
// layers' weights in shared memory and goes from tile to tile, 16x16 pixels each: of x it reads 20x20, from which it
// computes hidden on 18x18, in shared memory too. The next tile's x arrives during the second convolution.
#include "gpu.cuh"

constexpr int TILE = 16, THREADS = 256;
constexpr int HIDDEN = TILE + 2, HIDDEN_PIXELS = HIDDEN * HIDDEN, HALO = TILE + 4;

// Pixels from row to row of the tile of x. An ldmatrix takes 8 pixels of hidden in succession, across the end of a row
// too: so the swizzle goes by the order of pixels in hidden, and the pitch must equal HIDDEN modulo the pixels in 128 B.
template <int C>
constexpr int PITCH = C == 16 ? 22 : 20;

// acc[m] += the 3x3 convolution at 16 pixels. Lane l names pixel l % 16: its place at the first tap, its order for flip.
template <int C, int M, int PLACE_PITCH>
__device__ __forceinline__ void convolve(float (&acc)[M][C / 8][4], const u32 (&place)[M], const u32 (&order)[M],
                                         u32 pixels, u32 weights, int lane) {
  const u32 b_row = lane % 8 + lane / 16 * 8;
#pragma unroll 1
  for (int tap = 0; tap < 9; tap++) {
    u32 a_row[M], a_eight[M];
#pragma unroll
    for (int m = 0; m < M; m++) {
      a_row[m] = pixels + (place[m] + tap / 3 * PLACE_PITCH + tap % 3) * (C * 2);
      a_eight[m] = (lane / 16 ^ flip<C>(order[m] + tap / 3 * HIDDEN + tap % 3)) << 4;
    }
#pragma unroll
    for (int k = 0; k < C / 16; k++) {
      u32 a[M][4];
#pragma unroll
      for (int m = 0; m < M; m++) ldmatrix_x4(a[m], a_row[m] + (a_eight[m] ^ k * 32));
#pragma unroll
      for (int j = 0; j < C / 16; j++) {
        u32 b[4];
        ldmatrix_x4(b, weights + swizzled<C>(tap * C + j * 16 + b_row, 2 * k + lane / 8 % 2));
#pragma unroll
        for (int m = 0; m < M; m++) {
          mma_m16n8k16(acc[m][2 * j], a[m], b[0], b[1]);
          mma_m16n8k16(acc[m][2 * j + 1], a[m], b[2], b[3]);
        }
      }
    }
  }
}

template <int C, bool GRAD>
__device__ __forceinline__ void resblock(const half* __restrict__ x, const half* __restrict__ w1,
                                         const half* __restrict__ w2, const float* __restrict__ bias1,
                                         const float* __restrict__ bias2, const half* __restrict__ mask,
                                         half* __restrict__ hidden, half* __restrict__ y, int n, int h, int w_,
                                         float scale) {
  constexpr int EIGHTS = C / 8;
  // As in conv3x3.cu: weight rows are dealt out so that a lane's 2J channels of a result are neighbours in memory.
  constexpr int J = C / 8;
  struct __align__(J * 4) Channels { u32 pair[J]; };
  extern __shared__ __align__(128) u8 dynamic_shared[];
  constexpr int X_BYTES = HALO * PITCH<C> * C * 2, HIDDEN_BYTES = HIDDEN_PIXELS * C * 2;
  u8* const shared_hidden = dynamic_shared + X_BYTES;
  const u32 at_x = shared_address(dynamic_shared), at_hidden = at_x + X_BYTES, at_w = at_hidden + HIDDEN_BYTES;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  // This lane's channels of a pixel, in bytes from the pixel's start in shared memory.
  auto channels_at = [&](u32 order) { return ((t * J / 4) ^ flip<C>(order)) * 16 + t * J % 4 * 4; };

  const int tiles_x = (w_ + TILE - 1) / TILE, tiles_y = (h + TILE - 1) / TILE, tiles = n * tiles_y * tiles_x;
  auto load_x = [&](int tile) {
    const int x0 = tile % tiles_x * TILE - 2, y0 = tile / tiles_x % tiles_y * TILE - 2;
    const size_t pixel0 = (size_t)(tile / tiles_x / tiles_y) * h * w_;
#pragma unroll 1
    for (int i = threadIdx.x; i < HALO * HALO * EIGHTS; i += THREADS) {
      const int p = i / EIGHTS, eight = i % EIGHTS, py = p / HALO, px = p % HALO, iy = y0 + py, ix = x0 + px;
      const bool inside = (u32)iy < (u32)h && (u32)ix < (u32)w_;
      cp_async16(at_x + (py * PITCH<C> + px) * (C * 2) + ((eight ^ flip<C>(py * HIDDEN + px)) << 4),
                 inside ? x + (pixel0 + (size_t)iy * w_ + ix) * C + eight * 8 : x, inside);
    }
  };
#pragma unroll 1
  for (int i = threadIdx.x; i < 18 * C * EIGHTS; i += THREADS) {
    const int row = i / EIGHTS, eight = i % EIGHTS, r = row % C, layer = row / (9 * C);
    const int channel = row - layer * 9 * C - r + r % 8 / 2 * (2 * J) + r / 8 * 2 + r % 2;
    cp_async16(at_w + swizzled<C>(row, eight), (layer ? w2 : w1) + channel * C + eight * 8, true);
  }
  if (blockIdx.x < tiles) load_x(blockIdx.x);
  cp_async_commit();

#pragma unroll 1
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int x0 = tile % tiles_x * TILE, y0 = tile / tiles_x % tiles_y * TILE;
    const size_t pixel0 = (size_t)(tile / tiles_x / tiles_y) * h * w_;
    cp_async_wait<0>();
    __syncthreads();

    // 324 pixels of hidden, 16 at a time, three times a warp; what goes beyond repeats the last pixel.
    float acc1[3][C / 8][4] = {};
    {
      u32 place[3], order[3];
#pragma unroll
      for (int m = 0; m < 3; m++) {
        order[m] = min((warp * 3 + m) * 16 + lane % 16, HIDDEN_PIXELS - 1);
        place[m] = order[m] / HIDDEN * PITCH<C> + order[m] % HIDDEN;
      }
      convolve<C, 3, PITCH<C>>(acc1, place, order, at_x, at_w, lane);
    }
    Channels skip[2][2];
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int py = warp * 2 + m + 2, px = g + i * 8 + 2;
        skip[m][i] = *reinterpret_cast<const Channels*>(dynamic_shared + (py * PITCH<C> + px) * (C * 2) +
                                                        channels_at(py * HIDDEN + px));
      }
    }
    __syncthreads();  // all have read this tile's x, and the last tile's hidden
    if (tile + gridDim.x < tiles) load_x(tile + gridDim.x);
    cp_async_commit();

    float b[2 * J];
    if (!GRAD) {
#pragma unroll
      for (int i = 0; i < 2 * J; i++) b[i] = bias1[t * 2 * J + i];
    }
#pragma unroll
    for (int m = 0; m < 3; m++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int p = (warp * 3 + m) * 16 + g + i * 8;
        if (p >= HIDDEN_PIXELS) continue;
        const int py = p / HIDDEN, px = p % HIDDEN, oy = y0 + py - 1, ox = x0 + px - 1;
        const bool inside = (u32)oy < (u32)h && (u32)ox < (u32)w_;
        const size_t o = (pixel0 + (size_t)oy * w_ + ox) * C + t * 2 * J;
        Channels out = {};  // beyond the picture hidden is the second convolution's padding
        if (inside) {
          Channels by;
          if (GRAD) by = *reinterpret_cast<const Channels*>(mask + o);
#pragma unroll
          for (int j = 0; j < J; j++) {
            float first = acc1[m][j][2 * i], second = acc1[m][j][2 * i + 1];
            if (GRAD) {
              first = first_f32(by.pair[j]) > 0.0f ? first * scale : 0.0f;
              second = second_f32(by.pair[j]) > 0.0f ? second * scale : 0.0f;
            } else {
              first = fmaxf(first + b[2 * j], 0.0f);
              second = fmaxf(second + b[2 * j + 1], 0.0f);
            }
            out.pair[j] = pack_half2(first, second);
          }
          const bool own = py >= 1 && py <= TILE && px >= 1 && px <= TILE;  // the rim is a neighbour's to store
          if (own && hidden) *reinterpret_cast<Channels*>(hidden + o) = out;
        }
        *reinterpret_cast<Channels*>(shared_hidden + p * (C * 2) + channels_at(p)) = out;
      }
    }
    __syncthreads();

    float acc2[2][C / 8][4] = {};
    {
      u32 place[2];
#pragma unroll
      for (int m = 0; m < 2; m++) place[m] = (warp * 2 + m) * HIDDEN + lane % 16;
      convolve<C, 2, HIDDEN>(acc2, place, place, at_hidden, at_w + 9 * C * C * 2, lane);
    }
    if (!GRAD) {
#pragma unroll
      for (int i = 0; i < 2 * J; i++) b[i] = bias2[t * 2 * J + i];
    }
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int oy = y0 + warp * 2 + m, ox = x0 + g + i * 8;
        if (oy >= h || ox >= w_) continue;
        Channels out;
#pragma unroll
        for (int j = 0; j < J; j++) {
          float first = acc2[m][j][2 * i], second = acc2[m][j][2 * i + 1];
          if (!GRAD) {
            first = (first + b[2 * j]) * scale;
            second = (second + b[2 * j + 1]) * scale;
          }
          out.pair[j] = pack_half2(first + first_f32(skip[m][i].pair[j]), second + second_f32(skip[m][i].pair[j]));
        }
        *reinterpret_cast<Channels*>(y + (pixel0 + (size_t)oy * w_ + ox) * C + t * 2 * J) = out;
      }
    }
  }
}

// As registers allow; at C=32 as shared memory allows on sm_90.
#define BLOCKS_PER_SM(C) (C == 16 ? 3 : 2)
#define ENTRIES(C) \
  GPU_KERNEL __launch_bounds__(THREADS, BLOCKS_PER_SM(C)) resblock_c##C(const half* x, const half* w1, const half* w2, \
                                                         const float* bias1, const float* bias2, half* hidden, \
                                                         half* y, int n, int h, int w_, float scale) { \
    resblock<C, false>(x, w1, w2, bias1, bias2, nullptr, hidden, y, n, h, w_, scale); \
  } \
  GPU_KERNEL __launch_bounds__(THREADS, BLOCKS_PER_SM(C)) resblock_grad_c##C(const half* gy, const half* wt2, const half* wt1, \
                                                              const half* hidden, half* gh, half* gx, int n, int h, \
                                                              int w_, float scale) { \
    resblock<C, true>(gy, wt2, wt1, nullptr, nullptr, hidden, gh, gx, n, h, w_, scale); \
  }
ENTRIES(16)
ENTRIES(32)
