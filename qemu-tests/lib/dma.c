// SPDX-License-Identifier: GPL-2.0
/* The type1 ioctls, as functions that return 0 or -errno. */
#include "vtest.h"

static int container_ioctl(struct vt_container *c, unsigned long cmd, void *arg)
{
	return ioctl(c->fd, cmd, arg) < 0 ? -errno : 0;
}

int vt_map_raw(struct vt_container *c, u32 argsz, u32 flags, u64 iova,
	       u64 vaddr, u64 size, u64 granule)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = argsz,
		.flags = flags,
		.vaddr = vaddr,
		.iova = iova,
		.size = size,
		.granule = granule,
	};

	return container_ioctl(c, VFIO_IOMMU_MAP_DMA, &map);
}

int vt_map(struct vt_container *c, u64 iova, const void *vaddr, u64 size,
	   u32 flags, u64 granule)
{
	u32 argsz = offsetofend(struct vfio_iommu_type1_dma_map, size);

	if (granule) {
		flags |= VFIO_DMA_MAP_FLAG_GRANULE;
		argsz = sizeof(struct vfio_iommu_type1_dma_map);
	}
	return vt_map_raw(c, argsz, flags, iova, (uintptr_t)vaddr, size, granule);
}

int vt_map_vaddr(struct vt_container *c, u64 iova, const void *vaddr, u64 size)
{
	return vt_map(c, iova, vaddr, size, VFIO_DMA_MAP_FLAG_VADDR, 0);
}

int vt_unmap_flags(struct vt_container *c, u32 flags, u64 iova, u64 size,
		   u64 *unmapped)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = flags,
		.iova = iova,
		.size = size,
	};
	int ret;

	ret = container_ioctl(c, VFIO_IOMMU_UNMAP_DMA, &unmap);
	if (!ret && unmapped)
		*unmapped = unmap.size;
	return ret;
}

int vt_unmap(struct vt_container *c, u64 iova, u64 size, u64 *unmapped)
{
	return vt_unmap_flags(c, 0, iova, size, unmapped);
}

int vt_unmap_all(struct vt_container *c, u64 *unmapped)
{
	return vt_unmap_flags(c, VFIO_DMA_UNMAP_FLAG_ALL, 0, 0, unmapped);
}

int vt_unmap_vaddr(struct vt_container *c, u64 iova, u64 size, u64 *unmapped)
{
	return vt_unmap_flags(c, VFIO_DMA_UNMAP_FLAG_VADDR, iova, size, unmapped);
}

int vt_unmap_dirty(struct vt_container *c, u64 iova, u64 size, void *bitmap,
		   u64 bitmap_bytes, u64 *unmapped)
{
	struct {
		struct vfio_iommu_type1_dma_unmap unmap;
		struct vfio_bitmap bitmap;
	} arg = {
		.unmap = {
			.argsz = sizeof(arg),
			.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
			.iova = iova,
			.size = size,
		},
		.bitmap = {
			.pgsize = SZ_4K,
			.size = bitmap_bytes,
			.data = bitmap,
		},
	};
	int ret;

	ret = container_ioctl(c, VFIO_IOMMU_UNMAP_DMA, &arg);
	if (!ret && unmapped)
		*unmapped = arg.unmap.size;
	return ret;
}

static int dirty_flag(struct vt_container *c, u32 flag)
{
	struct vfio_iommu_type1_dirty_bitmap arg = {
		.argsz = sizeof(arg),
		.flags = flag,
	};

	return container_ioctl(c, VFIO_IOMMU_DIRTY_PAGES, &arg);
}

int vt_dirty_start(struct vt_container *c)
{
	return dirty_flag(c, VFIO_IOMMU_DIRTY_PAGES_FLAG_START);
}

int vt_dirty_stop(struct vt_container *c)
{
	return dirty_flag(c, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP);
}

int vt_dirty_get(struct vt_container *c, u64 iova, u64 size, void *bitmap,
		 u64 bitmap_bytes)
{
	struct {
		struct vfio_iommu_type1_dirty_bitmap dirty;
		struct vfio_iommu_type1_dirty_bitmap_get get;
	} arg = {
		.dirty = {
			.argsz = sizeof(arg),
			.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
		},
		.get = {
			.iova = iova,
			.size = size,
			.bitmap = {
				.pgsize = SZ_4K,
				.size = bitmap_bytes,
				.data = bitmap,
			},
		},
	};

	return container_ioctl(c, VFIO_IOMMU_DIRTY_PAGES, &arg);
}

bool vt_bit(const void *bitmap, u64 bit)
{
	return ((const u64 *)bitmap)[bit / 64] >> bit % 64 & 1;
}

u64 vt_bits(const void *bitmap, u64 from, u64 nr)
{
	u64 i, n = 0;

	for (i = 0; i < nr; i++)
		n += vt_bit(bitmap, from + i);
	return n;
}

int vt_check_extension(struct vt_container *c, unsigned long ext)
{
	return ioctl(c->fd, VFIO_CHECK_EXTENSION, ext);
}

void vt_info(struct vt_container *c, struct vt_info *info)
{
	union {
		struct vfio_iommu_type1_info info;
		u8 bytes[SZ_4K];
	} buf = { .info.argsz = sizeof(buf) };
	struct vfio_iommu_type1_info_cap_iova_range *ranges;
	struct vfio_iommu_type1_info_dma_avail *avail;
	struct vfio_info_cap_header *cap;
	u32 at, i;

	memset(info, 0, sizeof(*info));
	ASSERT_OK(container_ioctl(c, VFIO_IOMMU_GET_INFO, &buf));
	info->pgsizes = buf.info.iova_pgsizes;
	if (!(buf.info.flags & VFIO_IOMMU_INFO_CAPS))
		return;

	for (at = buf.info.cap_offset; at; at = cap->next) {
		cap = (void *)(buf.bytes + at);
		switch (cap->id) {
		case VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
			avail = (void *)cap;
			info->dma_avail = avail->avail;
			break;
		case VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
			ranges = (void *)cap;
			for (i = 0; i < ranges->nr_iovas && i < ARRAY_SIZE(info->range); i++) {
				info->range[i].first = ranges->iova_ranges[i].start;
				info->range[i].last = ranges->iova_ranges[i].end;
			}
			info->nr_ranges = i;
			break;
		}
	}
}

bool vt_any_pgsize(struct vt_container *c)
{
	struct vt_info info;

	vt_info(c, &info);
	return info.pgsizes & SZ_8K;
}

bool vt_cuts(void)
{
	if (vt_machine_is("amd"))
		return !access("/sys/module/amd_cuts", F_OK);
	return vt_linux() >= 7 && !vt_kernel_lacks("cuts") &&
	       !vt_machine_is("virtio") && !vt_machine_is("smmu");
}

void vt_need_cuts(void)
{
	if (!vt_cuts())
		SKIP("an IOMMU that cannot be cut");
}

u32 vt_dma_avail(struct vt_container *c)
{
	struct vt_info info;

	vt_info(c, &info);
	return info.dma_avail;
}

u64 vt_last_iova(struct vt_container *c)
{
	struct vt_info info;

	vt_info(c, &info);
	if (!info.nr_ranges)
		FAIL("the container tells no IOVA ranges");
	return info.range[info.nr_ranges - 1].last;
}

void vt_need_granule(struct vt_container *c)
{
	if (vt_check_extension(c, VFIO_DMA_GRANULE) != 1)
		SKIP("this kernel has no VFIO_DMA_GRANULE");
}

void vt_open_granule(struct vt_container *c)
{
	vt_open_v2(c);
	vt_need_granule(c);
}
