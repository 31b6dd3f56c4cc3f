// A product of matrices. The steps are from one row, depth or column to the next, in elements.
struct Product {
    int rows, columns, depth;
    int a_row, a_depth, b_depth, b_column;
    int relu;
};

// Writes a number of the product, or, if it stands in the column after the last, a sum of a row of a.
__device__ inline void finish(
    REAL value, int row, int column, const REAL *bias, REAL *y, REAL *row_sums, const Product &of)
{
    if (column == of.columns) { row_sums[row] = value; return; }
    if (bias) value += bias[row];
    y[(size_t)row * of.columns + column] = of.relu && value < 0 ? REAL(0) : value;
}
