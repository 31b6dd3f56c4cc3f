// The gradient of filters: for each weight, the sum over all positions of all images of what it saw times dy.
// A thread sums FILTERS filters times CHANNELS channels times a row of the kernel over some places of one image; a block
// adds up its threads and leaves the sums as one of several parts, which `add_parts` adds up in order.

#include "correlation.cuh"

#define EACH (FILTERS * CHANNELS * KERNEL_WIDTH)

// How many sums a lane is left with by `fold`.
__device__ constexpr int left(int held, int distance) {
    return distance == 0 ? held : left(held % 2 ? held : held / 2, distance / 2);
}

// Adds up sums over the lanes of a warp: two lanes hand each other half of what they hold, as long as that can be halved.
// A lane is left with the sums from `first` on; where two have the same, one `writes`.
template <int HELD, int DISTANCE> __device__ inline void fold(REAL *sums, int lane, int &first, bool &writes) {
    if constexpr (DISTANCE > 0) {
        const bool upper = lane & DISTANCE;
        if constexpr (HELD % 2 == 0) {
            constexpr int half = HELD / 2;
            first += upper ? half : 0;
            #pragma unroll
            for (int i = 0; i < half; i++) {
                const REAL given = upper ? sums[i] : sums[half + i], kept = upper ? sums[half + i] : sums[i];
                sums[i] = kept + __shfl_xor_sync(0xffffffffu, given, DISTANCE);
            }
            fold<half, DISTANCE / 2>(sums, lane, first, writes);
        } else {
            writes = writes && !upper;
            #pragma unroll
            for (int i = 0; i < HELD; i++) sums[i] += __shfl_xor_sync(0xffffffffu, sums[i], DISTANCE);
            fold<HELD, DISTANCE / 2>(sums, lane, first, writes);
        }
    }
}

// Grid: (parts x blocks of filters and channels, 1, groups x rows of the kernel). Block: whole warps, 8 at most.
// dweight and dbias of a part lie `step` after those of the part before it; dbias may be null.
extern "C" __global__ void weight_gradient(
    const REAL *__restrict__ x, const REAL *__restrict__ dy, REAL *__restrict__ dweight, REAL *__restrict__ dbias,
    Correlation of, int length, int parts, int step)
{
    __shared__ REAL warps[8][EACH + FILTERS];
    const int channel_blocks = (of.channels + CHANNELS - 1) / CHANNELS;
    const int part = blockIdx.x % parts, block = blockIdx.x / parts;
    const int first_filter = block / channel_blocks * FILTERS, first_channel = block % channel_blocks * CHANNELS;
    const int group = blockIdx.z / of.kernel_height, i = blockIdx.z % of.kernel_height;
    const bool with_bias = dbias && i == 0 && first_channel == 0;
    x += (size_t)(group * of.channels + first_channel) * of.height * of.width * of.n;
    dy += (size_t)(group * of.filters + first_filter) * of.rows * of.columns * of.n;

    // An item is `length` consecutive columns of one row of one image.
    const int stretches = (of.columns + length - 1) / length, items = of.rows * stretches * of.n;
    REAL sums[EACH + FILTERS] = {};  // of every number of the filters, then of the bias
    for (int item = part * blockDim.x + threadIdx.x; item < items; item += parts * blockDim.x) {
        const int image = item % of.n, place = item / of.n;
        const int out_row = place / stretches, first = place % stretches * length;
        const int row = out_row * of.stride_down + i * of.dilation_down - of.top;
        const bool row_seen = row >= 0 && row < of.height;
        if (!row_seen && !with_bias) continue;
        for (int out = first; out < min(first + length, of.columns); out++) {
            REAL slope[FILTERS];
            #pragma unroll
            for (int f = 0; f < FILTERS; f++) {
                slope[f] = first_filter + f < of.filters ?
                    dy[((size_t)(f * of.rows + out_row) * of.columns + out) * of.n + image] : REAL(0);
                sums[EACH + f] += slope[f];
            }
            #pragma unroll
            for (int c = 0; c < CHANNELS; c++)
                #pragma unroll
                for (int j = 0; j < KERNEL_WIDTH; j++) {
                    const int column = out * of.stride_right + j * of.dilation_right - of.left;
                    const bool in = row_seen && first_channel + c < of.channels && column >= 0 && column < of.width;
                    const REAL value = in ? x[((size_t)(c * of.height + row) * of.width + column) * of.n + image] : REAL(0);
                    #pragma unroll
                    for (int f = 0; f < FILTERS; f++) sums[(f * CHANNELS + c) * KERNEL_WIDTH + j] += value * slope[f];
                }
        }
    }

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    constexpr int held = left(EACH + FILTERS, 16);
    int first_held = 0;
    bool writes = true;
    fold<EACH + FILTERS, 16>(sums, lane, first_held, writes);
    #pragma unroll
    for (int i = 0; i < held; i++)
        if (writes) warps[warp][first_held + i] = sums[i];
    __syncthreads();
    const int numbers = of.channels * of.kernel_height * KERNEL_WIDTH;
    for (int value = threadIdx.x; value < EACH + FILTERS; value += blockDim.x) {
        REAL sum = 0;
        for (int w = 0; w < blockDim.x / 32; w++) sum += warps[w][value];
        const int f = value < EACH ? value / (CHANNELS * KERNEL_WIDTH) : value - EACH;
        const int channel = first_channel + value / KERNEL_WIDTH % CHANNELS, j = value % KERNEL_WIDTH;
        const int filter = group * of.filters + first_filter + f;
        if (first_filter + f >= of.filters) continue;
        if (value >= EACH) {
            if (with_bias) dbias[(size_t)part * step + filter] = sum;
        } else if (channel < of.channels) {
            dweight[(size_t)part * step + filter * numbers + (channel * of.kernel_height + i) * KERNEL_WIDTH + j] = sum;
        }
    }
}
