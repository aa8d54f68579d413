// libFuzzer: any shape, any bits as weights, and any as the products of inputs that they are fitted to. The packers of 4-bit
// codes refuse, or write within what the form takes and leave no scale that is not finite.
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum { Q4_1 = 3, Q4_K = 12 };

static float *floats(const uint8_t *data, size_t size, size_t count) {
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count * sizeof *values; i++) ((uint8_t *)values)[i] = data[i % size];
    return values;
}

static void check_halves(const uint8_t *block, uint64_t bytes, int halves, int blocks) {
    for (; blocks; blocks--, block += bytes)
        for (int i = 0; i < halves; i++) {
            uint16_t half;
            memcpy(&half, block + 2 * i, 2);
            if ((half & 0x7c00) == 0x7c00) abort();
        }
}

static void fit(const uint8_t *data, size_t size, int type, int rows, int cols) {
    const int width = type == Q4_K ? 256 : 32, bytes = type == Q4_K ? 144 : 20, fits = cols % width == 0;
    const size_t places = fits ? (size_t)(cols / width) : 1, count = (size_t)rows * places;
    float *weights = floats(data, size, count * (size_t)width);
    float *gram = floats(data + size / 2, size - size / 2, places * (size_t)width * (size_t)width);
    uint8_t *blocks = malloc(count * (size_t)bytes);
    const int result = lq_quantise_gguf(weights, gram, type, rows, cols, blocks);
    if (fits == (result == 2)) abort();
    if (!result) check_halves(blocks, (uint64_t)bytes, 2, (int)count);
    free(blocks), free(gram), free(weights);
}

static void pack(const uint8_t *data, size_t size, int rows, int group, int cols) {
    const int fits = rows % 8 == 0 && cols % group == 0;
    const uint64_t bytes = fits ? lq_packed_bytes(LQ_K4, group, rows, cols) : 1;
    float *weights = floats(data, size, (size_t)rows * (size_t)cols);
    uint8_t *packed = malloc(bytes);
    const int result = lq_pack_k4(weights, rows, cols, group, packed);
    if (fits == (result == 2)) abort();
    const int blocks = rows / 8 * (cols / group);
    const uint64_t each = fits ? bytes / (uint64_t)blocks : 0;
    if (!result) check_halves(packed + each - 32, each, 16, blocks);  // scales stand behind the codes
    free(packed), free(weights);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 12) return 0;
    const int rows = 1 + data[0] % 2, blocks = 1 + data[1] % 2, odd = data[2] > 240 ? 32 : 0;
    fit(data + 4, size - 4, Q4_K, rows, 256 * blocks + odd);
    fit(data + 4, size - 4, Q4_1, rows, 32 * blocks + odd / 2);
    const int group = data[3] & 1 ? 256 : 128;
    pack(data + 4, size - 4, data[2] > 240 ? 7 : 8, group, group * blocks + (data[3] > 240 ? 32 : 0));
    return 0;
}
