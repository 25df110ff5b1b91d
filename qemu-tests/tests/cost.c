// SPDX-License-Identifier: GPL-2.0
/*
 * What calls cost, in instructions: on the machine icount the guest's clock counts
 * them, and the same program costs the same on every run. Prints lines
 * "# cost <what> <instructions>", which qemu-tests/costs compares
 * between the unpatched and the patched kernel.
 */
#include "testdev.h"

#define IOVA	SZ_1G

static void cost(u64 since, u64 each, const char *what)
{
	vt_diag("cost %s %llu", what, (vt_now() - since) / each);
}

static void need_icount(void)
{
	char cmdline[4096] = "";

	vt_read_file("/proc/cmdline", cmdline, sizeof(cmdline));
	if (!strstr(cmdline, "vtest_machine=icount"))
		SKIP("the clock of this machine does not count instructions");
}

static void map_unmap(enum vt_mem kind, const char *map, const char *unmap)
{
	struct vt_container c;
	u64 since;
	void *p;

	need_icount();
	vt_open_v2(&c);
	p = vt_alloc(kind, 512 * SZ_1M);

	/* Once, so that everything has been called before */
	ASSERT_OK(vt_map(&c, IOVA, p, 512 * SZ_1M, VT_RW, 0));
	ASSERT_OK(vt_unmap(&c, IOVA, 512 * SZ_1M, NULL));

	since = vt_now();
	ASSERT_OK(vt_map(&c, IOVA, p, 512 * SZ_1M, VT_RW, 0));
	cost(since, 1, map);
	since = vt_now();
	ASSERT_OK(vt_unmap(&c, IOVA, 512 * SZ_1M, NULL));
	cost(since, 1, unmap);
}

static void thp(void)
{
	map_unmap(VT_MEM_THP, "map_thp_512M", "unmap_thp_512M");
}

static void small(void)
{
	map_unmap(VT_MEM_SCATTERED, "map_4k_512M", "unmap_4k_512M");
}

static void pair(enum vt_mem kind, u64 size, const char *what)
{
	const unsigned int times = 64;
	struct vt_container c;
	unsigned int i;
	u64 since = 0;
	void *p;

	need_icount();
	vt_open_v2(&c);
	p = vt_alloc(kind, size);

	for (i = 0; i <= times; i++) {
		if (i == 1)
			since = vt_now();
		ASSERT_OK(vt_map(&c, IOVA, p, size, VT_RW, 0));
		ASSERT_OK(vt_unmap(&c, IOVA, size, NULL));
	}
	cost(since, times, what);
}

static void pair_4k(void)
{
	pair(VT_MEM_4K, SZ_4K, "pair_4k");
}

static void pair_2m(void)
{
	pair(VT_MEM_THP, SZ_2M, "pair_2M");
}

static void many_calls(void)
{
	struct vt_container c;
	u64 since, i;
	u8 *p;

	need_icount();
	vt_open_v2(&c);
	p = vt_alloc(VT_MEM_THP, 512 * SZ_1M);

	since = vt_now();
	for (i = 0; i < 512 * SZ_1M; i += SZ_2M)
		ASSERT_OK(vt_map(&c, IOVA + i, p + i, SZ_2M, VT_RW, 0));
	cost(since, 1, "map_thp_512M_256_calls");
	since = vt_now();
	ASSERT_OK(vt_unmap(&c, IOVA, 512 * SZ_1M, NULL));
	cost(since, 1, "unmap_thp_512M_of_256");
}

/* A second domain is attached to a container that has 512 MiB mapped. */
static void replay(void)
{
	struct vt_container c;
	struct vt_dev *dev;
	u64 since;
	void *p;

	need_icount();
	td_need();
	td_arm();
	td_set("refuse_sharing", 1);
	vt_open_v2(&c);
	dev = vt_add_edu(&c, 1);
	vt_remove(dev);
	since = vt_now();
	dev = vt_add_edu(&c, 1);
	since = vt_now() - since;
	vt_remove(dev);

	p = vt_alloc(VT_MEM_THP, 512 * SZ_1M);
	ASSERT_OK(vt_map(&c, IOVA, p, 512 * SZ_1M, VT_RW, 0));
	/* What attaching costs with nothing mapped is no part of the replay. */
	since += vt_now();
	dev = vt_add_edu(&c, 1);
	cost(since, 1, "replay_thp_512M");
	vt_remove(dev);
}

#ifdef VFIO_DMA_MAP_FLAG_GRANULE
static void granule(void)
{
	struct vt_container c;
	u64 since;
	void *p;

	need_icount();
	vt_open_v2(&c);
	vt_need_granule(&c);
	p = vt_alloc(VT_MEM_THP, 512 * SZ_1M);

	ASSERT_OK(vt_map(&c, IOVA, p, 512 * SZ_1M, VT_RW, SZ_2M));
	ASSERT_OK(vt_unmap(&c, IOVA, 512 * SZ_1M, NULL));
	since = vt_now();
	ASSERT_OK(vt_map(&c, IOVA, p, 512 * SZ_1M, VT_RW, SZ_2M));
	cost(since, 1, "map_thp_512M_granule_2M");
	since = vt_now();
	ASSERT_OK(vt_unmap(&c, IOVA + 64 * SZ_2M, SZ_2M, NULL));
	cost(since, 1, "unmap_one_granule_2M");
	since = vt_now();
	ASSERT_OK(vt_unmap(&c, IOVA, 512 * SZ_1M, NULL));
	cost(since, 1, "unmap_thp_512M_granule_2M");
}
#endif

#ifdef VFIO_IOMMU_DMA_EXTENTS
static void extents_of(enum vt_mem kind, u64 size, u64 pages, u64 granule, const char *what)
{
	static struct vfio_dma_extent extent[1024];
	struct vfio_iommu_type1_dma_extents req = {
		.argsz = sizeof(req),
		.iova = IOVA,
		.size = size,
		.extents = (uintptr_t)extent,
		.count = ARRAY_SIZE(extent),
	};
	struct vt_container c;
	u64 since;
	void *p;

	need_icount();
	vt_open_v2(&c);
	if (vt_check_extension(&c, VFIO_DMA_EXTENTS) != 1)
		SKIP("the kernel has no VFIO_IOMMU_DMA_EXTENTS");
	p = vt_alloc(kind, size);
	ASSERT_OK(vt_map(&c, IOVA, p, size, VT_RW, granule));

	since = vt_now();
	ASSERT_EQ(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, &req), 0);
	cost(since, pages, what);
	ASSERT_EQ(req.size, 0);
	ASSERT_EQ(req.count, 1);
	ASSERT_EQ(extent[0].size, size);
	ASSERT_EQ(extent[0].pgsize, size / pages);
}

/* Cost for each IOMMU page, which must not depend on its size. */
static void extents_2m(void)
{
	extents_of(VT_MEM_THP, SZ_1G, 512, SZ_2M, "extents_page_2M");
}

static void extents_4k(void)
{
	extents_of(VT_MEM_SCATTERED, 256 * SZ_1M, 65536, 0, "extents_page_4k");
}
#endif

VTEST_MAIN(
	VTEST(thp),
	VTEST(small),
	VTEST(pair_4k),
	VTEST(pair_2m),
	VTEST(many_calls),
	VTEST(replay),
#ifdef VFIO_DMA_MAP_FLAG_GRANULE
	VTEST(granule),
#endif
#ifdef VFIO_IOMMU_DMA_EXTENTS
	VTEST(extents_2m),
	VTEST(extents_4k),
#endif
)
