// Vectors of sixteen floats.
#pragma once
#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef __m512 vec;
#define TWELVE_ROWS
enum { LANES = 16, ROWS_AT_ONCE = 12, WIDE_VALUES = 2 };  // what the registers hold; see attention.h

INLINE vec load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void store(float *p, vec v) { _mm512_storeu_ps(p, v); }
INLINE vec set1(float x) { return _mm512_set1_ps(x); }
INLINE vec add2(vec a, vec b) { return _mm512_add_ps(a, b); }
INLINE vec sub2(vec a, vec b) { return _mm512_sub_ps(a, b); }
INLINE vec mul2(vec a, vec b) { return _mm512_mul_ps(a, b); }
INLINE vec div2(vec a, vec b) { return _mm512_div_ps(a, b); }
INLINE vec min2(vec a, vec b) { return _mm512_min_ps(a, b); }
INLINE vec max2(vec a, vec b) { return _mm512_max_ps(a, b); }
INLINE vec fma3(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
INLINE vec fnma3(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
INLINE vec nearest(vec v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vec power_of_2(vec n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
INLINE vec load_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INLINE void store_half(uint16_t *p, vec v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
INLINE void fetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
INLINE void fetch_later(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }
