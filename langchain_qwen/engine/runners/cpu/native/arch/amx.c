// Built for x86_64 with -mavx2 -mfma -mf16c -mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx512vnni -mamx-tile -mamx-int8
// Intel servers since 2023: AMX for the 4- to 6-bit products of prompts, AVX-512 for everything else.
#include "avx512.h"

#include <stdbool.h>
#ifdef LQ_AMX_EMULATED
#include "amx_emulation.h"
#endif

enum { ROWS_OF_TILE = 16, TILES_AT_ONCE = 4, FEWEST_TOKENS = 16 };
enum { WEIGHTS = 4, CODES = 5 };  // which registers hold what: 0 to 3 sums, 4 weights, 5 to 7 codes of tokens

// Both store_acts and multiply ask this, of the same matrix and number of tokens.
static bool suits(const lq_matrix *w, int tokens) {
    return (w->format == LQ_INT4 || lq_is_k(w->format)) && tokens >= FEWEST_TOKENS;
}

// What tiles are loaded from has to be written before: GCC's intrinsics do not tell it that they read memory.
INLINE void written(const void *what) { __asm__ volatile("" : : "r"(what) : "memory"); }

#include "amx_k.h"

// For AMX: codes [token][cols], scale and sum [token][groups], of K formats scale and sums16 of a token likewise.
static void store_rows(const lq_matrix *w, lq_acts *acts, const float *x, int m, int tokens, int begin, int end) {
    if (!suits(w, tokens)) {
        store_acts(w, acts, x, m, tokens, begin, end);
        return;
    }
    // As if it were a step of this token alone: a tile of one is a row.
    const int groups = w->cols / (lq_is_k(w->format) ? LQ_SPAN : w->group);
    lq_acts row = {.codes = acts->codes + (size_t)m * w->cols, .scale = acts->scale + (size_t)m * groups};
    if (lq_is_k(w->format))
        row.sums16 = acts->sums16 + (size_t)m * (w->cols / lq_sum_columns(w->format));
    else
        row.sum = acts->sum + (size_t)m * groups;
    store_acts(w, &row, x, 0, 1, begin, end);
}

typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

// Sums are 16 by 16; `columns` of the weights are multiplied at a time, and `tokens` of them are there.
static void configure(int columns, int tokens) {
    tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.rows[i] = (uint8_t)(i == WEIGHTS ? columns / 4 : tokens);
        c.row_bytes[i] = (uint16_t)(i >= CODES ? columns : 64);
    }
    written(&c);
    _tile_loadconfig(&c);
}

// The codes of 64 columns (or 32) of two panels, as bytes: row k holds columns 4k .. 4k + 3 of the sixteen rows of weights.
INLINE void unpack(const uint8_t *a, const uint8_t *b, int columns, uint8_t *to) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int j = 0; j < columns / 8; j++, to += 128) {
        const __m512i pairs = two(a + j * 32, b + j * 32);
        if (j % 2 == 0) prefetch(a + j * 32), prefetch(b + j * 32);
        _mm512_store_si512(to, _mm512_and_si512(pairs, low));
        _mm512_store_si512(to + 64, _mm512_and_si512(_mm512_srli_epi16(pairs, 4), low));
    }
}

// Adds a group's scaled sums to those of `rows` tokens.
INLINE void add_tile(const int32_t *sums, int rows, const float *xs, const float *xz, int groups, __m512 scale,
                     __m512 scale_zero, float *acc) {
    for (int m = 0; m < rows; m++) {
        __m512 y = _mm512_load_ps(acc + m * 16);
        const __m512 x = _mm512_cvtepi32_ps(_mm512_load_si512(sums + m * 16));
        y = _mm512_fmadd_ps(_mm512_mul_ps(x, _mm512_set1_ps(xs[m * groups])), scale, y);
        _mm512_store_ps(acc + m * 16, _mm512_fnmadd_ps(_mm512_set1_ps(xz[m * groups]), scale_zero, y));
    }
}

// The panels at `a` and `b` times `tiles` tiles of tokens, `rows` in each: every unpacked piece serves all of them.
static void multiply_tiles(const lq_matrix *w, const lq_acts *acts, const uint8_t *a, const uint8_t *b, int columns, int first,
                           int tiles, int rows, float *acc) {
    const int group = w->group, groups = w->cols / group;
    _Alignas(64) uint8_t codes[1024];
    _Alignas(64) int32_t sums[TILES_AT_ONCE][256];
    memset(acc, 0, sizeof(float) * TILES_AT_ONCE * 256);
    const int8_t *x = acts->codes + (size_t)first * w->cols;
    const size_t next_tile = (size_t)ROWS_OF_TILE * w->cols, stride = (size_t)w->cols;
    for (int g = 0; g < groups; g++) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int k = 0; k < group; k += columns, a += columns * 4, b += columns * 4, x += columns) {
            unpack(a, b, columns, codes);
            written(codes);
            _tile_loadd(4, codes, 64);
            _tile_loadd(5, x, stride);
            _tile_dpbsud(0, 5, 4);
            if (tiles > 1) {
                _tile_loadd(6, x + next_tile, stride);
                _tile_dpbsud(1, 6, 4);
            }
            if (tiles > 2) {
                _tile_loadd(7, x + 2 * next_tile, stride);
                _tile_dpbsud(2, 7, 4);
            }
            if (tiles > 3) {
                _tile_loadd(5, x + 3 * next_tile, stride);
                _tile_dpbsud(3, 5, 4);
            }
        }
        _tile_stored(0, sums[0], 64);
        if (tiles > 1) _tile_stored(1, sums[1], 64);
        if (tiles > 2) _tile_stored(2, sums[2], 64);
        if (tiles > 3) _tile_stored(3, sums[3], 64);
        const __m512 scale = half16(a, b), scale_zero = half16(a + 16, b + 16);
        a += 32, b += 32;
        for (int t = 0; t < tiles; t++) {
            const size_t place = (size_t)(first + t * ROWS_OF_TILE) * (size_t)groups + (size_t)g;
            add_tile(sums[t], rows, acts->scale + place, acts->sum + place, groups, scale, scale_zero, acc + t * 256);
        }
    }
}

static void multiply_amx(const lq_matrix *w, const lq_acts *acts, int tokens, int first, int last, float *out) {
    if (!suits(w, tokens)) {
        multiply(w, acts, tokens, first, last, out);
        return;
    }
    const int columns = w->group % 64 ? 32 : 64, whole = tokens / ROWS_OF_TILE * ROWS_OF_TILE;
    const int at_once = lq_is_k(w->format) ? TILES_AT_ONCE_K : TILES_AT_ONCE;
    const size_t panel_bytes = lq_panel_bytes(w);
    _Alignas(64) float acc[TILES_AT_ONCE_K * 256];
    for (int rest = 0; rest < 2; rest++) {  // whole tiles of tokens, then those that are left
        const int begin = rest ? whole : 0, end = rest ? tokens : whole, rows = rest ? tokens - whole : ROWS_OF_TILE;
        if (begin == end) continue;
        configure(columns, rows);
        for (int panel = first; panel < last; panel += 2) {
            const int alone = panel + 1 == last;  // then the second of the pair is the first again, and goes nowhere
            const uint8_t *a = w->data + (size_t)panel * panel_bytes, *b = alone ? a : a + panel_bytes;
            const __mmask16 there = alone ? 0xff : 0xffff;
            const __m512 bias = w->bias ? _mm512_maskz_loadu_ps(there, w->bias + panel * 8) : _mm512_setzero_ps();
            for (int m = begin; m < end; m += at_once * ROWS_OF_TILE) {
                const int left = (end - m + ROWS_OF_TILE - 1) / ROWS_OF_TILE, tiles = left < at_once ? left : at_once;
                const int count = tiles * ROWS_OF_TILE < end - m ? tiles * ROWS_OF_TILE : end - m;
                switch (w->format) {
                    case LQ_K4: multiply_tiles_k(LQ_K4, w, acts, a, b, m, tiles, rows, acc); break;
                    case LQ_K5: multiply_tiles_k(LQ_K5, w, acts, a, b, m, tiles, rows, acc); break;
                    case LQ_K6: multiply_tiles_k(LQ_K6, w, acts, a, b, m, tiles, rows, acc); break;
                    default: multiply_tiles(w, acts, a, b, columns, m, tiles, rows, acc);
                }
                for (int i = 0; i < count; i++)
                    _mm512_mask_storeu_ps(out + (size_t)(m + i) * w->stride + panel * 8, there,
                                          _mm512_add_ps(_mm512_load_ps(acc + i * 16), bias));
            }
        }
        _tile_release();
    }
}

LQ_TABLE(lq_kernels_amx, "amx", store_rows, multiply_amx)
