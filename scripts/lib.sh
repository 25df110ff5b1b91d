# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Usage: . scripts/lib.sh
# Functions and paths that all scripts share. Sourcing it does nothing else: a script that
# writes below BUILD= calls use_build first.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034
base_given=${BASE:-}	# if it is empty, a script may go on with another base
export BASE=${BASE:-7.3}
BUILD=${BUILD:-$top/build}
case $BUILD in /*) ;; *) BUILD=$top/$BUILD ;; esac
export BUILD

say() { printf '%s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

[ -f "$top/bases/$BASE" ] ||
	die "no base '$BASE': BASE= is one of: $(cd "$top/bases" && echo *)"
# shellcheck source=bases/7.3
. "$top/bases/$BASE"

# shellcheck disable=SC2034
{
	out=$BUILD/$BASE	# all that is built for this base
	src=$out/linux		# the kernel git tree, series applied
	log=$out/log
	dl=$BUILD/dl		# downloads, kept by make clean
	jobs=${JOBS:-$(nproc)}
	NOT_THERE=3		# exit status: the archive has no such package
}
# use_build: makes the directories that all scripts write in.
use_build() {
	case $BUILD in
	*[[:space:]:]*) die "BUILD=$BUILD: a kernel cannot be built in a path with blanks or colons" ;;
	esac
	export TMPDIR=$out/tmp
	mkdir -p "$log" "$dl" "$TMPDIR" || die "cannot write in $BUILD; give another place with BUILD="
}

# use_ccache: compile with ccache if it is installed and can write to its cache. The user's
# own settings say where the cache is and how large. With the settings here, a clone
# elsewhere and a copy of the tree find what was compiled before.
use_ccache() {
	local cache
	[[ -d /usr/lib/ccache && $PATH != /usr/lib/ccache:* ]] || return 0
	cache=$(ccache -k cache_dir)
	if mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ]; then
		export PATH=/usr/lib/ccache:$PATH
		export CCACHE_BASEDIR=${CCACHE_BASEDIR:-/} CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1
	fi
}

# Runs git without the user's own settings.
git() {
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_TERMINAL_PROMPT=0 \
	GIT_COMMITTER_NAME='The committer' GIT_COMMITTER_EMAIL=committer@localhost \
		command git -c core.preloadIndex=true -c gc.auto=0 -c core.fsync=none \
		-c core.looseCompression=0 -c advice.detachedHead=false "$@"
}

# lock: only one run at a time works on a base. A script that is called with the lock held
# has it, too.
lock() {
	[ "${LOCK_HELD:-}" = "$out" ] && return
	exec 9>"$out/.lock"
	if ! flock -n 9; then
		say "another run is working in $out; waiting for it to end"
		flock 9
	fi
	export LOCK_HELD=$out
}

# one_at_a_time NAME: of the scripts of one run, only one at a time goes on from here.
one_at_a_time() {
	exec 6>"$out/.$1.lock"
	flock 6
}

# is_late [MINUTES]: has make check less time left than that? late says so.
# shellcheck disable=SC2034
late="the minutes of this check were over; make check once more goes on here"
is_late() { [ -n "${CHECK_UNTIL:-}" ] && [ $(($(date +%s) + ${1:-0} * 60)) -ge "$CHECK_UNTIL" ]; }

unlock() {
	exec 9>&-
	unset LOCK_HELD
}

# need_space GIGABYTES: ends the script if less is free.
need_space() {
	local free
	free=$(($(df -Pk "$BUILD" | awk 'NR == 2 { print $4 }') / 1048576))
	[ "$free" -ge "$1" ] ||
		die "$BUILD has $free GB free and $1 GB are needed; make room or give another place with BUILD="
}

# say_full: says if the disk is full, for then the log may lack its last lines.
say_full() {
	local free
	free=$(df -Pm "$BUILD" | awk 'NR == 2 { print $4 }')
	[ "${free:-500}" -ge 500 ] || say "$BUILD has only $free MB free"
}

# fingerprint ARGUMENT...: a hash of the arguments, and of the contents of those that are
# files
fingerprint() {
	local a
	for a; do
		if [ -f "$a" ]; then cat -- "$a"; else printf '%s\n' "$a"; fi
	done | sha256sum | cut -d' ' -f1
}

series_patches() { sed -e 's/[[:space:]]*#.*//' -e '/^$/d' "$top/$series"; }
# first_patch: the name of the first one. "| head -n 1" would make sed fail now and then: it
# closes the pipe while sed still writes.
first_patch() { series_patches | sed -n 1p; }

series_fingerprint() {
	local p
	while read -r p; do
		[ -f "$top/$patches/$p" ] || die "$series names $p, which is not in $patches/"
		echo "$p"
		cat "$top/$patches/$p"
	done < <(series_patches) | sha256sum | cut -d' ' -f1
}

# mutants: the patches in qemu-tests/mutants for this base. "# base: 7.3" in the head of one
# says that it is for that base only.
mutants() {
	local p bases
	for p in "$top"/qemu-tests/mutants/*.patch; do
		bases=$(sed -n 's/^# base: *//p' "$p")
		[ -z "$bases" ] || [[ " $bases " == *" $BASE "* ]] || continue
		echo "$p"
	done
}

# use_variant VARIANT: sets image, the path of the kernel in its O= directory, and qemu,
# which runs it. For an architecture other than x86 it also exports KERNEL_ARCH and
# CROSS_COMPILE, which scripts/kbuild and others use.
# shellcheck disable=SC2034
use_variant() {
	case $1 in
	arm64*)
		export KERNEL_ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-
		image=arch/arm64/boot/Image qemu=qemu-system-aarch64 ;;
	*)
		unset KERNEL_ARCH CROSS_COMPILE
		image=arch/x86/boot/bzImage qemu=qemu-system-x86_64 ;;
	esac
}

# small_repo DIRECTORY: makes a git repository whose branch "small" has one commit, with only
# those files of the base that the series touches. git am is faster there: in the whole
# tree it writes an index of 90,000 files for each patch.
# small_tree [COMMIT]: prints the tree object that has these files of COMMIT, by default of
# the series.
small_repo() {
	local commit
	commit=$(GIT_AUTHOR_NAME=nobody GIT_AUTHOR_EMAIL=nobody@localhost git -C "$src" \
		commit-tree -m "Linux $base_version" "$(small_tree base)")
	rm -rf "$1"
	git clone -q -s -n "$src" "$1" 2>/dev/null
	git -C "$1" checkout -q -b small "$commit"
}
small_tree() {
	local index=$TMPDIR/index.$BASHPID files
	mapfile -t files < <(git -C "$src" diff --name-only --no-renames base HEAD)
	git -C "$src" ls-tree -r "${1:-HEAD}" -- "${files[@]}" |
		GIT_INDEX_FILE=$index git -C "$src" update-index --index-info
	GIT_INDEX_FILE=$index git -C "$src" write-tree
	rm -f "$index"
}

tree_dirty() { [ -n "$(git -C "$src" status --porcelain --untracked-files=no)" ]; }

# run_logged LABEL EXPECTED LOGFILE COMMAND...: runs a long command and writes its output to
# a log. Tells how far it is and, if it fails, why. EXPECTED: how many lines kbuild will
# print; 0: nobody knows.
run_logged() {
	local label=$1 expected=$2 file=$3 pid start now last=0 step=30 n of='' rc=0
	shift 3
	[ -t 2 ] && step=10
	[ "$expected" -gt 0 ] && of=" of ~$expected"
	"$@" </dev/null >"$file" 2>&1 &
	pid=$!
	trap 'kill '$pid' 2>/dev/null; wait '$pid'; exit 130' INT TERM HUP
	start=$SECONDS
	while kill -0 $pid 2>/dev/null; do
		sleep 0.5
		now=$((SECONDS - start))
		[ $((now - last)) -ge $step ] || continue
		last=$now
		n=$(grep -c '^  [A-Z]' "$file" || true)
		say "$label: $n$of steps, $((now / 60))m$((now % 60))s"
	done
	wait $pid || rc=$?
	trap - INT TERM HUP
	[ $rc -eq 0 ] && return
	say_full
	grep -E 'error|Error|\*\*\*|No space left' "$file" | tail -n 8 >&2 || tail -n 8 "$file" >&2
	die "$label failed; the whole log: $file"
}
