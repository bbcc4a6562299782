// The simplest kernel there is: one thread for each number.

#include "device.h"

// z = x + y, where two paths of a network meet. The three lie in memory alike, so nobody asks how.
extern "C" __global__ void add(const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ z,
                               int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) z[i] = x[i] + y[i];
}
