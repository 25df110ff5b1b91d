// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings of a super-container's memory: where DMA goes and with which page sizes, whoever
 * maps, and whatever is at the addresses by then.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>

#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define RO	VFIO_SUPER_MEMORY_READ
#define RW	VT_SUPER_RW
#define SIZE	(4 * SZ_2M)
#define PAGES(n) ((n) * SZ_4K)

/* A second container, with the k-th device, on the same memory. */
static struct vt_dev *join(struct vt_container *c, int super, int k)
{
	vt_open(c, VFIO_TYPE1v2_IOMMU, k);
	ASSERT_OK(vt_super_attach(c, super));
	vt_edu_enable(&c->dev[0]);
	return &c->dev[0];
}

/* DMA_EXTENTS tells of a mapping of a super-container, with pages of at most this size. */
static void expect_extents(struct vt_container *c, u64 iova, u64 size, const void *mem,
			   u32 flags, u64 granule)
{
	struct vt_dev *dev = &c->dev[0];
	struct vt_extents x;
	u64 seen = 0, want;
	size_t i;

	if (vt_check_extension(c, VFIO_DMA_EXTENTS) != 1)
		return;
	vt_extents_read(c, iova, size, 16, &x);
	for (i = 0; i < x.nr; i++) {
		struct vfio_dma_extent *e = &x.e[i];

		ASSERT_EQ(e->iova, iova + seen);
		ASSERT_EQ(e->vaddr, (uintptr_t)mem + seen);
		ASSERT_EQ(e->granule, granule);
		ASSERT_EQ(e->flags, flags | VFIO_DMA_EXTENT_SUPER);
		if (e->pgsize && granule && !vt_cuts())
			ASSERT_LE(e->pgsize, granule);
		if (vt_tables_known(dev)) {
			want = vt_pgsize_at(dev, e->iova);
			ASSERT_EQ(e->pgsize, want);
		}
		seen += e->size;
	}
	ASSERT_EQ(seen, size);
	vt_extents_free(&x);
}

/* ---- DMA and page sizes ---- */

static void dma(void)
{
	u64 base, pinned, n;
	struct vt_container c;
	struct vt_dev *dev;
	int super;
	u8 *p;

	super = vt_open_super(&c);
	dev = &c.dev[0];
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	base = vt_locked();
	pinned = vt_pinned();
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_EQ(vt_locked(), base + SZ_1M);
	ASSERT_EQ(vt_pinned(), pinned + SZ_1M / SZ_4K);
	vt_expect_tables(dev, BASE, SZ_1M, NULL, 0, 0);

	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0));
	vt_expect_dma(dev, BASE, p);
	vt_expect_dma(dev, BASE + SZ_1M - SZ_4K, p + SZ_1M - SZ_4K);
	ASSERT_EQ(vt_locked(), base + SZ_1M);
	ASSERT_EQ(vt_pinned(), pinned + SZ_1M / SZ_4K);

	/* Unmapping ends the DMA, and leaves the memory pinned and paid for. */
	ASSERT_OK(vt_unmap(&c, BASE, SZ_1M, &n));
	ASSERT_EQ(n, SZ_1M);
	vt_expect_no_dma(dev, BASE, p);
	ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 1);
	ASSERT_EQ(vt_locked(), base + SZ_1M);
	ASSERT_EQ(vt_pinned(), pinned + SZ_1M / SZ_4K);

	/* A part of it, elsewhere, and twice. */
	ASSERT_OK(vt_map_super(&c, BASE + SZ_1G, p + SZ_64K, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_map_super(&c, BASE + 2 * SZ_1G, p + SZ_64K, SZ_64K, VT_RW, 0));
	vt_expect_dma(dev, BASE + SZ_1G + SZ_4K, p + SZ_64K + SZ_4K);
	vt_expect_dma(dev, BASE + 2 * SZ_1G + SZ_4K, p + SZ_64K + SZ_4K);
	ASSERT_EQ(vt_locked(), base + SZ_1M);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1G, SZ_64K, NULL));
	vt_expect_dma(dev, BASE + 2 * SZ_1G, p + SZ_64K);
	ASSERT_OK(vt_unmap(&c, BASE + 2 * SZ_1G, SZ_64K, NULL));

	ASSERT_OK(vt_super_unregister(super, p, SZ_1M));
	ASSERT_EQ(vt_locked(), base);
	ASSERT_EQ(vt_pinned(), pinned);
}

/* Two devices in two containers reach the same memory. */
static void two_containers(void)
{
	struct vt_container c, d;
	struct vt_dev *a, *b;
	u8 buf[64], back[64];
	int super;
	u64 base;
	u8 *p;

	super = vt_open_super(&c);
	a = &c.dev[0];
	b = join(&d, super, 1);
	p = vt_alloc(VT_MEM_THP, SIZE);
	base = vt_locked();
	ASSERT_OK(vt_super_register(super, p, SIZE, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SIZE, VT_RW, SZ_2M));
	ASSERT_OK(vt_map_super(&d, 2 * BASE, p, SIZE, VT_RW, 0));
	ASSERT_EQ(vt_locked(), base + SIZE);
	ASSERT_SUPER(super, SIZE, SIZE, 1, 2);

	vt_fill(buf, sizeof(buf), 7);
	vt_dma_write(a, BASE + SZ_2M, buf, sizeof(buf));
	vt_dma_read(b, 2 * BASE + SZ_2M, back, sizeof(back));
	ASSERT_EQ(memcmp(buf, back, sizeof(buf)), 0);
	ASSERT_EQ(memcmp(buf, p + SZ_2M, sizeof(buf)), 0);

	/* The one's mapping goes, the other's stays. */
	ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));
	vt_expect_no_dma(a, BASE + SZ_2M, p + SZ_2M);
	vt_expect_dma(b, 2 * BASE + SZ_2M, p + SZ_2M);
	vt_close(&c);
	vt_expect_dma(b, 2 * BASE, p);
	ASSERT_SUPER(super, SIZE, SIZE, 1, 1);
}

static void with_granule(struct vt_container *c, u8 *mem, u64 size, u64 granule)
{
	u64 n, at = granule ? ALIGN_DOWN(size / 2, granule) : 0;
	struct vt_dev *dev = &c->dev[0];
	u64 locked = vt_locked();
	u32 avail = vt_dma_avail(c);

	ASSERT_OK(vt_map_super(c, BASE, mem, size, VT_RW, granule));
	ASSERT_EQ(vt_dma_avail(c), avail - 1);
	vt_expect_tables(dev, BASE, size, mem, VT_RW, granule);
	expect_extents(c, BASE, size, mem, VT_RW, granule);
	vt_expect_read(dev, BASE + size - SZ_4K, mem + size - SZ_4K);
	if (!granule || size / granule < 3) {
		ASSERT_EQ(vt_unmap(c, BASE, size / 2, NULL), granule == size / 2 ? 0 : -EINVAL);
		goto out;
	}

	/* A hole; other memory of the same registration in it; the piece back. */
	ASSERT_OK(vt_unmap(c, BASE + at, granule, &n));
	ASSERT_EQ(n, granule);
	vt_expect_tables(dev, BASE, at, mem, VT_RW, granule);
	vt_expect_tables(dev, BASE + at, granule, NULL, 0, 0);
	vt_expect_tables(dev, BASE + at + granule, size - at - granule, mem + at + granule, VT_RW,
		      granule);
	ASSERT_OK(vt_map_super(c, BASE + at, mem, granule, VT_RO, 0));
	vt_expect_tables(dev, BASE + at, granule, mem, VT_RO, 0);
	expect_extents(c, BASE + at, granule, mem, VT_RO, 0);
	expect_extents(c, BASE, at, mem, VT_RW, granule);
	vt_expect_read(dev, BASE + at, mem);
	ASSERT_OK(vt_unmap(c, BASE + at, granule, &n));
	ASSERT_EQ(n, granule);
	vt_expect_tables(dev, BASE + at + granule, size - at - granule, mem + at + granule, VT_RW,
		      granule);
out:
	ASSERT_EQ(vt_locked(), locked);
	ASSERT_OK(vt_unmap(c, BASE, size, NULL));
	vt_expect_tables(dev, BASE, size, NULL, 0, 0);
	ASSERT_EQ(vt_dma_avail(c), avail);
	ASSERT_EQ(vt_locked(), locked);
}

/* Map [mem, mem + size) with each granule; registered from skip bytes on. */
static void all_granules(enum vt_mem kind, u64 size, u64 skip)
{
	static const u64 granules[] = {
		0, SZ_4K, SZ_8K, SZ_64K, SZ_1M, SZ_2M, SZ_4M,
	};
	u8 *mem = vt_alloc(kind, size + skip);
	struct vt_container c;
	u64 locked;
	size_t i;
	int super;

	super = vt_open_super(&c);
	locked = vt_locked();
	ASSERT_OK(vt_super_register(super, mem + skip, size, RW));
	for (i = 0; i < ARRAY_SIZE(granules); i++)
		with_granule(&c, mem + skip, size, granules[i]);
	ASSERT_OK(vt_super_unregister(super, mem + skip, size));
	ASSERT_EQ(vt_locked(), locked);
	vt_close(&c);
}

static void granules_4k(void)
{
	all_granules(VT_MEM_4K, SZ_4M, 0);
}

static void granules_scattered(void)
{
	all_granules(VT_MEM_SCATTERED, SZ_4M, 0);
}

static void granules_thp(void)
{
	all_granules(VT_MEM_THP, SIZE, 0);
}

/* The registration begins in the middle of a huge page. */
static void granules_thp_shifted(void)
{
	all_granules(VT_MEM_THP, SIZE, SZ_1M + SZ_4K);
}

static void granules_hugetlb(void)
{
	all_granules(VT_MEM_HUGE_2M, SIZE, 0);
}

static void granules_hugetlb_1g(void)
{
	u8 *mem = vt_alloc(VT_MEM_HUGE_1G, SZ_1G);
	struct vt_container c;
	int super;

	super = vt_open_super(&c);
	ASSERT_OK(vt_super_register(super, mem, SZ_1G, RW));
	with_granule(&c, mem, SZ_1G, 0);
	with_granule(&c, mem, SZ_1G, SZ_2M);
	with_granule(&c, mem, SZ_1G, SZ_1G);
	with_granule(&c, mem + SZ_2M, 8 * SZ_2M, SZ_2M);
	vt_close(&c);
}

/*
 * On machines that can tell, huge pages give IOMMU pages of exactly 2 MiB. AMD joins two of
 * them if they happen to be neighbours.
 */
static void large_pages(void)
{
	struct vt_container c;
	struct vt_extents x;
	u64 size = 0;
	int super;
	size_t i;
	u8 *mem;

	super = vt_open_super(&c);
	vt_need_tables(&c.dev[0]);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_super_register(super, mem, SIZE, RW));
	ASSERT_OK(vt_map_super(&c, BASE, mem, SIZE, VT_RW, SZ_2M));
	/* A part that begins and ends within large pages; AMD has 1 MiB for these. */
	ASSERT_OK(vt_map_super(&c, 2 * BASE + SZ_1M, mem + SZ_1M, 2 * SZ_2M, VT_RW, 0));
	ASSERT_GE(vt_pgsize_at(&c.dev[0], BASE), SZ_2M);
	ASSERT_GE(vt_pgsize_at(&c.dev[0], BASE + SIZE - SZ_4K), SZ_2M);
	ASSERT_LT(vt_pgsize_at(&c.dev[0], 2 * BASE + SZ_1M), SZ_2M);
	ASSERT_EQ(vt_pgsize_at(&c.dev[0], 2 * BASE + SZ_2M), SZ_2M);
	ASSERT_LT(vt_pgsize_at(&c.dev[0], 2 * BASE + 2 * SZ_2M), SZ_2M);
	vt_extents_read(&c, BASE, SIZE, 8, &x);
	for (i = 0; i < x.nr; i++) {
		ASSERT_GE(x.e[i].pgsize, SZ_2M);
		if (!vt_any_pgsize(&c))
			ASSERT_EQ(x.e[i].pgsize, SZ_2M);
		ASSERT_EQ(x.e[i].flags, VFIO_DMA_EXTENT_READ | VFIO_DMA_EXTENT_WRITE |
			  VFIO_DMA_EXTENT_SUPER);
		size += x.e[i].size;
	}
	ASSERT_EQ(size, SIZE);
	vt_extents_free(&x);
}

static void no_hugepages(void)
{
	struct vt_container c;
	int super;
	u8 *mem;

	super = vt_open_super(&c);
	vt_need_tables(&c.dev[0]);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	vt_set_param("disable_hugepages", 1);
	ASSERT_OK(vt_super_register(super, mem, SIZE, RW));
	ASSERT_OK(vt_map_super(&c, BASE, mem, SIZE, VT_RW, SZ_2M));
	ASSERT_OK(vt_map_super(&c, 2 * BASE, mem, SIZE, VT_RW, 0));
	ASSERT_EQ(vt_pgsize_at(&c.dev[0], BASE), SZ_4K);
	ASSERT_EQ(vt_pgsize_at(&c.dev[0], 2 * BASE), SZ_4K);
	vt_expect_read(&c.dev[0], BASE + SZ_2M, mem + SZ_2M);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_2M, NULL));
}

/* The kernel maps no more than 4 GiB at once: up to a multiple of that. */
static void in_two_parts(enum vt_mem kind, u64 iova, u64 size, u64 granule)
{
	struct vt_container c;
	u64 size_left = size, n;
	struct vt_dev *dev;
	int super;
	u8 *p;

	super = vt_open_super(&c);
	dev = &c.dev[0];
	p = vt_alloc(kind, size);
	ASSERT_OK(vt_super_register(super, p, size, RW));
	ASSERT_OK(vt_map_super(&c, iova, p, size, VT_RW, granule));
	expect_extents(&c, iova, size, p, VT_RW, granule);
	vt_expect_dma(dev, iova, p);
	vt_expect_dma(dev, BASE - SZ_4K, p + (BASE - SZ_4K - iova));
	vt_expect_dma(dev, BASE, p + (BASE - iova));
	vt_expect_dma(dev, iova + size - SZ_4K, p + size - SZ_4K);
	if (granule) {
		/* The last granule of one part and the first of the other */
		ASSERT_OK(vt_unmap(&c, BASE - granule, 2 * granule, &n));
		ASSERT_EQ(n, 2 * granule);
		vt_expect_tables(dev, iova, BASE - granule - iova, p, VT_RW, granule);
		vt_expect_tables(dev, BASE - granule, 2 * granule, NULL, 0, 0);
		vt_expect_tables(dev, BASE + granule, iova + size - BASE - granule,
				 p + (BASE + granule - iova), VT_RW, granule);
		vt_expect_dma(dev, BASE + granule, p + (BASE + granule - iova));
		size_left -= 2 * granule;
	}
	ASSERT_OK(vt_unmap(&c, iova, size, &n));
	ASSERT_EQ(n, size_left);
	vt_expect_tables(dev, iova, size, NULL, 0, 0);
	ASSERT_OK(vt_super_unregister(super, p, size));
	close(super);
	vt_close(&c);
}

static void in_parts(void)
{
	in_two_parts(VT_MEM_SCATTERED, BASE - SZ_4K, 2 * SZ_4K, 0);
	in_two_parts(VT_MEM_SCATTERED, BASE - SZ_1M, 3 * SZ_1M, SZ_4K);
	in_two_parts(VT_MEM_SCATTERED, BASE - SZ_2M, 2 * SZ_2M, 0);
	in_two_parts(VT_MEM_THP, BASE - SZ_2M, 2 * SZ_2M, SZ_4K);
}

/* Mappings of all sorts side by side; EXTENTS tells which is which. */
static void beside_plain(void)
{
	struct vt_container c;
	struct vt_extents x;
	u8 *mem, *own;
	int super;
	u64 base;
	size_t i;

	super = vt_open_super(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	own = vt_alloc(VT_MEM_THP, SIZE);
	base = vt_locked();
	ASSERT_OK(vt_super_register(super, mem, SIZE, RW));
	ASSERT_OK(vt_map_super(&c, BASE, mem, SIZE, VT_RW, SZ_2M));
	ASSERT_OK(vt_map(&c, BASE + SIZE, own, SIZE, VT_RW, SZ_2M));
	ASSERT_EQ(vt_locked(), base + 2 * SIZE);
	/* Each into a hole of the other. */
	ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));
	ASSERT_OK(vt_unmap(&c, BASE + SIZE + SZ_2M, SZ_2M, NULL));
	ASSERT_EQ(vt_locked(), base + 2 * SIZE - SZ_2M);
	ASSERT_OK(vt_map(&c, BASE + SZ_2M, own + SZ_2M, SZ_2M, VT_RO, SZ_4K));
	ASSERT_OK(vt_map_super(&c, BASE + SIZE + SZ_2M, mem + SZ_2M, SZ_2M, VT_RW, 0));
	ASSERT_EQ(vt_locked(), base + 2 * SIZE);
	vt_expect_dma(&c.dev[0], BASE + SIZE + SZ_2M, mem + SZ_2M);
	vt_expect_read(&c.dev[0], BASE + SZ_2M, own + SZ_2M);
	vt_expect_dma(&c.dev[0], BASE + 2 * SZ_2M, mem + 2 * SZ_2M);

	vt_extents_read(&c, BASE, 2 * SIZE, 64, &x);
	for (i = 0; i < x.nr; i++) {
		struct vfio_dma_extent *e = &x.e[i];
		bool plain = (e->iova >= BASE + SZ_2M && e->iova < BASE + 2 * SZ_2M) ||
			     (e->iova >= BASE + SIZE &&
			      !(e->iova >= BASE + SIZE + SZ_2M &&
				e->iova < BASE + SIZE + 2 * SZ_2M));

		ASSERT_EQ(!(e->flags & VFIO_DMA_EXTENT_SUPER), plain);
	}
	vt_extents_free(&x);

	/* One unmap over all of it gives back what was charged, and no more. */
	ASSERT_OK(vt_unmap(&c, BASE, 2 * SIZE, &base));
	ASSERT_EQ(base, 2 * SIZE);
	ASSERT_SUPER(super, SIZE, SIZE, 1, 1);
	ASSERT_OK(vt_super_unregister(super, mem, SIZE));
}

/* Memory of two processes, or of a file: what can be pinned can be registered. */
static void file_memory(void)
{
	struct vt_container c;
	int super, fd;
	u8 *p, *q;

	super = vt_open_super(&c);
	fd = syscall(SYS_memfd_create, "memory", 0);
	ASSERT_GE(fd, 0);
	ASSERT_OK(ftruncate(fd, SZ_1M));
	p = mmap(NULL, SZ_1M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	q = mmap(NULL, SZ_1M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_TRUE(p != MAP_FAILED && q != MAP_FAILED);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_64K));
	vt_expect_dma(&c.dev[0], BASE + 3 * SZ_4K, q + 3 * SZ_4K);
	/* The same pages by their other address are not registered. */
	ASSERT_EQ(vt_map_super(&c, BASE + SZ_1M, q, SZ_1M, VT_RW, 0), -ENOENT);
	ASSERT_OK(vt_super_register(super, q, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE + SZ_1M, q, SZ_1M, VT_RW, 0));
	ASSERT_SUPER(super, 2 * SZ_1M, 2 * SZ_1M, 2, 1);
}

/* ---- Permissions ---- */

static void read_only(void)
{
	struct vt_container c;
	int super, fd;
	u8 *p, *ro;

	super = vt_open_super(&c);
	/* Memory that the process itself cannot write. */
	fd = syscall(SYS_memfd_create, "memory", 0);
	ASSERT_GE(fd, 0);
	ASSERT_OK(ftruncate(fd, SZ_64K));
	p = mmap(NULL, SZ_64K, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	ro = mmap(NULL, SZ_64K, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	ASSERT_TRUE(p != MAP_FAILED && ro != MAP_FAILED);
	ASSERT_OK(vt_super_register(super, ro, SZ_64K, RO));
	ASSERT_EQ(vt_map_super(&c, BASE, ro, SZ_64K, VT_RW, 0), -EPERM);
	ASSERT_EQ(vt_map_super(&c, BASE, ro, SZ_64K, VT_WO, SZ_4K), -EPERM);
	vt_expect_tables(&c.dev[0], BASE, SZ_64K, NULL, 0, 0);
	ASSERT_OK(vt_map_super(&c, BASE, ro, SZ_64K, VT_RO, 0));
	vt_expect_tables(&c.dev[0], BASE, SZ_64K, ro, VT_RO, 0);
	vt_expect_read(&c.dev[0], BASE, p);
	vt_expect_no_dma(&c.dev[0], BASE + SZ_4K, p + SZ_4K);

	/* A mapping may ask for less than there is. */
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
	ASSERT_OK(vt_map_super(&c, BASE + SZ_1M, p, SZ_64K, VT_RO, SZ_64K));
	vt_expect_no_dma(&c.dev[0], BASE + SZ_1M + SZ_8K, p + SZ_8K);
	ASSERT_OK(vt_map_super(&c, BASE + 2 * SZ_1M, p, SZ_64K, VT_RW, SZ_64K));
	vt_expect_dma(&c.dev[0], BASE + 2 * SZ_1M + SZ_8K, p + SZ_8K);
}

/* Memory that was never written, and is registered only for reading, has its own page. */
static void read_only_untouched(void)
{
	struct vt_container c;
	int super;
	u8 *p;

	super = vt_open_super(&c);
	p = mmap(NULL, SZ_64K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RO));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_64K, VT_RO, 0));
	vt_expect_read(&c.dev[0], BASE + SZ_4K, p + SZ_4K);
}

/* ---- A mapping has the registered pages, whatever is at the address now ---- */

static void moved_away(void)
{
	struct vt_container c, d;
	struct vt_dev *b;
	u8 *p, *away, *other;
	int super;

	super = vt_open_super(&c);
	b = join(&d, super, 1);
	p = vt_alloc(VT_MEM_THP, SIZE);
	away = vt_alloc(VT_MEM_4K, SIZE);
	ASSERT_OK(vt_super_register(super, p, SIZE, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SIZE, VT_RW, SZ_2M));

	ASSERT_TRUE(mremap(p, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, away) == away);
	other = mmap(p, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		     0);
	ASSERT_TRUE(other == p);
	memset(other, 0x77, SIZE);

	vt_expect_dma(&c.dev[0], BASE + SZ_2M, away + SZ_2M);
	/* A mapping that is made only now, too: of the pages that were there. */
	ASSERT_OK(vt_map_super(&d, BASE, p, SIZE, VT_RW, SZ_2M));
	vt_expect_tables(b, BASE, SIZE, away, VT_RW, SZ_2M);
	vt_expect_dma(b, BASE + SZ_2M + SZ_4K, away + SZ_2M + SZ_4K);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));
	ASSERT_OK(vt_map_super(&c, BASE + SZ_2M, p + SZ_2M, SZ_2M, VT_RW, SZ_4K));
	vt_expect_tables(&c.dev[0], BASE + SZ_2M, SZ_2M, away + SZ_2M, VT_RW, SZ_4K);
	vt_expect_dma(&c.dev[0], BASE + SZ_2M, away + SZ_2M);
	ASSERT_EQ(other[SZ_2M], 0x77);
	/* The other address is not its name. */
	ASSERT_EQ(vt_map_super(&c, 2 * BASE, away, SIZE, VT_RW, SZ_2M), -ENOENT);
	/* An ordinary mapping of the address means what is there. */
	ASSERT_OK(vt_map(&c, 2 * BASE, p, SZ_4K, VT_RW, 0));
	vt_expect_dma(&c.dev[0], 2 * BASE, p);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_OK(vt_unmap_all(&d, NULL));
	ASSERT_OK(vt_super_unregister(super, p, SIZE));
	/* And so does registering it again. */
	ASSERT_OK(vt_super_register(super, p, SIZE, RW));
	ASSERT_OK(vt_map_super(&d, BASE, p, SIZE, VT_RO, 0));
	vt_expect_tables(b, BASE, SIZE, other, VT_RO, 0);
}

/* Only the super-container still has the pages. */
static void unmapped_from_process(enum vt_mem kind, u64 size)
{
	u8 buf[64], back[64], *p;
	struct vt_container c, d;
	struct vt_dev *b;
	int super;

	super = vt_open_super(&c);
	b = join(&d, super, 1);
	p = vt_alloc(kind, size);
	vt_fill(p, size, 3);
	ASSERT_OK(vt_super_register(super, p, size, RW));
	vt_free(p, kind, size);
	ASSERT_SUPER(super, size, size, 1, 2);

	ASSERT_OK(vt_map_super(&c, BASE, p, size, VT_RW, 0));
	vt_dma_read(&c.dev[0], BASE, back, sizeof(back));
	ASSERT_TRUE(vt_filled(back, sizeof(back), 3));
	ASSERT_OK(vt_map_super(&d, BASE, p, size, VT_RW, SZ_4K));
	vt_fill(buf, sizeof(buf), 4);
	vt_dma_write(&c.dev[0], BASE + size - SZ_4K, buf, sizeof(buf));
	vt_dma_read(b, BASE + size - SZ_4K, back, sizeof(back));
	ASSERT_EQ(memcmp(buf, back, sizeof(buf)), 0);
}

static void unmapped_4k(void)
{
	unmapped_from_process(VT_MEM_4K, SZ_1M);
}

static void unmapped_thp(void)
{
	unmapped_from_process(VT_MEM_THP, SZ_4M);
}

static void unmapped_hugetlb(void)
{
	unmapped_from_process(VT_MEM_HUGE_2M, SZ_4M);
}

/* madvise() gives the process new pages; the device keeps the old ones. */
static void dontneed(void)
{
	struct vt_container c;
	u8 back[64], *p;
	int super;

	super = vt_open_super(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	vt_fill(p, SZ_1M, 5);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(madvise(p, SZ_1M, MADV_DONTNEED));
	memset(p, 0x11, SZ_1M);
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0));
	vt_dma_read(&c.dev[0], BASE, back, sizeof(back));
	ASSERT_TRUE(vt_filled(back, sizeof(back), 5));
	memset(back, 0x22, sizeof(back));
	vt_dma_write(&c.dev[0], BASE, back, sizeof(back));
	ASSERT_EQ(p[0], 0x11);
}

/* A process that has other memory at the address, or none. */
static void other_process_maps(void)
{
	struct vt_container c, d;
	int super, sock;
	struct vt_dev *b;
	u64 base;
	pid_t pid;
	u8 *p;

	super = vt_open_super(&c);
	p = vt_alloc(VT_MEM_THP, SIZE);
	memset(p, 0, SIZE);
	ASSERT_OK(vt_super_register(super, p, SIZE, RW));
	pid = vt_fork_peer(&sock);
	if (!pid) {
		int got = vt_recv_fd(sock);

		ASSERT_OK(munmap(p, SZ_2M));
		memset(p + SZ_2M, 0x77, SIZE - SZ_2M);
		b = join(&d, got, 1);
		base = vt_locked();
		ASSERT_OK(vt_map_super(&d, BASE, p, SIZE, VT_RW, SZ_2M));
		ASSERT_EQ(vt_locked(), base);
		/* Is what the parent has, before and after. */
		{
			u8 buf[64];

			vt_dma_read(b, BASE + SZ_2M, buf, sizeof(buf));
			ASSERT_TRUE(vt_filled(buf, sizeof(buf), 21));
			vt_fill(buf, sizeof(buf), 22);
			vt_dma_write(b, BASE, buf, sizeof(buf));
			vt_dma_write(b, BASE + SIZE - SZ_4K, buf, sizeof(buf));
		}
		ASSERT_EQ(p[SIZE - SZ_4K], 0x77);
		ASSERT_EQ(p[SZ_2M], 0x77);
		vt_tell(sock, 1);
		vt_hear(sock);
		exit(0);
	}
	base = vt_locked();
	vt_fill(p + SZ_2M, 64, 21);
	vt_send_fd(sock, super);
	vt_hear(sock);
	ASSERT_TRUE(vt_filled(p, 64, 22));
	ASSERT_TRUE(vt_filled(p + SIZE - SZ_4K, 64, 22));
	ASSERT_EQ(vt_locked(), base);
	ASSERT_SUPER(super, SIZE, SIZE, 1, 2);
	ASSERT_EQ(vt_super_unregister(super, p, SIZE), -EBUSY);
	vt_tell(sock, 1);
	vt_wait_exit(pid);
	ASSERT_OK(vt_super_unregister(super, p, SIZE));
}

/* Another process maps: its memory is not looked at, and it is not charged. */
static void child_maps_in_container(void)
{
	struct vt_container c;
	pid_t pid;
	int super;
	u64 base;
	u8 *p;

	super = vt_open_super(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	base = vt_locked();
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		ASSERT_OK(munmap(p, SZ_1M));
		ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_64K));
		ASSERT_EQ(vt_locked(), 0);
		exit(0);
	}
	vt_wait_exit(pid);
	ASSERT_EQ(vt_locked(), base + SZ_1M);
	vt_expect_dma(&c.dev[0], BASE + SZ_64K, p + SZ_64K);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_64K, SZ_64K, NULL));
	vt_expect_dma(&c.dev[0], BASE, p);
	ASSERT_EQ(vt_locked(), base + SZ_1M);
}

/* ---- VADDR ---- */

/* UNMAP with FLAG_VADDR passes over these mappings. */
static void vaddr_passes_over(void)
{
	struct vt_container c;
	u8 *p, *own;
	int super;
	u64 n = 1;

	super = vt_open_super(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	own = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0));
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, SZ_1M, &n));
	EXPECT_EQ(n, 0);
	/* It is not without a vaddr now, nor is its entry gone. */
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE, p, SZ_1M), EINVAL);
	vt_expect_dma(&c.dev[0], BASE, p);

	/* Between others, and in holes of theirs, and with holes of its own. */
	ASSERT_OK(vt_map(&c, BASE - SZ_1M, own, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, own, 4 * SZ_64K, VT_RW, SZ_64K));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M + SZ_64K, SZ_64K, NULL));
	ASSERT_OK(vt_map_super(&c, BASE + SZ_1M + SZ_64K, p, SZ_64K, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M + SZ_64K + SZ_4K, SZ_4K, NULL));
	ASSERT_OK(vt_unmap_vaddr(&c, BASE - SZ_1M, 4 * SZ_1M, &n));
	EXPECT_EQ(n, 4 * SZ_64K);
	vt_expect_dma(&c.dev[0], BASE + SZ_1M + SZ_64K, p);
	ASSERT_EQ(vt_map_vaddr(&c, BASE, p, SZ_1M), -EINVAL);
	/* A new one can be made while vaddrs are gone. */
	ASSERT_OK(vt_map_super(&c, BASE + 8 * SZ_1M, p, SZ_1M, VT_RW, 0));
	vt_expect_dma(&c.dev[0], BASE + 8 * SZ_1M + SZ_4K, p + SZ_4K);
	ASSERT_OK(vt_map_vaddr(&c, BASE + SZ_1M, own, 4 * SZ_64K));
	ASSERT_OK(vt_map_vaddr(&c, BASE - SZ_1M, own, SZ_64K));
	ASSERT_OK(vt_unmap_flags(&c, VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL, 0, 0,
				 &n));
	/* The device's own page is an ordinary mapping, too. */
	EXPECT_EQ(n, 4 * SZ_64K + SZ_4K);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_1M, &n));
	EXPECT_EQ(n, SZ_1M);
}

/* ---- Dirty pages ---- */

static u64 bitmap[VT_BITMAP_BYTES(SZ_1M) / 8];

static void get_bits(struct vt_container *c, u64 iova, u64 size)
{
	memset(bitmap, 0, sizeof(bitmap));
	ASSERT_OK(vt_dirty_get(c, iova, size, bitmap, VT_BITMAP_BYTES(size)));
}

/* A device that does not tell what it writes: all that is mapped is dirty. */
static void dirty(void)
{
	struct vt_container c;
	int super;
	u8 *p;

	super = vt_open_super(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_64K));
	ASSERT_OK(vt_dirty_start(&c));
	get_bits(&c, BASE, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 256), 256);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_64K, SZ_64K, NULL));
	get_bits(&c, BASE, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 256), 240);
	EXPECT_EQ(vt_bits(bitmap, 16, 16), 0);
	ASSERT_EQ(vt_dirty_get(&c, BASE + SZ_4K, SZ_64K, bitmap, sizeof(bitmap)), -EINVAL);
	/* While bits are kept, too, one can be made and goes. */
	ASSERT_OK(vt_map_super(&c, BASE + SZ_64K, p, SZ_64K, VT_RW, 0));
	get_bits(&c, BASE, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 256), 256);
	memset(bitmap, 0, sizeof(bitmap));
	ASSERT_OK(vt_unmap_dirty(&c, BASE, SZ_1M, bitmap, VT_BITMAP_BYTES(SZ_1M), NULL));
	EXPECT_EQ(vt_bits(bitmap, 0, 256), 256);
	ASSERT_OK(vt_dirty_stop(&c));
	ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 1);
}

VTEST_MAIN(
	VTEST(dma),
	VTEST(two_containers),
	VTEST(granules_4k),
	VTEST(granules_scattered),
	VTEST(granules_thp),
	VTEST(granules_thp_shifted),
	VTEST(granules_hugetlb),
	VTEST(granules_hugetlb_1g),
	VTEST(large_pages),
	VTEST(no_hugepages),
	VTEST(in_parts),
	VTEST(beside_plain),
	VTEST(file_memory),
	VTEST(read_only),
	VTEST(read_only_untouched),
	VTEST(moved_away),
	VTEST(unmapped_4k),
	VTEST(unmapped_thp),
	VTEST(unmapped_hugetlb),
	VTEST(dontneed),
	VTEST(other_process_maps),
	VTEST(child_maps_in_container),
	VTEST(vaddr_passes_over),
	VTEST(dirty),
)
