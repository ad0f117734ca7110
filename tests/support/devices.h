/* SPDX-License-Identifier: Apache-2.0 */
/* Emulated devices for a unit test: a private world of two, joined by ports. */
#ifndef CW_TESTS_SUPPORT_DEVICES_H
#define CW_TESTS_SUPPORT_DEVICES_H

/* Makes this process find the emulated Tang runtime of this build. Call first in main(). The CPU may touch the device
 * memory, so a test can look at it as at any other; that the library does not is for the tests of tests/process to
 * show. 0 = there is none. */
int emulated_devices(void);
/* The same for the emulated CUDA driver, in a process of its own: both would claim the same memory. */
int emulated_cuda_devices(void);

#endif
