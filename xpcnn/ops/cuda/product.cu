// A product of matrices, y[m, j] = sum of a[m, d] b[d, j], then the bias of the row added and cut off below 0 where asked.
// A block keeps TILE rows of a and TILE columns of b, DEPTH deep, in shared memory; a thread sums EACH x EACH of their
// products. A_DEEP, B_DEEP: numbers beside each other in memory lie along d.

#define BLOCK 256
#define TILE (16 * EACH)
#define DEPTH 32
#define STEP (TILE + 4)             // from one depth to the next in shared memory, so that no two lanes ask the same bank
#define HELD (TILE * DEPTH / BLOCK)

// The steps are from one row, depth or column to the next, in elements. ones: b has a last column of ones, whose sums go
// to `rest` in place of y.
struct Product {
    int rows, columns, depth;
    int a_row, a_depth, b_depth, b_column;
    int ones, relu;
};

struct alignas(EACH * sizeof(REAL)) Some { REAL of[EACH]; };

// Where a thread's numbers lie in a tile: eight lanes side by side along what is contiguous, or a whole line of it.
__device__ inline void place(int i, bool deep, int &depth, int &other) {
    depth = deep ? i % 8 + i / 32 % 4 * 8 : i / TILE;
    other = deep ? i / 8 % 4 + i / 128 * 4 : i % TILE;
}

__device__ inline void finish(REAL value, int row, int column, const REAL *bias, REAL *y, REAL *rest, const Product &of) {
    if (column == of.columns) { if (rest) rest[row] = value; return; }
    if (bias) value += bias[row];
    y[(size_t)row * of.columns + column] = of.relu && value < 0 ? REAL(0) : value;
}

// Grid: (tiles of columns x parts of the depth, tiles of rows). Of several parts, each leaves its sums in `sums`.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) product(
    const REAL *__restrict__ a, const REAL *__restrict__ b, const REAL *__restrict__ bias, REAL *__restrict__ y,
    REAL *__restrict__ rest, REAL *__restrict__ sums, Product of, int parts)
{
    __shared__ Some a_tile[DEPTH * STEP / EACH], b_tile[DEPTH * STEP / EACH];
    const int part = blockIdx.x % parts, first_column = blockIdx.x / parts * TILE, first_row = blockIdx.y * TILE;
    const int rounds = (of.depth + DEPTH - 1) / DEPTH, each = (rounds + parts - 1) / parts;
    const int end = min(of.depth, (part + 1) * each * DEPTH), all_columns = of.columns + of.ones, thread = threadIdx.x;
    REAL a_held[HELD], b_held[HELD], totals[EACH][EACH] = {};

    auto read = [&](int first) {
        #pragma unroll
        for (int h = 0; h < HELD; h++) {
            int depth, row, column;
            place(thread + h * BLOCK, A_DEEP, depth, row);
            depth += first, row += first_row;
            a_held[h] = row < of.rows && depth < end ? a[(size_t)row * of.a_row + (size_t)depth * of.a_depth] : REAL(0);
            place(thread + h * BLOCK, B_DEEP, depth, column);
            depth += first, column += first_column;
            const bool in = column < of.columns && depth < end;
            b_held[h] = in ? b[(size_t)depth * of.b_depth + (size_t)column * of.b_column] : REAL(column == of.columns && of.ones);
        }
    };
    read(part * each * DEPTH);
    for (int first = part * each * DEPTH; first < end; first += DEPTH) {
        __syncthreads();
        #pragma unroll
        for (int h = 0; h < HELD; h++) {
            int depth, other;
            place(thread + h * BLOCK, A_DEEP, depth, other);
            ((REAL *)a_tile)[depth * STEP + other] = a_held[h];
            place(thread + h * BLOCK, B_DEEP, depth, other);
            ((REAL *)b_tile)[depth * STEP + other] = b_held[h];
        }
        __syncthreads();
        if (first + DEPTH < end) read(first + DEPTH);  // while these are multiplied
        #pragma unroll
        for (int depth = 0; depth < DEPTH; depth++) {
            const Some left = a_tile[depth * STEP / EACH + thread / 16], right = b_tile[depth * STEP / EACH + thread % 16];
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
            if (parts == 1) finish(totals[i][j], row, column, bias, y, rest, of);
            else sums[((size_t)part * of.rows + row) * all_columns + column] = totals[i][j];
        }
}

// Adds up the parts, in order. A thread for each number.
extern "C" __global__ void finish_product(
    const REAL *__restrict__ sums, const REAL *__restrict__ bias, REAL *__restrict__ y, REAL *__restrict__ rest, Product of,
    int parts)
{
    const int all_columns = of.columns + of.ones, numbers = of.rows * all_columns;
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= numbers) return;
    REAL total = 0;
    for (int part = 0; part < parts; part++) total += sums[(size_t)part * numbers + number];
    finish(total, number / all_columns, number % all_columns, bias, y, rest, of);
}
