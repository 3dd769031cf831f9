/* The gated recurrence and the normalisation of a network in training: forward and backward, for one element type and
 * one instruction set. The file that includes this one defines KOLMO_TARGET, KOLMO_NAME(x), and for the type:
 * ELEMENT, LOAD(pointer), STORE(pointer, float).
 *
 * These functions make weights, never predictions: they may use any rounding. The exact network is elsewhere. */

/* Algebraic sigmoid: s(x) = (1 + x / sqrt(1 + x^2)) / 2. */

static KOLMO_TARGET void KOLMO_NAME(cell_forward)(const ELEMENT *restrict z, const float *restrict bias,
                                                  const float *restrict before, float *restrict h, ELEMENT *restrict y,
                                                  size_t steps, size_t lanes, size_t width, size_t first, size_t last) {
    for (size_t t = 0; t < steps; t++)
        for (size_t b = first; b < last; b++) {
            const ELEMENT *restrict rate = z + (t * lanes + b) * 3 * width, *restrict candidate = rate + width,
                                    *restrict gate = candidate + width;
            const float *restrict past = t ? h + ((t - 1) * lanes + b) * width : before + b * width;
            float *restrict now = h + (t * lanes + b) * width;
            ELEMENT *restrict out = y + (t * lanes + b) * width;
            for (size_t j = 0; j < width; j++) {
                float k = LOAD(rate + j) + bias[j], c = LOAD(candidate + j), o = LOAD(gate + j);
                k = 0.5f + 0.5f * k / sqrtf(1.0f + k * k);
                float v = past[j] + k * (c - past[j]);
                now[j] = v;
                STORE(out + j, v * o * (0.5f + 0.5f * o / sqrtf(1.0f + o * o)));
            }
        }
}

/* `carry` (lanes x width) and `dbias` (width) are added to; the gradient stops at `before`. */
static KOLMO_TARGET void KOLMO_NAME(cell_backward)(const ELEMENT *restrict z, const float *restrict bias,
                                                   const float *restrict before, const float *restrict h,
                                                   const ELEMENT *restrict dy, ELEMENT *restrict dz,
                                                   float *restrict carry, float *restrict dbias, size_t steps,
                                                   size_t lanes, size_t width, size_t first, size_t last) {
    for (size_t t = steps; t-- > 0;)
        for (size_t b = first; b < last; b++) {
            size_t row = t * lanes + b;
            const ELEMENT *restrict rate = z + row * 3 * width, *restrict candidate = rate + width,
                                    *restrict gate = candidate + width, *restrict up = dy + row * width;
            ELEMENT *restrict drate = dz + row * 3 * width, *restrict dcandidate = drate + width,
                              *restrict dgate = dcandidate + width;
            const float *restrict past = t ? h + (row - lanes) * width : before + b * width;
            const float *restrict now = h + row * width;
            float *restrict g = carry + b * width;
            for (size_t j = 0; j < width; j++) {
                float x = LOAD(rate + j) + bias[j], c = LOAD(candidate + j), o = LOAD(gate + j), d = LOAD(up + j);
                float rx = 1.0f / sqrtf(1.0f + x * x), ro = 1.0f / sqrtf(1.0f + o * o);
                float k = 0.5f + 0.5f * x * rx, s = 0.5f + 0.5f * o * ro;
                float dh = g[j] + d * o * s;
                STORE(dgate + j, d * now[j] * (s + 0.5f * o * ro * ro * ro));
                float dx = dh * (c - past[j]) * 0.5f * rx * rx * rx;
                STORE(drate + j, dx);
                dbias[j] += dx;
                STORE(dcandidate + j, dh * k);
                g[j] = dh * (1.0f - k);
            }
        }
}

/* Rows scaled to a root mean square of `scale`, rounded to integers within +-127 where `integers`; `inverse` keeps
 * what each row was multiplied by. */
static KOLMO_TARGET void KOLMO_NAME(norm_forward)(const float *restrict x, ELEMENT *restrict u, float *restrict inverse,
                                                  size_t width, float scale, int integers, size_t first, size_t last) {
    for (size_t row = first; row < last; row++) {
        const float *restrict in = x + row * width;
        ELEMENT *restrict out = u + row * width;
        float sum[16] = {0}, total = 0;
        for (size_t j = 0; j < width; j += 16)
            for (size_t i = 0; i < 16; i++) sum[i] += in[j + i] * in[j + i];
        for (size_t i = 0; i < 16; i++) total += sum[i];
        float by = scale / sqrtf(total / (float)width + 0x1p-20f);
        inverse[row] = by;
        if (integers) {
            for (size_t j = 0; j < width; j++) {
                float v = in[j] * by;
                v = v > 127.0f ? 127.0f : v < -127.0f ? -127.0f : v;
                STORE(out + j, (v + 12582912.0f) - 12582912.0f);
            }
        } else {
            for (size_t j = 0; j < width; j++) STORE(out + j, in[j] * by);
        }
    }
}

/* Adds the gradient to dx; what was clipped passes none, rounding passes all (straight through). */
static KOLMO_TARGET void KOLMO_NAME(norm_backward)(const float *restrict x, const float *restrict inverse,
                                                   const ELEMENT *restrict du, float *restrict dx, size_t width,
                                                   float scale, int integers, size_t first, size_t last) {
    float limit = integers ? 127.5f : 3.0e38f;
    for (size_t row = first; row < last; row++) {
        const float *restrict in = x + row * width;
        const ELEMENT *restrict up = du + row * width;
        float *restrict out = dx + row * width;
        float by = inverse[row], sum[16] = {0}, total = 0;
        for (size_t j = 0; j < width; j += 16)
            for (size_t i = 0; i < 16; i++) {
                float v = in[j + i] * by, d = LOAD(up + j + i);
                sum[i] += v < limit && v > -limit ? d * v : 0.0f;
            }
        for (size_t i = 0; i < 16; i++) total += sum[i];
        float slope = total / ((float)width * scale * scale);
        for (size_t j = 0; j < width; j++) {
            float v = in[j] * by, d = LOAD(up + j);
            d = v < limit && v > -limit ? d : 0.0f;
            out[j] = by * (d - v * slope);
        }
    }
}
