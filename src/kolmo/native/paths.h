/* The vector paths: which of them this processor has, and which is in use. All give the same bits. */
#ifndef KOLMO_PATHS_H
#define KOLMO_PATHS_H

#include "mixer/context_mixing.h"

/* How the context mixer's bits are run: the path that was chosen. */
typedef void (*cm_run)(cm_model *, int, uint8_t *, size_t, void *, uint16_t *);
extern cm_run run_context_mixing;
typedef size_t (*cm_run_lanes)(cm_model *, int, uint8_t *, const uint32_t *, void *, uint16_t *);
extern cm_run_lanes run_lanes;

/* The names of this processor's paths, slowest first, and how many there are: at most KOLMO_MAX_PATHS. */
enum { KOLMO_MAX_PATHS = 4 };
int kolmo_list_paths(const char *names[KOLMO_MAX_PATHS]);
/* Use a path for all models from now on; 0 where this processor does not have it. */
int kolmo_choose_path(const char *name);

#endif
