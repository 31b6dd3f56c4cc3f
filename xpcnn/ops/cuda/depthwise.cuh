// What the kernels of depthwise.cu see: windows and cells of one image, which a thread holds as it goes down the rows.

#define BLOCK 256  // the most threads
#define TAPS (KERNEL_HEIGHT * KERNEL_WIDTH)
// Rows and columns that a window spans, and columns that PLACES windows side by side do.
#define SPAN_DOWN ((KERNEL_HEIGHT - 1) * DILATION_DOWN + 1)
#define SPAN_RIGHT ((KERNEL_WIDTH - 1) * DILATION_RIGHT + 1)
#define SEEN_RIGHT ((PLACES - 1) * STRIDE_RIGHT + SPAN_RIGHT)
// Rows and columns of windows that see a cell; and columns of cells that a thread has, a stride apart, in the gradient.
#define REACH_DOWN ((SPAN_DOWN - 1) / STRIDE_DOWN + 1)
#define REACH_RIGHT ((SPAN_RIGHT - 1) / STRIDE_RIGHT + 1)
#define STRETCHES ((PLACES + STRIDE_RIGHT - 1) / STRIDE_RIGHT)

// ROWS x COLUMNS cells of an image, with zeros around it. They move STEP rows down at a time, first to the row `top`.
template <int ROWS, int COLUMNS, int STEP> struct View {
    static const int KEPT = ROWS > STEP ? ROWS - STEP : 0;
    REAL cells[ROWS][COLUMNS];
    const REAL *image;
    int n, height, width, top, left;

    __device__ View(const REAL *image, int n, int height, int width, int top, int left)
        : image(image), n(n), height(height), width(width), top(top), left(left) {
        #pragma unroll
        for (int i = 0; i < KEPT; i++) read(STEP + i, top + i);
    }

    __device__ void read(int i, int row) {
        #pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
            const bool in = row >= 0 && row < height && left + j >= 0 && left + j < width;
            cells[i][j] = in ? image[((size_t)row * width + left + j) * n] : REAL(0);
        }
    }

    __device__ void move() {
        #pragma unroll
        for (int i = 0; i < KEPT; i++)
            #pragma unroll
            for (int j = 0; j < COLUMNS; j++) cells[i][j] = cells[i + STEP][j];
        #pragma unroll
        for (int i = KEPT; i < ROWS; i++) read(i, top + i);
        top += STEP;
    }
};

// Which image and places an item stands for: `length` rows of `across` columns, of which there are rows x columns.
struct Item {
    int image, row, column;
    __device__ Item(int item, int n, int columns, int across, int length)
        : image(item % n), row(item / n / ((columns + across - 1) / across) * length),
          column(item / n % ((columns + across - 1) / across) * across) {}
    __device__ static int count(int n, int rows, int columns, int across, int length) {
        return (rows + length - 1) / length * ((columns + across - 1) / across) * n;
    }
};

typedef View<SPAN_DOWN, SEEN_RIGHT, STRIDE_DOWN> Seen;

__device__ inline Seen seen_by(const REAL *x, const Correlation &of, const Item &at, int filter) {
    const REAL *image = x + (size_t)(filter / FILTERS) * of.height * of.width * of.n + at.image;
    return Seen(image, of.n, of.height, of.width, at.row * STRIDE_DOWN - of.top, at.column * STRIDE_RIGHT - of.left);
}
