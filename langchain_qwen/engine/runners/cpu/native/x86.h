// What an x86 processor and its system can run. The processor itself is asked: Zig's __builtin_cpu_supports always says
// no, and others do not know all of these names.
#pragma once
#if defined(__x86_64__)
#include <cpuid.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    LQ_ASKED = 1,
    LQ_AVX2 = 1 << 1,    // with FMA and F16C
    LQ_AVX512 = 1 << 2,  // F, BW, DQ and VL
    LQ_AVX512_VNNI = 1 << 3,
    LQ_AVX_VNNI = 1 << 4,
};

static inline unsigned lq_x86_ask(void) {
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, AVX = 1 << 28, F16C = 1 << 29 };
    enum { AVX2 = 1 << 5, AVX512F = 1 << 16, AVX512DQ = 1 << 17, AVX512BW = 1 << 30 };
    const unsigned avx512vl = 1u << 31, of_avx2 = FMA | OSXSAVE | AVX | F16C;
    unsigned a, b, c, d, low, high, found = LQ_ASKED;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & of_avx2) != of_avx2) return found;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));  // which registers the system keeps
    if ((low & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & AVX2)) return found;
    found |= LQ_AVX2;
    const unsigned of_avx512 = AVX512F | AVX512DQ | AVX512BW | avx512vl;
    if ((low & 0xe6) == 0xe6 && (b & of_avx512) == of_avx512) found |= LQ_AVX512 | (c & 1 << 11 ? LQ_AVX512_VNNI : 0);
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && a & 1 << 4) found |= LQ_AVX_VNNI;
    return found;
}

// Whether it can run all of these.
static inline bool lq_x86_has(unsigned wanted) {
    static _Atomic unsigned known;  // asking takes microseconds on a virtual machine
    unsigned found = atomic_load_explicit(&known, memory_order_relaxed);
    if (!found) atomic_store_explicit(&known, found = lq_x86_ask(), memory_order_relaxed);
    return (found & wanted) == wanted;
}
#endif
