/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the emulated Tang runtime share: its face to the core and how a call begins.
 */
#ifndef CW_EMULATORS_TANG_FACE_H
#define CW_EMULATORS_TANG_FACE_H

#include "core/core.h"
#include "platforms/gpu/abi/tang.h"

enum cw__tang_symbol {
#define TANG(name, flags) CW__TANG_##name,
#include "symbols.def"
#undef TANG
	CW__TANG_SYMBOLS
};

extern struct cw__emu_face cw__tang_face;

static inline struct cw__emu_call cw__tang_call(enum cw__tang_symbol symbol, uint64_t bytes)
{
	return (struct cw__emu_call){
		.face = &cw__tang_face,
		.symbol = &cw__tang_face.symbols[symbol],
		.device = -1,
		.peer = -1,
		.port = -1,
		.bytes = bytes,
	};
}

static inline uint64_t cw__tang_number(const void *address)
{
	return (uint64_t)(uintptr_t)address;
}

#endif
