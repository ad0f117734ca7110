/* SPDX-License-Identifier: Apache-2.0 */
/* Notifications. To both interfaces they are C strings, so what comes is made one. */
#include <stdlib.h>
#include <string.h>

#include "face.h"

#define SEND_TIMEOUT (30 * FACE_SECOND)

int face_notify(struct face *face, uint64_t target, const char *name, const char *text)
{
	struct face_segment *segment = face_segment_get(face, target);
	struct cw_notify notify = { .name = name, .data = text, .length = strlen(text) };
	int status;

	if (!segment)
		return CW_ERR_INVALID;
	notify.segment = face_segment_link(segment, 0);
	status = cw_notify_send(face->engine, &notify,
				face->transfer_timeout_ns ? face->transfer_timeout_ns : SEND_TIMEOUT);
	if (status != CW_OK)
		face_log(face, CW_LOG_WARN, "a notification to %s failed: %s", segment->name, cw_last_error());
	face_segment_put(segment);
	return status;
}

/* A NUL inside would hide what comes after it. */
static char *text_of(const void *data, size_t length)
{
	char *text = malloc(length + 1);

	if (!text)
		return NULL;
	if (length)
		memcpy(text, data, length);
	text[length] = '\0';
	for (size_t i = 0; i < length; i++)
		if (!text[i])
			text[i] = '?';
	return text;
}

static char *string_of(const char *string)
{
	return text_of(string ? string : "", string ? strlen(string) : 0);
}

int face_note_next(struct face *face, struct face_note *note_out)
{
	struct cw_event event;
	int status;

	for (;;) {
		int count = cw_queue_poll(cw_engine_queue(face->engine), &event, 1);

		if (count <= 0)
			return count < 0 ? count : CW_ERR_AGAIN;
		if (event.kind == CW_EVENT_NOTIFY)
			break;
		cw_event_clear(&event); /* what became of peers is asked when it matters */
	}
	*note_out = (struct face_note){ .sender = string_of(event.sender),
					.name = string_of(event.name),
					.text = text_of(event.data, event.length) };
	status = note_out->sender && note_out->name && note_out->text ? CW_OK : CW_ERR_NO_MEMORY;
	if (status != CW_OK)
		face_note_clear(note_out);
	cw_event_clear(&event);
	return status;
}

void face_note_clear(struct face_note *note)
{
	free(note->sender);
	free(note->name);
	free(note->text);
}
