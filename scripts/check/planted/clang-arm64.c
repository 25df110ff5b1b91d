/* drivers/iommu/io-pgtable-arm.c */
/* SPDX-License-Identifier: GPL-2.0-only */
static int __maybe_unused planted(unsigned int a)
{
	int b;

	if (a < 10)
		b = 1;
	return b;
}
