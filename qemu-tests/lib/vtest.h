/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A small test library for VFIO type1: TAP harness, containers, mapping, DMA by
 * QEMU's edu device, memory of a chosen kind, and what the kernel says about it.
 *
 * A function that returns 0 or -errno is what a test examines. A function that returns
 * nothing ends the test if it fails.
 */
#ifndef VTEST_H
#define VTEST_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/types.h>
#include <linux/vfio.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define SZ_4K			0x1000ull
#define SZ_8K			0x2000ull
#define SZ_64K			0x10000ull
#define SZ_1M			0x100000ull
#define SZ_2M			0x200000ull
#define SZ_4M			0x400000ull
#define SZ_1G			0x40000000ull

#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define ALIGN_DOWN(x, a)	((x) & ~((__typeof__(x))(a) - 1))
#define ALIGN_UP(x, a)		ALIGN_DOWN((x) + (a) - 1, a)
#define __printf(a, b)		__attribute__((format(printf, a, b)))
#define __noreturn		__attribute__((noreturn))
#define offsetofend(t, m)	(offsetof(t, m) + sizeof(((t *)0)->m))

/* ---- Harness: harness.c ---- */

struct vtest {
	const char *name;
	void (*fn)(void);
};

/*
 * Runs the tests in order, or only those that the arguments name. Each runs in a child of
 * its own, so that a crash or a leak of one test does not affect the next.
 */
int vtest_main(int argc, char **argv, const struct vtest *tests, size_t nr);

#define VTEST(fn)	{ #fn, fn }
#define VTEST_MAIN(...)							\
	int main(int argc, char **argv)					\
	{								\
		static const struct vtest tests[] = { __VA_ARGS__ };	\
									\
		return vtest_main(argc, argv, tests, ARRAY_SIZE(tests));	\
	}

/* ---- What a test finds: report.c ---- */

/* Shared by the harness, the test's process and its children */
struct vt_result {
	atomic_uint failures;
	atomic_uint leaked;			/* pages that stay pinned after the test */
	bool skipped;
	char reason[200];
};

extern struct vt_result *vt_result;

/* A "# ..." line, written in one piece, from any thread or child. */
__printf(1, 2) void vt_diag(const char *fmt, ...);
/*
 * The test is about to provoke this message of the kernel, a regular expression. The judge
 * then allows it.
 */
void vt_kernel_may_say(const char *regex);
/* The test provokes that so many pages stay pinned for good. */
void vt_leaks_pins(u64 pages);
/* Mark the running test failed, go on. */
__printf(3, 4) void vt_fail(const char *file, int line, const char *fmt, ...);
/* End this process now, which is the test's or a child's. */
__noreturn void vt_stop(void);
/* End the test as skipped; the reason names what is missing. */
__noreturn __printf(1, 2) void vt_skip(const char *fmt, ...);
/* Has the running test, or a child of it, failed? */
bool vt_failed(void);

#define SKIP(...)	vt_skip(__VA_ARGS__)
#define FAIL(...)	do { vt_fail(__FILE__, __LINE__, __VA_ARGS__); vt_stop(); } while (0)

#define VT_CMP(a, op, b, stop) do {						\
	__typeof__((a) + (b)) a_ = (a);						\
	__typeof__((a) + (b)) b_ = (b);						\
										\
	if (!(a_ op b_)) {							\
		vt_fail(__FILE__, __LINE__, "%s is %lld (%#llx), not " #op	\
			" %s which is %lld (%#llx)", #a, (long long)a_,		\
			(long long)a_, #b, (long long)b_, (long long)b_);	\
		if (stop)							\
			vt_stop();						\
	}									\
} while (0)

#define ASSERT_EQ(a, b)		VT_CMP(a, ==, b, true)
#define ASSERT_NE(a, b)		VT_CMP(a, !=, b, true)
#define ASSERT_LE(a, b)		VT_CMP(a, <=, b, true)
#define ASSERT_GE(a, b)		VT_CMP(a, >=, b, true)
#define ASSERT_LT(a, b)		VT_CMP(a, <, b, true)
#define ASSERT_GT(a, b)		VT_CMP(a, >, b, true)
#define EXPECT_EQ(a, b)		VT_CMP(a, ==, b, false)
#define EXPECT_NE(a, b)		VT_CMP(a, !=, b, false)
#define EXPECT_LE(a, b)		VT_CMP(a, <=, b, false)
#define EXPECT_GE(a, b)		VT_CMP(a, >=, b, false)
#define EXPECT_LT(a, b)		VT_CMP(a, <, b, false)
#define EXPECT_GT(a, b)		VT_CMP(a, >, b, false)

#define ASSERT_TRUE(x) do {							\
	if (!(x))								\
		FAIL("%s is false", #x);					\
} while (0)
#define ASSERT_FALSE(x)		ASSERT_TRUE(!(x))
#define EXPECT_TRUE(x) do {							\
	if (!(x))								\
		vt_fail(__FILE__, __LINE__, "%s is false", #x);			\
} while (0)

/* For a function of this library that must succeed */
#define ASSERT_OK(x)		ASSERT_EQ(x, 0)
/* For a system call that must return -1 with this errno */
#define ASSERT_ERRNO(call, err) do {						\
	errno = 0;								\
	ASSERT_EQ((long)(call), -1L);						\
	ASSERT_EQ(errno, err);							\
} while (0)

/* ---- Containers and devices: container.c ---- */

#define VT_MAX_DEVS	8

struct vt_container;

struct vt_dev {
	struct vt_container *c;
	char name[64];			/* PCI address, or mdev uuid */
	int group;			/* number in /dev/vfio; -1: slot is free */
	int group_fd;
	int fd;
	volatile u8 *bar;		/* edu: BAR0 */
	u8 *bounce;		/* edu: see vt_edu_enable() */
	u64 bounce_iova;
};

struct vt_container {
	int fd;
	int type;			/* VFIO_TYPE1_IOMMU or VFIO_TYPE1v2_IOMMU */
	struct vt_dev dev[VT_MAX_DEVS];	/* dev[0] is the first one added */
};

/* How many edu devices the machine has; PCI address of the k-th. */
int vt_edu_count(void);
const char *vt_edu_bdf(int k);

/* A container of this type with the k-th edu device, bound to vfio-pci. */
void vt_open(struct vt_container *c, int type, int k);
#define vt_open_v2(c)	vt_open(c, VFIO_TYPE1v2_IOMMU, 0)
/* The test: iommufd, if it serves as a container, answers 0 for this extension. */
void vt_iommufd_lacks(int extension);
/* Adds the k-th edu device to an open container. */
struct vt_dev *vt_add_edu(struct vt_container *c, int k);
/*
 * Adds any device, by the number of its group in /dev/vfio and its name. A new container
 * needs vt_open_empty() before. The first device sets the IOMMU type.
 */
void vt_open_empty(struct vt_container *c, int type);
struct vt_dev *vt_add_group(struct vt_container *c, int group, const char *name);
/* The same, but returns an error of VFIO_GROUP_SET_CONTAINER or VFIO_SET_IOMMU. */
int vt_try_add_group(struct vt_container *c, int group, const char *name, struct vt_dev **dev);
/* Bind the k-th edu device to vfio-pci, return the number of its group. */
int vt_edu_group(int k);
/* The same, but open its character device, for iommufd: a descriptor or -errno. */
int vt_edu_cdev(int k);
/* Take a device and its group out of the container. */
void vt_remove(struct vt_dev *dev);
void vt_close(struct vt_container *c);

/*
 * Mediated devices: type_dir is .../mdev_supported_types/<type>. vt_mdev_create()
 * returns the number of the group of the new device. Removing one waits until nobody
 * has it open; the harness removes what a test leaves, when its process is gone.
 */
#define VT_MTTY_TYPE	"/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1"
int vt_mdev_create(const char *type_dir, const char *uuid);
void vt_mdev_remove(const char *uuid);
/* For the harness: call the first before it forks, the second when the test is gone. */
void vt_mdev_share(void);
void vt_mdev_remove_left(void);

/* ---- Type1: dma.c; all return 0 or -errno ---- */

#define VT_RO	VFIO_DMA_MAP_FLAG_READ
#define VT_WO	VFIO_DMA_MAP_FLAG_WRITE
#define VT_RW	(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

/* granule 0: the struct of today and no granule flag. */
int vt_map(struct vt_container *c, u64 iova, const void *vaddr, u64 size,
	   u32 flags, u64 granule);
/* Everything as the caller says. */
int vt_map_raw(struct vt_container *c, u32 argsz, u32 flags, u64 iova,
	       u64 vaddr, u64 size, u64 granule);
/* VFIO_DMA_MAP_FLAG_VADDR */
int vt_map_vaddr(struct vt_container *c, u64 iova, const void *vaddr, u64 size);
/* unmapped: how much the kernel says it has unmapped; not changed on an error; may be NULL */
int vt_unmap(struct vt_container *c, u64 iova, u64 size, u64 *unmapped);
int vt_unmap_flags(struct vt_container *c, u32 flags, u64 iova, u64 size,
		   u64 *unmapped);
int vt_unmap_all(struct vt_container *c, u64 *unmapped);
/* VFIO_DMA_UNMAP_FLAG_VADDR */
int vt_unmap_vaddr(struct vt_container *c, u64 iova, u64 size, u64 *unmapped);
/* One bit a 4 KiB page; bitmap_bytes as given to the kernel. */
int vt_unmap_dirty(struct vt_container *c, u64 iova, u64 size, void *bitmap,
		   u64 bitmap_bytes, u64 *unmapped);
int vt_dirty_start(struct vt_container *c);
int vt_dirty_stop(struct vt_container *c);
int vt_dirty_get(struct vt_container *c, u64 iova, u64 size, void *bitmap,
		 u64 bitmap_bytes);
/* Bytes of a bitmap for size bytes of IOVA: whole u64 words. */
#define VT_BITMAP_BYTES(size)	(ALIGN_UP((u64)(size) / SZ_4K, 64) / 8)
bool vt_bit(const void *bitmap, u64 bit);
u64 vt_bits(const void *bitmap, u64 from, u64 nr);

int vt_check_extension(struct vt_container *c, unsigned long ext);

struct vt_info {
	u64 pgsizes;
	u32 dma_avail;
	unsigned int nr_ranges;
	struct {
		u64 first, last;
	} range[16];
};

void vt_info(struct vt_container *c, struct vt_info *info);
/* Does the IOMMU have pages of every power of two? Then neighbours may become one page. */
bool vt_any_pgsize(struct vt_container *c);
/*
 * Can the IOMMU cut its pages? They may be larger than a granule then. If it cannot,
 * vt_need_cuts() ends the test as skipped.
 */
bool vt_cuts(void);
void vt_need_cuts(void);
u32 vt_dma_avail(struct vt_container *c);
/* Last byte of the IOVA space. */
u64 vt_last_iova(struct vt_container *c);
/* End the test as skipped where the kernel does not know granules. */
void vt_need_granule(struct vt_container *c);
/* A container with the first edu device, on a kernel that knows granules */
void vt_open_granule(struct vt_container *c);

/* ---- DMA by the edu device: edu.c ---- */

/*
 * Enables DMA of the k-th device of the container and maps a page for it at
 * VT_BOUNCE_IOVA(k), since only DMA can read and write the device's buffer. Takes one DMA
 * entry and a locked page.
 */
#define VT_BOUNCE_IOVA(k)	(SZ_1M + (k) * SZ_64K)
void vt_edu_enable(struct vt_dev *dev);
/* The same, with the page of another device of the container */
void vt_edu_enable_beside(struct vt_dev *dev, const struct vt_dev *other);

/*
 * Copies from iova to the device's buffer, and from the buffer to iova. The buffer has 4 KiB,
 * but QEMU dies if a transfer reaches its last byte. A transfer takes 100 ms of guest time,
 * also if it faults. The device does not tell whether it did.
 */
#define VT_DMA_MAX	4088
void vt_dma_load_start(struct vt_dev *dev, u64 iova, size_t len);
void vt_dma_store_start(struct vt_dev *dev, u64 iova, size_t len);
bool vt_dma_busy(struct vt_dev *dev);
void vt_dma_wait(struct vt_dev *dev);
/*
 * The edu of the strict QEMU also copies 8 bytes from one address to another again and again,
 * and after each copy reads from the next page of a sweep. vt_need_copies() skips the test on
 * any other. vt_copies_wait() waits until all of a copy was made after the call.
 * vt_copies_stop() returns how many copies failed.
 */
void vt_need_copies(struct vt_dev *dev);
void vt_copies_start(struct vt_dev *dev, u64 from, u64 to, u64 sweep, u64 sweep_pages);
void vt_copies_between(struct vt_dev *dev, u64 from, u64 to);
void vt_copies_wait(struct vt_dev *dev);
u64 vt_copies_done(struct vt_dev *dev);
u64 vt_copies_stop(struct vt_dev *dev);
/* Two transfers each, with the bounce page in between */
void vt_dma_write(struct vt_dev *dev, u64 iova, const void *buf, size_t len);
void vt_dma_read(struct vt_dev *dev, u64 iova, void *buf, size_t len);
/*
 * A worker: a thread that lets a device copy memory, read at one address and written at the
 * other, until it is told to stop. It fails the test if other data arrives.
 */
struct vt_worker {
	struct vt_dev *dev;
	u64 from_iova, to_iova;
	u8 *from, *to;
	atomic_uint rounds;
	atomic_bool stop;
	pthread_t thread;
};

/* The caller has set the first three lines. */
void vt_worker_start(struct vt_worker *w);
/* Has each of them made so many copies? */
bool vt_workers_did(const struct vt_worker *w, int nr, unsigned int rounds);
/* Stops them. Returns how many copies they have made together. */
u64 vt_workers_stop(struct vt_worker *w, int nr);
/* Writes 64 bytes at p. The device must read them at iova. */
void vt_expect_read(struct vt_dev *dev, u64 iova, void *p);
/* What the device writes at iova must arrive at p; and both. */
void vt_expect_write(struct vt_dev *dev, u64 iova, void *p);
void vt_expect_dma(struct vt_dev *dev, u64 iova, void *p);
/* The device must not be able to write p through iova. */
void vt_expect_no_write(struct vt_dev *dev, u64 iova, void *p);
/* The same, and nothing may be mapped at iova: the attempt faults. */
void vt_expect_no_dma(struct vt_dev *dev, u64 iova, void *p);

/* ---- Memory: mem.c ---- */

enum vt_mem {
	VT_MEM_4K,		/* small pages, however they happen to lie */
	VT_MEM_SCATTERED,	/* small pages, no two neighbours contiguous */
	VT_MEM_THP,		/* transparent huge pages, all of it */
	VT_MEM_HUGE_2M,		/* hugetlb */
	VT_MEM_HUGE_1G,
};

const char *vt_mem_name(enum vt_mem kind);
/* Page size the kind guarantees. */
u64 vt_mem_pgsize(enum vt_mem kind);
/* Are there enough free pages of this kind? If not, says why. */
bool vt_mem_has(enum vt_mem kind, u64 size, char *why, size_t len);
/*
 * Private anonymous memory that is touched and checked to be of this kind. It is aligned to
 * 1 GiB, or in a 32-bit program, which has no room for that, as the kind needs. size is
 * rounded up to whole pages of the kind. Skips the test if the machine has too few.
 */
void *vt_alloc(enum vt_mem kind, u64 size);
void vt_free(void *p, enum vt_mem kind, u64 size);
/* Two pages of 4 KiB, of which the second has the protection prot: where the second begins. */
u8 *vt_half_there(int prot);
/* Physical address of the page of p, from /proc/self/pagemap; 0: not present. */
u64 vt_phys(const void *p);
/* The same of nr pages from p on. */
void vt_phys_range(const void *p, u64 nr, u64 *phys);
/* Fill with, and check for, a pattern that depends on address and seed. */
void vt_fill(void *p, size_t len, u64 seed);
bool vt_filled(const void *p, size_t len, u64 seed);
/*
 * Who touches a missing page of [p, p + size) waits until somebody provides it. Returns a
 * userfaultfd.
 */
int vt_withhold(void *p, u64 size);
void vt_provide(int fd, void *p, u64 size);
/* Provides the page at p, with these bytes at its beginning. */
void vt_provide_copy(int fd, void *p, const void *from, size_t len);
/* Wait until somebody waits for a page. Returns its address. */
u64 vt_awaited(int fd);

/* ---- What the kernel says: proc.c ---- */

/* Is this that variant of the kernel, that machine? */
bool vt_kernel_is(const char *variant);
bool vt_machine_is(const char *machine);
/* Is the series missing, or the part of it that scripts/try-prefix calls by this name? */
bool vt_kernel_lacks(const char *what);
/* The first number of the kernel's version */
int vt_linux(void);
/*
 * The errno for a range that wraps, from calls that have none of the new flags:
 * EOVERFLOW, but EINVAL from Linux 6.
 */
int vt_wraps(void);

/* VmLck of this process, or of another; in bytes. */
u64 vt_locked(void);
u64 vt_locked_of(pid_t pid);
/*
 * How many pages are pinned in the whole system, each counted as often as it is pinned. The
 * harness fails a test that leaves more pinned than it found.
 */
u64 vt_pinned(void);
/* A field of /proc/meminfo, in bytes. */
u64 vt_meminfo(const char *field);
/* Set RLIMIT_MEMLOCK of this process, and drop CAP_IPC_LOCK, which would lift it. */
void vt_limit_locked(u64 bytes);
/* One of the first 32 capabilities, such as CAP_IPC_LOCK */
void vt_drop_cap(int number);
/* A parameter of vfio_iommu_type1; the old value is put back when the test ends. */
unsigned int vt_get_param(const char *name);
void vt_set_param(const char *name, unsigned int value);
/* Nanoseconds, monotonic. */
u64 vt_now(void);
/* Read a small file whole into buf, with a 0 at the end; -errno or its length. */
ssize_t vt_read_file(const char *path, char *buf, size_t len);
/* Write a string to a file; 0 or -errno. */
int vt_write_file(const char *path, const char *text);

/* The number in a line "field 123" of a file, such as /proc/vmstat. */
u64 vt_stat_field(const char *path, const char *field);

/* ---- A memory cgroup: cgroup.c ---- */

/* Make one without a limit, or end the test as skipped. Call vt_remove_cgroup() in the end. */
void vt_need_cgroup(void);
/* Limit it, for instance to "32M". */
void vt_limit_cgroup(const char *max);
/* Move this process into it; move this process out of it, and remove it. */
void vt_join_cgroup(void);
void vt_remove_cgroup(void);
/* How many bytes it is charged with; a field of its memory.stat */
u64 vt_cgroup_memory(void);
u64 vt_cgroup_stat(const char *field);
/*
 * In a child in it this call must fail for want of memory, change nothing, and not get the
 * child killed.
 */
void vt_expect_enomem(struct vt_container *c,
		      int (*call)(struct vt_container *c, u64 iova, u64 size), u64 iova, u64 size);
/* Nobody in it may have been killed for want of memory. */
void vt_expect_no_oom_kill(void);

/* ---- IOMMU faults: faults.c ---- */

/*
 * Faults since a mark. The kernel limits its log, on Intel to about three faults in 5
 * seconds. To set a mark waits until that time is over. From then on the log has the first
 * three faults, and if it has none there was none.
 */
#define VT_FAULT_ANYWHERE	(~0ull)	/* the address of a fault that tells none */
struct vt_faults {
	int fd;			/* the kernel's log */
	unsigned int count;
	unsigned int logged;	/* of them, in the kernel's log; they come first */
	u64 addr[16];		/* of the first ones, oldest first */
};

void vt_faults_mark(struct vt_faults *f);
/* How many since the mark, all in all; waits a moment for the log to settle. */
unsigned int vt_faults_count(struct vt_faults *f);
/*
 * May a fault have hit there? One without an address may have, and on AMD any may have. Waits
 * up to 5 seconds for it.
 */
bool vt_faults_hit(struct vt_faults *f, u64 iova, u64 size);

/* ---- Allocations that fail: inject.c ---- */

/* Skips the test where the kernel has no fault injection. */
void vt_need_injection(void);
/* The n-th allocation of this task from now on fails; 0: none. */
void vt_inject_nth(int n);
/* Ends the injection. Was there such an allocation? */
bool vt_injected(void);
/*
 * All allocations of this task fail between vt_inject_all(true) and vt_inject_all(false). A
 * page fault would then repeat for ever. So a test first makes its calls with vt_injection_on
 * false, where nothing fails, to have all pages that it needs.
 */
void vt_inject_all(bool on);
extern bool vt_injection_on;

/* ---- The IOMMU's own page tables: tables.c ---- */

struct vt_pte {
	u64 iova, size, phys;
	bool read, write;
};

struct vt_tables {
	struct vt_pte *pte;		/* in order of iova */
	size_t nr;
};

/* Can this machine show them? Intel with debugfs, AMD with that and /dev/mem, ARM. */
bool vt_tables_known(struct vt_dev *dev);
/*
 * The IOMMU driver cannot tell page sizes: that of virtio-iommu keeps no tables, and
 * those of Debian's kernel have not got what they would tell them with.
 */
bool vt_pgsize_unknown(void);
/*
 * Are there pages that a device can only write to? For VT-d's driver in Linux 6 what is
 * present can be read, and so it is for an SMMU.
 */
bool vt_write_only(void);
/* End the test as skipped if vt_tables_known() is not. */
void vt_need_tables(struct vt_dev *dev);
void vt_tables_read(struct vt_dev *dev, struct vt_tables *t);
void vt_tables_free(struct vt_tables *t);
/* Address of the top table, which a domain has for itself. */
u64 vt_tables_root(struct vt_dev *dev);
/* The entry that translates iova, or NULL. */
const struct vt_pte *vt_tables_find(const struct vt_tables *t, u64 iova);
/* Size of the page that translates iova, 0 if none. Reads the tables anew. */
u64 vt_pgsize_at(struct vt_dev *dev, u64 iova);
/*
 * [iova, iova + size) must be mapped to the physical pages of vaddr with these flags, with
 * the largest pages up to granule (0: any) that the memory allows; where pages can be cut,
 * those of a mapping with a granule may be larger. With vaddr NULL, nothing may be mapped.
 * Fails the test and says what differs. smallest, if not NULL: the smallest page size seen.
 */
void vt_tables_expect(const struct vt_tables *t, const struct vt_info *info, u64 iova,
		      u64 size, const void *vaddr, u32 flags, u64 granule,
		      u64 *smallest);

/* The same for one range, with the tables as they are now. Does nothing if none are known. */
void vt_expect_tables(struct vt_dev *dev, u64 iova, u64 size, const void *mem, u32 flags,
		      u64 granule);

/* ---- Calls that must be refused: state.c ---- */

/* Everything that a call must not change if it fails */
struct vt_state {
	u32 dma_avail;
	u64 locked;
	u64 tables;			/* of dev[0]; 0 where nobody can tell */
};

void vt_state(struct vt_container *c, struct vt_state *s);
/* Fails the test, with this text, if anything is different now. */
void vt_state_same(struct vt_container *c, const struct vt_state *s, const char *after);

/* The call must return -err and change nothing. */
#define ASSERT_REFUSED(c, call, err) do {					\
	struct vt_state before_;						\
										\
	vt_state(c, &before_);							\
	ASSERT_EQ(call, -(err));						\
	vt_state_same(c, &before_, #call);					\
} while (0)

/*
 * The same for tables: of maps, with iova and vaddr relative to those of the macro, and of
 * unmaps.
 */
struct vt_bad_map {
	u64 iova, vaddr, size;
	u32 flags;
	u64 granule;
	int err;
};

#define ASSERT_MAPS_REFUSED(c, iova, vaddr, ...) do {				\
	static const struct vt_bad_map bad_[] = { __VA_ARGS__ };		\
										\
	vt_maps_refused(__FILE__, __LINE__, c, iova, vaddr, bad_, ARRAY_SIZE(bad_)); \
} while (0)
void vt_maps_refused(const char *file, int line, struct vt_container *c, u64 iova,
		     const void *vaddr, const struct vt_bad_map *bad, size_t nr);

struct vt_bad_unmap {
	u64 iova, size;
	u32 flags;
	int err;
};

#define ASSERT_UNMAPS_REFUSED(c, iova, ...) do {				\
	static const struct vt_bad_unmap bad_[] = { __VA_ARGS__ };		\
										\
	vt_unmaps_refused(__FILE__, __LINE__, c, iova, bad_, ARRAY_SIZE(bad_));	\
} while (0)
void vt_unmaps_refused(const char *file, int line, struct vt_container *c, u64 iova,
		       const struct vt_bad_unmap *bad, size_t nr);

/* ---- VFIO_IOMMU_DMA_EXTENTS: extents.c ---- */

/*
 * One call; returns 0 or -errno. iova, size and count are as the kernel leaves them. e may be
 * NULL if count is 0.
 */
int vt_extents(struct vt_container *c, u64 *iova, u64 *size,
	       struct vfio_dma_extent *e, u32 *count);

struct vt_extents {
	struct vfio_dma_extent *e;	/* in order of iova, checked */
	size_t nr;
	unsigned int calls;		/* that it took */
};

/* All extents of a range, with room for so many a call; size 0: to the end. */
void vt_extents_read(struct vt_container *c, u64 iova, u64 size, u32 room,
		     struct vt_extents *x);
void vt_extents_free(struct vt_extents *x);
/* How many extents calls with count 0 count */
u64 vt_extents_count(struct vt_container *c, u64 iova, u64 size);

/* ---- Sparse mappings: sparse.c; all return 0 or -errno ---- */

/* Sets one up. vt_map() fills it, vt_unmap() empties it. */
int vt_sparse(struct vt_container *c, u64 iova, const void *vaddr, u64 size, u32 flags,
	      u64 granule);
/* VFIO_DMA_UNMAP_FLAG_SPARSE; unmapped as for vt_unmap() */
int vt_end_sparse(struct vt_container *c, u64 iova, u64 size, u64 *unmapped);
int vt_end_all_sparse(struct vt_container *c, u64 *unmapped);
/* A v2 container; ends the test as skipped where the kernel does not know them. */
void vt_open_sparse(struct vt_container *c);
void vt_need_sparse(struct vt_container *c);
/* How much is mapped in [iova, iova + size), says VFIO_IOMMU_DMA_EXTENTS. */
u64 vt_mapped_bytes(struct vt_container *c, u64 iova, u64 size);

/* ---- Super-containers: super.c ---- */

#define VT_SUPER_RW	(VFIO_SUPER_MEMORY_READ | VFIO_SUPER_MEMORY_WRITE)

/* All return 0 or -errno; vt_super_create() a file descriptor. */
int vt_super_create(struct vt_container *c);
int vt_super_attach(struct vt_container *c, int super);
int vt_super_detach(struct vt_container *c);
int vt_super_register(int super, const void *p, u64 size, u32 flags);
int vt_super_unregister(int super, const void *p, u64 size);
int vt_super_info(int super, struct vfio_super_info *info);
/* As vt_map(), of memory that is registered. */
int vt_map_super(struct vt_container *c, u64 iova, const void *p, u64 size, u32 flags,
		 u64 granule);
/* End the test as skipped where the kernel does not know them. */
void vt_need_super(struct vt_container *c);
/* A new one, to which this container is attached */
int vt_super_new(struct vt_container *c);
/* Opens a container with the first edu device, for DMA, and attaches it to a new one. */
int vt_open_super(struct vt_container *c);
/* What /proc tells of a process's super-container. */
void vt_super_fdinfo(pid_t pid, int super, struct vfio_super_info *info);

/* GET_INFO and this process's fdinfo must both say so, or the test ends. */
#define ASSERT_SUPER(super, registered, locked, regions, containers)		\
	vt_super_check(__FILE__, __LINE__, super, registered, locked, regions, containers)
void vt_super_check(const char *file, int line, int super, u64 registered, u64 locked,
		    u32 regions, u32 containers);

/* Everything that a call on a super-container must not change if it fails */
struct vt_super_state {
	struct vfio_super_info info;
	u64 locked, pinned;
};

void vt_super_state(int super, struct vt_super_state *s);
void vt_super_state_same(int super, const struct vt_super_state *s, const char *after);

#define ASSERT_SUPER_REFUSED(super, call, err) do {				\
	struct vt_super_state was_;						\
										\
	vt_super_state(super, &was_);						\
	ASSERT_EQ(call, -(err));						\
	vt_super_state_same(super, &was_, #call);				\
} while (0)

/* A super-container may give memory back shortly after its last user has gone. */
#define ASSERT_LOCKED_SOON(pid, want)	vt_wait_locked(__FILE__, __LINE__, pid, want)
void vt_wait_locked(const char *file, int line, pid_t pid, u64 want);
#define ASSERT_PINNED_SOON(want)	vt_wait_pinned(__FILE__, __LINE__, want)
void vt_wait_pinned(const char *file, int line, u64 want);

/* ---- Other processes: process.c ---- */

/*
 * fork() with a socket between the two processes. They pass descriptors, and they wait for
 * each other: one tells a number, the other hears it.
 */
pid_t vt_fork_peer(int *sock);
void vt_send_fd(int sock, int fd);
int vt_recv_fd(int sock);
void vt_tell(int sock, u64 value);
u64 vt_hear(int sock);
/* Calls it in a child, which has the same container and another address space. */
void vt_in_child(void (*fn)(struct vt_container *c), struct vt_container *c);
/*
 * Starts this program anew, with the container's descriptors open. There, main() finds what
 * it hands over, of which vt_handed_over() returns false in any other process.
 */
__noreturn void vt_exec(const struct vt_container *c, const void *handover, size_t len);
bool vt_handed_over(void *handover, size_t len);
/* Wait for a child that must end by itself with status 0; kill a child that must not. */
void vt_wait_exit(pid_t pid);
void vt_kill(pid_t pid);
/* Let a descriptor stay open over exec. */
void vt_keep_open(int fd);

#endif
