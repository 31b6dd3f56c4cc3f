// Reads the weights of filters for some channels into shared memory: [channel][tap][filter], zeros for filters beyond the
// last. All threads of a block take part; `thread` is the number of this one.
__device__ inline void read_filters(
    REAL *numbers, const REAL *weight, const Correlation &of, int first_filter, int filters, int first_channel, int channels,
    int height, int width, int thread)
{
    for (int i = thread; i < channels * height * width * filters; i += blockDim.x * blockDim.y) {
        const int filter = first_filter + i % filters, tap = i / filters % (height * width);
        const int channel = first_channel + i / filters / (height * width);
        numbers[i] = filter >= of.filters ? REAL(0) :
            weight[filter * of.filter_step + channel * of.channel_step + tap / width * of.row_step + tap % width * of.column_step];
    }
}

// Adds the bias to the sums of FILTERS filters at PLACES_DOWN x PLACES_RIGHT places of one image, applies an
// activation, and writes them. POOLED: only the largest of these places, and which of them it was (0 for the first).
__device__ inline void write_places(
    const REAL (&sums)[PLACES_DOWN][PLACES_RIGHT][FILTERS], const Correlation &of, int group, int first_filter,
    int first_row, int first_column, int image, const REAL *bias, REAL *y, unsigned char *winners)
{
    #pragma unroll
    for (int f = 0; f < FILTERS; f++) {
        const int filter = first_filter + f;
        if (filter >= of.filters) break;
        const size_t channel = group * of.filters + filter;
        const REAL shift = bias ? bias[channel] : REAL(0);
        if (POOLED) {
            const int row = first_row / PLACES_DOWN, column = first_column / PLACES_RIGHT;
            if (row >= of.pooled_rows || column >= of.pooled_columns) break;  // drop the remainder at the edge
            int winner;
            REAL best = largest<PLACES_DOWN * PLACES_RIGHT>(
                [&](int place) { return sums[place / PLACES_RIGHT][place % PLACES_RIGHT][f]; }, winner);
            best += shift;
            const size_t cell = ((channel * of.pooled_rows + row) * of.pooled_columns + column) * of.n + image;
            y[cell] = activated(best, of.activation);
            if (winners) winners[cell] = winner;
        } else {
            #pragma unroll
            for (int p = 0; p < PLACES_DOWN; p++)
                #pragma unroll
                for (int q = 0; q < PLACES_RIGHT; q++) {
                    const int row = first_row + p, column = first_column + q;
                    if (row >= of.rows || column >= of.columns) continue;
                    const REAL value = sums[p][q][f] + shift;
                    y[((channel * of.rows + row) * of.columns + column) * of.n + image] =
                        activated(value, of.activation);
                }
        }
    }
}
