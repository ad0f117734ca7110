/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of an engine: those of the three lists and those of plug-in libraries, all checked in the same way. */
#include <core/core.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CW_TRANSPORT(name) extern const struct cw_transport_ops cw_transport_##name;
#include <transports/list.def>
#undef CW_TRANSPORT
#define CW_PLATFORM(name) extern const struct cw_platform_ops cw_platform_##name;
#include <platforms/list.def>
#undef CW_PLATFORM
#define CW_METADATA(name) extern const struct cw_metadata_ops cw_metadata_##name;
#include <metadata/list.def>
#undef CW_METADATA

static const struct cw_transport_ops *const transports[] = {
#define CW_TRANSPORT(name) &cw_transport_##name,
#include <transports/list.def>
#undef CW_TRANSPORT
	NULL
};
static const struct cw_platform_ops *const platforms[] = {
#define CW_PLATFORM(name) &cw_platform_##name,
#include <platforms/list.def>
#undef CW_PLATFORM
	NULL
};
static const struct cw_metadata_ops *const stores[] = {
#define CW_METADATA(name) &cw_metadata_##name,
#include <metadata/list.def>
#undef CW_METADATA
	NULL
};

/* What is wrong with a transport's table, or NULL. */
static const char *transport_fault(const struct cw_transport_ops *ops)
{
	if (ops->abi != CW_PLUGIN_ABI)
		return "was built for another version of the plug-in contract; build it again";
	if (!ops->name || !ops->summary || !ops->open || !ops->close || !ops->peer_open || !ops->peer_close ||
	    !ops->peer_lost || !ops->rails || !ops->reach)
		return "lacks a required hook";
	if (!ops->post && !ops->copy)
		return "has neither post nor copy";
	if ((ops->post && !ops->cancel) || (ops->attach && !ops->detach) ||
	    (ops->import_region && !ops->import_close) || (ops->arm && !ops->progress))
		return "has one hook of a pair but not the other";
	return NULL;
}

static const char *platform_fault(const struct cw_platform_ops *ops)
{
	if (ops->abi != CW_PLUGIN_ABI)
		return "was built for another version of the plug-in contract; build it again";
	if (!ops->name || !ops->summary || !ops->open || !ops->close || !ops->claim || !ops->location)
		return "lacks a required hook";
	if ((ops->allocate != NULL) != (ops->release != NULL) || (ops->allocate != NULL) != (ops->query != NULL))
		return "has allocate, release or query without the others";
	if ((ops->copy_in != NULL) != (ops->copy_out != NULL))
		return "has copy_in or copy_out without the other";
	return NULL;
}

static int is_enabled(struct cw_engine *engine, const char *name)
{
	char key[80];

	snprintf(key, sizeof(key), "transports/%s/enable", name);
	return cw__config_number(&engine->config, key, 1) != 0;
}

static void add_transport(struct cw_engine *engine, const struct cw_transport_ops *ops)
{
	struct cw__part *part = &engine->parts[engine->part_count];
	const char *why = transport_fault(ops);

	if (engine->part_count == CW__PARTS_MAX)
		return;
	engine->part_count++;
	part->ops = ops;
	part->flags = ops->flags;
	part->host = (struct cw__host){ { &cw__host_ops, &part->host.base }, engine };
	if (!why && !is_enabled(engine, ops->name))
		why = "turned off by its setting";
	if (!why)
		part->on = ops->open(&part->host.base, &part->state, &why) == CW_OK;
	snprintf(part->why, sizeof(part->why), "%s", part->on ? ops->summary : why ? why : "could not be opened");
}

const struct cw_transport_ops *cw__host_wrap(struct cw_host *host, const char *name)
{
	struct cw_engine *engine = cw__engine_of(host);
	struct cw__part *part = NULL;

	for (unsigned i = 0; i < engine->part_count; i++)
		if (&engine->parts[i].host.base == host->real)
			part = &engine->parts[i];
	for (size_t i = 0; part && transports[i]; i++) {
		if (strcmp(transports[i]->name, name) || transports[i] == part->ops)
			continue;
		part->wraps = transports[i]->name;
		part->flags |= transports[i]->flags & CW_TRANSPORT_DEVICE;
		return transports[i];
	}
	return NULL;
}

static void add_platform(struct cw_engine *engine, const struct cw_platform_ops *ops)
{
	struct cw__platform_part *part = &engine->platforms[engine->platform_count];
	const char *why = platform_fault(ops);

	if (engine->platform_count == CW__PARTS_MAX)
		return;
	engine->platform_count++;
	part->ops = ops;
	if (!why && !ops->open(&engine->host.base, &part->state, &why))
		part->on = 1;
	snprintf(part->why, sizeof(part->why), "%s", part->on ? ops->summary : why ? why : "could not be opened");
}

/* Why a plug-in is refused, or NULL. What is wrong with a table that can at least be named is said where parts are
 * listed. */
static const char *plugin_fault(const struct cw_engine *engine, const struct cw_plugin *plugin)
{
	if (!plugin)
		return "it has no symbol cw_plugin";
	if (plugin->abi != CW_PLUGIN_ABI)
		return "it was built for another version of the plug-in contract; build it again";
	for (size_t i = 0; plugin->transports && plugin->transports[i]; i++) {
		const struct cw_transport_ops *ops = plugin->transports[i];

		if (ops->abi != CW_PLUGIN_ABI || !ops->name)
			return "a transport in it has no name or was built for another version of the plug-in contract";
		for (size_t j = 0; transports[j]; j++)
			if (!strcmp(transports[j]->name, ops->name))
				return "a transport in it has the name of one of ours";
	}
	for (size_t i = 0; plugin->platforms && plugin->platforms[i]; i++)
		if (plugin->platforms[i]->abi != CW_PLUGIN_ABI || !plugin->platforms[i]->name)
			return "a platform in it has no name or was built for another version of the plug-in contract";
	for (unsigned i = 0; i < engine->library_count; i++)
		if (engine->plugins[i] == plugin)
			return "it is named twice";
	return NULL;
}

static int load_library(struct cw_engine *engine, const char *path)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const struct cw_plugin *plugin = library ? dlsym(library, "cw_plugin") : NULL;
	const char *why = library ? plugin_fault(engine, plugin) : dlerror();

	if (library && !why && engine->library_count == CW__PARTS_MAX)
		why = "there are too many";
	if (library && !why) {
		engine->plugins[engine->library_count] = plugin;
		engine->libraries[engine->library_count++] = library;
		return CW_OK;
	}
	cw__fail(CW_ERR_CONFIG, "plug-in %s: %s", path, why ? why : "cannot be loaded");
	if (library)
		dlclose(library);
	return CW_ERR_CONFIG;
}

static int load_libraries(struct cw_engine *engine)
{
	const char *list = cw__config_text(&engine->config, "plugins/load");

	while (*list) {
		size_t length = strcspn(list, ",");
		char path[512];
		int status;

		if (length >= sizeof(path))
			return cw__fail(CW_ERR_CONFIG, "plugins/load: a path is too long");
		snprintf(path, sizeof(path), "%.*s", (int)length, list);
		status = load_library(engine, path);
		if (status)
			return status;
		list += length + (list[length] == ',');
	}
	return CW_OK;
}

static int begins_with_scheme(const char *url, const char *scheme)
{
	size_t length = scheme ? strlen(scheme) : 0;

	return length && !strncmp(url, scheme, length) && (!url[length] || url[length] == ':');
}

/* The store whose scheme the url begins with, NULL when the list has none. */
static const struct cw_metadata_ops *find_store(const struct cw_metadata_ops *const *list, const char *url)
{
	for (size_t i = 0; list && list[i]; i++)
		if (begins_with_scheme(url, list[i]->name) || begins_with_scheme(url, list[i]->also))
			return list[i];
	return NULL;
}

/* "p2p, ..." */
static void list_stores(char *text, size_t size)
{
	size_t used = 0;

	*text = '\0';
	for (size_t i = 0; stores[i] && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%s%s%s", i ? ", " : "", stores[i]->name,
					 stores[i]->also ? ", " : "", stores[i]->also ? stores[i]->also : "");
}

/* Urls stay out of the lines: somebody may have put a password into one. */
static int open_metadata(struct cw_engine *engine)
{
	char known[200];
	const char *url = cw__config_text(&engine->config, "metadata/url"), *why = NULL;
	const struct cw_metadata_ops *ops = find_store(stores, url);

	for (unsigned i = 0; !ops && i < engine->library_count; i++)
		ops = find_store(engine->plugins[i]->metadata, url);
	if (!ops) {
		list_stores(known, sizeof(known));
		return cw__fail(CW_ERR_CONFIG, "metadata/url: no store is named '%.*s'; there are %s",
				(int)strcspn(url, ":/@"), url, known);
	}
	if (ops->abi != CW_PLUGIN_ABI || !ops->open || !ops->close ||
	    !ops->addresses == !(ops->get && ops->put && ops->del))
		return cw__fail(CW_ERR_CONFIG,
				"metadata store %s: it was built for another version, or lacks a required hook",
				ops->name);
	if (ops->open(&engine->host.base, url, &engine->metadata, &why))
		return cw__fail(CW_ERR_CONFIG, "metadata/url: %s: %s", ops->name, why ? why : "cannot be opened");
	engine->metadata_ops = ops;
	return cw__directory.open(&engine->host.base, ops, engine->metadata, &engine->directory);
}

/* Transports come first: one may have to prepare a vendor's links before that vendor's platform starts its runtime. A
 * plug-in's platforms are asked before ours, because `host` claims everything that is mapped; its transports come after
 * ours. */
static void add_parts(struct cw_engine *engine)
{
	for (size_t i = 0; transports[i]; i++)
		add_transport(engine, transports[i]);
	for (unsigned i = 0; i < engine->library_count; i++)
		for (size_t j = 0; engine->plugins[i]->transports && engine->plugins[i]->transports[j]; j++)
			add_transport(engine, engine->plugins[i]->transports[j]);
	for (unsigned i = 0; i < engine->library_count; i++)
		for (size_t j = 0; engine->plugins[i]->platforms && engine->plugins[i]->platforms[j]; j++)
			add_platform(engine, engine->plugins[i]->platforms[j]);
	for (size_t i = 0; platforms[i]; i++)
		add_platform(engine, platforms[i]);
}

/* What transports publish is fixed once they are open. */
static int describe_parts(struct cw_engine *engine)
{
	for (unsigned i = 0; i < engine->part_count; i++) {
		struct cw__part *part = &engine->parts[i];
		int status;

		if (!part->on || !part->ops->describe)
			continue;
		status = part->ops->describe(part->state, &part->description);
		if (status == CW_ERR_NO_MEMORY)
			return cw__fail(status, "out of memory");
		if (status || part->description.length > CW__BLOB_MAX)
			return cw__fail(CW_ERR_INTERNAL, "transport %s cannot describe itself", part->ops->name);
	}
	return CW_OK;
}

/* A switch for a transport that neither we nor a plug-in have is a slip of the pen. */
static int check_switches(struct cw_engine *engine)
{
	for (size_t i = 0; i < engine->config.extra_count; i++) {
		const char *key = engine->config.extra[i], *name = key + strlen("transports/");
		unsigned part = 0;

		if (strncmp(key, "transports/", strlen("transports/")))
			continue;
		while (part < engine->part_count && (strncmp(name, engine->parts[part].ops->name, strcspn(name, "/")) ||
						     engine->parts[part].ops->name[strcspn(name, "/")]))
			part++;
		if (part == engine->part_count)
			return cw__fail(CW_ERR_CONFIG,
					"setting %s: there is no transport of that name; see "
					"`causeway transports`",
					key);
	}
	return CW_OK;
}

int cw__parts_open(struct cw_engine *engine)
{
	int status = load_libraries(engine);

	if (!status)
		status = open_metadata(engine);
	if (status)
		return status;
	add_parts(engine);
	status = check_switches(engine);
	return status ? status : describe_parts(engine);
}

void cw__parts_close(struct cw_engine *engine)
{
	for (unsigned i = engine->part_count; i > 0; i--) {
		struct cw__part *part = &engine->parts[i - 1];

		if (part->on)
			part->ops->close(part->state);
		cw__host_ops.blob_free(&part->description);
	}
	if (engine->directory)
		cw__directory.close(engine->directory);
	if (engine->metadata_ops)
		engine->metadata_ops->close(engine->metadata);
}

void cw__platforms_close(struct cw_engine *engine)
{
	for (unsigned i = engine->platform_count; i > 0; i--)
		if (engine->platforms[i - 1].on)
			engine->platforms[i - 1].ops->close(engine->platforms[i - 1].state);
	for (unsigned i = engine->library_count; i > 0; i--)
		dlclose(engine->libraries[i - 1]);
}
