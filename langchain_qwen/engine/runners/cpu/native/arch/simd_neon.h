// Vectors of four floats.
#pragma once
#include <arm_neon.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef float32x4_t vec;
enum { LANES = 4, ROWS_AT_ONCE = 6, WIDE_VALUES = 1 };  // what the registers hold; see attention.h

INLINE vec load(const float *p) { return vld1q_f32(p); }
INLINE void store(float *p, vec v) { vst1q_f32(p, v); }
INLINE vec set1(float x) { return vdupq_n_f32(x); }
INLINE vec add2(vec a, vec b) { return vaddq_f32(a, b); }
INLINE vec sub2(vec a, vec b) { return vsubq_f32(a, b); }
INLINE vec mul2(vec a, vec b) { return vmulq_f32(a, b); }
INLINE vec div2(vec a, vec b) { return vdivq_f32(a, b); }
INLINE vec min2(vec a, vec b) { return vminq_f32(a, b); }
INLINE vec max2(vec a, vec b) { return vmaxq_f32(a, b); }
INLINE vec fma3(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }   // a * b + c
INLINE vec fnma3(vec a, vec b, vec c) { return vfmsq_f32(c, a, b); }  // c - a * b
INLINE vec nearest(vec v) { return vrndnq_f32(v); }
INLINE vec power_of_2(vec n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}
INLINE vec load_half(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
INLINE void store_half(uint16_t *p, vec v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
INLINE void fetch(const void *p) { __builtin_prefetch(p); }
INLINE void fetch_later(const void *p) { __builtin_prefetch(p, 0, 2); }
