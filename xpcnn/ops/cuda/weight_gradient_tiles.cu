// The gradient of filters with stride 1, for batches that fill most of a warp: a block keeps what COLUMNS positions of 32
// images saw, and their dy, in shared memory. A thread sums the gradients of FILTERS filters for one channel.

#include "common.cuh"
#include "correlation.cuh"

#define TAPS (KERNEL_HEIGHT * KERNEL_WIDTH)
#define BLOCK 256
#define ALL_FILTERS (FILTERS * FILTER_LANES)
#define SEEN (COLUMNS + KERNEL_WIDTH - 1)
// From one channel, and from one image's slopes, to the next in shared memory: so that no two lanes ask the same bank.
#define CHANNEL_STEP (KERNEL_HEIGHT * SEEN * 32 + 4)
#define IMAGE_STEP (ALL_FILTERS + 4)
#define CELLS (CHANNEL_LANES * CHANNEL_STEP)
#define SLOPES (COLUMNS * 32 * IMAGE_STEP)
// Threads with the same filters and channel, which share the images.
#define LANES (FILTER_LANES * CHANNEL_LANES)
#define SHARERS (BLOCK / LANES)

// Grid: (parts x blocks of filters and channels, 1, groups). Block: BLOCK threads. n is a multiple of 4, ALL_FILTERS of 16.
// dweight and dbias of a part lie `step` after those of the part before it; dbias may be null.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) weight_gradient_tiles(
    const REAL *__restrict__ x, const REAL *__restrict__ dy, REAL *__restrict__ dweight, REAL *__restrict__ dbias,
    Correlation of, int parts, int step)
{
    __shared__ Four memory[(CELLS + SLOPES) / 4];
    REAL *cells = (REAL *)memory;            // [channel][row of the kernel][column][image]
    REAL *slopes = (REAL *)memory + CELLS;   // [column][image][filter]
    const int channel_blocks = (of.channels + CHANNEL_LANES - 1) / CHANNEL_LANES;
    const int part = blockIdx.x % parts, block = blockIdx.x / parts, group = blockIdx.z;
    const int first_filter = block / channel_blocks * ALL_FILTERS, first_channel = block % channel_blocks * CHANNEL_LANES;
    const int thread = threadIdx.x, filter_lane = thread % FILTER_LANES, channel_lane = thread / FILTER_LANES % CHANNEL_LANES;
    const int sharer = thread / LANES;
    x += (size_t)(group * of.channels + first_channel) * of.height * of.width * of.n;
    dy += (size_t)(group * of.filters + first_filter) * of.rows * of.columns * of.n;

    REAL sums[TAPS][FILTERS] = {}, bias_sums[ALL_FILTERS / 16] = {};
    const int stretches = (of.columns + COLUMNS - 1) / COLUMNS, rounds = of.rows * stretches * ((of.n + 31) / 32);
    const int each = (rounds + parts - 1) / parts, end = min(rounds, (part + 1) * each);
    for (int round = part * each; round < end; round++) {  // down the rows of the same images
        const int out_row = round % of.rows, first = round / of.rows % stretches * COLUMNS;
        const int first_image = round / of.rows / stretches * 32;
        __syncthreads();
        for (int i = thread; i < CHANNEL_LANES * KERNEL_HEIGHT * SEEN * 8; i += BLOCK) {
            const int image = i % 8 * 4, cell = i / 8, channel = cell / (KERNEL_HEIGHT * SEEN);
            const int row = out_row + cell / SEEN % KERNEL_HEIGHT - of.top, column = first + cell % SEEN - of.left;
            const bool in = first_channel + channel < of.channels && first_image + image < of.n
                && row >= 0 && row < of.height && column >= 0 && column < of.width;
            *(Four *)(cells + channel * CHANNEL_STEP + cell % (KERNEL_HEIGHT * SEEN) * 32 + image) = in ?
                *(const Four *)(x + ((size_t)(channel * of.height + row) * of.width + column) * of.n + first_image + image) : Four{};
        }
        #pragma unroll
        for (int half_warp = 0; half_warp < ALL_FILTERS / 16; half_warp++)
            for (int i = thread; i < COLUMNS * 128; i += BLOCK) {
                const int filter = half_warp * 16 + i % 16, image = i / 16 % 8 * 4, column = i / 128;
                const bool in = first_filter + filter < of.filters && first_image + image < of.n && first + column < of.columns;
                const Four four = in ? *(const Four *)(
                    dy + ((size_t)(filter * of.rows + out_row) * of.columns + first + column) * of.n + first_image + image) : Four{};
                #pragma unroll
                for (int k = 0; k < 4; k++) {
                    slopes[(column * 32 + image + k) * IMAGE_STEP + filter] = four.of[k];
                    bias_sums[half_warp] += four.of[k];
                }
            }
        __syncthreads();
        for (int image = sharer; image < 32; image += SHARERS) {
            const REAL *own = cells + channel_lane * CHANNEL_STEP + image;
            const Four *slope = (const Four *)(slopes + image * IMAGE_STEP + filter_lane * FILTERS);
            REAL window[KERNEL_HEIGHT][KERNEL_WIDTH];
            #pragma unroll
            for (int i = 0; i < KERNEL_HEIGHT; i++)
                #pragma unroll
                for (int j = 1; j < KERNEL_WIDTH; j++) window[i][j] = own[(i * SEEN + j - 1) * 32];
            #pragma unroll
            for (int column = 0; column < COLUMNS; column++) {
                Four factors[FILTERS / 4];
                #pragma unroll
                for (int f = 0; f < FILTERS / 4; f++) factors[f] = slope[column * 32 * IMAGE_STEP / 4 + f];
                #pragma unroll
                for (int i = 0; i < KERNEL_HEIGHT; i++) {
                    #pragma unroll
                    for (int j = 1; j < KERNEL_WIDTH; j++) window[i][j - 1] = window[i][j];
                    window[i][KERNEL_WIDTH - 1] = own[(i * SEEN + column + KERNEL_WIDTH - 1) * 32];
                }
                #pragma unroll
                for (int tap = 0; tap < TAPS; tap++)
                    #pragma unroll
                    for (int f = 0; f < FILTERS; f++)
                        sums[tap][f] += window[tap / KERNEL_WIDTH][tap % KERNEL_WIDTH] * factors[f / 4].of[f % 4];
            }
        }
    }

    // The sharers' sums are added in order, one weight of every filter at a time; then those of the bias.
    REAL *held = (REAL *)memory;
    #pragma unroll
    for (int tap = 0; tap < TAPS; tap++) {
        __syncthreads();
        #pragma unroll
        for (int f = 0; f < FILTERS; f++) held[f * BLOCK + thread] = sums[tap][f];
        __syncthreads();
        for (int i = thread; i < ALL_FILTERS * CHANNEL_LANES; i += BLOCK) {
            const int f = i / LANES, lane = i % LANES;
            const int filter = first_filter + lane % FILTER_LANES * FILTERS + f, channel = first_channel + lane / FILTER_LANES;
            REAL sum = 0;
            for (int s = 0; s < SHARERS; s++) sum += held[f * BLOCK + s * LANES + lane];
            if (filter < of.filters && channel < of.channels)
                dweight[(size_t)part * step + ((group * of.filters + filter) * of.channels + channel) * TAPS + tap] = sum;
        }
    }
    if (!dbias || first_channel > 0) return;
    __syncthreads();
    #pragma unroll
    for (int half_warp = 0; half_warp < ALL_FILTERS / 16; half_warp++) held[half_warp * BLOCK + thread] = bias_sums[half_warp];
    __syncthreads();
    if (thread < ALL_FILTERS && first_filter + thread < of.filters) {
        REAL sum = 0;
        for (int s = 0; s < BLOCK; s += 16) sum += held[thread / 16 * BLOCK + s + thread % 16];
        dbias[(size_t)part * step + group * of.filters + first_filter + thread] = sum;
    }
}
