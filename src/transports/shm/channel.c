/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets on a connected unix socket: SOCK_SEQPACKET keeps them apart and carries descriptors. A packet that the socket
 * does not take is kept and sent later; a peer that reads nothing for long is cut off.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <transports/shm/shm.h>
#include <unistd.h>

#define QUEUE_MAX 4096u

struct packet {
	struct cw__list node;
	size_t length;
	int fd;
	unsigned char data[];
};

void cw__shm_channel_init(struct cw__shm_channel *channel, struct cw_host *host, int fd, int cut)
{
	memset(channel, 0, sizeof(*channel));
	channel->host = host;
	channel->cut = cut;
	channel->io.fd = fd;
	channel->io.events = EPOLLIN;
	cw__list_init(&channel->out);
}

static int send_now(int fd, const void *data, size_t length, int message_fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)data, length };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (message_fd >= 0) {
		struct cmsghdr *header;

		message.msg_control = control.space;
		message.msg_controllen = sizeof(control.space);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &message_fd, sizeof(int));
	}
	if (sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return CW_OK;
	return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? CW_ERR_AGAIN : CW_ERR_IO;
}

static void watch_room(struct cw__shm_channel *channel)
{
	if (channel->io.loop)
		channel->host->ops->io_modify(&channel->io, EPOLLIN | EPOLLOUT);
}

static void cut_off(struct cw__shm_channel *channel)
{
	shutdown(channel->io.fd, channel->cut);
}

static void queue(struct cw__shm_channel *channel, const void *data, size_t length, int message_fd)
{
	struct packet *packet = channel->queued < QUEUE_MAX ? malloc(sizeof(*packet) + length) : NULL;

	if (!packet) {
		cut_off(channel);
		return;
	}
	packet->fd = message_fd < 0 ? -1 : fcntl(message_fd, F_DUPFD_CLOEXEC, 0);
	if (message_fd >= 0 && packet->fd < 0) {
		free(packet);
		cut_off(channel);
		return;
	}
	packet->length = length;
	memcpy(packet->data, data, length);
	cw__list_push_back(&channel->out, &packet->node);
	channel->queued++;
	watch_room(channel);
}

static void packet_free(struct cw__shm_channel *channel, struct packet *packet)
{
	cw__list_remove(&packet->node);
	channel->queued--;
	if (packet->fd >= 0)
		close(packet->fd);
	free(packet);
}

void cw__shm_channel_send(struct cw__shm_channel *channel, const void *data, size_t length, int message_fd)
{
	int status = CW_ERR_AGAIN;

	if (cw__list_empty(&channel->out))
		status = send_now(channel->io.fd, data, length, message_fd);
	if (status == CW_ERR_AGAIN)
		queue(channel, data, length, message_fd);
	else if (status)
		cut_off(channel);
}

void cw__shm_channel_put(struct cw__shm_channel *channel, const struct cw__shm_message *message, int message_fd)
{
	unsigned char data[128];
	size_t length = cw__shm_message_encode(message, data, sizeof(data));

	cw__shm_channel_send(channel, data, length, message_fd);
}

int cw__shm_channel_try(struct cw__shm_channel *channel, const void *data, size_t length)
{
	int status = CW_ERR_AGAIN;

	if (cw__list_empty(&channel->out))
		status = send_now(channel->io.fd, data, length, -1);
	if (status == CW_ERR_AGAIN)
		watch_room(channel);
	else if (status)
		cut_off(channel);
	return status;
}

void cw__shm_channel_flush(struct cw__shm_channel *channel)
{
	while (!cw__list_empty(&channel->out)) {
		struct packet *packet = cw__container(channel->out.next, struct packet, node);
		int status = send_now(channel->io.fd, packet->data, packet->length, packet->fd);

		if (status == CW_ERR_AGAIN)
			return;
		if (status)
			cut_off(channel);
		packet_free(channel, packet);
	}
	channel->host->ops->io_modify(&channel->io, EPOLLIN);
}

/* Takes the one descriptor that may come along. */
static int received_fd(struct msghdr *message)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	int fd = -1;

	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(header), sizeof(int));
	return fd;
}

int cw__shm_channel_receive(struct cw__shm_channel *channel, unsigned char *buffer, struct cw__shm_message *message_out,
			    int *fd_out)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { buffer, CW__SHM_MESSAGE_MAX };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space };
	ssize_t length;
	int fd, status = CW_ERR_PROTOCOL;

	message.msg_controllen = sizeof(control.space);
	length = recvmsg(channel->io.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (length < 0)
		return errno == EAGAIN || errno == EINTR ? CW_ERR_AGAIN : CW_ERR_CLOSED;
	fd = received_fd(&message);
	if (length == 0)
		status = CW_ERR_CLOSED;
	else if (!(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		status = cw__shm_message_decode(buffer, (size_t)length, message_out);
	if (status && fd >= 0)
		close(fd);
	else if (!status)
		*fd_out = fd;
	return status;
}

void cw__shm_channel_stop(struct cw__shm_channel *channel)
{
	if (channel->io.loop)
		channel->host->ops->io_remove(&channel->io);
	while (!cw__list_empty(&channel->out))
		packet_free(channel, cw__container(channel->out.next, struct packet, node));
}

void cw__shm_channel_close(struct cw__shm_channel *channel)
{
	cw__shm_channel_stop(channel);
	if (channel->io.fd >= 0) {
		shutdown(channel->io.fd, SHUT_RDWR); /* a forked child may hold the descriptor too */
		close(channel->io.fd);
	}
	channel->io.fd = -1;
}

/* --------------------------------------------------------------------------------- the other process */

int cw__shm_channel_who(int fd, pid_t *pid_out, uid_t *uid_out)
{
	struct ucred who;
	socklen_t length = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) || length != sizeof(who))
		return CW_ERR_IO;
	*pid_out = who.pid;
	*uid_out = who.uid;
	return CW_OK;
}

int cw__shm_pidfd(pid_t pid)
{
#ifdef SYS_pidfd_open
	return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
#else
	(void)pid;
	return -1;
#endif
}

int cw__shm_pidfd_ended(int pidfd)
{
	struct pollfd look = { .fd = pidfd, .events = POLLIN };

	return pidfd >= 0 && poll(&look, 1, 0) == 1 && (look.revents & POLLIN);
}

socklen_t cw__shm_socket_address(const void *name, size_t length, void *address_out, size_t capacity)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (length > CW__SHM_NAME_MAX || length + 1 > sizeof(address.sun_path) || sizeof(address) > capacity)
		return 0;
	memcpy(address.sun_path + 1, name, length); /* a first byte of 0: the abstract namespace, no file */
	memcpy(address_out, &address, sizeof(address));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}
