# Everything here is a plain go command; CI runs .ci/run.

SEEDS ?= 20000

.PHONY: help test race vet lint model fuzz bench bench-kafka parts example kill killcalls torture kafka-torture kafka-members soak corpus tidy servers servers-stop ci

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

test: ## the unit tests
	go test ./...
	cd examples/downstream && go test ./...

race: ## the same with the race detector, in random order
	go test -race -shuffle=on -short ./...

vet: ## go vet, also for darwin and windows
	go vet ./...
	GOOS=darwin go vet ./...
	GOOS=windows go vet ./...
	cd bench && go vet ./...
	cd examples/downstream && go vet ./...

lint: ## staticcheck, and golangci-lint where it is installed
	staticcheck ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run ./...; else echo "golangci-lint is not installed: skipped"; fi

model: ## the model checker with SEEDS seeds (default 20000)
	go test -run 'TestModel$$' -model.seeds $(SEEDS) -v .

kill: ## ventas and eventos killed with kill -9, 2,000 and 1,700 times
	LEAT_LONG=1 go test -run Kill -v -timeout 60m ./examples/ventas ./examples/eventos

killcalls: ## killed at every system call that changes a file (needs strace)
	go test -run KillAtEverySyscall -v ./internal/lake ./internal/folder ./internal/store ./internal/jsonlines ./sink/sqlitesink

torture: ## 1,000 kills per sink, faults at every system call, full disks, power cuts, slow sinks (about 25 min; needs root)
	LEAT_LONG=1 CI=true go test -v -timeout 120m ./internal/torture

kafka-torture: ## pipelines on three Kafka brokers that are killed, cut off and rebalanced, 1,000,000 records for each of 14 faults (about 30 min; LEAT_RECORDS for less; needs LEAT_PG)
	LEAT_LONG=1 CI=true go test -v -timeout 120m -run 'TestFaults|TestApplied' ./internal/kafkatorture

kafka-members: ## throughput of one group by number of members
	LEAT_MEMBERS=1 CI=true go test -v -timeout 60m -run TestMembers ./internal/kafkatorture

soak: ## two hours of a busy pipeline; what may grow and what not (LEAT_SOAK=10m for less)
	LEAT_LONG=1 go test -run TestSoak -v -timeout 3h ./internal/soak

corpus: ## fuzz every target for 20 s and keep inputs that reach new code in testdata/fuzz
	.ci/corpus 20s

fuzz: ## every fuzz target for 30 s
	.ci/fuzz 30s

bench: ## leat beside polars, DuckDB and the others, ratios beside targets (installs them)
	bench/rivals/setup.sh
	cd bench && go run ./compare

bench-kafka: ## leat beside Kafka Streams, Flink, PySpark, Bytewax on one real broker (installs all of it)
	bench/rivals/setup-kafka.sh
	.ci/servers/kafka.sh start 1
	cd bench && LEAT_KAFKA=$${LEAT_KAFKA:-127.0.0.1:19092} go run ./kafka

parts: ## the benchmarks of the parts
	go test -run xxx -bench . -benchmem . ./source/... ./sink/... ./stage/... ./internal/csvtext ./internal/row ./internal/parquetread ./internal/sqlitepage

example: ## run the example program on generated input
	go run ./examples/ventas

servers: ## start Kafka and PostgreSQL for tests, and say what to export
	@.ci/servers/kafka.sh start | sed 's/^/export /'
	@.ci/servers/postgres.sh start | sed "s/=\(.*\)/='\1'/; s/^/export /"

servers-stop: ## stop them and delete their data
	.ci/servers/kafka.sh wipe
	.ci/servers/postgres.sh wipe

tidy: ## go mod tidy and gofmt
	go mod tidy
	cd examples/downstream && go mod tidy
	gofmt -l -w .

ci: ## what CI runs
	bash .ci/run
