# Verbs only: each calls one script. `make help` tells what they do.
KERNEL_VARIANT ?= plain
MACHINE ?= intel
TEST ?=
export BASE BUILD KERNEL_SRC KERNEL_REV APT_MIRROR FORCE AGAIN MINUTES JOBS

help:
	@scripts/help
demo:
	@scripts/demo
check:
	@scripts/check-all
check-arm64:
	@scripts/check-all arm64
gates:
	@scripts/check-all gates
mail:
	@scripts/mail
bench:
	@scripts/bench
kernel:
	@scripts/build-kernel $(KERNEL_VARIANT)
apply:
	@scripts/apply
refresh:
	@scripts/refresh
boot:
	@scripts/boot $(KERNEL_VARIANT) $(MACHINE)
test:
	@scripts/test $(KERNEL_VARIANT) $(MACHINE) $(TEST)
bisect:
	@scripts/bisect '$(FROM)' '$(TO)' $(TEST)
drop-in:
	@scripts/drop-in
deb:
	@scripts/deb
deb-test:
	@scripts/deb-test $(MACHINE) $(TEST)
tested:
	@scripts/tested
where:
	@scripts/where
clean:
	@scripts/clean
distclean:
	@scripts/clean all

.PHONY: help demo check check-arm64 gates mail bench kernel apply refresh boot test drop-in deb deb-test tested bisect where clean distclean
