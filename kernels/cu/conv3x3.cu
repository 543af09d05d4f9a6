// conv3x3_k{K}_n{N}: y = scale * relu?(conv3x3(x, w) + bias), zero where mask <= 0, + add; stride 1, zero padding 1
// Shapes  x (n,H,W,cx) f16 | w (9,cy,cx) f16 | bias (cy) f32 | add, mask, y (n,H,W,cy) f16
// Launch  grid (ceil(W/16), ceil(H/8), n*cy/N)  block 128
// Limits  K divides cx, N divides cy; K, N in {16,32,48,64}; any H, W >= 1; accumulates f32
//         bias, add and mask may be null; add may be y
// Budget  registers 128, shared 48 KiB, tensor cores
// Cost    18*n*H*W*cx*cy flop; 2*n*H*W*(cx + cy), 2*n*H*W*cy more for add and for mask B; the larger floor at 790 TFLOP/s,
//         3.0 TB/s. At 64 of 48x48, no add, no mask: 16 to 16 9.4 MB, 3.1 us; 32 to 32 6.3 us; 64 to 64 10.9 GFLOP, 13.8 us
// Oracle  model/src/reference/conv3x3.rs | Cases parity/tests/cuda/conv3x3.rs
//
// The data gradient is the same operation: x is the gradient by y, w is `wt` (taps turned round, transposed), mask is
// what the ReLU before this layer put out.
//
// Implicit GEMM: M = 8x16 pixels, N output channels, K input channels a tap. Warp i computes rows 2i and 2i+1 of the
// tile, all N channels. A tap's A operand is the same tile in shared memory, seen from another pixel.
#include "gpu.cuh"

constexpr int TILE_H = 8, TILE_W = 16, THREADS = 128;
constexpr int HALO_W = TILE_W + 2, HALO_PIXELS = (TILE_H + 2) * HALO_W;
constexpr int SHARED_MAX = 48 * 1024;  // what a kernel may declare without asking the driver for more

template <int K, int N>
__device__ __forceinline__ void conv3x3(const half* __restrict__ x, const half* __restrict__ w,
                                        const float* __restrict__ bias, const half* add, const half* mask, half* y,
                                        int h, int w_, int cx, int cy, float scale, int relu) {
  constexpr int EIGHTS = K / 8, TAP_BYTES = N * K * 2;
  // All nine taps in shared memory where they fit: then two barriers are enough. Else a ring of three.
  constexpr bool RESIDENT = HALO_PIXELS * K * 2 + 9 * TAP_BYTES <= SHARED_MAX;
  constexpr int SLOTS = RESIDENT ? 9 : 3;
  // A lane of an mma result has 2 of 8 channels, J tiles side by side 2J. Weight rows are dealt out so that these are
  // neighbours in memory: y, add and mask then move 16 bytes a lane (8 where N is no multiple of 32).
  constexpr int J = N % 32 == 0 ? 4 : 2, GROUP = 8 * J;
  __shared__ __align__(128) u8 shared[HALO_PIXELS * K * 2 + SLOTS * TAP_BYTES];
  const u32 shared_x = shared_address(shared), shared_w = shared_x + HALO_PIXELS * K * 2;

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int x0 = blockIdx.x * TILE_W, y0 = blockIdx.y * TILE_H;
  const int image = blockIdx.z / (cy / N), channel0 = blockIdx.z % (cy / N) * N;
  const size_t pixel0 = (size_t)image * h * w_;

  auto load_x = [&](int k0) {
#pragma unroll 1
    for (int i = threadIdx.x; i < HALO_PIXELS * EIGHTS; i += THREADS) {
      const int p = i / EIGHTS, eight = i % EIGHTS;
      const int iy = y0 + p / HALO_W - 1, ix = x0 + p % HALO_W - 1;
      const bool inside = (u32)iy < (u32)h && (u32)ix < (u32)w_;
      const half* from = inside ? x + (pixel0 + (size_t)iy * w_ + ix) * cx + k0 + eight * 8 : x;
      cp_async16(shared_x + swizzled<K>(p, eight), from, inside);
    }
  };
  // Rows of the slots from `slot` on: N for each tap. N is a multiple of 16, so that flip is the same for all taps.
  auto load_w = [&](int tap, int taps, int k0, int slot) {
#pragma unroll 1
    for (int i = threadIdx.x; i < taps * (N * EIGHTS); i += THREADS) {
      const int row = i / EIGHTS, eight = i % EIGHTS, r = row % GROUP;
      const int channel = channel0 + row % N - r + r % 8 / 2 * (2 * J) + r / 8 * 2 + r % 2;
      cp_async16(shared_w + slot * TAP_BYTES + swizzled<K>(row, eight),
                 w + ((size_t)(tap + row / N) * cy + channel) * cx + k0 + eight * 8, true);
    }
  };

  float acc[2][N / 8][4] = {};
  const u32 b_row = lane % 8 + lane / 16 * 8, b_eight = (lane / 8 % 2 ^ flip<K>(b_row)) << 4;
  auto multiply = [&](int tap, int slot) {
    u32 a_row[2], a_eight[2];
#pragma unroll
    for (int m = 0; m < 2; m++) {
      const u32 p = (warp * 2 + m + tap / 3) * HALO_W + tap % 3 + lane % 16;
      a_row[m] = shared_x + p * (K * 2);
      a_eight[m] = (lane / 16 ^ flip<K>(p)) << 4;
    }
    const u32 b_base = shared_w + slot * TAP_BYTES + b_row * (K * 2);
#pragma unroll
    for (int k = 0; k < K / 16; k++) {
      u32 a[2][4];
#pragma unroll
      for (int m = 0; m < 2; m++) ldmatrix_x4(a[m], a_row[m] + (a_eight[m] ^ k * 32));
#pragma unroll
      for (int j = 0; j < N / 16; j++) {
        u32 b[4];
        ldmatrix_x4(b, b_base + j * (16 * K * 2) + (b_eight ^ k * 32));
#pragma unroll
        for (int m = 0; m < 2; m++) {
          mma_m16n8k16(acc[m][2 * j], a[m], b[0], b[1]);
          mma_m16n8k16(acc[m][2 * j + 1], a[m], b[2], b[3]);
        }
      }
    }
  };

#pragma unroll 1
  for (int k0 = 0; k0 < cx; k0 += K) {
    if (k0 > 0) __syncthreads();  // the last chunk's tile has been read
    load_x(k0);
    if constexpr (RESIDENT) {
      load_w(0, 9, k0, 0);
      cp_async_commit();
      cp_async_wait<0>();
      __syncthreads();
#pragma unroll 1
      for (int tap = 0; tap < 9; tap++) multiply(tap, tap);
    } else {
      load_w(0, 1, k0, 0);
      cp_async_commit();
      load_w(1, 1, k0, 1);
      cp_async_commit();
#pragma unroll 1
      for (int tap = 0; tap < 9; tap++) {
        cp_async_wait<1>();
        // All see tap's weights, and all are done with tap - 1, whose slot the next load takes.
        __syncthreads();
        if (tap + 2 < 9) load_w(tap + 2, 1, k0, (tap + 2) % 3);
        cp_async_commit();  // one group a tap, so that the wait above counts right
        multiply(tap, tap % 3);
      }
    }
  }

  struct __align__(J * 4) Channels { u32 pair[J]; };
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int q = 0; q < N / GROUP; q++) {
    const int channel = channel0 + q * GROUP + t * 2 * J;
    float b[2 * J];
#pragma unroll
    for (int i = 0; i < 2 * J; i++) b[i] = bias ? bias[channel + i] : 0.0f;
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
      for (int half_tile = 0; half_tile < 2; half_tile++) {
        const int oy = y0 + warp * 2 + m, ox = x0 + g + half_tile * 8;
        if (oy >= h || ox >= w_) continue;
        const size_t o = (pixel0 + (size_t)oy * w_ + ox) * cy + channel;
        float v[2 * J];
#pragma unroll
        for (int i = 0; i < 2 * J; i++) {
          v[i] = acc[m][q * J + i / 2][half_tile * 2 + i % 2] + b[i];
          if (relu) v[i] = fmaxf(v[i], 0.0f);
          v[i] *= scale;
        }
        if (mask) {
          const Channels by = *reinterpret_cast<const Channels*>(mask + o);
#pragma unroll
          for (int i = 0; i < J; i++) {
            if (!(first_f32(by.pair[i]) > 0.0f)) v[2 * i] = 0.0f;
            if (!(second_f32(by.pair[i]) > 0.0f)) v[2 * i + 1] = 0.0f;
          }
        }
        if (add) {
          const Channels with = *reinterpret_cast<const Channels*>(add + o);
#pragma unroll
          for (int i = 0; i < J; i++) {
            v[2 * i] += first_f32(with.pair[i]);
            v[2 * i + 1] += second_f32(with.pair[i]);
          }
        }
        Channels out;
#pragma unroll
        for (int i = 0; i < J; i++) out.pair[i] = pack_half2(v[2 * i], v[2 * i + 1]);
        *reinterpret_cast<Channels*>(y + o) = out;
      }
    }
  }
}

#define ENTRY(K, N) \
  GPU_KERNEL __launch_bounds__(THREADS, 4) conv3x3_k##K##_n##N( \
      const half* x, const half* w, const float* bias, const half* add, const half* mask, half* y, int h, int w_, \
      int cx, int cy, float scale, int relu) { \
    conv3x3<K, N>(x, w, bias, add, mask, y, h, w_, cx, cy, scale, relu); \
  }
#define ENTRIES(K) ENTRY(K, 16) ENTRY(K, 32) ENTRY(K, 48) ENTRY(K, 64)
ENTRIES(16)
ENTRIES(32)
ENTRIES(48)
ENTRIES(64)
