/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault rules: what goes wrong, when. The file that CAUSEWAY_EMULATE_FAULTS names has one rule a line; # starts a
 * comment.
 *
 *     SYMBOL [CONDITION]... ACTION
 *
 * SYMBOL is a pattern as of the shell (tangMemcpyPeer*, *). A rule's calls are those of matching symbols for which all
 * of device=N (the current one, or that copied from), peer=N (that copied to), port=N, bytes=N (at least),
 * program=PATTERN hold; of these it fires at call=N      the N-th only             from=N   the N-th and all later ones
 * (neither: each) every=N     each N-th                 chance=P with probability P, from seed=N  (default 1) times=N
 * at most so often and when several fire, the first in the file counts. ACTION is one of fail CODE             the call
 * gives the vendor's CODE and does nothing delay US              it happens so much later; of an asynchronous copy: it
 * runs so much later hang [MS] [FILE]      it stops until FILE appears, or for MS milliseconds, or for ever; then goes
 * on partial BYTES CODE    a copy ends with CODE after so many bytes corrupt               one byte of what a copy
 * wrote is wrong removed [DEVICE]      the device (default: the current one) is lost, for all of its world port_down
 * DEVICE PORT [BYTES]  the port goes down, for all of its world, after BYTES more have passed through it Devices of the
 * last two are those of the world. Counting is by process.
 */
#include "state.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WORDS 16
#define POLL_NS 2000000

struct rule {
	struct rule *next;
	char *text; /* the line; the words are in it */
	const char *symbol;
	int device, peer, port; /* -1 = any */
	uint64_t bytes;
	uint64_t call, from, every, times; /* 0 = no such condition */
	double chance;                     /* 0 = certain */
	_Atomic uint64_t random;
	_Atomic uint64_t matched, fired;
	struct cw__emu_fault fault;
	int target_device, target_port; /* of removed and port_down; -1 = the current device */
};

struct cw__emu_rules {
	unsigned count;
	struct rule *rules[];
};

static struct rule *first;
/* By link: how many bytes may still pass; negative = no limit. */
static _Atomic int64_t budget[CW__WORLD_LINKS];

static int read_integer(const char *text, uint64_t *number_out)
{
	char *end;

	errno = 0;
	*number_out = strtoull(text, &end, 10);
	return errno || end == text || *end || *text == '-' ? -1 : 0;
}

static int read_small(const char *text, int *number_out)
{
	uint64_t number;

	if (read_integer(text, &number) || number > 100000)
		return -1;
	*number_out = (int)number;
	return 0;
}

/* 1 when the rule is for another program, -1 when the condition means nothing. */
static int read_condition(struct rule *rule, char *word)
{
	char *value = strchr(word, '=');
	uint64_t seed;

	*value++ = '\0';
	if (!strcmp(word, "program"))
		return fnmatch(value, program_invocation_short_name, 0) ? 1 : 0;
	if (!strcmp(word, "chance")) {
		char *end;

		rule->chance = strtod(value, &end);
		return *end || rule->chance <= 0 || rule->chance > 1 ? -1 : 0;
	}
	if (!strcmp(word, "seed")) {
		if (read_integer(value, &seed))
			return -1;
		atomic_init(&rule->random, seed);
		return 0;
	}

	const struct {
		const char *name;
		int *small;
		uint64_t *large;
	} names[] = {
		{ "device", &rule->device, NULL }, { "peer", &rule->peer, NULL },   { "port", &rule->port, NULL },
		{ "bytes", NULL, &rule->bytes },   { "call", NULL, &rule->call },   { "from", NULL, &rule->from },
		{ "every", NULL, &rule->every },   { "times", NULL, &rule->times },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(word, names[i].name))
			continue;
		return names[i].small ? read_small(value, names[i].small) : read_integer(value, names[i].large);
	}
	return -1;
}

static int read_hang(struct rule *rule, char **words, int count)
{
	for (int i = 0; i < count; i++) {
		if (words[i][0] == '/')
			rule->fault.until = words[i];
		else if (read_integer(words[i], &rule->fault.amount) || rule->fault.amount > UINT32_MAX)
			return -1;
	}
	rule->fault.amount *= 1000;
	return 0;
}

static int read_port_down(struct rule *rule, char **words, int count)
{
	if (count < 2 || read_small(words[0], &rule->target_device) || read_small(words[1], &rule->target_port) ||
	    (uint32_t)rule->target_device >= cw__emu.world->device_count || rule->target_port >= CW__WORLD_PORTS ||
	    cw__emu.world->devices[rule->target_device].ports[rule->target_port].link < 0)
		return -1;
	return count == 3 ? read_integer(words[2], &rule->fault.amount) : 0;
}

static int read_action(struct rule *rule, char **words, int count)
{
	static const struct {
		const char *name;
		int action, least, most;
	} actions[] = {
		{ "fail", CW__EMU_FAIL, 1, 1 },           { "delay", CW__EMU_DELAY, 1, 1 },
		{ "hang", CW__EMU_HANG, 0, 2 },           { "partial", CW__EMU_PARTIAL, 2, 2 },
		{ "corrupt", CW__EMU_CORRUPT, 0, 0 },     { "removed", CW__EMU_REMOVE, 0, 1 },
		{ "port_down", CW__EMU_PORT_DOWN, 2, 3 },
	};
	const int arguments = count - 1;

	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (strcmp(words[0], actions[i].name))
			continue;
		if (arguments < actions[i].least || arguments > actions[i].most)
			return -1;
		rule->fault.action = actions[i].action;
		switch (actions[i].action) {
		case CW__EMU_FAIL:
			return read_small(words[1], &rule->fault.code) || !rule->fault.code ? -1 : 0;
		case CW__EMU_DELAY:
			return read_integer(words[1], &rule->fault.amount);
		case CW__EMU_HANG:
			return read_hang(rule, words + 1, arguments);
		case CW__EMU_PARTIAL:
			return read_integer(words[1], &rule->fault.amount) || read_small(words[2], &rule->fault.code);
		case CW__EMU_REMOVE:
			return arguments ? read_small(words[1], &rule->target_device) ||
						   (uint32_t)rule->target_device >= cw__emu.world->device_count
					 : 0;
		case CW__EMU_PORT_DOWN:
			return read_port_down(rule, words + 1, arguments);
		default:
			return 0;
		}
	}
	return -1;
}

/* A rule of the line; *skip_out: there is none in it for this program. NULL without skip: it means nothing. */
static struct rule *read_rule(const char *line, int *skip_out)
{
	char *words[WORDS], *save = NULL;
	struct rule *rule = calloc(1, sizeof(*rule));
	int count = 0, next = 1, condition;

	*skip_out = 0;
	if (!rule)
		return NULL;
	rule->text = strdup(line);
	rule->device = rule->peer = rule->port = rule->target_device = rule->target_port = -1;
	atomic_init(&rule->random, 1);
	if (!rule->text)
		goto bad;
	rule->text[strcspn(rule->text, "#\n")] = '\0';
	for (char *word = strtok_r(rule->text, " \t\r", &save); word; word = strtok_r(NULL, " \t\r", &save)) {
		if (count == WORDS)
			goto bad;
		words[count++] = word;
	}
	if (!count) {
		*skip_out = 1;
		goto bad;
	}
	rule->symbol = words[0];
	for (; next < count && strchr(words[next], '='); next++) {
		condition = read_condition(rule, words[next]);
		if (condition) {
			*skip_out = condition > 0;
			goto bad;
		}
	}
	if (next < count && !read_action(rule, words + next, count - next))
		return rule;
bad:
	free(rule->text);
	free(rule);
	return NULL;
}

int cw__emu_faults_read(const char *path)
{
	struct rule **last = &first;
	char line[1024];
	int number = 0, result = 0;
	FILE *file;

	for (int i = 0; i < CW__WORLD_LINKS; i++)
		atomic_init(&budget[i], -1);
	if (!path || !*path)
		return 0;
	file = fopen(path, "re");
	if (!file) {
		snprintf(cw__emu.why, sizeof(cw__emu.why), "the fault rules %s: %s", path, strerror(errno));
		return -1;
	}
	while (!result && fgets(line, sizeof(line), file)) {
		int skip;
		struct rule *rule = read_rule(line, &skip);

		number++;
		if (rule) {
			*last = rule;
			last = &rule->next;
		} else if (!skip) {
			snprintf(cw__emu.why, sizeof(cw__emu.why), "the fault rules %s: line %d means nothing", path,
				 number);
			result = -1;
		}
	}
	fclose(file);
	return result;
}

struct cw__emu_rules *cw__emu_faults_of(const char *symbol)
{
	struct cw__emu_rules *rules;
	unsigned count = 0;

	for (const struct rule *rule = first; rule; rule = rule->next)
		count += !fnmatch(rule->symbol, symbol, 0);
	if (!count)
		return NULL;
	rules = malloc(sizeof(*rules) + count * sizeof(rules->rules[0]));
	if (!rules)
		return NULL;
	rules->count = 0;
	for (struct rule *rule = first; rule; rule = rule->next) {
		if (!fnmatch(rule->symbol, symbol, 0))
			rules->rules[rules->count++] = rule;
	}
	return rules;
}

/* splitmix64: a counter through a mixing function, so threads can share it. */
static double draw(struct rule *rule)
{
	uint64_t z = atomic_fetch_add_explicit(&rule->random, 0x9e3779b97f4a7c15ULL, memory_order_relaxed);

	z += 0x9e3779b97f4a7c15ULL;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	z ^= z >> 31;
	return (double)(z >> 11) / 9007199254740992.0;
}

static int fires(struct rule *rule, const struct cw__emu_call *call)
{
	const int device = call->device >= 0 ? call->device : call->current;
	uint64_t number;

	if ((rule->device >= 0 && rule->device != device) || (rule->peer >= 0 && rule->peer != call->peer) ||
	    (rule->port >= 0 && rule->port != call->port) || rule->bytes > call->bytes)
		return 0;
	number = atomic_fetch_add_explicit(&rule->matched, 1, memory_order_relaxed) + 1;
	if ((rule->call && number != rule->call) || number < rule->from || (rule->every && number % rule->every) ||
	    (rule->chance > 0 && draw(rule) >= rule->chance))
		return 0;
	if (atomic_fetch_add_explicit(&rule->fired, 1, memory_order_relaxed) >= rule->times && rule->times)
		return 0;
	cw__emu_gauge(CW__EMU_FAULTS_FIRED, 1);
	return 1;
}

int cw__emu_fault(struct cw__emu_call *call, struct cw__emu_fault *fault_out)
{
	struct cw__world *world = cw__emu.world;
	struct cw__emu_rules *rules = call->symbol->rules;

	for (unsigned i = 0; i < rules->count; i++) {
		struct rule *rule = rules->rules[i];

		if (!fires(rule, call))
			continue;
		*fault_out = rule->fault;
		if (rule->fault.action == CW__EMU_REMOVE) {
			const int device = rule->target_device >= 0 ? rule->target_device : cw__emu_current();

			atomic_store(&world->devices[device].removed, 1);
		} else if (rule->fault.action == CW__EMU_PORT_DOWN) {
			const int link = world->devices[rule->target_device].ports[rule->target_port].link;

			if (rule->fault.amount)
				atomic_store(&budget[link], (int64_t)rule->fault.amount);
			else
				atomic_store(&world->links[link].up, 0);
		}
		return 1;
	}
	return 0;
}

void cw__emu_fault_wait(const struct cw__emu_fault *fault)
{
	const struct timespec step = { 0, POLL_NS };
	const uint64_t end = cw__emu_now() + fault->amount * 1000;

	if (fault->action == CW__EMU_DELAY) {
		cw__emu_sleep_until(end);
	} else if (fault->action == CW__EMU_HANG) {
		while ((!fault->amount || cw__emu_now() < end) && (!fault->until || access(fault->until, F_OK)))
			nanosleep(&step, NULL);
	}
}

size_t cw__emu_fault_link(int link, size_t size, int *last_out)
{
	int64_t left = atomic_load_explicit(&budget[link], memory_order_relaxed);

	while (left >= 0) {
		const int64_t part = (int64_t)size < left ? (int64_t)size : left;

		if (!atomic_compare_exchange_weak(&budget[link], &left, left == part ? -1 : left - part))
			continue;
		*last_out = left == part;
		return (size_t)part;
	}
	return size;
}
