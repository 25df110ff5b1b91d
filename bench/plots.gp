# SPDX-License-Identifier: GPL-2.0-only
# gnuplot -e "dir='...'" bench/plots.gp: makes SVG from the .dat files of bench/table. Each
# series is named at its last point and has its own points and dashes, so that nobody needs
# to tell colours apart.
set terminal svg size 720,340 font "Helvetica,13" background "white" noenhanced
set datafile missing "?"
unset key
set tics nomirror scale 0.5

# The plot of the README: bars with a figure, and with how many times the floor that is
set output dir."/summary.svg"
set multiplot
set style fill solid 0.3
set lmargin 38
set tmargin 1.6
set bmargin 0.5
set border 2
unset xtics
set yrange [5.6:0.4]
set size 1,0.5
figure(v, r) = sprintf(v < 100 ? "%.1f (%.1fx)" : "%.0f (%.1fx)", v, r)
largest(block) = system(sprintf("awk 'NF { if (!was) b++; if (b == %d && $2 > m) m = $2 } { was = NF } END { print m }' %s/summary.dat", block, dir)) + 0
bars(n, x) = sprintf("plot [0:%g] '%s/summary.dat' index %d using (0):1:(0):2:($1-0.36):($1+0.36):ytic(4) with boxxyerror lc rgb 'black', '' index %d using 2:1:(figure($2, $3)) with labels left offset 0.7,0", x, dir, n, n)
set origin 0,0.5
set label 1 "Map 512 MiB so that each 2 MiB can be unmapped: thousands of instructions (times the floor)" at screen 0.02,0.97
eval bars(0, 1.35 * largest(1))
set origin 0,0
set label 1 "Unmap 2 MiB of it" at screen 0.02,0.47
eval bars(1, 1.35 * largest(2))
unset multiplot
unset label 1

# column(): its number in the .dat files, from their order in bench/table.awk
columns = "x floor super granule type1 type1xN iommufd iommufdxN copy copyxN base basexN"
number(name) = int(sum [i=1:words(columns)] (word(columns, i) eq name ? i : 0))
last(file, c) = system(sprintf("awk '$%d != \"?\" { x = $1 } END { print x }' %s/%s.dat", c, dir, file)) + 0
# line(FILE, NAME, STYLE, LABEL, SHIFT): a series in times the floor, and its label moved up by
# so much
line(file, name, style, label, shift) = sprintf("'%s/%s.dat' using 1:($%d/$2) with linespoints lc rgb 'black' lw 1.3 dt %d pt %d ps 0.8, '' using ($1 == %d ? $1 : NaN):($%d/$2):('%s') with labels left offset 1,%g", dir, file, number(name), style, style, last(file, number(name)), number(name), label, shift)

set border 3
set lmargin 9
set rmargin 33
set tmargin 3
set bmargin 4
set size 1,1
set origin 0,0
set autoscale xfix
set xtics nomirror out
set ytics auto nomirror out
set yrange [0:*]
set logscale x
set format x "%.0f"
set format y "%g"

set output dir."/size.svg"
set label 2 "Map memory in pieces of 2 MiB (huge pages): how many times the floor" at screen 0.02,0.95
set xlabel "MiB"
eval "plot ".line("size", "iommufdxN", 1, "iommufd, an area a piece", 0).",".line("size", "basexN", 2, "type1 without the series, a call a piece", 0.2).",".line("size", "granule", 3, "type1 with a granule", -0.2).",".line("size", "super", 4, "super-container", 0)

set output dir."/mappings.svg"
set label 2 "Map and unmap 4 KiB beside other mappings: how many times the floor" at screen 0.02,0.95
set xlabel "other mappings"
eval "plot ".line("mappings", "iommufd", 1, "iommufd", 0).",".line("mappings", "base", 2, "type1 without the series", 0.3).",".line("mappings", "type1", 3, "type1 with the series", -0.1).",".line("mappings", "super", 4, "super-container", -0.3)

set output dir."/holes.svg"
set label 2 "Map and unmap 4 KiB in a hole of a mapping: how many times the floor" at screen 0.02,0.95
set xlabel "holes"
eval "plot ".line("holes", "granule", 3, "type1 with a granule", 0).",".line("holes", "super", 4, "super-container", 0)

set logscale y
set output dir."/unmapsize.svg"
set label 2 "Unmap all of it in one call (huge pages, pieces of 2 MiB): how many times the floor" at screen 0.02,0.95
set xlabel "MiB"
set yrange [1:*]
eval "plot ".line("unmapsize", "iommufdxN", 1, "iommufd, areas of 2 MiB", 0).",".line("unmapsize", "basexN", 2, "type1 without the series", 0.4).",".line("unmapsize", "granule", 3, "type1 with a granule", 0).",".line("unmapsize", "super", 4, "super-container", 0)

set output dir."/random.svg"
set label 2 "Unmap one piece of 2 MiB at random (pages of 1 GiB): how many times the floor" at screen 0.02,0.95
set xlabel "GiB mapped"
if (system(sprintf("grep -c ',cut,' %s/results.csv; true", dir)) + 0) { set label 1 "cuts a page of 1 GiB" at 256,11 center }
eval "plot ".line("random", "iommufdxN", 1, "iommufd", 0.3).",".line("random", "basexN", 2, "type1 without the series", 0.3).",".line("random", "granule", 3, "type1 with a granule", 0.4).",".line("random", "super", 4, "super-container", -0.4)
unset label 1

set output dir."/containers.svg"
set label 2 "Map the same 512 MiB into one more container: how many times the floor" at screen 0.02,0.95
unset logscale x
set xlabel "container"
set format x "%g"
set yrange [0.1:*]
eval "plot ".line("containers", "copy", 1, "iommufd, IOMMU_IOAS_COPY", 0.5).",".line("containers", "basexN", 2, "type1 without the series", -0.3).",".line("containers", "super", 3, "super-container", -0.4)
