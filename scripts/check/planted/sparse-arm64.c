/* drivers/iommu/io-pgtable-arm.c */
static int __maybe_unused planted(int __user *p)
{
	return *p;
}
