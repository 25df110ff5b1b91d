// SPDX-License-Identifier: GPL-2.0-only
/* Maps memory and unmaps a granule of it; registers memory and maps it in two containers. */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/vfio.h>

#define GRANULE	(2ULL << 20)
#define SIZE	(8 * GRANULE)
#define IOVA	(1ULL << 32)

#define MUST(call) ({ int ret = (call); if (ret < 0) err(1, #call); ret; })

static uint64_t memory(void)
{
	/* IOMMU pages of 2 MiB need huge pages, at aligned addresses. */
	void *p = aligned_alloc(GRANULE, SIZE);

	if (!p || madvise(p, SIZE, MADV_HUGEPAGE))
		err(1, "memory");
	return (uintptr_t)p;
}

static int open_container(const char *path)
{
	int container = MUST(open("/dev/vfio/vfio", O_RDWR));
	int group = MUST(open(path, O_RDWR));

	MUST(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
	MUST(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	for (int what = VFIO_DMA_GRANULE; what <= VFIO_SUPER_CONTAINER; what++)
		if (ioctl(container, VFIO_CHECK_EXTENSION, what) != 1)
			errx(1, "this kernel lacks extension %d", what);
	return container;
}

static void show(int container, const char *what)
{
	struct vfio_dma_extent e[16];
	struct vfio_iommu_type1_dma_extents args = { .argsz = sizeof(args) };

	printf("%s:\n", what);
	args.extents = (uintptr_t)e;
	do {	/* The call leaves in iova and size where to go on. */
		args.count = 16;
		MUST(ioctl(container, VFIO_IOMMU_DMA_EXTENTS, &args));
		for (unsigned int i = 0; i < args.count; i++)
			printf("  %#llx: %llu KiB in pages of %llu KiB%s\n",
			       e[i].iova, e[i].size >> 10, e[i].pgsize >> 10,
			       e[i].flags & VFIO_DMA_EXTENT_SUPER ? ", super" : "");
	} while (args.size);
}

int main(int argc, char **argv)
{
	/* One call, one DMA entry, and each 2 MiB can be unmapped alone. */
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .vaddr = memory(),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_GRANULE,
		.iova = IOVA, .size = SIZE, .granule = GRANULE,
	};
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = IOVA + 3 * GRANULE, .size = GRANULE,
	};
	struct vfio_iommu_super_create create = { .argsz = sizeof(create) };
	struct vfio_super_memory reg = {
		.argsz = sizeof(reg), .vaddr = memory(), .size = SIZE,
		.flags = VFIO_SUPER_MEMORY_READ | VFIO_SUPER_MEMORY_WRITE,
	};
	struct vfio_iommu_super_attach attach = { .argsz = sizeof(attach) };

	if (argc < 3)
		errx(2, "usage: client /dev/vfio/GROUP /dev/vfio/GROUP");
	int c[2] = { open_container(argv[1]), open_container(argv[2]) };

	MUST(ioctl(c[0], VFIO_IOMMU_MAP_DMA, &map));
	show(c[0], "mapped with a granule");
	MUST(ioctl(c[0], VFIO_IOMMU_UNMAP_DMA, &unmap));
	show(c[0], "one granule unmapped");

	/* Pin memory and charge it once; both containers can map it. */
	attach.super_fd = MUST(ioctl(c[0], VFIO_IOMMU_SUPER_CREATE, &create));
	MUST(ioctl(attach.super_fd, VFIO_SUPER_REGISTER_MEMORY, &reg));
	for (int i = 0; i < 2; i++) {
		MUST(ioctl(c[i], VFIO_IOMMU_SUPER_ATTACH, &attach));
		map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_SUPER;
		map.vaddr = reg.vaddr;
		map.iova = unmap.iova;	/* in the first container, the hole */
		map.size = i ? SIZE : GRANULE / 2;
		MUST(ioctl(c[i], VFIO_IOMMU_MAP_DMA, &map));
		show(c[i], "registered memory mapped");
	}
	getchar();	/* All stays mapped until a line comes in. */
	return 0;
}
