# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Usage: . scripts/check/lib.sh
# What the gates share. A gate ends with 0, with 4 if it misses a tool (its
# last line says which), with anything else if it has found something. Each
# proves on every run that it finds the mistake planted for it in planted/,
# and says so with "caught"; scripts/check-one fails one that does not.

. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
planted=$top/scripts/check/planted

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

skip() { echo "$*"; exit 4; }
need() { # TOOL PACKAGE
	command -v "$1" >/dev/null || skip "no $1: package $2"
}
caught() { echo "caught: $*"; }

# other_source: says so if the series is on another version of the source than it was
# made on.
other_source() {
	local is wanted="$base_package $base_package_version"
	is=$(cat "$src/.git/source")
	[ "$is" != "$wanted" ] || return
	echo "the series was made on $wanted, not on $is"
}

# touched PATTERN...: files of the kernel that the series adds or changes.
touched() { git -C "$src" diff --name-only --no-renames --diff-filter=AM base HEAD -- "$@"; }

# with_planted FILE: names the series' tree with a file of planted/ at the end
# of a kernel file, which the planted file's first line names: /* path */.
# planted_object FILE: the object that this changes; of a header, which may change
# any, nothing.
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

# shift_hunk PATCH: has its first hunk be a line off.
shift_hunk() {
	awk '/^@@ / && !done { split($2, a, ","); split($3, b, ",")
		sub(/-[0-9]+/, "-" (1 - a[1])); sub(/\+[0-9]+/, "+" (b[1] + 1)); done = 1 } { print }' \
		"$1" >"$1.shifted"
	mv "$1.shifted" "$1"
}

# wanted_lists PATCH: to which it has to go, by scripts/check/lists.
wanted_lists() {
	local f path list
	sed -n 's|^+++ b/||p; s|^--- a/||p' "$1" | LC_ALL=C sort -u | while read -r f; do
		sed '/^#/d' "$top/scripts/check/lists" | while read -r path list; do
			[ "$path" = / ] || [ "${f#"$path"}" != "$f" ] || continue
			echo "$list"
		done
	done | LC_ALL=C sort -u
}

# extract REVISION DIRECTORY FILE...: these files as they are there.
extract() {
	local rev=$1 to=$2 f
	shift 2
	for f; do
		git -C "$src" cat-file -e "$rev:$f" 2>/dev/null || continue
		mkdir -p "$to/$(dirname "$f")"
		git -C "$src" show "$rev:$f" >"$to/$f"
	done
}

# only_new FUNCTION PLANTED...: FUNCTION REVISION prints complaints without line
# numbers. Any that the series has and the base has not fail the gate, and so
# does finding nothing new in the series with one of the planted mistakes.
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

# A source tree of the gates' own, with object directories, to compile any
# revision of the touched files in. at REVISION: has it hold these.
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

# objects x86|arm64: the objects to compile of what the series touches: those
# that the guests' kernel has, and for headers that are a driver's own some
# that include them; or the rest, which are other machines' drivers.
objects() {
	local f o obj=$src/obj-plain
	touched '*.c' ':!tools' ':!samples' | while read -r f; do
		o=${f%.c}.o
		if [ -f "$obj/${o%/*}/.${o##*/}.cmd" ]; then
			[ "$1" != x86 ] || echo "$o"
		else
			[ "$1" != arm64 ] || echo "$o"
		fi
	done
	[ "$1" = x86 ] || return 0
	touched ':drivers/*.h' | while read -r f; do
		find "$obj/${f%/*}" -name '.*.o.cmd' -exec grep -lE "${f##*/}( |\$)" {} + | LC_ALL=C sort |
			head -n 3 | sed "s|^$obj/||; s|/\.\([^/]*\)\.cmd\$|/\1|"
	done
}

# compiler_says REVISION x86|arm64 OBJ [MAKE-ARGUMENT...]: its warnings about
# these objects, or those of them that are in the variable only.
compiler_says() {
	local rev=$1 which=$2 obj=$3 o list=()
	shift 3
	at "$rev"
	for o in $(objects "$which"); do
		[ -z "${only:-}" ] || [[ " $only " == *" $o "* ]] || continue
		[ ! -f "$tree/${o%.o}.c" ] || list+=("$o")
	done
	[ ${#list[@]} -gt 0 ] || return 0
	(cd "$obj" && rm -f "${list[@]}")
	"$top/scripts/kbuild" "$tree" "$obj" -k "$@" "${list[@]}" >"$tmp/make.log" 2>&1 </dev/null ||
		grep -q ' error: ' "$tmp/make.log" || { cat "$tmp/make.log" >&2; die "make failed in $obj"; }
	[ "$rev" != base ] || ! grep ' error: ' "$tmp/make.log" >&2 || die "the base does not compile in $obj"
	sed -n 's/^[^ ]*\/\([A-Za-z0-9_-]*\.[ch]\):[0-9:]* \(warning\|error\):/\1: \2:/p' "$tmp/make.log"
}

# use_clang: object directories obj-clang, configured as the guests' kernel,
# and obj-arm64, which has the drivers that an x86 kernel has not.
use_clang() {
	local v min obj want
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
	clang_arm64=("${clang[@]}" ARCH=arm64)
	want=$(fingerprint "${clang[@]}" "$src/obj-plain/.config" "$top/scripts/check/arm64.config")
	for obj in "$tree/obj-clang" "$tree/obj-arm64"; do
		[ "$(cat "$obj/.ready" 2>/dev/null)" != "$want" ] || continue
		rm -rf "$obj"
		mkdir "$obj"
		cp "$src/obj-plain/.config" "$obj/.config"
		set -- "${clang[@]}"
		if [ "$obj" = "$tree/obj-arm64" ]; then
			set -- "${clang_arm64[@]}"
			"$top/scripts/kbuild" "$tree" "$obj" "$@" tinyconfig >"$log/gate-clang-prepare.log" 2>&1
			cat "$top/scripts/check/arm64.config" >>"$obj/.config"
		fi
		"$top/scripts/kbuild" "$tree" "$obj" "$@" olddefconfig prepare \
			</dev/null >>"$log/gate-clang-prepare.log" 2>&1 ||
			die "could not prepare $obj (log: $log/gate-clang-prepare.log)"
		echo "$want" >"$obj/.ready"
	done
}
