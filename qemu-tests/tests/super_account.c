// SPDX-License-Identifier: GPL-2.0
/*
 * A super-container charges what is registered once, however many containers map it. All is
 * uncharged, in whatever order file, containers and process go.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>

#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define RW	VT_SUPER_RW
#define SIZE	(4 * SZ_2M)
#define PAGES(n) ((n) * SZ_4K)

#define MTTY_UUID "83b8f4f2-509f-382f-3c1e-e6bfe0fa1042"

/*
 * As many containers as the machine has devices: one for each edu device, for each device of
 * the test module and for a mediated tty.
 */
#define EMULATED 3

static int max_containers(void)
{
	return vt_edu_count() + EMULATED + !access(VT_MTTY_TYPE, F_OK);
}

static void open_nth(struct vt_container *c, int k)
{
	int edus = vt_edu_count();

	if (k < edus) {
		vt_open(c, VFIO_TYPE1v2_IOMMU, k);
		return;
	}
	vt_open_empty(c, VFIO_TYPE1v2_IOMMU);
	if (k < edus + EMULATED)
		td_add(c, k - edus);
	else
		vt_add_group(c, vt_mdev_create(VT_MTTY_TYPE, MTTY_UUID), MTTY_UUID);
}

static void containers(int nr, enum vt_mem kind)
{
	struct vt_container c[16];
	u64 base, pinned, first = SIZE - SZ_2M - SZ_4K, second = SZ_2M;
	int super, i;
	u8 *p;

	if (nr > max_containers())
		SKIP("%d devices, this needs %d", max_containers(), nr);
	open_nth(&c[0], 0);
	super = vt_super_new(&c[0]);
	for (i = 1; i < nr; i++) {
		open_nth(&c[i], i);
		ASSERT_OK(vt_super_attach(&c[i], super));
	}
	p = vt_alloc(kind, SIZE);
	base = vt_locked();
	ASSERT_EQ(base, 0);
	pinned = vt_pinned();

	/* To the page, whatever the pages of the memory are. */
	ASSERT_OK(vt_super_register(super, p, first, RW));
	ASSERT_SUPER(super, first, first, 1, nr);
	ASSERT_EQ(vt_locked(), first);
	ASSERT_OK(vt_super_register(super, p + SIZE - SZ_2M, second, VFIO_SUPER_MEMORY_READ));
	ASSERT_SUPER(super, first + second, first + second, 2, nr);
	ASSERT_EQ(vt_locked(), first + second);
	ASSERT_EQ(vt_pinned(), pinned + (first + second) / SZ_4K);

	for (i = 0; i < nr; i++) {
		ASSERT_OK(vt_map_super(&c[i], BASE, p, first, VT_RW, i & 1 ? SZ_4K : 0));
		ASSERT_OK(vt_map_super(&c[i], 2 * BASE, p + SIZE - SZ_2M, second, VT_RO, SZ_2M));
		ASSERT_EQ(vt_locked(), first + second);
		ASSERT_EQ(vt_pinned(), pinned + (first + second) / SZ_4K);
	}
	ASSERT_SUPER(super, first + second, first + second, 2, nr);

	/* The same memory mapped the ordinary way is one more each time. */
	for (i = 0; i < nr && i < vt_edu_count(); i++) {
		ASSERT_OK(vt_map(&c[i], 3 * BASE, p, SZ_64K, VT_RW, 0));
		ASSERT_EQ(vt_locked(), first + second + (i + 1) * SZ_64K);
	}
	ASSERT_SUPER(super, first + second, first + second, 2, nr);
	for (i = 0; i < nr && i < vt_edu_count(); i++)
		ASSERT_OK(vt_unmap(&c[i], 3 * BASE, SZ_64K, NULL));

	for (i = 0; i < nr; i++) {
		ASSERT_OK(vt_unmap(&c[i], 2 * BASE, SZ_2M, NULL));
		if (i & 1)
			ASSERT_OK(vt_unmap(&c[i], BASE + SZ_64K, SZ_64K, NULL));
		ASSERT_EQ(vt_locked(), first + second);
	}
	ASSERT_OK(vt_super_unregister(super, p + SIZE - SZ_2M, second));
	ASSERT_SUPER(super, first, first, 1, nr);
	ASSERT_EQ(vt_locked(), first);
	for (i = 0; i < nr; i++) {
		vt_close(&c[i]);
		ASSERT_SUPER(super, first, first, 1, nr - i - 1);
		ASSERT_EQ(vt_locked(), first);
	}
	ASSERT_OK(vt_super_unregister(super, p, first));
	ASSERT_SUPER(super, 0, 0, 0, 0);
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_EQ(vt_pinned(), pinned);
}

static void one_container(void)
{
	containers(1, VT_MEM_4K);
}

static void two_containers(void)
{
	containers(2, VT_MEM_THP);
}

static void two_containers_hugetlb(void)
{
	containers(2, VT_MEM_HUGE_2M);
}

static void eight_containers(void)
{
	containers(8, VT_MEM_4K);
}

static void eight_containers_thp(void)
{
	containers(8, VT_MEM_THP);
}

/* For the same memory type1 charges each container. */
static void without(void)
{
	struct vt_container c[2];
	u8 *p;
	int i;

	p = vt_alloc(VT_MEM_THP, SIZE);
	for (i = 0; i < 2; i++) {
		open_nth(&c[i], i);
		ASSERT_OK(vt_map(&c[i], BASE, p, SIZE, VT_RW, 0));
	}
	ASSERT_EQ(vt_locked(), 2 * SIZE);
}

/* ---- Teardown, in every order ---- */

#define FILE_GOES	0
#define FIRST_GOES	1
#define SECOND_GOES	2

/*
 * Closes the file and two containers, which have or have not mapped the memory, in this
 * order. The memory stays registered and charged until the last of them is gone.
 */
static void teardown(const int *order, bool mapped, bool unmap_first)
{
	u64 pinned = vt_pinned();
	struct vt_container c[2];
	int super, i, k;
	u8 *p;

	for (i = 0; i < 2; i++)
		open_nth(&c[i], i);
	vt_need_super(&c[0]);
	super = vt_super_create(&c[0]);
	ASSERT_GE(super, 0);
	p = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_super_register(super, p, SZ_2M, RW));
	ASSERT_OK(vt_super_register(super, p + SZ_2M, SZ_2M, RW));
	for (i = 0; i < 2; i++) {
		ASSERT_OK(vt_super_attach(&c[i], super));
		if (mapped)
			ASSERT_OK(vt_map_super(&c[i], BASE, p + i * SZ_2M, SZ_2M, VT_RW, SZ_64K));
	}
	/* Nobody else has the pages. */
	vt_free(p, VT_MEM_THP, SIZE);
	for (k = 0; k < 3; k++) {
		ASSERT_EQ(vt_locked(), 2 * SZ_2M);
		ASSERT_EQ(vt_pinned(), pinned + 2 * SZ_2M / SZ_4K);
		if (order[k] == FILE_GOES) {
			close(super);
			super = -1;
			continue;
		}
		i = order[k] - FIRST_GOES;
		if (mapped && unmap_first)
			ASSERT_OK(vt_unmap_all(&c[i], NULL));
		/* Attached is enough to map, even after the last close of the file. */
		if (!mapped) {
			ASSERT_OK(vt_map_super(&c[i], BASE, p, SZ_2M, VT_RW, 0));
			if (unmap_first)
				ASSERT_OK(vt_unmap_all(&c[i], NULL));
		}
		if (unmap_first)
			ASSERT_OK(vt_super_detach(&c[i]));
		else
			vt_close(&c[i]);
	}
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);
	for (i = 0; i < 2; i++)
		if (c[i].fd >= 0)
			vt_close(&c[i]);
}

static void teardown_orders(bool mapped, bool unmap_first)
{
	static const int order[][3] = {
		{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(order); i++) {
		vt_diag("order %d %d %d", order[i][0], order[i][1], order[i][2]);
		teardown(order[i], mapped, unmap_first);
	}
}

static void teardown_mapped(void)
{
	teardown_orders(true, false);
}

static void teardown_unmapped_first(void)
{
	teardown_orders(true, true);
}

static void teardown_attached(void)
{
	teardown_orders(false, false);
}

static void teardown_detached(void)
{
	teardown_orders(false, true);
}

/* Without an attached container the last close ends it. */
static void last_close(void)
{
	u64 pinned = vt_pinned();
	struct vt_container c;
	int super, again;
	u8 *p;

	vt_open_v2(&c);
	vt_need_super(&c);
	super = vt_super_create(&c);
	ASSERT_GE(super, 0);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	again = dup(super);
	close(super);
	ASSERT_SUPER(again, SZ_1M, SZ_1M, 1, 0);
	ASSERT_EQ(vt_locked(), SZ_1M);
	close(again);
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);
}

/* The group leaves, which ends the container; the file of it stays open. */
static void group_leaves(void)
{
	u64 pinned = vt_pinned();
	struct vt_container c;
	int super;
	u8 *p;

	vt_open_v2(&c);
	super = vt_super_new(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0));
	vt_remove(&c.dev[0]);
	ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 0);
	ASSERT_OK(vt_super_unregister(super, p, SZ_1M));
	ASSERT_EQ(vt_locked(), 0);

	/* Set again, it begins unattached. */
	vt_add_edu(&c, 0);
	ASSERT_EQ(vt_super_detach(&c), -ENOENT);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_EQ(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0), -EINVAL);
	ASSERT_OK(vt_super_attach(&c, super));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0));
	/* The file is closed first; then the group goes, and all with it. */
	close(super);
	ASSERT_EQ(vt_locked(), SZ_1M);
	vt_remove(&c.dev[0]);
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);
}

/* One of two groups leaves: the container stays attached. */
static void one_group_leaves(void)
{
	struct vt_container c;
	struct vt_dev *second;
	int super;
	u8 *p;

	vt_open_v2(&c);
	super = vt_super_new(&c);
	second = vt_add_edu(&c, 1);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0));
	vt_remove(&c.dev[0]);
	ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 1);
	ASSERT_EQ(vt_super_unregister(super, p, SZ_1M), -EBUSY);
	ASSERT_EQ(vt_locked(), SZ_1M);
	vt_remove(second);
	ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 0);
	ASSERT_OK(vt_super_unregister(super, p, SZ_1M));
}

/* ---- Who pays ---- */

/* The process that registered is charged, whoever maps, unmaps and closes last. */
static void creator_pays(void)
{
	struct vt_container c;
	int super, sock;
	pid_t pid;
	u8 *p;

	vt_open_v2(&c);
	vt_need_super(&c);
	pid = vt_fork_peer(&sock);
	if (!pid) {
		super = vt_super_create(&c);
		ASSERT_GE(super, 0);
		p = vt_alloc(VT_MEM_4K, SZ_1M);
		ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
		vt_send_fd(sock, super);
		close(super);
		vt_tell(sock, (uintptr_t)p);
		vt_hear(sock);
		ASSERT_LOCKED_SOON(getpid(), 0);
		exit(0);
	}
	super = vt_recv_fd(sock);
	p = (u8 *)(uintptr_t)vt_hear(sock);
	ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 0);
	ASSERT_OK(vt_super_attach(&c, super));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_4K));
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_EQ(vt_locked_of(pid), SZ_1M);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));
	ASSERT_EQ(vt_locked_of(pid), SZ_1M);
	close(super);
	ASSERT_EQ(vt_locked_of(pid), SZ_1M);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_EQ(vt_locked_of(pid), SZ_1M);
	/* The last of it goes with this process's container: the other is uncharged. */
	ASSERT_OK(vt_super_detach(&c));
	ASSERT_LOCKED_SOON(pid, 0);
	ASSERT_EQ(vt_locked(), 0);
	vt_tell(sock, 0);
	vt_wait_exit(pid);
}

/* When that process is gone, so is its charge. Nobody else is uncharged. */
static void creator_dead(bool killed)
{
	u64 pinned = vt_pinned(), own;
	struct vt_container c;
	int super, sock;
	pid_t pid;
	u8 *p, *mine;
	u8 buf[64];

	vt_open_v2(&c);
	vt_need_super(&c);
	vt_edu_enable(&c.dev[0]);
	pid = vt_fork_peer(&sock);
	if (!pid) {
		super = vt_super_new(&c);
		p = vt_alloc(VT_MEM_THP, SIZE);
		vt_fill(p, SIZE, 5);
		ASSERT_OK(vt_super_register(super, p, SIZE, RW));
		vt_send_fd(sock, super);
		vt_tell(sock, (uintptr_t)p);
		vt_hear(sock);
		exit(0);
	}
	super = vt_recv_fd(sock);
	p = (u8 *)(uintptr_t)vt_hear(sock);
	ASSERT_SUPER(super, SIZE, SIZE, 1, 1);
	ASSERT_OK(vt_map_super(&c, BASE, p, SIZE, VT_RW, SZ_2M));
	/* Something of this process's own to get wrong. */
	mine = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_map(&c, 2 * BASE, mine, SZ_1M, VT_RW, 0));
	own = vt_locked();
	if (killed) {
		vt_kill(pid);
	} else {
		vt_tell(sock, 0);
		vt_wait_exit(pid);
	}

	ASSERT_SUPER(super, SIZE, 0, 1, 1);
	ASSERT_GE(vt_pinned(), pinned + SIZE / SZ_4K);
	vt_dma_read(&c.dev[0], BASE, buf, sizeof(buf));
	ASSERT_TRUE(vt_filled(buf, sizeof(buf), 5));
	/* Nobody has the mm any more that could register, or unregister. */
	ASSERT_EQ(vt_super_register(super, mine, SZ_64K, RW), -EPERM);
	ASSERT_EQ(vt_super_unregister(super, p, SIZE), -EPERM);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_2M, NULL));
	ASSERT_OK(vt_map_super(&c, BASE, p + SZ_2M, SZ_2M, VT_RW, 0));
	ASSERT_EQ(vt_locked(), own);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_SUPER(super, SIZE, 0, 1, 1);
	close(super);
	ASSERT_GE(vt_pinned(), pinned + SIZE / SZ_4K);
	ASSERT_OK(vt_super_detach(&c));
	ASSERT_PINNED_SOON(pinned);
	ASSERT_EQ(vt_locked(), 0);
}

static void creator_exits(void)
{
	creator_dead(false);
}

static void creator_killed(void)
{
	creator_dead(true);
}

/* For a process that shares this one's memory: what it does, and its limit */
struct sharer {
	int super, ret;
	u8 *p;
	u64 size, limit;
};

/* It shares errno and exit handlers, too, so it only makes the call and exits. */
static int register_shared(void *arg)
{
	struct sharer *s = arg;

	if (s->limit)
		vt_limit_locked(s->limit);
	s->ret = vt_super_register(s->super, s->p, s->size, RW);
	_exit(0);
}

static pid_t clone_sharer(struct sharer *s, int flags)
{
	static u8 stack[SZ_64K] __attribute__((aligned(16)));
	pid_t pid = clone(register_shared, stack + sizeof(stack), CLONE_VM | SIGCHLD | flags, s);

	ASSERT_GE(pid, 0);
	return pid;
}

static int register_by_sharer(int super, u8 *p, u64 size, u64 limit)
{
	struct sharer s = { .super = super, .p = p, .size = size, .limit = limit };

	/* This one sleeps until the other is gone. */
	vt_wait_exit(clone_sharer(&s, CLONE_VFORK));
	return s.ret;
}

/*
 * A process made by clone(CLONE_VM) has its own limit and the creator's memory. It may
 * register that memory. The creator is charged, but the caller's limit counts.
 */
static void clone_vm(void)
{
	struct sharer s = { .size = SZ_2M };
	u64 pinned = vt_pinned();
	struct vt_container c;
	int super, uffd;
	pid_t pid;
	u8 *p;

	vt_open_v2(&c);
	super = vt_super_new(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	vt_limit_locked(SZ_4M);
	ASSERT_EQ(register_by_sharer(super, p, 2 * SZ_64K, 2 * SZ_64K - SZ_4K), -ENOMEM);
	ASSERT_SUPER(super, 0, 0, 0, 1);
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_OK(register_by_sharer(super, p, 2 * SZ_64K, 2 * SZ_64K));
	ASSERT_SUPER(super, 2 * SZ_64K, 2 * SZ_64K, 1, 1);
	ASSERT_EQ(vt_locked(), 2 * SZ_64K);
	/* What the creator has been charged leaves less for the other's limit. */
	ASSERT_EQ(register_by_sharer(super, p + 2 * SZ_64K, SZ_4K, 2 * SZ_64K), -ENOMEM);
	ASSERT_OK(vt_super_register(super, p + 2 * SZ_64K, SZ_4K, RW));
	ASSERT_OK(register_by_sharer(super, p + 3 * SZ_64K, SZ_4K, 0));
	ASSERT_SUPER(super, 2 * SZ_64K + SZ_8K, 2 * SZ_64K + SZ_8K, 3, 1);
	ASSERT_OK(vt_map_super(&c, BASE, p, 2 * SZ_64K, VT_RW, SZ_4K));

	/* Killed while it waits for memory: its charge is not left to the creator. */
	s.super = super;
	s.p = mmap(NULL, s.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(s.p != MAP_FAILED);
	madvise(s.p, s.size, MADV_NOHUGEPAGE);
	memset(s.p, 1, SZ_64K);
	uffd = vt_withhold(s.p, s.size);
	alarm(60);
	pid = clone_sharer(&s, 0);
	ASSERT_EQ(vt_awaited(uffd), (uintptr_t)s.p + SZ_64K);
	ASSERT_SUPER(super, 2 * SZ_64K + SZ_8K, 2 * SZ_64K + SZ_8K + s.size, 3, 1);
	ASSERT_EQ(vt_locked(), 2 * SZ_64K + SZ_8K + s.size);
	vt_kill(pid);
	ASSERT_SUPER(super, 2 * SZ_64K + SZ_8K, 2 * SZ_64K + SZ_8K, 3, 1);
	ASSERT_EQ(vt_locked(), 2 * SZ_64K + SZ_8K);
	ASSERT_EQ(vt_pinned(), pinned + (2 * SZ_64K + SZ_8K) / SZ_4K);
	ASSERT_EQ(vt_super_unregister(super, s.p, s.size), -ENOENT);
	vt_provide(uffd, s.p + SZ_64K, s.size - SZ_64K);
	ASSERT_OK(vt_super_register(super, s.p, s.size, RW));
	ASSERT_EQ(vt_locked(), 2 * SZ_64K + SZ_8K + s.size);
}

/*
 * How much of that the kernel has allocated, without page tables. The kernel adds changes
 * up only when they are large enough, so this makes one.
 */
static u64 cgroup_allocated(void)
{
	vt_free(vt_alloc(VT_MEM_4K, SZ_4M), VT_MEM_4K, SZ_4M);
	return vt_cgroup_stat("slab") + vt_cgroup_stat("vmalloc");
}

/*
 * A map charges nothing to locked_vm. Its page tables, its dirty bitmap and its bitmap of
 * granules are charged to the mapper's cgroup. The list of pages is charged to the cgroup of
 * the process that registers.
 */
static void maps_cost_cgroup(void)
{
	u64 i, nr = 512, size = 128 * SZ_1M, before;
	struct vt_container c;
	pid_t pid;
	int super;
	u8 *p;

	vt_need_cgroup();
	vt_open_v2(&c);
	super = vt_super_new(&c);
	p = vt_alloc(VT_MEM_THP, size);
	ASSERT_OK(vt_super_register(super, p, size, RW));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		vt_join_cgroup();
		before = vt_cgroup_memory();
		/* At least a table each. */
		for (i = 0; i < nr; i++)
			ASSERT_OK(vt_map_super(&c, BASE + i * SZ_1G, p, size, VT_RW, 0));
		/* The page tables of virtio-iommu are the host's. */
		if (!vt_machine_is("virtio"))
			ASSERT_GE(vt_cgroup_memory(), before + nr * SZ_4K / 2);
		before = vt_cgroup_memory();
		ASSERT_OK(vt_dirty_start(&c));
		ASSERT_GE(vt_cgroup_memory(), before + nr * size / SZ_4K / 8 / 2);
		ASSERT_OK(vt_dirty_stop(&c));

		before = cgroup_allocated();
		for (i = nr; i < nr + 4; i++)
			ASSERT_OK(vt_map_super(&c, BASE + i * SZ_1G, p, size, VT_RW, SZ_4K));
		ASSERT_GE(cgroup_allocated(), before + 4 * size / SZ_4K / 8 / 2);
		ASSERT_EQ(vt_locked(), 0);

		p = vt_alloc(VT_MEM_SCATTERED, size / 2);
		super = vt_super_create(&c);
		ASSERT_GE(super, 0);
		before = cgroup_allocated();
		ASSERT_OK(vt_super_register(super, p, size / 2, RW));
		ASSERT_GE(cgroup_allocated(), before + size / 2 / SZ_4K * 16 / 2);
		exit(0);
	}
	vt_wait_exit(pid);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_EQ(vt_locked(), size);
	vt_remove_cgroup();
}

/*
 * A child in a limited cgroup maps until it is out of memory, or is killed for that. Returns
 * how many maps it made.
 */
static u64 map_until_refused(struct vt_container *c, const u8 *p, u64 size, u64 stride,
			     u64 granule, u64 most)
{
	static u64 *count;
	int status;
	pid_t pid;

	if (!count)
		count = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(count != MAP_FAILED);
	*count = 0;
	vt_kernel_may_say("invoked oom-killer|[Oo]ut of memory: Killed process [0-9]+ .super_account.|^ *Call Trace:$");
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		int ret = 0;

		vt_join_cgroup();
		for (; *count < most && !ret; ++*count)
			ret = vt_map_super(c, BASE + *count * stride, p, size, VT_RW, granule);
		_exit(-ret);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	vt_diag("%llu maps, then status %#x", *count, status);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		ASSERT_EQ(WEXITSTATUS(status), *count < most ? ENOMEM : 0);
	return *count;
}

/*
 * Maps of one registration charge nothing to locked_vm. Only the cgroup limits them: page
 * tables, what an IOMMU driver keeps for each map, and DMA entries are charged to it.
 */
static void maps_end_at_cgroup_limit(void)
{
	u64 size = SZ_4M, slab = vt_meminfo("Slab"), n;
	struct vt_container c;
	int super;
	u8 *p;

	vt_need_cgroup();
	vt_open_v2(&c);
	super = vt_super_new(&c);
	p = vt_alloc(VT_MEM_SCATTERED, size);
	ASSERT_OK(vt_super_register(super, p, size, RW));
	vt_limit_cgroup("8M");
	n = map_until_refused(&c, p, size, SZ_1G, SZ_4K, 4000);
	ASSERT_LT(n, 4000);
	ASSERT_LT(vt_meminfo("Slab"), slab + 32 * SZ_1M);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_OK(vt_super_detach(&c));
	vt_remove_cgroup();
}

/* Only the entries count: maps of one page each, which share one table. */
static void entries_cost_cgroup(void)
{
	u64 nr = 30000, i, before;
	struct vt_container c;
	pid_t pid;
	int super;
	u8 *p;

	vt_need_cgroup();
	vt_open_v2(&c);
	super = vt_super_new(&c);
	p = vt_alloc(VT_MEM_4K, SZ_4K);
	ASSERT_OK(vt_super_register(super, p, SZ_4K, RW));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		vt_join_cgroup();
		before = cgroup_allocated();
		for (i = 0; i < nr; i++)
			ASSERT_OK(vt_map_super(&c, BASE + i * SZ_4K, p, SZ_4K, VT_RW, 0));
		/* A struct vfio_dma is more than 100 bytes. */
		ASSERT_GE(cgroup_allocated(), before + nr * 100);
		exit(0);
	}
	vt_wait_exit(pid);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	vt_remove_cgroup();
}

#define MOST_PIECES	((1ull << 31) - 1)

/* Where the largest IOVA range is, and how large, but not more than 2^31 - 1 pages */
static u64 most_iova(struct vt_container *c, u64 *iova)
{
	u64 size, best = 0;
	struct vt_info info;
	unsigned int i;

	vt_info(c, &info);
	for (i = 0; i < info.nr_ranges; i++) {
		size = ALIGN_DOWN(info.range[i].last - info.range[i].first, SZ_4K);
		if (size < best)
			continue;
		best = size;
		*iova = info.range[i].first;
	}
	return best < MOST_PIECES * SZ_4K ? best : MOST_PIECES * SZ_4K;
}

static int map_pieces(struct vt_container *c, u64 iova, u64 size)
{
	return vt_map(c, iova, (void *)SZ_4K, size, VT_RW, SZ_4K);
}

static int track(struct vt_container *c, u64 iova, u64 size)
{
	(void)iova;
	(void)size;
	return vt_dirty_start(c);
}

/*
 * The bitmaps for holes and for dirty pages take up to 256 MiB. If the cgroup has less, the
 * call fails and changes nothing, and the kernel does not complain.
 */
static void too_large_enomem(void)
{
	u64 most = MOST_PIECES * SZ_4K, size = most - SZ_1G + SZ_4K, iova = 0, some, word = 0;
	struct vt_container c, d;

	vt_need_cgroup();
	vt_open_granule(&c);
	some = most_iova(&c, &iova);
	vt_diag("%#llx of %#llx bytes at %#llx", some, most, iova);
	/* No IOMMU: nothing of it is pinned. Holes of a GiB take little, dirty pages do not. */
	vt_open_empty(&d, VFIO_TYPE1v2_IOMMU);
	td_add(&d, 0);
	ASSERT_OK(vt_map(&d, 0, (void *)SZ_4K, size, VT_RW, SZ_1G));
	vt_limit_cgroup("32M");
	vt_expect_enomem(&d, map_pieces, 2 * most, most);
	if (some > most / 4)
		vt_expect_enomem(&c, map_pieces, iova, some);
	vt_expect_enomem(&d, track, 0, 0);
	/* It is off. */
	ASSERT_EQ(vt_dirty_get(&d, 0, SZ_1G, &word, 8), -EINVAL);
	ASSERT_EQ(vt_extents_count(&d, 0, 0), 1);
	ASSERT_EQ(vt_extents_count(&c, 0, 0), 0);
	vt_expect_no_oom_kill();
	vt_limit_cgroup("max");
	vt_remove_cgroup();

	/* Where there is memory, nothing else was wrong, or the next thing is. */
	ASSERT_OK(map_pieces(&d, 2 * most, most));
	ASSERT_OK(vt_unmap(&d, 2 * most, most, NULL));
	if (some > most / 4)
		ASSERT_REFUSED(&c, map_pieces(&c, iova, some), EFAULT);
	ASSERT_OK(vt_dirty_start(&d));
	ASSERT_OK(vt_dirty_stop(&d));
}

/* Many registrations of one page each: all are charged, and all are uncharged. */
static void many_regions(void)
{
	u64 pinned = vt_pinned(), i, n = 2000;
	struct vt_container c;
	int super;
	u8 *p;

	vt_open_v2(&c);
	super = vt_super_new(&c);
	p = vt_alloc(VT_MEM_4K, PAGES(n));
	for (i = 0; i < n; i += 2)
		ASSERT_OK(vt_super_register(super, p + PAGES(i), SZ_4K, RW));
	for (i = 1; i < n; i += 2)
		ASSERT_OK(vt_super_register(super, p + PAGES(i), SZ_4K, RW));
	ASSERT_SUPER(super, PAGES(n), PAGES(n), n, 1);
	ASSERT_EQ(vt_locked(), PAGES(n));
	for (i = 0; i < n; i += 4)
		ASSERT_OK(vt_map_super(&c, BASE + PAGES(i), p + PAGES(n - i - 1), SZ_4K, VT_RW, 0));
	for (i = 0; i < n; i++)
		ASSERT_EQ(vt_super_unregister(super, p + PAGES(n - i - 1), SZ_4K),
			  i % 4 ? 0 : -EBUSY);
	ASSERT_SUPER(super, PAGES(n / 4), PAGES(n / 4), n / 4, 1);
	ASSERT_EQ(vt_locked(), PAGES(n / 4));
	close(super);
	vt_close(&c);
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);
}

VTEST_MAIN(
	VTEST(one_container),
	VTEST(two_containers),
	VTEST(two_containers_hugetlb),
	VTEST(eight_containers),
	VTEST(eight_containers_thp),
	VTEST(without),
	VTEST(teardown_mapped),
	VTEST(teardown_unmapped_first),
	VTEST(teardown_attached),
	VTEST(teardown_detached),
	VTEST(last_close),
	VTEST(group_leaves),
	VTEST(one_group_leaves),
	VTEST(creator_pays),
	VTEST(creator_exits),
	VTEST(creator_killed),
	VTEST(clone_vm),
	VTEST(maps_cost_cgroup),
	VTEST(maps_end_at_cgroup_limit),
	VTEST(entries_cost_cgroup),
	VTEST(too_large_enomem),
	VTEST(many_regions),
)
