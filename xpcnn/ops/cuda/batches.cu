// Images gathered from a set, transformed as augmentation says, normalised, and written with the batch last.

// images: (any, channels, height, width). places: (n, 5) whether rows and columns are exchanged, whether rows and columns
// are reversed, and by how many rows and columns the image is shifted, its edge repeated. Null: as they are.
// mean, std: of each channel, or null. One thread per element of x, (channels, height, width, n).
extern "C" __global__ void gather(
    const SOURCE *__restrict__ images, const int *__restrict__ indices, const int *__restrict__ places,
    const REAL *__restrict__ mean, const REAL *__restrict__ std, REAL *__restrict__ x,
    int n, int channels, int height, int width)
{
    const size_t cell = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= (size_t)n * channels * height * width) return;
    const int image = cell % n, place = cell / n;
    int column = place % width, row = place / width % height;
    const int channel = place / width / height;
    if (places) {
        const int *of = places + image * 5;
        if (of[0]) { const int other = row; row = column; column = other; }
        if (of[1]) row = height - 1 - row;
        if (of[2]) column = width - 1 - column;
        row = min(max(row + of[3], 0), height - 1);
        column = min(max(column + of[4], 0), width - 1);
    }
    const REAL value = images[(((size_t)indices[image] * channels + channel) * height + row) * width + column];
    x[cell] = mean ? (value - mean[channel]) / std[channel] : value;
}

// The rows of the set in a batch: `n` entries of `order`, starting at `number` times `batch_size`.
extern "C" __global__ void next_rows(
    const int *__restrict__ order, const int *__restrict__ number, int *__restrict__ rows, int batch_size, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) rows[i] = order[(size_t)*number * batch_size + i];
}

// Writes the loss into the epoch's losses, and increments the step counters. One thread.
extern "C" __global__ void count_step(
    REAL *__restrict__ losses, const REAL *__restrict__ loss, int *__restrict__ number, unsigned long long *__restrict__ step)
{
    losses[*number] = *loss;
    *number += 1;
    *step += 1;
}
