// Tensor cores. Their operands are words: one value of tf32, or two of bfloat16 or float16, neighbours in depth; TF32,
// BFLOAT16 or FLOAT16 is defined.

#ifdef TF32
#define PACKED 1  // values of a word
#else
#define PACKED 2
#endif

#ifdef __CUDACC__  // else the shim of the tests defines these two

// The nearest values of that precision to one or two float32; ties go away from 0 in tf32, else to the even one. What
// exceeds float16's range becomes infinite.
__device__ inline unsigned pack(float low, float high) {
    unsigned word;
#if defined(TF32)
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(low));
#elif defined(BFLOAT16)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#elif defined(FLOAT16)
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#endif
    return word;
}

// Adds the product of a, 16 rows by 8 words, and b, 8 words by 8 columns, to float32 sums: by all lanes of a warp, of
// which lane 4 g + t holds words t and t + 4 of a's rows g and g + 8 (rows first) and of b's column g, and the sums of
// columns 2 t and 2 t + 1 in rows g and g + 8.
__device__ inline void mma(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if defined(TF32)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
#elif defined(BFLOAT16)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
#elif defined(FLOAT16)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
#endif
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
