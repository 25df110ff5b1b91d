// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU's edu device: a 4 KiB buffer and one DMA engine. A register has to be written with one
 * access of 64 bits, which a 32-bit program cannot do.
 */
#define _FILE_OFFSET_BITS 64
#include <linux/pci_regs.h>
#include <time.h>

#include "vtest.h"

#define EDU_SRC		0x80
#define EDU_DST		0x88
#define EDU_COUNT	0x90
#define EDU_CMD		0x98
#define  EDU_CMD_RUN		0x1
#define  EDU_CMD_TO_MEMORY	0x2
#define EDU_COPY_FROM	0xa0
#define EDU_COPY_TO	0xa8
#define EDU_COPY_RUN	0xb0
#define EDU_COPY_DONE	0xb8
#define EDU_COPY_FAILED	0xc0
#define EDU_SWEEP	0xc8
#define EDU_SWEEP_PAGES	0xd0
#define EDU_BUFFER	0x40000

#define DMA_SECONDS	20

static void reg_write(struct vt_dev *dev, unsigned int reg, u64 val)
{
	*(volatile u64 *)(dev->bar + reg) = val;
}

static u64 reg_read(struct vt_dev *dev, unsigned int reg)
{
	return *(volatile u64 *)(dev->bar + reg);
}

static void enable_registers(struct vt_dev *dev)
{
	struct vfio_region_info bar = {
		.argsz = sizeof(bar),
		.index = VFIO_PCI_BAR0_REGION_INDEX,
	};
	struct vfio_region_info cfg = {
		.argsz = sizeof(cfg),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	u16 cmd;

	ASSERT_OK(ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, &cfg));
	ASSERT_EQ(pread(dev->fd, &cmd, 2, cfg.offset + PCI_COMMAND), 2);
	cmd |= PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY;
	ASSERT_EQ(pwrite(dev->fd, &cmd, 2, cfg.offset + PCI_COMMAND), 2);

	ASSERT_OK(ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, &bar));
	dev->bar = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED, dev->fd, bar.offset);
	if (dev->bar == MAP_FAILED)
		FAIL("BAR0 of %s: %s", dev->name, strerror(errno));
	/* The last user may have left a transfer under way. */
	vt_dma_wait(dev);
}

void vt_edu_enable(struct vt_dev *dev)
{
	enable_registers(dev);
	dev->bounce = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(dev->bounce != MAP_FAILED);
	dev->bounce_iova = VT_BOUNCE_IOVA(dev - dev->c->dev);
	ASSERT_OK(vt_map(dev->c, dev->bounce_iova, dev->bounce, SZ_4K, VT_RW, 0));
}

void vt_edu_enable_beside(struct vt_dev *dev, const struct vt_dev *other)
{
	enable_registers(dev);
	dev->bounce = other->bounce;
	dev->bounce_iova = other->bounce_iova;
}

void vt_dma_load_start(struct vt_dev *dev, u64 iova, size_t len)
{
	ASSERT_LE(len, VT_DMA_MAX);
	reg_write(dev, EDU_SRC, iova);
	reg_write(dev, EDU_DST, EDU_BUFFER);
	reg_write(dev, EDU_COUNT, len);
	reg_write(dev, EDU_CMD, EDU_CMD_RUN);
}

void vt_dma_store_start(struct vt_dev *dev, u64 iova, size_t len)
{
	ASSERT_LE(len, VT_DMA_MAX);
	reg_write(dev, EDU_SRC, EDU_BUFFER);
	reg_write(dev, EDU_DST, iova);
	reg_write(dev, EDU_COUNT, len);
	reg_write(dev, EDU_CMD, EDU_CMD_RUN | EDU_CMD_TO_MEMORY);
}

bool vt_dma_busy(struct vt_dev *dev)
{
	return reg_read(dev, EDU_CMD) & EDU_CMD_RUN;
}

void vt_dma_wait(struct vt_dev *dev)
{
	u64 start = vt_now();

	while (vt_dma_busy(dev)) {
		if (vt_now() - start > DMA_SECONDS * 1000000000ull)
			FAIL("%s: a DMA does not end", dev->name);
		usleep(1000);
	}
}

void vt_need_copies(struct vt_dev *dev)
{
	if (reg_read(dev, EDU_COPY_RUN) == ~0ull)
		SKIP("%s does not copy without pause: not the strict QEMU", dev->name);
	reg_write(dev, EDU_COPY_RUN, 0);
}

void vt_copies_between(struct vt_dev *dev, u64 from, u64 to)
{
	reg_write(dev, EDU_COPY_FROM, from);
	reg_write(dev, EDU_COPY_TO, to);
}

void vt_copies_start(struct vt_dev *dev, u64 from, u64 to, u64 sweep, u64 sweep_pages)
{
	vt_copies_between(dev, from, to);
	reg_write(dev, EDU_SWEEP, sweep);
	reg_write(dev, EDU_SWEEP_PAGES, sweep_pages);
	reg_write(dev, EDU_COPY_RUN, 1);
}

u64 vt_copies_done(struct vt_dev *dev)
{
	return reg_read(dev, EDU_COPY_DONE);
}

void vt_copies_wait(struct vt_dev *dev)
{
	u64 done = vt_copies_done(dev), start = vt_now();

	while (vt_copies_done(dev) < done + 2)
		if (vt_now() - start > DMA_SECONDS * 1000000000ull)
			FAIL("%s: it does not copy", dev->name);
}

u64 vt_copies_stop(struct vt_dev *dev)
{
	reg_write(dev, EDU_COPY_RUN, 0);
	return reg_read(dev, EDU_COPY_FAILED);
}

void vt_dma_write(struct vt_dev *dev, u64 iova, const void *buf, size_t len)
{
	memcpy(dev->bounce, buf, len);
	vt_dma_load_start(dev, dev->bounce_iova, len);
	vt_dma_wait(dev);
	vt_dma_store_start(dev, iova, len);
	vt_dma_wait(dev);
}

void vt_dma_read(struct vt_dev *dev, u64 iova, void *buf, size_t len)
{
	vt_dma_load_start(dev, iova, len);
	vt_dma_wait(dev);
	vt_dma_store_start(dev, dev->bounce_iova, len);
	vt_dma_wait(dev);
	memcpy(buf, dev->bounce, len);
}

static void *work(void *arg)
{
	struct vt_worker *w = arg;

	while (!w->stop) {
		vt_fill(w->from, VT_DMA_MAX, w->rounds);
		memset(w->to, 0, VT_DMA_MAX);
		vt_dma_load_start(w->dev, w->from_iova, VT_DMA_MAX);
		vt_dma_wait(w->dev);
		vt_dma_store_start(w->dev, w->to_iova, VT_DMA_MAX);
		vt_dma_wait(w->dev);
		if (!vt_filled(w->to, VT_DMA_MAX, w->rounds))
			FAIL("%s: round %u: data is wrong", w->dev->name, w->rounds);
		w->rounds++;
	}
	return NULL;
}

void vt_worker_start(struct vt_worker *w)
{
	w->rounds = 0;
	w->stop = false;
	ASSERT_OK(pthread_create(&w->thread, NULL, work, w));
}

bool vt_workers_did(const struct vt_worker *w, int nr, unsigned int rounds)
{
	int k;

	for (k = 0; k < nr; k++)
		if (w[k].rounds < rounds)
			return false;
	return true;
}

u64 vt_workers_stop(struct vt_worker *w, int nr)
{
	u64 rounds = 0;
	int k;

	for (k = 0; k < nr; k++)
		w[k].stop = true;
	for (k = 0; k < nr; k++) {
		ASSERT_OK(pthread_join(w[k].thread, NULL));
		rounds += w[k].rounds;
	}
	return rounds;
}

void vt_expect_read(struct vt_dev *dev, u64 iova, void *p)
{
	static u64 seed;
	u8 buf[64];

	vt_fill(p, sizeof(buf), ++seed);
	memset(buf, 0, sizeof(buf));
	vt_dma_read(dev, iova, buf, sizeof(buf));
	if (!vt_filled(buf, sizeof(buf), seed))
		FAIL("%s does not read the memory at %#llx", dev->name, iova);
}

void vt_expect_no_write(struct vt_dev *dev, u64 iova, void *p)
{
	u8 buf[64];

	memset(p, 0x55, sizeof(buf));
	memset(buf, 0xaa, sizeof(buf));
	vt_dma_write(dev, iova, buf, sizeof(buf));
	memset(buf, 0x55, sizeof(buf));
	if (memcmp(p, buf, sizeof(buf)))
		FAIL("%s wrote to %#llx", dev->name, iova);
}

void vt_expect_no_dma(struct vt_dev *dev, u64 iova, void *p)
{
	struct vt_faults f;

	vt_faults_mark(&f);
	vt_expect_no_write(dev, iova, p);
	/* The driver of virtio-iommu does not log each fault. */
	if (!vt_machine_is("virtio"))
		EXPECT_TRUE(vt_faults_hit(&f, iova, SZ_4K));
}

void vt_expect_write(struct vt_dev *dev, u64 iova, void *p)
{
	static u64 seed;
	u8 buf[64];

	vt_fill(buf, sizeof(buf), ++seed);
	vt_dma_write(dev, iova, buf, sizeof(buf));
	if (memcmp(buf, p, sizeof(buf)))
		FAIL("%s does not write the memory at %#llx", dev->name, iova);
}

void vt_expect_dma(struct vt_dev *dev, u64 iova, void *p)
{
	vt_expect_read(dev, iova, p);
	vt_expect_write(dev, iova, p);
}
