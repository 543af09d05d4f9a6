// loss_{BASE}: y = base + pixel_shuffle(x), how far it is from hr, and the gradient of that by x times the loss scale
// loss_image_{BASE}: y itself, in f32, not clamped
// Shapes  x, gx (n,H,W,c) f16, c = 3*s^2 rounded up to a multiple of 16, the rest zeros | lr (n,H,W,3) f32
//         hr (n,s*H,s*W,3) u8 | image (n,s*H,s*W,3) f32 | parts (gridDim.x) f32: sums of one block each
// Launch  grid ceil(n*H*W / 128)  block 128  no dynamic shared memory
// Limits  BASE mean (RGB mean, s = 1, lr null) or bicubic_s{1..4}; n*H*W*s^2 below 2^31; sums in f32, in a fixed order
// Budget  registers 168, shared 1 KiB
// Cost    n*H*W*(4*c + 12 + 3*s^2) B, of an image n*H*W*(2*c + 12 + 12*s^2); the floor at 3.0 TB/s. At 64 of 48x48,
//         s = 2: 13.0 MB, 4.3 us
// Oracle  model/src/reference/loss.rs | Cases parity/tests/cuda/loss.rs
//
// A thread has one LR pixel, its s^2 output pixels and the 5x5 neighbourhood that they interpolate. sqrt(d^2 + eps^2) is the
// Charbonnier loss, and with eps = 0 it is L1. The base and the shuffle have oracles of their own, bicubic.rs and
// pixel_shuffle.rs.
#include "gpu.cuh"

constexpr int THREADS = 128;

__device__ constexpr double keys(double t) {
  return t < 0 ? keys(-t) : t < 1 ? (1.5 * t - 2.5) * t * t + 1 : t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
}

// Weight of the pixel at `offset` (-2 to 2) for output phase `phase` of s.
__device__ constexpr float tap(int s, int phase, int offset) {
  return (float)keys((phase + 0.5) / s - 0.5 - offset);
}

template <int S>
struct Taps {
  float at[S][5];
  __device__ constexpr Taps() : at() {
    for (int phase = 0; phase < S; phase++) {
      for (int j = 0; j < 5; j++) at[phase][j] = tap(S, phase, j - 2);
    }
  }
};

// base[dy*S + dx] = one channel of the bicubic upscale of pixel (y, x), with the edge repeated.
template <int S>
__device__ __forceinline__ void bicubic(float (&base)[S * S], const float* lr, int h, int w, int y, int x) {
  constexpr Taps<S> taps;
#pragma unroll
  for (int p = 0; p < S * S; p++) base[p] = 0.0f;
#pragma unroll
  for (int i = 0; i < 5; i++) {
    const float* line = lr + (size_t)min(max(y + i - 2, 0), h - 1) * w * 3;
    float v[5];
#pragma unroll
    for (int j = 0; j < 5; j++) v[j] = line[min(max(x + j - 2, 0), w - 1) * 3];
#pragma unroll
    for (int dx = 0; dx < S; dx++) {
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < 5; j++) {
        if (taps.at[dx][j] != 0.0f) sum += taps.at[dx][j] * v[j];
      }
#pragma unroll
      for (int dy = 0; dy < S; dy++) {
        if (taps.at[dy][i] != 0.0f) base[dy * S + dx] += taps.at[dy][i] * sum;
      }
    }
  }
}

constexpr float MEAN[3] = {0.4488f, 0.4371f, 0.4040f};  // DIV2K's, as in model/src/arch.rs

template <int S, bool BICUBIC, bool TARGET>
__device__ __forceinline__ void loss(const half* __restrict__ x, const float* __restrict__ lr,
                                     const u8* __restrict__ hr, float* __restrict__ image, half* __restrict__ gx,
                                     float* __restrict__ parts, const float* eps, const float* loss_scale,
                                     float inverse_count, int n, int h, int w) {
  constexpr int EIGHTS = (3 * S * S + 15) / 16 * 2, C = EIGHTS * 8;
  const u32 pixel = blockIdx.x * THREADS + threadIdx.x;
  float sum = 0.0f;
  if (pixel < (u32)n * h * w) {
    const int px = pixel % w, py = pixel / w % h, picture = pixel / w / h;
    u32 pair[EIGHTS * 4];
#pragma unroll
    for (int i = 0; i < EIGHTS; i++) {
      const half8 eight = reinterpret_cast<const half8*>(x + (size_t)pixel * C)[i];
#pragma unroll
      for (int k = 0; k < 4; k++) pair[i * 4 + k] = eight.pair[k];
    }
    const float eps2 = TARGET ? *eps * *eps : 0.0f, slope_scale = TARGET ? inverse_count * *loss_scale : 0.0f;
    float grad[C] = {};
#pragma unroll
    for (int c = 0; c < 3; c++) {
      constexpr float mean[3] = {MEAN[0], MEAN[1], MEAN[2]};
      float base[S * S];
      if constexpr (BICUBIC) {
        bicubic<S>(base, lr + (size_t)picture * h * w * 3 + c, h, w, py, px);
      } else {
        base[0] = mean[c];
      }
#pragma unroll
      for (int p = 0; p < S * S; p++) {
        const int k = c * S * S + p;
        const float y = base[p] + (k % 2 ? second_f32(pair[k / 2]) : first_f32(pair[k / 2]));
        const size_t at = (((size_t)picture * h + py) * S + p / S) * w * S + px * S + p % S;
        if constexpr (TARGET) {
          const float d = y - (float)hr[at * 3 + c] / 255.0f;
          const float root = sqrtf(d * d + eps2);
          sum += root;
          grad[k] = root == 0.0f ? 0.0f : d / root * slope_scale;
        } else {
          image[at * 3 + c] = y;
        }
      }
    }
    if constexpr (TARGET) {
#pragma unroll
      for (int i = 0; i < EIGHTS; i++) {
        half8 eight;
#pragma unroll
        for (int k = 0; k < 4; k++) eight.pair[k] = pack_half2(grad[i * 8 + 2 * k], grad[i * 8 + 2 * k + 1]);
        reinterpret_cast<half8*>(gx + (size_t)pixel * C)[i] = eight;
      }
    }
  }
  if constexpr (TARGET) {
    __shared__ float warps[THREADS / 32];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) parts[blockIdx.x] = (warps[0] + warps[1]) + (warps[2] + warps[3]);
  }
}

#define ENTRIES(BASE, S, BICUBIC) \
  GPU_KERNEL __launch_bounds__(THREADS) loss_##BASE(const half* x, const float* lr, const u8* hr, half* gx, float* parts, \
                                                    const float* eps, const float* loss_scale, float inverse_count, \
                                                    int n, int h, int w) { \
    loss<S, BICUBIC, true>(x, lr, hr, nullptr, gx, parts, eps, loss_scale, inverse_count, n, h, w); \
  } \
  GPU_KERNEL __launch_bounds__(THREADS) loss_image_##BASE(const half* x, const float* lr, float* image, int n, int h, \
                                                          int w) { \
    loss<S, BICUBIC, false>(x, lr, nullptr, image, nullptr, nullptr, nullptr, nullptr, 0.0f, n, h, w); \
  }
ENTRIES(mean, 1, false)
ENTRIES(bicubic_s1, 1, true)
ENTRIES(bicubic_s2, 2, true)
ENTRIES(bicubic_s3, 3, true)
ENTRIES(bicubic_s4, 4, true)
