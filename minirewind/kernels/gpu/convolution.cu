// Convolution in float32, directly from its definition: one thread for each number of the result.
//
// Images lie in memory as [image][row][column][channel], "channels last". Neighbouring threads make neighbouring
// channels of one pixel: they read the same pixels of x at the same time, which is one read for all of them, and
// neighbouring filters, which lie side by side once they are packed. That is the whole trick here.
// These kernels are exact to float32 and run on any card; tensor_cores.cu has the fast ones.

#include "device.h"
#include "geometry.h"

// Filters (K, C, T), T taps each, in the order in which they are needed: one row per tap and channel of what is read.
// For a convolution packed[t * C + c][k]; `transposed`, for its input gradient, packed[t * K + k][c].
extern "C" __global__ void pack_filters(const float* __restrict__ weight, float* __restrict__ packed, int K, int C,
                                        int T, int transposed) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= K * C * T) return;
  int k = transposed ? i / C % K : i % K, c = transposed ? i % C : i / K % C, t = i / (K * C);
  packed[i] = weight[(k * C + c) * T + t];
}

// y[pixel][k] = bias[k] + the sum over taps and channels of x * filter. Also the input gradient: see geometry.h.
extern "C" __global__ void conv2d_direct(const float* __restrict__ x, const float* __restrict__ packed,
                                         const float* __restrict__ bias, float* __restrict__ y,
                                         const Geometry* __restrict__ geometry, int count) {
  const Geometry g = *geometry;
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  int k = i % g.out_channels, pixel = i / g.out_channels;
  int q = pixel % g.out_width, p = pixel / g.out_width % g.out_height, n = pixel / (g.out_width * g.out_height);
  float sum = bias ? bias[k] : 0;
  for (int r = 0; r < g.rows; r++) {
    int h = look(p, r, g.step_y, g.turn, g.start_y, g.gap_y, g.height);
    if (h < 0) continue;
    for (int s = 0; s < g.columns; s++) {
      int w = look(q, s, g.step_x, g.turn, g.start_x, g.gap_x, g.width);
      if (w < 0) continue;
      const float* seen = x + ((n * g.height + h) * g.width + w) * g.channels;
      const float* filter = packed + (r * g.columns + s) * g.channels * g.out_channels + k;
      for (int c = 0; c < g.channels; c++) sum += seen[c] * filter[c * g.out_channels];
    }
  }
  y[i] = sum;
}

// Each number of the weight gradient is a sum over all output pixels, far too long for one thread. The pixels are cut
// into slices of equal length, and blockIdx.y says which one a thread adds up:
//     partial[slice][t * C + c][k] = the sum over the slice's pixels of dy[pixel][k] * what tap t saw there in channel c
extern "C" __global__ void weight_gradient_direct(const float* __restrict__ dy, const float* __restrict__ x,
                                                  float* __restrict__ partial, const Geometry* __restrict__ geometry,
                                                  int pixels, int slice) {
  const Geometry g = *geometry;
  int i = blockIdx.x * blockDim.x + threadIdx.x, count = g.rows * g.columns * g.channels * g.out_channels;
  if (i >= count) return;
  int k = i % g.out_channels, c = i / g.out_channels % g.channels, t = i / (g.out_channels * g.channels);
  int r = t / g.columns, s = t % g.columns;
  float sum = 0;
  for (int pixel = blockIdx.y * slice; pixel < min(pixels, (int)(blockIdx.y + 1) * slice); pixel++) {
    int q = pixel % g.out_width, p = pixel / g.out_width % g.out_height, n = pixel / (g.out_width * g.out_height);
    int h = look(p, r, g.step_y, g.turn, g.start_y, g.gap_y, g.height);
    int w = look(q, s, g.step_x, g.turn, g.start_x, g.gap_x, g.width);
    if (h >= 0 && w >= 0)
      sum += dy[pixel * g.out_channels + k] * x[((n * g.height + h) * g.width + w) * g.channels + c];
  }
  partial[blockIdx.y * count + i] = sum;
}

// The slices' sums, added in an order that is always the same: no atomic additions, and so the same bits in every run.
// A block of 32 x 8 threads makes 32 numbers; each of its 8 rows adds every eighth slice, then the first row adds the
// rows. dweight[k][c][t] comes out in the order of the filters themselves.
extern "C" __global__ void __launch_bounds__(256) add_slices(const float* __restrict__ partial,
                                                             float* __restrict__ dweight, int slices, int K, int C,
                                                             int T) {
  __shared__ float sums[8][32];
  int i = blockIdx.x * 32 + threadIdx.x, count = K * C * T;
  float sum = 0;
  if (i < count)
    for (int slice = threadIdx.y; slice < slices; slice += 8) sum += partial[slice * count + i];
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || i >= count) return;
  for (int row = 1; row < 8; row++) sum += sums[row][threadIdx.x];
  int k = i % K, c = i / K % C, t = i / (K * C);
  dweight[(k * C + c) * T + t] = sum;
}
