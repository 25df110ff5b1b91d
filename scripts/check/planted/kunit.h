/* drivers/iommu/generic_pt/fmt/x86_64.h */
/* SPDX-License-Identifier: GPL-2.0-only */
static inline void planted_attr_from_entry(const struct pt_state *pts,
					   struct pt_write_attrs *attrs)
{
	x86_64_pt_attr_from_entry(pts, attrs);
	attrs->descriptor_bits &= ~X86_64_FMT_RW;
}
#undef pt_attr_from_entry
#define pt_attr_from_entry planted_attr_from_entry
