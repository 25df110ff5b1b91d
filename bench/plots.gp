# gnuplot -e "dir='...'" bench/plots.gp: the .dat files of bench/table to SVG.
set terminal svg size 820,560 dynamic background "white"
set datafile missing "?"
set logscale xy
set grid
set key outside right
set ylabel "instructions"
set format x "10^{%L}"
set format y "10^{%L}"
names = "floor super granule type1 type1xN iommufd iommufdxN copy copyxN v2 v2xN"
draw(file, title, x) = sprintf("set output '%s/%s.svg'; set title '%s'; set xlabel '%s'; plot for [i=1:words(names)] '%s/%s.dat' using 1:(column(i + 1)) with linespoints lw 2 pt i title word(names, i)", dir, file, title, x, dir, file)

eval draw("size", "Map with pieces of 2 MiB, THP", "MiB")
eval draw("unmapsize", "Unmap all, THP", "MiB")
eval draw("random", "Unmap one piece of 2 MiB at random", "MiB mapped")
eval draw("mappings", "A pair of 4 KiB beside other mappings", "mappings")
eval draw("build", "Make so many mappings", "mappings")
eval draw("punch", "Make so many holes", "holes")
eval draw("holes", "A pair of 4 KiB in one of so many holes", "holes")
set format x "%g"
eval draw("containers", "512 MiB into one container after the other", "container")
