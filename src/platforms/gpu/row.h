/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The row of a vendor: everything about its runtime that is data. Rows are in rows.c, the two dialects that read them
 * in runtime.c and driver.c, the search for the library in library.c.
 */
#ifndef CW_PLATFORMS_GPU_ROW_H
#define CW_PLATFORMS_GPU_ROW_H

#include <platforms/gpu/gpu.h>

#define CW__GPU_WHY_BYTES 768
#define CW__GPU_PATH_BYTES 512

/* Result codes from first to last. Lists of them end with { 0, 0 }: 0 is success everywhere. */
struct cw__gpu_codes {
	int first, last;
};

/* Where libraries are. Lists end with NULL. */
struct cw__gpu_places {
	int loader_first;              /* the loader's own search comes before the folders, not after them */
	const char *folder_variable;   /* environment: when set, the only folder. Or NULL */
	const char *root_variables[3]; /* environment: the first that is set names the root */
	const char *root;              /* else this; NULL = there is no root */
	const char *arch_variable, *arch;
	const char *below_root[4]; /* folders below the root; %s = arch */
	const char *folders[4];    /* others */
};

/* A symbol whose name is not made by the rule: prefix + name. */
struct cw__gpu_exception {
	const char *name, *symbol;
};

/* struct xxxPointerAttributes: offsets in bytes of an enum, an int and a pointer. */
struct cw__gpu_attributes {
	size_t size, type, device, device_pointer;
};

struct cw__gpu_row {
	const char *sonames[4]; /* of the runtime, in order */
	struct cw__gpu_places places;
	const char *prefix;
	const struct cw__gpu_exception *exceptions; /* ends with NULL; or NULL */
	/* Of location strings. The first is written, all are accepted for memory that this vendor's runtime claims. Of
	 * the others, those that are the first one of another vendor name that vendor where it is on. */
	const char *locations[4];

	/* Codes. */
	int not_ready, invalid_device;
	struct cw__gpu_codes link_only[2];  /* initialisation: this library is for linking only; look further */
	struct cw__gpu_codes is_invalid[6]; /* a handle or device of the caller is wrong */
	struct cw__gpu_codes no_memory[3];
	struct cw__gpu_codes is_fatal[12]; /* the device or its context is lost for this process */

	/* Flags of calls. */
	unsigned host_flags, stream_flags, event_flags, ipc_flags;

	/* Of the runtime dialect only. */
	int kinds[4]; /* by enum cw__gpu_copy_kind */
	int memory_host, memory_device;
	struct cw__gpu_attributes attributes;
	int attributes_by_device; /* quirk: the current device must be the owner for a pointer to be known */
	/* quirk: blocking copies run in the default stream, which waits for all others, and perhaps have not arrived on
	 * a device when they return */
	int copies_in_default;
};

extern const struct cw__gpu_row cw__gpu_rows[CW__GPU_VENDORS];

int cw__gpu_code_in(const struct cw__gpu_codes *codes, int code);

/* What is to be done with a library that was opened. */
enum cw__gpu_verdict { CW__GPU_TAKE, CW__GPU_LOOK_FURTHER, CW__GPU_GIVE_UP };

/* Opens the first library of the names that accept() takes; accept may be NULL. accept() fills in why, one line without
 * the path, when it does not take it. NULL with why_out when there is none. path_out gets the path of the one taken. */
void *cw__gpu_search(const struct cw__gpu_places *places, const char *const *sonames,
		     enum cw__gpu_verdict (*accept)(void *arg, void *library, char *why, size_t why_size), void *arg,
		     char *path_out, size_t path_size, char *why_out, size_t why_size);

#endif
