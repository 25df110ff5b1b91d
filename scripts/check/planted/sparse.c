/* drivers/vfio/vfio_iommu_type1.c */
static int __maybe_unused planted(int __user *p)
{
	return *p;
}
