/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks of `causeway doctor` on the network: names and addresses, ports, firewall, congestion control, NICs, RDMA.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "doctor.h"
#include "lib/system_info.h"

/* Interfaces whose addresses other machines cannot reach. */
static int is_virtual(const char *name)
{
	static const char *const prefixes[] = { "docker", "br-", "virbr", "veth", "cni", "flannel", "lxc", NULL };

	for (const char *const *prefix = prefixes; *prefix; prefix++)
		if (strncmp(name, *prefix, strlen(*prefix)) == 0)
			return 1;
	return 0;
}

static int address_text(const struct sockaddr *address, char *text, size_t length)
{
	socklen_t size = address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	if (address->sa_family != AF_INET && address->sa_family != AF_INET6)
		return -1;
	return getnameinfo(address, size, text, (socklen_t)length, NULL, 0, NI_NUMERICHOST);
}

static void check_interfaces(struct doctor *doctor)
{
	struct ifaddrs *list, *at;
	char text[NI_MAXHOST];
	size_t reachable = 0;

	if (getifaddrs(&list) != 0) {
		doctor_say(doctor, DOCTOR_WARN, "addresses", "cannot be listed: %s", strerror(errno));
		return;
	}
	for (at = list; at; at = at->ifa_next) {
		if (!at->ifa_addr || !(at->ifa_flags & IFF_UP) || at->ifa_flags & IFF_LOOPBACK ||
		    address_text(at->ifa_addr, text, sizeof(text)) != 0)
			continue;
		if (is_virtual(at->ifa_name)) {
			doctor_say(doctor, DOCTOR_WARN, "addresses",
				   "%s on %s leads to containers of this machine only: never give it to other machines",
				   text, at->ifa_name);
		} else if (strncmp(text, "fe80:", 5) != 0) {
			doctor_say(doctor, DOCTOR_OK, "addresses", "%s on %s", text, at->ifa_name);
			reachable++;
		}
	}
	freeifaddrs(list);
	if (!reachable)
		doctor_say(doctor, DOCTOR_WARN, "addresses",
			   "loopback only: engines of this machine can talk to each other, other machines cannot reach "
			   "them");
}

static void check_host_name(struct doctor *doctor)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list = NULL;
	char name[HOST_NAME_MAX + 1] = "", text[NI_MAXHOST] = "";
	int error;

	gethostname(name, sizeof(name) - 1);
	error = getaddrinfo(name, NULL, &hints, &list);
	if (error) {
		doctor_say(doctor, DOCTOR_WARN, "host name",
			   "%s does not resolve (%s): name engines by address, or add it to /etc/hosts", name,
			   gai_strerror(error));
		return;
	}
	address_text(list->ai_addr, text, sizeof(text));
	freeaddrinfo(list);
	if (strncmp(text, "127.", 4) == 0 || strcmp(text, "::1") == 0)
		doctor_say(doctor, DOCTOR_WARN, "host name",
			   "%s resolves to %s here, so an engine of that name cannot be reached from elsewhere: name "
			   "it by address, or mend /etc/hosts",
			   name, text);
	else
		doctor_say(doctor, DOCTOR_OK, "host name", "%s resolves to %s", name, text);
}

void doctor_addresses(struct doctor *doctor)
{
	check_host_name(doctor);
	check_interfaces(doctor);
}

void doctor_port(struct doctor *doctor)
{
	const struct engine_arguments *arguments = doctor_engine_arguments(doctor);
	struct cw_engine *engine;

	/* On failure its own message, which says why, goes to stderr. */
	if (engine_start("causeway doctor", arguments, &engine) != 0) {
		doctor_say(doctor, DOCTOR_BROKEN, "engine",
			   "cannot be opened as %s: see the message above; choose another --name or control/port",
			   arguments->name ? arguments->name : "127.0.0.1");
		return;
	}
	doctor_say(doctor, DOCTOR_OK, "engine", "opens and listens on %s", cw_engine_name(engine));
	cw_engine_close(engine);
}

void doctor_firewall(struct doctor *doctor)
{
	static const struct {
		const char *path, *list;
	} tools[] = {
		{ "/usr/sbin/nft", "nft list ruleset" },
		{ "/usr/sbin/iptables", "iptables -L -n" },
		{ "/usr/bin/firewall-cmd", "firewall-cmd --list-all" },
		{ "/usr/sbin/ufw", "ufw status" },
	};
	char found[160] = "";
	size_t used = 0;

	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++)
		if (access(tools[i].path, X_OK) == 0 && used < sizeof(found))
			used += (size_t)snprintf(found + used, sizeof(found) - used, "%s'%s'", used ? ", " : "",
						 tools[i].list);
	if (used)
		doctor_say(doctor, DOCTOR_OK, "firewall",
			   "there may be one: look with %s; peers need the engine's port, Mooncake peers also "
			   "tcp/classic_port",
			   found);
	else
		doctor_say(doctor, DOCTOR_OK, "firewall", "no tool for one is installed; a cloud may have its own");
}

void doctor_congestion_control(struct doctor *doctor)
{
	char name[64];

	if (system_read_line("/proc/sys/net/ipv4/tcp_congestion_control", name, sizeof(name)) != 0)
		return;
	if (strncmp(name, "bbr", 3) == 0)
		doctor_say(doctor, DOCTOR_WARN, "congestion control",
			   "%s: made for lossy long distances, costs 25 to 30 %% on loopback and fast local networks; "
			   "try --set tcp/congestion_control=cubic or reno",
			   name);
	else
		doctor_say(doctor, DOCTOR_OK, "congestion control", "%s", name);
}

static void nic_line(const char *nic, const char *attribute, char *text, size_t length)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/class/net/%s/%s", nic, attribute);
	if (system_read_line(path, text, length) != 0)
		snprintf(text, length, "?");
}

static void check_nic(struct doctor *doctor, const char *nic)
{
	char state[32], mtu[32], speed[32];

	nic_line(nic, "operstate", state, sizeof(state));
	nic_line(nic, "mtu", mtu, sizeof(mtu));
	nic_line(nic, "speed", speed, sizeof(speed));
	/* Virtual interfaces have no speed, or say -1. */
	if (speed[0] == '-')
		snprintf(speed, sizeof(speed), "?");
	if (strcmp(state, "down") == 0)
		doctor_say(doctor, DOCTOR_WARN, "NIC", "%s is down: ip link set %s up, if it is to be used", nic, nic);
	else if (atol(speed) >= 10000 && atol(mtu) < 9000)
		doctor_say(doctor, DOCTOR_WARN, "NIC",
			   "%s is %s, %s Mb/s, MTU %s: 9000 is faster if the whole network has it", nic, state, speed,
			   mtu);
	else
		doctor_say(doctor, DOCTOR_OK, "NIC", "%s is %s, %s Mb/s, MTU %s", nic, state, speed, mtu);
}

/* Calls fn for each entry of a directory that does not begin with '.'; how many there were. */
static size_t each_entry(const char *path, struct doctor *doctor, void (*fn)(struct doctor *, const char *))
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	size_t count = 0;

	while (directory && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		fn(doctor, entry->d_name);
		count++;
	}
	if (directory)
		closedir(directory);
	return count;
}

static void check_physical_nic(struct doctor *doctor, const char *nic)
{
	if (strcmp(nic, "lo") != 0 && strcmp(nic, "bonding_masters") != 0 && !is_virtual(nic))
		check_nic(doctor, nic);
}

void doctor_nics(struct doctor *doctor)
{
	each_entry("/sys/class/net", doctor, check_physical_nic);
}

static void check_rdma_device(struct doctor *doctor, const char *device)
{
	char path[PATH_MAX], state[64] = "?";

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/1/state", device);
	system_read_line(path, state, sizeof(state));
	doctor_say(doctor, strstr(state, "ACTIVE") ? DOCTOR_OK : DOCTOR_WARN, "RDMA", "%s, port 1: %s", device, state);
}

static void check_verbs_file(struct doctor *doctor, const char *name)
{
	char path[PATH_MAX];

	if (strncmp(name, "uverbs", 6) != 0)
		return;
	snprintf(path, sizeof(path), "/dev/infiniband/%s", name);
	if (access(path, R_OK | W_OK) == 0)
		doctor_say(doctor, DOCTOR_OK, "RDMA rights", "%s can be opened", path);
	else
		doctor_say(doctor, DOCTOR_WARN, "RDMA rights",
			   "%s: %s; a udev rule such as KERNEL==\"uverbs*\", MODE=\"0666\" gives access, a container "
			   "needs --device=/dev/infiniband",
			   path, strerror(errno));
}

void doctor_rdma(struct doctor *doctor)
{
	size_t devices = each_entry("/sys/class/infiniband", doctor, check_rdma_device);

	if (!devices)
		doctor_say(doctor, DOCTOR_OK, "RDMA", "no device in /sys/class/infiniband");
	else if (!each_entry("/dev/infiniband", doctor, check_verbs_file))
		doctor_say(
			doctor, DOCTOR_WARN, "RDMA rights",
			"/dev/infiniband is missing: load ib_uverbs, or give the container --device=/dev/infiniband");
}
