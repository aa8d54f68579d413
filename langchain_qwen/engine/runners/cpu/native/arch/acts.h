// Activations in plain C: tiles of up to TILE tokens.
#pragma once
#include <math.h>

#include "../kernels.h"

static void store_acts(const lq_matrix *w, lq_acts *acts, const float *x, int m, int tokens, int begin, int end) {
    const int width = lq_tile_width(m, tokens, TILE), lane = m % TILE, tile = m - lane;
    if (w->format == LQ_BF16) {
        float *values = acts->values + (size_t)tile * w->cols;
        for (int k = begin; k < end; k++) values[(size_t)k * width + lane] = x[k];
        return;
    }
    const int group = w->group, groups = w->cols / group;
    const float steps = w->format == LQ_INT8 ? LQ_LARGEST_INT16 : 127;
    float *scales = acts->scale + (size_t)tile * groups, *sums = acts->sum + (size_t)tile * groups;
    int8_t *codes = acts->codes + (size_t)tile * w->cols;
    int16_t *codes16 = acts->codes16 + (size_t)tile * w->cols;
    for (int g = begin / group; g < end / group; g++) {
        float largest = 0;
        for (int k = g * group; k < (g + 1) * group; k++) largest = fmaxf(largest, fabsf(x[k]));
        const float scale = largest / steps, inverse = largest > 0 ? steps / largest : 0;
        int32_t sum = 0;
        for (int k = g * group; k < (g + 1) * group; k++) {
            const int code = (int)lrintf(x[k] * inverse);
            if (w->format == LQ_INT8)
                codes16[((size_t)(k / 4 * 2 + k % 2) * width + lane) * 2 + k % 4 / 2] = (int16_t)code;
            else
                codes[((size_t)(k / 4) * width + lane) * 4 + k % 4] = (int8_t)code;
            sum += code;
        }
        scales[g * width + lane] = scale;
        sums[g * width + lane] = scale * (float)sum;
    }
}
