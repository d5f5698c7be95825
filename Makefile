# The menu. `make` explains it; every recipe works with and without CARGO_TARGET_DIR.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build run study test check check-dashboards bench bench-engine bench-export bench-lineage bench-parse bench-score bench-models soak validate-lineage data serve test-serve bench-serve dashboards clean bootstrap bootstrap-test

ARGS ?=

help: ## Explain the targets
	@echo "logweir: anomalous sessions in logs, by a pipeline that reruns only what changed"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-18s %s\n' "$$name" "$$text"; done
	@echo
	@echo "Settings: LOGWEIR_HDFS=/folder/with/HDFS.log (real logs), LOGWEIR_POSTGRES=postgres://… (export there),"
	@echo "          CARGO_TARGET_DIR (build elsewhere), ARGS='-j 2 --json' (arguments of logweir run)"

run: build ## Run the pipeline: real logs if they are there, else a simulated cluster's; twice executes nothing
	@scripts/run.sh $(ARGS)

test: bootstrap-test ## Run every test (installs a PostgreSQL server for them where it can; starts one in a temporary folder)
	@. scripts/env.sh; cargo test --release --locked --workspace $(ARGS)

check: bootstrap ## Format, lints and documentation, warnings as errors
	@scripts/check.sh

study: build ## How detection holds up: every cell of docs/detection.md, on real logs if they are there (ARGS="--profile sample" without sequences)
	@scripts/run.sh -f pipelines/study.yaml $(ARGS)

bench: build ## Time the engine against ninja and make, and the pipeline on a simulated log of a million lines
	@scripts/bench.sh $(ARGS)

soak: build ## Kill a real run with SIGKILL at random instants (N=1000 times); each next run must put everything right
	@scripts/soak.sh $(or $(N),1000)

bench-engine: build ## The table of docs/benchmarks.md: the engine beside ninja, make, DVC and Snakemake (half an hour)
	@. scripts/env.sh; scripts/bench-engine.py --logweir "$$logweir" --peers ninja,make,dvc,snakemake --stages 100,1000,10000 --most 100000 --file 2 $(ARGS)

bench-lineage: build ## Time lineage questions at 10,000 stages and 1,000 runs (STAGES=n RUNS=n)
	@scripts/bench-lineage.sh $(or $(STAGES),10000) $(or $(RUNS),1000)

bench-parse: build ## Raw log to sessions beside grep, Drain3 and regular expressions, on a simulated log (LINES=2000000)
	@scripts/bench-parse.sh $(or $(LINES),2000000)

bench-score: build ## Score a simulated log in batch and as it grows: lines a second, microseconds a line (LINES=1000000)
	@scripts/bench-score.sh $(or $(LINES),1000000)

bench-models: build ## LightGBM and the autoencoder beside the Python packages on the same rows (SESSIONS=100000)
	@scripts/bench-models.sh $(or $(SESSIONS),100000)

bench-export: build ## Export 575,061 simulated sessions to PostgreSQL beside psql \copy of the same rows; time every panel (ARGS="--project DIR" keeps the run)
	@. scripts/env.sh; scripts/bench-export.py --logweir "$$logweir" $(ARGS)

check-dashboards: ## Dashboards against Grafana's own types (npm @grafana/schema); exit 77 where npm is missing
	@scripts/check-dashboards.sh

validate-lineage: build ## Export several runs in every standard format and have outside validators judge them
	@scripts/validate-lineage.sh

data: ## Fetch the public HDFS_v1 set (1.5 GB unpacked) into data/raw/HDFS_v1 and check its counts
	@scripts/data.sh

serve: build ## Show runs, metrics, lineage and alerts at http://127.0.0.1:8787 (PORT=n for another port)
	@scripts/serve.sh $(ARGS)

test-serve: build ## Open every page in a real Chromium: contents, keyboard, contrast, narrow screens (SHOTS=folder keeps pictures)
	@scripts/test-serve.sh

bench-serve: build ## Time the web page on many runs and sessions (RUNS=1000 SESSIONS=575061)
	@scripts/bench-serve.sh $(or $(RUNS),1000) $(or $(SESSIONS),575061)

dashboards: build ## Start PostgreSQL and Grafana (docker compose), load the scores, say where to look
	@scripts/dashboards.sh

build: bootstrap ## Build the program (release)
	@. scripts/env.sh; cargo build --release --locked --bin logweir

clean: ## Remove the contents of cache/, reports/ and data/ (not data/raw/); history is lost, results can be made again
	@find cache reports -mindepth 1 ! -name .gitkeep -delete
	@find data -mindepth 1 -maxdepth 1 ! -name .gitkeep ! -name raw -exec rm -rf {} +
	@rm -rf data/raw/simulated

bootstrap:
	@scripts/bootstrap.sh

bootstrap-test:
	@scripts/bootstrap.sh test
