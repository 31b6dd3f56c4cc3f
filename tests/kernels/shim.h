// CUDA for a plain C++ compiler: the threads of a block run in turns, from one barrier to the next, on stacks of their own.
// A barrier that not every thread of a block reaches is an error, as it would be a hang or a race on a device.

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>
#include <ucontext.h>

using std::exp; using std::log; using std::max; using std::min; using std::sqrt;

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct Dimensions { unsigned x, y, z; };
static Dimensions threadIdx, blockIdx, blockDim, gridDim;
alignas(16) REAL memory[1 << 15];  // dynamic shared memory

namespace shim {

struct Thread { jmp_buf place; ucontext_t start; std::vector<char> stack; bool entered = false, done = false; int barrier = 0; };

static std::vector<Thread> threads;
static jmp_buf scheduler;
static ucontext_t unused;
static unsigned current;
static void (*body)(void **);
static void **parameters;
static REAL exchanged[2][1024];
static unsigned exchanges[1024];

static Dimensions index_of(unsigned thread) {
    return {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
}

// Give way to the other threads until all of them have come to the same barrier.
static void wait(int barrier) {
    threads[current].barrier = barrier;
    if (!_setjmp(threads[current].place)) _longjmp(scheduler, 1);
}

static void enter() {
    body(parameters);
    threads[current].done = true;
    _longjmp(scheduler, 1);
}

static void resume(unsigned thread) {
    current = thread;
    threadIdx = index_of(thread);
    if (_setjmp(scheduler)) return;
    Thread &it = threads[thread];
    if (it.entered) _longjmp(it.place, 1);
    it.entered = true;
    it.stack.resize(1 << 16);
    getcontext(&it.start);
    it.start.uc_stack.ss_sp = it.stack.data();
    it.start.uc_stack.ss_size = it.stack.size();
    makecontext(&it.start, enter, 0);
    swapcontext(&unused, &it.start);
}

// Threads of odd blocks take their turns backwards, so that a missing barrier shows in one block or the next.
static void run_block() {
    const unsigned count = blockDim.x * blockDim.y * blockDim.z;
    if (threads.size() < count) threads.resize(count);
    for (unsigned t = 0; t < count; t++) threads[t].entered = threads[t].done = exchanges[t] = 0;
    const bool backwards = (blockIdx.x + blockIdx.y + blockIdx.z) % 2;
    for (;;) {
        for (unsigned t = 0; t < count; t++) resume(backwards ? count - 1 - t : t);
        for (unsigned t = 1; t < count; t++)
            if (threads[t].done != threads[0].done || (!threads[0].done && threads[t].barrier != threads[0].barrier)) {
                std::fprintf(stderr, "threads of a block wait at different barriers: lines %d and %d\n",
                             threads[0].done ? 0 : threads[0].barrier, threads[t].done ? 0 : threads[t].barrier);
                std::abort();
            }
        if (threads[0].done) return;
    }
}

static REAL exchange(REAL value, int lane, int line) {
    const unsigned thread = current;
    REAL *slots = exchanged[exchanges[thread]++ % 2];  // two in turn, so that one wait is enough
    slots[thread] = value;
    wait(line);
    return lane < 32 ? slots[thread / 32 * 32 + lane] : value;
}

template <class... A, size_t... I> void call(void (*kernel)(A...), void **p, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(p[I])...);
}
template <class... A> void call(void (*kernel)(A...), void **p) { call(kernel, p, std::index_sequence_for<A...>()); }
template <class... A> int sizes(void (*)(A...), int *out) {
    int all[] = {(int)sizeof(A)...};
    std::copy(all, all + sizeof...(A), out);
    return sizeof...(A);
}

static void launch(void (*kernel)(void **), const unsigned *grid, const unsigned *block, void **p) {
    body = kernel;
    parameters = p;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, z};
                std::fill(memory, memory + (1 << 10), REAL(NAN));  // shared memory begins as anything
                run_block();
            }
}

}  // namespace shim

#define __syncthreads() shim::wait(__LINE__)
#define __shfl_down_sync(mask, value, distance) shim::exchange(value, shim::current % 32 + distance, __LINE__)
#define __shfl_xor_sync(mask, value, distance) shim::exchange(value, shim::current % 32 ^ distance, __LINE__)
static unsigned long long atomicAdd(unsigned long long *sum, unsigned long long more) { return *sum += more, *sum - more; }
#define __umul64hi(a, b) (unsigned long long)(((unsigned __int128)(a) * (b)) >> 64)

// What a library offers for each kernel: a launch, and the sizes of its parameters.
#define OFFER(name) \
    static void body_##name(void **p) { shim::call(name, p); } \
    extern "C" void launch_##name(const unsigned *grid, const unsigned *block, void **p) { shim::launch(body_##name, grid, block, p); } \
    extern "C" int sizes_##name(int *out) { return shim::sizes(name, out); }
