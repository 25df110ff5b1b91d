/* drivers/vfio/vfio_iommu_type1.c */
/* SPDX-License-Identifier: GPL-2.0-only */
static int __maybe_unused planted(int __user *p)
{
	return *p;
}
