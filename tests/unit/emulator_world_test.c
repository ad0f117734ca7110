/* SPDX-License-Identifier: Apache-2.0 */
/* Worlds as processes see them: links and ports, who makes one and who joins it, what is left when they go. */
#include <core/world.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Needs what is above. */
#include <cmocka.h>

static char path[96], why[256];

static int set_up(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/dev/shm/causeway-world-test-%d", (int)getpid());
	unlink(path);
	why[0] = '\0';
	return 0;
}

static int exists(void)
{
	return access(path, F_OK) == 0;
}

static struct cw__world *new_world(unsigned devices, unsigned ports)
{
	struct cw__world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	cw__world_fill(world, devices, ports);
	return world;
}

static struct cw__world *hold(unsigned devices, int *made_out)
{
	struct cw__world *wanted = new_world(devices, 1);
	struct cw__world *world = cw__world_hold(path, wanted, made_out, why, sizeof(why));

	free(wanted);
	return world;
}

static void links_and_ports(void **state)
{
	struct cw__world *world = new_world(3, 2);
	int link;

	(void)state;
	assert_int_equal(world->link_count, 6);
	for (unsigned i = 0; i < world->link_count; i++) {
		const struct cw__world_link *at = &world->links[i];

		for (int end = 0; end < 2; end++) {
			const struct cw__world_port *port = &world->devices[at->device[end]].ports[at->port[end]];

			assert_int_equal(port->link, i);
			assert_int_equal(port->end, end);
			assert_int_equal(port->peer, at->device[!end]);
			assert_int_equal(port->peer_port, at->port[!end]);
		}
	}
	assert_int_equal(world->devices[1].access, 5);
	assert_int_equal(cw__world_link(world, 0, 0, 1, 9, 1, 1), -1); /* in use */
	assert_int_equal(cw__world_link(world, 0, -1, 0, -1, 1, 1), -1);
	assert_int_equal(cw__world_link(world, 0, -1, 3, -1, 1, 1), -1);
	assert_int_equal(cw__world_link(world, -1, -1, 1, -1, 1, 1), -1);
	assert_int_equal(cw__world_link(world, 0, 10, 1, -1, 1, 1), -1);
	link = cw__world_link(world, 0, 9, 1, -1, 7, 8);
	assert_int_equal(link, 6);
	assert_int_equal(world->links[link].port[1], 4);
	assert_int_equal(world->links[link].lane[1].bandwidth, 7);
	assert_int_equal(world->links[link].lane[0].latency, 8);
	free(world);
}

static void full_devices_stay_within_their_ports(void **state)
{
	struct cw__world *world = new_world(64, 3);
	unsigned used = 0;

	(void)state;
	assert_int_equal(world->device_count, 64);
	for (unsigned i = 0; i < 64; i++)
		for (unsigned port = 0; port < CW__WORLD_PORTS; port++)
			used += world->devices[i].ports[port].link >= 0;
	assert_int_equal(used, 2 * world->link_count);
	free(world);
}

static void one_makes_it_the_others_join(void **state)
{
	struct cw__world *maker, *second, *member;
	struct cw__world_seat *seat;
	int made = -1;

	(void)state;
	assert_null(cw__world_join(path, &seat, why, sizeof(why)));
	assert_non_null(strstr(why, "no such emulated world"));
	maker = hold(3, &made);
	assert_non_null(maker);
	assert_int_equal(made, 1);
	second = hold(5, &made);
	assert_non_null(second);
	assert_int_equal(made, 0);
	assert_int_equal(second->device_count, 3);
	member = cw__world_join(path, &seat, why, sizeof(why));
	assert_non_null(member);
	assert_int_equal(atomic_load(&seat->pid), getpid());
	assert_int_equal(atomic_load(&maker->seats[0].pid), getpid());
	cw__world_leave(maker, NULL);
	cw__world_leave(second, NULL);
	assert_true(exists());
	cw__world_leave(member, seat);
	assert_int_equal(atomic_load(&seat->pid), 0);
	assert_false(exists());
}

static void a_forked_child_does_not_take_it_away(void **state)
{
	struct cw__world *member;
	struct cw__world_seat *seat;
	int made, status;
	pid_t child;

	(void)state;
	cw__world_leave(hold(2, &made), NULL);
	assert_false(exists());
	member = hold(2, &made);
	assert_non_null(cw__world_join(path, &seat, why, sizeof(why)));
	child = fork();
	if (!child) {
		cw__world_leave(member, seat);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(exists());
	assert_int_equal(atomic_load(&seat->pid), getpid());
	cw__world_leave(member, seat);
	assert_true(exists()); /* the seat's own membership */
	unlink(path);
}

/* A child that joins and is killed; it tells by the pipe when it is in. */
static void join_and_die(void)
{
	struct cw__world_seat *seat;
	int ends[2], status;
	char byte;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (!child) {
		if (cw__world_join(path, &seat, why, sizeof(why))) {
			atomic_store(&seat->used[1], 4096);
			status = (int)write(ends[1], "x", 1);
		}
		close(ends[1]);
		for (;;)
			pause();
	}
	assert_int_equal(read(ends[0], &byte, 1), 1);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	close(ends[0]);
	close(ends[1]);
}

static void the_dead_are_swept(void **state)
{
	struct cw__world *world;
	int made;

	(void)state;
	world = hold(2, &made);
	join_and_die();
	assert_int_not_equal(atomic_load(&world->seats[0].pid), 0);
	assert_int_equal(atomic_load(&world->seats[0].used[1]), 4096);
	assert_int_equal(cw__world_sweep(world), 0);
	assert_int_equal(atomic_load(&world->seats[0].pid), 0);
	assert_int_equal(atomic_load(&world->seats[0].used[1]), 0);
	/* Somebody else has the number of a dead process. */
	atomic_store(&world->seats[0].start, 1);
	atomic_store(&world->seats[0].pid, getpid());
	assert_int_equal(cw__world_sweep(world), 0);
	/* One who is just sitting down. */
	atomic_store(&world->seats[0].start, 0);
	atomic_store(&world->seats[0].pid, getpid());
	assert_int_equal(cw__world_sweep(world), 1);
	cw__world_leave(world, &world->seats[0]);
	assert_false(exists());
}

static void what_the_killed_left_is_made_anew_or_removed(void **state)
{
	struct cw__world *world;
	pid_t child;
	int made, status;

	(void)state;
	for (int i = 0; i < 2; i++) {
		child = fork();
		if (!child) {
			world = hold(4, &made);
			kill(getpid(), SIGKILL);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(exists());
		if (i) {
			world = hold(3, &made);
			assert_int_equal(made, 1);
			assert_int_equal(world->device_count, 3);
			cw__world_sweep_files("/dev/shm", path + strlen("/dev/shm/"));
			assert_true(exists()); /* we are in it */
			cw__world_leave(world, NULL);
		} else {
			cw__world_sweep_files("/dev/shm", path + strlen("/dev/shm/"));
		}
		assert_false(exists());
	}
}

static void other_files_are_refused(void **state)
{
	struct cw__world_seat *seat;
	struct cw__world *world = new_world(2, 1);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

	(void)state;
	assert_true(fd >= 0);
	assert_null(cw__world_join(path, &seat, why, sizeof(why)));
	assert_non_null(strstr(why, "no emulated world, or one of another version"));
	for (int i = 0; i < 4; i++) {
		struct cw__world wrong = *world;

		wrong.magic += i == 0;
		wrong.version += i == 1;
		wrong.device_count += i == 2 ? CW__WORLD_DEVICES : 0;
		wrong.link_count += i == 3 ? CW__WORLD_LINKS : 0;
		assert_int_equal(pwrite(fd, &wrong, sizeof(wrong), 0), (ssize_t)sizeof(wrong));
		assert_null(cw__world_join(path, &seat, why, sizeof(why)));
	}
	assert_int_equal(pwrite(fd, world, sizeof(*world), 0), (ssize_t)sizeof(*world));
	free(world);
	world = cw__world_join(path, &seat, why, sizeof(why));
	assert_non_null(world);
	close(fd);
	cw__world_leave(world, seat);
	assert_false(exists());
}

static void a_private_world_is_nobody_elses(void **state)
{
	struct cw__world_seat *first_seat, *second_seat;
	struct cw__world *first = cw__world_join(NULL, &first_seat, why, sizeof(why));
	struct cw__world *second = cw__world_join(NULL, &second_seat, why, sizeof(why));

	(void)state;
	assert_non_null(first);
	assert_non_null(second);
	assert_ptr_not_equal(first, second);
	assert_int_equal(first->device_count, 2);
	cw__world_leave(first, first_seat);
	cw__world_leave(second, second_seat);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(links_and_ports, set_up),
		cmocka_unit_test_setup(full_devices_stay_within_their_ports, set_up),
		cmocka_unit_test_setup(one_makes_it_the_others_join, set_up),
		cmocka_unit_test_setup(a_forked_child_does_not_take_it_away, set_up),
		cmocka_unit_test_setup(the_dead_are_swept, set_up),
		cmocka_unit_test_setup(what_the_killed_left_is_made_anew_or_removed, set_up),
		cmocka_unit_test_setup(other_files_are_refused, set_up),
		cmocka_unit_test_setup(a_private_world_is_nobody_elses, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
