// A checksum of what is kept on a disk, at the speed of memory.
#include <stddef.h>
#include <string.h>

#include "pack.h"

enum { LANES = 8, WORD = 8 };

// Two different words stay different whatever follows, since each of the three steps can be undone.
static uint64_t mix(uint64_t sum, uint64_t word) {
    sum ^= word;
    return (sum << 31 | sum >> 33) * 0x9E3779B97F4A7C15u;  // an odd number: 2^64 divided by the golden ratio
}

static uint64_t word_at(const uint8_t *data, size_t bytes) {
    uint64_t word = 0;
    memcpy(&word, data, bytes);
    return word;
}

// Words go to lanes in turn, so that no product waits for the one before.
EXPORT uint64_t lq_checksum(const uint8_t *data, uint64_t size) {
    uint64_t lanes[LANES] = {0}, sum = size;
    const size_t whole = size / (LANES * WORD) * (LANES * WORD);
    for (size_t at = 0; at < whole; at += LANES * WORD)
        for (int lane = 0; lane < LANES; lane++) lanes[lane] = mix(lanes[lane], word_at(data + at + lane * WORD, WORD));
    for (int lane = 0; lane < LANES; lane++) sum = mix(sum, lanes[lane]);
    for (size_t at = whole; at < size; at += WORD) sum = mix(sum, word_at(data + at, size - at < WORD ? size - at : WORD));
    return sum;
}
