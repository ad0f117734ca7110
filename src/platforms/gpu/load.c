/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a vendor's runtime once for each process and fills in its table of operations. A process that was forked from
 * one that had loaded it gets none: runtimes do not survive fork().
 */
#include <platforms/gpu/dialect.h>
#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <util/clock.h>

#define PATIENCE (30 * CW__SECOND)

enum state { UNKNOWN, LOADED, ABSENT };

#define CW_GPU_VENDOR(id, platform, dialect) [CW__GPU_##id] = { .loading = PTHREAD_MUTEX_INITIALIZER },
static struct cw__gpu_library libraries[CW__GPU_VENDORS] = {
#include <platforms/gpu/vendors.def>
};
#undef CW_GPU_VENDOR

/* ------------------------------------------------------------ one function for each vendor and operation */

#define UNPACK(...) __VA_ARGS__
#define CALL(context, result, name, arguments, ...) CALL_IN(UNPACK context, result, name, arguments, __VA_ARGS__)
#define CALL_IN(...) CALL_AS(__VA_ARGS__)
#define CALL_AS(platform, id, dialect, result, name, arguments, ...)                                                   \
	static result platform##_##name(__VA_ARGS__)                                                                   \
	{                                                                                                              \
		return cw__##dialect##_##name(&libraries[CW__GPU_##id], UNPACK arguments);                             \
	}
#define FIELD(context, result, name, arguments, ...) FIELD_IN(UNPACK context, name)
#define FIELD_IN(...) FIELD_AS(__VA_ARGS__)
#define FIELD_AS(platform, id, dialect, name) .name = platform##_##name,

#define CW_GPU_VENDOR(id, platform, dialect)                                                                           \
	CW__GPU_OPERATIONS_OF_##dialect(CALL, (platform, id, dialect)) static void platform##_leave(                   \
		const struct cw__gpu_scope *scope)                                                                     \
	{                                                                                                              \
		cw__##dialect##_leave(&libraries[CW__GPU_##id], scope);                                                \
	}                                                                                                              \
	static int platform##_is_fatal(int result)                                                                     \
	{                                                                                                              \
		return cw__gpu_code_in(cw__gpu_rows[CW__GPU_##id].is_fatal, result);                                   \
	}
#include <platforms/gpu/vendors.def>
#undef CW_GPU_VENDOR

struct vendor {
	struct cw__gpu gpu;
	enum cw__gpu_verdict (*start)(struct cw__gpu_library *library, void *handle, char *why, size_t why_size);
};

#define CW_GPU_VENDOR(id, platform, dialect)                                                                           \
	[CW__GPU_##id] = { { .name = #platform,                                                                        \
			     .vendor = CW__GPU_##id,                                                                   \
			     .leave = platform##_leave,                                                                \
			     .is_fatal = platform##_is_fatal,                                                          \
			     CW__GPU_OPERATIONS_OF_##dialect(FIELD, (platform, id, dialect)) },                        \
			   cw__##dialect##_start },
static const struct vendor vendors[CW__GPU_VENDORS] = {
#include <platforms/gpu/vendors.def>
};
#undef CW_GPU_VENDOR

/* ----------------------------------------------------------------------------------------- loading */

static const char *symbol_name(const struct cw__gpu_row *row, const char *name, char *text, size_t size)
{
	for (const struct cw__gpu_exception *exception = row->exceptions; exception && exception->name; exception++)
		if (!strcmp(exception->name, name))
			return exception->symbol;
	snprintf(text, size, "%s%s", row->prefix, name);
	return text;
}

int cw__gpu_bind(struct cw__gpu_library *library, void *handle, const struct cw__gpu_symbol *symbols, size_t count,
		 char *why, size_t why_size)
{
	for (size_t i = 0; i < count; i++) {
		char text[64];
		const char *name = symbol_name(library->row, symbols[i].name, text, sizeof(text));
		void *address = dlsym(handle, name);

		if (!address && symbols[i].required) {
			snprintf(why, why_size, "lacks the symbol %s", name);
			return -1;
		}
		memcpy((char *)library + symbols[i].offset, &address, sizeof(address));
	}
	return 0;
}

static enum cw__gpu_verdict start(void *arg, void *handle, char *why, size_t why_size)
{
	struct cw__gpu_library *library = arg;
	const struct vendor *vendor = &vendors[library - libraries];
	enum cw__gpu_verdict verdict;

	library->gpu = vendor->gpu;
	library->gpu.library = library->path;
	verdict = vendor->start(library, handle, why, why_size);
	for (unsigned i = 0; verdict == CW__GPU_TAKE && i < library->gpu.device_count; i++)
		for (char *at = library->gpu.pci[i]; *at; at++)
			*at = (char)tolower((unsigned char)*at);
	return verdict;
}

static void load(struct cw__gpu_library *library, const struct cw__gpu_row *row)
{
	library->row = row;
	if (cw__gpu_search(&row->places, row->sonames, start, library, library->path, sizeof(library->path),
			   library->why, sizeof(library->why)))
		atomic_store_explicit(&library->state, LOADED, memory_order_release);
	else
		atomic_store_explicit(&library->state, ABSENT, memory_order_release);
}

struct loading {
	struct cw__gpu_errand errand; /* first */
	struct cw__gpu_library *library;
	const struct cw__gpu_row *row;
};

static int run_loading(struct cw__gpu_errand *errand)
{
	struct loading *loading = (struct loading *)errand;

	load(loading->library, loading->row);
	return 0;
}

/* With `loading`. Libraries run code of their own when they are loaded, and ask their devices. */
static void load_aside(struct cw__gpu_library *library, const struct cw__gpu_row *row, uint64_t within)
{
	struct loading *loading = calloc(1, sizeof(*loading));

	if (!loading)
		return;
	*loading = (struct loading){ .errand = { .run = run_loading, .device = -1 }, .library = library, .row = row };
	library->away = cw__gpu_aside(&loading->errand, within) == CW__GPU_NO_ANSWER;
	if (!library->away)
		free(loading);
}

uint64_t cw__gpu_patience(struct cw_host *host)
{
	return 3 * host->ops->setting_number(host, "engine/device_timeout", PATIENCE / 3);
}

const struct cw__gpu *cw__gpu_load_within(enum cw__gpu_vendor vendor, uint64_t within, const char **why_out)
{
	struct cw__gpu_library *library = &libraries[vendor];
	int nobody = 0, self = (int)getpid(), state;

	/* Named before the lock is taken: a child forked while another thread loads must not wait for that lock. */
	if (!atomic_compare_exchange_strong(&library->process, &nobody, self) && nobody != self &&
	    atomic_load_explicit(&library->state, memory_order_acquire) != ABSENT) {
		*why_out = "was loaded by the process that this one was forked from; load it after fork()";
		return NULL;
	}
	state = atomic_load_explicit(&library->state, memory_order_acquire);
	if (state == UNKNOWN) {
		pthread_mutex_lock(&library->loading);
		if (atomic_load_explicit(&library->state, memory_order_acquire) == UNKNOWN && !library->away)
			load_aside(library, &cw__gpu_rows[vendor], within);
		pthread_mutex_unlock(&library->loading);
		state = atomic_load_explicit(&library->state, memory_order_acquire);
	}
	if (state == LOADED)
		return &library->gpu;
	*why_out = state == ABSENT ? library->why : "its runtime does not come back from being loaded";
	return NULL;
}

const struct cw__gpu *cw__gpu_load(enum cw__gpu_vendor vendor, const char **why_out)
{
	return cw__gpu_load_within(vendor, PATIENCE, why_out);
}
