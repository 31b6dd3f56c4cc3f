// The windows of pooling. Images lie with the batch last, (channels, rows, columns, n); WINNER is the type that numbers the
// cells of a window.

struct Pooling {
    int n, channels, height, width, rows, columns;
    int pool_height, pool_width, stride_down, stride_right, top, left;
    int largest, activation;
};

// Dividing by a size that is defined at compile time is cheap.
#ifndef POOL
#define POOL_HEIGHT of.pool_height
#define POOL_WIDTH of.pool_width
#define STRIDE_DOWN of.stride_down
#define STRIDE_RIGHT of.stride_right
#else
#define POOL_HEIGHT POOL
#define POOL_WIDTH POOL
#define STRIDE_DOWN POOL
#define STRIDE_RIGHT POOL
#endif

// Where a cell lies in images of some size.
struct Place {
    int image, column, row, channel;
    __device__ Place(unsigned cell, int n, int rows, int columns)
        : image(cell % n), column(cell / n % columns), row(cell / n / columns % rows), channel(cell / n / columns / rows) {}
};

// The largest cell of a window, the smallest if sign is below 0, the first if it is 0; and which of them it was. The border
// never wins, the first of equal cells does.
template <class T>
__device__ inline REAL best_of(const T *__restrict__ x, const Pooling &of, const Place &at, REAL sign, int &winner)
{
    REAL best = 0;
    winner = -1;
    for (int i = 0; i < POOL_HEIGHT; i++)
        for (int j = 0; j < POOL_WIDTH; j++) {
            const int r = at.row * STRIDE_DOWN + i - of.top, c = at.column * STRIDE_RIGHT + j - of.left;
            if (r < 0 || r >= of.height || c < 0 || c >= of.width) continue;
            const REAL value = x[((size_t)(at.channel * of.height + r) * of.width + c) * of.n + at.image];
            if (winner < 0 || (sign > 0 ? value > best : sign < 0 && value < best) || value != value) {
                best = value;
                winner = i * POOL_WIDTH + j;
            }
        }
    return best;
}

// The sum of dy over the windows that a cell won. y: the output.
__device__ inline REAL won_by(
    const IMAGE *__restrict__ dy, const IMAGE *__restrict__ y, const WINNER *__restrict__ winners, const Pooling &of,
    const Place &at)
{
    const int c = at.column + of.left, r = at.row + of.top;
    REAL sum = 0;
    for (int row = max(0, (r - POOL_HEIGHT + STRIDE_DOWN) / STRIDE_DOWN);
         row <= min(of.rows - 1, r / STRIDE_DOWN); row++)
        for (int column = max(0, (c - POOL_WIDTH + STRIDE_RIGHT) / STRIDE_RIGHT);
             column <= min(of.columns - 1, c / STRIDE_RIGHT); column++) {
            const size_t window = ((size_t)(at.channel * of.rows + row) * of.columns + column) * of.n + at.image;
            const int own = (r - row * STRIDE_DOWN) * POOL_WIDTH + c - column * STRIDE_RIGHT;
            if (winners[window] == own && hands_on(y[window], of.activation)) sum += dy[window];
        }
    return sum;
}
