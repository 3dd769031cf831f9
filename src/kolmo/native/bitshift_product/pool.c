/* See pool.h. */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "bitshift_product/pool.h"

#if (defined(__GNUC__) || defined(__clang__)) && !defined(_WIN32)
#include <pthread.h>
#include <sched.h>
#include <string.h>

enum { POOL_THREADS = 63, POOL_SPINS = 4000 };

static struct {
    pthread_mutex_t owner; /* held by the caller that has the pool */
    pthread_mutex_t lock;  /* guards what follows, down to `open` */
    pthread_cond_t begun;
    int started, wanted; /* threads that exist, and those of them that the work is for */
    unsigned turn;       /* number of the work */
    int open;            /* whether it may be joined */
    kolmo_share share;
    void *work;
    size_t parts;
    size_t next; /* atomic: the first part that nobody has taken */
    int active;  /* atomic: threads that have joined */
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .begun = PTHREAD_COND_INITIALIZER};

static void pool_pause(unsigned spins) {
    if (spins % 64 == 63) sched_yield();
#if defined(__x86_64__) || defined(__i386__)
    else __builtin_ia32_pause();
#endif
}

static void pool_take(kolmo_share share, void *work, size_t parts) {
    for (size_t part; (part = __atomic_fetch_add(&pool.next, 1, __ATOMIC_RELAXED)) < parts;) share(work, part);
}

static void *pool_serve(void *argument) {
    const int number = (int)(size_t)argument;
    unsigned seen = 0;
    for (;;) {
        for (unsigned spins = 0; spins < POOL_SPINS && __atomic_load_n(&pool.turn, __ATOMIC_RELAXED) == seen; spins++)
            pool_pause(spins);
        pthread_mutex_lock(&pool.lock);
        while (pool.turn == seen) pthread_cond_wait(&pool.begun, &pool.lock);
        seen = pool.turn;
        const int joins = pool.open && number <= pool.wanted;
        const kolmo_share share = pool.share;
        void *work = pool.work;
        const size_t parts = pool.parts;
        if (joins) __atomic_add_fetch(&pool.active, 1, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&pool.lock);
        if (!joins) continue;
        pool_take(share, work, parts);
        __atomic_sub_fetch(&pool.active, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* A child process has no threads of its parent. */
static void pool_forget(void) {
    pthread_mutex_init(&pool.owner, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.begun, NULL);
    pool.started = pool.open = pool.active = 0;
}

static void pool_start(int wanted) {
    static int registered;
    if (!registered) registered = !pthread_atfork(NULL, NULL, pool_forget);
    pthread_attr_t attributes;
    if (!registered || pthread_attr_init(&attributes)) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    while (pool.started < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, pool_serve, (void *)(size_t)(pool.started + 1))) break;
        pool.started++;
    }
    pthread_attr_destroy(&attributes);
}

void kolmo_pool_run(size_t parts, int threads, kolmo_share share, void *work) {
    int others = threads - 1 < POOL_THREADS ? threads - 1 : POOL_THREADS;
    if (parts > 0 && (size_t)others > parts - 1) others = (int)(parts - 1);
    if (others < 1 || pthread_mutex_trylock(&pool.owner)) {
        for (size_t part = 0; part < parts; part++) share(work, part);
        return;
    }
    if (pool.started < others) pool_start(others);
    pthread_mutex_lock(&pool.lock);
    pool.share = share;
    pool.work = work;
    pool.parts = parts;
    pool.wanted = others;
    pool.open = 1;
    __atomic_store_n(&pool.next, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&pool.turn, pool.turn + 1, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&pool.begun);
    pthread_mutex_unlock(&pool.lock);
    pool_take(share, work, parts);
    pthread_mutex_lock(&pool.lock);
    pool.open = 0;
    pthread_mutex_unlock(&pool.lock);
    for (unsigned spins = 0; __atomic_load_n(&pool.active, __ATOMIC_ACQUIRE); spins++) pool_pause(spins);
    pthread_mutex_unlock(&pool.owner);
}
#else
void kolmo_pool_run(size_t parts, int threads, kolmo_share share, void *work) {
    (void)threads;
    for (size_t part = 0; part < parts; part++) share(work, part);
}
#endif
