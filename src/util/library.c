/* SPDX-License-Identifier: Apache-2.0 */
/* Loading by soname. A vendor's runtime has more places to look in: src/platforms/gpu/library.c. */
#include <util/library.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* The name of a symbol that the library lacks, or NULL. */
static const char *bind_symbols(const struct cw__library_wanted *wanted, void *library, void *table)
{
	for (size_t i = 0; i < wanted->symbol_count; i++) {
		const struct cw__library_symbol *symbol = &wanted->symbols[i];
		void *address = dlsym(library, symbol->name);

		if (!address)
			return symbol->name;
		memcpy((char *)table + symbol->offset, &address, sizeof(address));
	}
	return NULL;
}

/* One that is there but cannot be used is worth more words than one that is not. */
static int is_absent(const char *soname, const char *error)
{
	size_t length = strlen(soname);

	return !strncmp(error, soname, length) && strstr(error + length, "No such file") != NULL;
}

int cw__library_load(const struct cw__library_wanted *wanted, void *table, char *why, size_t why_size)
{
	char broken[200] = "";
	size_t used = 0;

	for (unsigned i = 0; wanted->sonames[i]; i++) {
		void *library = dlopen(wanted->sonames[i], RTLD_NOW | RTLD_LOCAL);
		const char *error = library ? NULL : dlerror(), *lacks;

		if (!library && error && !*broken && !is_absent(wanted->sonames[i], error))
			snprintf(broken, sizeof(broken), "%s", error);
		if (!library)
			continue;
		lacks = bind_symbols(wanted, library, table);
		if (!lacks)
			return 0;
		if (!*broken)
			snprintf(broken, sizeof(broken), "%s lacks the symbol %s", wanted->sonames[i], lacks);
		dlclose(library);
	}
	if (*broken) {
		snprintf(why, why_size, "%s; %s", broken, wanted->advice);
		return -1;
	}
	*why = '\0';
	for (unsigned i = 0; wanted->sonames[i] && used < why_size; i++)
		used += (size_t)snprintf(why + used, why_size - used, "%s%s", i ? " or " : "", wanted->sonames[i]);
	if (used < why_size)
		snprintf(why + used, why_size - used, " is needed and not here: %s", wanted->advice);
	return -1;
}
