# The lines "# wall" of qemu-tests/tests/wallclock.c to a table.
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
END {
	print "\nBY THE CLOCK: microseconds for a pair of map and unmap, two CPUs (TCG, so only"
	print "ratios count). Median, and between which values half of the samples lie; one"
	print "thread alone, then two threads at once, each in a container of its own. What"
	print "two cannot do at once would take 2.00 times as long.\n"
	printf "%-34s%10s%18s%10s%18s%8s\n", "", "alone", "", "at once", "", "times"
	for (i = 1; i <= n; i++) {
		k = order[i]
		if (!((k, 1) in median)) {
			printf "%-34s%s\n", k, why[k]
			continue
		}
		printf "%-34s%10d%18s%10d%18s%8.2f\n", k, median[k, 1], low[k, 1] ".." high[k, 1],
			median[k, 2], low[k, 2] ".." high[k, 2], median[k, 2] / median[k, 1]
	}
	if (!n)
		print "(was not measured)"
	print "\n64M-while-registering: alone, and with a second thread that registers and"
	print "unregisters 64 MiB of 4 KiB pages all the time."
}
