/* SPDX-License-Identifier: Apache-2.0 */
/*
 * showLinks(): the network devices of this machine, which of them are near which memory, the transports, and the peers
 * that are open. One tree of JSON; the text for people is written from it.
 */
#include <dirent.h>
#include <ifaddrs.h>
#include <json-c/json.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "face.h"

#define NODES_MAX 1024

/* ------------------------------------------------------------------------------------------- building */

static void add_text(struct json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, json_object_new_string(text));
}

static void add_number(struct json_object *object, const char *key, int64_t number)
{
	json_object_object_add(object, key, json_object_new_int64(number));
}

static struct json_object *add_list(struct json_object *object, const char *key)
{
	struct json_object *list = json_object_new_array();

	json_object_object_add(object, key, list);
	return list;
}

static void take_sysfs(void *arg, const char *key, const char *value, const char *origin, const char *help)
{
	(void)origin;
	(void)help;
	if (strcmp(key, "engine/sysfs") == 0)
		snprintf(arg, FACE_NAME_MAX, "%s", value);
}

static long read_number(const char *folder, const char *device, const char *file, long otherwise)
{
	char path[1024];
	long number = otherwise;
	FILE *stream;

	snprintf(path, sizeof(path), "%s/class/net/%s/%s", folder, device, file);
	stream = fopen(path, "re");
	if (!stream)
		return otherwise;
	if (fscanf(stream, "%ld", &number) != 1)
		number = otherwise;
	fclose(stream);
	return number;
}

static struct json_object *find_device(struct json_object *list, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *row = json_object_array_get_idx(list, i);

		if (strcmp(json_object_get_string(json_object_object_get(row, "device")), name) == 0)
			return row;
	}
	return NULL;
}

/* The members that Mooncake's devices have. There is no GID without RDMA: the address stands in its place. */
static void add_nics(struct json_object *list, const char *sysfs)
{
	struct ifaddrs *all = NULL;

	if (getifaddrs(&all) != 0)
		return;
	for (const struct ifaddrs *at = all; at; at = at->ifa_next) {
		int family = at->ifa_addr ? at->ifa_addr->sa_family : AF_UNSPEC;
		socklen_t length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
		struct json_object *row;
		char address[80];
		long speed;

		if (!(at->ifa_flags & IFF_UP) || (family != AF_INET && family != AF_INET6) ||
		    find_device(list, at->ifa_name) ||
		    getnameinfo(at->ifa_addr, length, address, sizeof(address), NULL, 0, NI_NUMERICHOST) != 0)
			continue;
		speed = read_number(sysfs, at->ifa_name, "speed", 0);
		row = json_object_new_object();
		add_text(row, "device", at->ifa_name);
		add_number(row, "numa", read_number(sysfs, at->ifa_name, "device/numa_node", -1));
		add_text(row, "gid", address);
		add_number(row, "gid_index", -1);
		add_number(row, "port", 0);
		json_object_object_add(row, "speed_gbps", json_object_new_double(speed > 0 ? (double)speed / 1e3 : 0));
		add_text(row, "source", "interface");
		json_object_array_add(list, row);
	}
	freeifaddrs(all);
}

/* A row of the priority matrix: near devices, then the others. */
static void add_place(struct json_object *topology, struct json_object *nics, const char *place, int node)
{
	struct json_object *row = add_list(topology, place);

	for (int near = 1; near >= 0; near--) {
		struct json_object *names = json_object_new_array();

		for (size_t i = 0; i < json_object_array_length(nics); i++) {
			struct json_object *nic = json_object_array_get_idx(nics, i);
			int numa = json_object_get_int(json_object_object_get(nic, "numa"));

			if ((numa == node || numa < 0) == near)
				json_object_array_add(names, json_object_get(json_object_object_get(nic, "device")));
		}
		json_object_array_add(row, names);
	}
}

static void add_nodes(struct json_object *topology, struct json_object *nics, const char *sysfs)
{
	char path[512], place[32];
	int node, found = 0;
	struct dirent *entry;
	DIR *folder;

	snprintf(path, sizeof(path), "%.400s/devices/system/node", sysfs);
	folder = opendir(path);
	while (folder && (entry = readdir(folder)))
		if (sscanf(entry->d_name, "node%d", &node) == 1 && node >= 0 && node < NODES_MAX) {
			snprintf(place, sizeof(place), "cpu:%d", node);
			add_place(topology, nics, place, node);
			found = 1;
		}
	if (folder)
		closedir(folder);
	if (!found)
		add_place(topology, nics, "cpu:0", 0);
}

struct tree {
	struct json_object *topology, *nics, *links, *transports, *segments;
};

static void take_device(void *arg, const struct cw_topology_device *device, const struct cw_topology_link *link)
{
	struct tree *tree = arg;
	struct json_object *row;

	if (device) {
		if (!json_object_object_get(tree->topology, device->location))
			add_place(tree->topology, tree->nics, device->location, device->numa_node);
		return;
	}
	row = json_object_new_object();
	add_text(row, "transport", link->transport);
	for (int end = 0; end < 2; end++) {
		add_number(row, end ? "device_b" : "device_a", link->device[end]);
		add_number(row, end ? "port_b" : "port_a", link->port[end]);
	}
	json_object_object_add(row, "up", json_object_new_boolean(link->up));
	json_object_object_add(row, "gigabytes_per_second", json_object_new_double(link->gigabytes_per_second));
	json_object_array_add(tree->links, row);
}

static void take_transport(void *arg, const char *name, int on, const char *why)
{
	struct tree *tree = arg;
	struct json_object *row = json_object_new_object();

	add_text(row, "name", name);
	json_object_object_add(row, "on", json_object_new_boolean(on));
	add_text(row, "why", why);
	json_object_array_add(tree->transports, row);
}

static void take_segment(void *arg, const char *name, struct cw_segment *segment)
{
	static const char *const states[] = { "up", "suspect", "down", "restarted" };
	struct cw_segment_info info = { .size = sizeof(info) };
	struct tree *tree = arg;
	struct json_object *row;

	if (cw_segment_info_get(segment, &info) != CW_OK)
		return;
	row = json_object_new_object();
	add_text(row, "name", name);
	add_text(row, "state", states[info.state]);
	add_text(row, "address", info.address);
	add_text(row, "transports", info.transports);
	json_object_object_add(row, "classic", json_object_new_boolean(info.classic));
	json_object_array_add(tree->segments, row);
}

static struct json_object *build(struct face *face)
{
	struct json_object *root = json_object_new_object();
	char sysfs[FACE_NAME_MAX] = "/sys";
	struct tree tree;

	if (!root)
		return NULL;
	cw_engine_settings(face->engine, take_sysfs, sysfs);
	tree.nics = add_list(root, "local_nics");
	tree.topology = json_object_new_object();
	json_object_object_add(root, "topology", tree.topology);
	tree.links = add_list(root, "links");
	tree.transports = add_list(root, "transports");
	tree.segments = add_list(root, "segments");
	add_nics(tree.nics, sysfs);
	add_nodes(tree.topology, tree.nics, sysfs);
	cw_engine_topology(face->engine, take_device, &tree);
	cw_engine_transports(face->engine, take_transport, &tree);
	face_segments_each(face, take_segment, &tree);
	return root;
}

/* -------------------------------------------------------------------------------------------- printing */

/* One line for each row of a list: the values in the order of the keys. */
static void print_list(FILE *out, struct json_object *root, const char *key, const char *title)
{
	struct json_object *list = json_object_object_get(root, key);
	size_t count = json_object_array_length(list);

	if (count)
		fprintf(out, "=== %s ===\n", title);
	for (size_t i = 0; i < count; i++) {
		const char *before = "  ";

		json_object_object_foreach(json_object_array_get_idx(list, i), name, value)
		{
			fprintf(out, "%s%s=%s", before, name, json_object_get_string(value));
			before = " ";
		}
		fputc('\n', out);
	}
}

static void print(FILE *out, struct json_object *root)
{
	print_list(out, root, "local_nics", "Local NICs");
	fprintf(out, "=== Topology (NIC Selection) ===\n");
	json_object_object_foreach(json_object_object_get(root, "topology"), place, row)
	{
		fprintf(out, "  %s: near %s, others %s\n", place,
			json_object_to_json_string(json_object_array_get_idx(row, 0)),
			json_object_to_json_string(json_object_array_get_idx(row, 1)));
	}
	print_list(out, root, "links", "Links");
	print_list(out, root, "transports", "Transports");
	print_list(out, root, "segments", "Segments");
}

char *face_links(struct face *face, int json)
{
	struct json_object *root = build(face);
	char *text = NULL;
	size_t length;
	FILE *out;

	if (root && json) {
		text = strdup(
			json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	} else if (root) {
		out = open_memstream(&text, &length);
		if (out) {
			print(out, root);
			fclose(out);
		}
	}
	json_object_put(root);
	return text;
}
