/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The binary interface that programs for Mooncake were compiled with: sizes, offsets and values, as numbers that were
 * written down apart from the headers, and the type of each function.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <tent/transfer_engine.h>
#include <transfer_engine_c.h>

#define SIZE(type)                                                                                                     \
	{                                                                                                              \
		"sizeof " #type, sizeof(struct type), _Alignof(struct type)                                            \
	}
#define FIELD(type, field)                                                                                             \
	{                                                                                                              \
#type "." #field, offsetof(struct type, field), sizeof(((struct type *)0)->field)                      \
	}

static const struct row {
	const char *name;
	size_t a, b;
} found[] = {
	SIZE(transfer_request),
	FIELD(transfer_request, opcode),
	FIELD(transfer_request, source),
	FIELD(transfer_request, target_id),
	FIELD(transfer_request, target_offset),
	FIELD(transfer_request, length),
	SIZE(transfer_status),
	FIELD(transfer_status, status),
	FIELD(transfer_status, transferred_bytes),
	SIZE(notify_msg),
	FIELD(notify_msg, name),
	FIELD(notify_msg, msg),
	SIZE(buffer_entry),
	FIELD(buffer_entry, addr),
	FIELD(buffer_entry, length),
	SIZE(segment_desc),
	FIELD(segment_desc, type),
	FIELD(segment_desc, desc_.rdma.addr),
	FIELD(segment_desc, desc_.rdma.size),
	FIELD(segment_desc, desc_.rdma.location),
	FIELD(segment_desc, desc_.nvmeof.file_path),
	FIELD(segment_desc, desc_.nvmeof.subsystem_name),
	FIELD(segment_desc, desc_.nvmeof.proto),
	FIELD(segment_desc, desc_.nvmeof.ip),
	FIELD(segment_desc, desc_.nvmeof.port),
	SIZE(nic_load_stat),
	FIELD(nic_load_stat, device_name),
	FIELD(nic_load_stat, inflight_bytes),
	FIELD(nic_load_stat, ewma_bandwidth_bps),
	SIZE(tent_request),
	FIELD(tent_request, opcode),
	FIELD(tent_request, source),
	FIELD(tent_request, target_id),
	FIELD(tent_request, target_offset),
	FIELD(tent_request, length),
	FIELD(tent_request, priority),
	FIELD(tent_request, transport_hint),
	SIZE(tent_status),
	FIELD(tent_status, status),
	FIELD(tent_status, transferred_bytes),
	SIZE(tent_buffer_info),
	FIELD(tent_buffer_info, base),
	FIELD(tent_buffer_info, length),
	FIELD(tent_buffer_info, location),
	SIZE(tent_segment_info),
	FIELD(tent_segment_info, type),
	FIELD(tent_segment_info, num_buffers),
	FIELD(tent_segment_info, buffers),
	SIZE(tent_notifi_record),
	FIELD(tent_notifi_record, handle),
	FIELD(tent_notifi_record, name),
	FIELD(tent_notifi_record, msg),
	SIZE(tent_notifi_info),
	FIELD(tent_notifi_info, num_records),
	FIELD(tent_notifi_info, records),
	SIZE(tent_memory_options),
	FIELD(tent_memory_options, location),
	FIELD(tent_memory_options, permission),
	FIELD(tent_memory_options, transport_type),
	FIELD(tent_memory_options, shm_path),
	FIELD(tent_memory_options, shm_offset),
	FIELD(tent_memory_options, internal),
	SIZE(tent_nic_load_stat),
	FIELD(tent_nic_load_stat, device_name),
	FIELD(tent_nic_load_stat, inflight_bytes),
	FIELD(tent_nic_load_stat, ewma_bandwidth_bps),
};

/* size and alignment, or offset and size */
static const size_t
	expected[][2] = {
		{ 40, 8 },   { 0, 4 },  { 8, 8 },   { 16, 4 },     { 24, 8 },   { 32, 8 }, /* transfer_request */
		{ 16, 8 },   { 0, 4 },  { 8, 8 },                                          /* transfer_status */
		{ 16, 8 },   { 0, 8 },  { 8, 8 },                                          /* notify_msg */
		{ 16, 8 },   { 0, 8 },  { 8, 8 },                                          /* buffer_entry */
		{ 48, 8 },   { 0, 4 },  { 8, 8 },   { 16, 8 },     { 24, 8 },   { 8, 8 },
		{ 16, 8 },   { 24, 8 }, { 32, 8 },  { 40, 8 }, /* segment_desc */
		{ 80, 8 },   { 0, 64 }, { 64, 8 },  { 72, 8 }, /* nic_load_stat */
		{ 48, 8 },   { 0, 4 },  { 8, 8 },   { 16, 8 },     { 24, 8 },   { 32, 8 },
		{ 40, 4 },   { 44, 4 },                            /* tent_request
								    */
		{ 16, 8 },   { 0, 4 },  { 8, 8 },                  /* tent_status */
		{ 80, 8 },   { 0, 8 },  { 8, 8 },   { 16, 64 },    /* tent_buffer_info */
		{ 16, 8 },   { 0, 4 },  { 4, 4 },   { 8, 8 },      /* tent_segment_info */
		{ 4360, 8 }, { 0, 8 },  { 8, 256 }, { 264, 4096 }, /* tent_notifi_record */
		{ 16, 8 },   { 0, 4 },  { 8, 8 },                  /* tent_notifi_info */
		{ 344, 8 },  { 0, 64 }, { 64, 4 },  { 68, 4 },     { 72, 256 }, { 328, 8 },
		{ 336, 4 },  { 80, 8 }, { 0, 64 },  { 64, 8 },     { 72, 8 }, /* tent_nic_load_stat */
	};

static void layouts(void **state)
{
	(void)state;
	assert_int_equal(sizeof(found) / sizeof(found[0]), sizeof(expected) / sizeof(expected[0]));
	for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++)
		if (found[i].a != expected[i][0] || found[i].b != expected[i][1])
			fail_msg("%s: %zu, %zu; expected %zu, %zu", found[i].name, found[i].a, found[i].b,
				 expected[i][0], expected[i][1]);
}

#define VALUE(name, value)                                                                                             \
	{                                                                                                              \
#name, (uint64_t)(name), value                                                                         \
	}

static const struct value {
	const char *name;
	uint64_t found, expected;
} values[] = {
	VALUE(LOCAL_SEGMENT, 0),
	VALUE(INVALID_BATCH, 0xffffffffffffffffu),
	VALUE(OPCODE_READ, 0),
	VALUE(OPCODE_WRITE, 1),
	VALUE(STATUS_WAITING, 0),
	VALUE(STATUS_PENDING, 1),
	VALUE(STATUS_INVALID, 2),
	VALUE(STATUS_CANCELED, 3),
	VALUE(STATUS_COMPLETED, 4),
	VALUE(STATUS_TIMEOUT, 5),
	VALUE(STATUS_FAILED, 6),
	VALUE(LOCAL_SEGMENT_ID, 0),
	VALUE(TYPE_MEMORY, 0),
	VALUE(TYPE_FILE, 1),
	VALUE(PERM_LOCAL_READ_WRITE, 0),
	VALUE(PERM_GLOBAL_READ_ONLY, 1),
	VALUE(PERM_GLOBAL_READ_WRITE, 2),
	VALUE(TRANSPORT_UNSPEC, 0),
	VALUE(TRANSPORT_RDMA, 1),
	VALUE(TRANSPORT_MNNVL, 2),
	VALUE(TRANSPORT_SHM, 3),
	VALUE(TRANSPORT_NVLINK, 4),
	VALUE(TRANSPORT_GDS, 5),
	VALUE(TRANSPORT_IOURING, 6),
	VALUE(TRANSPORT_TCP, 7),
	VALUE(TRANSPORT_ASCEND_DIRECT, 8),
	VALUE(TRANSPORT_SUNRISE_LINK, 9),
	VALUE(TRANSPORT_TPU, 10),
	VALUE(TRANSPORT_UB, 11),
	VALUE(TRANSPORT_MPCOMM, 12),
	VALUE(sizeof(segment_handle_t), 4),
	VALUE(sizeof(segment_id_t), 4),
	VALUE(sizeof(batch_id_t), 8),
	VALUE(sizeof(tent_segment_id_t), 8),
	VALUE(sizeof(tent_batch_id_t), 8),
	VALUE(sizeof(transfer_engine_t), 8),
	VALUE(sizeof(transport_t), 8),
	VALUE(sizeof(tent_engine_t), 8),
};

static void macros(void **state)
{
	segment_id_t negative = -1; /* the numbers of classic segments are signed */

	(void)state;
	assert_true(negative < 0);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		if (values[i].found != values[i].expected)
			fail_msg("%s is %llu; expected %llu", values[i].name, (unsigned long long)values[i].found,
				 (unsigned long long)values[i].expected);
}

/* A program may keep them in pointers of exactly these types: the compiler compares. */
static struct {
	void *(*create)(const char *, const char *, const char *, uint64_t, int);
	int (*of_engine)(void *);
	int (*address)(void *, char *, size_t);
	void *(*install)(void *, const char *, void **);
	int (*of_name)(void *, const char *);
	int32_t (*open)(void *, const char *);
	int (*close)(void *, int32_t);
	void (*destroy)(void *);
	int (*add)(void *, void *, size_t, const char *, int);
	int (*remove)(void *, void *);
	int (*add_all)(void *, struct buffer_entry *, size_t, const char *);
	int (*remove_all)(void *, void **, size_t);
	uint64_t (*allocate)(void *, size_t);
	int (*submit)(void *, uint64_t, struct transfer_request *, size_t);
	int (*submit_notify)(void *, uint64_t, struct transfer_request *, size_t, struct notify_msg);
	struct notify_msg *(*notes)(void *, int *);
	int (*free_notes)(struct notify_msg *, int);
	int (*notify)(void *, uint64_t, struct notify_msg);
	int (*status)(void *, uint64_t, size_t, struct transfer_status *);
	int (*free_batch)(void *, uint64_t);
	int (*load)(void *, struct nic_load_stat *, size_t *);
	int (*links)(void *, char *, size_t, int);
} functions = {
	createTransferEngine,
	discoverTopology,
	getLocalIpAndPort,
	installTransport,
	uninstallTransport,
	openSegment,
	closeSegment,
	destroyTransferEngine,
	registerLocalMemory,
	unregisterLocalMemory,
	registerLocalMemoryBatch,
	unregisterLocalMemoryBatch,
	allocateBatchID,
	submitTransfer,
	submitTransferWithNotify,
	getNotifsFromEngine,
	freeNotifsMsgBuf,
	genNotifyInEngine,
	getTransferStatus,
	freeBatchID,
	getNicLoadStats,
	showLinks,
};

static struct {
	void (*load_config)(const char *);
	void (*set_config)(const char *, const char *);
	void *(*create)(void);
	int (*name)(void *, char *, size_t);
	int (*address)(void *, char *, size_t, uint16_t *);
	int (*open)(void *, uint64_t *, const char *);
	int (*close)(void *, uint64_t);
	int (*info)(void *, uint64_t, struct tent_segment_info *);
	void (*free_info)(struct tent_segment_info *);
	int (*allocate)(void *, void **, size_t, const char *);
	int (*allocate_ex)(void *, void **, size_t, struct tent_memory_options *);
	int (*free)(void *, void *);
	int (*add)(void *, void *, size_t);
	int (*add_perm)(void *, void *, size_t, int);
	int (*add_ex)(void *, void *, size_t, struct tent_memory_options *);
	int (*add_batch)(void *, void **, size_t *, size_t, int);
	int (*add_batch_ex)(void *, void **, size_t *, size_t, struct tent_memory_options *);
	int (*remove_batch)(void *, void **, size_t *, size_t);
	uint64_t (*allocate_batch)(void *, size_t);
	int (*submit)(void *, uint64_t, struct tent_request *, size_t);
	int (*submit_notif)(void *, uint64_t, struct tent_request *, size_t, const char *, const char *);
	int (*send)(void *, uint64_t, const char *, const char *);
	int (*receive)(void *, struct tent_notifi_info *);
	void (*free_notes)(struct tent_notifi_info *);
	int (*task)(void *, uint64_t, size_t, struct tent_status *);
	int (*overall)(void *, uint64_t, struct tent_status *);
	int (*list)(void *, uint64_t, struct tent_status *, size_t *);
	int (*cancel)(void *, uint64_t, size_t);
	int (*load)(void *, struct tent_nic_load_stat *, size_t *);
} tent_functions = {
	tent_load_config_from_file,
	tent_set_config,
	tent_create_engine,
	tent_segment_name,
	tent_rpc_server_addr_port,
	tent_open_segment,
	tent_close_segment,
	tent_get_segment_info,
	tent_free_segment_info,
	tent_allocate_memory,
	tent_allocate_memory_ex,
	tent_free_memory,
	tent_register_memory,
	tent_register_memory_with_perm,
	tent_register_memory_ex,
	tent_register_memory_batch,
	tent_register_memory_batch_ex,
	tent_unregister_memory_batch,
	tent_allocate_batch,
	tent_submit,
	tent_submit_notif,
	tent_send_notifs,
	tent_recv_notifs,
	tent_free_notifs,
	tent_task_status,
	tent_overall_status,
	tent_task_status_list,
	tent_cancel_task,
	tent_get_nic_load_stats,
};

/* The same type for several. */
static void prototypes(void **state)
{
	(void)state;
	functions.of_engine = syncSegmentCache;
	functions.of_engine = tent_available;
	functions.of_name = warmupEfaSegment;
	functions.of_name = removeLocalSegment;
	functions.open = openSegmentNoCache;
	functions.destroy = enableGracefulShutdown;
	functions.destroy = tent_destroy_engine;
	functions.free_batch = tent_free_batch;
	tent_functions.add = tent_unregister_memory;
	for (size_t i = 0; i < sizeof(functions) / sizeof(void *); i++) {
		void *function;

		memcpy(&function, (char *)&functions + i * sizeof(function), sizeof(function));
		assert_non_null(function);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layouts),
		cmocka_unit_test(macros),
		cmocka_unit_test(prototypes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
