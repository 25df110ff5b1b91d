/* drivers/iommu/io-pgtable-arm.c */
/* SPDX-License-Identifier: GPL-2.0-only */
static int __maybe_unused planted(int __user *p)
{
	return *p;
}
