// How images lie in memory: as REAL or, where IMAGE is one of these types, in 16 bits, rounded to the nearest, ties to the
// even one. What exceeds float16's range becomes infinite, and NaN stays NaN. A kernel reads and writes them as numbers.

#ifdef __CUDACC__  // else the shim of the tests defines these four

__device__ inline unsigned short bfloat16_bits(float value) {
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
__device__ inline float bfloat16_value(unsigned short bits) { return __uint_as_float((unsigned)bits << 16); }

__device__ inline unsigned short float16_bits(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
__device__ inline float float16_value(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

#endif

struct Bfloat16 {
    unsigned short bits;
    __device__ operator float() const { return bfloat16_value(bits); }
    __device__ void operator=(float value) { bits = bfloat16_bits(value); }
};

struct Float16 {
    unsigned short bits;
    __device__ operator float() const { return float16_value(bits); }
    __device__ void operator=(float value) { bits = float16_bits(value); }
};

#ifndef IMAGE
#define IMAGE REAL
#endif
