# SPDX-License-Identifier: GPL-2.0-only
# Makes the tables of results.txt, and the data of the plots, from results.csv. "type1" on
# the unpatched kernel is a peer of its own here, "base": it is what users have today.
BEGIN {
	FS = ","
	# peer in the file, at its column; what the columns stand for is in head.txt
	all = "floor super granule type1 type1xN iommufd iommufdxN copy copyxN base basexN"
	ncols = split(all, col, " ")
	nbackings = split("thp huge huge1G 4k", backing, " ")
	nsizes = split("4K 2M 64M 512M 1G 16G 32G 256G 1T", sizes, " ")
	npieces = split("- 4K 64K 2M 1G", pieces, " ")
	ncounts = split("10 100 1000 10000 60000", counts, " ")
}
function bytes(s) {
	return s * (s ~ /K$/ ? 1024 : s ~ /M$/ ? 1048576 : s ~ /G$/ ? 1073741824 : s ~ /T$/ ? 1099511627776 : 1)
}
NR > 1 {
	peer = $3
	if ($1 == "unpatched") {
		if (peer == "floor")
			next
		sub(/^type1/, "base", peer)
	}
	if ($2 == "fill") {
		$2 = "map"
		peer = "fill"
	}
	what = $2 SUBSEP peer SUBSEP $4 SUBSEP $5 SUBSEP $6
	val[what] = $7 != "" ? $7 : $8
	there[$2, $4, $5, $6] = 1
}
function get(op, peer, b, size, piece) {
	if ((op, peer, b, size, piece) in val)
		return val[op, peer, b, size, piece]
	return ""
}
function is_number(v) { return v ~ /^[0-9]+$/ }
# Thousands; with one more digit if it is below ten
function show(v, unit) {
	if (v == "")
		return "."
	if (!is_number(v))
		return v
	if (unit == 1)
		return v
	return v < 10000 ? sprintf("%.2f", v / 1000) : v < 100000 ? sprintf("%.1f", v / 1000) : sprintf("%.0f", v / 1000)
}
function ratio(v, floor) {
	if (!is_number(v) || !is_number(floor) || !floor)
		return ""
	return v / floor >= 100 ? sprintf("%.0fx", v / floor) : sprintf("%.2fx", v / floor)
}
# heading(TITLE, LEFT[, COLUMNS])
function heading(title, left, columns,	i, n, name) {
	n = split(columns != "" ? columns : all, name, " ")
	printf "\n%s\n\n%-18s", title, left
	for (i = 1; i <= n; i++)
		printf "%10s", name[i]
	print ""
}
function sparse(size,	i, n, block) {
	n = split("4K 2M", block, " ")
	for (i = 1; i <= n; i++)
		printf "%-18s%10s%10s%10s%10s\n", sprintf("%-8s %s", size, block[i]),
			show(get("block", "sparse", "huge1G", size, block[i]), 1000),
			show(get("block", "granule", "huge1G", size, block[i]), 1000),
			show(get("block", "type1", "huge1G", size, block[i]), 1000),
			show(get("set_up", "sparse", "huge1G", size, block[i]), 1000)
}
function ratios_to(label, least,	i) {
	if (!is_number(least))
		return
	printf "%-18s", label
	for (i = 1; i <= ncols; i++)
		printf "%10s", cell[i] == least ? "" : ratio(cell[i], least)
	print ""
}
# A line of figures, a line with how many times the floor each of them is, and for a map one
# with how many times a loop that fills the page tables
function row(label, op, b, size, piece, ratios,	i, v, fill) {
	printf "%-18s", label
	for (i = 1; i <= ncols; i++) {
		v = get(op, col[i], b, size, piece)
		# A peer without pieces has the same figure for each size of pieces
		if (v == "" && piece != "-")
			v = get(op, col[i], b, size, "-")
		cell[i] = v
		printf "%10s", show(v, 1000)
	}
	print ""
	if (!ratios)
		return
	ratios_to("", cell[1])
	fill = get(op, "fill", b, size, piece)
	ratios_to("  fill: " show(fill, 1000), fill)
}
function matrix(op, title,	b, s, p) {
	for (b = 1; b <= nbackings; b++) {
		any = 0
		for (s = 1; s <= nsizes; s++)
			for (p = 1; p <= npieces; p++)
				if ((op, backing[b], sizes[s], pieces[p]) in there && \
				    (op, "floor", backing[b], sizes[s], pieces[p]) in val) {
					if (!any++)
						heading(title ", " names[backing[b]], "size     piece")
					row(sprintf("%-8s %s", sizes[s], pieces[p]), op, backing[b], sizes[s], pieces[p], 1)
				}
	}
}
END {
	names["thp"] = "transparent huge pages"; names["huge"] = "hugetlb, 2 MiB"
	names["huge1G"] = "hugetlb, 1 GiB"; names["4k"] = "scattered 4 KiB pages"

	matrix("map", "MAP all of it")
	matrix("unmap", "UNMAP all of it in one call")

	heading("ONE PIECE of a mapping, unmapped alone and mapped again (THP)", "size     piece")
	row("unmap 512M 2M", "unmap1", "thp", "512M", "2M", 0)
	row("map   512M 2M", "remap1", "thp", "512M", "2M", 0)
	heading("A PAIR of map and unmap, as a virtual IOMMU makes them", "size")
	row("4K", "pair", "4k", "4K", "-", 1)
	row("2M", "pair", "thp", "2M", "-", 1)

	heading("SINGLE PIECES of 2 MiB AT RANDOM, in a mapping of (virtio-mem)", "")
	for (s = 1; s <= nsizes; s++)
		if (("unmap1", "huge1G", sizes[s], "2M") in there) {
			row("unmap in " sizes[s], "unmap1", "huge1G", sizes[s], "2M", 0)
			row("map in " sizes[s], "remap1", "huge1G", sizes[s], "2M", 0)
		}
	if (get("cut", "granule", "huge1G", "1G", "2M") != "")
		print "The memory is made of pages of 1 GiB. From 256 GiB on most unmaps are the first in their\npage, which has to be cut."

	if (get("block", "sparse", "huge1G", "1G", "2M") != "") {
		heading("SPARSE: plug and unplug a block. In a sparse mapping: fill and empty a part. Granule:\nmake a hole and fill it. Type1: map and unmap with nothing around it", "size     block", "sparse granule type1 set_up")
		n = split("1G 64G 1T", k, " ")
		for (i = 1; i <= n; i++)
			sparse(k[i])
	}
	if (get("cut", "granule", "huge1G", "1G", "2M") != "") {
		heading("CUTTING: unmap one granule in an IOMMU page, and the next one", "page     granule", "first next")
		printf "%-18s%10s%10s\n", "2M       4K", show(get("cut", "granule", "thp", "256M", "4K"), 1000), show(get("cutnext", "granule", "thp", "256M", "4K"), 1000)
		printf "%-18s%10s%10s\n", "1G       2M", show(get("cut", "granule", "huge1G", "1G", "2M"), 1000), show(get("cutnext", "granule", "huge1G", "1G", "2M"), 1000)
	}

	heading("CONTAINERS one after the other to the same 512 MiB, THP, pieces of 2 MiB", "")
	for (i = 1; i <= 8; i++)
		row("container " i, "join" i, "thp", "512M", "2M", 0)

	heading("GROWTH: a pair of 4 KiB beside so many mappings", "mappings")
	for (i = 1; i <= ncounts; i++)
		row(counts[i], "among", "4k", counts[i], "-", 0)
	heading("GROWTH: to make so many mappings", "mappings")
	for (i = 1; i <= ncounts; i++)
		row(counts[i], "build", "4k", counts[i], "-", 0)
	heading("GROWTH: to unmap so many mappings in one call", "mappings")
	for (i = 1; i <= ncounts; i++)
		row(counts[i], "clear", "4k", counts[i], "-", 0)
	heading("GROWTH: to unmap so many single pages of one mapping, in no order", "holes")
	for (i = 1; i <= ncounts; i++)
		row(counts[i], "punch", "thp", counts[i], "4K", 0)
	heading("GROWTH: a pair of 4 KiB in one of so many holes", "holes")
	for (i = 1; i <= ncounts; i++)
		row(counts[i], "inhole", "thp", counts[i], "4K", 0)
	heading("GROWTH: to unmap all of a mapping with so many holes", "holes")
	for (i = 1; i <= ncounts; i++)
		row(counts[i], "clearholes", "thp", counts[i], "4K", 0)

	print "\nREGISTER and unregister memory, beside what type1 pays to pin it: a map in one call,\nless a map of registered memory\n"
	printf "%-18s%12s%12s%12s\n", "size     backing", "register", "unregister", "type1 pins"
	for (s = 1; s <= nsizes; s++)
		for (b = 1; b <= nbackings; b++) {
			v = get("register", "super", backing[b], sizes[s], "-")
			if (v == "")
				continue
			t = get("map", "type1", backing[b], sizes[s], "-")
			f = get("map", "super", backing[b], sizes[s], "-")
			printf "%-9s%-9s%12s%12s%12s\n", sizes[s], backing[b], show(v, 1000),
				show(get("unregister", "super", backing[b], sizes[s], "-"), 1000),
				t != "" && f != "" ? show(t - f, 1000) : "."
		}

	print "\nEXTENTS of what is mapped: in thousands, and single instructions for each IOMMU page\n"
	for (w in val) {
		split(w, k, SUBSEP)
		if (k[1] == "extents")
			printf "%-10s%-10s%-10s%-10s%10s%10s\n", k[2], k[3], k[4], k[5], show(val[w], 1000),
				get("extent_page", k[2], k[3], k[4], k[5]) | "sort"
	}
	close("sort")
	print "\nREPLAY: a second domain is attached to a container that maps 512 MiB (THP), and\ndetached; then the container is closed\n"
	printf "%-18s%12s%12s%12s\n", "", "attach", "detach", "release"
	for (i = split("super type1 base", k, " "); i >= 1; i--)
		printf "%-18s%12s%12s%12s\n", k[i], show(get("replay", k[i], "thp", "512M", "-"), 1000),
			show(get("detach", k[i], "thp", "512M", "-"), 1000),
			show(get("release", k[i], "thp", "512M", "-"), 1000)

	print "\nMEMORY the kernel keeps, in bytes, page tables of the IOMMU apart\n"
	printf "%-44s", ""
	for (i = 2; i <= ncols; i++)
		if (col[i] !~ /xN/)
			printf "%10s", col[i]
	print ""
	mem("a mapping of 4 KiB", "bytes_mapping", "4k", "4K", "-")
	mem("a mapping of 40000 granules of 4 KiB", "bytes_mapping", "thp", "160000K", "4K")
	mem("one more hole in it", "bytes_hole", "thp", "160000K", "4K")
	mem("1 GiB registered, THP", "bytes_registered", "thp", "1G", "-")
	mem("1 GiB registered, hugetlb 1 GiB", "bytes_registered", "huge1G", "1G", "-")
	mem("512 MiB registered, scattered 4 KiB", "bytes_registered", "4k", "512M", "-")

	# The floor of what is only a part of a mapping is that of the part alone.
	unmap_2m = get("unmap", "floor", "thp", "2M", "-")
	pair_4k = get("pair", "floor", "4k", "4K", "-")
	for (i = 1; i <= nsizes; i++) {
		point("size", bytes(sizes[i]) / 1048576, "map", "thp", sizes[i], "2M")
		point("unmapsize", bytes(sizes[i]) / 1048576, "unmap", "thp", sizes[i], "2M")
		point("random", bytes(sizes[i]) / 1073741824, "unmap1", "huge1G", sizes[i], "2M", unmap_2m)
	}
	for (i = 1; i <= ncounts; i++) {
		point("mappings", counts[i], "among", "4k", counts[i], "-", pair_4k)
		point("holes", counts[i], "inhole", "thp", counts[i], "4K", pair_4k)
	}
	for (i = 1; i <= 8; i++)
		point("containers", i, "join" i, "thp", "512M", "2M", get("map", "floor", "thp", "512M", "2M"))
	bars("2M", "map", "512M", "unmap1", "2M")
}
function mem(label, op, b, size, piece,	i) {
	printf "%-44s", label
	for (i = 2; i <= ncols; i++)
		if (col[i] !~ /xN/)
			printf "%10s", show(get(op, col[i], b, size, piece), 1)
	print ""
}
# For the plot of the README: a line "bar, thousands, times the floor, label" for each way to
# map in pieces; then, after two empty lines, for each way to unmap a piece
function bars(piece, op1, size, op2, small,	i, n, file, floor, label, v, peer) {
	file = dir "/summary.dat"
	n = split("basexN iommufdxN granule super floor", peer, " ")
	label["basexN"] = "type1 without the series, a call a piece"
	label["iommufdxN"] = "iommufd, an area a piece"
	label["granule"] = "type1 with a granule, one call"
	label["super"] = "super-container with a granule, one call"
	label["floor"] = "bare iommu_map() of each piece"
	floor = get(op1, "floor", "thp", size, piece)
	for (i = 1; i <= n; i++) {
		v = get(op1, peer[i], "thp", size, piece)
		printf "%d %.1f %.1f \"%s\"\n", i, v / 1000, v / floor, label[peer[i]] >file
	}
	printf "\n\n" >file
	label["basexN"] = "type1 without the series"
	label["iommufdxN"] = "iommufd"
	label["granule"] = "type1 with a granule"
	label["super"] = "super-container with a granule"
	label["floor"] = "bare iommu_unmap()"
	floor = get("unmap", "floor", "thp", small, "-")
	for (i = 1; i <= n; i++) {
		v = peer[i] == "floor" ? floor : get(op2, peer[i], "thp", size, piece)
		printf "%d %.1f %.1f \"%s\"\n", i, v / 1000, v / floor, label[peer[i]] >file
	}
}
# Adds a line to a .dat file: x, then a column for each peer, "?" where there is no figure
function point(name, x, op, b, size, piece, floor,	c, v, file) {
	if (!((op, b, size, piece) in there))
		return
	file = dir "/" name ".dat"
	printf "%.0f", x >file
	for (c = 1; c <= ncols; c++) {
		v = get(op, col[c], b, size, piece)
		if (v == "" && piece != "-")
			v = get(op, col[c], b, size, "-")
		if (v == "" && col[c] == "floor")
			v = floor
		printf " %s", is_number(v) ? v : "?" >file
	}
	print "" >file
}
