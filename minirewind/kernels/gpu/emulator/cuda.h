// CUDA C, given its meaning in plain C++: what a kernel needs to run on a CPU, one fibre for each CUDA thread.
//
// A fibre is a stack of its own and the place where it was left. Every thread runs until it meets a barrier, is left
// there, and is taken up again when all whom the barrier concerns have come to it:
//
//     __syncthreads()                    waits for the block
//     __syncwarp(), a shuffle, an mma    waits for the 32 threads of the warp
//
// Blocks run one after another. Within a block each warp runs ahead as far as it can, to the next barrier of the block,
// before another warp moves at all: were a barrier missing, it would run into memory that nobody has filled. That shows,
// because shared memory is filled with NaN before every block, and because the order of warps and lanes is shuffled by
// a seed: a kernel whose result depends on the order lacks a barrier. A warp in lockstep would hide all that.

#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

typedef uint32_t uint32;
typedef long long int64;
typedef unsigned long long uint64;

// The words of CUDA C -------------------------------------------------------------------------------------------------

#define __global__
#define __device__ inline
#define __forceinline__
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared_memory")))     // all in one place, to be filled with NaN

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static dim3 threadIdx, blockIdx, blockDim, gridDim;       // of the fibre that runs now

template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }
inline float __uint_as_float(uint32 bits) { float value; std::memcpy(&value, &bits, 4); return value; }
inline uint32 __float_as_uint(float value) { uint32 bits; std::memcpy(&bits, &value, 4); return bits; }

// Fibres --------------------------------------------------------------------------------------------------------------

extern char __start_shared_memory[] __attribute__((weak));              // the linker knows where that section lies
extern char __stop_shared_memory[] __attribute__((weak));

namespace emulator {

enum State { READY, AT_THE_WARPS_BARRIER, AT_THE_BLOCKS_BARRIER, DONE };
constexpr int WARP = 32;
constexpr size_t STACK = 64 * 1024;

struct Thread {
  State state;
  dim3 index;
  ucontext_t context;
  jmp_buf place;              // where it was left
  bool begun;
  int turn;                   // which of the two rows of words comes next
  uint32 words[2][8];         // what it shows to the other threads of its warp
};

static std::vector<Thread> threads;
static char* stacks;
static int current;                            // the number of the thread that runs now, in its block
static const void* kernel;                     // what every thread does: a closure, and how to call it
static void (*call)(const void* kernel);
static ucontext_t scheduler_context;
static jmp_buf scheduler_place;

// swapcontext() would do for all; but it asks the operating system for the signal mask each time, and jumping does not.
// Only the address sanitiser insists on it.
#ifdef __SANITIZE_ADDRESS__
inline void resume(int number) {
  current = number;
  threadIdx = threads[number].index;
  swapcontext(&scheduler_context, &threads[number].context);
}
inline void leave(State state) {
  threads[current].state = state;
  swapcontext(&threads[current].context, &scheduler_context);
}
#else
inline void resume(int number) {
  current = number;
  threadIdx = threads[number].index;
  if (_setjmp(scheduler_place) == 0) {
    if (threads[number].begun) _longjmp(threads[number].place, 1);
    threads[number].begun = true;
    setcontext(&threads[number].context);
  }
}
__attribute__((noinline)) void leave(State state) {
  threads[current].state = state;
  if (_setjmp(threads[current].place) == 0) _longjmp(scheduler_place, 1);
}
#endif

inline void run_thread() {
  call(kernel);
  leave(DONE);
}

inline void prepare(int number) {
  Thread& thread = threads[number];
  thread.state = READY;
  thread.begun = false;
  thread.turn = 0;
  thread.index = {number % blockDim.x, number / blockDim.x % blockDim.y, number / (blockDim.x * blockDim.y)};
  getcontext(&thread.context);
  thread.context.uc_stack.ss_sp = &stacks[number * STACK];
  thread.context.uc_stack.ss_size = STACK;
  thread.context.uc_link = nullptr;
  makecontext(&thread.context, run_thread, 0);
}

// Opens a barrier if every thread of first .. last - 1 has come to it. A warp's does not wait for those that have ended;
// the block's never opens then, as CUDA promises nothing where not all threads come.
inline bool open(int first, int last, State barrier) {
  bool anyone = false;
  for (int i = first; i < last; i++) {
    bool ended = threads[i].state == DONE && barrier == AT_THE_WARPS_BARRIER;
    if (threads[i].state != barrier && !ended) return false;
    anyone |= threads[i].state == barrier;
  }
  for (int i = first; i < last; i++)
    if (threads[i].state == barrier) threads[i].state = READY;
  return anyone;
}

inline bool run_warp(int first, int last, const std::vector<int>& lanes) {        // as far as it can go
  bool moved = false;
  for (bool again = true; again;) {
    again = false;
    for (int lane : lanes)
      if (first + lane < last && threads[first + lane].state == READY) {
        resume(first + lane);
        again = true;
      }
    again |= open(first, last, AT_THE_WARPS_BARRIER);
    moved |= again;
  }
  return moved;
}

inline bool run_block(int count, const std::vector<int>& warps, const std::vector<int>& lanes) {
  if (__start_shared_memory) std::memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
  for (int i = 0; i < count; i++) prepare(i);
  for (bool again = true; again;) {
    again = false;
    for (int warp : warps) again |= run_warp(warp * WARP, min(count, warp * WARP + WARP), lanes);
    again |= open(0, count, AT_THE_BLOCKS_BARRIER);
  }
  for (int i = 0; i < count; i++)
    if (threads[i].state != DONE) return false;
  return true;
}

// An order of the numbers below the vector's size that depends on the seed, by the hash that augment.cu has too.
inline void shuffle(std::vector<int>& numbers, uint64& seed) {
  for (size_t i = numbers.size() - 1; i > 0; i--) {
    uint64 x = seed += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    std::swap(numbers[i], numbers[(x ^ (x >> 31)) % (i + 1)]);
  }
}

// Runs a closure on every thread of every block. Returns null, or what went wrong.
template <class F>
const char* launch(dim3 grid, dim3 block, unsigned seed, const F& closure) {
  int count = block.x * block.y * block.z;
  if (count < 1 || count > 1024) return "a block has 1 to 1024 threads";
  if (size_t(count) > threads.size()) {
    threads.resize(count);
    delete[] stacks;
    stacks = new char[count * STACK];
  }
  gridDim = grid;
  blockDim = block;
  kernel = &closure;
  call = [](const void* kernel) { (*static_cast<const F*>(kernel))(); };
  std::vector<int> warps, lanes;
  for (int i = 0; i < (count + WARP - 1) / WARP; i++) warps.push_back(i);
  for (int i = 0; i < WARP; i++) lanes.push_back(i);
  uint64 random = seed;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        blockIdx = {x, y, z};
        if (seed) shuffle(warps, random), shuffle(lanes, random);
        if (!run_block(count, warps, lanes)) return "some threads wait at a barrier that the others never reach";
      }
  return nullptr;
}

// The same with an array of pointers to the kernel's arguments, as on a real card.
template <class... P, size_t... I>
const char* launch(dim3 grid, dim3 block, unsigned seed, void (*function)(P...), void** arguments,
                   std::index_sequence<I...>) {
  return launch(grid, block, seed, [=] { function(*static_cast<P*>(arguments[I])...); });
}
template <class... P>
const char* launch(dim3 grid, dim3 block, unsigned seed, void (*function)(P...), void** arguments) {
  return launch(grid, block, seed, function, arguments, std::index_sequence_for<P...>{});
}

// What threads of a warp say to each other: each shows some words, all wait, each reads the words of others. The rows
// take turns: who is in a hurry fills the other row while the slow still read this one, and no further.
inline int show(const uint32* words, int count) {
  Thread& thread = threads[current];
  int row = thread.turn;
  thread.turn = 1 - row;
  std::memcpy(thread.words[row], words, 4 * count);
  leave(AT_THE_WARPS_BARRIER);
  return row;
}

inline uint32 word(int row, int lane, int number) { return threads[current / WARP * WARP + lane].words[row][number]; }

template <class T>
T value_of_lane(T value, int lane) {
  constexpr int WORDS = sizeof(T) / 4;
  uint32 bits[WORDS];
  std::memcpy(bits, &value, sizeof(T));
  int row = show(bits, WORDS);
  for (int i = 0; i < WORDS; i++) bits[i] = word(row, lane, i);
  std::memcpy(&value, bits, sizeof(T));
  return value;
}

}  // namespace emulator

// Barriers, shuffles, tensor cores -------------------------------------------------------------------------------------

inline void __syncthreads() { emulator::leave(emulator::AT_THE_BLOCKS_BARRIER); }
inline void __syncwarp(uint32 = ~0u) { emulator::leave(emulator::AT_THE_WARPS_BARRIER); }

template <class T>
T __shfl_xor_sync(uint32, T value, int mask) {
  return emulator::value_of_lane(value, emulator::current % emulator::WARP ^ mask);
}

// Rounds half away from zero, as the instruction does; a NaN, which shared memory is full of, stays one.
inline uint32 to_tf32(float value) {
  return std::isnan(value) ? 0x7fffffffu : (__float_as_uint(value) + 0x1000u) & 0xffffe000u;
}

// device.h says which thread holds what.
inline void mma_m16n8k8(float (&d)[4], const uint32 (&a)[4], const uint32 (&b)[2]) {
  const uint32 mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  int row = emulator::show(mine, 6), group = emulator::current % emulator::WARP / 4, member = emulator::current % 4;
  for (int i = 0; i < 4; i++) {
    int m = group + i / 2 * 8, n = 2 * member + i % 2;
    float sum = 0;
    for (int k = 0; k < 8; k++)
      sum += __uint_as_float(emulator::word(row, m % 8 * 4 + k % 4, m / 8 + k / 4 * 2)) *
             __uint_as_float(emulator::word(row, n * 4 + k % 4, 4 + k / 4));
    d[i] += sum;
  }
}
