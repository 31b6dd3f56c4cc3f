// The cell of an image that one kernel element sees, and whether there is one. SPREAD: zeros may lie between cells.
__device__ inline bool seen(int &cell, int spread, int size) {
    if (SPREAD) {
        if (cell < 0 || cell % spread != 0) return false;
        cell /= spread;
    }
    return cell >= 0 && cell < size;
}
