/* Predictions by least squares: weights of neighbours that would have predicted the pixels above and to the left best.
 *
 * Two sets of neighbours keep a matrix of products for every block of columns, which forgets by rows; the third keeps one
 * matrix, which forgets slowly (docs/image.md, "Least squares"). Included by pixel_mixer_loop.h for each path. */

/* The value in a plane: rows up and columns to the right of the current pixel. */
#define PM_VALUE(m, t, up, right) ((int32_t)(m)->values[t][((m)->row - (uint32_t)(up)) & 3][(int32_t)(m)->x + (right)])

/* Eight times the weighted mean of the nearest neighbours. */
KOLMO_INLINE KOLMO_TARGET int32_t pm_mean(const pm_model *m, int t) {
    return 3 * PM_VALUE(m, t, 0, -1) + 3 * PM_VALUE(m, t, 1, 0) + PM_VALUE(m, t, 1, 1) + PM_VALUE(m, t, 1, -1);
}

/* Solves the normal equations by elimination without pivoting. In binary64, each element by one chain of operations in the
 * order of k, so that vectors give the same bits; no operation depends on the order of a sum. */
KOLMO_INLINE KOLMO_TARGET void pm_solve(pm_squares *s, pm_matrix sum) {
    const int n = s->count;
    double a[PM_TAPS][PM_TAPS], inverse[PM_TAPS], right[PM_TAPS];
    for (int i = 0; i < n; i++)
        for (int j = 0; j < PM_TAPS; j++) a[i][j] = (double)sum[i][j];
    for (int i = 0; i < n; i++) { /* the prior's weights count as PM_RIDGE observations */
        a[i][n] = a[i][n] + (double)s->began[i] * (PM_RIDGE / 65536.0);
        a[i][i] = a[i][i] + PM_RIDGE;
    }
    for (int k = 0; k < n; k++) {
        inverse[k] = a[k][k] > PM_RIDGE / 2 ? 1.0 / a[k][k] : 0.0;
        for (int i = k + 1; i < n; i++) {
            const double f = a[k][i] * inverse[k];
            for (int j = i & ~3; j < PM_TAPS; j++) a[i][j] = a[i][j] - f * a[k][j];
        }
    }
    for (int i = 0; i < n; i++) right[i] = a[i][n];
    for (int j = n - 1; j >= 0; j--) {
        double v = right[j] * inverse[j];
        if (!(v > -8.0)) v = -8.0; /* also where a hostile picture made it not a number */
        if (v > 8.0) v = 8.0;
        s->weights[j] = (int32_t)(v * 65536.0);
        for (int i = 0; i < j; i++) right[i] = right[i] - a[i][j] * v;
    }
    for (int j = 0; j < n; j++) s->sums[j] += s->weights[j];
    s->solutions++;
}

/* The weights for the pixels from here on, where it is time for new ones; the matrix then forgets a part. */
KOLMO_INLINE KOLMO_TARGET void pm_refresh(pm_squares *s, int set, uint32_t x) {
    pm_matrix sum;
    const int size = s->count * PM_TAPS;
    int32_t *restrict total = sum[0];
    if (set >= PM_LOCAL) {
        if (x % PM_FRESH) return;
        int32_t *restrict own = s->matrices[0][0];
        for (int i = 0; i < size; i++) {
            total[i] = own[i];
            own[i] = own[i] - (own[i] >> 6);
        }
    } else {
        if (x % PM_BLOCK) return;
        int32_t *restrict own = s->matrices[x / PM_BLOCK + 1][0];
        const int32_t *left = s->matrices[x / PM_BLOCK][0], *right = s->matrices[x / PM_BLOCK + 2][0];
        for (int i = 0; i < size; i++) {
            total[i] = (int32_t)((uint32_t)left[i] + (uint32_t)own[i] + (uint32_t)right[i]);
            own[i] = own[i] - (own[i] >> (set ? 3 : 2));
        }
    }
    pm_solve(s, sum);
}

/* The prediction of the current byte in 1/16. */
KOLMO_INLINE KOLMO_TARGET int32_t pm_predict_squares(pm_model *m, int set, const int32_t *means) {
    pm_squares *s = &m->squares[m->turn][set];
    int64_t sum = 0;
    pm_refresh(s, set, m->x);
    s->mean = means[m->turn];
    for (int i = 0; i < s->count; i++) {
        const int8_t *tap = s->taps[i];
        const int32_t t = tap[0] + s->plane;
        s->x[i] = 8 * PM_VALUE(m, t, tap[1], tap[2]) - means[t];
        sum += (int64_t)s->weights[i] * s->x[i];
    }
    return cm_clamp((int32_t)(sum >> 15) + 2 * s->mean, 0, 16 * 255);
}

/* Add the products of a pixel, which count the less the worse its surroundings are predicted. */
KOLMO_INLINE KOLMO_TARGET void pm_learn_squares(pm_model *m, int set, int32_t value) {
    pm_squares *s = &m->squares[m->turn][set];
    const int32_t weight = 4096 / (m->energy + 3);
    int32_t x[PM_TAPS];
    memcpy(x, s->x, sizeof x);
    x[s->count] = 8 * value - s->mean;
    for (int i = s->count + 1; i < PM_TAPS; i++) x[i] = 0;
    int32_t(*restrict rows)[PM_TAPS] = s->matrices[set < PM_LOCAL ? m->x / PM_BLOCK + 1 : 0];
    for (int i = 0; i < s->count; i++) {
        const int32_t f = x[i] * weight >> 4;
        for (int j = 0; j < PM_TAPS; j++) rows[i][j] = (int32_t)((uint32_t)rows[i][j] + (uint32_t)(f * x[j] >> 6));
    }
}
