// Pooling by the largest (or smallest) cell of every window, with the bias and the ReLU that follow it. The border never
// wins, and the first of equal cells does. Images lie with the batch last, (channels, rows, columns, n).

struct Pooling {
    int n, channels, height, width, rows, columns;
    int pool_height, pool_width, stride_down, stride_right, top, left;
    int largest, relu;
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

// One thread per cell of y. winners: which cell of the window it was, or null in prediction.
extern "C" __global__ void pool(
    const REAL *__restrict__ x, const REAL *__restrict__ bias, REAL *__restrict__ y, WINNER *__restrict__ winners, Pooling of)
{
    const unsigned cell = blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= (unsigned)of.channels * of.rows * of.columns * of.n) return;
    const int image = cell % of.n, place = cell / of.n;
    const int column = place % of.columns, row = place / of.columns % of.rows, channel = place / of.columns / of.rows;
    REAL best = 0;
    int winner = -1;
    for (int i = 0; i < POOL_HEIGHT; i++)
        for (int j = 0; j < POOL_WIDTH; j++) {
            const int r = row * STRIDE_DOWN + i - of.top, c = column * STRIDE_RIGHT + j - of.left;
            if (r < 0 || r >= of.height || c < 0 || c >= of.width) continue;
            const REAL value = x[((size_t)(channel * of.height + r) * of.width + c) * of.n + image];
            if (winner < 0 || (of.largest ? value > best : value < best) || value != value) {
                best = value;
                winner = i * POOL_WIDTH + j;
            }
        }
    if (bias) best += bias[channel];
    y[cell] = of.relu && best < 0 ? REAL(0) : best;
    if (winners) winners[cell] = winner;
}

// One thread per cell of dx: the sum of dy over the windows that it won. y: the output, 0 where ReLU clipped it.
extern "C" __global__ void unpool(
    const REAL *__restrict__ dy, const REAL *__restrict__ y, const WINNER *__restrict__ winners, REAL *__restrict__ dx,
    Pooling of)
{
    const unsigned cell = blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= (unsigned)of.channels * of.height * of.width * of.n) return;
    const int image = cell % of.n, place = cell / of.n;
    const int c = place % of.width + of.left, r = place / of.width % of.height + of.top;
    const int channel = place / of.width / of.height;
    REAL sum = 0;
    for (int row = max(0, (r - POOL_HEIGHT + STRIDE_DOWN) / STRIDE_DOWN);
         row <= min(of.rows - 1, r / STRIDE_DOWN); row++)
        for (int column = max(0, (c - POOL_WIDTH + STRIDE_RIGHT) / STRIDE_RIGHT);
             column <= min(of.columns - 1, c / STRIDE_RIGHT); column++) {
            const size_t window = ((size_t)(channel * of.rows + row) * of.columns + column) * of.n + image;
            const int own = (r - row * STRIDE_DOWN) * POOL_WIDTH + c - column * STRIDE_RIGHT;
            if (winners[window] == own && (!of.relu || y[window] > 0)) sum += dy[window];
        }
    dx[cell] = sum;
}
