# SPDX-License-Identifier: GPL-2.0-only
# Tells, from results.csv, what is more than 1.25 times the floor, and why.
BEGIN { FS = "," }
NR > 1 && $1 == "patched" && $7 != "" {
	v[$2, $3, $4, $5, $6] = $7
	if ($3 == "super")
		of_super[$2, $4, $5, $6] = $2 SUBSEP "floor" SUBSEP $4 SUBSEP $5 SUBSEP $6
}
# figure(OPERATION, PEER, BACKING, PIECE): to map or unmap 512 MiB
function figure(op, peer, b, piece) { return v[op, peer, b, "512M", piece] }
# The difference of two figures for 512 MiB, for each of n pages or pieces
function each(op, peer, less, b, piece, n) {
	return sprintf("%.0f", (figure(op, peer, b, piece) - figure(op, less, b, "-")) / n)
}
END {
	for (w in of_super) {
		f = of_super[w]
		split(w, k, SUBSEP)
		if (f in v && v[k[1], "super", k[2], k[3], k[4]] > 1.25 * v[f] && v[f] > most)
			most = v[f]
	}
	print "\nWHAT IS BEYOND 1.25 TIMES THE FLOOR, and where the rest goes (see the profiles)\n"
	printf "super     Only small calls: those whose floor is at most %s instructions. Each call\n", most
	print "          takes about a thousand on top: half for the system call and its argument, half"
	print "          for type1's checks, its struct vfio_dma and its tree. With a granule it takes"
	print "          some hundred more."
	printf "granule,  Map: to pin and charge takes %s instructions for each 4 KiB of a huge page, and\n", each("map", "type1", "super", "thp", "-", 131072)
	printf "type1     %s for a scattered page.\n", each("map", "type1", "super", "4k", "-", 131072)
	print "          Unmap: type1 reads from the page tables what to unpin, and unpins it. That takes"
	printf "          %s instructions for each IOMMU page of 2 MiB, and %s for a scattered page.\n", \
		each("unmap", "type1", "super", "thp", "-", 256), each("unmap", "type1", "super", "4k", "-", 131072)
	printf "iommufd   In pieces of 2 MiB, each area takes %s more to map and %s more to unmap.\n", \
		each("map", "iommufdxN", "iommufd", "thp", "2M", 256), each("unmap", "iommufdxN", "iommufd", "thp", "2M", 256)
	printf "copy      In pieces of 2 MiB, each area takes %s more to map and %s more to unmap.\n", \
		each("map", "copyxN", "copy", "thp", "2M", 256), each("unmap", "copyxN", "copy", "thp", "2M", 256)
}
