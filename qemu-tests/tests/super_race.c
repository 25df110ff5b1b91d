// SPDX-License-Identifier: GPL-2.0
/*
 * Usage: super_race [SECONDS [NAME]]
 *
 * Threads and processes make calls at the same time, for so many seconds in each test. Each
 * result must be a possible one, and all counts must be right at the end.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define RW	VT_SUPER_RW
#define SIZE	(2 * SZ_2M)

static u64 seconds = 3;
static u64 deadline;

static void start_clock(void)
{
	deadline = vt_now() + seconds * 1000000000ull;
}

static bool more(void)
{
	return vt_now() < deadline;
}

static pthread_t go(void *(*fn)(void *), void *arg)
{
	pthread_t thread;

	ASSERT_OK(pthread_create(&thread, NULL, fn, arg));
	return thread;
}

static void join(pthread_t thread)
{
	ASSERT_OK(pthread_join(thread, NULL));
}

static int super;
static u8 *mem;

/* What a thread did how often, and what it found */
struct tally {
	u64 ok, refused;
};

static void show(const char *what, const struct tally *t)
{
	vt_diag("%s: %llu times, %llu times not possible", what, t->ok, t->refused);
	if (!t->ok)
		FAIL("%s: never", what);
}

/* ---- Map and unregister ---- */

struct mapper {
	struct vt_container c;
	struct tally tally;
	u64 granule;
	/* Odd while this container certainly maps all of the memory. */
	_Atomic u64 mapped;
};

static void *map_unmap(void *arg)
{
	struct mapper *m = arg;
	u64 n, iova = BASE;
	int ret;

	while (more()) {
		ret = vt_map_super(&m->c, iova, mem, SIZE, VT_RW, m->granule);
		if (ret) {
			ASSERT_EQ(ret, -ENOENT);
			m->tally.refused++;
			continue;
		}
		m->tally.ok++;
		m->mapped++;
		ASSERT_EQ(vt_super_unregister(super, mem, SIZE), -EBUSY);
		if (m->granule) {
			ASSERT_OK(vt_unmap(&m->c, iova + SZ_2M, SZ_2M, &n));
			ASSERT_EQ(n, SZ_2M);
		}
		if (m->tally.ok % 8 == 0)
			usleep(200);
		m->mapped++;
		ASSERT_OK(vt_unmap(&m->c, iova, SIZE, &n));
		ASSERT_EQ(n, m->granule ? SZ_2M : SIZE);
	}
	return NULL;
}

static struct mapper mapper[2];

static void *register_unregister(void *arg)
{
	struct tally *t = arg;
	u64 before[2];
	int ret, i;

	while (more()) {
		ret = vt_super_register(super, mem, SIZE, RW);
		if (ret)
			ASSERT_EQ(ret, -EEXIST);
		for (i = 0; i < 2; i++)
			before[i] = mapper[i].mapped;
		ret = vt_super_unregister(super, mem, SIZE);
		if (ret == -EBUSY || ret == -ENOENT) {
			t->refused++;
			continue;
		}
		ASSERT_OK(ret);
		t->ok++;
		for (i = 0; i < 2; i++)
			if (before[i] % 2 && mapper[i].mapped == before[i])
				FAIL("unregistered while container %d mapped it", i);
	}
	return NULL;
}

static void *look(void *arg)
{
	struct tally *t = arg;
	struct vfio_super_info info;

	while (more()) {
		ASSERT_OK(vt_super_info(super, &info));
		ASSERT_LE(info.regions, 1);
		ASSERT_EQ(info.registered, info.regions * SIZE);
		vt_super_fdinfo(getpid(), super, &info);
		ASSERT_EQ(info.registered, info.regions * SIZE);
		t->ok++;
	}
	return NULL;
}

/* Two containers map what two threads register and unregister. */
static void map_against_unregister(void)
{
	struct tally reg[2] = { 0 }, looked = { 0 };
	pthread_t thread[5];
	u64 pinned = vt_pinned();
	int i;

	vt_open(&mapper[0].c, VFIO_TYPE1v2_IOMMU, 0);
	super = vt_super_new(&mapper[0].c);
	vt_open(&mapper[1].c, VFIO_TYPE1v2_IOMMU, 1);
	ASSERT_OK(vt_super_attach(&mapper[1].c, super));
	mapper[1].granule = SZ_2M;
	mem = vt_alloc(VT_MEM_THP, SIZE);
	start_clock();
	for (i = 0; i < 2; i++) {
		thread[i] = go(map_unmap, &mapper[i]);
		thread[2 + i] = go(register_unregister, &reg[i]);
	}
	thread[4] = go(look, &looked);
	for (i = 0; i < 5; i++)
		join(thread[i]);
	show("map", &mapper[0].tally);
	show("map with a granule", &mapper[1].tally);
	reg[0].ok += reg[1].ok;		/* one may always come too late */
	reg[0].refused += reg[1].refused;
	show("unregister", &reg[0]);
	vt_super_unregister(super, mem, SIZE);
	ASSERT_SUPER(super, 0, 0, 0, 2);
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_EQ(vt_pinned(), pinned);
	vt_close(&mapper[0].c);
	vt_close(&mapper[1].c);
}

/* ---- Attach and close ---- */

static atomic_int shared_fd = -1;

static void *close_and_reopen(void *arg)
{
	struct tally *t = arg;
	int fd;

	while (more()) {
		fd = fcntl(super, F_DUPFD_CLOEXEC, 100);
		ASSERT_GE(fd, 0);
		shared_fd = fd;
		if (t->ok++ % 4)
			usleep(50);
		close(fd);
	}
	return NULL;
}

static void *attach_detach(void *arg)
{
	struct mapper *m = arg;
	int ret;

	while (more()) {
		ret = vt_super_attach(&m->c, shared_fd);
		if (ret) {
			ASSERT_EQ(ret, -EBADF);
			m->tally.refused++;
			continue;
		}
		m->tally.ok++;
		ASSERT_OK(vt_map_super(&m->c, BASE, mem, SZ_64K, VT_RW, 0));
		ASSERT_EQ(vt_super_detach(&m->c), -EBUSY);
		ASSERT_OK(vt_unmap(&m->c, BASE, SZ_64K, NULL));
		ASSERT_OK(vt_super_detach(&m->c));
	}
	return NULL;
}

static void attach_against_close(void)
{
	struct tally closed = { 0 };
	pthread_t thread[3];
	u64 pinned = vt_pinned();
	int i;

	vt_open(&mapper[0].c, VFIO_TYPE1v2_IOMMU, 0);
	vt_need_super(&mapper[0].c);
	super = vt_super_create(&mapper[0].c);
	ASSERT_GE(super, 0);
	vt_open(&mapper[1].c, VFIO_TYPE1v2_IOMMU, 1);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_super_register(super, mem, SIZE, RW));
	start_clock();
	thread[0] = go(close_and_reopen, &closed);
	for (i = 0; i < 2; i++)
		thread[i + 1] = go(attach_detach, &mapper[i]);
	for (i = 0; i < 3; i++)
		join(thread[i]);
	show("attach", &mapper[0].tally);
	show("attach", &mapper[1].tally);
	ASSERT_SUPER(super, SIZE, SIZE, 1, 0);
	close(super);
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);
}

/* The last close races with an attach: the attach gets all of it, or fails. */
static void *close_it(void *arg)
{
	pthread_barrier_wait(arg);
	close(super);
	return NULL;
}

static void last_close_against_attach(void)
{
	u64 pinned = vt_pinned();
	struct tally t = { 0 };
	struct vt_container c;
	pthread_barrier_t both;
	pthread_t thread;
	int ret, fd;

	vt_open_v2(&c);
	vt_need_super(&c);
	mem = vt_alloc(VT_MEM_4K, SZ_64K);
	ASSERT_OK(pthread_barrier_init(&both, NULL, 2));
	start_clock();
	while (more()) {
		super = vt_super_create(&c);
		ASSERT_GE(super, 0);
		fd = super;
		ASSERT_OK(vt_super_register(super, mem, SZ_64K, RW));
		thread = go(close_it, &both);
		pthread_barrier_wait(&both);
		ret = vt_super_attach(&c, fd);
		if (ret) {
			ASSERT_EQ(ret, -EBADF);
			t.refused++;
			join(thread);
			continue;
		}
		join(thread);
		t.ok++;
		ASSERT_EQ(vt_super_attach(&c, fd), -EBUSY);
		ASSERT_OK(vt_map_super(&c, BASE, mem, SZ_64K, VT_RW, 0));
		ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));
		ASSERT_OK(vt_super_detach(&c));
	}
	vt_diag("attached %llu times, too late %llu times", t.ok, t.refused);
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);
}

/* ---- Pins, unmap and replay ---- */

static void *pin_unpin(void *arg)
{
	struct mapper *m = arg;
	struct vt_dev *dev = &m->c.dev[0];
	u64 pfn, val = 0;
	int ret;

	while (more()) {
		ret = td_pin(dev, BASE + SZ_64K, 1, VTD_READ | VTD_WRITE, &pfn);
		if (ret == 1) {
			m->tally.ok++;
			/* It may have been told to let go in between. */
			ret = td_unpin(dev, BASE + SZ_64K, 1);
			if (ret)
				ASSERT_EQ(ret, -ENOENT);
		} else {
			ASSERT_EQ(ret, -EINVAL);
			m->tally.refused++;
		}
		ret = td_write(dev, BASE + SZ_64K, &val, sizeof(val));
		if (ret)
			ASSERT_EQ(ret, -EINVAL);
	}
	return NULL;
}

/* A device with an IOMMU comes and goes meanwhile. */
static void *come_and_go(void *arg)
{
	struct mapper *m = arg;
	struct vt_dev *dev;

	while (more()) {
		if (vt_try_add_group(&m->c, vt_edu_group(2), vt_edu_bdf(2), &dev))
			FAIL("the device does not come");
		usleep(1000);
		vt_remove(dev);
	}
	return NULL;
}

static void pins_against_unmap(void)
{
	struct tally reg = { 0 };
	pthread_t thread[4];
	u64 pinned = vt_pinned();
	int i;

	vt_open_empty(&mapper[0].c, VFIO_TYPE1v2_IOMMU);
	td_add(&mapper[0].c, 0);
	super = vt_super_new(&mapper[0].c);
	mapper[0].granule = SZ_2M;
	mem = vt_alloc(VT_MEM_THP, SIZE);
	vt_edu_group(2);
	start_clock();
	thread[0] = go(map_unmap, &mapper[0]);
	thread[1] = go(register_unregister, &reg);
	thread[2] = go(pin_unpin, &mapper[0]);
	thread[3] = go(come_and_go, &mapper[0]);
	for (i = 0; i < 4; i++)
		join(thread[i]);
	show("map and pin", &mapper[0].tally);
	ASSERT_EQ(td_pinned(&mapper[0].c.dev[0]), 0);
	vt_super_unregister(super, mem, SIZE);
	ASSERT_SUPER(super, 0, 0, 0, 1);
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_EQ(vt_pinned(), pinned);
	vt_close(&mapper[0].c);
}

/* ---- Register and exit ---- */

/*
 * A process that registers and unregisters with several threads is killed; another
 * one attaches, maps what it can, and detaches all the while.
 */
static void *churn(void *arg)
{
	long nr = (long)arg;
	u8 *p = mem + nr * SZ_2M;

	for (;;) {
		ASSERT_OK(vt_super_register(super, p, SZ_2M, RW));
		while (vt_super_unregister(super, p, SZ_2M))
			;
	}
	return NULL;
}

static void register_against_exit(void)
{
	u64 pinned = vt_pinned(), n = 0, mapped = 0;
	struct vt_container c;
	int sock, ret;
	pid_t pid;
	long i;

	vt_open_v2(&c);
	vt_need_super(&c);
	mem = vt_alloc(VT_MEM_4K, 3 * SZ_2M);
	srand(5);
	start_clock();
	while (more()) {
		u64 end;

		pid = vt_fork_peer(&sock);
		if (!pid) {
			super = vt_super_create(&c);
			ASSERT_GE(super, 0);
			vt_send_fd(sock, super);
			for (i = 0; i < 2; i++)
				go(churn, (void *)i);
			churn((void *)2);
		}
		super = vt_recv_fd(sock);
		end = vt_now() + (20 + rand() % 100) * 1000000ull;
		ASSERT_OK(vt_super_attach(&c, super));
		while (vt_now() < end) {
			ret = vt_map_super(&c, BASE, mem, SZ_2M, VT_RW, SZ_64K);
			if (ret)
				ASSERT_EQ(ret, -ENOENT);
			else
				mapped++;
			if (!ret && rand() % 2)
				ASSERT_OK(vt_unmap(&c, BASE, SZ_2M, NULL));
			else if (!ret)
				break;
		}
		if (n % 2)
			close(super);
		vt_kill(pid);
		close(sock);
		ASSERT_EQ(vt_locked(), 0);
		ASSERT_OK(vt_unmap(&c, BASE, SZ_2M, NULL));
		ASSERT_OK(vt_super_detach(&c));
		if (n % 2 == 0)
			close(super);
		ASSERT_PINNED_SOON(pinned);
		n++;
	}
	vt_diag("%llu processes, %llu mappings", n, mapped);
	ASSERT_GT(n, 0);
}

/* Containers attach, map and go again and again, and so does the file. */
static void *open_close(void *arg)
{
	long k = (long)arg;
	struct vt_container c;
	u64 n = 0;

	while (more()) {
		vt_open(&c, VFIO_TYPE1v2_IOMMU, k);
		ASSERT_OK(vt_super_attach(&c, super));
		ASSERT_OK(vt_map_super(&c, BASE, mem, SIZE, VT_RW, k % 2 ? SZ_64K : 0));
		if (n++ % 2)
			ASSERT_OK(vt_unmap(&c, BASE + (k % 2 ? SZ_64K : 0),
					   k % 2 ? SZ_64K : SIZE, NULL));
		vt_close(&c);
	}
	vt_diag("container %ld: %llu times", k, n);
	return NULL;
}

static void containers_come_and_go(void)
{
	struct vt_container c;
	struct tally looked = { 0 };
	pthread_t thread[4];
	u64 pinned = vt_pinned();
	long i;

	vt_open_v2(&c);
	super = vt_super_new(&c);
	mem = vt_alloc(VT_MEM_4K, SIZE);
	ASSERT_OK(vt_super_register(super, mem, SIZE, RW));
	vt_close(&c);
	for (i = 0; i < 3; i++)
		vt_edu_group(i);
	start_clock();
	for (i = 0; i < 3; i++)
		thread[i] = go(open_close, (void *)i);
	thread[3] = go(look, &looked);
	for (i = 0; i < 4; i++)
		join(thread[i]);
	ASSERT_SUPER(super, SIZE, SIZE, 1, 0);
	ASSERT_EQ(vt_locked(), SIZE);
	ASSERT_OK(vt_super_unregister(super, mem, SIZE));
	ASSERT_EQ(vt_pinned(), pinned);
}

int main(int argc, char **argv)
{
	static const struct vtest tests[] = {
		VTEST(map_against_unregister),
		VTEST(attach_against_close),
		VTEST(last_close_against_attach),
		VTEST(pins_against_unmap),
		VTEST(register_against_exit),
		VTEST(containers_come_and_go),
	};

	if (argc > 1)
		seconds = strtoull(argv[1], NULL, 0);
	return vtest_main(argc - (argc > 1), argv + (argc > 1), tests, ARRAY_SIZE(tests));
}
