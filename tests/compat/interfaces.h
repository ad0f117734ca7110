/* SPDX-License-Identifier: Apache-2.0 */
/* The declarations of a program's choice: with DECLARED its own, else those of the installed headers. */
#ifdef DECLARED
#include "declarations.h"
#else
#include <tent/transfer_engine.h>
#include <transfer_engine_c.h>
#endif
