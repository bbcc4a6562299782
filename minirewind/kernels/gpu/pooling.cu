// Pooling: the largest or the mean value under a window, channels last.
//
// A gradient could be made by every window adding to its pixels, all at once; but two windows may share a pixel, and
// which of two threads adds first is chance. So no two threads ever add to the same number here.

#include "device.h"

struct Window {
  int height, width, out_height, out_width;
  int rows, columns, stride_y, stride_x, padding_y, padding_x;
};

// y and where it stood, counted row by row in the H x W plane. Of equal values the first wins, and a NaN over all.
extern "C" __global__ void max_pool2d(const float* __restrict__ x, float* __restrict__ y, int64* __restrict__ source,
                                      const Window* __restrict__ window, int C, int count) {
  const Window g = *window;
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  int c = i % C, q = i / C % g.out_width, p = i / (C * g.out_width) % g.out_height;
  int n = i / (C * g.out_width * g.out_height);
  const float* plane = x + n * g.height * g.width * C + c;
  int top = p * g.stride_y - g.padding_y, left = q * g.stride_x - g.padding_x;
  int winner = max(top, 0) * g.width + max(left, 0);
  float largest = plane[winner * C];
  for (int h = max(top, 0); h < min(top + g.rows, g.height); h++)
    for (int w = max(left, 0); w < min(left + g.columns, g.width); w++) {
      float value = plane[(h * g.width + w) * C];
      if (value > largest || (value != value && largest == largest)) {
        largest = value;
        winner = h * g.width + w;
      }
    }
  y[i] = largest;
  source[i] = winner;
}

// The gradient of the winners. Which windows there were is not known here, only who won: so one thread has a whole
// plane of one channel for itself, set to 0 before, and adds window after window.
extern "C" __global__ void max_pool2d_gradient(const float* __restrict__ dy, const int64* __restrict__ source,
                                               float* __restrict__ dx, int windows, int plane, int C, int planes) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= planes) return;
  int c = i % C, n = i / C;
  for (int window = n * windows; window < (n + 1) * windows; window++)
    dx[(n * plane + (int)source[window * C + c]) * C + c] += dy[window * C + c];
}

// The zeros of the padding count.
extern "C" __global__ void avg_pool2d(const float* __restrict__ x, float* __restrict__ y,
                                      const Window* __restrict__ window, int C, int count) {
  const Window g = *window;
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  int c = i % C, q = i / C % g.out_width, p = i / (C * g.out_width) % g.out_height;
  int n = i / (C * g.out_width * g.out_height);
  const float* plane = x + n * g.height * g.width * C + c;
  int top = p * g.stride_y - g.padding_y, left = q * g.stride_x - g.padding_x;
  float sum = 0;
  for (int h = max(top, 0); h < min(top + g.rows, g.height); h++)
    for (int w = max(left, 0); w < min(left + g.columns, g.width); w++) sum += plane[(h * g.width + w) * C];
  y[i] = sum / (g.rows * g.columns);
}

// The windows [first, last] that cover a pixel, along one axis.
__device__ __forceinline__ int first_window(int pixel, int size, int stride, int padding) {
  int start = pixel + padding - size + 1;
  return start <= 0 ? 0 : (start + stride - 1) / stride;
}
__device__ __forceinline__ int last_window(int pixel, int stride, int padding, int windows) {
  return min((pixel + padding) / stride, windows - 1);
}

// Every *pixel* asks the windows that cover it, always in the same order.
extern "C" __global__ void avg_pool2d_gradient(const float* __restrict__ dy, float* __restrict__ dx,
                                               const Window* __restrict__ window, int C, int count) {
  const Window g = *window;
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  int c = i % C, w = i / C % g.width, h = i / (C * g.width) % g.height, n = i / (C * g.width * g.height);
  float sum = 0;
  for (int p = first_window(h, g.rows, g.stride_y, g.padding_y);
       p <= last_window(h, g.stride_y, g.padding_y, g.out_height); p++)
    for (int q = first_window(w, g.columns, g.stride_x, g.padding_x);
         q <= last_window(w, g.stride_x, g.padding_x, g.out_width); q++)
      sum += dy[((n * g.out_height + p) * g.out_width + q) * C + c];
  dx[i] = sum / (g.rows * g.columns);
}
