/* SPDX-License-Identifier: Apache-2.0 */
/* What a sanitizer changes in a test: its allocator replaces ours, its own thread wakes up, it cannot follow a fork. */
#ifndef CW_TESTS_SUPPORT_SANITIZERS_H
#define CW_TESTS_SUPPORT_SANITIZERS_H

#ifndef __has_feature /* gcc */
#define __has_feature(name) 0
#endif

#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define THREAD_SANITIZED 1
#else
#define THREAD_SANITIZED 0
#endif

#if THREAD_SANITIZED || defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#endif
