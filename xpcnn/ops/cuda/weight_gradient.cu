// The gradient of filters: every number of a filter is the sum, over all places of all images, of what it saw times dy.
// A thread sums FILTERS filters times CHANNELS channels times a row of the kernel over some places of one image; a block
// adds up its threads and leaves the sums as one of several parts, which `add_parts` adds up in order.

#include "correlation.cuh"

// Grid: (parts, filters x channels, groups x rows of the kernel). Block: whole warps, 8 at most.
// dweight and dbias of a part lie `step` after those of the part before it; dbias may be null.
extern "C" __global__ void weight_gradient(
    const REAL *__restrict__ x, const REAL *__restrict__ dy, REAL *__restrict__ dweight, REAL *__restrict__ dbias,
    Correlation of, int length, int step)
{
    __shared__ REAL warps[8][FILTERS * CHANNELS * KERNEL_WIDTH + FILTERS];
    const int channel_blocks = (of.channels + CHANNELS - 1) / CHANNELS;
    const int first_filter = blockIdx.y / channel_blocks * FILTERS, first_channel = blockIdx.y % channel_blocks * CHANNELS;
    const int group = blockIdx.z / of.kernel_height, i = blockIdx.z % of.kernel_height;
    const bool with_bias = dbias && i == 0 && first_channel == 0;
    x += (size_t)(group * of.channels + first_channel) * of.height * of.width * of.n;
    dy += (size_t)(group * of.filters + first_filter) * of.rows * of.columns * of.n;

    // An item is a stretch of `length` columns of one row of one image.
    const int stretches = (of.columns + length - 1) / length, items = of.rows * stretches * of.n;
    REAL sums[FILTERS][CHANNELS][KERNEL_WIDTH] = {}, bias_sums[FILTERS] = {};
    for (int item = blockIdx.x * blockDim.x + threadIdx.x; item < items; item += gridDim.x * blockDim.x) {
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
                bias_sums[f] += slope[f];
            }
            #pragma unroll
            for (int c = 0; c < CHANNELS; c++)
                #pragma unroll
                for (int j = 0; j < KERNEL_WIDTH; j++) {
                    const int column = out * of.stride_right + j * of.dilation_right - of.left;
                    const bool in = row_seen && first_channel + c < of.channels && column >= 0 && column < of.width;
                    const REAL value = in ? x[((size_t)(c * of.height + row) * of.width + column) * of.n + image] : REAL(0);
                    #pragma unroll
                    for (int f = 0; f < FILTERS; f++) sums[f][c][j] += value * slope[f];
                }
        }
    }

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    constexpr int each = FILTERS * CHANNELS * KERNEL_WIDTH;
    #pragma unroll
    for (int value = 0; value < each + FILTERS; value++) {
        REAL sum = value < each ? (&sums[0][0][0])[value] : bias_sums[value - each];
        #pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_down_sync(0xffffffffu, sum, distance);
        if (lane == 0) warps[warp][value] = sum;
    }
    __syncthreads();
    const int numbers = of.channels * of.kernel_height * KERNEL_WIDTH;
    for (int value = threadIdx.x; value < each + FILTERS; value += blockDim.x) {
        REAL sum = 0;
        for (int w = 0; w < blockDim.x / 32; w++) sum += warps[w][value];
        const int f = value < each ? value / (CHANNELS * KERNEL_WIDTH) : value - each;
        const int channel = first_channel + value / KERNEL_WIDTH % CHANNELS, j = value % KERNEL_WIDTH;
        const int filter = group * of.filters + first_filter + f;
        if (first_filter + f >= of.filters) continue;
        if (value >= each) {
            if (with_bias) dbias[(size_t)blockIdx.x * step + filter] = sum;
        } else if (channel < of.channels) {
            dweight[(size_t)blockIdx.x * step + filter * numbers + (channel * of.kernel_height + i) * KERNEL_WIDTH + j] = sum;
        }
    }
}

// Adds up the parts, in order, into the gradients of the filters and, where there is one, of the bias.
extern "C" __global__ void add_parts(
    const REAL *__restrict__ parts, REAL *__restrict__ dweight, REAL *__restrict__ dbias, int count, int numbers, int filters)
{
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= numbers + filters) return;
    REAL sum = 0;
    for (int part = 0; part < count; part++) sum += parts[(size_t)part * (numbers + filters) + number];
    if (number < numbers) dweight[number] = sum;
    else if (dbias) dbias[number - numbers] = sum;
}
