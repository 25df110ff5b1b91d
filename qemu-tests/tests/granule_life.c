// SPDX-License-Identifier: GPL-2.0
/* Processes are killed, exec or fork while their memory is mapped. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>

#include "testdev.h"

#define BASE	(4 * SZ_1G)
#define U	SZ_64K

static void kill_after(pid_t pid, unsigned int usec)
{
	usleep(usec);
	vt_kill(pid);
}

/* Maps and unmaps for ever, whole mappings and pieces */
__noreturn static void churn(struct vt_container *c, u8 *p, u64 size, u64 granule)
{
	u64 at;

	for (;;) {
		ASSERT_OK(vt_map(c, BASE, p, size, VT_RW, granule));
		for (at = 0; at < size; at += 2 * granule)
			ASSERT_OK(vt_unmap(c, BASE + at, granule, NULL));
		ASSERT_OK(vt_unmap(c, BASE, size, NULL));
	}
}

/* A process takes seconds to die on the debug kernel. */
static int rounds(void)
{
	return vt_kernel_is("debug") ? 5 : 15;
}

/* The process is killed at any moment, and the container goes with it. */
static void killed_with_container(enum vt_mem kind, u64 size, u64 granule)
{
	struct vt_container c;
	u64 pinned;
	pid_t pid;
	int i;

	vt_open_granule(&c);
	vt_close(&c);
	srand(1);
	pinned = vt_pinned();
	for (i = rounds(); i; i--) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			vt_open_v2(&c);
			churn(&c, vt_alloc(kind, size), size, granule);
		}
		kill_after(pid, 30000 + rand() % 200000);
		/* The group is free again at once. */
		vt_open_v2(&c);
		ASSERT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
		if (vt_tables_known(&c.dev[0]))
			ASSERT_EQ(vt_pgsize_at(&c.dev[0], BASE), 0);
		vt_close(&c);
		ASSERT_EQ(vt_pinned(), pinned);
	}
}

static void killed_small_pages(void)
{
	killed_with_container(VT_MEM_4K, 64 * SZ_1M, SZ_64K);
}

static void killed_thp(void)
{
	killed_with_container(VT_MEM_THP, 128 * SZ_1M, SZ_2M);
}

static void killed_hugetlb(void)
{
	char why[100];

	killed_with_container(VT_MEM_HUGE_2M, 64 * SZ_1M, SZ_4K);
	if (!vt_mem_has(VT_MEM_HUGE_2M, 64 * SZ_1M, why, sizeof(why)))
		FAIL("%s", why);
}

/*
 * The container outlives the process that mapped. What that had mapped stays. What it was
 * mapping or unmapping is there or not, piece by piece.
 */
static void killed_container_stays(void)
{
	u64 size = 64 * SZ_1M, granule = SZ_64K, n, at, left, pinned;
	struct vt_container c;
	struct vt_tables t;
	pid_t pid;
	int i;
	u8 *p;

	vt_open_granule(&c);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	memset(p, 1, size);
	pinned = vt_pinned();
	srand(2);
	for (i = rounds(); i; i--) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid)
			churn(&c, p, size, granule);
		kill_after(pid, 20000 + rand() % 150000);
		ASSERT_EQ(vt_locked(), 0);
		left = (vt_pinned() - pinned) * SZ_4K;
		ASSERT_EQ(left % granule, 0);
		if (vt_tables_known(&c.dev[0])) {
			u64 translated = 0;

			vt_tables_read(&c.dev[0], &t);
			for (at = 0; at < size; at += granule) {
				u64 first = !!vt_tables_find(&t, BASE + at), page;

				for (page = at; page < at + granule; page += SZ_4K)
					ASSERT_EQ(!!vt_tables_find(&t, BASE + page), first);
				translated += first * granule;
			}
			vt_tables_free(&t);
			ASSERT_EQ(translated, left);
		}
		ASSERT_OK(vt_unmap(&c, BASE, size, &n));
		ASSERT_EQ(n, left);
		ASSERT_EQ(vt_pinned(), pinned);
		ASSERT_EQ(vt_locked(), 0);
		ASSERT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
	}
}

/* Another process unmaps: the process that mapped is uncharged. */
static void fork_child_unmaps(void)
{
	struct vt_container c;
	pid_t pid;
	u64 n;
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_4K, 8 * U);
	ASSERT_OK(vt_map(&c, BASE, p, 8 * U, VT_RW, U));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		ASSERT_EQ(vt_locked(), 0);
		ASSERT_OK(vt_unmap(&c, BASE + U, U, &n));
		ASSERT_EQ(n, U);
		ASSERT_EQ(vt_locked(), 0);
		ASSERT_EQ(vt_locked_of(getppid()), 7 * U);
		/* It maps its own memory in the hole, and is charged for that. */
		ASSERT_OK(vt_map(&c, BASE + U, p, U, VT_RW, SZ_4K));
		ASSERT_EQ(vt_locked(), U);
		ASSERT_OK(vt_unmap(&c, BASE + U, SZ_4K, &n));
		ASSERT_EQ(vt_locked(), U - SZ_4K);
		ASSERT_OK(vt_unmap(&c, BASE, 3 * U, &n));
		ASSERT_EQ(n, 3 * U - SZ_4K);
		ASSERT_EQ(vt_locked(), 0);
		exit(0);
	}
	vt_wait_exit(pid);
	EXPECT_EQ(vt_locked(), 5 * U);
	ASSERT_OK(vt_unmap_all(&c, &n));
	EXPECT_EQ(n, 5 * U);
	EXPECT_EQ(vt_locked(), 0);
}

/* The state of a process: R, S, D ... */
static char state_of(pid_t pid)
{
	char path[32], buf[512], *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	ASSERT_GT(vt_read_file(path, buf, sizeof(buf)), 0);
	at = strrchr(buf, ')');
	ASSERT_TRUE(at);
	return at[2];
}

/*
 * A process unmaps what another one mapped, and is killed while it waits for that one's
 * mmap_lock. The other one is uncharged all the same.
 */
static void killed_while_uncharging(void)
{
	struct vt_container c;
	pid_t mapper, pid;
	int sock, i;
	u8 *p;

	vt_open_granule(&c);
	mapper = vt_fork_peer(&sock);
	if (!mapper) {
		p = vt_alloc(VT_MEM_4K, 8 * U);
		ASSERT_OK(vt_map(&c, BASE, p, 8 * U, VT_RW, U));
		td_hold_mm();
		vt_tell(sock, 1);
		vt_hear(sock);
		exit(0);
	}
	vt_hear(sock);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		vt_unmap(&c, BASE, 4 * U, NULL);
		pause();
	}
	for (i = 0; i < 200 && state_of(pid) != 'D'; i++)
		usleep(10000);
	/* If not, it has left the charge to be given back by somebody else. */
	ASSERT_OK(kill(pid, SIGKILL));
	usleep(200000);
	td_release_mm(mapper);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	ASSERT_LOCKED_SOON(mapper, 4 * U);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_LOCKED_SOON(mapper, 0);
	vt_tell(sock, 0);
	vt_wait_exit(mapper);
	close(sock);
}

/* The process that mapped is gone: DMA goes on, pieces can be unmapped, nobody is uncharged. */
static void mapper_dies_first(void)
{
	u8 buf[VT_DMA_MAX], back[VT_DMA_MAX];
	struct vt_container c;
	struct vt_faults f;
	pid_t pid;
	u64 n, own;
	u8 *p;

	vt_open_granule(&c);
	vt_edu_enable(&c.dev[0]);
	own = vt_locked();
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		p = vt_alloc(VT_MEM_THP, 4 * SZ_2M);
		vt_fill(p, 4 * SZ_2M, 1);
		ASSERT_OK(vt_map(&c, BASE, p, 4 * SZ_2M, VT_RW, SZ_2M));
		ASSERT_OK(vt_unmap(&c, BASE, SZ_2M, NULL));
		exit(0);
	}
	vt_wait_exit(pid);
	vt_faults_mark(&f);
	vt_fill(buf, sizeof(buf), 2);
	vt_dma_write(&c.dev[0], BASE + SZ_2M, buf, sizeof(buf));
	vt_dma_read(&c.dev[0], BASE + SZ_2M, back, sizeof(back));
	EXPECT_EQ(memcmp(buf, back, sizeof(buf)), 0);
	ASSERT_OK(vt_unmap(&c, BASE + 2 * SZ_2M, SZ_2M, &n));
	EXPECT_EQ(n, SZ_2M);
	vt_dma_read(&c.dev[0], BASE + SZ_2M, back, sizeof(back));
	EXPECT_EQ(memcmp(buf, back, sizeof(buf)), 0);
	EXPECT_EQ(vt_faults_count(&f), 0);
	EXPECT_EQ(vt_locked(), own);
	ASSERT_OK(vt_unmap(&c, BASE, 4 * SZ_2M, &n));
	EXPECT_EQ(n, 2 * SZ_2M);
	EXPECT_EQ(vt_locked(), own);
}

/*
 * The program that exec() starts inherits the container's descriptors and the memory file.
 * The environment has its arguments.
 */
struct handover {
	struct vt_container c;
	int memory;
	bool vaddr;			/* unmapped before exec: give the new one */
};

static void after_exec(const struct handover *h)
{
	struct vt_container c = h->c;
	struct vt_dev *dev = &c.dev[0];
	u8 back[VT_DMA_MAX], *p;
	struct vt_faults f;
	u64 n;

	/* The pointers of the old program mean nothing here. */
	dev->c = &c;
	p = mmap(NULL, 8 * U, PROT_READ | PROT_WRITE, MAP_SHARED, h->memory, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	ASSERT_EQ(vt_locked(), 0);
	if (h->vaddr) {
		ASSERT_OK(vt_map_vaddr(&c, BASE, p, 8 * U));
		ASSERT_EQ(vt_locked(), 6 * U);
	}
	vt_edu_enable(dev);
	ASSERT_EQ(vt_locked(), (h->vaddr ? 6 * U : 0) + SZ_4K);
	vt_faults_mark(&f);
	vt_fill(p + 4 * U, VT_DMA_MAX, 4);
	vt_dma_read(dev, BASE + 4 * U, back, sizeof(back));
	ASSERT_TRUE(vt_filled(back, sizeof(back), 4));
	ASSERT_EQ(vt_faults_count(&f), 0);

	ASSERT_OK(vt_unmap(&c, BASE + 4 * U, U, &n));
	ASSERT_EQ(n, U);
	ASSERT_EQ(vt_locked(), (h->vaddr ? 5 * U : 0) + SZ_4K);
	ASSERT_OK(vt_map(&c, BASE + 4 * U, p, U, VT_RW, U));
	ASSERT_EQ(vt_locked(), (h->vaddr ? 6 * U : U) + SZ_4K);
	ASSERT_OK(vt_unmap_all(&c, &n));
	ASSERT_EQ(n, 6 * U + SZ_4K);
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
}

static void exec_with(bool vaddr)
{
	struct handover h = { .vaddr = vaddr };
	u8 *p;

	vt_open_granule(&h.c);
	h.memory = syscall(SYS_memfd_create, "memory", 0);
	ASSERT_GE(h.memory, 0);
	ASSERT_OK(ftruncate(h.memory, 8 * U));
	p = mmap(NULL, 8 * U, PROT_READ | PROT_WRITE, MAP_SHARED, h.memory, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	ASSERT_OK(vt_map(&h.c, BASE, p, 8 * U, VT_RW, U));
	ASSERT_OK(vt_unmap(&h.c, BASE + U, U, NULL));
	ASSERT_OK(vt_unmap(&h.c, BASE + 7 * U, U, NULL));
	if (vaddr)
		ASSERT_OK(vt_unmap_vaddr(&h.c, BASE, 8 * U, NULL));

	vt_exec(&h.c, &h, sizeof(h));
}

static void exec_new_vaddr(void)
{
	exec_with(true);
}

static void exec_old_vaddr(void)
{
	exec_with(false);
}

int main(int argc, char **argv)
{
	static const struct vtest tests[] = {
		VTEST(killed_small_pages),
		VTEST(killed_thp),
		VTEST(killed_hugetlb),
		VTEST(killed_container_stays),
		VTEST(fork_child_unmaps),
		VTEST(killed_while_uncharging),
		VTEST(mapper_dies_first),
		VTEST(exec_new_vaddr),
		VTEST(exec_old_vaddr),
	};
	struct handover h;

	if (vt_handed_over(&h, sizeof(h))) {
		after_exec(&h);
		return vt_failed();
	}
	return vtest_main(argc, argv, tests, ARRAY_SIZE(tests));
}
