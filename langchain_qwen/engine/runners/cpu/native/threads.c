#include "system.h"

#include <stdint.h>

#include "threads.h"

// Waiting goes from quick and wasteful to slow and free. Spinning bridges the gap between two steps of an answer, and
// yielding lets those run that are waited for; then a thread sleeps, so that an idle chat costs nothing, and so does
// waiting for a thread that others keep from its processor.
//
// Where other programs keep the processors busy, whoever yields is behind all of them and loses a slice of time, while
// who sleeps is ahead when it wakes. So after a yield that took long, waiting goes without any for a while.
enum { SPIN_IN_STEP = 4000, SPIN_BETWEEN_STEPS = 20000, YIELDS = 8, LONG_YIELD = 300, WAITS_WITHOUT = 1000 };

struct lq_threads {
    int count;
    int running;  // how many take part in this run
    long process;
    lq_thread *workers;
    lq_work work;
    void *context;
    // Counts calls of run in its upper bits; workers wait for it to change. The lower 16 bits say how many threads take
    // part. Together in one word, so that a worker that comes late cannot take the number of one run for another's.
    _Alignas(64) _Atomic uint64_t order;
    _Atomic bool stopping;
    _Atomic int sleeping;
    _Atomic int patience;  // spins in a step
    _Atomic int without;   // so many waits more without a yield
    lq_mutex mutex;
    lq_condition wake;
    _Alignas(64) _Atomic int arrived;  // the barrier
    _Alignas(64) _Atomic uint64_t phase;
    _Alignas(64) _Atomic int next_item;
};

typedef struct {
    lq_threads *threads;
    int number;
} worker_start;

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool yield_until_change(lq_threads *t, _Atomic uint64_t *word, uint64_t seen) {
    const int without = atomic_load_explicit(&t->without, memory_order_relaxed);
    if (without > 0) {
        atomic_store_explicit(&t->without, without - 1, memory_order_relaxed);
        return false;
    }
    for (int i = 0; i < YIELDS; i++) {
        const uint64_t before = lq_microseconds();
        lq_thread_yield();
        if (lq_microseconds() - before > LONG_YIELD) {
            atomic_store_explicit(&t->without, WAITS_WITHOUT, memory_order_relaxed);
            i = YIELDS;
        }
        if (atomic_load_explicit(word, memory_order_acquire) != seen) return true;
    }
    return false;
}

// Waits until *word is no longer `seen`. Returns whether spinning was enough.
static bool wait_for_change(lq_threads *t, _Atomic uint64_t *word, uint64_t seen, int spins) {
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen) return true;
        pause_briefly();
    }
    if (yield_until_change(t, word, seen)) return false;
    lq_mutex_lock(&t->mutex);
    atomic_fetch_add(&t->sleeping, 1);
    while (atomic_load(word) == seen) lq_condition_wait(&t->wake, &t->mutex);
    atomic_fetch_sub(&t->sleeping, 1);
    lq_mutex_unlock(&t->mutex);
    return false;
}

// An exchange, not a store: emulators of ARM on x86 let a load overtake a store, and the sleeper would not be seen.
static void change(lq_threads *t, _Atomic uint64_t *word, uint64_t value) {
    atomic_exchange(word, value);
    if (atomic_load(&t->sleeping)) {  // whoever counts itself later looks at the word again before it sleeps
        lq_mutex_lock(&t->mutex);
        lq_condition_wake_all(&t->wake);
        lq_mutex_unlock(&t->mutex);
    }
}

// Where waits outlast the spinning, since threads have no processor of their own, there is soon hardly any spinning. A
// single long wait (few heads over a long context) between short ones does not matter.
static void adapt_patience(lq_threads *t, bool enough) {
    const int now = atomic_load_explicit(&t->patience, memory_order_relaxed);
    int next = enough ? now + now / 8 + 8 : now / 2;
    if (next > SPIN_IN_STEP) next = SPIN_IN_STEP;
    if (next != now) atomic_store_explicit(&t->patience, next, memory_order_relaxed);
}

void lq_threads_barrier(lq_threads *t) {
    const uint64_t phase = atomic_load_explicit(&t->phase, memory_order_relaxed);
    const int others = t->running - 1;  // read before arriving: after that the next run may begin
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) == others) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&t->next_item, 0, memory_order_relaxed);
        change(t, &t->phase, phase + 1);
        return;
    }
    adapt_patience(t, wait_for_change(t, &t->phase, phase, atomic_load_explicit(&t->patience, memory_order_relaxed)));
}

int lq_threads_take(lq_threads *t) { return atomic_fetch_add_explicit(&t->next_item, 1, memory_order_relaxed); }

bool lq_threads_take_share(lq_threads *t, int count, int *first, int *last) {
    int taken = atomic_load_explicit(&t->next_item, memory_order_relaxed);
    do {
        if (taken >= count) return false;
        const int share = (count - taken) / (2 * t->running);
        *last = taken + (share > 1 ? share : 1);
    } while (!atomic_compare_exchange_weak_explicit(&t->next_item, &taken, *last, memory_order_relaxed, memory_order_relaxed));
    *first = taken;
    return true;
}

LQ_THREAD_MAIN(worker_main, argument) {
    worker_start start = *(worker_start *)argument;
    free(argument);
    lq_threads *t = start.threads;
    uint64_t seen = 0;
    for (;;) {
        wait_for_change(t, &t->order, seen, SPIN_BETWEEN_STEPS);
        seen = atomic_load(&t->order);
        if (atomic_load(&t->stopping)) LQ_THREAD_END;
        if (start.number >= (int)(seen & 0xffff)) continue;
        t->work(t->context, t, start.number);
        lq_threads_barrier(t);
    }
}

static void announce(lq_threads *t, int running) {
    const uint64_t runs = atomic_load_explicit(&t->order, memory_order_relaxed) >> 16;
    change(t, &t->order, (runs + 1) << 16 | (uint64_t)running);
}

// Threads beyond the processors that this process may use now only keep others from theirs.
static int useful(int count) {
#if !defined(LQ_ALL_THREADS)
    const int usable = lq_usable_processors();
    if (usable && usable < count) return usable;
#endif
    return count;
}

void lq_threads_run(lq_threads *t, lq_work work, void *context) {
    t->work = work;
    t->context = context;
    t->running = useful(t->count);
    if (t->running > 1) announce(t, t->running);
    work(context, t, 0);
    lq_threads_barrier(t);
}

lq_threads *lq_threads_start(int count) {
    if (count < 1 || count > 0xffff) return NULL;
    lq_threads *t = lq_aligned(64, sizeof *t);
    if (!t) return NULL;
    *t = (lq_threads){.count = 1, .process = lq_process(), .patience = SPIN_IN_STEP};
    lq_mutex_init(&t->mutex);
    lq_condition_init(&t->wake);
    t->workers = calloc((size_t)count, sizeof *t->workers);
    while (t->workers && t->count < count) {
        worker_start *start = malloc(sizeof *start);
        if (!start) break;
        *start = (worker_start){t, t->count};
        if (!lq_thread_start(&t->workers[t->count], worker_main, start)) {
            free(start);
            break;
        }
        t->count++;
    }
    if (t->count == count) return t;
    lq_threads_stop(t);
    return NULL;
}

void lq_threads_stop(lq_threads *t) {
    if (!t) return;
    if (t->process == lq_process()) {  // a forked child has this memory and none of the threads
        atomic_store(&t->stopping, true);
        announce(t, 0);
        for (int i = 1; i < t->count; i++) lq_thread_join(t->workers[i]);
        lq_mutex_destroy(&t->mutex);
        lq_condition_destroy(&t->wake);
    }
    free(t->workers);
    lq_aligned_free(t);
}
