/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target's side of native connections: the hello is checked; a data connection is then handed to its transport, a
 * control connection is welcomed and its requests are answered in the order they came. docs/protocol.md, "Control
 * frames".
 */
#include <control/control.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <util/cursor.h>

#define AHEAD_BYTES (16u * 1024)
#define PUSHES_MAX (8u * 1024 * 1024) /* unsent bytes at which a peer that does not read is given up */

/* A region whose end the initiators have to hear of. */
struct cw__gone {
	struct cw__list node;
	uint64_t id;
};

/* A data connection on its way to another loop. */
struct cw__handover {
	struct cw__list node;
	struct cw_task task;
	struct cw__control *control;
	struct cw_loop *loop;
	int fd;
	size_t length;
	unsigned char first[CW__HELLO_MAX];
};

/* ------------------------------------------------------------------------------- data connections */

static int data_accept(struct cw__control *control, struct cw_loop *loop, int fd, const unsigned char *first,
		       size_t length)
{
	struct cw__hello hello;

	if (cw__hello_decode(first, length, &hello))
		return CW_ERR_PROTOCOL;
	return cw__core_accept(control->host, loop, hello.transport, fd, first, length);
}

static void handover_run(struct cw_task *task)
{
	struct cw__handover *handover = cw__container(task, struct cw__handover, task);
	struct cw__control *control = handover->control;

	pthread_mutex_lock(&control->lock);
	cw__list_remove(&handover->node);
	pthread_mutex_unlock(&control->lock);
	if (data_accept(control, handover->loop, handover->fd, handover->first, handover->length))
		close(handover->fd);
	free(handover);
}

/* The transport gets the socket and exactly the hello; nothing beyond it was read. */
static int data_begin(struct cw__connection *connection)
{
	struct cw__control *control = connection->control;
	struct cw_loop *loop = control->host->ops->loop_pick(control->host);
	struct cw__handover *handover = NULL;
	int fd, status = CW_OK;

	if (loop != control->loop) {
		handover = calloc(1, sizeof(*handover));
		if (!handover)
			return CW_ERR_NO_MEMORY;
	}
	fd = cw__control_stream_release(&connection->stream);
	connection->handed_over = 1;
	if (!handover) {
		status = data_accept(control, loop, fd, cw__control_stream_data(&connection->stream),
				     connection->wanted);
		if (status)
			close(fd);
		return status;
	}
	handover->task.run = handover_run;
	handover->control = control;
	handover->loop = loop;
	handover->fd = fd;
	handover->length = connection->wanted;
	memcpy(handover->first, cw__control_stream_data(&connection->stream), connection->wanted);
	pthread_mutex_lock(&control->lock);
	cw__list_push_back(&control->handovers, &handover->node);
	pthread_mutex_unlock(&control->lock);
	control->host->ops->task_post(loop, &handover->task);
	return CW_OK;
}

/* ------------------------------------------------------------------------------------ control frames */

static int frame_write(struct cw__connection *connection, uint16_t type, uint64_t sequence, int status,
		       const void *body, size_t length)
{
	struct cw__control_header header = {
		.type = type, .length = (uint32_t)length, .sequence = sequence, .status = status
	};
	unsigned char *room = cw__control_stream_room(&connection->stream, CW__CONTROL_HEADER_BYTES + length);

	if (!room)
		return CW_ERR_NO_MEMORY;
	cw__control_header_encode(&header, room);
	if (length)
		memcpy(room + CW__CONTROL_HEADER_BYTES, body, length);
	return CW_OK;
}

static int answer_notify(struct cw__connection *connection, const void *body, size_t length, int *answer)
{
	struct cw__notify notify;

	if (cw__notify_decode(body, length, &notify))
		return CW_ERR_PROTOCOL;
	*answer = cw__core_notify(connection->control->host, connection->instance, notify.sequence, notify.sender,
				  notify.name, notify.data, notify.length);
	return CW_OK;
}

static int answer_message(struct cw__connection *connection, const void *body, size_t length, int *answer,
			  struct cw_blob *reply)
{
	struct cw__message message;

	if (cw__message_decode(body, length, &message))
		return CW_ERR_PROTOCOL;
	*answer = cw__core_message(connection->control->host, connection->instance, message.transport, message.data,
				   message.length, reply);
	return CW_OK;
}

static int answer_cancel(struct cw__connection *connection, const void *body, size_t length, int *answer)
{
	struct cw__cancel cancel;

	if (cw__cancel_decode(body, length, &cancel))
		return CW_ERR_PROTOCOL;
	*answer = cw__core_cancel(connection->control->host, connection->instance, body, length);
	return CW_OK;
}

static int answer_resolve(struct cw__connection *connection, const void *body, size_t length, int *answer,
			  struct cw_blob *reply)
{
	struct cw__resolve resolve;

	if (cw__resolve_decode(body, length, &resolve))
		return CW_ERR_PROTOCOL;
	*answer = cw__core_resolve(connection->control->host, &resolve, reply);
	return CW_OK;
}

static int answer_list(struct cw__connection *connection, const void *body, size_t length, int *answer,
		       struct cw_blob *reply)
{
	struct cw__reader reader = cw__reader_init(body, length);
	uint64_t first = cw__get_u64(&reader);

	if (reader.bad || cw__reader_left(&reader))
		return CW_ERR_PROTOCOL;
	*answer = cw__core_list(connection->control->host, first, reply);
	return CW_OK;
}

/* ERR_PROTOCOL: no correct peer sends this. Else *answer is the status of the reply. */
static int frame_serve(struct cw__connection *connection, uint16_t type, const void *body, size_t length, int *answer,
		       struct cw_blob *reply)
{
	switch (type) {
	case CW__CONTROL_PROBE:
		*answer = CW_OK;
		return length ? CW_ERR_PROTOCOL : CW_OK;
	case CW__CONTROL_RESOLVE:
		return answer_resolve(connection, body, length, answer, reply);
	case CW__CONTROL_LIST:
		return answer_list(connection, body, length, answer, reply);
	case CW__CONTROL_NOTIFY:
		return answer_notify(connection, body, length, answer);
	case CW__CONTROL_MESSAGE:
		return answer_message(connection, body, length, answer, reply);
	case CW__CONTROL_CANCEL:
		return answer_cancel(connection, body, length, answer);
	default:
		return CW_ERR_PROTOCOL;
	}
}

/* The header is here, and perhaps its body. */
static int frame_parse(struct cw__connection *connection)
{
	struct cw_host *host = connection->control->host;
	const unsigned char *data = cw__control_stream_data(&connection->stream);
	struct cw__control_header header;
	struct cw_blob reply = { 0 };
	int status, answer = CW_OK;

	if (cw__control_header_decode(data, &header))
		return cw__connection_bad(connection, "malformed header of a control frame");
	if (header.type == CW__CONTROL_BYE)
		return CW_ERR_CLOSED;
	connection->wanted = CW__CONTROL_HEADER_BYTES + (size_t)header.length;
	if (cw__control_stream_held(&connection->stream) < connection->wanted)
		return CW_OK;
	status = frame_serve(connection, header.type, data + CW__CONTROL_HEADER_BYTES, header.length, &answer, &reply);
	if (status == CW_ERR_PROTOCOL) {
		cw__connection_bad(connection, "malformed control frame");
	} else if (!status) {
		if (reply.length > CW__CONTROL_BODY_MAX)
			answer = CW_ERR_LIMIT;
		status = frame_write(connection, header.type | CW__CONTROL_REPLY, header.sequence, answer, reply.data,
				     answer ? 0 : reply.length);
		cw__control_stream_consume(&connection->stream, connection->wanted);
		connection->wanted = CW__CONTROL_HEADER_BYTES;
	}
	host->ops->blob_free(&reply);
	return status;
}

/* --------------------------------------------------------------------------------------------- hello */

static int welcome_write(struct cw__connection *connection, const struct cw__hello *hello, int refusal)
{
	struct cw_host *host = connection->control->host;
	struct cw__welcome welcome = { 0 };
	unsigned char *room = cw__control_stream_room(&connection->stream, CW__WELCOME_MAX);
	size_t length;

	if (!room)
		return CW_ERR_NO_MEMORY;
	cw__core_welcome(host, &welcome);
	welcome.data_connection = hello->data_connection;
	welcome.status = refusal;
	welcome.version = CW__NATIVE_VERSION;
	welcome.clock_ns = host->ops->now();
	if (refusal || hello->data_connection)
		welcome.transport_count = 0;
	length = cw__welcome_encode(&welcome, room, CW__WELCOME_MAX);
	cw__control_stream_unwrite(&connection->stream, CW__WELCOME_MAX - length);
	return length ? CW_OK : CW_ERR_INTERNAL;
}

/* What speaks against this hello; CW_OK = nothing. */
static int hello_check(struct cw__control *control, const struct cw__hello *hello)
{
	static const unsigned char anyone[CW__INSTANCE_BYTES];
	const unsigned char *own = control->host->ops->instance(control->host);

	/* A later version speaks ours too; the welcome says which. */
	if (hello->version < CW__NATIVE_VERSION)
		return CW_ERR_UNSUPPORTED;
	if (hello->auth_method)
		return CW_ERR_PERMISSION;
	if (memcmp(hello->expected, anyone, CW__INSTANCE_BYTES) && memcmp(hello->expected, own, CW__INSTANCE_BYTES))
		return CW_ERR_PEER_RESTARTED;
	return CW_OK;
}

/* The whole hello is here. */
static int hello_parse(struct cw__connection *connection)
{
	struct cw__control *control = connection->control;
	struct cw__hello hello;
	int status, refusal;

	if (cw__hello_decode(cw__control_stream_data(&connection->stream), connection->wanted, &hello))
		return cw__connection_bad(connection, "malformed hello");
	refusal = hello_check(control, &hello);
	if (!refusal && hello.data_connection)
		return data_begin(connection);
	status = welcome_write(connection, &hello, refusal);
	if (status)
		return status;
	if (refusal) {
		cw__connection_finish(connection);
		return CW_OK;
	}
	memcpy(connection->instance, hello.instance, CW__INSTANCE_BYTES);
	cw__control_stream_consume(&connection->stream, connection->wanted);
	connection->wanted = CW__CONTROL_HEADER_BYTES;
	connection->ahead = AHEAD_BYTES;
	connection->parse = frame_parse;
	cw__connection_identified(connection);
	cw__control_socket_keepalive(connection->stream.io.fd, control->peer_timeout);
	pthread_mutex_lock(&control->lock);
	cw__list_push_back(&control->initiators, &connection->initiator_node);
	pthread_mutex_unlock(&control->lock);
	return CW_OK;
}

/* Magic and length are here. */
static int prefix_parse(struct cw__connection *connection)
{
	size_t rest;

	if (cw__prefix_decode(cw__control_stream_data(&connection->stream), CW__HELLO_MAX, &rest))
		return cw__connection_bad(connection, "hello of impossible length");
	connection->wanted = CW__PREFIX_BYTES + rest;
	connection->parse = hello_parse;
	return CW_OK;
}

int cw__native_begin(struct cw__connection *connection)
{
	connection->wanted = CW__PREFIX_BYTES;
	connection->parse = prefix_parse;
	return CW_OK;
}

/* --------------------------------------------------------------------------------------- initiators */

/* Tells every initiator of the regions that went away. */
void cw__native_gone(struct cw_task *task)
{
	struct cw__control *control = cw__container(task, struct cw__control, gone_task);
	struct cw__list regions, *at;

	cw__list_init(&regions);
	pthread_mutex_lock(&control->lock);
	cw__list_splice(&regions, &control->gone);
	control->gone_posted = 0;
	pthread_mutex_unlock(&control->lock);
	while ((at = cw__list_pop(&regions))) {
		struct cw__gone *gone = cw__container(at, struct cw__gone, node);
		unsigned char body[8];
		struct cw__writer writer = cw__writer_init(body, sizeof(body));

		cw__put_u64(&writer, gone->id);
		free(gone);
		/* The list changes on this loop only, so it needs no lock to be read here. */
		cw__list_each(node, &control->initiators)
		{
			struct cw__connection *connection = cw__container(node, struct cw__connection, initiator_node);

			if (cw__control_stream_unsent(&connection->stream) > PUSHES_MAX ||
			    frame_write(connection, CW__CONTROL_REGION_GONE, 0, CW_OK, body, sizeof(body)))
				cw__connection_close(connection);
			else
				cw__connection_push(connection);
		}
	}
}

void cw__region_gone(struct cw__control *control, uint64_t region_id)
{
	struct cw__gone *gone;
	int post = 0;

	pthread_mutex_lock(&control->lock);
	if (!cw__list_empty(&control->initiators)) {
		gone = malloc(sizeof(*gone));
		if (gone) {
			gone->id = region_id;
			cw__list_push_back(&control->gone, &gone->node);
			post = !control->gone_posted;
			control->gone_posted = 1;
		}
		/* Without memory peers learn it later: every access with the old key gets STALE_REGION. */
	}
	pthread_mutex_unlock(&control->lock);
	if (post)
		control->host->ops->task_post(control->loop, &control->gone_task);
}

int cw__initiator_alive(struct cw__control *control, const unsigned char *instance)
{
	int alive = 0;

	pthread_mutex_lock(&control->lock);
	cw__list_each(node, &control->initiators)
	{
		struct cw__connection *connection = cw__container(node, struct cw__connection, initiator_node);

		alive |= !memcmp(connection->instance, instance, CW__INSTANCE_BYTES);
	}
	pthread_mutex_unlock(&control->lock);
	return alive;
}

/* The engine closes: goodbye to the initiators, and nothing that waited for a loop is left behind. */
void cw__native_forget(struct cw__control *control)
{
	struct cw__list *at;

	cw__list_each(node, &control->initiators)
	{
		struct cw__connection *connection = cw__container(node, struct cw__connection, initiator_node);

		if (!frame_write(connection, CW__CONTROL_BYE, 0, CW_OK, NULL, 0))
			cw__control_stream_flush(&connection->stream);
	}
	while ((at = cw__list_pop(&control->gone)))
		free(cw__container(at, struct cw__gone, node));
	while ((at = cw__list_pop(&control->handovers))) {
		struct cw__handover *handover = cw__container(at, struct cw__handover, node);

		close(handover->fd);
		free(handover);
	}
}
