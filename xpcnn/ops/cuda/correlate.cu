// Convolution without columns. Images lie with the batch last, (channels, rows, columns, n): threads beside each other
// hold the same place of neighbouring images, so they read and write neighbouring numbers, and every number of a filter
// goes to all of them at once.

#include "correlation.cuh"

// What the compiler knows beforehand, if it is told, it can unroll.
#ifndef KERNEL_HEIGHT
#define KERNEL_HEIGHT of.kernel_height
#define KERNEL_WIDTH of.kernel_width
#endif

// The cell of an image that one number of the kernel sees, and whether there is one. SPREAD: there may be zeros between.
__device__ inline bool seen(int &cell, int spread, int size) {
    if (SPREAD) {
        if (cell < 0 || cell % spread != 0) return false;
        cell /= spread;
    }
    return cell >= 0 && cell < size;
}

// Sums FILTERS filters at PLACES_DOWN x PLACES_RIGHT places of one image, then adds the bias and cuts off below 0.
// POOLED: of these places only the largest value is written, and which of them it was (0 for the first).
// Grid: (places and images, filters, groups). Block: (places and images, parts of the channels, a power of two).
// BLOCK is how many threads a block has, and READ_AHEAD how many channels are read before they are used.
// Shared memory: the filters' numbers for `at_once` channels, then sums of the parts.
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
        for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < (last - first) * taps * FILTERS;
             i += blockDim.x * blockDim.y) {
            const int filter = first_filter + i % FILTERS, tap = i / FILTERS % taps, channel = first + i / FILTERS / taps;
            memory[i] = filter >= of.filters ? REAL(0) :
                weight[filter * of.filter_step + channel * of.channel_step
                       + tap / KERNEL_WIDTH * of.row_step + tap % KERNEL_WIDTH * of.column_step];
        }
        __syncthreads();
        if (!inside) continue;
#if READ_AHEAD > 1
        // Kernels of one number, as of products: several channels are read before the first is used.
        int row = first_row * of.stride_down - of.top, column = first_column * of.stride_right - of.left;
        const bool in = seen(row, of.spread_down, of.height) && seen(column, of.spread_right, of.width);
        const REAL *cell = x + (size_t)(row * of.width + column) * of.n;
        const size_t step = (size_t)of.height * of.width * of.n;
        for (int channel = first + threadIdx.y; channel < last; channel += READ_AHEAD * blockDim.y) {
            REAL values[READ_AHEAD];
            #pragma unroll
            for (int a = 0; a < READ_AHEAD; a++) {
                const int other = channel + a * blockDim.y;
                values[a] = in && other < last ? cell[other * step] : REAL(0);
            }
            #pragma unroll
            for (int a = 0; a < READ_AHEAD; a++) {
                const REAL *numbers = memory + (min(channel + a * (int)blockDim.y, last - 1) - first) * FILTERS;
                #pragma unroll
                for (int f = 0; f < FILTERS; f++) sums[0][0][f] += values[a] * numbers[f];
            }
        }
#else
        for (int channel = first + threadIdx.y; channel < last; channel += blockDim.y) {
            const REAL *numbers = memory + (channel - first) * taps * FILTERS;
            #pragma unroll
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
#endif
    }

    // The upper half of the parts hands its sums to the lower half, until one is left.
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
    if (!inside || threadIdx.y > 0) return;

    #pragma unroll
    for (int f = 0; f < FILTERS; f++) {
        const int filter = first_filter + f;
        if (filter >= of.filters) break;
        const size_t channel = group * of.filters + filter;
        const REAL shift = bias ? bias[channel] : REAL(0);
        if (POOLED) {
            const int row = first_row / PLACES_DOWN, column = first_column / PLACES_RIGHT;
            if (row >= of.pooled_rows || column >= of.pooled_columns) break;  // a ragged edge is left out
            REAL best = sums[0][0][f];
            int winner = 0;
            #pragma unroll
            for (int other = 1; other < PLACES_DOWN * PLACES_RIGHT; other++) {
                const REAL value = sums[other / PLACES_RIGHT][other % PLACES_RIGHT][f];
                if (value > best || value != value) { best = value; winner = other; }
            }
            best += shift;
            const size_t cell = ((channel * of.pooled_rows + row) * of.pooled_columns + column) * of.n + image;
            y[cell] = of.relu && best < 0 ? REAL(0) : best;
            if (winners) winners[cell] = winner;
        } else {
            #pragma unroll
            for (int p = 0; p < PLACES_DOWN; p++)
                #pragma unroll
                for (int q = 0; q < PLACES_RIGHT; q++) {
                    const int row = first_row + p, column = first_column + q;
                    if (row >= of.rows || column >= of.columns) continue;
                    const REAL value = sums[p][q][f] + shift;
                    y[((channel * of.rows + row) * of.columns + column) * of.n + image] =
                        of.relu && value < 0 ? REAL(0) : value;
                }
        }
    }
}
