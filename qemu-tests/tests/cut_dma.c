// SPDX-License-Identifier: GPL-2.0
/*
 * Usage: cut_dma [CUTS [SUBTEST...]]
 *
 * A device reads from one neighbour of a granule and writes to the other, without pause,
 * while the granule is unmapped and the page around it is cut. It needs the strict QEMU.
 */
#include "vtest.h"

#define BASE	(4 * SZ_1G)
#define SWEEP	(8 * SZ_1G)
/* More than the emulated IOTLBs have entries */
#define SWEEP_PAGES	1100

static u64 cuts = 2000;

/* The device copies what is at from to the other address. */
static void expect_copy(struct vt_dev *dev, u8 *from, u8 *to)
{
	static u64 value;

	atomic_store((_Atomic u64 *)from, ++value);
	vt_copies_wait(dev);
	ASSERT_EQ(atomic_load((_Atomic u64 *)to), value);
}

/* Cuts one of two pages in turn. The one that the device does not use is mapped anew. */
static void cut_under(u64 granule)
{
	u64 here = 0, from, to, i;
	struct vt_container c;
	struct vt_dev *dev;
	struct vt_faults f;
	u8 *mem, *sweep;

	vt_open_granule(&c);
	vt_need_cuts();
	dev = &c.dev[0];
	vt_edu_enable(dev);
	vt_need_copies(dev);
	mem = vt_alloc(VT_MEM_THP, 2 * SZ_2M);
	ASSERT_OK(vt_map(&c, BASE, mem, SZ_2M, VT_RW, granule));
	ASSERT_OK(vt_map(&c, BASE + SZ_2M, mem + SZ_2M, SZ_2M, VT_RW, granule));
	sweep = vt_alloc(VT_MEM_SCATTERED, SWEEP_PAGES * SZ_4K);
	ASSERT_OK(vt_map(&c, SWEEP, sweep, SWEEP_PAGES * SZ_4K, VT_RW, 0));

	srand(1);
	vt_faults_mark(&f);
	vt_copies_start(dev, BASE, BASE + SZ_4K, SWEEP, SWEEP_PAGES);
	for (i = 0; i < cuts; i++) {
		u64 hole = here + (1 + rand() % (SZ_2M / granule - 2)) * granule;

		from = i & 2 ? hole - SZ_4K : hole + granule;
		to = i & 2 ? hole + granule : hole - SZ_4K;
		vt_copies_between(dev, BASE + from, BASE + to);
		expect_copy(dev, mem + from, mem + to);
		if (vt_tables_known(dev) && !(i % 100))
			ASSERT_EQ(vt_pgsize_at(dev, BASE + hole), SZ_2M);
		ASSERT_OK(vt_unmap(&c, BASE + hole, granule, NULL));
		expect_copy(dev, mem + from, mem + to);

		here = SZ_2M - here;
		ASSERT_OK(vt_unmap(&c, BASE + here, SZ_2M, NULL));
		ASSERT_OK(vt_map(&c, BASE + here, mem + here, SZ_2M, VT_RW, granule));
	}
	vt_diag("%llu copies", vt_copies_done(dev));
	EXPECT_EQ(vt_copies_stop(dev), 0);
	EXPECT_EQ(vt_faults_count(&f), 0);
}

static void cut_4k(void)
{
	cut_under(SZ_4K);
}

static void cut_64k(void)
{
	cut_under(SZ_64K);
}

int main(int argc, char **argv)
{
	static const struct vtest tests[] = {
		VTEST(cut_4k),
		VTEST(cut_64k),
	};
	int skip = argc > 1;

	if (argc > 1)
		cuts = strtoull(argv[1], NULL, 0);
	return vtest_main(argc - skip, argv + skip, tests, ARRAY_SIZE(tests));
}
