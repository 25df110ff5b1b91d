// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO_IOMMU_DMA_EXTENTS: discovery, every errno, what is told and how a caller
 * goes on; page sizes against the tables that the IOMMU walks; threads and
 * processes that change, tear down and die meanwhile.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define V1	VFIO_TYPE1_IOMMU
#define ROOM	64

#define R	VFIO_DMA_EXTENT_READ
#define W	VFIO_DMA_EXTENT_WRITE

/* What a machine lets us know of the IOMMU's page size. */
enum known {
	IN_TABLES,		/* the tables can be read */
	BY_DRIVER,		/* the driver tells, but nobody else does */
	UNKNOWN,		/* the driver cannot tell */
};

static enum known known(struct vt_container *c)
{
	if (vt_tables_known(&c->dev[0]))
		return IN_TABLES;
	return vt_pgsize_unknown() ? UNKNOWN : BY_DRIVER;
}

/* A run of IOVA that one mapping has without a hole. */
struct run {
	u64 iova, size;
	const void *vaddr;
	u64 granule;
	u32 flags;		/* R, W */
};

static void map_run(struct vt_container *c, const struct run *r)
{
	ASSERT_OK(vt_map(c, r->iova, r->vaddr, r->size, r->flags, r->granule));
}

/* The page size at iova, smallest of all devices; *len: how far that is so. */
static u64 table_pgsize(struct vt_container *c, const struct vt_tables *t, u64 iova, u64 *len)
{
	const struct vt_pte *pte;
	u64 pgsize = 0;
	int i;

	*len = ~0ull;
	for (i = 0; i < VT_MAX_DEVS; i++) {
		if (c->dev[i].group < 0)
			continue;
		pte = vt_tables_find(&t[i], iova);
		if (!pte)
			FAIL("%#llx is not mapped for %s", iova, c->dev[i].name);
		if (!pgsize || pte->size < pgsize)
			pgsize = pte->size;
		if (pte->iova + pte->size - iova < *len)
			*len = pte->iova + pte->size - iova;
	}
	return pgsize;
}

static void check_pgsize(struct vt_container *c, const struct vt_tables *t,
			 const struct vfio_dma_extent *e)
{
	u64 at, len, want;

	switch (known(c)) {
	case IN_TABLES:
		for (at = 0; at < e->size; at += len) {
			want = table_pgsize(c, t, e->iova + at, &len);
			if (e->pgsize != want)
				FAIL("%#llx: pgsize %#llx, in the tables %#llx",
				     e->iova + at, e->pgsize, want);
		}
		break;
	case BY_DRIVER:
		if (e->pgsize < SZ_4K || e->pgsize & (e->pgsize - 1) ||
		    (e->granule && e->pgsize > e->granule))
			FAIL("%#llx: pgsize %#llx, granule %#llx", e->iova, e->pgsize, e->granule);
		break;
	case UNKNOWN:
		ASSERT_EQ(e->pgsize, 0);
	}
}

/* Is e what is to be told first, where r has left bytes more from at on? */
static void check_extent(const struct vfio_dma_extent *e, const struct run *r, u64 at, u64 left)
{
	if (e->iova != at || e->size > left)
		FAIL("%#llx bytes at %#llx are told, not %#llx at %#llx",
		     e->size, e->iova, left, at);
	ASSERT_EQ(e->vaddr, (uintptr_t)r->vaddr + (at - r->iova));
	ASSERT_EQ(e->granule, r->granule);
	ASSERT_EQ(e->flags, r->flags);
	ASSERT_EQ(e->__reserved, 0);
}

/*
 * [iova, iova + size), size 0: to the end, has exactly these runs, clipped to it,
 * each told in as few extents as page sizes allow.
 */
static void expect(struct vt_container *c, u64 iova, u64 size, const struct run *r, size_t nr)
{
	u64 last = iova + size - 1, first, left;
	struct vt_tables t[VT_MAX_DEVS];
	struct vt_extents x;
	size_t i, n = 0;
	int k;

	if (!size)
		last = ~0ull;
	for (k = 0; k < VT_MAX_DEVS; k++)
		if (known(c) == IN_TABLES && c->dev[k].group >= 0)
			vt_tables_read(&c->dev[k], &t[k]);
	vt_extents_read(c, iova, size, ROOM, &x);
	for (i = 0; i < nr; i++) {
		if (r[i].iova > last || r[i].iova + (r[i].size - 1) < iova)
			continue;
		first = r[i].iova < iova ? iova : r[i].iova;
		left = r[i].size - (first - r[i].iova);
		if (left - 1 > last - first)
			left = last - first + 1;
		while (left) {
			if (n == x.nr)
				FAIL("%#llx is not told", first);
			check_extent(&x.e[n], &r[i], first, left);
			check_pgsize(c, t, &x.e[n]);
			if (n && first > iova && first > r[i].iova)
				ASSERT_NE(x.e[n].pgsize, x.e[n - 1].pgsize);
			first += x.e[n].size;
			left -= x.e[n].size;
			n++;
		}
	}
	if (n != x.nr)
		FAIL("%#llx bytes at %#llx are told, but not there", x.e[n].size, x.e[n].iova);
	ASSERT_EQ(vt_extents_count(c, iova, size), x.nr);
	vt_extents_free(&x);
	for (k = 0; k < VT_MAX_DEVS; k++)
		if (known(c) == IN_TABLES && c->dev[k].group >= 0)
			vt_tables_free(&t[k]);
}

/* A few mappings that differ in everything; in order of iova. */
#define FEW	5

static void map_few(struct vt_container *c, struct run *r)
{
	u8 *thp = vt_alloc(VT_MEM_THP, SZ_4M), *small = vt_alloc(VT_MEM_SCATTERED, SZ_64K);
	size_t i;

	r[0] = (struct run){ BASE, SZ_4M, thp, 0, R | W };
	/* Right behind it, going on in memory too: but another mapping. */
	r[1] = (struct run){ BASE + SZ_4M, SZ_64K, small, 0, R | W };
	r[2] = (struct run){ BASE + SZ_4M + SZ_64K, SZ_64K, small, SZ_4K, R };
	r[3] = (struct run){ BASE + 2 * SZ_4M, SZ_2M, thp, SZ_2M, W };
	r[4] = (struct run){ BASE + 2 * SZ_4M + SZ_2M, SZ_2M, thp + SZ_2M, SZ_2M, W };
	for (i = 0; i < FEW; i++)
		map_run(c, &r[i]);
}

/* ---- Discovery and errors ---- */

static void abi_layout(void)
{
	EXPECT_EQ(VFIO_DMA_EXTENTS, 12);
	EXPECT_EQ(VFIO_IOMMU_DMA_EXTENTS, _IO(VFIO_TYPE, VFIO_BASE + 22));
	EXPECT_EQ(sizeof(struct vfio_dma_extent), 48);
	EXPECT_EQ(offsetof(struct vfio_dma_extent, vaddr), 16);
	EXPECT_EQ(offsetof(struct vfio_dma_extent, granule), 24);
	EXPECT_EQ(offsetof(struct vfio_dma_extent, pgsize), 32);
	EXPECT_EQ(offsetof(struct vfio_dma_extent, flags), 40);
	EXPECT_EQ(sizeof(struct vfio_iommu_type1_dma_extents), 40);
	EXPECT_EQ(offsetof(struct vfio_iommu_type1_dma_extents, iova), 8);
	EXPECT_EQ(offsetof(struct vfio_iommu_type1_dma_extents, size), 16);
	EXPECT_EQ(offsetof(struct vfio_iommu_type1_dma_extents, extents), 24);
	EXPECT_EQ(offsetof(struct vfio_iommu_type1_dma_extents, count), 32);
	/* These tests use the one for the other. */
	EXPECT_EQ(R, VFIO_DMA_MAP_FLAG_READ);
	EXPECT_EQ(W, VFIO_DMA_MAP_FLAG_WRITE);
}

static void extension_v2(void)
{
	struct vt_container c;

	vt_open_v2(&c);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_EXTENTS), 1);
}

static void extension_v1(void)
{
	struct vt_container c;

	vt_open(&c, V1, 0);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_EXTENTS), 1);
}

static void extension_before_set_iommu(void)
{
	struct vfio_iommu_type1_dma_extents req = { .argsz = sizeof(req) };
	struct vt_container c;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_EXTENTS), 1);
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, &req), EINVAL);
}

static void extension_iommufd(void)
{
	vt_iommufd_lacks(VFIO_DMA_EXTENTS);
}

/* One mapping of 16 small pages; scattered, so that they are one extent anywhere. */
static void open_small(struct vt_container *c, struct run *r)
{
	vt_open_v2(c);
	*r = (struct run){ BASE, SZ_64K, vt_alloc(VT_MEM_SCATTERED, SZ_64K), 0, R | W };
	map_run(c, r);
}

/* The call is refused, and nothing of req or of what it points at has changed. */
static void refused(struct vt_container *c, struct vfio_iommu_type1_dma_extents *req, int err)
{
	struct vfio_dma_extent e[4], was[4];
	struct vfio_iommu_type1_dma_extents before;

	memset(e, 0x5a, sizeof(e));
	memcpy(was, e, sizeof(e));
	req->extents = (uintptr_t)e;
	memcpy(&before, req, sizeof(before));
	ASSERT_ERRNO(ioctl(c->fd, VFIO_IOMMU_DMA_EXTENTS, req), err);
	ASSERT_EQ(memcmp(&before, req, sizeof(before)), 0);
	ASSERT_EQ(memcmp(was, e, sizeof(e)), 0);
}

static struct vfio_iommu_type1_dma_extents good_req(void)
{
	return (struct vfio_iommu_type1_dma_extents){
		.argsz = sizeof(struct vfio_iommu_type1_dma_extents),
		.iova = BASE,
		.size = SZ_64K,
		.count = 4,
	};
}

static void abi_argsz(void)
{
	struct vfio_dma_extent e;
	struct vt_container c;
	struct vfio_iommu_type1_dma_extents req;
	struct run r;
	u32 argsz;

	open_small(&c, &r);
	for (argsz = 0; argsz < sizeof(req); argsz++) {
		req = good_req();
		req.argsz = argsz;
		refused(&c, &req, EINVAL);
	}
	/* A struct of days to come. */
	req = good_req();
	req.argsz = 4096;
	req.extents = (uintptr_t)&e;
	req.count = 1;
	ASSERT_OK(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, &req));
	EXPECT_EQ(req.argsz, 4096);
	EXPECT_EQ(req.count, 1);
}

static void abi_flags_and_reserved(void)
{
	struct vt_container c;
	struct vfio_iommu_type1_dma_extents req;
	struct run r;
	int bit;

	open_small(&c, &r);
	for (bit = 0; bit < 32; bit++) {
		req = good_req();
		req.flags = 1u << bit;
		refused(&c, &req, EINVAL);
		req = good_req();
		req.__reserved = 1u << bit;
		refused(&c, &req, EINVAL);
	}
}

static void abi_alignment(void)
{
	static const u64 bad[] = { 1, 8, 512, SZ_4K - 1, SZ_4K + 1, SZ_64K + 2048 };
	struct vt_container c;
	struct vfio_iommu_type1_dma_extents req;
	struct run r;
	size_t i;

	open_small(&c, &r);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		req = good_req();
		req.iova += bad[i];
		refused(&c, &req, EINVAL);
		req = good_req();
		req.size = bad[i];
		refused(&c, &req, EINVAL);
	}
	req = good_req();
	req.iova++;
	req.size--;
	refused(&c, &req, EINVAL);
	req = good_req();
	req.iova = ~0ull;
	req.size = 0;
	refused(&c, &req, EINVAL);
}

static void abi_wrap(void)
{
	struct vt_container c;
	struct vfio_iommu_type1_dma_extents req;
	struct run r;
	u64 page;

	open_small(&c, &r);
	req = good_req();
	req.size = -BASE + SZ_4K;
	refused(&c, &req, EOVERFLOW);
	req.size = -SZ_4K;
	refused(&c, &req, EOVERFLOW);
	req.iova = -SZ_4K;
	req.size = SZ_8K;
	refused(&c, &req, EOVERFLOW);
	req.count = 0;
	refused(&c, &req, EOVERFLOW);
	/* Unaligned, too: that is told first. */
	req.iova = -SZ_4K + 8;
	refused(&c, &req, EINVAL);
	req.iova = -SZ_4K;
	req.size = SZ_8K + 8;
	refused(&c, &req, EINVAL);

	/* As far as the last byte there is. */
	expect(&c, BASE, -BASE, &r, 1);
	expect(&c, SZ_4K, -SZ_4K, &r, 1);
	expect(&c, 0, -SZ_4K, &r, 1);
	for (page = 1; page <= 2; page++) {
		expect(&c, -page * SZ_4K, SZ_4K, NULL, 0);
		expect(&c, -page * SZ_4K, 0, NULL, 0);
	}
}

/* Two pages, of which the second cannot be written. */
static u8 *half_there(int prot)
{
	u8 *p = mmap(NULL, SZ_8K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_TRUE(p != MAP_FAILED);
	p[SZ_4K] = 1;
	ASSERT_OK(mprotect(p + SZ_4K, SZ_4K, prot));
	return p + SZ_4K;
}

static void abi_array_efault(void)
{
	void *edge[] = { half_there(PROT_NONE), half_there(PROT_READ) };
	struct vfio_dma_extent e[2];
	struct vt_container c;
	struct run r[2];
	struct vfio_iommu_type1_dma_extents req, was;
	size_t i;

	open_small(&c, &r[0]);
	r[1] = r[0];
	r[1].iova += SZ_1M;
	r[1].granule = SZ_4K;
	map_run(&c, &r[1]);

	for (i = 0; i < 5; i++) {
		req = good_req();
		req.size = 0;
		req.count = 2;
		req.extents = i == 0 ? 0 :
			      i == 1 ? (uintptr_t)edge[0] :
			      i == 2 ? (uintptr_t)edge[1] :
			      i == 3 ? ~0ull - 15 :
				       (uintptr_t)((struct vfio_dma_extent *)edge[0] - 1);
		was = req;
		ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, &req), EFAULT);
		ASSERT_EQ(memcmp(&req, &was, sizeof(req)), 0);
		/* Nothing is lost. */
		req.extents = (uintptr_t)e;
		ASSERT_OK(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, &req));
		ASSERT_EQ(req.count, 2);
		check_extent(&e[0], &r[0], BASE, SZ_64K);
		check_extent(&e[1], &r[1], BASE + SZ_1M, SZ_64K);
	}

	/* Who only counts needs no array, nor does what there is none of. */
	req = good_req();
	req.count = 0;
	req.extents = ~0ull - 15;
	ASSERT_OK(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, &req));
	ASSERT_EQ(req.count, 1);
	req = good_req();
	req.iova = SZ_1G;
	ASSERT_OK(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, &req));
	ASSERT_EQ(req.count, 0);
	ASSERT_EQ(req.size, 0);
	/* Room that no memory is behind, beyond what is filled. */
	req = good_req();
	req.count = ROOM;
	req.extents = (uintptr_t)((struct vfio_dma_extent *)edge[0] - 1);
	ASSERT_OK(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, &req));
	ASSERT_EQ(req.count, 1);
}

static void abi_struct_efault(void)
{
	u8 *edge = half_there(PROT_NONE), *ro = half_there(PROT_READ | PROT_WRITE);
	struct vfio_dma_extent e;
	struct vt_container c;
	struct vfio_iommu_type1_dma_extents *req;
	struct run r;

	open_small(&c, &r);
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, NULL), EFAULT);
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, edge), EFAULT);
	req = (void *)(edge - offsetof(struct vfio_iommu_type1_dma_extents, __reserved));
	memset(req, 0, offsetof(struct vfio_iommu_type1_dma_extents, __reserved));
	req->argsz = sizeof(*req);
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, req), EFAULT);

	/* Can be read, cannot be written back. */
	req = (void *)ro;
	*req = good_req();
	req->extents = (uintptr_t)&e;
	req->count = 1;
	ASSERT_OK(mprotect(ro, SZ_4K, PROT_READ));
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, req), EFAULT);
	ASSERT_OK(mprotect(ro, SZ_4K, PROT_READ | PROT_WRITE));
	ASSERT_EQ(req->iova, BASE);
	ASSERT_OK(ioctl(c.fd, VFIO_IOMMU_DMA_EXTENTS, req));
	ASSERT_EQ(req->count, 1);
	check_extent(&e, &r, BASE, SZ_64K);
}

/* ---- What is told ---- */

static void empty_container(void)
{
	struct vt_container c;
	struct run r;

	vt_open_v2(&c);
	expect(&c, 0, 0, NULL, 0);
	expect(&c, BASE, SZ_64K, NULL, 0);
	r = (struct run){ BASE, SZ_64K, vt_alloc(VT_MEM_4K, SZ_64K), 0, R };
	map_run(&c, &r);
	expect(&c, 0, 0, &r, 1);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));
	expect(&c, 0, 0, NULL, 0);
	vt_close(&c);
}

/* Flags, granule, vaddr; holes are absent; mappings stay apart. */
static void mappings_apart(void)
{
	struct vt_container c;
	struct run r[FEW];

	vt_open_v2(&c);
	map_few(&c, r);
	expect(&c, 0, 0, r, FEW);
	expect(&c, BASE, 3 * SZ_4M, r, FEW);
	expect(&c, BASE + SZ_4M + 2 * SZ_64K, SZ_4M - 2 * SZ_64K, NULL, 0);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_4M, NULL));
	expect(&c, 0, 0, r + 1, FEW - 1);
}

static void flags_told(void)
{
	struct vt_container c;
	struct run r[6];
	u8 *p;
	size_t i;

	vt_open_v2(&c);
	p = vt_alloc(VT_MEM_4K, SZ_64K);
	for (i = 0; i < ARRAY_SIZE(r); i++) {
		r[i] = (struct run){ BASE + i * SZ_64K, SZ_64K, p, i & 1 ? SZ_64K : 0, i / 2 + 1 };
		map_run(&c, &r[i]);
	}
	expect(&c, 0, 0, r, ARRAY_SIZE(r));
}

/* Ranges that begin and end anywhere: in an extent, and in a page of the IOMMU. */
static void clipping(void)
{
	struct vt_container c;
	struct run r[FEW];
	u64 at[] = {
		0, BASE - SZ_4K, BASE, BASE + SZ_4K, BASE + SZ_2M - SZ_4K, BASE + SZ_2M,
		BASE + SZ_4M - SZ_4K, BASE + SZ_4M, BASE + SZ_4M + SZ_4K,
		BASE + SZ_4M + SZ_64K, BASE + SZ_4M + SZ_64K + SZ_4K,
		BASE + SZ_4M + 2 * SZ_64K - SZ_4K, BASE + SZ_4M + 2 * SZ_64K,
		BASE + 2 * SZ_4M, BASE + 2 * SZ_4M + SZ_1M, BASE + 2 * SZ_4M + SZ_2M,
		BASE + 3 * SZ_4M - SZ_4K, BASE + 3 * SZ_4M, BASE + 3 * SZ_4M + SZ_4K,
	};
	struct vfio_dma_extent e;
	u64 iova, size;
	size_t i, k;
	u32 count;

	vt_open_v2(&c);
	map_few(&c, r);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		expect(&c, at[i], 0, r, FEW);
		for (k = i + 1; k < ARRAY_SIZE(at); k++)
			expect(&c, at[i], at[k] - at[i], r, FEW);
	}

	/* A page in the middle of a superpage, once more by hand. */
	iova = BASE + SZ_1M + SZ_4K;
	size = SZ_8K;
	count = 1;
	ASSERT_OK(vt_extents(&c, &iova, &size, &e, &count));
	ASSERT_EQ(count, 1);
	ASSERT_EQ(size, 0);
	ASSERT_EQ(e.iova, BASE + SZ_1M + SZ_4K);
	ASSERT_EQ(e.size, SZ_8K);
	ASSERT_EQ(e.vaddr, (uintptr_t)r[0].vaddr + SZ_1M + SZ_4K);
	if (known(&c) == IN_TABLES) {
		ASSERT_GE(e.pgsize, SZ_2M);
		ASSERT_EQ(e.pgsize, vt_pgsize_at(&c.dev[0], e.iova));
	}
}

static void same_extents(const struct vt_extents *a, const struct vt_extents *b)
{
	ASSERT_EQ(a->nr, b->nr);
	ASSERT_EQ(memcmp(a->e, b->e, a->nr * sizeof(*a->e)), 0);
}

/* With room for 1, 2, 3, ... a call tells the same, bit by bit. */
static void continuation(void)
{
	struct vt_extents all, x;
	struct vt_container c;
	struct run r[FEW];
	u64 iova, size;
	u32 room;

	vt_open_v2(&c);
	map_few(&c, r);
	/* An extent more within a mapping: all of r[0] but a page at its end. */
	for (iova = 0; iova <= BASE + SZ_2M + SZ_4K; iova += BASE + SZ_2M + SZ_4K) {
		for (size = 0; size <= 2 * SZ_4M; size += 2 * SZ_4M) {
			if (size && !iova)
				continue;
			vt_extents_read(&c, iova, size, ROOM, &all);
			for (room = 1; room <= all.nr + 1; room++) {
				vt_extents_read(&c, iova, size, room, &x);
				same_extents(&all, &x);
				ASSERT_GE(x.calls, (all.nr + room - 1) / room);
				vt_extents_free(&x);
			}
			vt_extents_free(&all);
		}
	}
}

/* Counting tells as many as filling, and leaves the same place to go on from. */
static void count_only(void)
{
	static const u64 range[][2] = {
		{ 0, 0 }, { 0, SZ_1G }, { BASE, SZ_4M }, { BASE + SZ_4K, 2 * SZ_4M },
		{ BASE, 0 }, { BASE + 2 * SZ_4M, SZ_4M }, { BASE + 8 * SZ_4M, SZ_4M },
	};
	struct vfio_dma_extent e[ROOM];
	u64 iova, size, fill_iova, fill_size;
	struct vt_container c;
	struct run r[FEW];
	u32 count, filled;
	size_t i;

	vt_open_v2(&c);
	map_few(&c, r);
	for (i = 0; i < ARRAY_SIZE(range); i++) {
		iova = range[i][0];
		fill_iova = iova;
		size = range[i][1];
		fill_size = size;
		count = 0;
		filled = ROOM;
		ASSERT_OK(vt_extents(&c, &iova, &size, NULL, &count));
		ASSERT_OK(vt_extents(&c, &fill_iova, &fill_size, e, &filled));
		ASSERT_EQ(count, filled);
		ASSERT_EQ(iova, fill_iova);
		ASSERT_EQ(size, fill_size);
		ASSERT_EQ(size, 0);
	}
}

/* All told in a call that had no room to spare: size says so. */
static void exact_room(void)
{
	struct vfio_dma_extent e[ROOM];
	u64 iova = 0, size = 0;
	struct vt_container c;
	struct run r[FEW];
	u32 count;

	vt_open_v2(&c);
	map_few(&c, r);
	count = vt_extents_count(&c, 0, 0);
	ASSERT_OK(vt_extents(&c, &iova, &size, e, &count));
	EXPECT_EQ(size, 0);
	/* One less: what is left begins with the last one, or in the hole before. */
	iova = 0;
	count--;
	ASSERT_OK(vt_extents(&c, &iova, &size, e, &count));
	EXPECT_NE(size, 0);
	EXPECT_EQ(vt_extents_count(&c, iova, size), 1);
	EXPECT_EQ(iova + size, 0);
}

static void vaddr_updated(void)
{
	struct vt_container c;
	struct run r[2];
	u64 size;
	u8 *p;
	int fd;

	/* The same memory at two places. */
	fd = memfd_create("extents", 0);
	ASSERT_GE(fd, 0);
	ASSERT_OK(ftruncate(fd, SZ_1M));
	p = mmap(NULL, 2 * SZ_1M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	ASSERT_TRUE(mmap(p + SZ_1M, SZ_1M, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 fd, 0) == p + SZ_1M);

	vt_open_v2(&c);
	r[0] = (struct run){ BASE, SZ_1M, p, 0, R | W };
	r[1] = (struct run){ BASE + SZ_1M, SZ_1M, p, SZ_64K, R };
	map_run(&c, &r[0]);
	map_run(&c, &r[1]);
	/* Without a vaddr for a while, the last one is told. */
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, 2 * SZ_1M, &size));
	expect(&c, 0, 0, r, 2);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p + SZ_1M, SZ_1M));
	r[0].vaddr = p + SZ_1M;
	expect(&c, 0, 0, r, 2);
	ASSERT_OK(vt_map_vaddr(&c, BASE + SZ_1M, p + SZ_1M, SZ_1M));
	r[1].vaddr = p + SZ_1M;
	expect(&c, 0, 0, r, 2);

	/* What is left of a mapping whose first pieces are gone. */
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, 3 * SZ_64K, NULL));
	r[1].iova += 3 * SZ_64K;
	r[1].size -= 3 * SZ_64K;
	r[1].vaddr = p + SZ_1M + 3 * SZ_64K;
	expect(&c, 0, 0, r, 2);
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + SZ_1M, SZ_1M, &size));
	ASSERT_OK(vt_map_vaddr(&c, BASE + SZ_1M, p, SZ_1M));
	r[1].vaddr = p + 3 * SZ_64K;
	expect(&c, 0, 0, r, 2);
}

/* ---- Page sizes, against the tables ---- */

/* On a machine without, expect() has nothing to compare page sizes with: say so. */
static void tables_there(void)
{
	struct vt_container c;

	vt_open_v2(&c);
	vt_need_tables(&c.dev[0]);
}

/*
 * A mapping of [mem, mem + size) with each granule that divides it, whole, clipped,
 * with holes, and with something else in a hole. pgsize is at least what the memory
 * and the granule allow: unless the machine cannot tell.
 */
static void with_granule(struct vt_container *c, u8 *mem, u64 size, u64 granule, u64 page)
{
	u64 nr = granule ? size / granule : 1, want = page;
	struct run r[4] = { { BASE, size, mem, granule, R | W } };
	struct vfio_dma_extent e;
	u64 iova = BASE, len = SZ_4K;
	u32 count = 1;

	map_run(c, &r[0]);
	expect(c, 0, 0, r, 1);
	expect(c, BASE + 3 * SZ_4K, size / 2 + 2 * SZ_4K, r, 1);

	if (granule && granule < want)
		want = granule;
	if (!vt_any_pgsize(c))
		want = want >= SZ_1G ? SZ_1G : want >= SZ_2M ? SZ_2M : SZ_4K;
	ASSERT_OK(vt_extents(c, &iova, &len, &e, &count));
	if (known(c) != UNKNOWN)
		ASSERT_GE(e.pgsize, want);

	if (nr >= 4) {
		ASSERT_OK(vt_unmap(c, BASE + granule, granule, NULL));
		ASSERT_OK(vt_unmap(c, BASE + size - granule, granule, NULL));
		r[0].size = granule;
		r[1] = (struct run){ BASE + 2 * granule, size - 3 * granule, mem + 2 * granule,
				     granule, R | W };
		expect(c, 0, 0, r, 2);
		expect(c, BASE + granule - SZ_4K, granule + SZ_8K, r, 2);
		r[2] = r[1];
		r[1] = (struct run){ BASE + granule, granule, mem, 0, R };
		map_run(c, &r[1]);
		expect(c, 0, 0, r, 3);
	}
	ASSERT_OK(vt_unmap_all(c, NULL));
	expect(c, 0, 0, NULL, 0);
}

static void all_granules(u8 *mem, u64 size, u64 page)
{
	static const u64 granules[] = {
		0, SZ_4K, SZ_8K, 4 * SZ_8K, SZ_64K, SZ_1M, SZ_2M, SZ_4M, SZ_1G,
	};
	struct vt_container c;
	size_t i;

	vt_open_v2(&c);
	for (i = 0; i < ARRAY_SIZE(granules); i++)
		if (!granules[i] || !(size % granules[i]))
			with_granule(&c, mem, size, granules[i], page);
	vt_close(&c);
}

static void pgsize_4k(void)
{
	all_granules(vt_alloc(VT_MEM_4K, 2 * SZ_4M), 2 * SZ_4M, SZ_4K);
}

static void pgsize_scattered(void)
{
	all_granules(vt_alloc(VT_MEM_SCATTERED, SZ_4M), SZ_4M, SZ_4K);
}

static void pgsize_thp(void)
{
	all_granules(vt_alloc(VT_MEM_THP, 2 * SZ_4M), 2 * SZ_4M, SZ_2M);
}

static void pgsize_hugetlb_2m(void)
{
	all_granules(vt_alloc(VT_MEM_HUGE_2M, 2 * SZ_4M), 2 * SZ_4M, SZ_2M);
}

/* Granules from 2 MiB up to 1 GiB, over all of 1 GiB. */
static void large_granules(u8 *mem, u64 page)
{
	struct vt_container c;

	vt_open_v2(&c);
	with_granule(&c, mem, SZ_1G, 0, page);
	with_granule(&c, mem, SZ_1G, SZ_2M, page);
	with_granule(&c, mem, SZ_1G, 8 * SZ_4M, page);
	with_granule(&c, mem, SZ_1G, SZ_1G, page);
	vt_close(&c);
}

static void pgsize_hugetlb_1g(void)
{
	u8 *mem = vt_alloc(VT_MEM_HUGE_1G, SZ_1G);

	large_granules(mem, SZ_1G);
	/* Part of a page, which then is told as smaller ones. */
	all_granules(mem, 2 * SZ_4M, SZ_4M);
}

static void pgsize_thp_1g(void)
{
	large_granules(vt_alloc(VT_MEM_THP, SZ_1G), SZ_2M);
}

/* Memory and IOVA that are not aligned alike. */
static void incongruent(u64 shift, u64 page)
{
	u8 *mem = vt_alloc(VT_MEM_THP, 3 * SZ_4M);

	all_granules(mem + shift, 2 * SZ_4M, page);
}

static void pgsize_shifted_by_4k(void)
{
	incongruent(SZ_4K, SZ_4K);
}

static void pgsize_shifted_by_1m(void)
{
	incongruent(SZ_1M, SZ_1M);
}

/* From an IOVA in the middle of a superpage on: small pages, then large ones. */
static void pgsize_odd_start(void)
{
	u8 *mem = vt_alloc(VT_MEM_THP, 4 * SZ_4M);
	struct vt_container c;
	struct run r[2];

	vt_open_v2(&c);
	r[0] = (struct run){ BASE + SZ_4K, SZ_2M, mem + SZ_4K, SZ_4K, R | W };
	r[1] = (struct run){ BASE + SZ_2M + SZ_8K, 3 * SZ_4M, mem + SZ_2M + SZ_8K, 0, R | W };
	map_run(&c, &r[0]);
	map_run(&c, &r[1]);
	expect(&c, 0, 0, r, 2);
	expect(&c, BASE + SZ_4M - SZ_4K, SZ_8K, r, 2);
	if (known(&c) == IN_TABLES && !vt_any_pgsize(&c)) {
		/* Small, large, small again; and all small under the granule. */
		EXPECT_EQ(vt_extents_count(&c, BASE, 0), 1 + 3);
		EXPECT_EQ(vt_extents_count(&c, BASE + SZ_4M - SZ_4K, SZ_8K), 2);
	}
}

/* Give [p, p + size) small pages of its own, whatever it had. */
static void island(u8 *p, u64 size)
{
	u64 at;

	ASSERT_OK(madvise(p, size, MADV_NOHUGEPAGE));
	ASSERT_OK(madvise(p, size, MADV_DONTNEED));
	for (at = size; at; at -= SZ_4K)
		p[at - SZ_4K] = 1;
}

/* Huge pages with islands of small ones, at the edges and in the middle. */
static void mixed_memory(void)
{
	struct vt_container c;
	struct run r[2];
	u64 size = 16 * SZ_2M;
	u8 *mem;

	mem = vt_alloc(VT_MEM_THP, size);
	island(mem + 1 * SZ_2M + SZ_1M, SZ_4K);
	island(mem + 3 * SZ_2M, SZ_4K);
	island(mem + 6 * SZ_2M - SZ_4K, SZ_4K);
	island(mem + 8 * SZ_2M, SZ_2M);
	island(mem + 11 * SZ_2M - SZ_64K, 2 * SZ_64K);

	all_granules(mem, 2 * SZ_4M, SZ_4K);

	vt_open_v2(&c);
	r[0] = (struct run){ BASE, size, mem, SZ_2M, R | W };
	map_run(&c, &r[0]);
	expect(&c, 0, 0, r, 1);
	/* 0 | 1 | 2 | 3 | 4 | 5 | 6 7 | 8 | 9 | 10 11 | 12 ... */
	if (known(&c) == IN_TABLES && !vt_any_pgsize(&c))
		EXPECT_EQ(vt_extents_count(&c, BASE, size), 11);
	/* From the middle of one with an island to the middle of another. */
	expect(&c, BASE + 3 * SZ_2M + SZ_1M, 7 * SZ_2M, r, 1);
	/* A hole between page sizes. */
	ASSERT_OK(vt_unmap(&c, BASE + 5 * SZ_2M, 2 * SZ_2M, NULL));
	r[0].size = 5 * SZ_2M;
	r[1] = (struct run){ BASE + 7 * SZ_2M, size - 7 * SZ_2M, mem + 7 * SZ_2M, SZ_2M, R | W };
	expect(&c, 0, 0, r, 2);
}

static void no_hugepages(void)
{
	u8 *mem = vt_alloc(VT_MEM_THP, SZ_4M);
	struct vfio_dma_extent e;
	struct vt_container c;
	struct run r[2];
	u64 iova, size = SZ_64K;
	u32 count = 1;

	vt_open_v2(&c);
	r[0] = (struct run){ BASE, SZ_4M, mem, SZ_2M, R | W };
	r[1] = (struct run){ BASE + SZ_4M, SZ_4M, mem, SZ_2M, R | W };
	vt_set_param("disable_hugepages", 1);
	map_run(&c, &r[0]);
	vt_set_param("disable_hugepages", 0);
	map_run(&c, &r[1]);
	expect(&c, 0, 0, r, 2);
	iova = BASE;
	ASSERT_OK(vt_extents(&c, &iova, &size, &e, &count));
	EXPECT_EQ(e.pgsize, known(&c) == UNKNOWN ? 0 : SZ_4K);
	iova = BASE + SZ_4M;
	size = SZ_64K;
	ASSERT_OK(vt_extents(&c, &iova, &size, &e, &count));
	EXPECT_GE(e.pgsize, known(&c) == UNKNOWN ? 0 : SZ_2M);
}

/* The last pages of the IOVA space. */
static void top(int type, u64 granule)
{
	struct vt_container c;
	struct run r[2];
	u64 end;
	u8 *mem;

	vt_open(&c, type, 0);
	mem = vt_alloc(VT_MEM_THP, SZ_2M);
	end = vt_last_iova(&c) + 1;
	vt_diag("the last IOVA is %#llx", end - 1);
	r[0] = (struct run){ end - SZ_4M, SZ_2M, mem, granule, R | W };
	r[1] = (struct run){ end - SZ_2M, SZ_2M, mem, granule, R };
	map_run(&c, &r[0]);
	map_run(&c, &r[1]);
	expect(&c, 0, 0, r, 2);
	expect(&c, end - SZ_2M, SZ_2M, r, 2);
	expect(&c, end - SZ_2M, 0, r, 2);
	expect(&c, end - SZ_4K, SZ_4K, r, 2);
	expect(&c, end - SZ_4K, 0, r, 2);
	expect(&c, SZ_4K, end - SZ_4K, r, 2);
	if (granule) {
		ASSERT_OK(vt_unmap(&c, end - granule, granule, NULL));
		r[1].size -= granule;
		expect(&c, 0, 0, r, r[1].size ? 2 : 1);
		expect(&c, end - granule, granule, NULL, 0);
		ASSERT_OK(vt_map(&c, end - SZ_4K, mem, SZ_4K, VT_RO, 0));
		expect(&c, end - SZ_4K, 0, &(struct run){ end - SZ_4K, SZ_4K, mem, 0, R }, 1);
	}
}

static void top_v2(void)
{
	top(VFIO_TYPE1v2_IOMMU, 0);
}

static void top_granule(void)
{
	top(VFIO_TYPE1v2_IOMMU, SZ_64K);
}

static void top_v1(void)
{
	top(V1, 0);
}

/* On v1 an unmap takes all of each mapping that begins in it, and no part of one. */
static void v1_container(void)
{
	struct vt_container c;
	struct run r[3];
	u8 *mem;

	vt_open(&c, V1, 0);
	expect(&c, 0, 0, NULL, 0);
	mem = vt_alloc(VT_MEM_THP, SZ_4M);
	r[0] = (struct run){ BASE, SZ_4M, mem, 0, R | W };
	r[1] = (struct run){ BASE + SZ_4M, SZ_64K, mem, 0, R };
	r[2] = (struct run){ BASE + SZ_4M + SZ_1M, SZ_64K, mem, 0, W };
	map_run(&c, &r[0]);
	map_run(&c, &r[1]);
	map_run(&c, &r[2]);
	expect(&c, 0, 0, r, 3);
	expect(&c, BASE + SZ_64K, SZ_4M, r, 3);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4M, SZ_4K, NULL));
	r[1] = r[2];
	expect(&c, 0, 0, r, 2);
}

/* ---- Domains ---- */

/* Nobody but emulated devices: nothing is mapped in any IOMMU. */
static void emulated_only(void)
{
	struct vfio_dma_extent e[4];
	u64 iova = BASE, size = 0;
	struct vt_container c;
	u32 count = 4;
	u8 *mem;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	td_add(&c, 0);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_EXTENTS), 1);
	mem = vt_alloc(VT_MEM_THP, SZ_4M);
	ASSERT_OK(vt_map(&c, BASE, mem, SZ_4M, VT_RW, SZ_64K));
	ASSERT_OK(vt_map(&c, BASE + SZ_4M, mem, SZ_2M, VT_RO, 0));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, SZ_64K, NULL));
	ASSERT_EQ(td_pin(&c.dev[0], BASE, 4, VTD_READ | VTD_WRITE, NULL), 4);
	ASSERT_OK(vt_extents(&c, &iova, &size, e, &count));
	ASSERT_EQ(count, 3);
	ASSERT_EQ(size, 0);
	check_extent(&e[0], &(struct run){ BASE, SZ_1M, mem, SZ_64K, R | W }, BASE, SZ_1M);
	ASSERT_EQ(e[0].size, SZ_1M);
	check_extent(&e[1], &(struct run){ BASE, SZ_4M, mem, SZ_64K, R | W },
		     BASE + SZ_1M + SZ_64K, SZ_4M);
	ASSERT_EQ(e[1].size, 3 * SZ_1M - SZ_64K);
	check_extent(&e[2], &(struct run){ BASE + SZ_4M, SZ_2M, mem, 0, R }, BASE + SZ_4M, SZ_2M);
	ASSERT_EQ(e[2].size, SZ_2M);
	for (count = 0; count < 3; count++)
		ASSERT_EQ(e[count].pgsize, 0);

	/* A device that has an IOMMU joins, and leaves. */
	vt_add_edu(&c, 0);
	iova = BASE;
	size = SZ_2M;
	count = 4;
	ASSERT_OK(vt_extents(&c, &iova, &size, e, &count));
	if (known(&c) != UNKNOWN)
		ASSERT_GE(e[0].pgsize, SZ_4K);
	vt_remove(&c.dev[1]);
	iova = BASE;
	size = SZ_2M;
	count = 4;
	ASSERT_OK(vt_extents(&c, &iova, &size, e, &count));
	ASSERT_EQ(count, 2);
	ASSERT_EQ(e[0].pgsize, 0);
	vt_close(&c);
}

/* Two domains that map the same with different page sizes: the smaller is told. */
static void two_domains(u64 hide_first, u64 hide_second)
{
	struct vfio_dma_extent e;
	u64 iova = BASE, size = SZ_4K;
	struct vt_container c;
	struct vt_dev *second;
	struct run r[3];
	u32 count = 1;
	u8 *mem;

	td_arm();
	td_set("refuse_sharing", 1);
	td_set("hide_pgsizes", hide_first);
	vt_open_v2(&c);
	if ((hide_first || hide_second) && vt_linux() < 7 && vt_machine_is("intel"))
		SKIP("VT-d's driver in Linux 6 sets page sizes when a domain is attached");
	mem = vt_alloc(VT_MEM_THP, 4 * SZ_2M);
	island(mem + SZ_2M + SZ_64K, SZ_64K);
	r[0] = (struct run){ BASE, 4 * SZ_2M, mem, SZ_2M, R | W };
	r[1] = (struct run){ BASE + 5 * SZ_2M, 4 * SZ_2M, mem, 0, R };
	map_run(&c, &r[0]);
	map_run(&c, &r[1]);
	expect(&c, 0, 0, r, 2);
	td_set("hide_pgsizes", hide_second);
	second = vt_add_edu(&c, 1);
	ASSERT_GT(td_get("refused"), 0);
	expect(&c, 0, 0, r, 2);
	ASSERT_OK(vt_extents(&c, &iova, &size, &e, &count));
	if (known(&c) != UNKNOWN && (hide_first || hide_second))
		ASSERT_EQ(e.pgsize, SZ_4K);
	else if (known(&c) != UNKNOWN)
		ASSERT_GE(e.pgsize, SZ_2M);

	/* Mapped with both there; in a hole; clipped. */
	ASSERT_OK(vt_unmap(&c, BASE + 2 * SZ_2M, 2 * SZ_2M, NULL));
	r[0].size = 2 * SZ_2M;
	r[2] = r[1];
	r[1] = (struct run){ BASE + 2 * SZ_2M, SZ_2M, mem, 0, W };
	map_run(&c, &r[1]);
	expect(&c, 0, 0, r, 3);
	expect(&c, BASE + SZ_4K, 2 * SZ_2M, r, 3);
	vt_remove(second);
	expect(&c, 0, 0, r, 3);
	vt_close(&c);
}

static void two_domains_alike(void)
{
	two_domains(0, 0);
}

static void two_domains_first_small(void)
{
	two_domains(MORE_THAN_4K, 0);
}

static void two_domains_second_small(void)
{
	two_domains(0, MORE_THAN_4K);
}

/* ---- Many ---- */

/* More room than memory could have, in an array that is just large enough. */
static void huge_room(void)
{
	struct vfio_dma_extent e[ROOM];
	struct vt_container c;
	struct run r[FEW];
	u64 iova, size, nr;
	u32 count;
	size_t i;

	vt_open_v2(&c);
	map_few(&c, r);
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
	ASSERT_EQ(x.e[0].pgsize, known(&c) == UNKNOWN ? 0 : SZ_4K);
	vt_extents_free(&x);

	ASSERT_EQ(vt_extents_count(&c, 0, 0), MANY);
	vt_extents_read(&c, BASE + SZ_4K, (MANY - 1) * SZ_8K - SZ_4K, 999, &x);
	ASSERT_EQ(x.nr, MANY - 2);
	vt_extents_free(&x);
	vt_close(&c);
}

/*
 * A mapping with more small pages than a call looks at: the same memory over and
 * over, its pages in falling order so that no two make a larger one. On the debug
 * kernel it is a small one.
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

/* All is told, and once, though a call stops early for others to have the container. */
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
		if (known(c) == IN_TABLES && !vt_any_pgsize(c))
			ASSERT_EQ(x.e[i].pgsize, SZ_4K);
		at += x.e[i].size;
	}
	ASSERT_EQ(at, BASE + size);
	vt_extents_free(&x);
}

/* A call stops where it has looked for long enough, though there is room for more. */
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

/* A map that comes in the first call of a walk need not wait for the last one. */
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
	if (known(&c) == UNKNOWN)
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
 * The container loses its last group, and with it all that type1 has, while a call
 * waits for the page that it copies out to. Not before: nothing keeps type1's state for
 * a call that has yet to take its lock, whichever call that is.
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

/* The array comes and goes under the call: EFAULT or all of it, nothing else. */
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
			    (!m->granule || e->pgsize <= m->granule));
	else
		ASSERT_EQ(e->pgsize, 0);
}

/* 10 seconds of mapping, unmapping and reading: what is told makes sense. */
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
	k = known(&c);
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
	expect(&c, 0, 0, NULL, 0);
	vt_close(&c);
}

VTEST_MAIN(
	VTEST(abi_layout),
	VTEST(extension_v2),
	VTEST(extension_v1),
	VTEST(extension_before_set_iommu),
	VTEST(extension_iommufd),
	VTEST(abi_argsz),
	VTEST(abi_flags_and_reserved),
	VTEST(abi_alignment),
	VTEST(abi_wrap),
	VTEST(abi_array_efault),
	VTEST(abi_struct_efault),
	VTEST(empty_container),
	VTEST(mappings_apart),
	VTEST(flags_told),
	VTEST(clipping),
	VTEST(continuation),
	VTEST(count_only),
	VTEST(exact_room),
	VTEST(vaddr_updated),
	VTEST(tables_there),
	VTEST(pgsize_4k),
	VTEST(pgsize_scattered),
	VTEST(pgsize_thp),
	VTEST(pgsize_hugetlb_2m),
	VTEST(pgsize_hugetlb_1g),
	VTEST(pgsize_thp_1g),
	VTEST(pgsize_shifted_by_4k),
	VTEST(pgsize_shifted_by_1m),
	VTEST(pgsize_odd_start),
	VTEST(mixed_memory),
	VTEST(no_hugepages),
	VTEST(top_v2),
	VTEST(top_granule),
	VTEST(top_v1),
	VTEST(v1_container),
	VTEST(emulated_only),
	VTEST(two_domains_alike),
	VTEST(two_domains_first_small),
	VTEST(two_domains_second_small),
	VTEST(huge_room),
	VTEST(many_mappings),
	VTEST(endless_mapping),
	VTEST(torn_down_while_copying),
	VTEST(array_comes_and_goes),
	VTEST(concurrent),
)
