// Convolution with stride 1, for batches that fill most of a warp: a block keeps the cells that its positions see in shared
// memory, so that most of its instructions are multiplications. Images have the layout of correlate.cu.

#include "activation.cuh"
#include "common.cuh"
#include "correlation.cuh"
#include "largest.cuh"
#include "places.cuh"

#define TAPS (KERNEL_HEIGHT * KERNEL_WIDTH)
#define STRIPS (STRIPS_DOWN * STRIPS_RIGHT)
#define BLOCK (32 * STRIPS * FILTER_WARPS)
// The input rows and columns that the output positions of a block see.
#define ROWS (PLACES_DOWN * STRIPS_DOWN + KERNEL_HEIGHT - 1)
#define COLUMNS (PLACES_RIGHT * STRIPS_RIGHT + KERNEL_WIDTH - 1)

// Each thread sums FILTERS filters at PLACES_DOWN x PLACES_RIGHT places of one image, CHANNELS channels at a time.
// Grid: (tiles and images, filters, groups). Block: (32 images, STRIPS of places x FILTER_WARPS). n is a multiple of 4.
extern "C" __global__ void __launch_bounds__(BLOCK) correlate_tiles(
    const REAL *__restrict__ x, const REAL *__restrict__ weight, const REAL *__restrict__ bias, REAL *__restrict__ y,
    unsigned char *__restrict__ winners, Correlation of)
{
    __shared__ Four cells[CHANNELS * ROWS * COLUMNS * 8];                      // [channel][row][column][image]
    __shared__ Four numbers[CHANNELS * TAPS * FILTERS * FILTER_WARPS / 4];     // [channel][tap][filter]
    const int across = (of.n + 31) / 32, tiles_right = (of.columns + PLACES_RIGHT * STRIPS_RIGHT - 1) / (PLACES_RIGHT * STRIPS_RIGHT);
    const int first_image = blockIdx.x % across * 32, tile = blockIdx.x / across;
    const int tile_row = tile / tiles_right * PLACES_DOWN * STRIPS_DOWN, tile_column = tile % tiles_right * PLACES_RIGHT * STRIPS_RIGHT;
    const int thread = threadIdx.y * 32 + threadIdx.x, strip = threadIdx.y % STRIPS, filter_warp = threadIdx.y / STRIPS;
    const int down = strip / STRIPS_RIGHT * PLACES_DOWN, right = strip % STRIPS_RIGHT * PLACES_RIGHT;
    const int block_filter = blockIdx.y * FILTERS * FILTER_WARPS, group = blockIdx.z;
    x += (size_t)group * of.channels * of.height * of.width * of.n;
    weight += group * of.group_step;

    REAL sums[PLACES_DOWN][PLACES_RIGHT][FILTERS] = {};
    for (int first = 0; first < of.channels; first += CHANNELS) {
        const int channels = min(CHANNELS, of.channels - first);
        __syncthreads();
        for (int i = thread; i < channels * ROWS * COLUMNS * 8; i += BLOCK) {
            const int image = first_image + i % 8 * 4, cell = i / 8;
            const int row = tile_row + cell / COLUMNS % ROWS - of.top, column = tile_column + cell % COLUMNS - of.left;
            const bool in = row >= 0 && row < of.height && column >= 0 && column < of.width && image < of.n;
            const int channel = first + cell / (ROWS * COLUMNS);
            cells[i] = in ? *(const Four *)(x + ((size_t)(channel * of.height + row) * of.width + column) * of.n + image) : Four{};
        }
        read_filters((REAL *)numbers, weight, of, block_filter, FILTERS * FILTER_WARPS, first, channels, KERNEL_HEIGHT,
                     KERNEL_WIDTH, thread);
        __syncthreads();
        for (int channel = 0; channel < channels; channel++) {
            const REAL *own = (const REAL *)cells + (channel * ROWS * COLUMNS + down * COLUMNS + right) * 32 + threadIdx.x;
            REAL patch[PLACES_DOWN + KERNEL_HEIGHT - 1][PLACES_RIGHT + KERNEL_WIDTH - 1];
            #pragma unroll
            for (int i = 0; i < PLACES_DOWN + KERNEL_HEIGHT - 1; i++)
                #pragma unroll
                for (int j = 0; j < PLACES_RIGHT + KERNEL_WIDTH - 1; j++) patch[i][j] = own[(i * COLUMNS + j) * 32];
            #pragma unroll
            for (int tap = 0; tap < TAPS; tap++) {
                Four factors[FILTERS / 4];
                #pragma unroll
                for (int f = 0; f < FILTERS / 4; f++)
                    factors[f] = numbers[((channel * TAPS + tap) * FILTER_WARPS + filter_warp) * FILTERS / 4 + f];
                #pragma unroll
                for (int p = 0; p < PLACES_DOWN; p++)
                    #pragma unroll
                    for (int q = 0; q < PLACES_RIGHT; q++)
                        #pragma unroll
                        for (int f = 0; f < FILTERS; f++)
                            sums[p][q][f] += patch[p + tap / KERNEL_WIDTH][q + tap % KERNEL_WIDTH] * factors[f / 4].of[f % 4];
            }
        }
    }
    const int image = first_image + threadIdx.x;
    if (image < of.n)
        write_places(sums, of, group, block_filter + filter_warp * FILTERS, tile_row + down, tile_column + right, image,
                     bias, y, winners);
}
