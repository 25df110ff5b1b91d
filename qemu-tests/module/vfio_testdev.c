// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test only: what the emulated machines lack for testing VFIO's type1.
 *
 * 1. Mediated devices which pin pages when they are told to.  They log each dma_unmap
 *    callback, and unpin exactly what they have pinned in its range.  vfio_testdev.h has
 *    their ioctls.
 *
 * 2. Probes in the IOMMU core, which act only while the parameter "armed" is set.  They
 *    make the core refuse calls (sharing a domain, page sizes, unmaps) or report reserved
 *    regions that do not exist.  One in virtio-iommu spoils requests.  See the
 *    MODULE_PARM_DESC()s.  Clearing "armed" resets all their parameters.
 *
 * The handlers run in a breakpoint, so they take no locks.  They remember things from one
 * call to the next.  That works only if groups join one container at a time.
 */

#include <linux/eventfd.h>
#include <linux/iommu.h>
#include <linux/kprobes.h>
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/objtool.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vfio.h>
#include <linux/virtio_iommu.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "vfio_testdev.h"

#define VTD_NAME	"vfio_testdev"
#define VTD_MAX_DEVS	8
#define VTD_MAX_DOMAINS	16
#define VTD_MAX_EVENTS	1024
#define VTD_MAX_RW	(16UL << 20)

static unsigned int ndev = 3;
module_param(ndev, uint, 0444);
MODULE_PARM_DESC(ndev, "Number of emulated devices (3)");

/* Devices */

struct vtd {
	struct vfio_device vdev;
	struct mutex lock;		/* guards everything below */
	struct xarray pins;		/* iova >> PAGE_SHIFT -> how often pinned */
	int npinned;
	u32 nevents;
	struct vtd_event events[VTD_MAX_EVENTS];
	bool keep;			/* VTD_KEEP */
	struct vtd_pin late;		/* VTD_PIN_LATE, npages 0: none */
	int late_ret;
};

struct vtd_rw_work {
	struct work_struct work;
	struct vtd *vtd;
	struct vtd_rw *rw;
	void *data;
	int ret;
};

static struct vtd *to_vtd(struct vfio_device *vdev)
{
	return container_of(vdev, struct vtd, vdev);
}

static unsigned long vtd_last_index(u64 iova, u64 size)
{
	return (iova + size - 1) >> PAGE_SHIFT;
}

static void vtd_forget(struct vtd *vtd, unsigned long index, unsigned long n)
{
	if (n > 1)
		xa_store(&vtd->pins, index, xa_mk_value(n - 1), GFP_KERNEL);
	else
		xa_erase(&vtd->pins, index);
	vtd->npinned--;
}

static void vtd_unpin_range(struct vtd *vtd, unsigned long first,
			    unsigned long last)
{
	unsigned long index;
	void *entry;

	lockdep_assert_held(&vtd->lock);

	xa_for_each_range(&vtd->pins, index, entry, first, last) {
		unsigned long n = xa_to_value(entry);

		for (; n; n--) {
			vfio_unpin_pages(&vtd->vdev,
					 (dma_addr_t)index << PAGE_SHIFT, 1);
			vtd_forget(vtd, index, n);
		}
	}
}

static int vtd_remember(struct vtd *vtd, const struct vtd_pin *pin)
{
	unsigned long index = pin->iova >> PAGE_SHIFT;
	u32 i;

	for (i = 0; i < pin->npages; i++) {
		void *entry = xa_load(&vtd->pins, index + i);
		unsigned long n = entry ? xa_to_value(entry) : 0;

		entry = xa_store(&vtd->pins, index + i, xa_mk_value(n + 1),
				 GFP_KERNEL);
		if (xa_is_err(entry))
			goto undo;
		vtd->npinned++;
	}
	return 0;

undo:
	while (i--)
		vtd_forget(vtd, index + i,
			   xa_to_value(xa_load(&vtd->pins, index + i)));
	return -ENOMEM;
}

static int vtd_pin_pages(struct vtd *vtd, const struct vtd_pin *pin,
			 struct page **pages)
{
	int ret, err;

	lockdep_assert_held(&vtd->lock);

	ret = vfio_pin_pages(&vtd->vdev, pin->iova, pin->npages, pin->prot,
			     pages);
	if (ret <= 0)
		return ret;

	err = vtd_remember(vtd, pin);
	if (err) {
		vfio_unpin_pages(&vtd->vdev, pin->iova, ret);
		return err;
	}
	return ret;
}

static int vtd_do_pin(struct vtd *vtd, const struct vtd_pin *pin)
{
	u64 __user *upfns = u64_to_user_ptr(pin->pfns);
	struct page **pages;
	int ret, i;

	if (!pin->npages || pin->npages > VFIO_PIN_PAGES_MAX_ENTRIES)
		return -E2BIG;

	pages = kcalloc(pin->npages, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;

	mutex_lock(&vtd->lock);
	ret = vtd_pin_pages(vtd, pin, pages);
	mutex_unlock(&vtd->lock);

	for (i = 0; upfns && i < ret; i++) {
		if (put_user((u64)page_to_pfn(pages[i]), upfns + i)) {
			ret = -EFAULT;
			break;
		}
	}
	kfree(pages);
	return ret;
}

static int vtd_do_unpin(struct vtd *vtd, const struct vtd_pin *pin)
{
	unsigned long index = pin->iova >> PAGE_SHIFT;
	int ret = 0;
	u32 i;

	mutex_lock(&vtd->lock);
	for (i = 0; i < pin->npages && !ret; i++)
		if (!xa_load(&vtd->pins, index + i))
			ret = -ENOENT;
	if (!ret && pin->npages)
		vfio_unpin_pages(&vtd->vdev, pin->iova, pin->npages);
	for (i = 0; i < pin->npages && !ret; i++)
		vtd_forget(vtd, index + i,
			   xa_to_value(xa_load(&vtd->pins, index + i)));
	mutex_unlock(&vtd->lock);
	return ret;
}

static int vtd_do_pin_late(struct vtd *vtd, const struct vtd_pin *pin)
{
	int ret;

	if (pin->npages > 1)
		return -E2BIG;

	mutex_lock(&vtd->lock);
	ret = vtd->late_ret;
	vtd->late = *pin;
	vtd->late_ret = -ENODATA;
	mutex_unlock(&vtd->lock);
	return ret;
}

static void vtd_rw_work(struct work_struct *work)
{
	struct vtd_rw_work *w = container_of(work, struct vtd_rw_work, work);

	w->ret = vfio_dma_rw(&w->vtd->vdev, w->rw->iova, w->data, w->rw->len,
			     w->rw->flags & VTD_WRITE);
}

static int vtd_do_rw(struct vtd *vtd, struct vtd_rw *rw)
{
	struct vtd_rw_work w = { .vtd = vtd, .rw = rw };
	void __user *ubuf = u64_to_user_ptr(rw->buf);

	if (!rw->len || rw->len > VTD_MAX_RW)
		return -E2BIG;

	w.data = kvzalloc(rw->len, GFP_KERNEL);
	if (!w.data)
		return -ENOMEM;

	if ((rw->flags & VTD_WRITE) && copy_from_user(w.data, ubuf, rw->len)) {
		w.ret = -EFAULT;
		goto out;
	}

	if (rw->flags & VTD_KTHREAD) {
		INIT_WORK_ONSTACK(&w.work, vtd_rw_work);
		schedule_work(&w.work);
		flush_work(&w.work);
		destroy_work_on_stack(&w.work);
	} else {
		vtd_rw_work(&w.work);
	}

	if (!w.ret && !(rw->flags & VTD_WRITE) &&
	    copy_to_user(ubuf, w.data, rw->len))
		w.ret = -EFAULT;
out:
	kvfree(w.data);
	return w.ret;
}

static int vtd_do_log(struct vtd *vtd, struct vtd_log *log)
{
	u32 n;
	int ret;

	mutex_lock(&vtd->lock);
	n = min3(vtd->nevents, log->room, (u32)VTD_MAX_EVENTS);
	ret = n;
	if (copy_to_user(u64_to_user_ptr(log->events), vtd->events,
			 n * sizeof(*vtd->events)))
		ret = -EFAULT;
	log->total = vtd->nevents;
	vtd->nevents = 0;
	mutex_unlock(&vtd->lock);
	return ret;
}

/* Like a page fault that waits for memory, on FUSE for instance */
static int vtd_set_hold_mm(const char *val, const struct kernel_param *kp)
{
	struct eventfd_ctx *held;
	int fd, ret;

	ret = kstrtoint(val, 0, &fd);
	if (ret)
		return ret;

	held = eventfd_ctx_fdget(fd);
	if (IS_ERR(held))
		return PTR_ERR(held);

	mmap_read_lock(current->mm);
	eventfd_signal(held);
	schedule_timeout_interruptible(MAX_SCHEDULE_TIMEOUT);
	mmap_read_unlock(current->mm);
	eventfd_ctx_put(held);
	return -EINTR;
}

static const struct kernel_param_ops vtd_hold_mm_ops = {
	.set = vtd_set_hold_mm,
};

module_param_cb(hold_mm, &vtd_hold_mm_ops, NULL, 0200);
MODULE_PARM_DESC(hold_mm,
		 "Hold the writer's mmap_lock, which this eventfd tells, until a signal");

/*
 * Unmaps four pages, of which the second and the fourth are not mapped, in a domain without
 * devices.  The first must be unmapped, and the third must stay.
 */
static int vtd_unmap_hole(struct iommu_domain *domain, phys_addr_t phys)
{
	unsigned long iova = SZ_1G, third = iova + 2 * PAGE_SIZE;
	int ret;

	ret = iommu_map(domain, iova, phys, PAGE_SIZE, IOMMU_READ, GFP_KERNEL);
	if (ret)
		return ret;
	ret = iommu_map(domain, third, phys, PAGE_SIZE, IOMMU_READ, GFP_KERNEL);
	if (ret) {
		iommu_unmap(domain, iova, PAGE_SIZE);
		return ret;
	}

	if (iommu_unmap(domain, iova, 4 * PAGE_SIZE) != PAGE_SIZE)
		ret = -ERANGE;
	if (!iommu_iova_to_phys(domain, third))
		return -ENOENT;
	iommu_unmap(domain, third, PAGE_SIZE);
	return ret;
}

static int vtd_set_unmap_hole(const char *val, const struct kernel_param *kp)
{
	struct iommu_domain *domain;
	struct pci_dev *edu;
	struct page *page;
	int ret = -ENOMEM;

	edu = pci_get_device(0x1234, 0x11e8, NULL);
	if (!edu)
		return -ENODEV;
	page = alloc_page(GFP_KERNEL);
	if (!page)
		goto put;
	domain = iommu_paging_domain_alloc(&edu->dev);
	if (IS_ERR(domain)) {
		ret = PTR_ERR(domain);
		goto free;
	}
	ret = vtd_unmap_hole(domain, page_to_phys(page));
	iommu_domain_free(domain);
free:
	__free_page(page);
put:
	pci_dev_put(edu);
	return ret;
}

static const struct kernel_param_ops vtd_unmap_hole_ops = {
	.set = vtd_set_unmap_hole,
};

module_param_cb(unmap_hole, &vtd_unmap_hole_ops, NULL, 0200);
MODULE_PARM_DESC(unmap_hole,
		 "Unmap across a hole: -ERANGE if it does not end there, -ENOENT if it takes what is behind");

static long vtd_ioctl(struct vfio_device *vdev, unsigned int cmd,
		      unsigned long arg)
{
	struct vtd *vtd = to_vtd(vdev);
	void __user *uarg = (void __user *)arg;
	struct vtd_pin pin;
	struct vtd_log log;
	struct vtd_rw rw;
	int ret;

	switch (cmd) {
	case VTD_PIN:
		if (copy_from_user(&pin, uarg, sizeof(pin)))
			return -EFAULT;
		return vtd_do_pin(vtd, &pin);
	case VTD_UNPIN:
		if (copy_from_user(&pin, uarg, sizeof(pin)))
			return -EFAULT;
		return vtd_do_unpin(vtd, &pin);
	case VTD_RW:
		if (copy_from_user(&rw, uarg, sizeof(rw)))
			return -EFAULT;
		return vtd_do_rw(vtd, &rw);
	case VTD_LOG:
		if (copy_from_user(&log, uarg, sizeof(log)))
			return -EFAULT;
		ret = vtd_do_log(vtd, &log);
		if (ret >= 0 && copy_to_user(uarg, &log, sizeof(log)))
			return -EFAULT;
		return ret;
	case VTD_PIN_LATE:
		if (copy_from_user(&pin, uarg, sizeof(pin)))
			return -EFAULT;
		return vtd_do_pin_late(vtd, &pin);
	case VTD_KEEP:
		mutex_lock(&vtd->lock);
		vtd->keep = arg;
		mutex_unlock(&vtd->lock);
		return 0;
	case VTD_PINNED:
		mutex_lock(&vtd->lock);
		ret = vtd->npinned;
		mutex_unlock(&vtd->lock);
		return ret;
	default:
		return -ENOTTY;
	}
}

static void vtd_dma_unmap(struct vfio_device *vdev, u64 iova, u64 size)
{
	struct vtd *vtd = to_vtd(vdev);
	struct page *page;

	mutex_lock(&vtd->lock);
	if (vtd->nevents < VTD_MAX_EVENTS)
		vtd->events[vtd->nevents] =
			(struct vtd_event){ .iova = iova, .size = size };
	vtd->nevents++;
	if (!vtd->keep)
		vtd_unpin_range(vtd, iova >> PAGE_SHIFT,
				vtd_last_index(iova, size));
	if (vtd->late.npages &&
	    (vtd->late.iova < iova || vtd->late.iova - iova >= size)) {
		vtd->late_ret = vtd_pin_pages(vtd, &vtd->late, &page);
		vtd->late.npages = 0;
	}
	mutex_unlock(&vtd->lock);
}

static int vtd_open(struct vfio_device *vdev)
{
	return 0;
}

static void vtd_close(struct vfio_device *vdev)
{
	struct vtd *vtd = to_vtd(vdev);

	mutex_lock(&vtd->lock);
	vtd_unpin_range(vtd, 0, ULONG_MAX);
	vtd->keep = false;
	vtd->nevents = 0;
	vtd->late.npages = 0;
	vtd->late_ret = -ENODATA;
	mutex_unlock(&vtd->lock);
}

static int vtd_init_dev(struct vfio_device *vdev)
{
	struct vtd *vtd = to_vtd(vdev);

	mutex_init(&vtd->lock);
	vtd->late_ret = -ENODATA;
	xa_init(&vtd->pins);
	return 0;
}

static void vtd_release_dev(struct vfio_device *vdev)
{
	struct vtd *vtd = to_vtd(vdev);

	xa_destroy(&vtd->pins);
	mutex_destroy(&vtd->lock);
}

static const struct vfio_device_ops vtd_ops = {
	.name		= VTD_NAME,
	.init		= vtd_init_dev,
	.release	= vtd_release_dev,
	.open_device	= vtd_open,
	.close_device	= vtd_close,
	.ioctl		= vtd_ioctl,
	.dma_unmap	= vtd_dma_unmap,
	.bind_iommufd	= vfio_iommufd_emulated_bind,
	.unbind_iommufd	= vfio_iommufd_emulated_unbind,
	.attach_ioas	= vfio_iommufd_emulated_attach_ioas,
	.detach_ioas	= vfio_iommufd_emulated_detach_ioas,
};

static int vtd_probe(struct platform_device *pdev)
{
	struct vtd *vtd;
	int ret;

	vtd = vfio_alloc_device(vtd, vdev, &pdev->dev, &vtd_ops);
	if (IS_ERR(vtd))
		return PTR_ERR(vtd);

	ret = vfio_register_emulated_iommu_dev(&vtd->vdev);
	if (ret) {
		vfio_put_device(&vtd->vdev);
		return ret;
	}
	platform_set_drvdata(pdev, vtd);
	return 0;
}

static void vtd_remove(struct platform_device *pdev)
{
	struct vtd *vtd = platform_get_drvdata(pdev);

	vfio_unregister_group_dev(&vtd->vdev);
	vfio_put_device(&vtd->vdev);
}

static struct platform_driver vtd_driver = {
	.probe	= vtd_probe,
	.remove	= vtd_remove,
	.driver	= { .name = VTD_NAME },
};

/* Probes */

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define VTD_DOMAIN_ALLOC	"iommu_paging_domain_alloc"
#else
#define VTD_DOMAIN_ALLOC	"iommu_paging_domain_alloc_flags"
#endif

static bool refuse_sharing;
module_param(refuse_sharing, bool, 0644);
MODULE_PARM_DESC(refuse_sharing,
		 "A group cannot join another group's domain: one domain a group");

static unsigned long refused;
module_param(refused, ulong, 0644);
MODULE_PARM_DESC(refused, "How many calls refuse_sharing refused; write 0 to reset");

static unsigned long hide_pgsizes;
module_param(hide_pgsizes, ulong, 0644);
MODULE_PARM_DESC(hide_pgsizes, "Page sizes that domains allocated from now on lack");

static bool no_cuts;
module_param(no_cuts, bool, 0644);
MODULE_PARM_DESC(no_cuts, "Domains allocated from now on cannot be cut");

static int fail_map_times;
module_param(fail_map_times, int, 0644);
MODULE_PARM_DESC(fail_map_times, "How many calls that map fail; -1: all");

static int fail_map_skip;
module_param(fail_map_skip, int, 0644);
MODULE_PARM_DESC(fail_map_skip, "How many calls succeed before those that fail");

static int fail_unmap_times;
module_param(fail_unmap_times, int, 0644);
MODULE_PARM_DESC(fail_unmap_times,
		 "How many calls of iommu_unmap() and iommu_unmap_fast() fail; -1: all");

static int fail_unmap_skip;
module_param(fail_unmap_skip, int, 0644);
MODULE_PARM_DESC(fail_unmap_skip, "How many calls succeed before those that fail");

static unsigned long fail_unmap_bytes;
module_param(fail_unmap_bytes, ulong, 0644);
MODULE_PARM_DESC(fail_unmap_bytes, "How much a failing call unmaps all the same (0)");

static unsigned int fail_unmap_domain;
module_param(fail_unmap_domain, uint, 0644);
MODULE_PARM_DESC(fail_unmap_domain,
		 "Calls on this domain only; 1 is the oldest, 0 any domain");

static unsigned long resv_iova;
module_param(resv_iova, ulong, 0644);
MODULE_PARM_DESC(resv_iova, "Where every group has a reserved region more");

static unsigned long resv_size;
module_param(resv_size, ulong, 0644);
MODULE_PARM_DESC(resv_size, "Size of that region; 0: none");

static bool sw_msi;
module_param(sw_msi, bool, 0644);
MODULE_PARM_DESC(sw_msi, "Every group's MSIs need an MSI cookie");

static int fail_cookie_times;
module_param(fail_cookie_times, int, 0644);
MODULE_PARM_DESC(fail_cookie_times, "How many calls of iommu_get_msi_cookie() fail");

static unsigned int spoil_type;
module_param(spoil_type, uint, 0644);
MODULE_PARM_DESC(spoil_type,
		 "Requests of this type that a virtio-iommu gets are for nothing that exists");

static int spoil_times;
module_param(spoil_times, int, 0644);
MODULE_PARM_DESC(spoil_times, "How many of them");

static unsigned long unmap_calls;
module_param(unmap_calls, ulong, 0644);
MODULE_PARM_DESC(unmap_calls,
		 "Calls of iommu_unmap() and iommu_unmap_fast() seen; write 0 to reset");

/* Domains that were allocated for a device, oldest first.  NULL: it was freed. */
static struct iommu_domain *domains[VTD_MAX_DOMAINS];

/* The last call of iommu_attach_group() that was not refused */
static struct iommu_group *last_group;
static struct iommu_domain *last_domain;

#ifdef CONFIG_ARM64
#define VTD_RET			"ret"
#define VTD_THIRD_ARG(regs)	((regs)->regs[2])
#else
#define VTD_RET			ANNOTATE_NOENDBR "\n" ASM_RET
#define VTD_THIRD_ARG(regs)	((regs)->dx)
#endif

/* A probe that has set the return value of the probed function goes on here. */
asmlinkage void vtd_just_return(void);

asm(".text\n"
	".type vtd_just_return, @function\n"
	".globl vtd_just_return\n"
	"vtd_just_return:\n"
		VTD_RET "\n"
	".size vtd_just_return, .-vtd_just_return\n"
);

static int vtd_return(struct pt_regs *regs, unsigned long ret)
{
	regs_set_return_value(regs, ret);
	instruction_pointer_set(regs, (unsigned long)vtd_just_return);
	return 1;
}

/* A probe with a post_handler is never optimised, so it may set the ip */
static void vtd_post(struct kprobe *kp, struct pt_regs *regs, unsigned long flags)
{
}

static unsigned int vtd_domain_index(struct iommu_domain *domain)
{
	unsigned int i, n = 0;

	for (i = 0; i < VTD_MAX_DOMAINS; i++) {
		if (!domains[i])
			continue;
		n++;
		if (domains[i] == domain)
			return n;
	}
	return 0;
}

/*
 * To find out whether a group can share a domain, type1 attaches it to a new domain,
 * detaches it, attaches it to an existing one, and if that fails to the new one again.
 * So refuse a call that attaches the same group as the last call to another domain, if no
 * domain was allocated in between.
 */
static int vtd_attach_pre(struct kprobe *kp, struct pt_regs *regs)
{
	struct iommu_domain *domain = (void *)regs_get_kernel_argument(regs, 0);
	struct iommu_group *group = (void *)regs_get_kernel_argument(regs, 1);

	if (refuse_sharing && group == last_group && domain != last_domain) {
		refused++;
		return vtd_return(regs, -EINVAL);
	}

	last_group = group;
	last_domain = domain;
	return 0;
}

static int vtd_map_pre(struct kprobe *kp, struct pt_regs *regs)
{
	if (!fail_map_times)
		return 0;
	if (fail_map_skip) {
		fail_map_skip--;
		return 0;
	}
	if (fail_map_times > 0)
		fail_map_times--;
	return vtd_return(regs, -ENOMEM);
}

/* The seventh argument says how much has been mapped */
static int vtd_map_runs_pre(struct kprobe *kp, struct pt_regs *regs)
{
	size_t *mapped = (void *)regs_get_kernel_argument(regs, 6);

	if (!vtd_map_pre(kp, regs))
		return 0;
	*mapped = 0;
	return 1;
}

static int vtd_unmap_pre(struct kprobe *kp, struct pt_regs *regs)
{
	struct iommu_domain *domain = (void *)regs_get_kernel_argument(regs, 0);

	unmap_calls++;
	if (!fail_unmap_times ||
	    (fail_unmap_domain && fail_unmap_domain != vtd_domain_index(domain)))
		return 0;
	if (fail_unmap_skip) {
		fail_unmap_skip--;
		return 0;
	}
	if (fail_unmap_times > 0)
		fail_unmap_times--;
	if (!fail_unmap_bytes)
		return vtd_return(regs, 0);
	/* The third argument is the size */
	VTD_THIRD_ARG(regs) = min_t(unsigned long, VTD_THIRD_ARG(regs), fail_unmap_bytes);
	return 0;
}

static int vtd_cookie_pre(struct kprobe *kp, struct pt_regs *regs)
{
	if (!fail_cookie_times)
		return 0;
	fail_cookie_times--;
	return vtd_return(regs, -ENOMEM);
}

/* The second argument is a request, before it is copied into the queue */
static int vtd_request_pre(struct kprobe *kp, struct pt_regs *regs)
{
	struct virtio_iommu_req_head *head = (void *)regs_get_kernel_argument(regs, 1);

	if (!spoil_times || head->type != spoil_type)
		return 0;
	spoil_times--;
	if (head->type == VIRTIO_IOMMU_T_ATTACH)
		((struct virtio_iommu_req_attach *)head)->endpoint = cpu_to_le32(U32_MAX);
	else if (head->type == VIRTIO_IOMMU_T_MAP)
		((struct virtio_iommu_req_map *)head)->domain = cpu_to_le32(U32_MAX);
	else if (head->type == VIRTIO_IOMMU_T_UNMAP)
		((struct virtio_iommu_req_unmap *)head)->domain = cpu_to_le32(U32_MAX);
	return 0;
}

static int vtd_free_pre(struct kprobe *kp, struct pt_regs *regs)
{
	unsigned int i;

	for (i = 0; i < VTD_MAX_DOMAINS; i++)
		if (domains[i] == (void *)regs_get_kernel_argument(regs, 0))
			domains[i] = NULL;
	return 0;
}

static int vtd_alloc_ret(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct iommu_domain *domain = (void *)regs_return_value(regs);
	unsigned int i, end = 0;

	last_group = NULL;
	if (IS_ERR_OR_NULL(domain))
		return 0;

	domain->pgsize_bitmap &= ~hide_pgsizes;
#ifdef HAVE_CUTS
	if (no_cuts)
		domain->max_cut_pgsize = 0;
#endif

	/* Close the gaps and keep the order, which is by age */
	for (i = 0; i < VTD_MAX_DOMAINS; i++)
		if (domains[i])
			domains[end++] = domains[i];
	if (end < VTD_MAX_DOMAINS)
		domains[end++] = domain;
	while (end < VTD_MAX_DOMAINS)
		domains[end++] = NULL;
	return 0;
}

static int vtd_resv_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	*(struct list_head **)ri->data = (void *)regs_get_kernel_argument(regs, 1);
	return 0;
}

static int vtd_resv_ret(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct list_head *head = *(struct list_head **)ri->data;
	struct iommu_resv_region *region;

	if (regs_return_value(regs))
		return 0;

	list_for_each_entry(region, head, list)
		if (sw_msi && region->type == IOMMU_RESV_MSI)
			region->type = IOMMU_RESV_SW_MSI;

	if (!resv_size)
		return 0;

	region = iommu_alloc_resv_region(resv_iova, resv_size, 0,
					 IOMMU_RESV_RESERVED, GFP_ATOMIC);
	if (region)
		list_add_tail(&region->list, head);
	return 0;
}

#define VTD_KPROBE(symbol, handler) { \
	.symbol_name	= symbol, \
	.pre_handler	= handler, \
	.post_handler	= vtd_post, \
	.flags		= KPROBE_FLAG_DISABLED, \
}

static struct kprobe probes[] = {
	VTD_KPROBE("iommu_attach_group", vtd_attach_pre),
	VTD_KPROBE("iommu_map_runs", vtd_map_runs_pre),
	VTD_KPROBE("iommu_unmap", vtd_unmap_pre),
	VTD_KPROBE("iommu_unmap_fast", vtd_unmap_pre),
	VTD_KPROBE("iommu_domain_free", vtd_free_pre),
	VTD_KPROBE("iommu_get_msi_cookie", vtd_cookie_pre),
	/* The last, since vtd_register_probes() may leave it out */
	VTD_KPROBE("__viommu_add_req", vtd_request_pre),
};

static unsigned int nprobes = ARRAY_SIZE(probes);

static struct kretprobe retprobes[] = {
	{
		.kp.symbol_name	= VTD_DOMAIN_ALLOC,
		.kp.flags	= KPROBE_FLAG_DISABLED,
		.handler	= vtd_alloc_ret,
	}, {
		.kp.symbol_name	= "iommu_get_group_resv_regions",
		.kp.flags	= KPROBE_FLAG_DISABLED,
		.entry_handler	= vtd_resv_entry,
		.handler	= vtd_resv_ret,
		.data_size	= sizeof(struct list_head *),
	},
};

static DEFINE_MUTEX(arm_lock);		/* guards armed and probes_ready */
static bool armed;
static bool probes_ready;

static int vtd_arm(void)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < nprobes && !ret; i++)
		ret = enable_kprobe(&probes[i]);
	for (i = 0; i < ARRAY_SIZE(retprobes) && !ret; i++)
		ret = enable_kretprobe(&retprobes[i]);
	return ret;
}

static void vtd_disarm(void)
{
	unsigned int i;

	for (i = 0; i < nprobes; i++)
		disable_kprobe(&probes[i]);
	for (i = 0; i < ARRAY_SIZE(retprobes); i++)
		disable_kretprobe(&retprobes[i]);

	refuse_sharing = false;
	refused = 0;
	hide_pgsizes = 0;
	no_cuts = false;
	fail_map_times = 0;
	fail_map_skip = 0;
	fail_unmap_times = 0;
	fail_unmap_skip = 0;
	fail_unmap_bytes = 0;
	fail_unmap_domain = 0;
	resv_iova = 0;
	resv_size = 0;
	sw_msi = false;
	fail_cookie_times = 0;
	spoil_type = 0;
	spoil_times = 0;
	unmap_calls = 0;
	last_group = NULL;
	memset(domains, 0, sizeof(domains));
}

static int vtd_set_armed(const char *val, const struct kernel_param *kp)
{
	bool arm;
	int ret = kstrtobool(val, &arm);

	if (ret)
		return ret;

	mutex_lock(&arm_lock);
	if (!probes_ready)
		ret = -ENODEV;
	else if (arm && !armed)
		ret = vtd_arm();
	if (!ret && !arm && armed)
		vtd_disarm();
	if (!ret)
		armed = arm;
	mutex_unlock(&arm_lock);
	return ret;
}

static const struct kernel_param_ops armed_ops = {
	.set = vtd_set_armed,
	.get = param_get_bool,
};
module_param_cb(armed, &armed_ops, &armed, 0644);
MODULE_PARM_DESC(armed, "Whether the probes are at work; clearing it resets their parameters");

static void vtd_unregister_probes(unsigned int n, unsigned int nret)
{
	while (nret--)
		unregister_kretprobe(&retprobes[nret]);
	while (n--)
		unregister_kprobe(&probes[n]);
}

static int vtd_register_probes(void)
{
	unsigned int n, nret = 0;
	int ret;

	for (n = 0; n < nprobes; n++) {
		ret = register_kprobe(&probes[n]);
		if (ret == -ENOENT && probes[n].pre_handler == vtd_request_pre) {
			/* The kernel has no driver for a virtio-iommu, or it is a module */
			nprobes--;
			break;
		}
		if (ret == -ENOENT && probes[n].pre_handler == vtd_map_runs_pre) {
			/* What the unpatched kernel has instead of it */
			probes[n].symbol_name = "iommu_map_nosync";
			probes[n].pre_handler = vtd_map_pre;
			ret = register_kprobe(&probes[n]);
		}
		if (ret == -ENOENT && probes[n].pre_handler == vtd_map_pre) {
			/* ... and the unpatched Linux 6.12 */
			probes[n].symbol_name = "iommu_map";
			ret = register_kprobe(&probes[n]);
		}
		if (ret)
			goto undo;
	}
	for (; nret < ARRAY_SIZE(retprobes); nret++) {
		ret = register_kretprobe(&retprobes[nret]);
		if (ret)
			goto undo;
	}
	return 0;

undo:
	vtd_unregister_probes(n, nret);
	return ret;
}

static struct platform_device *pdevs[VTD_MAX_DEVS];

static void vtd_unregister_devices(unsigned int n)
{
	while (n--)
		platform_device_unregister(pdevs[n]);
	platform_driver_unregister(&vtd_driver);
}

static int vtd_register_devices(void)
{
	unsigned int n;
	int ret;

	ret = platform_driver_register(&vtd_driver);
	if (ret)
		return ret;

	for (n = 0; n < ndev; n++) {
		pdevs[n] = platform_device_register_simple(VTD_NAME, n, NULL, 0);
		if (IS_ERR(pdevs[n])) {
			vtd_unregister_devices(n);
			return PTR_ERR(pdevs[n]);
		}
	}
	return 0;
}

static int __init vtd_init(void)
{
	int ret;

	if (ndev > VTD_MAX_DEVS)
		return -EINVAL;

	ret = vtd_register_probes();
	if (ret)
		return ret;

	ret = vtd_register_devices();
	if (ret) {
		vtd_unregister_probes(nprobes, ARRAY_SIZE(retprobes));
		return ret;
	}

	mutex_lock(&arm_lock);
	probes_ready = true;
	mutex_unlock(&arm_lock);
	return 0;
}

static void __exit vtd_exit(void)
{
	vtd_unregister_devices(ndev);
	vtd_unregister_probes(nprobes, ARRAY_SIZE(retprobes));
}

module_init(vtd_init);
module_exit(vtd_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("VFIO type1 test device and probes");
