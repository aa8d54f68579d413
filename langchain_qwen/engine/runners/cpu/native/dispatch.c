// Which table of kernels a processor runs. The build defines LQ_WITH_... for each file of arch/ that it compiled.
#define _GNU_SOURCE  // syscall
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "kernels.h"
#include "x86.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static bool has_avx2(void) { return lq_x86_has(LQ_AVX2); }
static bool has_avx512_vnni(void) { return lq_x86_has(LQ_AVX2 | LQ_AVX512 | LQ_AVX512_VNNI); }
static bool has_avx_vnni(void) { return lq_x86_has(LQ_AVX2 | LQ_AVX_VNNI); }

// Linux hands out the registers of AMX only to processes that ask for them.
static bool has_amx(void) {
#if defined(LQ_AMX_EMULATED)
    return has_avx512_vnni();
#elif defined(__linux__)
    enum { ASK = 0x1023, TILES = 18 };  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
    unsigned a, b, c, d;
    return has_avx512_vnni() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & 1 << 24 && d & 1 << 25 &&
           !syscall(SYS_arch_prctl, ASK, TILES);
#else
    return false;
#endif
}
#endif

#if defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>

static bool has_dot_product(void) { return getauxval(AT_HWCAP) & 1 << 20; }  // HWCAP_ASIMDDP
static bool has_i8mm(void) { return has_dot_product() && getauxval(AT_HWCAP2) & 1 << 13; }
#elif defined(__APPLE__)
#include <sys/sysctl.h>

static bool has(const char *feature) {
    int value = 0;
    size_t size = sizeof value;
    return !sysctlbyname(feature, &value, &size, NULL, 0) && value;
}
static bool has_dot_product(void) { return has("hw.optional.arm.FEAT_DotProd"); }
static bool has_i8mm(void) { return has_dot_product() && has("hw.optional.arm.FEAT_I8MM"); }
#else
static bool has_dot_product(void) { return false; }
static bool has_i8mm(void) { return false; }
#endif
#endif

static bool always(void) { return true; }

typedef struct {
    const lq_kernels *kernels;
    bool (*runs)(void);  // whether this processor, and its system, can
    bool seen;           // whether its authors had a machine to run it on
} table;

// The best first.
static const table tables[] = {
#ifdef LQ_WITH_AMX
    {&lq_kernels_amx, has_amx, false},
#endif
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
#ifdef LQ_WITH_I8MM
    {&lq_kernels_i8mm, has_i8mm, true},
#endif
#ifdef LQ_WITH_NEON
    {&lq_kernels_neon, has_dot_product, true},
#endif
    {&lq_kernels_portable, always, true},
};
enum { TABLES = sizeof tables / sizeof *tables };

// Whether a table that runs here can be trusted: its authors saw it run, or it computes what one of those does.
static bool is_proven(int index) {
    if (tables[index].seen) return true;
    static _Atomic int known[TABLES];  // 1 for no, 2 for yes
    int found = atomic_load_explicit(&known[index], memory_order_relaxed);
    if (!found) {
        int other = index;
        while (!(tables[other].seen && tables[other].runs())) other++;
        found = 1 + lq_agree(tables[index].kernels, tables[other].kernels);
        atomic_store_explicit(&known[index], found, memory_order_relaxed);
    }
    return found == 2;
}

EXPORT const lq_kernels *lq_kernels_named(const char *name) {
    for (int i = 0; i < TABLES; i++)
        if ((!name || !strcmp(name, tables[i].kernels->name)) && tables[i].runs() && (name || is_proven(i)))
            return tables[i].kernels;
    return NULL;
}

EXPORT const char *lq_kernels_list(int index, int *runs, int *proven) {
    if (index < 0 || index >= TABLES) return NULL;
    *runs = tables[index].runs();
    *proven = *runs && is_proven(index);
    return tables[index].kernels->name;
}
