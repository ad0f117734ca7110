/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers Mooncake's control messages: one request on each connection, answered with the same type, then our direction
 * is shut down and the peer closes. What is malformed gets no answer. docs/protocol.md, "Control messages".
 */
#include <control/control.h>
#include <stdlib.h>
#include <string.h>

/* Writes the answer frame and frees json. */
static int classic_answer(struct cw__connection *connection, enum cw__classic_type type, char *json, size_t length)
{
	size_t size = json ? cw__classic_encode(type, json, length, NULL, 0) : 0;
	unsigned char *room = size ? cw__control_stream_room(&connection->stream, size) : NULL;

	if (room)
		cw__classic_encode(type, json, length, room, size);
	free(json);
	if (!room)
		return CW_ERR_NO_MEMORY;
	cw__connection_finish(connection);
	return CW_OK;
}

static int answer_metadata(struct cw__connection *connection, const struct cw__classic_frame *frame)
{
	size_t length = 0;
	int native = cw__classic_is_native_request(frame->json, frame->json_length);
	char *json = cw__core_descriptor(connection->control->host, !native, &length);

	return classic_answer(connection, CW__CLASSIC_METADATA, json, length);
}

static int answer_notify(struct cw__connection *connection, const struct cw__classic_frame *frame)
{
	static const unsigned char nobody[CW__INSTANCE_BYTES];
	struct cw__classic_notify notify;
	struct cw__text sender = { "", 0 }, name;
	char why[120], *json;
	size_t length = 0, name_length;
	int status;

	status = cw__classic_notify_decode(frame->json, frame->json_length, &notify, why, sizeof(why));
	if (status == CW_ERR_PROTOCOL)
		return cw__connection_bad(connection, why);
	if (status)
		return status;
	name_length = strlen(notify.name);
	name = (struct cw__text){ notify.name, (uint16_t)name_length };
	status = CW_ERR_LIMIT;
	if (name_length <= UINT16_MAX)
		status = cw__core_notify(connection->control->host, nobody, 0, sender, name, notify.message,
					 strlen(notify.message));
	cw__classic_notify_free(&notify);
	/* An empty message in the answer is how a classic sender learns that it failed. */
	json = cw__classic_notify_encode("", status ? "" : "success", &length);
	return classic_answer(connection, CW__CLASSIC_NOTIFY, json, length);
}

static int answer_probe(struct cw__connection *connection)
{
	static const char json[] = "{\"status\":\"success\"}\n";

	return classic_answer(connection, CW__CLASSIC_PROBE, strdup(json), sizeof(json) - 1);
}

static int answer_connection(struct cw__connection *connection, const struct cw__classic_frame *frame)
{
	size_t length = 0;
	char why[120], *json;

	if (cw__classic_connection_check(frame->json, frame->json_length, why, sizeof(why)))
		return cw__connection_bad(connection, why);
	json = cw__classic_connection_reply("", &length);
	return classic_answer(connection, frame->type, json, length);
}

/* The whole request is here. */
static int classic_request(struct cw__connection *connection)
{
	const unsigned char *body = cw__control_stream_data(&connection->stream) + CW__CLASSIC_LENGTH_BYTES;
	size_t length = connection->wanted - CW__CLASSIC_LENGTH_BYTES;
	struct cw__classic_frame frame;
	char why[120];

	if (cw__classic_body_decode(body, length, &frame))
		return cw__connection_bad(connection, "classic message of unknown type");
	switch (frame.type) {
	case CW__CLASSIC_METADATA:
	case CW__CLASSIC_PROBE:
		if (cw__classic_object_check(frame.json, frame.json_length, 1, why, sizeof(why)))
			return cw__connection_bad(connection, why);
		return frame.type == CW__CLASSIC_PROBE ? answer_probe(connection) : answer_metadata(connection, &frame);
	case CW__CLASSIC_NOTIFY:
		return answer_notify(connection, &frame);
	case CW__CLASSIC_CONNECTION:
	case CW__CLASSIC_OLD:
		return answer_connection(connection, &frame);
	}
	return CW_ERR_PROTOCOL;
}

int cw__classic_begin(struct cw__connection *connection)
{
	size_t length;

	if (cw__classic_length_decode(cw__control_stream_data(&connection->stream), connection->control->classic_max,
				      &length))
		return cw__connection_bad(connection, "classic message of impossible length");
	connection->wanted = CW__CLASSIC_LENGTH_BYTES + length;
	connection->parse = classic_request;
	return CW_OK;
}
