# What a developer types most. `make gate` is what must pass before a change lands, and
# `make deep` is for a night.

.PHONY: all test race lint fmt bench fuzz faults mutants gate deep compose

all: lint race

test:
	go test -p 4 ./...

race:
	go test -race -count=1 ./...

lint:
	.ci/run lint

fmt:
	$$(go -C internal/tools tool -n gofumpt) -w $$(git ls-files '*.go')

bench:
	go test -run '^$$' -bench . ./...

fuzz:
	.ci/deep fuzz

faults:
	go test -tags faults -timeout 30m -v ./faults

mutants:
	.ci/run mutants

gate:
	.ci/run

deep:
	.ci/deep

compose:
	.ci/compose
