/* include/uapi/linux/vfio.h */
struct vfio_planted {
	uint64_t iova;	// neither a type nor a comment of standard C
};
