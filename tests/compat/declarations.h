/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program that was compiled for Mooncake knows, written from the published prototypes alone and not from this
 * project's headers: programs with these declarations must run against libtransfer_engine.so, and the library exports
 * exactly these functions.
 */
#ifndef TESTS_COMPAT_DECLARATIONS_H
#define TESTS_COMPAT_DECLARATIONS_H

#include <stddef.h>
#include <stdint.h>

#define LOCAL_SEGMENT 0
#define INVALID_BATCH UINT64_MAX
#define LOCAL_SEGMENT_ID 0ull

enum { OPCODE_READ, OPCODE_WRITE };
enum {
	STATUS_WAITING,
	STATUS_PENDING,
	STATUS_INVALID,
	STATUS_CANCELED,
	STATUS_COMPLETED,
	STATUS_TIMEOUT,
	STATUS_FAILED
};
enum { TYPE_MEMORY, TYPE_FILE };
enum { PERM_LOCAL_READ_WRITE, PERM_GLOBAL_READ_ONLY, PERM_GLOBAL_READ_WRITE };

/* transfer_engine_c.h */
typedef int32_t segment_id_t;
typedef uint64_t batch_id_t;
typedef void *transfer_engine_t;
typedef void *transport_t;

struct transfer_request {
	int opcode;
	void *source;
	int32_t target_id;
	uint64_t target_offset, length;
};
typedef struct transfer_status {
	int status;
	uint64_t transferred_bytes;
} transfer_status_t;
typedef struct notify_msg {
	char *name, *msg;
} notify_msg_t;
typedef struct buffer_entry {
	void *addr;
	size_t length;
} buffer_entry_t;
typedef struct nic_load_stat {
	char device_name[64];
	uint64_t inflight_bytes;
	double ewma_bandwidth_bps;
} nic_load_stat_t;

void *createTransferEngine(const char *, const char *, const char *, uint64_t, int);
int discoverTopology(void *);
int getLocalIpAndPort(void *, char *, size_t);
void *installTransport(void *, const char *, void **);
int uninstallTransport(void *, const char *);
int32_t openSegment(void *, const char *);
int32_t openSegmentNoCache(void *, const char *);
int closeSegment(void *, int32_t);
int warmupEfaSegment(void *, const char *);
int removeLocalSegment(void *, const char *);
void destroyTransferEngine(void *);
int registerLocalMemory(void *, void *, size_t, const char *, int);
int unregisterLocalMemory(void *, void *);
int registerLocalMemoryBatch(void *, buffer_entry_t *, size_t, const char *);
int unregisterLocalMemoryBatch(void *, void **, size_t);
uint64_t allocateBatchID(void *, size_t);
int submitTransfer(void *, uint64_t, struct transfer_request *, size_t);
int submitTransferWithNotify(void *, uint64_t, struct transfer_request *, size_t, notify_msg_t);
notify_msg_t *getNotifsFromEngine(void *, int *);
int freeNotifsMsgBuf(notify_msg_t *, int);
int genNotifyInEngine(void *, uint64_t, notify_msg_t);
int getTransferStatus(void *, uint64_t, size_t, struct transfer_status *);
int freeBatchID(void *, uint64_t);
int syncSegmentCache(void *);
int getNicLoadStats(void *, nic_load_stat_t *, size_t *);
void enableGracefulShutdown(void *);
int showLinks(void *, char *, size_t, int);

/* tent/transfer_engine.h */
typedef void *tent_engine_t;
typedef struct tent_request {
	int opcode;
	void *source;
	uint64_t target_id, target_offset, length;
	int priority, transport_hint;
} tent_request_t;
typedef struct tent_status {
	int status;
	uint64_t transferred_bytes;
} tent_status_t;
struct tent_buffer_info {
	uint64_t base, length;
	char location[64];
};
typedef struct tent_segment_info {
	int type, num_buffers;
	struct tent_buffer_info *buffers;
} tent_segment_info_t;
struct tent_notifi_record {
	uint64_t handle;
	char name[256], msg[4096];
};
typedef struct tent_notifi_info {
	int num_records;
	struct tent_notifi_record *records;
} tent_notifi_info;
typedef struct tent_memory_options {
	char location[64];
	int permission, transport_type;
	char shm_path[256];
	size_t shm_offset;
	int internal;
} tent_memory_options_t;
typedef struct tent_nic_load_stat {
	char device_name[64];
	uint64_t inflight_bytes;
	double ewma_bandwidth_bps;
} tent_nic_load_stat_t;

void tent_load_config_from_file(const char *);
void tent_set_config(const char *, const char *);
void *tent_create_engine(void);
void tent_destroy_engine(void *);
int tent_segment_name(void *, char *, size_t);
int tent_rpc_server_addr_port(void *, char *, size_t, uint16_t *);
int tent_open_segment(void *, uint64_t *, const char *);
int tent_close_segment(void *, uint64_t);
int tent_get_segment_info(void *, uint64_t, tent_segment_info_t *);
void tent_free_segment_info(tent_segment_info_t *);
int tent_allocate_memory(void *, void **, size_t, const char *);
int tent_allocate_memory_ex(void *, void **, size_t, tent_memory_options_t *);
int tent_free_memory(void *, void *);
int tent_register_memory(void *, void *, size_t);
int tent_register_memory_with_perm(void *, void *, size_t, int);
int tent_register_memory_ex(void *, void *, size_t, tent_memory_options_t *);
int tent_register_memory_batch(void *, void **, size_t *, size_t, int);
int tent_register_memory_batch_ex(void *, void **, size_t *, size_t, tent_memory_options_t *);
int tent_unregister_memory(void *, void *, size_t);
int tent_unregister_memory_batch(void *, void **, size_t *, size_t);
uint64_t tent_allocate_batch(void *, size_t);
int tent_free_batch(void *, uint64_t);
int tent_submit(void *, uint64_t, tent_request_t *, size_t);
int tent_submit_notif(void *, uint64_t, tent_request_t *, size_t, const char *, const char *);
int tent_send_notifs(void *, uint64_t, const char *, const char *);
int tent_recv_notifs(void *, struct tent_notifi_info *);
void tent_free_notifs(struct tent_notifi_info *);
int tent_task_status(void *, uint64_t, size_t, tent_status_t *);
int tent_overall_status(void *, uint64_t, tent_status_t *);
int tent_task_status_list(void *, uint64_t, tent_status_t *, size_t *);
int tent_cancel_task(void *, uint64_t, size_t);
int tent_available(void *);
int tent_get_nic_load_stats(void *, tent_nic_load_stat_t *, size_t *);

#endif
