/* tools/testing/selftests/vfio/vfio_iommufd_setup_test.c */

TEST(planted)
{
	ASSERT_EQ(1, 0);
}
