// gather_lr: turned crops of the kept patches, as the network reads them (RGB - mean, quantiser, zeros) and in f32
// gather_hr: the same crops of what the camera saw, 8 bits
// gather_images: whole images as the network reads them
// Shapes  draws (n) Draw | input (n,H,W,16) f16 | lr (n,crop,crop,3) f32 or null | hr (n,s*crop,s*crop,3) u8
//         images (n,H,W,3) f32 | quantisers (n) f32; of a patch: lr (h,w,3) f32, hr (s*h,s*w,3) u8
// Launch  grid ceil(pixels of the result / 256)  block 256  no shared memory
// Limits  n*H*W and n*(s*crop)^2 below 2^31; a draw lies inside its patch, which the launcher has checked
// Budget  registers 40, shared 0 KiB
// Cost    gather_lr 56 B a pixel, gather_hr 6 B, gather_images 44 B; at 3.0 TB/s. At 64 of 48x48, s = 2: 8.3 MB, 2.8 us
//         and 3.5 MB, 1.2 us
// Oracle  model/src/gather.rs | Cases parity/tests/cuda/gather.rs
#include "gpu.cuh"

// One of a step's crops. The launcher writes it: 40 bytes, `Crop` in kernels/src/gather.rs.
struct Draw {
  const float* lr;
  const u8* hr;
  int w;     // columns of the patch
  int y, x;  // first pixel of the crop, LR
  int turn;
  float quantiser;
  int unused;
};

// Where pixel (y, x) of a turned square comes from.
struct Place { int y, x; };
__device__ __forceinline__ Place turned(int turn, int side, int y, int x) {
  const int a = turn & 4 ? x : y, b = turn & 4 ? y : x;
  return {turn & 1 ? side - 1 - a : a, turn & 2 ? side - 1 - b : b};
}

// DIV2K's mean, as in model/src/arch.rs.
__device__ __forceinline__ void store_input(half* input, u32 pixel, float r, float g, float b, float quantiser) {
  half8* to = reinterpret_cast<half8*>(input + (size_t)pixel * 16);
  to[0] = half8{{pack_half2(r - 0.4488f, g - 0.4371f), pack_half2(b - 0.4040f, quantiser), 0, 0}};
  to[1] = half8{};
}

GPU_KERNEL __launch_bounds__(256) gather_lr(const Draw* draws, half* input, float* lr, int n, int crop) {
  const u32 pixel = blockIdx.x * 256 + threadIdx.x, area = (u32)crop * crop;
  if (pixel >= n * area) return;
  const Draw draw = draws[pixel / area];
  const Place from = turned(draw.turn, crop, pixel % area / crop, pixel % crop);
  const float* rgb = draw.lr + ((size_t)(draw.y + from.y) * draw.w + draw.x + from.x) * 3;
  const float r = rgb[0], g = rgb[1], b = rgb[2];
  store_input(input, pixel, r, g, b, draw.quantiser);
  if (lr) {
    float* to = lr + (size_t)pixel * 3;
    to[0] = r;
    to[1] = g;
    to[2] = b;
  }
}

GPU_KERNEL __launch_bounds__(256) gather_hr(const Draw* draws, u8* hr, int n, int crop, int s) {
  const u32 side = (u32)crop * s, pixel = blockIdx.x * 256 + threadIdx.x, area = side * side;
  if (pixel >= n * area) return;
  const Draw draw = draws[pixel / area];
  const Place from = turned(draw.turn, side, pixel % area / side, pixel % side);
  const u8* rgb = draw.hr + ((size_t)(draw.y * s + from.y) * draw.w * s + draw.x * s + from.x) * 3;
  u8* to = hr + (size_t)pixel * 3;
  to[0] = rgb[0];
  to[1] = rgb[1];
  to[2] = rgb[2];
}

GPU_KERNEL __launch_bounds__(256) gather_images(const float* images, const float* quantisers, half* input, int n, int h,
                                                int w) {
  const u32 pixel = blockIdx.x * 256 + threadIdx.x, area = (u32)h * w;
  if (pixel >= n * area) return;
  const float* rgb = images + (size_t)pixel * 3;
  store_input(input, pixel, rgb[0], rgb[1], rgb[2], quantisers[pixel / area]);
}
