// From the blocks of a GGUF file to the forms of model.h, code for code. The blocks are those of ggml-quants.c.
#include <string.h>

#include "forms.h"
#include "half.h"
#include "pack.h"

// llama.cpp's numbers of the types of tensors.
enum { Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q4_K = 12, Q5_K = 13, Q6_K = 14, IQ4_NL = 20 };

static const int8_t iq4_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static uint16_t half_at(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static int is_finite(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

// What a block says: codes from 0 (or signed ones, for 8 bits), scales and what is taken away, as the form has them.
typedef struct {
    int16_t codes[256];
    uint8_t scales[16], minima[8];  // K formats: integers
    uint16_t scale, offset;         // fp16: super-scale and super-minimum, or scale and offset of a group
} block;

static void nibbles(const uint8_t *bytes, int16_t *codes) {  // 32 codes: all low halves, then all high ones
    for (int i = 0; i < 16; i++) codes[i] = bytes[i] & 15, codes[16 + i] = bytes[i] >> 4;
}

static void fifth_bits(const uint8_t *bytes, int16_t *codes) {
    for (int i = 0; i < 32; i++) codes[i] = (int16_t)(codes[i] | (bytes[i / 8] >> i % 8 & 1) << 4);
}

static void six_bits(const uint8_t *bytes, block *b) {
    for (int g = 0; g < 8; g++) {
        const int f = g % 4;
        b->scales[g] = g < 4 ? bytes[f] & 63 : (bytes[8 + f] & 15) | (bytes[f] >> 6) << 4;
        b->minima[g] = g < 4 ? bytes[4 + f] & 63 : bytes[8 + f] >> 4 | (bytes[4 + f] >> 6) << 4;
    }
}

static void read_k(int type, const uint8_t *in, block *b) {
    if (type == Q6_K) {
        for (int i = 0; i < 256; i++) {
            const int half = i / 128, quarter = i % 128 / 32, at = i % 32;
            const uint8_t low = in[half * 64 + quarter % 2 * 32 + at], high = in[128 + half * 32 + at];
            b->codes[i] = (int16_t)((quarter < 2 ? low & 15 : low >> 4) | (high >> quarter * 2 & 3) << 4);
        }
        memcpy(b->scales, in + 192, 16);
        b->scale = half_at(in + 208), b->offset = 0;
        return;
    }
    b->scale = half_at(in), b->offset = half_at(in + 2);
    six_bits(in + 4, b);
    const uint8_t *low = in + (type == Q5_K ? 48 : 16), *high = in + 16;
    for (int i = 0; i < 256; i++) {
        const int group = i / 32, at = i % 32;
        const uint8_t pair = low[group / 2 * 32 + at];
        b->codes[i] = group % 2 ? pair >> 4 : pair & 15;
        if (type == Q5_K) b->codes[i] = (int16_t)(b->codes[i] | (high[at] >> group & 1) << 4);
    }
}

static uint16_t negative(uint16_t half) { return half ^ 0x8000; }

static void read_group(int type, const uint8_t *in, block *b) {
    b->scale = half_at(in), b->offset = 0;
    if (type == Q4_0) {
        nibbles(in + 2, b->codes);
        b->offset = lq_float_to_half(8 * lq_half_to_float(b->scale));
    } else if (type == Q4_1) {
        nibbles(in + 4, b->codes);
        b->offset = negative(half_at(in + 2));
    } else if (type == Q5_0) {
        nibbles(in + 6, b->codes);
        fifth_bits(in + 2, b->codes);
        for (int i = 0; i < 32; i++) b->codes[i] = (int16_t)(b->codes[i] - 16);
    } else if (type == Q5_1) {
        nibbles(in + 8, b->codes);
        fifth_bits(in + 4, b->codes);
        b->offset = negative(half_at(in + 2));
    } else if (type == Q8_0) {
        for (int i = 0; i < 32; i++) b->codes[i] = (int8_t)in[2 + i];
    } else {
        nibbles(in + 2, b->codes);
        for (int i = 0; i < 32; i++) b->codes[i] = iq4_nl[b->codes[i]];
    }
}

// A row's share of a super-block.
static void put_k(int format, const block *b, int row, uint8_t *out) {
    for (int first = 0; first < 256; first += LQ_SPAN, out += lq_span_bytes(format)) {
        const int16_t *codes = b->codes + first;
        lq_put_span_codes(format, codes, row, out);
        if (format == LQ_K6)
            lq_put_span_scales_k6(b->scales + first / 16, row, out);
        else
            lq_put_span_scales(format, b->scales + first / 32, b->minima + first / 32, row, out);
    }
    lq_put_half(out, row, b->scale);
    if (format != LQ_K6) lq_put_half(out + 16, row, b->offset);
}

static int block_bytes(int type) {
    switch (type) {
        case Q4_0: case IQ4_NL: return 18;
        case Q4_1: return 20;
        case Q5_0: return 22;
        case Q5_1: return 24;
        case Q8_0: return 34;
        case Q4_K: return 144;
        case Q5_K: return 176;
        case Q6_K: return 210;
        default: return 0;
    }
}

static int format_of(int type) {
    switch (type) {
        case Q4_K: return LQ_K4;
        case Q5_K: return LQ_K5;
        case Q6_K: return LQ_K6;
        case Q4_0: case Q4_1: return LQ_INT4;
        default: return LQ_INT8;
    }
}

// `blocks` are whole rows; `packed` gets rows x cols in the form of the type, in groups of 256 columns for the K formats
// and else of 32.
EXPORT int lq_repack_gguf(const uint8_t *blocks, int type, int rows, int cols, uint8_t *packed) {
    const int bytes = block_bytes(type), format = format_of(type), group = lq_is_k(format) ? 256 : 32;
    if (!bytes || rows < 8 || rows % 8 || cols < group || cols % group) return NO_SUCH_SHAPE;
    const int groups = cols / group;
    const size_t panel_bytes = (size_t)lq_block_bytes(format, group);
    for (int row = 0; row < rows; row++)
        for (int g = 0; g < groups; g++, blocks += bytes) {
            block b;
            uint8_t *out = packed + ((size_t)(row / 8) * groups + g) * panel_bytes;
            if (lq_is_k(format)) {
                if (row % 8 == 0) memset(out, 0, panel_bytes);
                read_k(type, blocks, &b);
                put_k(format, &b, row % 8, out);
            } else {
                read_group(type, blocks, &b);
                if (format == LQ_INT4)
                    lq_put_codes_int4(b.codes, 32, row % 8, out);
                else
                    lq_put_codes_int8(b.codes, 32, row % 8, out);
                lq_put_half(out + panel_bytes - 32, row % 8, b.scale);
                lq_put_half(out + panel_bytes - 16, row % 8, b.offset);
            }
            if (!is_finite(b.scale) || !is_finite(b.offset)) return NOT_FINITE;
        }
    return PACKED;
}
