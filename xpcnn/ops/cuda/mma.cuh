// Tensor cores. Their operands are words: one value of tf32 (PACKED 1), or two of bfloat16 (PACKED 2), neighbours in depth.

#ifdef __CUDACC__  // else the shim of the tests defines these two

// The nearest values of that precision to one or two float32; ties go away from 0 in tf32, to the even one in bfloat16.
__device__ inline unsigned pack(float low, float high) {
    unsigned word;
#if PACKED == 1
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(low));
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#endif
    return word;
}

// Adds the product of a, 16 rows by 8 words, and b, 8 words by 8 columns, to float32 sums: by all lanes of a warp, of
// which lane 4 g + t holds words t and t + 4 of a's rows g and g + 8 (rows first) and of b's column g, and the sums of
// columns 2 t and 2 t + 1 in rows g and g + 8.
__device__ inline void mma(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if PACKED == 1
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
#endif
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
