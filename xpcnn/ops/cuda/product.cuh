// A matrix product. The steps are strides from one row, depth or column to the next, in elements.
struct Product {
    int rows, columns, depth;
    int a_row, a_depth, b_depth, b_column;
    int activation;
};

// Writes an element of the product or, in the column after the last, the sum of a row of a.
template <class T>
__device__ inline void finish(
    REAL value, int row, int column, const REAL *bias, T *y, REAL *row_sums, const Product &of)
{
    if (column == of.columns) { row_sums[row] = value; return; }
    if (bias) value += bias[row];
    y[(size_t)row * of.columns + column] = activated(value, of.activation);
}

// How many columns are summed for those of a pooled product, which tensor_product.cu describes.
__device__ inline int pooled_columns(const Product &of) { return (of.columns + 7) / 8 * 32; }

// Writes the largest of the four sums of a window and which of them it was. column: of the sums, that of the first.
template <class T, class Sum> __device__ inline void finish_pooled(
    Sum sum, int row, int column, const REAL *bias, T *y, unsigned char *winners, const Product &of)
{
    const int own = column / 32 * 8 + column % 8;
    if (own >= of.columns) return;
    int winner;
    finish(largest<4>(sum, winner), row, own, bias, y, nullptr, of);
    if (winners) winners[(size_t)row * of.columns + own] = winner;
}
