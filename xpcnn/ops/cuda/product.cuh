// A matrix product. The steps are strides from one row, depth or column to the next, in elements.
struct Product {
    int rows, columns, depth;
    int a_row, a_depth, b_depth, b_column;
    int relu;
};

// Writes an element of the product or, in the column after the last, the sum of a row of a.
template <class T>
__device__ inline void finish(
    REAL value, int row, int column, const REAL *bias, T *y, REAL *row_sums, const Product &of)
{
    if (column == of.columns) { row_sums[row] = value; return; }
    if (bias) value += bias[row];
    y[(size_t)row * of.columns + column] = of.relu && value < 0 ? REAL(0) : value;
}
