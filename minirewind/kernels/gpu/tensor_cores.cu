// Convolution on tensor cores (cards from version 8.0 on), some ten times as fast as a thread for each number.
//
// A convolution is a product of matrices:
//
//     y[pixel][k] = sum over j of patches[pixel][j] * filters[j][k]          j counts taps and channels, t * C + c
//
// where row `pixel` of `patches` is all that output pixel sees. That matrix is never made, it would be 9 times the size
// of x for a 3 x 3 filter; each block gathers the piece it needs, when it needs it ("implicit" matrix product). A tensor
// core multiplies two pieces of 16 x 8 and 8 x 8 at once (device.h). It rounds its inputs to TF32 and adds in float32.
//
// A block makes a tile of y, and goes along j in chunks: gather a chunk of patches and of filters into shared memory,
// wait for all, multiply. While it multiplies one chunk, the numbers of the next are already on their way from memory
// into registers; and shared memory has two buffers, so that a chunk can be filled while the slow still read the other.

#include "device.h"
#include "geometry.h"
#include "warp.h"

constexpr int CHUNK = 16;       // columns of patches, or pixels, that are multiplied between two barriers

// A tap and a channel: where j stands. Stepping on is cheaper than dividing j by C and S each time.
struct Place {
  int r, s, c;
  __device__ __forceinline__ void advance(int by, const Geometry& g) {
    c += by;
    while (c >= g.channels) {
      c -= g.channels;
      if (++s == g.columns) s = 0, ++r;
    }
  }
};

// An output pixel.
struct Pixel {
  int n, p, q;
  __device__ __forceinline__ void advance(int by, const Geometry& g) {
    q += by;
    while (q >= g.out_width) {
      q -= g.out_width;
      if (++p == g.out_height) p = 0, ++n;
    }
  }
};

__device__ __forceinline__ Pixel pixel_number(int number, const Geometry& g) {
  return {number / (g.out_width * g.out_height), number / g.out_width % g.out_height, number % g.out_width};
}

// One number of `patches`: what the pixel sees at this place.
__device__ __forceinline__ float seen(const float* x, const Pixel& pixel, const Place& place, const Geometry& g) {
  if (place.r >= g.rows) return 0;
  int h = look(pixel.p, place.r, g.step_y, g.turn, g.start_y, g.gap_y, g.height);
  int w = look(pixel.q, place.s, g.step_x, g.turn, g.start_x, g.gap_x, g.width);
  return h < 0 || w < 0 ? 0 : x[((pixel.n * g.height + h) * g.width + w) * g.channels + place.c];
}

// Four of them, from this place on. If the channels come in fours they lie side by side: one load of 16 bytes.
__device__ __forceinline__ float4 four_seen(const float* x, const Pixel& pixel, Place place, const Geometry& g,
                                            bool inside) {
  if (!inside) return make_float4(0, 0, 0, 0);
  if (g.channels % 4 == 0) {
    if (place.r >= g.rows) return make_float4(0, 0, 0, 0);
    int h = look(pixel.p, place.r, g.step_y, g.turn, g.start_y, g.gap_y, g.height);
    int w = look(pixel.q, place.s, g.step_x, g.turn, g.start_x, g.gap_x, g.width);
    if (h < 0 || w < 0) return make_float4(0, 0, 0, 0);
    return *reinterpret_cast<const float4*>(x + ((pixel.n * g.height + h) * g.width + w) * g.channels + place.c);
  }
  float4 four;
  four.x = seen(x, pixel, place, g), place.advance(1, g);
  four.y = seen(x, pixel, place, g), place.advance(1, g);
  four.z = seen(x, pixel, place, g), place.advance(1, g);
  four.w = seen(x, pixel, place, g);
  return four;
}

// Rounded, and put down in shared memory.
__device__ __forceinline__ void put(uint32* shared, float4 four) {
  shared[0] = to_tf32(four.x);
  shared[1] = to_tf32(four.y);
  shared[2] = to_tf32(four.z);
  shared[3] = to_tf32(four.w);
}

// The second factor of both products below: rows of a matrix [row][channels], WIDTH columns of them from first_k on. The
// block's threads bring a chunk of rows into their registers, and later put it down in shared memory.
template <int WIDTH, int THREADS>
struct Rows {
  static constexpr int SHARE = CHUNK * WIDTH / THREADS, STRIDE = WIDTH + 8;
  float next[SHARE];

  __device__ __forceinline__ void fetch(const float* __restrict__ matrix, int row, int stop, int first_k,
                                        int channels) {
#pragma unroll
    for (int i = 0; i < SHARE; i++) {
      int number = threadIdx.x + i * THREADS, at = row + number / WIDTH, k = first_k + number % WIDTH;
      next[i] = at < stop && k < channels ? matrix[at * channels + k] : 0;
    }
  }

  __device__ __forceinline__ void put_down(uint32* shared) const {
#pragma unroll
    for (int i = 0; i < SHARE; i++) {
      int number = threadIdx.x + i * THREADS;
      shared[number / WIDTH * STRIDE + number % WIDTH] = to_tf32(next[i]);
    }
  }
};

// Adds to a warp's sums 8 columns of its 16 rows of the first factor times 8 rows of the second; `b_rows` points to the
// thread's own place in these (device.h).
template <int WIDTH>
__device__ __forceinline__ void multiply(float (&sums)[WIDTH / 8][4], const uint32 (&a)[4], const uint32* b_rows) {
#pragma unroll
  for (int tile = 0; tile < WIDTH / 8; tile++) {
    const uint32 b[2] = {b_rows[tile * 8], b_rows[4 * (WIDTH + 8) + tile * 8]};
    mma_m16n8k8(sums[tile], a, b);
  }
}

// Convolution and input gradient -------------------------------------------------------------------------------------
//
// A block of 8 warps makes 128 pixels x WIDTH output channels; each warp 16 pixels. The rows in shared memory are a
// little longer than their numbers, so that what a warp reads at once lies in different banks.

constexpr int PIXELS = 128, THREADS = 256, WARPS = THREADS / 32, PATCH = CHUNK + 4;

// What batch norm asks of the output, answered while it is still in registers: of the block's pixels, for each channel,
//     partial[block][0][k] = their mean              partial[block][1][k] = the sum of their squared distances from it
// First each warp, of its 16 pixels: the eight threads of a column find them by shuffles. Then one thread for each
// channel joins the eight warps, as finish_moments in normalisation.cu later joins the blocks.
template <int WIDTH>
__device__ __forceinline__ void tell_moments(const float (&sums)[WIDTH / 8][4], float* __restrict__ partial, int pixels,
                                             int first_pixel, int first_k, int channels, float2 (*told)[WIDTH]) {
  const int me = threadIdx.x, group = me % 32 / 4, member = me % 4;
  auto pixels_of_warp = [&](int warp) { return min(16, max(0, pixels - first_pixel - warp * 16)); };
  const int count = pixels_of_warp(me / 32);
#pragma unroll
  for (int tile = 0; tile < WIDTH / 8; tile++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      float upper = sums[tile][i], lower = sums[tile][i + 2];
      float mean = sum_of_column(upper + lower) / max(count, 1);         // beyond the last pixel the sums are 0
      float one = group < count ? upper - mean : 0, two = group + 8 < count ? lower - mean : 0;
      float squares = sum_of_column(one * one + two * two);
      if (group == 0) told[me / 32][tile * 8 + 2 * member + i] = make_float2(mean, squares);
    }
  __syncthreads();
  if (me >= WIDTH || first_k + me >= channels) return;
  float mean = 0, squares = 0;
  for (int warp = 0; warp < WARPS; warp++) mean += told[warp][me].x * pixels_of_warp(warp);
  mean /= min(PIXELS, pixels - first_pixel);
  for (int warp = 0; warp < WARPS; warp++) {
    float distance = told[warp][me].x - mean;
    squares += told[warp][me].y + distance * distance * pixels_of_warp(warp);
  }
  partial[blockIdx.x * 2 * channels + first_k + me] = mean;
  partial[blockIdx.x * 2 * channels + channels + first_k + me] = squares;
}

template <int WIDTH>
__device__ __forceinline__ void multiply_taps(const float* __restrict__ x, const float* __restrict__ packed,
                                              const float* __restrict__ bias, float* __restrict__ y,
                                              float* __restrict__ partial, const Geometry& g, int pixels,
                                              uint32 (*patches)[PIXELS * PATCH],
                                              uint32 (*filters)[CHUNK * (WIDTH + 8)], float2 (*told)[WIDTH]) {
  const int me = threadIdx.x, group = me % 32 / 4, member = me % 4;
  const int first_pixel = blockIdx.x * PIXELS, first_k = blockIdx.y * WIDTH, length = g.rows * g.columns * g.channels;

  // Each thread gathers four columns of two pixels.
  const int row = me / 4, column = me % 4 * 4;
  const Pixel upper = pixel_number(first_pixel + row, g), lower = pixel_number(first_pixel + row + 64, g);
  const bool upper_inside = first_pixel + row < pixels, lower_inside = first_pixel + row + 64 < pixels;
  Place place = {0, 0, 0};
  place.advance(column, g);

  float4 next_upper, next_lower;
  Rows<WIDTH, THREADS> next_filters;
  auto fetch = [&](int j) {
    next_upper = four_seen(x, upper, place, g, upper_inside);
    next_lower = four_seen(x, lower, place, g, lower_inside);
    place.advance(CHUNK, g);
    next_filters.fetch(packed, j, length, first_k, g.out_channels);
  };

  float sums[WIDTH / 8][4] = {};
  fetch(0);
  for (int j = 0, buffer = 0; j < length; j += CHUNK, buffer = 1 - buffer) {
    put(&patches[buffer][row * PATCH + column], next_upper);
    put(&patches[buffer][(row + 64) * PATCH + column], next_lower);
    next_filters.put_down(filters[buffer]);
    __syncthreads();
    if (j + CHUNK < length) fetch(j + CHUNK);
#pragma unroll
    for (int i = 0; i < CHUNK; i += 8) {
      const uint32* a_rows = &patches[buffer][(me / 32 * 16 + group) * PATCH + i + member];
      const uint32 a[4] = {a_rows[0], a_rows[8 * PATCH], a_rows[4], a_rows[8 * PATCH + 4]};
      multiply<WIDTH>(sums, a, &filters[buffer][(i + member) * (WIDTH + 8) + group]);
    }
  }

#pragma unroll
  for (int tile = 0; tile < WIDTH / 8; tile++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int pixel = first_pixel + me / 32 * 16 + group + i / 2 * 8, k = first_k + tile * 8 + 2 * member + i % 2;
      if (pixel < pixels && k < g.out_channels) y[pixel * g.out_channels + k] = sums[tile][i] + (bias ? bias[k] : 0);
    }
  if (partial) tell_moments<WIDTH>(sums, partial, pixels, first_pixel, first_k, g.out_channels, told);
}

#define CONV2D(WIDTH)                                                                                     \
  __shared__ uint32 patches[2][PIXELS * PATCH], filters[2][CHUNK * (WIDTH + 8)];                          \
  __shared__ float2 told[WARPS][WIDTH];                                                                   \
  const Geometry g = *geometry;                                                                           \
  multiply_taps<WIDTH>(x, packed, bias, y, partial, g, pixels, patches, filters, told);

extern "C" __global__ void __launch_bounds__(256, 2) conv2d_tf32_16(const float* x, const float* packed,
                                                                    const float* bias, float* y, float* partial,
                                                                    const Geometry* geometry, int pixels) {
  CONV2D(16)
}
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_tf32_32(const float* x, const float* packed,
                                                                    const float* bias, float* y, float* partial,
                                                                    const Geometry* geometry, int pixels) {
  CONV2D(32)
}
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_tf32_64(const float* x, const float* packed,
                                                                    const float* bias, float* y, float* partial,
                                                                    const Geometry* geometry, int pixels) {
  CONV2D(64)
}

// Weight gradient ------------------------------------------------------------------------------------------------------
//
//     dweight[j][k] = sum over pixels of patches[pixel][j] * dy[pixel][k]
//
// Now the pixels are what is summed over, and the chunks go along them. There are far more of them than of anything
// else, so blockIdx.y says which slice of them a block adds up (convolution.cu: add_slices). A block of 4 warps makes
// 64 rows j x WIDTH filters, each warp 16 rows.

constexpr int ROWS = 64, ROW_THREADS = 128, SEEN = ROWS + 8;

template <int WIDTH>
__device__ __forceinline__ void multiply_pixels(const float* __restrict__ dy, const float* __restrict__ x,
                                                float* __restrict__ partial, const Geometry& g, int pixels, int slice,
                                                uint32 (*patches)[CHUNK * SEEN],
                                                uint32 (*gradients)[CHUNK * (WIDTH + 8)]) {
  const int me = threadIdx.x, group = me % 32 / 4, member = me % 4;
  const int first_j = blockIdx.x * ROWS, first_k = blockIdx.z * WIDTH, length = g.rows * g.columns * g.channels;
  const int start = blockIdx.y * slice, stop = min(pixels, start + slice);

  // Each thread gathers four places of two pixels; the places stay, the pixels move on.
  const int row = me / 16, column = me % 16 * 4;
  Pixel upper = pixel_number(start + row, g), lower = pixel_number(start + row + 8, g);
  Place place = {0, 0, 0};
  place.advance(first_j + column, g);

  float4 next_upper, next_lower;
  Rows<WIDTH, ROW_THREADS> next_gradients;
  auto fetch = [&](int pixel) {
    next_upper = four_seen(x, upper, place, g, pixel + row < stop);
    next_lower = four_seen(x, lower, place, g, pixel + row + 8 < stop);
    upper.advance(CHUNK, g);
    lower.advance(CHUNK, g);
    next_gradients.fetch(dy, pixel, stop, first_k, g.out_channels);
  };

  float sums[WIDTH / 8][4] = {};
  fetch(start);
  for (int pixel = start, buffer = 0; pixel < stop; pixel += CHUNK, buffer = 1 - buffer) {
    put(&patches[buffer][row * SEEN + column], next_upper);
    put(&patches[buffer][(row + 8) * SEEN + column], next_lower);
    next_gradients.put_down(gradients[buffer]);
    __syncthreads();
    if (pixel + CHUNK < stop) fetch(pixel + CHUNK);
#pragma unroll
    for (int i = 0; i < CHUNK; i += 8) {
      const uint32* a_columns = &patches[buffer][(i + member) * SEEN + me / 32 * 16 + group];
      const uint32 a[4] = {a_columns[0], a_columns[8], a_columns[4 * SEEN], a_columns[4 * SEEN + 8]};
      multiply<WIDTH>(sums, a, &gradients[buffer][(i + member) * (WIDTH + 8) + group]);
    }
  }

#pragma unroll
  for (int tile = 0; tile < WIDTH / 8; tile++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int j = first_j + me / 32 * 16 + group + i / 2 * 8, k = first_k + tile * 8 + 2 * member + i % 2;
      if (j < length && k < g.out_channels) partial[(blockIdx.y * length + j) * g.out_channels + k] = sums[tile][i];
    }
}

#define WEIGHT_GRADIENT(WIDTH)                                                                            \
  __shared__ uint32 patches[2][CHUNK * SEEN], gradients[2][CHUNK * (WIDTH + 8)];                          \
  const Geometry g = *geometry;                                                                           \
  multiply_pixels<WIDTH>(dy, x, partial, g, pixels, slice, patches, gradients);

extern "C" __global__ void __launch_bounds__(128, 4) weight_gradient_tf32_16(const float* dy, const float* x,
                                                                             float* partial, const Geometry* geometry,
                                                                             int pixels, int slice) {
  WEIGHT_GRADIENT(16)
}
extern "C" __global__ void __launch_bounds__(128, 4) weight_gradient_tf32_32(const float* dy, const float* x,
                                                                             float* partial, const Geometry* geometry,
                                                                             int pixels, int slice) {
  WEIGHT_GRADIENT(32)
}
extern "C" __global__ void __launch_bounds__(128, 4) weight_gradient_tf32_64(const float* dy, const float* x,
                                                                             float* partial, const Geometry* geometry,
                                                                             int pixels, int slice) {
  WEIGHT_GRADIENT(64)
}
