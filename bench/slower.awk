# SPDX-License-Identifier: GPL-2.0-only
# Lists what costs existing callers more, or less, than on the unpatched kernel; also memory.
BEGIN { FS = "," }
NR > 1 && $3 ~ /^type1/ && $7 != "" {
	k = sprintf("%-10s %-8s %-7s %-6s %-5s", $2, $3, $4, $5, $6)
	if ($1 == "unpatched")
		old[k] = $7
	else {
		new[k] = $7
		order[++n] = k
	}
}
END {
	print "\nWHAT GOT SLOWER: calls that exist today, more than 2 % over the unpatched kernel\n"
	for (i = 1; i <= n; i++) {
		k = order[i]
		if (!(k in old))
			continue
		compared++
		if (new[k] > old[k] * 1.02) {
			printf "%s %12d was %12d  %+.1f %%\n", k, new[k], old[k], (new[k] / old[k] - 1) * 100
			slower++
		} else if (new[k] < old[k] * 0.98)
			faster++
	}
	if (!slower)
		print "nothing"
	printf "\nOf %d figures, %d are more than 2 %% higher, %d more than 2 %% lower.\n", compared, slower, faster
	print "Short ones are the least of three, of many calls the median.  Where memory happens to lie\nmoves what is left by some percent from one boot to another."
}
