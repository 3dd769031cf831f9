/* Guesses of the next bytes, from the bytes that followed earlier occurrences of the last one to six bytes and of the
 * words. The most probable guess is right for three of five bytes of a text, at next to no cost. A decoder's network
 * evaluates some guesses together with the known byte, which takes little longer than that byte alone; a wrong guess is
 * dropped. No decoded bit depends on the guesses, so floats and clocks may be used. */
#ifndef KOLMO_GUESSES_H
#define KOLMO_GUESSES_H

#include <stdint.h>
#include <string.h>

enum { GUESS_CONTEXTS = 8, GUESS_BITS = 15, GUESS_KINDS = 3, GUESSES = 4 };

/* The bytes that followed a context, the most frequent first. */
typedef struct {
    uint16_t check;
    uint8_t byte[GUESS_KINDS], count[GUESS_KINDS];
} guess_entry;

/* A lane's last bytes, newest lowest; its word so far and the one before. */
typedef struct {
    uint64_t last;
    uint32_t word, before;
} guess_history;

typedef struct {
    uint8_t byte[GUESSES];
    float chance[GUESSES]; /* probabilities, in descending order */
    int count;
} guess_list;

typedef struct {
    guess_entry entry[GUESS_CONTEXTS][1 << GUESS_BITS];
} guesser;

static inline guess_history guess_after(guess_history h, uint8_t byte) {
    const uint32_t upper = (uint32_t)byte - 'A', lower = upper < 26 ? byte + 32u : byte;
    h.last = h.last << 8 | byte;
    if (lower - 'a' < 26 || byte >= 128) {
        h.word = (h.word + lower + 1) * 0x2F0B4C47u;
    } else if (h.word) {
        h.before = h.word;
        h.word = 0;
    }
    return h;
}

/* The entry of a context, and the check that tells contexts apart. */
static inline guess_entry *guess_find(guesser *g, const guess_history *h, int context, uint16_t *check) {
    uint64_t key = context < 6 ? h->last << (56 - 8 * context) : (uint64_t)h->word << 32 | (context == 6 ? h->last & 255 : h->before);
    key = (key ^ key >> 29) * 0x9E3779B97F4A7C15u;
    *check = (uint16_t)(key >> 16);
    return &g->entry[context][key >> (64 - GUESS_BITS)];
}

static inline void guess_learn(guesser *g, const guess_history *h, uint8_t byte) {
    for (int context = 0; context < GUESS_CONTEXTS; context++) {
        uint16_t check;
        guess_entry *e = guess_find(g, h, context, &check);
        if (e->check != check && e->count[0] > 2) { /* the entry of another context, which was useful */
            e->count[0] /= 2;
            continue;
        }
        if (e->check != check) memset(e, 0, sizeof *e);
        e->check = check;
        int k = 0;
        while (k < GUESS_KINDS - 1 && e->count[k] && e->byte[k] != byte) k++;
        if (e->count[k] && e->byte[k] != byte) { /* no room: the least frequent byte loses half of its count */
            e->count[k] /= 2;
            continue;
        }
        for (int j = 0; j < GUESS_KINDS; j++) e->count[j] -= e->count[j] / 8;
        uint8_t count = (uint8_t)((e->count[k] ? e->count[k] : 0) + 8);
        for (; k && e->count[k - 1] <= count; k--) e->byte[k] = e->byte[k - 1], e->count[k] = e->count[k - 1];
        e->byte[k] = byte;
        e->count[k] = count;
    }
}

/* The most probable next bytes. Long contexts come first, and leave a share of the probability to shorter ones. */
static inline guess_list guess_next(guesser *g, const guess_history *h) {
    static const uint8_t turn[GUESS_CONTEXTS] = {5, 7, 4, 3, 6, 2, 1, 0};
    guess_list list = {.count = 0};
    uint8_t byte[GUESS_CONTEXTS * GUESS_KINDS];
    float chance[GUESS_CONTEXTS * GUESS_KINDS], rest = 1;
    int count = 0;
    for (int i = 0; i < GUESS_CONTEXTS && rest > 0.05f; i++) {
        uint16_t check;
        const guess_entry *e = guess_find(g, h, turn[i], &check);
        if (e->check != check || !e->count[0]) continue;
        int kinds = 0, all = 0;
        for (; kinds < GUESS_KINDS && e->count[kinds]; kinds++) all += e->count[kinds];
        const float escape = 16.0f * (float)kinds, share = rest / ((float)all + escape);
        for (int k = 0; k < kinds; k++) {
            int at = 0;
            while (at < count && byte[at] != e->byte[k]) at++;
            if (at == count) byte[count] = e->byte[k], chance[count++] = 0;
            chance[at] += share * e->count[k];
        }
        rest = share * escape;
    }
    while (list.count < GUESSES && list.count < count) {
        int most = 0;
        for (int k = 1; k < count; k++)
            if (chance[k] > chance[most]) most = k;
        if (chance[most] <= 0) break;
        list.byte[list.count] = byte[most];
        list.chance[list.count++] = chance[most];
        chance[most] = -1;
    }
    return list;
}

#endif
