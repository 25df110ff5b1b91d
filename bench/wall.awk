# SPDX-License-Identifier: GPL-2.0-only
# Makes a table from the lines "# wall" that qemu-tests/tests/wallclock.c prints.
{ sub(/\r$/, "") }
$1 == "|" && $2 == "#" && $3 == "wall" && $7 ~ /^[0-9]+$/ {
	k = $4 " " $5
	if (!(k in seen)) {
		seen[k] = 1
		order[++n] = k
	}
	median[k, $6] = $7; low[k, $6] = $8; high[k, $6] = $9; samples[k, $6] = $10
	next
}
$1 == "|" && $2 == "#" && $3 == "wall" {
	k = $4 " " $5
	if (!(k in seen)) {
		seen[k] = 1
		order[++n] = k
		why[k] = $0
		sub(/.* [12] /, "", why[k])
	}
}
function span(k, n) { return sprintf("%.1f..%.1f", low[k, n] / 1000, high[k, n] / 1000) }
END {
	print "\nBY THE CLOCK: microseconds for a pair of map and unmap, two CPUs (TCG: only ratios"
	print "count). Median, and between which values half of the samples lie: one thread alone,"
	print "then two threads at once, each in a container of its own. \"time\" is how many times"
	print "as long a call takes beside another; \"work\", how many times as much the two get done"
	print "in the same time: 2.00 if nothing makes them wait, neither a lock nor the machine"
	print "that QEMU runs on; 1.00 if they take turns.\n"
	printf "%-30s%9s%16s%9s%16s%7s%7s\n", "", "alone", "", "at once", "", "time", "work"
	for (i = 1; i <= n; i++) {
		k = order[i]
		if (!((k, 1) in median)) {
			printf "%-30s%s\n", k, why[k]
			continue
		}
		printf "%-30s%9.1f%16s%9.1f%16s%7.2f%7.2f\n", k,
			median[k, 1] / 1000, span(k, 1), median[k, 2] / 1000, span(k, 2), median[k, 2] / median[k, 1],
			samples[k, 2] / samples[k, 1]
	}
	if (!n)
		print "(was not measured)"
	print "\n64M-while-registering: one thread, and beside it one that registers and unregisters"
	print "64 MiB of 4 KiB pages all the time; its work is not counted."
}
