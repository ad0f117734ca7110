/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory over a store in memory that the test can hold up, break and empty: what is published when, how often it
 * is tried, what is said about it, and how long anybody waits.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <core/directory_ops.h>
#include <util/clock.h>

#define KEYS_MAX 8
#define TIMEOUT (300 * CW__MS)
#define SLACK (2 * CW__SECOND) /* for a machine that does other things too */

int cw__fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --------------------------------------------------------------------------------------------- the store */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct {
		char key[CW_METADATA_KEY_MAX], *value;
	} entries[KEYS_MAX];
	int held;    /* calls wait, until their timeout */
	int failure; /* what calls return */
	int short_values;
	unsigned puts, gets, dels, keeps, waiting, lost_keeps;
} store = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* What every call begins with; the lock is held afterwards. */
static int enter(unsigned *count, uint64_t timeout)
{
	uint64_t until = cw__now() + timeout;

	pthread_mutex_lock(&store.lock);
	++*count;
	store.waiting++;
	pthread_cond_broadcast(&store.changed);
	while (store.held && cw__now() < until) {
		struct timespec at;

		clock_gettime(CLOCK_REALTIME, &at);
		at.tv_nsec += 2000000;
		at.tv_sec += at.tv_nsec / 1000000000;
		at.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&store.changed, &store.lock, &at);
	}
	store.waiting--;
	return store.held ? CW_ERR_TIMED_OUT : store.failure;
}

static int leave(int status)
{
	pthread_cond_broadcast(&store.changed);
	pthread_mutex_unlock(&store.lock);
	return status;
}

static int slot_of(const char *key)
{
	for (int i = 0; i < KEYS_MAX; i++)
		if (!strcmp(store.entries[i].key, key))
			return i;
	return -1;
}

static int store_get(void *at, const char *key, uint64_t timeout, struct cw_blob *value_out)
{
	struct cw_host *host = at;
	int status = enter(&store.gets, timeout), slot = slot_of(key);

	if (!status && slot < 0)
		status = CW_ERR_NOT_FOUND;
	if (!status)
		status =
			host->ops->blob_append(value_out, store.entries[slot].value, strlen(store.entries[slot].value));
	return leave(status ? cw__fail(status, "the store says no") : CW_OK);
}

static int store_put(void *at, const char *key, const void *value, size_t length, uint64_t timeout)
{
	int status = enter(&store.puts, timeout), slot = slot_of(key);

	(void)at;
	if (!status && store.short_values && length > 150)
		status = CW_ERR_LIMIT;
	if (!status) {
		slot = slot < 0 ? slot_of("") : slot;
		snprintf(store.entries[slot].key, CW_METADATA_KEY_MAX, "%s", key);
		free(store.entries[slot].value);
		store.entries[slot].value = strndup(value, length);
	}
	return leave(status ? cw__fail(status, "the store says no") : CW_OK);
}

static int store_del(void *at, const char *key, uint64_t timeout)
{
	int status = enter(&store.dels, timeout), slot = slot_of(key);

	(void)at;
	if (!status && slot >= 0)
		store.entries[slot].key[0] = '\0';
	return leave(status ? cw__fail(status, "the store says no") : CW_OK);
}

static int store_keep(void *at, uint64_t timeout)
{
	int status = enter(&store.keeps, timeout);

	(void)at;
	if (!status && slot_of("mooncake/rpc_meta/me") < 0) {
		store.lost_keeps++;
		status = CW_ERR_NOT_FOUND;
	}
	return leave(status);
}

static const struct cw_metadata_ops plain = {
	.abi = CW_PLUGIN_ABI, .name = "memory", .get = store_get, .put = store_put, .del = store_del
};
static const struct cw_metadata_ops leased = {
	.abi = CW_PLUGIN_ABI, .name = "memory", .get = store_get, .put = store_put, .del = store_del, .keep = store_keep
};

static void hold(int held)
{
	pthread_mutex_lock(&store.lock);
	store.held = held;
	pthread_cond_broadcast(&store.changed);
	pthread_mutex_unlock(&store.lock);
}

static void fail_with(int status)
{
	pthread_mutex_lock(&store.lock);
	store.failure = status;
	pthread_mutex_unlock(&store.lock);
}

static void lose_everything(void)
{
	pthread_mutex_lock(&store.lock);
	for (int i = 0; i < KEYS_MAX; i++)
		store.entries[i].key[0] = '\0';
	pthread_mutex_unlock(&store.lock);
}

static unsigned count_of(const unsigned *counter)
{
	unsigned count;

	pthread_mutex_lock(&store.lock);
	count = *counter;
	pthread_mutex_unlock(&store.lock);
	return count;
}

static int has(const char *key, const char *part)
{
	int slot, found;

	pthread_mutex_lock(&store.lock);
	slot = slot_of(key);
	found = slot >= 0 && strstr(store.entries[slot].value, part);
	pthread_mutex_unlock(&store.lock);
	return found;
}

#define wait_for(condition)                                                                                            \
	do {                                                                                                           \
		uint64_t limit_ = cw__now() + 10 * CW__SECOND;                                                         \
		while (!(condition)) {                                                                                 \
			struct timespec pause_ = { 0, 1000000 };                                                       \
			if (cw__now() > limit_)                                                                        \
				fail_msg("%s did not come true", #condition);                                          \
			nanosleep(&pause_, NULL);                                                                      \
		}                                                                                                      \
	} while (0)

/* ---------------------------------------------------------------------------------------- host and core */

static struct {
	pthread_mutex_t lock;
	unsigned warnings, version;
	char lines[2000];
	const char *url, *cluster, *name;
	uint64_t refresh, lease, required;
	int any_address;
} world = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void host_log(struct cw_host *host, enum cw_log_level level, const char *format, ...)
{
	va_list arguments;
	size_t used;

	(void)host;
	pthread_mutex_lock(&world.lock);
	used = strlen(world.lines);
	world.warnings += level <= CW_LOG_WARN;
	va_start(arguments, format);
	vsnprintf(world.lines + used, sizeof(world.lines) - used, format, arguments);
	va_end(arguments);
	strncat(world.lines, "\n", sizeof(world.lines) - strlen(world.lines) - 1);
	pthread_mutex_unlock(&world.lock);
}

static unsigned warnings(void)
{
	unsigned count;

	pthread_mutex_lock(&world.lock);
	count = world.warnings;
	pthread_mutex_unlock(&world.lock);
	return count;
}

static const char *host_setting(struct cw_host *host, const char *key)
{
	(void)host;
	return !strcmp(key, "metadata/url") ? world.url : !strcmp(key, "metadata/cluster") ? world.cluster : "";
}

static uint64_t host_number(struct cw_host *host, const char *key, uint64_t fallback)
{
	(void)host;
	if (!strcmp(key, "metadata/timeout"))
		return TIMEOUT;
	if (!strcmp(key, "metadata/refresh"))
		return world.refresh;
	if (!strcmp(key, "metadata/lease"))
		return world.lease;
	return !strcmp(key, "metadata/required") ? world.required : fallback;
}

static const char *host_name(struct cw_host *host)
{
	(void)host;
	return world.name;
}

static int host_append(struct cw_blob *blob, const void *data, size_t length)
{
	blob->data = realloc(blob->data, blob->length + length);
	memcpy(blob->data + blob->length, data, length);
	blob->length += length;
	return CW_OK;
}

static void host_blob_free(struct cw_blob *blob)
{
	free(blob->data);
	memset(blob, 0, sizeof(*blob));
}

static const struct cw_host_ops host_ops = {
	.abi = CW_PLUGIN_ABI,
	.log = host_log,
	.fail = cw__fail,
	.setting = host_setting,
	.setting_number = host_number,
	.engine_name = host_name,
	.blob_append = host_append,
	.blob_free = host_blob_free,
};
static struct cw_host host = { &host_ops, &host };

/* Each version of the list has one buffer, at its own address. */
char *cw__core_descriptor(struct cw_host *at, int with_buffers, size_t *length_out)
{
	struct cw__descriptor descriptor = { .protocol = "tcp", .tcp_proto_version = 2, .tcp_data_port = 9 };
	struct cw__classic_buffer buffer = { .length = 1 };

	(void)at;
	pthread_mutex_lock(&world.lock);
	buffer.address = 0x1000 + world.version;
	pthread_mutex_unlock(&world.lock);
	snprintf(descriptor.name, sizeof(descriptor.name), "%s", world.name);
	descriptor.buffers = &buffer;
	descriptor.buffer_count = with_buffers != 0;
	return cw__descriptor_encode(&descriptor, "2026-01-01 00:00:00.000000", length_out);
}

int cw__core_listener(struct cw_host *at, struct cw__rpc_meta *listener_out)
{
	(void)at;
	if (world.any_address)
		return cw__fail(CW_ERR_ADDRESS, "no address");
	*listener_out = (struct cw__rpc_meta){ "127.0.0.1", 4242 };
	return CW_OK;
}

/* ------------------------------------------------------------------------------------------ scaffolding */

static struct cw__directory *directory;

static void open_over(const struct cw_metadata_ops *ops)
{
	assert_int_equal(cw__directory.open(&host, ops, &host, &directory), CW_OK);
}

static void start_over(const struct cw_metadata_ops *ops)
{
	open_over(ops);
	assert_int_equal(cw__directory.start(directory), CW_OK);
}

static int set_up(void **state)
{
	(void)state;
	world.warnings = world.version = 0;
	world.lines[0] = '\0';
	world.url = "memory://user:secret@here/path";
	world.cluster = "";
	world.name = "me";
	world.refresh = 24 * 3600 * CW__SECOND;
	world.lease = world.required = 0;
	world.any_address = 0;
	store.held = store.failure = store.short_values = 0;
	store.puts = store.gets = store.dels = store.keeps = store.lost_keeps = 0;
	lose_everything();
	directory = NULL;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	hold(0);
	fail_with(CW_OK);
	if (directory) {
		cw__directory.stop(directory);
		cw__directory.close(directory);
	}
	for (int i = 0; i < KEYS_MAX; i++) {
		free(store.entries[i].value);
		store.entries[i].value = NULL;
	}
	return 0;
}

static uint64_t change(void)
{
	pthread_mutex_lock(&world.lock);
	world.version++;
	pthread_mutex_unlock(&world.lock);
	return cw__directory.changed(directory);
}

/* ------------------------------------------------------------------------------------------------ tests */

static void test_publishes_and_withdraws(void **state)
{
	(void)state;
	start_over(&plain);
	assert_true(has("mooncake/rpc_meta/me", "{\"ip_or_host_name\":\"127.0.0.1\",\"rpc_port\":4242}"));
	assert_true(has("mooncake/ram/me", "\"addr\":4096,"));
	assert_int_equal(cw__directory.await(directory, change(), CW_FOREVER), CW_OK);
	assert_true(has("mooncake/ram/me", "\"addr\":4097,"));
	assert_int_equal(store.puts, 3); /* the listener's entry stays as it is */
	cw__directory.stop(directory);
	assert_false(has("mooncake/ram/me", ""));
	assert_false(has("mooncake/rpc_meta/me", ""));
	assert_int_equal(warnings(), 0);
}

static void test_many_changes_are_few_puts(void **state)
{
	uint64_t ticket = 0;
	unsigned before;

	(void)state;
	start_over(&plain);
	before = count_of(&store.puts);
	hold(1);
	change();
	wait_for(count_of(&store.waiting) == 1);
	for (int i = 0; i < 1000; i++)
		ticket = change();
	assert_int_equal(cw__directory.await(directory, ticket, cw__now()), CW_ERR_AGAIN);
	hold(0);
	assert_int_equal(cw__directory.await(directory, ticket, CW_FOREVER), CW_OK);
	assert_true(has("mooncake/ram/me", "\"addr\":5097,"));
	assert_true(count_of(&store.puts) - before <= 2);
}

static void test_store_out_of_reach_is_said_once(void **state)
{
	uint64_t began, ticket;

	(void)state;
	start_over(&plain);
	fail_with(CW_ERR_CONNECT);
	cw__directory.await(directory, change(), CW_FOREVER);
	assert_int_equal(warnings(), 1);
	assert_non_null(strstr(world.lines, "memory://here/path does not work: the store says no"));
	assert_null(strstr(world.lines, "secret"));
	/* Known to be down: nobody waits for it. */
	began = cw__now();
	for (int i = 0; i < 100; i++)
		ticket = change();
	assert_int_equal(cw__directory.await(directory, ticket, CW_FOREVER), CW_OK);
	assert_true(cw__now() - began < TIMEOUT);
	wait_for(count_of(&store.puts) >= 4); /* it is tried again and again */
	assert_int_equal(warnings(), 1);
	lose_everything();
	fail_with(CW_OK);
	wait_for(has("mooncake/ram/me", "\"addr\":4197,"));
	assert_true(has("mooncake/rpc_meta/me", ""));
	wait_for(warnings() == 2);
}

static void test_lost_entries_come_back(void **state)
{
	static const struct cw_metadata_ops *const rows[] = { &plain, &leased };

	for (size_t i = 0; i < 2; i++) {
		set_up(state);
		world.refresh = 5 * CW__MS;
		start_over(rows[i]);
		lose_everything();
		wait_for(has("mooncake/ram/me", "") && has("mooncake/rpc_meta/me", ""));
		assert_int_equal(count_of(&store.lost_keeps), rows[i]->keep != NULL);
		assert_int_equal(warnings(), 0);
		tear_down(state);
	}
	directory = NULL;
}

static void test_leases_are_prolonged_in_time(void **state)
{
	(void)state;
	world.lease = 30 * CW__MS;
	start_over(&leased);
	wait_for(count_of(&store.keeps) >= 3);
}

static const char other[] = "{\"ip_or_host_name\":\"127.0.0.9\",\"rpc_port\":1}"; /* another engine's place */

static void test_name_of_another(void **state)
{
	(void)state;
	world.refresh = 5 * CW__MS;
	start_over(&plain);
	assert_int_equal(store_put(&host, "mooncake/rpc_meta/me", other, sizeof(other) - 1, TIMEOUT), CW_OK);
	wait_for(has("mooncake/rpc_meta/me", "4242"));
	assert_int_equal(warnings(), 1);
	assert_non_null(strstr(world.lines, "127.0.0.9"));
}

/* Two engines that write at once: the other one's descriptor stays although our listener is there. */
static void test_entries_of_two_engines(void **state)
{
	static const char theirs[] = "{\"name\":\"me\",\"protocol\":\"tcp\"}";
	unsigned before;

	(void)state;
	world.refresh = 150 * CW__MS;
	start_over(&plain);
	before = count_of(&store.puts);
	assert_int_equal(store_put(&host, "mooncake/rpc_meta/me", other, sizeof(other) - 1, TIMEOUT), CW_OK);
	wait_for(count_of(&store.puts) >= before + 3); /* it saw that, and put both again */
	assert_int_equal(store_put(&host, "mooncake/ram/me", theirs, sizeof(theirs) - 1, TIMEOUT), CW_OK);
	wait_for(has("mooncake/ram/me", "4096"));
}

/* Who took the name over meanwhile keeps it. */
static void test_withdraws_its_own_only(void **state)
{
	(void)state;
	start_over(&plain);
	assert_int_equal(store_put(&host, "mooncake/rpc_meta/me", other, sizeof(other) - 1, TIMEOUT), CW_OK);
	cw__directory.stop(directory);
	assert_true(has("mooncake/rpc_meta/me", "127.0.0.9"));
	assert_true(has("mooncake/ram/me", ""));
}

static void test_list_that_is_too_long(void **state)
{
	(void)state;
	store.short_values = 1;
	start_over(&plain);
	cw__directory.await(directory, change(), CW_FOREVER);
	assert_true(has("mooncake/ram/me", "\"buffers\":[]"));
	assert_int_equal(warnings(), 1);
}

static void test_start_failures(void **state)
{
	static const struct {
		int failure, required, any_address, expected;
	} rows[] = {
		{ CW_ERR_CONNECT, 0, 0, CW_OK },
		{ CW_ERR_TIMED_OUT, 0, 0, CW_OK },
		{ CW_ERR_CONNECT, 1, 0, CW_ERR_CONNECT },
		{ CW_ERR_PROTOCOL, 1, 0, CW_ERR_PROTOCOL },
		{ CW_ERR_PERMISSION, 0, 0, CW_ERR_PERMISSION },
		{ CW_OK, 0, 1, CW_ERR_ADDRESS },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		set_up(state);
		store.failure = rows[i].failure;
		world.required = (uint64_t)rows[i].required;
		world.any_address = rows[i].any_address;
		open_over(&plain);
		if (cw__directory.start(directory) != rows[i].expected)
			fail_msg("row %zu", i);
		tear_down(state);
	}
	directory = NULL;
}

static void test_start_and_stop_do_not_wait_longer_than_the_timeout(void **state)
{
	uint64_t began = cw__now();

	(void)state;
	hold(1);
	start_over(&plain);
	assert_true(cw__now() - began < TIMEOUT + SLACK);
	began = cw__now();
	cw__directory.stop(directory);
	assert_true(cw__now() - began < TIMEOUT + SLACK);
}

/* ---------------------------------------------------------------------------------------- looking up */

static void put_peer(const char *key_of_descriptor, const char *key_of_listener)
{
	static const char descriptor[] = "{\"name\":\"you\",\"protocol\":\"tcp\",\"tcp_data_port\":7,\"buffers\":[]}";
	static const char listener[] = "{\"ip_or_host_name\":\"127.0.0.1\",\"rpc_port\":77}";

	store_put(&host, key_of_descriptor, descriptor, sizeof(descriptor) - 1, TIMEOUT);
	store_put(&host, key_of_listener, listener, sizeof(listener) - 1, TIMEOUT);
}

static void found_free(struct cw__found *found)
{
	free(found->addresses.data);
	cw__descriptor_free(&found->descriptor);
	memset(found, 0, sizeof(*found));
}

static void test_finds(void **state)
{
	static const struct {
		const char *cluster, *name, *descriptor, *listener;
	} rows[] = {
		{ "", "you", "mooncake/ram/you", "mooncake/rpc_meta/you" },
		{ "blue", "you", "mooncake/blue/ram/you", "mooncake/blue/rpc_meta/you" },
		{ "blue/", "a/b", "mooncake/blue/a/b", "mooncake/blue/rpc_meta/a/b" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cw__found found;

		set_up(state);
		world.cluster = rows[i].cluster;
		open_over(&plain);
		put_peer(rows[i].descriptor, rows[i].listener);
		assert_int_equal(cw__directory.find(directory, rows[i].name, CW__SECOND, &found), CW_OK);
		assert_string_equal(found.addresses.data, "127.0.0.1:77\n");
		assert_true(found.described);
		assert_int_equal(found.descriptor.tcp_data_port, 7);
		found_free(&found);
		tear_down(state);
	}
	directory = NULL;
}

static void test_finds_nobody(void **state)
{
	char long_name[CW_METADATA_KEY_MAX + 1];
	struct cw__found found;

	(void)state;
	memset(long_name, 'n', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	open_over(&plain);
	assert_int_equal(cw__directory.find(directory, "nobody", CW__SECOND, &found), CW_ERR_NOT_FOUND);
	assert_string_equal(cw_last_error(),
			    "nobody is known as 'nobody': memory://here/path has no key mooncake/ram/nobody");
	assert_int_equal(cw__directory.find(directory, "", CW__SECOND, &found), CW_ERR_ADDRESS);
	assert_int_equal(cw__directory.find(directory, "a b", CW__SECOND, &found), CW_ERR_ADDRESS);
	assert_int_equal(cw__directory.find(directory, long_name, CW__SECOND, &found), CW_ERR_ADDRESS);
	put_peer("mooncake/ram/you", "mooncake/rpc_meta/else");
	assert_int_equal(cw__directory.find(directory, "you", CW__SECOND, &found), CW_ERR_NOT_FOUND);
	assert_non_null(strstr(cw_last_error(), "mooncake/rpc_meta/you"));
	put_peer("mooncake/rpc_meta/x", "mooncake/ram/x");
	assert_int_equal(cw__directory.find(directory, "x", CW__SECOND, &found), CW_ERR_PROTOCOL);
	fail_with(CW_ERR_CONNECT);
	assert_int_equal(cw__directory.find(directory, "you", CW__SECOND, &found), CW_ERR_CONNECT);
	assert_string_equal(cw_last_error(), "cannot look 'you' up: the store says no");
	assert_int_equal(cw__directory.changed(directory), 1); /* before start: nothing happens */
}

struct answer {
	_Atomic int came, status;
};

static void take(void *arg, int status, const char *text, struct cw__found *found)
{
	struct answer *answer = arg;

	if (status)
		assert_true(*text);
	else
		found_free(found);
	answer->status = status;
	answer->came++;
}

static void test_questions_do_not_queue_for_a_dead_store(void **state)
{
	struct answer answers[20] = { { 0 } };
	uint64_t began;

	(void)state;
	open_over(&plain);
	put_peer("mooncake/ram/you", "mooncake/rpc_meta/you");
	assert_int_equal(cw__directory.ask(directory, "you", take, &answers[0]), CW_OK);
	wait_for(answers[0].came);
	assert_int_equal(answers[0].status, CW_OK);
	answers[0].came = 0;
	hold(1);
	began = cw__now();
	for (int i = 0; i < 20; i++)
		assert_int_equal(cw__directory.ask(directory, i % 2 ? "you" : "nobody", take, &answers[i]), CW_OK);
	for (int i = 0; i < 20; i++) {
		wait_for(answers[i].came);
		assert_int_equal(answers[i].status, CW_ERR_TIMED_OUT);
	}
	assert_true(cw__now() - began < 3 * TIMEOUT + SLACK);
}

static void test_stop_answers_every_question(void **state)
{
	struct answer answers[3] = { { 0 } };

	(void)state;
	open_over(&plain);
	hold(1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(cw__directory.ask(directory, "you", take, &answers[i]), CW_OK);
	cw__directory.stop(directory);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(answers[i].came, 1);
		assert_true(answers[i].status == CW_ERR_TIMED_OUT || answers[i].status == CW_ERR_CLOSED);
	}
	assert_int_equal(cw__directory.ask(directory, "you", take, &answers[0]), CW_ERR_CLOSED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_publishes_and_withdraws),
		TEST(test_many_changes_are_few_puts),
		TEST(test_store_out_of_reach_is_said_once),
		TEST(test_lost_entries_come_back),
		TEST(test_leases_are_prolonged_in_time),
		TEST(test_name_of_another),
		TEST(test_entries_of_two_engines),
		TEST(test_withdraws_its_own_only),
		TEST(test_list_that_is_too_long),
		TEST(test_start_failures),
		TEST(test_start_and_stop_do_not_wait_longer_than_the_timeout),
		TEST(test_finds),
		TEST(test_finds_nobody),
		TEST(test_questions_do_not_queue_for_a_dead_store),
		TEST(test_stop_answers_every_question),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
