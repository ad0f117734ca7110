/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who tells when a device has come to a place in its work: one thread of the process for each device, started with the
 * first watch there, that asks for the recorded events in turn and sleeps when there are none. It is not the runtime's
 * own thread for calls to the host, because fences block that one; and not one for all devices, because a call for one
 * that does not answer may never return.
 */
#ifndef CW_PLATFORMS_GPU_WATCH_H
#define CW_PLATFORMS_GPU_WATCH_H

#include <platforms/gpu/track.h>

/* Each owner of watches says that it is there, and that it goes: what it still watches then ends with CW_ERR_IO, and
 * after the call no ready() of it runs. The threads end with the last owner. One that is stuck in a call of a runtime
 * is left behind after a second: then ready() runs when that call returns, and the thread stays. */
void cw__gpu_watch_open(void);
void cw__gpu_watch_close(const void *owner);

/* Takes the track over, whose event was recorded; calls ready(arg, status) once, perhaps before it returns. Needs
 * enter(). CW_OK, or CW_ERR_NO_MEMORY: no thread could be started, and the track is still the caller's. */
int cw__gpu_watch_add(const void *owner, struct cw__gpu_track *track, cw_device_ready_fn ready, void *arg);

#endif
