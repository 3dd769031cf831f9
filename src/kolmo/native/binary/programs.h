/* Where instructions begin and end: a reader of x86 code that can never fail. Counterpart of binary/programs.py.
 *
 * It knows lengths, not meanings: prefixes, opcode, ModRM, SIB, displacement, immediate. Bytes that are no code are read as
 * some instruction; that costs bits, never correctness. */
#ifndef KOLMO_PROGRAMS_H
#define KOLMO_PROGRAMS_H

#include <stdint.h>

#include "cpu.h"

/* What the next byte is. */
enum {
    KOLMO_OPCODE, /* a prefix or an opcode: an instruction begins */
    KOLMO_OPCODE_0F,
    KOLMO_OPCODE_38,
    KOLMO_OPCODE_3A,
    KOLMO_VEX, /* bytes of a VEX or EVEX prefix */
    KOLMO_MODRM,
    KOLMO_SIB,
    KOLMO_DISPLACEMENT,
    KOLMO_IMMEDIATE,
    KOLMO_STAGES,
};

/* Prefixes of an instruction, as bits. */
enum { KOLMO_OPERAND = 1, KOLMO_REPEAT = 2, KOLMO_REPEAT_NOT = 4, KOLMO_SEGMENT = 8, KOLMO_REX = 16, KOLMO_WIDE = 32, KOLMO_VECTOR = 64 };

typedef struct {
    uint32_t wide; /* whether the code is of 64 bits */
    uint32_t stage, left; /* what the next byte is; bytes left in a field, this one included */
    uint32_t prefixes, opcode, modrm, sib;  /* of this instruction; opcode + 256 * map */
    uint32_t immediate; /* bytes that follow the displacement */
    uint32_t relative; /* whether the field is an address relative to the instruction's end */
    uint32_t map; /* of a VEX prefix, 0 without one */
} kolmo_x86;

/* Bytes of an opcode's immediate. Codes 4 and more of the tables stand for sizes that depend on prefixes. */
static inline uint32_t kolmo_x86_immediate(const kolmo_x86 *x) {
    uint32_t op = x->opcode & 255, map = x->opcode >> 8;
    uint32_t word = x->prefixes & KOLMO_OPERAND ? 2 : 4;
    if (map == 1) return op == 0xA4 || op == 0xAC || op == 0xBA || op == 0xC2 || (op >= 0xC4 && op <= 0xC6) || (op >= 0x70 && op <= 0x73) ? 1 : op >= 0x80 && op <= 0x8F ? 4 : 0;
    if (map == 3) return 1;
    if (map) return 0;
    if (op < 0x40) return (op & 7) == 4 ? 1 : (op & 7) == 5 ? word : 0;
    if (op == 0x68 || op == 0x69 || op == 0x81 || op == 0xA9 || op == 0xC7) return word;
    if (op == 0xE8 || op == 0xE9) return 4;
    if (op >= 0xB8 && op <= 0xBF) return x->prefixes & KOLMO_WIDE ? 8 : word;
    if (op >= 0xA0 && op <= 0xA3) return x->wide ? 8 : 4;
    if (op == 0xC2 || op == 0xCA) return 2;
    if (op == 0xC8) return 3;
    if (op == 0x6A || op == 0x6B || (op >= 0x70 && op <= 0x7F) || op == 0x80 || op == 0x82 || op == 0x83 || op == 0xA8 || (op >= 0xB0 && op <= 0xB7) || op == 0xC0 || op == 0xC1 || op == 0xC6 || op == 0xCD || op == 0xD4 || op == 0xD5 || (op >= 0xE0 && op <= 0xE7) || op == 0xEB)
        return 1;
    return 0;
}

static inline int kolmo_x86_has_modrm(const kolmo_x86 *x) {
    uint32_t op = x->opcode & 255, map = x->opcode >> 8;
    if (map >= 2) return 1;
    if (map == 1) {
        if (op == 0x77 || (op >= 0x80 && op <= 0x8F) || (op >= 0x30 && op <= 0x37) || (op >= 0xC8 && op <= 0xCF)) return 0;
        return !((op >= 0x04 && op <= 0x0B) || op == 0x0E || (op >= 0xA0 && op <= 0xA2) || (op >= 0xA8 && op <= 0xAA));
    }
    if (op < 0x40) return (op & 7) < 4;
    if (op >= 0x80 && op <= 0x8F) return 1;
    return op == 0x63 || op == 0x69 || op == 0x6B || op == 0xC0 || op == 0xC1 || op == 0xC6 || op == 0xC7 || (op >= 0xD0 && op <= 0xD3) ||
           (op >= 0xD8 && op <= 0xDF) || op == 0xF6 || op == 0xF7 || op == 0xFE || op == 0xFF || (!x->wide && (op == 0x62 || op == 0xC4 || op == 0xC5));
}

static inline void kolmo_x86_field(kolmo_x86 *x, uint32_t stage, uint32_t bytes, uint32_t relative) {
    x->stage = stage;
    x->left = bytes;
    x->relative = relative;
}

/* Past the operands: the immediate, or the next instruction. */
static inline void kolmo_x86_operands_end(kolmo_x86 *x) {
    uint32_t op = x->opcode;
    if (x->immediate) {
        uint32_t jump = op == 0xE8 || op == 0xE9 || (op >= 0x180 && op <= 0x18F);
        uint32_t bytes = x->immediate;
        x->immediate = 0;
        kolmo_x86_field(x, KOLMO_IMMEDIATE, bytes, jump && bytes == 4);
    } else {
        kolmo_x86_field(x, KOLMO_OPCODE, 0, 0);
    }
}

static inline void kolmo_x86_opcode_end(kolmo_x86 *x, uint32_t opcode) {
    x->opcode = opcode;
    x->immediate = kolmo_x86_immediate(x);
    if (kolmo_x86_has_modrm(x)) kolmo_x86_field(x, KOLMO_MODRM, 1, 0);
    else kolmo_x86_operands_end(x);
}

/* Read a byte. Returns 1 if it begins an instruction (prefixes begin one, too). */
static inline int kolmo_x86_read(kolmo_x86 *x, uint32_t c) {
    int begins = 0;
    switch (x->stage) {
    case KOLMO_OPCODE:
        if (!x->left) {
            begins = 1;
            x->prefixes = x->modrm = x->sib = x->map = x->opcode = 0;
        }
        x->left = 1; /* within an instruction */
        if (c == 0x66) x->prefixes |= KOLMO_OPERAND;
        else if (c == 0xF3) x->prefixes |= KOLMO_REPEAT;
        else if (c == 0xF2) x->prefixes |= KOLMO_REPEAT_NOT;
        else if (c == 0x26 || c == 0x2E || c == 0x36 || c == 0x3E || c == 0x64 || c == 0x65 || c == 0x67 || c == 0xF0) x->prefixes |= KOLMO_SEGMENT;
        else if (x->wide && c >> 4 == 4) x->prefixes |= KOLMO_REX | (c & 8 ? KOLMO_WIDE : 0);
        else if (c == 0x0F) kolmo_x86_field(x, KOLMO_OPCODE_0F, 1, 0);
        else if (x->wide && (c == 0xC4 || c == 0xC5 || c == 0x62)) {
            x->prefixes |= KOLMO_VECTOR;
            x->map = c == 0xC5;
            kolmo_x86_field(x, KOLMO_VEX, c == 0xC5 ? 1 : c == 0xC4 ? 2 : 3, 0);
        } else kolmo_x86_opcode_end(x, c);
        break;
    case KOLMO_OPCODE_0F:
        if (c == 0x38) kolmo_x86_field(x, KOLMO_OPCODE_38, 1, 0);
        else if (c == 0x3A) kolmo_x86_field(x, KOLMO_OPCODE_3A, 1, 0);
        else kolmo_x86_opcode_end(x, c | 0x100);
        break;
    case KOLMO_OPCODE_38: kolmo_x86_opcode_end(x, c | 0x200); break;
    case KOLMO_OPCODE_3A: kolmo_x86_opcode_end(x, c | 0x300); break;
    case KOLMO_VEX:
        if (x->left) {
            if (!x->map) x->map = (c & 3) ? c & 3 : 1;
            x->left--;
        } else kolmo_x86_opcode_end(x, c | x->map << 8);
        break;
    case KOLMO_MODRM: {
        uint32_t mode = c >> 6, rm = c & 7, reg = c >> 3 & 7;
        x->modrm = c;
        if (x->opcode == 0xF6 && reg < 2) x->immediate = 1;
        if (x->opcode == 0xF7 && reg < 2) x->immediate = x->prefixes & KOLMO_OPERAND ? 2 : 4;
        if (mode == 3) kolmo_x86_operands_end(x);
        else if (rm == 4) kolmo_x86_field(x, KOLMO_SIB, 1, 0);
        else if (mode == 1) kolmo_x86_field(x, KOLMO_DISPLACEMENT, 1, 0);
        else if (mode == 2 || rm == 5) kolmo_x86_field(x, KOLMO_DISPLACEMENT, 4, x->wide && mode == 0);
        else kolmo_x86_operands_end(x);
        break;
    }
    case KOLMO_SIB:
        x->sib = c;
        if (x->modrm >> 6 == 1) kolmo_x86_field(x, KOLMO_DISPLACEMENT, 1, 0);
        else if (x->modrm >> 6 == 2 || (c & 7) == 5) kolmo_x86_field(x, KOLMO_DISPLACEMENT, 4, 0);
        else kolmo_x86_operands_end(x);
        break;
    case KOLMO_DISPLACEMENT:
        if (!--x->left) kolmo_x86_operands_end(x);
        break;
    default:
        if (!--x->left) kolmo_x86_field(x, KOLMO_OPCODE, 0, 0);
    }
    return begins;
}

#endif
