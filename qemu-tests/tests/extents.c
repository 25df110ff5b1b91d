// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO_IOMMU_DMA_EXTENTS: discovery, every errno, what it tells, how a caller goes on, and
 * page sizes compared with the IOMMU's tables.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "../lib/runs.h"
#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define V1	VFIO_TYPE1_IOMMU
#define ROOM	RUN_ROOM

#define R	RUN_R
#define W	RUN_W

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

/* One mapping of 16 small pages, scattered so that they are one extent on each machine */
static void open_small(struct vt_container *c, struct run *r)
{
	vt_open_v2(c);
	*r = (struct run){ BASE, SZ_64K, vt_alloc(VT_MEM_SCATTERED, SZ_64K), 0, R | W };
	run_map(c, r);
}

/* The call is refused and has changed neither req nor the array that it points at. */
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
	run_expect(&c, BASE, -BASE, &r, 1);
	run_expect(&c, SZ_4K, -SZ_4K, &r, 1);
	run_expect(&c, 0, -SZ_4K, &r, 1);
	for (page = 1; page <= 2; page++) {
		run_expect(&c, -page * SZ_4K, SZ_4K, NULL, 0);
		run_expect(&c, -page * SZ_4K, 0, NULL, 0);
	}
}

static void abi_array_efault(void)
{
	void *edge[] = { vt_half_there(PROT_NONE), vt_half_there(PROT_READ) };
	struct vfio_dma_extent e[2];
	struct vt_container c;
	struct run r[2];
	struct vfio_iommu_type1_dma_extents req, was;
	size_t i;

	open_small(&c, &r[0]);
	r[1] = r[0];
	r[1].iova += SZ_1M;
	r[1].granule = SZ_4K;
	run_map(&c, &r[1]);

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
		run_check(&e[0], &r[0], BASE, SZ_64K);
		run_check(&e[1], &r[1], BASE + SZ_1M, SZ_64K);
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
	u8 *edge = vt_half_there(PROT_NONE), *ro = vt_half_there(PROT_READ | PROT_WRITE);
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
	run_check(&e, &r, BASE, SZ_64K);
}

/* ---- What is told ---- */

static void empty_container(void)
{
	struct vt_container c;
	struct run r;

	vt_open_v2(&c);
	run_expect(&c, 0, 0, NULL, 0);
	run_expect(&c, BASE, SZ_64K, NULL, 0);
	r = (struct run){ BASE, SZ_64K, vt_alloc(VT_MEM_4K, SZ_64K), 0, R };
	run_map(&c, &r);
	run_expect(&c, 0, 0, &r, 1);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));
	run_expect(&c, 0, 0, NULL, 0);
	vt_close(&c);
}

/* Flags, granule, vaddr; holes are absent; mappings stay apart. */
static void mappings_apart(void)
{
	struct vt_container c;
	struct run r[RUN_FEW];

	vt_open_v2(&c);
	run_map_few(&c, BASE, r);
	run_expect(&c, 0, 0, r, RUN_FEW);
	run_expect(&c, BASE, 3 * SZ_4M, r, RUN_FEW);
	run_expect(&c, BASE + SZ_4M + 2 * SZ_64K, SZ_4M - 2 * SZ_64K, NULL, 0);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_4M, NULL));
	run_expect(&c, 0, 0, r + 1, RUN_FEW - 1);
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
		run_map(&c, &r[i]);
	}
	run_expect(&c, 0, 0, r, ARRAY_SIZE(r));
}

/* Ranges may begin and end anywhere, inside an extent or inside a page of the IOMMU. */
static void clipping(void)
{
	struct vt_container c;
	struct run r[RUN_FEW];
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
	run_map_few(&c, BASE, r);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		run_expect(&c, at[i], 0, r, RUN_FEW);
		for (k = i + 1; k < ARRAY_SIZE(at); k++)
			run_expect(&c, at[i], at[k] - at[i], r, RUN_FEW);
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
	if (run_known(&c) == IN_TABLES) {
		ASSERT_GE(e.pgsize, SZ_2M);
		ASSERT_EQ(e.pgsize, vt_pgsize_at(&c.dev[0], e.iova));
	}
}

static void same_extents(const struct vt_extents *a, const struct vt_extents *b)
{
	ASSERT_EQ(a->nr, b->nr);
	ASSERT_EQ(memcmp(a->e, b->e, a->nr * sizeof(*a->e)), 0);
}

/* With room for 1, 2, 3, ... extents, repeated calls tell the same. */
static void continuation(void)
{
	struct vt_extents all, x;
	struct vt_container c;
	struct run r[RUN_FEW];
	u64 iova, size;
	u32 room;

	vt_open_v2(&c);
	run_map_few(&c, BASE, r);
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

/* A call that counts finds as many extents as one that fills, and goes on at the same iova. */
static void count_only(void)
{
	static const u64 range[][2] = {
		{ 0, 0 }, { 0, SZ_1G }, { BASE, SZ_4M }, { BASE + SZ_4K, 2 * SZ_4M },
		{ BASE, 0 }, { BASE + 2 * SZ_4M, SZ_4M }, { BASE + 8 * SZ_4M, SZ_4M },
	};
	struct vfio_dma_extent e[ROOM];
	u64 iova, size, fill_iova, fill_size;
	struct vt_container c;
	struct run r[RUN_FEW];
	u32 count, filled;
	size_t i;

	vt_open_v2(&c);
	run_map_few(&c, BASE, r);
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

/* If the last extent takes the last room, size is 0. */
static void exact_room(void)
{
	struct vfio_dma_extent e[ROOM];
	u64 iova = 0, size = 0;
	struct vt_container c;
	struct run r[RUN_FEW];
	u32 count;

	vt_open_v2(&c);
	run_map_few(&c, BASE, r);
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
	run_map(&c, &r[0]);
	run_map(&c, &r[1]);
	/* Without a vaddr for a while, the last one is told. */
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, 2 * SZ_1M, &size));
	run_expect(&c, 0, 0, r, 2);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p + SZ_1M, SZ_1M));
	r[0].vaddr = p + SZ_1M;
	run_expect(&c, 0, 0, r, 2);
	ASSERT_OK(vt_map_vaddr(&c, BASE + SZ_1M, p + SZ_1M, SZ_1M));
	r[1].vaddr = p + SZ_1M;
	run_expect(&c, 0, 0, r, 2);

	/* What is left of a mapping whose first pieces are gone. */
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, 3 * SZ_64K, NULL));
	r[1].iova += 3 * SZ_64K;
	r[1].size -= 3 * SZ_64K;
	r[1].vaddr = p + SZ_1M + 3 * SZ_64K;
	run_expect(&c, 0, 0, r, 2);
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + SZ_1M, SZ_1M, &size));
	ASSERT_OK(vt_map_vaddr(&c, BASE + SZ_1M, p, SZ_1M));
	r[1].vaddr = p + 3 * SZ_64K;
	run_expect(&c, 0, 0, r, 2);
}

/* ---- Page sizes, against the tables ---- */

/* Skip where run_expect() has no tables to compare page sizes with. */
static void tables_there(void)
{
	struct vt_container c;

	vt_open_v2(&c);
	vt_need_tables(&c.dev[0]);
}

/*
 * Map [mem, mem + size) with each granule that divides it: whole, clipped, with holes, and
 * with another mapping in a hole. pgsize is at least what the memory and the granule allow,
 * unless the machine cannot tell.
 */
static void with_granule(struct vt_container *c, u8 *mem, u64 size, u64 granule, u64 page)
{
	u64 nr = granule ? size / granule : 1, want = page;
	struct run r[4] = { { BASE, size, mem, granule, R | W } };
	struct vfio_dma_extent e;
	u64 iova = BASE, len = SZ_4K;
	u32 count = 1;

	run_map(c, &r[0]);
	run_expect(c, 0, 0, r, 1);
	run_expect(c, BASE + 3 * SZ_4K, size / 2 + 2 * SZ_4K, r, 1);

	if (granule && granule < want)
		want = granule;
	if (!vt_any_pgsize(c))
		want = want >= SZ_1G ? SZ_1G : want >= SZ_2M ? SZ_2M : SZ_4K;
	ASSERT_OK(vt_extents(c, &iova, &len, &e, &count));
	if (run_known(c) != UNKNOWN)
		ASSERT_GE(e.pgsize, want);

	if (nr >= 4) {
		ASSERT_OK(vt_unmap(c, BASE + granule, granule, NULL));
		ASSERT_OK(vt_unmap(c, BASE + size - granule, granule, NULL));
		r[0].size = granule;
		r[1] = (struct run){ BASE + 2 * granule, size - 3 * granule, mem + 2 * granule,
				     granule, R | W };
		run_expect(c, 0, 0, r, 2);
		run_expect(c, BASE + granule - SZ_4K, granule + SZ_8K, r, 2);
		r[2] = r[1];
		r[1] = (struct run){ BASE + granule, granule, mem, 0, R };
		run_map(c, &r[1]);
		run_expect(c, 0, 0, r, 3);
	}
	ASSERT_OK(vt_unmap_all(c, NULL));
	run_expect(c, 0, 0, NULL, 0);
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

/* A mapping that begins in the middle of a superpage has small pages, then large ones. */
static void pgsize_odd_start(void)
{
	u8 *mem = vt_alloc(VT_MEM_THP, 4 * SZ_4M);
	struct vt_container c;
	struct run r[2];

	vt_open_v2(&c);
	r[0] = (struct run){ BASE + SZ_4K, SZ_2M, mem + SZ_4K, SZ_4K, R | W };
	r[1] = (struct run){ BASE + SZ_2M + SZ_8K, 3 * SZ_4M, mem + SZ_2M + SZ_8K, 0, R | W };
	run_map(&c, &r[0]);
	run_map(&c, &r[1]);
	run_expect(&c, 0, 0, r, 2);
	run_expect(&c, BASE + SZ_4M - SZ_4K, SZ_8K, r, 2);
	if (run_known(&c) == IN_TABLES && !vt_any_pgsize(&c)) {
		/* Small, large, small again; and all small under the granule. */
		EXPECT_EQ(vt_extents_count(&c, BASE, 0), 1 + 3);
		EXPECT_EQ(vt_extents_count(&c, BASE + SZ_4M - SZ_4K, SZ_8K), 2);
	}
}

/* Replace the pages of [p, p + size) by small ones. */
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
	run_map(&c, &r[0]);
	run_expect(&c, 0, 0, r, 1);
	/* 0 | 1 | 2 | 3 | 4 | 5 | 6 7 | 8 | 9 | 10 11 | 12 ... */
	if (run_known(&c) == IN_TABLES && !vt_any_pgsize(&c))
		EXPECT_EQ(vt_extents_count(&c, BASE, size), 11);
	/* From the middle of one with an island to the middle of another. */
	run_expect(&c, BASE + 3 * SZ_2M + SZ_1M, 7 * SZ_2M, r, 1);
	/* A hole between page sizes. */
	ASSERT_OK(vt_unmap(&c, BASE + 5 * SZ_2M, 2 * SZ_2M, NULL));
	r[0].size = 5 * SZ_2M;
	r[1] = (struct run){ BASE + 7 * SZ_2M, size - 7 * SZ_2M, mem + 7 * SZ_2M, SZ_2M, R | W };
	run_expect(&c, 0, 0, r, 2);
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
	run_map(&c, &r[0]);
	vt_set_param("disable_hugepages", 0);
	run_map(&c, &r[1]);
	run_expect(&c, 0, 0, r, 2);
	iova = BASE;
	ASSERT_OK(vt_extents(&c, &iova, &size, &e, &count));
	EXPECT_EQ(e.pgsize, run_known(&c) == UNKNOWN ? 0 : SZ_4K);
	iova = BASE + SZ_4M;
	size = SZ_64K;
	ASSERT_OK(vt_extents(&c, &iova, &size, &e, &count));
	EXPECT_GE(e.pgsize, run_known(&c) == UNKNOWN ? 0 : SZ_2M);
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
	run_map(&c, &r[0]);
	run_map(&c, &r[1]);
	run_expect(&c, 0, 0, r, 2);
	run_expect(&c, end - SZ_2M, SZ_2M, r, 2);
	run_expect(&c, end - SZ_2M, 0, r, 2);
	run_expect(&c, end - SZ_4K, SZ_4K, r, 2);
	run_expect(&c, end - SZ_4K, 0, r, 2);
	run_expect(&c, SZ_4K, end - SZ_4K, r, 2);
	if (granule) {
		ASSERT_OK(vt_unmap(&c, end - granule, granule, NULL));
		r[1].size -= granule;
		run_expect(&c, 0, 0, r, r[1].size ? 2 : 1);
		run_expect(&c, end - granule, granule, NULL, 0);
		ASSERT_OK(vt_map(&c, end - SZ_4K, mem, SZ_4K, VT_RO, 0));
		run_expect(&c, end - SZ_4K, 0, &(struct run){ end - SZ_4K, SZ_4K, mem, 0, R }, 1);
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

/* On v1, an unmap takes each mapping that begins in its range, always whole. */
static void v1_container(void)
{
	struct vt_container c;
	struct run r[3];
	u8 *mem;

	vt_open(&c, V1, 0);
	run_expect(&c, 0, 0, NULL, 0);
	mem = vt_alloc(VT_MEM_THP, SZ_4M);
	r[0] = (struct run){ BASE, SZ_4M, mem, 0, R | W };
	r[1] = (struct run){ BASE + SZ_4M, SZ_64K, mem, 0, R };
	r[2] = (struct run){ BASE + SZ_4M + SZ_1M, SZ_64K, mem, 0, W };
	run_map(&c, &r[0]);
	run_map(&c, &r[1]);
	run_map(&c, &r[2]);
	run_expect(&c, 0, 0, r, 3);
	run_expect(&c, BASE + SZ_64K, SZ_4M, r, 3);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4M, SZ_4K, NULL));
	r[1] = r[2];
	run_expect(&c, 0, 0, r, 2);
}

/* ---- Domains ---- */

/* With only emulated devices nothing is mapped in an IOMMU. */
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
	run_check(&e[0], &(struct run){ BASE, SZ_1M, mem, SZ_64K, R | W }, BASE, SZ_1M);
	ASSERT_EQ(e[0].size, SZ_1M);
	run_check(&e[1], &(struct run){ BASE, SZ_4M, mem, SZ_64K, R | W },
		     BASE + SZ_1M + SZ_64K, SZ_4M);
	ASSERT_EQ(e[1].size, 3 * SZ_1M - SZ_64K);
	run_check(&e[2], &(struct run){ BASE + SZ_4M, SZ_2M, mem, 0, R }, BASE + SZ_4M, SZ_2M);
	ASSERT_EQ(e[2].size, SZ_2M);
	for (count = 0; count < 3; count++)
		ASSERT_EQ(e[count].pgsize, 0);

	/* A device that has an IOMMU joins, and leaves. */
	vt_add_edu(&c, 0);
	iova = BASE;
	size = SZ_2M;
	count = 4;
	ASSERT_OK(vt_extents(&c, &iova, &size, e, &count));
	if (run_known(&c) != UNKNOWN)
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

/* If two domains use different page sizes, the smaller one is told. */
static void two_domains(u64 hide_first, u64 hide_second)
{
	struct vfio_dma_extent e;
	u64 iova = BASE, size = SZ_4K;
	struct vt_container c;
	struct vt_dev *second;
	struct run r[3];
	u32 count = 1;
	u8 *mem;

	td_two_domains();
	td_set("hide_pgsizes", hide_first);
	vt_open_v2(&c);
	if ((hide_first || hide_second) && vt_linux() < 7 && vt_machine_is("intel"))
		SKIP("VT-d's driver in Linux 6 sets page sizes when a domain is attached");
	mem = vt_alloc(VT_MEM_THP, 4 * SZ_2M);
	island(mem + SZ_2M + SZ_64K, SZ_64K);
	r[0] = (struct run){ BASE, 4 * SZ_2M, mem, SZ_2M, R | W };
	r[1] = (struct run){ BASE + 5 * SZ_2M, 4 * SZ_2M, mem, 0, R };
	run_map(&c, &r[0]);
	run_map(&c, &r[1]);
	run_expect(&c, 0, 0, r, 2);
	td_set("hide_pgsizes", hide_second);
	second = vt_add_edu(&c, 1);
	ASSERT_GT(td_get("refused"), 0);
	run_expect(&c, 0, 0, r, 2);
	ASSERT_OK(vt_extents(&c, &iova, &size, &e, &count));
	if (run_known(&c) != UNKNOWN && (hide_first || hide_second))
		ASSERT_EQ(e.pgsize, SZ_4K);
	else if (run_known(&c) != UNKNOWN)
		ASSERT_GE(e.pgsize, SZ_2M);

	/* Mapped with both there; in a hole; clipped. */
	ASSERT_OK(vt_unmap(&c, BASE + 2 * SZ_2M, 2 * SZ_2M, NULL));
	r[0].size = 2 * SZ_2M;
	r[2] = r[1];
	r[1] = (struct run){ BASE + 2 * SZ_2M, SZ_2M, mem, 0, W };
	run_map(&c, &r[1]);
	run_expect(&c, 0, 0, r, 3);
	run_expect(&c, BASE + SZ_4K, 2 * SZ_2M, r, 3);
	vt_remove(second);
	run_expect(&c, 0, 0, r, 3);
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
)
