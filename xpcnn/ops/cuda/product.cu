// A matrix product, y[m, j] = sum of a[m, d] b[d, j], then the bias of the row and ReLU, each if given.
// A block keeps TILE rows of a and TILE columns of b, DEPTH deep, in shared memory; a thread sums EACH x EACH of their
// products. A_DEEP, B_DEEP: whether d is the contiguous axis in memory.

#include "activation.cuh"
#include "largest.cuh"
#include "product.cuh"

#define BLOCK 256
#define TILE (16 * EACH)
#define DEPTH 32
#define STEP (TILE + 4)             // from one depth to the next in shared memory, so that no two lanes ask the same bank
#define READ (TILE * DEPTH / BLOCK)  // numbers of a tile that each thread reads

struct alignas(EACH * sizeof(REAL)) Vector { REAL of[EACH]; };

// Where a thread's values are in a tile: eight lanes side by side along the contiguous axis, or a whole line of it.
__device__ inline void place(int i, bool deep, int &depth, int &other) {
    depth = deep ? i % 8 + i / 32 % 4 * 8 : i / TILE;
    other = deep ? i / 8 % 4 + i / 128 * 4 : i % TILE;
}

// Grid: (tiles of rows x tiles of columns x parts of the depth). Of several parts, each leaves its sums in `sums`, for
// finish_product. Where there are row_sums, b has one more column, of ones.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) product(
    const REAL *__restrict__ a, const REAL *__restrict__ b, const REAL *__restrict__ bias, REAL *__restrict__ y,
    REAL *__restrict__ row_sums, REAL *__restrict__ sums, Product of, int parts)
{
    __shared__ Vector a_tile[DEPTH * STEP / EACH], b_tile[DEPTH * STEP / EACH];
    const int all_columns = of.columns + (row_sums != nullptr), tiles_right = (all_columns + TILE - 1) / TILE;
    const int part = blockIdx.x % parts, tile = blockIdx.x / parts, thread = threadIdx.x;
    const int first_row = tile / tiles_right * TILE, first_column = tile % tiles_right * TILE;
    const int rounds = (of.depth + DEPTH - 1) / DEPTH, length = (rounds + parts - 1) / parts * DEPTH;
    const int end = min(of.depth, (part + 1) * length);
    REAL a_next[READ], b_next[READ], totals[EACH][EACH] = {};

    auto read = [&](int first) {
        #pragma unroll
        for (int h = 0; h < READ; h++) {
            int depth, row, column;
            place(thread + h * BLOCK, A_DEEP, depth, row);
            depth += first, row += first_row;
            a_next[h] = row < of.rows && depth < end ? a[(size_t)row * of.a_row + (size_t)depth * of.a_depth] : REAL(0);
            place(thread + h * BLOCK, B_DEEP, depth, column);
            depth += first, column += first_column;
            const bool in = column < of.columns && depth < end;
            b_next[h] = in ? b[(size_t)depth * of.b_depth + (size_t)column * of.b_column] : REAL(column == of.columns);
        }
    };
    read(part * length);
    for (int first = part * length; first < end; first += DEPTH) {
        __syncthreads();
        #pragma unroll
        for (int h = 0; h < READ; h++) {
            int depth, other;
            place(thread + h * BLOCK, A_DEEP, depth, other);
            ((REAL *)a_tile)[depth * STEP + other] = a_next[h];
            place(thread + h * BLOCK, B_DEEP, depth, other);
            ((REAL *)b_tile)[depth * STEP + other] = b_next[h];
        }
        __syncthreads();
        if (first + DEPTH < end) read(first + DEPTH);  // while these are multiplied
        #pragma unroll
        for (int depth = 0; depth < DEPTH; depth++) {
            const Vector left = a_tile[depth * STEP / EACH + thread / 16], right = b_tile[depth * STEP / EACH + thread % 16];
            #pragma unroll
            for (int i = 0; i < EACH; i++)
                #pragma unroll
                for (int j = 0; j < EACH; j++) totals[i][j] += left.of[i] * right.of[j];
        }
    }
    #pragma unroll
    for (int i = 0; i < EACH; i++)
        #pragma unroll
        for (int j = 0; j < EACH; j++) {
            const int row = first_row + thread / 16 * EACH + i, column = first_column + thread % 16 * EACH + j;
            if (row >= of.rows || column >= all_columns) continue;
            if (parts == 1) finish(totals[i][j], row, column, bias, y, row_sums, of);
            else sums[((size_t)part * of.rows + row) * all_columns + column] = totals[i][j];
        }
}
