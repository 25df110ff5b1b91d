// SPDX-License-Identifier: GPL-2.0
/* Type1, the super-container, iommufd and the bare IOMMU API, behind one interface */
#include <fcntl.h>
#include <linux/iommufd.h>
#include <sys/syscall.h>

#include "../module/iommu_floor.h"
#include "peers.h"

#define FLOOR_MODULE	"/lib/modules/iommu_floor.ko"

const char *peer_name(enum peer peer)
{
	static const char * const name[] = {
		[PEER_FLOOR] = "floor",
		[PEER_SUPER] = "super",
		[PEER_GRANULE] = "granule",
		[PEER_TYPE1] = "type1",
		[PEER_TYPE1_CALLS] = "type1xN",
		[PEER_IOMMUFD] = "iommufd",
		[PEER_IOMMUFD_CALLS] = "iommufdxN",
		[PEER_COPY] = "copy",
		[PEER_COPY_CALLS] = "copyxN",
	};

	return name[peer];
}

bool peer_has_pieces(enum peer peer)
{
	return peer != PEER_TYPE1 && peer != PEER_IOMMUFD && peer != PEER_COPY;
}

static bool is_iommufd(const struct peers *p)
{
	return p->peer >= PEER_IOMMUFD;
}

static bool is_copy(const struct peers *p)
{
	return p->peer >= PEER_COPY;
}

static int err_of(int ret)
{
	return ret < 0 ? -errno : 0;
}

static int super_create(struct peers *p)
{
	struct vfio_iommu_super_create create = { .argsz = sizeof(create) };

	p->super = ioctl(p->user[0].c.fd, VFIO_IOMMU_SUPER_CREATE, &create);
	return p->super < 0 ? -errno : 0;
}

int peer_attach_super(struct peers *p, u32 user)
{
	struct vfio_iommu_super_attach attach = {
		.argsz = sizeof(attach),
		.super_fd = p->super,
	};

	return err_of(ioctl(p->user[user].c.fd, VFIO_IOMMU_SUPER_ATTACH, &attach));
}

int peer_register(struct peers *p, const void *vaddr, u64 size)
{
	struct vfio_super_memory mem = {
		.argsz = sizeof(mem),
		.flags = VFIO_SUPER_MEMORY_READ | VFIO_SUPER_MEMORY_WRITE,
		.vaddr = (uintptr_t)vaddr,
		.size = size,
	};

	return err_of(ioctl(p->super, VFIO_SUPER_REGISTER_MEMORY, &mem));
}

int peer_unregister(struct peers *p, const void *vaddr, u64 size)
{
	struct vfio_super_memory mem = {
		.argsz = sizeof(mem),
		.vaddr = (uintptr_t)vaddr,
		.size = size,
	};

	return err_of(ioctl(p->super, VFIO_SUPER_UNREGISTER_MEMORY, &mem));
}

static int add_ioas(struct peers *p, u32 user)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = p->iommufd,
	};
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	p->user[user].dev = vt_edu_cdev(user);
	if (p->user[user].dev < 0)
		return p->user[user].dev;
	if (ioctl(p->iommufd, IOMMU_IOAS_ALLOC, &alloc) ||
	    ioctl(p->user[user].dev, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		return -errno;
	p->user[user].ioas = alloc.out_ioas_id;
	attach.pt_id = alloc.out_ioas_id;
	return err_of(ioctl(p->user[user].dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach));
}

static int ioas_map(struct peers *p, u32 user, u64 iova, const void *vaddr, u64 size)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = p->user[user].ioas,
		.user_va = (uintptr_t)vaddr,
		.length = size,
		.iova = iova,
	};

	return err_of(ioctl(p->iommufd, IOMMU_IOAS_MAP, &map));
}

static int ioas_copy(struct peers *p, u32 user, u64 iova, const void *vaddr, u64 size)
{
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.dst_ioas_id = p->user[user].ioas,
		.src_ioas_id = p->user[0].ioas,
		.length = size,
		.dst_iova = iova,
		.src_iova = PEER_SOURCE_IOVA + ((const u8 *)vaddr - p->vaddr),
	};

	return err_of(ioctl(p->iommufd, IOMMU_IOAS_COPY, &copy));
}

int peer_add(struct peers *p)
{
	u32 user = p->users;
	int ret = 0;

	ASSERT_LT(user, PEER_USERS);
	if (is_iommufd(p))
		ret = add_ioas(p, user);
	else
		vt_open(&p->user[user].c, VFIO_TYPE1v2_IOMMU, user);
	p->users++;
	if (!ret && p->peer == PEER_SUPER && user)
		ret = peer_attach_super(p, user);
	return ret;
}

int peer_open(struct peers *p, enum peer peer, void *vaddr, u64 size)
{
	u64 since;
	int ret;

	memset(p, 0, sizeof(*p));
	p->peer = peer;
	p->vaddr = vaddr;
	p->size = size;
	p->super = -1;
	p->iommufd = -1;
	if (peer == PEER_FLOOR)
		return 0;
	if (is_iommufd(p)) {
		p->iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
		if (p->iommufd < 0)
			return -errno;
	}
	ret = peer_add(p);
	if (ret)
		return ret;

	since = vt_now();
	if (is_copy(p)) {
		ret = ioas_map(p, 0, PEER_SOURCE_IOVA, vaddr, size);
	} else if (peer == PEER_SUPER) {
		ret = super_create(p);
		if (!ret)
			ret = peer_attach_super(p, 0);
		since = vt_now();
		if (!ret && size)
			ret = peer_register(p, vaddr, size);
	}
	p->prepare_ns = vt_now() - since;
	return ret;
}

void peer_close(struct peers *p)
{
	u32 i;

	for (i = 0; i < p->users; i++) {
		if (!is_iommufd(p))
			vt_close(&p->user[i].c);
		else if (p->user[i].dev >= 0)
			close(p->user[i].dev);
	}
	if (p->super >= 0)
		close(p->super);
	if (p->iommufd >= 0)
		close(p->iommufd);
	p->users = 0;
}

int peer_map_one(struct peers *p, u32 user, u64 iova, const void *vaddr, u64 size,
		 u64 granule)
{
	u32 flags = VT_RW;

	if (is_copy(p))
		return ioas_copy(p, user, iova, vaddr, size);
	if (is_iommufd(p))
		return ioas_map(p, user, iova, vaddr, size);
	if (p->peer == PEER_SUPER)
		flags |= VFIO_DMA_MAP_FLAG_SUPER;
	return vt_map(&p->user[user].c, iova, vaddr, size, flags, granule);
}

int peer_map(struct peers *p, u32 user, u64 iova, const void *vaddr, u64 size, u64 piece)
{
	u64 at;
	int ret;

	switch (p->peer) {
	case PEER_TYPE1_CALLS:
	case PEER_IOMMUFD_CALLS:
	case PEER_COPY_CALLS:
		for (at = 0; at < size; at += piece) {
			ret = peer_map_one(p, user, iova + at, (const u8 *)vaddr + at, piece, 0);
			if (ret)
				return ret;
		}
		return 0;
	default:
		return peer_map_one(p, user, iova, vaddr, size,
				    peer_has_pieces(p->peer) ? piece : 0);
	}
}

int peer_unmap(struct peers *p, u32 user, u64 iova, u64 size)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = p->user[user].ioas,
		.iova = iova,
		.length = size,
	};

	if (is_iommufd(p))
		return err_of(ioctl(p->iommufd, IOMMU_IOAS_UNMAP, &unmap));
	return vt_unmap(&p->user[user].c, iova, size, NULL);
}

static int load_floor(void)
{
	int fd, ret;

	if (!access("/dev/iommu_floor", F_OK))
		return 0;
	fd = open(FLOOR_MODULE, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = err_of(syscall(SYS_finit_module, fd, "", 0));
	close(fd);
	return ret;
}

static int call_floor(unsigned long cmd, void *arg)
{
	int fd, ret;

	ret = load_floor();
	if (ret)
		return ret;
	fd = open("/dev/iommu_floor", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = err_of(ioctl(fd, cmd, arg));
	close(fd);
	return ret;
}

int peer_look(const void *vaddr, u64 iova, u64 size, u32 segment, u32 taken)
{
	struct iommu_floor_look look = {
		.vaddr = (uintptr_t)vaddr,
		.iova = iova,
		.size = size,
		.segment = segment,
		.taken = taken,
	};

	return call_floor(IOMMU_FLOOR_LOOK, &look);
}

int peer_floor(const void *vaddr, u64 iova, u64 size, u64 granule, u64 times,
	       struct peer_floor *floor)
{
	struct iommu_floor arg = {
		.vaddr = (uintptr_t)vaddr,
		.iova = iova,
		.size = size,
		.granule = granule,
		.times = times,
	};
	int ret;

	ret = call_floor(IOMMU_FLOOR_RUN, &arg);
	floor->map = arg.map_ns;
	floor->unmap = arg.unmap_ns;
	floor->pair = arg.pair_ns;
	floor->calls = arg.calls;
	floor->fill = arg.fill_ns;
	return ret;
}
