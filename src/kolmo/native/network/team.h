/* A team of threads that compute the parts of one task thousands of times a second. That is too often to wake threads
 * through the system, so they spin for a short time and then yield. Where threads or atomics are not available, the
 * caller computes all parts. Results must not depend on which thread computes a part. */
#ifndef KOLMO_TEAM_H
#define KOLMO_TEAM_H

#include <stddef.h>
#include <string.h>
#include <time.h>

#if (defined(__GNUC__) || defined(__clang__)) && !defined(_WIN32)
#define KOLMO_THREADS 1
#include <pthread.h>
#include <sched.h>
#endif

enum { KOLMO_TEAM = 16, KOLMO_SPINS = 500, KOLMO_LATE = 200000 /* nanoseconds */ };

typedef struct kolmo_team kolmo_team;
typedef void (*kolmo_part)(void *work, int part, int parts);

struct kolmo_team {
    kolmo_part part;
    void *work;
    int parts;
#if defined(KOLMO_THREADS)
    struct kolmo_member {
        kolmo_team *team;
        int number;
        pthread_t thread;
        unsigned done;
        char apart[64]; /* so that no two members' counters share a cache line */
    } member[KOLMO_TEAM];
    unsigned turn; /* number of tasks so far */
    int leave;
    char apart[64];
    unsigned waiting, met; /* parts that wait at the current barrier; barriers passed */
    char apart2[64];
    unsigned late; /* barriers at which the caller waited so long that the machine must be busy */
#endif
};

#if defined(KOLMO_THREADS)
static inline void kolmo_pause(unsigned spins) {
    if (spins > KOLMO_SPINS) sched_yield();
#if defined(__x86_64__) || defined(__i386__)
    else __builtin_ia32_pause();
#endif
}

static inline void *kolmo_serve(void *argument) {
    struct kolmo_member *me = (struct kolmo_member *)argument;
    kolmo_team *team = me->team;
    for (unsigned seen = 0;; seen++) {
        for (unsigned spins = 0; __atomic_load_n(&team->turn, __ATOMIC_ACQUIRE) == seen; spins++) kolmo_pause(spins);
        if (team->leave) return NULL;
        team->part(team->work, me->number, team->parts);
        __atomic_store_n(&me->done, seen + 1, __ATOMIC_RELEASE);
    }
}
#endif

/* Start up to `parts` threads, the caller included; fewer where the system has no more. */
static inline void kolmo_team_begin(kolmo_team *team, int parts, kolmo_part part, void *work) {
    memset(team, 0, sizeof *team);
    team->part = part;
    team->work = work;
    team->parts = 1;
#if defined(KOLMO_THREADS)
    for (int k = 1; k < parts && k < KOLMO_TEAM; k++) {
        struct kolmo_member *member = &team->member[k];
        member->team = team;
        member->number = k;
        if (pthread_create(&member->thread, NULL, kolmo_serve, member)) break;
        team->parts = k + 1; /* read by the others once there is work */
    }
#else
    (void)parts;
#endif
}

/* A barrier within the task: wait until all parts have reached it. */
static inline void kolmo_team_meet(kolmo_team *team, int part) {
#if defined(KOLMO_THREADS)
    unsigned met = __atomic_load_n(&team->met, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&team->waiting, 1, __ATOMIC_ACQ_REL) == (unsigned)team->parts) {
        __atomic_store_n(&team->waiting, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team->met, met + 1, __ATOMIC_RELEASE);
    } else {
        unsigned spins = 0;
        struct timespec from = {0, 0}, to = {0, 0};
        for (; __atomic_load_n(&team->met, __ATOMIC_ACQUIRE) == met; spins++) {
            if (spins == KOLMO_SPINS) timespec_get(&from, TIME_UTC);
            kolmo_pause(spins);
        }
        if (part == 0 && spins > KOLMO_SPINS) {
            timespec_get(&to, TIME_UTC);
            team->late += (to.tv_sec - from.tv_sec) * 1000000000LL + (to.tv_nsec - from.tv_nsec) > KOLMO_LATE;
        }
    }
#else
    (void)team;
    (void)part;
#endif
}

/* Whether more than `limit` meetings were late since this was last asked: then one thread alone is faster. */
static inline int kolmo_team_is_late(kolmo_team *team, unsigned limit) {
#if defined(KOLMO_THREADS)
    unsigned late = team->late;
    team->late = 0;
    return late > limit;
#else
    (void)team;
    (void)limit;
    return 0;
#endif
}

/* All parts, once. */
static inline void kolmo_team_work(kolmo_team *team) {
#if defined(KOLMO_THREADS)
    unsigned turn = team->turn + 1;
    __atomic_store_n(&team->turn, turn, __ATOMIC_RELEASE);
    team->part(team->work, 0, team->parts);
    for (int k = 1; k < team->parts; k++)
        for (unsigned spins = 0; __atomic_load_n(&team->member[k].done, __ATOMIC_ACQUIRE) != turn; spins++)
            kolmo_pause(spins);
#else
    team->part(team->work, 0, 1);
#endif
}

static inline void kolmo_team_end(kolmo_team *team) {
#if defined(KOLMO_THREADS)
    team->leave = 1;
    __atomic_store_n(&team->turn, team->turn + 1, __ATOMIC_RELEASE);
    for (int k = 1; k < team->parts; k++) pthread_join(team->member[k].thread, NULL);
#else
    (void)team;
#endif
}

#endif
