// From float weights to codes of 4 bits: the form K4, and blocks of GGUF files, which are fitted to inputs too.
#include <math.h>

#include "fit_k4.h"
#include "pack.h"
#include "refine_k4.h"
#include "x86.h"

enum { LARGEST = 63, Q4_1 = 3, Q4_K = 12 };  // llama.cpp's numbers of its types

// The same source for both instruction sets; sums run in eight lanes in either, so the results are the same.
INLINE int fit_both(const float *x, const float *cost, const float *gram, int groups, int largest, fitted *best) {
    if (!fit_super_block(x, cost, groups, largest, best)) return 0;
    if (gram) refine(gram, x, groups, largest, best);
    return 1;
}
static int fit_plain(const float *x, const float *cost, const float *gram, int groups, int largest, fitted *best) {
    return fit_both(x, cost, gram, groups, largest, best);
}
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static int fit_avx2(const float *x, const float *cost, const float *gram, int groups,
                                                        int largest, fitted *best) {
    return fit_both(x, cost, gram, groups, largest, best);
}
#endif

static int fit(const float *x, const float *cost, const float *gram, int groups, int largest, fitted *best) {
#if defined(__x86_64__)
    if (lq_x86_has(LQ_AVX2)) return fit_avx2(x, cost, gram, groups, largest, best);
#endif
    return fit_plain(x, cost, gram, groups, largest, best);
}

// Packs some rows, a multiple of 8, of a matrix: `weights` is [rows][cols], `packed` where their first panel goes; `group`
// is the super-block.
EXPORT int lq_pack_k4(const float *weights, int rows, int cols, int group, uint8_t *packed) {
    if (rows < 8 || rows % 8 || !lq_is_group(LQ_K4, group) || cols < group || cols % group) return NO_SUCH_SHAPE;
    const int blocks = cols / group;
    const size_t block_bytes = (size_t)lq_block_bytes(LQ_K4, group);
    float same[GROUP * GROUPS];
    for (int i = 0; i < GROUP * GROUPS; i++) same[i] = 1;
    for (int row = 0; row < rows; row++)
        for (int n = 0; n < blocks; n++, weights += group) {
            fitted found = {.d = 0};
            if (!fit(weights, same, NULL, group / GROUP, LARGEST, &found)) return NOT_FINITE;
            uint8_t *out = packed + ((size_t)(row / 8) * blocks + n) * block_bytes;
            if (row % 8 == 0) memset(out, 0, block_bytes);
            for (int first = 0; first < group; first += LQ_SPAN, out += lq_span_bytes(LQ_K4)) {
                int16_t codes[LQ_SPAN];
                uint8_t scales[4], minima[4];
                for (int k = 0; k < LQ_SPAN; k++) codes[k] = (int16_t)found.codes[first + k];
                for (int g = 0; g < 4; g++) {
                    scales[g] = (uint8_t)found.scales[first / GROUP + g];
                    minima[g] = (uint8_t)found.minima[first / GROUP + g];
                }
                lq_put_span_codes(LQ_K4, codes, row % 8, out);
                lq_put_span_scales(LQ_K4, scales, minima, row % 8, out);
            }
            lq_put_half(out, row % 8, lq_float_to_half(found.d));
            lq_put_half(out + 16, row % 8, lq_float_to_half(found.dmin));
        }
    return PACKED;
}

static void put_bytes(uint8_t *out, float half) {
    const uint16_t bits = lq_float_to_half(half);
    out[0] = (uint8_t)bits, out[1] = (uint8_t)(bits >> 8);
}

// The bytes of ggml-quants.c.
static void put_q4_k(const fitted *f, uint8_t *out) {
    put_bytes(out, f->d), put_bytes(out + 2, f->dmin);
    memset(out + 4, 0, 12);
    for (int g = 0; g < 8; g++) {
        const int s = (int)f->scales[g], m = (int)f->minima[g];
        if (g < 4) {
            out[4 + g] |= (uint8_t)s, out[8 + g] |= (uint8_t)m;
        } else {
            out[8 + g] = (uint8_t)((s & 15) | (m & 15) << 4);
            out[g] |= (uint8_t)(s >> 4 << 6), out[4 + g] |= (uint8_t)(m >> 4 << 6);
        }
    }
    for (int i = 0; i < 128; i++) {
        const int low = i / 32 * 64 + i % 32;
        out[16 + i] = (uint8_t)((int)f->codes[low] | (int)f->codes[low + 32] << 4);
    }
}

static void put_q4_1(const fitted *f, uint8_t *out) {
    put_bytes(out, f->d * f->scales[0]), put_bytes(out + 2, -f->dmin * f->minima[0]);
    for (int i = 0; i < 16; i++) out[4 + i] = (uint8_t)((int)f->codes[i] | (int)f->codes[16 + i] << 4);
}

// Rows of weights [rows][cols] as blocks of a GGUF file, Q4_K or Q4_1, fitted to inputs: `gram` is [cols/n][n][n], for each n
// columns of a block the mean products of the inputs, with a diagonal above zero.
EXPORT int lq_quantise_gguf(const float *weights, const float *gram, int type, int rows, int cols, uint8_t *blocks) {
    const int groups = type == Q4_K ? 8 : 1, n = groups * GROUP, bytes = type == Q4_K ? 144 : 20;
    if ((type != Q4_K && type != Q4_1) || rows < 1 || cols < n || cols % n) return NO_SUCH_SHAPE;
    for (int row = 0; row < rows; row++)
        for (int place = 0; place < cols / n; place++, weights += n, blocks += bytes) {
            const float *products = gram + (size_t)place * n * n;
            float cost[WIDEST];
            for (int i = 0; i < n; i++) cost[i] = products[i * n + i];
            fitted found = {.d = 0};
            if (!fit(weights, cost, products, groups, type == Q4_K ? LARGEST : 1, &found)) return NOT_FINITE;
            if (type == Q4_K)
                put_q4_k(&found, blocks);
            else
                put_q4_1(&found, blocks);
        }
    return PACKED;
}
