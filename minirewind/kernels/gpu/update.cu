// Gradients brought home, and one step of SGD: every number is read once and written once.

#include "device.h"

// To a parameter's gradient what backward() found for it, and nothing where the weight is masked: selected, not
// multiplied, as 0 * NaN would be NaN.
__device__ __forceinline__ void add_kept(float* gradient, const float* found, const bool* mask, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) gradient[i] += mask[i] ? found[i] : 0;
}

// Four parameters by one launch, blockIdx.y says which: most have a few numbers, and a launch costs more than they do.
extern "C" __global__ void accumulate(float* a, const float* a_found, const bool* a_mask, int a_count,
                                      float* b, const float* b_found, const bool* b_mask, int b_count,
                                      float* c, const float* c_found, const bool* c_mask, int c_count,
                                      float* d, const float* d_found, const bool* d_mask, int d_count) {
  if (blockIdx.y == 0) add_kept(a, a_found, a_mask, a_count);
  if (blockIdx.y == 1) add_kept(b, b_found, b_mask, b_count);
  if (blockIdx.y == 2) add_kept(c, c_found, c_mask, c_count);
  if (blockIdx.y == 3) add_kept(d, d_found, d_mask, d_count);
}

// The reference's formula. The rate is read from memory, because a captured step is replayed with other rates. Where the
// mask is 0 the weight and its momentum become exactly 0.
extern "C" __global__ void sgd(float* __restrict__ weights, const float* __restrict__ gradients,
                               float* __restrict__ momentum, const bool* __restrict__ mask,
                               const float* __restrict__ rate, float factor, int nesterov, float decay, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float g = gradients[i] + decay * weights[i];
  float velocity = factor * momentum[i] + g;
  float step = nesterov ? g + factor * velocity : velocity;
  momentum[i] = mask[i] ? velocity : 0;
  weights[i] = mask[i] ? weights[i] - rate[0] * step : 0;
}
