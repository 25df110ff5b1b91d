// SPDX-License-Identifier: GPL-2.0
/* Memory whose physical layout is known */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>

#include "vtest.h"

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT	26
#endif

#define HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages"

#define PM_PRESENT	(1ull << 63)
#define PM_PFN		((1ull << 55) - 1)

const char *vt_mem_name(enum vt_mem kind)
{
	static const char * const name[] = {
		[VT_MEM_4K] = "4k",
		[VT_MEM_SCATTERED] = "scattered",
		[VT_MEM_THP] = "thp",
		[VT_MEM_HUGE_2M] = "hugetlb2m",
		[VT_MEM_HUGE_1G] = "hugetlb1g",
	};

	return name[kind];
}

u64 vt_mem_pgsize(enum vt_mem kind)
{
	switch (kind) {
	case VT_MEM_THP:
	case VT_MEM_HUGE_2M:
		return SZ_2M;
	case VT_MEM_HUGE_1G:
		return SZ_1G;
	default:
		return SZ_4K;
	}
}

bool vt_mem_has(enum vt_mem kind, u64 size, char *why, size_t len)
{
	u64 pgsize = vt_mem_pgsize(kind), have;
	char path[128], buf[32];

	size = ALIGN_UP(size, pgsize);
	if (kind == VT_MEM_HUGE_2M || kind == VT_MEM_HUGE_1G) {
		snprintf(path, sizeof(path), HUGEPAGES "-%llukB/free_hugepages", pgsize / 1024);
		have = vt_read_file(path, buf, sizeof(buf)) > 0 ? strtoull(buf, NULL, 10) : 0;
		if (have * pgsize >= size)
			return true;
		snprintf(why, len, "%llu free hugetlb pages of %llu MiB, this needs %llu",
			 have, pgsize / SZ_1M, size / pgsize);
		return false;
	}
	have = vt_meminfo("MemAvailable");
	if (have > size + 64 * SZ_1M)
		return true;
	snprintf(why, len, "%llu MiB of memory available, this needs %llu",
		 have / SZ_1M, size / SZ_1M + 64);
	return false;
}

void vt_phys_range(const void *p, u64 nr, u64 *phys)
{
	u64 i;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, phys, nr * sizeof(*phys), (uintptr_t)p / SZ_4K * sizeof(*phys)) !=
		      (ssize_t)(nr * sizeof(*phys)))
		FAIL("/proc/self/pagemap: %s", strerror(errno));
	close(fd);
	for (i = 0; i < nr; i++)
		phys[i] = phys[i] & PM_PRESENT ? (phys[i] & PM_PFN) * SZ_4K : 0;
}

u64 vt_phys(const void *p)
{
	u64 phys;

	vt_phys_range(p, 1, &phys);
	return phys;
}

static void check_contiguous(const u8 *p, u64 size, u64 pgsize)
{
	u64 at, phys;

	for (at = 0; at < size; at += pgsize) {
		phys = vt_phys(p + at);
		if (!phys || phys % pgsize || vt_phys(p + at + pgsize - SZ_4K) !=
					      phys + pgsize - SZ_4K)
			SKIP("no free memory in pieces of %llu KiB", pgsize / 1024);
	}
}

/*
 * No page may be physically right behind its neighbour. So fault the pages in from the last
 * to the first, and replace those that are behind their neighbour all the same. The old page
 * stays in use, so that the kernel takes another one.
 */
static void scatter(u8 *p, u64 size)
{
	u8 *away;
	u64 at;

	for (at = size; at; at -= SZ_4K)
		p[at - SZ_4K] = 1;
	for (at = SZ_4K; at < size; at += SZ_4K) {
		while (vt_phys(p + at) == vt_phys(p + at - SZ_4K) + SZ_4K) {
			away = mmap(NULL, SZ_4K, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			ASSERT_TRUE(away != MAP_FAILED);
			ASSERT_TRUE(mremap(p + at, SZ_4K, SZ_4K, MREMAP_MAYMOVE | MREMAP_FIXED,
					   away) == away);
			ASSERT_TRUE(mmap(p + at, SZ_4K, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
				    p + at);
			/* If not, it would be a VMA of its own, and slow to walk */
			madvise(p + at, SZ_4K, MADV_NOHUGEPAGE);
			p[at] = 1;
		}
	}
}

void *vt_alloc(enum vt_mem kind, u64 size)
{
	u64 pgsize = vt_mem_pgsize(kind), at;
	size_t align = sizeof(long) == 8 ? SZ_1G : pgsize;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	u8 *area, *p;
	char why[160];

	size = ALIGN_UP(size, pgsize);
	if (!vt_mem_has(kind, size, why, sizeof(why)))
		SKIP("%s", why);

	/* Enough address space for any alignment. What is not used has no memory. */
	area = mmap(NULL, size + 2 * align, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_TRUE(area != MAP_FAILED);
	p = (u8 *)ALIGN_UP((uintptr_t)area, align);
	munmap(area, p - area);
	munmap(p + size, area + 2 * align - p);

	if (kind == VT_MEM_HUGE_2M)
		flags |= MAP_HUGETLB | 21 << MAP_HUGE_SHIFT;
	else if (kind == VT_MEM_HUGE_1G)
		flags |= MAP_HUGETLB | 30 << MAP_HUGE_SHIFT;
	if (mmap(p, size, PROT_READ | PROT_WRITE, flags, -1, 0) != p)
		FAIL("mmap of %llu bytes %s: %s", size, vt_mem_name(kind), strerror(errno));

	if (kind == VT_MEM_THP) {
		if (madvise(p, size, MADV_HUGEPAGE))
			SKIP("no transparent huge pages: %s", strerror(errno));
	} else if (pgsize == SZ_4K) {
		/* This fails if the kernel has no transparent huge pages. */
		madvise(p, size, MADV_NOHUGEPAGE);
	}

	if (kind == VT_MEM_SCATTERED)
		scatter(p, size);
	else
		for (at = 0; at < size; at += pgsize)
			p[at] = 1;
	if (pgsize > SZ_4K)
		check_contiguous(p, size, pgsize);
	return p;
}

void vt_free(void *p, enum vt_mem kind, u64 size)
{
	ASSERT_OK(munmap(p, ALIGN_UP(size, vt_mem_pgsize(kind))));
}

u8 *vt_half_there(int prot)
{
	u8 *p = mmap(NULL, SZ_8K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_TRUE(p != MAP_FAILED);
	p[SZ_4K] = 1;
	ASSERT_OK(mprotect(p + SZ_4K, SZ_4K, prot));
	return p + SZ_4K;
}

static u64 pattern(u64 i, u64 seed)
{
	return (i + 1) * 0x9e3779b97f4a7c15ull ^ seed * 0xff51afd7ed558ccdull;
}

void vt_fill(void *p, size_t len, u64 seed)
{
	u64 *w = p;
	size_t i;

	for (i = 0; i < len / 8; i++)
		w[i] = pattern(i, seed);
}

bool vt_filled(const void *p, size_t len, u64 seed)
{
	const u64 *w = p;
	size_t i;

	for (i = 0; i < len / 8; i++)
		if (w[i] != pattern(i, seed))
			return false;
	return true;
}

int vt_withhold(void *p, u64 size)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)p, .len = size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		SKIP("no userfaultfd: %s", strerror(errno));
	ASSERT_OK(ioctl(fd, UFFDIO_API, &api));
	ASSERT_OK(ioctl(fd, UFFDIO_REGISTER, &reg));
	return fd;
}

void vt_provide(int fd, void *p, u64 size)
{
	struct uffdio_zeropage zero = { .range = { .start = (uintptr_t)p, .len = size } };

	ASSERT_OK(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
}

void vt_provide_copy(int fd, void *p, const void *from, size_t len)
{
	static u8 page[SZ_4K] __attribute__((aligned(SZ_4K)));
	struct uffdio_copy copy = {
		.dst = (uintptr_t)p,
		.src = (uintptr_t)page,
		.len = SZ_4K,
	};

	memset(page, 0, sizeof(page));
	memcpy(page, from, len);
	ASSERT_OK(ioctl(fd, UFFDIO_COPY, &copy));
}

u64 vt_awaited(int fd)
{
	struct uffd_msg msg;

	ASSERT_EQ(read(fd, &msg, sizeof(msg)), (ssize_t)sizeof(msg));
	ASSERT_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
	return ALIGN_DOWN(msg.arg.pagefault.address, SZ_4K);
}
