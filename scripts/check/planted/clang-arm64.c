/* drivers/iommu/io-pgtable-arm.c */
static int __maybe_unused planted(unsigned int a)
{
	int b;

	if (a < 10)
		b = 1;
	return b;
}
