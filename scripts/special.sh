# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Usage: . scripts/special.sh
# For kernels that differ from those of make check, and guests that boot them with tests
# of their own.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

work=$(mktemp -d)
special_log=''		# what the log of the next guest is called
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

# special_tree NAME VARIANT: build/BASE/NAME is a copy of the tree with the series and of
# what has been built of this kernel. Leaves the series as it was when the copy was made.
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
	fi
}

# special_file NAME FILE <TEXT: gives a file of that tree other contents, if they are
# others: the files are hard links.
special_file() {
	cat >"$work/file"
	cmp -s "$work/file" "$out/$1/$2" && return
	mkdir -p "$out/$1/${2%/*}"
	rm -f "$out/$1/$2"
	cp "$work/file" "$out/$1/$2"
}

# special_row NAME SECONDS COMMAND: one more test for the guests. Files for them lie in
# $work/root.
mkdir -p "$work/root/tests"
grep -v '^#' "$top/qemu-tests/tests.list" >"$work/root/tests.list"
export TESTS_LIST=$work/root/tests.list
special_row() { echo "$1 | - | - | $2 | $3" >>"$TESTS_LIST"; }

# special_run NAME VARIANT MACHINE TEST...: as qemu-tests/run, with the kernel of that
# tree, or with the usual one if NAME is empty.
special_run() {
	local tree=$1 variant=$2
	[ -z "$tree" ] || tree=$out/$tree/
	(cd "$work/root" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet | gzip -1n) >"$work/more"
	cat "$out/initramfs-$variant.cpio.gz" "$work/more" >"$work/initramfs"
	KERNEL_IMAGE=${tree:-$out/}obj-$variant/$(use_variant "$variant"; echo "$image") \
		INITRAMFS=$work/initramfs LOG_NAME=$special_log "$top/qemu-tests/run" "${@:2}"
}
