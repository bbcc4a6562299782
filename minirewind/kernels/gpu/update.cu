// One step of SGD: every number is read once and written once.

#include "device.h"

// The reference's formula. The rate is read from memory, because a captured step is replayed with other rates. Where the
// mask is 0 the weight and its momentum become exactly 0: selected, not multiplied, as 0 * NaN would be NaN.
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
