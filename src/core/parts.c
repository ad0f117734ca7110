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
	if ((ops->post && !ops->cancel) || (ops->attach && !ops->detach) || (ops->import_region && !ops->import_close) ||
	    (ops->arm && !ops->progress))
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
	part->host = (struct cw__host){ { &cw__host_ops }, engine };
	if (!why && !is_enabled(engine, ops->name))
		why = "turned off by its setting";
	if (!why && ops->open(&part->host.base, &part->state, &why)) {
		if (!why)
			why = "could not be opened";
	} else if (!why) {
		part->on = 1;
	}
	snprintf(part->why, sizeof(part->why), "%s", part->on ? ops->summary : why);
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

/* A plug-in's platforms are asked before ours: `host` claims everything that is mapped. */
static int load_library(struct cw_engine *engine, const char *path, int platforms_only)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const struct cw_plugin *plugin = library ? dlsym(library, "cw_plugin") : NULL;

	if (!plugin || plugin->abi != CW_PLUGIN_ABI) {
		const char *cause = library ? "it has no cw_plugin of this version" : dlerror();
		int status = cw__fail(CW_ERR_CONFIG, "plug-in %s: %s", path, cause ? cause : "cannot be loaded");

		if (library)
			dlclose(library);
		return status;
	}
	if (platforms_only) {
		for (size_t i = 0; plugin->platforms && plugin->platforms[i]; i++)
			add_platform(engine, plugin->platforms[i]);
		dlclose(library);
	} else {
		for (size_t i = 0; plugin->transports && plugin->transports[i]; i++)
			add_transport(engine, plugin->transports[i]);
	}
	if (!platforms_only || (plugin->platforms && plugin->platforms[0])) {
		if (platforms_only)
			library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		if (engine->library_count < CW__PARTS_MAX)
			engine->libraries[engine->library_count++] = library;
	}
	return CW_OK;
}

static int load_libraries(struct cw_engine *engine, int platforms_only)
{
	const char *list = cw__config_text(&engine->config, "plugins/load");

	while (*list) {
		size_t length = strcspn(list, ",");
		char path[512];
		int status;

		if (length >= sizeof(path))
			return cw__fail(CW_ERR_CONFIG, "plugins/load: a path is too long");
		snprintf(path, sizeof(path), "%.*s", (int)length, list);
		status = load_library(engine, path, platforms_only);
		if (status)
			return status;
		list += length + (list[length] == ',');
	}
	return CW_OK;
}

static int open_metadata(struct cw_engine *engine)
{
	const char *url = cw__config_text(&engine->config, "metadata/url"), *why = NULL;

	for (size_t i = 0; stores[i]; i++) {
		size_t length = strlen(stores[i]->name);

		if (strncmp(url, stores[i]->name, length) || (url[length] && url[length] != ':'))
			continue;
		engine->metadata_ops = stores[i];
		if (!stores[i]->open(&engine->host.base, url, &engine->metadata, &why))
			return CW_OK;
		engine->metadata_ops = NULL;
		return cw__fail(CW_ERR_CONFIG, "metadata store %s: %s", url, why ? why : "cannot be opened");
	}
	return cw__fail(CW_ERR_CONFIG, "metadata/url: no store is named '%s'", url);
}

/* Transports last: they may ask for everything else. What they publish is fixed once they are open. */
int cw__parts_open(struct cw_engine *engine)
{
	int status = load_libraries(engine, 1);

	for (size_t i = 0; !status && platforms[i]; i++)
		add_platform(engine, platforms[i]);
	if (!status)
		status = open_metadata(engine);
	for (size_t i = 0; !status && transports[i]; i++)
		add_transport(engine, transports[i]);
	if (!status)
		status = load_libraries(engine, 0);
	for (unsigned i = 0; !status && i < engine->part_count; i++) {
		struct cw__part *part = &engine->parts[i];

		if (!part->on || !part->ops->describe)
			continue;
		status = part->ops->describe(part->state, &part->description);
		if (status == CW_ERR_NO_MEMORY)
			cw__fail(status, "out of memory");
		else if (status || part->description.length > CW__BLOB_MAX)
			status = cw__fail(CW_ERR_INTERNAL, "transport %s cannot describe itself", part->ops->name);
	}
	return status;
}

void cw__parts_close(struct cw_engine *engine)
{
	for (unsigned i = engine->part_count; i > 0; i--) {
		struct cw__part *part = &engine->parts[i - 1];

		if (part->on)
			part->ops->close(part->state);
		cw__host_ops.blob_free(&part->description);
	}
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
