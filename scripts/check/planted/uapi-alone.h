/* include/uapi/linux/vfio.h */
/* SPDX-License-Identifier: GPL-2.0-only */
struct vfio_planted {
	uint64_t iova;	// neither a type nor a comment of standard C
};
