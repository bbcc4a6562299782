// What the 32 threads of a warp know together, without memory and without barriers.
//
// A shuffle hands every thread the number of the one whose lane differs in one bit, and both combine it with their own.
// After five shuffles, one for each bit, every thread has the combination of all 32.

#pragma once

template <class T>
__device__ __forceinline__ T sum_of_warp(T value) {
  for (int bit = 16; bit > 0; bit /= 2) value += __shfl_xor_sync(0xffffffffu, value, bit);
  return value;
}

// The same over the eight threads whose lanes leave the same rest by 4: a column of what mma_m16n8k8 makes (device.h).
__device__ __forceinline__ float sum_of_column(float value) {
  for (int bit = 4; bit < 32; bit *= 2) value += __shfl_xor_sync(0xffffffffu, value, bit);
  return value;
}

__device__ __forceinline__ float largest_of_warp(float value) {
  for (int bit = 16; bit > 0; bit /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, bit));
  return value;
}
