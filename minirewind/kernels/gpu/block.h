// What all threads of a block know together, by one barrier.

#pragma once
#include "warp.h"

// The sum over a block: each warp's own, then those of the warps, always in the same order. `shared` has room for one
// number of each warp, and serves one sum only: somebody may still be reading it.
template <class T>
__device__ __forceinline__ T sum_of_block(T value, T* shared) {
  value = sum_of_warp(value);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  T total = 0;
  for (int warp = 0; warp < (int)blockDim.x / 32; warp++) total += shared[warp];
  return total;
}
