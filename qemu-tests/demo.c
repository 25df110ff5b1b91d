// SPDX-License-Identifier: GPL-2.0
/*
 * Shows on one screen what the series does, with figures of this boot. It checks everything
 * that it shows: if something is not so, its exit status is not 0.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/utsname.h>

#include "vtest.h"

#define IOVA		SZ_1G
#define GRANULE		SZ_2M
#define SHOWN		64		/* pieces in the drawing */
#define SECONDS		3
#define ROUNDS		4

static int screen;
static bool *finished;

static struct vt_container c;
static struct vt_dev *dev;
static u8 *mem;
static u64 size;

static struct {
	bool stop;
	unsigned int transfers;
} dma;

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vdprintf(screen, fmt, ap);
	va_end(ap);
}

/* An empty line. It has a blank, or the guest's init would drop it. */
static void gap(void)
{
	say("%1s\n", "");
}

/* At most half the memory of the machine, and at most 1 GiB. */
static u64 pick_size(void)
{
	u64 want = SZ_1G;

	while (want > vt_meminfo("MemAvailable") / 2)
		want /= 2;
	return want;
}

static unsigned int us(u64 since)
{
	return (vt_now() - since) / 1000;
}

static unsigned int min_us(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

/* A device does DMA all the time, at both edges of the pieces that stay. */
static void *neighbour(void *arg)
{
	u64 out[8], in[8], at = GRANULE;

	(void)arg;
	while (!__atomic_load_n(&dma.stop, __ATOMIC_RELAXED)) {
		u64 edge = dma.transfers & 4 ? at : at + GRANULE - sizeof(out);

		vt_fill(out, sizeof(out), dma.transfers + 1);
		vt_dma_write(dev, IOVA + edge, out, sizeof(out));
		ASSERT_EQ(memcmp(mem + edge, out, sizeof(out)), 0);
		vt_dma_read(dev, IOVA + edge, in, sizeof(in));
		ASSERT_EQ(memcmp(in, out, sizeof(out)), 0);
		dma.transfers += 4;
		at = (at + 6 * GRANULE) % size;
	}
	return NULL;
}

/* Give these pieces small pages, so that the picture shows two page sizes. */
static bool is_small(u64 piece)
{
	return (piece >= 20 && piece < 24) || piece == 45;
}

/* From the last page to the first, so that no two make a larger page */
static void make_small(u8 *p)
{
	u64 at;

	ASSERT_OK(madvise(p, GRANULE, MADV_NOHUGEPAGE));
	ASSERT_OK(madvise(p, GRANULE, MADV_DONTNEED));
	for (at = GRANULE; at; at -= SZ_4K)
		p[at - SZ_4K] = 1;
}

static char shape(u64 pgsize)
{
	return pgsize >= SZ_1G ? 'G' : pgsize >= SZ_2M ? '#' : '+';
}

/*
 * Prints a character for each of the first pieces, as VFIO_IOMMU_DMA_EXTENTS tells them.
 * Returns how many there are in all. The IOMMU's own tables must say the same.
 */
static u64 draw(char *line)
{
	u64 i, at, pieces = 0, drawn = size / GRANULE < SHOWN ? size / GRANULE : SHOWN;
	const struct vfio_dma_extent *e;
	const struct vt_pte *pte;
	struct vt_extents x;
	struct vt_tables t;

	memset(line, '.', drawn);
	line[drawn] = 0;
	vt_extents_read(&c, IOVA, size, 4096, &x);
	vt_tables_read(dev, &t);
	for (e = x.e; e < x.e + x.nr; e++) {
		for (at = e->iova; at < e->iova + e->size; at += e->pgsize) {
			pte = vt_tables_find(&t, at);
			ASSERT_TRUE(pte && pte->iova == at);
			ASSERT_EQ(pte->size, e->pgsize);
		}
		/* A piece is mapped whole or not at all. */
		ASSERT_EQ((e->iova | e->size) % GRANULE, 0);
		for (i = (e->iova - IOVA) / GRANULE; i * GRANULE < e->iova + e->size - IOVA; i++) {
			pieces++;
			if (i < drawn)
				line[i] = shape(e->pgsize);
		}
	}
	for (i = 0; i < drawn; i++)
		ASSERT_EQ(line[i] == '.', !vt_tables_find(&t, IOVA + i * GRANULE));
	vt_tables_free(&t);
	vt_extents_free(&x);
	return pieces;
}

static u32 entries(u32 avail)
{
	return avail - vt_dma_avail(&c);
}

/* Unmaps each second piece; returns how many. */
static unsigned int punch(void)
{
	unsigned int n = 0;
	u64 at, unmapped;

	for (at = 0; at < size; at += 2 * GRANULE, n++) {
		ASSERT_OK(vt_unmap(&c, IOVA + at, GRANULE, &unmapped));
		ASSERT_EQ(unmapped, GRANULE);
	}
	return n;
}

static void fill_holes(void)
{
	u64 at;

	for (at = 0; at < size; at += 2 * GRANULE)
		ASSERT_OK(vt_map(&c, IOVA + at, mem + at, GRANULE, VT_RW, 0));
}

/* Two devices in two containers use the same memory, without and with a super-container. */
static void demo_super(void)
{
	unsigned int us_each, us_shared;
	u64 out[8], in[8], base, each, shared, t;
	struct vt_container two[2];
	int i, super;

	for (i = 0; i < 2; i++) {
		vt_open(&two[i], VFIO_TYPE1v2_IOMMU, i);
		vt_edu_enable(&two[i].dev[0]);
	}
	vt_need_super(&two[0]);
	base = vt_locked();

	t = vt_now();
	for (i = 0; i < 2; i++)
		ASSERT_OK(vt_map(&two[i], IOVA, mem, size, VT_RW, 0));
	us_each = us(t);
	each = vt_locked() - base;
	ASSERT_EQ(each, 2 * size);
	for (i = 0; i < 2; i++)
		ASSERT_OK(vt_unmap(&two[i], IOVA, size, NULL));

	t = vt_now();
	super = vt_super_new(&two[0]);
	ASSERT_OK(vt_super_attach(&two[1], super));
	ASSERT_OK(vt_super_register(super, mem, size, VT_SUPER_RW));
	for (i = 0; i < 2; i++)
		ASSERT_OK(vt_map_super(&two[i], IOVA, mem, size, VT_RW, GRANULE));
	us_shared = us(t);
	shared = vt_locked() - base;
	ASSERT_EQ(shared, size);
	ASSERT_SUPER(super, size, size, 1, 2);
	vt_fill(out, sizeof(out), 1);
	vt_dma_write(&two[0].dev[0], IOVA + size - GRANULE, out, sizeof(out));
	vt_dma_read(&two[1].dev[0], IOVA + size - GRANULE, in, sizeof(in));
	ASSERT_EQ(memcmp(in, out, sizeof(out)), 0);
	close(super);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(vt_locked(), shared + (2 - i) * base / 2);
		vt_close(&two[i]);
	}
	ASSERT_LOCKED_SOON(getpid(), 0);

	gap();
	say("Two devices in two containers, the same %4llu MiB   locked, kB         time\n",
	    size / SZ_1M);
	say("  mapped for each, as today                       %13llu %9u us\n", each / 1024,
	    us_each);
	say("  registered once, mapped for each                %13llu %9u us\n", shared / 1024,
	    us_shared);
	say("  what the one device writes there the other one reads\n");
}

static void demo(void)
{
	unsigned int us_many = -1, us_one = -1, us_punch = 0, unmaps = 0, faults, n, hole_faults;
	u64 base, locked[3], used[3], pieces, at, start, t;
	char before[SHOWN + 1], after[SHOWN + 1];
	struct vt_faults f;
	struct utsname uts;
	pthread_t thread;
	u64 out[8];
	u32 avail;

	vt_open_v2(&c);
	vt_need_granule(&c);
	dev = &c.dev[0];
	vt_need_tables(dev);
	vt_edu_enable(dev);
	size = pick_size();
	pieces = size / GRANULE;
	mem = vt_alloc(VT_MEM_THP, size);
	for (at = 0; at < size; at += GRANULE)
		if (is_small(at / GRANULE))
			make_small(mem + at);
	memset(mem, 0, size);
	base = vt_locked();
	avail = vt_dma_avail(&c);
	uname(&uts);

	/* As it is done today, and with a granule; the fastest of several runs counts. */
	for (n = 0; n < ROUNDS; n++) {
		t = vt_now();
		for (at = 0; at < size; at += GRANULE)
			ASSERT_OK(vt_map(&c, IOVA + at, mem + at, GRANULE, VT_RW, 0));
		us_many = min_us(us_many, us(t));
		used[0] = entries(avail);
		ASSERT_EQ(used[0], pieces);
		ASSERT_OK(vt_unmap(&c, IOVA, size, NULL));

		t = vt_now();
		ASSERT_OK(vt_map(&c, IOVA, mem, size, VT_RW, GRANULE));
		us_one = min_us(us_one, us(t));
		used[1] = entries(avail);
		ASSERT_EQ(used[1], 1);
		if (n < ROUNDS - 1)
			ASSERT_OK(vt_unmap(&c, IOVA, size, NULL));
	}
	locked[0] = vt_locked();
	ASSERT_EQ(locked[0], base + size);
	ASSERT_EQ(draw(before), pieces);

	/* Pieces beside the device's memory are unmapped and mapped again. */
	vt_faults_mark(&f);
	ASSERT_OK(pthread_create(&thread, NULL, neighbour, NULL));
	start = vt_now();
	for (;;) {
		t = vt_now();
		n = punch();
		us_punch += us(t);
		unmaps += n;
		if (us(start) > SECONDS * 1000000)
			break;
		fill_holes();
	}
	__atomic_store_n(&dma.stop, true, __ATOMIC_RELAXED);
	ASSERT_OK(pthread_join(thread, NULL));
	faults = vt_faults_count(&f);
	ASSERT_EQ(faults, 0);
	ASSERT_GT(dma.transfers, 0);
	ASSERT_EQ(draw(after), pieces / 2);
	locked[1] = vt_locked();
	ASSERT_EQ(locked[1], base + size / 2);
	used[2] = entries(avail);
	ASSERT_EQ(used[2], 1);

	vt_faults_mark(&f);
	memset(mem, 0x55, sizeof(out));
	memset(out, 0xaa, sizeof(out));
	vt_dma_write(dev, IOVA, out, sizeof(out));
	hole_faults = vt_faults_count(&f);
	ASSERT_GT(hole_faults, 0);
	ASSERT_TRUE(vt_faults_hit(&f, IOVA, GRANULE));
	memset(out, 0x55, sizeof(out));
	ASSERT_EQ(memcmp(mem, out, sizeof(out)), 0);

	ASSERT_OK(vt_unmap(&c, IOVA, size, NULL));
	locked[2] = vt_locked();
	ASSERT_EQ(locked[2], base);
	ASSERT_EQ(entries(avail), 0);

	say("VFIO type1 on Linux %s: one mapping, to be unmapped piece by piece\n", uts.release);
	gap();
	say("Map %4llu MiB for a device                calls   DMA entries          time\n",
	    size / SZ_1M);
	say("  a call for each 2 MiB, as today     %9llu %13llu %10u us\n", pieces, used[0],
	    us_many);
	say("  one call with a granule of 2 MiB    %9d %13llu %10u us\n", 1, used[1], us_one);
	gap();
	say("Unmap every second 2 MiB of it, map it again, and so on for %d seconds, while\n",
	    SECONDS);
	say("the device does DMA to the pieces in between, up to their very edges:\n");
	say("  %u pieces unmapped, %u us each\n", unmaps, us_punch / unmaps);
	say("  %u DMA transfers meanwhile, all data where it belongs, %u IOMMU faults\n",
	    dma.transfers, faults);
	say("  then a DMA into a hole: %u IOMMU fault%s, the memory is untouched\n", hole_faults,
	    hole_faults == 1 ? "" : "s");
	gap();
	say("The first %d pieces, as VFIO_IOMMU_DMA_EXTENTS reads them from the page tables\n",
	    SHOWN);
	say("(# one page of 2 MiB, + pages of 4 KiB, for their memory is small, . a hole):\n");
	say("  before  %s\n", before);
	say("  after   %s\n", after);
	gap();
	say("                     before        mapped   half of it     unmapped\n");
	say("  locked, kB  %13llu %13llu %12llu %12llu\n", base / 1024, locked[0] / 1024,
	    locked[1] / 1024, locked[2] / 1024);
	say("  DMA entries %13d %13llu %12llu %12d\n", 0, used[1], used[2], 0);
	say("  (%llu kB are the device's own page, which is mapped all the time)\n", base / 1024);
	vt_close(&c);
	demo_super();
	*finished = true;
}

int main(int argc, char **argv)
{
	static const struct vtest test = VTEST(demo);
	char buf[4096];
	ssize_t n;
	int log;

	(void)argc;
	finished = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	screen = dup(STDOUT_FILENO);
	log = open("/tmp/demo.log", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (finished == MAP_FAILED || screen < 0 || log < 0 || dup2(log, STDOUT_FILENO) < 0) {
		perror("demo");
		return 1;
	}
	if (!vtest_main(1, argv, &test, 1) && *finished)
		return 0;

	/* Something is not so, or not possible here. The log says what. */
	lseek(log, 0, SEEK_SET);
	while ((n = read(log, buf, sizeof(buf))) > 0)
		if (write(screen, buf, n) != n)
			break;
	return 1;
}
