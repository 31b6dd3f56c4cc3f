// Convolutions of each channel by itself, and their gradients. They are bound by memory: a thread goes down the rows of one
// image, PLACES columns at once, and holds the cells that its windows see, so that it reads each of them once. Images have
// the layout of correlate.cu. Each channel has FILTERS filters.

#include "activation.cuh"
#include "common.cuh"
#include "correlation.cuh"
#include "depthwise.cuh"

// Grid: (items, filters of all channels).
extern "C" __global__ void __launch_bounds__(BLOCK, 2) depthwise(
    const REAL *__restrict__ x, const REAL *__restrict__ weight, const REAL *__restrict__ bias, REAL *__restrict__ y,
    Correlation of, int length)
{
    const int number = blockIdx.x * blockDim.x + threadIdx.x, filter = blockIdx.y;
    if (number >= Item::count(of.n, of.rows, of.columns, PLACES, length)) return;
    const Item at(number, of.n, of.columns, PLACES, length);
    REAL own[TAPS];
    #pragma unroll
    for (int tap = 0; tap < TAPS; tap++) own[tap] = weight[filter * TAPS + tap];
    const REAL shift = bias ? bias[filter] : REAL(0);
    Seen seen = seen_by(x, of, at, filter);
    #pragma unroll 1
    for (int row = at.row; row < min(at.row + length, of.rows); row++) {
        seen.move();
        REAL *line = y + ((size_t)filter * of.rows + row) * of.columns * of.n + at.image;
        #pragma unroll
        for (int q = 0; q < PLACES; q++) {
            REAL sum = 0;
            #pragma unroll
            for (int tap = 0; tap < TAPS; tap++)
                sum += own[tap] * seen.cells[tap / KERNEL_WIDTH * DILATION_DOWN]
                                            [q * STRIDE_RIGHT + tap % KERNEL_WIDTH * DILATION_RIGHT];
            if (at.column + q < of.columns) line[(at.column + q) * of.n] = activated(sum + shift, of.activation);
        }
    }
}

// Grid: (items, channels). An item of the gradient is `length` times STRETCHES cells of dx in either direction, of a stride
// each, and the windows that see them.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) depthwise_input_gradient(
    const REAL *__restrict__ dy, const REAL *__restrict__ weight, REAL *__restrict__ dx, Correlation of, int length)
{
    const int first_row = of.top / STRIDE_DOWN, rows = (of.top + of.height - 1) / STRIDE_DOWN - first_row + 1;
    const int first_column = of.left / STRIDE_RIGHT, columns = (of.left + of.width - 1) / STRIDE_RIGHT - first_column + 1;
    const int number = blockIdx.x * blockDim.x + threadIdx.x, channel = blockIdx.y;
    if (number >= Item::count(of.n, rows, columns, STRETCHES, length)) return;
    const Item at(number, of.n, columns, STRETCHES, length);
    dx += (size_t)channel * of.height * of.width * of.n + at.image;
    for (int own = 0; own < FILTERS; own++) {
        const int filter = channel * FILTERS + own;
        REAL factors[TAPS];
        #pragma unroll
        for (int tap = 0; tap < TAPS; tap++) factors[tap] = weight[filter * TAPS + tap];
        View<REACH_DOWN, STRETCHES + REACH_RIGHT - 1, 1> slopes(
            dy + (size_t)filter * of.rows * of.columns * of.n + at.image, of.n, of.rows, of.columns,
            first_row + at.row - REACH_DOWN + 1, first_column + at.column - REACH_RIGHT + 1);
        #pragma unroll 1
        for (int i = at.row; i < min(at.row + length, rows); i++) {
            slopes.move();
            #pragma unroll
            for (int place = 0; place < STRIDE_DOWN * STRETCHES * STRIDE_RIGHT; place++) {
                const int p = place / (STRETCHES * STRIDE_RIGHT), q = place % (STRETCHES * STRIDE_RIGHT);
                const int row = (first_row + i) * STRIDE_DOWN + p - of.top;
                const int column = (first_column + at.column) * STRIDE_RIGHT + q - of.left;
                REAL sum = 0;
                #pragma unroll
                for (int tap = 0; tap < TAPS; tap++) {
                    const int down = tap / KERNEL_WIDTH * DILATION_DOWN, right = tap % KERNEL_WIDTH * DILATION_RIGHT;
                    if (down % STRIDE_DOWN == p && right % STRIDE_RIGHT == q % STRIDE_RIGHT)
                        sum += factors[tap] * slopes.cells[REACH_DOWN - 1 - down / STRIDE_DOWN]
                                                          [q / STRIDE_RIGHT + REACH_RIGHT - 1 - right / STRIDE_RIGHT];
                }
                if (row < 0 || row >= of.height || column < 0 || column >= of.width) continue;
                REAL &cell = dx[((size_t)row * of.width + column) * of.n];
                cell = own > 0 ? cell + sum : sum;
            }
        }
    }
}

// Grid: (parts of the items, filters of all channels). Block: whole warps. dweight and dbias as in weight_gradient.cu.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) depthwise_weight_gradient(
    const REAL *__restrict__ x, const REAL *__restrict__ dy, REAL *__restrict__ dweight, REAL *__restrict__ dbias,
    Correlation of, int length, int parts, int step)
{
    const int part = blockIdx.x, filter = blockIdx.y, items = Item::count(of.n, of.rows, of.columns, PLACES, length);
    REAL sums[TAPS + 1] = {};  // the last is that of the bias
    for (int number = part * blockDim.x + threadIdx.x; number < items; number += parts * blockDim.x) {
        const Item at(number, of.n, of.columns, PLACES, length);
        Seen seen = seen_by(x, of, at, filter);
        #pragma unroll 1
        for (int row = at.row; row < min(at.row + length, of.rows); row++) {
            seen.move();
            const REAL *line = dy + ((size_t)filter * of.rows + row) * of.columns * of.n + at.image;
            #pragma unroll
            for (int q = 0; q < PLACES; q++) {
                const REAL slope = at.column + q < of.columns ? line[(at.column + q) * of.n] : REAL(0);
                sums[TAPS] += slope;
                #pragma unroll
                for (int tap = 0; tap < TAPS; tap++)
                    sums[tap] += slope * seen.cells[tap / KERNEL_WIDTH * DILATION_DOWN]
                                                   [q * STRIDE_RIGHT + tap % KERNEL_WIDTH * DILATION_RIGHT];
            }
        }
    }
    #pragma unroll
    for (int tap = 0; tap <= TAPS; tap++) {
        const REAL sum = block_sum(sums[tap]);
        if (threadIdx.x != 0) continue;
        if (tap < TAPS) dweight[(size_t)part * step + filter * TAPS + tap] = sum;
        else if (dbias) dbias[(size_t)part * step + filter] = sum;
    }
}
