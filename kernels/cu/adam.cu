// adam_begin: the step's loss; if that and its gradient are finite, counts the step; moves the loss scale
// adam: unless the step is void, one step of Adam, the running average, and the weights as convolutions read them
// adam_copy: those copies alone
// Shapes  parts (count) f32 | layers (gridDim.y) Layer | grads, params, m, v, average f32, flat, as `Weights::params`
//         w, wt f16: of a layer (9,cy,cx) and (9,cx,cy) at `w` | biases f32: (cy) at `bias`; padding is never written
// Launch  adam_begin: grid 1  block 256; else grid (ceil(most parameters of a layer / 256), layers)  block 256
// Limits  all parameters below 2^31; parts are summed in a fixed order; loss scale 1 to 2^24
// Budget  registers 40, shared 1 KiB
// Cost    36 B a parameter and 4 B of f16; the floor at 3.0 TB/s. 16x64 at x2: 1.37 M parameters, 55 MB, 18 us
// Oracle  model/src/reference/adam.rs | Cases parity/tests/cuda/adam.rs
//
// Everything that changes from step to step is in device memory, so that a graph can replay: settings come in with each
// step, the state stays. Source of the loss scale: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2.
#include "gpu.cuh"

// The launchers write and read these: `Layer`, `Settings`, `State` in kernels/src/adam.rs.
struct Layer {
  u32 param, w, bias;  // first value of each
  int cin, cout;
  int cx, cy;  // the same, padded
  int unused;
};

struct Settings {
  float learning_rate, beta1, beta2, eps, average_share;
  float loss_eps;    // 0: L1
  int growth_steps;  // finite steps after which the loss scale doubles
  int unused;
};

struct State {
  float loss_scale;
  int overflow;    // set by reduce_grads
  int good_steps;  // finite steps since the loss scale changed
  int steps, skipped;
  // Of the step at hand:
  float loss;
  int is_void;
  float inverse_scale;             // 1 / the loss scale that its gradient carries
  float correction1, correction2;  // 1 - beta^steps
  int unused[2];
};

constexpr int THREADS = 256;
constexpr float FLOAT_MAX = 3.402823466e+38f, LOSS_SCALE_MIN = 1.0f, LOSS_SCALE_MAX = 16777216.0f;

// 1 - beta^n, in f64: in f32 it would lose half of its digits.
__device__ float one_minus_power(float beta, int n) {
  double power = 1.0, square = beta;
  for (; n > 0; n /= 2) {
    if (n % 2) power *= square;
    square *= square;
  }
  return (float)(1.0 - power);
}

GPU_KERNEL __launch_bounds__(THREADS) adam_begin(const float* parts, int count, float inverse_values,
                                                 const Settings* settings, State* state) {
  float sum = 0.0f;
  for (int i = threadIdx.x; i < count; i += THREADS) sum += parts[i];
  __shared__ float warps[THREADS / 32];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < THREADS / 32; i++) sum += warps[i];
  const float loss = sum * inverse_values, scale = state->loss_scale;
  const bool finite_loss = fabsf(loss) <= FLOAT_MAX, finite = state->overflow == 0 && finite_loss;
  state->loss = loss;
  state->overflow = 0;
  state->is_void = !finite;
  state->inverse_scale = 1.0f / scale;
  if (finite) {
    const int steps = state->steps + 1, good = state->good_steps + 1;
    const bool grow = good >= settings->growth_steps && scale < LOSS_SCALE_MAX;
    state->steps = steps;
    state->correction1 = one_minus_power(settings->beta1, steps);
    state->correction2 = one_minus_power(settings->beta2, steps);
    state->good_steps = grow ? 0 : good;
    if (grow) state->loss_scale = fminf(scale * 2.0f, LOSS_SCALE_MAX);
  } else {
    state->skipped++;
    state->good_steps = 0;
    // A loss that is not finite is no fault of the scale, and would take it down where gradients vanish.
    if (finite_loss) state->loss_scale = fmaxf(scale * 0.5f, LOSS_SCALE_MIN);
  }
}

// Parameter i of the layer, as forward pass and data gradient read it.
__device__ __forceinline__ void copy(const Layer& layer, u32 i, float value, half* w, half* wt, float* biases) {
  const u32 weights = 9 * layer.cin * layer.cout;
  if (i >= weights) {
    biases[layer.bias + (i - weights)] = value;
    return;
  }
  const u32 tap = i % 9, ci = i / 9 % layer.cin, co = i / 9 / layer.cin;
  const half h = to_half(value);
  w[layer.w + (tap * layer.cy + co) * layer.cx + ci] = h;
  wt[layer.w + ((8 - tap) * layer.cx + ci) * layer.cy + co] = h;
}

GPU_KERNEL __launch_bounds__(THREADS) adam(const Layer* layers, const Settings* settings, const State* state,
                                           const float* grads, float* params, float* m, float* v, float* average,
                                           half* w, half* wt, float* biases) {
  const Layer layer = layers[blockIdx.y];
  const u32 i = blockIdx.x * THREADS + threadIdx.x;
  if (state->is_void || i >= (9 * layer.cin + 1) * layer.cout) return;
  const u32 at = layer.param + i;
  const float g = grads[at] * state->inverse_scale, beta1 = settings->beta1, beta2 = settings->beta2;
  const float mean = beta1 * m[at] + (1.0f - beta1) * g, square = beta2 * v[at] + (1.0f - beta2) * g * g;
  const float step = mean / state->correction1 / (sqrtf(square / state->correction2) + settings->eps);
  const float param = params[at] - settings->learning_rate * step;
  m[at] = mean;
  v[at] = square;
  params[at] = param;
  average[at] += settings->average_share * (param - average[at]);
  copy(layer, i, param, w, wt, biases);
}

GPU_KERNEL __launch_bounds__(THREADS) adam_copy(const Layer* layers, const float* params, half* w, half* wt,
                                                float* biases) {
  const Layer layer = layers[blockIdx.y];
  const u32 i = blockIdx.x * THREADS + threadIdx.x;
  if (i < (9 * layer.cin + 1) * layer.cout) copy(layer, i, params[layer.param + i], w, wt, biases);
}
