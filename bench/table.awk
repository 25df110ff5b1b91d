# SPDX-License-Identifier: GPL-2.0-only
# Makes the tables of results.txt, and the data of the plots, from results.csv. "type1" on
# the unpatched kernel is a peer of its own here, "v2": it is what users have today.
BEGIN {
	FS = ","
	# peer in the file, at its column; what the columns stand for is in head.txt
	ncols = split("fill floor super granule type1 type1xN iommufd iommufdxN copy copyxN v2 v2xN", col, " ")
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
		sub(/^type1/, "v2", peer)
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
function heading(title, left,	i) {
	printf "\n%s\n\n%-18s", title, left
	for (i = 1; i <= ncols; i++)
		printf "%10s", col[i]
	print ""
}
# The least that an operation can cost: to fill the page table, or one iommu_unmap()
function least(op, b, size, piece) {
	return get(op, op == "map" ? "fill" : "floor", b, size, piece)
}
# A line of figures, and a line with how many times the least each of them is
function row(label, op, b, size, piece, ratios,	i, v, floor, any) {
	floor = least(op, b, size, piece)
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
	if (!ratios || !is_number(floor))
		return
	printf "%-18s", ""
	for (i = 1; i <= ncols; i++)
		printf "%10s", cell[i] == floor ? "" : ratio(cell[i], floor)
	print ""
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
	print "\nA BLOCK of a sparse mapping that is filled and emptied, beside one that is mapped with a\ngranule or alone, and unmapped (hugetlb, 1 GiB)\n"
	printf "%-18s%12s%12s%12s\n", "mapping  block", "sparse", "granule", "type1"
	for (s = 1; s <= nsizes; s++)
		for (p = 1; p <= npieces; p++)
			if (("block", "huge1G", sizes[s], pieces[p]) in there)
				printf "%-9s%-9s%12s%12s%12s\n", sizes[s], pieces[p],
					show(get("block", "sparse", "huge1G", sizes[s], pieces[p]), 1000),
					show(get("block", "granule", "huge1G", sizes[s], pieces[p]), 1000),
					show(get("block", "type1", "huge1G", sizes[s], pieces[p]), 1000)
	heading("A PAIR of map and unmap, as a virtual IOMMU makes them", "size")
	row("4K", "pair", "4k", "4K", "-", 1)
	row("2M", "pair", "thp", "2M", "-", 1)

	heading("SINGLE PIECES of 2 MiB AT RANDOM, in a mapping of (virtio-mem)", "")
	for (s = 1; s <= nsizes; s++)
		if (("unmap1", "huge1G", sizes[s], "2M") in there) {
			row("unmap in " sizes[s], "unmap1", "huge1G", sizes[s], "2M", 0)
			row("map in " sizes[s], "remap1", "huge1G", sizes[s], "2M", 0)
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

	print "\nREGISTER and unregister memory, beside what type1 pays to pin it: a map in\none call less the floor of one iommu_map() for each contiguous run\n"
	printf "%-18s%12s%12s%12s\n", "size     backing", "register", "unregister", "type1 pins"
	for (s = 1; s <= nsizes; s++)
		for (b = 1; b <= nbackings; b++) {
			v = get("register", "super", backing[b], sizes[s], "-")
			if (v == "")
				continue
			t = get("map", "type1", backing[b], sizes[s], "-")
			f = get("map", "floor", backing[b], sizes[s], "-")
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
	for (i = split("super type1 v2", k, " "); i >= 1; i--)
		printf "%-18s%12s%12s%12s\n", k[i], show(get("replay", k[i], "thp", "512M", "-"), 1000),
			show(get("detach", k[i], "thp", "512M", "-"), 1000),
			show(get("release", k[i], "thp", "512M", "-"), 1000)

	print "\nMEMORY the kernel keeps, in bytes, page tables of the IOMMU apart\n"
	printf "%-44s", ""
	for (i = 3; i <= ncols; i++)
		if (col[i] !~ /xN/)
			printf "%10s", col[i]
	print ""
	mem("a mapping of 4 KiB", "bytes_mapping", "4k", "4K", "-")
	mem("a mapping of 40000 granules of 4 KiB", "bytes_mapping", "thp", "160000K", "4K")
	mem("one more hole in it", "bytes_hole", "thp", "160000K", "4K")
	mem("1 GiB registered, THP", "bytes_registered", "thp", "1G", "-")
	mem("1 GiB registered, hugetlb 1 GiB", "bytes_registered", "huge1G", "1G", "-")
	mem("512 MiB registered, scattered 4 KiB", "bytes_registered", "4k", "512M", "-")

	plot("size", "map", "thp", "2M", sizes, nsizes, 1)
	plot("unmapsize", "unmap", "thp", "2M", sizes, nsizes, 1)
	plot("random", "unmap1", "huge1G", "2M", sizes, nsizes, 1)
	plot("mappings", "among", "4k", "-", counts, ncounts, 0)
	plot("holes", "inhole", "thp", "4K", counts, ncounts, 0)
	plot("punch", "punch", "thp", "4K", counts, ncounts, 0)
	bars("2M", "map", "512M", "unmap1", "2M")
	file = dir "/containers.dat"
	for (i = 1; i <= 8; i++) {
		printf "%d", i >file
		for (c = 1; c <= ncols; c++) {
			v = get("join" i, col[c], "thp", "512M", "2M")
			if (v == "") v = get("join" i, col[c], "thp", "512M", "-")
			printf " %s", is_number(v) ? v : "?" >file
		}
		print "" >file
	}
}
function mem(label, op, b, size, piece,	i) {
	printf "%-44s", label
	for (i = 3; i <= ncols; i++)
		if (col[i] !~ /xN/)
			printf "%10s", show(get(op, col[i], b, size, piece), 1)
	print ""
}
# For the plot of the README: a line "bar, thousands, times the least, label" for each way to
# map in pieces; then, after two empty lines, for each way to unmap a piece
function bars(piece, op1, size, op2, small,	i, n, file, floor, label, v, peer) {
	file = dir "/summary.dat"
	n = split("v2xN iommufdxN granule super fill", peer, " ")
	label["v2xN"] = "type1 without the series, a call a piece"
	label["iommufdxN"] = "iommufd, an area a piece"
	label["granule"] = "type1 with a granule, one call"
	label["super"] = "super-container with a granule, one call"
	label["fill"] = "a loop that fills the page table"
	floor = least(op1, "thp", size, piece)
	for (i = 1; i <= n; i++) {
		v = get(op1, peer[i], "thp", size, piece)
		printf "%d %.1f %.1f \"%s\"\n", i, v / 1000, v / floor, label[peer[i]] >file
	}
	printf "\n\n" >file
	label["v2xN"] = "type1 without the series"
	label["iommufdxN"] = "iommufd"
	label["granule"] = "type1 with a granule"
	label["super"] = "super-container with a granule"
	label["fill"] = "bare iommu_unmap()"
	floor = least("unmap", "thp", small, "-")
	for (i = 1; i <= n; i++) {
		v = peer[i] == "fill" ? floor : get(op2, peer[i], "thp", size, piece)
		printf "%d %.1f %.1f \"%s\"\n", i, v / 1000, v / floor, label[peer[i]] >file
	}
}
# x, then a column for each peer, "?" where there is none
function plot(name, op, b, piece, xs, nx, is_size,	i, c, v, file) {
	file = dir "/" name ".dat"
	for (i = 1; i <= nx; i++) {
		if (!((op, b, xs[i], piece) in there))
			continue
		printf "%.0f", is_size ? bytes(xs[i]) / 1048576 : xs[i] >file
		for (c = 1; c <= ncols; c++) {
			v = get(op, col[c], b, xs[i], piece)
			if (v == "" && piece != "-")
				v = get(op, col[c], b, xs[i], "-")
			printf " %s", is_number(v) ? v : "?" >file
		}
		print "" >file
	}
}
