// Vectors of eight floats.
#pragma once
#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef __m256 vec;
enum { LANES = 8, ROWS_AT_ONCE = 6, WIDE_VALUES = 1 };  // what the registers hold; see attention.h

INLINE vec load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void store(float *p, vec v) { _mm256_storeu_ps(p, v); }
INLINE vec set1(float x) { return _mm256_set1_ps(x); }
INLINE vec add2(vec a, vec b) { return _mm256_add_ps(a, b); }
INLINE vec sub2(vec a, vec b) { return _mm256_sub_ps(a, b); }
INLINE vec mul2(vec a, vec b) { return _mm256_mul_ps(a, b); }
INLINE vec div2(vec a, vec b) { return _mm256_div_ps(a, b); }
INLINE vec min2(vec a, vec b) { return _mm256_min_ps(a, b); }
INLINE vec max2(vec a, vec b) { return _mm256_max_ps(a, b); }
INLINE vec fma3(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }    // a * b + c
INLINE vec fnma3(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
INLINE vec nearest(vec v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vec power_of_2(vec n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
INLINE vec load_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
INLINE void store_half(uint16_t *p, vec v) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
INLINE void fetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
INLINE void fetch_later(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }
