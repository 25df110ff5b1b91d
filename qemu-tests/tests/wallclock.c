// SPDX-License-Identifier: GPL-2.0
/*
 * How long calls take by the clock when one thread makes them, and when two threads do, each
 * in a container of its own. If two calls cannot run at once, the time doubles. Prints lines
 *
 *	# wall PEER WHAT THREADS MEDIAN QUARTER THREE-QUARTERS SAMPLES
 *
 * in nanoseconds. SAMPLES is the number of calls in the same time. Rounds with one thread and
 * with two take turns, so that other load on the machine affects both alike.
 */
#include <pthread.h>

#include "peers.h"

#define IOVA		(1ull << 40)
#define SIZE		(64 * SZ_1M)
#define PIECE		SZ_2M
#define THREADS		2
#define ROUNDS		15
#define ROUND_NS	60000000ull	/* long enough for two CPUs to be at it at once */
#define SAMPLES		400000

struct samples {
	atomic_uint nr;
	u64 ns[SAMPLES];
};

struct worker {
	struct peers *p;
	u32 user;
	u8 *mem;
	u64 size, piece;
	pthread_barrier_t *start;
	struct samples *samples;
	int ret;
};

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static void tell(const char *peer, const char *what, int threads, struct samples *s)
{
	qsort(s->ns, s->nr, sizeof(s->ns[0]), compare);
	vt_diag("wall %s %s %d %llu %llu %llu %u", peer, what, threads,
		s->ns[s->nr / 2], s->ns[s->nr / 4], s->ns[s->nr * 3 / 4], s->nr);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	u64 since, end;
	u32 i;

	pthread_barrier_wait(w->start);
	end = vt_now() + ROUND_NS;
	while (!w->ret) {
		since = vt_now();
		if (since >= end)
			break;
		w->ret = peer_map(w->p, w->user, IOVA, w->mem, w->size, w->piece);
		if (!w->ret)
			w->ret = peer_unmap(w->p, w->user, IOVA, w->size);
		i = w->samples->nr++;
		ASSERT_LT(i, SAMPLES);
		w->samples->ns[i] = vt_now() - since;
	}
	return NULL;
}

static int one_round(struct peers *p, u8 *mem, u64 size, u64 piece, u32 threads,
		     struct samples *samples)
{
	struct worker w[THREADS];
	pthread_t thread[THREADS];
	pthread_barrier_t start;
	int ret = 0;
	u32 i;

	pthread_barrier_init(&start, NULL, threads);
	for (i = 0; i < threads; i++) {
		/* User 0 of a peer that copies is the source of the copies. */
		w[i] = (struct worker){
			.p = p, .user = i + 1, .mem = mem, .size = size, .piece = piece,
			.start = &start, .samples = samples,
		};
		ASSERT_EQ(pthread_create(&thread[i], NULL, work, &w[i]), 0);
	}
	for (i = 0; i < threads; i++) {
		pthread_join(thread[i], NULL);
		if (w[i].ret)
			ret = w[i].ret;
	}
	pthread_barrier_destroy(&start);
	return ret;
}

static void at_once(enum peer peer, u8 *mem, u64 size, u64 piece, const char *what)
{
	static struct samples samples[THREADS];
	struct peers p;
	int ret, i;
	u32 n;

	memset(samples, 0, sizeof(samples));
	ret = peer_open(&p, peer, mem, size);
	for (i = 0; i < THREADS && !ret; i++)
		ret = peer_add(&p);
	for (i = 0; i < ROUNDS && !ret; i++)
		for (n = 1; n <= THREADS && !ret; n++)
			ret = one_round(&p, mem, size, piece, n, &samples[n - 1]);
	for (n = 1; n <= THREADS; n++)
		if (ret)
			vt_diag("wall %s %s %u %s", peer_name(peer), what, n, strerror(-ret));
		else
			tell(peer_name(peer), what, n, &samples[n - 1]);
	peer_close(&p);
}

static void containers(void)
{
	static const enum peer peers[] = { PEER_SUPER, PEER_GRANULE, PEER_TYPE1,
					   PEER_IOMMUFD, PEER_COPY };
	size_t i;
	u8 *mem;

	mem = vt_alloc(VT_MEM_THP, SIZE);
	for (i = 0; i < ARRAY_SIZE(peers); i++) {
		at_once(peers[i], mem, SIZE, PIECE, "64M");
		at_once(peers[i], mem, SZ_2M, 0, "2M");
	}
}

/* Registers memory that has to be faulted in and pinned, again and again. */
static atomic_bool stop_registering;

static void *keep_registering(void *arg)
{
	struct worker *w = arg;

	while (!stop_registering && !w->ret) {
		w->ret = peer_register(w->p, w->mem, w->size);
		if (!w->ret)
			w->ret = peer_unregister(w->p, w->mem, w->size);
	}
	return NULL;
}

static void registering(void)
{
	static struct samples samples[2];
	struct worker other;
	pthread_t thread;
	struct peers p;
	int ret, i;
	u8 *mem;

	mem = vt_alloc(VT_MEM_THP, SIZE);
	ret = peer_open(&p, PEER_SUPER, mem, SIZE);
	if (!ret)
		ret = peer_add(&p);
	if (ret)
		SKIP("no super-container: %s", strerror(-ret));
	other = (struct worker){
		.p = &p, .mem = vt_alloc(VT_MEM_SCATTERED, SIZE), .size = SIZE,
	};
	for (i = 0; i < ROUNDS; i++) {
		ASSERT_OK(one_round(&p, mem, SIZE, PIECE, 1, &samples[0]));
		stop_registering = false;
		ASSERT_EQ(pthread_create(&thread, NULL, keep_registering, &other), 0);
		ASSERT_OK(one_round(&p, mem, SIZE, PIECE, 1, &samples[1]));
		stop_registering = true;
		pthread_join(thread, NULL);
		ASSERT_OK(other.ret);
	}
	tell("super", "64M-while-registering", 1, &samples[0]);
	tell("super", "64M-while-registering", 2, &samples[1]);
	peer_close(&p);
}

VTEST_MAIN(
	VTEST(containers),
	VTEST(registering),
)
