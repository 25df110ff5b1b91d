// SPDX-License-Identifier: GPL-2.0
/*
 * The last group leaves a container while another thread is in an ioctl on the container,
 * which waits for a page of its argument. Neither waits for the other. When the group has
 * left, everything that the container mapped is gone. The ioctl ends with an error, or as if
 * it had come first.
 */
#include <pthread.h>

#include "vtest.h"

#define IOVA	(4 * SZ_1G)
#define SIZE	SZ_2M

/* An ioctl's argument. From byte "late" on it is in a page that is not there yet. */
struct call {
	const char *name;
	unsigned long cmd;
	size_t size, late;
	bool makes_fd;			/* on success */
	u8 arg[96];
};

struct waiting {
	const struct call *call;
	struct vt_container *c;
	u8 *arg;
	long ret;
};

static u8 *mem, *more;
static u64 pinned;

static void *wait_in_ioctl(void *arg)
{
	struct waiting *w = arg;

	w->ret = ioctl(w->c->fd, w->call->cmd, w->arg);
	if (w->ret < 0)
		w->ret = -errno;
	return NULL;
}

/* A container with everything that a call can act on: memory mapped, pinned and charged */
static int open_full(struct vt_container *c)
{
	int super;

	vt_open_v2(c);
	super = vt_super_new(c);
	ASSERT_OK(vt_super_register(super, more, SIZE, VT_SUPER_RW));
	ASSERT_OK(vt_map(c, IOVA, mem, SIZE, VT_RW, SZ_64K));
	ASSERT_OK(vt_unmap(c, IOVA + SZ_64K, SZ_64K, NULL));
	ASSERT_OK(vt_map(c, IOVA + SZ_1G, mem, SIZE, VT_RW, 0));
	ASSERT_OK(vt_map_super(c, IOVA + 2 * SZ_1G, more, SIZE, VT_RW, SZ_4K));
	ASSERT_OK(vt_dirty_start(c));
	return super;
}

/* The group leaves by VFIO_GROUP_UNSET_CONTAINER, or as its descriptors are closed. */
static void leave(struct vt_dev *dev, bool unset)
{
	if (unset) {
		vt_remove(dev);
		return;
	}
	close(dev->fd);
	close(dev->group_fd);
	dev->group = -1;
}

struct leaving {
	struct vt_dev *dev;
	bool unset;
	atomic_bool done;
};

static void *leave_in_thread(void *arg)
{
	struct leaving *l = arg;

	leave(l->dev, l->unset);
	l->done = true;
	return NULL;
}

/* Whoever waits for the ioctl would wait for ever. */
static void leave_soon(struct vt_dev *dev, bool unset)
{
	struct leaving l = { .dev = dev, .unset = unset };
	pthread_t thread;
	int i;

	ASSERT_OK(pthread_create(&thread, NULL, leave_in_thread, &l));
	for (i = 0; i < 2000 && !l.done; i++)
		usleep(10000);
	if (!l.done)
		FAIL("the group cannot leave before the ioctl ends");
	ASSERT_OK(pthread_join(thread, NULL));
}

/* again: a group joins the container again before the ioctl goes on. */
static void leave_during(struct vt_container *c, int super, const struct call *call, bool unset,
			 bool again)
{
	struct waiting w = { .call = call, .c = c };
	struct vt_state was;
	pthread_t thread;
	int uffd, fd = -1;
	u8 *p;

	p = mmap(NULL, SZ_8K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	w.arg = p + SZ_4K - call->late;
	memcpy(w.arg, call->arg, call->late);
	uffd = vt_withhold(p + SZ_4K, SZ_4K);
	ASSERT_OK(pthread_create(&thread, NULL, wait_in_ioctl, &w));
	ASSERT_EQ(vt_awaited(uffd), (uintptr_t)p + SZ_4K);

	leave_soon(&c->dev[0], unset);
	/* The ioctl still waits, but all is unmapped. Only the registered memory is charged. */
	ASSERT_EQ(vt_locked(), SIZE);
	ASSERT_SUPER(super, SIZE, SIZE, 1, 0);
	ASSERT_EQ(vt_pinned(), pinned + SIZE / SZ_4K);
	if (again) {
		vt_add_edu(c, 0);
		ASSERT_OK(vt_map(c, IOVA + SZ_4M, mem, SZ_64K, VT_RW, 0));
		vt_state(c, &was);
	}

	vt_provide_copy(uffd, p + SZ_4K, call->arg + call->late, call->size - call->late);
	ASSERT_OK(pthread_join(thread, NULL));
	vt_diag("%s: %ld", call->name, w.ret);
	if (call->makes_fd && w.ret >= 0)
		fd = w.ret;
	else
		ASSERT_LE(w.ret, 0);
	ASSERT_SUPER(super, SIZE, SIZE, 1, 0);
	if (again) {
		/* The ioctl has not changed what was mapped since. */
		vt_state_same(c, &was, call->name);
		leave(&c->dev[0], true);
	}
	ASSERT_EQ(vt_locked(), SIZE);
	ASSERT_EQ(vt_pinned(), pinned + SIZE / SZ_4K);
	if (fd >= 0)
		close(fd);
	close(super);
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);
	vt_close(c);
	close(uffd);
	munmap(p, SZ_8K);
}

/* prepare() may change what a container has, and the argument, before the call. */
static void try_all(struct call *call,
		    void (*prepare)(struct vt_container *c, int super, struct call *call))
{
	struct vt_container c;
	int i, super;

	/* Fail rather than hang if one waits for the other. */
	alarm(100);
	mem = vt_alloc(VT_MEM_4K, SIZE);
	more = vt_alloc(VT_MEM_SCATTERED, SIZE);
	pinned = vt_pinned();
	for (i = 0; i < 4; i++) {
		super = open_full(&c);
		if (prepare)
			prepare(&c, super, call);
		leave_during(&c, super, call, i % 2, i / 2);
	}
}

static void set_arg(struct call *call, const void *arg, size_t size)
{
	ASSERT_LE(size, sizeof(call->arg));
	memcpy(call->arg, arg, size);
	call->size = size;
}

static void map_some(const char *name, u32 flags, u64 granule, size_t late,
		     void (*prepare)(struct vt_container *c, int super, struct call *call))
{
	struct call call = { .name = name, .cmd = VFIO_IOMMU_MAP_DMA, .late = late };
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.iova = IOVA + 3 * SZ_1G,
		.size = SIZE,
		.granule = granule,
	};

	map.vaddr = (uintptr_t)vt_alloc(VT_MEM_4K, SIZE);
	set_arg(&call, &map, sizeof(map));
	try_all(&call, prepare);
}

static void map_plain(void)
{
	map_some("map", VT_RW, 0, 0, NULL);
}

/* The kernel reads the granule in a second step. */
static void map_granule(void)
{
	map_some("map with a granule", VT_RW | VFIO_DMA_MAP_FLAG_GRANULE, SZ_64K,
		 offsetof(struct vfio_iommu_type1_dma_map, granule), NULL);
}

static void name_registered(struct vt_container *c, int super, struct call *call)
{
	u64 vaddr = (uintptr_t)more;

	(void)c;
	(void)super;
	memcpy(call->arg + offsetof(struct vfio_iommu_type1_dma_map, vaddr), &vaddr, sizeof(vaddr));
}

static void map_super(void)
{
	map_some("map registered memory", VT_RW | VFIO_DMA_MAP_FLAG_SUPER, 0, 0, name_registered);
}

static void map_sparse(void)
{
	map_some("set up a sparse mapping",
		 VT_RW | VFIO_DMA_MAP_FLAG_SPARSE | VFIO_DMA_MAP_FLAG_GRANULE, SZ_64K, 0, NULL);
}

/* The same map, into a sparse mapping of this memory */
static void set_up_sparse(struct vt_container *c, int super, struct call *call)
{
	u64 vaddr;

	(void)super;
	vt_need_sparse(c);
	memcpy(&vaddr, call->arg + offsetof(struct vfio_iommu_type1_dma_map, vaddr), sizeof(vaddr));
	ASSERT_OK(vt_sparse(c, IOVA + 3 * SZ_1G, (void *)(uintptr_t)vaddr, SIZE, VT_RW, SZ_64K));
}

static void fill_sparse(void)
{
	map_some("fill a sparse mapping", VT_RW, 0, 0, set_up_sparse);
}

static void unmap_some(const char *name, u32 flags)
{
	struct call call = { .name = name, .cmd = VFIO_IOMMU_UNMAP_DMA };
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = flags,
		.iova = flags ? 0 : IOVA,
		.size = flags ? 0 : SIZE,
	};

	set_arg(&call, &unmap, sizeof(unmap));
	try_all(&call, NULL);
}

static void unmap(void)
{
	unmap_some("unmap", 0);
}

static void unmap_all(void)
{
	unmap_some("unmap all", VFIO_DMA_UNMAP_FLAG_ALL);
}

/* The first struct is there. The struct of the bitmap behind it is not. */
static void unmap_bitmap(void)
{
	static u64 bits[SIZE / SZ_4K / 64];
	struct call call = { .name = "unmap with a bitmap", .cmd = VFIO_IOMMU_UNMAP_DMA,
			     .late = sizeof(struct vfio_iommu_type1_dma_unmap) };
	struct {
		struct vfio_iommu_type1_dma_unmap unmap;
		struct vfio_bitmap bitmap;
	} arg = {
		.unmap = {
			.argsz = sizeof(arg),
			.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
			.iova = IOVA,
			.size = SIZE,
		},
		.bitmap = { .pgsize = SZ_4K, .size = sizeof(bits), .data = (void *)bits },
	};

	set_arg(&call, &arg, sizeof(arg));
	try_all(&call, NULL);
}

static void extents(void)
{
	static struct vfio_dma_extent e[8];
	struct call call = { .name = "extents", .cmd = VFIO_IOMMU_DMA_EXTENTS };
	struct vfio_iommu_type1_dma_extents req = {
		.argsz = sizeof(req),
		.extents = (uintptr_t)e,
		.count = ARRAY_SIZE(e),
	};

	set_arg(&call, &req, sizeof(req));
	try_all(&call, NULL);
}

static void stop_dirty(struct vt_container *c, int super, struct call *call)
{
	(void)super;
	(void)call;
	ASSERT_OK(vt_dirty_stop(c));
}

static void dirty_start(void)
{
	struct call call = { .name = "start dirty tracking", .cmd = VFIO_IOMMU_DIRTY_PAGES };
	struct vfio_iommu_type1_dirty_bitmap arg = {
		.argsz = sizeof(arg),
		.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
	};

	set_arg(&call, &arg, sizeof(arg));
	try_all(&call, stop_dirty);
}

static void dirty_stop(void)
{
	struct call call = { .name = "stop dirty tracking", .cmd = VFIO_IOMMU_DIRTY_PAGES };
	struct vfio_iommu_type1_dirty_bitmap arg = {
		.argsz = sizeof(arg),
		.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
	};

	set_arg(&call, &arg, sizeof(arg));
	try_all(&call, NULL);
}

static void dirty_get(void)
{
	static u64 bits[SIZE / SZ_4K / 64];
	struct call call = { .name = "get dirty bits", .cmd = VFIO_IOMMU_DIRTY_PAGES,
			     .late = sizeof(struct vfio_iommu_type1_dirty_bitmap) };
	struct {
		struct vfio_iommu_type1_dirty_bitmap dirty;
		struct vfio_iommu_type1_dirty_bitmap_get get;
	} arg = {
		.dirty = { .argsz = sizeof(arg), .flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP },
		.get = {
			.iova = IOVA,
			.size = SIZE,
			.bitmap = { .pgsize = SZ_4K, .size = sizeof(bits), .data = (void *)bits },
		},
	};

	set_arg(&call, &arg, sizeof(arg));
	try_all(&call, NULL);
}

static void super_create(void)
{
	struct call call = { .name = "create", .cmd = VFIO_IOMMU_SUPER_CREATE, .makes_fd = true };
	struct vfio_iommu_super_create arg = { .argsz = sizeof(arg) };

	set_arg(&call, &arg, sizeof(arg));
	try_all(&call, NULL);
}

/* The super-container that the argument names must be open, or the call is refused. */
static void detach_and_name(struct vt_container *c, int super, struct call *call)
{
	__s32 fd = super;

	ASSERT_OK(vt_unmap(c, IOVA + 2 * SZ_1G, SIZE, NULL));
	ASSERT_OK(vt_super_detach(c));
	memcpy(call->arg + offsetof(struct vfio_iommu_super_attach, super_fd), &fd, sizeof(fd));
}

static void super_attach(void)
{
	struct call call = { .name = "attach", .cmd = VFIO_IOMMU_SUPER_ATTACH };
	struct vfio_iommu_super_attach arg = { .argsz = sizeof(arg) };

	set_arg(&call, &arg, sizeof(arg));
	try_all(&call, detach_and_name);
}

static void super_detach(void)
{
	struct call call = { .name = "detach", .cmd = VFIO_IOMMU_SUPER_DETACH };
	struct vfio_iommu_super_detach arg = { .argsz = sizeof(arg) };

	set_arg(&call, &arg, sizeof(arg));
	try_all(&call, NULL);
}

static void get_info(void)
{
	struct call call = { .name = "info", .cmd = VFIO_IOMMU_GET_INFO };
	struct vfio_iommu_type1_info arg = { .argsz = sizeof(arg) };

	set_arg(&call, &arg, sizeof(arg));
	try_all(&call, NULL);
}

VTEST_MAIN(
	VTEST(map_plain),
	VTEST(map_granule),
	VTEST(map_super),
	VTEST(map_sparse),
	VTEST(fill_sparse),
	VTEST(unmap),
	VTEST(unmap_all),
	VTEST(unmap_bitmap),
	VTEST(extents),
	VTEST(dirty_start),
	VTEST(dirty_stop),
	VTEST(dirty_get),
	VTEST(super_create),
	VTEST(super_attach),
	VTEST(super_detach),
	VTEST(get_info),
)
