/* include/uapi/linux/vfio.h */
/* SPDX-License-Identifier: GPL-2.0-only */
struct vfio_planted {
	__u32 argsz;
	__u64 iova;
};
