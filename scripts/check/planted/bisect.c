/* tools/testing/selftests/vfio/vfio_iommufd_setup_test.c */
/* SPDX-License-Identifier: GPL-2.0-only */

TEST(planted)
{
	ASSERT_EQ(1, 0);
}
