# SPDX-License-Identifier: GPL-2.0-only
# Usage: make -k -f scripts/check.mk [list], by scripts/check-all
# Checks one base. EXTENT= is whole, backport (what can go wrong with one), gates or arm64.
# For each thing that has passed, build/BASE/check has a file with its results. It depends
# on a key, which is a file with a hash of its inputs and is written only when they have
# changed. (The times of files in a checkout do not tell that.) A thing that fails leaves
# no file. That is no error for make, except if a kernel does not build.
check := $(BUILD)/$(BASE)/check

# grep_gates PATTERN: the gates that have it in their head.
grep_gates = $(patsubst scripts/check/%,gate-%,$(shell grep -l -d skip '^. $1' scripts/check/*))
gates := $(call grep_gates,Usage: scripts)
compiling := $(call grep_gates,Needs: a built kernel)
# The gate bisect does more than prefixes, but needs a record to begin with.
gates := $(filter-out $(if $(wildcard records/bisected-$(BASE)),gate-prefixes,gate-bisect),$(gates))
guests := $(shell qemu-tests/select guests | sed 's/^/guest-/; s/ /-/')
mutants := $(shell scripts/check-one mutants)
ifeq ($(EXTENT),arm64)
guests := $(filter guest-arm64-%,$(guests))
gates :=
mutants :=
else
guests := $(filter-out guest-arm64-%,$(guests))
endif
ifeq ($(EXTENT),backport)
gates := $(filter $(call grep_gates,Backport: too),$(gates))
mutants :=
endif
ifeq ($(EXTENT),gates)
guests :=
mutants :=
endif
kernels := $(foreach k,debug plain unpatched arm64,$(if $(filter guest-$k-%,$(guests)),build-$k))
kernels += $(if $(filter $(compiling),$(gates)),$(filter-out $(kernels),build-plain))
compare := $(if $(filter guest-unpatched-icount,$(guests)),cost)
compare += $(if $(wildcard $(BUILD)/$(BASE)/linux/tools/testing/selftests/vfio),$(if $(filter guest-unpatched-intel,$(guests)),alike))

# They begin in this order. The debug kernel comes first, since its guest takes longest.
# While it compiles, the gates run that need no kernel.
list := $(filter build-debug,$(kernels)) $(filter-out $(compiling),$(gates)) \
	$(filter-out build-debug,$(kernels)) $(guests) $(filter $(compiling),$(gates)) $(mutants) $(compare)
all: $(list:%=report-%)
list:
	@echo $(list)

# What passed earlier is reported, too.
$(list:%=report-%): report-%: $(check)/%
	@[ -f $(check)/report/$* ] || tee $(check)/report/$* <$< | sed 's/ / $(BASE) /'
$(list:%=$(check)/%): $(check)/%:
	@scripts/check-one run $*
$(list:%=$(check)/key/%): FORCE
	@scripts/check-one key $(@F)

files = $(addprefix $(check)/,$(filter $1,$(list)))
keys = $(addprefix $(check)/key/,$(filter $1,$(list)))
$(kernels:%=$(check)/%): FORCE
$(foreach l,$(filter-out $(kernels),$(list)),$(eval $(check)/$l: $(check)/key/$l))
$(call keys,guest-plain-% mutants-plain-% $(compiling)): $(check)/build-plain
$(call keys,guest-unpatched-%): $(check)/build-unpatched
$(call keys,guest-debug-% mutants-debug-%): $(check)/build-debug
$(call keys,guest-arm64-%): $(check)/build-arm64
$(call files,build-unpatched): $(check)/build-plain
$(call files,cost): $(call files,guest-plain-icount guest-unpatched-icount)
$(call files,alike): $(call files,guest-plain-intel guest-unpatched-intel)

# These compile in the same tree, one after the other.
$(call files,gate-clang): | $(call files,gate-gcc)
$(call files,gate-sparse): | $(call files,gate-gcc gate-clang)
$(call files,gate-prefixes): | $(call files,gate-gcc gate-clang gate-sparse)
$(call files,gate-kunit): | $(call files,gate-gcc gate-clang gate-sparse gate-prefixes)

FORCE:
.PHONY: all list FORCE $(list:%=report-%)
