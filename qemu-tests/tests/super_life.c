// SPDX-License-Identifier: GPL-2.0
/*
 * Super-containers and processes: the creator is killed while devices of others do DMA to its
 * memory; the descriptor is passed on, or inherited by exec; a registration waits for memory
 * that does not come.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <fcntl.h>
#include <linux/kernel-page-flags.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define RW	VT_SUPER_RW
#define SIZE	(8 * SZ_2M)
#define NR	(SIZE / SZ_4K)

/* ---- The pages themselves ---- */

/* How many free blocks begin in these pages, as the kernel says */
static u64 free_blocks(const u64 *phys, u64 nr)
{
	u64 i, flags, n = 0;
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		SKIP("no /proc/kpageflags");
	for (i = 0; i < nr; i++) {
		ASSERT_EQ(pread(fd, &flags, sizeof(flags), phys[i] / SZ_4K * sizeof(flags)),
			  (ssize_t)sizeof(flags));
		n += !!(flags & (1ull << KPF_BUDDY | 1ull << KPF_NOPAGE));
	}
	close(fd);
	return n;
}

/* Writes nearly all free memory, so that a page that was freed would be overwritten. */
static void use_all_memory(void)
{
	u64 size = ALIGN_DOWN(vt_meminfo("MemFree") - 192 * SZ_1M, SZ_2M), at;
	pid_t pid;
	u8 *p;

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		p = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		ASSERT_TRUE(p != MAP_FAILED);
		madvise(p, size, MADV_HUGEPAGE);
		for (at = 0; at < size; at += SZ_4K)
			p[at] = 1;
		_exit(0);
	}
	vt_wait_exit(pid);
}

/* The owner of the memory: registers it, says where it is, and waits to be killed. */
static pid_t owner(struct vt_container *c, enum vt_mem kind, int *sock, int *super, u8 **p,
		   u64 *phys)
{
	pid_t pid;
	u64 i;
	u8 *q;

	pid = vt_fork_peer(sock);
	if (!pid) {
		int fd = vt_super_create(c);

		ASSERT_GE(fd, 0);
		q = vt_alloc(kind, SIZE);
		for (i = 0; i < SIZE; i += SZ_4K)
			vt_fill(q + i, 64, i);
		ASSERT_OK(vt_super_register(fd, q, SIZE, RW));
		vt_phys_range(q, NR, phys);
		vt_send_fd(*sock, fd);
		close(fd);
		vt_tell(*sock, (uintptr_t)q);
		vt_hear(*sock);
		exit(0);
	}
	*super = vt_recv_fd(*sock);
	*p = (u8 *)(uintptr_t)vt_hear(*sock);
	return pid;
}

/* Every page of the memory still has what its owner wrote. */
static void expect_pattern(struct vt_dev *emulated, u64 iova)
{
	u8 buf[64];
	u64 at;

	for (at = 0; at < SIZE; at += SZ_4K) {
		ASSERT_OK(td_read(emulated, iova + at, buf, sizeof(buf)));
		if (!vt_filled(buf, sizeof(buf), at))
			FAIL("the page at %#llx is another", iova + at);
	}
}

static void killed_under_dma(enum vt_mem kind)
{
	u64 *phys = mmap(NULL, NR * sizeof(*phys), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	u64 pinned = vt_pinned(), free_before, i;
	struct vt_container c, d;
	struct vt_dev *emulated;
	int super, sock;
	struct vt_faults f;
	u8 buf[64], *p;
	pid_t pid;

	vt_open_v2(&c);
	vt_need_super(&c);
	/* What is freed is not to stay on lists that a CPU has, which do not count as free */
	ASSERT_OK(vt_write_file("/proc/sys/vm/percpu_pagelist_high_fraction", "1000000"));
	vt_edu_enable(&c.dev[0]);
	vt_open_empty(&d, VFIO_TYPE1v2_IOMMU);
	emulated = td_add(&d, 0);
	vt_faults_mark(&f);
	pid = owner(&c, kind, &sock, &super, &p, phys);
	ASSERT_OK(vt_super_attach(&c, super));
	ASSERT_OK(vt_super_attach(&d, super));
	ASSERT_OK(vt_map_super(&c, BASE, p, SIZE, VT_RW, SZ_64K));
	ASSERT_OK(vt_map_super(&d, BASE, p, SIZE, VT_RW, 0));
	expect_pattern(emulated, BASE);

	/* At the start of the transfer, in the midst of it, and after. */
	vt_dma_load_start(&c.dev[0], BASE, sizeof(buf));
	usleep(50000);
	vt_kill(pid);
	vt_dma_wait(&c.dev[0]);
	vt_dma_store_start(&c.dev[0], c.dev[0].bounce_iova, sizeof(buf));
	vt_dma_wait(&c.dev[0]);
	ASSERT_TRUE(vt_filled(c.dev[0].bounce, sizeof(buf), 0));
	ASSERT_SUPER(super, SIZE, 0, 1, 2);

	/* What was its memory belongs to nobody else. */
	ASSERT_EQ(free_blocks(phys, NR), 0);
	use_all_memory();
	ASSERT_EQ(free_blocks(phys, NR), 0);
	expect_pattern(emulated, BASE);
	vt_dma_read(&c.dev[0], BASE + SIZE - SZ_4K, buf, sizeof(buf));
	ASSERT_TRUE(vt_filled(buf, sizeof(buf), SIZE - SZ_4K));
	for (i = 0; i < 3; i++) {
		vt_fill(buf, sizeof(buf), i + 1);
		vt_dma_write(&c.dev[0], BASE + i * SZ_2M, buf, sizeof(buf));
		memset(buf, 0, sizeof(buf));
		ASSERT_OK(td_read(emulated, BASE + i * SZ_2M, buf, sizeof(buf)));
		ASSERT_TRUE(vt_filled(buf, sizeof(buf), i + 1));
		vt_fill(buf, sizeof(buf), i * SZ_2M);
		ASSERT_OK(td_write(emulated, BASE + i * SZ_2M, buf, sizeof(buf)));
	}

	/* The file goes, a container goes: until the last one it all stays. */
	close(super);
	vt_close(&c);
	use_all_memory();
	ASSERT_EQ(free_blocks(phys, NR), 0);
	expect_pattern(emulated, BASE);
	ASSERT_EQ(vt_pinned(), pinned + NR);
	free_before = vt_meminfo("MemFree");
	vt_close(&d);
	ASSERT_PINNED_SOON(pinned);
	if (kind != VT_MEM_HUGE_2M)
		EXPECT_GE(vt_meminfo("MemFree"), free_before + SIZE / 2);
	ASSERT_OK(vt_write_file("/proc/sys/vm/percpu_pagelist_high_fraction", "0"));
	EXPECT_EQ(vt_faults_count(&f), 0);
}

static void killed_4k(void)
{
	killed_under_dma(VT_MEM_4K);
}

static void killed_thp(void)
{
	killed_under_dma(VT_MEM_THP);
}

static void killed_hugetlb(void)
{
	char why[100];

	killed_under_dma(VT_MEM_HUGE_2M);
	if (!vt_mem_has(VT_MEM_HUGE_2M, 64 * SZ_1M, why, sizeof(why)))
		FAIL("%s", why);
}

/* The process is killed while it registers, maps, unmaps and unregisters. */
static void killed_at_any_moment(void)
{
	struct vt_container c;
	u64 pinned;
	int super, sock, i;
	pid_t pid;
	u8 *p;

	vt_open_v2(&c);
	vt_need_super(&c);
	vt_close(&c);
	srand(3);
	pinned = vt_pinned();
	for (i = 0; i < 20; i++) {
		pid = vt_fork_peer(&sock);
		if (!pid) {
			vt_open_v2(&c);
			super = vt_super_new(&c);
			vt_send_fd(sock, super);
			p = vt_alloc(i % 2 ? VT_MEM_4K : VT_MEM_THP, SIZE);
			for (;;) {
				ASSERT_OK(vt_super_register(super, p, SIZE, RW));
				ASSERT_OK(vt_map_super(&c, BASE, p, SIZE, VT_RW, SZ_2M));
				ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));
				ASSERT_OK(vt_unmap(&c, BASE, SIZE, NULL));
				ASSERT_OK(vt_super_unregister(super, p, SIZE));
			}
		}
		super = vt_recv_fd(sock);
		usleep(30000 + rand() % 150000);
		vt_kill(pid);
		close(sock);
		/* The file is still open here, and its memory, if any, is there. */
		{
			struct vfio_super_info info;

			ASSERT_OK(vt_super_info(super, &info));
			ASSERT_EQ(info.locked, 0);
			ASSERT_EQ(info.containers, 0);
			ASSERT_EQ(info.registered, info.regions * SIZE);
			ASSERT_LE(info.regions, 1);
			if (i % 4 == 3 && info.regions) {
				vt_open_v2(&c);
				ASSERT_OK(vt_super_attach(&c, super));
				ASSERT_EQ(vt_pinned(), pinned + NR);
				vt_close(&c);
			}
		}
		close(super);
		ASSERT_PINNED_SOON(pinned);
	}
}

/* ---- Passed on ---- */

#define PEERS	3

/*
 * Each process gets the descriptor from the one before it, opens a container, attaches, maps
 * and does DMA. They end in this order; the creator is 0.
 */
static void passed_on(const int *order)
{
	int sock[PEERS + 1], super, k;
	u64 pinned = vt_pinned(), back;
	struct vt_container c;
	pid_t pid[PEERS + 1];
	u8 buf[64], *p;

	if (vt_edu_count() < PEERS + 1)
		SKIP("%d edu devices, this needs %d", vt_edu_count(), PEERS + 1);
	for (k = 0; k <= PEERS; k++) {
		pid[k] = vt_fork_peer(&sock[k]);
		if (pid[k])
			continue;
		if (!k) {
			vt_open(&c, VFIO_TYPE1v2_IOMMU, 0);
			super = vt_super_new(&c);
			vt_edu_enable(&c.dev[0]);
			p = vt_alloc(VT_MEM_THP, SIZE);
			memset(p, 0, SIZE);
			ASSERT_OK(vt_super_register(super, p, SIZE, RW));
			ASSERT_EQ(vt_locked(), SIZE + SZ_4K);
		} else {
			super = vt_recv_fd(sock[k]);
			p = (u8 *)(uintptr_t)vt_hear(sock[k]);
			vt_open(&c, VFIO_TYPE1v2_IOMMU, k);
			ASSERT_OK(vt_super_attach(&c, super));
			vt_edu_enable(&c.dev[0]);
		}
		ASSERT_OK(vt_map_super(&c, BASE, p, SIZE, VT_RW, SZ_2M));
		ASSERT_EQ(vt_locked(), k ? SZ_4K : SIZE + SZ_4K);
		vt_send_fd(sock[k], super);
		vt_tell(sock[k], (uintptr_t)p);
		close(super);
		/* Each number is something to write to the memory; 0 is the end. */
		while ((back = vt_hear(sock[k]))) {
			vt_dma_read(&c.dev[0], BASE + SZ_2M, buf, sizeof(buf));
			ASSERT_TRUE(back == 1 || vt_filled(buf, sizeof(buf), back - 1));
			vt_fill(buf, sizeof(buf), back);
			vt_dma_write(&c.dev[0], BASE + SZ_2M, buf, sizeof(buf));
			vt_tell(sock[k], back);
		}
		exit(0);
	}

	back = 0;
	for (k = 0; k <= PEERS; k++) {
		super = vt_recv_fd(sock[k]);
		p = (u8 *)(uintptr_t)vt_hear(sock[k]);
		ASSERT_SUPER(super, SIZE, SIZE, 1, k + 1);
		if (k < PEERS) {
			vt_send_fd(sock[k + 1], super);
			vt_tell(sock[k + 1], (uintptr_t)p);
			close(super);
		}
	}
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_EQ(vt_locked_of(pid[0]), SIZE + SZ_4K);
	close(super);
	for (k = 0; k <= PEERS; k++) {
		int at;

		/* All that are left write in turn, and read what the one before wrote. */
		for (at = k; at <= PEERS; at++) {
			vt_tell(sock[order[at]], ++back);
			ASSERT_EQ(vt_hear(sock[order[at]]), back);
		}
		if (k % 2) {
			vt_tell(sock[order[k]], 0);
			vt_wait_exit(pid[order[k]]);
		} else {
			vt_kill(pid[order[k]]);
		}
		if (k < PEERS)
			ASSERT_GE(vt_pinned(), pinned + NR);
	}
	ASSERT_PINNED_SOON(pinned);
}

static void passed_on_creator_first(void)
{
	static const int order[] = { 0, 1, 2, 3 };

	passed_on(order);
}

static void passed_on_creator_last(void)
{
	static const int order[] = { 3, 1, 2, 0 };

	passed_on(order);
}

static void passed_on_mixed(void)
{
	static const int order[] = { 2, 0, 3, 1 };

	passed_on(order);
}

/* The only descriptor is in a message that nobody has received yet. */
static void in_flight(void)
{
	u64 pinned = vt_pinned();
	struct vt_container c;
	int super, sock, pair;
	pid_t pid;
	u8 *p;

	vt_open_v2(&c);
	vt_need_super(&c);
	super = vt_super_create(&c);
	ASSERT_GE(super, 0);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	pid = vt_fork_peer(&sock);
	if (!pid) {
		vt_hear(sock);
		super = vt_recv_fd(sock);
		ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 0);
		exit(0);
	}
	pair = dup(sock);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	vt_tell(sock, 0);
	vt_send_fd(pair, super);
	close(super);
	vt_wait_exit(pid);
	/* The child had a copy from fork(), and the one it got. */
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);

	/* Never received: gone with the socket. */
	super = vt_super_create(&c);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	pid = vt_fork_peer(&sock);
	if (!pid)
		for (;;)
			pause();
	vt_send_fd(sock, super);
	close(super);
	vt_kill(pid);
	close(sock);
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);
}

/* ---- Inherited by exec ---- */

struct handover {
	struct vt_container c;
	int super;
	u64 p, elsewhere;
};

/* The same process with a new mm may do what any other process may. */
static void after_exec(const struct handover *h)
{
	struct vt_container c = h->c;
	u8 buf[64], *mine;
	u64 pinned = vt_pinned();

	c.dev[0].c = &c;
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_SUPER(h->super, SZ_2M, 0, 1, 1);
	vt_edu_enable(&c.dev[0]);
	vt_dma_read(&c.dev[0], BASE, buf, sizeof(buf));
	ASSERT_TRUE(vt_filled(buf, sizeof(buf), 6));
	mine = vt_alloc(VT_MEM_4K, SZ_64K);
	ASSERT_EQ(vt_super_register(h->super, mine, SZ_64K, RW), -EPERM);
	ASSERT_EQ(vt_super_unregister(h->super, (void *)(uintptr_t)h->p, SZ_2M), -EPERM);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));
	ASSERT_OK(vt_map_super(&c, BASE, (void *)(uintptr_t)(h->p + SZ_64K), SZ_64K, VT_RW, 0));
	vt_dma_read(&c.dev[0], BASE, buf, sizeof(buf));
	ASSERT_TRUE(vt_filled(buf, sizeof(buf), 7));
	ASSERT_OK(vt_unmap(&c, BASE, SZ_2M, NULL));
	ASSERT_EQ(vt_pinned(), pinned + 1);
	ASSERT_OK(vt_super_detach(&c));
	ASSERT_EQ(vt_super_unregister(h->super, (void *)(uintptr_t)h->p, SZ_2M), -EPERM);
	close(h->super);
	ASSERT_PINNED_SOON(pinned + 1 - SZ_2M / SZ_4K);
	ASSERT_EQ(vt_locked(), SZ_4K);
}

static void exec_inherited(void)
{
	struct handover h = { 0 };
	u8 *p;

	vt_open_v2(&h.c);
	h.super = vt_super_new(&h.c);
	p = vt_alloc(VT_MEM_THP, SZ_2M);
	vt_fill(p, 64, 6);
	vt_fill(p + SZ_64K, 64, 7);
	h.p = (uintptr_t)p;
	ASSERT_OK(vt_super_register(h.super, p, SZ_2M, RW));
	ASSERT_OK(vt_map_super(&h.c, BASE, p, SZ_2M, VT_RW, SZ_64K));
	vt_keep_open(h.super);
	vt_exec(&h.c, &h, sizeof(h));
}

/* By default exec closes it: charge and memory go with the old mm. */
static void exec_closes(void)
{
	u64 pinned = vt_pinned();
	struct vt_container c;
	char text[24];
	pid_t pid;
	int super;

	vt_open_v2(&c);
	vt_need_super(&c);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		super = vt_super_create(&c);
		ASSERT_GE(super, 0);
		ASSERT_OK(vt_super_register(super, vt_alloc(VT_MEM_4K, SZ_1M), SZ_1M, RW));
		snprintf(text, sizeof(text), "%llu", pinned);
		setenv("VTEST_PINNED", text, 1);
		execl("/proc/self/exe", "super_life", NULL);
		FAIL("exec: %s", strerror(errno));
	}
	vt_wait_exit(pid);
	ASSERT_PINNED_SOON(pinned);
}

/* ---- A registration that waits ---- */

struct waiting {
	int super, uffd, ret;
	u8 *p;
	u64 size;
	pthread_t thread;
};

static void *register_waits(void *arg)
{
	struct waiting *w = arg;

	w->ret = vt_super_register(w->super, w->p, w->size, RW);
	return NULL;
}

/* A thread that registers memory whose second half does not come. */
static void start_waiting(struct waiting *w, int super)
{
	u64 at;

	w->super = super;
	w->size = SZ_2M;
	w->p = mmap(NULL, w->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(w->p != MAP_FAILED);
	madvise(w->p, w->size, MADV_NOHUGEPAGE);
	for (at = 0; at < w->size / 2; at += SZ_4K)
		w->p[at] = 1;
	w->uffd = vt_withhold(w->p, w->size);
	ASSERT_OK(pthread_create(&w->thread, NULL, register_waits, w));
	ASSERT_EQ(vt_awaited(w->uffd), (uintptr_t)w->p + w->size / 2);
}

static void end_waiting(struct waiting *w)
{
	vt_provide(w->uffd, w->p + w->size / 2, w->size / 2);
	ASSERT_OK(pthread_join(w->thread, NULL));
	ASSERT_OK(w->ret);
}

/* A registration waits, but nobody else has to. */
static void waits_alone(void)
{
	struct vt_container c, d;
	u64 base, start;
	struct waiting w;
	int super, other;
	u8 *p;

	vt_open_v2(&c);
	super = vt_super_new(&c);
	vt_edu_enable(&c.dev[0]);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
	base = vt_locked();
	/* Fail rather than hang if somebody does wait. */
	alarm(60);
	start_waiting(&w, super);
	start = vt_now();

	/* It is paid for before the first page is pinned, and not registered before the last. */
	ASSERT_EQ(vt_locked(), base + w.size);
	ASSERT_SUPER(super, SZ_64K, SZ_64K + w.size, 1, 1);

	/* The range is taken, and cannot be mapped, not even the pages that are there. */
	ASSERT_EQ(vt_super_register(super, w.p, w.size, RW), -EEXIST);
	ASSERT_EQ(vt_super_register(super, w.p, SZ_4K, RW), -EEXIST);
	ASSERT_EQ(vt_super_register(super, w.p + w.size - SZ_4K, SZ_4K, RW), -EEXIST);
	ASSERT_EQ(vt_map_super(&c, BASE, w.p, SZ_4K, VT_RW, 0), -ENOENT);
	ASSERT_EQ(vt_map_super(&c, BASE, w.p, w.size, VT_RW, SZ_4K), -ENOENT);
	ASSERT_EQ(vt_super_unregister(super, w.p, w.size), -ENOENT);

	/* All else goes on: here, in other containers, other super-containers. */
	ASSERT_OK(vt_super_register(super, p + SZ_64K, SZ_64K, RW));
	ASSERT_SUPER(super, 2 * SZ_64K, 2 * SZ_64K + w.size, 2, 1);
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_64K, VT_RW, SZ_4K));
	ASSERT_OK(vt_map_super(&c, BASE + SZ_64K, p + SZ_64K, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, p, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_unmap(&c, BASE, SZ_4K, NULL));
	vt_fill(p + SZ_4K, 64, 8);
	{
		u8 buf[64];

		vt_dma_read(&c.dev[0], BASE + SZ_4K, buf, sizeof(buf));
		ASSERT_TRUE(vt_filled(buf, sizeof(buf), 8));
	}
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_OK(vt_super_unregister(super, p, SZ_64K));
	ASSERT_OK(vt_super_detach(&c));
	ASSERT_SUPER(super, SZ_64K, SZ_64K + w.size, 1, 0);
	ASSERT_OK(vt_super_attach(&c, super));
	vt_open(&d, VFIO_TYPE1v2_IOMMU, 1);
	ASSERT_OK(vt_super_attach(&d, super));
	ASSERT_OK(vt_map_super(&d, BASE, p + SZ_64K, SZ_64K, VT_RW, 0));
	ASSERT_SUPER(super, SZ_64K, SZ_64K + w.size, 1, 2);
	vt_close(&d);
	ASSERT_SUPER(super, SZ_64K, SZ_64K + w.size, 1, 1);
	other = vt_super_create(&c);
	ASSERT_GE(other, 0);
	ASSERT_OK(vt_super_register(other, p, SZ_1M, RW));
	close(other);
	close(dup(super));
	ASSERT_LT(vt_now() - start, 30 * 1000000000ull);

	end_waiting(&w);
	ASSERT_SUPER(super, w.size + SZ_64K, w.size + SZ_64K, 2, 1);
	ASSERT_LOCKED_SOON(getpid(), w.size + SZ_64K);
	ASSERT_OK(vt_map_super(&c, BASE, w.p, w.size, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_OK(vt_super_unregister(super, w.p, w.size));
}

/* The descriptor is closed while it waits: the call keeps the file until it ends. */
static void waits_closed(void)
{
	u64 pinned = vt_pinned();
	struct vt_container c;
	struct waiting w;
	int super;

	vt_open_v2(&c);
	super = vt_super_new(&c);
	alarm(60);
	start_waiting(&w, super);
	close(super);
	/* The container goes, too; its close does not wait for a page. */
	vt_close(&c);
	vt_provide(w.uffd, w.p + w.size / 2, w.size / 2);
	ASSERT_OK(pthread_join(w.thread, NULL));
	ASSERT_OK(w.ret);
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);
}

/* Instead of the page an error comes: nothing has changed. */
static void waits_in_vain(void)
{
	struct uffdio_range range;
	u64 base, pinned;
	struct vt_container c;
	struct waiting w;
	int super;

	vt_open_v2(&c);
	super = vt_super_new(&c);
	base = vt_locked();
	pinned = vt_pinned();
	alarm(60);
	start_waiting(&w, super);
	/* There is nothing to come any more: look again. */
	range.start = (uintptr_t)w.p;
	range.len = w.size;
	ASSERT_OK(munmap(w.p + w.size / 2, w.size / 2));
	ASSERT_OK(ioctl(w.uffd, UFFDIO_WAKE, &range));
	ASSERT_OK(pthread_join(w.thread, NULL));
	ASSERT_EQ(w.ret, -EFAULT);
	ASSERT_SUPER(super, 0, 0, 0, 1);
	ASSERT_EQ(vt_locked(), base);
	ASSERT_EQ(vt_pinned(), pinned);
	ASSERT_OK(vt_super_register(super, w.p, w.size / 2, RW));
}

/* A process that is killed while it waits dies at once, and leaves nothing registered. */
static void waits_killed(void)
{
	u64 pinned = vt_pinned(), start;
	struct vfio_super_info info;
	struct vt_container c;
	int super, sock, theirs;
	struct waiting w;
	pid_t pid;
	u8 *p;

	vt_open_v2(&c);
	vt_need_super(&c);
	pid = vt_fork_peer(&sock);
	if (!pid) {
		super = vt_super_new(&c);
		p = vt_alloc(VT_MEM_4K, SZ_64K);
		ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
		vt_send_fd(sock, super);
		vt_tell(sock, super);
		vt_tell(sock, (uintptr_t)p);
		start_waiting(&w, super);
		vt_tell(sock, (uintptr_t)w.p);
		pause();
		exit(0);
	}
	super = vt_recv_fd(sock);
	theirs = vt_hear(sock);
	p = (u8 *)(uintptr_t)vt_hear(sock);
	w.p = (u8 *)(uintptr_t)vt_hear(sock);
	alarm(60);
	/* Others do not wait for it, either. */
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_EQ(vt_map_super(&c, BASE + SZ_1M, w.p, SZ_64K, VT_RW, 0), -ENOENT);
	ASSERT_SUPER(super, SZ_64K, SZ_64K + SZ_2M, 1, 1);
	ASSERT_EQ(vt_locked_of(pid), SZ_64K + SZ_2M);
	/* Nor does who looks at it through the descriptor that waits. */
	vt_super_fdinfo(pid, theirs, &info);
	ASSERT_EQ(info.registered, SZ_64K);
	ASSERT_EQ(info.locked, SZ_64K + SZ_2M);
	ASSERT_EQ(info.regions, 1);
	ASSERT_EQ(info.containers, 1);
	start = vt_now();
	vt_kill(pid);
	ASSERT_LT(vt_now() - start, 20 * 1000000000ull);
	ASSERT_SUPER(super, SZ_64K, 0, 1, 1);
	ASSERT_EQ(vt_map_super(&c, BASE + SZ_1M, w.p, SZ_64K, VT_RW, 0), -ENOENT);
	ASSERT_EQ(vt_pinned(), pinned + SZ_64K / SZ_4K);
	close(super);
	vt_close(&c);
	ASSERT_PINNED_SOON(pinned);
}

/* Many wait at once, and all of them end. */
static void many_wait(void)
{
	struct vfio_super_info info;
	struct vt_container c;
	struct waiting w[8];
	u64 base;
	size_t i;
	int super;

	vt_open_v2(&c);
	super = vt_super_new(&c);
	base = vt_locked();
	alarm(120);
	for (i = 0; i < ARRAY_SIZE(w); i++)
		start_waiting(&w[i], super);
	ASSERT_EQ(vt_locked(), base + ARRAY_SIZE(w) * SZ_2M);
	for (i = 0; i < ARRAY_SIZE(w); i++) {
		end_waiting(&w[i * 3 % ARRAY_SIZE(w)]);
		ASSERT_OK(vt_super_info(super, &info));
		ASSERT_EQ(info.regions, i + 1);
		ASSERT_EQ(info.registered, (i + 1) * SZ_2M);
		ASSERT_EQ(vt_locked(), base + ARRAY_SIZE(w) * SZ_2M);
	}
	ASSERT_SUPER(super, ARRAY_SIZE(w) * SZ_2M, ARRAY_SIZE(w) * SZ_2M, ARRAY_SIZE(w), 1);
}

/* ---- Nobody waits for the creator ---- */

/* The creator. Its mmap_lock is held. */
static void creator_is_held(int sock)
{
	struct vt_container c;
	int super;
	u8 *p;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	td_add(&c, 1);
	super = vt_super_create(&c);
	ASSERT_GE(super, 0);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	vt_fill(p, 64, 9);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	vt_send_fd(sock, super);
	close(super);
	vt_tell(sock, (uintptr_t)p);
	td_hold_mm();
	vt_tell(sock, 0);
	vt_hear(sock);
	exit(0);
}

/* Drops the file's last reference; how long that takes. */
static u64 by_close(int super, u8 *p)
{
	u64 start = vt_now();

	(void)p;
	close(super);
	return vt_now() - start;
}

/* A container has the last reference, and its group leaves it. */
static u64 by_leaving(int super, u8 *p)
{
	struct vt_container c;
	u64 start, took;

	vt_open_v2(&c);
	ASSERT_OK(vt_super_attach(&c, super));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_4K));
	close(super);
	/* Takes long, and need not be part of it. */
	close(c.dev[0].fd);
	start = vt_now();
	ASSERT_OK(ioctl(c.dev[0].group_fd, VFIO_GROUP_UNSET_CONTAINER));
	took = vt_now() - start;
	close(c.dev[0].group_fd);
	close(c.fd);
	return took;
}

static u64 by_detach(int super, u8 *p)
{
	struct vt_container c;
	u64 start, took;

	vt_open_v2(&c);
	ASSERT_OK(vt_super_attach(&c, super));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0));
	close(super);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	start = vt_now();
	ASSERT_OK(vt_super_detach(&c));
	took = vt_now() - start;
	vt_close(&c);
	return took;
}

/* Another process has file and container, and is killed. */
static u64 by_kill(int super, u8 *p)
{
	struct vt_container c;
	int sock;
	pid_t pid;
	u64 start;

	pid = vt_fork_peer(&sock);
	if (!pid) {
		vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
		td_add(&c, 0);
		ASSERT_OK(vt_super_attach(&c, super));
		ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0));
		vt_tell(sock, 0);
		pause();
		exit(0);
	}
	close(super);
	vt_hear(sock);
	start = vt_now();
	vt_kill(pid);
	return vt_now() - start;
}

/*
 * The last user goes while the creator's mmap_lock is held for reading, as by a page fault
 * that waits for FUSE. The close returns at once, and the memory is unpinned. Only the
 * uncharge waits, and nobody waits for it.
 */
static void not_held_up(const char *how, u64 (*drop)(int super, u8 *p))
{
	u64 pinned = vt_pinned(), took, start;
	int super, sock, mem;
	char path[32];
	u8 buf[64], *p;
	pid_t pid;

	pid = vt_fork_peer(&sock);
	if (!pid)
		creator_is_held(sock);
	super = vt_recv_fd(sock);
	p = (u8 *)(uintptr_t)vt_hear(sock);
	vt_hear(sock);
	ASSERT_EQ(vt_pinned(), pinned + SZ_1M / SZ_4K);

	took = drop(super, p);
	ASSERT_EQ(vt_pinned(), pinned);
	vt_diag("%s took %llu us", how, took / 1000);
	ASSERT_LT(took, 20 * 1000000000ull);

	/* As long as it takes, nobody is queued for the lock who would keep readers out. */
	usleep(300000);
	ASSERT_EQ(vt_locked_of(pid), SZ_1M);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	start = vt_now();
	mem = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(mem, 0);
	ASSERT_EQ(pread(mem, buf, sizeof(buf), (uintptr_t)p), (ssize_t)sizeof(buf));
	ASSERT_LT(vt_now() - start, 20 * 1000000000ull);
	ASSERT_TRUE(vt_filled(buf, sizeof(buf), 9));
	close(mem);
	ASSERT_EQ(vt_locked_of(pid), SZ_1M);

	td_release_mm(pid);
	ASSERT_LOCKED_SOON(pid, 0);
	vt_tell(sock, 0);
	vt_wait_exit(pid);
	close(sock);
}

static void last_close_does_not_wait(void)
{
	struct vt_container c;

	td_need();
	vt_open_v2(&c);
	vt_need_super(&c);
	vt_close(&c);
	/* Fail rather than hang if somebody does wait. */
	alarm(60);
	not_held_up("close", by_close);
	not_held_up("the last group's leaving", by_leaving);
	not_held_up("detach", by_detach);
	not_held_up("death", by_kill);
}

int main(int argc, char **argv)
{
	static const struct vtest tests[] = {
		VTEST(killed_4k),
		VTEST(killed_thp),
		VTEST(killed_hugetlb),
		VTEST(killed_at_any_moment),
		VTEST(passed_on_creator_first),
		VTEST(passed_on_creator_last),
		VTEST(passed_on_mixed),
		VTEST(in_flight),
		VTEST(exec_inherited),
		VTEST(exec_closes),
		VTEST(waits_alone),
		VTEST(waits_closed),
		VTEST(waits_in_vain),
		VTEST(waits_killed),
		VTEST(many_wait),
		VTEST(last_close_does_not_wait),
	};
	const char *pinned = getenv("VTEST_PINNED");
	struct handover h;

	/* The program that exec_closes() starts: it is all gone while this one runs. */
	if (pinned) {
		ASSERT_PINNED_SOON(strtoull(pinned, NULL, 10));
		return vt_failed();
	}
	if (vt_handed_over(&h, sizeof(h))) {
		after_exec(&h);
		return vt_failed();
	}
	return vtest_main(argc, argv, tests, ARRAY_SIZE(tests));
}
