// A matrix product on the tensor cores, y[m, j] = sum of a[m, d] b[d, j], then the bias of the row and an activation, each if
// given. Operands are rounded as they enter shared memory, see mma.cuh, unless they are stored so; sums are float32.
// A_STORED, B_STORED and IMAGE: how a, b and y are stored.
// SEEN: 0, b is a matrix. 1: b[d, j] is the cell that element d of a filter sees at place and image j, so that y is a
// correlation. 2: b[d, j] is the cell that element j sees at place and image d, so that y is the filters' gradient.
// POOLED: y is a correlation, pooled in 2 x 2 squares. Of each 32 columns of b, the first 8 see the first cells of the
// windows of 8 columns of y, the next 8 the second cells, and so on, so that one lane sums all four of a window.
// A_DEEP, B_DEEP: whether d is the contiguous axis in memory.

#include "activation.cuh"
#include "common.cuh"
#include "correlation.cuh"
#include "largest.cuh"
#include "mma.cuh"
#include "product.cuh"
#include "seen.cuh"
#include "stored.cuh"

#ifndef A_STORED
#define A_STORED REAL
#endif
#ifndef B_STORED
#define B_STORED REAL
#endif
#ifndef KERNEL_HEIGHT
#define KERNEL_HEIGHT seen_by.kernel_height
#define KERNEL_WIDTH seen_by.kernel_width
#endif
#define TAPS (KERNEL_HEIGHT * KERNEL_WIDTH)
#define A_TAPS (SEEN == 1 ? TAPS : 1)
#define BLOCK 256
#define WARPS_RIGHT (BLOCK / 32 / WARPS_DOWN)
#define ROWS (16 * EACH_DOWN * WARPS_DOWN)
#define COLUMNS (8 * EACH_RIGHT * WARPS_RIGHT)
#define DEPTH 32               // of a tile, in values
#define WORDS (DEPTH / PACKED)

// A word of two neighbours in depth, rounded or stored so.
__device__ inline unsigned word_of(float low, float high) { return pack(low, high); }
template <class T> __device__ inline unsigned word_of(T low, T high) { return low.bits | (unsigned)high.bits << 16; }

// A tile of one operand, `others` rows or columns of WORDS words. A thread reads four words at once, which lie side by side
// in memory: along the depth, or along the other axis.
template <class T, bool deep, int others> struct Tile {
    static const int STEP = deep ? WORDS + 4 : others + 8;  // in shared memory, so that no two lanes ask the same bank
    static const int SIZE = STEP * (deep ? others : WORDS);
    static const int FOURS = WORDS * others / 4, READS = (FOURS + BLOCK - 1) / BLOCK;
    unsigned *words;
    FourOf<T> next[READS][PACKED];

    __device__ static bool place(int h, int &word, int &other) {
        const unsigned i = threadIdx.x + h * BLOCK;  // then the compiler sees what is the same for all h
        word = deep ? i % (WORDS / 4) * 4 : i / (others / 4);
        other = deep ? i / (WORDS / 4) : i % (others / 4) * 4;
        return i < FOURS;
    }

    __device__ unsigned at(int word, int other) const { return words[deep ? other * STEP + word : word * STEP + other]; }

    template <class Read> __device__ void read(int first_depth, int first_other, Read four) {
        #pragma unroll
        for (int h = 0; h < READS; h++) {
            int word, other;
            const bool in = place(h, word, other);
            #pragma unroll
            for (int f = 0; f < PACKED; f++)
                next[h][f] = in ? four(first_depth + word * PACKED + f * (deep ? 4 : 1), first_other + other) : FourOf<T>{};
        }
    }

    __device__ void store() const {
        #pragma unroll
        for (int h = 0; h < READS; h++) {
            int word, other;
            if (!place(h, word, other)) continue;
            #pragma unroll
            for (int k = 0; k < 4; k++) {
                const int low = k * PACKED, high = low + PACKED - 1;
                words[deep ? other * STEP + word + k : word * STEP + other + k] =
                    deep ? word_of(next[h][low / 4].of[low % 4], next[h][high / 4].of[high % 4])
                         : word_of(next[h][0].of[k], next[h][PACKED - 1].of[k]);
            }
        }
    }
};

// Four neighbours along the depth or the other axis, read at once if they lie `together`; zeros beyond the ends.
template <class T, bool deep, class Place>
__device__ inline FourOf<T> read_four(Place place, bool together, int depth, int other, int end, int others) {
    FourOf<T> values{};
    if (together && depth + (deep ? 3 : 0) < end && other + (deep ? 0 : 3) < others) {
        if (const T *from = place(depth, other)) values = *(const FourOf<T> *)from;
        return values;
    }
    #pragma unroll
    for (int k = 0; k < 4; k++) {
        const int d = depth + (deep ? k : 0), o = other + (deep ? 0 : k);
        const T *from = d < end && o < others ? place(d, o) : nullptr;
        if (from) values.of[k] = *from;
    }
    return values;
}

// Grid: (tiles of rows x tiles of columns x parts of the depth). Of several parts, each leaves its sums in `sums`, for
// finish_product, with row_sums in one more column; those are of values as they are stored. a_tap: where SEEN is 1, the
// step from one element of a filter to the next, and a_depth that between its channels.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) tensor_product(
    const A_STORED *__restrict__ a, const B_STORED *__restrict__ b, const REAL *__restrict__ bias, IMAGE *__restrict__ y,
    unsigned char *__restrict__ winners, REAL *__restrict__ row_sums, REAL *__restrict__ sums, Product of,
    Correlation seen_by, int a_tap, int parts)
{
    typedef Tile<A_STORED, A_DEEP, ROWS> Left;
    typedef Tile<B_STORED, B_DEEP, COLUMNS> Right;
    __shared__ Four memory[(Left::SIZE + Right::SIZE) / 4];
    Left left;
    Right right;
    left.words = (unsigned *)memory, right.words = (unsigned *)memory + Left::SIZE;
    const int columns = POOLED ? pooled_columns(of) : of.columns;
    const int tiles_right = (columns + COLUMNS - 1) / COLUMNS, part = blockIdx.x % parts, tile = blockIdx.x / parts;
    const int first_row = tile / tiles_right * ROWS, first_column = tile % tiles_right * COLUMNS;
    const int rounds = (of.depth + DEPTH - 1) / DEPTH, length = (rounds + parts - 1) / parts * DEPTH;
    const int end = min(of.depth, (part + 1) * length);
    const bool sums_rows = row_sums && first_column == 0;

    // Where values lie, null where there is a zero; and whether four neighbours can be read at once.
    auto place_in_a = [&](int depth, int row) {
        return a + (row * of.a_row + depth / A_TAPS * of.a_depth + depth % A_TAPS * a_tap);
    };
    auto place_in_b = [&](int depth, int column) -> const B_STORED * {
        if (SEEN == 0) return b + (depth * of.b_depth + column * of.b_column);
        const int element = SEEN == 1 ? depth : column, where = SEEN == 1 ? column : depth;
        const int own = POOLED ? where / 32 * 8 + where % 8 : where, place = own / seen_by.n, tap = element % TAPS;
        const int down = POOLED ? place / seen_by.pooled_columns * 2 + where / 16 % 2 : place / seen_by.columns;
        const int right = POOLED ? place % seen_by.pooled_columns * 2 + where / 8 % 2 : place % seen_by.columns;
        int row = down * seen_by.stride_down + tap / KERNEL_WIDTH * seen_by.dilation_down - seen_by.top;
        int cell = right * seen_by.stride_right + tap % KERNEL_WIDTH * seen_by.dilation_right - seen_by.left;
        if (!seen(row, seen_by.spread_down, seen_by.height) || !seen(cell, seen_by.spread_right, seen_by.width)) return nullptr;
        return b + (((element / TAPS * seen_by.height + row) * seen_by.width + cell) * seen_by.n + own % seen_by.n);
    };
    const bool fours_in_a = (size_t)a % sizeof(FourOf<A_STORED>) == 0 && (A_DEEP
        ? of.a_depth == A_TAPS && (A_TAPS == 1 || a_tap == 1) && of.a_row % 4 == 0
        : A_TAPS == 1 && of.a_row == 1 && of.a_depth % 4 == 0);
    const bool fours_in_b = (size_t)b % sizeof(FourOf<B_STORED>) == 0 && (SEEN ? seen_by.n % 4 == 0
        : B_DEEP ? of.b_depth == 1 && of.b_column % 4 == 0 : of.b_column == 1 && of.b_depth % 4 == 0);
    REAL row_totals[Left::READS][4] = {};
    auto read = [&](int first) {
        left.read(first, first_row, [&](int depth, int row) {
            return read_four<A_STORED, A_DEEP>(place_in_a, fours_in_a, depth, row, end, of.rows);
        });
        right.read(first, first_column, [&](int depth, int column) {
            return read_four<B_STORED, B_DEEP>(place_in_b, fours_in_b, depth, column, end, columns);
        });
        if (!sums_rows) return;
        #pragma unroll
        for (int h = 0; h < Left::READS; h++)
            #pragma unroll
            for (int i = 0; i < 4 * PACKED; i++) row_totals[h][i % 4] += left.next[h][i / 4].of[i % 4];
    };

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int down = warp / WARPS_RIGHT * 16 * EACH_DOWN, across = warp % WARPS_RIGHT * 8 * EACH_RIGHT;
    float totals[EACH_DOWN][EACH_RIGHT][4] = {};
    read(part * length);
    for (int first = part * length; first < end; first += DEPTH) {
        __syncthreads();
        left.store();
        right.store();
        __syncthreads();
        if (first + DEPTH < end) read(first + DEPTH);  // while these are multiplied
        #pragma unroll
        for (int first_word = 0; first_word < WORDS; first_word += 8) {
            const int word = first_word + lane % 4;
            unsigned a_words[EACH_DOWN][4], b_words[EACH_RIGHT][2];
            #pragma unroll
            for (int i = 0; i < EACH_DOWN; i++)
                #pragma unroll
                for (int k = 0; k < 4; k++) a_words[i][k] = left.at(word + k / 2 * 4, down + i * 16 + lane / 4 + k % 2 * 8);
            #pragma unroll
            for (int j = 0; j < EACH_RIGHT; j++)
                #pragma unroll
                for (int k = 0; k < 2; k++) b_words[j][k] = right.at(word + k * 4, across + j * 8 + lane / 4);
            #pragma unroll
            for (int i = 0; i < EACH_DOWN; i++)
                #pragma unroll
                for (int j = 0; j < EACH_RIGHT; j++) mma(totals[i][j], a_words[i], b_words[j]);
        }
    }

    auto write = [&](REAL value, int row, int column) {
        if (parts == 1) finish(value, row, column, bias, y, row_sums, of);
        else sums[((size_t)part * of.rows + row) * (columns + (row_sums != nullptr)) + column] = value;
    };
    #pragma unroll
    for (int i = 0; i < EACH_DOWN; i++)
        #pragma unroll
        for (int j = 0; j < EACH_RIGHT; j++)
            #pragma unroll
            for (int k = 0; k < 4; k++) {
                const int row = first_row + down + i * 16 + lane / 4 + k / 2 * 8;
                const int column = first_column + across + j * 8 + lane % 4 * 2 + k % 2;
                if (row >= of.rows || column >= columns) continue;
                if (!POOLED || parts > 1) write(totals[i][j][k], row, column);
                else if (j % 4 == 0)
                    finish_pooled([&](int cell) { return totals[i][j + cell][k]; }, row, column, bias, y, winners, of);
            }
    if (!sums_rows) return;
    // The sums of the threads that read the same rows are added in order.
    REAL *held = (REAL *)memory;  // [row][word]
    __syncthreads();
    #pragma unroll
    for (int h = 0; h < Left::READS; h++) {
        int word, row;
        if (!Left::place(h, word, row)) continue;
        const REAL *t = row_totals[h];
        #pragma unroll
        for (int k = 0; k < 4; k++) held[A_DEEP ? row * WORDS + word + k : (row + k) * WORDS + word] = t[k];
    }
    __syncthreads();
    if (threadIdx.x >= ROWS || first_row + (int)threadIdx.x >= of.rows) return;
    REAL total = 0;
    for (int word = 0; word < WORDS; word++) total += held[threadIdx.x * WORDS + word];
    write(total, first_row + threadIdx.x, of.columns);
}
