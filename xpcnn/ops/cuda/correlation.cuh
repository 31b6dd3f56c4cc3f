// A correlation of images with filters: y[k, p] = sum of weight[k, c, i, j] x[c, p stride + (i, j) dilation - padding].
struct Correlation {
    int n, channels, height, width;    // of one group of the images that are read
    int filters, rows, columns;        // of one group of the result
    int kernel_height, kernel_width;
    int stride_down, stride_right, dilation_down, dilation_right;
    int top, left;                     // padding, which may be negative
    int spread_down, spread_right;     // the distance between the images' cells, with zeros in between
    int group_step, filter_step, channel_step, row_step, column_step;  // strides of the filters' weights
    int activation;
    int pooled_rows, pooled_columns;
};
