// The product of two matrices in float32: z[m][n] = the sum over k of x[m][k] * y[k][n].
//
// x and y are read through their strides, so a transposed matrix is no copy.

#include "device.h"

// One thread for each number: every number of x is fetched N times, every number of y M times.
extern "C" __global__ void matmul_direct(const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ z,
                                         int M, int N, int K, int x_row, int x_column, int y_row, int y_column) {
  int n = blockIdx.x * blockDim.x + threadIdx.x, m = blockIdx.y * blockDim.y + threadIdx.y;
  if (m >= M || n >= N) return;
  float sum = 0;
  for (int k = 0; k < K; k++) sum += x[m * x_row + k * x_column] * y[k * y_row + n * y_column];
  z[m * N + n] = sum;
}

// The block first brings a tile of x and one of y into shared memory, then every thread takes its row and column from
// there: each number is fetched once per block, 16 times less often. Two barriers: nobody reads a tile before it is
// full, and nobody fills the next one while somebody still reads this one.
constexpr int TILE = 16;

extern "C" __global__ void __launch_bounds__(256) matmul(const float* __restrict__ x, const float* __restrict__ y,
                                                         float* __restrict__ z, int M, int N, int K, int x_row,
                                                         int x_column, int y_row, int y_column) {
  __shared__ float x_tile[TILE][TILE], y_tile[TILE][TILE];
  int i = threadIdx.y, j = threadIdx.x, m = blockIdx.y * TILE + i, n = blockIdx.x * TILE + j;
  float sum = 0;
  for (int k = 0; k < K; k += TILE) {
    x_tile[i][j] = m < M && k + j < K ? x[m * x_row + (k + j) * x_column] : 0;
    y_tile[i][j] = n < N && k + i < K ? y[(k + i) * y_row + n * y_column] : 0;
    __syncthreads();
    for (int t = 0; t < TILE; t++) sum += x_tile[i][t] * y_tile[t][j];
    __syncthreads();
  }
  if (m < M && n < N) z[m * N + n] = sum;
}
