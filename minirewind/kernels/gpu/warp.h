// What threads know together: the 32 of a warp, without memory and without barriers, and all of a block.
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

// The sum over a block, known to all its threads: each warp's own, then those of the warps, always in the same order.
// `shared` has room for one number of each warp. The first barrier is for who calls twice: nobody writes there while
// somebody still reads the last sum.
template <class T>
__device__ __forceinline__ T sum_of_block(T value, T* shared) {
  value = sum_of_warp(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  T total = 0;
  for (int warp = 0; warp < (int)blockDim.x / 32; warp++) total += shared[warp];
  return total;
}
