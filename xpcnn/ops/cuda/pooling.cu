// Pooling by the largest (or smallest) cell of every window, with the bias and the ReLU that follow it. The border never
// wins, and the first of equal cells does. Images lie with the batch last, (channels, rows, columns, n).

struct Pooling {
    int n, channels, height, width, rows, columns;
    int pool_height, pool_width, stride_down, stride_right, top, left;
    int largest, relu;
};

// A thread for each cell of y. winners: which cell of the window it was, or null in prediction.
extern "C" __global__ void pool(
    const REAL *__restrict__ x, const REAL *__restrict__ bias, REAL *__restrict__ y, WINNER *__restrict__ winners, Pooling of)
{
    const size_t cell = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= (size_t)of.channels * of.rows * of.columns * of.n) return;
    const int image = cell % of.n, place = cell / of.n;
    const int column = place % of.columns, row = place / of.columns % of.rows, channel = place / of.columns / of.rows;
    REAL best = 0;
    int winner = -1;
    for (int i = 0; i < of.pool_height; i++)
        for (int j = 0; j < of.pool_width; j++) {
            const int r = row * of.stride_down + i - of.top, c = column * of.stride_right + j - of.left;
            if (r < 0 || r >= of.height || c < 0 || c >= of.width) continue;
            const REAL value = x[((size_t)(channel * of.height + r) * of.width + c) * of.n + image];
            if (winner < 0 || (of.largest ? value > best : value < best) || value != value) {
                best = value;
                winner = i * of.pool_width + j;
            }
        }
    if (bias) best += bias[channel];
    y[cell] = of.relu && best < 0 ? REAL(0) : best;
    if (winners) winners[cell] = winner;
}

// A thread for each cell of dx: what the windows that it won pass back to it. y: the output, where ReLU cut off at 0.
extern "C" __global__ void unpool(
    const REAL *__restrict__ dy, const REAL *__restrict__ y, const WINNER *__restrict__ winners, REAL *__restrict__ dx,
    Pooling of)
{
    const size_t cell = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= (size_t)of.channels * of.height * of.width * of.n) return;
    const int image = cell % of.n, place = cell / of.n;
    const int c = place % of.width + of.left, r = place / of.width % of.height + of.top;
    const int channel = place / of.width / of.height;
    REAL sum = 0;
    for (int row = max(0, (r - of.pool_height + of.stride_down) / of.stride_down);
         row <= min(of.rows - 1, r / of.stride_down); row++)
        for (int column = max(0, (c - of.pool_width + of.stride_right) / of.stride_right);
             column <= min(of.columns - 1, c / of.stride_right); column++) {
            const size_t window = ((size_t)(channel * of.rows + row) * of.columns + column) * of.n + image;
            const int own = (r - row * of.stride_down) * of.pool_width + c - column * of.stride_right;
            if (winners[window] == own && (!of.relu || y[window] > 0)) sum += dy[window];
        }
    dx[cell] = sum;
}
