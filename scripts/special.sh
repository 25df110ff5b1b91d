# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Usage: . scripts/special.sh
# Functions for kernels that differ from those of make check, and for guests that boot them
# with tests of their own

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_build

work=$(mktemp -d)
special_log=''		# the name of the next guest's log
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

# special_tree NAME VARIANT: makes build/BASE/NAME, a copy of the tree with the series and
# of what has been built of this kernel. Keeps a copy that is there for the same series.
special_tree() {
	local tree=$out/$1
	"$top/scripts/prepare" "$2" 7>&-
	if [ "$(cat "$tree/.at" 2>/dev/null)" != "$(git -C "$src" rev-parse HEAD)" ]; then
		"$top/scripts/copy-tree" "$tree"
		git -C "$src" rev-parse HEAD >"$tree/.at"
	fi
	if [ ! -d "$tree/obj-$2" ]; then
		cp -a "$src/obj-$2" "$tree/"
		find "$tree/obj-$2/tools" -name '.*.cmd' -exec sed -i "s|$src/|$tree/|g" {} +
		# For make, what has been replaced must be newer than these objects.
		if [ -f "$tree/.replaced" ]; then (cd "$tree" && xargs touch -c) <"$tree/.replaced"; fi
	fi
}

# special_file NAME FILE <TEXT: replaces a file of that tree, unless it has this text. Does
# not write into the file, which is a hard link.
special_file() {
	cat >"$work/file"
	cmp -s "$work/file" "$out/$1/$2" && return
	mkdir -p "$out/$1/${2%/*}"
	rm -f "$out/$1/$2"
	cp "$work/file" "$out/$1/$2"
	echo "$2" >>"$out/$1/.replaced"
}

# special_row NAME SECONDS COMMAND: adds a test for the guests. They get the files in
# $work/root.
mkdir -p "$work/root/tests"
grep -v '^#' "$top/qemu-tests/tests.list" >"$work/root/tests.list"
export TESTS_LIST=$work/root/tests.list
special_row() { echo "$1 | - | - | $2 | $3" >>"$TESTS_LIST"; }

# special_run NAME VARIANT MACHINE TEST...: calls qemu-tests/run with the kernel of that
# tree. If NAME is empty, with the usual one.
special_run() {
	local tree=$1 variant=$2
	if [ -n "$tree" ]; then tree=$out/$tree/; fi
	(cd "$work/root" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet | gzip -1n) >"$work/more"
	cat "$out/initramfs-$variant.cpio.gz" "$work/more" >"$work/initramfs"
	KERNEL_IMAGE=${tree:-$out/}obj-$variant/$(use_variant "$variant"; echo "$image") \
		INITRAMFS=$work/initramfs LOG_NAME=$special_log "$top/qemu-tests/run" "${@:2}"
}

# keep_result NAME <TEXT: what "make tested" says of this, as long as the kernel's source
# is the same.
keep_result() {
	{
		echo "# kernel $(git -C "$src" rev-parse 'HEAD^{tree}')"
		cat
	} >"$log/$1.results"
}
