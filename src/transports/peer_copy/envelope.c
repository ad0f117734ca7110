/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and decoding of what envelope.h describes; no input or output here. */
#include <causeway/causeway.h>
#include <transports/peer_copy/envelope.h>
#include <util/cursor.h>

#define MESSAGE_MAGIC 0x43505743u  /* "CWPC" */
#define ENVELOPE_MAGIC 0x48475743u /* "CWGH" */

static size_t finish(const struct cw__writer *writer)
{
	return writer->bad ? 0 : cw__writer_used(writer);
}

/* ----------------------------------------------------------------------------------------------- offer */

size_t cw__pc_offer_encode(const struct cw__pc_offer *offer, void *out, size_t capacity)
{
	struct cw__writer writer = cw__writer_init(out, capacity);

	cw__put_u16(&writer, CW__PC_VERSION);
	cw__put_u16(&writer, offer->vendor);
	cw__put_u32(&writer, offer->flags);
	return finish(&writer);
}

/* A later version may append fields and flags. */
int cw__pc_offer_decode(const void *data, size_t length, struct cw__pc_offer *offer_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	uint16_t version = cw__get_u16(&reader);
	struct cw__pc_offer offer = { .vendor = cw__get_u16(&reader) };

	offer.flags = cw__get_u32(&reader);
	if (reader.bad || !version)
		return CW_ERR_PROTOCOL;
	*offer_out = offer;
	return CW_OK;
}

/* -------------------------------------------------------------------------------------------- messages */

size_t cw__pc_message_encode(const struct cw__pc_message *message, void *out, size_t capacity)
{
	struct cw__writer writer = cw__writer_init(out, capacity);

	cw__put_u32(&writer, MESSAGE_MAGIC);
	cw__put_u16(&writer, CW__PC_VERSION);
	cw__put_u16(&writer, message->type);
	cw__put_u64(&writer, message->number);
	if (message->type == CW__PC_ATTACH) {
		cw__put_u64(&writer, message->region);
		cw__put_u64(&writer, message->key);
		cw__put_u32(&writer, message->pid);
		cw__put_u32(&writer, 0);
		cw__put_u64(&writer, message->start);
	}
	return finish(&writer);
}

int cw__pc_message_decode(const void *data, size_t length, struct cw__pc_message *message_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	uint32_t magic = cw__get_u32(&reader), reserved = 0;
	uint16_t version = cw__get_u16(&reader);
	struct cw__pc_message message = { .type = cw__get_u16(&reader) };

	message.number = cw__get_u64(&reader);
	if (message.type == CW__PC_ATTACH) {
		message.region = cw__get_u64(&reader);
		message.key = cw__get_u64(&reader);
		message.pid = cw__get_u32(&reader);
		reserved = cw__get_u32(&reader);
		message.start = cw__get_u64(&reader);
	}
	if (reader.bad || cw__reader_left(&reader) || magic != MESSAGE_MAGIC || version != CW__PC_VERSION || reserved ||
	    (message.type != CW__PC_ATTACH && message.type != CW__PC_DETACH) ||
	    (message.type == CW__PC_ATTACH && (!message.pid || message.pid > INT32_MAX)))
		return CW_ERR_PROTOCOL;
	*message_out = message;
	return CW_OK;
}

/* -------------------------------------------------------------------------------------------- envelope */

size_t cw__pc_envelope_encode(const struct cw__pc_envelope *envelope, void *out, size_t capacity)
{
	struct cw__writer writer = cw__writer_init(out, capacity);

	cw__put_u32(&writer, ENVELOPE_MAGIC);
	cw__put_u16(&writer, CW__PC_VERSION);
	cw__put_u16(&writer, envelope->vendor);
	cw__put_u16(&writer, envelope->mode);
	cw__put_u16(&writer, 0);
	cw__put_u32(&writer, (uint32_t)envelope->device);
	cw__put_bytes(&writer, envelope->pci, sizeof(envelope->pci));
	cw__put_bytes(&writer, envelope->instance, sizeof(envelope->instance));
	cw__put_u32(&writer, envelope->pid);
	cw__put_u32(&writer, 0);
	cw__put_u64(&writer, envelope->base);
	cw__put_u64(&writer, envelope->size);
	cw__put_u64(&writer, envelope->offset);
	cw__put_u64(&writer, envelope->length);
	cw__put_bytes(&writer, envelope->handle, sizeof(envelope->handle));
	return finish(&writer);
}

/* Printable, ended, and zero behind its end. */
static int is_pci(const unsigned char *text)
{
	unsigned i = 0;

	while (i < CW__PC_PCI_BYTES && text[i] > ' ' && text[i] < 0x7f)
		i++;
	if (i == CW__PC_PCI_BYTES)
		return 0;
	while (i < CW__PC_PCI_BYTES && !text[i])
		i++;
	return i == CW__PC_PCI_BYTES;
}

static int is_sound(const struct cw__pc_envelope *envelope)
{
	static const unsigned char nothing[CW__PC_HANDLE_BYTES];
	uint64_t end = envelope->size ? envelope->size : UINT64_MAX - envelope->base;

	if (envelope->mode > CW__PC_IPC || envelope->device < 0 || !envelope->length ||
	    envelope->size > UINT64_MAX - envelope->base)
		return 0;
	if (envelope->mode == CW__PC_NONE && memcmp(envelope->handle, nothing, sizeof(nothing)) != 0)
		return 0;
	return envelope->offset <= end && envelope->length <= end - envelope->offset;
}

int cw__pc_envelope_decode(const void *data, size_t length, struct cw__pc_envelope *envelope_out)
{
	struct cw__reader reader = cw__reader_init(data, length);
	const unsigned char *pci, *instance, *handle;
	struct cw__pc_envelope envelope;
	uint32_t magic = cw__get_u32(&reader), reserved;
	uint16_t version = cw__get_u16(&reader);

	envelope.vendor = cw__get_u16(&reader);
	envelope.mode = cw__get_u16(&reader);
	reserved = cw__get_u16(&reader);
	envelope.device = (int32_t)cw__get_u32(&reader);
	pci = cw__get_bytes(&reader, sizeof(envelope.pci));
	instance = cw__get_bytes(&reader, sizeof(envelope.instance));
	envelope.pid = cw__get_u32(&reader);
	reserved |= cw__get_u32(&reader);
	envelope.base = cw__get_u64(&reader);
	envelope.size = cw__get_u64(&reader);
	envelope.offset = cw__get_u64(&reader);
	envelope.length = cw__get_u64(&reader);
	handle = cw__get_bytes(&reader, sizeof(envelope.handle));
	if (reader.bad || cw__reader_left(&reader) || magic != ENVELOPE_MAGIC || version != CW__PC_VERSION ||
	    reserved || !is_pci(pci))
		return CW_ERR_PROTOCOL;
	memcpy(envelope.pci, pci, sizeof(envelope.pci));
	memcpy(envelope.instance, instance, sizeof(envelope.instance));
	memcpy(envelope.handle, handle, sizeof(envelope.handle));
	if (!is_sound(&envelope))
		return CW_ERR_PROTOCOL;
	*envelope_out = envelope;
	return CW_OK;
}
