/* include/uapi/linux/vfio.h */
/* SPDX-License-Identifier: GPL-2.0-only */
/**
 * struct vfio_planted - a mistake
 * @a: there
 */
struct vfio_planted {
	__u32 a;
	__u32 b;
};
