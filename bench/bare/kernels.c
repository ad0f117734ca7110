/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways to copy memory. Which one is the fastest depends on the processor, on the size and on what lies in the caches,
 * so all are offered and the best counts. Streamed ("non-temporal") stores do not read the lines that they overwrite.
 */
#include "bare.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define LINE 64u
#define PAGE 4096u

static int always(void)
{
	return 1;
}

static int has_erms(void)
{
	unsigned int a = 7, b = 0, c = 0, d = 0;

	__asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return (b >> 9) & 1;
}

static int has_avx2(void)
{
	return __builtin_cpu_supports("avx2") != 0;
}

static int has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") != 0;
}

static void copy_libc(void *to, const void *from, size_t length)
{
	memcpy(to, from, length);
}

static void copy_erms(void *to, const void *from, size_t length)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
}

/* Streamed stores want whole lines: copies the start up to the first one, and says how long it was. */
static size_t to_line(unsigned char *to, const unsigned char *from, size_t length)
{
	size_t head = (LINE - ((uintptr_t)to & (LINE - 1))) & (LINE - 1);

	if (head > length)
		head = length;
	memcpy(to, from, head);
	return head;
}

__attribute__((target("avx2"))) static void copy_avx2(void *to, const void *from, size_t length)
{
	unsigned char *out = to;
	const unsigned char *in = from;

	for (; length >= 128; length -= 128, out += 128, in += 128) {
		__m256i a = _mm256_loadu_si256((const void *)in), b = _mm256_loadu_si256((const void *)(in + 32));
		__m256i c = _mm256_loadu_si256((const void *)(in + 64)),
			d = _mm256_loadu_si256((const void *)(in + 96));

		_mm256_storeu_si256((void *)out, a);
		_mm256_storeu_si256((void *)(out + 32), b);
		_mm256_storeu_si256((void *)(out + 64), c);
		_mm256_storeu_si256((void *)(out + 96), d);
	}
	memcpy(out, in, length);
}

__attribute__((target("avx2"))) static void stream_avx2(void *to, const void *from, size_t length)
{
	size_t head = to_line(to, from, length);
	unsigned char *out = (unsigned char *)to + head;
	const unsigned char *in = (const unsigned char *)from + head;

	for (length -= head; length >= 128; length -= 128, out += 128, in += 128) {
		__m256i a, b, c, d;

		_mm_prefetch((const char *)in + 8 * LINE, _MM_HINT_NTA);
		_mm_prefetch((const char *)in + 9 * LINE, _MM_HINT_NTA);
		a = _mm256_loadu_si256((const void *)in), b = _mm256_loadu_si256((const void *)(in + 32));
		c = _mm256_loadu_si256((const void *)(in + 64)), d = _mm256_loadu_si256((const void *)(in + 96));
		_mm256_stream_si256((void *)out, a);
		_mm256_stream_si256((void *)(out + 32), b);
		_mm256_stream_si256((void *)(out + 64), c);
		_mm256_stream_si256((void *)(out + 96), d);
	}
	memcpy(out, in, length);
}

__attribute__((target("avx512f"))) static void stream_avx512(void *to, const void *from, size_t length)
{
	size_t head = to_line(to, from, length);
	unsigned char *out = (unsigned char *)to + head;
	const unsigned char *in = (const unsigned char *)from + head;

	for (length -= head; length >= 256; length -= 256, out += 256, in += 256) {
		__m512i a = _mm512_loadu_si512(in), b = _mm512_loadu_si512(in + 64);
		__m512i c = _mm512_loadu_si512(in + 128), d = _mm512_loadu_si512(in + 192);

		_mm512_stream_si512((void *)out, a);
		_mm512_stream_si512((void *)(out + 64), b);
		_mm512_stream_si512((void *)(out + 128), c);
		_mm512_stream_si512((void *)(out + 192), d);
	}
	memcpy(out, in, length);
}

/* Four pages side by side, so that four of the processor's prefetchers work at once. */
__attribute__((target("avx2"))) static void stream_avx2_four(void *to, const void *from, size_t length)
{
	size_t head = to_line(to, from, length);
	unsigned char *out = (unsigned char *)to + head;
	const unsigned char *in = (const unsigned char *)from + head;

	for (length -= head; length >= 4 * PAGE; length -= 4 * PAGE, out += 4 * PAGE, in += 4 * PAGE)
		for (size_t line = 0; line < PAGE; line += LINE) {
			__m256i low[4], high[4];

			for (size_t page = 0; page < 4; page++) {
				low[page] = _mm256_loadu_si256((const void *)(in + page * PAGE + line));
				high[page] = _mm256_loadu_si256((const void *)(in + page * PAGE + line + 32));
			}
			for (size_t page = 0; page < 4; page++) {
				_mm256_stream_si256((void *)(out + page * PAGE + line), low[page]);
				_mm256_stream_si256((void *)(out + page * PAGE + line + 32), high[page]);
			}
		}
	stream_avx2(out, in, length);
}

void bare_fence(void)
{
	_mm_sfence();
}

const struct bare_kernel_row bare_kernels[] = {
	{ "memcpy", copy_libc, always },
	{ "erms", copy_erms, has_erms },
	{ "avx2", copy_avx2, has_avx2 },
	{ "nt-avx2", stream_avx2, has_avx2 },
	{ "nt-avx2-four", stream_avx2_four, has_avx2 },
	{ "nt-avx512", stream_avx512, has_avx512 },
	{ NULL, NULL, NULL },
};
#else
static int always(void)
{
	return 1;
}

static int never(void)
{
	return 0;
}

static void copy_libc(void *to, const void *from, size_t length)
{
	memcpy(to, from, length);
}

void bare_fence(void)
{
	atomic_thread_fence(memory_order_seq_cst);
}

const struct bare_kernel_row bare_kernels[] = {
	{ "memcpy", copy_libc, always },
	{ "erms", NULL, never },
	{ "avx2", NULL, never },
	{ "nt-avx2", NULL, never },
	{ "nt-avx2-four", NULL, never },
	{ "nt-avx512", NULL, never },
	{ NULL, NULL, NULL },
};
#endif
