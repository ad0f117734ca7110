/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA driver library as toolkits ship it for linking: it has every symbol, and each call gives error 34. */
#include <platforms/gpu/dialect.h>

#define STUB(required, name)                                                                                           \
	int stub_##name(void) __asm__("cu" #name);                                                                     \
	int stub_##name(void)                                                                                          \
	{                                                                                                              \
		return CW__CU_STUB_LIBRARY;                                                                            \
	}
CW__DRIVER_SYMBOLS(STUB)
