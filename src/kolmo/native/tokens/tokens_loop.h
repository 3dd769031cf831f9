/* Masses of logits, exp(logit - greatest), once for each instruction set (KOLMO_TARGET, KOLMO_PATH), for float and double.
 * Their rounding errors are part of the tolerance: predictors/language_models/grids.py. */

#define LANES 32

/* The greatest of n values. A NaN among them may or may not be returned, but makes the mass of its group a NaN. */
#define GREATEST(REAL)                                                                                         \
    KOLMO_TARGET static double KOLMO_PATH(greatest_##REAL)(const REAL *x, size_t n) {                          \
        REAL best[LANES];                                                                                      \
        size_t i = 0;                                                                                          \
        for (int j = 0; j < LANES; j++) best[j] = x[0];                                                        \
        for (; i + LANES <= n; i += LANES)                                                                     \
            for (int j = 0; j < LANES; j++) best[j] = x[i + j] > best[j] ? x[i + j] : best[j];                 \
        for (; i < n; i++) best[0] = x[i] > best[0] ? x[i] : best[0];                                          \
        for (int j = 1; j < LANES; j++) best[0] = best[j] > best[0] ? best[j] : best[0];                       \
        return (double)best[0];                                                                                \
    }

/* Masses of n <= KOLMO_GROUP neighbours, and their sum. */
#define GROUP_MASS(REAL)                                                                                       \
    KOLMO_TARGET static void KOLMO_PATH(group_##REAL)(const REAL *x, size_t n, REAL greatest, REAL *mass) {    \
        for (size_t i = 0; i < n; i++) { /* a loop of its own, since compilers otherwise use branches */      \
            REAL y = x[i] - greatest;                                                                          \
            mass[i] = y < (REAL)KOLMO_LEAST_##REAL ? (REAL)KOLMO_LEAST_##REAL : y;                             \
        }                                                                                                      \
        for (size_t i = 0; i < n; i++) mass[i] = kolmo_exp_##REAL(mass[i]);                                    \
    }                                                                                                          \
    KOLMO_TARGET static double KOLMO_PATH(group_mass_##REAL)(const REAL *x, size_t n, REAL greatest) {         \
        REAL mass[KOLMO_GROUP];                                                                                \
        KOLMO_PATH(group_##REAL)(x, n, greatest, mass);                                                        \
        for (size_t i = n; i < KOLMO_GROUP; i++) mass[i] = 0;                                                  \
        for (size_t half = KOLMO_GROUP / 2; half >= LANES; half /= 2)                                          \
            for (size_t i = 0; i < half; i++) mass[i] += mass[half + i];                                       \
        double sum = 0;                                                                                        \
        for (int j = 0; j < LANES; j++) sum += mass[j];                                                        \
        return sum;                                                                                            \
    }

#define MASSES(REAL)                                                                                           \
    KOLMO_TARGET static void KOLMO_PATH(top_##REAL)(const void *logits, size_t n, double greatest, double *masses) { \
        const REAL *x = (const REAL *)logits;                                                                  \
        for (size_t i = 0; i < n; i += KOLMO_GROUP)                                                            \
            *masses++ = KOLMO_PATH(group_mass_##REAL)(x + i, n - i < KOLMO_GROUP ? n - i : KOLMO_GROUP, (REAL)greatest); \
    }                                                                                                          \
    KOLMO_TARGET static void KOLMO_PATH(leaf_##REAL)(const void *logits, size_t n, double greatest, double *masses) { \
        REAL mass[KOLMO_GROUP];                                                                                \
        KOLMO_PATH(group_##REAL)((const REAL *)logits, n, (REAL)greatest, mass);                               \
        for (size_t i = 0; i < n; i++) masses[i] = mass[i];                                                    \
    }                                                                                                          \
    KOLMO_TARGET static double KOLMO_PATH(best_##REAL)(const void *logits, size_t n) { return KOLMO_PATH(greatest_##REAL)((const REAL *)logits, n); }

GREATEST(float)
GREATEST(double)
GROUP_MASS(float)
GROUP_MASS(double)
MASSES(float)
MASSES(double)

#undef GREATEST
#undef GROUP_MASS
#undef MASSES
#undef LANES
