// SPDX-License-Identifier: GPL-2.0
/*
 * What the IOMMU core maps for callers other than VFIO and iommufd. A test module calls it,
 * and looks at the translation of each page.
 */
#include "peers.h"

#define IOVA	SZ_1G

static void map(enum vt_mem kind, u64 size, u64 offset)
{
	u8 *p = vt_alloc(kind, size);

	ASSERT_OK(peer_look(p, IOVA + offset, size, 0, 0));
	vt_free(p, kind, size);
}

/* One run, aligned as its pages are, and not */
static void one_run(void)
{
	map(VT_MEM_4K, SZ_4K, 0);
	map(VT_MEM_THP, SZ_2M, 0);
	map(VT_MEM_THP, SZ_2M, SZ_4K);
	map(VT_MEM_HUGE_2M, SZ_2M, SZ_1M);
}

/* Entries of a scatterlist that are contiguous become one run, others do not. */
static void scatterlist(void)
{
	static const u32 segment[] = { SZ_4K, SZ_8K, SZ_64K, SZ_1M, SZ_2M };
	static const enum vt_mem kind[] = { VT_MEM_4K, VT_MEM_SCATTERED, VT_MEM_THP };
	u64 size = 4 * SZ_2M;
	size_t i, k;
	u8 *p;

	for (k = 0; k < ARRAY_SIZE(kind); k++) {
		p = vt_alloc(kind[k], size);
		for (i = 0; i < ARRAY_SIZE(segment); i++) {
			ASSERT_OK(peer_look(p, IOVA, size, segment[i], 0));
			ASSERT_OK(peer_look(p + SZ_4K, IOVA, size - SZ_8K, segment[i], 0));
			ASSERT_OK(peer_look(p, IOVA + SZ_4K, SZ_4K, segment[i], 0));
		}
		vt_free(p, kind[k], size);
	}
}

/* A map that meets what is mapped already takes back what it has mapped, and no more. */
static void taken(void)
{
	static const u32 segment[] = { 0, SZ_4K, SZ_64K, SZ_2M };
	static const u32 page[] = { 1, 17, 511 };
	u8 *p = vt_alloc(VT_MEM_THP, SZ_2M), *q = vt_alloc(VT_MEM_SCATTERED, SZ_2M);
	size_t i, k;

	/* The driver of virtio-iommu does not wait to be told. */
	if (vt_machine_is("virtio"))
		SKIP("a map does not fail if the IOMMU rejects it");
	for (k = 0; k < ARRAY_SIZE(page); k++) {
		for (i = 0; i < ARRAY_SIZE(segment); i++)
			ASSERT_EQ(peer_look(p, IOVA, SZ_2M, segment[i], page[k]), -EADDRINUSE);
		ASSERT_EQ(peer_look(q, IOVA, SZ_2M, SZ_4K, page[k]), -EADDRINUSE);
	}
	ASSERT_OK(peer_look(p, IOVA, SZ_2M, 0, 0));
}

VTEST_MAIN(
	VTEST(one_run),
	VTEST(scatterlist),
	VTEST(taken),
)
