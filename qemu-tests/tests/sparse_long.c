// SPDX-License-Identifier: GPL-2.0
/*
 * Usage: sparse_long [SECONDS [PAIRS [SUBTEST...]]]
 *
 * A sparse mapping that is used for long. DMA goes on for SECONDS, and on a slow machine for
 * longer, beside blocks that are filled and emptied. After PAIRS of fills and unmaps the
 * kernel uses no more memory than after each block was filled once.
 */
#include <glob.h>

#include "vtest.h"

#define BASE	(4 * SZ_1G)

static u64 seconds = 5, pairs = 20000;

/*
 * Each device uses two granules that stay. Three granules behind each of them are filled and
 * emptied: alone, in pairs, and in ranges that are filled only in part.
 */
#define EACH	8

/* The least that each subtest does, however slow the machine is. */
#define ROUNDS	100

static void beside(enum vt_mem kind, u64 granule, u64 ms)
{
	struct vt_worker w[VT_MAX_DEVS];
	u64 size, at, n, locked, end;
	struct vt_container c;
	unsigned int i;
	struct vt_faults f;
	int k, devs;
	u8 *p;

	devs = vt_edu_count();
	vt_open_sparse(&c);
	for (k = 1; k < devs; k++)
		vt_add_edu(&c, k);
	for (k = 0; k < devs; k++)
		vt_edu_enable(&c.dev[k]);
	size = devs * EACH * granule;
	p = vt_alloc(kind, size);
	ASSERT_OK(vt_sparse(&c, BASE, p, size, VT_RW, granule));
	vt_faults_mark(&f);
	for (k = 0; k < devs; k++) {
		at = k * EACH * granule;
		ASSERT_OK(vt_map(&c, BASE + at, p + at, granule, VT_RW, 0));
		ASSERT_OK(vt_map(&c, BASE + at + 4 * granule, p + at + 4 * granule, granule, VT_RW,
				 0));
		w[k].dev = &c.dev[k];
		w[k].from_iova = BASE + at;
		w[k].from = p + at;
		/* To the last page of the other granule. */
		at += 5 * granule - SZ_4K;
		w[k].to_iova = BASE + at;
		w[k].to = p + at;
		vt_worker_start(&w[k]);
	}
	locked = vt_locked();

	end = vt_now() + ms * 1000000;
	for (i = 0; vt_now() < end || i < ROUNDS || !vt_workers_did(w, devs, 1); i++) {
		at = (i % devs * EACH + (i / devs % 2 ? 5 : 1)) * granule;
		switch (i % 3) {
		case 0:
			ASSERT_OK(vt_map(&c, BASE + at, p + at, 3 * granule, VT_RW, 0));
			break;
		case 1:
			ASSERT_OK(vt_map(&c, BASE + at, p + at, granule, VT_RW, 0));
			ASSERT_OK(vt_map(&c, BASE + at + 2 * granule, p + at + 2 * granule, granule,
					 VT_RW, 0));
			ASSERT_EQ(vt_map(&c, BASE + at + granule, p + at + granule, 2 * granule,
					 VT_RW, 0), -EEXIST);
			ASSERT_EQ(vt_map(&c, BASE + at - granule, p + at - granule, 2 * granule,
					 VT_RW, 0), -EEXIST);
			break;
		default:
			ASSERT_OK(vt_map(&c, BASE + at + granule, p + at + granule, granule, VT_RW,
					 granule));
		}
		ASSERT_GT(vt_locked(), locked);
		ASSERT_OK(vt_unmap(&c, BASE + at, 3 * granule, &n));
		ASSERT_EQ(n, (3 - i % 3) * granule);
		ASSERT_EQ(vt_locked(), locked);
	}
	vt_diag("%u times filled and emptied beside %llu copies by %d devices", i,
		vt_workers_stop(w, devs), devs);
	ASSERT_EQ(vt_faults_count(&f), 0);
}

static void beside_4k(void)
{
	beside(VT_MEM_4K, SZ_4K, seconds * 250);
}

static void beside_64k(void)
{
	beside(VT_MEM_THP, SZ_64K, seconds * 250);
}

static void beside_2m(void)
{
	beside(VT_MEM_THP, SZ_2M, seconds * 500);
}

/* ---- Kernel memory in use ---- */

struct kept {
	u32 avail;
	u64 locked, pinned, slab, tables, sec_tables;
};

static void look(struct vt_container *c, struct kept *k)
{
	glob_t caches;
	size_t i;

	/* What is freed by RCU, and what slabs keep for later. */
	sleep(2);
	ASSERT_OK(glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches));
	for (i = 0; i < caches.gl_pathc; i++)
		vt_write_file(caches.gl_pathv[i], "1");
	globfree(&caches);
	k->pinned = vt_pinned();
	k->avail = vt_dma_avail(c);
	k->locked = vt_locked();
	k->slab = vt_meminfo("Slab") + vt_meminfo("VmallocUsed");
	k->tables = vt_meminfo("PageTables");
	k->sec_tables = vt_meminfo("SecPageTables");
}

static void same(const struct kept *now, const struct kept *was, const char *when)
{
	vt_diag("%s: slabs %lld, page tables %lld, of the IOMMU %lld bytes more", when,
		(long long)(now->slab - was->slab), (long long)(now->tables - was->tables),
		(long long)(now->sec_tables - was->sec_tables));
	EXPECT_EQ(now->avail, was->avail);
	EXPECT_EQ(now->locked, was->locked);
	EXPECT_EQ(now->pinned, was->pinned);
	/* Others allocate, too. What each pair would leave behind is more. */
	EXPECT_LE(now->slab, was->slab + SZ_64K * 8);
	EXPECT_LE(now->tables, was->tables + SZ_64K);
	EXPECT_EQ(now->sec_tables, was->sec_tables);
}

static u64 rng;

static u64 below(u64 n)
{
	rng = rng * 6364136223846793005ull + 1442695040888963407ull;
	return (rng >> 33) % n;
}

#define GRANULES	8192

static void nothing_is_left(void)
{
	static bool filled[GRANULES];
	u64 size = GRANULES * SZ_4K, start, i, n, first, nr, k, live = 0, base;
	struct kept was, is, all_was, all_is;
	struct vt_container c;
	u8 *p;

	alarm(0);
	vt_set_param("dma_entry_limit", 1);
	vt_open_sparse(&c);
	p = vt_alloc(VT_MEM_4K, size);
	base = vt_locked();
	ASSERT_OK(vt_sparse(&c, BASE, p, size, VT_RW, SZ_4K));
	/* One round: every granule once, one by one. */
	for (i = 0; i < GRANULES; i++)
		ASSERT_OK(vt_map(&c, BASE + i * SZ_4K, p + i * SZ_4K, SZ_4K, VT_RW, 0));
	look(&c, &all_was);
	for (i = 0; i < GRANULES; i++)
		ASSERT_OK(vt_unmap(&c, BASE + i * SZ_4K, SZ_4K, NULL));
	look(&c, &was);
	ASSERT_EQ(was.avail, 0);
	ASSERT_EQ(was.locked, base);

	start = vt_now();
	rng = 7;
	for (i = 0; i < 2 * pairs; i++) {
		first = below(GRANULES);
		nr = below(8) ? 1 : 1 + below(16);
		if (nr > GRANULES - first)
			nr = GRANULES - first;
		if (filled[first]) {
			ASSERT_OK(vt_unmap(&c, BASE + first * SZ_4K, nr * SZ_4K, &n));
			for (k = first; k < first + nr; k++) {
				live -= filled[k];
				n -= filled[k] * SZ_4K;
				filled[k] = false;
			}
			ASSERT_EQ(n, 0);
			continue;
		}
		for (k = first; k < first + nr && !filled[k]; k++)
			;
		if (k < first + nr)
			ASSERT_EQ(vt_map(&c, BASE + first * SZ_4K, p + first * SZ_4K, nr * SZ_4K,
					 VT_RW, 0), -EEXIST);
		nr = k - first;
		ASSERT_OK(vt_map(&c, BASE + first * SZ_4K, p + first * SZ_4K, nr * SZ_4K, VT_RW,
				 0));
		memset(filled + first, true, nr);
		live += nr;
		if (i % 65536 == 0)
			ASSERT_EQ(vt_locked(), base + live * SZ_4K);
	}
	start = (vt_now() - start) / 1000000;
	vt_diag("%llu pairs in %llu ms", pairs, start);
	ASSERT_EQ(vt_mapped_bytes(&c, BASE, size), live * SZ_4K);
	ASSERT_EQ(vt_locked(), base + live * SZ_4K);

	for (i = 0; i < GRANULES; i++)
		if (!filled[i])
			ASSERT_OK(vt_map(&c, BASE + i * SZ_4K, p + i * SZ_4K, SZ_4K, VT_RW, 0));
	look(&c, &all_is);
	same(&all_is, &all_was, "filled");
	for (i = 0; i < GRANULES; i++)
		ASSERT_OK(vt_unmap(&c, BASE + i * SZ_4K, SZ_4K, NULL));
	look(&c, &is);
	same(&is, &was, "empty");
	ASSERT_OK(vt_end_sparse(&c, BASE, size, NULL));
	EXPECT_EQ(vt_dma_avail(&c), 1);
}

int main(int argc, char **argv)
{
	static const struct vtest tests[] = {
		VTEST(beside_4k),
		VTEST(beside_64k),
		VTEST(beside_2m),
		VTEST(nothing_is_left),
	};
	int skip = argc > 2 ? 2 : argc - 1;

	if (argc > 1)
		seconds = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		pairs = strtoull(argv[2], NULL, 0);
	return vtest_main(argc - skip, argv + skip, tests, ARRAY_SIZE(tests));
}
