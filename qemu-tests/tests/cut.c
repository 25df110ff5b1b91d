// SPDX-License-Identifier: GPL-2.0
/*
 * IOMMU pages larger than a granule, of which a piece is unmapped: page sizes, DMA beside
 * the piece, and the page tables that are set aside for it.
 */
#include <fcntl.h>

#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define SIZE	(32 * SZ_2M)

static void open_cut(struct vt_container *c)
{
	vt_open_granule(c);
	vt_need_cuts();
	vt_need_tables(&c->dev[0]);
}

/* Pages that hold page tables of IOMMUs, or are set aside for that, in the system */
static u64 table_pages(void)
{
	ASSERT_OK(vt_write_file("/proc/sys/vm/stat_refresh", "1"));
	return vt_stat_field("/proc/vmstat", "nr_iommu_pages");
}

/* What the tables of a plain mapping take */
static u64 plain_tables(struct vt_container *c, void *mem, u64 size)
{
	u64 n;

	ASSERT_OK(vt_map(c, BASE, mem, size, VT_RW, 0));
	n = table_pages();
	ASSERT_OK(vt_unmap(c, BASE, size, NULL));
	return n;
}

static u64 pgsize_at(struct vt_container *c, u64 iova)
{
	u64 pgsize = vt_pgsize_at(&c->dev[0], iova);
	struct vt_extents x;

	vt_extents_read(c, ALIGN_DOWN(iova, SZ_4K), SZ_4K, 1, &x);
	ASSERT_EQ(x.nr, pgsize ? 1 : 0);
	if (pgsize)
		ASSERT_EQ(x.e[0].pgsize, pgsize);
	vt_extents_free(&x);
	return pgsize;
}

/* All pages of the range have at least this size. */
static void expect_at_least(struct vt_container *c, u64 iova, u64 size, u64 pgsize)
{
	struct vt_extents x;
	u64 seen = 0;
	size_t i;

	vt_extents_read(c, iova, size, 64, &x);
	for (i = 0; i < x.nr; i++) {
		ASSERT_GE(x.e[i].pgsize, pgsize);
		ASSERT_EQ(x.e[i].pgsize, vt_pgsize_at(&c->dev[0], x.e[i].iova));
		seen += x.e[i].size;
	}
	ASSERT_EQ(seen, size);
	vt_extents_free(&x);
}

/* A mapping of mem, and in it a hole. */
static void expect_hole_in(struct vt_container *c, u64 size, u8 *mem, u64 off, u64 hole,
			   u32 flags, u64 granule)
{
	struct vt_dev *dev = &c->dev[0];

	if (off)
		vt_expect_tables(dev, BASE, off, mem, flags, granule);
	vt_expect_tables(dev, BASE + off, hole, NULL, 0, 0);
	off += hole;
	if (off < size)
		vt_expect_tables(dev, BASE + off, size - off, mem + off, flags, granule);
}

static void sizes(enum vt_mem kind, u64 size, u64 granule)
{
	struct vt_container c;
	u8 *mem;

	open_cut(&c);
	mem = vt_alloc(kind, size);
	ASSERT_OK(vt_map(&c, BASE, mem, size, VT_RW, granule));
	expect_at_least(&c, BASE, size, vt_mem_pgsize(kind));
	vt_expect_tables(&c.dev[0], BASE, size, mem, VT_RW, granule);
	ASSERT_OK(vt_unmap(&c, BASE, size, NULL));
	EXPECT_EQ(pgsize_at(&c, BASE), 0);
}

static void sizes_thp_4k(void)
{
	sizes(VT_MEM_THP, SIZE, SZ_4K);
}

static void sizes_thp_64k(void)
{
	sizes(VT_MEM_THP, SIZE, SZ_64K);
}

static void sizes_hugetlb_2m(void)
{
	sizes(VT_MEM_HUGE_2M, SIZE, SZ_4K);
}

static void sizes_hugetlb_1g(void)
{
	sizes(VT_MEM_HUGE_1G, SZ_1G, SZ_2M);
}

static void sizes_hugetlb_1g_4k(void)
{
	sizes(VT_MEM_HUGE_1G, SZ_1G, SZ_4K);
}

static void sizes_disable_hugepages(void)
{
	struct vt_container c;
	u64 tables;
	u8 *mem;

	open_cut(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	vt_set_param("disable_hugepages", 1);
	tables = plain_tables(&c, mem, SIZE);
	ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
	EXPECT_EQ(pgsize_at(&c, BASE), SZ_4K);
	EXPECT_EQ(pgsize_at(&c, BASE + SIZE - SZ_4K), SZ_4K);
	/* Nothing can be cut, so nothing is set aside. */
	EXPECT_EQ(table_pages(), tables);

	/* What has been mapped before is cut all the same. */
	vt_set_param("disable_hugepages", 0);
	ASSERT_OK(vt_unmap(&c, BASE, SIZE, NULL));
	ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
	expect_at_least(&c, BASE, SIZE, SZ_2M);
	vt_set_param("disable_hugepages", 1);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, SZ_4K, NULL));
	expect_hole_in(&c, SIZE, mem, SZ_1M, SZ_4K, VT_RW, SZ_4K);
}

static void let_amd_cut(bool yes)
{
	int fd = open("/sys/module/amd_cuts/parameters/on", O_WRONLY);

	ASSERT_TRUE(fd >= 0);
	ASSERT_EQ(write(fd, yes ? "Y" : "N", 1), 1);
	close(fd);
}

/* With NpCache a hypervisor may shadow the tables: granules are laid down. */
static void sizes_np_cache(void)
{
	struct vt_container c;
	u8 *mem;

	if (!vt_machine_is("amd"))
		SKIP("only AMD IOMMUs have NpCache");
	vt_need_cuts();
	let_amd_cut(false);
	open_cut(&c);
	let_amd_cut(true);
	vt_edu_enable(&c.dev[0]);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
	EXPECT_EQ(pgsize_at(&c, BASE), SZ_4K);
	EXPECT_EQ(pgsize_at(&c, BASE + SIZE - SZ_4K), SZ_4K);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, SZ_4K, NULL));
	vt_expect_no_dma(&c.dev[0], BASE + SZ_1M, mem + SZ_1M);
	vt_expect_dma(&c.dev[0], BASE + SZ_1M + SZ_4K, mem + SZ_1M + SZ_4K);
}

/* A piece of a page: the rest of it is where it was, and other pages are as they were. */
static void pieces_of(enum vt_mem kind, u64 size, u64 granule, u32 flags)
{
	u64 pgsize = vt_mem_pgsize(kind), n, at[] = {
		0, granule, size / 2, size / 2 - granule, pgsize - granule, size - granule,
	};
	struct vt_container c;
	size_t i;
	u8 *mem;

	open_cut(&c);
	mem = vt_alloc(kind, size);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		ASSERT_OK(vt_map(&c, BASE, mem, size, flags, granule));
		ASSERT_OK(vt_unmap(&c, BASE + at[i], granule, &n));
		ASSERT_EQ(n, granule);
		expect_hole_in(&c, size, mem, at[i], granule, flags, granule);
		if (size > pgsize && !vt_any_pgsize(&c))
			ASSERT_EQ(pgsize_at(&c, at[i] < pgsize ? BASE + pgsize : BASE), pgsize);
		ASSERT_OK(vt_unmap(&c, BASE, size, &n));
		ASSERT_EQ(n, size - granule);
		vt_expect_tables(&c.dev[0], BASE, size, NULL, 0, 0);
	}
	vt_close(&c);
	vt_free(mem, kind, size);
}

static void pieces_of_2m(void)
{
	pieces_of(VT_MEM_THP, 2 * SZ_2M, SZ_4K, VT_RW);
	pieces_of(VT_MEM_THP, 2 * SZ_2M, SZ_64K, VT_RW);
}

static void pieces_of_2m_read_only(void)
{
	pieces_of(VT_MEM_THP, 2 * SZ_2M, SZ_4K, VT_RO);
}

static void pieces_of_1g(void)
{
	pieces_of(VT_MEM_HUGE_1G, SZ_1G, SZ_2M, VT_RW);
	pieces_of(VT_MEM_HUGE_1G, SZ_1G, SZ_4K, VT_RW);
}

/* A range that begins in one page and ends in another. */
static void both_ends(void)
{
	struct vt_container c;
	u64 n, hole = 3 * SZ_2M - 2 * SZ_4K;
	u8 *mem;

	open_cut(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4K, hole, &n));
	ASSERT_EQ(n, hole);
	expect_hole_in(&c, SIZE, mem, SZ_4K, hole, VT_RW, SZ_4K);
	EXPECT_GE(pgsize_at(&c, BASE + 4 * SZ_2M), SZ_2M);

	/* The two pages that are left there, at once. */
	ASSERT_OK(vt_unmap(&c, BASE, 3 * SZ_2M, &n));
	ASSERT_EQ(n, 2 * SZ_4K);
	expect_hole_in(&c, SIZE, mem, 0, 3 * SZ_2M, VT_RW, SZ_4K);
}

/* As many tables as it takes to lay the granules down, in use or set aside, and no more. */
static void set_aside(enum vt_mem kind, u64 size, u64 granule, u64 want)
{
	u64 base, plain, at, step = size / 16;
	struct vt_container c;
	u8 *mem;

	open_cut(&c);
	mem = vt_alloc(kind, size);
	plain = plain_tables(&c, mem, size);
	base = table_pages();

	ASSERT_OK(vt_map(&c, BASE, mem, size, VT_RW, granule));
	ASSERT_EQ(table_pages(), plain + want);

	/* Tables come into use: their number stays. */
	for (at = step / 2; at < size; at += step) {
		ASSERT_OK(vt_unmap(&c, BASE + at, granule, NULL));
		ASSERT_EQ(table_pages(), plain + want);
	}

	/* Other large pages are mapped there: for each table that goes one is set aside. */
	ASSERT_OK(vt_unmap(&c, BASE, size, NULL));
	ASSERT_LE(table_pages(), plain + want);
	ASSERT_OK(vt_map(&c, BASE, mem, size, VT_RW, granule));
	ASSERT_EQ(table_pages(), plain + want);
	expect_at_least(&c, BASE, size, vt_mem_pgsize(kind));

	/* What goes whole takes along what was set aside for it. */
	ASSERT_OK(vt_unmap(&c, BASE, size, NULL));
	ASSERT_EQ(table_pages(), base);
}

static void set_aside_2m(void)
{
	set_aside(VT_MEM_THP, SIZE, SZ_4K, SIZE / SZ_2M);
}

static void set_aside_2m_whole(void)
{
	set_aside(VT_MEM_THP, SIZE, SZ_2M, 0);
}

static void set_aside_1g(void)
{
	set_aside(VT_MEM_HUGE_1G, SZ_1G, SZ_2M, 1);
}

static void set_aside_1g_4k(void)
{
	set_aside(VT_MEM_HUGE_1G, SZ_1G, SZ_4K, 513);
}

/* Small pages need no tables but those they have. */
static void set_aside_4k(void)
{
	struct vt_container c;
	u64 plain;
	u8 *mem;

	open_cut(&c);
	mem = vt_alloc(VT_MEM_SCATTERED, SZ_4M);
	plain = plain_tables(&c, mem, SZ_4M);
	ASSERT_OK(vt_map(&c, BASE, mem, SZ_4M, VT_RW, SZ_4K));
	ASSERT_EQ(table_pages(), plain);
}

/* The container ends with all there is: cut, set aside, and free. */
static void set_aside_is_freed(void)
{
	u64 base = table_pages();
	struct vt_container c;
	u8 *mem;

	open_cut(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, SZ_4K, NULL));
	vt_close(&c);
	ASSERT_EQ(table_pages(), base);
}

/* Page tables that the cgroup is charged with */
static u64 charged_tables(void)
{
	return vt_cgroup_stat("sec_pagetables") / SZ_4K;
}

static void set_aside_is_charged(void)
{
	struct vt_container c;
	u64 was, start;
	u8 *mem;

	open_cut(&c);
	vt_need_cgroup();
	vt_join_cgroup();
	mem = vt_alloc(VT_MEM_THP, SIZE);
	was = charged_tables();
	ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
	/* The file follows every 2 seconds. */
	for (start = vt_now(); charged_tables() < was + SIZE / SZ_2M; usleep(100000))
		ASSERT_LT(vt_now() - start, 10000000000ull);
	ASSERT_OK(vt_unmap(&c, BASE, SIZE, NULL));
	for (start = vt_now(); charged_tables() >= was + SIZE / SZ_2M; usleep(100000))
		ASSERT_LT(vt_now() - start, 10000000000ull);
	vt_remove_cgroup();
}

/* A device writes to the neighbours of a piece while that is unmapped. */
static void dma_in_flight(void)
{
	struct vt_container c;
	struct vt_faults f;
	struct vt_dev *dev;
	unsigned int i;
	u8 *mem;

	vt_open_granule(&c);
	vt_need_cuts();
	dev = &c.dev[0];
	vt_edu_enable(dev);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	vt_faults_mark(&f);
	for (i = 0; i < 16; i++) {
		u64 hole = i * SZ_2M + (37 * i % 510 + 1) * SZ_4K;
		u64 beside = i % 2 ? hole - SZ_4K : hole + SZ_4K;

		ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
		/* The device reads this page, then writes it to that one. */
		vt_fill(mem + beside, VT_DMA_MAX, i);
		vt_dma_load_start(dev, BASE + beside, VT_DMA_MAX);
		ASSERT_OK(vt_unmap(&c, BASE + hole, SZ_4K, NULL));
		vt_dma_wait(dev);
		memset(mem + beside, 0, SZ_4K);
		vt_dma_store_start(dev, BASE + beside, VT_DMA_MAX);
		ASSERT_OK(vt_unmap(&c, BASE + ALIGN_DOWN(hole, SZ_2M) + SZ_4K * 511, SZ_4K, NULL));
		vt_dma_wait(dev);
		if (!vt_filled(mem + beside, VT_DMA_MAX, i))
			FAIL("cut %u: data is wrong", i);
		ASSERT_OK(vt_unmap(&c, BASE, SIZE, NULL));
	}
	EXPECT_EQ(vt_faults_count(&f), 0);
}

/* Nothing of the old page is left where another one is mapped. */
static void hole_is_remapped(void)
{
	u64 hole = SZ_2M + 5 * SZ_4K;
	struct vt_container c;
	struct vt_dev *dev;
	u8 *mem, *other;

	vt_open_granule(&c);
	vt_need_cuts();
	dev = &c.dev[0];
	vt_edu_enable(dev);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	other = vt_alloc(VT_MEM_4K, SZ_4K);
	ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
	vt_expect_dma(dev, BASE + hole, mem + hole);
	ASSERT_OK(vt_unmap(&c, BASE + hole, SZ_4K, NULL));
	vt_expect_no_dma(dev, BASE + hole, mem + hole);
	ASSERT_OK(vt_map(&c, BASE + hole, other, SZ_4K, VT_RW, 0));
	vt_expect_dma(dev, BASE + hole, other);
	vt_expect_dma(dev, BASE + hole - SZ_4K, mem + hole - SZ_4K);
	vt_expect_dma(dev, BASE + hole + SZ_4K, mem + hole + SZ_4K);
}

/* What could only be read can still only be read. */
static void read_only(void)
{
	struct vt_container c;
	u8 *mem;

	vt_open_granule(&c);
	vt_need_cuts();
	vt_edu_enable(&c.dev[0]);
	mem = vt_alloc(VT_MEM_THP, SZ_2M);
	ASSERT_OK(vt_map(&c, BASE, mem, SZ_2M, VT_RO, SZ_4K));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, SZ_4K, NULL));
	vt_expect_read(&c.dev[0], BASE + SZ_1M + SZ_4K, mem + SZ_1M + SZ_4K);
	vt_expect_no_write(&c.dev[0], BASE + SZ_1M + SZ_4K, mem + SZ_1M + SZ_4K);
	expect_hole_in(&c, SZ_2M, mem, SZ_1M, SZ_4K, VT_RO, SZ_4K);
}

static void again_and_again(void)
{
	struct vt_container c;
	u64 tables = 0, at, n;
	unsigned int i;
	u8 *mem;

	open_cut(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	for (i = 0; i < 2000; i++) {
		ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
		at = i * 37 % (SIZE / SZ_4K) * SZ_4K;
		ASSERT_OK(vt_unmap(&c, BASE + at, SZ_4K, NULL));
		if (!(i % 100))
			expect_hole_in(&c, SIZE, mem, at, SZ_4K, VT_RW, SZ_4K);
		/* Filled again, and what is there then goes as it came. */
		ASSERT_OK(vt_map(&c, BASE + at, mem + at, SZ_4K, VT_RW, 0));
		ASSERT_OK(vt_unmap(&c, BASE, SIZE, &n));
		ASSERT_EQ(n, SIZE);
		if (i == 100)
			tables = table_pages();
	}
	ASSERT_LE(table_pages(), tables + SIZE / SZ_2M);
}

/* All of a page goes, page by page, from the middle to both ends. */
static void to_the_last_page(void)
{
	struct vt_container c;
	u64 i, at, left = SZ_2M;
	u8 *mem;

	open_cut(&c);
	mem = vt_alloc(VT_MEM_THP, SZ_2M);
	ASSERT_OK(vt_map(&c, BASE, mem, SZ_2M, VT_RW, SZ_4K));
	for (i = 0; i < 512; i++) {
		at = i % 2 ? 255 - i / 2 : 256 + i / 2;
		ASSERT_OK(vt_unmap(&c, BASE + at * SZ_4K, SZ_4K, NULL));
		left -= SZ_4K;
		ASSERT_EQ(vt_mapped_bytes(&c, BASE, SZ_2M), left);
		ASSERT_EQ(vt_locked(), left);
	}
	vt_expect_tables(&c.dev[0], BASE, SZ_2M, NULL, 0, 0);
}

/* In the tables of another device, which has the same pages, or smaller ones. */
static void expect_second(struct vt_dev *dev, u64 size, u8 *mem, u64 off, u64 hole)
{
	struct vt_container *c = dev->c;
	struct vt_info info;
	struct vt_tables t;

	vt_info(c, &info);
	vt_tables_read(dev, &t);
	vt_tables_expect(&t, &info, BASE, off, mem, VT_RW, SZ_4K, NULL);
	vt_tables_expect(&t, &info, BASE + off, hole, NULL, 0, 0, NULL);
	vt_tables_expect(&t, &info, BASE + off + hole, size - off - hole, mem + off + hole,
			 VT_RW, SZ_4K, NULL);
	vt_tables_free(&t);
}

static void two_domains(void)
{
	struct vt_container c;
	struct vt_dev *second;
	u64 plain, n;
	u8 *mem;

	open_cut(&c);
	td_two_domains();
	second = td_add_second(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	plain = plain_tables(&c, mem, SIZE);
	ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
	EXPECT_EQ(table_pages(), plain + 2 * SIZE / SZ_2M);
	EXPECT_GE(vt_pgsize_at(second, BASE), SZ_2M);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, SZ_4K, NULL));
	expect_hole_in(&c, SIZE, mem, SZ_1M, SZ_4K, VT_RW, SZ_4K);
	expect_second(second, SIZE, mem, SZ_1M, SZ_4K);
	EXPECT_EQ(table_pages(), plain + 2 * SIZE / SZ_2M);

	/* A domain goes, and with it what it has set aside. */
	vt_remove(second);
	EXPECT_LT(table_pages(), plain + SIZE / SZ_2M);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M + SZ_4K, SZ_4K, NULL));
	expect_hole_in(&c, SIZE, mem, SZ_1M, 2 * SZ_4K, VT_RW, SZ_4K);
	ASSERT_OK(vt_unmap_all(&c, &n));
	EXPECT_EQ(n, SIZE - 2 * SZ_4K);
}

/* A domain that comes later has large pages, too, and holes where there are holes. */
static void replayed(void)
{
	struct vt_container c;
	struct vt_dev *second;
	u8 *mem;

	open_cut(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, SZ_4K, NULL));
	td_two_domains();
	second = td_add_second(&c);
	EXPECT_LT(vt_pgsize_at(second, BASE), SZ_2M);
	EXPECT_GE(vt_pgsize_at(second, BASE + SZ_2M), SZ_2M);
	expect_second(second, SIZE, mem, SZ_1M, SZ_4K);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M + SZ_4K, SZ_2M, NULL));
	expect_hole_in(&c, SIZE, mem, SZ_1M, SZ_2M + SZ_4K, VT_RW, SZ_4K);
	expect_second(second, SIZE, mem, SZ_1M, SZ_2M + SZ_4K);
	vt_remove(&c.dev[0]);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_4K, NULL));
	EXPECT_EQ(vt_pgsize_at(second, BASE), 0);
	EXPECT_EQ(vt_pgsize_at(second, BASE + SZ_4K) != 0, true);
	ASSERT_OK(vt_unmap_all(&c, NULL));
}

/* Where a domain cannot be cut, granules are laid down in that one. */
static void beside_one_that_cannot(void)
{
	struct vt_container c;
	struct vt_dev *second;
	u8 *mem;
	int i;

	open_cut(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_64K));
	td_two_domains();
	td_set("no_cuts", 1);
	second = td_add_second(&c);
	for (i = 0; i < 2; i++) {
		EXPECT_GE(vt_pgsize_at(&c.dev[0], BASE + 2 * SZ_2M), SZ_2M);
		EXPECT_LE(vt_pgsize_at(second, BASE + 2 * SZ_2M), SZ_64K);
		ASSERT_OK(vt_unmap(&c, BASE + SZ_64K, SZ_64K, NULL));
		expect_hole_in(&c, SIZE, mem, SZ_64K, SZ_64K, VT_RW, SZ_64K);
		expect_second(second, SIZE, mem, SZ_64K, SZ_64K);
		ASSERT_OK(vt_unmap_all(&c, NULL));
		ASSERT_OK(vt_map(&c, BASE, mem, SIZE, VT_RW, SZ_64K));
	}
}

/* A sparse mapping is filled with large pages, and emptied and filled bit by bit. */
static void sparse(void)
{
	struct vt_container c;
	u64 base, n;
	u8 *mem;

	vt_open_sparse(&c);
	vt_need_cuts();
	vt_need_tables(&c.dev[0]);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_sparse(&c, BASE, mem, SIZE, VT_RW, SZ_4K));
	base = table_pages();
	ASSERT_OK(vt_map(&c, BASE, mem, 4 * SZ_2M, VT_RW, 0));
	expect_at_least(&c, BASE, 4 * SZ_2M, SZ_2M);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, SZ_4K, NULL));
	expect_hole_in(&c, 4 * SZ_2M, mem, SZ_1M, SZ_4K, VT_RW, SZ_4K);
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, mem + SZ_1M, SZ_4K, VT_RW, 0));
	EXPECT_EQ(pgsize_at(&c, BASE + SZ_1M), SZ_4K);
	vt_expect_tables(&c.dev[0], BASE, 4 * SZ_2M, mem, VT_RW, SZ_4K);

	/* Filled at once, it is a large page again. */
	ASSERT_OK(vt_unmap(&c, BASE, SZ_2M, NULL));
	ASSERT_OK(vt_map(&c, BASE, mem, SZ_2M, VT_RW, 0));
	expect_at_least(&c, BASE, SZ_2M, SZ_2M);

	/* In part it is not. */
	ASSERT_OK(vt_unmap(&c, BASE, SZ_2M, NULL));
	ASSERT_OK(vt_map(&c, BASE, mem, SZ_1M, VT_RW, 0));
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, mem + SZ_1M, SZ_1M, VT_RW, 0));
	EXPECT_LT(pgsize_at(&c, BASE), SZ_2M);
	ASSERT_OK(vt_end_sparse(&c, BASE, SIZE, &n));
	EXPECT_EQ(n, 4 * SZ_2M);
	EXPECT_LE(table_pages(), base + 4);
}

/* The dirty bits of a piece, and of what is left of the page. */
static void dirty(void)
{
	u64 bits[SZ_2M / SZ_4K / 64], n;
	struct vt_container c;
	u8 *mem;

	open_cut(&c);
	mem = vt_alloc(VT_MEM_THP, SZ_2M);
	ASSERT_OK(vt_map(&c, BASE, mem, SZ_2M, VT_RW, SZ_4K));
	ASSERT_OK(vt_dirty_start(&c));
	memset(bits, 0, sizeof(bits));
	ASSERT_OK(vt_unmap_dirty(&c, BASE + SZ_1M, SZ_4K, bits, 8, &n));
	EXPECT_EQ(n, SZ_4K);
	EXPECT_EQ(bits[0], 1);
	ASSERT_OK(vt_dirty_get(&c, BASE, SZ_2M, bits, sizeof(bits)));
	EXPECT_EQ(vt_bits(bits, 0, 512), 511);
	EXPECT_TRUE(!vt_bit(bits, 256));
	expect_hole_in(&c, SZ_2M, mem, SZ_1M, SZ_4K, VT_RW, SZ_4K);
}

/* Nothing can be allocated: each unmap cuts what it has to. */
static void cut_all(struct vt_container *c, enum vt_mem kind, u64 size, u64 granule, u64 step)
{
	u8 *mem = vt_alloc(kind, size);
	u64 at, n, left = size;

	ASSERT_OK(vt_map(c, BASE, mem, size, VT_RW, granule));
	vt_inject_all(true);
	for (at = step / 2; at < size; at += step) {
		ASSERT_OK(vt_unmap(c, BASE + at, granule, &n));
		ASSERT_EQ(n, granule);
		left -= granule;
	}
	/* Ends in two pages that have not been cut yet, or have been */
	ASSERT_OK(vt_unmap(c, BASE + granule, size - 2 * granule, &n));
	vt_inject_all(false);
	ASSERT_EQ(n, left - 2 * granule);
	expect_hole_in(c, size, mem, granule, size - 2 * granule, VT_RW, granule);
	ASSERT_OK(vt_unmap_all(c, &n));
	vt_free(mem, kind, size);
}

static void no_memory(int devices)
{
	struct vt_container c;
	int i, on;

	vt_need_injection();
	open_cut(&c);
	if (devices > 1) {
		td_two_domains();
		td_add_second(&c);
	}
	for (on = 0; on < 2; on++) {
		vt_injection_on = on;
		for (i = 0; i < 3; i++) {
			static const u64 steps[] = { SZ_2M, 2 * SZ_2M, SZ_64K };

			cut_all(&c, VT_MEM_THP, SIZE, SZ_4K, steps[i]);
		}
	}
}

static void no_memory_one_domain(void)
{
	no_memory(1);
}

static void no_memory_two_domains(void)
{
	no_memory(2);
}

static void no_memory_1g(void)
{
	struct vt_container c;

	vt_need_injection();
	open_cut(&c);
	vt_injection_on = false;
	cut_all(&c, VT_MEM_HUGE_1G, SZ_1G, SZ_4K, 64 * SZ_2M);
	vt_injection_on = true;
	cut_all(&c, VT_MEM_HUGE_1G, SZ_1G, SZ_4K, 64 * SZ_2M);
	cut_all(&c, VT_MEM_HUGE_1G, SZ_1G, SZ_2M, 64 * SZ_2M);
}

/* One allocation after the other fails when it is set aside. */
static void map_no_memory(void)
{
	u64 tables, size = 4 * SZ_2M, other = BASE + SZ_1G, at;
	struct vt_container c;
	int n, ret, failed = 0;
	u8 *mem;

	vt_need_injection();
	open_cut(&c);
	mem = vt_alloc(VT_MEM_THP, size);
	ASSERT_OK(vt_map(&c, other, mem, size, VT_RW, SZ_4K));
	tables = table_pages();
	for (n = 1; n < 500; n++) {
		vt_inject_nth(n);
		ret = vt_map(&c, BASE, mem, size, VT_RW, SZ_4K);
		if (!vt_injected()) {
			ASSERT_OK(ret);
			break;
		}
		if (!ret)
			ASSERT_OK(vt_unmap(&c, BASE, size, NULL));
		else
			ASSERT_EQ(ret, -ENOMEM);
		failed += !!ret;
		vt_expect_tables(&c.dev[0], BASE, size, NULL, 0, 0);
		/* Tables on the way there may stay. The other mapping loses none. */
		ASSERT_LE(table_pages(), tables + 2);
		ASSERT_GE(table_pages(), tables);
	}
	ASSERT_LT(n, 500);
	ASSERT_GE(failed, size / SZ_2M);
	for (at = SZ_1M; at < size; at += SZ_2M)
		ASSERT_OK(vt_unmap(&c, other + at, SZ_4K, NULL));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, SZ_4K, NULL));
	expect_hole_in(&c, size, mem, SZ_1M, SZ_4K, VT_RW, SZ_4K);
}

/* And when a domain comes later. */
static void attach_no_memory(void)
{
	u64 tables, size = 4 * SZ_2M;
	int n, fd, ret, failed = 0;
	struct vt_container c;
	char path[32];
	bool hit;
	u8 *mem;

	vt_need_injection();
	open_cut(&c);
	mem = vt_alloc(VT_MEM_THP, size);
	ASSERT_OK(vt_map(&c, BASE, mem, size, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, SZ_4K, NULL));
	td_two_domains();
	snprintf(path, sizeof(path), "/dev/vfio/%d", vt_edu_group(1));
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	tables = table_pages();
	for (n = 1; n < 500; n++) {
		vt_inject_nth(n);
		ret = ioctl(fd, VFIO_GROUP_SET_CONTAINER, &c.fd) ? -errno : 0;
		hit = vt_injected();
		if (!ret)
			ASSERT_OK(ioctl(fd, VFIO_GROUP_UNSET_CONTAINER));
		else
			ASSERT_EQ(ret, -ENOMEM);
		failed += !!ret;
		ASSERT_EQ(table_pages(), tables);
		if (!hit)
			break;
	}
	ASSERT_OK(ret);
	/* Three pages are left to be cut. */
	ASSERT_GE(failed, 3);
	close(fd);
	expect_hole_in(&c, size, mem, SZ_1M, SZ_4K, VT_RW, SZ_4K);
}

VTEST_MAIN(
	VTEST(sizes_thp_4k),
	VTEST(sizes_thp_64k),
	VTEST(sizes_hugetlb_2m),
	VTEST(sizes_hugetlb_1g),
	VTEST(sizes_hugetlb_1g_4k),
	VTEST(sizes_disable_hugepages),
	VTEST(sizes_np_cache),
	VTEST(pieces_of_2m),
	VTEST(pieces_of_2m_read_only),
	VTEST(pieces_of_1g),
	VTEST(both_ends),
	VTEST(set_aside_2m),
	VTEST(set_aside_2m_whole),
	VTEST(set_aside_1g),
	VTEST(set_aside_1g_4k),
	VTEST(set_aside_4k),
	VTEST(set_aside_is_freed),
	VTEST(set_aside_is_charged),
	VTEST(dma_in_flight),
	VTEST(hole_is_remapped),
	VTEST(read_only),
	VTEST(again_and_again),
	VTEST(to_the_last_page),
	VTEST(two_domains),
	VTEST(replayed),
	VTEST(beside_one_that_cannot),
	VTEST(sparse),
	VTEST(dirty),
	VTEST(no_memory_one_domain),
	VTEST(no_memory_two_domains),
	VTEST(no_memory_1g),
	VTEST(map_no_memory),
	VTEST(attach_no_memory),
)
