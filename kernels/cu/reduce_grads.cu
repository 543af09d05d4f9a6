// reduce_grads: grads = factor * the sum of conv3x3_grad_weights' parts, several layers at once; says if one is not finite
// Shapes  layers (gridDim.y) Layer | parts f32: of a layer (count,9,cy,cx) at `part`, (count,cy) at `part_bias`
//         grads f32: of a layer (cout,cin,3,3), then cout biases, at `param` | overflow (1) i32: 1 if any is inf or NaN
// Launch  grid (ceil(most entries of a layer / 32), layers)  block (32, 8)  no dynamic shared memory
// Limits  count >= 1; entries of a layer, padded, 9*cx*cy + cy, below 2^31; sums in f32, in an order that count alone decides
// Budget  registers 40, shared 2 KiB
// Cost    4 B an entry and part, 4 B a gradient; the floor at 3.0 TB/s. 64 to 64 at count = 128: 19.0 MB, 6.3 us
// Oracle  model/src/reference/conv3x3.rs | Cases parity/tests/cuda/reduce_grads.rs
#include "gpu.cuh"

// The launcher writes it: 48 bytes, `Layer` in kernels/src/reduce_grads.rs.
struct Layer {
  u64 part, part_bias;  // first value of each in `parts`
  u32 param;            // first gradient in `grads`
  int cin, cout;
  int cx, cy;  // the same, padded
  int count;
  float factor;
  int unused;
};

constexpr int SLICES = 8;  // of the parts: a warp each, so that a few hundred reads wait at once and not in turn

GPU_KERNEL __launch_bounds__(32 * SLICES) reduce_grads(const Layer* layers, const float* parts, float* grads,
                                                       int* overflow) {
  const Layer layer = layers[blockIdx.y];
  const u32 weights = 9 * layer.cx * layer.cy, i = blockIdx.x * 32 + threadIdx.x;
  const bool is_weight = i < weights, inside = i < weights + layer.cy;
  const u64 stride = is_weight ? weights : layer.cy;
  const u64 first = is_weight ? layer.part + i : layer.part_bias + (i - weights);
  const int begin = threadIdx.y * layer.count / SLICES, end = (threadIdx.y + 1) * layer.count / SLICES;
  float sum = 0.0f;
  if (inside) {
#pragma unroll 4
    for (int p = begin; p < end; p++) sum += parts[first + p * stride];
  }
  __shared__ float slices[SLICES][32];
  slices[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || !inside) return;
#pragma unroll
  for (int slice = 1; slice < SLICES; slice++) sum += slices[slice][threadIdx.x];
  sum *= layer.factor;
  // Parts are (tap, cout, cin), parameters (cout, cin, tap).
  const u32 ci = i % layer.cx, co = is_weight ? i / layer.cx % layer.cy : i - weights, tap = i / layer.cx / layer.cy;
  if (co >= layer.cout || (is_weight && ci >= layer.cin)) return;
  grads[layer.param + (is_weight ? (co * layer.cin + ci) * 9 + tap : 9 * layer.cin * layer.cout + co)] = sum;
  if (!(fabsf(sum) <= 3.402823466e+38f)) *overflow = 1;  // whoever writes, it is the same value
}
