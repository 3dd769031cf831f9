/* Predictions, contexts and guesses of a byte of a picture, from its neighbours. Included by pixel_mixer_loop.h. */

KOLMO_INLINE KOLMO_TARGET int32_t pm_median(int32_t w, int32_t n, int32_t corner) {
    const int32_t high = w > n ? w : n, low = w > n ? n : w;
    return corner >= high ? low : corner <= low ? high : w + n - corner;
}

/* Steps of a quarter of an octave. */
KOLMO_INLINE KOLMO_TARGET int32_t pm_step(uint32_t v) {
    v++;
#if defined(__GNUC__) || defined(__clang__)
    const int32_t n = 31 - __builtin_clz(v);
#else
    int32_t n = 0;
    while (v >> n > 1) n++;
#endif
    return 4 * n + (int32_t)((v << 2 >> n) & 3);
}

/* Signed steps of an octave, -7..7. */
KOLMO_INLINE KOLMO_TARGET int32_t pm_coarse(int32_t v) {
    const int32_t a = v < 0 ? -v : v;
    const int32_t q = a < 3 ? a : a < 5 ? 3 : a < 9 ? 4 : a < 17 ? 5 : a < 33 ? 6 : 7;
    return v < 0 ? -q : q;
}

KOLMO_INLINE KOLMO_TARGET uint32_t pm_hash3(int32_t a, int32_t b, uint32_t c) { return cm_hash(cm_hash((uint32_t)a, (uint32_t)b), c); }

/* What the current byte is compared with: of the turns before, where they belong to its colour. */
KOLMO_INLINE KOLMO_TARGET int32_t pm_earlier(const pm_model *m) { return m->config.channels >= 3 && m->turn < 3 ? (int32_t)m->turn : 0; }

KOLMO_INLINE KOLMO_TARGET uint32_t pm_near_error(const pm_model *m, int k) {
    const uint8_t *row = m->errors[m->turn][k][m->row & 1] + m->x, *above = m->errors[m->turn][k][~m->row & 1] + m->x;
    return 2u * row[-1] + 2u * above[0] + above[1] + above[-1] + row[-2];
}

/* The median of W, N, W + N - NW, of the differences to the turns before. */
KOLMO_INLINE KOLMO_TARGET int32_t pm_median_prediction(const pm_model *m, int32_t earlier) {
    const int t = (int)m->turn;
    const int32_t w = PM_VALUE(m, t, 0, -1), n = PM_VALUE(m, t, 1, 0), nw = PM_VALUE(m, t, 1, -1);
    int32_t sum = 0;
    if (!earlier) return 16 * pm_median(w, n, nw);
    for (int k = 0; k < earlier; k++)
        sum += PM_VALUE(m, k, 0, 0) + pm_median(w - PM_VALUE(m, k, 0, -1), n - PM_VALUE(m, k, 1, 0), nw - PM_VALUE(m, k, 1, -1));
    return cm_clamp(earlier == 1 ? 16 * sum : 8 * sum, 0, 16 * 255);
}

KOLMO_INLINE KOLMO_TARGET void pm_predict_pixel(pm_model *m) {
    const int t = (int)m->turn;
    const int32_t earlier = pm_earlier(m);
    const int32_t w = PM_VALUE(m, t, 0, -1), n = PM_VALUE(m, t, 1, 0), nw = PM_VALUE(m, t, 1, -1), ne = PM_VALUE(m, t, 1, 1);
    const int32_t ww = PM_VALUE(m, t, 0, -2), nn = PM_VALUE(m, t, 2, 0);
    int32_t *p = m->predicted, means[PM_TURNS];
    uint32_t near[PM_PREDICTORS];
    for (int k = 0; k < PM_PREDICTORS; k++) near[k] = pm_near_error(m, k);
    const uint8_t *row = m->errors[t][4][m->row & 1] + m->x, *above = m->errors[t][4][~m->row & 1] + m->x;
    m->energy = (2 * row[-1] + 2 * above[0] + above[1] + above[-1]) / 6;
    m->level = pm_step((uint32_t)m->energy);
    m->level = m->level < 31 ? m->level : 31;
    for (int k = 0; k < m->config.channels; k++) means[k] = pm_mean(m, k);
    for (int k = 0; k < PM_SETS; k++) p[k] = pm_predict_squares(m, k, means);
    p[3] = pm_median_prediction(m, earlier);
    /* The mean of these, weighted by how well they predicted the neighbours. */
    uint64_t weights = 0, sum = 0;
    for (int k = 0; k < 4; k++) {
        uint32_t weight = 16777216u / ((near[k] + 4) * (near[k] + 4)) + 1;
        if (k == 3) weight >>= 1;
        weights += weight;
        sum += (uint64_t)weight * (uint64_t)p[k];
    }
    p[4] = (int32_t)(sum / weights);
    const int32_t c = (p[4] + 8) >> 4;
    m->texture = (w > c) | (n > c) << 1 | (nw > c) << 2 | (ne > c) << 3 | (ww > c) << 4 | (nn > c) << 5 | (2 * w - ww > c) << 6 | (2 * n - nn > c) << 7;
    m->bias_at = (uint32_t)(m->texture << 3 | m->level >> 2);
    p[5] = cm_clamp(p[4] + (m->bias[t][m->bias_at] >> 12), 0, 16 * 255);
    p[6] = 16 * (w + ne - n);
    if (earlier) p[6] = 8 * (w + n + 2 * PM_VALUE(m, 0, 0, 0) - PM_VALUE(m, 0, 0, -1) - PM_VALUE(m, 0, 1, 0));
    p[6] = cm_clamp(p[6], 0, 16 * 255);
    m->center = (p[5] + 8) >> 4;
    m->fraction = ((p[5] + 8) & 15) >> 2;
    m->base_value = (uint32_t)(m->center - 136) & 255;
    for (int k = 0; k < PM_PREDICTORS; k++) {
        uint32_t e = near[k] + m->errors[t][k][~m->row & 1][(int32_t)m->x - 2];
        for (int j = 0; j < earlier; j++) e += 2u * m->errors[j][k][m->row & 1][m->x];
        const int32_t step = pm_step(e >> 1);
        m->scale_at[k] = (uint32_t)(step < PM_SCALES ? step : PM_SCALES - 1);
    }
}

/* Differences of the turns before to their own values at a neighbour, and of that neighbour to the centre: where chroma is
 * constant or was rounded, few values are possible. */
KOLMO_INLINE KOLMO_TARGET uint32_t pm_colour(const pm_model *m, int32_t earlier, int up, int right, uint32_t last) {
    const int32_t a = PM_VALUE(m, 0, 0, 0) - PM_VALUE(m, 0, up, right);
    const int32_t b = earlier == 2 ? PM_VALUE(m, 1, 0, 0) - PM_VALUE(m, 1, up, right) : 0;
    return cm_hash(cm_hash((uint32_t)a, (uint32_t)b), last);
}

/* The hash of each context of the shape. */
KOLMO_INLINE KOLMO_TARGET void pm_hash_contexts(pm_model *m, const int contexts) {
    const int t = (int)m->turn;
    const int32_t earlier = pm_earlier(m), c = m->center, f = m->fraction, *p = m->predicted;
    const int32_t w = PM_VALUE(m, t, 0, -1), n = PM_VALUE(m, t, 1, 0), nw = PM_VALUE(m, t, 1, -1), ne = PM_VALUE(m, t, 1, 1);
    const int32_t ww = PM_VALUE(m, t, 0, -2), nn = PM_VALUE(m, t, 2, 0), nne = PM_VALUE(m, t, 2, 1);
    const int32_t a = earlier ? PM_VALUE(m, 0, 0, 0) : 0, b = earlier == 2 ? PM_VALUE(m, 1, 0, 0) : 0;
    const int32_t ew = m->signs[t][m->row & 1][(int32_t)m->x - 1], en = m->signs[t][~m->row & 1][m->x];
    const int32_t ea = earlier ? m->signs[0][m->row & 1][m->x] : 0;
    const int32_t ac = a - c, bc = earlier == 2 ? b - c : 0;
    const uint32_t q = (uint32_t)m->level >> 2;
    uint32_t v[PM_CATALOGUE];
    v[0] = cm_hash((uint32_t)m->level, (uint32_t)f);
    v[3] = pm_hash3(ac, bc, (uint32_t)f);
    v[5] = pm_hash3(cm_clamp((p[2] - p[5]) >> 2, -20, 20), cm_clamp((p[3] - p[5]) >> 4, -20, 20), q);
    v[9] = pm_hash3((int32_t)((m->x & 7) | (m->row & 7) << 3), (int32_t)q, 0);
    v[11] = pm_hash3(c, (int32_t)q, 0);
    v[12] = pm_hash3(w | n << 8, c, (uint32_t)(a | b << 8));
    v[13] = pm_hash3(cm_clamp(nn - c, -30, 30), cm_clamp(ww - c, -30, 30), (uint32_t)pm_coarse(ea));
    v[14] = pm_hash3(cm_clamp(ac, -100, 100), b - c, q);
    v[15] = pm_hash3(c, w, (uint32_t)a);
    v[16] = pm_hash3(c, n, (uint32_t)b);
    if (earlier) {
        v[1] = pm_colour(m, earlier, 0, -1, cm_hash((uint32_t)(w - c), (uint32_t)pm_coarse(n - c)));
        v[2] = pm_colour(m, earlier, 0, -1, (uint32_t)(w - c));
        v[4] = pm_hash3(ac, bc, (uint32_t)pm_coarse(ew));
        v[6] = pm_colour(m, earlier, 1, 0, (uint32_t)(n - c));
        v[7] = pm_hash3(a, b, (uint32_t)c);
        v[8] = pm_colour(m, earlier, 1, 1, (uint32_t)(ne - c));
        v[10] = pm_colour(m, earlier, 0, -2, (uint32_t)(ww - c));
    } else {
        v[1] = pm_hash3(pm_coarse(ew), pm_coarse(en), q);
        v[2] = pm_hash3(cm_clamp((p[0] - p[1]) >> 2, -20, 20), f, q);
        v[4] = pm_hash3(ew, (int32_t)q, 0);
        v[6] = pm_hash3(w + n - nw - c, (int32_t)q, 0);
        v[7] = pm_hash3(n + ne - nne - c, (int32_t)q, 0);
        v[8] = pm_hash3(cm_clamp(2 * w - ww - c, -30, 30), cm_clamp(2 * n - nn - c, -30, 30), 0);
        v[10] = pm_hash3(ew, en, 0);
    }
    for (int i = 0; i < contexts; i++) {
        const int32_t k = m->config.context[i];
        m->hash[i] = cm_hash(cm_hash(v[k], (uint32_t)k), m->turn);
        KOLMO_PREFETCH(m->slots + (size_t)(m->hash[i] & m->slot_mask) * 16);
    }
}

/* The values that followed the same neighbours last: for drawings, and pictures that repeat. */
KOLMO_INLINE KOLMO_TARGET void pm_find_guesses(pm_model *m) {
    const int t = (int)m->turn;
    const uint32_t channels = (uint32_t)m->config.channels, earlier = (uint32_t)pm_earlier(m);
    const uint32_t w = (uint32_t)PM_VALUE(m, t, 0, -1), n = (uint32_t)PM_VALUE(m, t, 1, 0), nw = (uint32_t)PM_VALUE(m, t, 1, -1);
    const uint32_t ne = (uint32_t)PM_VALUE(m, t, 1, 1), ww = (uint32_t)PM_VALUE(m, t, 0, -2), nn = (uint32_t)PM_VALUE(m, t, 2, 0);
    const uint32_t nne = (uint32_t)PM_VALUE(m, t, 2, 1), around = w | n << 8 | nw << 16 | ne << 24;
    const uint32_t left = w | ww << 8 | (uint32_t)PM_VALUE(m, t, 0, -3) << 16 | (uint32_t)PM_VALUE(m, t, 0, -4) << 24;
    const uint32_t before = (earlier ? (uint32_t)PM_VALUE(m, 0, 0, 0) : 0) | (earlier == 2 ? (uint32_t)PM_VALUE(m, 1, 0, 0) << 8 : 0);
    const uint32_t others = channels < 2 ? 0 : (uint32_t)PM_VALUE(m, (m->turn + 1) % channels, 0, -1) | (uint32_t)PM_VALUE(m, (m->turn + 2) % channels, 0, -1) << 8;
    const uint32_t last = cm_hash(m->turn, before);
    const uint32_t hash[PM_GUESSES] = {cm_hash(w | n << 8, last), cm_hash(around, last), cm_hash(cm_hash(around, ww | nn << 8 | nne << 16), last), cm_hash(cm_hash(left, others), last)};
    for (int k = 0; k < PM_GUESSES; k++) {
        m->guess_entry[k] = m->guesses[k] + (hash[k] & m->guess_mask);
        m->guess_check[k] = hash[k] >> 16;
        const uint32_t entry = *m->guess_entry[k], count = entry >> 8 & 255;
        const int found = entry >> 16 == m->guess_check[k] && count;
        m->guess[k] = found ? (int32_t)(entry & 255) : -1;
        m->confidence[k] = (int32_t)(count < PM_CONFIDENCES ? count : PM_CONFIDENCES - 1);
    }
}

/* Update everything but the mixers by the byte of this turn. */
KOLMO_INLINE KOLMO_TARGET void pm_learn_pixel(pm_model *m, int32_t byte) {
    const uint32_t t = m->turn;
    for (int k = 0; k < PM_PREDICTORS; k++) {
        const int32_t d = 16 * byte - m->predicted[k], e = d < 0 ? -d : d;
        uint32_t *scale = &m->scales[t][k][m->scale_at[k]];
        *scale = (uint32_t)((int32_t)*scale + (((e << 12) - (int32_t)*scale) >> 7));
        m->errors[t][k][m->row & 1][m->x] = (uint8_t)(e < 1022 ? (e + 2) >> 2 : 255);
    }
    m->signs[t][m->row & 1][m->x] = (int8_t)cm_clamp(byte - m->center, -127, 127);
    int32_t *bias = &m->bias[t][m->bias_at];
    *bias = *bias + ((((16 * byte - m->predicted[4]) * 4096) - *bias) >> 6);
    for (int k = 0; k < PM_SETS; k++) pm_learn_squares(m, k, byte);
    for (int k = 0; k < PM_GUESSES; k++) {
        const uint32_t entry = *m->guess_entry[k];
        if (m->guess[k] != byte) *m->guess_entry[k] = m->guess_check[k] << 16 | 1 << 8 | (uint32_t)byte;
        else if ((entry >> 8 & 255) < 255) *m->guess_entry[k] = entry + 256;
    }
    uint8_t *value = m->values[t][m->row & 3] + m->x;
    *value = (uint8_t)byte;
    if (m->row == 0) /* above the first row, the values of the row itself */
        for (uint32_t up = 1; up < 4; up++) memset(m->values[t][(0 - up) & 3] + m->x + 1, byte, 4);
}

/* A turn of a last pixel that has no byte. */
KOLMO_INLINE KOLMO_TARGET void pm_skip_pixel(pm_model *m) {
    const uint32_t t = m->turn;
    m->values[t][m->row & 3][m->x] = (uint8_t)PM_VALUE(m, t, 0, -1);
    for (int k = 0; k < PM_PREDICTORS; k++) m->errors[t][k][m->row & 1][m->x] = 0;
    m->signs[t][m->row & 1][m->x] = 0;
}

/* Before a row: the columns beside the picture. */
KOLMO_INLINE KOLMO_TARGET void pm_begin_row(pm_model *m) {
    const uint32_t last = m->width - 1;
    for (int t = 0; t < m->config.channels; t++) {
        uint8_t *row = m->values[t][m->row & 3], *above = m->values[t][(m->row - 1) & 3];
        memset(row - PM_MARGIN, m->row ? above[0] : 128, PM_MARGIN);
        if (!m->row) continue;
        memset(above + m->width, above[last], PM_MARGIN);
        for (int k = 0; k < PM_PREDICTORS; k++) {
            uint8_t *now = m->errors[t][k][m->row & 1], *before = m->errors[t][k][~m->row & 1];
            memset(now - PM_MARGIN, before[0], PM_MARGIN);
            memset(before + m->width, before[last], PM_MARGIN);
        }
        int8_t *now = m->signs[t][m->row & 1], *before = m->signs[t][~m->row & 1];
        memset(now - PM_MARGIN, before[0], PM_MARGIN);
        memset(before + m->width, before[last], PM_MARGIN);
    }
}
