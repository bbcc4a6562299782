// The batch of a step: which images, how cropped and flipped, by the hash of hashing.py; and the gathering itself.

#include "device.h"

// kernels/hashing.py, word for word.
__device__ __forceinline__ uint64 mix(uint64 x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

__device__ __forceinline__ uint64 hash_word(uint64 state, uint64 word) {
  return mix(state + 0x9E3779B97F4A7C15ull * (word + 1));
}

// data.batch_indices and data.crops_and_flips, on the device. `order` holds permutations of `count` images one after
// another, from the epoch on in which the step begins; `key` is the hash of the words before the step. The step is read
// from memory, because a captured step is replayed at others.
extern "C" __global__ void batch_plan(const int64* __restrict__ order, const int64* __restrict__ step, uint64 key,
                                      int batch, int count, int pad, int flip, int64* __restrict__ index,
                                      int64* __restrict__ dy, int64* __restrict__ dx, bool* __restrict__ mirrored) {
  int b = blockIdx.x * blockDim.x + threadIdx.x;
  if (b >= batch) return;
  uint64 places = 2 * pad + 1, bits = hash_word(hash_word(key, step[0]), b);
  index[b] = order[step[0] * batch % count + b];
  dy[b] = (bits >> 40) * places >> 24;
  dx[b] = (bits >> 16 & 0xffffff) * places >> 24;
  mirrored[b] = flip && (bits & 1);
}

// What stands at pixel (h, w) of the crop: the place in the stored image (C, H, W), or -1 in the border.
__device__ __forceinline__ int place_in_image(int h, int w, int64 dy, int64 dx, bool mirrored, int pad, int H, int W) {
  int row = h + (int)dy - pad, column = (mirrored ? W - 1 - w : w) + (int)dx - pad;
  return row >= 0 && row < H && column >= 0 && column < W ? row * W + column : -1;
}

// Out of all images (N, C, H, W) of bytes the batch [B][H][W][C], each byte replaced by its value in the table (C, 256).
extern "C" __global__ void crop_flip_normalise(const unsigned char* __restrict__ images,
                                               const int64* __restrict__ index, const int64* __restrict__ dy,
                                               const int64* __restrict__ dx, const bool* __restrict__ flip, int pad,
                                               const float* __restrict__ table, float* __restrict__ y, int C, int H,
                                               int W, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  int c = i % C, w = i / C % W, h = i / (C * W) % H, b = i / (C * W * H);
  int place = place_in_image(h, w, dy[b], dx[b], flip[b], pad, H, W);
  int value = place < 0 ? 0 : images[(index[b] * C + c) * H * W + place];
  y[i] = table[c * 256 + value];
}

// The same for images of floats, which are used as they are.
extern "C" __global__ void crop_flip(const float* __restrict__ images, const int64* __restrict__ index,
                                     const int64* __restrict__ dy, const int64* __restrict__ dx,
                                     const bool* __restrict__ flip, int pad, float* __restrict__ y, int C, int H, int W,
                                     int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  int c = i % C, w = i / C % W, h = i / (C * W) % H, b = i / (C * W * H);
  int place = place_in_image(h, w, dy[b], dx[b], flip[b], pad, H, W);
  y[i] = place < 0 ? 0 : images[(index[b] * C + c) * H * W + place];
}
