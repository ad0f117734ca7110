/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds and opens the libraries of a vendor: the copy that this process has already, then the folders of the row in
 * their order. Nothing is ever closed. When there is none, one line says where it was looked and what was wrong with
 * what was found there.
 */
#include <platforms/gpu/row.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDERS_MAX 10

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#elif defined(__riscv)
#define OUR_MACHINE EM_RISCV
#else
#define OUR_MACHINE EM_NONE /* not checked */
#endif

struct search {
	char folders[FOLDERS_MAX][CW__GPU_PATH_BYTES]; /* "" = the loader's own search */
	unsigned count;
	char broken[CW__GPU_WHY_BYTES]; /* what was wrong with the first one that was there */
	enum cw__gpu_verdict (*accept)(void *arg, void *library, char *why, size_t why_size);
	void *arg;
};

/* Appends as printf; what does not fit is cut. */
static void append(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *text, size_t size, const char *format, ...)
{
	size_t used = strlen(text);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + used, size - used, format, arguments);
	va_end(arguments);
}

static const char *from_environment(const char *variable)
{
	const char *value = variable ? getenv(variable) : NULL;

	return value && *value ? value : NULL;
}

/* Slashes at the end go. Empty text is the loader. A folder twice is looked at once. */
static void add_folder(struct search *search, const char *text)
{
	char *folder = search->folders[search->count];
	size_t length = strlen(text);

	if (search->count == FOLDERS_MAX || length >= CW__GPU_PATH_BYTES)
		return;
	while (length > 1 && text[length - 1] == '/')
		length--;
	snprintf(folder, CW__GPU_PATH_BYTES, "%.*s", (int)length, text);
	for (unsigned i = 0; i < search->count; i++)
		if (!strcmp(search->folders[i], folder))
			return;
	search->count++;
}

/* root / below, where %s in below stands for the architecture. */
static void add_below(struct search *search, const char *root, const char *below, const char *arch)
{
	char folder[CW__GPU_PATH_BYTES];
	const char *mark = strstr(below, "%s");
	size_t length = strlen(root);
	int written;

	while (length > 1 && root[length - 1] == '/')
		length--;
	if (mark)
		written = snprintf(folder, sizeof(folder), "%.*s/%.*s%s%s", (int)length, root, (int)(mark - below),
				   below, arch, mark + 2);
	else
		written = snprintf(folder, sizeof(folder), "%.*s/%s", (int)length, root, below);
	if (written > 0 && (size_t)written < sizeof(folder))
		add_folder(search, folder);
}

static void list_folders(struct search *search, const struct cw__gpu_places *places)
{
	const char *only = from_environment(places->folder_variable), *root = NULL, *arch;

	if (only) {
		add_folder(search, only);
		return;
	}
	if (places->loader_first)
		add_folder(search, "");
	for (unsigned i = 0; !root && places->root_variables[i]; i++)
		root = from_environment(places->root_variables[i]);
	if (!root)
		root = places->root;
	arch = from_environment(places->arch_variable);
	for (unsigned i = 0; root && places->below_root[i]; i++)
		add_below(search, root, places->below_root[i], arch ? arch : places->arch);
	for (unsigned i = 0; places->folders[i]; i++)
		add_folder(search, places->folders[i]);
	add_folder(search, "");
}

/* The loader says of a library for another processor that there is no such file; this says what it is. NULL: nothing is
 * wrong with its header. */
static const char *elf_fault(const char *path)
{
	Elf64_Ehdr header;
	ssize_t length;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	memset(&header, 0, sizeof(header));
	length = read(fd, &header, sizeof(header));
	close(fd);
	if (length < (ssize_t)sizeof(header) || memcmp(header.e_ident, ELFMAG, SELFMAG))
		return "is not a library (not an ELF file)";
	if (header.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32))
		return "is for another word size";
	if (OUR_MACHINE != EM_NONE && header.e_machine != OUR_MACHINE)
		return header.e_machine == EM_AARCH64  ? "is for another processor (aarch64)"
		       : header.e_machine == EM_X86_64 ? "is for another processor (x86-64)"
						       : "is for another processor";
	return NULL;
}

/* Keeps what was wrong with the first library that was there. The loader's own line often begins with the path. */
static void note_broken(struct search *search, const char *path, const char *what)
{
	size_t length = strlen(path);

	if (*search->broken)
		return;
	if (strncmp(what, path, length))
		snprintf(search->broken, sizeof(search->broken), "%.500s %.200s", path, what);
	else
		snprintf(search->broken, sizeof(search->broken), "%s", what);
}

static void note_refused(struct search *search, const char *path)
{
	const char *what = dlerror(), *fault = elf_fault(path);
	char line[CW__GPU_WHY_BYTES];

	if (fault) {
		note_broken(search, path, fault);
		return;
	}
	snprintf(line, sizeof(line), "cannot be loaded: %s", what ? what : "the loader does not say why");
	note_broken(search, path, what && !strncmp(what, path, strlen(path)) ? what : line);
}

static void path_of(void *library, char *path, size_t size)
{
	struct link_map *map = NULL;

	if (dlinfo(library, RTLD_DI_LINKMAP, &map) || !map || !map->l_name)
		*path = '\0';
	else
		snprintf(path, size, "%s", map->l_name);
}

/* NULL and *stop when the search ends without one. */
static void *judge(struct search *search, void *library, char *path, size_t path_size, int *stop)
{
	char why[CW__GPU_WHY_BYTES] = "";
	enum cw__gpu_verdict verdict;

	path_of(library, path, path_size);
	verdict = search->accept ? search->accept(search->arg, library, why, sizeof(why)) : CW__GPU_TAKE;
	if (verdict == CW__GPU_TAKE)
		return library;
	note_broken(search, path, why);
	*stop = verdict == CW__GPU_GIVE_UP;
	return NULL;
}

/* A library of one name in one folder, opened but not looked at. */
static void *open_in(struct search *search, const char *folder, const char *soname)
{
	char path[CW__GPU_PATH_BYTES + 128], missing[256];
	const char *error;
	void *library;

	if (*folder) {
		snprintf(path, sizeof(path), "%s/%s", folder, soname);
		if (access(path, F_OK))
			return NULL;
		library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		if (!library)
			note_refused(search, path);
		return library;
	}
	library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
	if (library)
		return library;
	error = dlerror();
	snprintf(missing, sizeof(missing), "%s: cannot open shared object file: No such file", soname);
	if (error && strncmp(error, missing, strlen(missing)))
		note_broken(search, "", error); /* says which file */
	return NULL;
}

static int is_folder(const char *path)
{
	struct stat status;

	return !stat(path, &status) && S_ISDIR(status.st_mode);
}

/* "a.so is not in /x, /y or where the loader looks; MC_... says where it is" */
static void explain(const struct search *search, const struct cw__gpu_places *places, const char *const *sonames,
		    char *why, size_t size)
{
	*why = '\0';
	if (*search->broken)
		append(why, size, "%s; looked for ", search->broken);
	for (unsigned i = 0; sonames[i]; i++)
		append(why, size, "%s%s", i ? ", " : "", sonames[i]);
	append(why, size, *search->broken ? " in " : " is not in ");
	for (unsigned i = 0; i < search->count; i++)
		append(why, size, "%s%s",
		       i == 0                   ? ""
		       : i + 1 == search->count ? " or "
						: ", ",
		       *search->folders[i] ? search->folders[i] : "the loader's folders");
	if (!search->count) /* add_folder() took none */
		append(why, size, "a path that is too long");
	if (from_environment(places->folder_variable))
		append(why, size, " (%s%s)", places->folder_variable,
		       search->count && !is_folder(search->folders[0]) ? ", which is no folder" : "");
	else if (places->folder_variable && !*search->broken)
		append(why, size, "; set %s or %s", places->folder_variable, places->root_variables[0]);
}

void *cw__gpu_search(const struct cw__gpu_places *places, const char *const *sonames,
		     enum cw__gpu_verdict (*accept)(void *arg, void *library, char *why, size_t why_size), void *arg,
		     char *path_out, size_t path_size, char *why_out, size_t why_size)
{
	struct search search = { .accept = accept, .arg = arg };
	void *library, *taken = NULL;
	int stop = 0;

	list_folders(&search, places);
	/* A second copy of a runtime would know nothing of the memory that the first one allocated. */
	for (unsigned i = 0; sonames[i] && !taken && !stop; i++) {
		library = dlopen(sonames[i], RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
		if (library)
			taken = judge(&search, library, path_out, path_size, &stop);
	}
	for (unsigned i = 0; sonames[i] && !taken && !stop; i++)
		for (unsigned j = 0; j < search.count && !taken && !stop; j++) {
			library = open_in(&search, search.folders[j], sonames[i]);
			if (library)
				taken = judge(&search, library, path_out, path_size, &stop);
		}
	if (!taken && stop)
		snprintf(why_out, why_size, "%s", search.broken);
	else if (!taken)
		explain(&search, places, sonames, why_out, why_size);
	return taken;
}

void *cw__gpu_open_library(enum cw__gpu_vendor vendor, const char *soname, char *why_out, size_t why_size)
{
	const char *const sonames[] = { soname, NULL };
	char path[CW__GPU_PATH_BYTES];

	return cw__gpu_search(&cw__gpu_rows[vendor].places, sonames, NULL, NULL, path, sizeof(path), why_out, why_size);
}
