// Convolution without im2col. Images have the batch last, (channels, rows, columns, n): neighbouring threads handle the
// same position of neighbouring images, so they read and write adjacent values, and every weight of a filter is
// broadcast to all of them at once.

#include "activation.cuh"
#include "correlation.cuh"
#include "largest.cuh"
#include "places.cuh"
#include "seen.cuh"

// Loops of a size that is defined at compile time can be unrolled.
#ifndef KERNEL_HEIGHT
#define KERNEL_HEIGHT of.kernel_height
#define KERNEL_WIDTH of.kernel_width
#endif

// Sums FILTERS filters at PLACES_DOWN x PLACES_RIGHT places of one image.
// Grid: (places and images, filters, groups). Block: (places and images, parts of the channels, a power of two).
// BLOCK: threads per block.
// Shared memory: the filters' weights for `at_once` channels, then sums of the parts.
extern "C" __global__ void __launch_bounds__(BLOCK) correlate(
    const REAL *__restrict__ x, const REAL *__restrict__ weight, const REAL *__restrict__ bias, REAL *__restrict__ y,
    unsigned char *__restrict__ winners, Correlation of, int at_once)
{
    extern __shared__ __align__(16) REAL memory[];
    const int across = (of.columns + PLACES_RIGHT - 1) / PLACES_RIGHT, down = (of.rows + PLACES_DOWN - 1) / PLACES_DOWN;
    const int item = blockIdx.x * blockDim.x + threadIdx.x;
    const bool inside = item < down * across * of.n;
    const int image = item % of.n, place = item / of.n;
    const int first_row = place / across * PLACES_DOWN, first_column = place % across * PLACES_RIGHT;
    const int first_filter = blockIdx.y * FILTERS, group = blockIdx.z;
    const int taps = KERNEL_HEIGHT * KERNEL_WIDTH;
    x += (size_t)group * of.channels * of.height * of.width * of.n + image;
    weight += group * of.group_step;

    REAL sums[PLACES_DOWN][PLACES_RIGHT][FILTERS] = {};
    for (int first = 0; first < of.channels; first += at_once) {
        const int last = min(first + at_once, of.channels);
        __syncthreads();
        read_filters(memory, weight, of, first_filter, FILTERS, first, last - first, KERNEL_HEIGHT, KERNEL_WIDTH,
                     threadIdx.y * blockDim.x + threadIdx.x);
        __syncthreads();
        if (!inside) continue;
        for (int channel = first + threadIdx.y; channel < last; channel += blockDim.y) {
            const REAL *numbers = memory + (channel - first) * taps * FILTERS;
            #pragma unroll 1
            for (int i = 0; i < KERNEL_HEIGHT; i++) {
                #pragma unroll
                for (int p = 0; p < PLACES_DOWN; p++) {
                    int row = (first_row + p) * of.stride_down + i * of.dilation_down - of.top;
                    if (!seen(row, of.spread_down, of.height)) continue;
                    const REAL *line = x + (size_t)(channel * of.height + row) * of.width * of.n;
                    #pragma unroll
                    for (int j = 0; j < KERNEL_WIDTH; j++) {
                        #pragma unroll
                        for (int q = 0; q < PLACES_RIGHT; q++) {
                            int column = (first_column + q) * of.stride_right + j * of.dilation_right - of.left;
                            const REAL value = seen(column, of.spread_right, of.width) ? line[column * of.n] : REAL(0);
                            #pragma unroll
                            for (int f = 0; f < FILTERS; f++)
                                sums[p][q][f] += value * numbers[(i * KERNEL_WIDTH + j) * FILTERS + f];
                        }
                    }
                }
            }
        }
    }

    // The upper half of the parts passes its sums to the lower half, until one is left.
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        #pragma unroll
        for (int value = 0; value < PLACES_DOWN * PLACES_RIGHT * FILTERS; value++)
            if (threadIdx.y >= half && threadIdx.y < 2 * half)
                memory[(value * half + threadIdx.y - half) * blockDim.x + threadIdx.x] = (&sums[0][0][0])[value];
        __syncthreads();
        #pragma unroll
        for (int value = 0; value < PLACES_DOWN * PLACES_RIGHT * FILTERS; value++)
            if (threadIdx.y < half)
                (&sums[0][0][0])[value] += memory[(value * half + threadIdx.y) * blockDim.x + threadIdx.x];
    }
    if (inside && threadIdx.y == 0)
        write_places(sums, of, group, first_filter, first_row, first_column, image, bias, y, winners);
}
