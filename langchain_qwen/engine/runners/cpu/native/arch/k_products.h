// The products of the K formats in plain C, for tiles of up to TILE tokens as acts.h makes them.
#pragma once
#include <math.h>

#include "../half.h"
#include "../kernels.h"

// What a span holds of a row: its code in a column, and its integer scales.
static int code_k(int format, const uint8_t *span, int row, int k) {
    const int vector = k / 8, place = row * 4 + k % 4, high = k % 8 / 4;
    const uint8_t pair = span[vector * 32 + place], *above = span + LQ_SPAN_CODES;
    const int code = high ? pair >> 4 : pair & 15;
    if (format == LQ_K5) return code | (above[vector / 4 * 32 + place] >> (vector % 4 * 2 + high) & 1) << 4;
    if (format == LQ_K6) return (code | (above[vector / 2 * 32 + place] >> (vector % 2 * 4 + high * 2) & 3) << 4) - 32;
    return code;
}

static void scales_k(int format, const uint8_t *span, int row, int k, int *scale, int *minimum) {
    const uint8_t *scales = span + LQ_SPAN_CODES + lq_span_above(format);
    const int lane = row / 4 * 16 + row % 4;
    if (format == LQ_K6) {
        *scale = (int8_t)scales[k / 64 * 32 + lane + k % 64 / 16 * 4], *minimum = 0;
        return;
    }
    const int place = lane + k / 32 * 4, shift = place / 16 * 2;
    const uint8_t low = scales[place], above = scales[32 + place % 16];
    *scale = (low & 15) | (above >> shift & 3) << 4;
    *minimum = low >> 4 | (above >> (shift + 4) & 3) << 4;
}

// One panel times one token.
static void multiply_k(const lq_matrix *w, const lq_acts *acts, int m, int tokens, int panel, float *out) {
    const int width = lq_tile_width(m, tokens, TILE), lane = m % TILE, tile = m - lane, format = w->format;
    const int spans = w->group / LQ_SPAN, span_bytes = lq_span_bytes(format);
    const size_t block_bytes = (size_t)lq_block_bytes(format, w->group);
    const uint8_t *block = w->data + (size_t)panel * lq_panel_bytes(w);
    const int8_t *codes = acts->codes + (size_t)tile * w->cols;
    const int together = lq_sum_columns(format);
    const int16_t *sums = acts->sums16 + (size_t)tile * (w->cols / together);
    const float *scales = acts->scale + (size_t)tile * w->cols / LQ_SPAN;
    float y[8] = {0};
    for (int first = 0; first < w->cols; first += LQ_SPAN) {
        const uint8_t *span = block + first / LQ_SPAN % spans * span_bytes;
        const uint16_t *d = (const uint16_t *)(block + spans * span_bytes), *dmin = d + 8;
        const float x_scale = scales[first / LQ_SPAN * width + lane];
        for (int r = 0; r < 8; r++) {
            int32_t dot = 0, minima = 0;
            for (int k = 0; k < LQ_SPAN; k += 16) {  // no group of a K format is narrower
                int32_t sum = 0;
                int scale, minimum;
                scales_k(format, span, r, k, &scale, &minimum);
                for (int i = k; i < k + 16; i++)
                    sum += code_k(format, span, r, i) * codes[((size_t)((first + i) / 4) * width + lane) * 4 + i % 4];
                dot += scale * sum;
                const int group = (first + k) / together;
                if (k % together == 0) minima += minimum * sums[((size_t)(group / 2) * width + lane) * 2 + group % 2];
            }
            float sum = (float)dot * lq_half_to_float(d[r]);
            if (format != LQ_K6) sum = fmaf(-(float)minima, lq_half_to_float(dmin[r]), sum);
            y[r] = fmaf(sum, x_scale, y[r]);
        }
        if (first / LQ_SPAN % spans == spans - 1) block += block_bytes;
    }
    for (int r = 0; r < 8; r++) out[r] = y[r] + (w->bias ? w->bias[panel * 8 + r] : 0);
}
