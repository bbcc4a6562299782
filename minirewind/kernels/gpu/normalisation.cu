// Batch normalisation, with the residual added and the ReLU behind it, and relu by itself.
//
// The images are a matrix of `rows` pixels and C channels, [row][channel]. Next to nothing is computed here: a kernel
// takes as long as reading and writing the images takes, so everything that can be done in one pass is done in one.

#include "device.h"
#include "block.h"

// Sums per channel -----------------------------------------------------------------------------------------------------
//
// The rows are cut into slices. A block is 256 threads, blockDim.x of them across the channels and blockDim.y down the
// rows; each adds up every blockDim.y-th row of the block's slice. Then the upper half of the threads' sums is added to
// the lower half, again and again, until the first row of threads holds the whole. Between two halvings all must wait
// for all. A second kernel adds the slices, one block for each channel.

constexpr int THREADS = 256;

// Two sums over the threads of a column, known to the first of them.
__device__ __forceinline__ float2 sums_of_column(float one, float two, float2* shared) {
  int me = threadIdx.y * blockDim.x + threadIdx.x;
  shared[me] = make_float2(one, two);
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if ((int)threadIdx.y < half) {
      shared[me].x += shared[me + half * blockDim.x].x;
      shared[me].y += shared[me + half * blockDim.x].y;
    }
  }
  return shared[me];
}

// partial[slice][0][c] = the mean of the slice's rows, partial[slice][1][c] = the sum of their squared distances from it.
// The slice's first row is a pivot: E[x^2] - E[x]^2 of the bare numbers loses all digits where the mean is large beside
// the deviation. A convolution on tensor cores leaves the same numbers behind by itself (tensor_cores.cu).
extern "C" __global__ void __launch_bounds__(256) sum_moments(const float* __restrict__ x, float* __restrict__ partial,
                                                              int rows, int C, int slice) {
  __shared__ float2 shared[THREADS];
  int c = blockIdx.x * blockDim.x + threadIdx.x, start = blockIdx.y * slice, stop = min(rows, start + slice);
  float pivot = c < C ? x[start * C + c] : 0, total = 0, squares = 0;
  if (c < C)
    for (int row = start + threadIdx.y; row < stop; row += blockDim.y) {
      float value = x[row * C + c] - pivot;
      total += value;
      squares += value * value;
    }
  float2 sums = sums_of_column(total, squares, shared);
  if (threadIdx.y > 0 || c >= C) return;
  float offset = sums.x / (stop - start);
  partial[blockIdx.y * 2 * C + c] = pivot + offset;
  partial[blockIdx.y * 2 * C + C + c] = sums.y - sums.x * offset;
}

// From the slices to mean and 1 / sqrt(variance + eps). The squared distances from the mean of all are those from each
// slice's own mean, and for each of its rows the squared distance between the two means.
extern "C" __global__ void __launch_bounds__(256) finish_moments(const float* __restrict__ partial, int slices,
                                                                 int slice, int rows, int C, double eps,
                                                                 double momentum, float* running_mean,
                                                                 float* running_var, float* __restrict__ mean,
                                                                 float* __restrict__ inverse_std) {
  __shared__ double shared[2][8];
  int c = blockIdx.x;
  double total = 0, squares = 0;
  for (int i = threadIdx.x; i < slices; i += 256)
    total += (double)partial[i * 2 * C + c] * min(slice, rows - i * slice);
  double average = sum_of_block(total, shared[0]) / rows;
  for (int i = threadIdx.x; i < slices; i += 256) {
    double distance = partial[i * 2 * C + c] - average;
    squares += partial[i * 2 * C + C + c] + distance * distance * min(slice, rows - i * slice);
  }
  double variance = sum_of_block(squares, shared[1]) / rows;
  if (threadIdx.x > 0) return;
  variance = variance < 0 ? 0 : variance;              // by a rounding error only; a NaN stays one
  mean[c] = average;
  inverse_std[c] = 1 / sqrt(variance + eps);
  if (running_mean) {
    running_mean[c] += momentum * (average - running_mean[c]);
    running_var[c] += momentum * (variance * rows / (rows - 1) - running_var[c]);
  }
}

// Normalise ------------------------------------------------------------------------------------------------------------
//
// The threads of a whole launch step through the images together, in strides of the launch's size. That is a multiple
// of C (see host.py), so a thread meets the same channel every time and works out its numbers once.

// y = x * scale + shift, + residual where there is one, and its positive part with `relu`. A NaN is not below 0: it stays.
extern "C" __global__ void normalise(const float* __restrict__ x, const float* __restrict__ residual,
                                     const float* __restrict__ mean, const float* __restrict__ inverse_std,
                                     const float* __restrict__ weight, const float* __restrict__ bias, int relu,
                                     float* __restrict__ y, int C, int count) {
  int first = blockIdx.x * blockDim.x + threadIdx.x, c = first % C;
  float scale = inverse_std[c] * weight[c], shift = bias[c] - mean[c] * scale;
  for (int i = first; i < count; i += gridDim.x * blockDim.x) {
    float value = x[i] * scale + shift;
    if (residual) value += residual[i];
    y[i] = relu && value < 0 ? 0 : value;
  }
}

// Gradient -------------------------------------------------------------------------------------------------------------

// masked = dy where y > 0 (everywhere without a y); partial[slice] = (the sum of masked, that of masked * (x - mean)).
extern "C" __global__ void __launch_bounds__(256) sum_gradients(const float* __restrict__ dy,
                                                                const float* __restrict__ y,
                                                                const float* __restrict__ x,
                                                                const float* __restrict__ mean,
                                                                float* __restrict__ masked, float* __restrict__ partial,
                                                                int rows, int C, int slice) {
  __shared__ float2 shared[THREADS];
  int c = blockIdx.x * blockDim.x + threadIdx.x, start = blockIdx.y * slice, stop = min(rows, start + slice);
  float total = 0, product = 0;
  if (c < C)
    for (int row = start + threadIdx.y; row < stop; row += blockDim.y) {
      int i = row * C + c;
      float value = dy[i];
      if (y) {
        value = y[i] > 0 ? value : 0;
        masked[i] = value;
      }
      total += value;
      product += value * (x[i] - mean[c]);
    }
  float2 sums = sums_of_column(total, product, shared);
  if (threadIdx.y > 0 || c >= C) return;
  partial[blockIdx.y * 2 * C + c] = sums.x;
  partial[blockIdx.y * 2 * C + C + c] = sums.y;
}

extern "C" __global__ void __launch_bounds__(256) finish_gradients(const float* __restrict__ partial, int slices, int C,
                                                                   const float* __restrict__ inverse_std,
                                                                   float* __restrict__ dweight,
                                                                   float* __restrict__ dbias) {
  __shared__ double shared[2][8];
  int c = blockIdx.x;
  double total = 0, product = 0;
  for (int i = threadIdx.x; i < slices; i += 256) {
    total += partial[i * 2 * C + c];
    product += partial[i * 2 * C + C + c];
  }
  total = sum_of_block(total, shared[0]);
  product = sum_of_block(product, shared[1]);
  if (threadIdx.x > 0) return;
  dbias[c] = total;
  dweight[c] = product * inverse_std[c];
}

// dx = (dy - (dbias + normal * dweight) / rows) * inverse_std * weight, where normal = (x - mean) * inverse_std.
// `share` is 1 / rows, or 0 where mean and inverse_std are fixed numbers and not the batch's own.
extern "C" __global__ void gradient_of_input(const float* __restrict__ dy, const float* __restrict__ x,
                                             const float* __restrict__ mean, const float* __restrict__ inverse_std,
                                             const float* __restrict__ weight, const float* __restrict__ dweight,
                                             const float* __restrict__ dbias, float share, float* __restrict__ dx,
                                             int C, int count) {
  int first = blockIdx.x * blockDim.x + threadIdx.x, c = first % C;
  float scale = inverse_std[c] * weight[c], middle = mean[c];
  float slope = -scale * inverse_std[c] * dweight[c] * share, shift = -scale * dbias[c] * share;
  for (int i = first; i < count; i += gridDim.x * blockDim.x) dx[i] = dy[i] * scale + (x[i] - middle) * slope + shift;
}

// ReLU -----------------------------------------------------------------------------------------------------------------

extern "C" __global__ void relu(const float* __restrict__ x, float* __restrict__ y, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) y[i] = x[i] < 0 ? 0 : x[i];
}

extern "C" __global__ void relu_gradient(const float* __restrict__ dy, const float* __restrict__ y,
                                         float* __restrict__ dx, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) dx[i] = y[i] > 0 ? dy[i] : 0;
}
