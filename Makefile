# The work is in the crates and in deploy/local; see README.md and deploy/local/README.md.
.PHONY: up down status test soak lint bench clean-local

local := target/release/hitmeter-local

# Builds and fetches side by side; what could not be fetched, the stack itself names.
up:
	@deploy/local/install.sh
	@deploy/local/fetch.py & cargo build --release -p collector -p enricher -p sink -p privacy -p local --bins; built=$$?; wait; exit $$built
	@$(local) up

down:
	@if [ -x $(local) ]; then $(local) down; else echo "The stack was never built here."; fi

status:
	@if [ -x $(local) ]; then $(local) status; else echo "The stack was never built here."; fi

test:
	@python3 -u deploy/local/test.py

# Hundreds of schedules of faults; SEED=... SCHEDULES=1 plays one that failed again.
soak: export SCHEDULES ?= 300
soak: export SEED ?= $(shell date +%s)
soak:
	@deploy/local/install.sh test
	@deploy/local/fetch.py
	@cargo build -p collector -p enricher -p sink --bins
	@cargo test -p local --test conservation -- --nocapture nothing_is_lost

lint:
	@deploy/local/lint.sh

# Measures everything and writes a report; on an idle machine, REPORT=benches for the results of record.
# HITS are those of the analysts' questions.
bench: export REPORT ?= target/bench
bench: export HITS ?= 5000000
bench:
	@deploy/local/install.sh bench
	@deploy/local/fetch.py
	@cargo build --release -p collector -p enricher -p sink -p benches --bins
	@mkdir -p target/bench $$REPORT
	@cargo bench -p benches > target/bench/micro.txt
	@target/release/behaviour --hits $$HITS --minutes 6 --output $$REPORT
	@target/release/bench all --micro target/bench/micro.txt --output $$REPORT

# The data of the stack's Kafka and ClickHouse, and its logs, where `down` has just stopped it. What was fetched stays.
clean-local: down
	@folder="$${HITMETER_DIRECTORY:-.local}"; rm -rf "$$folder/state" "$$folder/run" "$$folder/logs"
