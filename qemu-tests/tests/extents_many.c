// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO_IOMMU_DMA_EXTENTS with many mappings, and while other threads and processes map,
 * unmap, close the container or die
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "../lib/runs.h"
#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define ROOM	RUN_ROOM

#define R	RUN_R
#define W	RUN_W

/* count says more room than memory could have; the array has just enough. */
static void huge_room(void)
{
	struct vfio_dma_extent e[ROOM];
	struct vt_container c;
	struct run r[RUN_FEW];
	u64 iova, size, nr;
	u32 count;
	size_t i;

	vt_open_v2(&c);
	run_map_few(&c, BASE, r);
	nr = vt_extents_count(&c, 0, 0);
	ASSERT_LE(nr, ROOM);
	for (i = 0; i < 3; i++) {
		count = i == 0 ? ~0u : i == 1 ? 1u << 31 : 0x05555556;
		memset(e, 0x5a, sizeof(e));
		iova = 0;
		size = 0;
		ASSERT_OK(vt_extents(&c, &iova, &size, e, &count));
		ASSERT_EQ(count, nr);
		ASSERT_EQ(size, 0);
		ASSERT_EQ(e[0].iova, BASE);
		ASSERT_EQ(e[nr].iova, 0x5a5a5a5a5a5a5a5aull);
	}
}

#define MANY	60000

static void many_mappings(void)
{
	const struct vfio_dma_extent *e;
	struct vt_container c;
	struct vt_extents x;
	u64 start, took;
	u8 *mem;
	u32 i;

	vt_open_v2(&c);
	ASSERT_GE(vt_dma_avail(&c), MANY);
	mem = vt_alloc(VT_MEM_4K, SZ_4K);
	for (i = 0; i < MANY; i++)
		ASSERT_OK(vt_map(&c, BASE + i * SZ_8K, mem, SZ_4K, i % 3 + 1, i % 2 * SZ_4K));
	start = vt_now();
	vt_extents_read(&c, 0, 0, MANY, &x);
	took = vt_now() - start;
	vt_diag("%zu extents in %u calls, %llu us a call", x.nr, x.calls, took / x.calls / 1000);
	ASSERT_EQ(x.nr, MANY);
	for (i = 0; i < MANY; i++) {
		e = &x.e[i];
		if (e->iova != BASE + i * SZ_8K || e->size != SZ_4K ||
		    e->vaddr != (uintptr_t)mem || e->flags != i % 3 + 1 ||
		    e->granule != i % 2 * SZ_4K || e->pgsize != x.e[0].pgsize)
			FAIL("extent %u: iova %#llx size %#llx vaddr %#llx flags %#x granule %#llx",
			     i, e->iova, e->size, e->vaddr, e->flags, e->granule);
	}
	ASSERT_EQ(x.e[0].pgsize, run_known(&c) == UNKNOWN ? 0 : SZ_4K);
	vt_extents_free(&x);

	ASSERT_EQ(vt_extents_count(&c, 0, 0), MANY);
	vt_extents_read(&c, BASE + SZ_4K, (MANY - 1) * SZ_8K - SZ_4K, 999, &x);
	ASSERT_EQ(x.nr, MANY - 2);
	vt_extents_free(&x);
	vt_close(&c);
}

/*
 * A mapping with more small pages than one call looks at: the same memory again and again,
 * its pages in falling order, so that no two make a larger page. Smaller on the debug kernel.
 */
static u8 *endless(u64 *size)
{
	u64 chunk = vt_kernel_is("debug") ? 16 * SZ_1M : 128 * SZ_1M, at;
	int fd = memfd_create("extents", 0);
	u8 *p;

	*size = 12 * SZ_1G;
	if (chunk < 128 * SZ_1M)
		*size = SZ_1G / 2;
	ASSERT_GE(fd, 0);
	ASSERT_OK(ftruncate(fd, chunk));
	p = mmap(NULL, *size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	for (at = 0; at < *size; at += chunk)
		ASSERT_TRUE(mmap(p + at, chunk, at ? PROT_READ : PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_FIXED, fd, 0) == p + at);
	for (at = chunk; at; at -= SZ_4K)
		p[at - SZ_4K] = 1;
	ASSERT_OK(madvise(p, *size, MADV_DONTFORK));
	close(fd);
	return p;
}

/* ---- Meanwhile ---- */

struct shared {
	atomic_bool in_call, done, stop;
};

static struct shared *shared_page(void)
{
	struct shared *s = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ASSERT_TRUE(s != MAP_FAILED);
	return s;
}

static void count_all(struct vt_container *c)
{
	u64 iova = BASE, size = 0;
	u32 count = 0;

	ASSERT_OK(vt_extents(c, &iova, &size, NULL, &count));
}

/* A call stops early to let others have the container. Still each extent is told once. */
static void all_told(struct vt_container *c, const u8 *mem, u64 size)
{
	u64 at = BASE, start = vt_now();
	struct vt_extents x;
	size_t i;

	vt_extents_read(c, 0, 0, ROOM * ROOM, &x);
	vt_diag("%zu extents of %llu MiB in %u calls, %llu ms", x.nr, size / SZ_1M, x.calls,
		(vt_now() - start) / 1000000);
	if (!vt_kernel_is("debug"))
		ASSERT_GE(x.calls, 2);
	for (i = 0; i < x.nr; i++) {
		ASSERT_EQ(x.e[i].iova, at);
		ASSERT_EQ(x.e[i].vaddr, (uintptr_t)mem + (at - BASE));
		if (run_known(c) == IN_TABLES && !vt_any_pgsize(c))
			ASSERT_EQ(x.e[i].pgsize, SZ_4K);
		at += x.e[i].size;
	}
	ASSERT_EQ(at, BASE + size);
	vt_extents_free(&x);
}

/* A call stops when it has looked long enough, even if there is room for more extents. */
static void stops_early(struct vt_container *c, u64 size)
{
	/* Some IOMMUs have pages of any power of two, and so more extents. */
	static struct vfio_dma_extent e[4096];
	u64 iova = BASE, left = size;
	u32 count = ARRAY_SIZE(e);

	ASSERT_OK(vt_extents(c, &iova, &left, e, &count));
	vt_diag("a call tells %u extents and %llu of %llu MiB", count, (iova - BASE) / SZ_1M,
		size / SZ_1M);
	ASSERT_GT(count, 0);
	ASSERT_LT(count, ARRAY_SIZE(e));
	ASSERT_NE(left, 0);
	ASSERT_EQ(iova + left, BASE + size);
	ASSERT_EQ(iova, e[count - 1].iova + e[count - 1].size);
}

struct walker {
	struct vt_container *c;
	struct shared *s;
	u64 size;
	atomic_uint calls, walks;
};

static void *walk_on(void *arg)
{
	struct walker *w = arg;
	u64 iova, left;
	u32 count;

	while (!w->s->stop) {
		iova = BASE;
		left = w->size;
		do {
			count = 0;
			w->s->in_call = true;
			ASSERT_OK(vt_extents(w->c, &iova, &left, NULL, &count));
			w->calls++;
		} while (left && !w->s->stop);
		w->walks++;
	}
	return NULL;
}

/* A map that arrives in the first call of a walk does not wait for the last one. */
static bool map_does_not_wait(struct vt_container *c, u64 size)
{
	struct walker w = { .c = c, .s = shared_page(), .size = size };
	u8 *p = vt_alloc(VT_MEM_4K, SZ_4K);
	unsigned int before, calls, walks;
	pthread_t thread;
	u64 start;

	ASSERT_OK(pthread_create(&thread, NULL, walk_on, &w));
	while (!w.s->in_call)
		;
	usleep(1000);
	before = w.calls;
	start = vt_now();
	ASSERT_OK(vt_map(c, BASE - SZ_4K, p, SZ_4K, VT_RW, 0));
	calls = w.calls;
	walks = w.walks;
	vt_diag("a map took %llu ms, %u calls", (vt_now() - start) / 1000000, calls);
	w.s->stop = true;
	ASSERT_OK(pthread_join(thread, NULL));
	ASSERT_OK(vt_unmap(c, BASE - SZ_4K, SZ_4K, NULL));
	vt_free(p, VT_MEM_4K, SZ_4K);
	/* Nobody else waits: it is its turn after this call, or after the next at most. */
	return !before && !walks && calls <= 2;
}

static void map_meanwhile(struct vt_container *c, u64 size)
{
	int i;

	/* Other load may be in the way of one, hardly of all. */
	for (i = 0; i < 8; i++)
		if (map_does_not_wait(c, size))
			return;
	FAIL("a map waits for a whole walk");
}

/* Killed in a call that has a long way to go. */
static void killed_midway(struct vt_container *c)
{
	u64 start, call = ~0ull, best = ~0ull, took;
	struct shared *s = shared_page();
	int i, status;
	pid_t pid;

	for (i = 0; i < 2; i++) {
		start = vt_now();
		count_all(c);
		took = vt_now() - start;
		if (took < call)
			call = took;
	}

	/* Other load may be in the way of one, hardly of all. */
	for (i = 0; i < 8 && best > call / 3; i++) {
		s->in_call = false;
		s->done = false;
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			s->in_call = true;
			count_all(c);
			s->done = true;
			_exit(0);
		}
		while (!s->in_call)
			usleep(100);
		usleep(call / 4000);
		start = vt_now();
		ASSERT_OK(kill(pid, SIGKILL));
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		took = vt_now() - start;
		if (!s->done && WIFSIGNALED(status) && took < best)
			best = took;
	}
	vt_diag("a call takes %llu us, killed after a quarter of it: gone in %llu us",
		call / 1000, best / 1000);
	ASSERT_LE(best, call / 3);
	count_all(c);
}

static void endless_mapping(void)
{
	struct vt_container c;
	u64 size;
	u8 *mem;

	vt_open_v2(&c);
	if (run_known(&c) == UNKNOWN)
		SKIP("the driver cannot tell page sizes: no call takes long");
	mem = endless(&size);
	ASSERT_OK(vt_map(&c, BASE, mem, size, VT_RO, 0));
	all_told(&c, mem, size);
	/* That of the debug kernel is no longer than one call is. */
	if (!vt_kernel_is("debug")) {
		stops_early(&c, size);
		map_meanwhile(&c, size);
	}
	killed_midway(&c);
	vt_close(&c);
}

#define TORN	16

struct torn_call {
	struct vt_container *c;
	struct vfio_dma_extent *array;
	u64 left;
	u32 count;
	int ret;
};

static void *call_torn(void *arg)
{
	struct torn_call *t = arg;
	u64 iova = BASE;

	t->left = 0;
	t->count = TORN;
	t->ret = vt_extents(t->c, &iova, &t->left, t->array, &t->count);
	return NULL;
}

/*
 * The container loses its last group, and with it type1's state, while a call waits for the
 * page that it copies to.
 */
static void torn_down_while_copying(void)
{
	struct vt_container c;
	struct torn_call t = { .c = &c };
	unsigned int round, i;
	pthread_t thread;
	int uffd;
	u8 *mem;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	mem = vt_alloc(VT_MEM_4K, SZ_64K);
	t.array = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(t.array != MAP_FAILED);
	uffd = vt_withhold(t.array, SZ_4K);
	/* Fail rather than hang if the call has something that tearing down waits for. */
	alarm(60);
	for (round = 0; round < 5; round++) {
		vt_add_edu(&c, 0);
		for (i = 0; i < TORN; i++)
			ASSERT_OK(vt_map(&c, BASE + i * SZ_64K, mem, SZ_4K, VT_RW, 0));
		ASSERT_OK(pthread_create(&thread, NULL, call_torn, &t));
		ASSERT_EQ(vt_awaited(uffd), (uintptr_t)t.array);
		vt_remove(&c.dev[0]);
		ASSERT_EQ(vt_locked(), 0);
		vt_provide(uffd, t.array, SZ_4K);
		ASSERT_OK(pthread_join(thread, NULL));
		ASSERT_OK(t.ret);
		ASSERT_EQ(t.count, TORN);
		ASSERT_EQ(t.left, 0);
		for (i = 0; i < TORN; i++)
			ASSERT_EQ(t.array[i].iova, BASE + i * SZ_64K);
		ASSERT_OK(madvise(t.array, SZ_4K, MADV_DONTNEED));
	}
}

struct victim {
	struct shared *s;
	struct vfio_dma_extent *array;
};

static void *protect_and_unmap(void *arg)
{
	struct victim *v = arg;
	unsigned int i;

	for (i = 0; !v->s->stop; i++) {
		if (i % 2) {
			mprotect(v->array, SZ_64K, PROT_NONE);
			mprotect(v->array, SZ_64K, PROT_READ | PROT_WRITE);
		} else {
			munmap(v->array, SZ_64K);
			if (mmap(v->array, SZ_64K, PROT_READ | PROT_WRITE, MAP_PRIVATE |
				 MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
				FAIL("mmap: %s", strerror(errno));
		}
	}
	return NULL;
}

/* The array is mapped and unmapped during the call: it returns EFAULT, or all of them. */
static void array_comes_and_goes(void)
{
	struct victim v = { .s = shared_page() };
	unsigned int good = 0, faults = 0, i;
	u64 iova, size, start;
	struct vt_container c;
	pthread_t thread;
	u32 count;
	u8 *mem;
	int ret;

	vt_open_v2(&c);
	mem = vt_alloc(VT_MEM_4K, SZ_4K);
	for (i = 0; i < 1000; i++)
		ASSERT_OK(vt_map(&c, BASE + i * SZ_64K, mem, SZ_4K, VT_RW, 0));
	v.array = mmap(NULL, SZ_64K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(v.array != MAP_FAILED);
	ASSERT_OK(pthread_create(&thread, NULL, protect_and_unmap, &v));
	for (start = vt_now(); vt_now() - start < 2000000000ull;) {
		iova = 0;
		size = 0;
		count = 1000;
		ret = vt_extents(&c, &iova, &size, v.array, &count);
		ASSERT_EQ(count, 1000);
		ASSERT_EQ(iova + size, 0);
		if (!ret) {
			ASSERT_EQ(size, 0);
			good++;
		} else {
			ASSERT_EQ(ret, -EFAULT);
			ASSERT_EQ(iova, 0);
			faults++;
		}
	}
	v.s->stop = true;
	ASSERT_OK(pthread_join(thread, NULL));
	vt_diag("%u calls went well, %u met a hole", good, faults);
	EXPECT_GT(good, 0);
	EXPECT_GT(faults, 0);
	ASSERT_EQ(vt_extents_count(&c, 0, 0), 1000);
	vt_close(&c);
}

/* Each mapper has an area of its own, and memory of its own kind. */
#define AREA(k)		(BASE + (k) * SZ_1G)
#define AREA_SIZE	(4 * SZ_2M)

struct mapper {
	struct vt_container *c;
	struct shared *s;
	u64 iova, granule;
	u8 *mem;
	unsigned int rounds;
	pthread_t thread;
};

static void *map_and_unmap(void *arg)
{
	struct mapper *m = arg;
	u64 piece = m->granule ? m->granule : AREA_SIZE;
	u64 nr = AREA_SIZE / piece, i;

	while (!m->s->stop) {
		ASSERT_OK(vt_map(m->c, m->iova, m->mem, AREA_SIZE, VT_RW, m->granule));
		/* Every third piece, and then some of them again. */
		for (i = 0; nr > 1 && i < nr && i < 96; i += 3)
			ASSERT_OK(vt_unmap(m->c, m->iova + i * piece, piece, NULL));
		for (i = 0; nr > 1 && i < nr && i < 96; i += 6)
			ASSERT_OK(vt_map(m->c, m->iova + i * piece, m->mem + i * piece, piece,
					 VT_RW, m->granule));
		ASSERT_OK(vt_unmap(m->c, m->iova, AREA_SIZE, NULL));
		m->rounds++;
	}
	return NULL;
}

static void plausible(enum known k, const struct mapper *m, size_t nr,
		      const struct vfio_dma_extent *e)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (e->iova - m[i].iova < AREA_SIZE)
			break;
	if (i == nr || e->size > AREA_SIZE - (e->iova - m[i].iova))
		FAIL("%#llx bytes at %#llx are nobody's", e->size, e->iova);
	m += i;
	ASSERT_EQ(e->vaddr, (uintptr_t)m->mem + (e->iova - m->iova));
	ASSERT_EQ(e->flags, R | W);
	ASSERT_EQ(e->granule, m->granule);
	if (m->granule)
		ASSERT_EQ((e->iova | e->size) % m->granule, 0);
	if (k == IN_TABLES)
		ASSERT_EQ(e->pgsize, i == 1 || i == 3 ? SZ_2M : SZ_4K);
	else if (k == BY_DRIVER)
		ASSERT_TRUE(e->pgsize >= (i == 1 || i == 3 ? SZ_2M : SZ_4K) &&
			    !(e->pgsize & (e->pgsize - 1)) &&
			    (!m->granule || e->pgsize <= m->granule || vt_cuts()));
	else
		ASSERT_EQ(e->pgsize, 0);
}

/* 10 seconds of mapping, unmapping and reading: each extent is a possible one. */
static void concurrent(void)
{
	static const enum vt_mem kind[] = {
		VT_MEM_SCATTERED, VT_MEM_THP, VT_MEM_SCATTERED, VT_MEM_THP,
	};
	static const u64 granule[] = { 0, 0, SZ_64K, SZ_2M };
	struct mapper m[ARRAY_SIZE(kind)];
	struct shared *s = shared_page();
	u64 start, told = 0, reads = 0, counted = 0;
	struct vt_container c;
	struct vt_extents x;
	enum known k;
	size_t i;

	vt_open_v2(&c);
	k = run_known(&c);
	/* Tables of any power of two are no more than a lower limit, while they change. */
	if (k == IN_TABLES && vt_any_pgsize(&c))
		k = BY_DRIVER;
	for (i = 0; i < ARRAY_SIZE(m); i++)
		m[i] = (struct mapper){
			.c = &c,
			.s = s,
			.iova = AREA(i),
			.granule = granule[i],
			.mem = vt_alloc(kind[i], AREA_SIZE),
		};
	for (i = 0; i < ARRAY_SIZE(m); i++)
		ASSERT_OK(pthread_create(&m[i].thread, NULL, map_and_unmap, &m[i]));
	for (start = vt_now(); vt_now() - start < 10000000000ull; reads++) {
		vt_extents_read(&c, 0, 0, reads % 5 ? ROOM : 1 + reads % 7, &x);
		for (i = 0; i < x.nr; i++)
			plausible(k, m, ARRAY_SIZE(m), &x.e[i]);
		told += x.nr;
		vt_extents_free(&x);
		counted += vt_extents_count(&c, AREA(reads % 4) + SZ_1M, SZ_1G);
	}
	s->stop = true;
	for (i = 0; i < ARRAY_SIZE(m); i++)
		ASSERT_OK(pthread_join(m[i].thread, NULL));
	vt_diag("%llu extents in %llu reads, %llu counted, next to %u %u %u %u rounds",
		told, reads, counted, m[0].rounds, m[1].rounds, m[2].rounds, m[3].rounds);
	EXPECT_GT(told, 0);
	run_expect(&c, 0, 0, NULL, 0);
	vt_close(&c);
}

VTEST_MAIN(
	VTEST(huge_room),
	VTEST(many_mappings),
	VTEST(endless_mapping),
	VTEST(torn_down_while_copying),
	VTEST(array_comes_and_goes),
	VTEST(concurrent),
)
