// Softmax cross-entropy: one warp for each image (warp.h tells how its threads add up what they have).

#include "device.h"
#include "block.h"
#include "warp.h"

// probabilities = softmax(logits), losses[row] = -log of the target's; NaN where the target is not a class.
extern "C" __global__ void cross_entropy(const float* __restrict__ logits, const int64* __restrict__ target,
                                         float* __restrict__ probabilities, float* __restrict__ losses, int rows,
                                         int classes) {
  int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;                                   // the whole warp leaves together
  const float* score = logits + row * classes;
  float largest = -INFINITY, total = 0;
  for (int k = lane; k < classes; k += 32) largest = fmaxf(largest, score[k]);
  largest = largest_of_warp(largest);
  for (int k = lane; k < classes; k += 32) total += expf(score[k] - largest);          // never overflows; NaN stays NaN
  total = sum_of_warp(total);
  for (int k = lane; k < classes; k += 32) probabilities[row * classes + k] = expf(score[k] - largest) / total;
  if (lane == 0) {
    int64 right = target[row];
    losses[row] = right >= 0 && right < classes ? logf(total) - (score[right] - largest) : NAN;
  }
}

// mean[0] = the mean of the losses: one block, each thread a part.
extern "C" __global__ void __launch_bounds__(256) mean_of_rows(const float* __restrict__ losses,
                                                               float* __restrict__ mean, int rows) {
  __shared__ float shared[8];
  float sum = 0;
  for (int row = threadIdx.x; row < rows; row += 256) sum += losses[row];
  sum = sum_of_block(sum, shared);
  if (threadIdx.x == 0) mean[0] = sum / rows;
}

// (softmax - one-hot) * dz / rows, where dz[0] is the gradient of the mean.
extern "C" __global__ void cross_entropy_gradient(const float* __restrict__ dz, const float* __restrict__ probabilities,
                                                  const int64* __restrict__ target, float* __restrict__ gradient,
                                                  int rows, int classes) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= rows * classes) return;
  gradient[i] = (probabilities[i] - (target[i / classes] == i % classes)) * (dz[0] / rows);
}
