/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topology files of emulated worlds: one statement a line, words between blanks, # starts a comment. docs/emulators.md
 * describes them. Anything that is not understood is an error with its line number.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulate.h"
#include "lib/units.h"

#define WORDS_MAX 32
#define LINE_MAX_LENGTH 1024
#define CHIP_MAX 254

enum access { ACCESS_LINKED, ACCESS_NONE, ACCESS_ALL };

struct reader {
	const char *path;
	unsigned line;
	char *why;
	struct cw__world *world;
	char *words[WORDS_MAX];
	unsigned count;
	enum access access;
	uint64_t may[CW__WORLD_DEVICES], may_not[CW__WORLD_DEVICES];
};

static int wrong(struct reader *reader, const char *format, const char *word)
{
	int length = snprintf(reader->why, EMULATE_WHY, "%s:%u: ", reader->path, reader->line);

	if (length > 0 && length < EMULATE_WHY) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(reader->why + length, EMULATE_WHY - (size_t)length, format, word);
#pragma GCC diagnostic pop
	}
	return -1;
}

/* ------------------------------------------------------------------------------------------- numbers */

static int parse_whole(const char *text, uint64_t maximum, uint64_t *value_out)
{
	uint64_t value = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text) || value > (maximum - (uint64_t)(*text - '0')) / 10)
			return -1;
		value = value * 10 + (uint64_t)(*text - '0');
	}
	if (value > maximum)
		return -1;
	*value_out = value;
	return 0;
}

struct suffix {
	const char *text;
	double factor;
};

static int parse_suffixed(const char *text, const struct suffix *suffixes, uint64_t *value_out)
{
	char *end;
	double value;

	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	value = strtod(text, &end);
	if (errno)
		return -1;
	while (suffixes->text && strcmp(suffixes->text, end) != 0)
		suffixes++;
	value *= suffixes->factor;
	if (!suffixes->text || !(value < 1e18))
		return -1;
	*value_out = (uint64_t)(value + 0.5);
	return 0;
}

int emulate_parse_bandwidth(const char *text, uint64_t *value_out)
{
	static const struct suffix suffixes[] = { { "", 1 },    { "k", 1e3 },  { "m", 1e6 },
						  { "g", 1e9 }, { "t", 1e12 }, { NULL, 1 } };

	return parse_suffixed(text, suffixes, value_out);
}

int emulate_parse_time(const char *text, uint64_t *value_out)
{
	static const struct suffix suffixes[] = {
		{ "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 }, { NULL, 1 }
	};

	return parse_suffixed(text, suffixes, value_out);
}

static int parse_device(struct reader *reader, const char *word, int *device_out)
{
	uint64_t device;

	if (parse_whole(word, CW__WORLD_DEVICES - 1, &device) != 0 || device >= reader->world->device_count)
		return wrong(reader, "there is no device '%s'; 'device' lines come first", word);
	*device_out = (int)device;
	return 0;
}

/* "D:P"; the port may be '*', the lowest that is free. */
static int parse_end(struct reader *reader, char *word, int *device_out, int *port_out)
{
	char *colon = strchr(word, ':');
	uint64_t port;

	if (!colon)
		return wrong(reader, "'%s' is no end of a link; it is DEVICE:PORT", word);
	*colon = '\0';
	if (parse_device(reader, word, device_out) != 0)
		return -1;
	if (strcmp(colon + 1, "*") == 0) {
		*port_out = -1;
		return 0;
	}
	if (parse_whole(colon + 1, CW__WORLD_PORTS - 1, &port) != 0)
		return wrong(reader, "'%s' is no port; they are 0 to 9, or * for the lowest free one", colon + 1);
	*port_out = (int)port;
	return 0;
}

/* ---------------------------------------------------------------------------------------- statements */

/* "0000:3b:00.0" */
static int parse_pci(struct reader *reader, const char *word, struct cw__world_device *device)
{
	unsigned number[4];
	int used = 0;

	if (sscanf(word, "%4x:%2x:%2x.%1x%n", &number[0], &number[1], &number[2], &number[3], &used) != 4 ||
	    word[used] || strlen(word) != strlen("0000:00:00.0") || number[2] > 0x1f || number[3] > 7)
		return wrong(reader, "'%s' is no PCI address such as 0000:3b:00.0", word);
	device->pci_domain = number[0];
	device->pci_bus = number[1];
	device->pci_device = number[2];
	device->pci_function = number[3];
	for (const struct cw__world_device *other = reader->world->devices; other < device; other++)
		if (other->pci_domain == number[0] && other->pci_bus == number[1] && other->pci_device == number[2] &&
		    other->pci_function == number[3])
			return wrong(reader, "another device has the PCI address %s", word);
	return 0;
}

static int read_device_word(struct reader *reader, struct cw__world_device *device, const char *key, const char *value)
{
	uint64_t number;

	if (strcmp(key, "chip") == 0) {
		if (parse_whole(value, CHIP_MAX, &number) != 0)
			return wrong(reader, "'%s' is no chip id; they are 0 to 254", value);
		device->chip = (uint32_t)number;
	} else if (strcmp(key, "pci") == 0) {
		return parse_pci(reader, value, device);
	} else if (strcmp(key, "numa") == 0) {
		if (parse_whole(value, 1023, &number) != 0)
			return wrong(reader, "'%s' is no NUMA node", value);
		device->numa = (int32_t)number;
	} else if (strcmp(key, "memory") == 0) {
		if (units_parse(value, &device->memory) != 0 || !device->memory)
			return wrong(reader, "'%s' is no size", value);
	} else {
		return wrong(reader, "a device has no '%s'; it has chip, pci, numa and memory", key);
	}
	return 0;
}

/* device N [chip C] [pci ADDRESS] [numa N] [memory BYTES] */
static int read_device(struct reader *reader)
{
	struct cw__world *world = reader->world;
	struct cw__world_device *device = &world->devices[world->device_count];
	uint64_t number;

	if (world->link_count)
		return wrong(reader, "'%s' lines come before links", "device");
	if (reader->count < 2 || parse_whole(reader->words[1], CW__WORLD_DEVICES - 1, &number) != 0)
		return wrong(reader, "%s needs its number, 0 to 63", "device");
	if (number != world->device_count)
		return wrong(reader, "device %s is not the next one: they are numbered 0, 1, 2...", reader->words[1]);
	if (reader->count % 2)
		return wrong(reader, "'%s' has no value", reader->words[reader->count - 1]);
	device->numa = -1;
	for (unsigned i = 2; i < reader->count; i += 2)
		if (read_device_word(reader, device, reader->words[i], reader->words[i + 1]) != 0)
			return -1;
	for (const struct cw__world_device *other = world->devices; other < device; other++)
		if (other->chip == device->chip)
			return wrong(reader, "device %s has the chip id of another one", reader->words[1]);
	world->device_count++;
	return 0;
}

/* "bandwidth" or "latency" at words[*at]; 1 when it was neither. */
static int read_speed(struct reader *reader, unsigned *at, uint64_t *bandwidth, uint64_t *latency)
{
	const char *key = reader->words[*at];
	int is_bandwidth = strcmp(key, "bandwidth") == 0;

	if (!is_bandwidth && strcmp(key, "latency") != 0)
		return 1;
	if (++*at >= reader->count)
		return wrong(reader, "'%s' has no value", key);
	if (is_bandwidth && (emulate_parse_bandwidth(reader->words[*at], bandwidth) != 0 || !*bandwidth))
		return wrong(reader, "'%s' is no bandwidth, in bytes a second such as 25g", reader->words[*at]);
	if (!is_bandwidth && emulate_parse_time(reader->words[*at], latency) != 0)
		return wrong(reader, "'%s' is no time such as 5us", reader->words[*at]);
	return 0;
}

/* link D:P D:P [up|down] [bandwidth B] [latency T] */
static int read_link(struct reader *reader)
{
	uint64_t bandwidth = CW__WORLD_LINK_BANDWIDTH, latency = 0;
	int device[2], port[2], index;
	uint32_t up = 1;

	if (reader->count < 3)
		return wrong(reader, "a %s needs two ends", "link");
	for (int end = 0; end < 2; end++)
		if (parse_end(reader, reader->words[1 + end], &device[end], &port[end]) != 0)
			return -1;
	for (unsigned i = 3; i < reader->count; i++) {
		int status;

		if (strcmp(reader->words[i], "up") == 0 || strcmp(reader->words[i], "down") == 0) {
			up = reader->words[i][0] == 'u';
			continue;
		}
		status = read_speed(reader, &i, &bandwidth, &latency);
		if (status > 0)
			return wrong(reader,
				     "'%s' is not known of links; they are up, down, have bandwidth and latency",
				     reader->words[i]);
		if (status < 0)
			return -1;
	}
	if (device[0] == device[1])
		return wrong(reader, "device %s cannot be linked to itself", reader->words[1]);
	index = cw__world_link(reader->world, device[0], port[0], device[1], port[1], bandwidth, latency);
	if (index < 0)
		return wrong(reader, "a port of this %s is in use already", "link");
	atomic_store_explicit(&reader->world->links[index].up, up, memory_order_relaxed);
	return 0;
}

/* host|inside D|* [bandwidth B] [latency T] */
static int read_lane(struct reader *reader)
{
	int is_host = reader->words[0][0] == 'h', device = -1;

	if (reader->count < 2)
		return wrong(reader, "'%s' needs a device, or *", reader->words[0]);
	if (strcmp(reader->words[1], "*") != 0 && parse_device(reader, reader->words[1], &device) != 0)
		return -1;
	for (unsigned i = 2; i < reader->count; i++) {
		uint64_t bandwidth = EMULATE_NOT_GIVEN, latency = EMULATE_NOT_GIVEN;
		int status = read_speed(reader, &i, &bandwidth, &latency);

		if (status > 0)
			return wrong(reader, "'%s' is not known here; there are bandwidth and latency",
				     reader->words[i]);
		if (status < 0)
			return -1;
		for (int d = 0; d < (int)reader->world->device_count; d++) {
			struct cw__world_device *at = &reader->world->devices[d];
			struct cw__world_lane *lanes[] = { is_host ? &at->from_host : &at->inside,
							   is_host ? &at->to_host : &at->inside };

			for (int lane = 0; lane < 2 && (device < 0 || device == d); lane++) {
				if (bandwidth != EMULATE_NOT_GIVEN)
					lanes[lane]->bandwidth = bandwidth;
				if (latency != EMULATE_NOT_GIVEN)
					lanes[lane]->latency = latency;
			}
		}
	}
	return 0;
}

/* access none|linked|all, or access D D yes|no */
static int read_access(struct reader *reader)
{
	static const char *const words[] = { "linked", "none", "all" };
	int from, to;

	if (reader->count == 2) {
		for (int i = 0; i < 3; i++) {
			if (strcmp(reader->words[1], words[i]) == 0) {
				reader->access = (enum access)i;
				return 0;
			}
		}
		return wrong(reader, "access is none, linked or all, not '%s'", reader->words[1]);
	}
	if (reader->count != 4)
		return wrong(reader, "'%s' is none, linked or all; or two devices and yes or no", "access");
	if (parse_device(reader, reader->words[1], &from) != 0 || parse_device(reader, reader->words[2], &to) != 0)
		return -1;
	if (strcmp(reader->words[3], "yes") == 0)
		reader->may[from] |= 1ULL << to;
	else if (strcmp(reader->words[3], "no") == 0)
		reader->may_not[from] |= 1ULL << to;
	else
		return wrong(reader, "'%s' is neither yes nor no", reader->words[3]);
	return 0;
}

/* timing on|off */
static int read_timing(struct reader *reader)
{
	if (reader->count != 2 || (strcmp(reader->words[1], "on") != 0 && strcmp(reader->words[1], "off") != 0))
		return wrong(reader, "%s is on or off", "timing");
	reader->world->timing = strcmp(reader->words[1], "on") == 0;
	return 0;
}

/* --------------------------------------------------------------------------------------------- lines */

static const struct statement {
	const char *name;
	int (*read)(struct reader *reader);
} statements[] = {
	{ "device", read_device }, { "link", read_link },     { "host", read_lane },
	{ "inside", read_lane },   { "access", read_access }, { "timing", read_timing },
};

static int read_line(struct reader *reader, char *line)
{
	char *rest = line, *word;

	line[strcspn(line, "#")] = '\0';
	reader->count = 0;
	while ((word = strtok_r(rest, " \t\r\n", &rest))) {
		if (reader->count == WORDS_MAX)
			return wrong(reader, "too many words, from '%s' on", word);
		reader->words[reader->count++] = word;
	}
	if (!reader->count)
		return 0;
	for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++)
		if (strcmp(reader->words[0], statements[i].name) == 0)
			return statements[i].read(reader);
	return wrong(reader, "'%s' is not known; there are device, link, host, inside, access and timing",
		     reader->words[0]);
}

static void settle_access(struct reader *reader)
{
	uint64_t all = reader->world->device_count == 64 ? UINT64_MAX : (1ULL << reader->world->device_count) - 1;

	for (unsigned i = 0; i < reader->world->device_count; i++) {
		uint64_t *access = &reader->world->devices[i].access;

		if (reader->access != ACCESS_LINKED)
			*access = reader->access == ACCESS_ALL ? all : 0;
		*access = (*access | reader->may[i]) & ~reader->may_not[i] & ~(1ULL << i);
	}
}

int emulate_read_file(const char *path, struct cw__world *world, char *why)
{
	struct reader reader = { .path = path, .why = why, .world = world };
	char line[LINE_MAX_LENGTH];
	FILE *in = fopen(path, "re");
	int status = 0;

	if (!in) {
		snprintf(why, EMULATE_WHY, "%s: %s", path, strerror(errno));
		return -1;
	}
	/* The defaults of all that there may be; device lines say how many there are. */
	cw__world_devices(world, CW__WORLD_DEVICES);
	world->device_count = 0;
	while (!status && fgets(line, sizeof(line), in)) {
		reader.line++;
		if (!strchr(line, '\n') && strlen(line) + 1 == sizeof(line))
			status = wrong(&reader, "the line is too %s", "long");
		else
			status = read_line(&reader, line);
	}
	if (!status && ferror(in)) {
		snprintf(why, EMULATE_WHY, "%s: cannot be read", path);
		status = -1;
	}
	fclose(in);
	if (!status && !world->device_count)
		status = wrong(&reader, "there is no %s", "device");
	if (!status)
		settle_access(&reader);
	return status;
}
