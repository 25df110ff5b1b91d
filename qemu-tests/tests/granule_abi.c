// SPDX-License-Identifier: GPL-2.0
/* VFIO_DMA_MAP_FLAG_GRANULE: discovery, every rule, every errno. */
#include <fcntl.h>

#include "testdev.h"

#define BASE	(4 * SZ_1G)
#define V1	VFIO_TYPE1_IOMMU

#define G		VFIO_DMA_MAP_FLAG_GRANULE
#define OLD_ARGSZ	offsetofend(struct vfio_iommu_type1_dma_map, size)
#define ARGSZ		sizeof(struct vfio_iommu_type1_dma_map)

static u8 *pages(u64 size)
{
	return vt_alloc(VT_MEM_4K, size);
}

static void extension_v2(void)
{
	struct vt_container c;

	vt_open_v2(&c);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_GRANULE), 1);
}

static void extension_v1(void)
{
	struct vt_container c;

	vt_open(&c, V1, 0);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_GRANULE), 0);
}

static void extension_before_set_iommu(void)
{
	struct vfio_iommu_type1_dma_map map = { .argsz = ARGSZ };
	struct vt_container c;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_GRANULE), 1);
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_MAP_DMA, &map), EINVAL);
}

static void extension_iommufd(void)
{
	vt_iommufd_lacks(VFIO_DMA_GRANULE);
}

/* Numbers and layout that programs are compiled with. */
static void abi_layout(void)
{
	EXPECT_EQ(VFIO_DMA_GRANULE, 11);
	EXPECT_EQ(VFIO_DMA_MAP_FLAG_GRANULE, 1 << 3);
	EXPECT_EQ(offsetof(struct vfio_iommu_type1_dma_map, granule), 32);
	EXPECT_EQ(ARGSZ, 40);
}

static void v1_einval(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_64K);

	vt_open(&c, V1, 0);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, SZ_64K, VT_RW, SZ_4K), EINVAL);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
}

static void short_argsz_einval(void)
{
	struct vt_container c;
	u64 p = (uintptr_t)pages(SZ_64K);
	u32 argsz;

	vt_open_granule(&c);
	for (argsz = 0; argsz < ARGSZ; argsz++)
		ASSERT_EQ(vt_map_raw(&c, argsz, VT_RW | G, BASE, p, SZ_64K, SZ_4K), -EINVAL);
	EXPECT_EQ(vt_locked(), 0);
	ASSERT_OK(vt_map_raw(&c, ARGSZ, VT_RW | G, BASE, p, SZ_64K, SZ_4K));
}

/* The struct lies at the end of a page, so that the granule behind it cannot be read. */
static void unreadable_granule_efault(void)
{
	struct vfio_iommu_type1_dma_map *map;
	struct vt_container c;
	u8 *p = pages(SZ_64K);

	vt_open_granule(&c);
	map = (void *)(vt_half_there(PROT_NONE) - OLD_ARGSZ);
	map->argsz = ARGSZ;
	map->flags = VT_RW | G;
	map->iova = BASE;
	map->vaddr = (uintptr_t)p;
	map->size = SZ_64K;
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_MAP_DMA, map), EFAULT);
	EXPECT_EQ(vt_locked(), 0);
	/* Without the flag it is not looked at, whatever argsz says. */
	map->flags = VT_RW;
	ASSERT_OK(ioctl(c.fd, VFIO_IOMMU_MAP_DMA, map));
	EXPECT_EQ(vt_locked(), SZ_64K);
}

static void not_read_without_flag(void)
{
	struct vt_container c;
	u64 p = (uintptr_t)pages(SZ_64K);

	vt_open_granule(&c);
	ASSERT_OK(vt_map_raw(&c, ARGSZ, VT_RW, BASE, p, SZ_64K, SZ_4K));
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE, SZ_4K, NULL), EINVAL);
	ASSERT_OK(vt_map_raw(&c, ARGSZ, VT_RW, BASE + SZ_64K, p, SZ_64K, 3));
	ASSERT_OK(vt_map_raw(&c, 4096, VT_RW | G, BASE + 2 * SZ_64K, p, SZ_64K, SZ_4K));
	ASSERT_OK(vt_unmap(&c, BASE + 2 * SZ_64K, SZ_4K, NULL));
}

static void unknown_flags_einval(void)
{
	struct vt_container c;
	u64 p = (uintptr_t)pages(SZ_64K);
	int bit;

	vt_open_granule(&c);
	/* Bit 5 is that of sparse mappings, where there are such. */
	for (bit = vt_check_extension(&c, 14) == 1 ? 6 : 5; bit < 32; bit++)
		ASSERT_EQ(vt_map_raw(&c, ARGSZ, VT_RW | G | 1u << bit, BASE, p, SZ_64K, SZ_4K),
			  -EINVAL);
	/* Neither read nor write. */
	ASSERT_EQ(vt_map_raw(&c, ARGSZ, G, BASE, p, SZ_64K, SZ_4K), -EINVAL);
	EXPECT_EQ(vt_locked(), 0);
}

static void with_vaddr_einval(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_64K);

	vt_open_granule(&c);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, SZ_64K, NULL));
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, SZ_64K, VFIO_DMA_MAP_FLAG_VADDR, SZ_4K), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, SZ_64K, VT_RW | VFIO_DMA_MAP_FLAG_VADDR, SZ_4K),
		       EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p, SZ_64K));
}

static void bad_granule_einval(void)
{
	static const u64 bad[] = {
		0, 1, 2, 512, 2048, 4095, 4097, SZ_4K + 1, 3 * SZ_4K, 5 * SZ_4K, SZ_64K - SZ_4K,
		SZ_64K + SZ_4K, SZ_2M - SZ_4K, SZ_2M + SZ_1M, -1ull, -SZ_4K, 1ull << 63 | SZ_4K,
	};
	struct vt_container c;
	u64 p = (uintptr_t)pages(SZ_4M);
	unsigned int i;

	vt_open_granule(&c);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		vt_diag("granule %#llx", bad[i]);
		/* Sizes that are multiples of it, if that can be. */
		ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, BASE, p, SZ_64K, bad[i]),
			       EINVAL);
		ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, 0, p, 15 * SZ_4K, bad[i]),
			       EINVAL);
	}
}

static void granule_larger_than_size_einval(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_64K);

	vt_open_granule(&c);
	ASSERT_MAPS_REFUSED(&c, BASE, p,
		{ 0, 0, SZ_64K, VT_RW, 2 * SZ_64K, EINVAL },
		{ 0, 0, SZ_64K, VT_RW, 1ull << 63, EINVAL },
		{ -BASE, 0, SZ_64K, VT_RW, 1ull << 63, EINVAL });
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, SZ_64K));
}

static void misaligned_einval(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_4M);

	vt_open_granule(&c);
	ASSERT_MAPS_REFUSED(&c, BASE, p,
		{ SZ_4K, 0, SZ_64K, VT_RW, SZ_8K, EINVAL },
		{ SZ_1M, 0, SZ_2M, VT_RW, SZ_2M, EINVAL },
		{ 0, 0, SZ_64K - SZ_4K, VT_RW, SZ_8K, EINVAL },
		{ 0, 0, SZ_2M + SZ_1M, VT_RW, SZ_2M, EINVAL },
		{ 0, 0, 0, VT_RW, SZ_4K, EINVAL },
		{ 1, 0, SZ_64K, VT_RW, SZ_4K, EINVAL },
		{ 0, 1, SZ_64K, VT_RW, SZ_4K, EINVAL },
		{ 0, 512, SZ_2M, VT_RW, SZ_2M, EINVAL });
}

static void vaddr_only_page_aligned(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_4M);

	vt_open_granule(&c);
	ASSERT_OK(vt_map(&c, BASE, p + SZ_4K, SZ_2M, VT_RW, SZ_2M));
	ASSERT_OK(vt_map(&c, BASE + SZ_2M, p + 5 * SZ_4K, SZ_64K, VT_RW, SZ_8K));
	EXPECT_EQ(vt_locked(), SZ_2M + SZ_64K);
}

/* 2^31 pieces are one too many; with one less only the memory is missing. */
static void too_many_pieces_einval(void)
{
	struct vt_container c;
	u64 last;
	int ret;

	vt_open_granule(&c);
	last = vt_last_iova(&c);
	if (last < 3ull << 43)
		SKIP("the IOVA space ends at %#llx", last);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, 1ull << 43, SZ_4K, 1ull << 43, SZ_4K),
		       EINVAL);
	ret = vt_map_raw(&c, ARGSZ, VT_RW | G, 1ull << 43, SZ_4K, (1ull << 43) - SZ_4K, SZ_4K);
	if (ret != -EFAULT && ret != -ENOMEM)
		FAIL("2^31 - 1 pieces of nothing: %d", ret);
	ret = vt_map_raw(&c, ARGSZ, VT_RW | G, 1ull << 43, SZ_4K, 1ull << 43, SZ_8K);
	if (ret != -EFAULT && ret != -ENOMEM)
		FAIL("2^30 pieces of nothing: %d", ret);
	EXPECT_EQ(vt_locked(), 0);
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
}

/*
 * A mapping with as many pieces as possible. Without an IOMMU nobody touches its memory. Its
 * first and last pieces work, and so does what is mapped beside it.
 */
static void most_pieces(void)
{
	static const u64 granules[] = { SZ_4K, SZ_8K };
	u64 nr = (1ull << 31) - 1, start, n, middle = 1ull << 30;
	struct vfio_dma_extent e[8];
	struct vt_container c;
	size_t i, k;
	u32 avail;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	td_add(&c, 0);
	vt_need_granule(&c);
	avail = vt_dma_avail(&c);
	for (i = 0; i < ARRAY_SIZE(granules); i++) {
		u64 g = granules[i], size = nr * g, gone[] = { 0, middle, 12345, nr - 1 }, iova = 0;
		u64 left[] = { 1, 12345, 12346, middle, middle + 1, nr - 1 }, range = 0;
		u32 count = ARRAY_SIZE(e);

		start = vt_now();
		ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, 0, SZ_4K, size + g, g), EINVAL);
		ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, g, SZ_4K, size + g, g), EINVAL);
		ASSERT_OK(vt_map_raw(&c, ARGSZ, VT_RW | G, 0, SZ_4K, size, g));
		ASSERT_EQ(vt_dma_avail(&c), avail - 1);
		ASSERT_EQ(vt_map_raw(&c, ARGSZ, VT_RW | G, size - g, SZ_4K, g, g), -EEXIST);

		/* Cut, as far as the smallest page lets ask for it; at both ends, and within. */
		ASSERT_REFUSED(&c, vt_unmap(&c, 0, g / 2, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_unmap(&c, g / 2, g / 2, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_unmap(&c, size - g / 2, g / 2, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_unmap(&c, size - g, g / 2, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_unmap(&c, middle * g, g + g / 2, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_unmap(&c, 0, size - g / 2, NULL), EINVAL);

		for (k = 0; k < ARRAY_SIZE(gone); k++) {
			ASSERT_OK(vt_unmap(&c, gone[k] * g, g, &n));
			ASSERT_EQ(n, g);
			ASSERT_OK(vt_unmap(&c, gone[k] * g, g, &n));
			ASSERT_EQ(n, 0);
		}
		ASSERT_OK(vt_extents(&c, &iova, &range, e, &count));
		ASSERT_EQ(range, 0);
		ASSERT_EQ(count, 3);
		for (k = 0; k < count; k++) {
			ASSERT_EQ(e[k].iova, left[2 * k] * g);
			ASSERT_EQ(e[k].size, (left[2 * k + 1] - left[2 * k]) * g);
			ASSERT_EQ(e[k].vaddr, SZ_4K + left[2 * k] * g);
			ASSERT_EQ(e[k].granule, g);
		}
		/* The holes are free, what is beside them is not. */
		for (k = 0; k < ARRAY_SIZE(gone); k++) {
			if (gone[k])
				ASSERT_EQ(vt_map_raw(&c, ARGSZ, VT_RW | G, (gone[k] - 1) * g, SZ_4K,
						     2 * g, g), -EEXIST);
			ASSERT_OK(vt_map_raw(&c, ARGSZ, VT_RW | G, gone[k] * g, SZ_4K, g, g));
		}
		ASSERT_EQ(vt_dma_avail(&c), avail - 5);

		/* Half of it at once, with what lives there, then all. */
		ASSERT_OK(vt_unmap(&c, middle * g, (nr - middle) * g, &n));
		ASSERT_EQ(n, (nr - middle) * g);
		ASSERT_EQ(vt_dma_avail(&c), avail - 3);
		ASSERT_OK(vt_unmap_all(&c, &n));
		ASSERT_EQ(n, middle * g);
		ASSERT_EQ(vt_dma_avail(&c), avail);
		vt_diag("2^31 - 1 pieces of %#llx: %llu ms", g, (vt_now() - start) / 1000000);
	}
}

static void wrap_eoverflow(void)
{
	struct vt_container c;
	u64 p = (uintptr_t)pages(SZ_4M);

	vt_open_granule(&c);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, -SZ_2M, p, SZ_4M, SZ_2M), EOVERFLOW);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, -SZ_4K, p, SZ_8K, SZ_4K), EOVERFLOW);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, BASE, -SZ_4K, SZ_8K, SZ_4K),
		       EOVERFLOW);
	/* That is told first of a range that is unaligned, too, or has a bad granule. */
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, 1 - SZ_4K, p, SZ_8K, SZ_4K), EOVERFLOW);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, -SZ_4K, p + 1, SZ_8K, 3), EOVERFLOW);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, BASE, 1 - SZ_4K, SZ_8K, 0), EOVERFLOW);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW, BASE + 1, -SZ_4K, SZ_8K + 1, 0), vt_wraps());
}

static void outside_aperture_einval(void)
{
	struct vt_container c;
	struct vt_info i;
	u8 *p = pages(SZ_64K);
	unsigned int k;
	u64 end;

	vt_open_granule(&c);
	vt_info(&c, &i);
	for (k = 0; k < i.nr_ranges; k++) {
		end = i.range[k].last + 1;
		if (!end)
			continue;
		ASSERT_REFUSED(&c, vt_map(&c, end, p, SZ_4K, VT_RW, SZ_4K), EINVAL);
		ASSERT_REFUSED(&c, vt_map(&c, end - SZ_4K, p, SZ_8K, VT_RW, SZ_4K), EINVAL);
	}
}

static void overlap_eexist(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_1M);

	vt_open_granule(&c);
	ASSERT_OK(vt_map(&c, BASE, p, 8 * SZ_64K, VT_RW, SZ_64K));
	ASSERT_OK(vt_unmap(&c, BASE + 2 * SZ_64K, 2 * SZ_64K, NULL));

	/* Pieces that are mapped, in part or whole, with and without a granule. */
	ASSERT_MAPS_REFUSED(&c, BASE, p,
		{ 0, 0, 8 * SZ_64K, VT_RW, SZ_64K, EEXIST },
		{ 0, 0, SZ_4K, VT_RW, 0, EEXIST },
		{ SZ_64K, 0, SZ_64K, VT_RW, SZ_4K, EEXIST },
		{ SZ_64K, 0, 2 * SZ_64K, VT_RW, SZ_64K, EEXIST },
		{ 3 * SZ_64K, 0, 2 * SZ_64K, VT_RW, SZ_64K, EEXIST },
		{ SZ_64K, 0, 4 * SZ_64K, VT_RW, 0, EEXIST },
		{ 4 * SZ_64K - SZ_4K, 0, SZ_8K, VT_RW, 0, EEXIST },
		{ 2 * SZ_64K - SZ_4K, 0, SZ_8K, VT_RW, 0, EEXIST },
		{ -SZ_64K, 0, 2 * SZ_64K, VT_RW, 0, EEXIST });

	/* The hole is free, in parts and to its ends. */
	ASSERT_OK(vt_map(&c, BASE + 2 * SZ_64K, p, SZ_4K, VT_RW, 0));
	ASSERT_REFUSED(&c, vt_map(&c, BASE + 2 * SZ_64K, p, 2 * SZ_64K, VT_RW, 0), EEXIST);
	ASSERT_OK(vt_map(&c, BASE + 4 * SZ_64K - SZ_4K, p, SZ_4K, VT_RW, SZ_4K));
	ASSERT_OK(vt_map(&c, BASE + 2 * SZ_64K + SZ_4K, p, 2 * SZ_64K - SZ_8K, VT_RW, SZ_4K));
	EXPECT_EQ(vt_locked(), 8 * SZ_64K);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + 3 * SZ_64K, p, SZ_4K, VT_RW, 0), EEXIST);
}

static void entry_limit_enospc(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_1M);

	vt_set_param("dma_entry_limit", 2);
	vt_open_granule(&c);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, SZ_4K));
	EXPECT_EQ(vt_dma_avail(&c), 1);
	ASSERT_OK(vt_map(&c, BASE + SZ_64K, p, SZ_64K, VT_RW, SZ_4K));
	EXPECT_EQ(vt_dma_avail(&c), 0);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_1M, p, SZ_64K, VT_RW, SZ_4K), ENOSPC);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, SZ_64K, VT_RW, SZ_4K), EEXIST);
	/* Holes cost no entry and give none back. */
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4K, SZ_4K, NULL));
	ASSERT_OK(vt_unmap(&c, BASE + 3 * SZ_4K, SZ_4K, NULL));
	EXPECT_EQ(vt_dma_avail(&c), 0);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_4K, p, SZ_4K, VT_RW, SZ_4K), ENOSPC);
}

static void rlimit_enomem(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_1M);

	vt_open_granule(&c);
	vt_limit_locked(SZ_64K);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, SZ_1M, VT_RW, SZ_4K), ENOMEM);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, SZ_64K + SZ_4K, VT_RW, SZ_4K), ENOMEM);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, SZ_4K));
	EXPECT_EQ(vt_locked(), SZ_64K);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_1M, p, SZ_4K, VT_RW, SZ_4K), ENOMEM);
	/* A piece given back is room for another. */
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4K, SZ_4K, NULL));
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, p, SZ_4K, VT_RW, SZ_4K));
	EXPECT_EQ(vt_locked(), SZ_64K);
}

/* The memory ends in the middle of the range: what was mapped already is unmapped. */
static void vaddr_hole_efault(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_4M);

	vt_open_granule(&c);
	ASSERT_OK(munmap(p + SZ_4M - SZ_4K, SZ_4K));
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, SZ_4M, VT_RW, SZ_4K), EFAULT);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, SZ_4M, VT_RW, SZ_2M), EFAULT);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_2M, VT_RW, SZ_2M));
}

/* The same into a hole of another mapping, which stays as it was. */
static void vaddr_hole_efault_in_hole(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_4M), *q = pages(SZ_4M);

	vt_open_granule(&c);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_4M, VT_RW, SZ_1M));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, SZ_2M, NULL));
	ASSERT_OK(munmap(q + SZ_2M - SZ_4K, SZ_4K));
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_1M, q, SZ_2M, VT_RW, SZ_4K), EFAULT);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_1M, q, SZ_2M, VT_RW, 0), EFAULT);
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, q + SZ_2M, SZ_2M, VT_RW, SZ_4K));
	EXPECT_EQ(vt_locked(), SZ_4M);
}

static void cut_einval(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_1M);

	vt_open_granule(&c);
	ASSERT_OK(vt_map(&c, BASE, p, 4 * SZ_64K, VT_RW, SZ_64K));
	ASSERT_UNMAPS_REFUSED(&c, BASE,
		{ 0, SZ_4K, 0, EINVAL },
		{ SZ_4K, SZ_64K - SZ_4K, 0, EINVAL },
		{ SZ_4K, SZ_4K, 0, EINVAL },
		{ 0, SZ_64K + SZ_4K, 0, EINVAL },
		{ SZ_4K, SZ_64K, 0, EINVAL },
		{ SZ_64K - SZ_4K, 3 * SZ_64K + SZ_4K, 0, EINVAL },
		{ -SZ_4K, SZ_8K, 0, EINVAL },
		{ 0, 0, 0, EINVAL },
		{ 0, 100, 0, EINVAL },
		{ 1, SZ_64K, 0, EINVAL });
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE, -SZ_4K, NULL), vt_wraps());

	/* In a hole there is nothing to cut. */
	ASSERT_OK(vt_unmap(&c, BASE + SZ_64K, SZ_64K, NULL));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_64K + SZ_4K, SZ_8K, NULL));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_64K, SZ_4K, NULL));
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE + 2 * SZ_64K - SZ_4K, SZ_8K, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE + SZ_64K - SZ_4K, SZ_8K, NULL), EINVAL);
	/* From inside one hole over a piece into the open behind the mapping. */
	ASSERT_OK(vt_unmap(&c, BASE + SZ_64K + SZ_8K, 4 * SZ_64K, NULL));
	EXPECT_EQ(vt_locked(), SZ_64K);
}

/* A long range cuts a mapping at each end: nothing is unmapped. */
static void cut_far_end_einval(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_1M);

	vt_open_granule(&c);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, SZ_4K));
	ASSERT_OK(vt_map(&c, BASE + SZ_64K, p, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_map(&c, BASE + 2 * SZ_64K, p, SZ_64K, VT_RW, SZ_8K));
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE + SZ_4K, 2 * SZ_64K, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE, SZ_64K + SZ_4K, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE + 2 * SZ_64K - SZ_4K, SZ_8K, NULL), EINVAL);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4K, 2 * SZ_64K + SZ_4K, NULL));
	EXPECT_EQ(vt_locked(), SZ_64K - SZ_4K);
}

static void unmapped_size(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_1M);
	u64 n;

	vt_open_granule(&c);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4K, SZ_4K, &n));
	EXPECT_EQ(n, SZ_4K);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4K, SZ_4K, &n));
	EXPECT_EQ(n, 0);
	ASSERT_OK(vt_unmap(&c, BASE, 4 * SZ_4K, &n));
	EXPECT_EQ(n, 3 * SZ_4K);
	ASSERT_OK(vt_unmap_all(&c, &n));
	EXPECT_EQ(n, SZ_64K - 4 * SZ_4K);
	ASSERT_OK(vt_unmap_all(&c, &n));
	EXPECT_EQ(n, 0);
	EXPECT_EQ(vt_locked(), 0);
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
}

static void permissions(void)
{
	static const u32 flags[] = { VT_RO, VT_WO, VT_RW };
	struct vt_container c;
	struct vt_tables t;
	struct vt_info info;
	u8 *p = pages(SZ_1M);
	unsigned int i;

	vt_open_granule(&c);
	vt_info(&c, &info);
	for (i = 0; i < 3; i++)
		ASSERT_OK(vt_map(&c, BASE + i * SZ_64K, p, SZ_64K, flags[i], SZ_8K));
	EXPECT_EQ(vt_locked(), 3 * SZ_64K);
	vt_need_tables(&c.dev[0]);
	vt_tables_read(&c.dev[0], &t);
	for (i = 0; i < 3; i++)
		vt_tables_expect(&t, &info, BASE + i * SZ_64K, SZ_64K, p, flags[i], SZ_8K, NULL);
	vt_tables_free(&t);
}

/* GET_INFO tells the smallest granule. */
static void smallest_granule(void)
{
	struct vt_container c;
	struct vt_info i;
	u64 min;

	vt_open_granule(&c);
	vt_info(&c, &i);
	min = i.pgsizes & -i.pgsizes;
	ASSERT_OK(vt_map(&c, BASE, pages(SZ_64K), SZ_64K, VT_RW, min));
	ASSERT_OK(vt_unmap(&c, BASE + min, min, NULL));
	EXPECT_EQ(vt_locked(), SZ_64K - min);
}

VTEST_MAIN(
	VTEST(extension_v2),
	VTEST(extension_v1),
	VTEST(extension_before_set_iommu),
	VTEST(extension_iommufd),
	VTEST(abi_layout),
	VTEST(v1_einval),
	VTEST(short_argsz_einval),
	VTEST(unreadable_granule_efault),
	VTEST(not_read_without_flag),
	VTEST(unknown_flags_einval),
	VTEST(with_vaddr_einval),
	VTEST(bad_granule_einval),
	VTEST(granule_larger_than_size_einval),
	VTEST(misaligned_einval),
	VTEST(vaddr_only_page_aligned),
	VTEST(too_many_pieces_einval),
	VTEST(most_pieces),
	VTEST(wrap_eoverflow),
	VTEST(outside_aperture_einval),
	VTEST(overlap_eexist),
	VTEST(entry_limit_enospc),
	VTEST(rlimit_enomem),
	VTEST(vaddr_hole_efault),
	VTEST(vaddr_hole_efault_in_hole),
	VTEST(cut_einval),
	VTEST(cut_far_end_einval),
	VTEST(unmapped_size),
	VTEST(permissions),
	VTEST(smallest_granule),
)
