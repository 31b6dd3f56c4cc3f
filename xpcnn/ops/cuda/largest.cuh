// The largest of the COUNT cells of a window, and which of them it was: the first of equal ones, but the last NaN.
template <int COUNT, class Cell> __device__ inline REAL largest(Cell cell, int &winner) {
    REAL best = cell(0);
    winner = 0;
    #pragma unroll
    for (int other = 1; other < COUNT; other++) {
        const REAL value = cell(other);
        if (value > best || value != value) { best = value; winner = other; }
    }
    return best;
}
