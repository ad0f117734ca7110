/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `causeway config --mooncake`: what Mooncake's variables, and one of its files, mean for an engine. The settings go to
 * stdout as a file for --config; what has no effect, and what is no setting, goes to stderr.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "mooncake/setup.h"

static void print_notice(void *arg, const char *line)
{
	fprintf(stderr, "%s: %s\n", (const char *)arg, line);
}

#define PASSWORD "metadata/password" /* is not printed */

/* The name is an option of every command, not a setting. Without one only the store is known. */
static int add_identity(struct setup *setup, const char *command)
{
	const char *store = setup->metadata_server[0] ? setup->metadata_server : "P2PHANDSHAKE";
	struct setup scratch = { .setting_count = 0 };
	char name[300];
	int status;

	if (setup->local_hostname[0]) {
		status = setup_identity(setup, store, NULL, name, sizeof(name));
		if (status == 0)
			fprintf(stderr, "%s: give commands --name '%s'\n", command, name);
		return status;
	}
	if (!setup->metadata_server[0])
		return 0;
	snprintf(scratch.metadata_backend, sizeof(scratch.metadata_backend), "%s", setup->metadata_backend);
	status = setup_identity(&scratch, store, "localhost", name, sizeof(name));
	for (size_t i = 0; status == 0 && i < scratch.setting_count; i++)
		if (!strcmp(scratch.settings[i].key, "metadata/url"))
			status = setup_set(setup, "metadata/url", scratch.settings[i].value);
	if (status != 0)
		snprintf(setup->text, sizeof(setup->text), "%s", scratch.text);
	setup_free(&scratch);
	return status;
}

static int print_settings(const struct setup *setup)
{
	struct json_object *root = json_object_new_object();
	int failed = !root;

	for (size_t i = 0; !failed && i < setup->setting_count; i++) {
		struct json_object *value;

		if (!strcmp(setup->settings[i].key, PASSWORD))
			continue;
		value = json_object_new_string(setup->settings[i].value);
		failed = !value || json_object_object_add(root, setup->settings[i].key, value) != 0;
		if (failed)
			json_object_put(value);
	}
	failed = failed ||
		 printf("%s\n", json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
									     JSON_C_TO_STRING_NOSLASHESCAPE)) < 0;
	json_object_put(root);
	return failed ? -1 : 0;
}

static void print_rest(const struct setup *setup, const char *command)
{
	if (setup->transfer_timeout_ns)
		fprintf(stderr, "%s: calls of Python that wait give up after %llu s\n", command,
			(unsigned long long)(setup->transfer_timeout_ns / 1000000000u));
	if (setup->metric_interval > 0)
		fprintf(stderr, "%s: a line of throughput is logged every %g s\n", command, setup->metric_interval);
	for (size_t i = 0; i < setup->setting_count; i++)
		if (!strcmp(setup->settings[i].key, PASSWORD))
			fprintf(stderr, "%s: the password of MC_REDIS_PASSWORD is left out; commands read it from %s\n",
				command, "CW_METADATA_PASSWORD");
}

int config_mooncake(const char *command, const char *file)
{
	struct setup setup = { .setting_count = 0 };
	char prefix[64];
	int status;

	snprintf(prefix, sizeof(prefix), "%s", command);
	status = file ? setup_file(&setup, file, print_notice, prefix) : 0;
	if (status == 0)
		status = setup_environment(&setup, print_notice, prefix);
	if (status == 0)
		status = add_identity(&setup, command);
	if (status == 0) {
		print_rest(&setup, command);
		status = print_settings(&setup);
	}
	if (status != 0)
		fprintf(stderr, "%s: %s\n", command, setup.text[0] ? setup.text : "cannot write");
	setup_free(&setup);
	return status == 0 ? 0 : 1;
}
