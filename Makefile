# What people do with this project. `make help` lists it.
# Each of `demo` and `test` does all of its own set-up on a fresh Debian machine with Rust, make and root.

MUSL := x86_64-unknown-linux-musl
GNU  := x86_64-unknown-linux-gnu
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
BIN  := target/release-static/efs-agent
# The licences of what is linked into it.
NOTICES := target/release-static/THIRD-PARTY
export EFS_AGENT_BIN := $(CURDIR)/$(BIN)
# Of `make install`. The config is always /etc/efs-agent/config.toml: where the program looks for it.
PREFIX  ?= /usr/local
DESTDIR ?=
INSTALL ?= install

.PHONY: help build man install rpm elastic-bundle dist sbom test unit image-test vm-test upgrade-test quick faults bench kills soak soak-loopback soak-vm fuzz demo demo-images lint clean

help:
	@echo 'make build    the static binary: $(BIN)'
	@echo 'make elastic-bundle   target/session-scripts.zip for an Elastic fleet'
	@echo 'make rpm      target/rpm/efs-agent-VERSION-1.x86_64.rpm (with rpmbuild)'
	@echo 'make install  what is built, into PREFIX (/usr/local) below DESTDIR: for packagers'
	@echo 'make dist     target/dist/efs-agent-VERSION.tar.gz: the source with all crates, builds offline'
	@echo 'make demo     an AppStream session start in a VM: log, df -h, a file that outlives its session'
	@echo 'make test     everything: unit tests, the program, both kernels in VMs (root; about 10 minutes)'
	@echo 'make unit     the tests that need no VM'
	@echo 'make image-test  the RPM on machines with systemd: installed, upgraded, erased, and the image booted twice'
	@echo 'make vm-test  the VM scenarios alone; ONLY="words" picks those whose name holds the words, KERNEL=5.10, 6.12 or'
	@echo '              uml (user-mode Linux) those of one kernel'
	@echo 'make quick    the VM scenarios in user-mode Linux, which boots in 3 s: to develop with; ONLY="words"'
	@echo 'make upgrade-test   tunnels of an earlier version below a mount: COMMIT=3e9e9b6 names it'
	@echo 'make faults   the fault matrix alone, told of in target/faults.json; KERNEL=5.10, 6.12 or uml names one kernel'
	@echo 'make bench    measured against what people use now: target/bench/report.html (an hour); ROUNDS=5 KERNEL=6.12'
	@echo 'make kills    the random kills in their full number: 200 times SIGTERM, 500 times SIGKILL'
	@echo 'make soak     a tunnel at full rate for an hour, in which nothing may grow: on loopback, and in a VM below'
	@echo '              a mount; SECONDS=60 is shorter, KERNEL=5.10 is the VM of the other kernel'
	@echo 'make fuzz     10,000,000 made-up inputs for each parser of foreign text (1 hour); RUNS=100000 and TARGET=dns do less'
	@echo 'make lint     rustfmt, clippy, shellcheck, cargo-deny; the SBOM beside the RPM (its tools take minutes to build)'
	@echo 'make clean    removes target/ (not the VM images in ~/.cache/efs-agent-vm)'

# musl where rustup has the target and there is a musl-gcc for the cryptography in C (without
# unwinding data: a panic aborts, so nothing unwinds; with packed relocations, 150 KB less to read at each
# start, unless the musl of an older Rust than 1.93 cannot apply them); else static glibc, which is right too since no
# name service of libc is used. AES-GCM for AVX-512 is left out: 680 KB for the few processors that have VAES too. There the
# tunnel takes 0.55 of stunnel's CPU time instead of 0.4; on all others nothing changes.
build: export CFLAGS_$(subst -,_,$(MUSL)) := -DMY_ASSEMBLER_IS_TOO_OLD_FOR_512AVX
build: export CFLAGS_$(subst -,_,$(GNU)) := -DMY_ASSEMBLER_IS_TOO_OLD_FOR_512AVX
build:
	@mkdir -p $(dir $(BIN))
	@command -v musl-gcc >/dev/null || ! command -v apt-get >/dev/null || packaging/debian.sh build gcc musl-tools
	@if { rustup target add $(MUSL) >/dev/null 2>&1 || [ -d "$$(rustc --print sysroot)/lib/rustlib/$(MUSL)" ]; } \
	  && command -v musl-gcc >/dev/null; then \
	  musl() { RUSTFLAGS="-C link-arg=-Wl,--no-eh-frame-hdr,-T,$(CURDIR)/packaging/no-unwind.ld$$1" cargo build --locked --release --target $(MUSL) && cp target/$(MUSL)/release/efs-agent $(BIN).new; }; \
	  musl ' -C link-arg=-Wl,-z,pack-relative-relocs' && { $(BIN).new --version >/dev/null 2>&1 || musl ''; }; \
	else \
	  echo 'build: the target $(MUSL) or musl-gcc cannot be had: linking glibc statically instead'; \
	  RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target $(GNU) \
	    && cp target/$(GNU)/release/efs-agent $(BIN).new; \
	fi
	@mv $(BIN).new $(BIN)
	@tests/static.sh $(BIN)
	@packaging/notices.sh $(NOTICES)

elastic-bundle: build
	@packaging/elastic/bundle.sh $(BIN) $(NOTICES) target/session-scripts.zip

# A source tarball carries the pages as they were built, for machines without the tool.
man:
	@if [ -d packaging/man/built ]; then mkdir -p target/man && cp packaging/man/built/* target/man/; \
	  else packaging/man/build.sh target/man; fi

# Builds nothing, so that it works below rpmbuild and the like: `make build man` comes first.
install:
	@for file in $(BIN) $(NOTICES) target/man/efs-agent.8; do \
	  [ -e $$file ] || { echo "install: $$file is not there: run \`make build man\` first" >&2; exit 1; }; done
	$(INSTALL) -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/sbin/efs-agent
	@# What an administrator has written stays.
	[ -e $(DESTDIR)/etc/efs-agent/config.toml ] || \
	  $(INSTALL) -D -m 0644 packaging/config.toml $(DESTDIR)/etc/efs-agent/config.toml
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	for unit in systemd/*.service systemd/*.socket; do \
	  [ -e $$unit ] || continue; \
	  sed 's,/usr/sbin/,$(PREFIX)/sbin/,' $$unit > $(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/} && \
	  chmod 0644 $(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/} || exit 1; done
	$(INSTALL) -D -m 0644 systemd/efs-agent.preset $(DESTDIR)$(PREFIX)/lib/systemd/system-preset/50-efs-agent.preset
	$(INSTALL) -D -m 0644 systemd/modules-load.conf $(DESTDIR)$(PREFIX)/lib/modules-load.d/efs-agent.conf
	for page in target/man/*.[578]; do \
	  $(INSTALL) -D -m 0644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit 1; done
	$(INSTALL) -D -m 0644 packaging/efs-agent.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/efs-agent
	for file in LICENSE $(NOTICES); do \
	  $(INSTALL) -D -m 0644 $$file $(DESTDIR)$(PREFIX)/share/licenses/efs-agent/$${file##*/} || exit 1; done
	for file in config.example.toml README.md CHANGELOG.md packaging/guide.md; do \
	  $(INSTALL) -D -m 0644 $$file $(DESTDIR)$(PREFIX)/share/doc/efs-agent/$${file##*/} || exit 1; done

rpm: build man
	@packaging/rpm.sh target/rpm

dist:
	@packaging/dist.sh target/dist

sbom:
	@packaging/sbom.sh target/rpm/efs-agent-$(VERSION).cdx.json

unit: build man
	cargo test --locked --lib --test cli --test readme --test register --test tunnel --test package --test manual

image-test: build man
	cargo test --locked --test image

vm-test: elastic-bundle man
	NAMED=1 KERNEL='$(KERNEL)' cargo test --locked --test vm -- $(if $(ONLY),'$(ONLY)')

# Needs git: the version before is built from the commit that COMMIT names.
upgrade-test: elastic-bundle man
	@[ -n '$(COMMIT)' ] || { echo 'upgrade-test: COMMIT=... names the version before' >&2; exit 1; }
	rm -rf target/before && mkdir -p target/before && git archive '$(COMMIT)' | tar x -C target/before
	$(MAKE) -C target/before build
	BEFORE=$(CURDIR)/target/before/target/release-static/efs-agent NAMED=1 KERNEL='$(KERNEL)' \
	  cargo test --locked --test vm -- 'upgrade: '

quick:
	@$(MAKE) --no-print-directory vm-test KERNEL=uml ONLY='$(ONLY)'

faults: elastic-bundle
	NAMED=1 BESIDE=1 KERNEL='$(KERNEL)' cargo test --locked --test vm -- ': fault: '

bench: build
	cargo test --locked --test bench

kills: elastic-bundle
	NAMED=1 KILLS=10 cargo test --locked --test vm -- 'at any instant'

# The tests that take a few seconds in `make test`, side by side, on the program as it is shipped. Each is
# told of when it ends; if one fails, so does this, after the other.
SECONDS ?= 3600
soak: elastic-bundle
	@$(MAKE) --no-print-directory -j2 soak-loopback soak-vm

soak-loopback:
	SOAK=$(SECONDS) cargo test --locked --release --test tunnel -- --nocapture --exact \
	  at_full_rate_and_with_ever_new_connections_nothing_grows

soak-vm:
	NAMED=1 SOAK=$(SECONDS) KERNEL='$(or $(KERNEL),6.12)' cargo test --locked --test vm -- 'tunnel: a soak at full rate'

fuzz:
	@tests/fuzz/run.sh

test: elastic-bundle man
	@tests/all.sh

# The images are downloads and one program at a time: the compiler has the other processor meanwhile.
demo:
	@$(MAKE) --no-print-directory -j2 build demo-images
	@tests/vm/demo.sh

demo-images:
	@tests/vm/demo.sh images

lint: sbom
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@packaging/lint.sh

clean:
	cargo clean
