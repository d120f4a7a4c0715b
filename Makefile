# What people do with this project. `make help` lists it.
# Each of `demo` and `test` does all of its own set-up on a fresh Debian machine with Rust, make and root.

MUSL := x86_64-unknown-linux-musl
GNU  := x86_64-unknown-linux-gnu
BIN  := target/release-static/efs-agent
export EFS_AGENT_BIN := $(CURDIR)/$(BIN)

.PHONY: help build elastic-bundle test unit vm-test faults kills fuzz demo lint clean

help:
	@echo 'make build    the static binary: $(BIN)'
	@echo 'make elastic-bundle   target/session-scripts.zip for an Elastic fleet'
	@echo 'make demo     an AppStream session start in a VM: log, df -h, a file that outlives its session'
	@echo 'make test     everything: unit tests, the program, both kernels in VMs (root; about 10 minutes)'
	@echo 'make unit     the tests that need no VM'
	@echo 'make vm-test  the VM scenarios alone; ONLY="words" picks those whose name holds the words'
	@echo 'make faults   the fault matrix alone, told of in target/faults.json; KERNEL=5.10 or 6.12 names one kernel'
	@echo 'make kills    the random kills in their full number: 200 times SIGTERM, 500 times SIGKILL'
	@echo 'make fuzz     10,000,000 made-up inputs for each parser of foreign text (1 hour); RUNS=100000 and TARGET=dns do less'
	@echo 'make lint     rustfmt and clippy'
	@echo 'make clean    removes target/ (not the VM images in ~/.cache/efs-agent-vm)'

# musl where rustup has the target (without the table that finds unwinding data: a panic aborts, so
# nothing unwinds); else static glibc, which is right too since no name service of libc is used.
build:
	@mkdir -p $(dir $(BIN))
	@if rustup target add $(MUSL) >/dev/null 2>&1 || [ -d "$$(rustc --print sysroot)/lib/rustlib/$(MUSL)" ]; then \
	  RUSTFLAGS='-C link-arg=-Wl,--no-eh-frame-hdr' cargo build --locked --release --target $(MUSL) && cp target/$(MUSL)/release/efs-agent $(BIN).new; \
	else \
	  echo 'build: the target $(MUSL) cannot be had: linking glibc statically instead'; \
	  RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target $(GNU) \
	    && cp target/$(GNU)/release/efs-agent $(BIN).new; \
	fi
	@mv $(BIN).new $(BIN)
	@tests/static.sh $(BIN)

elastic-bundle: build
	@packaging/elastic/bundle.sh $(BIN) target/session-scripts.zip

unit: build
	cargo test --locked --lib --test cli --test readme --test register

vm-test: elastic-bundle
	cargo test --locked --test vm -- $(if $(ONLY),'$(ONLY)')

faults: elastic-bundle
	BESIDE=1 cargo test --locked --test vm -- '$(if $(KERNEL),$(KERNEL): )fault: '

kills: elastic-bundle
	KILLS=10 cargo test --locked --test vm -- 'at any instant'

fuzz:
	@tests/fuzz/run.sh

test: elastic-bundle
	@tests/all.sh

demo: build
	@tests/vm/demo.sh

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

clean:
	cargo clean
