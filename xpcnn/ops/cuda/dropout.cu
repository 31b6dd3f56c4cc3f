// Dropout. Element e of the whole batch, in row-major order, is kept where the e-th 16-bit number of Philox4x64-10 is below
// a threshold (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), as drawn on the host.

#include "stored.cuh"

typedef unsigned long long Word;

__device__ inline unsigned drawn(Word element, Word seed, Word stream, Word step) {
    Word c0 = element / 16 + 1, c1 = step, c2 = 0, c3 = 0;
    for (int round = 0; round < 10; round++) {
        const Word high0 = __umul64hi(0xD2E7470EE14C6C93ull, c0), low0 = 0xD2E7470EE14C6C93ull * c0;
        const Word high1 = __umul64hi(0xCA5A826395121157ull, c2), low1 = 0xCA5A826395121157ull * c2;
        c0 = high1 ^ c1 ^ seed;
        c1 = low1;
        c2 = high0 ^ c3 ^ stream;
        c3 = low0;
        seed += 0x9E3779B97F4A7C15ull;
        stream += 0xBB67AE8584CAA73Bull;
    }
    const int word = element / 4 % 4;
    const Word bits = word == 0 ? c0 : word == 1 ? c1 : word == 2 ? c2 : c3;
    return bits >> (16 * (element % 4)) & 0xFFFF;
}

// x, y: (features, n), the batch last. One thread per element.
extern "C" __global__ void dropout(
    const IMAGE *__restrict__ x, IMAGE *__restrict__ y, const Word *__restrict__ step, Word seed, Word stream,
    unsigned threshold, REAL scale, int n, int features, Word first_row)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)n * features) return;
    const Word image = first_row + i % n, feature = i / n;
    y[i] = drawn(image * features + feature, seed, stream, *step) < threshold ? x[i] * scale : REAL(0);
}
