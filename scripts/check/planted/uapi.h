/* include/uapi/linux/vfio.h */
struct vfio_planted {
	__u32 argsz;
	__u64 iova;
};
