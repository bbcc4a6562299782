// What the kernels of this folder take for granted beyond CUDA C itself: two names for numbers, and the one
// tensor-core instruction that they use. On the emulated device all of CUDA C is taken from emulator/cuda.h instead.

#pragma once

#ifdef EMULATED
#include "emulator/cuda.h"
#else

#ifndef INFINITY                                    // NVRTC compiles without the C library's headers
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

typedef unsigned int uint32;
typedef long long int64;
typedef unsigned long long uint64;

#if __CUDA_ARCH__ >= 800

// A float rounded to TF32, the format that tensor cores multiply: the exponent of a float, 10 bits of its fraction.
__device__ __forceinline__ uint32 to_tf32(float value) {
  uint32 bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

// d += a @ b, by all 32 threads of a warp together: a is 16 x 8, b is 8 x 8, d is 16 x 8, and each thread holds a part.
// With  group = lane / 4  and  member = lane % 4  these are
//     a[0], a[1]    row group, row group + 8, of column member            a[2], a[3]    the same of column member + 4
//     b[0], b[1]    row member, row member + 4, of column group
//     d[0], d[1]    row group, of columns 2 member, 2 member + 1          d[2], d[3]    the same of row group + 8
__device__ __forceinline__ void mma_m16n8k8(float (&d)[4], const uint32 (&a)[4], const uint32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
#endif
