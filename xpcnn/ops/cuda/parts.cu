// Adds up parts, in order: `numbers` of them into one array and the `others` that follow into another, which may be null.
extern "C" __global__ void add_parts(
    const REAL *__restrict__ parts, REAL *__restrict__ total, REAL *__restrict__ rest, int count, int numbers, int others)
{
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= numbers + others) return;
    REAL sum = 0;
    for (int part = 0; part < count; part++) sum += parts[(size_t)part * (numbers + others) + number];
    if (number < numbers) total[number] = sum;
    else if (rest) rest[number - numbers] = sum;
}
