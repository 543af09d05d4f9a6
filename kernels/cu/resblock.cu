// resblock_c{C}: a residual block, y = x + scale * (conv3x3(hidden, w2) + bias2), hidden = relu(conv3x3(x, w1) + bias1)
// resblock_grad_c{C}: all its gradients: gx = gy + conv3x3(gh, wt1), gh = scale * conv3x3(gy, wt2), zero where hidden <= 0;
//         and a block's share of those by weights and biases, of gh and x for the first layer, gy and hidden for the second
// Shapes  x, hidden, y, gy, gx (n,H,W,C) f16 | w1, w2, wt1, wt2 (9,C,C) f16 | bias1, bias2 (C) f32
//         part1, part2 (gridDim.x,9,C,C) f32 | part_bias1, part_bias2 (gridDim.x,C) f32
// Launch  resblock: grid min(n*ceil(H/16)*ceil(W/16), blocks resident: 3 (C=16) or 2 (C=32) an SM)  block 256
//         dynamic shared 33664 B (C=16), 83200 B (C=32)
//         resblock_grad: grid as many as parts  block 288  dynamic shared 54400 B (C=16), 86784 B (C=32)
// Limits  C in {16,32}; any H, W >= 1; accumulates f32; no result is an input; forward, hidden may be null: not stored
// Budget  registers 168, shared 0 KiB, tensor cores
// Cost    forward 36*n*H*W*C*C flop, 6*n*H*W*C B; backward 72*n*H*W*C*C flop, 8*n*H*W*C + 8*gridDim.x*C*(9*C+1) B; a tenth
//         more flop as computed, for halos; the larger floor at 790 TFLOP/s, 3.0 TB/s. At 64 of 48x48 and 132 parts: C=16
//         4.7 us and 7.9 us, C=32 9.4 us and 15.9 us
// Oracle  model/src/reference/conv3x3.rs | Cases parity/tests/cuda/resblock.rs
//
// Two layers apart are bound by memory: hidden is written and read again, x read twice; backward gy, gh, hidden and x
// are all read twice. Here a block of threads holds both layers' weights in shared memory and goes from tile to tile:
// of x it reads two pixels more on each side, from which it computes hidden with one more, in shared memory too.
// Backward it does so with gy and gh, which never leaves shared memory; sums over pixels stay in registers until the
// last tile. What the next tile needs arrives while this one is computed.
#include "gpu.cuh"

constexpr int TILE = 16, THREADS = 256, GRAD_THREADS = 9 * 32;
constexpr u32 ONES = 0x3C003C00;  // two halves of 1.0
constexpr int HIDDEN = TILE + 2, HIDDEN_PIXELS = HIDDEN * HIDDEN, HALO = TILE + 4;

// Pixels from row to row of the tile of x. An ldmatrix takes 8 pixels of hidden in succession, across the end of a row
// too: so the swizzle goes by the order of pixels in hidden, and the pitch must equal HIDDEN modulo the pixels in 128
// B.
template <int C>
constexpr int PITCH = C == 16 ? 22 : 20;

// acc[m] += the 3x3 convolution at 16 pixels. Lane l names pixel l % 16: its place at the first tap, its order for
// flip. At few channels the arithmetic of addresses would outweigh the rest: what a row of taps shares is computed
// once.
template <int C, int M, int PLACE_PITCH>
__device__ __forceinline__ void convolve(float (&acc)[M][C / 8][4], const u32 (&place)[M], const u32 (&order)[M],
                                         u32 pixels, u32 weights, int lane) {
  const u32 b_row = lane % 8 + lane / 16 * 8, b_eight = (lane / 8 % 2 ^ flip<C>(b_row)) << 4;
  u32 b_at = weights + b_row * (C * 2), a_at[M], a_order[M];
#pragma unroll
  for (int m = 0; m < M; m++) {
    a_at[m] = pixels + place[m] * (C * 2);
    a_order[m] = order[m];
  }
#pragma unroll 1
  for (int ky = 0; ky < 3; ky++) {
#pragma unroll
    for (int kx = 0; kx < 3; kx++) {
      u32 a_eight[M];
#pragma unroll
      for (int m = 0; m < M; m++) a_eight[m] = (lane / 16 ^ flip<C>(a_order[m] + kx)) << 4;
#pragma unroll
      for (int k = 0; k < C / 16; k++) {
        u32 a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) ldmatrix_x4(a[m], a_at[m] + (a_eight[m] ^ k * 32) + kx * (C * 2));
#pragma unroll
        for (int j = 0; j < C / 16; j++) {
          u32 b[4];
          ldmatrix_x4(b, b_at + (b_eight ^ k * 32) + (kx * C + j * 16) * (C * 2));
#pragma unroll
          for (int m = 0; m < M; m++) {
            mma_m16n8k16(acc[m][2 * j], a[m], b[0], b[1]);
            mma_m16n8k16(acc[m][2 * j + 1], a[m], b[2], b[3]);
          }
        }
      }
    }
    b_at += 3 * C * (C * 2);
#pragma unroll
    for (int m = 0; m < M; m++) {
      a_at[m] += PLACE_PITCH * (C * 2);
      a_order[m] += HIDDEN;
    }
  }
}

// Where a tile of ROWS rows lies. Made once a tile: integer division by sizes that are known late is some twenty
// instructions.
struct Place {
  int x0, y0;
  size_t pixel0;  // of its picture
};
template <int ROWS>
__device__ __forceinline__ Place place_of(int tile, int h, int w_) {
  const int tiles_x = (w_ + TILE - 1) / TILE, tiles_y = (h + ROWS - 1) / ROWS, row = tile / tiles_x;
  return Place{(tile - row * tiles_x) * TILE, row % tiles_y * ROWS, (size_t)(row / tiles_y) * h * w_};
}

// The tile and RIM pixels around it, rows PITCH pixels apart in shared memory.
template <int C, int ROWS, int RIM, int PLACE_PITCH, int COUNT>
__device__ __forceinline__ void load_tile(const half* from, const Place& tile, u32 to, int h, int w_) {
  constexpr int EIGHTS = C / 8, SIDE = TILE + 2 * RIM;
#pragma unroll 1
  for (int i = threadIdx.x; i < (ROWS + 2 * RIM) * SIDE * EIGHTS; i += COUNT) {
    const int p = i / EIGHTS, eight = i % EIGHTS, py = p / SIDE, px = p % SIDE;
    const int iy = tile.y0 + py - RIM, ix = tile.x0 + px - RIM;
    const bool inside = (u32)iy < (u32)h && (u32)ix < (u32)w_;
    cp_async16(to + (py * PLACE_PITCH + px) * (C * 2) + ((eight ^ flip<C>(py * HIDDEN + px)) << 4),
               inside ? from + (tile.pixel0 + (size_t)iy * w_ + ix) * C + eight * 8 : from, inside);
  }
}

// Both layers' weights, the second behind the first. As in conv3x3.cu, rows are dealt out so that a lane's channels of
// a result are neighbours in memory.
template <int C, int COUNT>
__device__ __forceinline__ void load_weights(const half* first, const half* second, u32 to) {
  constexpr int EIGHTS = C / 8, J = C / 8;
#pragma unroll 1
  for (int i = threadIdx.x; i < 18 * C * EIGHTS; i += COUNT) {
    const int row = i / EIGHTS, eight = i % EIGHTS, r = row % C, layer = row / (9 * C);
    const int channel = row - layer * 9 * C - r + r % 8 / 2 * (2 * J) + r / 8 * 2 + r % 2;
    cp_async16(to + swizzled<C>(row, eight), (layer ? second : first) + channel * C + eight * 8, true);
  }
}

template <int C>
__device__ __forceinline__ void resblock(const half* __restrict__ x, const half* __restrict__ w1,
                                         const half* __restrict__ w2, const float* __restrict__ bias1,
                                         const float* __restrict__ bias2, half* __restrict__ hidden,
                                         half* __restrict__ y, int n, int h, int w_, float scale) {
  constexpr int J = C / 8;  // a lane has 2J channels of a result
  struct __align__(J * 4) Channels { u32 pair[J]; };
  extern __shared__ __align__(128) u8 dynamic_shared[];
  constexpr int X_BYTES = HALO * PITCH<C> * C * 2, HIDDEN_BYTES = HIDDEN_PIXELS * C * 2;
  u8* const shared_hidden = dynamic_shared + X_BYTES;
  const u32 at_x = shared_address(dynamic_shared), at_hidden = at_x + X_BYTES, at_w = at_hidden + HIDDEN_BYTES;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  // This lane's channels of a pixel, in bytes from the pixel's start in shared memory.
  auto channels_at = [&](u32 order) { return ((t * J / 4) ^ flip<C>(order)) * 16 + t * J % 4 * 4; };

  const int tiles_x = (w_ + TILE - 1) / TILE, tiles_y = (h + TILE - 1) / TILE, tiles = n * tiles_y * tiles_x;
  auto load_x = [&](const Place& at) { load_tile<C, TILE, 2, PITCH<C>, THREADS>(x, at, at_x, h, w_); };
  load_weights<C, THREADS>(w1, w2, at_w);
  Place next = place_of<TILE>(blockIdx.x, h, w_);
  if (blockIdx.x < tiles) load_x(next);
  cp_async_commit();

#pragma unroll 1
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const auto [x0, y0, pixel0] = next;
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
    next = place_of<TILE>(tile + gridDim.x, h, w_);
    if (tile + gridDim.x < tiles) load_x(next);
    cp_async_commit();

    float b[2 * J];
#pragma unroll
    for (int i = 0; i < 2 * J; i++) b[i] = bias1[t * 2 * J + i];
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
#pragma unroll
          for (int j = 0; j < J; j++) {
            out.pair[j] = pack_half2(fmaxf(acc1[m][j][2 * i] + b[2 * j], 0.0f),
                                     fmaxf(acc1[m][j][2 * i + 1] + b[2 * j + 1], 0.0f));
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
#pragma unroll
    for (int i = 0; i < 2 * J; i++) b[i] = bias2[t * 2 * J + i];
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int oy = y0 + warp * 2 + m, ox = x0 + g + i * 8;
        if (oy >= h || ox >= w_) continue;
        Channels out;
#pragma unroll
        for (int j = 0; j < J; j++) {
          out.pair[j] = pack_half2((acc2[m][j][2 * i] + b[2 * j]) * scale + first_f32(skip[m][i].pair[j]),
                                   (acc2[m][j][2 * i + 1] + b[2 * j + 1]) * scale + second_f32(skip[m][i].pair[j]));
        }
        *reinterpret_cast<Channels*>(y + (pixel0 + (size_t)oy * w_ + ox) * C + t * 2 * J) = out;
      }
    }
  }
}

// The sums over ROWS rows of 16 pixels of gradient times input, for one tap: acc += a^T * b; the sum of a's 16 channels
// m_bias alone goes to acc_bias. `a` and `b` are the bytes of this lane's pixel in the first row, `a_order` and
// `b_order` its order for flip. Four rows on, the flip is the same: 4*HIDDEN is a multiple of 8.
template <int C, int ROWS, int A_PITCH, int B_PITCH>
__device__ __forceinline__ void grad_weights(float (&acc)[C / 16][C / 8][4], float (&acc_bias)[4], int m_bias, int lane,
                                             u32 a_at, u32 a_order, u32 b_at, u32 b_order) {
  u32 a_row[4], b_row[4];
#pragma unroll
  for (int row = 0; row < 4; row++) {
    a_row[row] = a_at + row * A_PITCH * (C * 2) + ((lane / 8 % 2 ^ flip<C>(a_order + row * HIDDEN)) << 4);
    b_row[row] = b_at + row * B_PITCH * (C * 2) + ((lane / 16 ^ flip<C>(b_order + row * HIDDEN)) << 4);
  }
#pragma unroll
  for (int row = 0; row < ROWS; row++) {
    u32 a[C / 16][4];
#pragma unroll
    for (int m = 0; m < C / 16; m++) {
      // Tables begin at multiples of C*2 bytes, so that the chunk is in the address's bits below.
      ldmatrix_x4_trans(a[m], (a_row[row % 4] ^ m * 32) + row / 4 * 4 * A_PITCH * (C * 2));
      if (m == m_bias) mma_m16n8k16(acc_bias, a[m], ONES, ONES);
    }
#pragma unroll
    for (int j = 0; j < C / 16; j++) {
      u32 b[4];
      ldmatrix_x4_trans(b, (b_row[row % 4] ^ j * 32) + row / 4 * 4 * B_PITCH * (C * 2));
#pragma unroll
      for (int m = 0; m < C / 16; m++) {
        mma_m16n8k16(acc[m][2 * j], a[m], b[0], b[1]);
        mma_m16n8k16(acc[m][2 * j + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// One layer's parts, as conv3x3_grad_weights.cu leaves them.
template <int C>
__device__ __forceinline__ void store_parts(const float (&acc)[C / 16][C / 8][4], const float (&acc_bias)[4],
                                            float* part, float* part_bias, int tap, int m_bias, int lane) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int m = 0; m < C / 16; m++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      float* to = part + ((blockIdx.x * 9 + tap) * C + m * 16 + i * 8 + g) * C + 2 * t;
#pragma unroll
      for (int j = 0; j < C / 8; j++) {
        *reinterpret_cast<float2*>(to + j * 8) = make_float2(acc[m][j][2 * i], acc[m][j][2 * i + 1]);
      }
    }
  }
  if (m_bias >= 0 && m_bias < C / 16 && t == 0) {  // all columns of acc_bias are equal
    float* to = part_bias + blockIdx.x * C + m_bias * 16 + g;
    to[0] = acc_bias[0];
    to[8] = acc_bias[2];
  }
}

// All gradients of a block at once. Nine warps, for each has a tap of the weight gradients. Seven of them (six at C=32)
// compute gh, 16*M pixels each, and eight gx. At C=32 a tile has 8 rows: 16 would take more shared memory than sm_86
// has.
template <int C>
__device__ __forceinline__ void resblock_grad(const half* __restrict__ gy, const half* __restrict__ x,
                                              const half* __restrict__ hidden, const half* __restrict__ wt1,
                                              const half* __restrict__ wt2, half* __restrict__ gx,
                                              float* __restrict__ part1, float* __restrict__ part_bias1,
                                              float* __restrict__ part2, float* __restrict__ part_bias2, int n, int h,
                                              int w_, float scale) {
  constexpr int J = C / 8, ROWS = C == 16 ? 16 : 8, M = C == 16 ? 3 : 2, PIXELS = (ROWS + 2) * HIDDEN;
  constexpr int GY_BYTES = (ROWS + 4) * PITCH<C> * C * 2, BYTES = PIXELS * C * 2;
  struct __align__(J * 4) Channels { u32 pair[J]; };
  extern __shared__ __align__(128) u8 dynamic_shared[];
  u8 *const shared_gh = dynamic_shared + GY_BYTES, *const shared_hidden = shared_gh + BYTES;
  const u32 at_gy = shared_address(dynamic_shared), at_gh = at_gy + GY_BYTES, at_hidden = at_gh + BYTES;
  const u32 at_x = at_hidden + BYTES, at_w = at_x + BYTES;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  auto channels_at = [&](u32 order) { return ((t * J / 4) ^ flip<C>(order)) * 16 + t * J % 4 * 4; };

  const int tiles_x = (w_ + TILE - 1) / TILE, tiles_y = (h + ROWS - 1) / ROWS, tiles = n * tiles_y * tiles_x;
  auto load_gy = [&](const Place& at) { load_tile<C, ROWS, 2, PITCH<C>, GRAD_THREADS>(gy, at, at_gy, h, w_); };
  auto load_hidden = [&](const Place& at) {
    load_tile<C, ROWS, 1, HIDDEN, GRAD_THREADS>(hidden, at, at_hidden, h, w_);
  };
  auto load_inputs = [&](const Place& at) { load_tile<C, ROWS, 1, HIDDEN, GRAD_THREADS>(x, at, at_x, h, w_); };
  load_weights<C, GRAD_THREADS>(wt2, wt1, at_w);
  Place next = place_of<ROWS>(blockIdx.x, h, w_);
  if (blockIdx.x < tiles) {
    load_gy(next);
    load_hidden(next);
    load_inputs(next);
  }
  cp_async_commit();

  float acc_w1[C / 16][C / 8][4] = {}, acc_w2[C / 16][C / 8][4] = {}, acc_bias[4] = {};
  const int ky = warp / 3, kx = warp % 3;
#pragma unroll 1
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const auto [x0, y0, pixel0] = next;
    cp_async_wait<0>();
    __syncthreads();

    if (warp * M * 16 < PIXELS) {
      float acc[M][C / 8][4] = {};
      u32 place[M], order[M];
#pragma unroll
      for (int m = 0; m < M; m++) {
        order[m] = min((warp * M + m) * 16 + lane % 16, PIXELS - 1);
        place[m] = order[m] / HIDDEN * PITCH<C> + order[m] % HIDDEN;
      }
      convolve<C, M, PITCH<C>>(acc, place, order, at_gy, at_w, lane);
#pragma unroll
      for (int m = 0; m < M; m++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int p = (warp * M + m) * 16 + g + i * 8;
          if (p >= PIXELS) continue;
          const u32 o = p * (C * 2) + channels_at(p);
          // Beyond the picture hidden is zero, and so gh, which the second convolution needs as its padding.
          const Channels by = *reinterpret_cast<const Channels*>(shared_hidden + o);
          Channels out;
#pragma unroll
          for (int j = 0; j < J; j++) {
            out.pair[j] = pack_half2(first_f32(by.pair[j]) > 0.0f ? acc[m][j][2 * i] * scale : 0.0f,
                                     second_f32(by.pair[j]) > 0.0f ? acc[m][j][2 * i + 1] * scale : 0.0f);
          }
          *reinterpret_cast<Channels*>(shared_gh + o) = out;
        }
      }
    }
    const u32 column = lane % 8 + lane / 16 * 8;  // of a; of b it is lane % 16
    const u32 of_tap = ky * HIDDEN + kx + lane % 16;
    grad_weights<C, ROWS, PITCH<C>, HIDDEN>(acc_w2, acc_bias, warp - C / 16, lane,
                                            at_gy + (2 * PITCH<C> + 2 + column) * (C * 2), 2 * HIDDEN + 2 + column,
                                            at_hidden + of_tap * (C * 2), of_tap);
    __syncthreads();  // gh is whole; all are done with gy and hidden
    const bool more = tile + gridDim.x < tiles;
    next = place_of<ROWS>(tile + gridDim.x, h, w_);
    if (more) {
      load_gy(next);
      load_hidden(next);
    }
    grad_weights<C, ROWS, HIDDEN, HIDDEN>(acc_w1, acc_bias, warp, lane, at_gh + (HIDDEN + 1 + column) * (C * 2),
                                          HIDDEN + 1 + column, at_x + of_tap * (C * 2), of_tap);
    constexpr int OWN = ROWS / 8;  // rows of gx a warp
    if (warp < 8) {
      float acc[OWN][C / 8][4] = {};
      u32 place[OWN];
#pragma unroll
      for (int m = 0; m < OWN; m++) place[m] = (warp * OWN + m) * HIDDEN + lane % 16;
      convolve<C, OWN, HIDDEN>(acc, place, place, at_gh, at_w + 9 * C * C * 2, lane);
#pragma unroll
      for (int m = 0; m < OWN; m++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int oy = y0 + warp * OWN + m, ox = x0 + g + i * 8;
          if (oy >= h || ox >= w_) continue;
          const size_t o = (pixel0 + (size_t)oy * w_ + ox) * C + t * 2 * J;
          // Read again: its place in shared memory is the next tile's by now.
          const Channels skip = *reinterpret_cast<const Channels*>(gy + o);
          Channels out;
#pragma unroll
          for (int j = 0; j < J; j++) {
            out.pair[j] = pack_half2(acc[m][j][2 * i] + first_f32(skip.pair[j]),
                                     acc[m][j][2 * i + 1] + second_f32(skip.pair[j]));
          }
          *reinterpret_cast<Channels*>(gx + o) = out;
        }
      }
    }
    __syncthreads();  // all are done with x and gh
    if (more) load_inputs(next);
    cp_async_commit();
  }
  store_parts<C>(acc_w1, acc_bias, part1, part_bias1, warp, warp, lane);
  store_parts<C>(acc_w2, acc_bias, part2, part_bias2, warp, warp - C / 16, lane);
}

// As registers allow; at C=32 as shared memory allows on sm_90.
#define BLOCKS_PER_SM(C) (C == 16 ? 3 : 2)
#define ENTRIES(C) \
  GPU_KERNEL __launch_bounds__(THREADS, BLOCKS_PER_SM(C)) resblock_c##C( \
      const half* x, const half* w1, const half* w2, const float* bias1, const float* bias2, half* hidden, half* y, \
      int n, int h, int w_, float scale) { \
    resblock<C>(x, w1, w2, bias1, bias2, hidden, y, n, h, w_, scale); \
  } \
  GPU_KERNEL __launch_bounds__(GRAD_THREADS) resblock_grad_c##C( \
      const half* gy, const half* x, const half* hidden, const half* wt1, const half* wt2, half* gx, float* part1, \
      float* part_bias1, float* part2, float* part_bias2, int n, int h, int w_, float scale) { \
    resblock_grad<C>(gy, x, hidden, wt1, wt2, gx, part1, part_bias1, part2, part_bias2, n, h, w_, scale); \
  }
ENTRIES(16)
ENTRIES(32)
