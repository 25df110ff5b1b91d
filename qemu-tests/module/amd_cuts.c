// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test only: lets pages of an emulated AMD IOMMU be cut.
 *
 * QEMU sets NpCache, and a hypervisor that does so may shadow the page tables.  So the
 * driver lets no page be cut there.  But QEMU does not shadow them for emulated devices:
 * with this module each new domain can be cut, as on hardware.
 */

#include <linux/err.h>
#include <linux/iommu.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sizes.h>

static bool on = true;
module_param(on, bool, 0600);

static int amd_cuts_allocated(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct iommu_domain *domain = (void *)regs_return_value(regs);

	if (on && !IS_ERR_OR_NULL(domain))
		domain->max_cut_pgsize = SZ_256G;
	return 0;
}

static struct kretprobe amd_cuts_probe = {
	.kp.symbol_name = "iommu_paging_domain_alloc_flags",
	.handler = amd_cuts_allocated,
};

static int __init amd_cuts_init(void)
{
	return register_kretprobe(&amd_cuts_probe);
}

static void __exit amd_cuts_exit(void)
{
	unregister_kretprobe(&amd_cuts_probe);
}

module_init(amd_cuts_init);
module_exit(amd_cuts_exit);
MODULE_DESCRIPTION("Test only: cut pages of an emulated AMD IOMMU");
MODULE_LICENSE("GPL");
