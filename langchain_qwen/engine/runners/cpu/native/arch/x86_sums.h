// What the sums over a group have in common.
#pragma once
#include <immintrin.h>

#include "x86_acts.h"

#ifndef INLINE
#define INLINE static inline __attribute__((always_inline))
#endif

INLINE __m256 half8(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

// Holds a sum in its register: left alone, GCC reorders the (associative) integer sums of a tile until most of them
// spill to the stack, at a third of the speed.
#define IN_REGISTER(x) __asm__("" : "+x"(x))

// How far ahead of its use a weight is fetched. The hardware's own prefetching stops at each page and leaves a seventh
// of the memory's speed unused.
enum { PREFETCH_BYTES = 2048 };

INLINE void prefetch(const uint8_t *at) { _mm_prefetch((const char *)at + PREFETCH_BYTES, _MM_HINT_T0); }

// Ends a group: adds the scaled sums of its codes, and takes their share of the zeros away.
INLINE void add_scaled(const int W, const uint8_t *scales, const __m256i *sums, const float *xs, const float *xz, __m256 *acc) {
    const __m256 scale = half8(scales), scale_zero = half8(scales + 16);
#pragma GCC unroll 8
    for (int m = 0; m < W; m++) {
        acc[m] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums[m]), _mm256_set1_ps(xs[m])), scale, acc[m]);
        acc[m] = _mm256_fnmadd_ps(_mm256_set1_ps(xz[m]), scale_zero, acc[m]);
    }
}
