# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Usage: . scripts/check/lib.sh
# What the gates share. A gate ends with status 0 if all is well, with 4 if a tool is
# missing (its last line says which), and with another status if it has found something.
# On every run it also looks for a mistake, mostly one in planted/, and prints "caught". If
# it does not, scripts/check-one fails it.

. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
use_build
planted=$top/scripts/check/planted

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

skip() { echo "$*"; exit 4; }
need() { # TOOL PACKAGE
	command -v "$1" >/dev/null || skip "no $1: package $2"
}
caught() { echo "caught: $*"; }

# other_source: succeeds, and says why, if the source is another version than the one that
# the series was made on.
other_source() {
	local is wanted="$base_package $base_package_version"
	is=$(cat "$src/.git/source")
	[ "$is" != "$wanted" ] || return 1
	echo "the series was made on $wanted, not on $is"
}

# touched PATTERN...: files of the kernel that the series adds or changes.
touched() { git -C "$src" diff --name-only --no-renames --diff-filter=AM base HEAD -- "$@"; }

# with_planted FILE: makes a tree with the series and, at the end of one kernel file, a file
# of planted/, and prints its name. The planted file's first line names the kernel file:
# /* path */. planted_object FILE: prints the object that this changes; nothing for a
# header, which may change any.
planted_in() { sed -n '1s,^/\* \(.*\) \*/$,\1,p' "$planted/$1"; }
planted_object() { planted_in "$1" | sed -n 's/\.c$/.o/p'; }
with_planted() {
	local to blob
	to=$(planted_in "$1")
	blob=$({ git -C "$src" show "HEAD:$to" && cat "$planted/$1"; } | git -C "$src" hash-object -w --stdin)
	(
		export GIT_INDEX_FILE=$tmp/index
		git -C "$src" read-tree HEAD
		git -C "$src" update-index --cacheinfo "100644,$blob,$to"
		git -C "$src" write-tree
	)
}

# shift_hunk PATCH: moves the position of its first hunk by a line.
shift_hunk() {
	awk '/^@@ / && !done { split($2, a, ","); split($3, b, ",")
		sub(/-[0-9]+/, "-" (1 - a[1])); sub(/\+[0-9]+/, "+" (b[1] + 1)); done = 1 } { print }' \
		"$1" >"$1.shifted"
	mv "$1.shifted" "$1"
}

# wanted_lists PATCH: the lists that it has to go to, says scripts/check/lists.
wanted_lists() {
	local f path list
	sed -n 's|^+++ b/||p; s|^--- a/||p' "$1" | LC_ALL=C sort -u | while read -r f; do
		sed '/^#/d' "$top/scripts/check/lists" | while read -r path list; do
			[ "$path" = / ] || [ "${f#"$path"}" != "$f" ] || continue
			echo "$list"
		done
	done | LC_ALL=C sort -u
}

# extract REVISION DIRECTORY FILE...: writes these files of the revision there.
extract() {
	local rev=$1 to=$2 f
	shift 2
	for f; do
		git -C "$src" cat-file -e "$rev:$f" 2>/dev/null || continue
		mkdir -p "$to/$(dirname "$f")"
		git -C "$src" show "$rev:$f" >"$to/$f"
	done
}

# only_new FUNCTION PLANTED...: FUNCTION REVISION prints complaints without line numbers.
# The gate fails if the series has a complaint that the base does not have, or if a planted
# mistake makes no new complaint.
only_new() {
	local function=$1 p only=''
	shift
	"$function" base | LC_ALL=C sort -u >"$tmp/complaints.base"
	"$function" HEAD | LC_ALL=C sort -u >"$tmp/complaints.head"
	LC_ALL=C comm -13 "$tmp/complaints.base" "$tmp/complaints.head" >"$tmp/complaints.new"
	cat "$tmp/complaints.new"
	[ ! -s "$tmp/complaints.new" ] ||
		die "$(wc -l <"$tmp/complaints.new") complaints that the base does not have, such as: $(head -n 1 "$tmp/complaints.new")"
	for p; do
		only=$(planted_object "$p")	# for compiler_says
		"$function" "$(with_planted "$p")" | LC_ALL=C sort -u |
			LC_ALL=C comm -13 "$tmp/complaints.head" - >"$tmp/complaints.planted"
		[ -s "$tmp/complaints.planted" ] || die "does not notice planted/$p"
		caught "$(head -n 1 "$tmp/complaints.planted")"
	done
}

# The gates have a source tree of their own, with object directories, in which they compile
# any revision. at REVISION: puts that revision's files there.
tree=$out/gates
at() {
	local was f
	lock
	was=$(cat "$tree/.at" 2>/dev/null) || {
		"$top/scripts/copy-tree" "$tree"
		was=HEAD
	}
	rm -f "$tree/.at"
	git -C "$src" diff --name-only --no-renames "$was" "$1" | while read -r f; do
		rm -f "$tree/$f"
		extract "$1" "$tree" "$f"
	done
	git -C "$src" rev-parse "$1^{tree}" >"$tree/.at"
}

# objects x86|powerpc|arm64: the objects to compile of the files that the series touches. x86:
# those of the guests' kernel and, for a driver's own headers, some that include them.
# powerpc: its VFIO driver. arm64: the rest, which are drivers of other machines.
objects() {
	local f o arch obj=$src/obj-plain
	touched '*.c' ':!tools' ':!samples' | while read -r f; do
		o=${f%.c}.o
		if [ -f "$obj/${o%/*}/.${o##*/}.cmd" ]; then
			arch=x86
		elif [[ $o = *spapr* ]]; then
			arch=powerpc
		else
			arch=arm64
		fi
		if [ "$1" = "$arch" ]; then echo "$o"; fi
	done
	[ "$1" = x86 ] || return 0
	touched ':drivers/*.h' | while read -r f; do
		{ find "$obj/${f%/*}" -name '.*.o.cmd' -exec grep -lE "${f##*/}( |\$)" {} + || :; } |
			LC_ALL=C sort | head -n 3 | sed "s|^$obj/||; s|/\.\([^/]*\)\.cmd\$|/\1|"
	done
}

# complaints_in LOG: the warnings and errors of a compiler, without paths and line numbers.
complaints_in() {
	sed -n 's/^[^ ]*\/\([A-Za-z0-9_-]*\.[ch]\):[0-9:]* \(warning\|error\):/\1: \2:/p' "$1"
}

# compiler_says REVISION x86|powerpc|arm64 OBJ [MAKE-ARGUMENT...]: the warnings about these
# objects; if the variable "only" names some, about those.
compiler_says() {
	local rev=$1 which=$2 obj=$3 o list=()
	shift 3
	at "$rev"
	for o in $(objects "$which"); do
		[ -z "${only:-}" ] || [[ " $only " == *" $o "* ]] || continue
		if [ -f "$tree/${o%.o}.c" ]; then list+=("$o"); fi
	done
	[ ${#list[@]} -gt 0 ] || return 0
	(cd "$obj" && rm -f "${list[@]}")
	"$top/scripts/kbuild" "$tree" "$obj" -k "$@" "${list[@]}" >"$tmp/make.log" 2>&1 </dev/null ||
		grep -q ' error: ' "$tmp/make.log" || { cat "$tmp/make.log" >&2; die "make failed in $obj"; }
	[ "$rev" != base ] || ! grep ' error: ' "$tmp/make.log" >&2 || die "the base does not compile in $obj"
	complaints_in "$tmp/make.log"
}

# use_clang: prepares the object directories obj-x86, configured as the guests' kernel, and
# obj-powerpc and obj-arm64, with the drivers that an x86 kernel lacks. To compile in
# obj-ARCH, the arguments of make are "${clang[@]}" ARCH=ARCH.
use_clang() {
	local v min arch obj want
	[ -f "$tree/.at" ] || at HEAD
	min=$("$tree/scripts/min-tool-version.sh" llvm)
	for v in -{30..10} '' none; do
		[ "$v" != none ] || skip "no clang of $min or newer: packages clang-$base_clang lld-$base_clang llvm-$base_clang"
		if command -v "clang$v" "ld.lld$v" "llvm-ar$v" >/dev/null &&
			printf '%s\n' "$min" "$("clang$v" -dumpversion)" | sort -CV; then
			break
		fi
	done
	clang=(LLVM="$v" CC="clang$v")
	[ -n "$v" ] || clang=(LLVM=1 CC=clang)
	want=$(fingerprint "${clang[@]}" "$src/obj-plain/.config" "$top"/scripts/check/*.config)
	for arch in x86 powerpc arm64; do
		obj=$tree/obj-$arch
		if [ "$(cat "$obj/.ready" 2>/dev/null)" = "$want" ]; then continue; fi
		rm -rf "$obj"
		mkdir "$obj"
		if [ $arch = x86 ]; then
			cp "$src/obj-plain/.config" "$obj/.config"
		else
			"$top/scripts/kbuild" "$tree" "$obj" "${clang[@]}" ARCH=$arch tinyconfig >"$log/gate-clang-prepare.log" 2>&1
			cat "$top/scripts/check/$arch.config" >>"$obj/.config"
		fi
		"$top/scripts/kbuild" "$tree" "$obj" "${clang[@]}" ARCH=$arch olddefconfig prepare \
			</dev/null >>"$log/gate-clang-prepare.log" 2>&1 ||
			die "could not prepare $obj (log: $log/gate-clang-prepare.log)"
		echo "$want" >"$obj/.ready"
	done
}
