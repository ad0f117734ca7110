/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy kernels. Streamed copies are cut into runs of at most a page that begin at a line of the destination; four runs
 * of equal length are copied side by side. One kernel for each width of vectors, chosen when first asked.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <util/copy.h>

#define LINE 64u
#define STEP 256u /* bytes of one run before it is the next one's turn */
#define RUN 4096u /* a prefetcher does not look beyond its page */
#define LANES 4u

struct lanes {
	unsigned char *to[LANES];
	const unsigned char *from[LANES];
	unsigned count;
	size_t length; /* of each; a multiple of STEP */
};

typedef void (*kernel_fn)(const struct lanes *lanes);

void cw__copy_plain(const struct cw__copy_part *parts, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		memcpy(parts[i].to, parts[i].from, parts[i].length);
}

/* The thread sanitizer does not see what vector instructions touch. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#include <cpuid.h>
#include <immintrin.h>

/* As macros: the types and the instructions differ, and neither can be a parameter. */
#define KERNEL(NAME, TARGET, WIDTH, LOAD, STREAM, TYPE)                                                                \
	__attribute__((target(TARGET))) static void NAME(const struct lanes *lanes)                                    \
	{                                                                                                              \
		for (size_t at = 0; at < lanes->length; at += STEP)                                                    \
			for (unsigned lane = 0; lane < lanes->count; lane++)                                           \
				for (size_t end = at + STEP, i = at; i < end; i += 4 * (WIDTH)) {                      \
					const unsigned char *from = lanes->from[lane] + i;                             \
					unsigned char *to = lanes->to[lane] + i;                                       \
					TYPE a = LOAD((const void *)from);                                             \
					TYPE b = LOAD((const void *)(from + (WIDTH)));                                 \
					TYPE c = LOAD((const void *)(from + 2 * (WIDTH)));                             \
					TYPE d = LOAD((const void *)(from + 3 * (WIDTH)));                             \
                                                                                                                       \
					STREAM((void *)to, a);                                                         \
					STREAM((void *)(to + (WIDTH)), b);                                             \
					STREAM((void *)(to + 2 * (WIDTH)), c);                                         \
					STREAM((void *)(to + 3 * (WIDTH)), d);                                         \
				}                                                                                      \
	}

KERNEL(stream_sse2, "sse2", 16, _mm_loadu_si128, _mm_stream_si128, __m128i)
KERNEL(stream_avx2, "avx2", 32, _mm256_loadu_si256, _mm256_stream_si256, __m256i)
KERNEL(stream_avx512, "avx512f", 64, _mm512_loadu_si512, _mm512_stream_si512, __m512i)

static void fence(void)
{
	_mm_sfence();
}

/* What the system saves of the vector registers: bits of XCR0. */
static uint32_t saved_state(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

#define AVX_STATE 0x06u
#define AVX512_STATE 0xe6u
#define HAS_AVX512_VBMI2 (1u << 6) /* such processors do not slow down for wide vectors */

static kernel_fn choose(void)
{
	unsigned a, b, c, d, state;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return stream_sse2;
	state = saved_state();
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return stream_sse2;
	if ((b & bit_AVX512F) && (c & HAS_AVX512_VBMI2) && (state & AVX512_STATE) == AVX512_STATE)
		return stream_avx512;
	return (b & bit_AVX2) && (state & AVX_STATE) == AVX_STATE ? stream_avx2 : stream_sse2;
}
#else
static kernel_fn choose(void)
{
	return NULL;
}

static void fence(void)
{
}
#endif

/* Asked once: in a virtual machine the instruction costs microseconds. Not __builtin_cpu_supports(), which needs a
 * constructor. */
static kernel_fn chosen(void)
{
	static _Atomic(kernel_fn) answer;
	static _Atomic int asked;
	kernel_fn kernel;

	if (atomic_load_explicit(&asked, memory_order_acquire))
		return atomic_load_explicit(&answer, memory_order_relaxed);
	kernel = choose();
	atomic_store_explicit(&answer, kernel, memory_order_relaxed);
	atomic_store_explicit(&asked, 1, memory_order_release);
	return kernel;
}

int cw__copy_can_stream(void)
{
	return chosen() != NULL;
}

static void flush(struct lanes *lanes, kernel_fn kernel)
{
	if (lanes->count)
		kernel(lanes);
	lanes->count = 0;
}

static void add_run(struct lanes *lanes, kernel_fn kernel, unsigned char *to, const unsigned char *from, size_t length)
{
	if (lanes->count && lanes->length != length)
		flush(lanes, kernel);
	lanes->to[lanes->count] = to;
	lanes->from[lanes->count] = from;
	lanes->length = length;
	if (++lanes->count == LANES)
		flush(lanes, kernel);
}

/* What does not fill a line or a step at either end is copied plainly. */
static void add_part(struct lanes *lanes, kernel_fn kernel, const struct cw__copy_part *part)
{
	unsigned char *to = part->to;
	const unsigned char *from = part->from;
	size_t left = part->length, head = (LINE - ((uintptr_t)to & (LINE - 1))) & (LINE - 1);

	if (head > left)
		head = left;
	memcpy(to, from, head);
	to += head, from += head, left -= head;
	while (left >= STEP) {
		size_t run = left < RUN ? left - left % STEP : RUN;

		add_run(lanes, kernel, to, from, run);
		to += run, from += run, left -= run;
	}
	memcpy(to, from, left);
}

void cw__copy_streamed(const struct cw__copy_part *parts, unsigned count)
{
	kernel_fn kernel = chosen();
	struct lanes lanes = { .count = 0 };

	if (!kernel) {
		cw__copy_plain(parts, count);
		return;
	}
	for (unsigned i = 0; i < count; i++)
		add_part(&lanes, kernel, &parts[i]);
	flush(&lanes, kernel);
	fence(); /* streamed stores are not ordered with what publishes the end of the copy */
}
