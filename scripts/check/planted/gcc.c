/* drivers/vfio/vfio_iommu_type1.c */
/* SPDX-License-Identifier: GPL-2.0-only */
static int __maybe_unused planted(int a)
{
	int set_and_not_used;

	set_and_not_used = a;
	return 0;
}
