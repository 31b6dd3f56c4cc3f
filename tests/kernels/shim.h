// CUDA for a plain C++ compiler: the warps of a block run in turns, from one barrier to the next, and so do the threads of a
// warp, from one exchange to the next, each on a stack of its own. A barrier that not every thread of a block reaches, or an
// exchange that not every thread of a warp does, is an error, as it would be a hang or a race on a device.

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>
#include <ucontext.h>

using std::erf; using std::exp; using std::expm1; using std::log; using std::max; using std::min; using std::sqrt; using std::tanh;

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct Dimensions { unsigned x, y, z; };
static Dimensions threadIdx, blockIdx, blockDim, gridDim;
alignas(16) REAL memory[1 << 15];  // dynamic shared memory

namespace shim {

struct Thread { jmp_buf place; ucontext_t start; std::vector<char> stack; bool entered = false, done = false, of_warp = false; int barrier = 0; };

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

// Give way to the other threads, of the block or of the warp alone, until all of them have come to the same barrier.
static void wait(int barrier, bool of_warp = false) {
    threads[current].barrier = barrier;
    threads[current].of_warp = of_warp;
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

// Whether some threads have ended; they must be at the same place.
static bool ended(unsigned first, unsigned last) {
    for (unsigned t = first + 1; t < last; t++)
        if (threads[t].done != threads[first].done || (!threads[t].done && threads[t].barrier != threads[first].barrier)) {
            std::fprintf(stderr, "threads wait at different barriers: lines %d and %d\n",
                         threads[first].done ? 0 : threads[first].barrier, threads[t].done ? 0 : threads[t].barrier);
            std::abort();
        }
    return threads[first].done;
}

// Threads of odd blocks take their turns backwards, so that a missing barrier shows in one block or the next.
static void run_block() {
    const unsigned count = blockDim.x * blockDim.y * blockDim.z, warps = (count + 31) / 32;
    if (threads.size() < count) threads.resize(count);
    for (unsigned t = 0; t < count; t++) threads[t].entered = threads[t].done = exchanges[t] = 0;
    const bool backwards = (blockIdx.x + blockIdx.y + blockIdx.z) % 2;
    do
        for (unsigned w = 0; w < warps; w++) {
            const unsigned first = (backwards ? warps - 1 - w : w) * 32, last = min(first + 32, count);
            do for (unsigned t = first; t < last; t++) resume(backwards ? first + last - 1 - t : t);
            while (!ended(first, last) && threads[first].of_warp);
        }
    while (!ended(0, count));
}

static REAL exchange(REAL value, int lane, int line) {
    const unsigned thread = current;
    REAL *slots = exchanged[exchanges[thread]++ % 2];  // two in turn, so that one wait is enough
    slots[thread] = value;
    wait(line, true);
    return lane < 32 ? slots[thread / 32 * 32 + lane] : value;
}

// The formats of 16 bits, and tf32, as IEEE 754 and the manual of PTX define them.
static unsigned bits_of(float value) { unsigned bits; std::memcpy(&bits, &value, 4); return bits; }
static float value_of(unsigned bits) { float value; std::memcpy(&value, &bits, 4); return value; }

static unsigned short bfloat16_bits(float value) {
    const unsigned bits = bits_of(value);
    return value != value ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
static float bfloat16_value(unsigned short bits) { return value_of((unsigned)bits << 16); }

// 11 bits, or multiples of 2^-24 below 2^-13; the next of them has the next number, up to infinity
static unsigned short float16_bits(float value) {
    const float size = std::fabs(value);
    int exponent;
    std::frexp(size, &exponent);
    const int place = size < 0x1p-13f ? -24 : exponent - 11;
    const unsigned sign = std::signbit(value) ? 0x8000u : 0u;
    if (value != value) return 0x7fffu;
    return sign | (size >= 0x1p16f ? 0x7c00u : (place + 24) * 1024 + unsigned(std::nearbyint(std::ldexp(size, -place))));
}
static float float16_value(unsigned short bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                      : exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
    return bits >> 15 ? -size : size;
}

#if defined(TF32) || defined(BFLOAT16) || defined(FLOAT16)
#define TENSOR_CORES  // their operands, see mma.cuh, and fragments

struct Fragment { unsigned a[4], b[2]; };
static Fragment fragments[2][1024];

#if defined(TF32)
static const unsigned VALUES = 1;  // of a word
static unsigned rounded(float value) { return value != value ? 0x7fffffffu : (bits_of(value) + 0x1000u) & ~0x1fffu; }
static double operand(unsigned bits) { return value_of(bits & ~0x1fffu); }  // the lower bits are ignored
#elif defined(BFLOAT16)
static const unsigned VALUES = 2;
static unsigned rounded(float value) { return bfloat16_bits(value); }
static double operand(unsigned bits) { return bfloat16_value(bits); }
#else
static const unsigned VALUES = 2;
static unsigned rounded(float value) { return float16_bits(value); }
static double operand(unsigned bits) { return float16_value(bits); }
#endif

// The first value of a word is its lower half.
static unsigned packed(float low, float high) { return VALUES == 1 ? rounded(low) : rounded(low) | rounded(high) << 16; }
static double unpacked(unsigned word, unsigned which) {
    return operand(VALUES == 1 ? word : which ? word >> 16 : word & 0xffffu);
}

static void mma(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line) {
    const unsigned thread = current, first = thread / 32 * 32, group = thread % 32 / 4, four = thread % 4;
    Fragment *slots = fragments[exchanges[thread]++ % 2];
    std::copy(a, a + 4, slots[thread].a);
    std::copy(b, b + 2, slots[thread].b);
    wait(line, true);
    for (int i = 0; i < 4; i++) {
        const unsigned row = group + i / 2 * 8, column = four * 2 + i % 2;
        double sum = sums[i];
        for (unsigned word = 0; word < 8; word++)
            for (unsigned which = 0; which < VALUES; which++)
                sum += unpacked(slots[first + row % 8 * 4 + word % 4].a[row / 8 + word / 4 * 2], which)
                     * unpacked(slots[first + column * 4 + word % 4].b[word / 4], which);
        sums[i] = sum;
    }
}

#endif

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
using shim::bfloat16_bits; using shim::bfloat16_value; using shim::float16_bits; using shim::float16_value;
#ifdef TENSOR_CORES
#define pack shim::packed
#define mma(sums, a, b) shim::mma(sums, a, b, __LINE__)
#endif
#define __umul64hi(a, b) (unsigned long long)(((unsigned __int128)(a) * (b)) >> 64)

// What a library offers for each kernel: a launch, and the sizes of its parameters.
#define OFFER(name) \
    static void body_##name(void **p) { shim::call(name, p); } \
    extern "C" void launch_##name(const unsigned *grid, const unsigned *block, void **p) { shim::launch(body_##name, grid, block, p); } \
    extern "C" int sizes_##name(int *out) { return shim::sizes(name, out); }
