# SPDX-License-Identifier: GPL-2.0-only
# Writes figures for the cover letters, dir/figures-3.txt to figures-7.txt, from results.csv.
BEGIN {
	FS = ","
	features = dir "/figures-5.txt"
}
NR > 1 {
	value[$1, $2, $3, $4, $5, $6] = $7 != "" ? $7 : $8
	if ($3 !~ /^type1/ || $2 ~ /^bytes/ || $7 == "")
		next
	if ($1 == "unpatched")
		old[$2, $3, $4, $5, $6] = $7
	else if (($2, $3, $4, $5, $6) in old) {
		was = old[$2, $3, $4, $5, $6]
		compared++
		slower += $7 > was * 1.02
		faster += $7 < was * 0.98
	}
}
# Prints a number with a comma before each three digits
function commas(n,	s) {
	for (s = sprintf("%.0f", n); match(s, /[0-9][0-9][0-9][0-9]($|,)/); )
		s = substr(s, 1, RSTART) "," substr(s, RSTART + 1)
	return s
}
function change(base, series,	percent) {
	if (base >= series * 10)
		return sprintf("%3.0f x fewer", base / series)
	if (base >= series * 1.5)
		return sprintf("%.1f x fewer", base / series)
	percent = sprintf("%.0f", (series / base - 1) * 100) + 0
	return percent == 0 ? "the same" : sprintf("%.0f %% %s", percent < 0 ? -percent : percent, percent < 0 ? "fewer" : "more")
}
# The figures that follow go to this file.
function begin(file) {
	to = file
	print "                                       base         series" >to
}
function compare(what, operation, peer, backing, size, piece,	key, base, series) {
	key = operation SUBSEP peer SUBSEP backing SUBSEP size SUBSEP piece
	base = value["unpatched", key]
	series = value["patched", key]
	printf "  %-29s%11s    %11s   %s\n", what, commas(base), commas(series), change(base, series) >to
}
# Thousands, with a tenth if that is wanted; or an errno; or "-" if it was not measured
function thousands(kernel, operation, peer, backing, size, piece, tenth,	v) {
	v = value[kernel, operation, peer, backing, size, piece]
	if (v !~ /^[0-9]+$/)
		return v == "" ? "-" : v
	return tenth ? sprintf("%.1f", v / 1000) : commas(v / 1000)
}
function row(what, kernel, peer, piece,	pair, single) {
	pair = piece == "-" ? kernel : "none"
	single = piece == "4K" || (piece == "-" && peer == "super") ? "none" : kernel
	printf "  %-17s %7s %7s %9s %8s %7s %7s %7s\n", what,
		thousands(kernel, "map", peer, "thp", "512M", piece),
		thousands(kernel, "unmap", peer, "thp", "512M", piece),
		thousands(kernel, "map", peer, "4k", "512M", piece),
		thousands(kernel, "unmap", peer, "4k", "512M", piece),
		thousands(pair, "pair", peer, "4k", "4K", "-", 1),
		thousands(pair, "pair", peer, "thp", "2M", "-", 1),
		thousands(single, "unmap1", peer, "thp", "512M", "2M", 1) >features
}
# Thousands; with a tenth if there are few of them
function fixed(operation, peer, size, piece,	v) {
	v = value["patched", operation, peer, "thp", size, piece]
	return sprintf("%7s", v < 10000 ? sprintf("%.1f", v / 1000) : commas(v / 1000))
}
function own(piece) {
	row("floor", "patched", "floor", piece)
	row("super", "patched", "super", piece)
}
function others(piece, times, suffix) {
	row("type1" times, "patched", "type1" suffix, piece)
	row("base" times, "unpatched", "type1" suffix, piece)
	row("iommufd" times, "patched", "iommufd" suffix, piece)
	row("COPY" times, "patched", "copy" suffix, piece)
}
END {
	file = dir "/figures-6.txt"
	print "	                1 GiB      1 TiB    plain mapping" >file
	for (i = split("2M 4K", block, " "); i >= 1; i--)
		printf "	%sB   %11s%11s%17s\n", block[i] == "4K" ? "4 Ki" : "2 Mi",
			commas(value["patched", "block", "sparse", "huge1G", "1G", block[i]]),
			commas(value["patched", "block", "sparse", "huge1G", "1T", block[i]]),
			commas(value["patched", "block", "type1", "huge1G", "1G", block[i]]) >file
	file = dir "/figures-7.txt"
	print "	map 512 MiB of huge pages, no granule      ", fixed("map", "type1", "512M", "-") >file
	print "	map them with a granule of 4 KiB           ", fixed("map", "granule", "512M", "4K") >file
	print "	unmap all of it, no granule                ", fixed("unmap", "type1", "512M", "-") >file
	print "	unmap all of it, granule of 4 KiB          ", fixed("unmap", "granule", "512M", "4K") >file
	print "	unmap 4 KiB of a page of 2 MiB             ", fixed("cut", "granule", "256M", "4K") >file
	print "	unmap the next 4 KiB                       ", fixed("cutnext", "granule", "256M", "4K") >file
	printf "	unmap 2 MiB of a page of 1 GiB              %7.1f\n", value["patched", "cut", "granule", "huge1G", "1G", "2M"] / 1000 >file

	begin(dir "/figures-3.txt")
	compare("iommufd MAP, 4 KiB pages", "map", "iommufd", "4k", "512M", "-")
	compare("iommufd MAP, huge pages", "map", "iommufd", "thp", "512M", "-")
	compare("iommufd COPY, 4 KiB pages", "map", "copy", "4k", "512M", "-")
	compare("iommufd COPY, huge pages", "map", "copy", "thp", "512M", "-")
	compare("iommufd UNMAP, 4 KiB pages", "unmap", "iommufd", "4k", "512M", "-")
	compare("iommufd UNMAP, huge pages", "unmap", "iommufd", "thp", "512M", "-")
	begin(dir "/figures-4.txt")
	compare("unmap, huge pages", "unmap", "type1", "thp", "512M", "-")
	compare("the same, mapped in 256 calls", "unmap", "type1xN", "thp", "512M", "2M")
	compare("unmap, scattered 4 KiB pages", "unmap", "type1", "4k", "512M", "-")
	compare("attach a second domain", "replay", "type1", "thp", "512M", "-")
	compare("close the container", "release", "type1", "thp", "512M", "-")
	compare("map and unmap 2 MiB", "pair", "type1", "thp", "2M", "-")
	compare("map and unmap 4 KiB", "pair", "type1", "4k", "4K", "-")
	compare("map, huge pages", "map", "type1", "thp", "512M", "-")
	compare("map, scattered 4 KiB pages", "map", "type1", "4k", "512M", "-")

	print "                         huge pages       4 KiB pages   map and unmap   unmap\n" \
		"                        map   unmap       map    unmap  4 KiB   2 MiB   2 MiB\n" \
		" can be unmapped by 2 MiB:" >features
	own("2M")
	row("granule", "patched", "granule", "2M")
	others("2M", " x 256", "xN")
	print " one call, unmapped whole:" >features
	own("-")
	others("-")
	print " can be unmapped by 4 KiB:" >features
	own("4K")
	row("granule", "patched", "granule", "4K")
	printf "\nTo register memory takes %s (huge pages) or %s (4 KiB pages), once.\n",
		thousands("patched", "register", "super", "thp", "512M", "-"),
		thousands("patched", "register", "super", "4k", "512M", "-") >features
	printf "Of %d figures of calls that exist, %s more than 2 %% higher than on the\nbase, %d more than 2 %% lower.\n",
		compared, slower ? slower (slower > 1 ? " are" : " is") : "none is", faster >features
}
