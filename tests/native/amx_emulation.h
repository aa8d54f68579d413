// What the instructions of AMX do, in plain C, for the tests of a processor without them. From the operation sections of
// Intel's instruction set reference (LDTILECFG, TILELOADD, TDPBSSD, TDPBSUD, TILESTORED, TILEZERO, TILERELEASE).
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#undef _tile_loadconfig
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_zero
#undef _tile_release
#define _tile_loadconfig emulated_loadconfig
#define _tile_loadd emulated_loadd
#define _tile_stored emulated_stored
#define _tile_dpbssd emulated_dpbssd
#define _tile_dpbsud emulated_dpbsud
#define _tile_zero emulated_zero
#define _tile_release emulated_release

static __thread struct {
    int configured, rows[8], row_bytes[8];
    uint8_t tile[8][16][64];
} emulated;

// Faults where the processor does: unknown palettes, reserved bytes, tiles that are too large.
static void emulated_loadconfig(const void *config) {
    const uint8_t *c = config;
    if (c[0] != 1 || c[1]) abort();
    for (int i = 2; i < 16; i++)
        if (c[i]) abort();
    for (int t = 0; t < 16; t++) {
        uint16_t row_bytes;
        memcpy(&row_bytes, c + 16 + 2 * t, 2);
        if (t >= 8 ? row_bytes || c[48 + t] : row_bytes > 64 || c[48 + t] > 16) abort();
        if (t < 8) emulated.row_bytes[t] = row_bytes, emulated.rows[t] = c[48 + t];
    }
    memset(emulated.tile, 0, sizeof emulated.tile);
    emulated.configured = 1;
}

static void emulated_use(int t) {
    if (!emulated.configured || !emulated.rows[t] || !emulated.row_bytes[t]) abort();
}

static void emulated_loadd(int t, const void *base, size_t stride) {
    emulated_use(t);
    memset(emulated.tile[t], 0, sizeof emulated.tile[t]);
    for (int r = 0; r < emulated.rows[t]; r++)
        memcpy(emulated.tile[t][r], (const uint8_t *)base + (size_t)r * stride, (size_t)emulated.row_bytes[t]);
}

static void emulated_stored(int t, void *base, size_t stride) {
    emulated_use(t);
    for (int r = 0; r < emulated.rows[t]; r++)
        memcpy((uint8_t *)base + (size_t)r * stride, emulated.tile[t][r], (size_t)emulated.row_bytes[t]);
}

static void emulated_zero(int t) {
    emulated_use(t);
    memset(emulated.tile[t], 0, sizeof emulated.tile[t]);
}

// sums += signed bytes of `a` times bytes of `b`, whose row k holds four columns for each of its words.
static void emulated_multiply(int sums, int a, int b, int with_sign) {
    emulated_use(sums), emulated_use(a), emulated_use(b);
    // What the processor faults at: shapes that do not fit, and one register in two places.
    if (sums == a || sums == b || a == b || emulated.rows[sums] != emulated.rows[a] || emulated.row_bytes[a] % 4 ||
        emulated.row_bytes[a] / 4 != emulated.rows[b] || emulated.row_bytes[sums] != emulated.row_bytes[b])
        abort();
    for (int m = 0; m < emulated.rows[sums]; m++)
        for (int n = 0; n < emulated.row_bytes[sums] / 4; n++) {
            int32_t sum;
            memcpy(&sum, emulated.tile[sums][m] + 4 * n, 4);
            for (int k = 0; k < emulated.row_bytes[a]; k++) {
                const uint8_t other = emulated.tile[b][k / 4][4 * n + k % 4];
                sum += (int8_t)emulated.tile[a][m][k] * (with_sign ? (int8_t)other : other);
            }
            memcpy(emulated.tile[sums][m] + 4 * n, &sum, 4);
        }
}

static void emulated_dpbssd(int sums, int a, int b) { emulated_multiply(sums, a, b, 1); }
static void emulated_dpbsud(int sums, int a, int b) { emulated_multiply(sums, a, b, 0); }

static void emulated_release(void) { emulated.configured = 0; }
