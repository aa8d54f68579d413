// Which table of kernels a processor runs. The build defines LQ_WITH_... for each file of arch/ that it compiled.
#include <stdbool.h>
#include <string.h>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

static bool has_avx2(void) {
    unsigned a, b, c, d;  // not all compilers know F16C as a feature to ask for by name
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}

static bool has_avx512_vnni(void) {
    return has_avx2() && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}

static bool has_avx_vnni(void) {
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & 1 << 4;
}
#endif

static bool always(void) { return true; }

typedef struct {
    const lq_kernels *kernels;
    bool (*runs)(void);  // whether this processor, and its system, can
    bool proven;         // whether its authors had a machine to run it on; if not, it is used only where it is asked for
} table;

// The best first.
static const table tables[] = {
#ifdef LQ_WITH_AVX512
    {&lq_kernels_avx512, has_avx512_vnni, true},
#endif
#ifdef LQ_WITH_VNNI
    {&lq_kernels_vnni, has_avx512_vnni, true},
#endif
#ifdef LQ_WITH_AVXVNNI
    {&lq_kernels_avxvnni, has_avx_vnni, false},
#endif
#ifdef LQ_WITH_AVX2
    {&lq_kernels_avx2, has_avx2, true},
#endif
    {&lq_kernels_portable, always, true},
};
enum { TABLES = sizeof tables / sizeof *tables };

#define EXPORT __attribute__((visibility("default")))

EXPORT const lq_kernels *lq_kernels_named(const char *name) {
    for (int i = 0; i < TABLES; i++)
        if (name ? !strcmp(name, tables[i].kernels->name) && tables[i].runs() : tables[i].proven && tables[i].runs())
            return tables[i].kernels;
    return NULL;
}

EXPORT const char *lq_kernels_list(int index, int *runs, int *proven) {
    if (index < 0 || index >= TABLES) return NULL;
    *runs = tables[index].runs();
    *proven = tables[index].proven;
    return tables[index].kernels->name;
}
