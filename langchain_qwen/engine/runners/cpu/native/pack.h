// How one row's codes and scales are written into a panel. What of a K format is written bit by bit has to be zero before.
#pragma once
#include <string.h>

#include "forms.h"

// What the packers return. Not finite: a weight, or the scale that fp16 would have to hold.
enum { PACKED = 0, NOT_FINITE = 1, NO_SUCH_SHAPE = 2 };

static inline void lq_put_half(uint8_t *halves, int row, uint16_t half) { memcpy(halves + row * 2, &half, 2); }

static inline void lq_put_codes_int4(const int16_t *codes, int n, int row, uint8_t *out) {
    for (int k = 0; k < n; k += 8, out += 32)
        for (int i = 0; i < 4; i++) out[row * 4 + i] = (uint8_t)((codes[k + i] & 15) | (codes[k + 4 + i] & 15) << 4);
}

static inline void lq_put_codes_int8(const int16_t *codes, int n, int row, uint8_t *out) {
    for (int k = 0; k < n; k += 4, out += 32)
        for (int i = 0; i < 4; i++) out[row * 4 + i] = (uint8_t)codes[k + i];
}

// LQ_SPAN codes; the bits above the fourth are added to what is there.
static inline void lq_put_span_codes(int format, const int16_t *codes, int row, uint8_t *span) {
    lq_put_codes_int4(codes, LQ_SPAN, row, span);
    uint8_t *above = span + LQ_SPAN_CODES;
    for (int k = 0; k < LQ_SPAN && format != LQ_K4; k++) {
        const int vector = k / 8, place = row * 4 + k % 4, high = k % 8 / 4, bits = codes[k] >> 4;
        if (format == LQ_K5)
            above[vector / 4 * 32 + place] |= (uint8_t)(bits << (vector % 4 * 2 + high));
        else
            above[vector / 2 * 32 + place] |= (uint8_t)(bits << (vector % 2 * 4 + high * 2));
    }
}

// Scales and minima of 6 bits, four of each.
static inline void lq_put_span_scales(int format, const uint8_t *scales, const uint8_t *minima, int row, uint8_t *span) {
    uint8_t *out = span + LQ_SPAN_CODES + lq_span_above(format);
    for (int g = 0; g < 4; g++) {
        const int place = row / 4 * 16 + g * 4 + row % 4, shift = place / 16 * 2;
        out[place] = (uint8_t)((scales[g] & 15) | (minima[g] & 15) << 4);
        out[32 + place % 16] |= (uint8_t)((scales[g] >> 4) << shift | (minima[g] >> 4) << (shift + 4));
    }
}

// Eight scales of 8 bits.
static inline void lq_put_span_scales_k6(const uint8_t *scales, int row, uint8_t *span) {
    uint8_t *out = span + LQ_SPAN_CODES + lq_span_above(LQ_K6);
    for (int g = 0; g < 8; g++) out[g / 4 * 32 + row / 4 * 16 + g % 4 * 4 + row % 4] = scales[g];
}
