/* Threads that wait for work between calls. A caller takes parts of its own work until none is left, and waits only for
 * threads that have begun one, so a thread that wakes late costs nothing. One caller at a time has the pool; others, and
 * all where there are no threads, compute alone. Results must not depend on which thread computes a part. */
#ifndef KOLMO_POOL_H
#define KOLMO_POOL_H

#include <stddef.h>

typedef void (*kolmo_share)(void *work, size_t part);

/* Call `share` for each part from 0 to parts - 1, on up to `threads` threads with the caller. */
void kolmo_pool_run(size_t parts, int threads, kolmo_share share, void *work);

#endif
